//! ELF executables: checks, segments, and the plain start at their entry point.
//!
//! Only the file header and the program headers are read (with goblin); sections and symbols do not matter to
//! a machine. Segments go to their physical addresses.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{self, EM_386, EM_X86_64, ET_DYN, ET_EXEC};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD, PT_NOTE};
use goblin::elf::{Elf, Header, ProgramHeader};

use super::entry::{self, Entry, Registers};
use super::memory::GuestMemory;
use super::room::Room;
use super::zero_page::{self, Limits, OLD_INITRD_MAX};
use super::{Boot, LoadError, u32_at};

const WHAT: &str = "ELF image";
/// Linux's own limit (COMMAND_LINE_SIZE) for kernels that cannot say theirs.
const COMMAND_LINE: usize = 2047;

/// A checked ELF executable for x86.
#[derive(Debug)]
pub(super) struct Image<'a> {
    bytes: &'a [u8],
    headers: Vec<ProgramHeader>,
    /// Where in the file the program headers end.
    headers_end: u64,
    /// Whether it is a 64-bit file.
    pub wide: bool,
    /// The entry point as the file gives it, a virtual address.
    pub entry: u64,
}

/// A part of the file to be loaded.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    offset: u64,
    bytes: &'a [u8],
    virt: u64,
    phys: u64,
    /// The size in memory, at least that of `bytes`; the rest is zero.
    size: u64,
}

/// Whether the bytes claim to be ELF.
pub(super) fn is_elf(image: &[u8]) -> bool {
    image.starts_with(header::ELFMAG)
}

impl<'a> Image<'a> {
    /// Checks that `bytes` are an x86 executable that could be a kernel.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let damaged = |reason: String| LoadError::Damaged { what: WHAT, reason };
        let no_kernel = |what: String| LoadError::NotAKernel { what, advice: "a kernel for x86 is needed" };
        let wide = match bytes.get(header::EI_CLASS) {
            Some(&header::ELFCLASS64) => true,
            Some(&header::ELFCLASS32) => false,
            Some(class) => return Err(damaged(format!("no ELF class {class}"))),
            None => return Err(truncated(bytes, 64)),
        };
        let least = if wide { 64 } else { 52 };
        if bytes.len() < least {
            return Err(truncated(bytes, least as u64));
        }
        if bytes[header::EI_DATA] != header::ELFDATA2LSB {
            return Err(no_kernel("a big-endian ELF program".into()));
        }
        let about: Header = Elf::parse_header(bytes).map_err(|e| damaged(e.to_string()))?;
        if !matches!(about.e_machine, EM_386 | EM_X86_64) {
            return Err(no_kernel(format!("an ELF program for {}", machine(about.e_machine))));
        }
        if !matches!(about.e_type, ET_EXEC | ET_DYN) {
            return Err(no_kernel("an ELF file that is no executable".into()));
        }
        let container = if wide { Container::Big } else { Container::Little };
        let size = if wide { 56 } else { 32 };
        let count = usize::from(about.e_phnum);
        if usize::from(about.e_phentsize) != size && count > 0 {
            return Err(damaged(format!("program headers of {} bytes", about.e_phentsize)));
        }
        let table_end = about.e_phoff.saturating_add((count * size) as u64);
        if table_end > bytes.len() as u64 {
            return Err(truncated(bytes, table_end));
        }
        let context = Ctx::new(container, Endian::Little);
        let headers = ProgramHeader::parse(bytes, about.e_phoff as usize, count, context)
            .map_err(|e| damaged(e.to_string()))?;
        if headers.iter().any(|header| header.p_type == PT_INTERP) {
            return Err(no_kernel("a dynamically linked program".into()));
        }
        let image = Self { bytes, headers, headers_end: table_end, wide, entry: about.e_entry };
        if image.segments()?.is_empty() {
            return Err(damaged("it has nothing to load".into()));
        }
        Ok(image)
    }

    /// How many segments are loaded.
    pub(super) fn segment_count(&self) -> usize {
        self.headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0).count()
    }

    fn segments(&self) -> Result<Vec<Segment<'a>>, LoadError> {
        let load = |header: &&ProgramHeader| header.p_type == PT_LOAD && header.p_memsz > 0;
        self.headers.iter().filter(load).map(|header| self.segment(header)).collect()
    }

    fn segment(&self, header: &ProgramHeader) -> Result<Segment<'a>, LoadError> {
        let damaged = |reason: String| LoadError::Damaged { what: WHAT, reason };
        if header.p_filesz > header.p_memsz {
            let (file, memory) = (header.p_filesz, header.p_memsz);
            return Err(damaged(format!("a segment has {file} bytes in the file and {memory} in memory")));
        }
        let end = header.p_offset.checked_add(header.p_filesz);
        let end = end.ok_or_else(|| damaged(format!("a segment of {:#x} bytes", header.p_filesz)))?;
        let bytes = self.bytes.get(header.p_offset as usize..end as usize);
        let bytes = bytes.ok_or_else(|| truncated(self.bytes, end))?;
        if header.p_paddr.checked_add(header.p_memsz).is_none() {
            return Err(damaged(format!(
                "a segment of {:#x} bytes at {:#x}",
                header.p_memsz, header.p_paddr
            )));
        }
        Ok(Segment {
            offset: header.p_offset,
            bytes,
            virt: header.p_vaddr,
            phys: header.p_paddr,
            size: header.p_memsz,
        })
    }

    /// Where the entry point is in physical memory. Most files give a virtual address; Linux's `vmlinux`, linked
    /// for high addresses, gives the physical one already.
    pub(super) fn physical_entry(&self) -> Result<u64, LoadError> {
        let segments = self.segments()?;
        let within = |base: u64, size: u64| self.entry.checked_sub(base).filter(|offset| *offset < size);
        let by_virtual = segments.iter().find_map(|s| Some(s.phys + within(s.virt, s.size)?));
        let by_physical = || segments.iter().find_map(|s| Some(s.phys + within(s.phys, s.size)?));
        by_virtual.or_else(by_physical).ok_or_else(|| LoadError::Damaged {
            what: WHAT,
            reason: format!("its entry point {:#x} is in no segment", self.entry),
        })
    }

    /// The 32-bit entry point in the note of kernels that know the PVH protocol.
    pub(super) fn pvh_entry(&self) -> Option<u64> {
        const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
        let notes = self.headers.iter().filter(|header| header.p_type == PT_NOTE);
        notes
            .filter_map(|header| self.bytes.get(header.p_offset as usize..)?.get(..header.p_filesz as usize))
            .find_map(|mut notes| {
                loop {
                    let (name, content) = (u32_at(notes, 0)? as usize, u32_at(notes, 4)? as usize);
                    let content_at = 12 + name.checked_next_multiple_of(4)?;
                    let next = content_at.checked_add(content.checked_next_multiple_of(4)?)?;
                    let owner = notes.get(12..)?.get(..name)?;
                    if u32_at(notes, 8)? == XEN_ELFNOTE_PHYS32_ENTRY && owner == b"Xen\0" {
                        // The note holds 4 or 8 bytes, but the entry is below 4 GiB in any case.
                        return Some(u64::from(u32_at(notes.get(content_at..)?, 0)?));
                    }
                    notes = notes.get(next..)?;
                }
            })
    }

    /// Takes the segments' places and copies them there.
    pub(super) fn place(&self, room: &mut Room, memory: &mut dyn GuestMemory) -> Result<(), LoadError> {
        let mut placed = Vec::new();
        for (i, segment) in self.segments()?.into_iter().enumerate() {
            match room.claim(&format!("segment {i} of the ELF image"), segment.phys, segment.size) {
                Ok(()) => placed.push(segment),
                Err(_) if self.is_headers_only(&segment) => {}
                Err(error) => return Err(error),
            }
        }
        for segment in placed {
            let file = segment.bytes.len() as u64;
            memory.write(segment.phys, segment.bytes)?;
            memory.zero(segment.phys + file, segment.size - file)?;
        }
        Ok(())
    }

    /// Whether a segment holds nothing but the file's own headers. Linkers put one before the code unless they
    /// are told not to; for a kernel linked to 1 MiB it falls into the BIOS area, and no kernel misses it.
    fn is_headers_only(&self, segment: &Segment<'_>) -> bool {
        segment.offset == 0 && segment.size <= self.headers_end
    }
}

/// Loads a 64-bit executable and enters it in long mode. Like a Linux `vmlinux` it finds `boot_params` at RSI.
pub(super) fn load_plain64(
    image: &[u8],
    boot: &Boot<'_>,
    memory: &mut dyn GuestMemory,
) -> Result<Entry, LoadError> {
    /// As in a bzImage of protocol 2.15: version, loaded high, magic numbers.
    const HEADER: usize = 0x268 - 0x1f1;
    let elf = Image::parse(image)?;
    let rip = elf.physical_entry()?;
    let mut room = Room::new(boot, memory);
    elf.place(&mut room, memory)?;
    let mut header = [0u8; HEADER];
    header[0x1fe - 0x1f1..][..2].copy_from_slice(&0xaa55u16.to_le_bytes());
    header[0x202 - 0x1f1..][..4].copy_from_slice(b"HdrS");
    header[0x206 - 0x1f1..][..2].copy_from_slice(&0x20fu16.to_le_bytes());
    header[0x211 - 0x1f1] = 1;
    let limits = Limits { command_line: COMMAND_LINE, initrd_max: OLD_INITRD_MAX };
    let parameters = zero_page::place(&header, limits, boot, &mut room, memory)?;
    entry::long64(rip, parameters, &mut room, memory)
}

/// Loads a 32-bit executable and enters it in protected mode. It is told nothing, so it takes no modules.
pub(super) fn load_plain32(
    image: &[u8],
    boot: &Boot<'_>,
    memory: &mut dyn GuestMemory,
) -> Result<Entry, LoadError> {
    if !boot.modules.is_empty() {
        let given = boot.modules.len();
        return Err(LoadError::TooManyModules { what: "plain 32-bit ELF image", most: 0, given });
    }
    let elf = Image::parse(image)?;
    let eip = elf.physical_entry()?;
    let mut room = Room::new(boot, memory);
    elf.place(&mut room, memory)?;
    entry::prot32(eip as u32, Registers::default(), &mut room, memory)
}

fn truncated(bytes: &[u8], needs: u64) -> LoadError {
    LoadError::Truncated { what: WHAT, has: bytes.len() as u64, needs }
}

fn machine(number: u16) -> String {
    match number {
        header::EM_AARCH64 => "64-bit Arm".into(),
        header::EM_ARM => "32-bit Arm".into(),
        header::EM_RISCV => "RISC-V".into(),
        header::EM_PPC64 => "64-bit PowerPC".into(),
        header::EM_S390 => "IBM Z".into(),
        header::EM_MIPS => "MIPS".into(),
        _ => format!("machine number {number}"),
    }
}
