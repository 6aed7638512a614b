//! Flat binaries: bytes for an address the user names, without any header.

use super::entry::{self, Entry, Mode, Registers};
use super::memory::GuestMemory;
use super::room::Room;
use super::{Boot, LoadError};

/// Where a flat binary goes and how it starts. It is entered at its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flat {
    /// The guest-physical address of its first byte.
    pub address: u64,
    /// The processor's mode.
    pub mode: FlatMode,
}

/// The mode a flat binary starts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlatMode {
    /// 16-bit, as a boot sector.
    Real,
    /// 32-bit, flat segments, no paging.
    Protected,
    /// 64-bit, the first 4 GiB mapped to themselves.
    Long,
}

impl Flat {
    /// At `address`, in 16-bit mode where that reaches and 32-bit mode above.
    pub fn at(address: u64) -> Self {
        let mode = if address < 0x10_0000 { FlatMode::Real } else { FlatMode::Protected };
        Self { address, mode }
    }
}

pub(super) fn load(
    flat: Flat,
    image: &[u8],
    boot: &Boot<'_>,
    memory: &mut dyn GuestMemory,
) -> Result<Entry, LoadError> {
    if !boot.modules.is_empty() {
        let given = boot.modules.len();
        return Err(LoadError::TooManyModules { what: "flat binary", most: 0, given });
    }
    let mut room = Room::new(boot, memory);
    room.claim("the flat binary", flat.address, image.len() as u64)?;
    memory.write(flat.address, image)?;
    match flat.mode {
        FlatMode::Long => entry::long64(flat.address, 0, &mut room, memory),
        FlatMode::Protected => entry::prot32(flat.address as u32, Registers::default(), &mut room, memory),
        FlatMode::Real => Ok(Entry { mode: real(flat.address)?, gdt: None }),
    }
}

fn real(address: u64) -> Result<Mode, LoadError> {
    match address {
        // As firmware enters a boot sector: segment 0.
        0..0x1_0000 => Ok(Mode::Real16 { cs: 0, ip: address as u16 }),
        0x1_0000..0x10_0000 => Ok(Mode::Real16 { cs: (address >> 4) as u16, ip: (address & 0xf) as u16 }),
        _ => {
            let reason = format!("16-bit code cannot start at {address:#x}");
            Err(LoadError::Unsupported { what: "flat binary", reason })
        }
    }
}
