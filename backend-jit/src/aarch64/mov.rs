//! Reads and writes of guest registers and state, extension and truncation, selection.

use super::asm::{Cond, ZR};
use super::mem::Stored;
use super::share::{At, Offset};
use super::vals::{GUEST, S0, S1, STATE, slot};
use super::{Codegen, Loc};
use crate::helpers::Helper;
use crate::layout;
use crate::regalloc::Hint;
use emu_core::ir::{Inst, Op, StateField, Type, Value, x87};
use emu_core::state::{CpuState, FpuState};
use std::mem::offset_of;

/// Whether an x87 operation on memory is FNSTCW, the one that needs nothing of the x87 but a word of the state.
pub fn stores_control(aux: u32) -> bool {
    (x87::escape(aux), x87::digit(aux)) == (0xd9, 7)
}

impl Codegen {
    pub fn get_reg(&mut self, me: Value, inst: &Inst) {
        self.set_guest(me, inst.imm as u8 & 15, inst.ty == Type::I64);
    }

    pub fn set_reg(&mut self, inst: &Inst) {
        let (g, v) = (inst.imm as u8 & 15, inst.args[0]);
        let to = GUEST[g as usize];
        let full = matches!(inst.ty, Type::I32 | Type::I64);
        if self.val[v.index()].loc == Loc::Guest(g) && (!full || self.is_clean(v)) {
            return;
        }
        self.save_aliases(g);
        if let Some(c) = self.constant(v) {
            match inst.ty {
                Type::I32 | Type::I64 => self.imm(to, c),
                Type::I16 => self.asm.movk(to, c as u16),
                _ if c == 0 => self.asm.bfi(true, to, ZR, 0, 8),
                _ => {
                    self.asm.mov_imm(S0, c);
                    self.asm.bfi(true, to, S0, 0, 8);
                }
            }
            return;
        }
        let from = self.reg(v);
        match inst.ty {
            Type::I64 => self.asm.mov(true, to, from),
            Type::I32 => self.asm.mov(false, to, from),
            ty => return self.asm.bfi(true, to, from, 0, ty.bits() as u8),
        }
        if self.lives(v) {
            self.set_guest(v, g, true);
        }
    }

    pub fn get_reg_hi(&mut self, me: Value, inst: &Inst) {
        let d = self.dest(me);
        self.asm.ubfx(false, d.reg, GUEST[inst.imm as usize & 3], 8, 8);
        self.finish(me, d, true);
    }

    pub fn set_reg_hi(&mut self, inst: &Inst) {
        let g = inst.imm as u8 & 3;
        self.save_aliases(g);
        let from = self.reg(inst.args[0]);
        self.asm.bfi(true, GUEST[g as usize], from, 8, 8);
    }

    pub fn get_state(&mut self, me: Value, inst: &Inst) {
        let Some(field) = StateField::from_number(inst.imm) else { return self.frame.fail("no such field") };
        let (at, ty) = field.place();
        let d = self.dest(me);
        if field == StateField::Mxcsr {
            self.read_mxcsr(d.reg, at);
        } else {
            self.asm.ldr(ty, d.reg, STATE, at);
        }
        self.finish(me, d, true);
    }

    pub fn code_word(&mut self, me: Value, inst: &Inst) {
        let at = self.frame.word_at(inst);
        let d = self.dest(me);
        self.asm.mov_imm(S0, at);
        self.asm.ldr(Type::I64, S1, STATE, slot(layout::RAM));
        self.asm.load_at(inst.ty, d.reg, S1, Offset::Reg(S0));
        self.finish(me, d, true);
    }

    pub fn set_state(&mut self, inst: &Inst) {
        let Some(field) = StateField::from_number(inst.imm) else { return self.frame.fail("no such field") };
        let (at, ty) = field.place();
        let r = self.reg(inst.args[0]);
        self.asm.str(ty, r, STATE, at);
    }

    /// Has loads go straight into the register that their zero-extension is bound for, though somebody else uses them, too: it
    /// is the same register then.
    pub fn bind_loads(&mut self) {
        for n in 0..self.insts.len() {
            let i = self.insts[n];
            let Hint::Full(g) = self.an.facts[n].hint else { continue };
            if i.op != Op::ZExt || !self.an.facts[n].needed {
                continue;
            }
            let a = i.args[0].index();
            let quiet = |j: usize| matches!(self.insts[j].op, Op::ZExt | Op::Const);
            if self.insts[a].op == Op::Load
                && self.insts[a].ty.is_int()
                && self.an.facts[a].hint == Hint::None
                && (a + 1..n).all(|j| quiet(j) || !self.an.facts[j].needed)
            {
                self.an.facts[a].hint = Hint::Full(g);
            }
        }
    }

    /// ZExt, from a truth value too.
    pub fn zext(&mut self, me: Value, inst: &Inst) {
        let a = inst.args[0];
        let ty = self.insts[a.index()].result();
        if let Loc::Cc(c) = self.val[a.index()].loc {
            let d = self.dest(me);
            self.asm.cset(d.reg, c);
            return self.finish(me, d, true);
        }
        if self.is_clean(a) && !matches!(self.val[a.index()].loc, Loc::None) {
            let bound = matches!(self.an.facts[me.index()].hint, Hint::Full(_));
            if !(bound && self.lives(a) && matches!(self.val[a.index()].loc, Loc::Temp(_))) {
                return self.share(me, a, true);
            }
            // Straight into the register.
            let d = self.dest(me);
            let r = self.reg(a);
            self.asm.mov(true, d.reg, r);
            return self.finish(me, d, true);
        }
        let d = self.dest(me);
        let r = self.reg(a);
        self.asm.zext(ty, d.reg, r);
        self.finish(me, d, true);
    }

    pub fn sext(&mut self, me: Value, inst: &Inst) {
        let from = self.insts[inst.args[0].index()].ty;
        let d = self.dest(me);
        let r = self.reg(inst.args[0]);
        self.asm.sext(from, inst.ty == Type::I64, d.reg, r);
        self.finish(me, d, Self::is_wide(inst.ty));
    }

    pub fn trunc(&mut self, me: Value, inst: &Inst) {
        let a = inst.args[0];
        if self.constant(a).is_some() {
            let d = self.dest(me);
            let c = self.constant(a).unwrap_or(0);
            self.asm.mov_imm(d.reg, inst.ty.truncate(c));
            return self.finish(me, d, true);
        }
        self.share(me, a, false);
    }

    /// b if a, else c.
    pub fn select(&mut self, me: Value, inst: &Inst) {
        let wide = inst.ty == Type::I64;
        let d = self.dest(me);
        let (b, c) = (self.reg(inst.args[1]), self.reg(inst.args[2]));
        let cond = self.condition(inst.args[0]);
        let clean = self.is_clean(inst.args[1]) && self.is_clean(inst.args[2]);
        self.asm.csel(wide, d.reg, b, c, cond);
        self.finish(me, d, clean || Self::is_wide(inst.ty));
    }

    /// The host's condition that says whether truth value `v` holds.
    pub fn condition(&mut self, v: Value) -> Cond {
        if let Loc::Cc(c) = self.val[v.index()].loc {
            return c;
        }
        let r = self.reg(v);
        self.save_flags();
        // A truth value's register is 0 or 1.
        self.asm.arith(false, true, true, ZR, r, ZR, 0);
        Cond::Ne
    }

    pub fn not_bool(&mut self, me: Value, inst: &Inst) {
        let c = self.condition(inst.args[0]);
        self.val[me.index()].loc = Loc::Cc(c.invert());
        self.bools.push(me);
    }

    /// FNSTCW.
    pub fn store_control(&mut self, inst: &Inst) {
        let a = self.reg(inst.args[0]);
        let v = self.temp();
        let at = offset_of!(CpuState, fpu) + offset_of!(FpuState, fcw);
        self.asm.ldr(Type::I16, v, STATE, at);
        // It names the access in its immediate.
        let access = Inst { aux: inst.imm as u32, ..*inst };
        let a = self.probe(&access, At::reg(a), 2, Helper::Store, Some(Stored::Reg(v)));
        self.storing();
        self.asm.store_at(Type::I16, v, S1, Offset::Reg(a));
    }

    /// Byte offset of the pointer to the translation cache.
    pub const TLB_AT: usize = offset_of!(CpuState, tlb);
}
