//! Modes in, exceptions out: what one x87 instruction needs of the control word and leaves for the status word.
//!
//! Intel SDM vol. 1, 8.1.3 to 8.1.5 (status and control word), 8.4 to 8.6 (exceptions), 4.9.2 (their order).

use serde::{Deserialize, Serialize};

use super::f80::F80;

/// The control word's RC field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rounding {
    /// To nearest, ties to even.
    #[default]
    Nearest,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// Toward zero.
    Zero,
}

/// The control word's PC field: the significand width add, subtract, multiply, divide and square root round to.
/// The exponent range stays that of the 80-bit format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// 24 bits.
    Single24,
    /// 53 bits.
    Double53,
    /// 64 bits.
    #[default]
    Extended64,
}

impl Precision {
    /// Significand bits, the integer bit included.
    pub const fn width(self) -> u32 {
        match self {
            Precision::Single24 => 24,
            Precision::Double53 => 53,
            Precision::Extended64 => 64,
        }
    }
}

/// Status-word bits: the six exceptions and the four condition codes, each at its place in the status word.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags(pub u16);

impl Flags {
    /// No bit.
    pub const NONE: Flags = Flags(0);
    /// Invalid operation.
    pub const IE: Flags = Flags(1 << 0);
    /// Denormal operand.
    pub const DE: Flags = Flags(1 << 1);
    /// Divide by zero.
    pub const ZE: Flags = Flags(1 << 2);
    /// Overflow.
    pub const OE: Flags = Flags(1 << 3);
    /// Underflow.
    pub const UE: Flags = Flags(1 << 4);
    /// Precision (inexact result).
    pub const PE: Flags = Flags(1 << 5);
    /// Condition code 0.
    pub const C0: Flags = Flags(1 << 8);
    /// Condition code 1: the result was rounded away from zero (or a quotient bit, or a sign).
    pub const C1: Flags = Flags(1 << 9);
    /// Condition code 2: the reduction is partial, or the operand is out of range.
    pub const C2: Flags = Flags(1 << 10);
    /// Condition code 3.
    pub const C3: Flags = Flags(1 << 14);
    /// All six exceptions.
    pub const EXCEPTIONS: Flags = Flags(0x3f);
    /// All four condition codes.
    pub const CONDITIONS: Flags = Flags(0x4700);

    /// The bits, ready to be merged into a status word.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// True if any bit of `other` is set here.
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl std::ops::BitAnd for Flags {
    type Output = Flags;
    fn bitand(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

impl std::ops::Not for Flags {
    type Output = Flags;
    fn not(self) -> Flags {
        Flags(!self.0)
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [(Flags, &str); 10] = [
            (Flags::IE, "IE"),
            (Flags::DE, "DE"),
            (Flags::ZE, "ZE"),
            (Flags::OE, "OE"),
            (Flags::UE, "UE"),
            (Flags::PE, "PE"),
            (Flags::C0, "C0"),
            (Flags::C1, "C1"),
            (Flags::C2, "C2"),
            (Flags::C3, "C3"),
        ];
        let set = NAMES.iter().filter(|(bit, _)| self.intersects(*bit)).map(|(_, name)| *name);
        f.debug_list().entries(set).finish()
    }
}

/// The modes one instruction runs under and the flags it raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ctx {
    /// RC.
    pub rounding: Rounding,
    /// PC.
    pub precision: Precision,
    /// The exceptions whose mask bit is set. Overflow and underflow give another result when unmasked.
    pub masked: Flags,
    /// What the operations since construction raised.
    pub flags: Flags,
}

impl Default for Ctx {
    /// The state after FNINIT: nearest, 64 bits, everything masked.
    fn default() -> Ctx {
        Ctx::from_control_word(0x037f)
    }
}

impl Ctx {
    /// The modes of a control word. The reserved PC value 01 acts as extended precision.
    pub const fn from_control_word(cw: u16) -> Ctx {
        let rounding = match cw >> 10 & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        };
        let precision = match cw >> 8 & 3 {
            0 => Precision::Single24,
            2 => Precision::Double53,
            _ => Precision::Extended64,
        };
        Ctx { rounding, precision, masked: Flags(cw & Flags::EXCEPTIONS.0), flags: Flags::NONE }
    }

    /// The raised exceptions that are not masked: not empty means the status word's ES is to be set.
    pub fn unmasked(&self) -> Flags {
        self.flags & Flags::EXCEPTIONS & !self.masked
    }

    /// Whether an operation on registers writes its result and pops: an unmasked IE, DE or ZE stops it before
    /// it starts, an unmasked OE, UE or PE does not (SDM vol. 1, 8.5, 8.7).
    pub fn writes_register(&self) -> bool {
        !self.unmasked().intersects(Flags::IE | Flags::DE | Flags::ZE)
    }

    /// Whether FLD of a memory operand pushes: only an unmasked IE stops it. A denormal is loaded, and the
    /// handler finds it in ST(0) as the normal number it became (measured; the manual is silent).
    pub fn writes_load(&self) -> bool {
        !self.unmasked().intersects(Flags::IE)
    }

    /// Whether a store to memory writes and pops: here an unmasked OE or UE stops it too.
    pub fn writes_memory(&self) -> bool {
        !self.unmasked().intersects(Flags::IE | Flags::DE | Flags::ZE | Flags::OE | Flags::UE)
    }

    /// Raises IE and gives what the masked response delivers.
    pub(super) fn invalid(&mut self) -> F80 {
        self.flags |= Flags::IE;
        F80::INDEFINITE
    }

    /// Raises DE if an operand is denormal. True means DE is unmasked and the operation must stop there.
    #[must_use]
    pub(super) fn denormal(&mut self, any: bool) -> bool {
        if any {
            self.flags |= Flags::DE;
        }
        any && !self.masked.intersects(Flags::DE)
    }

    /// Raises ZE and gives the infinity that the masked response delivers.
    pub(super) fn zero_divide(&mut self, negative: bool) -> F80 {
        self.flags |= Flags::ZE;
        F80::infinity(negative)
    }

    /// Raises PE for an inexact result, with C1 saying that it was rounded away from zero.
    pub(super) fn inexact(&mut self, inexact: bool, up: bool) {
        if inexact {
            self.flags |= Flags::PE;
        }
        if up {
            self.flags |= Flags::C1;
        }
    }
}
