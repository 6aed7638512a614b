//! The LPC (ISA) bridge of ICH9 (8086:2918), function 1f.0: tells the kernel that there is an ISA bus, and holds the
//! registers that route PIRQA-D to the 8259s.

use super::config::{ConfigSpace, Ids};
use super::intx::PirqRouter;
use super::{PciFunction, PciHeader};
use std::sync::Arc;

/// Base of the ACPI registers (ICH9 datasheet, 13.1.3).
const PMBASE: u8 = 0x40;
/// ACPI control: enable and interrupt (13.1.4).
const ACPI_CNTL: u8 = 0x44;
const ACPI_ENABLE: u8 = 1 << 7;
/// PIRQA_ROUT to PIRQD_ROUT (13.1.9); E to H at 0x68 are absent wires and read as not routed.
const PIRQ_ROUT: u16 = 0x60;

/// The bridge.
#[derive(Debug)]
pub struct LpcBridge {
    header: PciHeader,
    router: Arc<PirqRouter>,
}

impl LpcBridge {
    /// `pm_base`: the port at which the board has put the ACPI PM registers, shown read-only; None leaves it disabled,
    /// which also keeps Linux from looking for the chipset's watchdog behind it.
    pub fn new(router: Arc<PirqRouter>, pm_base: Option<u16>) -> Self {
        let mut config = ConfigSpace::new(&Ids {
            vendor: 0x8086,
            device: 0x2918,
            revision: 2,
            class: 0x06_0100,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        if let Some(port) = pm_base {
            config.define(PMBASE, &u32::from(port & 0xff80 | 1).to_le_bytes(), &[]);
            config.define(ACPI_CNTL, &[ACPI_ENABLE], &[]);
        }
        config.define(0x68, &[0x80; 4], &[]);
        Self { header: PciHeader::new(config), router }
    }

    /// The wire whose route register byte `i` of an access at `offset` is.
    fn wire(offset: u16, i: u8) -> Option<usize> {
        let wire = (offset + u16::from(i)).checked_sub(PIRQ_ROUT)?;
        (wire < 4).then_some(wire.into())
    }
}

impl PciFunction for LpcBridge {
    fn header(&self) -> &PciHeader {
        &self.header
    }

    fn config_read(&self, offset: u16, size: u8) -> u32 {
        let mut value = self.header.read(offset, size);
        for i in 0..size.min(4) {
            if let Some(wire) = Self::wire(offset, i) {
                value = value & !(0xff << (8 * i)) | u32::from(self.router.route(wire)) << (8 * i);
            }
        }
        value
    }

    fn config_write(&self, offset: u16, size: u8, value: u32) {
        self.header.write(offset, size, value);
        for i in 0..size.min(4) {
            if let Some(wire) = Self::wire(offset, i) {
                self.router.set_route(wire, (value >> (8 * i)) as u8);
            }
        }
    }
}
