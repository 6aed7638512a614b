//! Doors: what computed jumps come to before a block. See [`crate::jumps`].

use super::Codegen;
use super::vals::{S0, S1, STATE, TLB, slot};
use crate::frame::exec_id;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{BlockKey, Type};
use emu_core::mmu::tlb;

/// Room for a door.
pub const DOOR_BYTES: usize = 64;

impl Codegen {
    /// Goes to the door for the RIP in x0, of which [`S1`] has the bits that choose it.
    pub fn to_door(&mut self) {
        self.asm.ldr(Type::I64, S0, STATE, slot(layout::DOORS));
        self.asm.add(true, S0, S0, S1, 1);
        self.asm.ldr(Type::I64, S0, S0, 0);
        self.asm.br(S0);
    }

    /// Puts into the buffer the door at arena offset `at` of the block with `key` whose entry is at `code`, good for fetch
    /// translation `exec`: it goes there if x0 and the translation in force are what it was made for, and leaves for the RIP
    /// in x0 if not. Gives where in the buffer the number stands, aligned.
    pub fn door(&mut self, at: usize, key: &BlockKey, exec: u32, code: usize) -> Option<usize> {
        self.asm.reset(at);
        let (number, elsewhere) = (self.asm.label(), self.asm.label());
        self.asm.mov_imm(S1, key.rip);
        self.asm.sub(true, S0, 0, S1);
        self.asm.cbz(true, true, S0, elsewhere);
        self.compare_exec(key.rip, number, elsewhere);
        self.asm.b_abs(false, code);
        self.asm.bind(elsewhere);
        let way_out = self.entry.way_out;
        self.asm.b_abs(false, way_out);
        self.asm.bind(number);
        let guard = self.asm.buf.len();
        self.asm.raw(exec);
        self.asm.finish().then_some(guard)
    }

    /// Goes on behind this if the word at `number` is the number of `rip`'s fetch translation, else at `other`.
    pub fn compare_exec(&mut self, rip: u64, number: DynamicLabel, other: DynamicLabel) {
        let at = exec_id(tlb::index(rip));
        self.asm.add_imm(true, S0, TLB, (at & !0xfff) as u64);
        self.asm.ldr(Type::I32, S0, S0, at & 0xfff);
        self.asm.ldr_literal(S1, number);
        self.asm.sub(false, S0, S0, S1);
        self.asm.cbz(true, false, S0, other);
    }
}
