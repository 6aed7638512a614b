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
use std::cell::Cell;
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
    page: u64,
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
const EMPTY: JumpEntry = JumpEntry { rip: 0, exec: NEVER, code: 0, host: 0, page: exec_id(0) as u64 };

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

/// Modes that translated code can change between by itself.
const NEAR: usize = 4;
/// No mode has these bits.
const NO_MODE: u32 = u32::MAX;

/// One set that translated code finds by itself.
#[derive(Debug)]
struct Near {
    mode: Cell<u32>,
    set: Cell<usize>,
    /// Host address of its jump cache.
    jumps: Cell<u64>,
    /// Host address of its newest return, good while the set is here and not in force.
    top: Cell<u64>,
}

/// The sets that were in force last: between them translated code changes without coming back.
#[derive(Debug)]
pub struct Switch {
    near: [Near; NEAR],
    /// Which of them is in force.
    current: Cell<usize>,
    /// Which of them goes next.
    next: Cell<usize>,
}

impl Default for Switch {
    fn default() -> Self {
        let none =
            |_| Near { mode: Cell::new(NO_MODE), set: Cell::new(0), jumps: Cell::new(0), top: Cell::new(0) };
        Self { near: std::array::from_fn(none), current: Cell::new(0), next: Cell::new(0) }
    }
}

impl Switch {
    fn find(&self, mode: Mode) -> Option<usize> {
        let current = self.current.get();
        if self.near[current].mode.get() == mode.0 {
            return Some(current);
        }
        self.near.iter().position(|n| n.mode.get() == mode.0)
    }

    /// Puts the set of `mode` in force, whose jump cache and newest return are the result; `top` is the newest return of
    /// the one that was. None, and nothing has happened, if the set is not at hand.
    pub fn to(&self, mode: Mode, top: u64) -> Option<(u64, u64)> {
        let i = self.find(mode)?;
        self.near[self.current.get()].top.set(top);
        self.current.set(i);
        Some((self.near[i].jumps.get(), self.near[i].top.get()))
    }
}

/// The sets of all modes.
#[derive(Debug, Default)]
pub struct Jumps {
    sets: Vec<JumpSet>,
    switch: Box<Switch>,
    oldest: usize,
    /// Host address that leaves translated code for the RIP in the accumulator.
    way_out: u64,
}

impl Jumps {
    /// No sets; empty returns lead to host address `way_out`.
    pub fn new(way_out: u64) -> Self {
        Self { sets: Vec::new(), switch: Box::default(), oldest: 0, way_out }
    }

    /// The set of `mode`, made if there is none.
    pub fn select(&mut self, mode: Mode) -> usize {
        if let Some(n) = self.switch.find(mode) {
            return self.switch.near[n].set.get();
        }
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
        for n in self.switch.near.iter().filter(|n| n.set.get() == i) {
            n.mode.set(NO_MODE);
        }
        let set = &mut self.sets[i];
        set.mode = mode;
        set.jumps.fill(EMPTY);
        set.returns.fill(none);
        i
    }

    /// Puts set `i` in force; host addresses of its jump cache, its newest return and the switch.
    pub fn enter(&mut self, i: usize) -> (u64, u64, u64) {
        let set = &self.sets[i];
        let switch = &*self.switch;
        let n = switch.find(set.mode).unwrap_or_else(|| {
            let n = switch.next.get();
            switch.next.set((n + 1) % NEAR);
            let near = &switch.near[n];
            if near.mode.get() != NO_MODE {
                self.sets[near.set.get()].top = near.top.get();
            }
            let set = &self.sets[i];
            near.mode.set(set.mode.0);
            near.set.set(i);
            near.jumps.set(set.jumps.as_ptr() as u64);
            near.top.set(set.top);
            n
        });
        switch.current.set(n);
        let near = &switch.near[n];
        (near.jumps.get(), near.top.get(), &raw const *switch as u64)
    }

    /// Keeps where translated code left the ring of the set in force.
    pub fn left(&mut self, top: u64) {
        self.switch.near[self.switch.current.get()].top.set(top);
    }

    /// Lets jumps in set `i` to `rip` find `code`, which lies at host address `host`, while its fetch translation is `exec`.
    pub fn remember(&mut self, i: usize, rip: u64, exec: u32, code: usize, host: *const u8) {
        if exec != 0 {
            let page = exec_id(tlb::index(rip)) as u32;
            let entry = JumpEntry { rip, exec, code: code as u32, host: host as u64, page: page.into() };
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
