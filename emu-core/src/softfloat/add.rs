//! FADD and FSUB, in all their forms. FSUBR is `sub` with the operands exchanged.

use super::ctx::{Ctx, Rounding};
use super::f80::F80;
use super::operand::{Kind, Operand, Parts};
use super::wide::{Wide, shift_right_sticky};

impl Ctx {
    /// `a + b`, rounded to the precision-control width.
    pub fn add(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        self.add_signed(a.into(), b.into(), false)
    }

    /// `a - b`, rounded to the precision-control width.
    pub fn sub(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        self.add_signed(a.into(), b.into(), true)
    }

    fn add_signed(&mut self, a: Operand, b: Operand, negate: bool) -> F80 {
        let (a, mut b) = match self.examine2(a, b) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        b.negative ^= negate;
        if a.kind == Kind::Infinity && b.kind == Kind::Infinity && a.negative != b.negative {
            return self.invalid();
        }
        if self.denormal(a.denormal || b.denormal) {
            return a.value;
        }
        match (a.kind, b.kind) {
            (Kind::Infinity, _) => F80::infinity(a.negative),
            (_, Kind::Infinity) => F80::infinity(b.negative),
            (Kind::Zero, Kind::Zero) => self.zero_sum(a.negative, b.negative),
            (Kind::Zero, _) => self.round(Wide::from_parts(&b), self.precision),
            (_, Kind::Zero) => self.round(Wide::from_parts(&a), self.precision),
            _ => match sum(&a, &b) {
                Some(v) => self.round(v, self.precision),
                None => self.zero_sum(a.negative, b.negative),
            },
        }
    }

    /// The sign of an exact zero sum: that of both, else plus unless rounding down (SDM vol. 1, 4.8.3.1).
    fn zero_sum(&self, a: bool, b: bool) -> F80 {
        F80::zero(if a == b { a } else { self.rounding == Rounding::Down })
    }
}

/// The sum with a sticky bit, or `None` if it is exactly zero.
fn sum(a: &Parts, b: &Parts) -> Option<Wide> {
    let (big, small) = if (a.exp, a.mant) >= (b.exp, b.mant) { (a, b) } else { (b, a) };
    // One bit of headroom above, 63 guard bits below: enough for the sticky bit to stay below the round bit.
    let high = u128::from(big.mant) << 63;
    let low = shift_right_sticky(u128::from(small.mant) << 63, big.exp.abs_diff(small.exp));
    let mant = if big.negative == small.negative { high + low } else { high - low };
    (mant != 0).then(|| Wide::new(big.negative, big.exp + 1, mant))
}
