//! The way into and out of translated code, and the thunks through which it calls helpers.
//!
//! Inside translated code: RBP points into the state, guest registers are in their host registers, RSP is 8 modulo
//! 16, MXCSR is the guest's with every exception masked. A thunk keeps all general registers; it stores the
//! caller-saved pinned ones to their home in the state, so a helper costs no more than that.

use super::asm::{Mem, RAX, Reg, Rm, state};
use super::vals::{PINNED, TEMPS};
use super::{Codegen, Entry};
use crate::cache::Cache;
use crate::exit::Kind;
use crate::helpers::{Helper, address};
use crate::layout;
use dynasmrt::{DynasmApi, dynasm};
use emu_core::cpu::Cpu;
use emu_core::ir::Type;
use emu_core::state::CpuState;
use std::mem::offset_of;

/// Pinned host registers that a Rust function may change: RSI, RDI, R8-R11.
const VOLATILE: [u8; 6] = [6, 7, 8, 9, 10, 11];

/// Runs the block at offset `code` of the cache's arena, a live block's as [`Cache::code_offset`] gave it, and gives
/// the exit word. The processor's scratch slots have been set up.
pub fn enter(cache: &Cache, entry: Entry, code: usize, cpu: &mut Cpu) -> u64 {
    let (enter, code) = (cache.address(entry.enter), cache.address(code));
    // SAFETY: the cache begins with the code that `Codegen::prologue` made, and keeps it mapped while it is borrowed;
    // at `entry.enter` of that lies the entry trampoline, which has this signature. It goes on to a block of the same
    // arena. `cpu` is exclusive meanwhile.
    let f: extern "sysv64" fn(*mut Cpu, *const u8) -> u64 = unsafe { std::mem::transmute(enter) };
    f(cpu, code)
}

impl Codegen {
    /// Writes the trampolines and thunks into the buffer, which will lie at the arena's start.
    pub fn prologue(&mut self) -> Entry {
        self.asm.reset(0);
        let (vec_load, vec_save) = (self.here(), 0);
        self.vec_routine(false);
        let mut e = Entry { vec_load, vec_save, ..Entry::default() };
        e.vec_save = self.here();
        self.vec_routine(true);
        e.window_write = self.here();
        self.window_routine(false);
        e.window_read = self.here();
        self.window_routine(true);
        self.entry = e;
        e.leave = self.here();
        self.leave_code();
        for (kind, place) in [
            (Kind::Direct, &mut e.direct),
            (Kind::Indirect, &mut e.indirect),
            (Kind::Interpret, &mut e.interpret),
        ] {
            *place = self.here();
            dynasm!(self.asm; .arch x64; shl rax, 32; or rax, BYTE kind as i8);
            self.asm.jmp_abs(e.leave);
        }
        e.way_out = self.here();
        self.asm.store(Type::I64, state(layout::field(offset_of!(CpuState, rip))), RAX);
        self.asm.jmp_abs(e.indirect);
        self.entry = e;
        e.enter = self.here();
        self.enter_code();
        e.fail = self.here();
        // Status in STATUS: a kind; the site is in SITE. What is still on the stack goes with it.
        self.asm.load(Type::I32, RAX, state(layout::slot(layout::SITE)));
        dynasm!(self.asm; .arch x64; shl rax, 32);
        self.asm.alu(Type::I64, super::asm::Alu::Or, RAX, Rm::M(state(layout::slot(layout::STATUS))));
        self.asm.jmp_abs(e.leave);
        for (i, h) in Helper::ALL.into_iter().enumerate() {
            self.thunks[i] = self.here();
            self.thunk(h, e.fail);
        }
        self.entry = e;
        self.gates();
        e
    }

    pub fn here(&mut self) -> usize {
        self.asm.align(16, 0x90);
        self.asm.buf.len()
    }

    fn mxcsr(&mut self, load: bool, slot: usize) {
        let m = state(layout::slot(slot));
        self.asm.op(false, super::asm::Opc(0, 1, 0xae), if load { 2 } else { 3 }, Rm::M(m), 0);
    }

    fn pinned_regs() -> impl Iterator<Item = (Mem, Reg)> {
        PINNED.iter().enumerate().filter(|(_, h)| **h < 16).map(|(g, &h)| (state(layout::gpr(g)), Reg(h)))
    }

    fn enter_code(&mut self) {
        dynasm!(self.asm; .arch x64
            ; push rbp ; push rbx ; push r12 ; push r13 ; push r14 ; push r15
            ; lea rbp, [rdi + layout::BIAS]
            ; mov rax, rsi
        );
        self.asm.store(Type::I64, state(layout::slot(layout::HOST_SP)), Reg(4));
        self.first_frame();
        self.update_gs();
        self.mxcsr(true, layout::MX_GUEST);
        for (m, r) in Self::pinned_regs() {
            self.asm.load(Type::I64, r, m);
        }
        dynasm!(self.asm; .arch x64; jmp rax);
    }

    fn leave_code(&mut self) {
        let save = self.entry.vec_save;
        self.vec_if_live(save);
        for (m, r) in Self::pinned_regs() {
            self.asm.store(Type::I64, m, r);
        }
        self.x87_leave();
        self.mxcsr(false, layout::MX_GUEST);
        self.mxcsr(true, layout::MX_HOST);
        self.asm.load(Type::I64, Reg(4), state(layout::slot(layout::HOST_SP)));
        dynasm!(self.asm; .arch x64; pop r15 ; pop r14 ; pop r13 ; pop r12 ; pop rbx ; pop rbp ; ret);
    }

    fn thunk(&mut self, h: Helper, fail: usize) {
        let all = matches!(h, Helper::RepString | Helper::RepSkip | Helper::Transfer);
        // Neither it nor what it calls computes with floating point.
        let integers = matches!(h, Helper::RepSkip | Helper::Transfer | Helper::ReadTsc);
        let saved = move |r: Reg| all || VOLATILE.contains(&r.0);
        for (m, r) in Self::pinned_regs().filter(|(_, r)| saved(*r)) {
            self.asm.store(Type::I64, m, r);
        }
        for (i, t) in TEMPS.into_iter().enumerate() {
            self.asm.store(Type::I64, state(layout::slot(layout::SAVE + i)), t);
        }
        let (load, save) = (self.entry.vec_load, self.entry.vec_save);
        self.vec_if_live(save);
        if h == Helper::Transfer {
            // Code at the other privilege level will not need them.
            self.asm.store_imm(Type::I8, state(layout::slot(layout::LIVE) + layout::LIVE_VEC), 0);
        }
        if !integers {
            self.mxcsr(false, layout::MX_GUEST);
            self.mxcsr(true, layout::MX_HOST);
        }
        dynasm!(self.asm; .arch x64; lea rdi, [rbp - layout::BIAS]);
        self.asm.mov_imm(RAX, address(h) as u64);
        dynasm!(self.asm; .arch x64; call rax);
        if !integers {
            self.mxcsr(true, layout::MX_GUEST);
        }
        self.asm.store(Type::I64, state(layout::slot(layout::STATUS)), RAX);
        self.vec_if_live(load);
        self.update_gs();
        dynasm!(self.asm; .arch x64; test eax, eax);
        for (m, r) in Self::pinned_regs().filter(|(_, r)| saved(*r)) {
            self.asm.load(Type::I64, r, m);
        }
        for (i, t) in TEMPS.into_iter().enumerate() {
            self.asm.load(Type::I64, t, state(layout::slot(layout::SAVE + i)));
        }
        let ok = self.asm.jcc8(super::flags::E);
        self.asm.jmp_abs(fail);
        self.asm.here8(ok);
        dynasm!(self.asm; .arch x64; ret);
    }
}
