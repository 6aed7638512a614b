//! The pvpanic device (QEMU docs/specs/pvpanic): one port, 505h by custom, through which a guest tells of its panic.

use crate::power::{PowerEvent, PowerSink};
use emu_core::bus::PortDevice;
use std::sync::Arc;

/// The port QEMU uses.
pub const PVPANIC_PORT: u16 = 0x505;
/// The guest has panicked; bit 1, a crash kernel taking over, is not offered.
const PANICKED: u32 = 1;

/// The device.
#[derive(Debug)]
pub struct PvPanic {
    power: Arc<dyn PowerSink>,
}

impl PvPanic {
    /// A device that reports to `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Arc<Self> {
        Arc::new(Self { power })
    }
}

impl PortDevice for PvPanic {
    fn port_read(&self, _offset: u16, _size: u8) -> u32 {
        PANICKED
    }

    fn port_write(&self, _offset: u16, _size: u8, value: u32) {
        if value & PANICKED != 0 {
            self.power.power_event(PowerEvent::GuestPanic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::testing::Events;

    #[test]
    fn reports_a_panic() {
        let events = Events::new();
        let device = PvPanic::new(events.clone());
        assert_eq!(device.port_read(0, 1), 1);
        device.port_write(0, 1, 2);
        assert_eq!(events.taken(), []);
        device.port_write(0, 1, 1);
        assert_eq!(events.taken(), [PowerEvent::GuestPanic]);
    }
}
