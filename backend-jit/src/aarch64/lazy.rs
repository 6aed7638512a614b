//! Flags that only a fault or a side exit can see: not made, but described by what they are made of (see
//! [`crate::sidetable::Recipe`]), in the side table for faults; exits make them. And tests for zero, which need no flags.
//!
//! Flags that are for the one exit that tests them need no places outside of the block: the exit makes them of the
//! operands' registers, or those of a comparison of floating point of the host's ([`Near`]).
//!
//! Where a block jumps to its own beginning, and that replaces the flags before anybody can see them, so do its last ones:
//! the ways out alone make them.
//!
//! Invariant: while `lazy` is set, the guest registers that it names hold what it says at every site and side exit,
//! because [`find`] has looked ahead to the next `SetFlags`.

use super::Codegen;
use super::asm::{Cond, Logic, Reg, ZR};
use super::record::Kind;
use super::vals::{FLAGS, GUEST, S0, S1};
use crate::regalloc::Analysis;
use crate::sidetable::{Place, Recipe};
use emu_core::ir::{Cc, Inst, Op, Type, Value};
use emu_core::state::gpr;

/// Flags of an operation that only the side exit behind it sees.
#[derive(Clone, Copy, Debug)]
pub struct Near {
    /// Index of the exit.
    exit: u32,
    op: Op,
    ty: Type,
    /// The result of a logical operation, else the first operand.
    x: Value,
    y: Value,
}

/// A side exit or branch that is taken if its operand is zero, or with `not` if it is not.
#[derive(Clone, Copy, Debug)]
pub struct ZeroTest {
    at: u32,
    not: bool,
}

/// An operand of flags that an exit makes.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Reg(Reg),
    Const(u64),
}

/// What an exit makes the guest's flags of: as [`Recipe`], by host registers.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    op: Op,
    ty: Type,
    x: Part,
    y: Part,
    by_result: bool,
}

impl Recipe {
    fn parts(self) -> Parts {
        let part = |p| match p {
            Place::Gpr(g) => Part::Reg(GUEST[g as usize & 15]),
            Place::Const(c) => Part::Const(c),
            Place::Slot(_) => unreachable!("only the other emitter keeps operands in slots"),
        };
        Parts { op: self.op, ty: self.ty, x: part(self.x), y: part(self.y), by_result: self.by_result }
    }
}

/// What [`find`] finds, by index.
#[derive(Debug, Default)]
pub struct Found {
    /// The `SetFlags` that a recipe stands for.
    recipes: Vec<(u32, Recipe)>,
    nears: Vec<Near>,
    zeros: Vec<ZeroTest>,
    uses: Vec<u8>,
}

impl Found {
    /// Prolongs the lives of what exits make flags of.
    pub fn prolong(&self, an: &mut Analysis) {
        for n in &self.nears {
            for v in [n.x, n.y] {
                let f = &mut an.facts[v.index()];
                f.last = f.last.max(n.exit);
                f.needed = true;
            }
        }
    }
}

/// Takes the flags off the `SetFlags` of `insts` that a description can stand for, and gives side exits what they test for
/// zero. `loops`: the block jumps to its own beginning.
pub fn find(insts: &mut [Inst], found: &mut Found, loops: bool) {
    let anew = loops && begins_anew(insts);
    found.recipes.clear();
    found.nears.clear();
    found.zeros.clear();
    for at in 0..insts.len() {
        let i = insts[at];
        if i.op != Op::SetFlags {
            continue;
        }
        let until = match Until::next(insts, at) {
            Some(until) if i.aux != 0 => Some(until),
            None if anew => Until::end(insts, at),
            _ => None,
        };
        let Some(until) = until else { continue };
        if let Some(recipe) = Recipe::of(insts, i.args[0], |v| until.place(v)) {
            found.recipes.push((at as u32, recipe));
        } else if let Some(near) = until.near(at) {
            found.nears.push(near);
        } else {
            continue;
        }
        insts[at].args[0] = Value::NONE;
        insts[at].aux = 0;
    }
    find_zero_tests(insts, found);
}

/// Whether the flags with which a block begins are replaced before anybody can see them.
fn begins_anew(insts: &[Inst]) -> bool {
    let sees = |i: &Inst| i.op.can_fault() || i.op.is_terminator() || observes(i.op);
    let first = insts.iter().find(|i| i.op == Op::SetFlags || i.op == Op::GetFlags || sees(i));
    first.is_some_and(|i| i.op == Op::SetFlags)
}

/// Whether the guest's flags have to be right at an operation that cannot fault.
fn observes(op: Op) -> bool {
    matches!(op, Op::ExitIf | Op::X87 | Op::System | Op::InterpretIf)
}

/// Lets side exits and branches that depend on whether something is zero say so.
fn find_zero_tests(insts: &mut [Inst], found: &mut Found) {
    found.uses.clear();
    found.uses.resize(insts.len(), 0);
    for v in insts.iter().flat_map(Inst::used) {
        found.uses[v.index()] = found.uses[v.index()].saturating_add(1);
    }
    for at in 0..insts.len() {
        if !matches!(insts[at].op, Op::ExitIf | Op::Branch) {
            continue;
        }
        // Each for one reader alone, the flags perhaps to become the guest's, too.
        let only = |v: Value| found.uses[v.index()] == 1;
        let becomes = |i: &Inst, v: Value| i.op == Op::SetFlags && i.args[0] == v;
        let test = insts[at].args[0];
        let Inst { op: Op::TestCc, args: [flags, ..], imm, .. } = insts[test.index()] else { continue };
        let not = match Cc::ALL[imm as usize & 15] {
            Cc::E => false,
            Cc::NE => true,
            _ => continue,
        };
        let Inst { op: Op::FlagsOf, args: [v, ..], .. } = insts[flags.index()] else { continue };
        let Inst { op, args: [x, y, _], ty, .. } = insts[v.index()];
        let zero =
            |v: Value| insts[v.index()].op == Op::Const && ty.truncate(insts[v.index()].imm as u64) == 0;
        let itself = match op {
            Op::Sub => zero(y),
            Op::And | Op::Or => x == y,
            _ => false,
        };
        // What is narrow has to be clean.
        let whole = matches!(ty, Type::I32 | Type::I64) || insts[x.index()].op == Op::Load;
        // As it was then: it may have been the guest register's value.
        let made = insts[flags.index()..at].iter().any(|i| becomes(i, flags));
        let flags_only = only(flags) || found.uses[flags.index()] == 2 && made;
        if itself && whole && only(test) && flags_only && only(v) && insts[x.index()].op != Op::Const {
            insts[at].args[0] = x;
            found.zeros.push(ZeroTest { at: at as u32, not });
        }
    }
}

/// The part of a block that the flags of a `SetFlags` are for.
struct Until<'a> {
    insts: &'a [Inst],
    /// Where flags may be wanted first and last; the same as each other and 0 where they are not.
    first: usize,
    last: usize,
}

impl<'a> Until<'a> {
    /// From the `SetFlags` at `at` to the next one.
    fn next(insts: &'a [Inst], at: usize) -> Option<Self> {
        let (mut first, mut last) = (0, 0);
        for (j, i) in insts.iter().enumerate().skip(at + 1) {
            match i.op {
                Op::SetFlags => return Some(Self { insts, first, last }),
                op if op.can_fault() || matches!(op, Op::ExitIf | Op::X87) => {
                    first = if first == 0 { j } else { first };
                    last = j;
                }
                _ => {}
            }
        }
        None
    }

    /// From the `SetFlags` at `at`, the last one, to the block's end, if nothing in between reads the guest's flags.
    fn end(insts: &'a [Inst], at: usize) -> Option<Self> {
        let last = insts.len() - 1;
        if insts[at..].iter().any(|i| i.op == Op::GetFlags) {
            return None;
        }
        let sees = |i: &Inst| i.op.can_fault() || observes(i.op);
        let first = insts.iter().skip(at + 1).position(sees).map_or(last, |n| at + 1 + n);
        Some(Self { insts, first, last })
    }

    /// The flags of the `SetFlags` at `at` for the one exit behind it, if nothing is emitted between their operation and
    /// the exit.
    fn near(&self, at: usize) -> Option<Near> {
        let exit = self.first;
        if exit == 0 || self.last != exit || !matches!(self.insts[exit].op, Op::ExitIf | Op::Branch) {
            return None;
        }
        let f = self.insts[at].args[0];
        if self.insts[f.index()].op == Op::Fp {
            return self.near_compare(exit, f);
        }
        let Inst { op: Op::FlagsOf, args: [v, ..], .. } = self.insts[f.index()] else { return None };
        let quiet = |i: &Inst| match i.op {
            Op::Guest | Op::Const | Op::FlagsOf | Op::SetFlags => true,
            Op::TestCc => i.args[0] == f,
            _ => false,
        };
        if !self.insts[v.index() + 1..exit].iter().all(quiet) {
            return None;
        }
        let Inst { op, ty, args: [x, y, _], .. } = self.insts[v.index()];
        let (x, y) = match op {
            Op::Sub => (x, y),
            Op::And if x == y => (x, x),
            Op::And => (v, v),
            _ => return None,
        };
        let value = |v: Value| self.insts[v.index()].op != Op::Lea;
        (value(x) && value(y)).then_some(Near { exit: exit as u32, op, ty, x, y })
    }

    /// The same for the flags `f` of a comparison of floating point, if they are still in NZCV at the exit: nothing that
    /// changes it is emitted in between, and who tests them can by that.
    fn near_compare(&self, exit: usize, f: Value) -> Option<Near> {
        let tested = |i: &Inst| i.args[0] == f && matches!(Cc::ALL[i.imm as usize & 15] as u8 >> 1, 1..=3);
        let quiet = |i: &Inst| match i.op {
            Op::Guest | Op::Const | Op::GetReg | Op::SetReg | Op::GetVec | Op::SetVec => true,
            Op::ZExt => self.insts[i.args[0].index()].op == Op::TestCc,
            Op::SetFlags => i.args[0] == f || !i.args[0].is_some(),
            Op::TestCc => tested(i),
            _ => false,
        };
        let later = |i: &Inst| !i.used().any(|v| v == f) || i.op == Op::TestCc && tested(i);
        let fits = self.insts[f.index() + 1..exit].iter().all(quiet) && self.insts[exit..].iter().all(later);
        let near = Near { exit: exit as u32, op: Op::Fp, ty: Type::Flags, x: f, y: f };
        let test = self.insts[exit].args[0];
        let own =
            test.is_some() && self.insts[test.index()].op == Op::TestCc && tested(&self.insts[test.index()]);
        (fits && own).then_some(near)
    }

    /// Where `v` is wherever flags may be wanted, if that is a guest register or a constant.
    fn place(&self, v: Value) -> Option<Place> {
        let def = &self.insts[v.index()];
        if def.op == Op::Const {
            return Some(Place::Const(def.ty.truncate(def.imm as u64)));
        }
        if def.op == Op::GetReg && self.stays(def.imm, v, v.index()) {
            return Some(Place::Gpr(def.imm as u8 & 15));
        }
        let set = |i: &Inst| i.op == Op::SetReg && i.args[0] == v;
        let writes = self.insts[..self.first].iter().enumerate().skip(v.index() + 1).filter(|(_, i)| set(i));
        writes
            .map(|(j, i)| (j, i.imm))
            .find(|&(j, g)| self.stays(g, v, j))
            .map(|(_, g)| Place::Gpr(g as u8 & 15))
    }

    /// Whether guest register `g`, which holds `v` behind `from`, still does wherever flags may be wanted.
    fn stays(&self, g: i64, v: Value, from: usize) -> bool {
        let end = self.last.max(from);
        let lost = |i: &Inst| match i.op {
            Op::SetReg => i.imm == g && i.args[0] != v,
            Op::SetRegHi => i.imm == g,
            Op::RepString | Op::RepSkip => [gpr::RCX, gpr::RSI, gpr::RDI].iter().any(|&r| r as i64 == g),
            _ => false,
        };
        !self.insts[from..=end].iter().any(lost)
    }
}

impl Codegen {
    /// The recipe for the flags of the `SetFlags` in hand.
    pub fn recipe_here(&self) -> Option<Recipe> {
        let found = &self.found.recipes;
        let n = found.binary_search_by_key(&(self.at as u32), |r| r.0).ok()?;
        Some(found[n].1)
    }

    /// What the side exit in hand makes the guest's flags of, if their word is not right.
    pub fn flags_of_exit(&mut self) -> Option<Parts> {
        let at = self.at as u32;
        let Some(near) = self.found.nears.iter().find(|n| n.exit == at).copied() else {
            return self.lazy.map(Recipe::parts);
        };
        if near.op == Op::Fp {
            let none = Part::Const(0);
            return Some(Parts { op: near.op, ty: near.ty, x: none, y: none, by_result: false });
        }
        let [x, y] = [near.x, near.y].map(|v| match self.constant(v) {
            Some(c) => Part::Const(c),
            None => Part::Reg(self.reg(v)),
        });
        Some(Parts { op: near.op, ty: near.ty, x, y, by_result: false })
    }

    /// Whether the exit or branch in hand is taken if its operand is zero, or not zero.
    pub fn zero_test(&self) -> Option<bool> {
        let found = &self.found.zeros;
        let n = found.binary_search_by_key(&(self.at as u32), |z| z.at).ok()?;
        Some(found[n].not)
    }

    /// Number of a site for the guest instruction in hand.
    pub fn site(&mut self) -> u32 {
        self.frame.site(self.lazy, self.x87_last)
    }

    /// Makes the guest's flags of `p`. No other value is alive.
    pub fn make_flags(&mut self, p: Parts) {
        if p.op == Op::Fp {
            return self.word_of_compare();
        }
        let x = self.part_in(S1, p.x);
        if p.op == Op::And {
            return self.write_record(Kind::Logic, p.ty, x, Part::Const(0));
        }
        if p.op == Op::Sub && !p.by_result {
            return self.write_record(Kind::Sub, p.ty, x, p.y);
        }
        // The first operand from the result.
        let y = self.part_in(S0, p.y);
        self.asm.arith(p.ty == Type::I64, p.op == Op::Add, false, S1, x, y, 0);
        self.write_record(if p.op == Op::Add { Kind::Add } else { Kind::Sub }, p.ty, S1, p.y);
    }

    /// Makes the guest's flags of NZCV after a comparison of floating point: Z and C are right, and PF is set for what has no
    /// order, which is Z without C. Changes NZCV.
    fn word_of_compare(&mut self) {
        self.asm.mrs_nzcv(FLAGS);
        self.asm.logic_imm(Logic::And, false, FLAGS, FLAGS, 3 << 29);
        self.asm.lsr_imm(false, S0, FLAGS, 29);
        self.asm.arith_imm(false, true, true, ZR, S0, 2);
        self.asm.cset(S0, Cond::Ne);
        self.asm.logic(Logic::Orr, false, FLAGS, FLAGS, S0, 0);
    }

    fn part_in(&mut self, r: Reg, p: Part) -> Reg {
        match p {
            Part::Reg(r) => r,
            Part::Const(c) => {
                self.asm.mov_imm(r, c);
                r
            }
        }
    }
}
