//! FMUL and FDIV, in all their forms. FDIVR is `div` with the operands exchanged.

use super::ctx::Ctx;
use super::f80::F80;
use super::operand::{Kind, Operand};
use super::wide::Wide;

impl Ctx {
    /// `a * b`, rounded to the precision-control width.
    pub fn mul(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        let (a, b) = match self.examine2(a.into(), b.into()) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        let negative = a.negative != b.negative;
        if matches!((a.kind, b.kind), (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity)) {
            return self.invalid();
        }
        if self.denormal(a.denormal || b.denormal) {
            return a.value;
        }
        match (a.kind, b.kind) {
            (Kind::Infinity, _) | (_, Kind::Infinity) => F80::infinity(negative),
            (Kind::Zero, _) | (_, Kind::Zero) => F80::zero(negative),
            _ => {
                let product = u128::from(a.mant) * u128::from(b.mant);
                self.round(Wide::new(negative, a.exp + b.exp + 1, product), self.precision)
            }
        }
    }

    /// `a / b`, rounded to the precision-control width. A denormal divided by zero raises ZE alone.
    pub fn div(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        let (a, b) = match self.examine2(a.into(), b.into()) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        let negative = a.negative != b.negative;
        match (a.kind, b.kind) {
            (Kind::Infinity, Kind::Infinity) | (Kind::Zero, Kind::Zero) => return self.invalid(),
            (Kind::Finite, Kind::Zero) => return self.zero_divide(negative),
            _ => {}
        }
        if self.denormal(a.denormal || b.denormal) {
            return a.value;
        }
        match (a.kind, b.kind) {
            (Kind::Infinity, _) => F80::infinity(negative),
            (Kind::Zero, _) | (_, Kind::Infinity) => F80::zero(negative),
            _ => {
                let (mant, down) = quotient(a.mant, b.mant);
                self.round(Wide { negative, exp: a.exp - b.exp - down, mant }, self.precision)
            }
        }
    }
}

/// `a / b` of two significands as 64 exact bits, a round bit and a sticky bit; and 1 if it is below one.
fn quotient(a: u64, b: u64) -> (u128, i32) {
    let below = i32::from(a < b);
    let dividend = u128::from(a) << (63 + below);
    let b = u128::from(b);
    let (quotient, rest) = (dividend / b, dividend % b);
    let round = rest * 2 >= b;
    let sticky = rest * 2 != if round { b } else { 0 };
    (quotient << 64 | u128::from(round) << 63 | u128::from(sticky), below)
}
