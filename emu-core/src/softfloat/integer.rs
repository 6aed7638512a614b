//! FRNDINT, FIST, FISTP and FISTTP.
//!
//! Intel SDM vol. 1, table 8-10 for the invalid cases; vol. 2 for the flags: IE for what does not fit, else PE for a rounded
//! result, with C1 saying that its magnitude grew. Stores raise no DE.

use super::ctx::{Ctx, Flags, Precision, Rounding};
use super::f80::F80;
use super::operand::{Kind, Operand, Parts};
use super::round::{Cut, cut};
use super::wide::{Wide, shift_right_sticky};

impl Ctx {
    /// FRNDINT: to an integer, by the rounding control; a zero result keeps the sign.
    pub fn round_to_integer(&mut self, a: impl Into<Operand>) -> F80 {
        let a = match self.examine1(a.into()) {
            Ok(a) => a,
            Err(nan) => return nan,
        };
        if a.kind != Kind::Finite || self.denormal(a.denormal) || a.exp >= 63 {
            return a.value;
        }
        let c = integer_part(&a, self.rounding);
        self.inexact(c.inexact, c.up);
        self.round(Wide::new(a.negative, 127, c.kept), Precision::Extended64)
    }

    /// FIST m16int: what does not fit gives the integer indefinite, 0x8000, with IE.
    pub fn to_i16(&mut self, a: F80) -> i16 {
        self.store_integer(a, 16, self.rounding) as i16
    }

    /// FIST m32int: what does not fit gives 0x8000_0000 with IE.
    pub fn to_i32(&mut self, a: F80) -> i32 {
        self.store_integer(a, 32, self.rounding) as i32
    }

    /// FISTP m64int: what does not fit gives 0x8000_0000_0000_0000 with IE.
    pub fn to_i64(&mut self, a: F80) -> i64 {
        self.store_integer(a, 64, self.rounding)
    }

    /// FISTTP m16int: as [`Ctx::to_i16`], toward zero.
    pub fn truncate_to_i16(&mut self, a: F80) -> i16 {
        self.store_integer(a, 16, Rounding::Zero) as i16
    }

    /// FISTTP m32int: as [`Ctx::to_i32`], toward zero.
    pub fn truncate_to_i32(&mut self, a: F80) -> i32 {
        self.store_integer(a, 32, Rounding::Zero) as i32
    }

    /// FISTTP m64int: as [`Ctx::to_i64`], toward zero.
    pub fn truncate_to_i64(&mut self, a: F80) -> i64 {
        self.store_integer(a, 64, Rounding::Zero)
    }

    fn store_integer(&mut self, a: F80, bits: u32, rounding: Rounding) -> i64 {
        let limit = 1u64 << (bits - 1);
        let indefinite = i64::MIN >> (64 - bits);
        let negative = a.is_negative();
        match self.magnitude(a, limit - u64::from(!negative), rounding) {
            Some(m) if negative => (m as i64).wrapping_neg(),
            Some(m) => m as i64,
            None => indefinite,
        }
    }

    /// The rounded magnitude with its flags, or IE and `None` if it has none or is above `limit`.
    pub(super) fn magnitude(&mut self, a: F80, limit: u64, rounding: Rounding) -> Option<u64> {
        let a = Operand::from(a).parts();
        let c = match a.kind {
            Kind::Zero => return Some(0),
            Kind::Finite if a.exp < 64 => integer_part(&a, rounding),
            _ => {
                self.flags |= Flags::IE;
                return None;
            }
        };
        if c.kept > u128::from(limit) {
            self.flags |= Flags::IE;
            return None;
        }
        self.inexact(c.inexact, c.up);
        Some(c.kept as u64)
    }
}

/// Rounds a finite value below 2^64 to an integer.
fn integer_part(a: &Parts, rounding: Rounding) -> Cut {
    let fixed = shift_right_sticky(u128::from(a.mant) << 64, (63 - a.exp).unsigned_abs());
    cut(fixed, 64, a.negative, rounding)
}
