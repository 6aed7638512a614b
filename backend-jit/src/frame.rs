//! The block in hand, as the emitter of every host sees it: where it lies, how far the emitter has come in it, and the
//! exits and sites that it has so far.

use crate::JitError;
use crate::cache::{ExitDesc, OwnDoor, Place, Role};
use crate::moves::{Field, Move};
use crate::sidetable::{Last, Recipe, Site};
use dynasmrt::DynamicLabel;
use emu_core::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use emu_core::ir::{Block, BlockKey, Inst};
use emu_core::mmu::tlb::{ExecEntry, TlbSet};
use emu_core::state::Mode;
use std::mem::offset_of;

/// The number of a fetch translation before an exit is linked: no translation has it.
pub const NOT_LINKED: u32 = u32::MAX;

/// Byte offset of the number in fetch entry `index` of a set.
pub const fn exec_id(index: usize) -> usize {
    offset_of!(TlbSet, exec) + index * size_of::<ExecEntry>() + offset_of!(ExecEntry, id)
}

/// An exit stub still to be written.
#[derive(Clone, Copy, Debug)]
pub struct ExitStub {
    /// Where it will be.
    pub label: DynamicLabel,
    /// Index among the block's exits.
    pub exit: usize,
}

/// The thunk to which a predicted return comes, still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// Where it will be.
    pub label: DynamicLabel,
    /// Where it goes.
    pub rip: u64,
}

/// The block in hand. Its memory is reused from block to block.
#[derive(Debug)]
pub struct Frame {
    /// What the block translates.
    pub key: BlockKey,
    /// Offset in guest RAM of its first byte, if it is there.
    pub in_ram: Option<u64>,
    /// RIP of the guest instruction in hand, relative to the block's.
    pub insn_rel: i64,
    /// Its length.
    pub insn_len: u32,
    /// The trace has gone backwards: whatever leaves it may close a loop.
    pub looped: bool,
    /// Guest instructions emitted before the one in hand.
    pub done_insns: u32,
    /// Guest instructions of the whole block.
    pub total_insns: u32,
    /// Exits so far.
    pub exits: Vec<ExitDesc>,
    /// Sites so far.
    pub sites: Vec<Site>,
    /// Places in the code that depend on where it and the guest's lie, if [`Frame::movable`].
    pub moves: Vec<Move>,
    /// Stubs of exits to be written.
    pub exit_stubs: Vec<ExitStub>,
    /// Return thunks to be written.
    pub returns: Vec<Return>,
    /// The block's door, if it begins with one.
    pub door: Option<OwnDoor>,
    /// Number of the block's first exit.
    pub first_exit: u32,
    first_site: u32,
    begun: bool,
    error: Option<JitError>,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            key: BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) },
            in_ram: None,
            insn_rel: 0,
            insn_len: 0,
            looped: false,
            done_insns: 0,
            total_insns: 0,
            exits: Vec::new(),
            sites: Vec::new(),
            moves: Vec::new(),
            exit_stubs: Vec::new(),
            returns: Vec::new(),
            door: None,
            first_exit: 0,
            first_site: 0,
            begun: false,
            error: None,
        }
    }
}

/// How far the emitter has come in a block.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    insn_rel: i64,
    insn_len: u32,
    looped: bool,
    done_insns: u32,
    begun: bool,
}

impl Frame {
    /// How far the emitter has come.
    pub fn mark(&self) -> Mark {
        let Self { insn_rel, insn_len, looped, done_insns, begun, .. } = *self;
        Mark { insn_rel, insn_len, looped, done_insns, begun }
    }

    /// Goes back to where the emitter was.
    pub fn go_back(&mut self, m: Mark) {
        Mark {
            insn_rel: self.insn_rel,
            insn_len: self.insn_len,
            looped: self.looped,
            done_insns: self.done_insns,
            begun: self.begun,
        } = m;
    }

    /// Starts over with `block`, which will lie at `place`.
    pub fn reset(&mut self, block: &Block, place: Place) {
        self.key = block.key;
        self.in_ram = block.ram.map(|page| ((page as u64) << PAGE_SHIFT) + block.key.phys.offset());
        self.insn_rel = 0;
        self.insn_len = 0;
        self.looped = false;
        self.done_insns = 0;
        self.total_insns = block.guest_insns;
        self.exits.clear();
        self.sites.clear();
        self.moves.clear();
        self.exit_stubs.clear();
        self.returns.clear();
        self.door = None;
        self.first_exit = place.first_exit;
        self.first_site = place.first_site;
        self.begun = false;
        self.error = None;
    }

    /// Comes to the guest instruction that marker `inst` begins.
    pub fn begin(&mut self, inst: &Inst) {
        self.done_insns += u32::from(self.begun);
        self.looped |= self.begun && inst.imm <= self.insn_rel;
        self.begun = true;
        self.insn_rel = inst.imm;
        self.insn_len = inst.aux;
    }

    /// RIP at `rel` from the block's, as wide as the mode has it.
    pub fn rip(&self, rel: i64) -> u64 {
        let rip = self.key.rip.wrapping_add(rel as u64);
        if self.key.mode.contains(Mode::CODE64) { rip } else { rip & 0xffff_ffff }
    }

    /// Offset in guest RAM of what an [`emu_core::ir::Op::CodeWord`] reads.
    pub fn word_at(&mut self, inst: &Inst) -> u64 {
        if self.in_ram.is_none() {
            self.unsupported("a block that reads its own code, which is not in RAM");
        }
        self.in_ram.unwrap_or(0).wrapping_add(inst.imm as u64)
    }

    /// Whether `rip` lies in the block's first page.
    pub fn same_page(&self, rip: u64) -> bool {
        let at = self.key.phys.offset().wrapping_add(rip.wrapping_sub(self.key.rip));
        at < PAGE_SIZE
    }

    /// Whether the block may be wanted at another RIP: 64-bit code of user programs.
    pub fn movable(&self) -> bool {
        self.key.mode.contains(Mode::CODE64 | Mode::FLAT) && self.key.mode.cpl() == 3
    }

    /// Notes that `field` ends at byte `end` of the code.
    pub fn note(&mut self, field: Field, end: usize) {
        if self.movable() {
            let size = if field == Field::Pc64 { 8 } else { 4 };
            self.moves.push(Move::new(field, end - size));
        }
    }

    /// Whether the block's segments start at 0.
    pub fn flat(&self) -> bool {
        self.key.mode.contains(Mode::FLAT)
    }

    /// Whether a jump to relative RIP `rel` may close a loop. RIP wraps in 32-bit code, so that a jump ahead may be one back.
    pub fn back(&self, rel: i64) -> bool {
        self.rip(rel) <= self.rip(self.insn_rel) || self.looped
    }

    /// A new exit to `rip` by way of a stub at `label`: its index.
    pub fn exit(&mut self, rip: u64, role: Role, label: DynamicLabel) -> usize {
        let exit = self.exits.len();
        self.exits.push(ExitDesc { rip, patch: None, guard: None, stub: 0, role });
        self.exit_stubs.push(ExitStub { label, exit });
        exit
    }

    /// Number of a new site for the guest instruction in hand.
    pub fn site(&mut self, flags: Option<Recipe>, x87: Option<Last>) -> u32 {
        let n = self.first_site + self.sites.len() as u32;
        let site =
            Site { rip: self.rip(self.insn_rel), undo: self.total_insns - self.done_insns, flags, x87 };
        // Consecutive sites of one instruction are the same facts.
        if self.sites.last() == Some(&site) {
            return n - 1;
        }
        self.sites.push(site);
        n
    }

    /// A bug: the block will be refused rather than run.
    pub fn fail(&mut self, what: &'static str) {
        self.error.get_or_insert(JitError::Internal(what));
    }

    /// Something is not built: the block will be refused.
    pub fn unsupported(&mut self, what: &'static str) {
        self.error.get_or_insert(JitError::Unsupported(what));
    }

    /// Whether something was wrong so far.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// What was wrong so far.
    ///
    /// # Errors
    /// The first of [`Self::fail`] and [`Self::unsupported`].
    pub fn check(&mut self) -> Result<(), JitError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ahead_that_wraps_may_close_a_loop() {
        let mut frame = Frame::default();
        frame.key.rip = 0xc000_0000;
        frame.key.mode = Mode(Mode::CODE32 | Mode::PROT | Mode::FLAT);
        assert!(!frame.back(0x3fff_ffff) && frame.back(0x4000_0000) && frame.back(0) && frame.back(-1));
        frame.key.mode = Mode(Mode::CODE64 | Mode::LMA | Mode::PROT | Mode::FLAT);
        assert!(!frame.back(0x4000_0000) && frame.back(-1));
    }
}
