//! Placing BARs as firmware does, since calque starts kernels without any.

use super::config::{BarKind, command, reg};
use super::intx::PirqRouter;
use super::{DevFn, PciBus};
use std::ops::Range;

/// Address space to hand out.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Ports for I/O BARs, as in `0xc000..0xfff0`.
    pub io: Range<u32>,
    /// Memory below 4 GiB.
    pub mem32: Range<u64>,
    /// Memory for 64-bit BARs; if empty they go below 4 GiB too.
    pub mem64: Range<u64>,
}

/// A BAR that does not fit in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for {size:#x} bytes of BAR {bar} of PCI function {at:?}")]
pub struct AssignError {
    /// The function.
    pub at: DevFn,
    /// The BAR.
    pub bar: u8,
    /// Its size.
    pub size: u64,
}

impl PciBus {
    /// Gives every BAR an address, largest first so that alignment wastes nothing, enables decoding, and writes the
    /// interrupt line bytes (0xff for wires not routed to the 8259s; under ACPI nobody reads them).
    pub fn assign_resources(&self, windows: &Windows) -> Result<(), AssignError> {
        let mut bars = Vec::new();
        for (at, function) in self.functions() {
            let found = (0..6).filter_map(|index| Some((index, function.header().bar(index)?)));
            bars.extend(found.map(|(index, bar)| (at, index, bar)));
        }
        bars.sort_by_key(|&(at, index, bar)| (std::cmp::Reverse(bar.size), at, index));

        let mut io = u64::from(windows.io.start);
        let (mut low, mut high) = (windows.mem32.start, windows.mem64.start);
        for &(at, index, bar) in &bars {
            let (next, end) = match bar.kind {
                BarKind::Io => (&mut io, windows.io.end.into()),
                BarKind::Mem64 if !windows.mem64.is_empty() => (&mut high, windows.mem64.end),
                _ => (&mut low, windows.mem32.end),
            };
            let full = AssignError { at, bar: index, size: bar.size };
            let start = next.checked_next_multiple_of(bar.size).ok_or(full)?;
            *next = start.checked_add(bar.size).filter(|&top| top <= end).ok_or(full)?;
            let register = u16::from(reg::BAR0) + 4 * u16::from(index);
            self.config_write(0, at, register, 4, start as u32);
            if bar.kind == BarKind::Mem64 {
                self.config_write(0, at, register + 4, 4, (start >> 32) as u32);
            }
        }

        for (at, function) in self.functions() {
            let kinds = |io| bars.iter().any(|b| b.0 == at && (b.2.kind == BarKind::Io) == io);
            let mut enable = function.header().read(reg::COMMAND.into(), 2) as u16;
            enable |= if kinds(true) { command::IO } else { 0 };
            enable |= if kinds(false) { command::MEMORY } else { 0 };
            self.config_write(0, at, reg::COMMAND.into(), 2, enable.into());
            let pin = function.header().interrupt_pin();
            if pin != 0 {
                let line = self.router().isa_irq(PirqRouter::wire(at.device(), pin)).unwrap_or(0xff);
                self.config_write(0, at, reg::INTERRUPT_LINE.into(), 1, line.into());
            }
        }
        Ok(())
    }
}
