//! Memory: the inline probe of the translation cache, accesses through it, and the out-of-line slow paths.
//!
//! A probe leaves the access's address as two registers: the linear address and the entry's addend. On a miss the
//! stub has the helper do the whole access and then comes back with an addend that leads to a buffer in the state,
//! from which a load takes its value and into which a store writes for nothing. So the code after the probe is the
//! same for both, and no register but the addend's changes.
//!
//! Stores are looked at before they are done: one that would hit decoded code leaves for the interpreter with the
//! instruction not begun, so a block never runs on after it has modified itself.

use super::asm::{Alu, Mem, Reg, Rm, Shift, state};
use super::known::Page;
use super::twice::Form;
use super::vals::{Src, TEMPS};
use super::window::Outside;
use super::{Codegen, Loc, Owner};
use crate::addresses;
use crate::helpers::Helper;
use crate::hold::Hold;
use crate::layout;
use crate::moves::Field;
use crate::regalloc::Hint;
use crate::sidetable::{Place, Recipe};
use dynasmrt::DynamicLabel;
use emu_core::ir::{Cc, Inst, Op, Type, Value, mem_flags};
use emu_core::mmu::tlb::{TLB_BITS, TlbSet};
use emu_core::state::CpuState;
use std::mem::offset_of;

/// What a store writes, as the slow path finds it.
#[derive(Clone, Copy, Debug)]
pub enum Stored {
    Imm(i32),
    Reg(Reg),
    State(i32),
    Xmm(u8),
    /// The high quadword.
    XmmHigh(u8),
}

/// What a stub does.
#[derive(Clone, Copy, Debug)]
pub enum StubKind {
    /// A missed probe.
    Access { helper: Helper, addr: At, addend: Reg, bytes: u32, stack: bool, value: Option<Stored> },
    /// An access whose shared look-up has failed.
    Alone { hold: Hold, look: Look, bytes: u32, slow: DynamicLabel },
    /// A probe that the window does not cover.
    Outside(Outside),
    /// A division that the host might trap on.
    Div { signed: bool, ty: Type, by: Reg },
    /// Loads the guest's x87 into the host's.
    X87,
    /// Loads the guest's vector registers.
    Vec,
    /// Leaves for the interpreter.
    Leave,
}

/// A linear address: a register and a displacement.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub reg: Reg,
    pub disp: i32,
}

/// The registers of a look into the translation cache.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub addr: At,
    /// The entry, then its addend.
    pub entry: Reg,
    /// Free for use, but where the shared look-up is another's, where the window is asked and where the page is known.
    pub aside: Option<Reg>,
    pub table: i32,
    /// The page, where it does not hang on a register.
    pub page: Option<Page>,
}

/// An out-of-line path.
#[derive(Clone, Copy, Debug)]
pub struct Stub {
    pub label: DynamicLabel,
    pub resume: DynamicLabel,
    pub site: u32,
    pub kind: StubKind,
    /// Vector temporaries that hold values: see [`Codegen::live_xmm`].
    pub live_xmm: u32,
}

pub const READ: i32 = offset_of!(TlbSet, read) as i32;
pub const WRITE: i32 = offset_of!(TlbSet, write) as i32;

impl Codegen {
    /// Probes for an access of `bytes` at `addr`: returns the operand to access. Both registers stay locked.
    pub fn probe(
        &mut self,
        inst: &Inst,
        addr: Value,
        bytes: u32,
        helper: Helper,
        value: Option<Value>,
    ) -> Mem {
        self.probe_for(inst, addr, bytes, helper, |c| value.map(|v| c.stored(v)))
    }

    /// A probe for a store of what is in a vector register.
    pub fn probe_stored(&mut self, inst: &Inst, value: Stored) -> Mem {
        self.probe_for(inst, inst.args[0], inst.ty.bytes(), Helper::Store, |_| Some(value))
    }

    fn probe_for(
        &mut self,
        inst: &Inst,
        addr: Value,
        bytes: u32,
        helper: Helper,
        value: impl FnOnce(&mut Self) -> Option<Stored>,
    ) -> Mem {
        let table = if matches!(helper, Helper::Load | Helper::LoadVec) { READ } else { WRITE };
        let hold = self.holds.at(self.at);
        let first = hold.is_none_or(|h| h.first);
        let page = if first { self.known_page(addr, hold, bytes as i32) } else { None };
        let addr = self.address(addr);
        let kept = hold.filter(|h| !h.first).and_then(|h| self.kept(h.slot));
        let t = match kept {
            Some(t) => t,
            None => self.grab(),
        };
        // The stack's window is asked with one temporary, so that a call keeps its target in another.
        let window = self.in_window(addr, hold.map_or(bytes as i32, |h| h.span));
        let aside = (first && !window && page.is_none_or(|p| p.wants_aside())).then(|| self.grab());
        let trusted = hold.is_some_and(|h| !h.first && self.is_trusted(h.slot));
        // What follows the look-up of a plain access leaves the host's flags alone.
        let keeps = trusted && matches!(inst.op, Op::Load | Op::Store) && self.wants_host_flags();
        if !keeps {
            self.settle_unsaved();
            self.save_flags(false);
        }
        // Where the value is now: a temporary that was taken for the probe has been spilled by `grab`.
        let value = value(self);
        let look = Look { addr, entry: t, aside, table, page };
        let group = Look { table: if hold.is_some_and(|h| h.write) { WRITE } else { table }, ..look };
        let by = trusted && self.twice.form == Form::Quick;
        let flags = (keeps && !by).then(|| self.keep_host_flags());
        // In the quick form, what misses goes over to the careful one, and there is no slow path.
        let over = self.crossing(trusted);
        if by && let Some(hold) = hold {
            if kept.is_none() {
                self.asm.load(Type::I64, t, state(layout::slot(hold.slot.into())));
            }
            return self.accessed(t, aside, Some(hold), addr);
        }
        let (slow, resume) = (over.unwrap_or_else(|| self.asm.label()), self.asm.label());
        let alone = match hold {
            Some(_) => over.unwrap_or_else(|| self.asm.label()),
            None => slow,
        };
        match hold {
            Some(hold) if !first => {
                let slot = state(layout::slot(hold.slot.into()));
                if kept.is_some() {
                    self.asm.alu(Type::I64, Alu::Cmp, t, Rm::M(slot));
                } else {
                    self.asm.load(Type::I64, t, slot);
                    self.asm.test_imm(Type::I8, Rm::R(t), 1);
                }
                self.asm.jcc(super::flags::NE, alone);
            }
            Some(hold) => {
                self.look_up(group, hold.below, hold.span, alone);
                self.asm.store(Type::I64, state(layout::slot(hold.slot.into())), t);
            }
            None => self.look_up(look, 0, bytes as i32, slow),
        }
        if let Some(hold) = hold {
            self.trust(hold.slot);
        }
        if over.is_some() {
            return self.accessed(t, aside, hold, addr);
        }
        if let Some(hold) = hold {
            self.push_alone(hold, look, bytes, alone, resume, slow);
        }
        self.asm.bind(resume);
        let stack = inst.aux & mem_flags::STACK != 0;
        let site = self.site();
        let kind = StubKind::Access { helper, addr, addend: t, bytes, stack, value };
        let live_xmm = self.live_xmm();
        self.stubs.push(Stub { label: slow, resume, site, kind, live_xmm });
        if let Some(flags) = flags {
            self.bring_host_flags(flags);
        }
        self.accessed(t, aside, hold, addr)
    }

    /// The operand of the access in hand, whose addend is in `t`.
    fn accessed(&mut self, t: Reg, aside: Option<Reg>, hold: Option<Hold>, addr: At) -> Mem {
        if let Some(u) = aside {
            self.drop_temp(u);
        }
        self.addend = hold.filter(|h| !h.last).map(|h| (t, h.slot));
        Mem { base: t, index: Some(addr.reg), scale: 0, disp: addr.disp }
    }

    /// Leaves the addend for `span` bytes from `below` before the address on in the look's entry, or goes to `miss`.
    /// Without a register aside the window is asked.
    fn look_up(&mut self, look: Look, below: i32, span: i32, miss: DynamicLabel) {
        if let Some(page) = look.page {
            return self.look_at_page(look, page, miss);
        }
        if let Some(aside) = look.aside {
            return self.look_in_set(look, aside, below, span, miss);
        }
        let (label, resume) = (self.asm.label(), self.asm.label());
        self.check_window(look, below, label);
        self.asm.bind(resume);
        let kind = StubKind::Outside(Outside { look, below, span, miss });
        self.stubs.push(Stub { label, resume, site: 0, kind, live_xmm: 0 });
    }

    fn push_alone(
        &mut self,
        hold: Hold,
        look: Look,
        bytes: u32,
        label: DynamicLabel,
        resume: DynamicLabel,
        slow: DynamicLabel,
    ) {
        let kind = StubKind::Alone { hold, look, bytes, slow };
        self.stubs.push(Stub { label, resume, site: 0, kind, live_xmm: 0 });
    }

    /// Where an access's address comes from.
    fn address(&mut self, v: Value) -> At {
        let inst = self.insts[v.index()];
        if self.is_late(v) {
            let disp = inst.imm as i32;
            return match self.behind_stack(inst.args[0], disp) {
                Some(at) => at,
                None => At { reg: self.reg(inst.args[0]), disp },
            };
        }
        if let Some(at) = self.behind_stack(v, 0) {
            return at;
        }
        At { reg: self.reg(v), disp: 0 }
    }

    /// An access's address in one register.
    pub fn address_reg(&mut self, v: Value) -> Reg {
        let at = self.address(v);
        if at.disp == 0 {
            return at.reg;
        }
        let r = self.grab();
        self.lea_at(Type::I64, r, at, 0);
        r
    }

    /// Whether nothing has been emitted for `v` yet, a late address.
    pub fn is_late(&self, v: Value) -> bool {
        self.an.facts[v.index()].late && self.val[v.index()].loc == Loc::None
    }

    /// Makes `v` a value like any other if it is a late address.
    pub fn make_late(&mut self, v: Value) {
        if self.is_late(v) {
            let inst = self.insts[v.index()];
            self.lea(v, &inst);
        }
    }

    /// Makes those operands of `inst` that it wants as values.
    pub fn make_late_operands(&mut self, inst: &Inst) {
        if inst.op == Op::SetReg && inst.ty == Type::I64 && self.is_late(inst.args[0]) {
            // Straight into the register.
            self.an.facts[inst.args[0].index()].hint = Hint::Full(inst.imm as u8 & 15);
        }
        for (n, v) in inst.args.into_iter().enumerate() {
            if v.is_some() && !(n == 0 && addresses::takes_parts(inst)) {
                self.make_late(v);
            }
        }
    }

    /// The temporary that has the addend of `slot`, which is then the op's.
    fn kept(&mut self, slot: u8) -> Option<Reg> {
        let t = TEMPS.into_iter().find(|t| self.owner[t.0 as usize] == Owner::Addend(slot))?;
        self.owner[t.0 as usize] = Owner::Transient;
        self.lock(t);
        Some(t)
    }

    /// `d` = the lower 32 bits of `s`, rotated right. Flags are lost.
    pub fn rotated(&mut self, d: Reg, s: Reg, n: u8) {
        if self.host.bmi2 {
            return self.asm.rorx(d, s, n);
        }
        self.asm.mov(Type::I32, d, s);
        self.asm.shift_imm(Type::I32, Shift::Ror, Rm::R(d), n);
    }

    /// `entry`, from a linear address, becomes that of the set's entry for it, before the table's displacement.
    pub fn entry_of(&mut self, entry: Reg, lin: Reg) {
        self.rotated(entry, lin, 8);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(entry), ((1 << TLB_BITS) - 1) << 4);
        if !self.gs {
            let tlb = state(layout::field(offset_of!(CpuState, tlb)));
            self.asm.alu(Type::I64, Alu::Add, entry, Rm::M(tlb));
        }
    }

    /// Whether the set covers `span` bytes from `below` before the address on; if so the entry's addend is left in its
    /// place.
    pub fn look_in_set(&mut self, l: Look, aside: Reg, below: i32, span: i32, miss: DynamicLabel) {
        let at = |disp| Mem { base: l.entry, index: None, scale: 0, disp: l.table + disp };
        self.lea_at(Type::I64, aside, l.addr, -below);
        self.entry_of(l.entry, aside);
        self.in_set();
        self.asm.alu(Type::I64, Alu::Sub, aside, Rm::M(at(0)));
        self.asm.alu_imm(Type::I64, Alu::Cmp, Rm::R(aside), 4096 - span);
        self.asm.jcc(Cc::A as u8, miss);
        self.in_set();
        self.asm.load(Type::I64, l.entry, at(8));
    }

    /// `d` = an address and `more`.
    pub fn lea_at(&mut self, ty: Type, d: Reg, a: At, more: i32) {
        match a.disp + more {
            0 if a.reg == d && ty == Type::I64 => {}
            0 => self.asm.mov(ty, d, a.reg),
            disp => self.asm.lea(ty, d, Mem { base: a.reg, index: None, scale: 0, disp }),
        }
    }

    fn stored(&mut self, v: Value) -> Stored {
        let ty = self.insts[v.index()].ty;
        if let Some(i) = self.imm32(v, ty) {
            return Stored::Imm(i);
        }
        match self.val[v.index()].loc {
            Loc::Temp(r) => Stored::Reg(r),
            Loc::Guest(g) => match Self::pinned(g).or_else(|| self.copy_of(g)) {
                Some(h) => {
                    self.lock(h);
                    Stored::Reg(h)
                }
                None => Stored::State(layout::gpr(g as usize)),
            },
            Loc::Slot => Stored::State(layout::slot(self.val[v.index()].slot as usize)),
            Loc::Xmm(x) | Loc::GuestV(x) => Stored::Xmm(x),
            other => {
                debug_assert!(false, "stored value at {other:?}");
                self.frame.fail("stored value has no place");
                Stored::Imm(0)
            }
        }
    }

    pub fn load(&mut self, me: Value, inst: &Inst) {
        if inst.ty.bits() > 64 {
            return self.load_vec(me, inst);
        }
        if self.fold_load(me, inst) {
            return;
        }
        let m = self.probe(inst, inst.args[0], inst.ty.bytes(), Helper::Load, None);
        let d = self.dest_for_load(me, m);
        self.asm.load(inst.ty, d.reg(), m);
        self.finish(me, d, true);
    }

    /// The loaded value may go where the address was.
    fn dest_for_load(&mut self, me: Value, m: Mem) -> super::alu::Dest {
        use super::alu::Dest;
        match self.an.facts[me.index()].hint {
            Hint::Full(g) if Self::pinned(g).is_some() => self.dest_empty(me, &[]),
            // Rather elsewhere if the addend will be wanted again.
            _ if self.addend.is_some() && self.vacant().is_some() => Dest::Temp(self.grab()),
            _ => Dest::Temp(m.base),
        }
    }

    /// The read of a read-modify-write: keeps the host address for [`Codegen::store_w`].
    pub fn load_w(&mut self, me: Value, inst: &Inst) {
        if inst.ty.bits() > 64 {
            return self.frame.unsupported("vector read-modify-write");
        }
        let m = self.probe(inst, inst.args[0], inst.ty.bytes(), Helper::LoadW, None);
        let Some(index) = m.index else { return self.frame.fail("probe without address") };
        if let Some(store) = self.fuse_rmw(me, inst) {
            return self.rmw(me, store, m);
        }
        // The host address as one register; it may be spilled like any value, under the name of the StoreW.
        let at = (me.index() + 1..self.insts.len())
            .find(|&j| self.insts[j].op == Op::StoreW && self.insts[j].args[0] == me);
        let d = self.grab();
        self.asm.load(inst.ty, d, m);
        self.set_temp(me, d, true);
        if let Some(at) = at {
            self.asm.lea(Type::I64, m.base, Mem { index: Some(index), ..m });
            // The StoreW has no value, so its number is free to name the address.
            self.an.facts[at].last = at as u32;
            self.set_temp(Value(at as u32), m.base, true);
        }
    }

    /// A LoadW, an operation and a StoreW that are one host instruction: the index of the StoreW.
    fn fuse_rmw(&self, me: Value, inst: &Inst) -> Option<usize> {
        let mut op = None;
        for j in me.index() + 1..self.insts.len() {
            let next = &self.insts[j];
            if !self.an.facts[j].needed {
                continue;
            }
            match next.op {
                Op::Const | Op::FlagsOf | Op::GetReg | Op::GetFlags => {}
                Op::Add | Op::Sub | Op::And | Op::Or | Op::Xor if op.is_none() => {
                    let fits = next.args[0] == me || next.args[1] == me && next.op != Op::Sub;
                    if !fits || next.args[0] == next.args[1] || next.ty != inst.ty {
                        return None;
                    }
                    op = Some(j);
                }
                Op::StoreW => {
                    let o = op?;
                    let single = self.an.facts[me.index()].last as usize == j
                        && self.an.facts[me.index()].uses == 2
                        && self.an.facts[o].last as usize == j
                        && self.an.facts[o].uses == 1;
                    return (next.args[0] == me && next.args[1].index() == o && single).then_some(j);
                }
                _ => return None,
            }
        }
        None
    }

    /// Emits the operation of a fused read-modify-write now; the ops up to the StoreW then emit nothing of it.
    fn rmw(&mut self, me: Value, store: usize, m: Mem) {
        let from = self.at;
        let o = self.insts[store].args[1].index();
        // The ops between are places and constants: they emit nothing.
        for j in from + 1..o {
            if self.an.facts[j].needed {
                self.at = j;
                let inst = self.insts[j];
                self.passive(Value(j as u32), &inst);
                self.val[j].done = true;
            }
        }
        self.at = o;
        let inst = self.insts[o];
        let other = if inst.args[0] == me { inst.args[1] } else { inst.args[0] };
        let op = match inst.op {
            Op::Add => Alu::Add,
            Op::Sub => Alu::Sub,
            Op::And => Alu::And,
            Op::Or => Alu::Or,
            _ => Alu::Xor,
        };
        let src = match self.src(other, inst.ty) {
            Src::Rm(Rm::M(_)) => Src::Rm(Rm::R(self.reg(other))),
            s => s,
        };
        let step = self.is_step(Value(o as u32), op, src);
        if step.is_some() || !self.rmw_by_parts(o, op, m, src) {
            self.alu_on(m, Value(o as u32), inst.ty, op, src, step);
        }
        self.native_flags_of(o);
        self.val[o].done = true;
        self.val[store].done = true;
        self.at = from;
    }

    /// Operation `o` on what is in memory at `m`, with its result at hand in a slot where flags of it that only a fault or a side
    /// exit sees can be made: a store for the four or five instructions of a word of flags. False, and nothing is emitted, where
    /// that is not so.
    fn rmw_by_parts(&mut self, o: usize, op: Alu, m: Mem, src: Src) -> bool {
        let Some(flags) = self.unseen_flags(Value(o as u32)).filter(|f| self.is_replaced(*f)) else {
            return false;
        };
        if TEMPS.into_iter().all(|t| self.locked & 1 << t.0 != 0) {
            return false;
        }
        let ty = self.insts[o].ty;
        let t = self.grab();
        self.asm.load(ty, t, m);
        match src {
            Src::Imm(i) => self.asm.alu_imm(ty, op, Rm::R(t), i),
            Src::Rm(rm) => self.asm.alu(ty, op, t, rm),
        }
        self.asm.store(ty, m, t);
        let x = self.keep_operand(t);
        let y = match src {
            Src::Rm(Rm::R(r)) if matches!(op, Alu::Add | Alu::Sub) => self.keep_operand(r),
            Src::Imm(i) => Place::Const(i as i64 as u64),
            _ => x,
        };
        let (op, by_result) = match op {
            Alu::Add => (Op::Add, false),
            Alu::Sub => (Op::Sub, true),
            _ => (Op::And, false),
        };
        self.keep_recipe(flags, Recipe { op, ty, x, y, by_result });
        self.drop_temp(t);
        true
    }

    /// Ops that only say where a value is.
    pub fn passive(&mut self, me: Value, inst: &Inst) {
        match inst.op {
            Op::GetReg => self.get_reg(me, inst),
            Op::GetVec => self.get_vec(me, inst),
            Op::GetFlags => self.get_flags(me),
            Op::Const => self.konst(me),
            _ => {}
        }
    }

    pub fn store_w(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let p = self.reg(me);
        let m = Mem { base: p, index: None, scale: 0, disp: 0 };
        self.store_at(ty, m, inst.args[1]);
        self.release(me);
    }

    fn store_at(&mut self, ty: Type, m: Mem, v: Value) {
        match self.src(v, ty) {
            Src::Imm(i) => self.asm.store_imm(ty, m, i),
            Src::Rm(Rm::R(r)) => self.asm.store(ty, m, r),
            Src::Rm(Rm::M(_)) => {
                let r = self.reg(v);
                self.asm.store(ty, m, r);
            }
        }
    }

    pub fn store(&mut self, inst: &Inst) {
        let v = inst.args[1];
        if inst.ty.bits() > 64 {
            return self.store_vec(inst);
        }
        if let Loc::LaneOf(vector, lane) = self.val[v.index()].loc {
            return self.store_lane(inst, vector, lane);
        }
        if self.imm32(v, inst.ty).is_none() && self.constant(v).is_some() {
            // A wide constant: in a temporary of its own before the probe.
            let c = self.constant(v).unwrap_or(0);
            let s = self.new_slot(1);
            let t = self.grab();
            self.asm.mov_imm(t, c);
            self.asm.store(Type::I64, state(layout::slot(s)), t);
            self.drop_temp(t);
            let m = self.probe_const(inst, s);
            let t = self.grab();
            self.asm.load(Type::I64, t, state(layout::slot(s)));
            self.asm.store(inst.ty, m, t);
            self.free_slots(s, 1);
            return;
        }
        self.save_bool(v);
        let m = self.probe(inst, inst.args[0], inst.ty.bytes(), Helper::Store, Some(v));
        self.store_at(inst.ty, m, v);
    }

    fn probe_const(&mut self, inst: &Inst, slot: usize) -> Mem {
        let m = self.probe(inst, inst.args[0], inst.ty.bytes(), Helper::Store, None);
        if self.twice.form != Form::Quick
            && let Some(Stub { kind: StubKind::Access { value, .. }, .. }) = self.stubs.last_mut()
        {
            *value = Some(Stored::State(layout::slot(slot)));
        }
        m
    }

    /// A load or store of a vector: `m` is where.
    pub fn probe_vec(&mut self, inst: &Inst, value: Option<Value>) -> Mem {
        let helper = if value.is_some() { Helper::StoreVec } else { Helper::LoadVec };
        self.probe(inst, inst.args[0], inst.ty.bytes(), helper, value)
    }

    /// Number of a new site for the guest instruction in hand.
    pub fn site(&mut self) -> u32 {
        self.frame.site(self.lazy, self.x87_last)
    }

    /// Leaves the number of a site for the helper that is called next.
    pub fn say_site(&mut self, site: u32) {
        self.asm.store_imm(Type::I32, state(layout::slot(layout::SITE)), site as i32);
        self.note(Field::Site);
    }
}
