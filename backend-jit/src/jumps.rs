//! What jumps to computed places look up: for each mode a table of doors and, where calls are not the host's own
//! (`host::RETURN_RING`), a stack of predicted returns.
//!
//! A *door* is a piece of host code, of the arena, before a block that computed jumps have come to. It compares the
//! wanted RIP and the number of that page's fetch translation with those that it was made for, and goes on to its block or
//! leaves. The table has its address at some low bits of its RIP, so a jump is one load and one indirect branch,
//! and who comes to a wrong door finds out there. Doors stay good across address spaces, and nothing is cleared when
//! translations change. Modes have tables of their own, because translated code looks only into that of the mode it
//! runs in. All tables lie in one region, which begins with one that leads out everywhere: where a request to the vCPU changes
//! the address of the table (`emu_core::signals`), a jump by it needs no poll.
//!
//! Beside it stand the places by which [`crate::Jit::resume`] finds code: (RIP, number of the fetch translation, code).
//!
//! The stack of returns is a ring of 4096 entries, empty whenever translated code is entered. It grows down, from an entry
//! above it that nothing is written to and that leads out: who has taken the last prediction finds that one. It begins at
//! an odd multiple of its size, so that setting [`RING_BIT`] brings a pointer that has just left it below to its top; that
//! last entry, below the ring, is lost. An entry is the RIP behind a call and the host address of the call's return
//! thunk.
//!
//! Invariants: every host address in a table is that of a live block's door or of the way out: blocks that are removed take
//! their doors with them. What has been written to a ring is read in the same stay in translated code alone, and blocks are
//! removed between such stays.

use emu_core::signals::MARK_REGION;
use emu_core::state::Mode;
use std::cell::Cell;

/// The bits of a RIP that choose a door: a multiple of 4. Its place in the table is twice as far in bytes.
pub const DOOR_BITS: u32 = 0x3fffc;
const DOORS: usize = DOOR_BITS as usize / 4 + 1;
/// Number of places by which code is found.
const PLACES: usize = 8192;
/// Number of entries of the ring of returns.
const RETURNS: usize = 4096;
/// A bit that is set in every pointer into the ring, and clear right below it: its size in bytes.
pub const RING_BIT: u64 = (RETURNS * size_of::<Return>()) as u64;
/// Entries that have a ring among them, with one below it and one above, wherever they begin.
const ROOM: usize = 3 * RETURNS + 2;
/// Most modes with a set; a further one takes the place of the oldest.
const SETS: usize = 24;

/// Doors in the region of all tables.
const REGION: usize = MARK_REGION as usize / 8;
const _: () = assert!((SETS + 1) * DOORS <= REGION);

/// Where in a table of doors the one for `rip` stands.
pub const fn door_index(rip: u64) -> usize {
    (rip as usize & DOOR_BITS as usize) / 4
}

const fn place_index(rip: u64) -> usize {
    (rip ^ rip >> 12) as usize & (PLACES - 1)
}

/// Code at a RIP.
#[derive(Clone, Copy, Debug)]
struct Place {
    rip: u64,
    /// Number of the fetch translation it is good for.
    exec: u32,
    /// Arena offset of the block's entry.
    code: u32,
}

/// No fetch translation has this number.
const NEVER: u32 = u32::MAX;
const EMPTY: Place = Place { rip: 0, exec: NEVER, code: 0 };

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
    places: Box<[Place]>,
    /// [`ROOM`] entries.
    returns: Box<[Return]>,
}

impl JumpSet {
    fn empty(&mut self, no_return: u64) {
        self.places.fill(EMPTY);
        self.returns.fill(Return { rip: 0, host: no_return });
    }

    /// Pointer to the entry above the ring.
    fn no_returns(&self) -> u64 {
        let below = size_of::<Return>() as u64;
        let at = self.returns.as_ptr() as u64 + below;
        // The next odd multiple of the size, and the ring above that.
        (at.saturating_sub(RING_BIT)).next_multiple_of(2 * RING_BIT) + 2 * RING_BIT
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
    /// Host address of its doors.
    doors: Cell<u64>,
    /// Pointer to the entry above its ring of returns: there are none.
    returns: Cell<u64>,
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
        let none = |_| Near {
            mode: Cell::new(NO_MODE),
            set: Cell::new(0),
            doors: Cell::new(0),
            returns: Cell::new(0),
        };
        Self { near: std::array::from_fn(none), current: Cell::new(0), next: Cell::new(0) }
    }
}

impl Switch {
    #[inline]
    fn find(&self, mode: Mode) -> Option<usize> {
        let current = self.current.get();
        if self.near[current].mode.get() == mode.0 {
            return Some(current);
        }
        self.near.iter().position(|n| n.mode.get() == mode.0)
    }

    /// Puts the set of `mode` in force, whose doors and empty ring of returns are the result. None, and nothing has
    /// happened, if the set is not at hand.
    pub fn to(&self, mode: Mode) -> Option<(u64, u64)> {
        let i = self.find(mode)?;
        self.current.set(i);
        Some((self.near[i].doors.get(), self.near[i].returns.get()))
    }
}

/// The tables of doors: host addresses.
#[derive(Debug)]
struct Doors {
    /// Room for a region wherever it begins, of which only what is used takes memory.
    room: Box<[u64]>,
}

impl Doors {
    /// The table that leads to `way_out` everywhere, where jumps may go by it, and no other.
    fn new(way_out: u64) -> Self {
        let mut this = Self { room: vec![0; 2 * REGION].into() };
        // On x86 hosts a request is seen elsewhere.
        if cfg!(not(target_arch = "x86_64")) {
            this.table(0).fill(way_out);
        }
        this
    }

    /// Table `n`; that of set `i` is the one behind it.
    fn table(&mut self, n: usize) -> &mut [u64] {
        let at = self.room.as_ptr() as u64;
        let start = (at.next_multiple_of(MARK_REGION) - at) as usize / 8;
        &mut self.room[start + n * DOORS..][..DOORS]
    }

    fn of_set(&mut self, i: usize) -> &mut [u64] {
        self.table(i + 1)
    }
}

/// The sets of all modes.
#[derive(Debug)]
pub struct Jumps {
    doors: Doors,
    sets: Vec<JumpSet>,
    switch: Box<Switch>,
    oldest: usize,
    /// Host address that leaves translated code for the RIP in the accumulator.
    way_out: u64,
    /// Host address that leaves for RIP 0: what an empty ring returns to.
    no_return: u64,
}

impl Jumps {
    /// No sets; where there is no door, host address `way_out` stands, and where no return is predicted, RIP 0 and
    /// `no_return`.
    pub fn new(way_out: u64, no_return: u64) -> Self {
        let doors = Doors::new(way_out);
        Self { doors, sets: Vec::new(), switch: Box::default(), oldest: 0, way_out, no_return }
    }

    /// The set of `mode`, made if there is none.
    #[inline]
    pub fn select(&mut self, mode: Mode) -> usize {
        match self.switch.find(mode) {
            Some(n) => self.switch.near[n].set.get(),
            None => self.bring(mode),
        }
    }

    #[cold]
    fn bring(&mut self, mode: Mode) -> usize {
        if let Some(i) = self.sets.iter().position(|s| s.mode == mode) {
            return i;
        }
        if self.sets.len() < SETS {
            let none = Return { rip: 0, host: self.no_return };
            let set = JumpSet {
                mode,
                places: vec![EMPTY; PLACES].into(),
                returns: vec![none; if crate::host::RETURN_RING { ROOM } else { 0 }].into(),
            };
            self.doors.of_set(self.sets.len()).fill(self.way_out);
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
        set.empty(self.no_return);
        self.doors.of_set(i).fill(self.way_out);
        i
    }

    /// Puts set `i` in force; host addresses of its doors, its empty ring of returns and the switch.
    #[inline]
    pub fn enter(&mut self, i: usize) -> (u64, u64, u64) {
        let near = &self.switch.near[self.switch.current.get()];
        if near.set.get() != i || near.mode.get() == NO_MODE {
            self.change_to(i);
        }
        let switch = &*self.switch;
        let near = &switch.near[switch.current.get()];
        (near.doors.get(), near.returns.get(), &raw const *switch as u64)
    }

    #[cold]
    fn change_to(&mut self, i: usize) {
        let doors = self.doors.of_set(i).as_ptr() as u64;
        let set = &self.sets[i];
        let switch = &*self.switch;
        let n = switch.find(set.mode).unwrap_or_else(|| {
            let n = switch.next.get();
            switch.next.set((n + 1) % NEAR);
            let near = &switch.near[n];
            let set = &self.sets[i];
            near.mode.set(set.mode.0);
            near.set.set(i);
            near.doors.set(doors);
            near.returns.set(set.no_returns());
            n
        });
        switch.current.set(n);
    }

    /// In set `i`, `code` is found at `rip` while its fetch translation is `exec`.
    pub fn remember(&mut self, i: usize, rip: u64, exec: u32, code: usize) {
        if exec != 0 {
            self.sets[i].places[place_index(rip)] = Place { rip, exec, code: code as u32 };
        }
    }

    /// Lets computed jumps in set `i` to `rip` come to the door at host address `door`.
    pub fn open(&mut self, i: usize, rip: u64, door: u64) {
        self.doors.of_set(i)[door_index(rip)] = door;
    }

    /// Arena offset of the code that set `i` has for `rip` under fetch translation `exec`.
    #[inline]
    pub fn find(&self, i: usize, rip: u64, exec: u32) -> Option<usize> {
        let e = &self.sets[i].places[place_index(rip)];
        (exec != 0 && e.rip == rip && e.exec == exec).then_some(e.code as usize)
    }

    /// The block at `rip` and arena offset `code` has gone, and its door with it.
    pub fn forget(&mut self, mode: Mode, rip: u64, code: usize, door: Option<u64>) {
        if let Some(i) = self.sets.iter().position(|s| s.mode == mode) {
            let place = &mut self.sets[i].places[place_index(rip)];
            if place.rip == rip && place.code as usize == code {
                *place = EMPTY;
            }
            let open = &mut self.doors.of_set(i)[door_index(rip)];
            if Some(*open) == door {
                *open = self.way_out;
            }
        }
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        for (i, set) in self.sets.iter_mut().enumerate() {
            set.empty(self.no_return);
            self.doors.of_set(i).fill(self.way_out);
        }
    }
}
