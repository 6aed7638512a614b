//! REP MOVS and REP STOS as a whole, REPcc CMPS and SCAS but for the elements that make the flags, by a helper that works
//! on the guest's registers in the state.

use super::Codegen;
use super::asm::state;
use crate::helpers::Helper;
use crate::layout;
use emu_core::ir::{Inst, Type, Value};
use emu_core::state::gpr;

impl Codegen {
    /// REP MOVS and STOS; the value is whether they are done.
    pub fn rep_string(&mut self, me: Value, inst: &Inst) {
        self.rep_call(Helper::RepString, inst);
        let d = self.grab();
        self.asm.load(Type::I64, d, state(layout::slot(layout::RESULT)));
        self.set_temp(me, d, true);
    }

    /// Calls a helper that works on RCX, RSI and RDI.
    pub fn rep_call(&mut self, helper: Helper, inst: &Inst) {
        self.save_flags(false);
        for (n, &a) in inst.args[..2].iter().enumerate() {
            let m = state(layout::slot(layout::ARG + n));
            if a.is_some() {
                let r = self.reg(a);
                self.asm.store(Type::I64, m, r);
            } else {
                self.asm.store_imm(Type::I64, m, 0);
            }
        }
        self.asm.store_imm(Type::I32, state(layout::slot(layout::ARG + 2)), inst.aux as i32);
        for g in [gpr::RCX, gpr::RSI, gpr::RDI] {
            self.save_aliases(g as u8, Value::NONE);
        }
        self.call_thunk(helper);
    }
}
