//! Flags that only a fault or a side exit can see: not made, but described by what they are made of (see
//! [`crate::sidetable::Recipe`]), in the side table for faults; exits make them.
//!
//! Invariant: while `lazy` is set, the guest registers that it names hold what it says at every site and side exit,
//! because [`find`] has looked ahead to the next `SetFlags`.

use super::Codegen;
use super::asm::{Logic, Reg, ZR};
use super::vals::{FLAGS, GUEST, S0};
use crate::sidetable::{Place, Recipe};
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::gpr;

/// Takes the flags off the `SetFlags` of `insts` that a recipe can stand for, and notes it under the op's index.
pub fn find(insts: &mut [Inst], recipes: &mut Vec<(u32, Recipe)>) {
    recipes.clear();
    for at in 0..insts.len() {
        let i = insts[at];
        if i.op != Op::SetFlags || i.aux == 0 {
            continue;
        }
        if let Some(recipe) =
            Until::next(insts, at).and_then(|u| Recipe::of(insts, i.args[0], |v| u.place(v)))
        {
            recipes.push((at as u32, recipe));
            insts[at].args[0] = Value::NONE;
            insts[at].aux = 0;
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
        let n = self.recipes.binary_search_by_key(&(self.at as u32), |r| r.0).ok()?;
        Some(self.recipes[n].1)
    }

    /// Number of a site for the guest instruction in hand.
    pub fn site(&mut self) -> u32 {
        self.frame.site(self.lazy, self.x87_last)
    }

    /// Makes the guest's flags as `r` describes them. No value is alive.
    pub fn make_flags(&mut self, r: Recipe) {
        let (x, y): (Reg, Reg) = (self.place_in(0, r.x), self.place_in(1, r.y));
        let wide = r.ty == Type::I64;
        let shift = if Self::is_wide(r.ty) { 0 } else { 32 - r.ty.bits() as u8 };
        let (a, result): (Reg, Reg) = (2, 3);
        if r.op == Op::And {
            self.asm.lsl_imm(wide, result, x, shift);
            self.asm.logic(Logic::Ands, wide, ZR, result, result, 0);
            self.asm.mrs_nzcv(FLAGS);
            self.asm.logic_imm(Logic::Eor, false, FLAGS, FLAGS, 1 << 29);
            self.asm.bfxil(false, FLAGS, x, 0, 8);
            return self.asm.bfi(false, FLAGS, x, 8, 8);
        }
        match (r.op, r.by_result) {
            (Op::Add, _) => self.asm.sub(wide, a, x, y),
            (_, true) => self.asm.add(wide, a, x, y, 0),
            _ => self.asm.mov(wide, a, x),
        }
        self.asm.lsl_imm(wide, result, a, shift);
        self.asm.arith(wide, r.op == Op::Sub, true, result, result, y, shift);
        self.asm.mrs_nzcv(FLAGS);
        if r.op == Op::Add {
            self.asm.logic_imm(Logic::Eor, false, FLAGS, FLAGS, 1 << 29);
        }
        self.asm.lsr_imm(wide, result, result, shift);
        self.asm.bfxil(false, FLAGS, result, 0, 8);
        self.asm.logic(Logic::Eor, false, S0, a, y, 0);
        self.asm.bfi(false, FLAGS, S0, 8, 8);
    }

    fn place_in(&mut self, r: Reg, p: Place) -> Reg {
        match p {
            Place::Gpr(g) => GUEST[g as usize & 15],
            Place::Const(c) => {
                self.asm.mov_imm(r, c);
                r
            }
        }
    }
}
