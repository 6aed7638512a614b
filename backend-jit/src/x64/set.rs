//! Where translated code finds the translation cache's set in force: in the state, and in user programs' code, on hosts that
//! let programs change it, at the base of GS, which nothing else uses there. That spares every look an addition from
//! memory: four loads took 1.94 ns so and 2.59 with it.
//!
//! Writing the base takes 14 ns. That is why the system's code, which changes sets with every entry and whenever it
//! reaches into a program's memory, goes by the state.
//!
//! Invariant: in code translated for CPL 3, GS leads to the set that [`CpuState::tlb`] names. It is brought up to date on the
//! way in and after helpers.

use super::Codegen;
use super::asm::{Alu, RCX, RDX, Rm, state};
use super::flags::{E, NE};
use crate::layout;
use dynasmrt::dynasm;
use emu_core::ir::Type;
use emu_core::state::{CpuState, Mode};
#[cfg(target_os = "linux")]
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::mem::offset_of;

/// Whether programs may change the base of GS here: the processor knows how (CPUID.7.0:EBX bit 0; Valgrind's does not), and
/// Linux lets them (AT_HWCAP2 bit 1). Elsewhere GS has other uses.
#[cfg(target_os = "linux")]
pub fn possible() -> bool {
    #[allow(unused_unsafe, reason = "safe in newer versions of Rust")]
    // SAFETY: every x86-64 processor has the instruction.
    let knows = unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 != 0 };
    knows && rustix::param::linux_hwcap().1 & 2 != 0
}

/// Whether programs may change the base of GS here.
#[cfg(not(target_os = "linux"))]
pub fn possible() -> bool {
    false
}

impl Codegen {
    /// Whether the block in hand finds the set by GS.
    pub fn by_gs(&self) -> bool {
        self.segment && self.frame.key.mode.cpl() == 3
    }

    /// Before an instruction with an operand in the set, if that is found by GS.
    pub fn in_set(&mut self) {
        if self.gs {
            self.asm.buf.push(0x65);
        }
    }

    /// Makes GS lead to the set in force at CPL 3. Changes RCX, RDX and the flags.
    pub fn update_gs(&mut self) {
        if !self.segment {
            return;
        }
        let mode = Rm::M(state(layout::field(offset_of!(CpuState, mode))));
        self.asm.zext(Type::I32, RCX, mode);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(RCX), Mode::CPL as i32);
        self.asm.alu_imm(Type::I32, Alu::Cmp, Rm::R(RCX), Mode::CPL as i32);
        let system = self.asm.jcc8(NE);
        self.asm.load(Type::I64, RCX, state(layout::field(offset_of!(CpuState, tlb))));
        dynasm!(self.asm; .arch x64; rdgsbase rdx);
        self.asm.alu(Type::I64, Alu::Cmp, RDX, Rm::R(RCX));
        let same = self.asm.jcc8(E);
        dynasm!(self.asm; .arch x64; wrgsbase rcx);
        self.asm.here8(same);
        self.asm.here8(system);
    }
}
