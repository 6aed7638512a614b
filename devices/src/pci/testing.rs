//! What tests of this crate put at the ends of wires.

use super::{
    Bar, BarKind, ConfigSpace, Ids, MsiCapability, Msix, PciBus, PciFunction, PciHeader, PirqRouter,
};
use emu_core::bus::{Irq, IrqLine, MsiSink};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Remembers its level and counts rising edges.
#[derive(Debug, Default)]
pub(crate) struct Wire(AtomicU32);

impl Wire {
    pub(crate) fn level(&self) -> bool {
        self.0.load(Ordering::SeqCst) & 1 != 0
    }
}

impl IrqLine for Wire {
    fn set_level(&self, level: bool) {
        self.0.store(level.into(), Ordering::SeqCst);
    }
}

/// Collects messages.
#[derive(Debug, Default)]
pub(crate) struct Messages(Mutex<Vec<(u64, u32)>>);

impl Messages {
    pub(crate) fn take(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl MsiSink for Messages {
    fn send_msi(&self, address: u64, data: u32) {
        self.0.lock().unwrap().push((address, data));
    }
}

/// A bus with recorders on all its wires.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) bus: Arc<PciBus>,
    pub(crate) gsi: [Arc<Wire>; 4],
    pub(crate) isa: [Arc<Wire>; 16],
    pub(crate) messages: Arc<Messages>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let gsi: [Arc<Wire>; 4] = Default::default();
        let isa: [Arc<Wire>; 16] = Default::default();
        let messages = Arc::new(Messages::default());
        let router = PirqRouter::new(
            gsi.clone().map(|w| -> Irq { w }),
            isa.clone().map(|w| -> Irq { w }),
            [10, 10, 11, 0x80],
        );
        let bus = PciBus::new(router, messages.clone());
        Self { bus, gsi, isa, messages }
    }
}

/// A function with a BAR of each kind, INTA#, MSI and MSI-X; the BARs read back what was last written.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) header: PciHeader,
    pub(crate) last: Mutex<(u8, u64, u8, u64)>,
}

impl Probe {
    pub(crate) fn new() -> Arc<Self> {
        let mut config = ConfigSpace::new(&Ids {
            vendor: 0x1234,
            device: 0x5678,
            revision: 9,
            class: 0xff_0000,
            subsystem_vendor: 0xabcd,
            subsystem: 0xef01,
        });
        config.add_bar(0, Bar { kind: BarKind::Io, size: 32 });
        config.add_bar(1, Bar { kind: BarKind::Mem32, size: 4096 });
        config.add_bar(2, Bar { kind: BarKind::Mem64, size: 1 << 33 });
        config.add_bar(4, Bar { kind: BarKind::Mem64, size: 0x4000 });
        config.set_interrupt_pin(1);
        let msi = MsiCapability::add(&mut config, 4);
        let msix = Msix::add(&mut config, 1, 70);
        let header = PciHeader::with_interrupts(config, Some(msi), Some(msix));
        Arc::new(Self { header, last: Mutex::default() })
    }
}

impl PciFunction for Probe {
    fn header(&self) -> &PciHeader {
        &self.header
    }
    fn bar_read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        if bar == 1 {
            return self.header.msix_read(offset, size);
        }
        let last = self.last.lock().unwrap();
        if (last.0, last.1, last.2) == (bar, offset, size) { last.3 } else { 0 }
    }
    fn bar_write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        if bar == 1 {
            self.header.msix_write(offset, size, value);
        }
        *self.last.lock().unwrap() = (bar, offset, size, value);
    }
}
