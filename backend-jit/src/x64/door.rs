//! Doors: what computed jumps come to before a block. See [`crate::jumps`].

use super::Codegen;
use super::asm::{Alu, RAX, RCX, Rm, state};
use super::flags::NE;
use crate::cache::OwnDoor;
use crate::frame::{NOT_LINKED, exec_id};
use crate::layout;
use crate::moves::Field;
use emu_core::ir::{BlockKey, Type};
use emu_core::mmu::tlb;
use emu_core::state::CpuState;
use std::mem::offset_of;

/// Room for a door.
pub const DOOR_BYTES: usize = 48;

impl Codegen {
    /// Puts into the buffer the door at arena offset `at` of the block with `key` whose entry is at `code`, good for fetch
    /// translation `exec`: it goes there if RAX and the translation in force are what it was made for, and leaves for the RIP
    /// in RAX if not. Changes RCX. Gives where in the buffer the number stands, aligned.
    pub fn door(&mut self, at: usize, key: &BlockKey, exec: u32, code: usize) -> Option<usize> {
        self.asm.reset(at);
        // What it notes is for blocks: a door by itself is never copied.
        self.compare_rip(key.rip);
        let elsewhere = self.asm.jcc8(NE);
        self.compare_exec(key.rip, self.segment && key.mode.cpl() == 3);
        let guard = self.asm.buf.len();
        self.asm.buf.extend_from_slice(&exec.to_le_bytes());
        let other = self.asm.jcc8(NE);
        self.asm.jmp_abs(code);
        self.asm.here8(elsewhere);
        self.asm.here8(other);
        let way_out = self.entry.way_out;
        self.asm.jmp_abs(way_out);
        Some(guard)
    }

    /// The block in hand begins with its door, which is good for no fetch translation yet.
    pub fn begin_with_door(&mut self) {
        if !self.chain || !self.frame.flat() {
            return;
        }
        let rip = self.frame.key.rip;
        self.compare_rip(rip);
        let elsewhere = self.miss();
        self.asm.jcc(NE, elsewhere);
        self.compare_exec(rip, self.gs);
        self.note(Field::Page);
        let guard = self.asm.buf.len() as u32;
        self.asm.buf.extend_from_slice(&NOT_LINKED.to_le_bytes());
        self.asm.jcc(NE, elsewhere);
        self.frame.door = Some(OwnDoor { entry: self.asm.buf.len() as u32, guard });
    }

    /// Compares RAX with a RIP of the guest's. Changes RCX.
    fn compare_rip(&mut self, rip: u64) {
        match i32::try_from(rip as i64) {
            Ok(low) => {
                self.asm.buf.extend_from_slice(&[0x48, 0x3d]); // cmp rax, imm32
                self.asm.buf.extend_from_slice(&low.to_le_bytes());
                self.note(Field::PcSigned);
            }
            Err(_) => {
                self.mov_pc(RCX, rip);
                self.asm.alu(Type::I64, Alu::Cmp, RAX, Rm::R(RCX));
            }
        }
    }

    /// `cmp dword [number of the fetch translation of rip], imm32` but for the immediate, which has to follow and is aligned.
    /// Changes RCX unless the set is found by GS.
    pub fn compare_exec(&mut self, rip: u64, gs: bool) {
        if gs {
            self.asm.align_for(8);
            self.asm.buf.extend_from_slice(&[0x65, 0x81, 0x3c, 0x25]);
        } else {
            self.asm.load(Type::I64, RCX, state(layout::field(offset_of!(CpuState, tlb))));
            self.asm.align_for(6);
            self.asm.buf.extend_from_slice(&[0x81, 0xb9]);
        }
        self.asm.buf.extend_from_slice(&(exec_id(tlb::exec_index(rip)) as i32).to_le_bytes());
    }
}
