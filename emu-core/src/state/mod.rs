//! The architectural state of one processor.
//!
//! The layout is `repr(C)` because translated code addresses fields by offset (`core::mem::offset_of!`). Everything
//! the guest can observe is here or behind [`crate::bus::CpuInterrupts`]; nothing here is a cache except
//! [`CpuState::mode`], which [`CpuState::update_mode`] derives from the rest.

pub mod bits;
pub mod mode;
pub mod segment;

use crate::addr::is_canonical;
use crate::softfloat::F80;
pub use mode::Mode;
pub use segment::{DescTable, Seg, SegReg};

/// Index of a general register in [`CpuState::gpr`], numbered as instructions encode them.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod gpr {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
}

/// One vector register: 512 bits as eight little-endian quadwords, so XMM is `.0[..2]` and YMM `.0[..4]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(64))]
pub struct VecReg(pub [u64; 8]);

impl VecReg {
    /// The low 128 bits.
    #[inline(always)]
    pub const fn xmm(&self) -> u128 {
        self.0[0] as u128 | (self.0[1] as u128) << 64
    }

    /// Replaces the low 128 bits and keeps the rest, as legacy SSE instructions do.
    #[inline(always)]
    pub const fn set_xmm(&mut self, value: u128) {
        self.0[0] = value as u64;
        self.0[1] = (value >> 64) as u64;
    }
}

/// x87 state (SDM vol. 1, 8.1). `st[i]` is *physical* register i; ST(n) is `st[(top + n) & 7]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FpuState {
    /// Physical registers R0-R7; MMX registers alias the significands.
    pub st: [F80; 8],
    /// Control word.
    pub fcw: u16,
    /// Status word, TOP in bits 13-11 included.
    pub fsw: u16,
    /// Abridged tag word: bit i set means physical register i is not empty (FXSAVE form).
    pub ftw: u8,
    /// Last opcode, 11 bits.
    pub fop: u16,
    /// Last instruction pointer.
    pub fip: u64,
    /// Last instruction's CS (16- and 32-bit save formats).
    pub fcs: u16,
    /// Last operand pointer.
    pub fdp: u64,
    /// Last operand's segment.
    pub fds: u16,
}

/// Whether the processor executes instructions (SDM vol. 3A, 24.4.2 uses the same names).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Activity {
    /// Executing instructions.
    #[default]
    Active,
    /// After HLT (or MWAIT): waits for an interrupt.
    Halted,
    /// After a triple fault.
    Shutdown,
    /// An application processor before its start-up IPI.
    WaitForSipi,
}

/// Model-specific registers that are plain storage or drive other state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's")]
#[repr(C)]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub tsc_aux: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub spec_ctrl: u64,
    pub xss: u64,
    pub debugctl: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    pub mtrr_base: [u64; 8],
    pub mtrr_mask: [u64; 8],
    pub smbase: u64,
    pub kvm_system_time: u64,
    pub kvm_wall_clock: u64,
    pub kvm_poll_control: u64,
    /// Added to the machine clock (in ticks of `clock::TSC_HZ`) to give the TSC.
    pub tsc_offset: u64,
    pub tsc_adjust: u64,
}

/// The architectural state of one processor.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct CpuState {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8-R15.
    pub gpr: [u64; 16],
    /// Instruction pointer (an offset in CS; zero-extended outside 64-bit code).
    pub rip: u64,
    /// RFLAGS, complete whenever control is outside translated code; bit 1 is always set.
    pub rflags: u64,
    /// Derived from the rest by [`CpuState::update_mode`]; part of every block key.
    pub mode: Mode,
    /// Interrupt shadow after STI, MOV SS and POP SS: interrupts wait for one instruction. See [`bits::shadow`].
    pub shadow: u8,
    /// Whether instructions are being executed.
    pub activity: Activity,
    /// NMIs are blocked until the next IRET.
    pub nmi_blocked: bool,
    /// An NMI came while they were blocked: the next IRET signals it anew.
    pub nmi_latched: bool,
    /// In system-management mode.
    pub smm: bool,
    /// An SMI came in system-management mode: RSM signals it anew.
    pub smi_latched: bool,
    /// Instructions completed since power-on.
    pub icount: u64,
    /// Current inline translation cache, for translated code: see `mmu::tlb`.
    pub tlb: *mut crate::mmu::tlb::TlbSet,
    /// Free for the code generator: lazy flags, spills, exit information. Nothing here outlives a return from it.
    pub scratch: [u64; 96],
    /// Segment registers by [`Seg`] number: ES, CS, SS, DS, FS, GS.
    pub seg: [SegReg; 6],
    /// Local descriptor table register.
    pub ldtr: SegReg,
    /// Task register.
    pub tr: SegReg,
    /// Global descriptor table register.
    pub gdtr: DescTable,
    /// Interrupt descriptor table register.
    pub idtr: DescTable,
    /// CR0.
    pub cr0: u64,
    /// CR2: the last page-fault address.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Protection-key rights for user pages.
    pub pkru: u32,
    /// SSE control and status.
    pub mxcsr: u32,
    /// DR0-DR7 (4 and 5 unused).
    pub dr: [u64; 8],
    /// x87 and MMX.
    pub fpu: FpuState,
    /// Vector registers; 0-15 reachable before AVX-512.
    pub vec: [VecReg; 32],
    /// AVX-512 mask registers (room for a later step).
    pub opmask: [u64; 8],
    /// Model-specific registers.
    pub msr: Msrs,
    /// An interrupt request has been taken from the signal word and could not be delivered: enabling interrupts
    /// signals it anew.
    pub intr_withheld: bool,
    /// The current space's translation caches for supervisor code, without and with EFLAGS.AC: what
    /// [`CpuState::tlb`] is set to by CLAC and STAC.
    pub tlb_super: [*mut crate::mmu::tlb::TlbSet; 2],
}

// SAFETY: the raw pointers name translation caches that the same vCPU owns (`Cpu::mmu`), and are only followed by the
// thread that runs the vCPU.
unsafe impl Send for CpuState {}

impl CpuState {
    /// State after power-on or RESET (SDM vol. 3A, table 10-1), for a bootstrap processor.
    pub fn reset() -> Box<Self> {
        let code = SegReg { sel: 0xf000, attr: 0x9b, limit: 0xffff, base: 0xffff_0000 };
        let data = SegReg { sel: 0, attr: 0x93, limit: 0xffff, base: 0 };
        let mut s = Box::new(Self {
            gpr: [0; 16],
            rip: 0xfff0,
            rflags: 2,
            mode: Mode::default(),
            shadow: 0,
            activity: Activity::Active,
            nmi_blocked: false,
            nmi_latched: false,
            smm: false,
            smi_latched: false,
            icount: 0,
            tlb: std::ptr::null_mut(),
            scratch: [0; 96],
            seg: [data, code, data, data, data, data],
            ldtr: SegReg { sel: 0, attr: 0x82, limit: 0xffff, base: 0 },
            tr: SegReg { sel: 0, attr: 0x8b, limit: 0xffff, base: 0 },
            gdtr: DescTable { base: 0, limit: 0xffff },
            idtr: DescTable { base: 0, limit: 0xffff },
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            pkru: 0,
            mxcsr: 0x1f80,
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            fpu: FpuState {
                st: [F80::default(); 8],
                fcw: 0x40,
                fsw: 0,
                ftw: 0xff,
                fop: 0,
                fip: 0,
                fcs: 0,
                fdp: 0,
                fds: 0,
            },
            vec: [VecReg::default(); 32],
            opmask: [0; 8],
            msr: Msrs::reset(),
            intr_withheld: false,
            tlb_super: [std::ptr::null_mut(); 2],
        });
        s.update_mode();
        s
    }

    /// Current privilege level: SS.DPL, and 0 in real mode, 3 in virtual-8086 mode.
    #[inline(always)]
    pub fn cpl(&self) -> u8 {
        self.mode.cpl()
    }

    /// In 64-bit code (not compatibility mode).
    #[inline(always)]
    pub fn is_long64(&self) -> bool {
        self.mode.contains(Mode::CODE64)
    }

    /// IA32_EFER.LMA: long mode active.
    #[inline(always)]
    pub fn long_mode(&self) -> bool {
        self.efer & bits::efer::LMA != 0
    }

    /// Whether `lin` is canonical in long mode: its bits from 47 up, or with CR4.LA57 from 56 up, are all the same.
    #[inline]
    pub fn is_canonical(&self, lin: u64) -> bool {
        is_canonical(lin, if self.cr4 & bits::cr4::LA57 != 0 { 57 } else { 48 })
    }

    /// CR0.PE is clear.
    #[inline(always)]
    pub fn real_mode(&self) -> bool {
        self.cr0 & bits::cr0::PE == 0
    }

    /// EFLAGS.VM is set.
    #[inline(always)]
    pub fn v86(&self) -> bool {
        self.rflags & bits::rflags::VM != 0
    }
}

impl Msrs {
    /// Values after RESET.
    pub fn reset() -> Self {
        Self {
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            tsc_aux: 0,
            pat: 0x0007_0406_0007_0406,
            misc_enable: 1,
            spec_ctrl: 0,
            xss: 0,
            debugctl: 0,
            mtrr_def_type: 0,
            mtrr_fixed: [0; 11],
            mtrr_base: [0; 8],
            mtrr_mask: [0; 8],
            smbase: 0x30000,
            kvm_system_time: 0,
            kvm_wall_clock: 0,
            kvm_poll_control: 1,
            tsc_offset: 0,
            tsc_adjust: 0,
        }
    }
}
