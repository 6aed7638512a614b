//! Leaving a block: direct links, jumps to computed places, side exits, and the tests for signals and budget.
//!
//! Invariant: a page is entered only through a current fetch translation. A link within the page needs no more than
//! that; a link into another page and a block that reaches into a second page first compare the number of the translation
//! in force (`emu_core::mmu::execid`) with the one they were linked under, and so does every door (`door.rs`), by which
//! computed jumps go. What a return lands in is as current as it was at the call (`calls.rs`).

use super::asm::{Alu, Branch, Mem, RAX, RCX, RDX, RSP, Reg, Rm, Shift, state};
use super::flags::{AE, E, NE};
use super::mem::{Stub, StubKind};
use super::{Codegen, Loc, NO_SLOT};
use crate::cache::Role;
use crate::frame::NOT_LINKED;
use crate::helpers::Helper;
use crate::jumps::{DOOR_BITS, door_index};
use crate::layout;
use crate::moves::Field;
use crate::sidetable::{Last, Place, Recipe};
use dynasmrt::{DynamicLabel, dynasm};
use emu_core::ir::{BrKind, Cc, Inst, Op, Type};
use emu_core::state::CpuState;
use std::mem::offset_of;

/// A side exit whose code is still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub label: DynamicLabel,
    pub rel: i64,
    /// The register with the RIP to leave for, if that is not at `rel`.
    pub to: Option<Reg>,
    pub undo: u32,
    pub back: bool,
    /// The x87 instruction before it.
    pub x87: Option<Last>,
    /// Where the guest's flags are.
    pub flags: ExitFlags,
}

impl Side {
    /// Whether it does the same as another.
    pub fn is_like(&self, other: &Self) -> bool {
        let what = |s: &Self| (s.rel, s.to, s.undo, s.back, s.x87, s.flags);
        what(self) == what(other)
    }
}

/// Where a side exit finds the guest's flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitFlags {
    /// In their word.
    Word,
    /// In the host's flags.
    Native,
    /// In this scratch slot.
    Slot(u8),
    /// Nowhere: they are made again.
    Recipe(Recipe),
}

const ICOUNT: i32 = offset_of!(CpuState, icount) as i32;

impl Codegen {
    pub fn new_exit(&mut self, rip: u64, role: Role) -> (usize, DynamicLabel) {
        let label = self.asm.label();
        let exit = self.frame.exit(rip, role, label);
        (exit, label)
    }

    /// Leaves through `stub` when a request is pending, there is no room for another call, or the budget is used up.
    fn poll(&mut self, stub: DynamicLabel) {
        self.asm.alu(Type::I64, Alu::Cmp, RSP, Rm::M(state(layout::MARK)));
        self.asm.jcc(Cc::B as u8, stub);
        if self.count && self.heed_budget {
            self.asm.load(Type::I64, RCX, state(layout::field(ICOUNT as usize)));
            self.asm.alu(Type::I64, Alu::Cmp, RCX, Rm::M(state(layout::slot(layout::BUDGET))));
            self.asm.jcc(AE, stub);
        }
    }

    /// Goes on at a known place.
    fn direct(&mut self, rel: i64, back: bool) {
        let rip = self.frame.rip(rel);
        let (exit, stub) = self.new_exit(rip, Role::Jump);
        if !self.chain {
            self.asm.jmp(stub);
            return;
        }
        if self.frame.same_page(rip) {
            if back {
                self.poll(stub);
            }
            self.linked(exit, stub);
        } else if self.frame.flat() && self.link_pages {
            if back {
                self.poll(stub);
            }
            self.guarded(exit, rip, stub);
        } else if self.frame.flat() {
            if back {
                self.poll(stub);
            }
            self.asm.mov_imm(RAX, rip);
            self.asm.load(Type::I64, RDX, state(layout::slot(layout::DOORS)));
            let disp = 8 * door_index(rip) as i32;
            self.asm.jmp_mem(Mem { base: RDX, index: None, scale: 0, disp });
        } else {
            self.asm.jmp(stub);
        }
    }

    /// Goes on behind this if the fetch translation of `rip` is the one that exit `exit` was linked under.
    fn guard(&mut self, exit: usize, rip: u64, stub: DynamicLabel) {
        self.compare_exec(rip, self.gs);
        self.note(Field::Page);
        self.frame.exits[exit].guard = Some(self.asm.buf.len() as u32);
        self.asm.buf.extend_from_slice(&NOT_LINKED.to_le_bytes());
        self.asm.jcc(NE, stub);
    }

    /// A link to a block that may lie in another page.
    pub fn guarded(&mut self, exit: usize, rip: u64, stub: DynamicLabel) {
        self.guard(exit, rip, stub);
        self.linked(exit, stub);
    }

    /// A link that nothing guards.
    pub fn linked(&mut self, exit: usize, stub: DynamicLabel) {
        let at = self.asm.patchable(Branch::Jmp, stub);
        self.frame.exits[exit].patch = Some(at as u32);
    }

    /// A call of a known place, with the return address pushed.
    fn call_known(&mut self, rel: i64, behind: i64) {
        let (rip, behind) = (self.frame.rip(rel), self.frame.rip(behind));
        let (exit, stub) = self.new_exit(rip, Role::Jump);
        self.poll(stub);
        if !self.frame.same_page(rip) {
            self.guard(exit, rip, stub);
        }
        self.push_guest(behind);
        let at = self.asm.patchable(Branch::Call, stub);
        self.frame.exits[exit].patch = Some(at as u32);
        self.landing(behind);
    }

    /// At the start of a block that reaches into a second page: leaves unless that is still the page it was made from.
    pub fn guard_entry(&mut self, two_pages: bool) {
        if two_pages && self.chain && self.frame.flat() {
            let rip = self.frame.key.rip;
            let (exit, stub) = self.new_exit(rip, Role::Entry);
            self.guard(exit, crate::next_page(rip, self.frame.key.mode), stub);
        }
    }

    pub fn goto(&mut self, inst: &Inst) {
        if inst.aux == BrKind::Call as u32 && self.host_calls() && self.link_pages {
            return self.call_known(inst.imm, self.frame.insn_rel + i64::from(self.frame.insn_len));
        }
        self.direct(inst.imm, self.frame.back(inst.imm));
    }

    pub fn branch(&mut self, inst: &Inst) {
        let (taken, other) = (inst.imm, i64::from(inst.aux as i32));
        if let Some(c) = self.constant(inst.args[0]) {
            let rel = if c != 0 { taken } else { other };
            return self.direct(rel, self.frame.back(rel));
        }
        let cc = self.condition(inst.args[0]);
        let rip = self.frame.rip(taken);
        if self.chain && !self.frame.back(taken) && self.frame.same_page(rip) {
            let (exit, stub) = self.new_exit(rip, Role::Jump);
            let at = self.asm.patchable(Branch::Jcc(cc), stub);
            self.frame.exits[exit].patch = Some(at as u32);
            return self.direct(other, self.frame.back(other));
        }
        let no = self.asm.label();
        self.asm.jcc(cc ^ 1, no);
        self.direct(taken, self.frame.back(taken));
        self.asm.bind(no);
        self.direct(other, self.frame.back(other));
    }

    pub fn exit_if(&mut self, inst: &Inst) {
        let rel = inst.imm;
        let undo = self.frame.total_insns.saturating_sub(self.frame.done_insns + 1);
        let sure = self.constant(inst.args[0]);
        let cc = if sure.is_none() { self.condition(inst.args[0]) } else { 0 };
        let to = inst.args[1].is_some().then(|| self.reg(inst.args[1]));
        let (back, flags, x87) = (self.frame.back(rel), self.exit_flags(), self.x87_last);
        let mut side = Side { label: self.asm.label(), rel, to, undo, back, x87, flags };
        match self.known_side(&side) {
            Some(label) => side.label = label,
            None => self.sides.push(side),
        }
        match sure {
            None => self.asm.jcc(cc, side.label),
            Some(0) => {}
            Some(_) => self.asm.jmp(side.label),
        }
    }

    /// Leaves the instruction in hand to the interpreter on a condition.
    pub fn interpret_if(&mut self, inst: &Inst) {
        let cc = self.condition(inst.args[0]);
        let label = self.asm.label();
        self.asm.jcc(cc, label);
        let site = self.site();
        self.stubs.push(Stub { label, resume: label, site, kind: StubKind::Leave, live_xmm: 0 });
    }

    /// Where the guest's flags are now.
    fn exit_flags(&mut self) -> ExitFlags {
        let Some(f) = self.deferred else { return ExitFlags::Word };
        let slot = self.val[f.index()].slot;
        match self.lazy {
            _ if self.native == Some(f) => ExitFlags::Native,
            _ if slot != NO_SLOT && !self.val[f.index()].carry => ExitFlags::Slot(slot),
            Some(recipe) => ExitFlags::Recipe(recipe),
            None => {
                self.frame.fail("the flags of a side exit are lost");
                ExitFlags::Word
            }
        }
    }

    /// Puts the guest's flags into their word. No value is alive.
    fn settle_flags(&mut self, flags: ExitFlags) {
        match flags {
            ExitFlags::Word => return,
            ExitFlags::Native => self.flags_to_ax(),
            ExitFlags::Slot(s) => self.asm.load(Type::I16, RAX, state(layout::slot(s.into()))),
            ExitFlags::Recipe(r) if matches!(r.op, Op::Mul | Op::MulHiU | Op::MulHiS) => {
                self.product_flags(r)
            }
            ExitFlags::Recipe(r) => {
                self.make_flags(r);
                self.flags_to_ax();
            }
        }
        self.asm.store(Type::I16, super::flags::guest_word(), RAX);
    }

    /// Brings about in the host's flags what `r` describes.
    fn make_flags(&mut self, r: Recipe) {
        self.place_to(RAX, r.x);
        if r.op == Op::And {
            return self.asm.test(r.ty, Rm::R(RAX), RAX);
        }
        self.place_to(RCX, r.y);
        match (r.op, r.by_result) {
            (Op::Add, _) => {
                self.asm.alu(r.ty, Alu::Sub, RAX, Rm::R(RCX));
                self.asm.alu(r.ty, Alu::Add, RAX, Rm::R(RCX));
            }
            (_, true) => {
                self.asm.alu(r.ty, Alu::Add, RAX, Rm::R(RCX));
                self.asm.alu(r.ty, Alu::Cmp, RAX, Rm::R(RCX));
            }
            (_, false) => self.asm.alu(r.ty, Alu::Cmp, RAX, Rm::R(RCX)),
        }
    }

    /// The word of the flags of a product into AX.
    fn product_flags(&mut self, r: Recipe) {
        self.place_to(RAX, r.x);
        self.place_to(RCX, r.y);
        let over = match r.op {
            Op::Mul => {
                self.asm.imul(r.ty, RAX, Rm::R(RCX));
                Cc::O
            }
            Op::MulHiU => {
                self.asm.test(r.ty, Rm::R(RCX), RCX);
                Cc::NE
            }
            _ => {
                self.asm.mov(Type::I64, RDX, RAX);
                self.asm.shift_imm(r.ty, Shift::Sar, Rm::R(RDX), r.ty.bits() as u8 - 1);
                self.asm.alu(r.ty, Alu::Cmp, RDX, Rm::R(RCX));
                Cc::NE
            }
        };
        self.asm.setcc(over as u8, Rm::R(RCX));
        self.product_word(r.ty, RCX);
    }

    fn place_to(&mut self, d: Reg, p: Place) {
        match p {
            Place::Const(c) => self.asm.mov_imm(d, c),
            Place::Slot(s) => self.asm.load(Type::I64, d, state(layout::slot(s.into()))),
            Place::Gpr(g) => match Self::pinned(g) {
                Some(h) => self.asm.mov(Type::I64, d, h),
                None => self.asm.load(Type::I64, d, state(layout::gpr(g.into()))),
            },
        }
    }

    pub fn goto_reg(&mut self, inst: &Inst) {
        let v = inst.args[0];
        if matches!(self.val[v.index()].loc, Loc::Cc(_)) {
            return self.frame.fail("jump to a truth value");
        }
        self.copy_fixed(RAX, v, Type::I64);
        let mut behind = None;
        if self.has_doors() && self.predict_returns {
            if inst.aux == BrKind::Call as u32 {
                behind = Some(self.frame.rip(inst.imm));
            } else if inst.aux == BrKind::Ret as u32 {
                self.host_return();
            }
        }
        self.computed(behind);
    }

    /// Whether computed jumps go by doors.
    fn has_doors(&self) -> bool {
        self.chain && self.frame.flat()
    }

    /// Goes on at RIP RAX by its door, as a call if there is a RIP behind it; leaves when a request is pending.
    fn computed(&mut self, behind: Option<u64>) {
        let pending = self.miss();
        if !self.has_doors() {
            return self.asm.jmp(pending);
        }
        self.poll(pending);
        self.asm.mov(Type::I32, RCX, RAX);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(RCX), DOOR_BITS as i32);
        self.asm.load(Type::I64, RDX, state(layout::slot(layout::DOORS)));
        let door = Mem { base: RDX, index: Some(RCX), scale: 1, disp: 0 };
        let Some(behind) = behind else { return self.asm.jmp_mem(door) };
        // Leaving with a call that does not return would mislead the host's predictions of all returns that follow.
        self.asm.load(Type::I64, RDX, door);
        self.asm.alu(Type::I64, Alu::Cmp, RDX, Rm::M(state(layout::slot(layout::NO_DOOR))));
        self.asm.jcc(E, pending);
        self.push_guest(behind);
        dynasm!(self.asm; .arch x64; call rdx);
        self.landing(behind);
    }

    /// Where the block in hand is left for the RIP in RAX.
    pub fn miss(&mut self) -> DynamicLabel {
        *self.indirect_miss.get_or_insert_with(|| self.asm.label())
    }

    /// See [`emu_core::ir::TransferKind`]: a helper changes the state and puts the new mode's doors in force.
    pub fn transfer(&mut self, inst: &Inst) {
        self.save_flags(false);
        let arg = |n: usize| state(layout::slot(layout::ARG + n));
        let next = self.frame.rip(self.frame.insn_rel + i64::from(self.frame.insn_len));
        self.mov_pc(RAX, next);
        self.asm.store(Type::I64, arg(0), RAX);
        self.asm.store_imm(Type::I32, arg(2), inst.imm as i32);
        self.call_thunk(Helper::Transfer);
        self.forget_calls();
        // Where it goes may be the system's code.
        self.gs = false;
        self.asm.load(Type::I64, RAX, state(layout::slot(layout::RESULT)));
        self.computed(None);
    }

    pub fn interpret(&mut self, inst: &Inst) {
        self.frame.insn_rel = inst.imm;
        self.frame.done_insns = self.frame.total_insns;
        let site = self.site();
        self.leave_at(site);
    }

    /// Leaves for the interpreter at a site.
    pub fn leave_at(&mut self, site: u32) {
        self.asm.mov_imm(RAX, u64::from(site));
        self.note(Field::Site);
        let at = self.entry.interpret;
        self.asm.jmp_abs(at);
    }

    /// Side exits, after the body.
    pub fn emit_sides(&mut self) {
        let sides = std::mem::take(&mut self.sides);
        for s in &sides {
            self.asm.bind(s.label);
            let rip = state(layout::field(offset_of!(CpuState, rip)));
            if let Some(to) = s.to {
                // Making flags takes all temporaries.
                self.asm.store(Type::I64, rip, to);
            }
            self.settle_flags(s.flags);
            if self.count && s.undo != 0 {
                let m = state(layout::field(ICOUNT as usize));
                self.asm.alu_imm(Type::I64, Alu::Sub, Rm::M(m), s.undo as i32);
            }
            self.x87_note(s.x87, RCX);
            if s.to.is_none() {
                self.direct(s.rel, s.back);
                continue;
            }
            self.asm.load(Type::I64, RAX, rip);
            self.computed(None);
        }
        self.sides = std::mem::replace(&mut self.twice.sides, sides);
        self.sides.clear();
    }

    /// Exit stubs, out of line.
    pub fn emit_exits(&mut self) {
        self.emit_withheld();
        if let Some(l) = self.indirect_miss.take() {
            self.asm.bind(l);
            self.asm.store(Type::I64, state(layout::field(offset_of!(CpuState, rip))), RAX);
            let at = self.entry.indirect;
            self.asm.jmp_abs(at);
        }
        let stubs = std::mem::take(&mut self.frame.exit_stubs);
        for s in &stubs {
            self.asm.bind(s.label);
            self.frame.exits[s.exit].stub = self.asm.buf.len() as u32;
            self.asm.mov_imm(RAX, u64::from(self.frame.first_exit) + s.exit as u64);
            self.note(Field::Exit);
            let at = self.entry.direct;
            self.asm.jmp_abs(at);
        }
        self.frame.exit_stubs = stubs;
        self.frame.exit_stubs.clear();
    }

    /// Counts the block's instructions; corrected wherever it is left early.
    pub fn count_block(&mut self) {
        if self.count && self.frame.total_insns != 0 {
            let m = state(layout::field(ICOUNT as usize));
            self.asm.alu_imm(Type::I64, Alu::Add, Rm::M(m), self.frame.total_insns as i32);
        }
    }
}
