//! Linux bzImage (kernel: `Documentation/arch/x86/boot.rst`).
//!
//! A kernel that says so is entered by the 64-bit boot protocol, 0x200 bytes into its protected-mode part; an
//! older or 32-bit one by the 32-bit protocol at its start. The real-mode part never runs.

use super::entry::{self, Entry, Registers};
use super::error::printable;
use super::memory::GuestMemory;
use super::room::Room;
use super::zero_page::{self, Limits, OLD_INITRD_MAX};
use super::{Boot, LoadError, u16_at, u32_at, u64_at};

const WHAT: &str = "bzImage";
/// Where the protocol puts the protected-mode part.
const LOAD_AT: u64 = 0x10_0000;
/// Nothing of the setup header lies further back.
const HEADER_END: usize = 0x290;

/// The parts of the setup header that decide how to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Protocol version, major in the high byte.
    pub version: u16,
    /// Whether there is a 64-bit entry point.
    pub long_entry: bool,
    /// Where the file's protected-mode part starts.
    start: usize,
    /// The kernel's memory once it runs: where at the lowest, and how much.
    runtime: (u64, u64),
    limits: Limits,
    end: usize,
}

/// Whether the bytes claim to be a bzImage.
pub(super) fn is_bzimage(image: &[u8]) -> bool {
    u16_at(image, 0x1fe) == Some(0xaa55) && image.get(0x202..0x206) == Some(b"HdrS")
}

/// Reads and checks the setup header.
pub(super) fn header(image: &[u8]) -> Result<Header, LoadError> {
    let truncated =
        |needs: usize| LoadError::Truncated { what: WHAT, has: image.len() as u64, needs: needs as u64 };
    let short = || truncated(HEADER_END);
    if image.len() < HEADER_END {
        return Err(short());
    }
    let version = u16_at(image, 0x206).ok_or_else(short)?;
    if version < 0x202 {
        let reason = format!("boot protocol {} is older than 2.02", version_text(version));
        return Err(LoadError::Unsupported { what: WHAT, reason });
    }
    if image[0x211] & 1 == 0 {
        let reason = "it is a zImage, which loads below 1 MiB".into();
        return Err(LoadError::Unsupported { what: WHAT, reason });
    }
    let sectors = if image[0x1f1] == 0 { 4 } else { usize::from(image[0x1f1]) };
    let start = (sectors + 1) * 512;
    // Sizes are in paragraphs of 16 bytes; the last need not be whole. The field has 32 bits since 2.04.
    let paragraphs = match version {
        0x204.. => u32_at(image, 0x1f4).ok_or_else(short)?,
        _ => u32::from(u16_at(image, 0x1f4).ok_or_else(short)?),
    };
    let promised = (paragraphs as usize).saturating_mul(16).saturating_sub(15);
    let needs = start.saturating_add(promised.max(0x201));
    if image.len() < needs {
        return Err(truncated(needs));
    }
    let since = |at_least: u16, value: Option<u64>, old: u64| match version >= at_least {
        true => value.ok_or_else(short),
        false => Ok(old),
    };
    let loaded = (image.len() - start) as u64;
    let align = since(0x205, u32_at(image, 0x230).map(u64::from), 0)?;
    let relocatable = version >= 0x205 && image[0x234] != 0;
    let preferred = since(0x20a, u64_at(image, 0x258), LOAD_AT)?;
    let lowest = match relocatable {
        true => LOAD_AT.checked_next_multiple_of(align.max(1)).unwrap_or(u64::MAX).max(preferred),
        false => preferred,
    };
    let size = since(0x20a, u32_at(image, 0x260).map(u64::from), loaded)?;
    Ok(Header {
        version,
        long_entry: version >= 0x20c && u16_at(image, 0x236).ok_or_else(short)? & 1 != 0,
        start,
        runtime: (lowest, size),
        limits: Limits {
            command_line: since(0x206, u32_at(image, 0x238).map(u64::from), 255)? as usize,
            initrd_max: since(0x203, u32_at(image, 0x22c).map(u64::from), OLD_INITRD_MAX)?,
        },
        end: (0x202 + usize::from(image[0x201])).clamp(0x230, HEADER_END),
    })
}

/// The kernel's own words about its version, if it has any.
pub(super) fn kernel_version(image: &[u8]) -> Option<String> {
    let at = usize::from(u16_at(image, 0x20e)?);
    let text = image.get(at + 0x200..)?;
    let text = &text[..text.iter().take(128).position(|&b| b == 0 || b == b' ')?];
    (at != 0 && !text.is_empty()).then(|| printable(text))
}

/// "2.15" for 0x20f.
pub(super) fn version_text(version: u16) -> String {
    format!("{}.{:02}", version >> 8, version & 0xff)
}

/// Loads the kernel, its command line and its initramfs.
pub(super) fn load(image: &[u8], boot: &Boot<'_>, memory: &mut dyn GuestMemory) -> Result<Entry, LoadError> {
    let header = header(image)?;
    let kernel = &image[header.start..];
    let mut room = Room::new(boot, memory);
    claim_kernel(&header, kernel.len() as u64, &mut room)?;
    memory.write(LOAD_AT, kernel)?;
    let parameters = zero_page::place(&image[0x1f1..header.end], header.limits, boot, &mut room, memory)?;
    if header.long_entry {
        return entry::long64(LOAD_AT + 0x200, parameters, &mut room, memory);
    }
    let registers = Registers { esi: parameters as u32, ..Registers::default() };
    entry::prot32(LOAD_AT as u32, registers, &mut room, memory)
}

/// Takes the memory the file is loaded to and the memory it will unpack itself into, which may overlap.
fn claim_kernel(header: &Header, loaded: u64, room: &mut Room) -> Result<(), LoadError> {
    let (start, size) = header.runtime;
    let end = start.checked_add(size).ok_or_else(|| LoadError::Damaged {
        what: WHAT,
        reason: format!("it wants {size:#x} bytes at {start:#x}"),
    })?;
    let loaded_end = LOAD_AT + loaded;
    if start < loaded_end && LOAD_AT < end {
        let low = start.min(LOAD_AT);
        return room.claim("the kernel", low, end.max(loaded_end) - low);
    }
    room.claim("the kernel's file", LOAD_AT, loaded)?;
    room.claim("the unpacked kernel", start, size)
}
