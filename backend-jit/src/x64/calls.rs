//! Calls and returns, as the host's own.
//!
//! A guest's call is a host CALL, and its return a host RET, so that the host predicts it as it does any other. Under the
//! host's return address lies the guest's, and the return goes this way only if that is the one it has popped. What the host
//! returns to is the call's landing. The page of the call was entered through a current fetch translation, and is still the
//! same: what changes translations leaves translated code, or changes the mode, and both drop all frames. (A store to a
//! page table alone need not be seen before the guest says so.) A place behind the call in the next page is checked as
//! any link into another page is.
//!
//! A return that finds another guest address has perhaps passed over a call that has not returned (`call next; pop`), so it
//! tries the frame above; else it goes as any computed jump. Whatever leaves translated code leaves all frames behind: the
//! stack then begins anew, with a frame that no guest knows the address of and that leads out.
//!
//! A change of mode within translated code (SYSCALL and the like) drops all frames, since landings are of the mode of their
//! call.
//!
//! One comparison of RSP tests for requests and for room: a request raises the mark above it (`emu_core::signals`). Where there
//! is no room, translated code is left, and entered again with an empty stack.
//!
//! Invariants: RSP is at most [`layout::CALL_BASE`], less a multiple of 16, wherever a block begins; the host addresses
//! on the stack are those of landings in blocks of this arena that were live when translated code was entered, and the way
//! out. Calls test for requests; returns that way need not, since each uses up a call.

use super::Codegen;
use super::asm::{Alu, Mem, RCX, RSP, Rm, state};
use super::flags::{E, NE};
use crate::cache::Role;
use crate::layout;
use crate::moves::Field;
use dynasmrt::{DynasmApi, dynasm};
use emu_core::ir::{Cc, Type};

/// Most calls that are predicted at a time: 256 KiB of stack.
const DEPTH: i32 = 1 << 14;

fn base() -> Mem {
    state(layout::slot(layout::CALL_BASE))
}

impl Codegen {
    /// Whether calls and returns of the block in hand are the host's.
    pub fn host_calls(&self) -> bool {
        self.chain && self.frame.flat() && self.predict_returns
    }

    /// At the entry of translated code: the frame below all others. Changes RCX.
    pub fn first_frame(&mut self) {
        self.asm.load(Type::I64, RCX, state(layout::slot(layout::NO_ADDEND)));
        dynasm!(self.asm; .arch x64; push rcx);
        self.asm.lea_abs(RCX, self.entry.way_out);
        dynasm!(self.asm; .arch x64; push rcx);
        self.asm.store(Type::I64, base(), RSP);
        // The mark is lowered before the word of requests is looked at: see `emu_core::signals`.
        dynasm!(self.asm; .arch x64; lea rcx, [rsp - 16 * DEPTH]; cmp [rbp + layout::MARK], rcx);
        let lowered = self.asm.jcc8(E);
        dynasm!(self.asm; .arch x64; xchg [rbp + layout::MARK], rcx);
        self.asm.here8(lowered);
        dynasm!(self.asm; .arch x64; cmp DWORD [rbp + layout::WORD], 0);
        let quiet = self.asm.jcc8(E);
        dynasm!(self.asm; .arch x64; mov QWORD [rbp + layout::MARK], -1);
        self.asm.here8(quiet);
    }

    /// Half a frame: the guest's address behind the call, which has been polled for. Changes RCX.
    pub fn push_guest(&mut self, rip: u64) {
        match i32::try_from(rip as i64) {
            Ok(low) => {
                self.asm.buf.push(0x68); // push imm32
                self.asm.buf.extend_from_slice(&low.to_le_bytes());
                self.note(Field::PcSigned);
            }
            Err(_) => {
                self.mov_pc(RCX, rip);
                dynasm!(self.asm; .arch x64; push rcx);
            }
        }
    }

    /// Right behind the host's CALL: what the guest returns to.
    pub fn landing(&mut self, rip: u64) {
        dynasm!(self.asm; .arch x64; pop rcx);
        let (exit, stub) = self.new_exit(rip, Role::Jump);
        if self.frame.same_page(rip) {
            self.linked(exit, stub);
        } else {
            self.guarded(exit, rip, stub);
        }
    }

    /// A return to RAX: goes where the call was that pushed it, if that is found.
    pub fn host_return(&mut self) {
        let guest = |c: &mut Self| {
            // cmp rax,[rsp+8]
            c.asm.buf.extend_from_slice(&[0x48, 0x3b, 0x44, 0x24, 0x08]);
            c.asm.jcc8(NE)
        };
        let other = guest(self);
        dynasm!(self.asm; .arch x64; ret);
        self.asm.here8(other);
        dynasm!(self.asm; .arch x64; lea rcx, [rsp + 16]);
        self.asm.alu(Type::I64, Alu::Cmp, RCX, Rm::M(base()));
        let none = self.asm.jcc8(Cc::A as u8);
        dynasm!(self.asm; .arch x64; mov rsp, rcx);
        let other = guest(self);
        dynasm!(self.asm; .arch x64; ret);
        self.asm.here8(other);
        self.asm.here8(none);
    }

    /// Before code of another mode: the landings on the stack are not for it.
    pub fn forget_calls(&mut self) {
        self.asm.load(Type::I64, RSP, base());
    }
}
