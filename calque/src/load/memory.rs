//! The memory an image is loaded into: a small trait over RAM, and the map of what is where.

use thiserror::Error;

/// Guest RAM as a loader sees it: the part that starts at address 0 and ends below 4 GiB.
pub trait GuestMemory {
    /// How many bytes of RAM there are from address 0 upwards, without what the board puts above 4 GiB.
    fn ram_size(&self) -> u64;

    /// Copies `bytes` to guest-physical address `gpa`.
    fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), OutsideMemory>;

    /// Sets `size` bytes at `gpa` to zero. Memory known to be fresh may override it to do nothing.
    fn zero(&mut self, gpa: u64, size: u64) -> Result<(), OutsideMemory> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < size {
            let step = (size - done).min(ZEROS.len() as u64);
            self.write(gpa + done, &ZEROS[..step as usize])?;
            done += step;
        }
        Ok(())
    }
}

/// A write that does not fall into guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{size} bytes at {gpa:#x} are outside the machine's memory")]
pub struct OutsideMemory {
    /// The first address.
    pub gpa: u64,
    /// How many bytes.
    pub size: u64,
}

/// What a range of guest-physical addresses is for, numbered as in the firmware's E820 map (ACPI 6.5, 15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RangeKind {
    /// Free for the guest.
    Ram = 1,
    /// Not for the guest's own use.
    Reserved = 2,
    /// ACPI tables, free once they have been read.
    Acpi = 3,
    /// ACPI's own storage.
    AcpiNvs = 4,
    /// Memory with errors.
    Unusable = 5,
}

/// A stretch of the machine's physical address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRange {
    /// Its first address.
    pub base: u64,
    /// Its length in bytes.
    pub size: u64,
    /// What it is.
    pub kind: RangeKind,
}

impl MemoryRange {
    /// A range from its parts.
    pub fn new(base: u64, size: u64, kind: RangeKind) -> Self {
        Self { base, size, kind }
    }

    /// The address after the last, or the last of all if it would overflow.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }
}

/// The usual map of a PC with `below` bytes of RAM from address 0 and `above` bytes from 4 GiB.
pub fn pc_memory_map(below: u64, above: u64) -> Vec<MemoryRange> {
    use RangeKind::{Ram, Reserved};
    const EBDA: u64 = 0x9_fc00;
    const BIOS: u64 = 0xf_0000;
    const HIGH: u64 = 0x10_0000;
    let mut map = vec![
        MemoryRange::new(0, below.min(EBDA), Ram),
        MemoryRange::new(EBDA, 0xa_0000 - EBDA, Reserved),
        MemoryRange::new(BIOS, HIGH - BIOS, Reserved),
        MemoryRange::new(HIGH, below.saturating_sub(HIGH), Ram),
        MemoryRange::new(1 << 32, above, Ram),
    ];
    map.retain(|range| range.size > 0);
    map
}
