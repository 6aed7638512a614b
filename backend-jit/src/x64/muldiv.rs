//! Multiplication and division. A product's two halves, and a quotient with its remainder, are made together.

use super::asm::{Alu, RAX, RCX, RDX, Rm, Shift, state};
use super::flags::{E, NE};
use super::mem::StubKind;
use super::{Codegen, Loc};
use crate::layout;
use crate::sidetable::Place;
use dynasmrt::dynasm;
use emu_core::ir::{Cc, Inst, Op, Type, Value};

impl Codegen {
    /// The other half of a pair that `me` computes too: an op of kind `op` on the same operands, further on.
    fn partner(&self, me: Value, inst: &Inst, ops: &[Op]) -> Option<Value> {
        (me.index() + 1..self.insts.len().min(me.index() + 6))
            .find(|&j| {
                let o = &self.insts[j];
                ops.contains(&o.op) && o.args == inst.args && o.ty == inst.ty && self.an.facts[j].needed
            })
            .map(|j| Value(j as u32))
    }

    pub fn mul(&mut self, me: Value, inst: &Inst) {
        // Alone, a low half's flags tell signed overflow, which an unsigned product does not.
        let highs: &[Op] =
            if self.an.facts[me.index()].mask == 0 { &[Op::MulHiU, Op::MulHiS] } else { &[Op::MulHiS] };
        if let Some(high) = self.partner(me, inst, highs) {
            let op = self.insts[high.index()].op;
            let flags = self.an.facts[me.index()].mask | self.an.facts[high.index()].mask;
            if self.host.bmi2 && op == Op::MulHiU && flags == 0 && Self::is_wide(inst.ty) {
                return self.mul_without_flags(inst, me, high);
            }
            return self.mul_full(self.insts[high.index()].op == Op::MulHiS, inst, Some(me), Some(high));
        }
        let ty = inst.ty;
        let fact = self.an.facts[me.index()];
        self.save_flags(false);
        if ty == Type::I8 {
            return self.mul_full(true, inst, Some(me), None);
        }
        let (a, b) = (inst.args[0], inst.args[1]);
        let (a, b) = if self.constant(a).is_some() { (b, a) } else { (a, b) };
        let unseen = self.unseen_flags(me);
        let eager = fact.mask != 0 && unseen.is_none();
        if let Some(flags) = unseen {
            let x = self.operand_for_flags(a);
            let y = self.operand_for_flags(b);
            self.keep_product(flags, Op::Mul, ty, x, y);
        }
        if eager {
            self.grab_fixed(RAX);
        }
        let d = if let Some(imm) = self.imm32(b, ty) {
            let src = self.rm(a);
            let d = self.dest_empty(me, &[]);
            let op = if i8::try_from(imm).is_ok() { 0x6b } else { 0x69 };
            self.asm.word(ty, 0, 0, op, d.reg(), src);
            match (op, ty) {
                (0x6b, _) => self.asm.buf.push(imm as u8),
                (_, Type::I16) => self.asm.buf.extend_from_slice(&(imm as i16).to_le_bytes()),
                _ => self.asm.buf.extend_from_slice(&imm.to_le_bytes()),
            }
            d
        } else {
            let src = self.rm(b);
            let d = self.dest_from(me, a, ty, &[b]);
            self.asm.imul(ty, d.reg(), src);
            d
        };
        if eager {
            dynasm!(self.asm; .arch x64; seto al);
            self.asm.test(ty, Rm::R(d.reg()), d.reg());
            dynasm!(self.asm; .arch x64; lahf; or ah, al);
            self.word_flags_of(me.index());
            self.drop_temp(RAX);
        }
        self.finish(me, d, Self::is_wide(ty));
    }

    /// The word of a product's flags into AX, whose lower half is in RAX; `over` tells whether the upper half says anything.
    pub fn product_word(&mut self, ty: Type, over: super::asm::Reg) {
        self.asm.test(ty, Rm::R(RAX), RAX);
        dynasm!(self.asm; .arch x64; lahf);
        self.asm.mov_part(Type::I8, RAX, over);
        dynasm!(self.asm; .arch x64; or ah, al);
    }

    /// An operand of a product, as its flags will find it.
    fn operand_for_flags(&mut self, v: Value) -> Place {
        if let Some(c) = self.constant(v) {
            return Place::Const(c);
        }
        let r = self.reg(v);
        self.keep_operand(r)
    }

    pub fn mul_high(&mut self, me: Value, inst: &Inst) {
        if self.val[me.index()].loc != Loc::None || self.val[me.index()].done {
            return; // made with the low half
        }
        let low = self.partner(me, inst, &[Op::Mul]);
        self.save_flags(false);
        self.mul_full(inst.op == Op::MulHiS, inst, low, Some(me));
    }

    /// Both halves of a product, as one-operand MUL or IMUL.
    fn mul_full(&mut self, signed: bool, inst: &Inst, low: Option<Value>, high: Option<Value>) {
        let ty = inst.ty;
        let (a, b) = (inst.args[0], inst.args[1]);
        self.save_flags(false);
        self.copy_fixed(RAX, a, Type::I64);
        if ty != Type::I8 {
            self.grab_fixed(RDX);
        }
        let src = self.rm(b);
        self.asm.unary(ty, if signed { 5 } else { 4 }, src);
        let low_fact = low.map(|v| self.an.facts[v.index()]).unwrap_or_default();
        let high_fact = high.map(|v| self.an.facts[v.index()]).unwrap_or_default();
        // MUL sets CF = OF = high half significant; for IMUL it is signed overflow: the same for both halves,
        // except that the low half alone is always signed.
        for v in [low, high].into_iter().flatten() {
            self.val[v.index()].done = true;
        }
        // Of two halves' flags only one is wanted.
        let wanted = |v: &Value| self.an.facts[v.index()].mask != 0;
        let unseen = match (low.filter(wanted), high.filter(wanted)) {
            (Some(v), None) | (None, Some(v)) => self.unseen_flags(v),
            _ => None,
        };
        if let Some(flags) = unseen
            && ty != Type::I8
        {
            let (x, y) = (self.keep_operand(RAX), self.keep_operand(RDX));
            let op = if signed { Op::MulHiS } else { Op::MulHiU };
            self.keep_product(flags, op, ty, x, y);
        } else if low_fact.mask | high_fact.mask != 0 {
            let t = if ty == Type::I8 { self.grab() } else { self.spare() };
            self.asm.setcc(Cc::O as u8, Rm::R(t));
            self.asm.store(Type::I64, state(layout::slot(layout::SAVE0)), RAX);
            self.product_word(ty, t);
            for v in [low, high].into_iter().flatten() {
                if self.an.facts[v.index()].mask != 0 {
                    self.word_flags_of(v.index());
                }
            }
            self.asm.load(Type::I64, RAX, state(layout::slot(layout::SAVE0)));
            self.drop_temp(t);
        }
        if ty == Type::I8 {
            self.eight_bit_halves(low, high);
            return;
        }
        self.give(low, RAX, Self::is_wide(ty));
        self.give(high, RDX, Self::is_wide(ty));
    }

    fn spare(&mut self) -> super::asm::Reg {
        // RAX and RDX are taken: only RCX is left.
        let locked = self.locked & 1 << RCX.0 != 0;
        if locked {
            self.unlock(RCX);
        }
        self.grab_fixed(RCX);
        RCX
    }

    /// AX holds a product or a quotient (AL) and remainder (AH).
    fn eight_bit_halves(&mut self, low: Option<Value>, high: Option<Value>) {
        if let Some(h) = high.filter(|h| self.an.facts[h.index()].last != 0) {
            let t = self.grab();
            self.asm.zext(Type::I16, t, Rm::R(RAX));
            self.asm.shift_imm(Type::I32, Shift::Shr, Rm::R(t), 8);
            self.set_temp(h, t, true);
        }
        self.give(low, RAX, false);
    }

    /// `v`, if wanted, is in `r`.
    fn give(&mut self, v: Option<Value>, r: super::asm::Reg, clean: bool) {
        match v {
            Some(v) if self.an.facts[v.index()].last != 0 => self.set_temp(v, r, clean),
            _ => self.drop_temp(r),
        }
    }

    /// DivU, RemU, DivS, RemS.
    pub fn div(&mut self, me: Value, inst: &Inst) {
        if self.val[me.index()].done {
            return;
        }
        let signed = matches!(inst.op, Op::DivS | Op::RemS);
        let ops: &[Op] = if signed { &[Op::DivS, Op::RemS] } else { &[Op::DivU, Op::RemU] };
        let other = self.partner(me, inst, ops);
        let is_quot = |s: &Self, v: Value| matches!(s.insts[v.index()].op, Op::DivU | Op::DivS);
        let (quot, rem) = if is_quot(self, me) { (Some(me), other) } else { (other, Some(me)) };
        let ty = inst.ty;
        let (hi, lo, by) = (inst.args[0], inst.args[1], inst.args[2]);
        self.save_flags(true);
        let rcx = match (self.val[by.index()].loc, self.constant(by)) {
            (Loc::Guest(g), None) if Self::pinned(g).is_some() => match self.rm(by) {
                Rm::R(r) => r,
                Rm::M(_) => RCX,
            },
            _ => {
                self.copy_fixed(RCX, by, Type::I64);
                RCX
            }
        };
        self.copy_fixed(RAX, lo, Type::I64);
        self.copy_fixed(RDX, hi, Type::I64);
        self.div_checked(signed, ty, rcx);
        for v in [quot, rem].into_iter().flatten() {
            self.val[v.index()].done = true;
        }
        self.drop_temp(RCX);
        if ty == Type::I8 {
            return self.eight_bit_halves(quot, rem);
        }
        self.give(quot, RAX, Self::is_wide(ty));
        self.give(rem, RDX, Self::is_wide(ty));
    }

    /// Divides RDX:RAX by `by`, leaving to the helper what the host would trap on.
    fn div_checked(&mut self, signed: bool, ty: Type, by: super::asm::Reg) {
        let slow = self.asm.label();
        let resume = self.asm.label();
        if signed {
            // The dividend must be a sign-extended low half, and the divisor neither 0 nor -1.
            let tmp = state(layout::slot(layout::SAVE0));
            self.asm.store(Type::I64, tmp, RAX);
            self.asm.shift_imm(ty, Shift::Sar, Rm::R(RAX), ty.bits() as u8 - 1);
            self.asm.alu(ty, Alu::Xor, RAX, Rm::R(RDX));
            self.asm.load(Type::I64, RAX, tmp);
            self.asm.jcc(NE, slow);
            self.asm.test(ty, Rm::R(by), by);
            self.asm.jcc(E, slow);
            self.asm.alu_imm(ty, Alu::Cmp, Rm::R(by), -1);
            self.asm.jcc(E, slow);
        } else {
            self.asm.alu(ty, Alu::Cmp, RDX, Rm::R(by));
            self.asm.jcc(Cc::AE as u8, slow);
        }
        if ty == Type::I8 {
            // AX is the dividend.
            self.asm.shift_imm(Type::I32, Shift::Shl, Rm::R(RDX), 8);
            self.asm.zext(Type::I8, RAX, Rm::R(RAX));
            self.asm.alu(Type::I32, Alu::Or, RAX, Rm::R(RDX));
        }
        self.asm.unary(ty, if signed { 7 } else { 6 }, Rm::R(by));
        self.asm.bind(resume);
        self.distrust();
        let site = self.site();
        self.stubs.push(super::mem::Stub {
            label: slow,
            resume,
            site,
            kind: StubKind::Div { signed, ty, by },
            live_xmm: self.live_xmm(),
        });
    }
}
