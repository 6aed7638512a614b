//! Multiboot version 1 (GNU: "Multiboot Specification version 0.6.96").
//!
//! The kernel is an ELF executable, or anything whose multiboot header gives the addresses to load it to. It
//! starts in 32-bit mode with EAX holding a magic number and EBX pointing to the boot information.

use super::elf::{self, Image};
use super::entry::{self, Entry, Registers};
use super::memory::{GuestMemory, RangeKind};
use super::room::Room;
use super::zero_page::command_line;
use super::{Boot, LoadError, u32_at};

const WHAT: &str = "multiboot image";
const HEADER_MAGIC: u32 = 0x1bad_b002;
const START_MAGIC: u32 = 0x2bad_b002;
/// The header must be whole within this many bytes.
const SEARCH: usize = 8192;
const COMMAND_LINE: usize = 4095;

const WANTS_ADDRESSES: u32 = 1 << 16;
/// Page-aligned modules, memory information and a video mode (which a text console may decline).
const UNDERSTOOD: u32 = 0b111;
const MUST_UNDERSTAND: u32 = 0xffff;

/// Multiboot information: which fields are there.
const HAS_MEMORY: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

/// A multiboot header found in an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    offset: usize,
    flags: u32,
}

/// Looks for a header with a right checksum.
pub(super) fn find(image: &[u8]) -> Option<Header> {
    let end = image.len().min(SEARCH).checked_sub(12)?;
    (0..=end).step_by(4).find_map(|offset| {
        let [magic, flags, sum] = [0, 4, 8].map(|at| u32_at(image, offset + at).unwrap_or(0));
        let right = magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(sum) == 0;
        right.then_some(Header { offset, flags })
    })
}

impl Header {
    /// Whether the header itself says where to load the image.
    pub(super) fn has_addresses(self) -> bool {
        self.flags & WANTS_ADDRESSES != 0
    }
}

/// Loads the kernel, its modules and the boot information.
pub(super) fn load(image: &[u8], boot: &Boot<'_>, memory: &mut dyn GuestMemory) -> Result<Entry, LoadError> {
    let header = find(image).ok_or(LoadError::Unknown)?;
    let unknown = header.flags & MUST_UNDERSTAND & !UNDERSTOOD;
    if unknown != 0 {
        let reason = format!("its header requires features {unknown:#x}");
        return Err(LoadError::Unsupported { what: WHAT, reason });
    }
    let mut room = Room::new(boot, memory);
    let eip = match header.has_addresses() {
        true => place_by_addresses(image, header, &mut room, memory)?,
        false if elf::is_elf(image) => {
            let elf = Image::parse(image)?;
            elf.place(&mut room, memory)?;
            elf.physical_entry()? as u32
        }
        false => {
            let reason = "it is not ELF and its header gives no addresses".into();
            return Err(LoadError::Damaged { what: WHAT, reason });
        }
    };
    let info = information(boot, &mut room, memory)?;
    entry::prot32(eip, Registers { eax: START_MAGIC, ebx: info, esi: 0 }, &mut room, memory)
}

/// Loads by the address fields and returns the entry point.
fn place_by_addresses(
    image: &[u8],
    header: Header,
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<u32, LoadError> {
    let damaged = |reason: &str| LoadError::Damaged { what: WHAT, reason: reason.into() };
    let field = |at: usize| {
        let needs = (header.offset + 32) as u64;
        let truncated = LoadError::Truncated { what: WHAT, has: image.len() as u64, needs };
        u32_at(image, header.offset + at).ok_or(truncated)
    };
    let [header_addr, load_addr, load_end, bss_end, entry] =
        [field(12)?, field(16)?, field(20)?, field(24)?, field(28)?];
    let before =
        header_addr.checked_sub(load_addr).ok_or_else(|| damaged("it loads from behind its header"))?;
    let start = header.offset.checked_sub(before as usize);
    let start = start.ok_or_else(|| damaged("it loads from before its first byte"))?;
    let file = &image[start..];
    let file = match load_end {
        0 => file,
        _ => {
            let size = load_end.checked_sub(load_addr).ok_or_else(|| damaged("it ends before it starts"))?;
            file.get(..size as usize).ok_or(LoadError::Truncated {
                what: WHAT,
                has: image.len() as u64,
                needs: start as u64 + u64::from(size),
            })?
        }
    };
    let loaded = file.len() as u64;
    let whole = match bss_end {
        0 => loaded,
        _ => u64::from(bss_end).saturating_sub(load_addr.into()).max(loaded),
    };
    let at = u64::from(load_addr);
    if u64::from(entry) < at || u64::from(entry) >= at + whole {
        return Err(damaged("its entry point lies outside of it"));
    }
    room.claim("the multiboot image", at, whole)?;
    memory.write(at, file)?;
    memory.zero(at + loaded, whole - loaded)?;
    Ok(entry)
}

/// Places modules, memory map, strings and the structure that points to them; returns its address.
fn information(boot: &Boot<'_>, room: &mut Room, memory: &mut dyn GuestMemory) -> Result<u32, LoadError> {
    let mut list = Vec::new();
    for module in boot.modules {
        let size = module.bytes.len() as u64;
        let at = room.high("a module", size, 0x1000, u64::MAX)?;
        memory.write(at, module.bytes)?;
        let line = command_line(module.command_line, COMMAND_LINE, room, memory)?;
        list.extend([at as u32, (at + size) as u32, line, 0]);
    }
    let map: Vec<u32> = boot.memory_map.iter().flat_map(map_entry).collect();
    let line = format!("{} {}", boot.name.replace('\0', "?"), boot.command_line);

    let mut info = [0u32; 29];
    info[0] = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MODULES | HAS_MAP | HAS_LOADER_NAME;
    (info[1], info[2]) = memory_sizes(boot, room.top());
    info[4] = command_line(line.trim_end(), COMMAND_LINE, room, memory)?;
    info[5] = boot.modules.len() as u32;
    info[6] = words("the module list", &list, room, memory)?;
    info[11] = map.len() as u32 * 4;
    info[12] = words("the memory map", &map, room, memory)?;
    info[16] = command_line("calque", COMMAND_LINE, room, memory)?;
    words("the boot information", &info, room, memory)
}

/// One entry of the memory map. Its size field does not count itself.
fn map_entry(range: &super::MemoryRange) -> [u32; 6] {
    let (base, size) = (range.base, range.size);
    [20, base as u32, (base >> 32) as u32, size as u32, (size >> 32) as u32, range.kind as u32]
}

/// The RAM below 640 KiB and that from 1 MiB up to the first hole, in KiB.
fn memory_sizes(boot: &Boot<'_>, top: u64) -> (u32, u32) {
    let size_from = |base: u64| {
        let ram = |r: &&super::MemoryRange| r.kind == RangeKind::Ram && r.base <= base && base < r.end();
        boot.memory_map.iter().find(ram).map_or(0, |range| range.end().min(top).saturating_sub(base) / 1024)
    };
    (size_from(0).min(640) as u32, size_from(0x10_0000) as u32)
}

/// Places 32-bit words and returns their address, or 0 for none.
fn words(
    what: &'static str,
    words: &[u32],
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<u32, LoadError> {
    if words.is_empty() {
        return Ok(0);
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = room.low(what, bytes.len() as u64, 16)?;
    memory.write(at, &bytes)?;
    Ok(at as u32)
}
