//! Looks into the translation cache for places that are known when a block is translated: what is addressed by the program
//! counter, or by a constant. The entry is known, too, and so is whether the access stays in its page: one comparison is left
//! of the look.

use super::Codegen;
use super::asm::{RDX, Reg, state};
use super::flags::NE;
use super::mem::{At, Look};
use crate::hold::Hold;
use crate::layout;
use crate::moves::Field;
use dynasmrt::DynamicLabel;
use emu_core::addr::PAGE_MASK;
use emu_core::ir::{Op, Type, Value};
use emu_core::mmu::tlb::{self, TlbEntry};
use emu_core::state::CpuState;
use std::mem::offset_of;

/// A page that an access is in.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Its first linear address.
    lin: u64,
    /// How far the register of the access's address is behind that.
    behind: i32,
    /// It moves with the block.
    moves: bool,
}

impl Page {
    /// The address as the sign-extended immediate of a comparison.
    fn imm(&self) -> Option<i32> {
        i32::try_from(self.lin as i64).ok()
    }

    /// Whether a look needs a register beside the entry's.
    pub fn wants_aside(&self) -> bool {
        self.imm().is_none()
    }
}

/// x86 opcodes with a register and r/m.
const LOAD: u8 = 0x8b;
const CMP: u8 = 0x3b;
/// The group of operations with an immediate of 32 bits, of which CMP is number 7.
const GROUP_1: u8 = 0x81;

impl Codegen {
    /// The page of the access in hand at `addr`, if it is known and all that is looked for lies in it.
    pub fn known_page(&self, addr: Value, hold: Option<Hold>, bytes: i32) -> Option<Page> {
        let (below, span) = hold.map_or((0, bytes), |h| (h.below, h.span));
        let lea = self.insts[addr.index()];
        let (base, disp) = match lea.op {
            Op::Lea if lea.ty == Type::I64 && lea.args[0].is_some() && !lea.args[1].is_some() => {
                (lea.args[0], lea.imm)
            }
            _ => (addr, 0),
        };
        let inst = self.insts[base.index()];
        let (base, moves) = match inst.op {
            _ if inst.ty != Type::I64 => return None,
            Op::Const => (inst.imm as u64, false),
            Op::Pc => (self.frame.key.rip.wrapping_add(inst.imm as u64), true),
            _ => return None,
        };
        let place = base.wrapping_add_signed(disp);
        let first = place.wrapping_sub(below as u64);
        let fits = (first & PAGE_MASK) + span as u64 <= PAGE_MASK + 1;
        let lin = first & !PAGE_MASK;
        let register = if self.is_late(addr) { base } else { place };
        let behind = i32::try_from(register.wrapping_sub(lin) as i64).ok()?;
        fits.then_some(Page { lin, behind, moves })
    }

    /// Leaves the addend for `page` in the look's entry, or goes to `miss`.
    pub fn look_at_page(&mut self, l: Look, page: Page, miss: DynamicLabel) {
        let at = l.table + (tlb::index(page.lin) * size_of::<TlbEntry>()) as i32;
        let (tag, addend) = (at + offset_of!(TlbEntry, tag) as i32, at + offset_of!(TlbEntry, addend) as i32);
        if !self.gs {
            self.asm.load(Type::I64, l.entry, state(layout::field(offset_of!(CpuState, tlb))));
        }
        match (page.imm(), l.aside) {
            (Some(imm), _) => {
                self.entry_word(GROUP_1, Reg(7), l.entry, tag, page.moves);
                self.asm.buf.extend_from_slice(&imm.to_le_bytes());
                if page.moves {
                    self.note(Field::PcSigned);
                }
            }
            (None, Some(aside)) => {
                let from = At { reg: l.addr.reg, disp: 0 };
                self.lea_at(Type::I64, aside, from, page.behind.wrapping_neg());
                self.entry_word(CMP, aside, l.entry, tag, page.moves);
            }
            (None, None) => self.frame.fail("no register for a page"),
        }
        self.asm.jcc(NE, miss);
        self.entry_word(LOAD, l.entry, l.entry, addend, page.moves);
    }

    /// An instruction of 64 bits with `reg` and a word of the set, of which `set` has the address where GS does not lead to it.
    fn entry_word(&mut self, opcode: u8, reg: Reg, set: Reg, disp: i32, moves: bool) {
        debug_assert!(set.0 <= RDX.0 && reg.0 < 8, "a temporary");
        self.in_set();
        // The displacement is of 32 bits whatever it is, since it may move.
        let (mode, sib): (u8, &[u8]) = if self.gs { (0x04, &[0x25]) } else { (0x80 | set.0, &[]) };
        self.asm.buf.extend_from_slice(&[0x48, opcode, mode | reg.0 << 3]);
        self.asm.buf.extend_from_slice(sib);
        self.asm.buf.extend_from_slice(&disp.to_le_bytes());
        if moves {
            self.note(Field::Entry);
        }
    }
}
