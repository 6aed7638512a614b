//! The x87: the guest's instructions as the host's.
//!
//! Before its first x87 instruction a block makes sure that the host's x87 holds the guest's (byte `LIVE_X87` of
//! `layout::LIVE`); if not, a stub has [`crate::x87`] make an image and loads it. Whoever leaves translated code saves it.
//! In between, linked blocks pass it on in the host's registers.
//!
//! Invariants:
//! - while it is live every exception is masked: loading refuses anything else, and FLDCW of a control word that
//!   unmasks one leaves for the interpreter;
//! - FDP is stored by each instruction with a memory operand. FIP, FOP and the selectors follow from the site of the
//!   last x87 instruction: a block that ends leaves its number in `X87_SITE`, and any other site knows it itself.

use super::asm::{Mem, Opc, RAX, RCX, Reg, Rm, state};
use super::flags::{E, NE};
use super::mem::{Stub, StubKind};
use super::{Codegen, Loc};
use crate::helpers::Helper;
use crate::layout;
use crate::moves::Field;
use crate::sidetable::Last;
use emu_core::ir::x87::{self, Access};
use emu_core::ir::{Cc, Inst, Type, Value, mem_flags};
use emu_core::state::{CpuState, FpuState, Mode, Seg, SegReg};
use std::mem::{offset_of, size_of};

/// Displacement of a field of the x87.
const fn fpu(offset: usize) -> i32 {
    layout::field(offset_of!(CpuState, fpu) + offset)
}

fn selector(seg: usize) -> Mem {
    let at = offset_of!(CpuState, seg) + seg * size_of::<SegReg>() + offset_of!(SegReg, sel);
    state(layout::field(at))
}

fn live() -> Mem {
    state(layout::slot(layout::LIVE) + layout::LIVE_X87)
}

fn image() -> Rm {
    Rm::M(state(layout::slot(layout::X87_IMAGE)))
}

/// FNSAVE and FRSTOR.
const FNSAVE: u8 = 6;
const FRSTOR: u8 = 4;

impl Codegen {
    fn long(&self) -> bool {
        self.frame.key.mode.contains(Mode::CODE64)
    }

    /// Makes sure that the host's x87 is the guest's.
    fn x87_enter(&mut self) {
        if self.x87_live {
            return;
        }
        self.x87_live = true;
        self.distrust();
        self.save_flags(true);
        let (label, resume) = (self.asm.label(), self.asm.label());
        self.asm.alu_imm(Type::I8, super::asm::Alu::Cmp, Rm::M(live()), 0);
        self.asm.jcc(E, label);
        self.asm.bind(resume);
        let (site, live_xmm) = (self.site(), self.live_xmm());
        self.stubs.push(Stub { label, resume, site, kind: StubKind::X87, live_xmm });
    }

    pub fn x87_stub(&mut self, s: &Stub) {
        self.save_live_xmm(s.live_xmm, true);
        self.say_site(s.site);
        self.asm.call_abs(self.thunks[Helper::X87Load as usize]);
        self.save_live_xmm(s.live_xmm, false);
        self.asm.op(false, Opc(0, 0, 0xdd), FRSTOR, image(), 0);
        self.asm.store_imm(Type::I8, live(), 1);
    }

    /// Of the way out: saves a live x87, and leaves the host's as functions expect it.
    pub fn x87_leave(&mut self) {
        self.asm.alu_imm(Type::I8, super::asm::Alu::Cmp, Rm::M(live()), 0);
        let skip = self.asm.jcc8(E);
        self.asm.op(false, Opc(0, 0, 0xdd), FNSAVE, image(), 0);
        self.asm.here8(skip);
    }

    /// The pointers move to the instruction in hand.
    fn x87_moves(&mut self, aux: u32, seg: Option<u8>) {
        if aux & x87::POINTERS == 0 {
            return;
        }
        let seg = seg.or(self.x87_last.and_then(|l| l.seg));
        let fop = (aux & x87::FOP) as u16;
        self.x87_last = Some(Last { rip: self.frame.rip(self.frame.insn_rel), fop, long: self.long(), seg });
    }

    /// At the block's end, before its terminator.
    pub fn x87_end(&mut self) {
        if self.x87_last.is_some() {
            let t = if self.long() { RCX } else { self.grab() };
            self.x87_note(self.x87_last, t);
            if !self.long() {
                self.drop_temp(t);
            }
        }
    }

    /// Leaves what is needed to find the pointers by; `t` may be used outside 64-bit code.
    pub fn x87_note(&mut self, last: Option<Last>, t: Reg) {
        let Some(last) = last else { return };
        let keep = self.x87_last.replace(last);
        let site = self.site();
        self.x87_last = keep;
        self.asm.store_imm(Type::I32, state(layout::slot(layout::X87_SITE)), site as i32 + 1);
        self.note(Field::Site);
        if last.long {
            return;
        }
        // The code segment may be another when translated code is left.
        self.asm.load(Type::I16, t, selector(Seg::CS as usize));
        self.asm.store(Type::I16, state(fpu(offset_of!(FpuState, fcs))), t);
        if let Some(seg) = last.seg {
            self.asm.load(Type::I16, t, selector(seg.into()));
            self.asm.store(Type::I16, state(fpu(offset_of!(FpuState, fds))), t);
        }
    }

    /// An instruction between registers.
    pub fn x87(&mut self, me: Value, inst: &Inst) {
        self.x87_enter();
        let aux = inst.aux;
        let (escape, modrm) = (x87::escape(aux), x87::modrm(aux));
        if aux & x87::WAIT != 0 {
            // Nothing is pending.
        } else if inst.args[0].is_some() {
            self.fcmov(inst.args[0], modrm);
        } else if inst.ty == Type::I16 {
            self.grab_fixed(RAX);
            self.asm.buf.extend_from_slice(&[escape, modrm]);
            self.set_temp(me, RAX, false);
        } else if inst.ty == Type::Flags {
            self.save_flags(false);
            // The manual clears C1, AMD's processors keep it. FINCSTP and FDECSTP do nothing but clear it.
            self.asm.buf.extend_from_slice(&[0xd9, 0xf7, 0xd9, 0xf6, escape, modrm]);
            self.native = Some(me);
        } else {
            self.asm.buf.extend_from_slice(&[escape, modrm]);
        }
        self.x87_moves(aux, None);
    }

    fn fcmov(&mut self, holds: Value, modrm: u8) {
        let cc = match self.val[holds.index()].loc {
            Loc::Cc(cc) => cc,
            _ => self.condition(holds),
        };
        let i = modrm & 7;
        let direct = [(Cc::B, 0xda, 0xc0), (Cc::E, 0xda, 0xc8), (Cc::BE, 0xda, 0xd0), (Cc::P, 0xda, 0xd8)]
            .into_iter()
            .flat_map(|(cc, escape, at)| [(cc as u8, escape, at), (cc as u8 ^ 1, escape + 1, at)])
            .find(|d| d.0 == cc);
        if let Some((_, escape, at)) = direct {
            return self.asm.buf.extend_from_slice(&[escape, at | i]);
        }
        // Another condition: as ZF.
        let t = self.grab();
        self.asm.setcc(cc, Rm::R(t));
        self.save_flags(false);
        self.asm.test(Type::I8, Rm::R(t), t);
        self.drop_temp(t);
        self.asm.buf.extend_from_slice(&[0xdb, 0xc8 | i]);
    }

    /// An instruction with a memory operand.
    pub fn x87_mem(&mut self, inst: &Inst) {
        self.x87_enter();
        let aux = inst.aux;
        let (bytes, helper) = match x87::access(aux) {
            Access::Read(n @ 10) => (n, Helper::LoadVec),
            Access::Read(n) => (n, Helper::Load),
            // In place: the store itself converts, so it cannot be made to happen in a buffer first.
            Access::Write(n) => (n, Helper::LoadW),
            Access::Other => return self.frame.fail("x87 operation without operand"),
        };
        let [at, offset, _] = inst.args;
        let access = Inst { aux: inst.imm as u32 & mem_flags::STACK, ..*inst };
        let m = self.probe(&access, at, bytes, helper, None);
        if aux & x87::POINTERS != 0 {
            let r = self.reg(offset);
            self.asm.store(Type::I64, state(fpu(offset_of!(FpuState, fdp))), r);
        }
        if x87::loads_control(aux) {
            return self.fldcw(m);
        }
        self.asm.op(false, Opc(0, 0, x87::escape(aux)), x87::digit(aux), Rm::M(m), 0);
        self.x87_moves(aux, Some((inst.imm >> mem_flags::SEG_SHIFT & 7) as u8));
    }

    /// FLDCW, unless it unmasks an exception.
    fn fldcw(&mut self, m: Mem) {
        let word = state(layout::slot(layout::SAVE0));
        self.asm.load(Type::I16, m.base, m);
        self.asm.store(Type::I16, word, m.base);
        self.asm.unary(Type::I32, 2, Rm::R(m.base));
        self.asm.test_imm(Type::I32, Rm::R(m.base), 0x3f);
        let label = self.asm.label();
        self.asm.jcc(NE, label);
        let site = self.site();
        self.stubs.push(Stub { label, resume: label, site, kind: StubKind::Leave, live_xmm: 0 });
        self.asm.op(false, Opc(0, 0, 0xd9), 5, Rm::M(word), 0);
    }
}
