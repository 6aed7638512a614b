//! Segment and alignment checks, changes of system state, and what else is done by a helper called in line.

use super::Codegen;
use super::asm::{Logic, ZR};
use super::mem::{Stub, StubKind};
use super::vals::{S0, S1, S2, STATE, TLB, TLB_WRITE, slot};
use crate::helpers::Helper;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, SystemKind, Type, Value};
use emu_core::mmu::tlb::TlbSet;
use emu_core::signals::{WORD_BEFORE, request};
use emu_core::state::bits::rflags;
use emu_core::state::{CpuState, Msrs, Seg, SegReg, gpr};
use std::mem::offset_of;

/// The cold half of STI, still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Withheld {
    cold: DynamicLabel,
    back: DynamicLabel,
}

impl Codegen {
    /// Calls a helper's thunk from the body of a block; its arguments are in place.
    fn call(&mut self, helper: Helper) {
        let site = self.site();
        self.thunk_call(helper, site);
        self.forget_bases();
    }

    pub fn result(&mut self, me: Value) {
        let d = self.dest(me);
        self.asm.ldr(Type::I64, d.reg, STATE, slot(layout::RESULT));
        self.finish(me, d, true);
    }

    pub fn seg_addr(&mut self, me: Value, inst: &Inst) {
        let a = self.reg(inst.args[0]);
        self.asm.str(Type::I64, a, STATE, slot(layout::ARG));
        self.asm.mov_imm(S0, inst.aux.into());
        self.asm.str(Type::I32, S0, STATE, slot(layout::ARG + 2));
        self.call(Helper::SegAddr);
        self.result(me);
    }

    pub fn check_align(&mut self, inst: &Inst) {
        if self.holds.is_aligned(self.at) {
            return;
        }
        let at = self.address(inst.args[0]);
        let a = self.sum_here(at, 0);
        self.asm.logic_imm(Logic::And, true, S0, a, inst.imm as u64 - 1);
        if let Some(careful) = self.way_to_careful() {
            return self.asm.cbz(true, true, S0, careful);
        }
        let label = self.asm.label();
        self.asm.cbz(true, true, S0, label);
        let site = self.site();
        self.stubs.push(Stub { label, resume: label, site, kind: StubKind::Raise(Helper::Misaligned) });
    }

    /// The time-stamp counter, by a helper, or IA32_TSC_AUX.
    pub fn read_tsc(&mut self, me: Value, inst: &Inst) {
        if inst.imm == 1 {
            let d = self.dest(me);
            let at = offset_of!(CpuState, msr) + offset_of!(Msrs, tsc_aux);
            self.asm.ldr(Type::I64, d.reg, STATE, at);
            return self.finish(me, d, true);
        }
        self.call(Helper::ReadTsc);
        self.result(me);
    }

    /// REP MOVS and REP STOS as a whole.
    pub fn rep_string(&mut self, me: Value, inst: &Inst) {
        self.rep_call(Helper::RepString, inst);
        let d = self.temp();
        self.asm.ldr(Type::I64, d, STATE, slot(layout::RESULT));
        self.set_temp(me, d, true);
    }

    /// Calls a helper that works on RCX, RSI and RDI.
    pub fn rep_call(&mut self, helper: Helper, inst: &Inst) {
        for (n, &a) in inst.args[..2].iter().enumerate() {
            let r = if a.is_some() { self.reg(a) } else { ZR };
            self.asm.str(Type::I64, r, STATE, slot(layout::ARG + n));
        }
        self.asm.mov_imm(S0, inst.aux.into());
        self.asm.str(Type::I32, S0, STATE, slot(layout::ARG + 2));
        for g in [gpr::RCX, gpr::RSI, gpr::RDI] {
            self.save_aliases(g as u8);
        }
        self.call(helper);
    }

    /// Loads the pointers to the translation cache in force, [`TLB`] being right.
    pub fn tlb_halves(&mut self) {
        self.asm.add_imm(true, TLB_WRITE, TLB, offset_of!(TlbSet, write) as u64);
    }

    /// See [`SystemKind`].
    pub fn system(&mut self, inst: &Inst) {
        let Some(kind) = SystemKind::from_number(inst.imm) else {
            return self.frame.fail("no such change of state");
        };
        let flags = offset_of!(CpuState, rflags);
        match kind {
            SystemKind::EnableInterrupts => {
                self.asm.ldr(Type::I64, S0, STATE, flags);
                self.asm.logic_imm(Logic::Orr, true, S0, S0, rflags::IF);
                self.asm.str(Type::I64, S0, STATE, flags);
                self.asm.ldr(Type::I8, S0, STATE, offset_of!(CpuState, intr_withheld));
                let (cold, back) = (self.asm.label(), self.asm.label());
                self.asm.cbz(true, false, S0, cold);
                self.asm.bind(back);
                self.withheld.push(Withheld { cold, back });
            }
            SystemKind::DisableInterrupts => {
                self.asm.ldr(Type::I64, S0, STATE, flags);
                self.asm.logic_imm(Logic::And, true, S0, S0, !rflags::IF);
                self.asm.str(Type::I64, S0, STATE, flags);
            }
            SystemKind::AllowUser | SystemKind::ForbidUser => {
                let allow = kind == SystemKind::AllowUser;
                let set = offset_of!(CpuState, tlb_super) + 8 * usize::from(allow);
                self.asm.ldr(Type::I64, TLB, STATE, set);
                self.asm.str(Type::I64, TLB, STATE, Self::TLB_AT);
                self.tlb_halves();
                self.close_window();
                self.asm.ldr(Type::I64, S0, STATE, flags);
                let (op, bits) = if allow { (Logic::Orr, rflags::AC) } else { (Logic::And, !rflags::AC) };
                self.asm.logic_imm(op, true, S0, S0, bits);
                self.asm.str(Type::I64, S0, STATE, flags);
            }
            SystemKind::SwapGs => {
                let gs = offset_of!(CpuState, seg) + Seg::GS as usize * size_of::<SegReg>();
                let base = gs + offset_of!(SegReg, base);
                let other = offset_of!(CpuState, msr) + offset_of!(Msrs, kernel_gs_base);
                self.asm.ldr(Type::I64, S0, STATE, base);
                self.asm.ldr(Type::I64, S1, STATE, other);
                self.asm.str(Type::I64, S0, STATE, other);
                self.asm.str(Type::I64, S1, STATE, base);
            }
        }
    }

    /// Signals withheld interrupts anew, out of line.
    pub fn emit_withheld(&mut self) {
        for Withheld { cold, back } in std::mem::take(&mut self.withheld) {
            self.asm.bind(cold);
            self.asm.str(Type::I8, ZR, STATE, offset_of!(CpuState, intr_withheld));
            let (again, word) = (self.asm.label(), S1);
            self.asm.arith_imm(true, true, false, word, STATE, WORD_BEFORE as u64);
            // The temporaries may all be in use: x0 makes room.
            self.asm.str(Type::I64, 0, STATE, slot(layout::SAVE0));
            self.asm.bind(again);
            self.asm.ldaxr(Type::I32, S0, word);
            self.asm.mov_imm(0, u64::from(request::INTR));
            self.asm.logic(Logic::Orr, false, S0, S0, 0, 0);
            self.asm.stlxr(Type::I32, S2, S0, word);
            self.asm.cbz(true, false, S2, again);
            self.asm.ldr(Type::I64, 0, STATE, slot(layout::SAVE0));
            self.asm.b(back);
        }
    }
}
