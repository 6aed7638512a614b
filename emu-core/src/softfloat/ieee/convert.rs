//! Conversions between the formats and integers, and rounding to an integral value (SDM vol. 1, 4.8.2, 11.4.1.6;
//! vol. 2, CVT*, ROUND*).

use super::super::ctx::{Flags, Rounding};
use super::env::Env;
use super::format::{Format, Half, Number, Single};
use super::round::shift_right;

impl Env {
    /// From one format to another: CVTSS2SD, CVTSD2SS and VCVTPS2PH.
    pub fn convert<From: Format, To: Format>(&mut self, v: u64) -> u64 {
        let v = self.operand::<From>(v);
        let sign = To::sign(From::is_negative(v));
        if From::is_nan(v) {
            if From::is_signalling(v) {
                self.flags |= Flags::IE;
            }
            let fraction = v & (From::QUIET - 1);
            let fraction = if To::FRACTION >= From::FRACTION {
                fraction << (To::FRACTION - From::FRACTION)
            } else {
                fraction >> (From::FRACTION - To::FRACTION)
            };
            return sign | To::INFINITY | To::QUIET | fraction;
        }
        if From::is_zero(v) {
            return sign;
        }
        if v & From::MAGNITUDE == From::INFINITY {
            return sign | To::INFINITY;
        }
        self.denormal::<From>(&[v]);
        let n = Number::unpack::<From>(v);
        self.round::<To>(n.negative, n.exp, n.sig)
    }

    /// From half to single precision: VCVTPH2PS. A denormal half is a number, DAZ or not, and raises nothing.
    pub fn widen_half(&mut self, v: u64) -> u64 {
        let daz = std::mem::replace(&mut self.daz, false);
        let flags = self.flags;
        let r = self.convert::<Half, Single>(v);
        self.daz = daz;
        self.flags = flags | (self.flags & Flags::IE);
        r
    }

    /// From an integer: CVTSI2SS and its kin.
    pub fn from_integer<F: Format>(&mut self, v: i64) -> u64 {
        if v == 0 {
            return 0;
        }
        let shift = v.unsigned_abs().leading_zeros();
        self.round::<F>(v < 0, 63 - shift as i32, v.unsigned_abs() << shift)
    }

    /// To a signed integer of `bits` (32 or 64) bits, rounded as MXCSR says: CVTSS2SI and its kin. What does not fit
    /// raises IE and gives the integer indefinite, 2^(bits - 1).
    pub fn to_integer<F: Format>(&mut self, v: u64, bits: u32) -> u64 {
        let mask = u64::MAX >> (64 - bits);
        let v = self.operand::<F>(v);
        if F::is_zero(v) {
            return 0;
        }
        let limit = 1u64 << (bits - 1);
        if F::exponent(v) == F::SPECIAL {
            self.flags |= Flags::IE;
            return limit;
        }
        let n = Number::unpack::<F>(v);
        if n.exp > 63 {
            self.flags |= Flags::IE;
            return limit;
        }
        // A value of 2^63 or more has no fraction in either format.
        let (magnitude, inexact) =
            if n.exp == 63 { (n.sig, false) } else { self.integral(n.negative, n.sig, (63 - n.exp) as u32) };
        if magnitude > limit || magnitude == limit && !n.negative {
            self.flags |= Flags::IE;
            return limit;
        }
        if inexact {
            self.flags |= Flags::PE;
        }
        (if n.negative { magnitude.wrapping_neg() } else { magnitude }) & mask
    }

    /// [`Env::to_integer`] toward zero: CVTTSS2SI and its kin.
    pub fn truncate<F: Format>(&mut self, v: u64, bits: u32) -> u64 {
        let rounding = std::mem::replace(&mut self.rounding, Rounding::Zero);
        let r = self.to_integer::<F>(v, bits);
        self.rounding = rounding;
        r
    }

    /// To an integral value in the same format, under control `imm` of ROUNDPS: bits 1-0 the rounding mode unless
    /// bit 2 says MXCSR, bit 3 suppresses PE.
    pub fn round_integral<F: Format>(&mut self, v: u64, imm: u8) -> u64 {
        let v = self.operand::<F>(v);
        if let Some(nan) = self.nan::<F>(&[v]) {
            return nan;
        }
        // From 2^FRACTION on, every value is integral; zeros and infinities are too.
        if F::is_zero(v) || F::exponent(v) as i32 >= F::BIAS + F::FRACTION as i32 {
            return v;
        }
        let mode = match imm & 7 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            3 => Rounding::Zero,
            _ => self.rounding,
        };
        let n = Number::unpack::<F>(v);
        let own = std::mem::replace(&mut self.rounding, mode);
        let (magnitude, inexact) = self.integral(n.negative, n.sig, (63 - n.exp) as u32);
        self.rounding = own;
        if inexact && imm & 8 == 0 {
            self.flags |= Flags::PE;
        }
        let sign = v & F::SIGN;
        if magnitude == 0 {
            return sign;
        }
        // At most 2^FRACTION, so it fits in the significand.
        let top = 63 - magnitude.leading_zeros();
        let fraction = magnitude << (F::FRACTION - top) & ((1 << F::FRACTION) - 1);
        sign | (F::BIAS as u64 + u64::from(top)) << F::FRACTION | fraction
    }

    /// `sig` without its low `drop` (1 or more) bits, rounded.
    fn integral(&self, negative: bool, sig: u64, drop: u32) -> (u64, bool) {
        if drop < 64 {
            self.cut(negative, sig, drop)
        } else {
            // Two bits are left above the cut: enough for the half and the sticky bit.
            self.cut(negative, shift_right(sig, drop - 62), 62)
        }
    }
}
