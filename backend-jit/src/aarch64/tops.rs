//! What is above the low lane of a vector.
//!
//! An operation on low lanes leaves the others as they are in its first operand, and the host's clears them instead. Two
//! things save the instructions that put them back:
//!
//! - It is known of which value the lanes above are ([`Tops`]): where the guest register that the result goes to has the
//!   same ones, only the low lane is moved.
//! - In the body's form of a run (see `run`) the lanes above are left where they are, in a guest register, which does not
//!   change before the run's end ([`Rest`]). Who wants the whole vector puts them in place ([`Codegen::vreg`]).
//!
//! Invariants:
//! - `guest[r]` is what guest register r holds, or nothing;
//! - a value has a [`Rest`] only in the body's form of a run, and its place is a temporary or a slot.

use super::asm::Reg;
use super::vecregs::GUESTS;
use super::{Codegen, Loc};
use emu_core::ir::Value;

/// The lanes above the low one are those of a guest vector register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rest {
    pub of: Reg,
    /// The low lane is a double.
    pub wide: bool,
}

/// Which vectors have the same upper lanes.
#[derive(Clone, Debug, Default)]
pub struct Tops {
    /// By guest register: what it holds, where that is known.
    pub guest: [Option<Value>; GUESTS as usize],
    /// By value: the one that it has all bits above the low single from, and all above the low double.
    from: Vec<[Value; 2]>,
}

impl Tops {
    /// A block of so many instructions begins.
    pub fn reset(&mut self, len: usize) {
        self.guest = Default::default();
        self.from.clear();
        self.from.extend((0..len as u32).map(|n| [Value(n); 2]));
    }

    /// `me` is `a` with another low lane.
    pub fn take_over(&mut self, me: Value, a: Value, wide: bool) {
        let [single, double] = self.from[a.index()];
        self.from[me.index()] = [if wide { me } else { single }, double];
    }
}

impl Codegen {
    /// Whether guest register `r` has the lanes above the low one that `v` has.
    pub fn same_rest(&self, r: Reg, v: Value, wide: bool) -> bool {
        let from = |v: Value| self.tops.from[v.index()][usize::from(wide)];
        self.tops.guest.get(usize::from(r)).is_some_and(|h| h.is_some_and(|h| from(h) == from(v)))
    }

    /// Where the lanes of `a` above the low one may be left for a result that has them too: in the body's form of a run.
    pub fn rest_for(&self, a: Value, wide: bool) -> Option<Rest> {
        let val = &self.val[a.index()];
        if !self.waits() {
            return None;
        }
        match (val.rest, val.loc) {
            // The low double of a would be neither in that register nor in the result.
            (Some(rest), _) => (wide || !rest.wide).then_some(Rest { of: rest.of, wide }),
            (None, Loc::GuestV(r)) => (r < GUESTS).then_some(Rest { of: r, wide }),
            _ => None,
        }
    }

    /// Whether of the low double of `v` only the single is in its place.
    pub fn lacks_double(&self, v: Value) -> bool {
        self.val[v.index()].rest.is_some_and(|rest| !rest.wide)
    }

    /// Completes the low double of `v`, which is in `r`: what reads doubles may come behind what makes singles.
    pub fn make_double(&mut self, v: Value, r: Reg) {
        if let Some(rest) = &mut self.val[v.index()].rest
            && !rest.wide
        {
            rest.wide = true;
            let of = rest.of;
            self.v2(INS_SINGLE_1, r, of);
        }
    }

    /// The vector register that holds `v`, all of it.
    pub fn vreg(&mut self, v: Value) -> Reg {
        let r = self.vlow(v, false);
        if let Some(Rest { of, wide }) = self.val[v.index()].rest.take() {
            if !wide {
                self.v2(INS_SINGLE_1, r, of);
            }
            self.v2(INS_DOUBLE_1, r, of);
        }
        r
    }
}

/// The second single or double of a vector into that of another one.
const INS_SINGLE_1: u32 = 0x6e0c_2400;
/// See [`INS_SINGLE_1`].
const INS_DOUBLE_1: u32 = 0x6e18_4400;
