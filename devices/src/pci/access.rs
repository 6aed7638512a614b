//! The two ways software reaches configuration space: ports 0xCF8/0xCFC (PCI 3.0, section 3.2.2.3.2) and the
//! memory-mapped window (PCI Express Base 5.0, section 7.2.2).

use super::{DevFn, PciBus};
use emu_core::bus::{MmioDevice, PortDevice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bit 31 of the address latch: accesses to 0xCFC are configuration accesses.
const ENABLE: u32 = 1 << 31;

/// Ports 0xCF8 to 0xCFF.
///
/// Only double words reach the address latch. Port 0xCF9 lies inside it and is the chipset's reset control register:
/// byte accesses there go to `reset`, at its offset 0.
#[derive(Debug)]
pub struct ConfigPorts {
    bus: Arc<PciBus>,
    reset: Option<Arc<dyn PortDevice>>,
}

impl ConfigPorts {
    /// Attach at 0xCF8, 8 ports.
    pub fn new(bus: Arc<PciBus>, reset: Option<Arc<dyn PortDevice>>) -> Self {
        Self { bus, reset }
    }

    /// Function and offset that the data port at `offset` (4 to 7) stands for now.
    fn target(&self, offset: u16, size: u8) -> Option<(u8, DevFn, u16)> {
        let latch = self.bus.address.load(Ordering::Relaxed);
        let lane = offset & 3;
        let inside = offset >= 4 && lane + u16::from(size) <= 4;
        (inside && latch & ENABLE != 0).then_some((
            (latch >> 16) as u8,
            DevFn((latch >> 8) as u8),
            (latch & 0xfc) as u16 | lane,
        ))
    }
}

impl PortDevice for ConfigPorts {
    fn port_read(&self, offset: u16, size: u8) -> u32 {
        match (offset, size, &self.reset) {
            (0, 4, _) => self.bus.address.load(Ordering::Relaxed),
            (1, 1, Some(reset)) => reset.port_read(0, 1),
            _ => match self.target(offset, size) {
                Some((bus, at, register)) => self.bus.config_read(bus, at, register, size),
                None => u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4))),
            },
        }
    }

    fn port_write(&self, offset: u16, size: u8, value: u32) {
        match (offset, size, &self.reset) {
            (0, 4, _) => self.bus.address.store(value, Ordering::Relaxed),
            (1, 1, Some(reset)) => reset.port_write(0, 1, value),
            _ => {
                if let Some((bus, at, register)) = self.target(offset, size) {
                    self.bus.config_write(bus, at, register, size, value);
                }
            }
        }
    }
}

/// The memory-mapped window: 1 MiB for each bus.
#[derive(Debug)]
pub struct Ecam {
    bus: Arc<PciBus>,
}

impl Ecam {
    /// Bytes of the window for each bus.
    pub const BUS_SIZE: u64 = 1 << 20;

    /// Attach where MCFG says, with [`Ecam::BUS_SIZE`] bytes for each bus; only bus 0 has functions.
    pub fn new(bus: Arc<PciBus>) -> Self {
        Self { bus }
    }

    fn target(offset: u64) -> (u8, DevFn, u16) {
        ((offset >> 20) as u8, DevFn((offset >> 12) as u8), (offset & 0xfff) as u16)
    }
}

impl MmioDevice for Ecam {
    fn mmio_read(&self, offset: u64, size: u8) -> u64 {
        let (bus, at, register) = Self::target(offset);
        let low = self.bus.config_read(bus, at, register, size.min(4));
        let high = if size == 8 { self.bus.config_read(bus, at, register + 4, 4) } else { 0 };
        u64::from(high) << 32 | u64::from(low)
    }

    fn mmio_write(&self, offset: u64, size: u8, value: u64) {
        let (bus, at, register) = Self::target(offset);
        self.bus.config_write(bus, at, register, size.min(4), value as u32);
        if size == 8 {
            self.bus.config_write(bus, at, register + 4, 4, (value >> 32) as u32);
        }
    }
}
