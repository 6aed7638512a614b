//! Guest images: what a file is, and how it gets into memory.
//!
//! [`detect`] tells from the bytes alone what an image is; [`load`] puts it, its modules and what its boot
//! protocol wants to know into guest memory and returns the processor state to start from. Both are pure
//! functions of their arguments.
//!
//! Invariants: no bytes make them panic; every refusal is one line; nothing is written outside what the memory
//! map calls RAM; two things placed in memory never overlap (kept by `room::Room`).

mod bzimage;
mod detect;
mod elf;
mod entry;
mod error;
mod flat;
mod memory;
mod multiboot;
mod pvh;
mod room;
#[cfg(test)]
mod tests;
mod zero_page;

use std::fs;
use std::io;
use std::path::Path;

pub use detect::{Detected, Format, detect};
pub use entry::{Entry, Gdt, Mode};
pub use error::LoadError;
pub use flat::{Flat, FlatMode};
pub use memory::{GuestMemory, MemoryRange, OutsideMemory, RangeKind, pc_memory_map};

/// Everything besides the image that a boot protocol may hand to the guest.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The image's name, which multiboot kernels get as the first word of their command line.
    pub name: &'a str,
    /// The kernel command line.
    pub command_line: &'a str,
    /// The initramfs (Linux takes one) or the modules of a multiboot kernel.
    pub modules: &'a [Module<'a>],
    /// The machine's physical memory, in rising order. Only its RAM below 4 GiB is loaded into.
    pub memory_map: &'a [MemoryRange],
    /// Where the ACPI root pointer is.
    pub rsdp: Option<u64>,
}

/// A file handed to the guest beside the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    /// Its content.
    pub bytes: &'a [u8],
    /// Its own command line, by custom starting with its name.
    pub command_line: &'a str,
}

/// Loads `image`, which [`detect`] called `format`, and says where and how the processor starts.
pub fn load(
    format: Format,
    image: &[u8],
    boot: &Boot<'_>,
    memory: &mut dyn GuestMemory,
) -> Result<Entry, LoadError> {
    match format {
        Format::BzImage => bzimage::load(image, boot, memory),
        Format::Pvh => pvh::load(image, boot, memory),
        Format::Multiboot => multiboot::load(image, boot, memory),
        Format::Elf64 => elf::load_plain64(image, boot, memory),
        Format::Elf32 => elf::load_plain32(image, boot, memory),
        Format::Flat(flat) => flat::load(flat, image, boot, memory),
    }
}

/// Reads a file that should be an image or a module for a machine with `memory` bytes, refusing what cannot be one.
/// What would not fit is not read at all, so that it cannot fill the host either.
pub fn read(path: &Path, memory: u64) -> Result<Vec<u8>, LoadError> {
    let name = path.display().to_string();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LoadError::NoSuchFile { name: name.clone() },
        _ => LoadError::Unreadable { name: name.clone(), reason: source.to_string() },
    };
    let about = fs::metadata(path).map_err(failed)?;
    if about.is_dir() {
        return Err(LoadError::Directory { name });
    }
    if !about.is_file() {
        return Err(LoadError::Unreadable { name, reason: "it is not a regular file".into() });
    }
    if about.len() > memory {
        return Err(LoadError::LargerThanMemory { name, size: about.len(), memory });
    }
    let bytes = fs::read(path).map_err(failed)?;
    if bytes.is_empty() { Err(LoadError::EmptyFile { name }) } else { Ok(bytes) }
}

/// The little-endian 16-bit number at `offset`, if the bytes reach that far.
fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The little-endian 32-bit number at `offset`, if the bytes reach that far.
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The little-endian 64-bit number at `offset`, if the bytes reach that far.
fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
