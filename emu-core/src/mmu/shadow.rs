//! Shadow page tables: from guest-linear addresses straight to what lies behind them.
//!
//! A shadow [`Table`] mirrors one guest paging structure as seen at one linear base. Its entries are filled when a
//! walk of the guest's tables succeeds, and cleared when the guest stores to the entry they were made from: the
//! guest page is *tracked* ([`page::TABLE`](crate::mem::page::TABLE)), so that every store to it takes the slow path
//! and ends in [`Shadow::entry_written`]. Tables are shared between address spaces as the guest shares its own (the
//! kernel half of every process is one set of tables), and stay when the guest loads CR3.
//!
//! Invariant: a present shadow entry equals what a walk of the guest's tables would give now, accessed bit set. So
//! CR3 loads, INVLPG and INVPCID need to drop nothing for correctness, and translation caches filled from a shadow
//! entry are emptied when it is cleared.
//! Invariant: memory is bounded by [`MAX_TABLES`]; beyond it everything is dropped and built anew.

use super::walk::{Leaf, Path};
use crate::addr::{AddrMap, PAGE_SHIFT, PhysAddr};

/// Most shadow tables kept, at 4 KiB (8 KiB for 32-bit paging) each.
pub const MAX_TABLES: usize = 8192;
/// Stores to a tracked page without a fill through it, after which the page is taken for data.
const FLOOD: u32 = 48;

/// Names a shadow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TableId(u32);

/// The shape of the guest's paging: what decides how its tables are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Shape {
    /// Number of levels: 0 without paging, 2, 3, 4 or 5.
    pub levels: u8,
    /// EFER.NXE.
    pub nxe: bool,
    /// CR4.PSE (2-level paging only).
    pub pse: bool,
    /// CR4.PGE.
    pub pge: bool,
}

impl Shape {
    /// Address bits that one level decides.
    pub const fn width(self) -> u32 {
        if self.levels == 2 { 10 } else { 9 }
    }

    /// log2 of the bytes that one entry of a table at `level` (1 = leaf tables) covers.
    pub const fn shift(self, level: u8) -> u32 {
        PAGE_SHIFT + self.width() * (level as u32 - 1)
    }

    /// Index of the entry for `lin` in a table at `level`.
    pub const fn index(self, lin: u64, level: u8) -> usize {
        (lin >> self.shift(level)) as usize & ((1 << self.width()) - 1)
    }

    const fn entry_bytes(self) -> u64 {
        if self.levels == 2 { 4 } else { 8 }
    }
}

/// What a table mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Key {
    /// Guest-physical address of the table's first entry.
    table: u64,
    level: u8,
    shape: Shape,
    /// First linear address it translates.
    base: u64,
    /// Rights that the entries above leave, as in [`Path::rights`]: they are part of what its pages' entries say.
    rights: u8,
}

/// Rights above a root table: all.
pub const ALL_RIGHTS: u8 = 7;

/// A shadow entry, packed: empty (0), a table, or a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry(u64);

impl Entry {
    const PAGE: u64 = 1;
    const TABLE: u64 = 2;
    const USER: u64 = 1 << 2;
    const WRITABLE: u64 = 1 << 3;
    const EXECUTABLE: u64 = 1 << 4;
    const GLOBAL: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;
    /// A fetch translation has been handed out.
    const FETCHED: u64 = 1 << 7;
    const SHIFT_AT: u32 = 52;
    const KEY_AT: u32 = 60;
    const ADDR: u64 = ((1 << 52) - 1) & !0xfff;

    fn page(leaf: &Leaf) -> Self {
        let flag = |on: bool, bit| if on { bit } else { 0 };
        Self(
            Self::PAGE
                | flag(leaf.user, Self::USER)
                | flag(leaf.writable, Self::WRITABLE)
                | flag(leaf.executable, Self::EXECUTABLE)
                | flag(leaf.global, Self::GLOBAL)
                | flag(leaf.dirty, Self::DIRTY)
                | (leaf.gpa.0 >> leaf.shift << leaf.shift) & Self::ADDR
                | u64::from(leaf.shift) << Self::SHIFT_AT
                | u64::from(leaf.key) << Self::KEY_AT,
        )
    }

    fn table(id: TableId) -> Self {
        Self(Self::TABLE | u64::from(id.0) << 12)
    }

    fn as_table(self) -> Option<TableId> {
        (self.0 & Self::TABLE != 0).then_some(TableId((self.0 >> 12) as u32))
    }

    /// The page it maps, as a walk for `lin` would report it.
    fn leaf(self, lin: u64) -> Option<Leaf> {
        let shift = (self.0 >> Self::SHIFT_AT) as u32 & 63;
        (self.0 & Self::PAGE != 0).then(|| Leaf {
            gpa: PhysAddr(self.0 & Self::ADDR | lin & ((1 << shift) - 1)),
            shift,
            user: self.0 & Self::USER != 0,
            writable: self.0 & Self::WRITABLE != 0,
            executable: self.0 & Self::EXECUTABLE != 0,
            global: self.0 & Self::GLOBAL != 0,
            dirty: self.0 & Self::DIRTY != 0,
            key: (self.0 >> Self::KEY_AT) as u8 & 15,
        })
    }
}

#[derive(Debug)]
struct Table {
    key: Key,
    entries: Box<[Entry]>,
    /// Bit i: address space i may have filled its caches through this table.
    spaces: u32,
    /// Stores to the guest table since an entry was last filled.
    writes: u32,
    /// Entries of other tables that may point here.
    parents: Vec<(TableId, u16)>,
}

/// What has to be dropped from translation caches after a shadow entry was cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// First linear address.
    pub lin: u64,
    /// log2 of the length in bytes.
    pub shift: u32,
    /// Address spaces concerned, by bit.
    pub spaces: u32,
    /// A fetch translation may have been among them.
    pub fetched: bool,
}

/// A walk's result.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The translation.
    pub leaf: &'a Leaf,
    /// The guest's tables on the way.
    pub path: &'a Path,
    /// It was for a fetch.
    pub fetch: bool,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShadowStats {
    /// Misses of the inline cache answered by a shadow entry.
    pub hits: u64,
    /// Entries filled from a walk.
    pub fills: u64,
    /// Stores to tracked guest tables.
    pub writes: u64,
    /// Entries cleared by such stores.
    pub cleared: u64,
    /// Guest tables taken for data again.
    pub floods: u64,
    /// Times everything was dropped for lack of room.
    pub overflows: u64,
}

/// Slots of [`Shadow::recent`].
const RECENT: usize = 256;

/// The leaf table that a lookup has reached: what the way there said holds as long as the version is the same.
#[derive(Clone, Copy, Debug)]
struct Recent {
    version: u64,
    root: TableId,
    space: u32,
    /// The linear address above what the table translates.
    region: u64,
    leaf: TableId,
}

/// All shadow tables of one vCPU.
#[derive(Debug, Default)]
pub struct Shadow {
    /// By hash of root and region.
    recent: Vec<Recent>,
    /// Changes whenever a table may no longer be reached as it was, or a mark of a space has gone.
    version: u64,
    tables: Vec<Table>,
    free: Vec<TableId>,
    by_key: AddrMap<Key, TableId>,
    /// Guest page number to the tables made from it; pages without a table are ready to have some.
    pub(super) by_page: AddrMap<u64, Vec<TableId>>,
    /// Counters.
    pub stats: ShadowStats,
}

impl Shadow {
    fn table(&mut self, id: TableId) -> &mut Table {
        &mut self.tables[id.0 as usize]
    }

    /// The table that mirrors guest table `table`, made if there is none; None when there is no room. The second
    /// value is the guest page that has to be tracked from now on, if it was not before.
    pub fn table_for(
        &mut self,
        table: u64,
        level: u8,
        shape: Shape,
        lin: u64,
        rights: u8,
    ) -> Option<(TableId, Option<PhysAddr>)> {
        let span = shape.shift(level) + shape.width();
        let base = if span >= 64 { 0 } else { lin >> span << span };
        let key = Key { table, level, shape, base, rights };
        if let Some(&id) = self.by_key.get(&key) {
            return Some((id, None));
        }
        let entries = vec![Entry::default(); 1 << shape.width()].into_boxed_slice();
        let new = Table { key, entries, spaces: 0, writes: 0, parents: Vec::new() };
        let id = match self.free.pop() {
            Some(id) => {
                *self.table(id) = new;
                id
            }
            None if self.tables.len() < MAX_TABLES => {
                self.tables.push(new);
                TableId(self.tables.len() as u32 - 1)
            }
            None => return None,
        };
        self.by_key.insert(key, id);
        let list = self.by_page.entry(table >> PAGE_SHIFT).or_default();
        list.push(id);
        Some((id, (list.len() == 1).then_some(PhysAddr(table).page_base())))
    }

    /// What the shadow has for `lin` below `root`, marking the tables on the way as used by `space`.
    pub fn lookup(&mut self, root: TableId, shape: Shape, lin: u64, space: u32, fetch: bool) -> Option<Leaf> {
        let region = lin >> (shape.shift(1) + shape.width());
        let slot = (region ^ u64::from(root.0).wrapping_mul(37)) as usize % RECENT;
        let mut id = root;
        let mut top = shape.levels;
        if let Some(r) = self.recent.get(slot)
            && (r.version, r.root, r.space, r.region) == (self.version, root, space, region)
        {
            (id, top) = (r.leaf, 1);
        }
        for level in (1..=top).rev() {
            let table = &mut self.tables[id.0 as usize];
            table.spaces |= 1 << space;
            if level == 1 && top != 1 {
                let none = Recent { version: u64::MAX, root, space, region, leaf: id };
                self.recent.resize(RECENT, none);
                self.recent[slot] = Recent { version: self.version, ..none };
            }
            let entry = &mut table.entries[shape.index(lin, level)];
            match entry.as_table() {
                Some(next) => id = next,
                None => {
                    let leaf = entry.leaf(lin)?;
                    if fetch {
                        entry.0 |= Entry::FETCHED;
                    }
                    return Some(leaf);
                }
            }
        }
        None
    }

    /// Enters what a walk found. Pages to be tracked are added to `track`; false when there was no room, in which
    /// case the caller drops everything and tries again.
    pub fn insert(
        &mut self,
        root: TableId,
        shape: Shape,
        lin: u64,
        space: u32,
        found: Found<'_>,
        track: &mut Vec<PhysAddr>,
    ) -> bool {
        let Found { leaf, path, fetch } = found;
        self.stats.fills += 1;
        let mut id = root;
        for level in (1..=shape.levels).rev() {
            let index = shape.index(lin, level);
            let table = self.table(id);
            table.spaces |= 1 << space;
            table.writes = 0;
            let last = usize::from(shape.levels - level) + 1 == path.len;
            if last {
                let old = std::mem::replace(&mut table.entries[index], Entry::page(leaf));
                if fetch {
                    table.entries[index].0 |= Entry::FETCHED;
                }
                self.version += u64::from(old.as_table().is_some());
                return true;
            }
            let below = usize::from(shape.levels - level) + 1;
            match self.table_for(path.tables[below], level - 1, shape, lin, path.rights[below]) {
                Some((next, page)) => {
                    track.extend(page);
                    self.link(id, index, next);
                    id = next;
                }
                None => return false,
            }
        }
        true
    }

    /// Lets entry `index` of `id` lead to `next`.
    fn link(&mut self, id: TableId, index: usize, next: TableId) {
        let link = Entry::table(next);
        if self.table(id).entries[index] == link {
            return;
        }
        let old = std::mem::replace(&mut self.table(id).entries[index], link);
        self.version += u64::from(old.as_table().is_some());
        let mut parents = std::mem::take(&mut self.table(next).parents);
        if parents.len() >= 64 && parents.len().is_power_of_two() {
            // Those that lead elsewhere by now.
            parents.retain(|&(t, i)| self.tables[t.0 as usize].entries.get(usize::from(i)) == Some(&link));
        }
        parents.push((id, index as u16));
        self.table(next).parents = parents;
    }

    /// The table that mirrors the root table at `table`, if there is one.
    pub fn root_of(&self, table: u64, shape: Shape) -> Option<TableId> {
        let key = Key { table, level: shape.levels, shape, base: 0, rights: ALL_RIGHTS };
        self.by_key.get(&key).copied()
    }

    /// Lets entries of the upper half of `root`, a new root table, lead where those of `from` do, if `same` says of an
    /// index that the guest's entries are equal. `spaces` are the numbers of the spaces of `root` and of `from`: what is
    /// cached in the second may be cached in the first from now on. The result has a bit for each index.
    pub fn adopt(
        &mut self,
        root: TableId,
        from: TableId,
        spaces: (u32, u32),
        mut same: impl FnMut(usize) -> bool,
    ) -> [u64; 4] {
        let mut shared = [0; 4];
        let (shape, half) = (self.table(from).key.shape, 256);
        for i in half..2 * half {
            let Some(next) = self.table(from).entries[i].as_table() else { continue };
            if same(i) {
                self.link(root, i, next);
                shared[(i - half) / 64] |= 1 << (i % 64);
            }
        }
        self.table(root).spaces |= 1 << spaces.0;
        for t in self.tables.iter_mut().filter(|t| t.spaces & 1 << spaces.1 != 0) {
            let i = shape.index(t.key.base, shape.levels);
            if i >= half && shared[(i - half) / 64] & 1 << (i % 64) != 0 {
                t.spaces |= 1 << spaces.0;
            }
        }
        shared
    }

    /// The guest stored to bytes `addr .. addr + size` of a tracked page. Cleared entries are reported to `dropped`;
    /// true if the page need not be tracked any longer.
    pub fn entry_written(&mut self, addr: PhysAddr, size: u64, dropped: &mut Vec<Dropped>) -> bool {
        let Some(ids) = self.by_page.get(&addr.page()) else { return true };
        if ids.is_empty() {
            self.by_page.remove(&addr.page());
            return true;
        }
        self.stats.writes += 1;
        let mut flooded = false;
        for id in ids.iter().copied() {
            let t = &mut self.tables[id.0 as usize];
            let (shape, level) = (t.key.shape, t.key.level);
            let bytes = shape.entry_bytes();
            let start = addr.0.max(t.key.table);
            let end = (addr.0 + size).min(t.key.table + bytes * t.entries.len() as u64);
            if start >= end {
                continue;
            }
            t.writes += 1;
            flooded |= t.writes > FLOOD;
            let first = ((start - t.key.table) / bytes) as usize;
            let last = ((end - 1 - t.key.table) / bytes) as usize;
            for i in first..=last {
                let old = std::mem::take(&mut t.entries[i]);
                if old.0 == 0 {
                    continue;
                }
                self.stats.cleared += 1;
                self.version += u64::from(old.as_table().is_some());
                dropped.push(Dropped {
                    lin: t.key.base + ((i as u64) << shape.shift(level)),
                    shift: shape.shift(level),
                    spaces: t.spaces,
                    fetched: old.as_table().is_some() || old.0 & Entry::FETCHED != 0,
                });
            }
        }
        if flooded {
            self.stats.floods += 1;
            self.forget_page(addr, dropped);
        }
        flooded
    }

    /// Drops every table made from the page of `addr`.
    pub(super) fn forget_page(&mut self, addr: PhysAddr, dropped: &mut Vec<Dropped>) {
        self.version += 1;
        for id in self.by_page.remove(&addr.page()).unwrap_or_default() {
            let t = &mut self.tables[id.0 as usize];
            self.by_key.remove(&t.key);
            let span = t.key.shape.shift(t.key.level) + t.key.shape.width();
            if t.entries.iter().any(|e| e.0 != 0) {
                dropped.push(Dropped {
                    lin: t.key.base,
                    shift: span.min(63),
                    spaces: t.spaces,
                    fetched: true,
                });
            }
            t.entries = Box::default();
            t.key.table = u64::MAX;
            for (parent, index) in std::mem::take(&mut t.parents) {
                if let Some(e) = self.tables[parent.0 as usize].entries.get_mut(usize::from(index))
                    && *e == Entry::table(id)
                {
                    *e = Entry::default();
                }
            }
            self.free.push(id);
        }
    }

    /// Clears the entry that maps `lin` below `root`, and reports it.
    pub fn clear(&mut self, root: TableId, shape: Shape, lin: u64) -> Option<Dropped> {
        let mut id = root;
        for level in (1..=shape.levels).rev() {
            let t = &mut self.tables[id.0 as usize];
            let entry = &mut t.entries[shape.index(lin, level)];
            if let Some(next) = entry.as_table() {
                id = next;
                continue;
            }
            let old = std::mem::take(entry);
            let shift = shape.shift(level);
            return (old.0 != 0).then(|| Dropped {
                lin: lin >> shift << shift,
                shift,
                spaces: t.spaces,
                fetched: old.0 & Entry::FETCHED != 0,
            });
        }
        None
    }

    /// Address space `space` is to be reused for another: its bit no longer means anything.
    pub fn retire_space(&mut self, space: u32) {
        self.version += 1;
        for t in &mut self.tables {
            t.spaces &= !(1 << space);
        }
    }

    /// Drops everything; returns the guest pages that were tracked.
    pub fn drop_all(&mut self) -> Vec<PhysAddr> {
        self.version += 1;
        self.stats.overflows += 1;
        self.tables.clear();
        self.free.clear();
        self.by_key.clear();
        self.by_page.drain().map(|(page, _)| PhysAddr(page << PAGE_SHIFT)).collect()
    }

    /// Number of shadow tables.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}
