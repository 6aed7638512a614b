//! The code cache: which blocks are translated, how they are linked, and how they go.
//!
//! Invariants:
//! - a linked exit's displacement leads to a live block's entry, and that block lists the exit as incoming; removing
//!   a block first sends all its incoming exits back to their stubs;
//! - a jump-cache entry is good while its token is the processor's: tokens are given per mode and fetch generation
//!   and never used again;
//! - ids of removed blocks are not used again before a flush of the whole cache.

use crate::BlockId;
use crate::arena::Arena;
use crate::sidetable::SideTable;
use emu_core::addr::{PAGE_SIZE, PhysAddr};
use emu_core::cpu::CodeHit;
use emu_core::ir::BlockKey;
use emu_core::state::Mode;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Number of jump-cache entries.
pub const JUMP_SLOTS: usize = 16384;

/// Number of tokens that are remembered, so that an address space which comes back finds its entries.
const TOKENS: usize = 256;

/// Slot of the jump cache for `rip`.
pub const fn jump_index(rip: u64) -> usize {
    (rip ^ rip >> 12) as usize & (JUMP_SLOTS - 1)
}

/// One entry of the jump cache, as translated code reads it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub struct JumpEntry {
    rip: u64,
    token: u32,
    /// Arena offset of the block's entry.
    code: u32,
}

/// An exit of a block, as the emitter describes it.
#[derive(Clone, Copy, Debug)]
pub struct ExitDesc {
    /// Where it goes.
    pub rip: u64,
    /// Offset in the block of the displacement to patch, if it may be linked.
    pub patch: Option<u32>,
    /// Offset in the block of its stub.
    pub stub: u32,
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    desc: ExitDesc,
    from: u32,
}

#[derive(Debug)]
struct BlockInfo {
    key: BlockKey,
    base: usize,
    len: usize,
    /// (page, 64-byte chunks of it) that the block was made from.
    pages: [(u64, u64); 2],
    linkable: bool,
    live: bool,
    incoming: Vec<u32>,
}

/// A fast hash for keys that are few words of addresses.
#[derive(Debug, Default)]
pub struct AddrHasher(u64);

impl Hasher for AddrHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(b.into());
        }
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<AddrHasher>>;

/// Translated blocks and what leads to them.
#[derive(Debug)]
pub struct Cache {
    arena: Arena,
    /// Side table of all blocks.
    pub sites: SideTable,
    table: Map<BlockKey, BlockId>,
    blocks: Vec<BlockInfo>,
    exits: Vec<Exit>,
    by_page: Map<u64, Vec<BlockId>>,
    jumps: Box<[JumpEntry]>,
    /// (mode, generation, token); token 0 is none.
    tokens: Box<[(Mode, u64, u32)]>,
    next_token: u32,
    /// Bytes of trampolines at the arena's start.
    reserved: usize,
    /// Links made.
    pub links: u64,
    /// Whole-cache flushes.
    pub flushes: u64,
    /// Blocks dropped because their bytes changed.
    pub invalidated: u64,
}

/// What the emitter has made of a block.
#[derive(Debug)]
pub struct NewBlock<'a> {
    /// Its key.
    pub key: BlockKey,
    /// Bytes of guest code.
    pub guest_len: u32,
    /// Further 64-byte chunks of the key's page.
    pub chunks: u64,
    /// The second page, if it has one.
    pub next_page: Option<PhysAddr>,
    /// Host code, made for [`Cache::place`].
    pub code: &'a [u8],
    /// Its exits.
    pub exits: &'a [ExitDesc],
    /// Its sites.
    pub sites: &'a [crate::sidetable::Site],
}

impl Cache {
    /// An empty cache whose arena begins with `prologue`.
    pub fn new(mut arena: Arena, prologue: &[u8]) -> Option<Self> {
        arena.append(prologue)?;
        let reserved = arena.used();
        Some(Self {
            arena,
            sites: SideTable::default(),
            table: Map::default(),
            blocks: Vec::new(),
            exits: Vec::new(),
            by_page: Map::default(),
            jumps: vec![JumpEntry::default(); JUMP_SLOTS].into_boxed_slice(),
            tokens: vec![(Mode(0), 0, 0); TOKENS].into_boxed_slice(),
            next_token: 1,
            reserved,
            links: 0,
            flushes: 0,
            invalidated: 0,
        })
    }

    /// Host address of arena offset `at`.
    pub fn address(&self, at: usize) -> *const u8 {
        self.arena.base().wrapping_add(at)
    }

    /// Host address of the jump cache.
    pub fn jump_cache(&self) -> *const JumpEntry {
        self.jumps.as_ptr()
    }

    /// (arena offset, number of its first exit) for the next block.
    pub fn place(&self) -> (usize, u32) {
        (self.arena.next(), self.exits.len() as u32)
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

    /// Adds a block made for [`Cache::place`]; None when it does not fit.
    pub fn insert(&mut self, new: &NewBlock) -> Option<BlockId> {
        let base = self.arena.append(new.code)?;
        let id = BlockId(self.blocks.len() as u32);
        if let Some(old) = self.table.insert(new.key, id) {
            self.remove(old);
            self.table.insert(new.key, id);
        }
        self.exits.extend(new.exits.iter().map(|&desc| Exit { desc, from: id.0 }));
        self.sites.extend(new.sites);
        let offset = new.key.phys.offset();
        let in_first = u64::from(new.guest_len).min(PAGE_SIZE - offset);
        let mut pages = [(new.key.phys.page(), chunks(offset, in_first) | new.chunks), (u64::MAX, 0)];
        if let Some(next) = new.next_page {
            pages[1] = (next.page(), chunks(0, u64::from(new.guest_len) - in_first));
        }
        for (page, mask) in pages {
            if mask != 0 {
                self.by_page.entry(page).or_default().push(id);
            }
        }
        self.blocks.push(BlockInfo {
            key: new.key,
            base,
            len: new.code.len(),
            pages,
            linkable: new.next_page.is_none(),
            live: true,
            incoming: Vec::new(),
        });
        Some(id)
    }

    /// Arena offset of a live block's entry.
    #[inline]
    pub fn code_offset(&self, id: BlockId) -> Option<usize> {
        self.blocks.get(id.0 as usize).filter(|b| b.live).map(|b| b.base)
    }

    /// The host code of a live block.
    pub fn host_code(&self, id: BlockId) -> Option<(Vec<u8>, *const u8)> {
        let b = self.blocks.get(id.0 as usize).filter(|b| b.live)?;
        Some((self.arena.read(b.base, b.len), self.address(b.base)))
    }

    /// Where exit `n` goes, and whether it can still be linked.
    pub fn exit(&self, n: u32) -> Option<(u64, bool)> {
        let e = self.exits.get(n as usize)?;
        Some((e.desc.rip, e.desc.patch.is_some() && self.blocks[e.from as usize].live))
    }

    /// Links exit `n` to block `id` if that is what it leads to, for ever or until one of them is removed.
    pub fn link(&mut self, n: u32, id: BlockId) {
        let Some(&Exit { desc, from }) = self.exits.get(n as usize) else { return };
        let Some(patch) = desc.patch else { return };
        let (source, target) = (&self.blocks[from as usize], &self.blocks[id.0 as usize]);
        let same_page = source.key.phys.page() == target.key.phys.page();
        let fits = target.key.rip == desc.rip
            && target.key.mode == source.key.mode
            && same_page
            && target.key.phys.offset()
                == source.key.phys.offset().wrapping_add(desc.rip.wrapping_sub(source.key.rip));
        if !fits || !source.live || !target.live || !target.linkable {
            return;
        }
        let at = source.base + patch as usize;
        let to = target.base;
        self.patch(at, to);
        let incoming = &mut self.blocks[id.0 as usize].incoming;
        if !incoming.contains(&n) {
            incoming.push(n);
            self.links += 1;
        }
    }

    fn patch(&mut self, at: usize, to: usize) {
        self.arena.patch_u32(at, (to as i64 - (at as i64 + 4)) as u32);
    }

    fn remove(&mut self, id: BlockId) {
        let b = &mut self.blocks[id.0 as usize];
        if !b.live {
            return;
        }
        b.live = false;
        let (key, base, pages) = (b.key, b.base, b.pages);
        let incoming = std::mem::take(&mut b.incoming);
        for n in incoming {
            let Exit { desc, from } = self.exits[n as usize];
            let source = &self.blocks[from as usize];
            if let (Some(patch), true) = (desc.patch, source.live) {
                let (at, to) = (source.base + patch as usize, source.base + desc.stub as usize);
                self.patch(at, to);
            }
        }
        if self.table.get(&key) == Some(&id) {
            self.table.remove(&key);
        }
        for (page, mask) in pages {
            if mask != 0
                && let Some(list) = self.by_page.get_mut(&page)
            {
                list.retain(|&x| x != id);
            }
        }
        let e = &mut self.jumps[jump_index(key.rip)];
        if e.code as usize == base {
            *e = JumpEntry::default();
        }
    }

    /// Drops every block made from bytes that were hit; the number of them.
    pub fn invalidate(&mut self, hits: &[CodeHit]) -> usize {
        let mut dropped = 0;
        for hit in hits {
            let Some(list) = self.by_page.get(&hit.page.page()) else { continue };
            let page = hit.page.page();
            let victims: Vec<BlockId> = list
                .iter()
                .copied()
                .filter(|id| {
                    self.blocks[id.0 as usize].pages.iter().any(|&(p, m)| p == page && m & hit.chunks != 0)
                })
                .collect();
            dropped += victims.len();
            for id in victims {
                self.remove(id);
            }
        }
        self.invalidated += dropped as u64;
        dropped
    }

    /// The chunks of `page` that live blocks were made from.
    pub fn chunks_in_use(&self, page: PhysAddr) -> u64 {
        let page = page.page();
        self.by_page.get(&page).map_or(0, |list| {
            list.iter()
                .flat_map(|id| self.blocks[id.0 as usize].pages)
                .filter(|&(p, _)| p == page)
                .fold(0, |m, (_, c)| m | c)
        })
    }

    /// Forgets every block.
    pub fn flush(&mut self) {
        self.flushes += 1;
        self.arena.truncate(self.reserved);
        self.sites.clear();
        self.table.clear();
        self.blocks.clear();
        self.exits.clear();
        self.by_page.clear();
        self.forget_jumps();
    }

    /// Forgets every jump-cache entry.
    pub fn forget_jumps(&mut self) {
        self.jumps.fill(JumpEntry::default());
    }

    /// The token of jump-cache entries made in `mode` while fetch translations have this generation.
    pub fn token(&mut self, mode: Mode, generation: u64) -> u32 {
        let hash =
            generation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(mode.0).wrapping_mul(0x85eb_ca6b);
        let slot = (hash >> 20) as usize % TOKENS;
        let (m, g, t) = self.tokens[slot];
        if t != 0 && m == mode && g == generation {
            return t;
        }
        if self.next_token == u32::MAX {
            self.next_token = 1;
            self.tokens.fill((Mode(0), 0, 0));
            self.forget_jumps();
        }
        let t = self.next_token;
        self.next_token += 1;
        self.tokens[slot] = (mode, generation, t);
        t
    }

    /// Lets jumps to `id`, which the current RIP leads to, find it under `token`.
    pub fn remember(&mut self, id: BlockId, token: u32) {
        let b = &self.blocks[id.0 as usize];
        if b.linkable && b.key.mode.contains(Mode::FLAT) {
            self.jumps[jump_index(b.key.rip)] = JumpEntry { rip: b.key.rip, token, code: b.base as u32 };
        }
    }
}

/// Mask of the 64-byte chunks that `len` bytes at page offset `at` touch.
fn chunks(at: u64, len: u64) -> u64 {
    if len == 0 {
        return 0;
    }
    let (first, last) = (at >> 6, (at + len - 1).min(PAGE_SIZE - 1) >> 6);
    (!0 << first) & (!0 >> (63 - last))
}
