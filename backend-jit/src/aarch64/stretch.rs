//! Stretches of accesses that share a look-up, as runs (see `run`): registers that are pushed and popped, fields of a
//! structure.
//!
//! An access behind the first of its group (see `share`) tests for the group's base, because a helper may have been called since.
//! Where nothing between two of them can call one, the body has them without tests, and goes over to the form with
//! tests only where the first one has no base: behind the first op of the run, which has changed nothing by then. So no form
//! has anything to undo. Accesses of other groups that have a base in a temporary by then may stand between; those are
//! tested there, too.
//!
//! Nothing can observe the state within the body's form but a side exit. So the stack pointer moves once for all
//! pushes or pops up to the next exit or the end: `SetReg`s before the last are skipped, and what they would have set is
//! given by parts, from the stack pointer before the first.
//!
//! Invariant: the facts of values are as the analysis left them, but in the body's form of a run, and those that are
//! changed there are of values that die within it.

use super::asm::Reg;
use super::run::{Kept, What};
use super::vals::TEMPS;
use super::{Codegen, Loc, Owner};
use crate::addresses;
use crate::hold::Hold;
use crate::regalloc::Hint;
use emu_core::ir::{Inst, Op, Type, Value};

/// RSP.
const STACK: i64 = 4;
/// Accesses behind the first from which a run pays.
const LEAST: usize = 1;
/// Displacements that may be summed up.
const MOST: u64 = 1 << 20;

/// What waits for the end of the run in hand.
#[derive(Debug, Default)]
pub struct Moved {
    /// Indices of the `SetReg`s that are skipped, ascending.
    skipped: Vec<usize>,
    /// Values that are given by parts instead of being made.
    parts: Vec<Value>,
    /// Facts as they were: value, last use, whether it is late.
    facts: Vec<(Value, u32, bool)>,
}

impl Moved {
    /// There is no run.
    pub fn clear(&mut self) {
        self.skipped.clear();
        self.parts.clear();
        self.facts.clear();
    }
}

/// Moves of the stack pointer in a row, as far as they have been seen.
#[derive(Debug)]
struct Chain {
    /// What the stack pointer is before them.
    root: Value,
    /// What each but the last sets.
    parts: Vec<Value>,
    /// Indices of those `SetReg`s.
    sets: Vec<usize>,
    /// What the last sets, and where.
    top: Value,
    set: usize,
}

impl Codegen {
    /// Begins a run of accesses with the op in hand if there is one.
    pub fn begin_accesses(&mut self) -> bool {
        let inst = self.insts[self.at];
        let late = |v: Value| v.is_some() && self.is_late(v);
        let Some(hold) = self.holds.at(self.at) else { return false };
        if !self.goes_by_base(self.at) || inst.args[1..].iter().any(|v| late(*v)) {
            return false;
        }
        let Some((end, others)) = self.accesses_end(hold) else { return false };
        let kept = self.used();
        if !self.has_room(hold, kept) {
            return false;
        }
        self.prolonged.clear();
        self.quick(What::Accesses, end, kept);
        if let Some(careful) = self.way_to_careful() {
            for t in TEMPS.into_iter().filter(|t| others & 1 << t != 0) {
                self.asm.cbz(false, true, t, careful);
            }
        }
        self.move_stack_once(end);
        true
    }

    /// The temporary with the base of the group with `slot`.
    pub fn temp_of(&self, slot: u8) -> Option<Reg> {
        TEMPS.into_iter().find(|&t| self.owner[t as usize] == Owner::Base(slot))
    }

    /// Whether the access in hand can do without the registers that are in use.
    fn has_room(&self, hold: Hold, kept: Kept) -> bool {
        let i = &self.insts[self.at];
        let base = self.temp_of(hold.slot).is_none();
        let write = i.op == Op::LoadW;
        let result = write || i.op == Op::Load && !matches!(self.an.facts[self.at].hint, Hint::Full(_));
        let operands: usize = i.used().map(|v| self.loads(v)).sum();
        let temps = usize::from(base) + usize::from(write) + usize::from(result) + operands;
        kept.temps.count_ones() as usize + temps <= TEMPS.len() && kept.vectors.count_ones() <= 6
    }

    /// Temporaries that it takes to have `v` in registers, at most.
    fn loads(&self, v: Value) -> usize {
        if self.is_late(v) {
            return self.insts[v.index()].used().map(|a| self.loads(a)).sum();
        }
        let there = matches!(self.val[v.index()].loc, Loc::Temp(_) | Loc::Guest(_) | Loc::Word);
        usize::from(!there && self.constant(v) != Some(0))
    }

    /// Whether the op `at` is an access of the kind that a run may have: vector registers would have to be there already.
    fn goes_by_base(&self, at: usize) -> bool {
        let i = &self.insts[at];
        let vector = matches!(i.ty, Type::V128 | Type::V256)
            || i.op == Op::Load && self.only_vector(Value(at as u32), i).is_some()
            || i.op == Op::Store && matches!(self.insts[i.args[1].index()].op, Op::Vec1);
        matches!(i.op, Op::Load | Op::LoadW | Op::Store) && (self.vec_live || !vector)
    }

    /// One behind the last op of the run that begins with the op in hand, the first access by `hold`, if it pays; and the
    /// temporaries with the bases of other groups that have accesses in it.
    fn accesses_end(&self, hold: Hold) -> Option<(usize, u32)> {
        let (mut count, mut last, mut stop, mut others) = (0, 0, self.insts.len(), 0u32);
        for (j, i) in self.insts.iter().enumerate().skip(self.at + 1) {
            if !self.an.facts[j].needed {
                continue;
            }
            match self.holds.at(j) {
                Some(h) if h.slot == hold.slot && !h.first && self.goes_by_base(j) => {
                    (count, last) = (count + 1, j);
                }
                Some(h) if !h.first && self.goes_by_base(j) => {
                    let Some(t) = self.temp_of(h.slot) else {
                        stop = j;
                        break;
                    };
                    // The first one pays for the test alone.
                    count += usize::from(others & 1 << t != 0);
                    others |= 1 << t;
                    last = j;
                }
                None if calls_nobody(i) || self.vec_live && moves_vector(i) => {}
                _ => {
                    stop = j;
                    break;
                }
            }
        }
        if count < LEAST {
            return None;
        }
        // The rest of that instruction: it may move the stack pointer.
        let rest = (last + 1..stop).take_while(|&j| self.insts[j].op != Op::Guest);
        let end = rest.filter(|&j| self.an.facts[j].needed).last().unwrap_or(last) + 1;
        Some((end, others))
    }

    /// Plans the moves of the stack pointer in the run that has begun.
    fn move_stack_once(&mut self, end: usize) {
        let mut chain: Option<Chain> = None;
        // What the stack pointer is known to be.
        let mut current = self.alias[STACK as usize].clone();
        for j in self.at..end {
            let i = self.insts[j];
            match i.op {
                _ if !self.an.facts[j].needed => {}
                Op::GetReg if i.imm == STACK => {
                    self.end_chain(chain.take());
                    current = vec![Value(j as u32)];
                }
                Op::ExitIf => self.end_chain(chain.take()),
                Op::SetReg if i.imm == STACK => {
                    let v = i.args[0];
                    let base = self.sum_base(v).filter(|_| i.ty == self.insts[v.index()].ty);
                    match chain.take() {
                        Some(mut c) if base == Some(c.top) && self.only_moves(c.top, j, c.set, v) => {
                            c.parts.push(c.top);
                            c.sets.push(c.set);
                            chain = Some(Chain { top: v, set: j, ..c });
                        }
                        old => {
                            self.end_chain(old);
                            if let Some(root) = base.filter(|b| current.contains(b)) {
                                chain =
                                    Some(Chain { root, parts: Vec::new(), sets: Vec::new(), top: v, set: j });
                            }
                        }
                    }
                    let all = matches!(i.ty, Type::I32 | Type::I64);
                    current = if all { vec![v] } else { Vec::new() };
                }
                _ => {}
            }
        }
        self.end_chain(chain);
        self.moved.skipped.sort_unstable();
    }

    /// What a displacement is added to for `v`, if `v` is made so.
    fn sum_base(&self, v: Value) -> Option<Value> {
        let i = &self.insts[v.index()];
        let sum = i.op == Op::Lea && i.args[0].is_some() && !i.args[1].is_some();
        let same = sum && self.insts[i.args[0].index()].ty == i.ty;
        (same && i.imm.unsigned_abs() < MOST && self.constant(i.args[0]).is_none()).then_some(i.args[0])
    }

    /// Whether `v` is used up to the op `end` alone, and only as an address, by the `SetReg` at `set` and for `next`.
    fn only_moves(&self, v: Value, end: usize, set: usize, next: Value) -> bool {
        (v.index() >= self.at || self.is_late(v))
            && (v.index() + 1..self.insts.len()).filter(|&j| self.an.facts[j].needed).all(|j| {
                let i = &self.insts[j];
                if !i.used().any(|a| a == v) {
                    return true;
                }
                j == set || j == next.index() || j < end && self.is_address(v, j, end)
            })
    }

    /// Whether the op `j` uses `v` as an address alone: an access before the op `end`, or the address of 32 bits for such.
    fn is_address(&self, v: Value, j: usize, end: usize) -> bool {
        let i = &self.insts[j];
        if i.args[0] != v || i.args[1..].contains(&v) {
            return false;
        }
        let me = Value(j as u32);
        let only = || {
            let uses = |k: &usize| self.an.facts[*k].needed && self.insts[*k].used().any(|a| a == me);
            self.is_late(me)
                && (j + 1..self.insts.len()).filter(uses).all(|k| k < end && self.is_address(me, k, end))
        };
        self.goes_by_base(j) || addresses::is_narrow(&self.insts, i) && only()
    }

    /// Leaves all moves of a chain but the last out.
    fn end_chain(&mut self, chain: Option<Chain>) {
        let Some(Chain { root, parts, sets, top, set }) = chain.filter(|c| !c.sets.is_empty()) else {
            return;
        };
        let f = &self.an.facts[top.index()];
        // Where the last one is made.
        let made = if f.late { set } else { top.index() };
        let fits = !f.late || f.made as usize == set;
        let dies = self.an.facts[root.index()].last as usize <= made;
        if !fits || !dies {
            return;
        }
        for &v in parts.iter().chain([&root]) {
            let f = &mut self.an.facts[v.index()];
            self.moved.facts.push((v, f.last, f.late));
            f.last = made as u32;
            f.late |= v != root;
        }
        self.moved.skipped.extend(sets);
        self.moved.parts.extend(parts);
    }

    /// The run in hand ends: the facts are as they were.
    pub fn end_moved(&mut self) {
        for (v, last, late) in self.moved.facts.drain(..).rev() {
            let f = &mut self.an.facts[v.index()];
            (f.last, f.late) = (last, late);
        }
        self.moved.clear();
    }

    /// Whether nothing is emitted for the op `at`, because a later one does the same and more.
    pub fn is_skipped(&self, at: usize) -> bool {
        self.moved.skipped.binary_search(&at).is_ok()
    }

    /// Whether `v` is given by parts though it is no address alone.
    pub fn is_moved(&self, v: Value) -> bool {
        self.moved.parts.contains(&v) && self.val[v.index()].loc == Loc::None
    }
}

/// Whether `i` reads or writes half a vector register.
fn moves_vector(i: &Inst) -> bool {
    matches!(i.op, Op::GetVec | Op::SetVec) && i.ty == Type::V128
}

/// Whether what is emitted for `i` calls no helper, and leaves only by a side exit.
pub fn calls_nobody(i: &Inst) -> bool {
    use Op::*;
    let moves = matches!(i.op, Guest | Const | Pc | GetReg | SetReg | GetRegHi | SetRegHi | StoreW);
    let sums = matches!(i.op, Add | Sub | And | Or | Xor | Not | Neg | Lea | Mul | MulHiU | MulHiS);
    let bits = matches!(i.op, ZExt | SExt | Trunc | Bswap | Shl | Shr | Sar | Rol | Ror);
    let flags = matches!(i.op, FlagsOf | SetFlags | GetFlags | MergeFlags | TestCc | NotBool);
    let tests = matches!(i.op, CmpEq | CmpNe | CmpUlt | CmpUle | CmpSlt | CmpSle | Select | ExitIf);
    moves || sums || bits || flags || tests
}
