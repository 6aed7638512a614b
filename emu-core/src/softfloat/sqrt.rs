//! FSQRT.

use super::ctx::Ctx;
use super::f80::F80;
use super::operand::{Kind, Operand};
use super::wide::Wide;

impl Ctx {
    /// The square root, rounded to the precision-control width. `-0` gives `-0`; other negatives raise IE.
    pub fn sqrt(&mut self, a: impl Into<Operand>) -> F80 {
        let a = match self.examine1(a.into()) {
            Ok(a) => a,
            Err(nan) => return nan,
        };
        if a.kind == Kind::Zero {
            return a.value;
        }
        if a.negative {
            return self.invalid();
        }
        if a.kind == Kind::Infinity || self.denormal(a.denormal) {
            return a.value;
        }
        // An even exponent halves exactly; the root of a 127- or 128-bit integer has 64 bits.
        let radicand = u128::from(a.mant) << (63 + (a.exp & 1));
        let root = radicand.isqrt();
        let rest = radicand - root * root;
        // The bits below: above one half just if rest > root (it cannot be exactly one half).
        let below = u128::from(rest > root) << 63 | u128::from(rest != 0);
        self.round(Wide { negative: false, exp: a.exp >> 1, mant: root << 64 | below }, self.precision)
    }
}
