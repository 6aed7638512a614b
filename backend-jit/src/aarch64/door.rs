//! Doors: what computed jumps come to before a block. See [`crate::jumps`].

use super::Codegen;
use super::asm::{Cond, ZR};
use super::share::Offset;
use super::vals::{S0, S1, STATE, TLB};
use crate::cache::OwnDoor;
use crate::frame::{NOT_LINKED, exec_id};
use crate::jumps::DOOR_BITS;
use dynasmrt::DynamicLabel;
use emu_core::ir::{BlockKey, Type};
use emu_core::mmu::tlb;
use emu_core::signals::MARK_BEFORE;

/// Room for a door.
pub const DOOR_BYTES: usize = 64;

/// What a door compares with, in words behind its code, and where it goes if that is not what it finds.
#[derive(Clone, Copy, Debug)]
struct Words {
    number: DynamicLabel,
    rip: DynamicLabel,
    elsewhere: DynamicLabel,
}

/// What is still to be written of a block's own door.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    words: Words,
    entry: u32,
}

impl Codegen {
    /// Goes to the door for the RIP in x0, or leaves for that if a request is pending: then the table is the one that leads
    /// out.
    pub fn to_door(&mut self) {
        const { assert!(MARK_BEFORE <= 256, "beyond an unscaled offset") };
        const {
            assert!(
                DOOR_BITS & 3 == 0 && (DOOR_BITS >> 2).trailing_ones() == 32 - DOOR_BITS.leading_zeros() - 2
            )
        };
        self.asm.load_at(Type::I64, S1, STATE, Offset::Imm(-(MARK_BEFORE as i32)));
        self.asm.ubfx(true, S0, 0, 2, (DOOR_BITS >> 2).trailing_ones() as u8);
        self.asm.ldr_scaled(S0, S1, S0);
        self.asm.br(S0);
    }

    /// Puts into the buffer the door at arena offset `at` of the block with `key` whose entry is at `code`, good for fetch
    /// translation `exec`: it goes there if x0 and the translation in force are what it was made for, and leaves for the RIP
    /// in x0 if not. Gives where in the buffer the number stands, aligned.
    pub fn door(&mut self, at: usize, key: &BlockKey, exec: u32, code: usize) -> Option<usize> {
        self.asm.reset(at);
        let words = self.compare_place(key.rip);
        self.asm.b_abs(false, code);
        let guard = self.words(words, key.rip, exec);
        self.asm.finish().then_some(guard)
    }

    /// The block in hand begins with its door, which is good for no fetch translation yet.
    pub fn begin_with_door(&mut self) {
        if !self.chain || !self.frame.flat() {
            return;
        }
        let words = self.compare_place(self.frame.key.rip);
        let entry = self.asm.buf.len() as u32;
        self.own_door = Some(Elsewhere { words, entry });
    }

    /// What the block's door needs behind the body.
    pub fn end_door(&mut self) {
        let Some(Elsewhere { words, entry }) = self.own_door.take() else { return };
        let guard = self.words(words, self.frame.key.rip, NOT_LINKED) as u32;
        self.frame.door = Some(OwnDoor { entry, guard });
    }

    /// Goes on behind this if x0 is `rip` and the fetch translation of that has the number that [`Codegen::words`] will
    /// have. Changes NZCV, which nobody has where a block is left by a computed jump.
    fn compare_place(&mut self, rip: u64) -> Words {
        let words = Words { number: self.asm.label(), rip: self.asm.label(), elsewhere: self.asm.label() };
        self.asm.ldr_literal_wide(S1, words.rip);
        self.asm.arith(true, true, true, ZR, 0, S1, 0);
        self.load_exec(rip, words.number);
        self.asm.ccmp(false, S0, S1, Cond::Eq);
        self.asm.b_cond(Cond::Ne, words.elsewhere);
        words
    }

    /// What such a comparison needs somewhere behind it. Gives where in the buffer the number stands.
    fn words(&mut self, words: Words, rip: u64, number: u32) -> usize {
        self.asm.bind(words.elsewhere);
        let way_out = self.entry.way_out;
        self.asm.b_abs(false, way_out);
        self.asm.bind(words.number);
        let guard = self.asm.buf.len();
        self.asm.raw(number);
        self.asm.bind(words.rip);
        self.asm.raw(rip as u32);
        self.asm.raw((rip >> 32) as u32);
        guard
    }

    /// Goes on behind this if the word at `number` is the number of `rip`'s fetch translation, else at `other`.
    pub fn compare_exec(&mut self, rip: u64, number: DynamicLabel, other: DynamicLabel) {
        self.load_exec(rip, number);
        self.asm.sub(false, S0, S0, S1);
        self.asm.cbz(true, false, S0, other);
    }

    /// The number of `rip`'s fetch translation into [`S0`], the word at `number` into [`S1`].
    fn load_exec(&mut self, rip: u64, number: DynamicLabel) {
        let at = exec_id(tlb::exec_index(rip));
        self.asm.add_imm(true, S0, TLB, (at & !0xfff) as u64);
        self.asm.ldr(Type::I32, S0, S0, at & 0xfff);
        self.asm.ldr_literal(S1, number);
    }
}
