//! Shifts and rotates.

use super::Codegen;
use super::asm::{Cond, Logic, Reg, Two, ZR};
use super::vals::{S0, S1, S2};
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

const CF: u16 = rflags::CF as u16;
const OF: u16 = rflags::OF as u16;

impl Codegen {
    pub fn shift(&mut self, me: Value, inst: &Inst) {
        let count = self.constant(inst.args[1]).map(|c| c as u8 & if inst.ty == Type::I64 { 63 } else { 31 });
        match (inst.op, count) {
            (_, Some(0)) => self.unshifted(me, inst),
            (Op::Shl | Op::Shr | Op::Sar, Some(n)) => self.shift_by(me, inst, n),
            (Op::Shl | Op::Shr | Op::Sar, None) => self.shift_var(me, inst),
            (Op::Rol | Op::Ror, _) => self.rotate(me, inst, count),
            _ => self.rotate_carry(me, inst, count),
        }
    }

    /// A count of 0: the value and the flags stay.
    fn unshifted(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        if fact.mask != 0 {
            self.pass_flags(Value(fact.flags), inst.args[2]);
        }
        if fact.last != 0 {
            let d = self.dest(me);
            let r = self.reg(inst.args[0]);
            self.asm.mov(true, d.reg, r);
            let clean = self.is_clean(inst.args[0]);
            self.finish(me, d, clean);
        }
    }

    /// `f` is the same flags as `c`.
    fn pass_flags(&mut self, f: Value, c: Value) {
        let w = self.word(c);
        let to = self.word_dest(f);
        self.asm.mov(false, to, w);
        self.set_word(f, to);
    }

    /// The operand as the shift wants it: zero-extended, or sign-extended for Sar.
    fn shifted_operand(&mut self, op: Op, a: Value) -> Reg {
        match op {
            Op::Shl => self.reg(a),
            Op::Shr => self.clean(a, S0),
            _ => self.signed(a, false, S0),
        }
    }

    fn shift_by(&mut self, me: Value, inst: &Inst, n: u8) {
        let ty = inst.ty;
        let (wide, w) = (ty == Type::I64, ty.bits() as u8);
        let fact = self.an.facts[me.index()];
        let d = self.dest(me);
        let a = self.shifted_operand(inst.op, inst.args[0]);
        let carry = fact.mask & (CF | OF) != 0;
        // CF, made before the operand may be overwritten.
        if fact.mask != 0 {
            self.save_flags();
        }
        let cf = carry.then_some(S2);
        if let Some(c) = cf {
            match inst.op {
                Op::Shl if n <= w => self.asm.ubfx(wide, c, a, w - n, 1),
                Op::Shl => self.asm.mov_imm(c, 0),
                _ => self.asm.ubfx(wide, c, a, n - 1, 1),
            }
        }
        match inst.op {
            Op::Shl => self.asm.lsl_imm(wide, d.reg, a, n),
            Op::Shr => self.asm.lsr_imm(wide, d.reg, a, n),
            _ => self.asm.asr_imm(wide, d.reg, a, n),
        }
        let clean = Self::is_wide(ty) || inst.op == Op::Shr;
        if fact.last != 0 {
            self.finish(me, d, clean);
        }
        if fact.mask == 0 {
            return;
        }
        let of = self.shift_overflow(inst.op, ty, fact.mask, d.reg, cf);
        self.word_by_parts(me, ty, d.reg, cf, of);
    }

    /// OF of a shift into [`S0`], by its result and CF.
    fn shift_overflow(&mut self, op: Op, ty: Type, mask: u16, r: Reg, cf: Option<Reg>) -> Option<Reg> {
        if mask & OF == 0 {
            return None;
        }
        let (wide, w) = (ty == Type::I64, ty.bits() as u8);
        match op {
            Op::Shl | Op::Rol | Op::Rcl => {
                self.asm.lsr_imm(wide, S0, r, w - 1);
                self.asm.logic(Logic::Eor, false, S0, S0, cf.unwrap_or(ZR), 0);
            }
            Op::Sar => return None,
            _ => {
                // The two highest bits.
                self.asm.logic_lsr(Logic::Eor, wide, S0, r, r, 1);
                self.asm.lsr_imm(wide, S0, S0, w - 2);
            }
        }
        Some(S0)
    }

    /// A variable count.
    fn shift_var(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let (wide, w) = (ty == Type::I64, ty.bits() as u8);
        let fact = self.an.facts[me.index()];
        let kind = match inst.op {
            Op::Shl => Two::Lsl,
            Op::Shr => Two::Lsr,
            _ => Two::Asr,
        };
        if fact.mask == 0 {
            let d = self.dest(me);
            let a = self.shifted_operand(inst.op, inst.args[0]);
            let n = self.reg(inst.args[1]);
            self.asm.two(kind, wide, d.reg, a, n);
            return self.finish(me, d, Self::is_wide(ty) || inst.op == Op::Shr);
        }
        let old = self.word(inst.args[2]);
        let n = self.reg(inst.args[1]);
        let a = self.shifted_operand(inst.op, inst.args[0]);
        self.save_flags();
        let cf = S2;
        // CF: the bit that goes out last; 32 and 64 bits shift by one less and look at the end.
        self.asm.arith_imm(false, true, false, S1, n, 1);
        match inst.op {
            Op::Shl if Self::is_wide(ty) => {
                self.asm.two(Two::Lsl, wide, cf, a, S1);
                self.asm.lsr_imm(wide, cf, cf, w - 1);
            }
            Op::Shl => {
                self.asm.logic_imm(Logic::And, false, S1, n, 31);
                self.asm.two(Two::Lsl, true, cf, a, S1);
                self.asm.ubfx(true, cf, cf, w, 1);
            }
            _ => {
                self.asm.two(kind, wide, cf, a, S1);
                self.asm.logic_imm(Logic::And, false, cf, cf, 1);
            }
        }
        let r = self.temp();
        self.asm.two(kind, wide, r, a, n);
        let of = self.shift_overflow(inst.op, ty, fact.mask, r, Some(cf));
        self.variable_word(me, ty, r, cf, of, n, old);
        if fact.last != 0 {
            self.set_temp(me, r, Self::is_wide(ty) || inst.op == Op::Shr);
        }
    }

    /// The word of a shift by `n`: that of the result `r` unless the masked count is 0. Changes `cf`.
    #[allow(clippy::too_many_arguments, reason = "the parts of a word")]
    fn variable_word(&mut self, me: Value, ty: Type, r: Reg, cf: Reg, of: Option<Reg>, n: Reg, old: Reg) {
        let f = Value(self.an.facts[me.index()].flags);
        self.test_result(ty, r, S1);
        self.asm.mrs_nzcv(S1);
        self.asm.logic_imm(Logic::Eor, false, cf, cf, 1);
        self.asm.bfi(false, S1, cf, 29, 1);
        if let Some(v) = of {
            self.asm.bfi(false, S1, v, 28, 1);
        }
        self.asm.bfxil(false, S1, r, 0, 8);
        self.asm.bfi(false, S1, r, 8, 8);
        self.asm.logic_imm(Logic::Ands, false, ZR, n, if ty == Type::I64 { 63 } else { 31 });
        let to = self.word_dest(f);
        self.asm.csel(false, to, old, S1, Cond::Eq);
        self.set_word(f, to);
    }

    /// Rol and Ror, by a constant that is not 0 or by a variable.
    fn rotate(&mut self, me: Value, inst: &Inst, count: Option<u8>) {
        let ty = inst.ty;
        let (wide, w) = (ty == Type::I64, ty.bits() as u8);
        let fact = self.an.facts[me.index()];
        let left = inst.op == Op::Rol;
        // By a constant, the old flags are there only if others than CF and OF are wanted.
        let old = match fact.mask {
            0 => None,
            mask if count.is_some() && mask & !(CF | OF) == 0 => Some(ZR),
            _ => Some(self.word(inst.args[2])),
        };
        let d =
            if fact.mask == 0 { self.dest(me) } else { super::vals::Dest { reg: self.temp(), guest: None } };
        // A rotate of 32 bits looks at no others.
        let mut a = if Self::is_wide(ty) { self.reg(inst.args[0]) } else { self.clean(inst.args[0], S0) };
        // Narrow operands are repeated to fill 32 bits.
        for half in [8, 16] {
            if w <= half {
                self.asm.logic(Logic::Orr, false, S0, a, a, half);
                a = S0;
            }
        }
        let n = match count {
            Some(n) => {
                let by = if left { (w - n % w) % w } else { n % w };
                self.asm.ror_imm(wide, d.reg, a, by);
                None
            }
            None => {
                let n = self.reg(inst.args[1]);
                if left {
                    self.asm.arith(false, true, false, S1, ZR, n, 0);
                    self.asm.two(Two::Ror, wide, d.reg, a, S1);
                } else {
                    self.asm.two(Two::Ror, wide, d.reg, a, n);
                }
                Some(n)
            }
        };
        if fact.last != 0 {
            self.finish(me, d, Self::is_wide(ty));
        }
        if let Some(old) = old {
            let r = d.reg;
            if left || !Self::is_wide(ty) {
                // CF is the bit that came round.
                self.asm.ubfx(wide, S1, r, if left { 0 } else { w - 1 }, 1);
                let _ = self.shift_overflow(inst.op, ty, OF, r, Some(S1));
                return self.put_carry_overflow(me, inst, old, n);
            }
            // The highest bit, not inverted yet, and what it and the next one differ in.
            self.asm.logic_lsr(Logic::Eor, wide, S0, r, r, 1);
            self.asm.logic_imm(Logic::Eor, wide, S0, S0, 1 << (w - 1));
            self.asm.lsr_imm(wide, S0, S0, w - 2);
            self.put_two_flags(me, inst, old, n);
        }
    }

    /// The word `old` with CF from bit 0 of [`S1`] and OF from bit 0 of [`S0`], unless the masked count `n` is 0.
    fn put_carry_overflow(&mut self, me: Value, inst: &Inst, old: Reg, n: Option<Reg>) {
        self.asm.logic_imm(Logic::Eor, false, S1, S1, 1);
        // OF below CF.
        self.asm.bfi(false, S0, S1, 1, 31);
        self.put_two_flags(me, inst, old, n);
    }

    /// The word `old` with OF and inverted CF from bits 0 and 1 of [`S0`], unless the masked count `n` is 0.
    fn put_two_flags(&mut self, me: Value, inst: &Inst, old: Reg, n: Option<Reg>) {
        let f = Value(self.an.facts[me.index()].flags);
        match n {
            None => {
                let to = self.word_dest(f);
                if to != old {
                    self.asm.mov(false, to, old);
                }
                self.asm.bfi(false, to, S0, 28, 2);
                self.set_word(f, to);
            }
            Some(n) => {
                self.asm.mov(false, S1, old);
                self.asm.bfi(false, S1, S0, 28, 2);
                self.save_flags();
                self.asm.logic_imm(Logic::Ands, false, ZR, n, if inst.ty == Type::I64 { 63 } else { 31 });
                let to = self.word_dest(f);
                self.asm.csel(false, to, old, S1, Cond::Eq);
                self.set_word(f, to);
            }
        }
    }

    /// Rcl and Rcr by a constant other than 0.
    fn rotate_carry(&mut self, me: Value, inst: &Inst, count: Option<u8>) {
        let ty = inst.ty;
        let (wide, w) = (ty == Type::I64, ty.bits() as u8);
        let Some(n) = count else { return self.frame.unsupported("a rotate through carry by a variable") };
        let fact = self.an.facts[me.index()];
        let old = self.word(inst.args[2]);
        let a = self.clean(inst.args[0], S0);
        let d = self.temp();
        let cf = S2;
        self.carry_bit(cf, old);
        let n = n % (w + 1);
        // As a rotate to the left of the w + 1 bits CF:a.
        let n = if inst.op == Op::Rcl { n } else { (w + 1 - n) % (w + 1) };
        if n == 0 {
            self.asm.mov(true, d, a);
        } else {
            // r = a << n | CF << n-1 | a >> w+1-n; the new CF is bit w-n of a.
            self.asm.ubfx(wide, S1, a, w - n, 1);
            if n < w {
                self.asm.lsl_imm(wide, d, a, n);
            } else {
                self.asm.mov_imm(d, 0);
            }
            self.asm.logic(Logic::Orr, wide, d, d, cf, n - 1);
            if n > 1 {
                self.asm.logic_lsr(Logic::Orr, wide, d, d, a, w + 1 - n);
            }
            self.asm.mov(false, cf, S1);
            if !Self::is_wide(ty) {
                self.asm.zext(ty, d, d);
            }
        }
        if fact.mask != 0 {
            self.asm.mov(false, S1, cf);
            let _ = self.shift_overflow(inst.op, ty, OF, d, Some(S1));
            self.put_carry_overflow(me, inst, old, None);
        }
        if fact.last != 0 {
            self.set_temp(me, d, true);
        }
    }
}
