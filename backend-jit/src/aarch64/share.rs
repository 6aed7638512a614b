//! Accesses that share a look into the translation cache (see [`crate::hold`]), and what an access is.
//!
//! The first access of a group leaves the host address of the span's lowest byte in a temporary, which is the group's
//! from then on ([`Owner::Base`]); the others test it for zero and go by it. So they need neither their address nor its
//! parts, which the stubs alone make. A temporary that somebody else wants goes to the group's scratch slot and comes
//! back with the next access. Loads from a table (see [`crate::tables`]) have their index from there.
//!
//! Invariants:
//! - a base is 0 where there is none: the look-up of the span has failed, or a helper has been called since;
//! - whoever calls a helper that may change translations makes the bases in temporaries 0 (`forget_bases`, or `bases` of
//!   a stub); those in slots are cleared by every helper.

use super::asm::{Cond, Logic, Reg, ZR};
use super::mem::Stored;
use super::run::{Form, What};
use super::vals::{S0, S1, S2, STATE, TEMPS, TLB, TLB_WRITE, slot};
use super::{Codegen, Loc, Owner, window};
use crate::addresses;
use crate::helpers::Helper;
use crate::hold::Hold;
use crate::regalloc::Hint;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, Op, Type, Value, mem_flags};
use emu_core::mmu::tlb::TLB_BITS;

/// A linear address: a register, an index shifted left, and a displacement.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub reg: Reg,
    pub index: Option<(Reg, u8)>,
    pub disp: i32,
    /// The sum is one modulo 2^32.
    pub narrow: bool,
    /// The register's upper half may be something that is not to be counted.
    pub dirty: bool,
}

impl At {
    /// What is in a register.
    pub fn reg(reg: Reg) -> Self {
        Self { reg, index: None, disp: 0, narrow: false, dirty: false }
    }
}

/// Where a register-offset or immediate-offset access goes.
#[derive(Clone, Copy, Debug)]
pub enum Offset {
    Reg(Reg),
    /// In units of the access.
    Scaled(Reg),
    Imm(i32),
}

/// What is done at a host address.
#[derive(Clone, Copy, Debug)]
pub enum Touch {
    /// A load into a general register.
    Load(Type, Reg),
    /// A load of a vector, or into its low lane.
    LoadVec(Type, Reg),
    /// A store.
    Store(Type, Stored),
    /// The host address itself, for a read-modify-write.
    Address(Type, Reg),
}

impl Touch {
    /// Bytes of the access.
    pub fn bytes(self) -> u32 {
        self.ty().bytes()
    }

    fn ty(self) -> Type {
        match self {
            Self::Load(ty, _) | Self::LoadVec(ty, _) | Self::Store(ty, _) | Self::Address(ty, _) => ty,
        }
    }

    /// The helper that does it where there is no entry.
    fn helper(self) -> Helper {
        match self {
            Self::LoadVec(Type::V128, _) => Helper::LoadVec,
            Self::Load(..) | Self::LoadVec(..) => Helper::Load,
            Self::Store(Type::V128 | Type::V256, _) => Helper::StoreVec,
            Self::Store(..) => Helper::Store,
            Self::Address(..) => Helper::LoadW,
        }
    }

    pub fn table(self) -> Reg {
        if matches!(self, Self::Load(..) | Self::LoadVec(..)) { TLB } else { TLB_WRITE }
    }
}

/// The slow path of an access.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    pub helper: Helper,
    pub at: At,
    pub bytes: u32,
    pub stack: bool,
    /// As much follows: see `avx`.
    pub first_half: bool,
    pub value: Option<Stored>,
    /// The temporaries that hold bases, by number.
    pub bases: u8,
    /// The temporaries that hold tags, by number: see `near`.
    pub tags: u8,
}

/// An access that looks for itself, because its group has no base.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    slow: Slow,
    touch: Touch,
    /// The temporary whose look-up has failed just now.
    failed: Option<Reg>,
}

/// Which of the slots in [`crate::layout::HOLDS`] `slot` is.
fn hold_index(slot: u8) -> usize {
    crate::layout::HOLDS.iter().position(|&s| s == usize::from(slot)).unwrap_or(0)
}

impl Codegen {
    /// Whether NZCV holds something that is used later.
    pub fn flags_busy(&self) -> bool {
        self.bools.iter().any(|&b| self.lives(b)) || self.native.is_some_and(|(f, _)| self.lives(f))
    }

    /// Where an access's address comes from.
    pub fn address(&mut self, v: Value) -> At {
        if self.is_late(v) {
            let inst = self.insts[v.index()];
            let mut at = self.address(inst.args[0]);
            at.disp += inst.imm as i32;
            at.narrow |= self.insts[inst.args[0].index()].ty == Type::I32;
            if inst.args[1].is_some() {
                at.index = Some((self.reg(inst.args[1]), inst.aux as u8));
            }
            return at;
        }
        At { dirty: !self.is_clean(v), ..At::reg(self.reg(v)) }
    }

    /// Leaves addresses with an index to the accesses that use them, if those go by a base that is there already and want
    /// the address in their stubs alone.
    pub fn leave_indexed(&mut self) {
        for n in 0..self.insts.len() {
            let lea = self.insts[n];
            let [base, index, _] = lea.args;
            let plain =
                |v: Value| v.is_some() && !matches!(self.insts[v.index()].op, Op::Const | Op::Pc | Op::Lea);
            let small = lea.imm.unsigned_abs() < 1 << 20;
            if lea.op != Op::Lea
                || lea.ty != Type::I64
                || !self.an.facts[n].needed
                || !small
                || !plain(base)
                || !plain(index)
            {
                continue;
            }
            let me = Value(n as u32);
            if !self.goes_by_bases(me, true) {
                continue;
            }
            let f = &mut self.an.facts[n];
            f.late = true;
            let until = f.last;
            for v in [base, index] {
                let f = &mut self.an.facts[v.index()];
                f.last = f.last.max(until);
            }
        }
    }

    /// Whether all that use the address `v` are accesses that have a base, or with `deep` late addresses of such.
    fn goes_by_bases(&self, v: Value, deep: bool) -> bool {
        let users = |i: &Inst| i.used().any(|a| a == v);
        let mut users =
            (v.index() + 1..self.insts.len()).filter(|&j| self.an.facts[j].needed && users(&self.insts[j]));
        users.all(|j| {
            let i = &self.insts[j];
            let address = i.args[0] == v && !i.args[1..].contains(&v);
            match i.op {
                Op::Load | Op::LoadW | Op::Store => address && self.holds.at(j).is_some_and(|h| !h.first),
                Op::Lea => {
                    deep && address && self.an.facts[j].late && self.goes_by_bases(Value(j as u32), false)
                }
                _ => false,
            }
        })
    }

    /// The parts of the late address `v` may end with the op in hand.
    pub fn end_parts(&mut self, v: Value) {
        let lea = self.insts[v.index()];
        for a in lea.used() {
            if self.an.facts[a.index()].late {
                self.end_parts(a);
            }
            self.end_value(a);
        }
    }

    /// Whether nothing has been emitted for `v` yet, a late address.
    pub fn is_late(&self, v: Value) -> bool {
        self.an.facts[v.index()].late && self.val[v.index()].loc == Loc::None
    }

    /// Makes those operands of `inst` that it wants as values.
    pub fn make_late_operands(&mut self, inst: &Inst) {
        if inst.op == Op::SetReg && matches!(inst.ty, Type::I32 | Type::I64) && self.is_late(inst.args[0]) {
            // Straight into the register.
            self.an.facts[inst.args[0].index()].hint = Hint::Full(inst.imm as u8 & 15);
        }
        for (n, v) in inst.args.into_iter().enumerate() {
            let through = |v: Value| {
                let deep = self.insts[v.index()].args[1].is_some() || addresses::is_narrow(&self.insts, inst);
                self.an.facts[self.at].late && deep || self.is_moved(v)
            };
            if inst.op == Op::Lea && v.is_some() && through(v) {
                // It is given by parts through this one.
                continue;
            }
            if v.is_some() && !(n == 0 && addresses::takes_parts(inst)) && self.is_late(v) {
                let lea = self.insts[v.index()];
                self.lea(v, &lea);
            }
        }
    }

    /// An address and `more` in a register, in the body of a block: its own, or [`S2`], which in a run is not free.
    pub fn sum_here(&mut self, at: At, more: i32) -> Reg {
        let float = self.form != Form::Single && self.run_of == What::Float;
        let other = float && (at.dirty || i64::from(at.disp) + i64::from(more) != 0);
        let to = if other { self.temp() } else { S2 };
        self.sum_in(to, at, more)
    }

    /// An address and `more` in a register: its own, or [`S2`].
    pub fn sum(&mut self, at: At, more: i32) -> Reg {
        self.sum_in(S2, at, more)
    }

    fn sum_in(&mut self, to: Reg, at: At, more: i32) -> Reg {
        let disp = i64::from(at.disp) + i64::from(more);
        let (minus, size, wide) = (disp < 0, disp.unsigned_abs(), !at.narrow);
        if let Some((index, scale)) = at.index {
            self.asm.add(wide, to, at.reg, index, scale);
            if disp != 0 {
                self.imm(S0, size);
                self.asm.arith(wide, minus, false, to, to, S0, 0);
            }
            return to;
        }
        if disp == 0 {
            if at.dirty {
                self.asm.mov(false, to, at.reg);
                return to;
            }
            return at.reg;
        }
        if super::asm::Asm::is_imm12(size) && at.reg != ZR {
            self.asm.arith_imm(wide, minus, false, to, at.reg, size);
        } else {
            self.imm(to, size);
            self.asm.arith(wide, minus, false, to, at.reg, to, 0);
        }
        to
    }

    /// Leaves the addend for `span` bytes at `a` in `addend`, or goes to `miss`. Changes [`S0`].
    fn look_up(&mut self, a: Reg, table: Reg, addend: Reg, span: u32, keep: bool, miss: DynamicLabel) {
        self.look_up_tag(a, table, (S0, addend), span, keep, miss);
    }

    /// The same, with the entry's tag in a register too, which may be [`S0`] if it is not wanted.
    pub fn look_up_tag(
        &mut self,
        a: Reg,
        table: Reg,
        (tag, addend): (Reg, Reg),
        span: u32,
        keep: bool,
        miss: DynamicLabel,
    ) {
        self.asm.ubfx(true, S0, a, 12, TLB_BITS as u8);
        self.asm.add(true, S0, table, S0, 4);
        self.asm.ldp(tag, addend, S0, 0);
        self.compare_tag(a, tag, span, keep, miss);
    }

    /// Goes to `miss` unless `span` bytes at `a` are in the page of `tag`. Changes [`S0`].
    pub fn compare_tag(&mut self, a: Reg, tag: Reg, span: u32, keep: bool, miss: DynamicLabel) {
        if keep {
            self.asm.logic(Logic::Eor, true, S0, tag, a, 0);
            if span > 1 {
                // Cannot wrap: the tag is of the same index, or an empty one's that sees to it.
                self.asm.add_imm(true, S0, S0, u64::from(span) - 1);
            }
            self.asm.lsr_imm(true, S0, S0, 12);
            self.asm.cbz(true, true, S0, miss);
        } else {
            self.asm.sub(true, S0, a, tag);
            self.asm.arith_imm(true, true, true, ZR, S0, 4096 - u64::from(span));
            self.asm.b_cond(Cond::Hi, miss);
        }
    }

    /// A look-up in the body of a block: NZCV survives if anybody wants it.
    fn look_up_here(&mut self, a: Reg, table: Reg, addend: Reg, span: u32, miss: DynamicLabel) {
        let keep = self.flags_busy();
        if !keep {
            self.native = None;
            let write = table == TLB_WRITE;
            if let Some(page) = self.page_here(write) {
                let look = window::Look { at: a, half: false, from: 0, span, write, page };
                return self.look_in_window(look, addend, miss);
            }
        }
        self.look_up(a, table, addend, span, keep, miss);
    }

    /// Probes for an access of `bytes` at `at` that shares nothing: the host address is [`S1`] and the register that this
    /// gives, which may be [`S2`].
    pub fn probe(&mut self, inst: &Inst, at: At, bytes: u32, helper: Helper, value: Option<Stored>) -> Reg {
        let table = if matches!(helper, Helper::Load | Helper::LoadVec) { TLB } else { TLB_WRITE };
        let (slow, resume) = (self.asm.label(), self.asm.label());
        let a = self.sum_here(at, 0);
        if let Some(careful) = self.way_to_careful() {
            self.look_up_here(a, table, S1, bytes, careful);
            return a;
        }
        self.look_up_here(a, table, S1, bytes, slow);
        self.asm.resume(resume);
        let path = self.slow(inst, at, bytes, helper, value);
        let site = self.site();
        self.stubs.push(super::mem::Stub {
            label: slow,
            resume,
            site,
            kind: super::mem::StubKind::Access(path),
        });
        a
    }

    fn slow(&self, inst: &Inst, at: At, bytes: u32, helper: Helper, value: Option<Stored>) -> Slow {
        let stack = inst.aux & mem_flags::STACK != 0;
        let first_half = inst.op == Op::Load && inst.aux & super::avx::FIRST_HALF != 0;
        Slow { helper, at, bytes, stack, first_half, value, bases: self.bases(), tags: self.tags() }
    }

    /// The access in hand.
    pub fn access(&mut self, inst: &Inst, touch: Touch) {
        let at = match self.holds.at(self.at) {
            Some(hold) if hold.table => self.address_in_table(inst.args[0]),
            _ => self.address(inst.args[0]),
        };
        let bytes = touch.ty().bytes();
        let value = match touch {
            Touch::Store(_, v) => Some(v),
            _ => None,
        };
        let Some(hold) = self.holds.at(self.at) else {
            let slow = self.slow(inst, at, bytes, touch.helper(), value);
            if let Some((addend, a)) = self.access_near(at, touch, slow) {
                return self.touch(touch, addend, Offset::Reg(a));
            }
            let a = self.probe(inst, at, bytes, touch.helper(), value);
            return self.touch(touch, S1, Offset::Reg(a));
        };
        if let Some(careful) = self.way_to_careful() {
            let base = self.base_of(hold, at, touch, careful);
            return self.touch_from(hold, base, touch, inst.args[0]);
        }
        let (label, resume) = (self.asm.label(), self.asm.label());
        let base = self.base_of(hold, at, touch, label);
        let slow = self.slow(inst, at, bytes, touch.helper(), value);
        self.touch_from(hold, base, touch, inst.args[0]);
        self.asm.resume(resume);
        let site = self.site();
        let alone = Alone { slow, touch, failed: hold.first.then_some(base) };
        self.stubs.push(super::mem::Stub { label, resume, site, kind: super::mem::StubKind::Alone(alone) });
    }

    /// Does what is to be done at `address`, from the base of its group.
    fn touch_from(&mut self, hold: Hold, base: Reg, touch: Touch, address: Value) {
        if !hold.table {
            return self.touch(touch, base, self.from_base(hold));
        }
        let lea = self.insts[address.index()];
        let (index, scale) = (self.reg(lea.args[1]), lea.aux as u8);
        let offset = match scale {
            0 => Offset::Reg(index),
            _ if 1 << scale == touch.bytes() => Offset::Scaled(index),
            _ => {
                self.asm.add(true, S0, base, index, scale);
                return self.touch(touch, S0, Offset::Imm(0));
            }
        };
        self.touch(touch, base, offset);
    }

    /// Loads from tables need the index alone, and the address only in their stubs.
    pub fn leave_tables(&mut self) {
        for at in 0..self.insts.len() {
            if !self.holds.at(at).is_some_and(|h| h.table) {
                continue;
            }
            let address = self.insts[at].args[0];
            let index = self.insts[address.index()].args[1];
            let users = (address.index() + 1..self.insts.len())
                .filter(|&j| self.an.facts[j].needed && self.insts[j].used().any(|a| a == address));
            let mut users = users.map(|j| self.holds.at(j).is_some_and(|h| h.table));
            let late = users.all(|table| table);
            self.an.facts[address.index()].late |= late;
            let until = self.an.facts[address.index()].last.max(at as u32);
            let f = &mut self.an.facts[index.index()];
            f.last = f.last.max(until);
        }
    }

    /// Where a load from a table gets its address from.
    fn address_in_table(&mut self, v: Value) -> At {
        let lea = self.insts[v.index()];
        let base = if lea.args[0].is_some() { self.constant(lea.args[0]).unwrap_or(0) } else { 0 };
        let disp = base.wrapping_add(lea.imm as u64) as i32;
        At { index: Some((self.reg(lea.args[1]), lea.aux as u8)), disp, ..At::reg(ZR) }
    }

    /// The temporary with the base of a group; goes to `alone` if there is none.
    fn base_of(&mut self, hold: Hold, at: At, touch: Touch, alone: DynamicLabel) -> Reg {
        let kept = TEMPS.into_iter().find(|&t| self.owner[t as usize] == Owner::Base(hold.slot));
        let t = match kept {
            Some(t) => {
                self.locked |= 1 << t;
                t
            }
            None => self.temp(),
        };
        self.owner[t as usize] = if hold.last { Owner::Transient } else { Owner::Base(hold.slot) };
        if hold.first {
            self.is_tested(hold.slot);
            let table = if hold.write { TLB_WRITE } else { touch.table() };
            let at = if hold.table { At { index: None, ..at } } else { at };
            let below = at.disp - hold.below;
            let plain = at.index.is_none() && at.reg != ZR;
            // Where the register is the span's lowest address and known to be clean there is nothing to save.
            let fits = (-window::BELOW..=0).contains(&below) && (below != 0 || at.dirty);
            let by_reg = plain && fits && self.in_window();
            self.from[hold_index(hold.slot)] = if by_reg { below } else { 0 };
            if by_reg {
                self.native = None;
                let (half, span, write) = (at.dirty, hold.span as u32, table == TLB_WRITE);
                let page = window::Page::Stack;
                let look = window::Look { at: at.reg, half, from: below, span, write, page };
                self.look_in_window(look, t, alone);
                return self.keep_base(t, at.reg, half);
            }
            let a = self.sum_here(at, -hold.below);
            self.look_up_here(a, table, t, hold.span as u32, alone);
            return self.keep_base(t, a, false);
        }
        if kept.is_none() {
            self.asm.ldr(Type::I64, t, STATE, slot(hold.slot.into()));
        }
        if !self.is_tested(hold.slot) {
            self.asm.cbz(false, true, t, alone);
        }
        t
    }

    /// The addend in `t` becomes the base, that of the address in `a` or its lower half.
    fn keep_base(&mut self, t: Reg, a: Reg, half: bool) -> Reg {
        if self.form != Form::Single && self.run_of == What::Float {
            // A store may wait that goes by it.
            self.kept.temps |= 1 << t;
        }
        self.asm.add_reg_or_half(t, t, a, half);
        t
    }

    /// Where an access is from its group's base: that is of the span's lowest byte, or of one so far above it.
    pub fn from_base(&self, hold: Hold) -> Offset {
        Offset::Imm(hold.below + self.from[hold_index(hold.slot)])
    }

    /// Whether the base of the group with `slot` is known to be there, as it is behind the first access by it in the body's
    /// form of a run.
    fn is_tested(&mut self, slot: u8) -> bool {
        if self.form != Form::Quick || self.run_of == What::Accesses && self.at == self.run_from {
            return false;
        }
        let bit = 1 << hold_index(slot);
        let tested = self.run_of == What::Accesses || self.tested & bit != 0;
        self.tested |= bit;
        tested
    }

    /// The temporaries that hold bases, by number.
    pub fn bases(&self) -> u8 {
        TEMPS
            .into_iter()
            .filter(|&t| matches!(self.owner[t as usize], Owner::Base(_)))
            .fold(0, |m, t| m | 1 << t)
    }

    /// A base makes room: the temporary, if one does.
    pub fn evict_base(&mut self) -> Option<Reg> {
        TEMPS.into_iter().find(|&t| match self.owner[t as usize] {
            Owner::Base(s) if (self.locked | self.kept.temps) & 1 << t == 0 => {
                self.asm.str(Type::I64, t, STATE, slot(s.into()));
                true
            }
            _ => false,
        })
    }

    /// A helper is called in line: it has cleared the slots.
    pub fn forget_bases(&mut self) {
        self.forget_pages();
        for o in &mut self.owner {
            if matches!(o, Owner::Base(_)) {
                *o = Owner::Free;
            }
        }
    }

    /// Does what is to be done at a host address.
    fn touch(&mut self, what: Touch, base: Reg, offset: Offset) {
        match what {
            Touch::Load(ty, r) => {
                self.asm.load_at(ty, r, base, offset);
                self.loaded();
            }
            Touch::LoadVec(ty, r) => {
                self.asm.vector_at(true, ty, r, base, offset);
                self.loaded();
            }
            Touch::Store(ty, v) => {
                self.storing();
                match v {
                    Stored::Reg(r) => self.asm.store_at(ty, r, base, offset),
                    Stored::Vec(r) | Stored::Lane(r) => self.asm.vector_at(false, ty, r, base, offset),
                    Stored::Pair(low, high) => self.store_pair(low, high, base, offset),
                }
            }
            Touch::Address(_, p) => match offset {
                Offset::Reg(r) => self.asm.add(true, p, base, r, 0),
                Offset::Scaled(_) => self.frame.fail("an operand in a table"),
                Offset::Imm(0) => self.asm.mov(true, p, base),
                Offset::Imm(i) => {
                    self.asm.arith_imm(true, i < 0, false, p, base, i.unsigned_abs().into());
                }
            },
        }
    }

    /// Stores 256 bits at a host address. Changes [`S0`] unless the offset fits.
    pub fn store_pair(&mut self, low: Reg, high: Reg, base: Reg, offset: Offset) {
        match offset {
            Offset::Imm(i) if i % 16 == 0 && (-1024..1024).contains(&i) => {
                return self.asm.stp_q(low, high, base, i);
            }
            Offset::Reg(r) => self.asm.add(true, S0, base, r, 0),
            Offset::Scaled(_) => self.frame.fail("a store to a table"),
            Offset::Imm(i) => {
                self.asm.arith_imm(true, i < 0, false, S0, base, i.unsigned_abs().into());
            }
        }
        self.asm.stp_q(low, high, S0, 0);
    }

    /// Lets the store in hand wait if it is in the body's form of a run: what it stores, the lower half first.
    pub fn store_waits(&mut self, inst: &Inst, v: Value, high: Value) -> bool {
        let (Some(hold), Some(careful)) = (self.waiting_store(), self.way_to_careful()) else { return false };
        // As the other form does.
        let at = self.address(inst.args[0]);
        let base = self.base_of(hold, at, Touch::Store(inst.ty, Stored::Vec(0)), careful);
        self.defer_store(inst.ty, v, high, base, self.from_base(hold));
        true
    }

    /// The stub of an access that looks for itself.
    pub fn alone(&mut self, a: &Alone, site: u32) {
        let slow = self.asm.label();
        let found = self.asm.label();
        if let Some(t) = a.failed {
            self.asm.mov(true, t, ZR);
        }
        let r = self.sum(a.slow.at, 0);
        self.look_up(r, a.touch.table(), S1, a.slow.bytes, true, slow);
        self.asm.bind(found);
        self.touch(a.touch, S1, Offset::Reg(r));
        let out = self.asm.label();
        self.asm.b(out);
        self.asm.bind(slow);
        self.slow_path(&a.slow, site);
        self.asm.b(found);
        self.asm.bind(out);
    }

    /// Has the helper do an access: [`S1`] and the address's register lead to its buffer, or to where it is to be done.
    pub fn slow_path(&mut self, s: &Slow, site: u32) {
        let arg = |n: usize| slot(crate::layout::ARG + n);
        let a = self.sum(s.at, 0);
        self.asm.str(Type::I64, a, STATE, arg(0));
        match s.value {
            Some(Stored::Vec(v)) => self.asm.str_q(v, STATE, slot(crate::layout::RESULT)),
            Some(Stored::Pair(low, high)) => {
                self.asm.str_q(low, STATE, slot(crate::layout::RESULT));
                self.asm.str_q(high, STATE, slot(crate::layout::RESULT + 2));
            }
            Some(Stored::Reg(v)) => self.asm.str(Type::I64, v, STATE, arg(1)),
            Some(Stored::Lane(v)) => {
                self.v2(0x9e66_0000, S0, v);
                self.asm.str(Type::I64, S0, STATE, arg(1));
            }
            None => {}
        }
        self.asm.mov_imm(S0, u64::from(s.bytes | u32::from(s.stack) << 8 | u32::from(s.first_half) << 9));
        self.asm.str(Type::I32, S0, STATE, arg(2));
        self.thunk_call(s.helper, site);
        for t in TEMPS.into_iter().filter(|t| s.bases & 1 << t != 0) {
            self.asm.mov(true, t, ZR);
        }
        self.spoil_tags(s.tags);
        let a = self.sum(s.at, 0);
        if matches!(s.helper, Helper::LoadW | Helper::Atomic) {
            self.asm.ldr(Type::I64, S1, STATE, slot(crate::layout::RESULT));
        } else {
            self.asm.add_imm(true, S1, STATE, slot(crate::layout::RESULT) as u64);
            self.asm.sub(true, S1, S1, a);
        }
    }
}
