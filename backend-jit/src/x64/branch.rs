//! Leaving a block: direct links, the inline jump-cache lookup, side exits, and the tests for signals and budget.
//!
//! Invariant: a direct link is made only to a target in the same page, because a page is entered only through a
//! current fetch translation; everything else passes the jump cache, whose entries carry the token of the address
//! space and mode they are good for.

use super::asm::{Alu, Mem, RAX, RCX, RDX, Rm, state};
use super::{Codegen, Loc};
use crate::cache::{ExitDesc, JUMP_SLOTS, jump_index};
use crate::layout;
use crate::sidetable::Last;
use dynasmrt::DynamicLabel;
use emu_core::addr::PAGE_SIZE;
use emu_core::ir::{Inst, Type};
use emu_core::state::{CpuState, Mode};
use std::mem::offset_of;

/// A side exit whose code is still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub label: DynamicLabel,
    pub rel: i64,
    pub undo: u32,
    pub back: bool,
    /// The x87 instruction before it.
    pub x87: Option<Last>,
}

/// An exit stub still to be written.
#[derive(Clone, Copy, Debug)]
pub struct ExitStub {
    pub label: DynamicLabel,
    /// Index among the block's exits.
    pub exit: usize,
}

const ICOUNT: i32 = offset_of!(CpuState, icount) as i32;
const NE: u8 = super::flags::NE;
const AE: u8 = 3;

impl Codegen {
    /// RIP at `rel` from the block's, as wide as the mode has it.
    pub fn rip(&self, rel: i64) -> u64 {
        let rip = self.key.rip.wrapping_add(rel as u64);
        if self.key.mode.contains(Mode::CODE64) { rip } else { rip & 0xffff_ffff }
    }

    fn same_page(&self, rip: u64) -> bool {
        let at = self.key.phys.offset().wrapping_add(rip.wrapping_sub(self.key.rip));
        at < PAGE_SIZE
    }

    fn flat(&self) -> bool {
        self.key.mode.contains(Mode::FLAT)
    }

    fn back(&self, rel: i64) -> bool {
        rel <= self.insn_rel
    }

    fn new_exit(&mut self, rip: u64) -> (usize, DynamicLabel) {
        let label = self.asm.label();
        let exit = self.exits.len();
        self.exits.push(ExitDesc { rip, patch: None, stub: 0 });
        self.exit_stubs.push(ExitStub { label, exit });
        (exit, label)
    }

    /// Leaves through `stub` when a request is pending or the budget is used up.
    fn poll(&mut self, stub: DynamicLabel) {
        let word = state(layout::field(offset_of!(CpuState, signal_word)));
        self.asm.load(Type::I64, RCX, word);
        self.asm.alu_imm(Type::I32, Alu::Cmp, Rm::M(Mem { base: RCX, index: None, scale: 0, disp: 0 }), 0);
        self.asm.jcc(NE, stub);
        if self.count {
            self.asm.load(Type::I64, RCX, state(layout::field(ICOUNT as usize)));
            self.asm.alu(Type::I64, Alu::Cmp, RCX, Rm::M(state(layout::slot(layout::BUDGET))));
            self.asm.jcc(AE, stub);
        }
    }

    /// Goes on at a known place.
    fn direct(&mut self, rel: i64, back: bool) {
        let rip = self.rip(rel);
        let (exit, stub) = self.new_exit(rip);
        if !self.chain {
            self.asm.jmp(stub);
            return;
        }
        if self.same_page(rip) {
            if back {
                self.poll(stub);
            }
            let at = self.asm.patchable(None, stub);
            self.exits[exit].patch = Some(at as u32);
        } else if self.flat() {
            if back {
                self.poll(stub);
            }
            let at = (jump_index(rip) * 16) as i32;
            self.asm.mov_imm(RAX, rip);
            self.asm.load(Type::I64, RCX, state(layout::slot(layout::JUMP_CACHE)));
            self.lookup(RCX, at, stub);
        } else {
            self.asm.jmp(stub);
        }
    }

    /// Compares the jump-cache entry at `disp` from RCX with RAX and the token; jumps to its code or to `miss`.
    fn lookup(&mut self, base: super::asm::Reg, disp: i32, miss: DynamicLabel) {
        let at = |d: i32| Mem { base, index: None, scale: 0, disp: disp + d };
        self.asm.alu(Type::I64, Alu::Cmp, RAX, Rm::M(at(0)));
        self.asm.jcc(NE, miss);
        self.asm.load(Type::I32, RDX, at(8));
        self.asm.alu(Type::I32, Alu::Cmp, RDX, Rm::M(state(layout::slot(layout::TOKEN))));
        self.asm.jcc(NE, miss);
        self.asm.load(Type::I32, RCX, at(12));
        self.asm.alu(Type::I64, Alu::Add, RCX, Rm::M(state(layout::slot(layout::CODE_BASE))));
        self.asm.buf.extend_from_slice(&[0xff, 0xe1]); // jmp rcx
    }

    pub fn goto(&mut self, inst: &Inst) {
        self.direct(inst.imm, self.back(inst.imm));
    }

    pub fn branch(&mut self, inst: &Inst) {
        let (taken, other) = (inst.imm, i64::from(inst.aux as i32));
        if let Some(c) = self.constant(inst.args[0]) {
            let rel = if c != 0 { taken } else { other };
            return self.direct(rel, self.back(rel));
        }
        let cc = self.condition(inst.args[0]);
        let rip = self.rip(taken);
        if self.chain && !self.back(taken) && self.same_page(rip) {
            let (exit, stub) = self.new_exit(rip);
            let at = self.asm.patchable(Some(cc), stub);
            self.exits[exit].patch = Some(at as u32);
            return self.direct(other, self.back(other));
        }
        let no = self.asm.label();
        self.asm.jcc(cc ^ 1, no);
        self.direct(taken, self.back(taken));
        self.asm.bind(no);
        self.direct(other, self.back(other));
    }

    pub fn exit_if(&mut self, inst: &Inst) {
        let rel = inst.imm;
        let undo = self.total_insns.saturating_sub(self.done_insns + 1);
        let label = self.asm.label();
        if let Some(c) = self.constant(inst.args[0]) {
            if c != 0 {
                self.asm.jmp(label);
            }
        } else {
            let cc = self.condition(inst.args[0]);
            self.asm.jcc(cc, label);
        }
        let back = self.back(rel);
        let x87 = self.x87_last;
        self.sides.push(Side { label, rel, undo, back, x87 });
    }

    pub fn goto_reg(&mut self, inst: &Inst) {
        let v = inst.args[0];
        if matches!(self.val[v.index()].loc, Loc::Cc(_)) {
            return self.fail("jump to a truth value");
        }
        self.copy_fixed(RAX, v, Type::I64);
        let miss = self.asm.label();
        self.indirect_miss = Some(miss);
        if !self.chain || !self.flat() {
            self.asm.jmp(miss);
            return;
        }
        self.poll(miss);
        // index = (rip ^ rip >> 12) mod slots; entries of 16 bytes.
        self.asm.mov(Type::I32, RCX, RAX);
        self.asm.shift_imm(Type::I32, super::asm::Shift::Shr, Rm::R(RCX), 12);
        self.asm.alu(Type::I32, Alu::Xor, RCX, Rm::R(RAX));
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(RCX), JUMP_SLOTS as i32 - 1);
        self.asm.shift_imm(Type::I32, super::asm::Shift::Shl, Rm::R(RCX), 4);
        self.asm.alu(Type::I64, Alu::Add, RCX, Rm::M(state(layout::slot(layout::JUMP_CACHE))));
        self.lookup(RCX, 0, miss);
    }

    pub fn interpret(&mut self, inst: &Inst) {
        self.insn_rel = inst.imm;
        self.done_insns = self.total_insns;
        let site = self.site();
        self.asm.mov_imm(RAX, u64::from(site));
        let at = self.entry.interpret;
        self.asm.jmp_abs(at);
    }

    /// Side exits and exit stubs, after the body.
    pub fn emit_exits(&mut self) {
        let sides = std::mem::take(&mut self.sides);
        for s in &sides {
            self.asm.bind(s.label);
            if self.count && s.undo != 0 {
                let m = state(layout::field(ICOUNT as usize));
                self.asm.alu_imm(Type::I64, Alu::Sub, Rm::M(m), s.undo as i32);
            }
            self.x87_note(s.x87, RCX);
            self.direct(s.rel, s.back);
        }
        self.sides = sides;
        self.sides.clear();
        if let Some(l) = self.indirect_miss.take() {
            self.asm.bind(l);
            self.asm.store(Type::I64, state(layout::field(offset_of!(CpuState, rip))), RAX);
            let at = self.entry.indirect;
            self.asm.jmp_abs(at);
        }
        let stubs = std::mem::take(&mut self.exit_stubs);
        for s in &stubs {
            self.asm.bind(s.label);
            self.exits[s.exit].stub = self.asm.buf.len() as u32;
            self.asm.mov_imm(RAX, u64::from(self.first_exit) + s.exit as u64);
            let at = self.entry.direct;
            self.asm.jmp_abs(at);
        }
        self.exit_stubs = stubs;
        self.exit_stubs.clear();
    }

    /// Counts the block's instructions; corrected wherever it is left early.
    pub fn count_block(&mut self) {
        if self.count && self.total_insns != 0 {
            let m = state(layout::field(ICOUNT as usize));
            self.asm.alu_imm(Type::I64, Alu::Add, Rm::M(m), self.total_insns as i32);
        }
    }
}
