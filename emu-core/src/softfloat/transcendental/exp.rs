//! F2XM1.

use super::super::ctx::Ctx;
use super::super::f80::F80;
use super::super::operand::{Kind, Operand};
use super::super::wide::Wide;
use super::{LN_2, series};

impl Ctx {
    /// `2^a - 1` for `-1 <= a <= 1`. The manual leaves larger arguments undefined; they come back unchanged
    /// with PE, as on the processors measured.
    pub fn exp2_minus_1(&mut self, a: impl Into<Operand>) -> F80 {
        let a = match self.examine1(a.into()) {
            Ok(a) => a,
            Err(nan) => return nan,
        };
        match a.kind {
            Kind::Infinity if a.negative => return F80::ONE.chs(),
            Kind::Finite => {}
            _ => return a.value,
        }
        if self.denormal(a.denormal) {
            return a.value;
        }
        let x = Wide::from_parts(&a);
        if a.exp >= 0 {
            let minus_one = a.value == F80::ONE.chs();
            // 2^-1 - 1 is -1/2; 2^1 - 1 is 1.
            let v = if minus_one { Wide { exp: -1, ..x } } else { x };
            return self.round_as_inexact(v);
        }
        // e^t - 1 with t = a * ln 2, as t times a series that stays near one.
        let t = x.mul(LN_2);
        let z = t.to_fixed();
        let factor =
            if t.negative { series::alternating(&series::EXP, z) } else { series::sum(&series::EXP, z) };
        self.round_irrational(t.mul(Wide::from_fixed(factor)))
    }
}
