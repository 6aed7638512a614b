//! Flags that only a fault or a side exit can see: not stored, but described by what they are made of, in the side
//! table for faults; exits make them.
//!
//! Invariant: while `lazy` is set, the guest registers that it names hold what it says at every site, because
//! `try_lazy` has looked ahead to the next `SetFlags`. Slots that it names are its own until then.

use super::asm::{Alu, Reg, Rm, state};
use super::{Codegen, Loc, NO_SLOT};
use crate::layout;
use crate::regalloc::Fact;
use crate::sidetable::{Place, Recipe};
use emu_core::ir::{Cc, Inst, Op, Type, Value};
use emu_core::state::gpr;

/// Flags of a product, or of an operation on memory, that are made on the way out alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Product {
    /// The flags.
    pub flags: Value,
    /// What they are made of: constants, and slots that are kept for it.
    pub recipe: Recipe,
}

impl Codegen {
    /// Defers a `SetFlags` of `f`, if a recipe can stand for it until the next one.
    pub fn try_lazy(&mut self, f: Value) -> bool {
        let product = self.product.filter(|p| p.flags == f).map(|p| p.recipe);
        let Some(recipe) = product.or_else(|| Recipe::of(&self.insts, f, |v| self.place(v))) else {
            return false;
        };
        let named = |g: i64| recipe.x == Place::Gpr(g as u8) || recipe.y == Place::Gpr(g as u8);
        let mut last_fault = 0;
        // Where a register is written first, for each.
        let mut first_write = [usize::MAX; 16];
        for (j, i) in self.insts.iter().enumerate().skip(self.at + 1) {
            match i.op {
                Op::SetFlags => {
                    return self.keep_what_is_lost(f, recipe, |g| first_write[g as usize & 15] < last_fault);
                }
                // The write of what is there already.
                Op::SetReg if self.val[i.args[0].index()].loc == Loc::Guest(i.imm as u8) => {}
                Op::SetReg | Op::SetRegHi if named(i.imm) => {
                    let first = &mut first_write[i.imm as usize & 15];
                    *first = j.min(*first);
                }
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

    /// Takes `recipe` for the guest's flags, which are `f`; of what it is made of, those guest registers that are `lost`
    /// before the flags may be wanted are put into slots. Not if a word is made of the flags anyway.
    fn keep_what_is_lost(&mut self, f: Value, mut recipe: Recipe, lost: impl Fn(u8) -> bool) -> bool {
        let is_lost = |p: Place| matches!(p, Place::Gpr(g) if lost(g));
        if is_lost(recipe.x) || is_lost(recipe.y) {
            if self.native != Some(f) || !self.only_carry(f, self.at + 1) {
                return false;
            }
            let at_hand = |p: Place| !is_lost(p) || matches!(p, Place::Gpr(g) if Self::pinned(g).is_some());
            if !at_hand(recipe.x) || !at_hand(recipe.y) {
                return false;
            }
            for p in [&mut recipe.x, &mut recipe.y] {
                if let Place::Gpr(g) = *p
                    && lost(g)
                    && let Some(r) = Self::pinned(g)
                {
                    *p = self.keep_operand(r);
                }
            }
        }
        self.lazy = Some(recipe);
        true
    }

    /// Where `v` is, if that is a guest register or a constant.
    fn place(&self, v: Value) -> Option<Place> {
        if let Some(c) = self.constant(v) {
            return Some(Place::Const(c));
        }
        match self.val[v.index()].loc {
            Loc::Guest(g) => Some(Place::Gpr(g)),
            Loc::None => self.guest_register_of(v),
            _ => None,
        }
    }

    /// The guest register that still holds `v`, which has had its last use.
    fn guest_register_of(&self, v: Value) -> Option<Place> {
        let mut written = 0u16;
        for (j, i) in self.insts[..self.at].iter().enumerate().skip(v.index()).rev() {
            match i.op {
                Op::GetReg if j == v.index() => {
                    return (written >> (i.imm & 15) & 1 == 0).then_some(Place::Gpr(i.imm as u8 & 15));
                }
                Op::SetReg if i.args[0] == v && written >> (i.imm & 15) & 1 == 0 => {
                    return Some(Place::Gpr(i.imm as u8 & 15));
                }
                Op::SetReg | Op::SetRegHi => written |= 1 << (i.imm & 15),
                // These write registers, too.
                Op::RepString | Op::RepSkip | Op::System | Op::X87 => return None,
                _ => {}
            }
        }
        None
    }

    /// The flags of the product in hand, `me`, if only a fault or a side exit can see them.
    pub fn unseen_flags(&self, me: Value) -> Option<Value> {
        let fact = self.an.facts[me.index()];
        let f = Value(fact.flags);
        if fact.mask == 0 || self.product.is_some_and(|p| self.is_to_be_set(p.flags)) {
            return None;
        }
        let mut sets = 0;
        for (i, inst) in self.insts.iter().enumerate().skip(f.index() + 1) {
            if self.an.facts[i].needed && inst.used().any(|v| v == f) {
                if inst.op != Op::SetFlags || inst.aux == 0 {
                    return None;
                }
                sets += 1;
            }
        }
        (sets == 1).then_some(f)
    }

    /// Whether a `SetFlags` of `f` is still to come.
    fn is_to_be_set(&self, f: Value) -> bool {
        let mut ahead = self.insts.iter().zip(&self.an.facts).skip(self.at);
        ahead.any(|(i, fact)| i.op == Op::SetFlags && i.args[0] == f && fact.needed)
    }

    /// The flags of a product will be made of `x` and `y` if somebody wants them after all: see [`Recipe`].
    pub fn keep_product(&mut self, flags: Value, op: Op, ty: Type, x: Place, y: Place) {
        self.keep_recipe(flags, Recipe { op, ty, x, y, by_result: false });
    }

    /// The flags will be made by `recipe`, whose slots are kept for it, if somebody wants them after all.
    pub fn keep_recipe(&mut self, flags: Value, recipe: Recipe) {
        self.product = Some(Product { flags, recipe });
    }

    /// Whether others are set behind the `SetFlags` of `f`.
    pub fn is_replaced(&self, f: Value) -> bool {
        let sets = |(i, fact): &(&Inst, &Fact)| i.op == Op::SetFlags && fact.needed;
        let mut behind = self.insts.iter().zip(&self.an.facts).skip(f.index()).filter(sets);
        behind.any(|(i, _)| i.args[0] == f) && behind.next().is_some()
    }

    /// Keeps what is in `r` for flags that may have to be made of it.
    pub fn keep_operand(&mut self, r: Reg) -> Place {
        let s = self.new_slot(1);
        self.asm.store(Type::I64, state(layout::slot(s)), r);
        Place::Slot(s as u8)
    }

    /// The guest's flags have been replaced: what was kept for them is free.
    pub fn forget_lazy(&mut self) {
        if let Some(recipe) = self.lazy.take() {
            for p in [recipe.x, recipe.y] {
                if let Place::Slot(s) = p {
                    self.free_slots(s.into(), 1);
                }
            }
        }
    }

    /// Whether all that is wanted of the flags `f` from the op with number `from` on is their CF, by ops that take it from
    /// where [`Self::save_carry`] puts it.
    pub fn only_carry(&self, f: Value, from: usize) -> bool {
        let fact = &self.an.facts[f.index()];
        if self.deferred == Some(f) && self.lazy.is_none() && fact.last as usize >= self.at {
            return false;
        }
        let readers =
            self.insts.iter().enumerate().skip(from).take((fact.read as usize + 1).saturating_sub(from));
        readers.filter(|(i, inst)| self.an.facts[*i].needed && inst.used().any(|v| v == f)).all(
            |(_, inst)| match inst.op {
                Op::Adc | Op::Sbb => true,
                Op::TestCc => matches!(Cc::ALL[inst.imm as usize & 15], Cc::B | Cc::AE),
                _ => false,
            },
        )
    }

    /// Keeps the CF that is in the host's flags, for `f`: its opposite as a byte.
    pub fn save_carry(&mut self, f: Value) {
        let s = self.new_slot(1);
        self.asm.setcc(Cc::AE as u8, Rm::M(state(layout::slot(s))));
        let val = &mut self.val[f.index()];
        (val.slot, val.loc, val.carry) = (s as u8, Loc::Slot, true);
    }

    /// Brings the CF of `f`, which has been kept by [`Self::save_carry`], into the host's flags.
    pub fn carry_to_host(&mut self, f: Value) {
        debug_assert!(self.val[f.index()].carry && self.val[f.index()].slot != NO_SLOT);
        let m = self.slot_of(f);
        self.asm.alu_imm(Type::I8, Alu::Cmp, Rm::M(m), 1);
    }
}
