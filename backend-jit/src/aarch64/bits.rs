//! Bit tests, counts and byte order.

use super::Codegen;
use super::asm::{Logic, Two, ZR};
use super::vals::{S0, S1};
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

const CF: u16 = rflags::CF as u16;
const ZF: u16 = rflags::ZF as u16;

impl Codegen {
    /// CF = bit b of a; the value is a itself.
    pub fn bit_test(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        let (a, b, c) = (inst.args[0], inst.args[1], inst.args[2]);
        let (wide, bits) = (inst.ty == Type::I64, inst.ty.bits() as u8);
        if fact.mask != 0 {
            let f = Value(fact.flags);
            let old = if fact.mask & !CF != 0 { Some(self.word(c)) } else { None };
            let ra = self.reg(a);
            match self.constant(b) {
                Some(n) => self.asm.ubfx(wide, S0, ra, n as u8 & (bits - 1), 1),
                None => {
                    let rb = self.reg(b);
                    let by = if Self::is_wide(inst.ty) {
                        rb
                    } else {
                        self.asm.logic_imm(Logic::And, false, S1, rb, u64::from(bits) - 1);
                        S1
                    };
                    self.asm.two(Two::Lsr, wide, S0, ra, by);
                }
            }
            self.asm.logic(Logic::Orn, false, S0, ZR, S0, 0);
            match old {
                Some(w) => self.asm.mov(false, S1, w),
                None => self.asm.mov_imm(S1, 0),
            }
            self.asm.bfi(false, S1, S0, 29, 1);
            let to = self.word_dest(f);
            self.asm.mov(false, to, S1);
            self.set_word(f, to);
        }
        if fact.last != 0 {
            if self.constant(a).is_some() {
                let d = self.dest(me);
                let r = self.reg(a);
                self.asm.mov(true, d.reg, r);
                return self.finish(me, d, true);
            }
            let clean = self.is_clean(a);
            self.share(me, a, clean);
        }
    }

    /// Clz and Ctz.
    pub fn count_zeros(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        let ty = inst.ty;
        let (wide, bits) = (ty == Type::I64, ty.bits() as u8);
        let old = if fact.mask & !(CF | ZF) != 0 { Some(self.word(inst.args[1])) } else { None };
        let d =
            if fact.mask == 0 { self.dest(me) } else { super::vals::Dest { reg: self.temp(), guest: None } };
        let a = self.reg(inst.args[0]);
        let lead = inst.op == Op::Clz;
        let mut from = a;
        if !Self::is_wide(ty) {
            // A one planted behind the operand gives the width for zero.
            if lead {
                self.asm.lsl_imm(false, S0, a, 32 - bits);
                self.asm.logic_imm(Logic::Orr, false, S0, S0, 1 << (31 - bits));
            } else {
                self.asm.logic_imm(Logic::Orr, false, S0, a, 1 << bits);
            }
            from = S0;
        }
        if !lead {
            self.asm.rbit(wide, S0, from);
            from = S0;
        }
        self.asm.clz(wide, d.reg, from);
        if fact.last != 0 {
            self.finish(me, d, true);
        }
        if fact.mask == 0 {
            return;
        }
        // CF: the count is the width, which is a power of two; ZF: it is 0.
        let f = Value(fact.flags);
        self.save_flags();
        self.asm.arith(false, true, true, ZR, d.reg, ZR, 0);
        self.asm.cset(S0, super::asm::Cond::Eq);
        self.asm.lsr_imm(false, S1, d.reg, bits.trailing_zeros() as u8);
        self.asm.logic_imm(Logic::Eor, false, S1, S1, 1);
        self.asm.bfi(false, S1, S0, 1, 1);
        match old {
            Some(w) => self.asm.mov(false, S0, w),
            None => self.asm.mov_imm(S0, 0),
        }
        self.asm.bfi(false, S0, S1, 29, 2);
        let to = self.word_dest(f);
        self.asm.mov(false, to, S0);
        self.set_word(f, to);
    }

    /// Population count, by the vector unit.
    pub fn popcnt(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        let a = self.clean(inst.args[0], S0);
        if fact.mask != 0 {
            // ZF is the operand's; the others are clear: as a logical operation's, with PF and AF by a byte that is odd.
            self.test_result(inst.ty, a, S1);
        }
        // fmov d31, a; cnt v31.8b; addv b31; umov w
        self.asm.raw(0x9e67_0000 | u32::from(a) << 5 | 31);
        self.asm.raw(0x0e20_5800 | 31 << 5 | 31);
        self.asm.raw(0x0e31_b800 | 31 << 5 | 31);
        if fact.mask != 0 {
            let f = Value(fact.flags);
            self.native = None;
            self.asm.cset(S1, super::asm::Cond::Eq);
            self.asm.mov_imm(S0, 1 << 29 | 1);
            self.asm.bfi(false, S0, S1, 30, 1);
            let to = self.word_dest(f);
            self.asm.mov(false, to, S0);
            self.set_word(f, to);
        }
        if fact.last != 0 {
            let d = self.dest(me);
            self.asm.raw(0x0e01_3c00 | 31 << 5 | u32::from(d.reg));
            self.finish(me, d, true);
        }
    }

    pub fn bswap(&mut self, me: Value, inst: &Inst) {
        let d = self.dest(me);
        let a = self.reg(inst.args[0]);
        match inst.ty {
            Type::I16 => self.asm.rev16(d.reg, a),
            ty => self.asm.rev(ty == Type::I64, d.reg, a),
        }
        self.finish(me, d, Self::is_wide(inst.ty));
    }
}
