//! virtio 1.2 devices behind PCI: modern interface only (`VIRTIO_F_VERSION_1`), split rings.
//!
//! | piece | what it is |
//! |---|---|
//! | [`Queue`], [`Chain`] | a split virtqueue as the device sees it, over [`Dma`](emu_core::bus::Dma) |
//! | [`Transport`], [`Session`] | status, features, queues and interrupts of one device; the right to work on a queue |
//! | [`VirtioPci`] | the PCI function: capabilities, registers, doorbells |
//! | [`VirtioDevice`] | what a device type adds: [`Blk`], [`Console`], [`Rng`] |
//! | [`Worker`] | the thread on which a device serves its queues, off the vCPU's |
//!
//! The guest is hostile. Everything read from rings is checked when it is read and used from the copy. A ring that
//! breaks the rules sets `DEVICE_NEEDS_RESET` (section 2.1.2) and the device stands still until the driver resets it.
//! A request's memory and time are bounded: at most [`MAX_CHAIN`] descriptors, data moved in chunks, and a
//! reset cuts a request short between chunks.
//!
//! Life of a device: `enter` a queue (refused unless the driver is ready, bus mastering is on, and nobody resets or
//! pauses the device), `pop`, work, `push`, `signal`, leave. A reset takes effect when the last session has left, and
//! until then the status register does not read 0 (section 4.1.4.3.2), so nothing touches guest memory afterwards.
//!
//! Deliberately absent: legacy and transitional interfaces, the MMIO transport, packed rings, per-queue reset,
//! `VIRTIO_F_NOTIFICATION_DATA`, `VIRTIO_F_ACCESS_PLATFORM`, shared memory regions.

mod blk;
mod console;
mod device;
mod pci;
mod queue;
mod registers;
mod rng;
mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod worker;

pub use blk::{Blk, BlkState, BlockBackend, MemoryBackend};
pub use console::{Console, ConsoleSink, ConsoleState};
pub use device::{DeviceKind, VirtioDevice, feature, status};
pub use pci::VirtioPci;
pub use queue::{Chain, MAX_CHAIN, Queue, QueueState, RingError, RingFeatures, Segment};
pub use rng::{EntropySource, Rng};
pub use session::{Session, Stopped};
pub use transport::{Transport, TransportState};
pub use worker::{Execution, Worker};
