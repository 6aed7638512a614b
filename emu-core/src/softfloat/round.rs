//! Rounding to a format, with overflow and underflow in their masked and unmasked forms.
//!
//! Intel SDM vol. 1, 4.8.4 (rounding), 8.5.4 to 8.5.6 (overflow, underflow, precision). A result is tiny when it
//! is below the smallest normal number *after* rounding with an unbounded exponent. Masked, tininess raises UE
//! only if the denormal result is inexact; unmasked, it always does.

use super::ctx::{Ctx, Flags, Precision, Rounding};
use super::f80::{BIAS, F80, INTEGER};
use super::wide::{Wide, shift_right_sticky};

/// What unmasked overflow and underflow do to the exponent of a register result (8.5.4, 8.5.5).
const ADJUST: i32 = 24576;

/// A format to round into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// Significand bits, integer bit included.
    pub width: u32,
    pub bias: i32,
    /// The largest biased exponent of a finite number.
    pub top: i32,
    /// Register destinations get an exponent-adjusted result on unmasked overflow and underflow; memory
    /// destinations get none, so the operation ends without further flags.
    pub register: bool,
}

/// Sign apart, a value in its format: biased exponent, and significand left-aligned to bit 63.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounded {
    pub exponent: u16,
    pub mant: u64,
}

/// A significand cut to fewer bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The kept bits, right-aligned and already incremented; may be `2^width`.
    pub kept: u128,
    pub inexact: bool,
    pub up: bool,
}

/// Keeps the top `width` bits (1 to 64) of `mant`, rounding on the rest.
pub(super) fn cut(mant: u128, width: u32, negative: bool, rounding: Rounding) -> Cut {
    let kept = mant >> (128 - width);
    let rest = mant << width;
    let half = 1 << 127;
    let inexact = rest != 0;
    let up = match rounding {
        Rounding::Nearest => rest > half || (rest == half && kept & 1 != 0),
        Rounding::Down => inexact && negative,
        Rounding::Up => inexact && !negative,
        Rounding::Zero => false,
    };
    Cut { kept: kept + u128::from(up), inexact, up }
}

impl Ctx {
    /// Rounds to a register under the given precision.
    pub(super) fn round(&mut self, v: Wide, precision: Precision) -> F80 {
        let format = Format { width: precision.width(), bias: BIAS, top: 0x7ffe, register: true };
        let r = self.round_to(v, format);
        F80::pack(v.negative, r.exponent, r.mant)
    }

    /// Rounds to a format. `v` may be zero only with a meaningful sign; it then stays a zero.
    pub(super) fn round_to(&mut self, v: Wide, format: Format) -> Rounded {
        if v.mant == 0 {
            return Rounded { exponent: 0, mant: 0 };
        }
        let c = cut(v.mant, format.width, v.negative, self.rounding);
        let carry = c.kept >> format.width != 0;
        let mant = if carry { INTEGER } else { (c.kept as u64) << (64 - format.width) };
        let exp = v.exp + format.bias + i32::from(carry);
        if exp > format.top {
            return self.overflow(v.negative, exp, mant, c, format);
        }
        if exp < 1 {
            return self.underflow(v, exp, mant, c, format);
        }
        self.inexact(c.inexact, c.up);
        Rounded { exponent: exp as u16, mant }
    }

    fn overflow(&mut self, negative: bool, exp: i32, mant: u64, c: Cut, format: Format) -> Rounded {
        self.flags |= Flags::OE;
        let masked = self.masked.intersects(Flags::OE);
        if !masked && !format.register {
            return Rounded { exponent: 0, mant: 0 };
        }
        if !masked && exp - ADJUST <= format.top {
            self.inexact(c.inexact, c.up);
            return Rounded { exponent: (exp - ADJUST) as u16, mant };
        }
        let to_infinity = match self.rounding {
            // FSCALE can pass even the adjusted range; that "massive" overflow gives infinity (8.5.4).
            _ if !masked => true,
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        };
        self.inexact(true, to_infinity);
        if to_infinity {
            Rounded { exponent: format.top as u16 + 1, mant: INTEGER }
        } else {
            Rounded { exponent: format.top as u16, mant: u64::MAX << (64 - format.width) }
        }
    }

    fn underflow(&mut self, v: Wide, exp: i32, mant: u64, c: Cut, format: Format) -> Rounded {
        if !self.masked.intersects(Flags::UE) {
            self.flags |= Flags::UE;
            if !format.register {
                return Rounded { exponent: 0, mant: 0 };
            }
            if exp + ADJUST >= 1 {
                self.inexact(c.inexact, c.up);
                return Rounded { exponent: (exp + ADJUST) as u16, mant };
            }
            // The "massive" underflow of FSCALE gives zero (8.5.5).
            self.inexact(true, false);
            return Rounded { exponent: 0, mant: 0 };
        }
        let shift = (1 - format.bias).saturating_sub(v.exp).max(0) as u32;
        let c = cut(shift_right_sticky(v.mant, shift), format.width, v.negative, self.rounding);
        let mant = (c.kept as u64) << (64 - format.width);
        if c.inexact {
            self.flags |= Flags::UE;
        }
        self.inexact(c.inexact, c.up);
        // Rounding up into the integer bit makes the smallest normal number.
        Rounded { exponent: u16::from(mant & INTEGER != 0), mant }
    }
}
