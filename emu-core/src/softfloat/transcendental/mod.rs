//! F2XM1, FYL2X, FYL2XP1, FSIN, FCOS, FSINCOS, FPTAN and FPATAN.
//!
//! Intel SDM vol. 1, 8.3.9 and 8.3.10 (accuracy: under one unit in the last place), vol. 2 for the tables of
//! special operands. Every function is computed to about 120 bits and rounded once, by RC, so a result is the
//! correctly rounded one unless the exact value lies within 2^-50 units of a rounding boundary. Precision
//! control does not apply.
//!
//! The processor raises PE for every finite nonzero argument, also where the result happens to be exact
//! (`f2xm1(1)`, `fyl2x` of a power of two), and so does this. C1 tells truly which way the result was rounded,
//! which processors do only mostly.

mod atan;
mod exp;
mod log;
mod series;
mod trig;

use super::ctx::{Ctx, Flags, Precision};
use super::f80::{Class, F80};
use super::wide::Wide;

/// pi, cut to 128 bits.
const PI: Wide = Wide { negative: false, exp: 1, mant: 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1 };
/// ln(2), cut to 128 bits.
const LN_2: Wide = Wide { negative: false, exp: -1, mant: 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af };
/// log2(e), cut to 128 bits.
const LOG2_E: Wide = Wide { negative: false, exp: 0, mant: 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88 };

impl Ctx {
    /// Rounds a value that stands for an irrational one: never exact, and a little above what it shows.
    fn round_irrational(&mut self, v: Wide) -> F80 {
        self.round(Wide { mant: v.mant | 1, ..v }, Precision::Extended64)
    }

    /// Rounds a value that is what it shows, and raises PE all the same, as the processor does; and so UE if
    /// it is denormal.
    fn round_as_inexact(&mut self, v: Wide) -> F80 {
        self.inexact(true, false);
        let r = self.round(v, Precision::Extended64);
        if r.class() == Class::Denormal {
            self.flags |= Flags::UE;
        }
        r
    }
}
