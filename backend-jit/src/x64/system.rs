//! Segment and alignment checks.

use super::asm::{Rm, state};
use super::{Codegen, Owner};
use crate::helpers::Helper;
use crate::layout;
use emu_core::ir::{Inst, Type, Value};

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
        let site = self.site();
        let live = self.live_xmm();
        self.save_live_xmm(live, true);
        self.asm.store_imm(Type::I32, state(layout::slot(layout::SITE)), site as i32);
        self.asm.call_abs(self.thunks[helper as usize]);
        self.save_live_xmm(live, false);
    }

    pub fn seg_addr(&mut self, me: Value, inst: &Inst) {
        self.call(Helper::SegAddr, inst.args[0], inst.aux);
        let d = self.grab();
        self.asm.load(Type::I64, d, state(layout::slot(layout::RESULT)));
        self.set_temp(me, d, true);
    }

    pub fn check_align(&mut self, inst: &Inst) {
        // Aligned almost always: test here, raise in the helper.
        self.save_flags(false);
        let mask = (inst.imm - 1) as i32;
        let r = self.reg(inst.args[0]);
        self.asm.test_imm(Type::I32, Rm::R(r), mask);
        let fine = self.asm.jcc8(super::flags::E);
        // The helper does not come back.
        let site = self.site();
        self.asm.store_imm(Type::I32, state(layout::slot(layout::SITE)), site as i32);
        self.asm.call_abs(self.thunks[Helper::Misaligned as usize]);
        self.asm.here8(fine);
        debug_assert!(self.owner.iter().all(|o| *o != Owner::Val(Value::NONE)));
    }
}
