//! What jumps to computed places look up: for each mode a jump cache and, where calls are not the host's own
//! (`host::RETURN_RING`), a stack of predicted returns.
//!
//! A jump-cache entry is (RIP, number of the fetch translation, code); a hit needs both, so entries stay good across
//! address spaces, and nothing is cleared when translations change. Modes have sets of their own, because translated
//! code looks only into the set of the mode it runs in.
//!
//! The stack of returns is a ring of 4096 entries that begins at a multiple of its size, so that adding to the low 16
//! bits of its pointer wraps. An entry is the RIP behind a call and the host address of the call's return thunk, which
//! checks for itself that the place behind the call is still what it was linked to. An empty entry leads out.
//!
//! Invariant: every host address in a ring is that of a return thunk in the arena or of the way out; thunks of removed
//! blocks lead to their stubs, and a flush of the arena empties the rings.

use crate::frame::exec_id;
use emu_core::mmu::tlb;
use emu_core::state::Mode;
use std::mem::offset_of;

/// Number of jump-cache entries.
pub const JUMP_SLOTS: usize = 16384;
/// Number of entries of the ring of returns: with 16 bytes each, the low 16 bits of a pointer name the entry.
const RETURNS: usize = 4096;
/// Most modes with a set; a further one takes the place of the oldest.
const SETS: usize = 24;

/// Slot of the jump cache for `rip`.
pub const fn jump_index(rip: u64) -> usize {
    (rip ^ rip >> 12) as usize & (JUMP_SLOTS - 1)
}

/// One entry of the jump cache, as translated code reads it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct JumpEntry {
    rip: u64,
    /// Number of the fetch translation it is good for.
    exec: u32,
    /// Arena offset of the block's entry.
    code: u32,
    /// Host address of the block's entry.
    host: u64,
    /// Offset in a set of the inline cache of the number to compare with `exec`.
    page: u32,
}

impl JumpEntry {
    /// Byte offset of the host address.
    pub const HOST: i32 = offset_of!(Self, host) as i32;
    /// Byte offset of the number's.
    pub const EXEC: i32 = offset_of!(Self, exec) as i32;
    /// Byte offset of its place in the inline cache.
    pub const PAGE: i32 = offset_of!(Self, page) as i32;
}

/// No fetch translation has this number.
const NEVER: u32 = u32::MAX;
const EMPTY: JumpEntry = JumpEntry { rip: 0, exec: NEVER, code: 0, host: 0, page: exec_id(0) as u32 };

/// One predicted return.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct Return {
    rip: u64,
    host: u64,
}

#[derive(Debug)]
struct JumpSet {
    mode: Mode,
    jumps: Box<[JumpEntry]>,
    /// Twice the ring, so that an aligned one is in it.
    returns: Box<[Return]>,
    /// Pointer to the newest return.
    top: u64,
}

impl JumpSet {
    fn ring(&self) -> u64 {
        let bytes = (RETURNS * size_of::<Return>()) as u64;
        (self.returns.as_ptr() as u64).next_multiple_of(bytes)
    }
}

/// The sets of all modes.
#[derive(Debug, Default)]
pub struct Jumps {
    sets: Vec<JumpSet>,
    oldest: usize,
    /// Host address that leaves translated code for the RIP in the accumulator.
    way_out: u64,
}

impl Jumps {
    /// No sets; empty returns lead to host address `way_out`.
    pub fn new(way_out: u64) -> Self {
        Self { sets: Vec::new(), oldest: 0, way_out }
    }

    /// The set of `mode`, made if there is none.
    pub fn select(&mut self, mode: Mode) -> usize {
        if let Some(i) = self.sets.iter().position(|s| s.mode == mode) {
            return i;
        }
        let none = Return { rip: 0, host: self.way_out };
        if self.sets.len() < SETS {
            let mut set = JumpSet {
                mode,
                jumps: vec![EMPTY; JUMP_SLOTS].into(),
                returns: vec![none; if crate::host::RETURN_RING { 2 * RETURNS } else { 0 }].into(),
                top: 0,
            };
            set.top = set.ring();
            self.sets.push(set);
            return self.sets.len() - 1;
        }
        let i = self.oldest;
        self.oldest = (i + 1) % SETS;
        let set = &mut self.sets[i];
        set.mode = mode;
        set.jumps.fill(EMPTY);
        set.returns.fill(none);
        i
    }

    /// Host addresses of set `i`'s jump cache and newest return.
    pub fn places(&self, i: usize) -> (u64, u64) {
        let set = &self.sets[i];
        (set.jumps.as_ptr() as u64, set.top)
    }

    /// Keeps where translated code left the ring of set `i`.
    pub fn returned(&mut self, i: usize, top: u64) {
        self.sets[i].top = top;
    }

    /// Lets jumps in set `i` to `rip` find `code`, which lies at host address `host`, while its fetch translation is `exec`.
    pub fn remember(&mut self, i: usize, rip: u64, exec: u32, code: usize, host: *const u8) {
        if exec != 0 {
            let page = exec_id(tlb::index(rip)) as u32;
            let entry = JumpEntry { rip, exec, code: code as u32, host: host as u64, page };
            self.sets[i].jumps[jump_index(rip)] = entry;
        }
    }

    /// Arena offset of the code that set `i` has for `rip` under fetch translation `exec`.
    pub fn find(&self, i: usize, rip: u64, exec: u32) -> Option<usize> {
        let e = &self.sets[i].jumps[jump_index(rip)];
        (exec != 0 && e.rip == rip && e.exec == exec).then_some(e.code as usize)
    }

    /// The block at `rip` and arena offset `code` has gone.
    pub fn forget(&mut self, mode: Mode, rip: u64, code: usize) {
        if let Some(set) = self.sets.iter_mut().find(|s| s.mode == mode) {
            let e = &mut set.jumps[jump_index(rip)];
            if e.rip == rip && e.code as usize == code {
                *e = EMPTY;
            }
        }
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        let none = Return { rip: 0, host: self.way_out };
        for set in &mut self.sets {
            set.jumps.fill(EMPTY);
            set.returns.fill(none);
        }
    }
}
