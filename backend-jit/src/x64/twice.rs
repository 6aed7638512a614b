//! Accesses that share a look-up, without tests: the part of a block that has such is emitted twice.
//!
//! An access behind the first of its group (see [`crate::hold`]) tests for the group's addend, because a helper may have been
//! called since. In the body's form, no access calls one: what its look-up misses goes over to the other form, out of line,
//! at that look-up. There the rest of the part has its tests and slow paths, and comes back behind it. So in the body the
//! addend is there for sure, but behind an op that calls a helper by itself, where the next access tests.
//!
//! Both forms are made by the same code in the same order, and choose the same places for all values; so they may be left
//! and entered wherever an access looks. What differs is emitted behind [`Codegen::save_flags`] and in temporaries that are free.
//!
//! Invariant: places are the same at each crossing and at the end; else the block is emitted once, with tests.

use super::branch::Side;
use super::lazy::Product;
use super::{Codegen, Owner, Val};
use crate::JitError;
use crate::frame::Mark;
use crate::layout;
use crate::regalloc::Fact;
use crate::sidetable::{Last, Recipe};
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, Value};
use std::ops::Range;

/// Which form of a block is being emitted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Form {
    /// The only one.
    #[default]
    Single,
    /// The one in the body.
    Quick,
    /// The one out of line.
    Careful,
}

/// Where the quick form may go over.
#[derive(Clone, Copy, Debug)]
struct Join {
    label: DynamicLabel,
    owner: [Owner; 16],
    slots: u64,
}

/// What the emitter needs for two forms. Its memory is reused from block to block.
#[derive(Debug, Default)]
pub struct Twice {
    pub form: Form,
    /// By index in [`layout::HOLDS`]: the addend is there.
    trusted: u8,
    /// For each access of the part, where it is entered from the quick form if it ever is.
    joins: Vec<Option<Join>>,
    /// Accesses of the part so far.
    next: usize,
    /// The side exits that were written last: those of the quick form, which the careful one uses too.
    pub sides: Vec<Side>,
    next_side: usize,
    start: Places,
    end: Places,
}

/// Where values are, and how far the emitter has come.
#[derive(Default, Debug)]
struct Places {
    insts: Vec<Inst>,
    facts: Vec<Fact>,
    val: Vec<Val>,
    owner: [Owner; 16],
    alias: [Vec<Value>; 16],
    slots: u64,
    xmm: [Option<Value>; 16],
    held: [Vec<Value>; 16],
    vec_live: bool,
    native: Option<Value>,
    bools: Vec<Value>,
    guest_flags: Vec<Value>,
    lazy: Option<Recipe>,
    product: Option<Product>,
    deferred: Option<Value>,
    unsaved: Option<Value>,
    x87_live: bool,
    x87_last: Option<Last>,
    mark: Option<Mark>,
}

fn bit(slot: u8) -> u8 {
    layout::HOLDS.iter().position(|&s| s == usize::from(slot)).map_or(0, |n| 1 << n)
}

impl Codegen {
    /// The ops that are worth two forms: from the first access of a group to the last.
    pub fn part(&self) -> Option<Range<usize>> {
        Some(self.holds.first()?..self.holds.last()? + 1).filter(|_| self.trust_looks)
    }

    /// Emits the body with `part` in its quick form, and what follows up to the careful form.
    ///
    /// # Errors
    /// As [`Codegen::compile`]; [`JitError::Internal`] if the forms would not fit together.
    pub fn emit_twice(&mut self, part: Range<usize>) -> Result<(), JitError> {
        self.emit_ops(0..part.start)?;
        self.word_in_ax = None;
        let mut start = std::mem::take(&mut self.twice.start);
        self.places(&mut start);
        self.twice.joins.clear();
        self.begin_form(Form::Quick);
        let first_side = self.sides.len();
        self.emit_ops(part.clone())?;
        self.settle_stack();
        let accesses = self.twice.next;
        self.twice.form = Form::Single;
        self.word_in_ax = None;
        let back = self.asm.label();
        self.asm.bind(back);
        let mut end = std::mem::take(&mut self.twice.end);
        self.places(&mut end);
        self.emit_ops(part.end..self.insts.len())?;
        let mark = self.frame.mark();
        self.emit_sides();
        self.asm.go_cold();
        self.put_places(&mut start);
        self.begin_form(Form::Careful);
        self.twice.next_side = first_side;
        self.emit_ops(part)?;
        self.twice.form = Form::Single;
        self.asm.jmp(back);
        // Each crossing has been met where it was left.
        if self.twice.next != accesses || !self.is_as(&end) {
            self.frame.fail("the two forms of a block end differently");
        }
        self.frame.go_back(mark);
        (self.twice.start, self.twice.end) = (start, end);
        self.emit_sides();
        Ok(())
    }

    fn begin_form(&mut self, form: Form) {
        self.twice.form = form;
        self.twice.next = 0;
        self.twice.trusted = 0;
    }

    /// In the quick form, where the access in hand goes if its look-up misses; in the careful one, that comes in here. There
    /// is no such place if it is `trusted`.
    pub fn crossing(&mut self, trusted: bool) -> Option<DynamicLabel> {
        let n = self.twice.next;
        self.twice.next += 1;
        match self.twice.form {
            Form::Single => None,
            Form::Quick if trusted => None,
            Form::Quick => {
                let label = self.asm.label();
                self.twice.joins.resize(n, None);
                self.twice.joins.push(Some(Join { label, owner: self.owner, slots: self.slots }));
                Some(label)
            }
            Form::Careful => {
                if let Some(join) = self.twice.joins.get(n).copied().flatten() {
                    self.asm.bind(join.label);
                    if (join.owner, join.slots) != (self.owner, self.slots) {
                        self.frame.fail("the two forms of a block part");
                    }
                }
                None
            }
        }
    }

    /// Whether the access in hand, behind the first of the group of `slot`, finds the addend there without a test in the quick
    /// form. If so, it is no crossing.
    pub fn is_trusted(&self, slot: u8) -> bool {
        self.twice.form != Form::Single && self.twice.trusted & bit(slot) != 0
    }

    /// The addend of the group of `slot` has been looked up or tested for.
    pub fn trust(&mut self, slot: u8) {
        self.twice.trusted |= bit(slot);
    }

    /// A helper may be called here.
    pub fn distrust(&mut self) {
        self.twice.trusted = 0;
    }

    /// The side exit of the quick form that `side` is, in the careful one.
    pub fn known_side(&mut self, side: &Side) -> Option<DynamicLabel> {
        if self.twice.form != Form::Careful {
            return None;
        }
        let known = self.twice.sides.get(self.twice.next_side)?;
        self.twice.next_side += 1;
        known.is_like(side).then_some(known.label)
    }

    fn places(&self, p: &mut Places) {
        p.insts.clone_from(&self.insts);
        p.facts.clone_from(&self.an.facts);
        p.val.clone_from(&self.val);
        p.owner = self.owner;
        p.alias.clone_from(&self.alias);
        p.slots = self.slots;
        p.xmm = self.xmm;
        p.held.clone_from(&self.held);
        p.vec_live = self.vec_live;
        p.native = self.native;
        p.bools.clone_from(&self.bools);
        p.guest_flags.clone_from(&self.guest_flags);
        p.lazy = self.lazy;
        p.product = self.product;
        p.deferred = self.deferred;
        p.unsaved = self.unsaved;
        p.x87_live = self.x87_live;
        p.x87_last = self.x87_last;
        p.mark = Some(self.frame.mark());
    }

    fn put_places(&mut self, p: &mut Places) {
        std::mem::swap(&mut self.insts, &mut p.insts);
        std::mem::swap(&mut self.an.facts, &mut p.facts);
        std::mem::swap(&mut self.val, &mut p.val);
        self.owner = p.owner;
        std::mem::swap(&mut self.alias, &mut p.alias);
        self.slots = p.slots;
        self.xmm = p.xmm;
        std::mem::swap(&mut self.held, &mut p.held);
        self.vec_live = p.vec_live;
        self.native = p.native;
        std::mem::swap(&mut self.bools, &mut p.bools);
        std::mem::swap(&mut self.guest_flags, &mut p.guest_flags);
        self.lazy = p.lazy;
        self.product = p.product;
        self.deferred = p.deferred;
        self.unsaved = p.unsaved;
        self.x87_live = p.x87_live;
        self.x87_last = p.x87_last;
        (self.locked, self.xmm_locked) = (0, 0);
        (self.addend, self.folded, self.word_in_ax) = (None, None, None);
        if let Some(mark) = p.mark {
            self.frame.go_back(mark);
        }
    }

    /// Whether all values that live on are where `p` has them.
    fn is_as(&self, p: &Places) -> bool {
        let mut values = (0..self.val.len()).filter(|&n| self.lives(Value(n as u32)));
        values.all(|n| self.val[n] == p.val[n])
            && self.owner == p.owner
            && self.slots == p.slots
            && self.xmm == p.xmm
            && self.held == p.held
            && self.alias == p.alias
            && (self.vec_live, self.x87_live, self.x87_last) == (p.vec_live, p.x87_live, p.x87_last)
            && (self.native, self.lazy, self.deferred) == (p.native, p.lazy, p.deferred)
            && self.unsaved == p.unsaved
            && (&self.bools, &self.guest_flags) == (&p.bools, &p.guest_flags)
            && self.product == p.product
    }
}
