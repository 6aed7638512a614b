//! Operands of arithmetic: registers, and memory operands widened without losing what they were.
//!
//! FADD m32fp is not "load, then add": a signalling NaN in memory takes part in NaN selection as a signalling
//! NaN, and a denormal in memory raises DE though it is a normal number once widened. An [`Operand`] carries
//! both facts to the operation.

use super::ctx::{Ctx, Flags};
use super::f80::{BIAS, Class, F80, QUIET};

/// A source operand: a register, or a 16/32/64-bit memory operand widened exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    value: F80,
    /// The operand was denormal in the narrower format it came from.
    narrow_denormal: bool,
}

impl From<F80> for Operand {
    fn from(value: F80) -> Operand {
        Operand { value, narrow_denormal: false }
    }
}

impl From<i16> for Operand {
    fn from(v: i16) -> Operand {
        F80::from(i64::from(v)).into()
    }
}

impl From<i32> for Operand {
    fn from(v: i32) -> Operand {
        F80::from(i64::from(v)).into()
    }
}

impl Operand {
    /// An `m32fp` operand from its bits.
    pub fn f32(bits: u32) -> Operand {
        Operand::widen(bits >> 31 != 0, (bits >> 23 & 0xff) as u16, 0xff, u64::from(bits) << 41, 127)
    }

    /// An `m64fp` operand from its bits.
    pub fn f64(bits: u64) -> Operand {
        Operand::widen(bits >> 63 != 0, (bits >> 52 & 0x7ff) as u16, 0x7ff, bits << 12, 1023)
    }

    /// `fraction` is left-aligned, the bits above it shifted out.
    fn widen(negative: bool, exponent: u16, special: u16, fraction: u64, bias: u16) -> Operand {
        let rebias = BIAS as u16 - bias;
        let integer = 1 << 63;
        let value = if exponent == special {
            F80::pack(negative, 0x7fff, integer | fraction >> 1)
        } else if exponent != 0 {
            F80::pack(negative, exponent + rebias, integer | fraction >> 1)
        } else if fraction == 0 {
            F80::zero(negative)
        } else {
            let shift = fraction.leading_zeros();
            F80::pack(negative, rebias - shift as u16, fraction << shift)
        };
        Operand { value, narrow_denormal: exponent == 0 && fraction != 0 }
    }

    /// The widened value, a signalling NaN still signalling.
    pub fn value(self) -> F80 {
        self.value
    }

    pub(super) fn parts(self) -> Parts {
        let value = self.value;
        let (kind, denormal) = match value.class() {
            Class::Zero => (Kind::Zero, false),
            Class::Denormal | Class::PseudoDenormal => (Kind::Finite, true),
            Class::Normal => (Kind::Finite, self.narrow_denormal),
            Class::Unsupported => (Kind::Unsupported, false),
            Class::Infinity => (Kind::Infinity, false),
            Class::SNan | Class::QNan => (Kind::Nan, false),
        };
        let shift = value.mant.leading_zeros() & 63;
        let biased = i32::from(value.exponent()).max(1);
        Parts {
            value,
            kind,
            denormal,
            negative: value.is_negative(),
            exp: biased - BIAS - shift as i32,
            mant: value.mant << shift,
        }
    }
}

impl Ctx {
    /// FLD m32fp or m64fp: quiets a signalling NaN with IE, reports a denormal with DE, is otherwise exact.
    /// Check [`Ctx::writes_load`] before pushing.
    pub fn load(&mut self, operand: Operand) -> F80 {
        let value = operand.value;
        if value.class() == Class::SNan {
            self.flags |= Flags::IE;
            return value.quieted();
        }
        let _ = self.denormal(operand.narrow_denormal);
        value
    }
}

/// The kinds an operation tells apart before it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zero,
    Finite,
    Infinity,
    Nan,
    Unsupported,
}

/// An operand taken apart. For `Kind::Finite` the value is `mant * 2^(exp - 63)` with bit 63 of `mant` set;
/// for other kinds `exp` and `mant` mean nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub value: F80,
    pub kind: Kind,
    pub negative: bool,
    pub denormal: bool,
    pub exp: i32,
    pub mant: u64,
}

impl Parts {
    /// True for a NaN whose quiet bit is clear.
    pub fn is_signalling(&self) -> bool {
        self.kind == Kind::Nan && self.value.mant & QUIET == 0
    }

    /// True for anything that has no value: NaNs and unsupported encodings.
    pub fn is_unordered(&self) -> bool {
        matches!(self.kind, Kind::Nan | Kind::Unsupported)
    }
}
