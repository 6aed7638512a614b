//! Tells from its bytes what an image is.

use super::elf::{self, Image};
use super::flat::{Flat, FlatMode};
use super::{LoadError, bzimage, multiboot, u16_at};

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// How to load it.
    pub format: Format,
    /// What was found, for the user, on one line.
    pub description: String,
}

/// A kind of image and so a way to load it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Linux bzImage.
    BzImage,
    /// An ELF kernel with a PVH entry note.
    Pvh,
    /// A multiboot (version 1) kernel, ELF or not.
    Multiboot,
    /// A 64-bit ELF executable with neither.
    Elf64,
    /// A 32-bit ELF executable with neither.
    Elf32,
    /// Bytes for an address.
    Flat(Flat),
}

/// Finds out what `image` is. An address makes it a flat binary, whatever it looks like.
pub fn detect(image: &[u8], flat: Option<Flat>) -> Result<Detected, LoadError> {
    if image.is_empty() {
        return Err(LoadError::Empty);
    }
    if let Some(flat) = flat {
        return Ok(flat_binary(image, flat));
    }
    if bzimage::is_bzimage(image) {
        return linux(image);
    }
    let header = multiboot::find(image);
    if elf::is_elf(image) {
        return executable(image, header);
    }
    if header.is_some_and(multiboot::Header::has_addresses) {
        let description = format!("multiboot kernel with its own load addresses, {} bytes", image.len());
        return Ok(Detected { format: Format::Multiboot, description });
    }
    Err(known_other(image).unwrap_or(LoadError::Unknown))
}

fn flat_binary(image: &[u8], flat: Flat) -> Detected {
    let mode = match flat.mode {
        FlatMode::Real => "16-bit",
        FlatMode::Protected => "32-bit",
        FlatMode::Long => "64-bit",
    };
    let (size, address) = (image.len(), flat.address);
    let description = format!("flat binary of {size} bytes for {address:#x}, started in {mode} mode");
    Detected { format: Format::Flat(flat), description }
}

fn linux(image: &[u8]) -> Result<Detected, LoadError> {
    let header = bzimage::header(image)?;
    let name = bzimage::kernel_version(image).map_or("Linux kernel".into(), |v| format!("Linux {v}"));
    let entry = if header.long_entry { "64-bit entry" } else { "32-bit entry" };
    let version = bzimage::version_text(header.version);
    Ok(Detected {
        format: Format::BzImage,
        description: format!("{name} (bzImage, boot protocol {version}, {entry})"),
    })
}

fn executable(image: &[u8], header: Option<multiboot::Header>) -> Result<Detected, LoadError> {
    // Address fields stand above ELF headers, which then need not make sense.
    if header.is_some_and(multiboot::Header::has_addresses) {
        let description = "multiboot kernel (ELF file with its own load addresses)".into();
        return Ok(Detected { format: Format::Multiboot, description });
    }
    let elf = Image::parse(image)?;
    let bits = if elf.wide { 64 } else { 32 };
    let segments = match elf.segment_count() {
        1 => "1 segment".to_owned(),
        more => format!("{more} segments"),
    };
    let (format, description) = match (elf.pvh_entry(), header) {
        (Some(entry), _) => (Format::Pvh, format!("ELF{bits} kernel with PVH entry {entry:#x}, {segments}")),
        (None, Some(_)) => {
            let entry = elf.physical_entry()?;
            (Format::Multiboot, format!("multiboot kernel (ELF{bits}, entry {entry:#x}, {segments})"))
        }
        (None, None) => {
            let entry = elf.physical_entry()?;
            let format = if elf.wide { Format::Elf64 } else { Format::Elf32 };
            (format, format!("ELF{bits} executable, entry {entry:#x}, {segments}"))
        }
    };
    Ok(Detected { format, description })
}

/// Names what is certainly not a kernel.
fn known_other(image: &[u8]) -> Option<LoadError> {
    const UNPACK: &str = "unpack it first (Linux bzImages are given as they are)";
    const DISK: &str = "give it with --disk";
    const BEGINNINGS: &[(&[u8], &str, &str)] = &[
        (b"\x1f\x8b", "gzip-compressed", UNPACK),
        (b"\xfd7zXZ\0", "xz-compressed", UNPACK),
        (b"\x28\xb5\x2f\xfd", "zstd-compressed", UNPACK),
        (b"BZh", "bzip2-compressed", UNPACK),
        (b"\x5d\0\0", "lzma-compressed", UNPACK),
        (b"\x89LZO", "lzop-compressed", UNPACK),
        (b"\x02\x21\x4c\x18", "lz4-compressed", UNPACK),
        (b"\x04\x22\x4d\x18", "lz4-compressed", UNPACK),
        (b"PK\x03\x04", "a zip archive", UNPACK),
        (b"070701", "a cpio archive", "give it with --initrd"),
        (b"!<arch>\n", "a Unix archive or Debian package", UNPACK),
        (b"QFI\xfb", "a qcow2 disk image", DISK),
        (b"KDMV", "a VMDK disk image", DISK),
        (b"conectix", "a VHD disk image", DISK),
        (b"vhdxfile", "a VHDX disk image", DISK),
        (b"\xcf\xfa\xed\xfe", "a macOS program", "a kernel for x86 is needed"),
        (b"ARMd", "a Linux kernel for Arm", "a kernel for x86 is needed"),
        (b"#!", "a script", "a kernel for x86 is needed"),
    ];
    let not = |what: &str, advice| Some(LoadError::NotAKernel { what: what.to_owned(), advice });
    if let Some((_, what, advice)) = BEGINNINGS.iter().find(|(start, _, _)| image.starts_with(start)) {
        return not(what, advice);
    }
    if image.get(0x38..0x3c) == Some(b"ARMd") {
        return not("a Linux kernel for 64-bit Arm", "a kernel for x86 is needed");
    }
    if image.get(0x8001..0x8006) == Some(b"CD001") {
        return not("an ISO 9660 image", DISK);
    }
    if image.starts_with(b"MZ") {
        return not(
            "an EFI or DOS program, or the start of a truncated kernel",
            "a bzImage or ELF kernel is needed",
        );
    }
    if u16_at(image, 510) == Some(0xaa55) {
        return not("a disk or boot sector", DISK);
    }
    None
}
