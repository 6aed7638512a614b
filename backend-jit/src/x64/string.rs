//! REP MOVS and REP STOS; REPcc CMPS and SCAS but for the elements that make the flags.
//!
//! What REP MOVS and STOS do within a page that the translation cache has, upwards, is the host's own instruction. All else is
//! a helper's, which works on the guest's registers in the state.

use super::Codegen;
use super::asm::{Alu, Mem, RAX, RCX, RDX, Reg, Rm, Shift, state};
use super::flags::NE;
use super::mem::{READ, WRITE};
use crate::helpers::Helper;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::addr::PAGE_SIZE;
use emu_core::ir::{Cc, Inst, RepKind, Type, Value};
use emu_core::state::bits::rflags;
use emu_core::state::{CpuState, Mode, gpr};
use std::mem::offset_of;

const RSI: Reg = Reg(6);
const RDI: Reg = Reg(7);

/// A REP MOVS or STOS that may be done by the host's.
#[derive(Clone, Copy)]
struct Run {
    movs: bool,
    /// Width of the addresses, which is that of the mode.
    ty: Type,
    /// Bytes of an element: 1 << this.
    log: u8,
    /// The host registers of the guest's RAX, RCX, RSI and RDI.
    guest: [Reg; 4],
}

fn spare(n: usize) -> Mem {
    state(layout::slot(layout::RESULT + n))
}

impl Codegen {
    /// REP MOVS and STOS; the value is whether they are done.
    pub fn rep_string(&mut self, me: Value, inst: &Inst) {
        let run = self.run_of(inst);
        self.before_rep();
        let (slow, done) = (self.asm.label(), self.asm.label());
        if let Some(run) = run {
            [RAX, RCX, RDX].into_iter().for_each(|r| self.grab_fixed(r));
            self.within_page(run, slow);
            self.asm.store_imm(Type::I64, spare(0), 1);
            self.asm.jmp(done);
            [RAX, RCX, RDX].into_iter().for_each(|r| self.drop_temp(r));
        }
        self.asm.bind(slow);
        self.rep_helper(Helper::RepString, inst);
        self.asm.bind(done);
        let d = self.grab();
        self.asm.load(Type::I64, d, spare(0));
        self.set_temp(me, d, true);
    }

    /// Whether the host's own instruction may serve.
    fn run_of(&self, inst: &Inst) -> Option<Run> {
        let (kind, size, bits) = (inst.aux & 0xff, inst.aux >> 8 & 0xff, inst.aux >> 16 & 0xff);
        let mode = self.frame.key.mode;
        let ty = if mode.contains(Mode::CODE64) { Type::I64 } else { Type::I32 };
        let plain = inst.args[..2].iter().all(|&a| self.is_zero(a));
        let pinned = [gpr::RAX, gpr::RCX, gpr::RSI, gpr::RDI].map(|g| Self::pinned(g as u8));
        let [Some(a), Some(c), Some(s), Some(d)] = pinned else { return None };
        (plain && bits == ty.bits() && self.frame.flat() && !mode.contains(Mode::ALIGN)).then_some(Run {
            movs: kind == RepKind::Movs as u32,
            ty,
            log: size.trailing_zeros() as u8,
            guest: [a, c, s, d],
        })
    }

    /// Does the whole of `run`, or goes to `slow` with nothing changed but the temporaries, which are all free.
    fn within_page(&mut self, run: Run, slow: DynamicLabel) {
        let Run { movs, ty, log, guest: [a, c, s, d] } = run;
        let direction = Mem { disp: layout::field(offset_of!(CpuState, rflags) + 1), ..state(0) };
        self.asm.test_imm(Type::I8, Rm::M(direction), (rflags::DF >> 8) as i32);
        self.asm.jcc(NE, slow);
        // One to a page of elements: none at all changes no register, not even its upper half.
        self.asm.mov(ty, RCX, c);
        self.asm.lea(Type::I64, RAX, Mem { base: RCX, index: None, scale: 0, disp: -1 });
        self.asm.alu_imm(Type::I64, Alu::Cmp, Rm::R(RAX), (PAGE_SIZE >> log) as i32 - 1);
        self.asm.jcc(Cc::A as u8, slow);
        if movs {
            self.host_place(run, s, READ, slow);
            self.asm.store(Type::I64, spare(1), RDX);
        }
        self.host_place(run, d, WRITE, slow);
        for (n, r) in [(2, RSI), (3, RDI)] {
            self.asm.store(Type::I64, spare(n), r);
        }
        if movs {
            self.asm.mov(Type::I64, RAX, RCX);
            self.asm.shift_imm(Type::I64, Shift::Shl, Rm::R(RAX), log);
            self.asm.load(Type::I64, RSI, spare(1));
        } else {
            self.asm.mov(Type::I64, RAX, a);
        }
        self.asm.mov(Type::I64, RDI, RDX);
        let prefix: &[u8] = match log {
            1 => &[0x66, 0xf3],
            3 => &[0xf3, 0x48],
            _ => &[0xf3],
        };
        self.asm.buf.extend_from_slice(prefix);
        self.asm.buf.push(if movs { 0xa4 } else { 0xaa } | u8::from(log != 0));
        for (n, r) in [(2, RSI), (3, RDI)] {
            self.asm.load(Type::I64, r, spare(n));
        }
        if movs {
            self.asm.alu(ty, Alu::Add, s, Rm::R(RAX));
            self.asm.alu(ty, Alu::Add, d, Rm::R(RAX));
        } else {
            self.asm.lea(ty, d, Mem { base: d, index: Some(c), scale: log, disp: 0 });
        }
        self.asm.alu(Type::I32, Alu::Xor, c, Rm::R(c));
    }

    /// Leaves in RDX the host address of what guest register `r` points at, from which on there are RCX elements in one
    /// page of `table`; else goes to `slow`. Changes RAX.
    fn host_place(&mut self, run: Run, r: Reg, table: i32, slow: DynamicLabel) {
        let at = |disp| Mem { base: RDX, index: None, scale: 0, disp: table + disp };
        self.asm.mov(run.ty, RAX, r);
        self.entry_of(RDX, RAX);
        self.in_set();
        self.asm.alu(Type::I64, Alu::Sub, RAX, Rm::M(at(0)));
        // The start by itself, so that the sum does not wrap.
        self.asm.alu_imm(Type::I64, Alu::Cmp, Rm::R(RAX), PAGE_SIZE as i32);
        self.asm.jcc(Cc::A as u8, slow);
        self.asm.lea(Type::I64, RAX, Mem { base: RAX, index: Some(RCX), scale: run.log, disp: 0 });
        self.asm.alu_imm(Type::I64, Alu::Cmp, Rm::R(RAX), PAGE_SIZE as i32);
        self.asm.jcc(Cc::A as u8, slow);
        self.in_set();
        self.asm.load(Type::I64, RDX, at(8));
        self.asm.mov(run.ty, RAX, r);
        self.asm.alu(Type::I64, Alu::Add, RDX, Rm::R(RAX));
    }

    /// Calls a helper that works on RCX, RSI and RDI.
    pub fn rep_call(&mut self, helper: Helper, inst: &Inst) {
        self.before_rep();
        self.rep_helper(helper, inst);
    }

    /// Whether a segment's base is none, or 0.
    fn is_zero(&self, base: Value) -> bool {
        !base.is_some() || self.constant(base) == Some(0)
    }

    fn before_rep(&mut self) {
        self.save_flags(false);
        for g in [gpr::RCX, gpr::RSI, gpr::RDI] {
            self.save_aliases(g as u8, Value::NONE);
        }
    }

    fn rep_helper(&mut self, helper: Helper, inst: &Inst) {
        for (n, &a) in inst.args[..2].iter().enumerate() {
            let m = state(layout::slot(layout::ARG + n));
            if self.is_zero(a) {
                self.asm.store_imm(Type::I64, m, 0);
            } else {
                let r = self.reg(a);
                self.asm.store(Type::I64, m, r);
            }
        }
        self.asm.store_imm(Type::I32, state(layout::slot(layout::ARG + 2)), inst.aux as i32);
        self.call_thunk(helper);
    }
}
