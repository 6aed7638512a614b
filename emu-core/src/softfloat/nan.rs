//! Which NaN comes out when a NaN goes in.
//!
//! Intel SDM vol. 1, 4.8.3.5 and table 4-7, x87 column: a quiet NaN beats a signalling one, two of a kind are
//! decided by the larger significand, and what comes out is quiet. Two NaNs that differ in sign only give the
//! positive one (measured; the manual is silent).

use super::ctx::{Ctx, Flags};
use super::f80::F80;
use super::operand::{Kind, Operand, Parts};

impl Ctx {
    /// Takes one operand apart, or delivers the NaN that the operation must return.
    pub(super) fn examine1(&mut self, a: Operand) -> Result<Parts, F80> {
        let a = a.parts();
        match a.kind {
            Kind::Unsupported => Err(self.invalid()),
            Kind::Nan => {
                if a.is_signalling() {
                    self.flags |= Flags::IE;
                }
                Err(a.value.quieted())
            }
            _ => Ok(a),
        }
    }

    /// Takes two operands apart, or delivers the NaN that the operation must return.
    pub(super) fn examine2(&mut self, a: Operand, b: Operand) -> Result<(Parts, Parts), F80> {
        let (a, b) = (a.parts(), b.parts());
        if a.kind == Kind::Unsupported || b.kind == Kind::Unsupported {
            return Err(self.invalid());
        }
        if a.kind != Kind::Nan && b.kind != Kind::Nan {
            return Ok((a, b));
        }
        if a.is_signalling() || b.is_signalling() {
            self.flags |= Flags::IE;
        }
        Err(select(&a, &b).quieted())
    }
}

/// At least one of the two is a NaN.
fn select(a: &Parts, b: &Parts) -> F80 {
    match (a.kind == Kind::Nan, b.kind == Kind::Nan) {
        (true, false) => a.value,
        (false, true) => b.value,
        _ => match (a.is_signalling(), b.is_signalling()) {
            (true, false) => b.value,
            (false, true) => a.value,
            _ => larger(a.value, b.value),
        },
    }
}

fn larger(a: F80, b: F80) -> F80 {
    match a.mant.cmp(&b.mant) {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if a.is_negative() => b,
        std::cmp::Ordering::Equal => a,
    }
}
