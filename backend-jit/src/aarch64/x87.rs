//! The x87 on a host that has none: an instruction is a call of a helper that does it in the integers of
//! `emu_core::ir::eval_x87`, on the state; what `x87_quick` has is done in line as long as nothing is out of the ordinary.
//!
//! Before its first x87 instruction a block makes sure that every exception is masked, and leaves for the interpreter
//! otherwise; FLDCW of a word that unmasks one leaves too. FDP is stored by each instruction with a memory operand. FIP,
//! FOP and the selectors follow from the site of the last x87 instruction: a block that ends leaves its number in
//! `X87_SITE`, and any other site knows it itself.

use super::Codegen;
use super::asm::{Logic, Reg, ZR};
use super::mem::{Stub, StubKind};
use super::vals::{S0, STATE, slot};
use crate::helpers::Helper;
use crate::layout;
use crate::sidetable::Last;
use emu_core::ir::x87::{self, Access};
use emu_core::ir::{Inst, Type, Value, mem_flags};
use emu_core::state::{CpuState, FpuState, Mode, Seg, SegReg};
use std::mem::{offset_of, size_of};

/// Byte offset in the state of the x87's field at `offset`.
pub const fn fpu(offset: usize) -> usize {
    offset_of!(CpuState, fpu) + offset
}

fn selector(seg: usize) -> usize {
    offset_of!(CpuState, seg) + seg * size_of::<SegReg>() + offset_of!(SegReg, sel)
}

/// Whether the emitter knows an operation on memory.
pub fn known(aux: u32) -> bool {
    x87::access(aux) != Access::Other
}

impl Codegen {
    /// Makes sure that no exception is unmasked.
    fn x87_enter(&mut self) {
        if self.x87_live {
            return;
        }
        self.x87_live = true;
        self.asm.ldr(Type::I16, S0, STATE, fpu(offset_of!(FpuState, fcw)));
        self.asm.logic(Logic::Orn, false, S0, ZR, S0, 0);
        self.asm.logic_imm(Logic::And, false, S0, S0, 0x3f);
        let label = self.asm.label();
        self.asm.cbz(true, false, S0, label);
        let site = self.site();
        self.stubs.push(Stub { label, resume: label, site, kind: StubKind::Leave });
    }

    /// The pointers move to the instruction in hand.
    fn x87_moves(&mut self, aux: u32, seg: Option<u8>) {
        if aux & x87::POINTERS == 0 {
            return;
        }
        let seg = seg.or(self.x87_last.and_then(|l| l.seg));
        let fop = (aux & x87::FOP) as u16;
        let long = self.frame.key.mode.contains(Mode::CODE64);
        self.x87_last = Some(Last { rip: self.frame.rip(self.frame.insn_rel), fop, long, seg });
    }

    /// Where a block is left other than by a site: leaves what is needed to find the pointers by. Changes [`S0`].
    pub fn x87_note(&mut self, last: Option<Last>) {
        let Some(last) = last else { return };
        let keep = self.x87_last.replace(last);
        let site = self.site();
        self.x87_last = keep;
        self.asm.mov_imm(S0, u64::from(site) + 1);
        self.asm.str(Type::I32, S0, STATE, slot(layout::X87_SITE));
        if last.long {
            return;
        }
        // The code segment may be another when translated code is left.
        self.asm.ldr(Type::I16, S0, STATE, selector(Seg::CS as usize));
        self.asm.str(Type::I16, S0, STATE, fpu(offset_of!(FpuState, fcs)));
        if let Some(seg) = last.seg {
            self.asm.ldr(Type::I16, S0, STATE, selector(seg.into()));
            self.asm.str(Type::I16, S0, STATE, fpu(offset_of!(FpuState, fds)));
        }
    }

    /// An instruction between registers.
    pub fn x87(&mut self, me: Value, inst: &Inst) {
        self.x87_enter();
        let aux = inst.aux;
        if aux & x87::WAIT != 0 {
            // Nothing is pending.
            return;
        }
        let order = u64::from(aux) | if inst.ty == Type::Flags { layout::X87_FLAGS } else { 0 };
        if inst.ty == Type::Flags {
            self.save_flags();
        }
        if inst.args[0].is_some() {
            // FCMOVcc's condition.
            let c = self.condition(inst.args[0]);
            self.asm.cset(S0, c);
            self.asm.str(Type::I32, S0, STATE, slot(layout::ARG + 1));
        }
        let slow = self.asm.label();
        self.make_room();
        if self.x87_quick(aux, slow) {
            self.x87_otherwise(slow, StubKind::X87(aux));
        } else {
            let site = self.site();
            self.x87_call(order, site);
        }
        self.forget_bases();
        match inst.ty {
            Type::I16 => self.result(me),
            Type::Flags => {
                let d = if self.worded[me.index()] { self.word_dest(me) } else { S0 };
                self.asm.ldr(Type::I32, d, STATE, slot(layout::RESULT));
                self.asm.msr_nzcv(d);
                self.native = Some((me, super::flags::Carry::Inverted));
                if d != S0 {
                    self.set_word(me, d);
                }
            }
            _ => {}
        }
        self.x87_moves(aux, None);
    }

    /// An instruction with a memory operand.
    pub fn x87_mem(&mut self, inst: &Inst) {
        let aux = inst.aux;
        if super::mov::stores_control(aux) {
            return self.store_control(inst);
        }
        self.x87_enter();
        let (Access::Read(bytes) | Access::Write(bytes)) = x87::access(aux) else {
            return self.frame.fail("x87 operation without operand");
        };
        let [at, offset, _] = inst.args;
        let a = self.reg_nz(at);
        let access = bytes | (inst.imm as u32 & mem_flags::STACK) << 8;
        let slow = self.asm.label();
        self.make_room();
        if self.x87_mem_quick(inst, a, slow) {
            self.x87_otherwise(slow, StubKind::X87Mem { at: a, aux, access });
        } else {
            let site = self.site();
            self.x87_mem_call(a, aux, access, site);
        }
        self.forget_bases();
        if aux & x87::POINTERS != 0 {
            let r = self.reg(offset);
            self.asm.str(Type::I64, r, STATE, fpu(offset_of!(FpuState, fdp)));
        }
        self.x87_moves(aux, Some((inst.imm >> mem_flags::SEG_SHIFT & 7) as u8));
    }

    /// Frees the temporaries that code in line is going to take: what it spilled behind a branch to the helper's way would not be
    /// spilled on that way.
    fn make_room(&mut self) {
        let temps: [_; 4] = std::array::from_fn(|_| self.temp());
        temps.into_iter().for_each(|t| self.drop_temp(t));
    }

    /// Has the helper do an instruction between registers.
    pub fn x87_call(&mut self, order: u64, site: u32) {
        self.asm.mov_imm(S0, order);
        self.asm.str(Type::I64, S0, STATE, slot(layout::ARG));
        self.thunk_call(Helper::X87, site);
    }

    /// Has the helper do an instruction with an operand at linear address `at`.
    pub fn x87_mem_call(&mut self, at: Reg, aux: u32, access: u32, site: u32) {
        self.asm.str(Type::I64, at, STATE, slot(layout::ARG));
        self.asm.mov_imm(S0, aux.into());
        self.asm.str(Type::I64, S0, STATE, slot(layout::ARG + 1));
        self.asm.mov_imm(S0, access.into());
        self.asm.str(Type::I64, S0, STATE, slot(layout::ARG + 2));
        self.thunk_call(Helper::X87Mem, site);
    }
}
