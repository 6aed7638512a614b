//! The common configuration structure (virtio 1.2, section 4.1.4.3).
//!
//! Fields are read in any width, written in their own; 64-bit fields also by halves.

use super::queue::NO_VECTOR;
use super::transport::Transport;

/// Size of the structure in bytes.
pub(super) const SIZE: u64 = 0x40;

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_MSIX_VECTOR: u64 = 0x10;
const DEVICE_STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_MSIX_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;

impl Transport {
    /// Reads the common configuration.
    pub(super) fn common_read(&self, offset: u64, size: u8) -> u64 {
        let low = u64::from(self.common_dword(offset & !3)) >> (8 * (offset & 3));
        match size {
            8 => low | u64::from(self.common_dword((offset & !3) + 4)) << 32,
            _ => low & (u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 4)))),
        }
    }

    fn common_dword(&self, offset: u64) -> u32 {
        let control = self.control();
        let select = control.queue_select;
        // Queues that do not exist have size 0 (4.1.4.3.2).
        let queue = (select < self.queue_count()).then(|| self.queue(select).state().clone());
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let address = |pick: fn(&super::QueueState) -> u64| queue.as_ref().map_or(0, pick);
        match offset {
            DEVICE_FEATURE_SELECT => control.device_feature_select,
            DEVICE_FEATURE => half(self.offered(), control.device_feature_select),
            DRIVER_FEATURE_SELECT => control.driver_feature_select,
            DRIVER_FEATURE => half(control.features, control.driver_feature_select),
            CONFIG_MSIX_VECTOR => u32::from(self.queue_count()) << 16 | u32::from(control.config_vector),
            DEVICE_STATUS => {
                u32::from(select) << 16 | u32::from(control.generation) << 8 | u32::from(control.status)
            }
            QUEUE_SIZE => {
                queue.map_or(u32::from(NO_VECTOR) << 16, |q| u32::from(q.vector) << 16 | u32::from(q.size))
            }
            // The doorbell of a queue has the queue's number.
            QUEUE_ENABLE => queue.map_or(0, |q| u32::from(select) << 16 | u32::from(q.ready)),
            QUEUE_DESC => address(|q| q.desc) as u32,
            0x24 => (address(|q| q.desc) >> 32) as u32,
            QUEUE_DRIVER => address(|q| q.avail) as u32,
            0x2c => (address(|q| q.avail) >> 32) as u32,
            QUEUE_DEVICE => address(|q| q.used) as u32,
            0x34 => (address(|q| q.used) >> 32) as u32,
            _ => 0,
        }
    }

    /// Writes the common configuration. During a reset only the status register answers.
    pub(super) fn common_write(&self, offset: u64, size: u8, value: u64) {
        match (offset, size) {
            (DEVICE_STATUS, 1) => return self.set_status(value as u8),
            (DRIVER_FEATURE, 4) => return self.set_features(value as u32),
            _ => {}
        }
        let mut control = self.control();
        if self.is_resetting() {
            return;
        }
        match (offset, size) {
            (DEVICE_FEATURE_SELECT, 4) => control.device_feature_select = value as u32,
            (DRIVER_FEATURE_SELECT, 4) => control.driver_feature_select = value as u32,
            (CONFIG_MSIX_VECTOR, 2) => control.config_vector = self.known_vector(value as u16),
            (QUEUE_SELECT, 2) => control.queue_select = value as u16,
            _ => {
                let select = control.queue_select;
                if select < self.queue_count() {
                    self.queue_write(select, offset, size, value);
                }
            }
        }
    }

    /// A vector beyond the table cannot be had, which reads back as "none" (4.1.5.1.2).
    fn known_vector(&self, vector: u16) -> u16 {
        if vector < self.header().msix_vectors() { vector } else { NO_VECTOR }
    }

    fn queue_write(&self, select: u16, offset: u64, size: u8, value: u64) {
        let mut queue = self.queue(select);
        match (offset, size) {
            (QUEUE_MSIX_VECTOR, 2) => return queue.set_vector(self.known_vector(value as u16)),
            (QUEUE_ENABLE, 2) => {
                // Only 1 may be written (4.1.4.3.2); a queue that is laid out wrongly stays disabled.
                if value as u16 == 1 && !queue.enable() {
                    tracing::warn!(select, state = ?queue.state(), "virtqueue laid out wrongly");
                }
                return;
            }
            _ => {}
        }
        let Some(registers) = queue.registers() else { return };
        let field = match offset {
            QUEUE_SIZE if size == 2 => return registers.size = value as u16,
            0x20..0x28 => &mut registers.desc,
            0x28..0x30 => &mut registers.avail,
            0x30..0x38 => &mut registers.used,
            _ => return,
        };
        *field = match (offset & 7, size) {
            (0, 8) => value,
            (0, 4) => *field & !0xffff_ffff | value & 0xffff_ffff,
            (4, 4) => *field & 0xffff_ffff | value << 32,
            _ => return,
        };
    }
}
