//! Flags on record: at the end of a block the guest's flags are seldom wanted by anybody, since the next one replaces them.
//! So their word is not made; what they are made of is written down instead.
//!
//! A *record* takes the place of the flags word in its register: bit 27 is set, which is clear in a word; bits 31-30 are log2
//! of the operands' bytes; bits 29-28 say which operation ([`Kind`]). The operands are in two scratch slots, as wide as they
//! are; with bit 26 the second is the signed number in bits 25-16 instead. Of a logical operation the result is there, as
//! the first.
//!
//! Who reads the guest's flags inside translated code settles a record first (`get_flags`), out of line; outside of it,
//! [`status_flags`] understands both.
//!
//! Invariant: the slots are written together with a record, and otherwise not.

use super::Codegen;
use super::asm::{Asm, Cond, Logic, Reg, SP, Two, ZR};
use super::lazy::Part;
use super::mem::{Stub, StubKind};
use super::vals::{FLAGS, S0, S1, STATE, slot};
use crate::layout;
use emu_core::ir::{Cc, Op, Type, Value};
use emu_core::state::bits::rflags::{AF, CF, OF, PF, SF, ZF};

/// The bit of a record.
const RECORD: u64 = 1 << 27;
/// The second operand is in the record.
const SHORT: u64 = 1 << 26;
/// Where it begins, and its bits.
const SHORT_AT: u8 = 16;
const SHORT_BITS: u8 = 10;
/// Where the kind is, and the size.
const KIND_AT: u8 = 28;
const SIZE_AT: u8 = 30;

/// The operation of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Sub = 0,
    Add = 1,
    Logic = 2,
    /// The signed product, or the low half of it.
    Mul = 3,
}

/// The status flags, in RFLAGS positions, of a flags word or record with its slots.
pub fn status_flags(scratch: &[u64]) -> u64 {
    let word = scratch[layout::FLAGS];
    if word & RECORD == 0 {
        return super::from_word(word);
    }
    let (a, mut b) = (scratch[layout::RECORD], scratch[layout::RECORD + 1]);
    if word & SHORT != 0 {
        let up = 64 - u32::from(SHORT_AT + SHORT_BITS);
        b = ((word << up) as i64 >> (64 - SHORT_BITS)) as u64;
    }
    // At the top of 64 bits.
    let up = 64 - (8 << (word >> SIZE_AT & 3));
    let (a, b) = (a << up, b << up);
    let bit = |on: bool, flag: u64| if on { flag } else { 0 };
    let (r, carry, overflow, aux) = match word >> KIND_AT & 3 {
        0 => {
            let r = a.wrapping_sub(b);
            (r, a < b, (a ^ b) & (a ^ r), a ^ b ^ r)
        }
        1 => {
            let r = a.wrapping_add(b);
            (r, r < a, !(a ^ b) & (a ^ r), a ^ b ^ r)
        }
        2 => (a, false, 0, 0),
        _ => {
            let product = i128::from(a as i64 >> up) * i128::from(b as i64 >> up);
            let r = (product as u64) << up;
            let over = i128::from(r as i64 >> up) != product;
            (r, over, u64::from(over) << 63, 0)
        }
    };
    let even = ((r >> up) as u8).count_ones().is_multiple_of(2);
    bit(r >> 63 != 0, SF)
        | bit(r == 0, ZF)
        | bit(carry, CF)
        | bit(overflow >> 63 != 0, OF)
        | bit(aux >> up & 16 != 0, AF)
        | bit(even, PF)
}

/// The bits of a record that have `c` as its second operand, if they do.
fn short(ty: Type, c: u64) -> Option<u64> {
    let up = 64 - ty.bits();
    let c = (c << up) as i64 >> up;
    let most = 1 << (SHORT_BITS - 1);
    (-most..most).contains(&c).then_some(SHORT | (c as u64 & ((1 << SHORT_BITS) - 1)) << SHORT_AT)
}

impl Codegen {
    /// Whether the flags of `me` are put on record: somebody wants their word only to make it the guest's. Then, which
    /// flags others want of NZCV.
    pub fn records(&self, me: Value) -> Option<u16> {
        let fact = self.an.facts[me.index()];
        if fact.mask == 0 || !self.worded[fact.flags as usize] || !self.goes_to_guest(Value(fact.flags)) {
            return None;
        }
        let f = Value(fact.flags);
        let mut native = 0;
        let mut words = 0;
        for (i, inst) in self.insts.iter().enumerate().skip(f.index() + 1) {
            if !self.an.facts[i].needed || !inst.used().any(|v| v == f) {
                continue;
            }
            match inst.op {
                Op::SetFlags => words += 1,
                Op::TestCc if !matches!(Cc::ALL[inst.imm as usize & 15], Cc::P | Cc::NP) => {
                    native |= Cc::ALL[inst.imm as usize & 15].reads() as u16;
                }
                _ => return None,
            }
        }
        (words == 1).then_some(native)
    }

    /// Puts the flags of `a - b`, `a + b` or the product on record.
    pub fn record(&mut self, me: Value, kind: Kind, ty: Type, a: Reg, b: Value) {
        self.save_guest_flags();
        self.recorded = Some(Value(self.an.facts[me.index()].flags));
        let b = match self.constant(b) {
            Some(c) if short(ty, c).is_none() => Part::Reg(self.const_reg(c)),
            Some(c) => Part::Const(c),
            None => Part::Reg(self.reg(b)),
        };
        self.write_record(kind, ty, a, b);
    }

    /// Puts those of a logical operation with the result in `r` on record.
    pub fn record_logic(&mut self, me: Value, ty: Type, r: Reg) {
        self.save_guest_flags();
        self.recorded = Some(Value(self.an.facts[me.index()].flags));
        self.write_record(Kind::Logic, ty, r, Part::Const(0));
    }

    /// Writes a record. Changes [`S0`] at most, for a constant that does not fit.
    pub fn write_record(&mut self, kind: Kind, ty: Type, a: Reg, b: Part) {
        let at = slot(layout::RECORD);
        let b = match b {
            Part::Const(c) => match short(ty, c) {
                Some(bits) => Ok(bits),
                None => {
                    self.imm(S0, c);
                    Err(S0)
                }
            },
            Part::Reg(r) => Err(r),
        };
        let more = match b {
            Ok(bits) => {
                self.asm.str(Type::I64, a, STATE, at);
                bits
            }
            Err(r) => {
                self.asm.stp(a, r, STATE, at as i32);
                0
            }
        };
        let size = u64::from(super::asm::size(ty)) << SIZE_AT;
        self.asm.mov_imm(FLAGS, RECORD | more | size | (kind as u64) << KIND_AT);
    }

    /// Makes a word of the guest's flags if they are on record.
    pub fn settle_flags(&mut self) {
        let (label, resume) = (self.asm.label(), self.asm.label());
        self.asm.ubfx(false, S0, FLAGS, 27, 1);
        self.asm.cbz(true, false, S0, label);
        self.asm.resume(resume);
        self.stubs.push(Stub { label, resume, site: 0, kind: StubKind::Settle });
    }

    /// The routine that does: keeps all registers but [`S0`], [`S1`] and the link register, and NZCV.
    pub fn settle_code(&mut self) {
        let asm = &mut self.asm;
        asm.stp(0, 1, SP, 0);
        asm.stp(2, 3, SP, 16);
        asm.mrs_nzcv(S1);
        let (a, b, r, up): (Reg, Reg, Reg, Reg) = (0, 1, 2, 3);
        asm.ldp(a, b, STATE, slot(layout::RECORD) as i32);
        let (long, sub, logic, mul, known, aux) =
            (asm.label(), asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
        asm.ubfx(false, S0, FLAGS, 26, 1);
        asm.cbz(false, false, S0, long);
        asm.sbfx(true, b, FLAGS, SHORT_AT, SHORT_BITS);
        asm.bind(long);
        // To the top of 64 bits.
        asm.ubfx(false, S0, FLAGS, SIZE_AT, 2);
        asm.mov_imm(up, 8);
        asm.two(Two::Lsl, true, up, up, S0);
        asm.sub(true, up, ZR, up);
        asm.two(Two::Lsl, true, a, a, up);
        asm.two(Two::Lsl, true, b, b, up);
        asm.ubfx(false, S0, FLAGS, KIND_AT, 2);
        asm.cbz(false, false, S0, sub);
        asm.arith_imm(false, true, false, S0, S0, Kind::Logic as u64);
        asm.cbz(false, false, S0, logic);
        asm.arith_imm(false, true, false, S0, S0, Kind::Mul as u64 - Kind::Logic as u64);
        asm.cbz(false, false, S0, mul);
        asm.arith(true, false, true, r, a, b, 0);
        Self::word_of_sum(asm);
        asm.b(known);
        asm.bind(logic);
        asm.mov(true, r, a);
        asm.logic(Logic::Ands, true, ZR, a, a, 0);
        Self::word_of_sum(asm);
        asm.b(aux);
        asm.bind(mul);
        Self::word_of_product(asm, [a, b, r, up]);
        asm.b(aux);
        asm.bind(sub);
        asm.arith(true, true, true, r, a, b, 0);
        asm.mrs_nzcv(FLAGS);
        asm.bind(known);
        asm.logic(Logic::Eor, true, a, a, b, 0);
        asm.bind(aux);
        asm.two(Two::Lsr, true, r, r, up);
        asm.two(Two::Lsr, true, a, a, up);
        asm.bfxil(false, FLAGS, r, 0, 8);
        asm.bfi(false, FLAGS, a, 8, 8);
        asm.msr_nzcv(S1);
        asm.ldp(0, 1, SP, 0);
        asm.ldp(2, 3, SP, 16);
        asm.ret();
    }

    /// The word of the product of `a` and `b`, but for its low half; the result is in `r` and `a`, at the top. Changes [`S0`].
    fn word_of_product(asm: &mut Asm, [a, b, r, up]: [Reg; 4]) {
        asm.two(Two::Asr, true, a, a, up);
        asm.two(Two::Asr, true, b, b, up);
        asm.mulh(true, S0, a, b);
        asm.mul(true, r, a, b);
        // It is too long if 64 bits do not hold it, or the operands' size does not.
        asm.cmp_asr(true, S0, r, 63);
        asm.cset(S0, Cond::Ne);
        asm.two(Two::Lsl, true, a, r, up);
        asm.two(Two::Asr, true, b, a, up);
        asm.arith(true, true, true, ZR, b, r, 0);
        asm.cset(b, Cond::Ne);
        asm.logic(Logic::Orr, false, S0, S0, b, 0);
        asm.logic(Logic::Ands, true, ZR, a, a, 0);
        asm.mrs_nzcv(FLAGS);
        asm.bfi(false, FLAGS, S0, 28, 1);
        asm.logic_imm(Logic::Eor, false, S0, S0, 1);
        asm.bfi(false, FLAGS, S0, 29, 1);
        asm.mov(true, r, a);
    }

    /// NZCV as a word, C being that of an addition.
    fn word_of_sum(asm: &mut Asm) {
        asm.mrs_nzcv(FLAGS);
        asm.logic_imm(Logic::Eor, false, FLAGS, FLAGS, 1 << 29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, size: u64, a: u64, b: u64) -> u64 {
        let mut scratch = [0; layout::FLAGS + layout::RECORD + 2];
        scratch[layout::FLAGS] = RECORD | size << SIZE_AT | (kind as u64) << KIND_AT;
        scratch[layout::RECORD] = a;
        scratch[layout::RECORD + 1] = b;
        status_flags(&scratch)
    }

    #[test]
    fn a_record_says_what_the_manual_does() {
        // Intel SDM volume 1, 3.4.3.1; what is above the operands does not count.
        assert_eq!(of(Kind::Sub, 0, 0xff00, 0x1201), CF | AF | SF | PF);
        assert_eq!(of(Kind::Sub, 2, 0x8000_0000, 1), OF | AF | PF);
        assert_eq!(of(Kind::Add, 1, 0xffff, 1), CF | ZF | AF | PF);
        assert_eq!(of(Kind::Add, 3, i64::MAX as u64, 1), OF | SF | AF | PF);
        assert_eq!(of(Kind::Logic, 0, 0x180, 7), SF);
        assert_eq!(of(Kind::Mul, 1, 0x5_0100, 0x8_0100), CF | OF | ZF | PF);
        assert_eq!(of(Kind::Mul, 2, 0xffff_fffe, 3), SF | PF);
        assert_eq!(of(Kind::Mul, 3, 1 << 62, 2), CF | OF | SF | PF);
        assert_eq!(of(Kind::Mul, 3, u64::MAX, u64::MAX), 0);
        assert_eq!(of(Kind::Logic, 2, 0, 7), ZF | PF);
    }
}
