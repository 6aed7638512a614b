//! PCI: configuration space, base addresses, interrupts of functions, and the bus that finds them.
//!
//! A function is anything that implements [`PciFunction`]. It owns a [`PciHeader`], which is the whole of what PCI
//! says about a function (PCI Local Bus Specification 3.0, chapter 6): the 256 configuration bytes with their write
//! masks, the BARs, INTx, MSI and MSI-X. The function itself adds only what its BARs do. [`PciBus`] finds functions by
//! device and function number for [`ConfigPorts`] (0xCF8/0xCFC) and [`Ecam`], and by address for decoded BARs.
//!
//! Invariants:
//! - a header never changes a bit its write mask protects, whoever writes (guest, snapshot);
//! - the decode map of the bus equals the enabled BARs of all headers after every configuration write;
//! - a message or INTx level leaves a function with its header locked, so masking is exact: once the write that masks
//!   a vector has returned, no message of that vector is under way.
//!
//! Deliberately absent: bridges and buses other than 0, expansion ROMs, hot plug, power management, extended
//! configuration space (it reads as all ones, as for conventional functions).

mod access;
mod assign;
mod bus;
mod config;
mod header;
mod host;
mod intx;
mod lpc;
mod msi;
mod msix;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use access::{ConfigPorts, Ecam};
pub use assign::{AssignError, Windows};
pub use bus::{AttachError, BusState, PciBus, PrtEntry};
pub use config::{Bar, BarKind, ConfigSpace, Ids, command, reg};
pub use header::{BarWindow, HeaderState, PciHeader};
pub use host::HostBridge;
pub use intx::{PirqPin, PirqRouter};
pub use lpc::LpcBridge;
pub use msi::MsiCapability;
pub use msix::{Msix, MsixState};

use std::fmt::{self, Debug};

/// Device (0-31) and function (0-7) on bus 0, as they stand in a configuration address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevFn(pub u8);

impl DevFn {
    /// Device `device` (0 to 31), function `function` (0 to 7); higher bits are ignored.
    pub const fn new(device: u8, function: u8) -> Self {
        Self((device & 31) << 3 | (function & 7))
    }
    /// The device number, 0 to 31.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }
    /// The function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }
}

impl Debug for DevFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{}", self.device(), self.function())
    }
}

/// One PCI function. Everything has a default that suits a function with configuration space only.
pub trait PciFunction: Send + Sync + Debug {
    /// The function's configuration space and interrupts.
    fn header(&self) -> &PciHeader;
    /// Reads 1 to 4 bytes of configuration space.
    fn config_read(&self, offset: u16, size: u8) -> u32 {
        self.header().read(offset, size)
    }
    /// Writes 1 to 4 bytes of configuration space.
    fn config_write(&self, offset: u16, size: u8, value: u32) {
        self.header().write(offset, size, value);
    }
    /// Reads 1, 2, 4 or 8 bytes at `offset` in BAR number `bar`, inside its size.
    fn bar_read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        let _ = (bar, offset);
        u64::MAX >> (64 - 8 * u32::from(size))
    }
    /// Writes 1, 2, 4 or 8 bytes at `offset` in BAR number `bar`, inside its size.
    fn bar_write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        let _ = (bar, offset, size, value);
    }
    /// Power-on reset of what lies behind the header; the bus resets the header itself afterwards.
    fn reset(&self) {}
}
