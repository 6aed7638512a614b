//! What a device type is to the transport, and the numbers both use.

use super::Transport;
use std::fmt::Debug;
use std::sync::Arc;

/// Bits of the device status field (virtio 1.2, section 2.1).
pub mod status {
    /// The guest has noticed the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The guest has a driver for it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready; queues live.
    pub const DRIVER_OK: u8 = 4;
    /// Feature negotiation is complete.
    pub const FEATURES_OK: u8 = 8;
    /// The device has met an error it cannot recover from.
    pub const NEEDS_RESET: u8 = 0x40;
    /// The driver has given up.
    pub const FAILED: u8 = 0x80;
}

/// Feature bits of the transport and the rings (virtio 1.2, chapter 6).
pub mod feature {
    /// Descriptors may point to tables of descriptors.
    pub const RING_INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications are suppressed by ring index instead of flags.
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// The modern interface. The device refuses drivers without it.
    pub const VERSION_1: u64 = 1 << 32;
    /// Offered for every device.
    pub const TRANSPORT: u64 = RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1;
}

/// Which device type this is, to the driver and to PCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceKind {
    /// Device ID (virtio 1.2, chapter 5).
    pub id: u16,
    /// PCI class code, as in 0x010000.
    pub class: u32,
}

/// A device type: its features, its configuration, and what its queues do.
pub trait VirtioDevice: Send + Sync + Debug {
    /// Its type.
    fn kind(&self) -> DeviceKind;
    /// Feature bits of the type; the transport adds [`feature::TRANSPORT`].
    fn features(&self) -> u64;
    /// The greatest size of each queue: powers of two up to 32768.
    fn queue_sizes(&self) -> &[u16];
    /// Bytes of device-specific configuration, 0 for none.
    fn config_len(&self) -> u32 {
        0
    }
    /// Reads device-specific configuration. `offset + buf.len()` is within [`VirtioDevice::config_len`].
    fn config_read(&self, offset: u32, buf: &mut [u8]) {
        let _ = offset;
        buf.fill(0);
    }
    /// Writes device-specific configuration, under the same bound. `features` are those negotiated.
    fn config_write(&self, offset: u32, data: &[u8], features: u64) {
        let _ = (offset, data, features);
    }
    /// Called once, when the device is put behind a transport.
    fn attach(&self, transport: Arc<Transport>);
    /// A doorbell: the driver has made buffers available in `queue`. Must return soon.
    fn notify(&self, queue: u16);
    /// Back to power-on. No session is open. Must not call the transport, nor take a lock that the device holds while
    /// it does.
    fn reset(&self);
}
