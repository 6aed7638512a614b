//! Address spaces and their inline translation caches, kept while other spaces run.
//!
//! A space is one guest root table in one paging shape. Its caches hold only what shadow entries (or paging off)
//! justify, so they stay right across CR3 loads.

use super::shadow::{Dropped, Shape, TableId};
use super::tlb::{self, TlbSet, Used};
use crate::addr::{AddrMap, PAGE_SIZE};

/// Number of address spaces kept.
pub const SPACES: usize = 16;

/// Set index: supervisor accesses, subject to SMAP.
pub(super) const SUPER: usize = 0;
/// Set index: supervisor accesses with EFLAGS.AC.
pub(super) const SUPER_AC: usize = 1;
/// Set index: user accesses.
pub(super) const USER: usize = 2;

/// One address space.
#[derive(Debug)]
pub(crate) struct Space {
    /// Guest-physical address of the root table (0 without paging).
    pub(super) table: u64,
    pub(super) shape: Shape,
    pub(super) root: Option<TableId>,
    sets: [Option<Box<TlbSet>>; 3],
    /// The parts of each set that may hold entries.
    used: [Used; 3],
    /// When it was last selected.
    stamp: u64,
}

impl Space {
    fn new(table: u64, shape: Shape) -> Self {
        Self { table, shape, root: None, sets: [None, None, None], used: [Used::default(); 3], stamp: 0 }
    }

    /// Address of set `i`, made on first use. It is for reading: only [`Spaces::filled`] leads to one to be filled.
    pub(super) fn set(&mut self, i: usize) -> *mut TlbSet {
        &raw mut **self.sets[i].get_or_insert_with(TlbSet::new)
    }

    fn flush(&mut self) {
        for (set, used) in self.sets.iter_mut().zip(&mut self.used) {
            if let Some(set) = set {
                set.flush(std::mem::take(used));
            }
        }
    }
}

/// What [`Spaces::select`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Selected {
    /// It is the current space already.
    Same,
    /// It was kept.
    Kept,
    /// It is new, under this number.
    New(u32),
}

/// The address spaces of one vCPU.
#[derive(Debug)]
pub(crate) struct Spaces {
    list: Vec<Space>,
    current: usize,
    clock: u64,
    /// RAM page index to the write entries that may map it.
    writers: AddrMap<usize, Writers>,
}

/// Where write entries for a RAM page may be: pages are mostly written at one linear address, the same in all spaces.
#[derive(Clone, Copy, Debug)]
struct Writers {
    /// Slot in their sets, or `SEVERAL`.
    slot: u32,
    /// Bit 3 * space + set.
    sets: u64,
}

/// Slots of more than one linear address, in whatever set.
const SEVERAL: u32 = u32::MAX;
const _: () = assert!(SPACES * 3 <= 64);

impl Default for Spaces {
    fn default() -> Self {
        Self {
            list: vec![Space::new(0, Shape::default())],
            current: 0,
            clock: 0,
            writers: AddrMap::default(),
        }
    }
}

impl Spaces {
    /// The space in force.
    #[inline(always)]
    pub(super) fn current(&mut self) -> &mut Space {
        &mut self.list[self.current]
    }

    /// Its number, below [`SPACES`].
    pub(super) fn current_number(&self) -> u32 {
        self.current as u32
    }

    pub(super) fn set_root(&mut self, root: TableId) {
        self.current().root = Some(root);
    }

    /// Makes the space of `table` and `shape` current, evicting the one longest unused if there is no room.
    pub(super) fn select(&mut self, table: u64, shape: Shape) -> Selected {
        self.clock += 1;
        let clock = self.clock;
        let is = |s: &Space| s.table == table && s.shape == shape;
        if is(self.current()) {
            return Selected::Same;
        }
        if let Some(i) = self.list.iter().position(is) {
            self.current = i;
            self.current().stamp = clock;
            return Selected::Kept;
        }
        if self.list.len() < SPACES {
            self.list.push(Space::new(table, shape));
            self.current = self.list.len() - 1;
        } else {
            let oldest = (0..SPACES).min_by_key(|&i| self.list[i].stamp).unwrap_or(0);
            let space = &mut self.list[oldest];
            space.flush();
            space.table = table;
            space.shape = shape;
            space.root = None;
            self.current = oldest;
        }
        self.current().stamp = clock;
        Selected::New(self.current as u32)
    }

    /// Set `i` of the current space, of which `used` is about to be filled.
    #[inline]
    pub(super) fn filled(&mut self, i: usize, used: Used) -> &mut TlbSet {
        let space = &mut self.list[self.current];
        space.used[i] = space.used[i].with(used);
        space.sets[i].get_or_insert_with(TlbSet::new)
    }

    /// Empties every cache.
    pub(super) fn flush(&mut self) {
        self.list.iter_mut().for_each(Space::flush);
    }

    /// Shadow tables have gone: roots have to be looked up anew.
    pub(super) fn forget_roots(&mut self) {
        for space in &mut self.list {
            space.root = None;
        }
    }

    /// Empties what was filled from a cleared shadow entry.
    pub(super) fn forget(&mut self, d: Dropped) {
        /// Ranges up to this many pages are forgotten page by page, larger ones by emptying the caches.
        const PIECEWISE: u64 = 512;
        let pages = if d.shift >= 32 { u64::MAX } else { (1u64 << d.shift) / PAGE_SIZE };
        for (i, space) in self.list.iter_mut().enumerate() {
            if d.spaces & 1 << i == 0 {
                continue;
            }
            if pages > PIECEWISE {
                space.flush();
                continue;
            }
            for set in space.sets.iter_mut().flatten() {
                for page in 0..pages {
                    set.forget(d.lin.wrapping_add(page * PAGE_SIZE));
                }
            }
        }
    }

    /// A write entry for RAM page `index` at host address `host` was filled in set `set`, slot `slot`.
    pub(super) fn note_writer(&mut self, set: usize, slot: usize, host: u64, index: usize) {
        let (slot, bit) = (slot as u32, 1u64 << (self.current * 3 + set));
        let new = Writers { slot, sets: bit };
        let w = self.writers.entry(index).or_insert(new);
        if w.slot == slot {
            w.sets |= bit;
        } else if w.slot != SEVERAL {
            let old = *w;
            let still = tlb::bits(old.sets).any(|n| self.maps(n, old.slot, host));
            self.writers.insert(index, if still { Writers { slot: SEVERAL, ..new } } else { new });
        }
    }

    /// Whether the write entry at `slot` of set `n % 3` of space `n / 3` leads to host address `host`.
    fn maps(&mut self, n: usize, slot: u32, host: u64) -> bool {
        self.entry(n, slot).is_some_and(|e| e.tag.wrapping_add(e.addend) == host)
    }

    fn entry(&mut self, n: usize, slot: u32) -> Option<&mut tlb::TlbEntry> {
        let space = self.list.get_mut(n / 3)?;
        Some(&mut space.sets[n % 3].as_mut()?.write[slot as usize])
    }

    /// Drops every write entry for RAM page `index`, whose first byte is at host address `host`.
    pub(super) fn forget_writes(&mut self, host: u64, index: usize) {
        let Some(w) = self.writers.remove(&index) else { return };
        if w.slot == SEVERAL {
            for space in &mut self.list {
                for (set, used) in space.sets.iter_mut().zip(space.used) {
                    if let Some(set) = set {
                        set.forget_host(used, host);
                    }
                }
            }
            return;
        }
        for n in tlb::bits(w.sets) {
            if self.maps(n, w.slot, host)
                && let Some(e) = self.entry(n, w.slot)
            {
                e.tag = tlb::empty_tag(w.slot as usize);
            }
        }
    }

    /// What was the supervisor's in space `from` is so in the current one too, where `shared` says that both have the
    /// same tables behind a linear address: its translations are taken over. `index` tells the RAM page at a host
    /// address.
    pub(super) fn adopt(&mut self, from: usize, shared: impl Fn(u64) -> bool, index: impl Fn(u64) -> usize) {
        for set in [SUPER, SUPER_AC] {
            let bit = 1u64 << (self.current * 3 + set);
            let used = self.list[from].used[set];
            if from == self.current || used.is_empty() {
                continue;
            }
            let Some(old) = self.list[from].sets[set].take() else { continue };
            let mut writers = std::mem::take(&mut self.writers);
            let space = self.current();
            space.used[set] = space.used[set].with(used);
            let new = space.sets[set].get_or_insert_with(TlbSet::new);
            for i in used.exec() {
                if shared(old.exec[i].tag) {
                    new.exec[i] = old.exec[i];
                }
            }
            for i in used.data() {
                if shared(old.read[i].tag) {
                    new.read[i] = old.read[i];
                }
                let write = old.write[i];
                if shared(write.tag)
                    && let Some(w) = writers.get_mut(&index(write.tag.wrapping_add(write.addend)))
                {
                    w.sets |= bit;
                    new.write[i] = write;
                }
            }
            self.writers = writers;
            self.list[from].sets[set] = Some(old);
        }
    }
}
