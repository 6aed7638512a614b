//! Memory: the inline probe of the translation cache, accesses through it, and the out-of-line slow paths.
//!
//! A probe leaves the entry's addend in [`S1`]; the access is at `[S1 + address]`. On a miss the stub has the helper do
//! the whole access and comes back with an addend that leads to a buffer in the state, from which a load takes its value
//! and into which a store writes for nothing. So the code after the probe is the same for both.
//!
//! Stores are looked at before they are done: one that would hit decoded code leaves for the interpreter with the
//! instruction not begun, so a block never runs on after it has modified itself.
//!
//! Order: the guest expects that loads and stores happen in program order, but for a load passing an earlier store. With
//! `JitConfig::ordered` a barrier behind each load and one before each store see to that.

use super::asm::{Cond, Logic, Reg, ZR};
use super::vals::{S0, S1, STATE, TLB, TLB_WRITE, slot};
use super::{Codegen, Loc};
use crate::helpers::Helper;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, Op, Type, Value, VecOp, mem_flags};
use emu_core::mmu::tlb::TLB_BITS;

/// What a stub does.
#[derive(Clone, Copy, Debug)]
pub enum StubKind {
    /// A missed probe, and what is to be stored.
    Access { helper: Helper, addr: Reg, bytes: u32, stack: bool, value: Option<Stored> },
    /// A division that faults or is too wide.
    Div { signed: bool, ty: Type, quotient: bool, hi: Reg, lo: Reg, by: Reg },
    /// A helper that raises a fault.
    Raise(Helper),
    /// Leaves for the interpreter.
    Leave,
    /// Gives the host the guest's vector registers and modes of floating point.
    VecBegin,
    /// A floating-point operation that raised something odd: see `fp`.
    Fp { order: u64, a: Reg, b: Reg, to: FpTo, restore: bool },
}

/// What a store writes.
#[derive(Clone, Copy, Debug)]
pub enum Stored {
    /// A general register.
    Reg(Reg),
    /// A vector register.
    Vec(Reg),
    /// The low lane of a vector register.
    Lane(Reg),
}

/// Where the result of a floating-point operation goes.
#[derive(Clone, Copy, Debug)]
pub enum FpTo {
    /// To a vector register.
    Vec(Reg),
    /// To a general register.
    Int(Reg),
    /// To NZCV and, as a word, to a general register.
    Flags(Option<Reg>),
}

/// An out-of-line path.
#[derive(Clone, Copy, Debug)]
pub struct Stub {
    pub label: DynamicLabel,
    pub resume: DynamicLabel,
    pub site: u32,
    pub kind: StubKind,
}

impl Codegen {
    /// Whether NZCV holds something that is used later.
    fn flags_busy(&self) -> bool {
        self.bools.iter().any(|&b| self.lives(b)) || self.native.is_some_and(|(f, _)| self.lives(f))
    }

    /// Probes for an access of `bytes` at the address in `a`: the addend is in [`S1`] behind it.
    pub fn probe(&mut self, inst: &Inst, a: Reg, bytes: u32, helper: Helper, value: Option<Stored>) {
        let write = !matches!(helper, Helper::Load | Helper::LoadVec);
        let (slow, resume) = (self.asm.label(), self.asm.label());
        self.asm.ubfx(true, S0, a, 12, TLB_BITS as u8);
        self.asm.add(true, S0, if write { TLB_WRITE } else { TLB }, S0, 4);
        self.asm.ldp(S0, S1, S0, 0);
        if self.flags_busy() {
            self.asm.logic(Logic::Eor, true, S0, S0, a, 0);
            if bytes > 1 {
                // Cannot wrap: the tag is of the same index, or of its neighbour.
                self.asm.add_imm(true, S0, S0, u64::from(bytes) - 1);
            }
            self.asm.lsr_imm(true, S0, S0, 12);
            self.asm.cbz(true, true, S0, slow);
        } else {
            self.native = None;
            self.asm.sub(true, S0, a, S0);
            self.asm.arith_imm(true, true, true, ZR, S0, 4096 - u64::from(bytes));
            self.asm.b_cond(Cond::Hi, slow);
        }
        self.asm.bind(resume);
        let stack = inst.aux & mem_flags::STACK != 0;
        let site = self.frame.site(None, None);
        self.stubs.push(Stub {
            label: slow,
            resume,
            site,
            kind: StubKind::Access { helper, addr: a, bytes, stack, value },
        });
    }

    /// Behind a load.
    pub fn loaded(&mut self) {
        if self.ordered {
            self.asm.dmb_load();
        }
    }

    /// Before a store.
    pub fn storing(&mut self) {
        if self.ordered {
            self.asm.dmb_store();
        }
    }

    pub fn load(&mut self, me: Value, inst: &Inst) {
        let a = self.reg(inst.args[0]);
        if inst.ty == Type::V128 {
            self.vec_enter();
            self.probe(inst, a, 16, Helper::LoadVec, None);
            let d = self.vdest(me, &[]);
            self.asm.ldr_q_at(d.reg, S1, a);
            self.loaded();
            return self.vfinish(me, d);
        }
        if let Some(v) = self.only_vector(me, inst) {
            self.vec_enter();
            self.probe(inst, a, inst.ty.bytes(), Helper::Load, None);
            let near = v.index() == me.index() + 1;
            let d = if near { self.vdest(v, &[]) } else { self.vdest(me, &[]) };
            self.asm.ldr_v_at(inst.ty, d.reg, S1, a);
            self.loaded();
            return self.vfinish(me, d);
        }
        self.probe(inst, a, inst.ty.bytes(), Helper::Load, None);
        let d = self.dest(me);
        self.asm.ldr_at(inst.ty, d.reg, S1, a);
        self.loaded();
        self.finish(me, d, true);
    }

    /// The vector that is all that the load in hand is for.
    fn only_vector(&self, me: Value, inst: &Inst) -> Option<Value> {
        let fact = self.an.facts[me.index()];
        let to = &self.insts[fact.last as usize];
        let only = matches!(inst.ty, Type::I32 | Type::I64)
            && fact.uses == 1
            && to.op == Op::Vec1
            && to.aux == VecOp::FromInt as u32;
        only.then_some(Value(fact.last))
    }

    /// Leaves the low lane of a vector to the store that is all it is for, if so.
    pub fn lane_for_store(&mut self, me: Value, inst: &Inst) -> bool {
        let (fact, v) = (self.an.facts[me.index()], inst.args[0]);
        let to = &self.insts[fact.last as usize];
        if inst.imm != 0 || fact.uses != 1 || to.op != Op::Store || to.args[1] != me || to.ty != inst.ty {
            return false;
        }
        let f = &mut self.an.facts[v.index()];
        f.last = f.last.max(fact.last);
        self.val[me.index()].loc = Loc::LaneOf(v);
        true
    }

    /// The read of a read-modify-write: keeps the host address for [`Codegen::store_w`].
    pub fn load_w(&mut self, me: Value, inst: &Inst) {
        let a = self.reg(inst.args[0]);
        self.probe(inst, a, inst.ty.bytes(), Helper::LoadW, None);
        let p = self.temp();
        self.asm.add(true, p, S1, a, 0);
        let d = self.dest(me);
        self.asm.ldr(inst.ty, d.reg, p, 0);
        self.loaded();
        self.finish(me, d, true);
        let at = (me.index() + 1..self.insts.len())
            .find(|&j| self.insts[j].op == Op::StoreW && self.insts[j].args[0] == me);
        if let Some(at) = at {
            // The StoreW has no value, so its number is free to name the address.
            self.an.facts[at].last = at as u32;
            self.set_temp(Value(at as u32), p, true);
        }
    }

    pub fn store_w(&mut self, me: Value, inst: &Inst) {
        let p = self.reg(me);
        let v = self.reg(inst.args[1]);
        self.storing();
        self.asm.str(inst.ty, v, p, 0);
        self.release(me);
    }

    pub fn store(&mut self, inst: &Inst) {
        let a = self.reg(inst.args[0]);
        if inst.ty == Type::V128 {
            self.vec_enter();
            let v = self.vreg(inst.args[1]);
            self.probe(inst, a, 16, Helper::StoreVec, Some(Stored::Vec(v)));
            self.storing();
            return self.asm.str_q_at(v, S1, a);
        }
        if let Loc::LaneOf(vector) = self.val[inst.args[1].index()].loc {
            let v = self.vreg(vector);
            self.probe(inst, a, inst.ty.bytes(), Helper::Store, Some(Stored::Lane(v)));
            self.storing();
            self.asm.str_v_at(inst.ty, v, S1, a);
            if !self.lives(vector) {
                self.release(vector);
            }
            return;
        }
        let v = self.reg(inst.args[1]);
        self.probe(inst, a, inst.ty.bytes(), Helper::Store, Some(Stored::Reg(v)));
        self.storing();
        self.asm.str_at(inst.ty, v, S1, a);
    }

    /// The atomic operations: after a write probe, one host instruction or a loop. What is not aligned is interpreted.
    pub fn atomic(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        if ty.bits() > 64 {
            return self.frame.unsupported("128-bit compare-exchange");
        }
        let a = self.reg(inst.args[0]);
        let cas = inst.op == Op::AtomicCas;
        let b = self.reg(inst.args[1]);
        let c = if cas { self.reg(inst.args[2]) } else { ZR };
        if ty.bytes() > 1 {
            self.asm.logic_imm(Logic::And, true, S0, a, u64::from(ty.bytes()) - 1);
            let label = self.asm.label();
            self.asm.cbz(true, true, S0, label);
            let site = self.frame.site(None, None);
            self.stubs.push(Stub { label, resume: label, site, kind: StubKind::Leave });
        }
        self.probe(inst, a, ty.bytes(), Helper::Atomic, None);
        let p = self.temp();
        self.asm.add(true, p, S1, a, 0);
        if self.ordered {
            self.asm.dmb();
        }
        let old = self.temp();
        if self.lse {
            self.atomic_lse(inst, p, old, b, c);
        } else {
            let again = self.asm.label();
            let out = self.asm.label();
            self.asm.bind(again);
            self.asm.ldaxr(ty, old, p);
            let wide = ty == Type::I64;
            let new = match inst.op {
                Op::AtomicCas => {
                    self.asm.logic(Logic::Eor, wide, S0, old, b, 0);
                    if !Self::is_wide(ty) {
                        self.asm.zext(ty, S0, S0);
                    }
                    self.asm.cbz(true, wide, S0, out);
                    c
                }
                Op::AtomicXchg => b,
                Op::AtomicAdd => {
                    self.asm.add(wide, S0, old, b, 0);
                    S0
                }
                op => {
                    let logic = match op {
                        Op::AtomicAnd => Logic::And,
                        Op::AtomicOr => Logic::Orr,
                        _ => Logic::Eor,
                    };
                    self.asm.logic(logic, wide, S0, old, b, 0);
                    S0
                }
            };
            self.asm.stlxr(ty, S1, new, p);
            self.asm.cbz(true, false, S1, again);
            self.asm.bind(out);
        }
        if self.ordered {
            self.asm.dmb();
        }
        self.set_temp(me, old, true);
    }

    fn atomic_lse(&mut self, inst: &Inst, p: Reg, old: Reg, b: Reg, c: Reg) {
        let ty = inst.ty;
        match inst.op {
            Op::AtomicCas => {
                self.asm.mov(true, old, b);
                self.asm.casal(ty, old, c, p);
            }
            Op::AtomicXchg => self.asm.lse(8, ty, b, old, p),
            Op::AtomicAdd => self.asm.lse(0, ty, b, old, p),
            Op::AtomicAnd => {
                self.asm.logic(Logic::Orn, true, S0, ZR, b, 0);
                self.asm.lse(1, ty, S0, old, p);
            }
            Op::AtomicOr => self.asm.lse(3, ty, b, old, p),
            _ => self.asm.lse(2, ty, b, old, p),
        }
    }

    pub fn fence(&mut self, inst: &Inst) {
        match inst.imm {
            0 => self.asm.dmb_load(),
            1 => self.asm.dmb_store(),
            _ => self.asm.dmb(),
        }
    }

    /// Emits the stubs that have come together.
    pub fn emit_stubs(&mut self) {
        for s in std::mem::take(&mut self.stubs) {
            self.asm.bind(s.label);
            let arg = |n: usize| slot(layout::ARG + n);
            match s.kind {
                StubKind::Access { helper, addr, bytes, stack, value } => {
                    self.asm.str(Type::I64, addr, STATE, arg(0));
                    match value {
                        Some(Stored::Vec(v)) => self.asm.str_q(v, STATE, slot(layout::RESULT)),
                        Some(Stored::Reg(v)) => self.asm.str(Type::I64, v, STATE, arg(1)),
                        Some(Stored::Lane(v)) => {
                            self.v2(0x9e66_0000, S0, v);
                            self.asm.str(Type::I64, S0, STATE, arg(1));
                        }
                        None => {}
                    }
                    self.asm.mov_imm(S0, u64::from(bytes | u32::from(stack) << 8));
                    self.asm.str(Type::I32, S0, STATE, arg(2));
                    self.thunk_call(helper, s.site);
                    if matches!(helper, Helper::LoadW | Helper::Atomic) {
                        self.asm.ldr(Type::I64, S1, STATE, slot(layout::RESULT));
                    } else {
                        self.asm.add_imm(true, S1, STATE, slot(layout::RESULT) as u64);
                        self.asm.sub(true, S1, S1, addr);
                    }
                }
                StubKind::Div { signed, ty, quotient, hi, lo, by } => {
                    self.asm.str(Type::I64, hi, STATE, arg(0));
                    self.asm.str(Type::I64, lo, STATE, arg(1));
                    self.asm.str(Type::I64, by, STATE, arg(2));
                    self.asm.mov_imm(S0, u64::from(ty.bytes() | u32::from(signed) << 8));
                    self.asm.str(Type::I64, S0, STATE, slot(layout::RESULT));
                    self.thunk_call(Helper::Div, s.site);
                    if ty == Type::I8 {
                        self.asm.ldr(Type::I64, S0, STATE, slot(layout::RESULT));
                        self.asm.ubfx(false, S0, S0, if quotient { 0 } else { 8 }, 8);
                    } else {
                        let n = layout::RESULT + usize::from(!quotient);
                        self.asm.ldr(Type::I64, S0, STATE, slot(n));
                    }
                }
                StubKind::VecBegin => {
                    let at = self.entry.vec_begin;
                    self.asm.b_abs(true, at);
                }
                StubKind::Fp { order, a, b, to, restore } => {
                    if restore {
                        self.asm.msr_fpsr(S1);
                    }
                    self.asm.str_q(a, STATE, slot(layout::RESULT));
                    self.asm.str_q(b, STATE, slot(layout::RESULT + 2));
                    self.asm.mov_imm(S0, order);
                    self.asm.str(Type::I64, S0, STATE, arg(0));
                    self.thunk_call(Helper::Fp, s.site);
                    self.fp_result(to);
                }
                StubKind::Raise(helper) => {
                    self.thunk_call(helper, s.site);
                    // It does not come back.
                    continue;
                }
                StubKind::Leave => {
                    self.asm.mov_imm(0, u64::from(s.site));
                    let at = self.entry.interpret;
                    self.asm.b_abs(false, at);
                    continue;
                }
            }
            self.asm.b(s.resume);
        }
    }

    /// Calls a helper's thunk; its arguments are in place. Changes nothing but [`S0`] to `S2`.
    pub fn thunk_call(&mut self, helper: Helper, site: u32) {
        self.asm.mov_imm(S0, u64::from(site));
        let at = self.thunks[helper as usize];
        self.asm.b_abs(true, at);
    }
}
