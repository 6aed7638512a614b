//! The devices behind PCI as drivers see them, and what stands behind the devices.

mod console;
mod hostile;
mod transport;

use super::testing::Driver;
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const DATA: u64 = 0x2_0000;

/// Counts up.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl EntropySource for Counter {
    fn fill(&self, buf: &mut [u8]) {
        buf.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed) as u8);
    }
}

fn rng(execution: Execution) -> Driver {
    Driver::new(Rng::new(Arc::new(Counter::default()), execution))
}

/// A terminal that takes so many bytes and no more.
#[derive(Debug, Default)]
struct Screen {
    shown: Mutex<Vec<u8>>,
    room: AtomicUsize,
    input_room: AtomicUsize,
}

impl ConsoleSink for Screen {
    fn write(&self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room.load(Ordering::SeqCst));
        self.room.fetch_sub(taken, Ordering::SeqCst);
        self.shown.lock().unwrap().extend(&bytes[..taken]);
        taken
    }
    fn input_room(&self, room: usize) {
        self.input_room.store(room, Ordering::SeqCst);
    }
}
