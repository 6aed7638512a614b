//! FSCALE and FXTRACT: the exponent as a number of its own.
//!
//! Intel SDM vol. 2, FSCALE (its table of special operands) and FXTRACT.

use super::ctx::{Ctx, Precision};
use super::f80::F80;
use super::operand::{Kind, Operand, Parts};
use super::wide::Wide;

/// Beyond any scale that can bring one finite value to another, and far from overflowing an `i32`.
const HUGE_SCALE: i32 = 1 << 17;

impl Ctx {
    /// FSCALE: `a * 2^trunc(b)`, to 64 bits whatever the precision control says.
    pub fn scale(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> F80 {
        let (a, b) = match self.examine2(a.into(), b.into()) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        if b.kind == Kind::Infinity {
            let clash = if b.negative { Kind::Infinity } else { Kind::Zero };
            if a.kind == clash {
                return self.invalid();
            }
        }
        if self.denormal(a.denormal || b.denormal) {
            return a.value;
        }
        match (a.kind, b.kind) {
            (Kind::Zero | Kind::Infinity, _) => a.value,
            (_, Kind::Infinity) if b.negative => F80::zero(a.negative),
            (_, Kind::Infinity) => F80::infinity(a.negative),
            _ => {
                let mut v = Wide::from_parts(&a);
                v.exp += truncated(&b);
                self.round(v, Precision::Extended64)
            }
        }
    }

    /// FXTRACT: the unbiased exponent as a real, and the significand with exponent zero and `a`'s sign.
    /// Zero gives minus infinity with ZE, and itself.
    pub fn extract(&mut self, a: impl Into<Operand>) -> (F80, F80) {
        let a = match self.examine1(a.into()) {
            Ok(a) => a,
            Err(nan) => return (nan, nan),
        };
        match a.kind {
            Kind::Zero => (self.zero_divide(true), a.value),
            Kind::Infinity => (F80::INFINITY, a.value),
            _ if self.denormal(a.denormal) => (a.value, a.value),
            _ => (F80::from(i64::from(a.exp)), F80::pack(a.negative, 0x3fff, a.mant)),
        }
    }
}

/// The integer part, limited to a range that no result depends on.
fn truncated(p: &Parts) -> i32 {
    if p.kind == Kind::Zero || p.exp < 0 {
        return 0;
    }
    let magnitude = if p.exp > 16 { HUGE_SCALE } else { (p.mant >> (63 - p.exp)) as i32 };
    if p.negative { -magnitude } else { magnitude }
}
