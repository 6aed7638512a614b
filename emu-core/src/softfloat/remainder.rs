//! FPREM and FPREM1, with the partial reduction that leaves C2 set.
//!
//! Intel SDM vol. 2, FPREM and FPREM1. When the exponents are 64 or more apart, one execution takes off
//! `N = 32 + (D mod 32)` bits of the distance `D`, so the next ones always take off 32: the manual leaves N
//! free between 32 and 63, and this is the processors' choice.

use super::ctx::{Ctx, Flags, Precision};
use super::f80::F80;
use super::operand::{Kind, Operand, Parts};
use super::wide::Wide;

impl Ctx {
    /// FPREM: `a - b * trunc(a / b)`. The quotient's bits 2, 1, 0 go to C0, C3, C1; C2 says it is partial.
    pub fn rem(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        self.reduce(a.into(), b.into(), false)
    }

    /// FPREM1: `a - b * nearest(a / b)`, ties to even. Condition codes as for [`Ctx::rem`].
    pub fn rem_nearest(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        self.reduce(a.into(), b.into(), true)
    }

    fn reduce(&mut self, a: Operand, b: Operand, nearest: bool) -> F80 {
        let (a, b) = match self.examine2(a, b) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        if a.kind == Kind::Infinity || b.kind == Kind::Zero {
            return self.invalid();
        }
        if self.denormal(a.denormal || b.denormal) || a.kind == Kind::Zero {
            return a.value;
        }
        let distance = a.exp - b.exp;
        if b.kind == Kind::Infinity || distance < -1 || (distance < 0 && !nearest) {
            return self.round(Wide::from_parts(&a), Precision::Extended64);
        }
        if distance >= 64 {
            return self.reduce_partly(&a, &b, distance);
        }
        self.reduce_fully(&a, &b, distance, nearest)
    }

    fn reduce_partly(&mut self, a: &Parts, b: &Parts, distance: i32) -> F80 {
        let step = 32 + distance % 32;
        let rest = (u128::from(a.mant) << step) % u128::from(b.mant);
        self.flags |= Flags::C2;
        // `rest` counts units of 2^(b.exp + distance - step - 63).
        let exp = b.exp + distance - step + 64;
        self.round(Wide::new(a.negative, exp, rest), Precision::Extended64)
    }

    /// The distance is -1 to 63.
    fn reduce_fully(&mut self, a: &Parts, b: &Parts, distance: i32, nearest: bool) -> F80 {
        let unit = a.exp.min(b.exp);
        let dividend = u128::from(a.mant) << distance.max(0);
        let divisor = u128::from(b.mant) << i32::from(distance < 0);
        let (mut quotient, mut rest) = (dividend / divisor, dividend % divisor);
        let mut negative = a.negative;
        if nearest && (rest * 2 > divisor || (rest * 2 == divisor && quotient & 1 != 0)) {
            quotient += 1;
            rest = divisor - rest;
            negative = !negative;
        }
        for (bit, flag) in [(1, Flags::C1), (2, Flags::C3), (4, Flags::C0)] {
            if quotient & bit != 0 {
                self.flags |= flag;
            }
        }
        if rest == 0 {
            return F80::zero(a.negative);
        }
        self.round(Wide::new(negative, unit + 64, rest), Precision::Extended64)
    }
}
