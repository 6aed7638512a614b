//! The places in which cases run: a mode each, with descriptor tables, handlers, page tables and a little memory.
//!
//! Guest-physical memory, mapped one to one:
//!
//! | From | What |
//! |---|---|
//! | 0 | interrupt vectors of real mode |
//! | 1000 | page tables, four pages, not mapped: when a change of them shows is up to the processor |
//! | 5000, 6000, 7000 | GDT, IDT, TSS |
//! | 8000 | handlers: HLT everywhere, so RIP tells the vector |
//! | 9000 | the kernel's stack |
//! | 10000 | code, four pages, HLT where the case has none |
//! | 20000 | data, eight pages whose rights the layout gives |
//! | 30000 | stack, two pages |
//!
//! The last page of every address space is data page 7, and in long mode all of it appears again in the upper half
//! and at the end of the lower half, so that the borders of the address space can be crossed.
//!
//! Layout: three bits for each data page (see `data_entry`); bit 24: code may be written; 25: CR0.WP clear; 26: SMEP
//! and SMAP; 27: the second code page is not present; 28: CR0.AM.

use super::rng::Rng;
use emu_core::features::{Features, leaf1_ecx};
use emu_core::state::bits::{cr0, cr4, efer, xcr0};
use emu_core::state::{CpuState, DescTable, Seg, SegReg};

/// Bytes of RAM.
pub const RAM: usize = 0x4_0000;
/// The first code page.
pub const CODE: u64 = 0x1_0000;
/// Bytes of code pages.
pub const CODE_LEN: u64 = 0x4000;
/// The first data page.
pub const DATA: u64 = 0x2_0000;
/// Bytes of data pages.
pub const DATA_LEN: u64 = 0x8000;
/// The first stack page.
pub const STACK: u64 = 0x3_0000;
/// Bytes of stack pages.
pub const STACK_LEN: u64 = 0x2000;

const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const TSS: u64 = 0x7000;
/// Eight bytes for each vector.
pub const HANDLERS: u64 = 0x8000;
const KERNEL_STACK: u64 = 0xa000;

/// How addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paging {
    /// Not at all.
    None,
    /// 32-bit tables.
    Legacy,
    /// PAE tables.
    Pae,
    /// Four levels.
    Long,
}

/// One mode to run in.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its name in case files.
    pub name: &'static str,
    /// Width of code.
    pub bits: u32,
    /// Paging.
    pub paging: Paging,
    /// Privilege level.
    pub cpl: u8,
    /// Selectors of ES, CS, SS, DS, FS, GS (segment values in real and virtual-8086 mode).
    pub sel: [u16; 6],
    /// Virtual-8086 mode.
    pub v86: bool,
    /// The host's processor can run it under Linux: user code with Linux's selectors, and nothing mapped but the case.
    pub native: bool,
}

const fn scene(name: &'static str, bits: u32, paging: Paging, cpl: u8, sel: [u16; 6]) -> Scene {
    Scene { name, bits, paging, cpl, sel, v86: false, native: false }
}

/// Every scene.
pub const SCENES: &[Scene] = &[
    scene("long64-user", 64, Paging::Long, 3, [0x23, 0x2b, 0x23, 0x23, 0, 0]),
    scene("long64-kernel", 64, Paging::Long, 0, [0x10, 0x08, 0x10, 0x10, 0, 0]),
    scene("compat32-user", 32, Paging::Long, 3, [0x23, 0x1b, 0x23, 0x23, 0xc3, 0x23]),
    scene("prot32-user", 32, Paging::Legacy, 3, [0x23, 0x1b, 0x23, 0x23, 0xc3, 0x23]),
    scene("prot32-kernel", 32, Paging::Pae, 0, [0x10, 0x30, 0x10, 0x10, 0xc3, 0x10]),
    scene("prot32-segments", 32, Paging::Pae, 3, [0x5b, 0x53, 0x63, 0x5b, 0x6b, 0x73]),
    scene("prot32-stack16", 32, Paging::Legacy, 0, [0x5b, 0xa0, 0xa8, 0x5b, 0x68, 0]),
    scene("prot16-user", 16, Paging::Pae, 3, [0x5b, 0x83, 0x8b, 0x5b, 0x6b, 0x23]),
    scene("prot16-kernel", 16, Paging::Legacy, 0, [0x5b, 0xb0, 0xa8, 0x5b, 0x68, 0x73]),
    scene("compat16-user", 16, Paging::Long, 3, [0x23, 0x83, 0x8b, 0x23, 0xc3, 0]),
    scene("real16", 16, Paging::None, 0, [0x2400, 0x1000, 0x3000, 0x2000, 0x2200, 0]),
    Scene {
        v86: true,
        ..scene("v86", 16, Paging::Legacy, 3, [0x2400, 0x1000, 0x3000, 0x2000, 0x2200, 0xffff])
    },
    Scene { native: true, ..scene("host64", 64, Paging::Long, 3, [0, 0x33, 0x2b, 0, 0, 0]) },
    Scene { native: true, ..scene("host32", 32, Paging::Long, 3, [0x2b, 0x23, 0x2b, 0x2b, 0, 0]) },
];

/// Descriptors as (selector, base, limit as stored, attributes).
const DESCRIPTORS: &[(u16, u64, u64, u16)] = &[
    (0x08, 0, 0xf_ffff, 0xa09b),
    (0x10, 0, 0xf_ffff, 0xc093),
    (0x18, 0, 0xf_ffff, 0xc0fb),
    (0x20, 0, 0xf_ffff, 0xc0f3),
    (0x28, 0, 0xf_ffff, 0xa0fb),
    (0x30, 0, 0xf_ffff, 0xc09b),
    (0x38, 0, 0xf_ffff, 0xc09f),
    (0x50, CODE, 0x2fff, 0x40fb),
    (0x58, DATA, 0x7fff, 0x40f3),
    (0x60, STACK, 0x1fff, 0x40f3),
    // Expand-down, read-only, not present.
    (0x68, DATA, 0x0fff, 0x40f7),
    (0x70, DATA, 0x7fff, 0x40f1),
    (0x78, DATA, 0x7fff, 0x4073),
    (0x80, CODE, 0xffff, 0x00fb),
    (0x88, STACK, 0xffff, 0x00f3),
    // Execute-only code.
    (0x90, CODE, 0xffff, 0x40f9),
    (0xa0, CODE, 0x2fff, 0x409b),
    (0xa8, STACK, 0xffff, 0x0093),
    (0xb0, CODE, 0xffff, 0x009b),
    (0xb8, DATA, 0x7fff, 0x0093),
    (0xc0, 0x1000, 0x3_ffff, 0x40f3),
];

fn descriptor(base: u64, limit: u64, attr: u16) -> u64 {
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | u64::from(attr & 0xff) << 40
        | (limit >> 16 & 15) << 48
        | u64::from(attr >> 12) << 52
        | (base >> 24 & 0xff) << 56
}

/// Writes bytes of the image.
fn put(image: &mut [u8], at: u64, bytes: &[u8]) {
    image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
}

fn put64(image: &mut [u8], at: u64, value: u64) {
    put(image, at, &value.to_le_bytes());
}

impl Scene {
    /// Whether no-execute exists.
    fn nx(&self) -> bool {
        matches!(self.paging, Paging::Long)
    }

    /// What lies in memory before a case is put there.
    pub fn image(&self, layout: u32) -> Vec<u8> {
        let mut image = vec![0; RAM];
        let mut rng = Rng::new(u64::from(layout));
        for page in [DATA..DATA + DATA_LEN, STACK..STACK + STACK_LEN] {
            for at in page.step_by(8) {
                let value = rng.lane();
                put64(&mut image, at, value);
            }
        }
        for at in (HANDLERS..HANDLERS + 0x1000).chain(CODE..CODE + 0x4000) {
            image[at as usize] = 0xf4;
        }
        for v in 0..256u64 {
            put(&mut image, v * 4, &((v as u32 * 8) | ((HANDLERS as u32 >> 4) << 16)).to_le_bytes());
        }
        for &(sel, base, limit, attr) in DESCRIPTORS {
            put64(&mut image, GDT + u64::from(sel), descriptor(base, limit, attr));
        }
        // Call gate, then the task register's descriptor.
        put64(&mut image, GDT + 0x98, 0x8e00 | 0x30 << 16 | 0xec00 << 32);
        put64(&mut image, GDT + 0x40, descriptor(TSS, 0x67, 0x8b));
        let long = self.paging == Paging::Long;
        for v in 0..256u64 {
            let dpl = if v == 3 || v == 4 || v >= 0x20 { 0x60 } else { 0 };
            let to = HANDLERS + v * 8;
            let selector = if long { 0x08 } else { 0x30 };
            let gate = to | selector << 16 | (0x8e | dpl) << 40 | u64::from(long) << 32;
            put64(&mut image, IDT + v * if long { 16 } else { 8 }, gate);
        }
        if long {
            put64(&mut image, TSS + 4, KERNEL_STACK);
            put64(&mut image, TSS + 0x24, KERNEL_STACK - 0x800);
        } else {
            put64(&mut image, TSS + 4, KERNEL_STACK | 0x10 << 32);
        }
        put(&mut image, TSS + 0x66, &[0x68, 0]);
        self.tables(&mut image, layout);
        image
    }

    fn tables(&self, image: &mut [u8], layout: u32) {
        let entry = |p: &mut Vec<(u64, u64)>, at: u64, v: u64| p.push((at, v));
        let mut list = Vec::new();
        let wide = self.paging != Paging::Legacy;
        for n in 0..64 {
            entry(&mut list, n, self.page_entry(n, layout));
        }
        let last = if wide { 511 } else { 1023 };
        if !self.native {
            entry(&mut list, last, self.page_entry(0x27, layout));
        }
        let size = if wide { 8 } else { 4 };
        for (n, v) in list {
            put(image, 0x4000 + n * size, &v.to_le_bytes()[..size as usize]);
        }
        match self.paging {
            Paging::None => {}
            Paging::Legacy => {
                for n in [0u64, 1023] {
                    put(image, 0x1000 + n * 4, &0x4067u32.to_le_bytes());
                }
            }
            Paging::Pae | Paging::Long => {
                let last = if self.native { 0 } else { 511 };
                for n in [0u64, last] {
                    put64(image, 0x3000 + n * 8, 0x4067);
                }
                let top = if self.paging == Paging::Pae { 3 } else { last };
                for n in [0u64, top] {
                    put64(image, 0x2000 + n * 8, if self.paging == Paging::Pae { 0x3001 } else { 0x3067 });
                }
                let tops: &[u64] = if self.native { &[0] } else { &[0, 255, 256, 511] };
                for &n in tops {
                    put64(image, 0x1000 + n * 8, 0x2067);
                }
            }
        }
    }

    fn page_entry(&self, page: u64, layout: u32) -> u64 {
        let user = if self.cpl == 3 { 4 } else { 0 };
        let nx = if self.nx() { 1 << 63 } else { 0 };
        let own = page << 12;
        if self.native {
            let rights = self.host_rights(own, layout);
            let bits = if rights & 2 != 0 { 0x67 } else { 0x65 };
            return if rights == 0 { 0 } else { own | bits | if rights & 4 != 0 { 0 } else { 1 << 63 } };
        }
        match page {
            0 | 5..=9 => own | 0x63,
            0x11 if layout & 1 << 27 != 0 => 0,
            0x10..=0x13 => own | 0x61 | user | if layout & 1 << 24 != 0 { 2 } else { 0 },
            0x20..=0x27 => self.data_entry(own, layout >> (3 * (page - 0x20)) & 7, user, nx),
            0x30 | 0x31 => own | 0x63 | user | nx,
            _ => 0,
        }
    }

    /// Rights of the page at `addr` in a native scene, as `mprotect` has them (read 1, write 2, execute 4).
    pub fn host_rights(&self, addr: u64, layout: u32) -> u64 {
        match addr >> 12 {
            0x11 if layout & 1 << 27 != 0 => 0,
            0x10..=0x13 => 7,
            page @ 0x20..=0x27 => match layout >> (3 * (page - 0x20)) & 7 {
                1 => 1,
                2 | 3 => 0,
                6 => 7,
                _ => 3,
            },
            0x30 | 0x31 => 3,
            _ => 0,
        }
    }

    /// 0 and 7: writable; 1: read-only; 2: not present; 3: of the other privilege; 4: not yet accessed or dirty; 5: a
    /// device; 6: writable and executable.
    fn data_entry(&self, own: u64, kind: u32, user: u64, nx: u64) -> u64 {
        match kind {
            1 => own | 0x61 | user | nx,
            2 => 0,
            3 => own | 0x63 | (4 - user) | nx,
            4 => own | 3 | user | nx,
            5 => 0x50_0063 | user | nx,
            6 => own | 0x63 | user,
            _ => own | 0x63 | user | nx,
        }
    }

    /// The processor's state before a case is put there.
    pub fn state(&self, layout: u32, image: &[u8]) -> Box<CpuState> {
        let mut s = CpuState::reset();
        let long = self.paging == Paging::Long;
        let has = |bit: u32| layout & 1 << bit != 0;
        s.gdtr = DescTable { base: GDT, limit: 0xc7 };
        s.idtr = DescTable { base: IDT, limit: if long { 0xfff } else { 0x7ff } };
        s.cr0 = cr0::ET | cr0::NE | cr0::MP;
        s.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::FSGSBASE;
        s.xcr0 = xcr0::X87 | xcr0::SSE;
        if Features::max().leaf1_ecx & leaf1_ecx::AVX != 0 {
            s.xcr0 |= xcr0::AVX;
        }
        if self.paging == Paging::None {
            s.idtr = DescTable { base: 0, limit: 0x3ff };
        } else {
            s.cr0 |= cr0::PE | cr0::PG;
            s.cr0 |= if has(25) { 0 } else { cr0::WP };
            s.cr0 |= if has(28) || self.native { cr0::AM } else { 0 };
            s.cr4 |= if has(26) && !self.native { cr4::SMEP | cr4::SMAP } else { 0 };
            s.cr3 = 0x1000;
        }
        if matches!(self.paging, Paging::Pae | Paging::Long) {
            s.cr4 |= cr4::PAE;
        }
        if self.paging == Paging::Pae {
            s.cr3 = 0x2000;
        }
        s.efer = efer::SCE | if long { efer::LME | efer::LMA | efer::NXE } else { 0 };
        for (seg, &sel) in s.seg.iter_mut().zip(&self.sel) {
            *seg = if self.v86 || self.paging == Paging::None {
                let attr = if self.v86 { 0xf3 } else { 0x93 };
                SegReg { sel, attr, limit: 0xffff, base: u64::from(sel) << 4 }
            } else if self.native && sel != 0 {
                let attr = if sel == 0x33 {
                    0xa0fb
                } else if sel == 0x23 {
                    0xc0fb
                } else {
                    0xc0f3
                };
                SegReg { sel, attr, limit: u32::MAX, base: 0 }
            } else if sel & !3 == 0 {
                SegReg::null(sel)
            } else {
                let at = GDT as usize + usize::from(sel & !7);
                let raw: [u8; 8] = image[at..at + 8].try_into().unwrap_or_default();
                SegReg::from_descriptor(sel, u64::from_le_bytes(raw))
            };
        }
        if self.bits == 64 && !self.native {
            s.seg[Seg::FS as usize].base = 0x1000;
            s.seg[Seg::GS as usize].base = 0xffff_8000_0000_0000;
        }
        // Linux gives user code no ports: a task state segment without room for their bitmap.
        let limit = if self.native { 0x66 } else { 0x67 };
        s.tr = SegReg { sel: 0x40, attr: 0x8b, limit, base: TSS };
        s.msr.star = 0x18 << 48 | 0x08 << 32;
        s.msr.lstar = HANDLERS + 0xc00;
        s.msr.cstar = HANDLERS + 0xc00;
        s.msr.fmask = 0x200;
        s.msr.kernel_gs_base = 0x2000;
        s.msr.sysenter_cs = 0x08;
        s.msr.sysenter_eip = HANDLERS + 0xd00;
        s.msr.sysenter_esp = KERNEL_STACK;
        s
    }

    /// Base of a segment at the start.
    pub fn base(&self, seg: Seg) -> u64 {
        let sel = self.sel[seg as usize];
        if self.v86 || self.paging == Paging::None {
            return u64::from(sel) << 4;
        }
        DESCRIPTORS.iter().find(|d| d.0 == sel & !7).map_or(0, |d| d.1)
    }
}
