//! Flags that only a fault or a side exit can see: not stored, but described by what they are made of, in the side
//! table for faults; exits make them.
//!
//! Invariant: while `lazy` is set, the guest registers that it names hold what it says at every site, because
//! `try_lazy` has looked ahead to the next `SetFlags`.

use super::{Codegen, Loc};
use crate::sidetable::{Place, Recipe};
use emu_core::ir::{Op, Value};
use emu_core::state::gpr;

impl Codegen {
    /// Defers a `SetFlags` of `f`, if a recipe can stand for it until the next one.
    pub fn try_lazy(&mut self, f: Value) -> bool {
        let Some(recipe) = Recipe::of(&self.insts, f, |v| self.place(v)) else { return false };
        let named = |g: i64| recipe.x == Place::Gpr(g as u8) || recipe.y == Place::Gpr(g as u8);
        let mut last_fault = 0;
        let mut first_write = usize::MAX;
        for (j, i) in self.insts.iter().enumerate().skip(self.at + 1) {
            match i.op {
                Op::SetFlags => {
                    if first_write < last_fault {
                        return false;
                    }
                    self.lazy = Some(recipe);
                    return true;
                }
                // The write of what is there already.
                Op::SetReg if self.val[i.args[0].index()].loc == Loc::Guest(i.imm as u8) => {}
                Op::SetReg | Op::SetRegHi if named(i.imm) => first_write = first_write.min(j),
                Op::RepString | Op::RepSkip
                    if [gpr::RCX, gpr::RSI, gpr::RDI].into_iter().any(|g| named(g as i64)) =>
                {
                    return false;
                }
                op if op.can_fault() || matches!(op, Op::ExitIf | Op::X87) => last_fault = j,
                _ => {}
            }
        }
        false
    }

    /// Where `v` is, if that is a guest register or a constant.
    fn place(&self, v: Value) -> Option<Place> {
        if let Some(c) = self.constant(v) {
            return Some(Place::Const(c));
        }
        match self.val[v.index()].loc {
            Loc::Guest(g) => Some(Place::Gpr(g)),
            _ => None,
        }
    }
}
