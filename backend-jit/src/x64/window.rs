//! The page that the stack is in, kept at hand for accesses relative to RSP: what is pushed, popped and called is nearly
//! always in the page that was pushed to last.
//!
//! Three scratch slots hold the page, the addend of its write entry, and how far into it accesses may begin, so that one
//! comparison is enough: [`LIMIT`] leaves room for the widest span, and is 0 while there is no page. What misses calls a
//! routine, which looks into the translation cache and moves the window.
//!
//! Invariant: the window repeats a write entry of the set in force. Every helper and every change of the set clears it,
//! and translated code is entered without one, as with the addends of `hold`.

use super::Codegen;
use super::asm::{Alu, Mem, RAX, RCX, Rm, state};
use super::flags::{AE, NE};
use super::mem::{At, Look, READ, WRITE};
use crate::layout;
use dynasmrt::{DynamicLabel, dynasm};
use emu_core::ir::{Cc, Type};
use emu_core::state::gpr;

/// The widest span that is looked up in the window.
pub const SPAN: i32 = 128;
/// An access of [`SPAN`] bytes that begins below this stays in the page.
const LIMIT: i32 = 4096 - SPAN + 1;

/// An access that the window does not cover.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    pub look: Look,
    pub below: i32,
    pub span: i32,
    /// Where to go if the translation cache does not cover it either.
    pub miss: DynamicLabel,
}

/// There is no window from here on.
pub fn close(scratch: &mut [u64]) {
    scratch[layout::STACK_LIMIT] = 0;
}

fn slot(n: usize) -> Mem {
    state(layout::slot(n))
}

impl Codegen {
    /// Whether an access of `span` bytes around `addr` asks the window.
    pub fn in_window(&self, addr: At, span: i32) -> bool {
        self.stack_window && span <= SPAN && Self::pinned(gpr::RSP as u8) == Some(addr.reg)
    }

    /// Leaves the addend for `span` bytes from `below` before the address on in the look's entry; else goes to `outside`.
    pub fn check_window(&mut self, l: Look, below: i32, outside: DynamicLabel) {
        self.lea_at(Type::I64, l.entry, l.addr, -below);
        self.asm.alu(Type::I64, Alu::Sub, l.entry, Rm::M(slot(layout::STACK_TAG)));
        self.asm.alu(Type::I64, Alu::Cmp, l.entry, Rm::M(slot(layout::STACK_LIMIT)));
        self.asm.jcc(AE, outside);
        self.asm.load(Type::I64, l.entry, slot(layout::STACK_ADDEND));
    }

    /// The stub behind that.
    pub fn outside_window(&mut self, o: Outside) {
        let (l, store) = (o.look, o.look.table == WRITE);
        self.lea_at(Type::I64, l.entry, l.addr, -o.below);
        self.call_window(!store, o.span as u8, l.entry);
        self.asm.jcc(NE, o.miss);
    }

    /// Without a window from here on.
    pub fn close_window(&mut self) {
        self.asm.store_imm(Type::I64, slot(layout::STACK_LIMIT), 0);
    }

    /// A routine that looks for argument 1 bytes from argument 0 on: ZF and the addend in the result if they are in one
    /// page of the translation cache. A page that can be written becomes the window. Reads are content with one that can
    /// be read (`read`).
    pub fn window_routine(&mut self, read: bool) {
        let entry = |table: i32, disp: i32| Mem { base: RCX, index: None, scale: 0, disp: table + disp };
        dynasm!(self.asm; .arch x64; push rax; push rcx);
        let mut misses: Vec<usize> = Vec::new();
        for table in [WRITE, READ] {
            if table == READ && !read {
                break;
            }
            for short in misses.drain(..) {
                self.asm.here8(short);
            }
            self.asm.load(Type::I64, RAX, slot(layout::ARG));
            self.entry_of(RCX, RAX);
            self.in_set();
            self.asm.alu(Type::I64, Alu::Sub, RAX, Rm::M(entry(table, 0)));
            self.asm.alu_imm(Type::I64, Alu::Cmp, Rm::R(RAX), 4096);
            misses.push(self.asm.jcc8(AE));
            // No longer able to wrap.
            self.asm.alu(Type::I32, Alu::Add, RAX, Rm::M(slot(layout::ARG + 1)));
            self.asm.alu_imm(Type::I32, Alu::Cmp, Rm::R(RAX), 4096);
            misses.push(self.asm.jcc8(Cc::A as u8));
            self.in_set();
            self.asm.load(Type::I64, RAX, entry(table, 8));
            self.asm.store(Type::I64, slot(layout::RESULT), RAX);
            if table == WRITE {
                self.asm.store(Type::I64, slot(layout::STACK_ADDEND), RAX);
                self.in_set();
                self.asm.load(Type::I64, RAX, entry(table, 0));
                self.asm.store(Type::I64, slot(layout::STACK_TAG), RAX);
                self.asm.store_imm(Type::I64, slot(layout::STACK_LIMIT), LIMIT);
            }
            self.asm.alu(Type::I32, Alu::Cmp, RAX, Rm::R(RAX));
            dynasm!(self.asm; .arch x64; pop rcx; pop rax; ret);
        }
        for short in misses.drain(..) {
            self.asm.here8(short);
        }
        // RSP is never 0.
        dynasm!(self.asm; .arch x64; test rsp, rsp; pop rcx; pop rax; ret);
    }
}
