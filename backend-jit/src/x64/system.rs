//! Segment and alignment checks, and changes of system state.

use super::asm::{Alu, Rm, state};
use super::flags::NE;
use super::{Codegen, Owner};
use crate::helpers::Helper;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, SystemKind, Type, Value};
use emu_core::signals::request;
use emu_core::state::bits::rflags;
use emu_core::state::{CpuState, Msrs, Seg, SegReg};
use std::mem::offset_of;

/// The cold half of STI, still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Withheld {
    cold: DynamicLabel,
    back: DynamicLabel,
}

impl Codegen {
    /// Calls a helper in line: argument 0 is `a`, argument 2 the auxiliary.
    fn call(&mut self, helper: Helper, a: Value, aux: u32) {
        self.save_flags(false);
        let arg = |n: usize| state(layout::slot(layout::ARG + n));
        let r = self.reg(a);
        self.asm.store(Type::I64, arg(0), r);
        self.asm.store_imm(Type::I32, arg(2), aux as i32);
        self.call_thunk(helper);
    }

    /// Calls a helper's thunk from the body of a block; its arguments are in place.
    pub fn call_thunk(&mut self, helper: Helper) {
        self.distrust();
        let site = self.site();
        let live = self.live_xmm();
        self.save_live_xmm(live, true);
        self.say_site(site);
        self.asm.call_abs(self.thunks[helper as usize]);
        self.save_live_xmm(live, false);
    }

    pub fn seg_addr(&mut self, me: Value, inst: &Inst) {
        self.call(Helper::SegAddr, inst.args[0], inst.aux);
        let d = self.grab();
        self.asm.load(Type::I64, d, state(layout::slot(layout::RESULT)));
        self.set_temp(me, d, true);
    }

    /// See [`SystemKind`].
    pub fn system(&mut self, inst: &Inst) {
        let Some(kind) = SystemKind::from_number(inst.imm) else {
            return self.frame.fail("no such change of state");
        };
        self.save_flags(false);
        let flags = Rm::M(state(layout::field(offset_of!(CpuState, rflags))));
        let set = |n: usize| state(layout::field(offset_of!(CpuState, tlb_super) + 8 * n));
        let tlb = state(layout::field(offset_of!(CpuState, tlb)));
        match kind {
            SystemKind::EnableInterrupts => {
                self.asm.alu_imm(Type::I32, Alu::Or, flags, rflags::IF as i32);
                let withheld = Rm::M(state(layout::field(offset_of!(CpuState, intr_withheld))));
                self.asm.alu_imm(Type::I8, Alu::Cmp, withheld, 0);
                let (cold, back) = (self.asm.label(), self.asm.label());
                self.asm.jcc(NE, cold);
                self.asm.bind(back);
                self.withheld.push(Withheld { cold, back });
            }
            SystemKind::DisableInterrupts => {
                self.asm.alu_imm(Type::I32, Alu::And, flags, !(rflags::IF as i32));
            }
            SystemKind::AllowUser | SystemKind::ForbidUser => {
                let allow = kind == SystemKind::AllowUser;
                let r = self.grab();
                self.asm.load(Type::I64, r, set(usize::from(allow)));
                self.asm.store(Type::I64, tlb, r);
                self.drop_temp(r);
                self.close_window();
                let ac = rflags::AC as i32;
                let (op, bits) = if allow { (Alu::Or, ac) } else { (Alu::And, !ac) };
                self.asm.alu_imm(Type::I32, op, flags, bits);
            }
            SystemKind::SwapGs => {
                let gs = offset_of!(CpuState, seg) + Seg::GS as usize * size_of::<SegReg>();
                let base = state(layout::field(gs + offset_of!(SegReg, base)));
                let other = offset_of!(CpuState, msr) + offset_of!(Msrs, kernel_gs_base);
                let other = state(layout::field(other));
                let a = self.grab();
                self.lock(a);
                let b = self.grab();
                self.asm.load(Type::I64, a, base);
                self.asm.load(Type::I64, b, other);
                self.asm.store(Type::I64, other, a);
                self.asm.store(Type::I64, base, b);
                self.unlock(a);
                self.drop_temp(a);
                self.drop_temp(b);
            }
        }
    }

    /// Signals withheld interrupts anew, out of line.
    pub fn emit_withheld(&mut self) {
        for Withheld { cold, back } in std::mem::take(&mut self.withheld) {
            self.asm.bind(cold);
            self.asm.buf.push(0xf0); // lock
            self.asm.alu_imm(Type::I32, Alu::Or, Rm::M(state(layout::WORD)), request::INTR as i32);
            self.asm.store_imm(Type::I64, state(layout::MARK), -1);
            let withheld = state(layout::field(offset_of!(CpuState, intr_withheld)));
            self.asm.store_imm(Type::I8, withheld, 0);
            self.asm.jmp(back);
        }
    }

    /// The time-stamp counter, by a helper, or IA32_TSC_AUX.
    pub fn read_tsc(&mut self, me: Value, inst: &Inst) {
        let from = if inst.imm == 1 {
            state(layout::field(offset_of!(CpuState, msr) + offset_of!(Msrs, tsc_aux)))
        } else {
            self.save_flags(false);
            self.call_thunk(Helper::ReadTsc);
            state(layout::slot(layout::RESULT))
        };
        let d = self.grab();
        self.asm.load(Type::I64, d, from);
        self.set_temp(me, d, true);
    }

    pub fn check_align(&mut self, inst: &Inst) {
        // Aligned almost always: test here, raise in the helper.
        if self.holds.is_aligned(self.at) {
            return;
        }
        self.save_flags(false);
        let mask = (inst.imm - 1) as i32;
        let r = self.address_reg(inst.args[0]);
        self.asm.test_imm(Type::I32, Rm::R(r), mask);
        let fine = self.asm.jcc8(super::flags::E);
        // The helper does not come back.
        let site = self.site();
        self.say_site(site);
        self.asm.call_abs(self.thunks[Helper::Misaligned as usize]);
        self.asm.here8(fine);
        debug_assert!(self.owner.iter().all(|o| *o != Owner::Val(Value::NONE)));
    }
}
