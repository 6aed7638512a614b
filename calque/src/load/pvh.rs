//! ELF kernels entered by the PVH protocol (Xen: `docs/misc/pvh.pandoc`, `public/arch-x86/hvm/start_info.h`).
//!
//! The kernel starts in 32-bit mode without paging with EBX pointing to `hvm_start_info` version 1. Linux has
//! offered this in its uncompressed `vmlinux` since 4.21.

use super::elf::Image;
use super::entry::{self, Entry, Registers};
use super::memory::GuestMemory;
use super::room::Room;
use super::zero_page::command_line;
use super::{Boot, LoadError};

const MAGIC: u32 = 0x336e_c578;
const START_INFO_SIZE: u64 = 56;
/// Linux's limit; the protocol sets none.
const COMMAND_LINE: usize = 2047;

/// Loads the kernel and everything its start info points to.
pub(super) fn load(image: &[u8], boot: &Boot<'_>, memory: &mut dyn GuestMemory) -> Result<Entry, LoadError> {
    let elf = Image::parse(image)?;
    let eip = elf.pvh_entry().ok_or(LoadError::Unknown)?;
    let mut room = Room::new(boot, memory);
    elf.place(&mut room, memory)?;

    let line = command_line(boot.command_line, COMMAND_LINE, &mut room, memory)?;
    let mut modules = Vec::new();
    for module in boot.modules {
        let size = module.bytes.len() as u64;
        let at = room.high("the initramfs", size, 0x1000, u64::MAX)?;
        memory.write(at, module.bytes)?;
        let own_line = command_line(module.command_line, COMMAND_LINE, &mut room, memory)?;
        modules.extend([at, size, u64::from(own_line), 0]);
    }
    let module_list = words("the module list", &modules, &mut room, memory)?;
    let map: Vec<u64> =
        boot.memory_map.iter().flat_map(|range| [range.base, range.size, range.kind as u64]).collect();
    let map_at = words("the memory map", &map, &mut room, memory)?;

    let count = |of: usize, each: usize| (of / each) as u64;
    let version_1 = 1u64 << 32;
    let info = [
        u64::from(MAGIC) | version_1,
        // No flags; the number of modules is the upper half.
        count(modules.len(), 4) << 32,
        module_list,
        u64::from(line),
        boot.rsdp.unwrap_or(0),
        map_at,
        count(map.len(), 3),
    ];
    debug_assert_eq!(info.len() as u64 * 8, START_INFO_SIZE);
    let info = words("the start info", &info, &mut room, memory)?;
    let registers = Registers { ebx: info as u32, ..Registers::default() };
    entry::prot32(eip as u32, registers, &mut room, memory)
}

/// Places 64-bit words and returns their address, or 0 for none.
fn words(
    what: &'static str,
    words: &[u64],
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<u64, LoadError> {
    if words.is_empty() {
        return Ok(0);
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = room.low(what, bytes.len() as u64, 8)?;
    memory.write(at, &bytes)?;
    Ok(at)
}
