//! A split virtqueue as the device sees it (virtio 1.2, section 2.7).
//!
//! Memory ordering. The driver runs on other threads, so accesses to the rings are ordered by fences, tagged below; the
//! driver's own accesses are in its program order for who has its thread pass a barrier ([`emu_core::order`]):
//! - (A) acquire after reading `avail.idx`, before reading the ring entries and descriptors it publishes (2.7.13.3);
//! - (B) release between writing a used element and the `used.idx` that publishes it (2.7.8);
//! - (C) full fence between publishing `used.idx` and reading `used_event` or `avail.flags` (2.7.7, 2.7.10): the driver
//!   publishes those, fences, and reads `used.idx`, so at least one side sees the other;
//! - (D) full fence between publishing `avail_event` or `used.flags` and re-reading `avail.idx`, for the same reason in
//!   the other direction.
//!
//! This relies on [`Dma`] moving an aligned 16-bit value in one piece, as it must for any bus master.

mod chain;
#[cfg(test)]
mod tests;

pub use chain::{Chain, MAX_CHAIN, Segment};

use super::feature;
use emu_core::addr::PhysAddr;
use emu_core::bus::Dma;
use emu_core::order::fence_others;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{Ordering, fence};

/// Vector register value for "no vector" (virtio 1.2, section 4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;
/// `avail.flags`: the driver wants no interrupts (2.7.6).
const NO_INTERRUPT: u16 = 1;
/// `used.flags`: the device wants no doorbells (2.7.8).
const NO_NOTIFY: u16 = 1;

/// A rule of the ring that the driver has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// A ring, table or buffer is not in RAM.
    #[error("{0:?} is not in guest RAM")]
    NotRam(PhysAddr),
    /// `avail.idx` is further ahead than the queue is long.
    #[error("{0} buffers available in a shorter queue")]
    AvailableIndex(u16),
    /// A descriptor number is not in the table.
    #[error("descriptor {0} does not exist")]
    Descriptor(u16),
    /// A chain is a loop, or longer than allowed.
    #[error("the descriptor chain does not end")]
    Endless,
    /// An indirect table where none may be, or of a wrong length.
    #[error("bad indirect table of {0} bytes")]
    Indirect(u32),
    /// A readable descriptor after a writable one.
    #[error("readable descriptor after a writable one")]
    Order,
    /// More than 2^32 bytes in a chain.
    #[error("descriptor chain of more than 4 GiB")]
    Length,
}

/// The ring features that were negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
}

impl RingFeatures {
    /// Picks them from feature bits.
    pub fn from_bits(features: u64) -> Self {
        Self {
            indirect: features & feature::RING_INDIRECT_DESC != 0,
            event_idx: features & feature::RING_EVENT_IDX != 0,
        }
    }
}

/// State of a queue for a snapshot: the registers, and how far the device has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Number of descriptors the driver chose.
    pub size: u16,
    /// `queue_enable`.
    pub ready: bool,
    /// MSI-X vector.
    pub vector: u16,
    /// Address of the descriptor table.
    pub desc: u64,
    /// Address of the available ring.
    pub avail: u64,
    /// Address of the used ring.
    pub used: u64,
    /// Index of the next available entry to take.
    pub next_avail: u16,
    /// Index of the next used entry to fill.
    pub next_used: u16,
    /// `next_used` when the driver was last asked whether it wants an interrupt.
    pub signalled: u16,
}

/// One queue.
#[derive(Debug)]
pub struct Queue {
    max: u16,
    state: QueueState,
}

impl Queue {
    /// A queue of at most `max` descriptors, not enabled.
    ///
    /// # Panics
    /// If `max` is not a power of two up to 32768.
    pub fn new(max: u16) -> Self {
        assert!(max.is_power_of_two(), "queue of {max}");
        let state = QueueState {
            size: max,
            ready: false,
            vector: NO_VECTOR,
            desc: 0,
            avail: 0,
            used: 0,
            next_avail: 0,
            next_used: 0,
            signalled: 0,
        };
        Self { max, state }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        *self = Self::new(self.max);
    }

    /// The registers and indices.
    pub fn state(&self) -> &QueueState {
        &self.state
    }

    /// Whether the driver has enabled the queue.
    pub fn ready(&self) -> bool {
        self.state.ready
    }

    /// The registers, unless the queue is enabled: then they are fixed (virtio 1.2, section 4.1.4.3.2).
    pub fn registers(&mut self) -> Option<&mut QueueState> {
        (!self.state.ready).then_some(&mut self.state)
    }

    /// Sets the MSI-X vector.
    pub fn set_vector(&mut self, vector: u16) {
        self.state.vector = vector;
    }

    /// Enables the queue if size, alignment (2.7) and extent of its parts are right.
    pub fn enable(&mut self) -> bool {
        self.state.ready = self.state.ready || self.layout_is_valid();
        self.state.ready
    }

    fn layout_is_valid(&self) -> bool {
        let QueueState { size, desc, avail, used, .. } = self.state;
        let n = u64::from(size);
        let fits = |start: u64, align: u64, len: u64| {
            start.is_multiple_of(align) && start.checked_add(len).is_some()
        };
        size.is_power_of_two()
            && size <= self.max
            && fits(desc, 16, 16 * n)
            && fits(avail, 2, 6 + 2 * n)
            && fits(used, 4, 6 + 8 * n)
    }

    /// Takes a snapshot's state. A queue that no driver could have enabled is disabled.
    pub fn restore(&mut self, state: &QueueState) {
        self.state = state.clone();
        self.state.ready = state.ready && self.layout_is_valid();
    }

    fn read_u16(dma: &dyn Dma, address: u64) -> Result<u16, RingError> {
        let mut bytes = [0; 2];
        let ok = dma.dma_read(PhysAddr(address), &mut bytes);
        ok.then(|| u16::from_le_bytes(bytes)).ok_or(RingError::NotRam(PhysAddr(address)))
    }

    fn write(dma: &dyn Dma, address: u64, bytes: &[u8]) -> Result<(), RingError> {
        dma.dma_write(PhysAddr(address), bytes).then_some(()).ok_or(RingError::NotRam(PhysAddr(address)))
    }

    /// Position of a free-running index in a ring.
    fn slot(&self, index: u16) -> u64 {
        u64::from(index & (self.state.size - 1))
    }

    fn available(&self, dma: &dyn Dma) -> Result<u16, RingError> {
        let count = Self::read_u16(dma, self.state.avail + 2)?.wrapping_sub(self.state.next_avail);
        if count != 0 {
            fence_others(); // (A)
        }
        if count > self.state.size { Err(RingError::AvailableIndex(count)) } else { Ok(count) }
    }

    /// Takes the next available chain, checked in full.
    pub fn pop(&mut self, dma: &dyn Dma, features: RingFeatures) -> Result<Option<Chain>, RingError> {
        if !self.state.ready || self.available(dma)? == 0 {
            return Ok(None);
        }
        let head = Self::read_u16(dma, self.state.avail + 4 + 2 * self.slot(self.state.next_avail))?;
        let table = chain::Table { address: self.state.desc, len: self.state.size };
        let chain = Chain::walk(dma, table, head, features.indirect)?;
        self.state.next_avail = self.state.next_avail.wrapping_add(1);
        Ok(Some(chain))
    }

    /// Gives back the chain that was popped last, to be popped again.
    pub fn unpop(&mut self) {
        self.state.next_avail = self.state.next_avail.wrapping_sub(1);
    }

    /// Returns a chain to the driver, `written` bytes of whose writable part are filled.
    pub fn push(&mut self, dma: &dyn Dma, head: u16, written: u32) -> Result<(), RingError> {
        if !self.state.ready {
            return Ok(());
        }
        let mut element = [0; 8];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        Self::write(dma, self.state.used + 4 + 8 * self.slot(self.state.next_used), &element)?;
        self.state.next_used = self.state.next_used.wrapping_add(1);
        fence_others(); // (B)
        Self::write(dma, self.state.used + 2, &self.state.next_used.to_le_bytes())
    }

    /// Whether the driver wants an interrupt for what was pushed since this was last asked (2.7.7.2).
    pub fn take_signal(&mut self, dma: &dyn Dma, features: RingFeatures) -> Result<bool, RingError> {
        let (new, old) = (self.state.next_used, self.state.signalled);
        if !self.state.ready || new == old {
            return Ok(false);
        }
        self.state.signalled = new;
        fence(Ordering::SeqCst); // (C)
        if features.event_idx {
            let event = Self::read_u16(dma, self.state.avail + 4 + 2 * u64::from(self.state.size))?;
            Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
        } else {
            Ok(Self::read_u16(dma, self.state.avail)? & NO_INTERRUPT == 0)
        }
    }

    /// Asks for no doorbells while the device is busy with the queue anyway. With event indices there is nothing to do:
    /// the doorbell stays off until [`Queue::rearm`] moves the index.
    pub fn suppress(&mut self, dma: &dyn Dma, features: RingFeatures) -> Result<(), RingError> {
        if !self.state.ready || features.event_idx {
            return Ok(());
        }
        Self::write(dma, self.state.used, &NO_NOTIFY.to_le_bytes())
    }

    /// Asks for a doorbell at the next available buffer. True if none is there yet; false means there is one already,
    /// for which perhaps no doorbell comes.
    pub fn rearm(&mut self, dma: &dyn Dma, features: RingFeatures) -> Result<bool, RingError> {
        if !self.state.ready {
            return Ok(true);
        }
        if features.event_idx {
            let event = self.state.used + 4 + 8 * u64::from(self.state.size);
            Self::write(dma, event, &self.state.next_avail.to_le_bytes())?;
        } else {
            Self::write(dma, self.state.used, &0u16.to_le_bytes())?;
        }
        fence(Ordering::SeqCst); // (D)
        Ok(self.available(dma)? == 0)
    }
}
