//! Where vectors are: eight temporaries (v16 to v23), which thunks keep, and pairs of spill slots. The guest's vector
//! registers live in the state. v24 to v31 belong to the op in hand.

use super::asm::Reg;
use super::vals::{S0, STATE, slot};
use super::{Codegen, Loc, Owner};
use crate::layout;
use emu_core::ir::{Inst, Op, Value};

/// The first vector temporary.
pub const FIRST: Reg = 16;
/// Number of vector temporaries.
pub const VTEMPS: usize = 8;
/// Belong to the op in hand.
pub const V0: Reg = 24;
/// See [`V0`].
pub const V1: Reg = 25;
/// See [`V0`].
pub const V2: Reg = 26;
/// See [`V0`]: a pair for table lookups.
pub const PAIR: Reg = 30;

/// Byte offset in the state of vector register `n`.
pub const fn vec(n: usize) -> usize {
    (layout::vec(n) + layout::BIAS) as usize
}

impl Codegen {
    fn vowner(&mut self, r: Reg) -> &mut Owner {
        &mut self.vowner[(r - FIRST) as usize]
    }

    /// A free vector temporary for the op in hand.
    pub fn vtemp(&mut self) -> Reg {
        let free = self.vowner.iter().position(|&o| o == Owner::Free);
        let i = match free {
            Some(i) => i,
            None => {
                let last = |v: Value| self.an.facts[v.index()].last;
                let victim = (0..VTEMPS)
                    .filter_map(|i| match self.vowner[i] {
                        Owner::Val(v) if self.vlocked & 1 << i == 0 => Some((last(v), i, v)),
                        _ => None,
                    })
                    .max_by_key(|&(last, ..)| last);
                let Some((_, i, v)) = victim else {
                    self.frame.fail("out of vector temporaries");
                    return FIRST;
                };
                let s = self.new_pair();
                self.asm.str_q(FIRST + i as u8, STATE, slot(s as usize));
                self.val[v.index()].loc = Loc::VecSlot(s);
                i
            }
        };
        self.vowner[i] = Owner::Transient;
        self.vlocked |= 1 << i;
        FIRST + i as u8
    }

    fn new_pair(&mut self) -> u8 {
        for at in 0..layout::SPILLS - 1 {
            if self.slots & 3 << at == 0 && slot(layout::SPILL + at).is_multiple_of(16) {
                self.slots |= 3 << at;
                return (layout::SPILL + at) as u8;
            }
        }
        self.frame.fail("out of spill slots");
        layout::SPILL as u8 + 1
    }

    /// Gives up a pair of spill slots.
    pub fn free_pair(&mut self, s: u8) {
        self.slots &= !(3 << (s as usize - layout::SPILL));
    }

    /// Gives up a vector temporary that `v` has.
    pub fn free_vec(&mut self, v: Value, r: Reg) {
        if *self.vowner(r) == Owner::Val(v) {
            *self.vowner(r) = Owner::Free;
        }
    }

    /// The vector register that holds `v`.
    pub fn vreg(&mut self, v: Value) -> Reg {
        match self.val[v.index()].loc {
            Loc::Vec(r) => {
                self.vlocked |= 1 << (r - FIRST);
                r
            }
            Loc::VecSlot(s) => {
                let t = self.vtemp();
                self.asm.ldr_q(t, STATE, slot(s as usize));
                self.free_pair(s);
                self.set_vec_temp(v, t);
                t
            }
            _ => {
                self.frame.fail("a vector has no place");
                FIRST
            }
        }
    }

    /// The register of `v`, which is in one and dies with the op in hand, to put that op's result into.
    pub fn take_vec(&mut self, v: Value) -> Option<Reg> {
        match self.val[v.index()].loc {
            Loc::Vec(r) if !self.lives(v) => {
                self.val[v.index()].loc = Loc::None;
                Some(r)
            }
            _ => None,
        }
    }

    /// Says that `v` is in vector temporary `r`.
    pub fn set_vec_temp(&mut self, v: Value, r: Reg) {
        *self.vowner(r) = Owner::Val(v);
        self.val[v.index()].loc = Loc::Vec(r);
    }

    /// After an op.
    pub fn end_vec(&mut self) {
        for o in &mut self.vowner {
            if *o == Owner::Transient {
                *o = Owner::Free;
            }
        }
        self.vlocked = 0;
    }

    pub fn get_vec(&mut self, me: Value, inst: &Inst) {
        let t = self.vtemp();
        self.asm.ldr_q(t, STATE, vec(inst.imm as usize & 31));
        self.set_vec_temp(me, t);
    }

    /// SetVec and SetVecZero.
    pub fn set_vec(&mut self, inst: &Inst) {
        let n = inst.imm as usize & 31;
        let r = self.vreg(inst.args[0]);
        self.asm.str_q(r, STATE, vec(n));
        if inst.op == Op::SetVecZero {
            self.asm.vzero(V0);
            for part in 1..4 {
                self.asm.str_q(V0, STATE, vec(n) + 16 * part);
            }
        }
    }

    /// A 128-bit constant, low half first. Changes [`S0`].
    pub fn vconst(&mut self, d: Reg, low: u64, high: u64) {
        self.asm.mov_imm(S0, low);
        self.asm.dup_d(d, S0);
        if high != low {
            self.asm.mov_imm(S0, high);
            self.asm.ins_d1(d, S0);
        }
    }
}
