//! Linux's `boot_params`, also called the zero page (kernel: `Documentation/arch/x86/zero-page.rst`).

use super::memory::GuestMemory;
use super::room::Room;
use super::{Boot, LoadError};

const ACPI_RSDP_ADDR: usize = 0x070;
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_MOST: usize = 128;

/// Offsets in the setup header that a loader fills in.
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;

/// An initramfs is placed no higher than this if the kernel does not say: as protocol 2.03 and older.
pub(super) const OLD_INITRD_MAX: u64 = 0x37ff_ffff;

/// Limits a kernel sets on what it is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// The longest command line, without its final zero.
    pub command_line: usize,
    /// The highest address an initramfs may touch.
    pub initrd_max: u64,
}

/// Places command line, initramfs and boot parameters, whose setup header starts out as `header` (which is
/// copied to offset 0x1f1), and returns the parameters' address.
pub(super) fn place(
    header: &[u8],
    limits: Limits,
    boot: &Boot<'_>,
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<u64, LoadError> {
    let mut page = vec![0u8; 0x1000];
    let end = page.len().min(0x1f1 + header.len());
    page[0x1f1..end].copy_from_slice(&header[..end - 0x1f1]);
    let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);

    put(TYPE_OF_LOADER, &[0xff]);
    let line = command_line(boot.command_line, limits.command_line, room, memory)?;
    put(CMD_LINE_PTR, &line.to_le_bytes());
    match boot.modules {
        [] => {}
        [initrd] => {
            let size = initrd.bytes.len() as u64;
            let at = room.high("the initramfs", size, 0x1000, limits.initrd_max.saturating_add(1))?;
            memory.write(at, initrd.bytes)?;
            put(RAMDISK_IMAGE, &(at as u32).to_le_bytes());
            put(RAMDISK_SIZE, &(size as u32).to_le_bytes());
        }
        more => {
            return Err(LoadError::TooManyModules { what: "Linux kernel", most: 1, given: more.len() });
        }
    }
    put(ACPI_RSDP_ADDR, &boot.rsdp.unwrap_or(0).to_le_bytes());
    let ranges = &boot.memory_map[..boot.memory_map.len().min(E820_MOST)];
    put(E820_ENTRIES, &[ranges.len() as u8]);
    for (i, range) in ranges.iter().enumerate() {
        let at = E820_TABLE + i * 20;
        put(at, &range.base.to_le_bytes());
        put(at + 8, &range.size.to_le_bytes());
        put(at + 16, &(range.kind as u32).to_le_bytes());
    }
    let at = room.low("the boot parameters", 0x1000, 0x1000)?;
    memory.write(at, &page)?;
    Ok(at)
}

/// Places a zero-terminated command line of at most `most` bytes and returns its address, which is below 4 GiB.
pub(super) fn command_line(
    text: &str,
    most: usize,
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<u32, LoadError> {
    if text.len() > most {
        return Err(LoadError::CommandLineTooLong { length: text.len(), most });
    }
    if text.contains('\0') {
        return Err(LoadError::CommandLineZero);
    }
    let at = room.low("the command line", text.len() as u64 + 1, 16)?;
    memory.write(at, &[text.as_bytes(), b"\0"].concat())?;
    Ok(at as u32)
}
