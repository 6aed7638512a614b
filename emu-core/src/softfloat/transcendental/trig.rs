//! FSIN, FCOS, FSINCOS and FPTAN.
//!
//! Arguments are reduced by a pi of 66 significant bits, exactly. This is what SDM vol. 1, 8.3.8 documents and
//! what both Intel's and AMD's processors do (measured on a Zen 4: `fsin` of the 64-bit pi gives -2^-64 there,
//! not -5.02e-20). Seen as functions of the true pi, results near its multiples are therefore off, just as they
//! are on the processor; seen as functions with the 66-bit pi, they are correct to the last place.

use super::super::ctx::{Ctx, Flags};
use super::super::f80::F80;
use super::super::operand::{Kind, Operand, Parts};
use super::super::wide::Wide;
use super::series;

/// The 66-bit pi in units of 2^-64; in units of 2^-65 it is half of pi.
const PI_66: u128 = 0x3_243f_6a88_85a3_08d3;

/// Arguments of this exponent or more are out of range: C2 is set and the operand stays.
const RANGE: i32 = 63;

/// An argument that needs computing, or the answer.
enum Argument {
    Angle(Angle),
    /// The operand is a zero.
    Zero(F80),
    /// A NaN, an operand out of range, or an exception that stops the instruction.
    Done(F80),
}

/// An angle as `quadrant * pi/2 + rest` with `|rest| <= pi/4`, and its sine and cosine.
struct Angle {
    quadrant: u32,
    rest: Wide,
}

impl Angle {
    fn new(a: &Parts) -> Angle {
        let x = Wide::from_parts(a);
        if a.exp < -1 {
            return Angle { quadrant: 0, rest: x };
        }
        let units = u128::from(a.mant) << (a.exp + 2);
        let (mut quadrant, mut rest) = ((units / PI_66) as u32, units % PI_66);
        let mut negative = a.negative;
        if rest > PI_66 / 2 {
            rest = PI_66 - rest;
            quadrant = quadrant.wrapping_add(1);
            negative = !negative;
        }
        // A negative angle is the mirror image: its quadrants count down.
        let quadrant = if a.negative { quadrant.wrapping_neg() } else { quadrant };
        Angle { quadrant: quadrant & 3, rest: Wide::new(negative, 62, rest) }
    }

    fn rest_sin(&self) -> Wide {
        let z = self.rest.mul(self.rest).to_fixed();
        self.rest.mul(Wide::from_fixed(series::alternating(&series::SIN, z)))
    }

    fn rest_cos(&self) -> Wide {
        let z = self.rest.mul(self.rest).to_fixed();
        Wide::from_fixed(series::alternating(&series::COS, z))
    }

    fn sin(&self) -> Wide {
        let v = if self.quadrant & 1 == 0 { self.rest_sin() } else { self.rest_cos() };
        if self.quadrant & 2 == 0 { v } else { v.neg() }
    }

    fn cos(&self) -> Wide {
        let v = if self.quadrant & 1 == 0 { self.rest_cos() } else { self.rest_sin() };
        if (self.quadrant + 1) & 2 == 0 { v } else { v.neg() }
    }

    fn tan(&self) -> Wide {
        let r = self.rest;
        if self.quadrant & 1 != 0 {
            return self.rest_cos().div(self.rest_sin()).neg();
        }
        if r.exp < -40 {
            // So close to zero that r + r^3/3 is all there is; the quotient would hide that it exceeds r.
            let cube = r.mul(r).mul(r);
            return r.add(cube.div(Wide::new(false, 127, 3)));
        }
        self.rest_sin().div(self.rest_cos())
    }
}

impl Ctx {
    /// FSIN. Out of range sets C2 and gives the operand back.
    pub fn sin(&mut self, a: impl Into<Operand>) -> F80 {
        match self.argument(a.into()) {
            Argument::Angle(angle) => self.round_irrational(angle.sin()),
            Argument::Zero(v) | Argument::Done(v) => v,
        }
    }

    /// FCOS. Out of range sets C2 and gives the operand back.
    pub fn cos(&mut self, a: impl Into<Operand>) -> F80 {
        match self.argument(a.into()) {
            Argument::Angle(angle) => self.round_irrational(angle.cos()),
            Argument::Zero(_) => F80::ONE,
            Argument::Done(v) => v,
        }
    }

    /// FSINCOS: the sine, which replaces ST(0), and the cosine, which is then pushed. If C2 is set nothing is
    /// pushed. C1 speaks of the sine.
    pub fn sin_cos(&mut self, a: impl Into<Operand>) -> (F80, F80) {
        match self.argument(a.into()) {
            Argument::Angle(angle) => {
                let cos = self.round_irrational(angle.cos());
                self.flags = self.flags & !Flags::C1;
                (self.round_irrational(angle.sin()), cos)
            }
            Argument::Zero(v) => (v, F80::ONE),
            Argument::Done(v) => (v, v),
        }
    }

    /// FPTAN: the tangent, which replaces ST(0), and what is then pushed: 1, or the NaN again. If C2 is set
    /// nothing is pushed.
    pub fn tan(&mut self, a: impl Into<Operand>) -> (F80, F80) {
        match self.argument(a.into()) {
            Argument::Angle(angle) => (self.round_irrational(angle.tan()), F80::ONE),
            Argument::Zero(v) => (v, F80::ONE),
            Argument::Done(v) => (v, v),
        }
    }

    fn argument(&mut self, a: Operand) -> Argument {
        let a = match self.examine1(a) {
            Ok(a) => a,
            Err(nan) => return Argument::Done(nan),
        };
        match a.kind {
            Kind::Zero => Argument::Zero(a.value),
            Kind::Infinity => Argument::Done(self.invalid()),
            _ if a.exp >= RANGE => {
                self.flags |= Flags::C2;
                Argument::Done(a.value)
            }
            _ if self.denormal(a.denormal) => Argument::Done(a.value),
            _ => Argument::Angle(Angle::new(&a)),
        }
    }
}
