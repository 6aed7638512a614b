//! The mode bits that change what an instruction means or may do: part of every block key.

use super::CpuState;
use super::bits::{cr0, cr4, rflags, xcr0};
use super::segment::{Seg, attr};

/// Everything besides the address that decides how code is decoded and translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Mode(pub u32);

impl Mode {
    /// Bits 1-0: the current privilege level.
    pub const CPL: u32 = 3;
    /// 64-bit code.
    pub const CODE64: u32 = 1 << 2;
    /// Default operand and address size 32 (CS.D); neither this nor `CODE64` means 16-bit code.
    pub const CODE32: u32 = 1 << 3;
    /// 32-bit stack pointer (SS.B); in 64-bit code the stack is always 64 bits wide and this is set.
    pub const STACK32: u32 = 1 << 4;
    /// Protected mode (CR0.PE) and not virtual-8086.
    pub const PROT: u32 = 1 << 5;
    /// Virtual-8086 mode.
    pub const V86: u32 = 1 << 6;
    /// EFER.LMA: long mode is active (64-bit or compatibility code).
    pub const LMA: u32 = 1 << 7;
    /// CS, SS, DS and ES have base 0 and limit 4 GiB and are usable for what their names say (always in 64-bit
    /// code): no segment check or base is needed. FS and GS never profit.
    pub const FLAT: u32 = 1 << 8;
    /// EFLAGS.TF, or an enabled breakpoint in DR7: translated code is not used.
    pub const STEP: u32 = 1 << 9;
    /// x87 instructions raise #NM or are emulated (CR0.TS or EM).
    pub const NO_FPU: u32 = 1 << 10;
    /// SSE instructions raise #NM or #UD (TS, EM, or OSFXSR clear).
    pub const NO_SSE: u32 = 1 << 11;
    /// AVX instructions raise #NM or #UD.
    pub const NO_AVX: u32 = 1 << 12;
    /// MXCSR unmasks an exception, so that packed and scalar arithmetic may raise #XM.
    pub const FP_UNMASKED: u32 = 1 << 13;
    /// Alignment checking is in force (CR0.AM, EFLAGS.AC, CPL 3).
    pub const ALIGN: u32 = 1 << 14;
    /// IOPL allows IN, OUT, CLI and STI at this CPL.
    pub const IOPL_OK: u32 = 1 << 15;
    /// In system-management mode.
    pub const SMM: u32 = 1 << 16;

    /// Whether all of `bits` are set.
    #[inline(always)]
    pub const fn contains(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// The privilege level.
    #[inline(always)]
    pub const fn cpl(self) -> u8 {
        (self.0 & Self::CPL) as u8
    }

    /// Bits of code: 16, 32 or 64.
    pub const fn code_bits(self) -> u32 {
        if self.contains(Self::CODE64) {
            64
        } else if self.contains(Self::CODE32) {
            32
        } else {
            16
        }
    }
}

impl CpuState {
    /// Derives [`CpuState::mode`] anew. To be called after any change of CR0, CR4, EFER, XCR0, a segment register,
    /// DR7, MXCSR masks, or the TF, VM, AC and IOPL flags.
    pub fn update_mode(&mut self) {
        let cs = &self.seg[Seg::CS as usize];
        let ss = &self.seg[Seg::SS as usize];
        let mut m = 0;
        let pe = self.cr0 & cr0::PE != 0;
        let vm = pe && self.rflags & rflags::VM != 0;
        let lma = self.long_mode();
        let cpl = match (pe, vm) {
            (false, _) => 0,
            (_, true) => 3,
            _ => u32::from(ss.dpl()),
        };
        let code64 = lma && cs.attr & attr::L != 0;
        let mut set = |on: bool, bit: u32| m |= if on { bit } else { 0 };
        set(code64, Mode::CODE64);
        set(!code64 && cs.attr & attr::DB != 0, Mode::CODE32);
        set(code64 || ss.attr & attr::DB != 0, Mode::STACK32);
        set(pe && !vm, Mode::PROT);
        set(vm, Mode::V86);
        set(lma, Mode::LMA);
        set(code64 || self.is_flat(), Mode::FLAT);
        let ts_em = self.cr0 & (cr0::TS | cr0::EM) != 0;
        set(ts_em, Mode::NO_FPU);
        set(ts_em || self.cr4 & cr4::OSFXSR == 0, Mode::NO_SSE);
        let avx = xcr0::SSE | xcr0::AVX;
        set(
            self.cr0 & cr0::TS != 0 || self.cr4 & cr4::OSXSAVE == 0 || self.xcr0 & avx != avx || !pe || vm,
            Mode::NO_AVX,
        );
        set(self.mxcsr >> 7 & 0x3f != 0x3f, Mode::FP_UNMASKED);
        set(self.smm, Mode::SMM);
        self.mode = Mode(m | self.by_privilege(pe, vm, cpl));
    }

    /// The bits of the mode that hang on the privilege level and on flags.
    fn by_privilege(&self, pe: bool, vm: bool, cpl: u32) -> u32 {
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let iopl = (self.rflags & rflags::IOPL) >> rflags::IOPL_SHIFT;
        cpl | bit(self.rflags & rflags::TF != 0 || self.dr[7] & 0xff != 0, Mode::STEP)
            | bit(self.cr0 & cr0::AM != 0 && self.rflags & rflags::AC != 0 && cpl == 3, Mode::ALIGN)
            | bit(!pe || (!vm && u64::from(cpl) <= iopl), Mode::IOPL_OK)
    }

    /// [`CpuState::update_mode`] where 64-bit code has given way to 64-bit code, with other privilege and flags, and
    /// nothing else that it looks at has changed.
    pub fn update_privilege(&mut self) {
        let cpl = u32::from(self.seg[Seg::SS as usize].dpl());
        let kept = self.mode.0 & !(Mode::CPL | Mode::STEP | Mode::ALIGN | Mode::IOPL_OK);
        let m = kept | self.by_privilege(true, false, cpl);
        self.mode = Mode(m);
        debug_assert!(
            {
                self.update_mode();
                self.mode.0 == m
            },
            "more than privilege has changed"
        );
    }

    fn is_flat(&self) -> bool {
        let flat = |s: Seg, need: u16| {
            let r = &self.seg[s as usize];
            let down = r.attr & (attr::CODE | attr::EC) == attr::EC;
            r.base == 0 && r.limit == u32::MAX && r.attr & need == need && !down
        };
        let data = attr::P | attr::S | attr::RW;
        self.cr0 & cr0::PE != 0
            && flat(Seg::CS, data | attr::CODE)
            && [Seg::SS, Seg::DS, Seg::ES]
                .iter()
                .all(|&s| flat(s, data) && self.seg[s as usize].attr & attr::CODE == 0)
    }
}
