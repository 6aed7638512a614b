//! FCOM, FUCOM, FTST, FICOM and the forms that set EFLAGS.
//!
//! Intel SDM vol. 1, 8.3.6 and table 8-6.

use super::ctx::{Ctx, Flags};
use super::operand::{Kind, Operand, Parts};

/// How `a` stands to `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `a > b`.
    Greater,
    /// `a < b`.
    Less,
    /// `a == b`; zeros of either sign are equal.
    Equal,
    /// One of them has no value.
    Unordered,
}

impl Relation {
    /// The condition codes FCOM sets: C3, C2 and C0; C1 is clear.
    pub fn conditions(self) -> Flags {
        match self {
            Relation::Greater => Flags::NONE,
            Relation::Less => Flags::C0,
            Relation::Equal => Flags::C3,
            Relation::Unordered => Flags::C3 | Flags::C2 | Flags::C0,
        }
    }

    /// The EFLAGS bits FCOMI sets: CF (bit 0), PF (bit 2) and ZF (bit 6).
    pub fn eflags(self) -> u32 {
        match self {
            Relation::Greater => 0,
            Relation::Less => 0x01,
            Relation::Equal => 0x40,
            Relation::Unordered => 0x45,
        }
    }
}

impl Ctx {
    /// FCOM, FCOMI, FTST, FICOM: any NaN raises IE.
    ///
    /// The relation is meaningful also with IE or DE unmasked. The manual says that an unmasked IE leaves the
    /// condition codes or EFLAGS alone; a Zen 4 sets them all the same and only holds back the pops, for which
    /// [`Ctx::writes_register`] is the test.
    pub fn compare(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Relation {
        self.relate(&a.into().parts(), &b.into().parts(), false)
    }

    /// FUCOM, FUCOMI: only a signalling NaN or an unsupported encoding raises IE.
    pub fn compare_quiet(&mut self, a: impl Into<Operand>, b: impl Into<Operand>) -> Relation {
        self.relate(&a.into().parts(), &b.into().parts(), true)
    }

    fn relate(&mut self, a: &Parts, b: &Parts, quiet: bool) -> Relation {
        if a.is_unordered() || b.is_unordered() {
            let loud = |p: &Parts| p.kind == Kind::Unsupported || p.is_signalling();
            if !quiet || loud(a) || loud(b) {
                self.flags |= Flags::IE;
            }
            return Relation::Unordered;
        }
        let _ = self.denormal(a.denormal || b.denormal);
        match key(a).cmp(&key(b)) {
            std::cmp::Ordering::Greater => Relation::Greater,
            std::cmp::Ordering::Less => Relation::Less,
            std::cmp::Ordering::Equal => Relation::Equal,
        }
    }
}

/// A number that orders like the value: a signed magnitude of exponent and significand.
fn key(p: &Parts) -> i128 {
    let magnitude = match p.kind {
        Kind::Zero => 0,
        Kind::Finite => i128::from(p.exp + (1 << 16)) << 64 | i128::from(p.mant),
        _ => i128::MAX,
    };
    if p.negative { -magnitude } else { magnitude }
}
