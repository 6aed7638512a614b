//! The block device (virtio 1.2, section 5.2): one queue, served by a worker.
//!
//! A write is complete when the backend has taken it; with the write cache off (the driver did not take
//! `VIRTIO_BLK_F_FLUSH`, or cleared `writeback`) only after the backend's flush. A flush is complete only after the
//! backend's flush has returned. Requests run one after the other, so a flush covers all writes completed before it.

mod backend;
mod request;
#[cfg(test)]
mod tests;

pub use backend::{BlockBackend, MemoryBackend};

use super::{DeviceKind, Execution, Transport, VirtioDevice, Worker};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Bytes of a sector, the unit of all positions (5.2.4).
pub(super) const SECTOR: u64 = 512;
const QUEUE_SIZE: u16 = 256;
/// Data segments of a request: what a full ring holds beside header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Most sectors of one discard or write-zeroes segment: 2 GiB.
pub(super) const MAX_RANGE: u32 = 1 << 22;
/// Most segments of one discard or write-zeroes request.
pub(super) const MAX_RANGES: u32 = 16;

/// Feature bits (5.2.3).
mod bit {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Offset of `writeback` in the configuration (5.2.4).
const WRITEBACK: u32 = 32;
/// The configuration up to `write_zeroes_may_unmap`, padded.
const CONFIG_LEN: usize = 60;

/// State for a snapshot, beside the transport's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkState {
    /// The `writeback` field: the write cache is on.
    pub writeback: bool,
}

/// What the worker needs.
#[derive(Debug)]
struct Core {
    backend: Arc<dyn BlockBackend>,
    serial: [u8; 20],
    writeback: AtomicBool,
    transport: OnceLock<Arc<Transport>>,
    /// Data on its way between backend and guest.
    buffer: Mutex<Vec<u8>>,
}

impl Core {
    /// Serves the queue; true if more is left.
    fn serve(&self) -> bool {
        let Some(session) = self.transport.get().and_then(|transport| transport.enter(0)) else {
            return false;
        };
        let mut buffer = self.buffer.lock().unwrap_or_else(|e| e.into_inner());
        session.serve(|session, chain| self.request(session, chain, &mut buffer)).unwrap_or(false)
    }
}

/// A disk.
#[derive(Debug)]
pub struct Blk {
    core: Arc<Core>,
    worker: Worker,
}

impl Blk {
    /// A disk over `backend`. `serial` is what the guest sees as its serial number, cut to 20 bytes.
    pub fn new(backend: Arc<dyn BlockBackend>, serial: &str, execution: Execution) -> Arc<Self> {
        let mut id = [0; 20];
        let len = serial.len().min(id.len());
        id[..len].copy_from_slice(&serial.as_bytes()[..len]);
        let core = Arc::new(Core {
            backend,
            serial: id,
            writeback: AtomicBool::new(true),
            transport: OnceLock::new(),
            buffer: Mutex::default(),
        });
        let served = Arc::clone(&core);
        let worker = Worker::new("virtio-blk", execution, move |_| served.serve());
        Arc::new(Self { core, worker })
    }

    /// Tells the driver that the backend's size has changed.
    pub fn resized(&self) {
        if let Some(transport) = self.core.transport.get() {
            transport.config_changed();
        }
    }

    /// The state for a snapshot.
    pub fn save(&self) -> BlkState {
        BlkState { writeback: self.core.writeback.load(Ordering::Relaxed) }
    }

    /// Takes a snapshot's state.
    pub fn restore(&self, state: &BlkState) {
        self.core.writeback.store(state.writeback, Ordering::Relaxed);
    }

    fn config(&self) -> [u8; CONFIG_LEN] {
        let mut config = [0; CONFIG_LEN];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(self.core.backend.len() / SECTOR).to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(WRITEBACK as usize, &[self.core.writeback.load(Ordering::Relaxed).into()]);
        put(34, &1u16.to_le_bytes()); // num_queues
        put(36, &MAX_RANGE.to_le_bytes()); // discard
        put(40, &MAX_RANGES.to_le_bytes());
        put(44, &8u32.to_le_bytes()); // discard_sector_alignment: 4 KiB
        put(48, &MAX_RANGE.to_le_bytes()); // write zeroes
        put(52, &MAX_RANGES.to_le_bytes());
        put(56, &[1]); // write_zeroes_may_unmap
        config
    }
}

impl VirtioDevice for Blk {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: 2, class: 0x01_0000 }
    }

    fn features(&self) -> u64 {
        let always = bit::SEG_MAX | bit::BLK_SIZE | bit::FLUSH | bit::CONFIG_WCE;
        always | if self.core.backend.read_only() { bit::RO } else { bit::DISCARD | bit::WRITE_ZEROES }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config_len(&self) -> u32 {
        CONFIG_LEN as u32
    }

    fn config_read(&self, offset: u32, buf: &mut [u8]) {
        buf.copy_from_slice(&self.config()[offset as usize..][..buf.len()]);
    }

    fn config_write(&self, offset: u32, data: &[u8], features: u64) {
        if let (WRITEBACK, [value], true) = (offset, data, features & bit::CONFIG_WCE != 0) {
            self.core.writeback.store(*value != 0, Ordering::Relaxed);
        }
    }

    fn attach(&self, transport: Arc<Transport>) {
        let attached = self.core.transport.set(transport).is_ok();
        debug_assert!(attached, "a device has one transport");
    }

    fn notify(&self, queue: u16) {
        self.worker.kick(queue);
    }

    fn reset(&self) {
        self.core.writeback.store(true, Ordering::Relaxed);
    }
}
