//! Memory: accesses through the translation cache, and the out-of-line slow paths.
//!
//! A probe (see `share`) leaves the entry's addend in [`S1`]; the access is at `[S1 + address]`. On a miss the stub has the helper do
//! the whole access and comes back with an addend that leads to a buffer in the state, from which a load takes its value
//! and into which a store writes for nothing. So the code after the probe is the same for both.
//!
//! Stores are looked at before they are done: one that would hit decoded code leaves for the interpreter with the
//! instruction not begun, so a block never runs on after it has modified itself.
//!
//! Order: the guest expects that loads and stores happen in program order, but for a load passing an earlier store. With
//! `JitConfig::ordered` a barrier behind each load and one before each store see to that, unless (`JitConfig::plain`) those
//! who share the memory do.

use super::asm::{Logic, Reg, ZR};
use super::near::Again;
use super::share::{Alone, At, Slow, Touch};
use super::vals::{S0, S1, STATE, slot};
use super::vecregs::{V0, V1};
use super::window::Outside;
use super::{Codegen, Loc};
use crate::helpers::Helper;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, Op, Type, Value, VecOp};

/// What a stub does.
#[derive(Clone, Copy, Debug)]
pub enum StubKind {
    /// A missed probe.
    Access(Slow),
    /// An access whose group has no base.
    Alone(Alone),
    /// An access whose page is not the one at hand.
    Again(Again),
    /// One whose page is not the stack's.
    Outside(Outside),
    /// A division that faults or is too wide.
    Div { signed: bool, ty: Type, quotient: bool, hi: Reg, lo: Reg, by: Reg },
    /// A helper that raises a fault.
    Raise(Helper),
    /// Leaves for the interpreter.
    Leave,
    /// Makes a word of flags on record.
    Settle,
    /// Gives the host the guest's vector registers and modes of floating point.
    VecBegin,
    /// An x87 instruction between registers that is not done in line.
    X87(u32),
    /// One with an operand at the linear address in a register: its name, and its access as the helper wants it.
    X87Mem { at: Reg, aux: u32, access: u32 },
    /// A floating-point operation that raised something odd: see `fp`.
    Fp { order: u64, a: Reg, b: Reg, third: Option<Reg>, to: FpTo, restore: bool },
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
    /// Two vector registers, the lower half first.
    Pair(Reg, Reg),
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
    /// Behind a load.
    pub fn loaded(&mut self) {
        if self.barriers {
            self.asm.dmb_load();
        }
    }

    /// Before a store.
    pub fn storing(&mut self) {
        if self.barriers {
            self.asm.dmb_store();
        }
    }

    pub fn load(&mut self, me: Value, inst: &Inst) {
        let to = if inst.ty == Type::V128 { Some(me) } else { self.only_vector(me, inst) };
        if let Some(v) = to {
            self.vec_enter();
            let near = v.index() <= me.index() + 1;
            let d = self.vdest(if near { v } else { me }, &[]);
            self.access(inst, Touch::LoadVec(inst.ty, d.reg));
            return self.vfinish(me, d);
        }
        let d = self.dest(me);
        self.access(inst, Touch::Load(inst.ty, d.reg));
        self.finish(me, d, true);
    }

    /// The vector that is all that the load in hand is for.
    pub fn only_vector(&self, me: Value, inst: &Inst) -> Option<Value> {
        let fact = self.an.facts[me.index()];
        let to = &self.insts[fact.last as usize];
        let only = matches!(inst.ty, Type::I32 | Type::I64)
            && fact.uses == 1
            && to.op == Op::Vec1
            && to.aux == VecOp::FromInt as u32;
        only.then_some(Value(fact.last))
    }

    /// Whether `v` is the low lane of a vector, and all it is for is a store.
    pub fn stores_lane(&self, v: Value) -> bool {
        let (inst, fact) = (&self.insts[v.index()], self.an.facts[v.index()]);
        let to = &self.insts[fact.last as usize];
        inst.op == Op::Vec1
            && inst.aux == VecOp::Lane as u32
            && inst.imm == 0
            && fact.uses == 1
            && to.op == Op::Store
            && to.args[1] == v
            && to.ty == inst.ty
    }

    /// Leaves the low lane of a vector to the store that is all it is for, if so.
    pub fn lane_for_store(&mut self, me: Value, inst: &Inst) -> bool {
        let (fact, v) = (self.an.facts[me.index()], inst.args[0]);
        if !self.stores_lane(me) {
            return false;
        }
        let f = &mut self.an.facts[v.index()];
        f.last = f.last.max(fact.last);
        self.val[me.index()].loc = Loc::LaneOf(v);
        true
    }

    /// The read of a read-modify-write: keeps the host address for [`Codegen::store_w`].
    pub fn load_w(&mut self, me: Value, inst: &Inst) {
        let p = self.temp();
        self.access(inst, Touch::Address(inst.ty, p));
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
        let v = inst.args[1];
        if inst.ty == Type::V256 {
            self.vec_enter();
            if self.store_waits(inst, v, inst.args[2]) {
                return;
            }
            let (low, high) = (self.vread(v, V0), self.vread(inst.args[2], V1));
            return self.access(inst, Touch::Store(inst.ty, Stored::Pair(low, high)));
        }
        if inst.ty == Type::V128 {
            self.vec_enter();
            if self.store_waits(inst, v, Value::NONE) {
                return;
            }
            let r = self.vread(v, V0);
            return self.access(inst, Touch::Store(inst.ty, Stored::Vec(r)));
        }
        if let Loc::LaneOf(vector) = self.val[v.index()].loc {
            if !self.store_waits(inst, vector, Value::NONE) {
                let r = self.vread(vector, V0);
                self.access(inst, Touch::Store(inst.ty, Stored::Lane(r)));
            }
            if !self.lives(vector) {
                self.release(vector);
            }
            return;
        }
        let r = self.reg(v);
        self.access(inst, Touch::Store(inst.ty, Stored::Reg(r)));
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
            let site = self.site();
            self.stubs.push(Stub { label, resume: label, site, kind: StubKind::Leave });
        }
        let a = self.probe(inst, At::reg(a), ty.bytes(), Helper::Atomic, None);
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
                StubKind::Access(slow) => self.slow_path(&slow, s.site),
                StubKind::Outside(o) => self.outside(&o, s.resume),
                StubKind::Again(a) => self.again(&a, s.site),
                StubKind::Alone(a) => self.alone(&a, s.site),
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
                StubKind::Settle => {
                    let at = self.entry.settle;
                    self.asm.b_abs(true, at);
                }
                StubKind::VecBegin => {
                    let at = self.entry.vec_begin;
                    self.asm.b_abs(true, at);
                }
                StubKind::Fp { order, a, b, third, to, restore } => {
                    if restore {
                        self.asm.msr_fpsr(S1);
                    }
                    self.asm.str_q(a, STATE, slot(layout::RESULT));
                    self.asm.str_q(b, STATE, slot(layout::RESULT + 2));
                    if let Some(c) = third {
                        self.asm.str_q(c, STATE, slot(layout::FP_THIRD));
                    }
                    self.asm.mov_imm(S0, order);
                    self.asm.str(Type::I64, S0, STATE, arg(0));
                    self.thunk_call(Helper::Fp, s.site);
                    self.fp_result(to);
                }
                StubKind::X87(aux) => self.x87_call(aux.into(), s.site),
                StubKind::X87Mem { at, aux, access } => self.x87_mem_call(at, aux, access, s.site),
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
