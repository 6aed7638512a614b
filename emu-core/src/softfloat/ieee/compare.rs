//! Comparisons, minimum and maximum (SDM vol. 2, CMPPS, COMISS, UCOMISS, MINPS, MAXPS).

use super::super::compare::Relation;
use super::super::ctx::Flags;
use super::env::Env;
use super::format::Format;

impl Env {
    /// How `a` stands to `b`. A signalling NaN raises IE, a quiet one only if `signal`.
    #[inline]
    pub fn compare<F: Format>(&mut self, a: u64, b: u64, signal: bool) -> Relation {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if F::is_nan(a) || F::is_nan(b) {
            if signal || F::is_signalling(a) || F::is_signalling(b) {
                self.flags |= Flags::IE;
            }
            return Relation::Unordered;
        }
        self.denormal::<F>(&[a, b]);
        order::<F>(a, b)
    }

    /// Whether predicate `imm` of CMPPS (0-7) or VCMPPS (0-31) holds.
    #[inline]
    pub fn predicate<F: Format>(&mut self, a: u64, b: u64, imm: u8) -> bool {
        // EQ LT LE UNORD, then their opposites, then with NaN counted the other way; bit 4 turns signalling around.
        let signal = matches!(imm & 3, 1 | 2) != (imm & 0x10 != 0);
        let relation = self.compare::<F>(a, b, signal);
        let unordered = relation == Relation::Unordered;
        let low = match imm & 3 {
            0 => relation == Relation::Equal,
            1 => relation == Relation::Less,
            2 => matches!(relation, Relation::Less | Relation::Equal),
            _ => unordered,
        };
        match imm & 0xf {
            0..=3 => low,
            4..=7 => !low,
            // EQ_UQ, NGE, NGT and FALSE.
            11 => false,
            8 => low || unordered,
            9 => matches!(relation, Relation::Less) || unordered,
            10 => matches!(relation, Relation::Less | Relation::Equal) || unordered,
            // NEQ_OQ, GE, GT and TRUE.
            12 => !low && !unordered,
            13 => matches!(relation, Relation::Greater | Relation::Equal),
            14 => relation == Relation::Greater,
            _ => true,
        }
    }

    /// MIN: `b` unless `a` is less. IE for any NaN.
    #[inline]
    pub fn min<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let less = self.compare::<F>(a, b, true) == Relation::Less;
        self.operand::<F>(if less { a } else { b })
    }

    /// MAX: `b` unless `a` is greater. IE for any NaN.
    #[inline]
    pub fn max<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let greater = self.compare::<F>(a, b, true) == Relation::Greater;
        self.operand::<F>(if greater { a } else { b })
    }
}

/// The order of values that are no NaNs.
#[inline(always)]
fn order<F: Format>(a: u64, b: u64) -> Relation {
    let value = |v: u64| {
        let magnitude = (v & F::MAGNITUDE) as i64;
        if F::is_negative(v) { -magnitude } else { magnitude }
    };
    match value(a).cmp(&value(b)) {
        std::cmp::Ordering::Less => Relation::Less,
        std::cmp::Ordering::Equal => Relation::Equal,
        std::cmp::Ordering::Greater => Relation::Greater,
    }
}
