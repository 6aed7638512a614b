//! Tests of all loaders: images made here, byte by byte, the real kernels where the cache has them, and
//! seeded damage to both. `Ram` panics on nothing and remembers everything.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

/// Guest memory for tests.
#[derive(Debug, Clone)]
pub(super) struct Ram(pub Vec<u8>);

impl Ram {
    pub(super) fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    fn u32(&self, at: u64) -> u32 {
        u32_at(&self.0, at as usize).unwrap()
    }

    fn u64(&self, at: u64) -> u64 {
        u64_at(&self.0, at as usize).unwrap()
    }

    fn text(&self, at: u64) -> &str {
        let bytes = &self.0[at as usize..];
        std::str::from_utf8(&bytes[..bytes.iter().position(|&b| b == 0).unwrap()]).unwrap()
    }
}

impl GuestMemory for Ram {
    fn ram_size(&self) -> u64 {
        self.0.len() as u64
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), OutsideMemory> {
        let range = gpa as usize..(gpa as usize).saturating_add(bytes.len());
        let outside = OutsideMemory { gpa, size: bytes.len() as u64 };
        self.0.get_mut(range).ok_or(outside)?.copy_from_slice(bytes);
        Ok(())
    }
}

const MIB: usize = 1 << 20;

pub(super) fn boot(map: &[MemoryRange]) -> Boot<'_> {
    Boot {
        name: "kernel",
        command_line: "console=ttyS0",
        modules: &[],
        memory_map: map,
        rsdp: Some(0xe_0000),
    }
}

/// Puts little-endian fields into an image.
fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A bzImage of protocol 2.15 with `size` bytes of protected-mode part.
fn bzimage(size: usize) -> Vec<u8> {
    let mut image = vec![0x90; 2 * 512 + size];
    image[..1024].fill(0);
    put(&mut image, 0x1f1, &[1]);
    put(&mut image, 0x1f4, &(size.div_ceil(16) as u32).to_le_bytes());
    put(&mut image, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut image, 0x200, &[0xeb, 0x6a]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x20fu16.to_le_bytes());
    put(&mut image, 0x20e, &0x100u16.to_le_bytes());
    put(&mut image, 0x211, &[1]);
    put(&mut image, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut image, 0x230, &0x20_0000u32.to_le_bytes());
    put(&mut image, 0x234, &[1, 21, 0x3f, 0]);
    put(&mut image, 0x238, &2047u32.to_le_bytes());
    put(&mut image, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut image, 0x260, &0x40_0000u32.to_le_bytes());
    put(&mut image, 0x300, b"6.1.0-test\x1b (nobody)\0");
    image
}

/// One program header: type, virtual and physical address, content, size in memory.
struct Part<'a>(u32, u64, u64, &'a [u8], u64);

/// An ELF executable for `machine`.
fn elf(wide: bool, machine: u16, entry: u64, parts: &[Part<'_>]) -> Vec<u8> {
    let (header, each) = if wide { (64, 56) } else { (52, 32) };
    let mut image = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    image.resize(16, 0);
    let word = |image: &mut Vec<u8>, value: u64| match wide {
        true => image.extend(value.to_le_bytes()),
        false => image.extend((value as u32).to_le_bytes()),
    };
    image.extend([2, 0]);
    image.extend(machine.to_le_bytes());
    image.extend(1u32.to_le_bytes());
    [entry, header, 0].into_iter().for_each(|value| word(&mut image, value));
    image.extend(0u32.to_le_bytes());
    for half in [header as u16, each, parts.len() as u16, 0, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    let mut offset = header + u64::from(each) * parts.len() as u64;
    for Part(kind, virt, phys, content, size) in parts {
        image.extend(kind.to_le_bytes());
        if wide {
            image.extend(7u32.to_le_bytes());
        }
        [offset, *virt, *phys, content.len() as u64, *size].into_iter().for_each(|v| word(&mut image, v));
        if !wide {
            image.extend(7u32.to_le_bytes());
        }
        word(&mut image, 4096);
        offset += content.len() as u64;
    }
    parts.iter().for_each(|part| image.extend(part.3));
    image
}

const LOAD: u32 = 1;
const NOTE: u32 = 4;
const X86_64: u16 = 62;
const I386: u16 = 3;

fn pvh_note(entry: u32) -> Vec<u8> {
    let other = [5u32, 3, 1].map(u32::to_le_bytes).concat();
    let ours = [4u32, 4, 18].map(u32::to_le_bytes).concat();
    [&other[..], b"GNUX\0\0\0\0abc\0", &ours, b"Xen\0", &entry.to_le_bytes()].concat()
}

fn multiboot_header(flags: u32, addresses: &[u32]) -> Vec<u8> {
    let magic = 0x1bad_b002u32;
    let mut words = vec![magic, flags, 0u32.wrapping_sub(magic).wrapping_sub(flags)];
    words.extend(addresses);
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Detects and loads with 64 MiB of RAM.
fn run(image: &[u8], modules: &[Module<'_>]) -> Result<(Entry, Ram), LoadError> {
    let map = pc_memory_map(64 * MIB as u64, 0);
    let mut ram = Ram::new(64 * MIB);
    let format = detect(image, None)?.format;
    let entry = load(format, image, &Boot { modules, ..boot(&map) }, &mut ram)?;
    Ok((entry, ram))
}

fn refusal(image: &[u8]) -> String {
    let text = run(image, &[]).expect_err("it should be refused").to_string();
    assert!(!text.contains('\n') && text.len() < 200, "{text}");
    text
}

#[test]
fn bzimage_starts_in_long_mode_with_its_parameters() {
    let image = bzimage(0x5000);
    let found = detect(&image, None).unwrap();
    assert_eq!(found.description, "Linux 6.1.0-test? (bzImage, boot protocol 2.15, 64-bit entry)");
    let module = Module { bytes: &[7; 5000], command_line: "" };
    let (entry, ram) = run(&image, &[module]).unwrap();
    let Mode::Long64 { cr3, rip, rsi, rsp } = entry.mode else { panic!("{entry:?}") };
    assert_eq!((rip, ram.0[0x10_0000], ram.0[0x10_4fff]), (0x10_0200, 0x90, 0x90));
    assert!(rsp.is_multiple_of(0x1000) && rsp < 0xa_0000);
    // Parameters: header copied, loader named, strings and tables in place.
    assert_eq!(ram.text(ram.u32(rsi + 0x228).into()), "console=ttyS0");
    assert_eq!((ram.0[rsi as usize + 0x210], ram.u32(rsi + 0x202)), (0xff, u32::from_le_bytes(*b"HdrS")));
    let initrd = ram.u32(rsi + 0x218);
    assert_eq!((initrd, ram.u32(rsi + 0x21c)), (64 * MIB as u32 - 0x2000, 5000));
    assert_eq!(ram.0[initrd as usize + 4999], 7);
    assert_eq!(ram.u64(rsi + 0x70), 0xe_0000);
    assert_eq!(ram.0[rsi as usize + 0x1e8], 4);
    assert_eq!((ram.u64(rsi + 0x2d0), ram.u64(rsi + 0x2d8), ram.u32(rsi + 0x2e0)), (0, 0x9_fc00, 1));
    // The identity map reaches the kernel, and the last page below 4 GiB.
    let walk = |address: u64| {
        let pdpt = ram.u64(cr3) & !0xfff;
        let directory = ram.u64(pdpt + (address >> 30) * 8) & !0xfff;
        ram.u64(directory + ((address >> 21) & 511) * 8)
    };
    assert_eq!((walk(0x10_0200), walk(0xffff_f000)), (0x83, 0xffe0_0083));
    let gdt = entry.gdt.unwrap();
    assert_eq!(ram.u64(gdt.base + u64::from(Gdt::CODE)), gdt.entries[2]);
    assert_eq!(gdt.entries[2] >> 53 & 1, 1, "a 64-bit code segment");
}

#[test]
fn older_kernels_start_in_32_bit_mode() {
    for (at, value) in [(0x236, 0u8), (0x206, 0x0a)] {
        let mut image = bzimage(0x1000);
        image[at] = value;
        let (entry, ram) = run(&image, &[]).unwrap();
        let Mode::Prot32 { eip: 0x10_0000, esi, ebx: 0, .. } = entry.mode else { panic!("{entry:?}") };
        assert_eq!(ram.text(ram.u32(u64::from(esi) + 0x228).into()), "console=ttyS0");
    }
}

#[test]
fn an_initramfs_keeps_away_from_the_kernel_and_below_its_limit() {
    let mut image = bzimage(0x1000);
    put(&mut image, 0x22c, &0x01ff_ffff_u32.to_le_bytes());
    let module = Module { bytes: &[1; 0x1000], command_line: "" };
    let (entry, ram) = run(&image, &[module]).unwrap();
    let Mode::Long64 { rsi, .. } = entry.mode else { panic!() };
    assert_eq!(ram.u32(rsi + 0x218), 0x1ff_f000);
    // 44 MiB fit above the unpacked kernel's end at 20 MiB, 45 do not.
    let image = bzimage(0x1000);
    let big = vec![1; 45 * MIB];
    let module = |bytes| Module { bytes, command_line: "" };
    assert!(run(&image, &[module(&big[..44 * MIB])]).is_ok());
    let text = run(&image, &[module(&big)]).unwrap_err().to_string();
    assert_eq!(
        text,
        "the initramfs of 47185920 bytes does not fit into the machine's memory: give it more with -m"
    );
}

#[test]
fn pvh_kernel_finds_its_start_info() {
    let note = pvh_note(0x10_0040);
    let high = 0xffff_ffff_8100_0000;
    let parts =
        [Part(LOAD, high, 0x10_0000, &[0x90; 100], 0x3000), Part(NOTE, 0, 0, &note, note.len() as u64)];
    let image = elf(true, X86_64, 0x10_0000, &parts);
    assert_eq!(detect(&image, None).unwrap().description, "ELF64 kernel with PVH entry 0x100040, 1 segment");
    let (entry, ram) = run(&image, &[Module { bytes: b"initramfs", command_line: "a b" }]).unwrap();
    let Mode::Prot32 { eip: 0x10_0040, eax: 0, ebx, .. } = entry.mode else { panic!("{entry:?}") };
    let info = u64::from(ebx);
    assert_eq!((ram.u32(info), ram.u32(info + 4), ram.u32(info + 12)), (0x336e_c578, 1, 1));
    let module = ram.u64(info + 16);
    assert_eq!(ram.text(ram.u64(module)), "initramfs");
    assert_eq!((ram.u64(module + 8), ram.text(ram.u64(module + 16))), (9, "a b"));
    assert_eq!(ram.text(ram.u64(info + 24)), "console=ttyS0");
    assert_eq!((ram.u64(info + 32), ram.u32(info + 48)), (0xe_0000, 4));
    let map = ram.u64(info + 40);
    assert_eq!((ram.u64(map + 3 * 24), ram.u32(map + 3 * 24 + 16)), (0x10_0000, 1));
}

#[test]
fn multiboot_elf_finds_its_information() {
    let code = [&multiboot_header(3, &[])[..], &[0x90; 64]].concat();
    let image = elf(false, I386, 0x10_000c, &[Part(LOAD, 0x10_0000, 0x10_0000, &code, 0x2000)]);
    let found = detect(&image, None).unwrap();
    assert_eq!(found.description, "multiboot kernel (ELF32, entry 0x10000c, 1 segment)");
    let modules = [("first", "first x"), ("second", "")]
        .map(|(bytes, command_line)| Module { bytes: bytes.as_bytes(), command_line });
    let (entry, ram) = run(&image, &modules).unwrap();
    let Mode::Prot32 { eip: 0x10_000c, eax: 0x2bad_b002, ebx, .. } = entry.mode else { panic!("{entry:?}") };
    let field = |index: u64| ram.u32(u64::from(ebx) + index * 4);
    assert_eq!((field(0), field(1), field(2)), (0x24d, 639, 63 * 1024));
    assert_eq!(ram.text(field(4).into()), "kernel console=ttyS0");
    assert_eq!(field(5), 2);
    let list = u64::from(field(6));
    assert!(ram.u32(list).is_multiple_of(0x1000));
    assert_eq!((ram.text(ram.u32(list).into()), ram.u32(list + 4) - ram.u32(list)), ("first", 5));
    assert_eq!(ram.text(ram.u32(list + 8).into()), "first x");
    assert_eq!((field(11), ram.u32(field(12).into())), (4 * 24, 20));
    assert_eq!(ram.text(field(16).into()), "calque");
}

#[test]
fn multiboot_by_addresses_loads_the_part_it_names() {
    // The header is 8 bytes into a text of which the first 4 bytes are not loaded.
    let fields = [0x20_0004, 0x20_0000, 0x20_0030, 0x20_0100, 0x20_002c];
    let image = [b"skipkeep", &multiboot_header(1 << 16, &fields)[..], &[0xf4; 100]].concat();
    let (entry, ram) = run(&image, &[]).unwrap();
    assert!(matches!(entry.mode, Mode::Prot32 { eip: 0x20_002c, eax: 0x2bad_b002, .. }), "{entry:?}");
    assert_eq!(&ram.0[0x20_0000..0x20_0004], b"keep");
    assert_eq!((ram.0[0x20_002f], ram.0[0x20_0030]), (0xf4, 0));

    let damage = |fields: [u32; 5]| refusal(&[&multiboot_header(1 << 16, &fields)[..], &[0; 64]].concat());
    let at = 0x20_0000;
    assert!(damage([at, at + 4, 0, 0, at]).contains("behind its header"));
    assert!(damage([at + 64, at, 0, 0, at]).contains("before its first byte"));
    assert!(damage([at, at, at + 0x1000, 0, at]).contains("truncated"));
    assert!(damage([at, at, 0, 0, at - 1]).contains("entry point"));
    assert!(damage([0xffff_0000, 0xffff_0000, 0, 0xffff_ffff, 0xffff_0000]).contains("-m"));
    assert!(refusal(&multiboot_header(0x18, &[])).contains("no bzImage"));
    let strange = [&multiboot_header(1 << 16 | 8, &[at, at, 0, 0, at])[..], &[0; 64]].concat();
    assert!(refusal(&strange).contains("requires features 0x8"));
}

#[test]
fn plain_elf_starts_in_its_own_mode() {
    let part = [Part(LOAD, 0x40_0000, 0x40_0000, b"code", 0x1000)];
    let (entry, ram) = run(&elf(true, X86_64, 0x40_0002, &part), &[]).unwrap();
    let Mode::Long64 { rip: 0x40_0002, rsi, .. } = entry.mode else { panic!("{entry:?}") };
    assert_eq!(ram.text(ram.u32(rsi + 0x228).into()), "console=ttyS0");
    let (entry, ram) = run(&elf(false, I386, 0x40_0001, &part), &[]).unwrap();
    assert!(matches!(entry.mode, Mode::Prot32 { eip: 0x40_0001, eax: 0, ebx: 0, .. }), "{entry:?}");
    assert_eq!(&ram.0[0x40_0000..0x40_0005], b"code\0");
    // An entry point in high virtual or in physical memory means the same place.
    let high = [Part(LOAD, 0xffff_ffff_8040_0000, 0x40_0000, b"code", 0x1000)];
    for entry in [0xffff_ffff_8040_0003, 0x40_0003] {
        let (entry, _) = run(&elf(true, X86_64, entry, &high), &[]).unwrap();
        assert!(matches!(entry.mode, Mode::Long64 { rip: 0x40_0003, .. }), "{entry:?}");
    }
    // What was in memory before does not show through in the zeroed part.
    let map = pc_memory_map(8 * MIB as u64, 0);
    let mut ram = Ram(vec![0xcc; 8 * MIB]);
    load(Format::Elf64, &elf(true, X86_64, 0x40_0000, &part), &boot(&map), &mut ram).unwrap();
    assert_eq!((ram.0[0x40_0004], ram.0[0x40_0fff], ram.0[0x40_1000]), (0, 0, 0xcc));
}

#[test]
fn a_segment_of_headers_in_the_bios_area_is_left_out() {
    let headers_and_code =
        |size| [Part(LOAD, 0xf_f000, 0xf_f000, b"", size), Part(LOAD, 0x10_0000, 0x10_0000, b"hlt", 3)];
    // The first part's offset in the file is set to 0, so that it covers the headers.
    let image = |size: u32| {
        let mut image = elf(false, I386, 0x10_0000, &headers_and_code(u64::from(size)));
        put(&mut image, 52 + 4, &[0; 4]);
        put(&mut image, 52 + 16, &size.to_le_bytes());
        image
    };
    let (_, ram) = run(&image(52 + 64), &[]).unwrap();
    assert_eq!(&ram.0[0xf_f000..0xf_f004], [0; 4]);
    assert!(refusal(&image(52 + 64 + 1)).contains("segment 0 of the ELF image at 0xff000"));
}

#[test]
fn boot_data_keeps_away_from_low_segments() {
    let content = vec![0xab; 0x9_e000];
    let image = elf(true, X86_64, 0x1000, &[Part(LOAD, 0x1000, 0x1000, &content, content.len() as u64)]);
    let (entry, ram) = run(&image, &[]).unwrap();
    let Mode::Long64 { cr3, rsi, .. } = entry.mode else { panic!() };
    assert!(cr3 >= 0x10_0000 && rsi >= 0x10_0000 || cr3 >= 0x9_f000);
    assert!(ram.0[0x1000..0x9_f000].iter().all(|&byte| byte == 0xab));
}

#[test]
fn flat_binaries_need_an_address() {
    let map = pc_memory_map(2 * MIB as u64, 0);
    let start = |flat: Flat| load(Format::Flat(flat), b"\xf4", &boot(&map), &mut Ram::new(2 * MIB));
    assert_eq!(start(Flat::at(0x7c00)).unwrap().mode, Mode::Real16 { cs: 0, ip: 0x7c00 });
    assert_eq!(start(Flat::at(0x1_2345)).unwrap().mode, Mode::Real16 { cs: 0x1234, ip: 5 });
    assert!(matches!(start(Flat::at(0x10_0000)).unwrap().mode, Mode::Prot32 { eip: 0x10_0000, .. }));
    let long = Flat { address: 0x8000, mode: FlatMode::Long };
    assert!(matches!(start(long).unwrap().mode, Mode::Long64 { rip: 0x8000, .. }));
    assert!(start(Flat { address: 0x10_0000, mode: FlatMode::Real }).is_err());
    assert!(start(Flat::at(2 * MIB as u64)).unwrap_err().to_string().ends_with("-m"));
    assert!(start(Flat::at(u64::MAX)).is_err());
    let found = detect(b"\xf4", Some(Flat::at(0x7c00))).unwrap();
    assert_eq!(found.description, "flat binary of 1 bytes for 0x7c00, started in 16-bit mode");
}

#[test]
fn each_wrong_image_gets_its_own_clear_line() {
    let zeros = [0u8; 600];
    assert_eq!(refusal(b""), "the image is empty");
    assert!(refusal(&zeros).contains("give the load address if it is a flat binary"));
    assert!(refusal(b"\x1f\x8b\x08 and so on").contains("gzip-compressed; unpack it first"));
    assert!(refusal(b"QFI\xfb").contains("a qcow2 disk image; give it with --disk"));
    assert!(refusal(b"MZ\x90").contains("truncated kernel"));
    let whole = bzimage(0x5000);
    assert!(refusal(&whole[..0x210]).contains("the bzImage is truncated"));
    assert!(refusal(&whole[..0x4000]).contains("16384 bytes where at least 21489 are needed"));
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = bzimage(0x1000);
        put(&mut image, at, bytes);
        refusal(&image)
    };
    assert!(changed(0x206, &[1, 2]).contains("boot protocol 2.01 is older"));
    assert!(changed(0x211, &[0]).contains("zImage"));
    assert!(changed(0x260, &[0xff; 4]).contains("give the machine more with -m"));
    assert!(changed(0x258, &[0xff; 8]).contains("damaged"));
    assert!(changed(0x238, &[3, 0, 0, 0]).contains("13 bytes long; this kernel takes at most 3"));

    let part = |phys, size| [Part(LOAD, phys, phys, b"code", size)];
    let fine = elf(true, X86_64, 0x10_0000, &part(0x10_0000, 4));
    assert!(refusal(&elf(true, 183, 0, &part(0x10_0000, 4))).contains("an ELF program for 64-bit Arm"));
    assert!(refusal(&fine[..60]).contains("truncated: 60 bytes"));
    assert!(refusal(&fine[..100]).contains("truncated"));
    assert!(refusal(&fine[..fine.len() - 1]).contains("truncated"));
    assert!(refusal(&elf(true, X86_64, 0, &part(0x10_0000, 4))).contains("entry point 0x0 is in no segment"));
    let outside = refusal(&elf(true, X86_64, 0x4000_0000, &part(0x4000_0000, 4)));
    assert!(outside.contains("segment 0 of the ELF image at 0x40000000..0x40000004"), "{outside}");
    assert!(refusal(&elf(true, X86_64, 0xb_0000, &part(0xb_0000, 4))).contains("free memory"));
    assert!(refusal(&elf(true, X86_64, u64::MAX - 1, &part(u64::MAX - 1, 8))).contains("damaged"));
    assert!(
        refusal(&elf(true, X86_64, 0x10_0000, &part(0x10_0000, 3))).contains("4 bytes in the file and 3")
    );
    assert!(refusal(&elf(true, X86_64, 0, &[])).contains("nothing to load"));
    let twice = [Part(LOAD, 0, 0x10_0000, b"", 0x2000), Part(LOAD, 0x1000, 0x10_1000, b"", 0x1000)];
    assert!(refusal(&elf(true, X86_64, 0x10, &twice)).contains("segment 1 of the ELF image"));
    let interpreter = [Part(LOAD, 0, 0, b"", 0x2000), Part(3, 0, 0, b"ld.so", 5)];
    assert!(refusal(&elf(true, X86_64, 0, &interpreter)).contains("dynamically linked program"));
}

#[test]
fn files_that_are_no_images_are_told_apart() {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("calque-load-{}", std::process::id()));
    std::fs::write(&path, b"").unwrap();
    let error = |path: &Path| read(path, 1 << 20).unwrap_err().to_string();
    assert!(error(&path).ends_with("is empty"));
    std::fs::remove_file(&path).unwrap();
    assert!(error(&path).starts_with("no such file"));
    assert!(error(&folder).ends_with("is a directory, not an image"));
    #[cfg(unix)]
    assert!(error(Path::new("/dev/null")).ends_with("not a regular file"));
}

#[test]
fn a_command_line_cannot_be_cut_short() {
    let map = pc_memory_map(64 * MIB as u64, 0);
    let hidden = Boot { command_line: "a\0b", ..boot(&map) };
    let result = load(Format::BzImage, &bzimage(0x1000), &hidden, &mut Ram::new(64 * MIB));
    assert_eq!(result, Err(LoadError::CommandLineZero));
}

/// Kernels prepared for this user, if any.
fn cached_kernels() -> Vec<PathBuf> {
    let Ok(cache) = crate::guests::Cache::of_user() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(cache.root().join("debian")) else { return Vec::new() };
    entries.filter_map(|e| Some(e.ok()?.path().join("vmlinuz"))).filter(|path| path.is_file()).collect()
}

#[test]
fn debians_kernels_are_loaded() {
    let kernels = cached_kernels();
    if kernels.is_empty() {
        eprintln!("skipped: no Debian kernel in the cache; run the example prepare-debian");
    }
    for path in kernels {
        let image = read(&path, 4 << 30).unwrap();
        let found = detect(&image, None).unwrap();
        assert!(
            found.description.starts_with("Linux ") && found.description.contains("64-bit entry"),
            "{found:?}"
        );
        assert!(matches!(
            detect(&image[..image.len() / 2], None),
            Err(LoadError::Truncated { what: "bzImage", .. })
        ));
        let map = pc_memory_map(256 * MIB as u64, 0);
        let mut ram = Ram::new(256 * MIB);
        let entry = load(found.format, &image, &boot(&map), &mut ram).unwrap();
        assert!(matches!(entry.mode, Mode::Long64 { rip: 0x10_0200, .. }));
        assert!(load(found.format, &image, &boot(&pc_memory_map(16 * MIB as u64, 0)), &mut ram).is_err());
    }
}

/// Runs `check` on many variations of `image` with bytes of its first KiB replaced, always the same ones.
fn damage(image: &[u8], check: impl Fn(&[u8])) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner =
        TestRunner::new_with_rng(Config { cases: 4000, failure_persistence: None, ..Config::default() }, rng);
    let interesting = prop_oneof![any::<u8>(), prop::sample::select(&[0u8, 1, 0x7f, 0x80, 0xff][..]),];
    let edits = prop::collection::vec((0..image.len().min(1024), interesting), 1..12);
    let strategy = (edits, prop::option::weighted(0.2, 0..=image.len()));
    let outcome = runner.run(&strategy, |(edits, length)| {
        let mut bytes = image.to_vec();
        edits.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        check(&bytes[..length.unwrap_or(bytes.len())]);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn no_damage_to_headers_makes_a_loader_panic() {
    let note = pvh_note(0x10_0040);
    let code = [&multiboot_header(3, &[])[..], &[0x90; 64]].concat();
    let addresses = multiboot_header(1 << 16, &[0x20_0000, 0x20_0000, 0, 0, 0x20_0010]);
    let images = [
        bzimage(0x800),
        elf(true, X86_64, 0x10_0000, &[Part(LOAD, 0, 0x10_0000, &[1; 64], 128), Part(NOTE, 0, 0, &note, 9)]),
        elf(false, I386, 0x10_0000, &[Part(LOAD, 0x10_0000, 0x10_0000, &code, 0x2000)]),
        [&addresses[..], &[0x90; 64]].concat(),
    ];
    let map = pc_memory_map(32 * MIB as u64, 0);
    let modules = [Module { bytes: b"module", command_line: "module" }];
    let boot = Boot { modules: &modules, ..boot(&map) };
    let ram = std::cell::RefCell::new(Ram::new(32 * MIB));
    let formats = [Format::BzImage, Format::Pvh, Format::Multiboot, Format::Elf64, Format::Elf32];
    for image in &images {
        damage(image, |bytes| {
            if let Err(error) = detect(bytes, None) {
                assert!(!error.to_string().contains('\n'));
            }
            for format in formats {
                let _ = load(format, bytes, &boot, &mut *ram.borrow_mut());
            }
        });
    }
}
