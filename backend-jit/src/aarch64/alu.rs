//! Addition, subtraction, logic and address arithmetic.
//!
//! Operations narrower than 32 bits whose flags are wanted are done at the top of a 32-bit register, where N, Z, C and V
//! come out as the guest wants them.

use super::Codegen;
use super::asm::{Asm, Logic, Reg, ZR};
use super::flags::{Aux, Carry};
use super::record::Kind;
use super::vals::{Dest, S0, S1, S2};
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

const CF: u16 = rflags::CF as u16;
const ZF: u16 = rflags::ZF as u16;
const LOW: u16 = (rflags::PF | rflags::AF) as u16;
const AF: u16 = rflags::AF as u16;

/// Second operand of an addition.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Reg(Reg),
    /// An immediate, of the operation or with `true` of its opposite.
    Imm(u64, bool),
}

impl Codegen {
    /// Whether PF or AF of `me` are wanted as part of a word.
    fn wants_low(&self, me: Value) -> u16 {
        let fact = self.an.facts[me.index()];
        if fact.mask != 0 && self.worded[fact.flags as usize] { fact.mask & LOW } else { 0 }
    }

    /// Where to compute a value that perhaps only its flags are wanted of.
    pub fn flags_dest(&mut self, me: Value, keep: bool) -> Dest {
        if self.an.facts[me.index()].last != 0 {
            self.dest(me)
        } else {
            Dest { reg: if keep { S1 } else { ZR }, guest: None }
        }
    }

    /// The value in hand is in `d`, if it is wanted.
    pub fn finish_wanted(&mut self, me: Value, d: Dest, clean: bool) {
        if self.an.facts[me.index()].last != 0 {
            self.finish(me, d, clean);
        }
    }

    fn operand(&mut self, ty: Type, b: Value) -> Operand {
        let Some(c) = self.constant(b) else { return Operand::Reg(self.reg(b)) };
        let minus = ty.truncate(c.wrapping_neg());
        match c {
            0 => Operand::Reg(ZR),
            _ if Asm::is_imm12(c) => Operand::Imm(c, false),
            // The negative is the same sum, carry and overflow included.
            _ if Self::is_wide(ty) && Asm::is_imm12(minus) => Operand::Imm(minus, true),
            _ => Operand::Reg(self.reg(b)),
        }
    }

    /// Add and Sub.
    pub fn add_sub(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let sub = inst.op == Op::Sub;
        let (mut a, mut b) = (inst.args[0], inst.args[1]);
        if !sub && self.constant(a).is_some() {
            std::mem::swap(&mut a, &mut b);
        }
        let record = self.records(me);
        let mask = record.unwrap_or(self.an.facts[me.index()].mask);
        let carry = if sub { Carry::Inverted } else { Carry::Direct };
        let kind = if sub { Kind::Sub } else { Kind::Add };
        if !Self::is_wide(ty) && (mask != 0 || record.is_some()) {
            return self.narrow_add_sub(me, ty, kind, a, b, record);
        }
        let low = if record.is_some() { 0 } else { self.wants_low(me) };
        let d = self.flags_dest(me, low != 0);
        let ra = self.reg(a);
        let op = self.operand(ty, b);
        if record.is_some() {
            self.record(me, kind, ty, ra, b);
            if mask == 0 && self.an.facts[me.index()].last == 0 {
                return;
            }
        }
        let aux = if low & AF != 0 { self.aux_of(ra, b, op, d.reg) } else { Aux::Clear };
        let flags = mask != 0;
        if flags {
            self.save_flags();
        }
        self.arith_operand(ty == Type::I64, sub, flags, d.reg, ra, op);
        self.finish_wanted(me, d, Self::is_wide(ty));
        if flags {
            self.flags_done(me, carry, d.reg, aux);
        }
    }

    fn arith_operand(&mut self, wide: bool, sub: bool, flags: bool, d: Reg, a: Reg, op: Operand) {
        match op {
            Operand::Reg(b) => self.asm.arith(wide, sub, flags, d, a, b, 0),
            Operand::Imm(i, opposite) if a != ZR => self.asm.arith_imm(wide, sub != opposite, flags, d, a, i),
            Operand::Imm(i, opposite) => {
                self.imm(S1, i);
                self.asm.arith(wide, sub != opposite, flags, d, ZR, S1, 0);
            }
        }
    }

    /// Bit 4 of a exclusive or b, in [`S0`] or a itself; b is in a register or a constant, and the result will be in `d`.
    fn aux_of(&mut self, a: Reg, b: Value, op: Operand, d: Reg) -> Aux {
        match (op, self.constant(b)) {
            (Operand::Reg(rb), None) => self.asm.logic(Logic::Eor, false, S0, a, rb, 0),
            (_, c) if c.unwrap_or(0) & 16 != 0 => self.asm.logic(Logic::Orn, false, S0, ZR, a, 0),
            _ if a != d => return Aux::From(a),
            _ => self.asm.mov(false, S0, a),
        }
        Aux::From(S0)
    }

    fn narrow_add_sub(&mut self, me: Value, ty: Type, kind: Kind, a: Value, b: Value, record: Option<u16>) {
        let fact = self.an.facts[me.index()];
        let sub = kind == Kind::Sub;
        let carry = if sub { Carry::Inverted } else { Carry::Direct };
        let low = if record.is_some() { 0 } else { self.wants_low(me) };
        let mask = record.unwrap_or(fact.mask);
        if record.is_some() {
            let ra = self.reg(a);
            self.record(me, kind, ty, ra, b);
        }
        if mask == 0 {
            if fact.last != 0 {
                let d = self.dest(me);
                let ra = self.reg(a);
                let op = self.operand(ty, b);
                self.arith_operand(false, sub, false, d.reg, ra, op);
                self.finish(me, d, false);
            }
            return;
        }
        if sub && fact.last == 0 && mask & !(ZF | CF) == 0 && self.is_clean(a) && self.is_clean(b) {
            let ra = self.reg(a);
            let op = self.operand(ty, b);
            self.save_flags();
            self.arith_operand(false, true, true, ZR, ra, op);
            return self.flags_done(me, carry, ZR, Aux::Clear);
        }
        let shift = 32 - ty.bits() as u8;
        let d = self.flags_dest(me, true);
        let (ra, rb) = (self.reg(a), self.reg(b));
        if low & AF != 0 {
            self.asm.logic(Logic::Eor, false, S0, ra, rb, 0);
        }
        self.save_flags();
        self.asm.lsl_imm(false, S1, ra, shift);
        self.asm.arith(false, sub, true, S1, S1, rb, shift);
        if fact.last != 0 || low != 0 {
            self.asm.lsr_imm(false, d.reg, S1, shift);
        }
        self.finish_wanted(me, d, true);
        self.flags_done(me, carry, d.reg, Aux::From(S0));
    }

    /// 0 - a.
    pub fn neg(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let flags = self.an.facts[me.index()].mask != 0;
        let low = self.wants_low(me);
        let d = self.flags_dest(me, true);
        let a = self.reg(inst.args[0]);
        if low & AF != 0 {
            self.asm.mov(false, S0, a);
        }
        if flags {
            self.save_flags();
        }
        if Self::is_wide(ty) || !flags {
            self.asm.arith(ty == Type::I64, true, flags, d.reg, ZR, a, 0);
        } else {
            let shift = 32 - ty.bits() as u8;
            self.asm.arith(false, true, true, S1, ZR, a, shift);
            self.asm.lsr_imm(false, d.reg, S1, shift);
        }
        self.finish_wanted(me, d, flags || Self::is_wide(ty));
        self.flags_done(me, Carry::Inverted, d.reg, Aux::From(S0));
    }

    pub fn not(&mut self, me: Value, inst: &Inst) {
        let d = self.dest(me);
        let a = self.reg(inst.args[0]);
        self.asm.logic(Logic::Orn, inst.ty == Type::I64, d.reg, ZR, a, 0);
        self.finish(me, d, Self::is_wide(inst.ty));
    }

    /// And, Or, Xor.
    pub fn logical(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let wide = ty == Type::I64;
        let op = match inst.op {
            Op::And => Logic::And,
            Op::Or => Logic::Orr,
            _ => Logic::Eor,
        };
        let (mut a, mut b) = (inst.args[0], inst.args[1]);
        if self.constant(a).is_some() {
            std::mem::swap(&mut a, &mut b);
        }
        let fact = self.an.facts[me.index()];
        let record = self.records(me);
        let flags = record.unwrap_or(fact.mask) != 0;
        if record == Some(0) && fact.last == 0 && inst.args[0] == inst.args[1] {
            // Zero, or the operand itself.
            let r = if op == Logic::Eor { ZR } else { self.reg(a) };
            return self.record_logic(me, ty, r);
        }
        let direct = flags && op == Logic::And && Self::is_wide(ty);
        let clean = (self.is_clean(a), self.is_clean(b));
        let clean = if op == Logic::And { clean.0 || clean.1 } else { clean.0 && clean.1 };
        let low = if record.is_some() { 0 } else { self.wants_low(me) };
        let d = self.flags_dest(me, !direct || low != 0 || record.is_some());
        let ra = self.reg(a);
        let imm = self.constant(b).filter(|&c| Asm::logical_imm(wide, c).is_some());
        if direct {
            self.save_flags();
        }
        let emitted = if direct { Logic::Ands } else { op };
        match imm {
            Some(c) => self.asm.logic_imm(emitted, wide, d.reg, ra, c),
            None => {
                let rb = self.reg(b);
                self.asm.logic(emitted, wide, d.reg, ra, rb, 0);
            }
        }
        self.finish_wanted(me, d, clean || Self::is_wide(ty));
        if record.is_some() {
            self.record_logic(me, ty, d.reg);
        }
        if flags {
            if !direct {
                self.test_result(ty, d.reg, S0);
            }
            self.flags_done(me, Carry::Clear, d.reg, Aux::Clear);
        }
    }

    /// Adc and Sbb.
    pub fn with_carry(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let sub = inst.op == Op::Sbb;
        let (a, b, c) = (inst.args[0], inst.args[1], inst.args[2]);
        if !Self::is_wide(ty) {
            return self.narrow_carry(me, inst);
        }
        let low = self.wants_low(me);
        let d = self.flags_dest(me, low != 0);
        let (ra, rb) = (self.reg(a), self.reg(b));
        self.carry_to_host(c, sub);
        if low & AF != 0 {
            self.asm.logic(Logic::Eor, false, S0, ra, rb, 0);
        }
        self.save_flags();
        self.asm.carry(ty == Type::I64, sub, d.reg, ra, rb);
        self.finish_wanted(me, d, true);
        self.flags_done(me, if sub { Carry::Inverted } else { Carry::Direct }, d.reg, Aux::From(S0));
    }

    /// 8 and 16 bits: in 32, flags by hand.
    fn narrow_carry(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let bits = ty.bits() as u8;
        let sub = inst.op == Op::Sbb;
        let (a, b) = (inst.args[0], inst.args[1]);
        let fact = self.an.facts[me.index()];
        let w = self.word(inst.args[2]);
        self.save_flags();
        self.carry_bit(S1, w);
        let d = self.flags_dest(me, true);
        let d = if d.reg == S1 { Dest { reg: self.temp(), guest: None } } else { d };
        let ra = self.clean(a, S0);
        let x = S2;
        // a +- carry, then +- b: bit `bits` of it is the carry, and what is above its copies.
        self.asm.arith(false, sub, false, x, ra, S1, 0);
        let rb = self.clean(b, S1);
        self.asm.arith(false, sub, false, x, x, rb, 0);
        if fact.mask == 0 {
            self.asm.mov(false, d.reg, x);
            return self.finish_wanted(me, d, false);
        }
        // S0 = a ^ r, S1 = a ^ b.
        let t = self.temp();
        self.asm.logic(Logic::Eor, false, t, ra, rb, 0);
        self.asm.logic(Logic::Eor, false, S0, ra, x, 0);
        // OF: a and r differ, and a and b differ (subtraction) or not (addition).
        self.asm.logic(if sub { Logic::And } else { Logic::Bic }, false, S1, S0, t, 0);
        self.asm.lsr_imm(false, S0, S1, bits - 1);
        self.asm.ubfx(false, S1, x, bits, 1);
        // CF in bit 1 and OF in bit 0 of S0, a ^ b above.
        self.asm.bfi(false, S0, S1, 1, 31);
        self.asm.bfi(false, S0, t, 2, 16);
        self.drop_temp(t);
        self.asm.zext(ty, d.reg, x);
        self.finish_wanted(me, d, true);
        self.test_result(ty, d.reg, S1);
        let f = Value(fact.flags);
        let to = self.word_dest(f);
        self.asm.mrs_nzcv(to);
        self.asm.bfi(false, to, S0, 28, 1);
        self.asm.lsr_imm(false, S1, S0, 1);
        self.asm.logic_imm(Logic::Eor, false, S1, S1, 1);
        self.asm.bfi(false, to, S1, 29, 1);
        self.asm.bfxil(false, to, d.reg, 0, 8);
        self.asm.lsr_imm(false, S0, S0, 2);
        self.asm.bfi(false, to, S0, 8, 8);
        self.set_word(f, to);
    }

    /// base + (index << scale) + displacement.
    pub fn lea(&mut self, me: Value, inst: &Inst) {
        let narrow = crate::addresses::is_narrow(&self.insts, inst);
        let ty = if narrow { Type::I32 } else { inst.ty };
        let wide = ty == Type::I64;
        let (mut a, mut b) = (inst.args[0], inst.args[1]);
        let mut disp = inst.imm as u64;
        while a.is_some() && (self.is_moved(a) || narrow && self.is_late(a)) {
            let part = self.insts[a.index()];
            (a, disp) = (part.args[0], disp.wrapping_add(part.imm as u64));
        }
        if a.is_some()
            && let Some(c) = self.constant(a)
        {
            disp = disp.wrapping_add(c);
            a = Value::NONE;
        }
        if b.is_some()
            && let Some(c) = self.constant(b)
        {
            disp = disp.wrapping_add(c << inst.aux);
            b = Value::NONE;
        }
        let disp = ty.truncate(disp);
        let d = self.dest(me);
        let ra = a.is_some().then(|| self.reg(a));
        let rb = b.is_some().then(|| self.reg(b));
        // What the displacement is added to: only the last instruction writes the destination.
        let part = if disp == 0 { d.reg } else { S0 };
        let sum = match (ra, rb) {
            (None, None) => {
                self.imm(d.reg, disp);
                return self.finish(me, d, true);
            }
            (Some(a), None) => a,
            (None, Some(b)) if inst.aux == 0 => b,
            (None, Some(b))
                if disp != 0 && !Asm::is_imm12(disp) && !Asm::is_imm12(ty.truncate(disp.wrapping_neg())) =>
            {
                self.imm(S1, disp);
                self.asm.add(wide, d.reg, S1, b, inst.aux as u8);
                return self.finish(me, d, Self::is_wide(ty));
            }
            (None, Some(b)) => {
                self.asm.lsl_imm(wide, part, b, inst.aux as u8);
                part
            }
            (Some(a), Some(b)) => {
                self.asm.add(wide, part, a, b, inst.aux as u8);
                part
            }
        };
        let minus = ty.truncate(disp.wrapping_neg());
        if disp == 0 {
            // What has been made here has zeros above.
            let made = rb.is_some() && (ra.is_some() || inst.aux != 0);
            if sum != d.reg || !wide && !made {
                self.asm.mov(wide, d.reg, sum);
            }
        } else if Asm::is_imm12(disp) && sum != ZR {
            self.asm.add_imm(wide, d.reg, sum, disp);
        } else if Self::is_wide(ty) && Asm::is_imm12(minus) && sum != ZR {
            self.asm.arith_imm(wide, true, false, d.reg, sum, minus);
        } else {
            self.imm(S1, disp);
            self.asm.add(wide, d.reg, sum, S1, 0);
        }
        self.finish(me, d, Self::is_wide(ty));
    }
}
