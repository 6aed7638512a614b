//! The 80-bit format itself: encoding, classes, and the operations that never round or raise.
//!
//! Intel SDM vol. 1, 4.2.2 and 8.2 (double extended precision, unsupported encodings), table 8-3.

use serde::{Deserialize, Serialize};

use super::ctx::Flags;

/// An x87 register: 64-bit significand with an explicit integer bit, then sign and 15-bit exponent.
///
/// Equality is of bits, not of values: `-0` differs from `+0`, and a NaN equals itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[repr(C)]
pub struct F80 {
    /// Bits 63..0: the significand; bit 63 is the integer bit.
    pub mant: u64,
    /// Bits 79..64: the sign in bit 15, the exponent (bias 16383) below it.
    pub se: u16,
}

/// What an encoding stands for (SDM vol. 1, tables 4-3 and 8-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Plus or minus zero.
    Zero,
    /// Exponent 0, integer bit clear, fraction not zero.
    Denormal,
    /// Exponent 0 with the integer bit set: accepted as an operand, never produced.
    PseudoDenormal,
    /// An ordinary number.
    Normal,
    /// Unnormal, pseudo-infinity or pseudo-NaN: raises IE in every arithmetic operation.
    Unsupported,
    /// Plus or minus infinity.
    Infinity,
    /// Signalling NaN: bit 62 clear.
    SNan,
    /// Quiet NaN: bit 62 set.
    QNan,
}

/// The integer bit of the significand.
pub(super) const INTEGER: u64 = 1 << 63;
/// The bit that makes a NaN quiet.
pub(super) const QUIET: u64 = 1 << 62;
/// The exponent bias.
pub(super) const BIAS: i32 = 16383;
/// The all-ones exponent of infinities and NaNs.
const SPECIAL: u16 = 0x7fff;
const SIGN: u16 = 0x8000;

impl F80 {
    /// Plus zero.
    pub const ZERO: F80 = F80 { mant: 0, se: 0 };
    /// Minus zero.
    pub const NEG_ZERO: F80 = F80 { mant: 0, se: SIGN };
    /// Plus one.
    pub const ONE: F80 = F80 { mant: INTEGER, se: 0x3fff };
    /// Plus infinity.
    pub const INFINITY: F80 = F80 { mant: INTEGER, se: SPECIAL };
    /// The "real indefinite": the quiet NaN that a masked invalid operation delivers (SDM vol. 1, 4.8.3.7).
    pub const INDEFINITE: F80 = F80 { mant: INTEGER | QUIET, se: SPECIAL | SIGN };

    /// A value from its sign, biased exponent and significand, all taken as they are.
    pub(super) const fn pack(negative: bool, exponent: u16, mant: u64) -> F80 {
        F80 { mant, se: exponent | if negative { SIGN } else { 0 } }
    }

    /// Zero with the given sign.
    pub(super) const fn zero(negative: bool) -> F80 {
        F80::pack(negative, 0, 0)
    }

    /// Infinity with the given sign.
    pub(super) const fn infinity(negative: bool) -> F80 {
        F80::pack(negative, SPECIAL, INTEGER)
    }

    /// From the ten bytes of an `m80fp` operand, as FLD reads them: no conversion and no exception.
    pub fn from_bytes(bytes: [u8; 10]) -> F80 {
        let mut mant = [0; 8];
        mant.copy_from_slice(&bytes[..8]);
        F80 { mant: u64::from_le_bytes(mant), se: u16::from_le_bytes([bytes[8], bytes[9]]) }
    }

    /// The ten bytes FSTP writes to an `m80fp` operand: no conversion and no exception.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.mant.to_le_bytes());
        bytes[8..].copy_from_slice(&self.se.to_le_bytes());
        bytes
    }

    /// The sign bit, of zeros and NaNs too.
    pub const fn is_negative(self) -> bool {
        self.se & SIGN != 0
    }

    /// The biased exponent field, 0 to 0x7fff.
    pub const fn exponent(self) -> u16 {
        self.se & SPECIAL
    }

    /// The class of this encoding.
    pub const fn class(self) -> Class {
        let integer = self.mant & INTEGER != 0;
        match self.exponent() {
            0 if self.mant == 0 => Class::Zero,
            0 if integer => Class::PseudoDenormal,
            0 => Class::Denormal,
            _ if !integer => Class::Unsupported,
            SPECIAL if self.mant == INTEGER => Class::Infinity,
            SPECIAL if self.mant & QUIET == 0 => Class::SNan,
            SPECIAL => Class::QNan,
            _ => Class::Normal,
        }
    }

    /// True of quiet and signalling NaNs, not of unsupported encodings.
    pub const fn is_nan(self) -> bool {
        matches!(self.class(), Class::SNan | Class::QNan)
    }

    /// FABS: clears the sign, of any encoding, without an exception.
    #[must_use]
    pub const fn abs(self) -> F80 {
        F80 { mant: self.mant, se: self.se & !SIGN }
    }

    /// FCHS: flips the sign, of any encoding, without an exception.
    #[must_use]
    pub const fn chs(self) -> F80 {
        F80 { mant: self.mant, se: self.se ^ SIGN }
    }

    /// FXAM of a register that is not empty: C3, C2 and C0 hold the class and C1 the sign.
    pub fn examine(self) -> Flags {
        let class = match self.class() {
            Class::Unsupported => Flags::NONE,
            Class::SNan | Class::QNan => Flags::C0,
            Class::Normal => Flags::C2,
            Class::Infinity => Flags::C2 | Flags::C0,
            Class::Zero => Flags::C3,
            Class::Denormal | Class::PseudoDenormal => Flags::C3 | Flags::C2,
        };
        if self.is_negative() { class | Flags::C1 } else { class }
    }

    /// The two tag-word bits of a register that holds this: 0 valid, 1 zero, 2 special (SDM vol. 1, 8.1.7).
    pub const fn tag(self) -> u16 {
        match self.class() {
            Class::Normal => 0,
            Class::Zero => 1,
            _ => 2,
        }
    }

    /// The same NaN with the quiet bit set.
    pub(super) const fn quieted(self) -> F80 {
        F80 { mant: self.mant | QUIET, se: self.se }
    }
}

impl std::fmt::Debug for F80 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:016x}", self.se, self.mant)
    }
}

/// Exact: every 64-bit integer is a 64-bit significand.
impl From<i64> for F80 {
    fn from(v: i64) -> F80 {
        if v == 0 {
            return F80::ZERO;
        }
        let magnitude = v.unsigned_abs();
        let shift = magnitude.leading_zeros();
        F80::pack(v < 0, 0x3fff + 63 - shift as u16, magnitude << shift)
    }
}
