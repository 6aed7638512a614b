//! Doors: what computed jumps come to before a block. See [`crate::jumps`].

use super::Codegen;
use super::vals::{S0, S1, STATE, TLB, slot};
use crate::cache::OwnDoor;
use crate::frame::{NOT_LINKED, exec_id};
use crate::jumps::DOOR_BITS;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{BlockKey, Type};
use emu_core::mmu::tlb;

/// Room for a door.
pub const DOOR_BYTES: usize = 64;

/// What is still to be written of a block's own door.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    number: DynamicLabel,
    elsewhere: DynamicLabel,
    entry: u32,
}

impl Codegen {
    /// Goes to the door for the RIP in x0.
    pub fn to_door(&mut self) {
        const {
            assert!(
                DOOR_BITS & 3 == 0 && (DOOR_BITS >> 2).trailing_ones() == 32 - DOOR_BITS.leading_zeros() - 2
            )
        };
        self.asm.ldr(Type::I64, S0, STATE, slot(layout::DOORS));
        self.asm.ubfx(true, S1, 0, 2, (DOOR_BITS >> 2).trailing_ones() as u8);
        self.asm.ldr_scaled(S0, S0, S1);
        self.asm.br(S0);
    }

    /// Puts into the buffer the door at arena offset `at` of the block with `key` whose entry is at `code`, good for fetch
    /// translation `exec`: it goes there if x0 and the translation in force are what it was made for, and leaves for the RIP
    /// in x0 if not. Gives where in the buffer the number stands, aligned.
    pub fn door(&mut self, at: usize, key: &BlockKey, exec: u32, code: usize) -> Option<usize> {
        self.asm.reset(at);
        let (number, elsewhere) = (self.asm.label(), self.asm.label());
        self.compare_place(key.rip, number, elsewhere);
        self.asm.b_abs(false, code);
        self.asm.bind(elsewhere);
        let way_out = self.entry.way_out;
        self.asm.b_abs(false, way_out);
        self.asm.bind(number);
        let guard = self.asm.buf.len();
        self.asm.raw(exec);
        self.asm.finish().then_some(guard)
    }

    /// The block in hand begins with its door, which is good for no fetch translation yet.
    pub fn begin_with_door(&mut self) {
        if !self.chain || !self.frame.flat() {
            return;
        }
        let rip = self.frame.key.rip;
        let (number, elsewhere) = (self.asm.label(), self.asm.label());
        self.compare_place(rip, number, elsewhere);
        let entry = self.asm.buf.len() as u32;
        self.own_door = Some(Elsewhere { number, elsewhere, entry });
    }

    /// What the block's door needs behind the body.
    pub fn end_door(&mut self) {
        let Some(Elsewhere { number, elsewhere, entry }) = self.own_door.take() else { return };
        self.asm.bind(elsewhere);
        let way_out = self.entry.way_out;
        self.asm.b_abs(false, way_out);
        self.asm.bind(number);
        self.frame.door = Some(OwnDoor { entry, guard: self.asm.buf.len() as u32 });
        self.asm.raw(NOT_LINKED);
    }

    /// Goes on behind this if x0 is `rip` and the word at `number` that of its fetch translation, else at `other`.
    fn compare_place(&mut self, rip: u64, number: DynamicLabel, other: DynamicLabel) {
        self.asm.mov_imm(S1, rip);
        self.asm.sub(true, S0, 0, S1);
        self.asm.cbz(true, true, S0, other);
        self.compare_exec(rip, number, other);
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
