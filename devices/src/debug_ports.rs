//! Ports that exist only on emulators: the debug consoles at E9h (Bochs) and 402h (firmware), and `isa-debug-exit`.

use crate::power::{PowerEvent, PowerSink};
use crate::sink::ByteSink;
use emu_core::bus::PortDevice;
use std::sync::Arc;

/// What a guest reads to find out that a debug console is there.
const PRESENT: u32 = 0xe9;

/// A port whose writes are text. Attach one device to each port; they may share the sink.
#[derive(Debug)]
pub struct DebugConsole {
    sink: Arc<dyn ByteSink>,
}

impl DebugConsole {
    /// A console that writes to `sink`.
    pub fn new(sink: Arc<dyn ByteSink>) -> Arc<Self> {
        Arc::new(Self { sink })
    }
}

impl PortDevice for DebugConsole {
    fn port_read(&self, _offset: u16, _size: u8) -> u32 {
        PRESENT
    }

    fn port_write(&self, _offset: u16, _size: u8, value: u32) {
        self.sink.write(&[value as u8]);
    }
}

/// `isa-debug-exit`: a write of a value ends the run. Who runs the machine makes the exit status `value * 2 + 1` of it,
/// which is never success.
#[derive(Debug)]
pub struct DebugExit {
    power: Arc<dyn PowerSink>,
}

impl DebugExit {
    /// A device that reports to `power`. The board chooses the ports (by custom 4 ports at F4h, or 501h).
    pub fn new(power: Arc<dyn PowerSink>) -> Arc<Self> {
        Arc::new(Self { power })
    }
}

impl PortDevice for DebugExit {
    fn port_read(&self, _offset: u16, _size: u8) -> u32 {
        0
    }

    fn port_write(&self, _offset: u16, size: u8, value: u32) {
        let value = if size < 4 { value & ((1 << (8 * size)) - 1) } else { value };
        self.power.power_event(PowerEvent::DebugExit(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::testing::Events;
    use crate::sink::testing::Collect;

    #[test]
    fn consoles_share_a_sink() {
        let sink = Collect::new();
        let (a, b) = (DebugConsole::new(sink.clone()), DebugConsole::new(sink.clone()));
        assert_eq!(a.port_read(0, 1), 0xe9);
        a.port_write(0, 1, b'h'.into());
        b.port_write(0, 1, b'i'.into());
        assert_eq!(sink.taken(), b"hi");
    }

    #[test]
    fn the_value_is_as_wide_as_the_write() {
        let events = Events::new();
        let exit = DebugExit::new(events.clone());
        exit.port_write(0, 1, 0xff10);
        exit.port_write(0, 4, u32::MAX);
        assert_eq!(events.taken(), [PowerEvent::DebugExit(0x10), PowerEvent::DebugExit(u32::MAX)]);
    }
}
