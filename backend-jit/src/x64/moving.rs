//! The stack pointer moves once for all pushes or pops that nothing can leave between.
//!
//! In the quick form of a block (see [`super::twice`]) accesses behind the first of their group do not fault, so nobody sees
//! what RSP is between them: their addresses take the distance along, and the register follows in front of whatever else
//! wants it. The careful form, which is entered at look-ups only, moves it each time.
//!
//! Invariant: `moved` is 0 wherever the forms cross, and outside the quick one.

use super::asm::{Mem, Reg};
use super::mem::At;
use super::twice::Form;
use super::{Codegen, Loc};
use crate::regalloc::Hint;
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::gpr;

const RSP: u8 = gpr::RSP as u8;
/// The furthest that the register may stay behind.
const FAR: i64 = 1 << 12;

impl Codegen {
    fn is_stack(&self, v: Value) -> bool {
        v.is_some() && self.val[v.index()].loc == Loc::Guest(RSP)
    }

    /// Puts RSP where it should be.
    pub fn settle_stack(&mut self) {
        let disp = std::mem::take(&mut self.moved);
        if disp != 0
            && let Some(h) = Self::pinned(RSP)
        {
            self.asm.lea(Type::I64, h, Mem { base: h, index: None, scale: 0, disp });
        }
    }

    /// As [`Self::settle_stack`], before an op that may leave or cannot deal with a register that has stayed behind.
    pub fn settle_stack_before(&mut self, me: Value, inst: &Inst) {
        if self.moved == 0 {
            return;
        }
        let fine = match inst.op {
            Op::Const | Op::GetReg | Op::FlagsOf => true,
            Op::Lea => self.an.facts[me.index()].hint != Hint::Full(RSP) || self.is_stack(inst.args[0]),
            Op::SetReg if inst.imm as u8 != RSP => true,
            Op::SetReg if self.is_late(inst.args[0]) => {
                self.is_stack(self.insts[inst.args[0].index()].args[0])
            }
            Op::SetReg => self.is_stack(inst.args[0]),
            Op::Load | Op::Store if inst.ty.bits() <= 64 => {
                let hold = self.holds.at(self.at);
                !self.is_stack(inst.args[1])
                    && self.an.facts[me.index()].hint != Hint::Full(RSP)
                    && hold.is_some_and(|h| !h.first && self.is_trusted(h.slot))
            }
            _ => false,
        };
        if !fine {
            self.settle_stack();
        }
    }

    /// Has RSP stay behind where `me`, a `Lea`, would move it: true if so.
    pub fn stays_behind(&mut self, me: Value, inst: &Inst) -> bool {
        let base = inst.args[0];
        let by = i64::from(self.moved).wrapping_add(inst.imm);
        let fits = self.twice.form == Form::Quick
            && inst.ty == Type::I64
            && !inst.args[1].is_some()
            && self.an.facts[me.index()].hint == Hint::Full(RSP)
            && self.is_stack(base)
            && by.unsigned_abs() < FAR as u64
            && inst.imm.unsigned_abs() < FAR as u64;
        if !fits || self.alias[RSP as usize].iter().any(|&v| self.lives(v)) {
            return false;
        }
        self.moved = by as i32;
        self.set_guest(me, RSP, true);
        true
    }

    /// The address that lies `disp` from `base`, if that is RSP and has stayed behind.
    pub fn behind_stack(&self, base: Value, disp: i32) -> Option<At> {
        let h: Reg = Self::pinned(RSP)?;
        let disp = disp.checked_add(self.moved)?;
        (self.moved != 0 && self.is_stack(base)).then_some(At { reg: h, disp })
    }
}
