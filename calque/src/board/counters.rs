//! Calque's own counters as the guest can read them: a paravirtual port, for the built-in monitor and for teaching.
//!
//! Writing a counter's number to port offset 0 latches it; reading offsets 8 and 12 (32 bits each) gives its low and
//! high half. Offset 4 reads how many counters there are.

use emu_core::bus::PortDevice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The counters, in the order of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Guest instructions completed; 0 if nobody counts them.
    Instructions,
    /// Blocks translated.
    Blocks,
    /// Misses of the inline translation cache.
    TlbMisses,
    /// Walks of the guest's page tables.
    Walks,
    /// Stores to decoded code.
    CodeHits,
    /// Instructions interpreted one by one for the translator.
    Interpreted,
}

/// How many there are.
const COUNT: usize = 6;

/// Their values for each processor, published by its run loop whenever its turn ends.
#[derive(Debug)]
pub struct Counters(Box<[[AtomicU64; COUNT]]>);

impl Counters {
    /// All zero, for `vcpus` processors.
    pub fn new(vcpus: usize) -> Self {
        Self((0..vcpus).map(|_| Default::default()).collect())
    }

    /// Publishes a value of one processor.
    pub fn set(&self, vcpu: usize, counter: Counter, value: u64) {
        self.0[vcpu][counter as usize].store(value, Ordering::Relaxed);
    }

    /// The sum over the processors of counter number `n`.
    fn sum(&self, n: usize) -> Option<u64> {
        (n < COUNT).then(|| self.0.iter().map(|of| of[n].load(Ordering::Relaxed)).sum())
    }
}

/// The port device.
#[derive(Debug)]
pub struct CountersPort {
    counters: Arc<Counters>,
    latched: Mutex<u64>,
}

impl CountersPort {
    /// Attach with 16 ports.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { counters, latched: Mutex::new(0) }
    }
}

impl PortDevice for CountersPort {
    fn port_read(&self, offset: u16, _size: u8) -> u32 {
        let latched = *self.latched.lock().unwrap_or_else(|e| e.into_inner());
        match offset {
            4 => COUNT as u32,
            8 => latched as u32,
            12 => (latched >> 32) as u32,
            _ => u32::MAX,
        }
    }

    fn port_write(&self, offset: u16, _size: u8, value: u32) {
        if offset == 0
            && let Some(value) = self.counters.sum(value as usize)
        {
            *self.latched.lock().unwrap_or_else(|e| e.into_inner()) = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_in_two_halves_of_one_moment() {
        let counters = Arc::new(Counters::new(2));
        let port = CountersPort::new(counters.clone());
        counters.set(0, Counter::Blocks, 0x1_0000_0000);
        counters.set(1, Counter::Blocks, 2);
        port.port_write(0, 4, Counter::Blocks as u32);
        counters.set(0, Counter::Blocks, 0);
        assert_eq!((port.port_read(8, 4), port.port_read(12, 4)), (2, 1));
        port.port_write(0, 4, 99);
        assert_eq!(port.port_read(8, 4), 2, "an unknown number changes nothing");
        assert_eq!(port.port_read(4, 4), 6);
    }
}
