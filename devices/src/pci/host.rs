//! The host bridge: the MCH of a Q35 chipset (8086:29c0), function 00.0.

use super::config::{ConfigSpace, Ids};
use super::{PciFunction, PciHeader};

/// PCIEXBAR, where the memory-mapped configuration window is (3 Series datasheet, 5.1.14).
const PCIEXBAR: u8 = 0x60;
/// PCIEXBAR: the window is enabled.
const ENABLE: u64 = 1;

/// The host bridge. All its registers are read-only: where RAM and the configuration window lie is fixed by the board.
#[derive(Debug)]
pub struct HostBridge {
    header: PciHeader,
}

impl HostBridge {
    /// `ecam`: base of the configuration window and number of buses in it (256, 128 or 64; any other number is shown
    /// as 64, the least the register can say).
    pub fn new(ecam: Option<(u64, u16)>) -> Self {
        let mut config = ConfigSpace::new(&Ids {
            vendor: 0x8086,
            device: 0x29c0,
            revision: 2,
            class: 0x06_0000,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        if let Some((base, buses)) = ecam {
            let length = match buses {
                256 => 0,
                128 => 1,
                _ => 2,
            };
            config.define(PCIEXBAR, &(base | length << 1 | ENABLE).to_le_bytes(), &[]);
        }
        Self { header: PciHeader::new(config) }
    }
}

impl PciFunction for HostBridge {
    fn header(&self) -> &PciHeader {
        &self.header
    }
}
