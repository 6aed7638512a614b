//! Where the translation cache's set in force is found: in the state, and on hosts that let programs change it cheaply at
//! the base of GS, which nothing else uses there. That spares every look an addition from memory: four loads took 1.94
//! ns so and 2.59 with it.
//!
//! Invariant: in translated code GS leads to the set that [`CpuState::tlb`] names. It is brought up to date on the way in, after
//! helpers, and wherever translated code changes the set itself.

use super::Codegen;
use super::asm::{Alu, RCX, RDX, Reg, Rm, state};
use super::flags::E;
use crate::layout;
use dynasmrt::dynasm;
use emu_core::ir::Type;
use emu_core::state::CpuState;
use std::mem::offset_of;

/// Whether programs may change the base of GS here: Linux says so in bit 1 of AT_HWCAP2. Elsewhere GS has other uses.
#[cfg(target_os = "linux")]
pub fn possible() -> bool {
    rustix::param::linux_hwcap().1 & 2 != 0
}

/// Whether programs may change the base of GS here.
#[cfg(not(target_os = "linux"))]
pub fn possible() -> bool {
    false
}

impl Codegen {
    /// Makes GS lead to the set in force. Changes RCX, RDX and the flags. Reading the base is cheap, writing it is not.
    pub fn set_to_gs(&mut self) {
        if !self.gs {
            return;
        }
        self.asm.load(Type::I64, RCX, state(layout::field(offset_of!(CpuState, tlb))));
        dynasm!(self.asm; .arch x64; rdgsbase rdx);
        self.asm.alu(Type::I64, Alu::Cmp, RDX, Rm::R(RCX));
        let same = self.asm.jcc8(E);
        self.write_gs(RCX);
        self.asm.here8(same);
    }

    /// Makes GS lead to the set at the address in `r`, one of the first eight registers.
    pub fn write_gs(&mut self, r: Reg) {
        debug_assert!(r.0 < 8);
        if self.gs {
            // wrgsbase
            self.asm.buf.extend_from_slice(&[0xf3, 0x48, 0x0f, 0xae, 0xd8 | r.0]);
        }
    }
}
