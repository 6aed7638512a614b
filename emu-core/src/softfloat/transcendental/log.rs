//! FYL2X and FYL2XP1.

use super::super::ctx::Ctx;
use super::super::f80::F80;
use super::super::operand::{Kind, Operand};
use super::super::wide::Wide;
use super::{LOG2_E, series};

/// The square root of two, to the bits that matter for halving an interval.
const SQRT_2: u128 = 0xb504_f333_f9de_6484 << 64;

impl Ctx {
    /// FYL2X: `y * log2(x)`. A negative `x` raises IE, a zero one ZE.
    pub fn y_log2_x(&mut self, y: impl Into<Operand>, x: impl Into<Operand>) -> F80 {
        let (x, y) = match self.examine2(x.into(), y.into()) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        let one = x.value == F80::ONE;
        match (x.kind, y.kind) {
            (Kind::Zero, Kind::Zero) | (Kind::Infinity, Kind::Zero) => return self.invalid(),
            (Kind::Zero, Kind::Infinity) => return F80::infinity(!y.negative),
            (Kind::Zero, _) => return self.zero_divide(!y.negative),
            _ if x.negative => return self.invalid(),
            (_, Kind::Infinity) if one => return self.invalid(),
            _ => {}
        }
        if self.denormal(x.denormal || y.denormal) {
            return x.value;
        }
        // The sign of the logarithm, for the exact results.
        let below_one = x.kind == Kind::Finite && x.exp < 0;
        match (x.kind, y.kind) {
            (Kind::Infinity, _) => F80::infinity(y.negative),
            (_, Kind::Infinity) => F80::infinity(y.negative != below_one),
            (_, Kind::Zero) => F80::zero(y.negative != below_one),
            _ if one => F80::zero(y.negative),
            _ if x.mant == 1 << 63 => self.round_as_inexact(Wide::from_parts(&y).mul(integer(x.exp))),
            _ => self.round_irrational(Wide::from_parts(&y).mul(log2(Wide::from_parts(&x)))),
        }
    }

    /// FYL2XP1: `y * log2(x + 1)`, exact to the last place also where `x` is tiny. The manual defines it for
    /// `|x| <= 1 - sqrt(1/2)`; above that it goes on as the formula says, and `x <= -1`, which has no
    /// logarithm, comes back unchanged with PE, as on the processors measured.
    pub fn y_log2_x_plus_1(&mut self, y: impl Into<Operand>, x: impl Into<Operand>) -> F80 {
        let (x, y) = match self.examine2(x.into(), y.into()) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        match (x.kind, y.kind) {
            (Kind::Zero, Kind::Infinity) | (Kind::Infinity, Kind::Zero) => return self.invalid(),
            (Kind::Infinity, _) if x.negative => return self.invalid(),
            _ => {}
        }
        if self.denormal(x.denormal || y.denormal) {
            return x.value;
        }
        let negative = x.negative != y.negative;
        match (x.kind, y.kind) {
            (Kind::Infinity, _) | (_, Kind::Infinity) => return F80::infinity(negative),
            (Kind::Zero, _) | (_, Kind::Zero) => return F80::zero(negative),
            _ => {}
        }
        let wide = Wide::from_parts(&x);
        if x.negative && x.exp >= 0 {
            return self.round_as_inexact(wide);
        }
        let y = Wide::from_parts(&y);
        if x.exp < -2 {
            let ratio = wide.div(wide.add(integer(2)));
            return self.round_irrational(y.mul(from_ratio(ratio)));
        }
        let plus_one = wide.add(Wide::one());
        if plus_one.mant == 1 << 127 {
            return self.round_as_inexact(y.mul(integer(plus_one.exp)));
        }
        self.round_irrational(y.mul(log2(plus_one)))
    }
}

fn integer(n: i32) -> Wide {
    Wide::new(n < 0, 127, u128::from(n.unsigned_abs()))
}

/// `log2(v)` for positive `v`, with a small relative error also near one.
fn log2(v: Wide) -> Wide {
    let high = v.mant > SQRT_2;
    let exp = v.exp + i32::from(high);
    let m = Wide { exp: -i32::from(high), ..v };
    let ratio = m.sub(Wide::one()).div(m.add(Wide::one()));
    integer(exp).add(from_ratio(ratio))
}

/// `log2((1 + s) / (1 - s))`, which is `2 * log2(e) * atanh(s)`.
fn from_ratio(s: Wide) -> Wide {
    let factor = series::sum(&series::ODD, s.mul(s).to_fixed());
    let log = s.mul(Wide::from_fixed(factor)).mul(LOG2_E);
    Wide { exp: log.exp + 1, ..log }
}
