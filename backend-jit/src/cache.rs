//! The code cache: which blocks are translated, how they are linked, and how they go.
//!
//! Invariants:
//! - a linked exit's displacement leads to a live block's entry, and that block lists the exit as incoming; removing
//!   a block first sends all its incoming exits back to their stubs;
//! - a link into another page, a link behind a call and a block that reaches into a second page are guarded by the
//!   number of the fetch translation (`emu_core::mmu::execid`) that they were made for;
//! - ids of removed blocks are not used again before a flush of the whole cache.

mod hits;
mod room;

use crate::BlockId;
use crate::arena::Arena;
use crate::frame::NOT_LINKED;
use crate::jumps::Jumps;
use crate::moves::{Move, Shift};
use crate::ring::Ring;
use crate::sidetable::{SideTable, Site};
use emu_core::addr::{AddrMap, PAGE_SIZE, PhysAddr};
use emu_core::ir::BlockKey;
use emu_core::state::Mode;

/// Where a block's code and facts will lie.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Offset in the arena.
    pub base: usize,
    /// What is out of line ends here at the latest; None: it follows the rest.
    pub cold_end: Option<usize>,
    /// Number of its first exit.
    pub first_exit: u32,
    /// Number of its first site.
    pub first_site: u32,
    /// A computed jump has come to it: it should begin with its door.
    pub door: bool,
}

impl Place {
    /// Offset in the arena of the `cold` bytes out of line of a block with `hot` others.
    pub fn cold(&self, hot: usize, cold: usize) -> usize {
        let follows = self.base + hot;
        // Where there is no room, the block is made in vain.
        self.cold_end.map_or(follows, |end| (end.saturating_sub(cold) & !15).max(follows))
    }
}

/// An exit of a block, as the emitter describes it. Offsets are those in its code as it is made.
#[derive(Clone, Copy, Debug)]
pub struct ExitDesc {
    /// Where it goes.
    pub rip: u64,
    /// Offset in the block of the word to patch, if it may be linked.
    pub patch: Option<u32>,
    /// Offset in the block of the number of the fetch translation that it is guarded by, if it is.
    pub guard: Option<u32>,
    /// Offset in the block of its stub.
    pub stub: u32,
    /// What it is.
    pub role: Role,
}

/// What an exit is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A jump, or the return thunk of a call.
    Jump,
    /// The check of the block's second page, before anything else of it.
    Entry,
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    desc: ExitDesc,
    from: u32,
    /// The block it is linked to and the fetch translation in its guard.
    linked: Option<(BlockId, u32)>,
    /// It led last to where there was no translation.
    cold: bool,
}

/// What is known of where an exit leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beyond {
    /// To this block, under this fetch translation.
    Block(BlockId, u32),
    /// There was no translation when it was taken last.
    Cold,
    /// Nothing.
    Unknown,
}

/// A block's own door, in front of its entry: see [`crate::jumps`].
#[derive(Clone, Copy, Debug)]
pub struct OwnDoor {
    /// Offset in the block of its entry.
    pub entry: u32,
    /// Offset in the block of the number of the fetch translation that the door is good for.
    pub guard: u32,
}

/// Where a block's code lies.
#[derive(Clone, Copy, Debug)]
struct Code {
    base: usize,
    entry: usize,
    hot: usize,
    /// What is out of line.
    cold_base: usize,
    cold: usize,
}

impl Code {
    /// Offset in the arena of offset `at` in the block.
    fn place(&self, at: u32) -> usize {
        let at = at as usize;
        if at < self.hot { self.base + at } else { self.cold_base + (at - self.hot) }
    }
}

#[derive(Debug)]
struct BlockInfo {
    key: BlockKey,
    code: Code,
    /// (page, 64-byte chunks of it) that the block was made from.
    pages: [(u64, u64); 2],
    /// The second page, if it has one.
    next_page: Option<PhysAddr>,
    live: bool,
    incoming: Vec<u32>,
    /// Its exits: first and number.
    exits: (u32, u32),
    /// Its sites: first and number.
    sites: (u32, u32),
    moves: Moves,
    /// What it reads of its own code: first and number.
    words: (u32, u32),
    /// 64-byte chunks of the first page that traces went on to.
    further: u64,
    guest_len: u32,
    own_door: Option<OwnDoor>,
    door: Option<Door>,
}

/// What computed jumps come to first: see [`crate::jumps`].
#[derive(Clone, Copy, Debug)]
struct Door {
    /// Offset in the arena.
    at: usize,
    /// Offset in the arena of the number of the fetch translation that it is good for.
    guard: usize,
    /// That number.
    exec: u32,
}

/// Translated blocks and what leads to them.
#[derive(Debug)]
pub struct Cache {
    arena: Arena,
    /// Side table of all blocks.
    pub sites: SideTable,
    table: AddrMap<BlockKey, BlockId>,
    blocks: Ring<BlockInfo>,
    exits: Ring<Exit>,
    moves: Ring<Move>,
    /// What blocks read of their own code: (offset in the page, bytes).
    words: Ring<(u16, u8)>,
    /// For each slice of the arena that has been filled or is, the number of the first block that came into it.
    starts: Vec<Option<u32>>,
    /// The newest block at an address and mode, of those that can be copied to another RIP.
    twins: AddrMap<(u64, u32), BlockId>,
    by_page: AddrMap<u64, Vec<BlockId>>,
    /// What computed jumps look up.
    pub jumps: Jumps,
    /// Bytes of trampolines at the arena's start.
    reserved: usize,
    /// Links found to be right already.
    pub relinks: u64,
    /// Links made.
    pub links: u64,
    /// Whole-cache flushes.
    pub flushes: u64,
    /// Times that the oldest part of the cache made room.
    pub evictions: u64,
    /// Blocks dropped because their bytes changed.
    pub invalidated: u64,
}

/// What the emitter has made of a block.
#[derive(Debug)]
pub struct NewBlock<'a> {
    /// Its key.
    pub key: BlockKey,
    /// Bytes of guest code from the key's address on without a gap.
    pub guest_len: u32,
    /// 64-byte chunks of the first page that it was made from besides.
    pub further: u64,
    /// What it reads of its own code: (offset in the page, bytes).
    pub words: &'a [(u16, u8)],
    /// The second page, if it has one.
    pub next_page: Option<PhysAddr>,
    /// Host code, made for [`Cache::place`].
    pub code: &'a [u8],
    /// Bytes of it that are not out of line.
    pub hot: usize,
    /// Its exits.
    pub exits: &'a [ExitDesc],
    /// Its sites.
    pub sites: &'a [Site],
    /// What would change at another RIP, as [`Cache::note_moves`] gave it.
    pub moves: Moves,
    /// Its door, if it begins with one.
    pub door: Option<OwnDoor>,
}

/// A block's list of what changes when it is copied to another RIP: first and number. Empty: it cannot be copied.
#[derive(Clone, Copy, Debug)]
pub struct Moves(u32, u32);

impl Cache {
    /// An empty cache whose arena begins with `prologue`.
    /// At offset `way_out` of that, code leaves for the RIP in the accumulator, and at `no_return` for RIP 0.
    pub fn new(mut arena: Arena, prologue: &[u8], way_out: usize, no_return: usize) -> Option<Self> {
        arena.append(prologue)?;
        let reserved = arena.used();
        let slices = arena.slices();
        let jumps = Jumps::new(arena.base() as u64 + way_out as u64, arena.base() as u64 + no_return as u64);
        let mut this = Self {
            arena,
            sites: SideTable::default(),
            table: AddrMap::default(),
            starts: vec![None; slices],
            blocks: Ring::default(),
            exits: Ring::default(),
            moves: Ring::default(),
            words: Ring::default(),
            twins: AddrMap::default(),
            by_page: AddrMap::default(),
            jumps,
            reserved,
            relinks: 0,
            links: 0,
            flushes: 0,
            evictions: 0,
            invalidated: 0,
        };
        this.start_slice();
        Some(this)
    }

    /// Host address of arena offset `at`.
    pub fn address(&self, at: usize) -> *const u8 {
        self.arena.base().wrapping_add(at)
    }

    /// Where the next block lies. What is out of line has its own place with `apart`.
    pub fn place(&self, apart: bool, door: bool) -> Place {
        Place {
            base: self.arena.next(),
            cold_end: apart.then(|| self.arena.cold_end()),
            first_exit: self.exits.next(),
            first_site: self.sites.next(),
            door,
        }
    }

    /// Number of live blocks.
    pub fn live(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the arena in use.
    pub fn used(&self) -> usize {
        self.arena.used()
    }

    /// The live block with `key`.
    #[inline]
    pub fn lookup(&self, key: &BlockKey) -> Option<BlockId> {
        self.table.get(key).copied()
    }

    /// Adds a block made for `place`, which is [`Cache::place`]; None when it does not fit.
    pub fn insert(&mut self, new: &NewBlock, place: Place) -> Option<BlockId> {
        let (hot, cold) = new.code.split_at(new.hot);
        let cold_base = place.cold(hot.len(), cold.len());
        let base = match place.cold_end {
            Some(_) => self.arena.append_apart(hot, cold, cold_base)?,
            None => self.arena.append(new.code)?,
        };
        let entry = base + new.door.map_or(0, |d| d.entry as usize);
        let code = Code { base, entry, hot: hot.len(), cold_base, cold: cold.len() };
        let id = BlockId(self.blocks.next());
        if let Some(old) = self.table.insert(new.key, id) {
            self.remove(old);
            self.table.insert(new.key, id);
        }
        let exits = (self.exits.next(), new.exits.len() as u32);
        self.exits.extend(new.exits.iter().map(|&desc| Exit { desc, from: id.0, linked: None, cold: false }));
        let sites = (self.sites.next(), new.sites.len() as u32);
        self.sites.extend(new.sites);
        let words = (self.words.next(), new.words.len() as u32);
        self.words.extend(new.words.iter().copied());
        if new.moves.1 != 0 {
            self.twins.insert((new.key.phys.0, new.key.mode.0), id);
        }
        let pages = hits::pages(new.key.phys, new.guest_len, new.further, new.next_page);
        for (page, mask) in pages {
            if mask != 0 {
                self.by_page.entry(page).or_default().push(id);
            }
        }
        self.blocks.push(BlockInfo {
            key: new.key,
            code,
            pages,
            next_page: new.next_page,
            live: true,
            incoming: Vec::new(),
            exits,
            sites,
            moves: new.moves,
            words,
            further: new.further,
            guest_len: new.guest_len,
            own_door: new.door,
            door: new.door.map(|d| Door { at: base, guard: code.place(d.guard), exec: NOT_LINKED }),
        });
        Some(id)
    }

    /// A live block like the one wanted at `key`, but for its RIP.
    pub fn twin(&self, key: &BlockKey) -> Option<BlockId> {
        self.twins.get(&(key.phys.0, key.mode.0)).copied()
    }

    /// Keeps what changes in a block that is about to be inserted when it is copied to another RIP.
    pub fn note_moves(&mut self, moves: &[Move]) -> Moves {
        let first = self.moves.next();
        self.moves.extend(moves.iter().copied());
        Moves(first, moves.len() as u32)
    }

    /// Adds a copy of a live block at another RIP. None when it does not fit.
    pub fn copy(&mut self, id: BlockId, rip: u64) -> Option<BlockId> {
        let range = |(first, count): (u32, u32)| first..first + count;
        let b = &self.blocks[id.0];
        let place = self.place(b.code.cold_base != b.code.base + b.code.hot, b.own_door.is_some());
        let entry = place.base + (b.code.entry - b.code.base);
        let mut there = Code { base: place.base, entry, ..b.code };
        there.cold_base = place.cold(there.hot, there.cold);
        let shift = Shift {
            rip: rip.wrapping_sub(b.key.rip),
            code: (there.base as u32).wrapping_sub(b.code.base as u32),
            hot: b.code.hot,
            cold: (there.cold_base as u32).wrapping_sub(b.code.cold_base as u32),
            exits: place.first_exit.wrapping_sub(b.exits.0),
            sites: place.first_site.wrapping_sub(b.sites.0),
        };
        let (key, next_page, door) = (BlockKey { rip, ..b.key }, b.next_page, b.own_door);
        let (guest_len, further, words) =
            (b.guest_len, b.further, self.words.range(range(b.words)).copied().collect::<Vec<_>>());
        let mut code = self.code(b.code);
        let moves: Vec<Move> = self.moves.range(range((b.moves.0, b.moves.1))).copied().collect();
        shift.apply(&mut code, &moves)?;
        let sites: Vec<Site> =
            range(b.sites).filter_map(|n| self.sites.get(n)).map(|s| shift.site(&s)).collect();
        let mut exits: Vec<ExitDesc> = self.exits.range(range(b.exits)).map(|e| e.desc).collect();
        let mut set = |at: u32, word: u32| {
            code.get_mut(at as usize..at as usize + 4).map(|w| w.copy_from_slice(&word.to_le_bytes()))
        };
        if let Some(door) = door {
            set(door.guard, NOT_LINKED)?;
        }
        for exit in &mut exits {
            exit.rip = exit.rip.wrapping_add(shift.rip);
            if let Some(guard) = exit.guard {
                set(guard, NOT_LINKED)?;
            }
            if let Some(at) = exit.patch {
                set(at, crate::host::jump_word(there.place(at), there.place(exit.stub)))?;
            }
        }
        let moves = self.note_moves(&moves);
        let copy = NewBlock {
            key,
            guest_len,
            further,
            words: &words,
            next_page,
            code: &code,
            hot: there.hot,
            exits: &exits,
            sites: &sites,
            moves,
            door,
        };
        self.insert(&copy, place)
    }

    /// The bytes of a block's code.
    fn code(&self, code: Code) -> Vec<u8> {
        let mut bytes = self.arena.read(code.base, code.hot);
        bytes.extend(self.arena.read(code.cold_base, code.cold));
        bytes
    }

    /// Arena offset of a live block's entry.
    #[inline]
    pub fn code_offset(&self, id: BlockId) -> Option<usize> {
        self.blocks.get(id.0).filter(|b| b.live).map(|b| b.code.entry)
    }

    /// The host code of a live block and where it lies; what is out of line is the second part.
    pub fn host_code(&self, id: BlockId) -> Option<[(Vec<u8>, *const u8); 2]> {
        let code = self.blocks.get(id.0).filter(|b| b.live)?.code;
        let part = |at, len| (self.arena.read(at, len), self.address(at));
        Some([part(code.base, code.hot), part(code.cold_base, code.cold)])
    }

    /// Where exit `n` goes, and whether it can still be linked.
    pub fn exit(&self, n: u32) -> Option<(u64, bool)> {
        let e = self.exits.get(n)?;
        Some((e.desc.rip, e.desc.patch.is_some() && self.blocks[e.from].live))
    }

    /// What is known of where exit `n` leads.
    pub fn beyond(&self, n: u32) -> Beyond {
        match self.exits.get(n) {
            Some(&Exit { linked: Some((id, exec)), .. }) => Beyond::Block(id, exec),
            Some(Exit { cold: true, .. }) => Beyond::Cold,
            _ => Beyond::Unknown,
        }
    }

    /// Notes that there is no translation where exit `n` leads.
    pub fn leads_nowhere(&mut self, n: u32) {
        if let Some(exit) = self.exits.get_mut(n) {
            exit.cold = true;
        }
    }

    /// Key and second page of a live block.
    pub fn second_page(&self, id: BlockId) -> Option<PhysAddr> {
        self.blocks.get(id.0).filter(|b| b.live)?.next_page
    }

    /// The second page's fetch translation is `exec` now: the block's own check knows that from here on.
    pub fn guard_entry(&mut self, id: BlockId, exec: u32) {
        let (code, (first, count)) = (self.blocks[id.0].code, self.blocks[id.0].exits);
        let guard = self
            .exits
            .range(first..first + count)
            .find(|e| e.desc.role == Role::Entry)
            .and_then(|e| e.desc.guard);
        if let Some(at) = guard {
            self.arena.patch_u32(code.place(at), exec);
        }
    }

    /// Links exit `n` to block `id`, which the current RIP leads to through fetch translation `exec` (0: unknown), if
    /// that is what it leads to, until one of them is removed.
    pub fn link(&mut self, n: u32, id: BlockId, exec: u32) {
        let Some(&Exit { desc, from, linked, .. }) = self.exits.get(n) else { return };
        if linked == Some((id, exec)) {
            // Its guard failed only because the page had no translation at the time.
            self.relinks += 1;
            return;
        }
        let Some(patch) = desc.patch else { return };
        let (source, target) = (&self.blocks[from], &self.blocks[id.0]);
        if target.key.rip != desc.rip || target.key.mode != source.key.mode || !source.live || !target.live {
            return;
        }
        let (at, to) = (source.code.place(patch), target.code.entry);
        match desc.guard {
            Some(_) if exec == 0 => return,
            Some(guard) => {
                let guard = source.code.place(guard);
                self.arena.patch_u32(guard, exec);
            }
            None => {
                let ahead = desc.rip.wrapping_sub(source.key.rip);
                let same_page = source.key.phys.page() == target.key.phys.page();
                let guarded = target.next_page.is_none() || target.key.mode.contains(Mode::FLAT);
                if !same_page
                    || !guarded
                    || target.key.phys.offset() != source.key.phys.offset().wrapping_add(ahead)
                {
                    return;
                }
            }
        }
        self.patch(at, to);
        self.exits[n].linked = Some((id, exec));
        if linked.is_none_or(|(to, _)| to != id) {
            // An exit that goes to and fro between targets may be listed twice, but not for ever.
            let incoming = &mut self.blocks[id.0].incoming;
            if incoming.len() < 64 || !incoming.contains(&n) {
                incoming.push(n);
            }
            self.links += 1;
        }
    }

    fn patch(&mut self, at: usize, to: usize) {
        self.arena.patch_u32(at, crate::host::jump_word(at, to));
    }

    fn remove(&mut self, id: BlockId) {
        let pages = self.blocks[id.0].pages;
        if self.cut_off(id) {
            for (page, mask) in pages {
                if mask != 0
                    && let Some(list) = self.by_page.get_mut(&page)
                {
                    list.retain(|&x| x != id);
                }
            }
        }
    }

    /// Removes a block, but from the lists by page. False: it was gone already.
    fn cut_off(&mut self, id: BlockId) -> bool {
        let b = &mut self.blocks[id.0];
        if !b.live {
            return false;
        }
        b.live = false;
        let (key, code, door) = (b.key, b.code, b.door);
        let incoming = std::mem::take(&mut b.incoming);
        for n in incoming {
            let Some(&Exit { desc, from, linked, .. }) = self.exits.get(n) else { continue };
            if linked.is_none_or(|(to, _)| to != id) {
                continue;
            }
            self.exits[n].linked = None;
            let source = &self.blocks[from];
            if let (Some(patch), true) = (desc.patch, source.live) {
                let (at, to) = (source.code.place(patch), source.code.place(desc.stub));
                self.patch(at, to);
            }
        }
        if self.table.get(&key) == Some(&id) {
            self.table.remove(&key);
        }
        let twins = (key.phys.0, key.mode.0);
        if self.twins.get(&twins) == Some(&id) {
            self.twins.remove(&twins);
        }
        let door = door.map(|d| self.address(d.at) as u64);
        self.jumps.forget(key.mode, key.rip, code.entry, door);
        true
    }

    /// Links the exits of block `id` that stay in its page and lead to blocks that are there.
    pub fn link_within(&mut self, id: BlockId) {
        let b = &self.blocks[id.0];
        let (key, (first, count)) = (b.key, b.exits);
        for n in first..first + count {
            let ExitDesc { rip, patch, guard, role, .. } = self.exits[n].desc;
            let at = key.phys.offset().wrapping_add(rip.wrapping_sub(key.rip));
            if patch.is_none() || guard.is_some() || role == Role::Entry || at >= PAGE_SIZE {
                continue;
            }
            let phys = PhysAddr(key.phys.page_base().0 + at);
            if let Some(to) = self.lookup(&BlockKey { phys, rip, mode: key.mode }) {
                self.link(n, to, 0);
            }
        }
    }

    /// In the set `jumps`, block `id` is found at its RIP while its fetch translation is `exec`.
    pub fn remember(&mut self, jumps: usize, id: BlockId, exec: u32) {
        let b = &self.blocks[id.0];
        if b.key.mode.contains(Mode::FLAT) {
            self.jumps.remember(jumps, b.key.rip, exec, b.code.entry);
        }
    }

    /// Lets computed jumps in the set `jumps` come to block `id` while its fetch translation is `exec`, if it has a door.
    pub fn open_door(&mut self, jumps: usize, id: BlockId, exec: u32) -> bool {
        let b = &mut self.blocks[id.0];
        let (rip, Some(door)) = (b.key.rip, &mut b.door) else { return false };
        let Door { at, guard, exec: was } = *door;
        door.exec = exec;
        if was != exec {
            self.arena.patch_u32(guard, exec);
        }
        self.jumps.open(jumps, rip, self.address(at) as u64);
        true
    }

    /// What a door for block `id` is made of: where it will lie, the block's key and its entry.
    pub fn door_place(&self, id: BlockId) -> (usize, BlockKey, usize) {
        let b = &self.blocks[id.0];
        (self.arena.cold_end().saturating_sub(crate::host::DOOR_BYTES) & !15, b.key, b.code.entry)
    }

    /// Gives block `id` a door, made for [`Cache::door_place`], with the number of the fetch translation it is good for at
    /// `guard` in its code. False: there is no room.
    pub fn add_door(&mut self, id: BlockId, exec: u32, code: &[u8], guard: usize) -> bool {
        let (at, ..) = self.door_place(id);
        let fits = code.len() <= crate::host::DOOR_BYTES && self.arena.append_apart(&[], code, at).is_some();
        if fits {
            self.blocks[id.0].door = Some(Door { at, guard: at + guard, exec });
        }
        fits
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
#[path = "cache_tests.rs"]
mod tests;
