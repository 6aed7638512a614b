//! What waits for the end of a run of floating point (see `run`), because it cannot be undone: sets of guest vector registers
//! and of their upper halves, and stores by a base that is there for sure.
//!
//! So a run has nothing to save at its start. Of several sets of one register the last alone is done.
//!
//! Invariants:
//! - what waits lives until the end of its run, in either form;
//! - in the body's form no guest vector register changes before the look at the end; what is loaded behind a store that waits
//!   lies beside it, by the same base, whose temporary stays its own.

use super::asm::Reg;
use super::run::{Form, What};
use super::share::Offset;
use super::vecregs::{FIRST, GUESTS, V0, V1, upper};
use super::{Codegen, Loc};
use crate::hold::Hold;
use emu_core::ir::{Inst, Op, Type, Value};

/// What the form in the body of a run does behind its look.
#[derive(Clone, Copy, Debug)]
pub enum Waiting {
    /// A guest register becomes a value.
    Set(u8, Value),
    /// The upper half of a guest register becomes a value.
    Upper(u8, Value),
    /// A value, or with the other one two halves, is stored at an offset from the base in a temporary.
    Store(Type, Value, Value, Reg, Offset),
}

impl Waiting {
    /// What is set: a guest register, or the upper half of one.
    fn place(self) -> Option<(bool, u8)> {
        match self {
            Self::Set(r, _) => Some((false, r)),
            Self::Upper(n, _) => Some((true, n)),
            Self::Store(..) => None,
        }
    }
}

impl Codegen {
    /// Whether what has been read from vector register `n` so far is used behind the op `at`.
    pub fn reads_later(&self, n: i64, at: usize) -> bool {
        let read =
            |(j, i): (usize, &Inst)| i.op == Op::GetVec && i.imm == n && self.an.facts[j].last as usize > at;
        self.insts[..at].iter().enumerate().any(read)
    }

    /// Whether the store `at` may wait for the end of a run that begins with the op in hand: its base is at hand by then, and
    /// stays.
    pub fn may_wait(&self, at: usize) -> Option<Hold> {
        let i = &self.insts[at];
        let vector = matches!(i.ty, Type::V128 | Type::V256) || self.stores_lane(i.args[1]);
        let hold = self.holds.at(at)?;
        let begun = |j: usize| self.holds.at(j).is_some_and(|h| h.slot == hold.slot && h.first);
        let there = self.temp_of(hold.slot).is_some() || (self.at..at).any(begun);
        (vector && !hold.first && there).then_some(hold)
    }

    /// Prolongs the lives of what waits in the run from the op in hand up to `end`, in both forms, to behind the last op.
    pub fn prolong_waiting(&mut self, end: usize) {
        self.prolonged.clear();
        let mut seen = 0u32;
        for j in (self.at..end).rev() {
            let i = self.insts[j];
            let values = match i.op {
                _ if !self.an.facts[j].needed => continue,
                Op::SetVec => {
                    let bit = match upper(i.imm) {
                        Some(n) => 1 << (n + usize::from(GUESTS)),
                        None => 1 << (i.imm & 15),
                    };
                    let later = seen & bit != 0;
                    seen |= bit;
                    if later {
                        continue;
                    }
                    [i.args[0], Value::NONE]
                }
                Op::Store if i.ty.bytes() >= 16 => [i.args[1], i.args[2]],
                Op::Store => [self.insts[i.args[1].index()].args[0], Value::NONE],
                _ => continue,
            };
            for v in values.into_iter().filter(|v| v.is_some()) {
                let f = &mut self.an.facts[v.index()];
                if (f.last as usize) < end {
                    f.last = end as u32;
                    self.prolonged.push(v);
                }
            }
        }
    }

    /// Whether the form in the body of a run of floating point is in hand.
    pub fn waits(&self) -> bool {
        self.form == Form::Quick && self.run_of == What::Float
    }

    /// In the body's form of a run, lets `set`, of a guest register or an upper half, be done at the end.
    pub fn defer_set(&mut self, set: Waiting) -> bool {
        if !self.waits() {
            return false;
        }
        self.waiting.retain(|w| w.place() != set.place());
        self.waiting.push(set);
        true
    }

    /// In the body's form of a run, lets a store of `v` be done at the end, at `offset` from the base in `base`.
    pub fn defer_store(&mut self, ty: Type, v: Value, high: Value, base: Reg, offset: Offset) {
        self.waiting.push(Waiting::Store(ty, v, high, base, offset));
    }

    /// The store in hand, if it waits for the end of the run in hand.
    pub fn waiting_store(&self) -> Option<Hold> {
        if self.waits() { self.holds.at(self.at) } else { None }
    }

    /// Behind the look of the run in hand: what has waited, which ends then.
    pub fn do_waiting(&mut self) {
        if self.form == Form::Single || self.run_of != What::Float || self.at + 1 != self.run_until {
            return;
        }
        if self.form == Form::Quick {
            let waiting = std::mem::take(&mut self.waiting);
            self.vlocked = 0;
            self.complete(&waiting);
            self.set_registers(&waiting);
            self.do_others(waiting);
        }
        for v in std::mem::take(&mut self.prolonged) {
            self.release(v);
        }
    }

    /// Makes vectors whole that are in a temporary without what is above the low lane, if they are wanted whole, but for
    /// those that go to registers.
    fn complete(&mut self, waiting: &[Waiting]) {
        for n in 0..self.val.len() {
            let v = Value(n as u32);
            if self.val[n].rest.is_none() || !matches!(self.val[n].loc, Loc::Vec(_) | Loc::VecSlot(_)) {
                continue;
            }
            let set = waiting.iter().any(|w| matches!(*w, Waiting::Set(_, x) if x == v));
            let whole = waiting.iter().any(|w| match *w {
                Waiting::Upper(_, x) => x == v,
                Waiting::Store(ty, x, high, ..) => ty.bytes() >= 16 && (x == v || high == v),
                Waiting::Set(..) => false,
            });
            if whole || !set && self.an.facts[n].last as usize >= self.run_until {
                self.vreg(v);
                self.vlocked = 0;
            }
        }
    }

    /// The guest register of which `v` is made when it is put into guest register `r`, if that is another one.
    fn made_of(&self, r: u8, v: Value) -> Option<u8> {
        match (self.val[v.index()].rest, self.val[v.index()].loc) {
            (Some(rest), _) => (rest.of != r && !self.same_rest(r, v, rest.wide)).then_some(rest.of),
            (None, Loc::GuestV(q)) => (q < GUESTS && q != r).then_some(q),
            _ => None,
        }
    }

    /// The guest registers that change, each before what it is made of does.
    fn set_registers(&mut self, waiting: &[Waiting]) {
        let mut sets: Vec<(u8, Value)> = Vec::new();
        sets.extend(waiting.iter().filter_map(|w| match *w {
            Waiting::Set(r, v) if !self.holds(r, v) => Some((r, v)),
            _ => None,
        }));
        while !sets.is_empty() {
            let free = |&(r, _): &(u8, Value)| sets.iter().all(|&(q, v)| self.made_of(q, v) != Some(r));
            let n = match sets.iter().position(free) {
                Some(n) => n,
                // A circle: what is in no register yet is made whole.
                None if sets.iter().any(|&(_, v)| self.val[v.index()].rest.is_some()) => {
                    for &(_, v) in &sets {
                        if self.val[v.index()].rest.is_some() {
                            self.vreg(v);
                            self.vlocked = 0;
                        }
                    }
                    continue;
                }
                // What is in another one moves out of there.
                None => 0,
            };
            let (r, v) = sets.swap_remove(n);
            self.set_low(r, v);
            self.become_guest(r, v);
            self.vlocked = 0;
        }
    }

    fn do_others(&mut self, waiting: Vec<Waiting>) {
        // None is read from a home that another one goes to.
        for w in &waiting {
            let (Waiting::Set(_, v) | Waiting::Upper(_, v) | Waiting::Store(_, v, ..)) = *w;
            let high = if let Waiting::Store(_, _, high, ..) = *w { high } else { Value::NONE };
            for v in [v, high].into_iter().filter(|v| v.is_some()) {
                let lost =
                    |r: u8| waiting.iter().any(|w| matches!(w, Waiting::Upper(n, _) if n + GUESTS == r));
                if matches!(self.val[v.index()].loc, Loc::GuestV(r) if r >= GUESTS && lost(r)) {
                    self.vreg(v);
                }
            }
        }
        for w in waiting {
            match w {
                Waiting::Set(..) => {}
                Waiting::Upper(n, v) => self.set_upper(n, v),
                Waiting::Store(ty, v, high, base, offset) => {
                    self.storing();
                    let low = if ty.bytes() < 16 {
                        self.vread_low(v, ty.bytes() > 4, V0)
                    } else {
                        self.vread(v, V0)
                    };
                    if !high.is_some() {
                        self.asm.vector_at(false, ty, low, base, offset);
                        continue;
                    }
                    let high = self.vread(high, V1);
                    self.store_pair(low, high, base, offset);
                }
            }
        }
    }

    /// Puts `v` into guest register `r`, of which older values move out.
    pub fn set_low(&mut self, r: u8, v: Value) {
        let from = self.vlow(v, false);
        self.change(r, v);
        let Some(rest) = self.val[v.index()].rest else { return self.vmov(r, from) };
        if !self.same_rest(r, v, rest.wide) {
            self.vmov(r, rest.of);
        }
        self.v2(super::fp::ins_low(rest.wide), r, from);
    }

    /// Guest register `r` holds `v`, which needs its temporary no more.
    pub fn become_guest(&mut self, r: u8, v: Value) {
        self.held[r as usize].push(v);
        self.tops.guest[r as usize] = Some(v);
        if let Loc::Vec(t) = self.val[v.index()].loc {
            debug_assert!(t >= FIRST);
            self.free_vec(v, t);
            self.val[v.index()].loc = Loc::GuestV(r);
            self.val[v.index()].rest = None;
        }
    }
}
