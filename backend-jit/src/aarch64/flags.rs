//! Flags and truth values.
//!
//! **A flags word** is how flags are kept in a register: bits 31-28 are SF, ZF, *not* CF and OF, as NZCV after a
//! subtraction; bits 7-0 are a byte of which PF is the (even) parity; AF is bit 12 exclusive or bit 4. So a
//! subtraction's word is its NZCV, the low byte of its result, and in bits 15-8 that of `a ^ b`. The guest's word is in
//! a register of its own; the engine converts it at the border ([`to_word`], [`from_word`]).
//!
//! Invariants:
//! - `native` names the flags value that NZCV holds, and what its carry means; `bools` are the truth values whose place
//!   is a condition of NZCV;
//! - an emitter calls `save_flags` before an instruction that changes NZCV, and after it has looked up operands that are
//!   flags or truth values; that may change `S2`;
//! - a value that anybody reads as a word (`worded`) gets its word with the op that makes it;
//! - `guest_flags` lists the values whose place is the guest's word.

use super::asm::{Cond, Logic, Reg, ZR};
use super::vals::{FLAGS, S0, S1, S2};
use super::{Codegen, Loc};
use emu_core::ir::{Cc, Inst, Op, Type, Value};
use emu_core::state::bits::rflags::{AF, CF, OF, PF, SF, STATUS, ZF};

/// The flags word of the status flags in `flags`.
pub fn to_word(flags: u64) -> u64 {
    let bit = |flag: u64, at: u32| if flags & flag != 0 { 1u64 << at } else { 0 };
    bit(SF, 31) | bit(ZF, 30) | (bit(CF, 29) ^ 1 << 29) | bit(OF, 28) | bit(AF, 12) | (bit(PF, 0) ^ 1)
}

/// The status flags of a flags word, in RFLAGS positions.
pub fn from_word(word: u64) -> u64 {
    let bit = |at: u32, flag: u64| if word >> at & 1 != 0 { flag } else { 0 };
    let parity = if (word as u8).count_ones().is_multiple_of(2) { PF } else { 0 };
    let af = if (word >> 12 ^ word >> 4) & 1 != 0 { AF } else { 0 };
    bit(31, SF) | bit(30, ZF) | (bit(29, CF) ^ CF) | bit(28, OF) | af | parity
}

/// What the C of NZCV says about CF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carry {
    /// C is CF, as after an addition.
    Direct,
    /// C is not CF, as after a subtraction.
    Inverted,
    /// CF and OF are clear, as is C: after a logical operation.
    Clear,
}

/// Where AF comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aux {
    /// It is clear.
    Clear,
    /// Bit 4 of this register, exclusive or bit 4 of the result.
    From(Reg),
}

const P: u16 = PF as u16;
const A: u16 = AF as u16;
const C: u16 = CF as u16;
const V: u16 = OF as u16;
const Z: u16 = ZF as u16;
const N: u16 = SF as u16;
/// Bits 31-28 of a word.
const NZCV: u16 = N | Z | C | V;

impl Codegen {
    /// Finds the values that have to have a word.
    pub fn find_words(&mut self) {
        self.worded.clear();
        self.worded.resize(self.insts.len(), false);
        for i in 0..self.insts.len() {
            let inst = self.insts[i];
            if !self.an.facts[i].needed {
                continue;
            }
            let word = match inst.op {
                Op::TestCc => Cc::ALL[inst.imm as usize & 15].reads() & PF as u32 != 0,
                Op::Adc | Op::Sbb => false,
                _ => true,
            };
            for v in inst.used().filter(|_| word) {
                if self.insts[v.index()].result() == Type::Flags {
                    self.worded[v.index()] = true;
                }
            }
        }
    }

    /// NZCV is about to change: what is in it and lives on is saved.
    pub fn save_flags(&mut self) {
        while let Some(b) = self.bools.last().copied() {
            if self.lives(b) {
                self.save_bool(b);
            } else {
                self.bools.pop();
            }
        }
        if let Some((f, _)) = self.native {
            if self.lives(f) && matches!(self.val[f.index()].loc, Loc::None) {
                self.save_native();
            }
            self.native = None;
        }
    }

    /// Gives the value in NZCV a word, without PF and AF: nobody who wants those is left.
    fn save_native(&mut self) {
        let Some((f, carry)) = self.native else { return };
        self.asm.mrs_nzcv(S2);
        if carry != Carry::Inverted {
            self.asm.logic_imm(Logic::Eor, false, S2, S2, 1 << 29);
        }
        self.keep(f, S2);
    }

    /// Gives a truth value in NZCV a register of its own.
    pub fn save_bool(&mut self, b: Value) {
        let Loc::Cc(c) = self.val[b.index()].loc else { return };
        self.bools.retain(|&x| x != b);
        self.asm.cset(S2, c);
        self.keep(b, S2);
    }

    /// The register that holds the word of `f`.
    pub fn word(&mut self, f: Value) -> Reg {
        if matches!(self.val[f.index()].loc, Loc::None) && self.native.is_some_and(|(n, _)| n == f) {
            self.save_native();
        }
        self.reg(f)
    }

    /// A register for the word of `f`: the guest's, if it is made the guest's before anybody can see that.
    pub fn word_dest(&mut self, f: Value) -> Reg {
        if self.goes_to_guest(f) {
            self.save_guest_flags();
            return FLAGS;
        }
        self.temp()
    }

    /// Whether `f` is made the guest's flags before anybody can see that.
    pub fn goes_to_guest(&self, f: Value) -> bool {
        for j in self.at + 1..self.insts.len() {
            let inst = self.insts[j];
            match inst.op {
                Op::SetFlags if inst.args[0] == f && self.an.facts[j].needed => return true,
                Op::SetFlags | Op::GetFlags | Op::ExitIf | Op::System => break,
                op if op.can_fault() || op.is_terminator() => break,
                _ => {}
            }
        }
        false
    }

    /// `f` has its word in `r`.
    pub fn set_word(&mut self, f: Value, r: Reg) {
        if r == FLAGS {
            self.val[f.index()].loc = Loc::Word;
            self.guest_flags.push(f);
        } else {
            self.set_temp(f, r, true);
        }
    }

    /// The guest's word is about to change: values that live on move out.
    pub fn save_guest_flags(&mut self) {
        for f in std::mem::take(&mut self.guest_flags) {
            if !self.lives(f) {
                // An operand of the op in hand keeps its place until that is done.
                self.guest_flags.push(f);
                continue;
            }
            self.keep(f, FLAGS);
        }
    }

    /// NZCV are the flags of `me`, whose result's low byte is in `r`.
    pub fn flags_done(&mut self, me: Value, carry: Carry, r: Reg, aux: Aux) {
        let fact = self.an.facts[me.index()];
        if fact.mask == 0 {
            return;
        }
        let f = Value(fact.flags);
        self.native = Some((f, carry));
        if !self.worded[f.index()] || self.recorded == Some(f) {
            return;
        }
        let d = self.word_dest(f);
        if fact.mask & NZCV != 0 {
            self.asm.mrs_nzcv(d);
            if carry != Carry::Inverted && fact.mask & C != 0 {
                self.asm.logic_imm(Logic::Eor, false, d, d, 1 << 29);
            }
        } else {
            self.asm.mov_imm(d, 0);
        }
        self.word_low(d, fact.mask, r, aux);
        self.set_word(f, d);
    }

    /// PF and AF of a word.
    fn word_low(&mut self, d: Reg, mask: u16, r: Reg, aux: Aux) {
        if mask & (P | A) != 0 {
            self.asm.bfxil(false, d, r, 0, 8);
        }
        if mask & A != 0 {
            let from = match aux {
                Aux::Clear => r,
                Aux::From(x) => x,
            };
            self.asm.bfi(false, d, from, 8, 8);
        }
    }

    /// Makes the word of the flags of `me` by its result `r` (of width `ty`), with AF clear, CF from bit 0 of `cf` and OF
    /// from bit 0 of `of` where they are given, else clear. Changes `cf`, NZCV, and neither `r` nor `of`; they are not
    /// [`S1`].
    pub fn word_by_parts(&mut self, me: Value, ty: Type, r: Reg, cf: Option<Reg>, of: Option<Reg>) {
        let fact = self.an.facts[me.index()];
        if fact.mask == 0 {
            return;
        }
        let f = Value(fact.flags);
        if fact.mask & (N | Z) != 0 {
            self.test_result(ty, r, S1);
        }
        if !self.worded[f.index()] && fact.mask & !(N | Z) == 0 {
            self.native = Some((f, Carry::Clear));
            return;
        }
        let d = self.word_dest(f);
        if fact.mask & (N | Z) != 0 {
            self.asm.mrs_nzcv(d);
        } else {
            self.asm.mov_imm(d, 0);
        }
        if fact.mask & C != 0 {
            match cf {
                Some(c) => {
                    self.asm.logic_imm(Logic::Eor, false, c, c, 1);
                    self.asm.bfi(false, d, c, 29, 1);
                }
                None => self.asm.logic_imm(Logic::Orr, false, d, d, 1 << 29),
            }
        }
        if let (Some(v), true) = (of, fact.mask & V != 0) {
            self.asm.bfi(false, d, v, 28, 1);
        }
        self.word_low(d, fact.mask, r, Aux::Clear);
        self.set_word(f, d);
    }

    /// N and Z of `r`, with C and V clear.
    pub fn test_result(&mut self, ty: Type, r: Reg, scratch: Reg) {
        self.save_flags();
        match ty {
            Type::I8 | Type::I16 => {
                self.asm.lsl_imm(false, scratch, r, 32 - ty.bits() as u8);
                self.asm.logic(Logic::Ands, false, ZR, scratch, scratch, 0);
            }
            _ => self.asm.logic(Logic::Ands, ty == Type::I64, ZR, r, r, 0),
        }
    }

    pub fn get_flags(&mut self, me: Value) {
        self.settle_flags();
        self.val[me.index()].loc = Loc::Word;
        self.guest_flags.push(me);
    }

    pub fn set_flags(&mut self, inst: &Inst) {
        let f = inst.args[0];
        self.lazy = self.recipe_here();
        // What only the exit behind it sees is nobody's either.
        if !f.is_some()
            || self.lazy.is_some()
            || self.recorded == Some(f)
            || self.val[f.index()].loc == Loc::Word
        {
            return;
        }
        let r = self.word(f);
        self.save_guest_flags();
        self.asm.mov(false, FLAGS, r);
    }

    /// Loads `f` into NZCV; gives what its carry then means.
    fn flags_to_host(&mut self, f: Value) -> Carry {
        if let Some((n, carry)) = self.native
            && n == f
        {
            return carry;
        }
        let r = self.word(f);
        self.save_flags();
        self.asm.msr_nzcv(r);
        self.native = Some((f, Carry::Inverted));
        Carry::Inverted
    }

    /// Puts CF of `f` into C, inverted or not.
    pub fn carry_to_host(&mut self, f: Value, inverted: bool) {
        let have = match self.native {
            Some((n, Carry::Direct)) if n == f => Some(false),
            Some((n, Carry::Inverted)) if n == f => Some(true),
            _ => None,
        };
        if have == Some(inverted) {
            return;
        }
        let r = self.word(f);
        self.save_flags();
        if inverted {
            self.asm.msr_nzcv(r);
        } else {
            self.asm.logic_imm(Logic::Eor, false, S0, r, 1 << 29);
            self.asm.msr_nzcv(S0);
        }
    }

    /// CF of the word in `w` as 0 or 1.
    pub fn carry_bit(&mut self, d: Reg, w: Reg) {
        self.asm.ubfx(false, d, w, 29, 1);
        self.asm.logic_imm(Logic::Eor, false, d, d, 1);
    }

    pub fn test_cc(&mut self, me: Value, inst: &Inst) {
        let (f, cc) = (inst.args[0], Cc::ALL[inst.imm as usize & 15]);
        if matches!(cc, Cc::P | Cc::NP) {
            let r = self.word(f);
            self.parity(S0, r);
            let d = self.temp();
            match cc {
                Cc::NP => self.asm.logic_imm(Logic::And, false, d, S0, 1),
                _ => {
                    self.asm.logic(Logic::Orn, false, d, ZR, S0, 0);
                    self.asm.logic_imm(Logic::And, false, d, d, 1);
                }
            }
            return self.set_temp(me, d, true);
        }
        let mut carry = self.flags_to_host(f);
        if carry == Carry::Direct && matches!(cc, Cc::BE | Cc::A) {
            // C and Z in the sense of a subtraction.
            self.asm.mrs_nzcv(S0);
            self.asm.logic_imm(Logic::Eor, false, S0, S0, 1 << 29);
            let was = self.native;
            if self.bools.iter().any(|&b| self.lives(b)) {
                self.save_flags();
            }
            self.asm.msr_nzcv(S0);
            self.native = was.map(|(f, _)| (f, Carry::Inverted));
            carry = Carry::Inverted;
        }
        let c = match (cc as u8 >> 1, carry) {
            (0, _) => Cond::Vs,
            (1, Carry::Inverted) => Cond::Cc,
            // With CF clear, C is too.
            (1, _) => Cond::Cs,
            (2, _) => Cond::Eq,
            (3, Carry::Clear) => Cond::Eq,
            (3, _) => Cond::Ls,
            (4, _) => Cond::Mi,
            (6, _) => Cond::Lt,
            _ => Cond::Le,
        };
        let c = if cc as u8 & 1 != 0 { c.invert() } else { c };
        self.val[me.index()].loc = Loc::Cc(c);
        self.bools.push(me);
    }

    /// The parity of the low byte of `w` in bit 0 of `d`: 1 if it is odd. `d` may be [`S0`] or [`S1`].
    pub fn parity(&mut self, d: Reg, w: Reg) {
        self.asm.logic_lsr(Logic::Eor, false, d, w, w, 4);
        self.asm.logic_lsr(Logic::Eor, false, d, d, d, 2);
        self.asm.logic_lsr(Logic::Eor, false, d, d, d, 1);
    }

    /// CmpEq and its kin.
    pub fn compare_bool(&mut self, me: Value, inst: &Inst) {
        let (a, b) = (inst.args[0], inst.args[1]);
        let ty = self.insts[a.index()].ty;
        let wide = ty == Type::I64;
        let signed = matches!(inst.op, Op::CmpSlt | Op::CmpSle);
        let (ra, rb) = match signed {
            true => (self.signed(a, wide, S0), self.signed(b, wide, S1)),
            false => (self.clean(a, S0), self.clean(b, S1)),
        };
        self.save_flags();
        self.asm.arith(wide, true, true, ZR, ra, rb, 0);
        let c = match inst.op {
            Op::CmpEq => Cond::Eq,
            Op::CmpNe => Cond::Ne,
            Op::CmpUlt => Cond::Cc,
            Op::CmpUle => Cond::Ls,
            Op::CmpSlt => Cond::Lt,
            _ => Cond::Le,
        };
        self.val[me.index()].loc = Loc::Cc(c);
        self.bools.push(me);
    }

    /// Flags in the mask from a, the others from b.
    pub fn merge_flags(&mut self, me: Value, inst: &Inst) {
        let (a, b) = (inst.args[0], inst.args[1]);
        let want = self.an.facts[me.index()].mask;
        let mask = inst.imm as u16 & STATUS as u16;
        if want & !mask == 0 {
            return self.copy_word(me, a);
        }
        if want & mask == 0 {
            return self.copy_word(me, b);
        }
        let (wa, wb) = (self.word(a), self.word(b));
        // Built in S1, beginning with whichever gives the low half.
        let low = P | A;
        let (base, other, take) =
            if mask & want & low != 0 { (wa, wb, want & !mask) } else { (wb, wa, want & mask) };
        self.asm.mov(false, S1, base);
        for (flag, at) in [(N, 31), (Z, 30), (C, 29), (V, 28)] {
            if take & flag != 0 {
                self.asm.logic_lsr(Logic::Orr, false, S0, ZR, other, at);
                self.asm.bfi(false, S1, S0, at, 1);
            }
        }
        if take & low != 0 {
            self.merge_low(take, base, other);
        }
        let d = self.word_dest(me);
        self.asm.mov(false, d, S1);
        self.set_word(me, d);
    }

    /// PF or AF of the word in S1, or both, from `other`, the rest of it being from `base`.
    fn merge_low(&mut self, take: u16, base: Reg, other: Reg) {
        let (pf, af) = if take & P != 0 { (other, base) } else { (base, other) };
        let af = if take & (P | A) == P | A { other } else { af };
        // AF as a bit of its own, then against the byte that gives PF.
        self.asm.logic_lsr(Logic::Eor, false, S0, af, af, 8);
        self.asm.bfxil(false, S1, pf, 0, 8);
        self.asm.logic(Logic::Eor, false, S0, S0, S1, 0);
        self.asm.bfi(false, S1, S0, 8, 8);
    }

    /// `me` is the same flags as `f`.
    fn copy_word(&mut self, me: Value, f: Value) {
        let r = self.word(f);
        if r == FLAGS {
            // Values in the guest's word are moved out when it changes, so it can be shared.
            self.val[me.index()].loc = Loc::Word;
            self.guest_flags.push(me);
            return;
        }
        let d = self.word_dest(me);
        self.asm.mov(false, d, r);
        self.set_word(me, d);
    }

    pub fn select_flags(&mut self, me: Value, inst: &Inst) {
        let (b, c) = (self.word(inst.args[1]), self.word(inst.args[2]));
        let cond = self.condition(inst.args[0]);
        let d = self.word_dest(me);
        self.asm.csel(false, d, b, c, cond);
        self.set_word(me, d);
    }

    pub fn pack_flags(&mut self, me: Value, inst: &Inst) {
        let w = self.word(inst.args[0]);
        let d = self.temp();
        self.carry_bit(d, w);
        self.parity(S0, w);
        self.asm.logic(Logic::Orn, false, S0, ZR, S0, 0);
        self.asm.bfi(false, d, S0, 2, 1);
        self.asm.logic_lsr(Logic::Eor, false, S0, w, w, 8);
        self.asm.lsr_imm(false, S0, S0, 4);
        self.asm.bfi(false, d, S0, 4, 1);
        for (from, to) in [(30, 6), (31, 7), (28, 11)] {
            self.asm.lsr_imm(false, S0, w, from);
            self.asm.bfi(false, d, S0, to, 1);
        }
        self.set_temp(me, d, true);
    }

    pub fn unpack_flags(&mut self, me: Value, inst: &Inst) {
        let x = self.reg(inst.args[0]);
        // PF clear is an odd byte.
        self.asm.logic(Logic::Orn, false, S0, ZR, x, 0);
        self.asm.ubfx(false, S1, S0, 2, 1);
        self.asm.bfi(false, S1, S0, 29, 1);
        for (from, to) in [(4, 12), (6, 30), (7, 31), (11, 28)] {
            self.asm.lsr_imm(false, S0, x, from);
            self.asm.bfi(false, S1, S0, to, 1);
        }
        let d = self.word_dest(me);
        self.asm.mov(false, d, S1);
        self.set_word(me, d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_convert_both_ways() {
        for bits in 0..64u64 {
            let f = [0, 2, 4, 6, 7, 11].iter().enumerate().fold(0, |f, (i, &b)| f | (bits >> i & 1) << b);
            assert_eq!(from_word(to_word(f)), f);
        }
    }
}
