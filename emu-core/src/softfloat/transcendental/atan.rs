//! FPATAN.

use super::super::ctx::Ctx;
use super::super::f80::F80;
use super::super::operand::{Kind, Operand};
use super::super::wide::Wide;
use super::{PI, series};

/// The arguments `0/16` to `16/16` have their arc tangents tabulated.
const STEPS: usize = 16;

/// `atan(i / 16)`, each from the one before by the addition theorem.
const STEP_ATAN: [Wide; STEPS + 1] = {
    let mut out = [Wide { negative: false, exp: 0, mant: 0 }; STEPS + 1];
    let mut i = 1;
    while i <= STEPS {
        let n = i as u128;
        let difference = Wide::new(false, 127, 16).div(Wide::new(false, 127, 256 + n * (n - 1)));
        out[i] = out[i - 1].add(small(difference));
        i += 1;
    }
    out
};

/// `atan(t)` for `|t| <= 1/16`.
const fn small(t: Wide) -> Wide {
    t.mul(Wide::from_fixed(series::alternating(&series::ODD, t.mul(t).to_fixed())))
}

/// `atan(t)` for `0 < t <= 1`.
fn atan(t: Wide) -> Wide {
    let index = (((t.to_fixed() >> 122) + 1) >> 1) as usize;
    if index == 0 {
        return small(t);
    }
    let near = Wide::new(false, 123, index as u128);
    let difference = t.sub(near).div(t.mul(near).add(Wide::one()));
    STEP_ATAN[index].add(small(difference))
}

const fn half(v: Wide) -> Wide {
    Wide { exp: v.exp - 1, ..v }
}

impl Ctx {
    /// FPATAN: the angle of the point `(x, y)`, from minus to plus pi. No operand is invalid; zeros and
    /// infinities have their angles (SDM vol. 2, FPATAN).
    pub fn atan2(&mut self, y: impl Into<Operand>, x: impl Into<Operand>) -> F80 {
        let (x, y) = match self.examine2(x.into(), y.into()) {
            Ok(pair) => pair,
            Err(nan) => return nan,
        };
        if self.denormal(x.denormal || y.denormal) {
            return x.value;
        }
        let flat = y.kind == Kind::Zero || (x.kind == Kind::Infinity && y.kind != Kind::Infinity);
        if flat && !x.negative {
            return F80::zero(y.negative);
        }
        let (a, b) = (Wide::from_parts(&y).abs(), Wide::from_parts(&x).abs());
        let angle = match (y.kind, x.kind) {
            _ if flat => PI,
            (Kind::Infinity, Kind::Infinity) if x.negative => PI.sub(half(half(PI))),
            (Kind::Infinity, Kind::Infinity) => half(half(PI)),
            (Kind::Infinity, _) | (_, Kind::Zero) => half(PI),
            _ => {
                let steep = (a.exp, a.mant) > (b.exp, b.mant);
                let first = if steep { half(PI).sub(atan(b.div(a))) } else { atan(a.div(b)) };
                if x.negative { PI.sub(first) } else { first }
            }
        };
        self.round_irrational(Wide { negative: y.negative, ..angle })
    }
}
