//! System control port A (92h): fast A20 and fast reset (PS/2 technical reference; ICH9 13.7.4), and the A20 gate it
//! shares with the keyboard controller.

use crate::power::{PowerEvent, PowerSink};
use emu_core::bus::{Irq, PortDevice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The gate on address line 20. Whoever wrote last decides, so that each control can undo the other's setting.
#[derive(Debug)]
pub struct A20Gate {
    enabled: AtomicBool,
    line: Irq,
}

impl A20Gate {
    /// A gate that is open, as firmware leaves it. `line` is driven high while address line 20 passes.
    pub fn new(line: Irq) -> Arc<Self> {
        line.set_level(true);
        Arc::new(Self { enabled: AtomicBool::new(true), line })
    }

    /// Whether address line 20 passes.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Opens or closes the gate.
    pub fn set(&self, enabled: bool) {
        if self.enabled.swap(enabled, Ordering::Relaxed) != enabled {
            self.line.set_level(enabled);
        }
    }
}

/// Port 92h.
#[derive(Debug)]
pub struct Port92 {
    a20: Arc<A20Gate>,
    power: Arc<dyn PowerSink>,
    /// Bit 0 as last written: a reset is its rising edge.
    reset: AtomicBool,
}

impl Port92 {
    /// The port, one wide.
    pub fn new(a20: Arc<A20Gate>, power: Arc<dyn PowerSink>) -> Arc<Self> {
        Arc::new(Self { a20, power, reset: AtomicBool::new(false) })
    }

    /// The state after a reset: the latched reset bit is low again.
    pub fn reset(&self) {
        self.reset.store(false, Ordering::Relaxed);
        self.a20.set(true);
    }
}

impl PortDevice for Port92 {
    fn port_read(&self, _offset: u16, _size: u8) -> u32 {
        u32::from(self.a20.is_enabled()) << 1 | u32::from(self.reset.load(Ordering::Relaxed))
    }

    fn port_write(&self, _offset: u16, _size: u8, value: u32) {
        self.a20.set(value & 2 != 0);
        let reset = value & 1 != 0;
        if !self.reset.swap(reset, Ordering::Relaxed) && reset {
            self.power.power_event(PowerEvent::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use crate::power::testing::Events;

    #[test]
    fn a20_and_reset() {
        let (line, events) = (Probe::new(), Events::new());
        let a20 = A20Gate::new(line.clone());
        let port = Port92::new(a20.clone(), events.clone());
        assert_eq!(port.port_read(0, 1), 2);
        port.port_write(0, 1, 0);
        assert!(!line.level());
        a20.set(true);
        assert_eq!(port.port_read(0, 1), 2, "the keyboard controller's setting shows");
        port.port_write(0, 1, 3);
        port.port_write(0, 1, 3);
        assert_eq!(events.taken(), [PowerEvent::Reset], "an edge");
    }
}
