//! Leaving a block: direct links, jumps to computed places, side exits, and the tests for signals and budget.
//!
//! Invariant: a page is entered only through a current fetch translation. A link within the page needs no more than
//! that; a link into another page and a block that reaches into a second page first compare
//! the number of the translation in force (`emu_core::mmu::execid`) with the one they were linked under, and so does
//! every door (`door.rs`), by which computed jumps go. The number is a word of data beside the code, which the cache patches.
//! The page of a call was entered so, too, and is still the same when its return comes: what changes translations leaves
//! translated code, which begins with an empty ring of returns. So the return thunk of a call compares only where it leads into the
//! next page.
//!
//! No value is alive where a block is left but the RIP of a computed jump, so the temporaries are free there.

use super::asm::{Cond, Logic, Reg, ZR};
use super::lazy::Parts;
use super::share::Offset;
use super::vals::{ICOUNT, RETURNS, S0, STATE, slot};
use super::{Codegen, Loc};
use crate::cache::Role;
use crate::frame::{NOT_LINKED, Return};
use crate::jumps::RING_BIT;
use crate::layout;
use crate::sidetable::Last;
use dynasmrt::DynamicLabel;
use emu_core::ir::{BrKind, Inst, Op, Type};
use emu_core::signals::WORD_BEFORE;

/// A side exit whose code is still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub label: DynamicLabel,
    pub rel: i64,
    /// The register with the RIP to leave for, if that is not at `rel`.
    pub to: Option<Reg>,
    pub undo: u32,
    pub back: bool,
    /// What the guest's flags are to be made of, if their word is not right.
    pub flags: Option<Parts>,
    /// The x87 instruction before it.
    pub x87: Option<Last>,
}

/// The word with which a guard compares, still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Literal {
    pub label: DynamicLabel,
    pub exit: usize,
}

impl Codegen {
    fn new_exit(&mut self, rip: u64, role: Role) -> (usize, DynamicLabel) {
        let label = self.asm.label();
        let exit = self.frame.exit(rip, role, label);
        (exit, label)
    }

    /// Leaves through `stub` when a request is pending or the budget is used up. Changes NZCV.
    pub fn poll(&mut self, stub: DynamicLabel) {
        self.load_requests();
        self.asm.cbz(true, false, S0, stub);
        if self.count {
            self.asm.ldr(Type::I64, S0, STATE, slot(layout::BUDGET));
            self.asm.arith(true, true, true, ZR, ICOUNT, S0, 0);
            self.asm.b_cond(Cond::Cs, stub);
        }
    }

    /// The word of requests into [`S0`].
    fn load_requests(&mut self) {
        const { assert!(WORD_BEFORE <= 256, "beyond an unscaled offset") };
        self.asm.load_at(Type::I32, S0, STATE, Offset::Imm(-(WORD_BEFORE as i32)));
    }

    /// The place where a block is entered that has been linked to.
    pub fn begin(&mut self) {
        let start = self.asm.label();
        self.asm.bind(start);
        self.start = Some(start);
    }

    /// A jump to the stub that the cache may lead elsewhere.
    fn patchable(&mut self, exit: usize, stub: DynamicLabel) {
        self.frame.exits[exit].patch = Some(self.asm.buf.len() as u32);
        self.asm.b(stub);
    }

    /// Whether a block of `insts` may jump straight to its own beginning at its end.
    pub fn loops(&self, insts: &[Inst]) -> bool {
        let Some(end) = insts.last() else { return false };
        let start = |rel: i64| self.frame.rip(rel) == self.frame.key.rip;
        let own = match end.op {
            Op::Goto => start(end.imm),
            Op::Branch => start(end.imm) || start(i64::from(end.aux as i32)),
            _ => false,
        };
        own && self.chain && !self.count
    }

    /// Goes on at a known place. What `flags` says is made the guest's flags, but not for the block's own beginning.
    fn direct(&mut self, rel: i64, back: bool, flags: Option<Parts>) {
        let rip = self.frame.rip(rel);
        let (exit, stub) = self.new_exit(rip, Role::Jump);
        let linked = self.chain && (self.frame.same_page(rip) || self.frame.flat());
        if let (true, false, Some(start)) =
            (linked && back && rip == self.frame.key.rip, self.count, self.start)
        {
            // To the block's own beginning, which is there as long as this is.
            self.load_requests();
            self.asm.cbz(false, false, S0, start);
            self.make_some_flags(flags);
            return self.asm.b(stub);
        }
        self.make_some_flags(flags);
        if !linked {
            return self.asm.b(stub);
        }
        if back {
            self.poll(stub);
        }
        if self.frame.same_page(rip) {
            self.patchable(exit, stub);
        } else if self.link_pages {
            self.guarded(exit, rip, stub);
        } else {
            self.imm(0, rip);
            self.to_door();
        }
    }

    fn make_some_flags(&mut self, flags: Option<Parts>) {
        if let Some(flags) = flags {
            self.make_flags(flags);
        }
    }

    /// Goes on behind this if the fetch translation of `rip` is the one that exit `exit` was linked under.
    fn guard(&mut self, exit: usize, rip: u64, stub: DynamicLabel) {
        let label = self.asm.label();
        self.literals.push(Literal { label, exit });
        self.compare_exec(rip, label, stub);
    }

    /// A link to a block that may lie in another page.
    fn guarded(&mut self, exit: usize, rip: u64, stub: DynamicLabel) {
        self.guard(exit, rip, stub);
        self.patchable(exit, stub);
    }

    /// At the start of a block that reaches into a second page: leaves unless that is still the page it was made from.
    pub fn guard_entry(&mut self, two_pages: bool) {
        if two_pages && self.chain && self.frame.flat() {
            let rip = self.frame.key.rip;
            let (exit, stub) = self.new_exit(rip, Role::Entry);
            self.guard(exit, crate::next_page(rip, self.frame.key.mode), stub);
        }
    }

    /// The register with the newest return: [`S0`] where it has none of its own.
    fn returns(&mut self) -> Reg {
        if !self.count {
            return RETURNS;
        }
        self.asm.ldr(Type::I64, S0, STATE, slot(layout::RETURNS));
        S0
    }

    fn keep_returns(&mut self, r: Reg) {
        if self.count {
            self.asm.str(Type::I64, r, STATE, slot(layout::RETURNS));
        }
    }

    /// Behind a call: predicts the return to relative RIP `rel`.
    fn push_return(&mut self, rel: i64) {
        if !self.chain || !self.frame.flat() || !self.predict_returns {
            return;
        }
        let (rip, label) = (self.frame.rip(rel), self.asm.label());
        self.frame.returns.push(Return { label, rip });
        let (back, host) = (self.const_reg(rip), self.temp());
        let r = self.returns();
        self.asm.adr(host, label);
        self.asm.stp_before(back, host, r, -16);
        // From below the ring to its top: see `jumps`.
        self.asm.logic_imm(Logic::Orr, true, r, r, RING_BIT);
        self.keep_returns(r);
        self.drop_temp(host);
    }

    /// A return to the RIP in `to`: goes where the newest call predicts if that is right. Keeps `to`.
    fn pop_return(&mut self, to: Reg) {
        if !self.predict_returns {
            return;
        }
        let miss = self.asm.label();
        let (rip, host) = (self.temp(), self.temp());
        let r = self.returns();
        self.asm.ldp_after(rip, host, r, 16);
        self.asm.sub(true, rip, rip, to);
        self.asm.cbz(true, true, rip, miss);
        self.keep_returns(r);
        self.asm.br(host);
        self.asm.bind(miss);
        if !self.count {
            // It stays.
            self.asm.arith_imm(true, true, false, r, r, 16);
        }
        self.drop_temp(rip);
        self.drop_temp(host);
    }

    pub fn goto(&mut self, inst: &Inst) {
        if inst.aux == BrKind::Call as u32 {
            self.push_return(self.frame.insn_rel + i64::from(self.frame.insn_len));
        }
        let flags = self.flags_of_exit();
        self.direct(inst.imm, self.frame.back(inst.imm), flags);
    }

    /// Jumps to `l` if truth value `v` holds.
    fn jump_if(&mut self, v: emu_core::ir::Value, not: bool, l: DynamicLabel) {
        if let Some(if_not_zero) = self.zero_test() {
            let r = self.reg_nz(v);
            return self.asm.cbz(if_not_zero != not, self.insts[v.index()].ty == Type::I64, r, l);
        }
        match self.val[v.index()].loc {
            Loc::Cc(c) => self.asm.b_cond(if not { c.invert() } else { c }, l),
            _ => {
                let r = self.reg(v);
                self.asm.cbz(!not, false, r, l);
            }
        }
    }

    pub fn branch(&mut self, inst: &Inst) {
        let (taken, other) = (inst.imm, i64::from(inst.aux as i32));
        let flags = self.flags_of_exit();
        if let (Some(c), None) = (self.constant(inst.args[0]), self.zero_test()) {
            let rel = if c != 0 { taken } else { other };
            return self.direct(rel, self.frame.back(rel), flags);
        }
        let no = self.asm.label();
        self.jump_if(inst.args[0], true, no);
        self.direct(taken, self.frame.back(taken), flags);
        self.asm.bind(no);
        self.direct(other, self.frame.back(other), flags);
    }

    pub fn exit_if(&mut self, inst: &Inst) {
        let rel = inst.imm;
        let undo = self.frame.total_insns.saturating_sub(self.frame.done_insns + 1);
        let label = self.asm.label();
        let to = inst.args[1].is_some().then(|| self.reg_nz(inst.args[1]));
        let flags = self.flags_of_exit();
        if let (Some(c), None) = (self.constant(inst.args[0]), self.zero_test()) {
            if c != 0 {
                self.asm.b(label);
            }
        } else {
            self.jump_if(inst.args[0], false, label);
        }
        let back = self.frame.back(rel);
        self.sides.push(Side { label, rel, to, undo, back, flags, x87: self.x87_last });
    }

    fn rip_in_x0(&mut self, to: Reg) {
        if to != 0 {
            self.asm.mov(true, 0, to);
        }
    }

    pub fn goto_reg(&mut self, inst: &Inst) {
        let to = self.reg_nz(inst.args[0]);
        if self.has_doors() {
            if inst.aux == BrKind::Call as u32 {
                self.push_return(inst.imm);
            } else if inst.aux == BrKind::Ret as u32 {
                self.pop_return(to);
            }
        }
        self.computed(to);
    }

    /// Whether computed jumps go by doors.
    fn has_doors(&self) -> bool {
        self.chain && self.frame.flat()
    }

    /// Goes on at the RIP in `to` by its door, if there are doors.
    fn computed(&mut self, to: Reg) {
        self.rip_in_x0(to);
        if !self.has_doors() {
            let at = self.entry.way_out;
            return self.asm.b_abs(false, at);
        }
        if self.count {
            // For the budget.
            let miss = *self.indirect_miss.get_or_insert_with(|| self.asm.label());
            self.poll(miss);
        }
        self.to_door();
    }

    pub fn interpret(&mut self, inst: &Inst) {
        self.frame.insn_rel = inst.imm;
        self.frame.done_insns = self.frame.total_insns;
        let site = self.site();
        self.asm.mov_imm(0, u64::from(site));
        let at = self.entry.interpret;
        self.asm.b_abs(false, at);
    }

    /// Side exits and exit stubs, after the body.
    pub fn emit_exits(&mut self) {
        self.emit_withheld();
        for s in std::mem::take(&mut self.sides) {
            self.asm.bind(s.label);
            self.make_some_flags(s.flags);
            if self.count && s.undo != 0 {
                self.asm.arith_imm(true, true, false, ICOUNT, ICOUNT, s.undo.into());
            }
            self.x87_note(s.x87);
            match s.to {
                None => self.direct(s.rel, s.back, None),
                Some(to) => self.computed(to),
            }
        }
        if let Some(l) = self.indirect_miss.take() {
            self.asm.bind(l);
            let at = self.entry.way_out;
            self.asm.b_abs(false, at);
        }
        for r in std::mem::take(&mut self.frame.returns) {
            self.asm.bind(r.label);
            let (exit, stub) = self.new_exit(r.rip, Role::Jump);
            if self.frame.same_page(r.rip) {
                self.patchable(exit, stub);
            } else {
                self.guarded(exit, r.rip, stub);
            }
        }
        for s in std::mem::take(&mut self.frame.exit_stubs) {
            self.asm.bind(s.label);
            self.frame.exits[s.exit].stub = self.asm.buf.len() as u32;
            self.asm.mov_imm(0, u64::from(self.frame.first_exit) + s.exit as u64);
            let at = self.entry.direct;
            self.asm.b_abs(false, at);
        }
        self.end_door();
        for l in std::mem::take(&mut self.literals) {
            self.asm.bind(l.label);
            self.frame.exits[l.exit].guard = Some(self.asm.buf.len() as u32);
            self.asm.raw(NOT_LINKED);
        }
    }

    /// Counts the block's instructions; corrected wherever it is left early.
    pub fn count_block(&mut self) {
        if self.count && self.frame.total_insns != 0 {
            self.asm.add_imm(true, ICOUNT, ICOUNT, self.frame.total_insns.into());
        }
    }
}
