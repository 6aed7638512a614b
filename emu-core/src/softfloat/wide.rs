//! A value on its way to being rounded: 128 significant bits, and an exponent without bounds.
//!
//! The basic operations leave here an exact result, or one whose lowest bit stands for all that was cut off
//! below it (a sticky bit), which rounds exactly like the exact one. The transcendental functions also compute
//! in it: their operations cut toward zero, so each costs at most one unit in the 127th bit.

use super::operand::Parts;

/// `(-1)^negative * mant * 2^(exp - 127)`, with bit 127 of `mant` set, or zero with `mant` 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide {
    pub negative: bool,
    pub exp: i32,
    pub mant: u128,
}

/// Shifts right, or-ing what falls out into the lowest bit.
pub(super) const fn shift_right_sticky(v: u128, n: u32) -> u128 {
    match n {
        0 => v,
        1..=127 => v >> n | (v << (128 - n) != 0) as u128,
        _ => (v != 0) as u128,
    }
}

/// The high half of the 256-bit product.
pub(super) const fn mul_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (ah, al, bh, bl) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (hl, lh) = (ah * bl, al * bh);
    let middle = ((al * bl) >> 64) + (hl & LOW) + (lh & LOW);
    ah * bh + (hl >> 64) + (lh >> 64) + (middle >> 64)
}

impl Wide {
    /// `mant * 2^(exp - 127)`, normalised.
    pub const fn new(negative: bool, exp: i32, mant: u128) -> Wide {
        if mant == 0 {
            return Wide { negative, exp, mant };
        }
        let shift = mant.leading_zeros();
        Wide { negative, exp: exp - shift as i32, mant: mant << shift }
    }

    pub const fn one() -> Wide {
        Wide { negative: false, exp: 0, mant: 1 << 127 }
    }

    pub fn from_parts(p: &Parts) -> Wide {
        Wide { negative: p.negative, exp: p.exp, mant: u128::from(p.mant) << 64 }
    }

    pub const fn neg(self) -> Wide {
        Wide { negative: !self.negative, ..self }
    }

    pub const fn abs(self) -> Wide {
        Wide { negative: false, ..self }
    }

    /// The product, cut toward zero.
    pub const fn mul(self, other: Wide) -> Wide {
        Wide::new(self.negative != other.negative, self.exp + other.exp + 1, mul_high(self.mant, other.mant))
    }

    /// The sum, cut toward zero. A part too small to see still pulls a difference below the larger operand, so
    /// that `1 - tiny` rounds as less than one.
    pub const fn add(self, other: Wide) -> Wide {
        let (big, small) = if self.mant == 0
            || (other.mant != 0
                && (other.exp > self.exp || (other.exp == self.exp && other.mant > self.mant)))
        {
            (other, self)
        } else {
            (self, other)
        };
        if small.mant == 0 {
            return big;
        }
        let distance = big.exp.abs_diff(small.exp).saturating_add(1);
        let (high, low) = (big.mant >> 1, shift_right_sticky(small.mant, distance));
        let mant = if big.negative == small.negative { high + low } else { high - low };
        Wide::new(big.negative, big.exp + 1, mant)
    }

    pub const fn sub(self, other: Wide) -> Wide {
        self.add(other.neg())
    }

    /// The quotient, cut toward zero; a zero divisor gives a zero, which no caller asks for.
    pub const fn div(self, other: Wide) -> Wide {
        let negative = self.negative != other.negative;
        if self.mant == 0 || other.mant == 0 {
            return Wide { negative, exp: 0, mant: 0 };
        }
        // Long division, a bit at a time, until the quotient fills its 128 bits.
        let mut rest = self.mant;
        let mut quotient = 0u128;
        let mut exp = self.exp - other.exp;
        if rest < other.mant {
            exp -= 1;
        } else {
            rest -= other.mant;
            quotient = 1;
        }
        while quotient >> 127 == 0 {
            let carry = rest >> 127 != 0;
            rest <<= 1;
            quotient <<= 1;
            if carry || rest >= other.mant {
                rest = rest.wrapping_sub(other.mant);
                quotient |= 1;
            }
        }
        Wide { negative, exp, mant: quotient }
    }

    /// The magnitude as a fixed-point number with 127 fraction bits; it must be below two. What is too small
    /// to see becomes the smallest step, so a nonzero value never turns into zero.
    pub const fn to_fixed(self) -> u128 {
        if self.exp >= 0 {
            return self.mant;
        }
        let v = match self.exp.unsigned_abs() {
            n @ 0..=127 => self.mant >> n,
            _ => 0,
        };
        if v == 0 && self.mant != 0 { 1 } else { v }
    }

    /// The inverse of [`Wide::to_fixed`].
    pub const fn from_fixed(v: u128) -> Wide {
        Wide::new(false, 0, v)
    }
}
