//! The way into and out of translated code, and the thunks through which it calls helpers.
//!
//! Inside translated code the host's registers are as `vals` says, and the stack pointer is at a frame of [`FRAME`] bytes
//! that belongs to the thunks. A thunk keeps NZCV and all general registers but x16, x17 and x30; it stores the guest registers
//! that a Rust function may change to their home in the state, and the vector registers while they are live. A thunk of a helper that works on guest registers stores
//! and loads them all.

use super::asm::{LR, Reg, SP};
use super::vals::{FLAGS, GUEST, ICOUNT, RETURNS, S0, S1, STATE, TEMPS, TLB, VOLATILE, gpr, slot};
use super::vecregs::{FIRST, LIVE, VTEMPS};
use super::{Codegen, Entry};
use crate::cache::Cache;
use crate::exit::Kind;
use crate::helpers::{Helper, address};
use crate::layout;
use emu_core::cpu::Cpu;
use emu_core::ir::Type;
use emu_core::state::CpuState;
use std::mem::offset_of;

/// Bytes of stack: the temporaries, the link register and NZCV, and the vector temporaries.
const FRAME: u32 = 64 + 16 * VTEMPS as u32;
/// Where NZCV is in it.
const NZCV: usize = 48;
/// Where the vector temporaries are.
const VECTORS: usize = 64;
/// Bytes of stack for the registers of who entered.
const SAVED: u32 = 160;

/// Runs the block at offset `code` of the cache's arena, a live block's as [`Cache::code_offset`] gave it, and gives
/// the exit word. The processor's scratch slots have been set up.
#[cfg(target_arch = "aarch64")]
pub fn enter(cache: &Cache, entry: Entry, code: usize, cpu: &mut Cpu) -> u64 {
    let (enter, code) = (cache.address(entry.enter), cache.address(code));
    // SAFETY: the cache begins with the code that `Codegen::prologue` made, and keeps it mapped while it is borrowed;
    // at `entry.enter` of that lies the entry trampoline, which has this signature. It goes on to a block of the same
    // arena. `cpu` is exclusive meanwhile.
    let f: extern "C" fn(*mut Cpu, *const u8) -> u64 = unsafe { std::mem::transmute(enter) };
    cpu.state.scratch[crate::layout::NO_TAG] = crate::hold::no_addend();
    super::close_window(&mut cpu.state.scratch);
    // Computed jumps go by the mark.
    cpu.signals.lower_mark(cpu.state.scratch[crate::layout::DOORS]);
    f(cpu, code)
}

/// On other hosts the emitter is there for its text alone.
#[cfg(not(target_arch = "aarch64"))]
pub fn enter(_: &Cache, _: Entry, _: usize, _: &mut Cpu) -> u64 {
    0
}

impl Codegen {
    /// Writes the trampolines and thunks into the buffer, which will lie at the arena's start.
    pub fn prologue(&mut self) -> Entry {
        self.asm.reset(0);
        let mut e = Entry { enter: self.here(), ..Entry::default() };
        self.enter_code();
        e.leave = self.here();
        self.leave_code();
        for (kind, place) in [
            (Kind::Direct, &mut e.direct),
            (Kind::Indirect, &mut e.indirect),
            (Kind::Interpret, &mut e.interpret),
        ] {
            *place = self.here();
            self.asm.lsl_imm(true, 0, 0, 32);
            self.asm.add_imm(true, 0, 0, kind as u64);
            self.asm.b_abs(false, e.leave);
        }
        e.empty = self.here();
        self.asm.mov_imm(0, 0);
        e.way_out = self.here();
        self.asm.str(Type::I64, 0, STATE, offset_of!(CpuState, rip));
        self.asm.b_abs(false, e.indirect);
        e.settle = self.here();
        self.settle_code();
        e.vec_begin = self.here();
        self.vec_guests(true);
        self.fp_begin();
        self.asm.mov_imm(LIVE, 1);
        self.asm.ret();
        let fail = self.here();
        // The kind is in STATUS, the site in SITE.
        self.asm.ldr(Type::I32, 0, STATE, slot(layout::SITE));
        self.asm.ldr(Type::I64, 1, STATE, slot(layout::STATUS));
        self.asm.lsl_imm(true, 0, 0, 32);
        self.asm.add(true, 0, 0, 1, 0);
        self.asm.b_abs(false, e.leave);
        for (i, h) in Helper::ALL.into_iter().enumerate() {
            self.thunks[i] = self.here();
            self.thunk(h, fail);
        }
        self.entry = e;
        if !self.asm.finish() {
            self.frame.fail("the trampolines");
        }
        e
    }

    fn here(&self) -> usize {
        self.asm.buf.len()
    }

    fn saved(&mut self, load: bool) {
        for (i, r) in [19, 21, 23, 25, 27, 29].into_iter().enumerate() {
            let at = 16 * i as i32 + FRAME as i32;
            if load { self.asm.ldp(r, r + 1, SP, at) } else { self.asm.stp(r, r + 1, SP, at) }
        }
        for (i, r) in [8, 10, 12, 14].into_iter().enumerate() {
            self.asm.pair_d(load, r, r + 1, SP, FRAME as i32 + 96 + 16 * i as i32);
        }
    }

    /// Guest registers from `first` on between their homes and the host's registers.
    fn guest(&mut self, load: bool, first: usize) {
        for (g, r) in GUEST.into_iter().enumerate().skip(first) {
            if load {
                self.asm.ldr(Type::I64, r, STATE, gpr(g));
            } else {
                self.asm.str(Type::I64, r, STATE, gpr(g));
            }
        }
    }

    /// What else is in registers: the flags word, the count or the newest return, and (only loaded) the translation cache.
    fn other(&mut self, load: bool) {
        let flags = slot(layout::FLAGS);
        let (r, at) = match self.count {
            true => (ICOUNT, offset_of!(CpuState, icount)),
            false => (RETURNS, slot(layout::RETURNS)),
        };
        if load {
            self.asm.ldr(Type::I64, FLAGS, STATE, flags);
            self.asm.ldr(Type::I64, r, STATE, at);
            self.asm.ldr(Type::I64, TLB, STATE, Self::TLB_AT);
            self.tlb_halves();
        } else {
            self.asm.str(Type::I64, FLAGS, STATE, flags);
            self.asm.str(Type::I64, r, STATE, at);
        }
    }

    fn enter_code(&mut self) {
        self.asm.move_sp(true, FRAME + SAVED);
        self.saved(false);
        self.asm.mov(true, STATE, 0);
        self.guest(true, 0);
        self.other(true);
        self.asm.mov_imm(LIVE, 0);
        self.asm.br(1);
    }

    /// The exit word is in x0.
    fn leave_code(&mut self) {
        let integer = self.asm.label();
        self.asm.cbz(false, false, LIVE, integer);
        self.fp_end();
        self.vec_guests(false);
        self.asm.bind(integer);
        self.guest(false, 0);
        self.other(false);
        self.saved(true);
        self.asm.move_sp(false, FRAME + SAVED);
        self.asm.ret();
    }

    fn temps(&mut self, load: bool) {
        let regs: [(Reg, Reg); 3] = [(TEMPS[0], TEMPS[1]), (TEMPS[2], TEMPS[3]), (TEMPS[4], LR)];
        for (i, (a, b)) in regs.into_iter().enumerate() {
            let at = 16 * i as i32;
            if load { self.asm.ldp(a, b, SP, at) } else { self.asm.stp(a, b, SP, at) }
        }
    }

    /// Vector registers and the modes of floating point, if they are the guest's.
    fn vectors(&mut self, load: bool) {
        let integer = self.asm.label();
        self.asm.cbz(false, false, LIVE, integer);
        if load {
            self.fp_begin();
        } else {
            self.fp_end();
        }
        self.vec_guests(load);
        for i in 0..VTEMPS {
            let (r, at) = (FIRST + i as u8, VECTORS + 16 * i);
            if load { self.asm.ldr_q(r, SP, at) } else { self.asm.str_q(r, SP, at) }
        }
        self.asm.bind(integer);
    }

    /// The site is in [`S0`].
    fn thunk(&mut self, h: Helper, fail: usize) {
        let all = matches!(h, Helper::RepString | Helper::RepSkip);
        let first = if all { 0 } else { VOLATILE };
        self.asm.str(Type::I64, S0, STATE, slot(layout::SITE));
        self.guest(false, first);
        self.other(false);
        self.temps(false);
        self.asm.mrs_nzcv(S1);
        self.asm.str(Type::I64, S1, SP, NZCV);
        self.vectors(false);
        if self.ordered {
            self.asm.dmb();
        }
        self.asm.mov(true, 0, STATE);
        self.asm.mov_imm(S0, address(h) as u64);
        self.asm.blr(S0);
        if self.ordered {
            self.asm.dmb();
        }
        self.asm.str(Type::I64, 0, STATE, slot(layout::STATUS));
        self.vectors(true);
        self.guest(true, first);
        self.other(true);
        self.temps(true);
        self.asm.ldr(Type::I64, S1, SP, NZCV);
        self.asm.msr_nzcv(S1);
        self.asm.ldr(Type::I64, S0, STATE, slot(layout::STATUS));
        let ok = self.asm.label();
        self.asm.cbz(false, true, S0, ok);
        self.asm.b_abs(false, fail);
        self.asm.bind(ok);
        self.asm.ret();
    }
}
