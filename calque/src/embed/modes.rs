//! The state that each mode starts from: flat segments, paging as the mode has it, everything enabled.

use emu_core::state::bits::{cr0, cr4, efer, rflags, xcr0};
use emu_core::state::segment::attr;
use emu_core::state::{CpuState, DescTable, SegReg};

/// What kind of code the processor starts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CpuMode {
    /// Real mode: 16 bits, physical addresses, no rights.
    Real16,
    /// 16-bit protected mode: segments with base 0 and limit FFFFh.
    Prot16,
    /// 32-bit protected mode: flat segments.
    Prot32,
    /// Virtual-8086 mode.
    V86,
    /// 64-bit code.
    Long64,
    /// 32-bit code in long mode.
    Compat32,
}

impl CpuMode {
    /// Every mode.
    pub const ALL: [CpuMode; 6] =
        [CpuMode::Real16, CpuMode::Prot16, CpuMode::Prot32, CpuMode::V86, CpuMode::Long64, CpuMode::Compat32];

    /// As `run-case` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            CpuMode::Real16 => "real16",
            CpuMode::Prot16 => "prot16",
            CpuMode::Prot32 => "prot32",
            CpuMode::V86 => "v86",
            CpuMode::Long64 => "long64",
            CpuMode::Compat32 => "compat32",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }

    /// The privilege levels that it has.
    pub const fn has_cpl(self, cpl: u8) -> bool {
        match self {
            CpuMode::Real16 => cpl == 0,
            CpuMode::V86 => cpl == 3,
            _ => cpl <= 3,
        }
    }

    /// The level it starts at if none is asked for.
    pub const fn default_cpl(self) -> u8 {
        match self {
            CpuMode::Real16 => 0,
            _ => 3,
        }
    }

    /// Whether long mode is active.
    pub const fn long(self) -> bool {
        matches!(self, CpuMode::Long64 | CpuMode::Compat32)
    }

    /// Segment values are paragraph numbers.
    pub const fn paragraphs(self) -> bool {
        matches!(self, CpuMode::Real16 | CpuMode::V86)
    }
}

/// The segment register that selector `sel` gives in modes whose segments are paragraphs.
pub(super) fn paragraph(mode: CpuMode, sel: u16, code: bool) -> SegReg {
    let kind = match (mode, code) {
        (CpuMode::V86, _) => 0xf3,
        (_, true) => 0x9b,
        _ => 0x93,
    };
    SegReg { sel, attr: kind, limit: 0xffff, base: u64::from(sel) << 4 }
}

/// The state of `mode` at privilege level `cpl`; CR3 is still to be set. `paging`: by tables of calque's own.
pub(super) fn initial(mode: CpuMode, cpl: u8, paging: bool) -> Box<CpuState> {
    let mut s = CpuState::reset();
    s.rip = 0;
    s.cr0 = cr0::ET | cr0::NE | cr0::MP;
    s.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::FSGSBASE;
    s.xcr0 = xcr0::X87 | xcr0::SSE;
    s.fpu.fcw = 0x37f;
    s.fpu.ftw = 0;
    s.gdtr = DescTable { base: 0, limit: 0 };
    s.idtr = DescTable { base: 0, limit: if mode == CpuMode::Real16 { 0x3ff } else { 0 } };
    s.efer = efer::SCE | efer::NXE;
    if mode != CpuMode::Real16 {
        s.cr0 |= cr0::PE | cr0::WP;
        if paging {
            s.cr0 |= cr0::PG;
            s.cr4 |= cr4::PAE;
        }
    }
    if mode.long() {
        s.cr0 |= cr0::PG;
        s.cr4 |= cr4::PAE;
        s.efer |= efer::LME | efer::LMA;
    }
    if mode == CpuMode::V86 {
        s.rflags |= rflags::VM;
    }
    let dpl = u16::from(cpl) << attr::DPL_SHIFT;
    for n in 0..6 {
        let code = n == 1;
        s.seg[n] = if mode.paragraphs() {
            paragraph(mode, 0, code)
        } else {
            let sel = if code { 0x08 } else { 0x10 } | u16::from(cpl);
            let kind = if code { 0x9b } else { 0x93 } | dpl;
            let (bits, limit) = match mode {
                CpuMode::Prot16 => (kind, 0xffff),
                CpuMode::Long64 if code => (kind | 0xa000, u32::MAX),
                _ => (kind | 0xc000, u32::MAX),
            };
            SegReg { sel, attr: bits, limit, base: 0 }
        };
    }
    if mode == CpuMode::Long64 {
        // As 64-bit systems leave them.
        for n in [0, 3, 4, 5] {
            s.seg[n].sel = 0;
        }
    }
    s
}
