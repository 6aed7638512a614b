//! Rounding to a format, with overflow, underflow and flush-to-zero (SDM vol. 1, 4.8.4, 4.9.1.4 to 4.9.1.6,
//! 10.2.3.3). A result is tiny when it is below the smallest normal number *after* rounding with an unbounded
//! exponent.

use super::super::ctx::{Flags, Rounding};
use super::env::Env;
use super::format::Format;

/// `v >> n`, with the lowest bit set if any bit fell off.
#[inline]
pub(super) fn shift_right(v: u64, n: u32) -> u64 {
    match n {
        0 => v,
        1..=63 => v >> n | u64::from(v << (64 - n) != 0),
        _ => u64::from(v != 0),
    }
}

/// [`shift_right`] of 128 bits.
#[inline]
pub(super) fn shift_right_128(v: u128, n: u32) -> u128 {
    match n {
        0 => v,
        1..=127 => v >> n | u128::from(v << (128 - n) != 0),
        _ => u128::from(v != 0),
    }
}

/// The top 64 bits of `v`, with the lowest bit set if any of the rest is.
#[inline]
pub(super) fn top_half(v: u128) -> u64 {
    (v >> 64) as u64 | u64::from(v as u64 != 0)
}

impl Env {
    /// Drops the low `drop` (1 to 63) bits of `sig`: the kept bits, incremented if rounding says so, and whether the
    /// result is inexact.
    #[inline]
    pub(super) fn cut(&self, negative: bool, sig: u64, drop: u32) -> (u64, bool) {
        let rest = sig & ((1 << drop) - 1);
        let kept = sig >> drop;
        let half = 1 << (drop - 1);
        let up = match self.rounding {
            Rounding::Nearest => rest > half || rest == half && kept & 1 != 0,
            Rounding::Down => rest != 0 && negative,
            Rounding::Up => rest != 0 && !negative,
            Rounding::Zero => false,
        };
        (kept + u64::from(up), rest != 0)
    }

    /// The value `sig * 2^(exp - 63)` (top bit of `sig` set, lowest bit sticky) in format `F`.
    pub(super) fn round<F: Format>(&mut self, negative: bool, exp: i32, sig: u64) -> u64 {
        let sign = F::sign(negative);
        let drop = 63 - F::FRACTION;
        let (kept, inexact) = self.cut(negative, sig, drop);
        let carry = (kept >> (F::FRACTION + 1)) as i32;
        let biased = exp + F::BIAS + carry;
        if biased < 1 {
            return self.tiny::<F>(negative, exp, sig, inexact);
        }
        if inexact {
            self.flags |= Flags::PE;
        }
        if biased >= F::SPECIAL as i32 {
            return self.overflow::<F>(negative);
        }
        // After a carry the fraction is zero whichever way it is shifted.
        sign | (biased as u64) << F::FRACTION | kept & ((1 << F::FRACTION) - 1)
    }

    fn overflow<F: Format>(&mut self, negative: bool) -> u64 {
        self.flags |= Flags::OE;
        // The infinity (or largest number) that the masked response delivers is never exact; unmasked, PE tells
        // whether the significand was.
        if self.masked.intersects(Flags::OE) {
            self.flags |= Flags::PE;
        }
        let to_infinity = match self.rounding {
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        };
        F::sign(negative) | if to_infinity { F::INFINITY } else { F::INFINITY - 1 }
    }

    /// `inexact`: with an unbounded exponent.
    fn tiny<F: Format>(&mut self, negative: bool, exp: i32, sig: u64, inexact: bool) -> u64 {
        let sign = F::sign(negative);
        if !self.masked.intersects(Flags::UE) {
            self.flags |= Flags::UE;
            if inexact {
                self.flags |= Flags::PE;
            }
            return sign;
        }
        if self.ftz {
            self.flags |= Flags::UE | Flags::PE;
            return sign;
        }
        let below = (1 - F::BIAS - exp) as u32;
        let (kept, inexact) = self.cut(negative, shift_right(sig, below), 63 - F::FRACTION);
        if inexact {
            self.flags |= Flags::UE | Flags::PE;
        }
        sign | kept
    }
}
