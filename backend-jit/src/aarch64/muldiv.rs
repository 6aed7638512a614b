//! Multiplication and division.

use super::Codegen;
use super::asm::{Cond, Two, ZR};
use super::mem::StubKind;
use super::record::Kind;
use super::vals::{S0, S1, S2};
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

const OVER: u16 = (rflags::CF | rflags::OF) as u16;

impl Codegen {
    /// Mul, MulHiU, MulHiS.
    pub fn multiply(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let wide = ty == Type::I64;
        let bits = ty.bits() as u8;
        let (a, b) = (inst.args[0], inst.args[1]);
        let fact = self.an.facts[me.index()];
        let record = inst.op == Op::Mul && self.records(me) == Some(0);
        if fact.mask == 0 || record {
            let d = self.flags_dest(me, true);
            if record {
                let (a, b) = if self.constant(a).is_some() { (b, a) } else { (a, b) };
                let ra = self.reg(a);
                self.record(me, Kind::Mul, ty, ra, b);
            }
            let unsigned = inst.op == Op::MulHiU;
            match (inst.op, wide) {
                (Op::Mul, _) => {
                    let (ra, rb) = (self.reg(a), self.reg(b));
                    self.asm.mul(wide, d.reg, ra, rb);
                }
                (_, true) => {
                    let (ra, rb) = (self.reg(a), self.reg(b));
                    self.asm.mulh(!unsigned, d.reg, ra, rb);
                }
                (_, false) => {
                    self.product(!unsigned, a, b);
                    self.asm.ubfx(true, d.reg, S0, bits, bits);
                }
            }
            return self.finish_wanted(me, d, Self::is_wide(ty) || inst.op != Op::Mul);
        }
        // With flags: the low half in `low`, overflow in `cf`, and the high half if it is the value.
        let signed = inst.op != Op::MulHiU;
        self.save_flags();
        let (low, cf) = (self.temp(), S2);
        let d = if fact.last == 0 {
            None
        } else if inst.op == Op::Mul {
            Some(low)
        } else {
            Some(self.temp())
        };
        if wide {
            let (ra, rb) = (self.reg(a), self.reg(b));
            self.asm.mulh(signed, S0, ra, rb);
            self.asm.mul(true, low, ra, rb);
        } else {
            self.product(signed, a, b);
            self.asm.ubfx(true, low, S0, 0, bits);
        }
        if fact.mask & OVER != 0 {
            match (wide, signed) {
                (true, true) => self.asm.cmp_asr(true, S0, low, 63),
                (true, false) => self.asm.arith(true, true, true, ZR, S0, ZR, 0),
                (false, true) => {
                    self.asm.sext(ty, true, S1, low);
                    self.asm.arith(true, true, true, ZR, S0, S1, 0);
                }
                (false, false) => self.asm.arith(true, true, true, ZR, S0, low, 0),
            }
            self.asm.cset(cf, Cond::Ne);
        }
        if let (Some(d), true) = (d, inst.op != Op::Mul) {
            match wide {
                true => self.asm.mov(true, d, S0),
                false => self.asm.ubfx(true, d, S0, bits, bits),
            }
        }
        if let Some(d) = d {
            self.set_temp(me, d, true);
        }
        self.asm.mov(false, S0, cf);
        self.word_by_parts(me, ty, low, Some(cf), Some(S0));
    }

    /// The product of two operands narrower than 64 bits, in [`S0`].
    fn product(&mut self, signed: bool, a: Value, b: Value) {
        let (ra, rb) = match signed {
            true => (self.signed(a, false, S0), self.signed(b, false, S1)),
            false => (self.clean(a, S0), self.clean(b, S1)),
        };
        self.asm.mull(signed, S0, ra, rb);
    }

    /// DivU, RemU, DivS, RemS.
    pub fn divide(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let (wide, bits) = (ty == Type::I64, ty.bits() as u8);
        let signed = matches!(inst.op, Op::DivS | Op::RemS);
        let quotient = matches!(inst.op, Op::DivU | Op::DivS);
        let (hi, lo, by) = (inst.args[0], inst.args[1], inst.args[2]);
        let (slow, resume) = (self.asm.label(), self.asm.label());
        let (rhi, rlo, rby) = (self.reg(hi), self.reg(lo), self.reg_nz(by));
        // With nothing in the high half it fits.
        let short = !signed && bits >= 32 && self.constant(hi) == Some(0);
        if !short {
            self.save_flags();
        }
        let site = self.site();
        let t = S2;
        if short {
            self.asm.cbz(false, wide, rby, slow);
            self.asm.two(Two::Udiv, wide, S0, rlo, rby);
            if !quotient {
                self.asm.msub(wide, S0, S0, rby, rlo);
            }
        } else if wide {
            // The high half must be nothing but the low half's sign, or zero.
            match signed {
                true => self.asm.cmp_asr(true, rhi, rlo, 63),
                false => self.asm.arith(true, true, true, ZR, rhi, ZR, 0),
            }
            self.asm.b_cond(Cond::Ne, slow);
            self.asm.cbz(false, true, rby, slow);
            if signed {
                // The most negative number by -1.
                self.asm.arith_imm(true, false, true, ZR, rby, 1);
                self.asm.b_cond(Cond::Eq, slow);
            }
            self.asm.two(if signed { Two::Sdiv } else { Two::Udiv }, true, S0, rlo, rby);
            if !quotient {
                self.asm.msub(true, S0, S0, rby, rlo);
            }
        } else {
            // As 64 bits: hi:lo by by.
            self.asm.zext(ty, S0, rlo);
            self.asm.bfi(true, S0, rhi, bits, 64 - bits);
            if signed {
                self.asm.sbfx(true, S0, S0, 0, 2 * bits);
                self.asm.sext(ty, true, S1, rby);
            } else {
                self.asm.ubfx(true, S0, S0, 0, 2 * bits);
                self.asm.zext(ty, S1, rby);
            }
            self.asm.cbz(false, true, S1, slow);
            self.asm.two(if signed { Two::Sdiv } else { Two::Udiv }, true, t, S0, S1);
            // It has to fit.
            if !quotient {
                self.asm.msub(true, S0, t, S1, S0);
            }
            match signed {
                true => self.asm.sext(ty, true, S1, t),
                false => self.asm.zext(ty, S1, t),
            }
            self.asm.arith(true, true, true, ZR, t, S1, 0);
            self.asm.b_cond(Cond::Ne, slow);
            let from = if quotient { t } else { S0 };
            self.asm.zext(ty, S0, from);
        }
        self.asm.bind(resume);
        let d = self.temp();
        self.asm.mov(true, d, S0);
        self.set_temp(me, d, true);
        let kind = StubKind::Div { signed, ty, quotient, hi: rhi, lo: rlo, by: rby };
        self.stubs.push(super::mem::Stub { label: slow, resume, site, kind });
    }
}
