//! The cache of decoded blocks.
//!
//! A block is a run of instructions in one page, keyed by the guest-physical address of its first byte and everything
//! else that decides how it decodes. Its bytes' chunks have been marked with `Cpu::mark_code` before they were
//! decoded, so every store to them comes back as a `CodeHit`, upon which [`Cache::invalidate`] drops it.
//!
//! Invariant: an instruction that crosses into another page is alone in its block, and [`Cache::find`] compares where
//! that page lies each time.
//! Invariant: code outside RAM and ROM is never kept.

use crate::decode::{Op, decode};
use crate::system::seg;
use emu_core::addr::{AddrMap, PAGE_MASK, PAGE_SIZE, PhysAddr};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::fault::Exception;
use emu_core::mem::Frame;
use emu_core::state::{Mode, Seg};

/// Most instructions in a block.
const MAX_OPS: usize = 48;
/// Most blocks in the cache; then it starts afresh.
const MAX_BLOCKS: usize = 400_000;
/// Buckets of the physical index.
const BUCKETS: usize = 1 << 18;
/// Entries of the virtual index.
const FAST: usize = 1 << 15;
/// The same for a small cache.
const SMALL: usize = 1 << 7;
/// Set in the mode of a key: the block holds one instruction only.
const SINGLE: u32 = 1 << 31;
/// The heat of a block that has proved not to be translatable.
const NEVER: u32 = u32::MAX;
/// "No block".
const NONE: u32 = u32::MAX;

/// What decides how a block decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    gpa: u64,
    /// Mode bits, and [`SINGLE`].
    mode: u32,
    /// Outside flat code, where EIP and the limit count: both. Otherwise 0.
    extent: u64,
}

impl Key {
    fn flat(&self) -> bool {
        self.mode & (Mode::FLAT | Mode::CODE64) != 0
    }
}

/// A decoded block.
#[derive(Debug)]
pub struct Block {
    key: Key,
    /// The instructions.
    pub ops: Box<[Op]>,
    /// The last of them places `rip` itself before it may fault.
    pub owns_rip: bool,
    /// The RAM page that it is in, or [`NONE`], and the chunks of that which were decoded.
    page: u32,
    chunks: u64,
    /// For an instruction that crosses.
    second: Option<Box<Second>>,
    /// How often [`Cache::heat`] has found it, at most [`NEVER`]; `NEVER` for one that is not to be translated.
    runs: u32,
    /// Next block in the bucket.
    next: u32,
    /// The entry of the virtual index that has led here, if there was only one.
    index: Index,
    /// RIP and fetch translation under which it was found last; 0 for none.
    seen_rip: u64,
    seen_exec: u32,
    /// The block that [`Cache::heat`] found after it.
    then: u32,
}

/// The page that an instruction goes on in.
#[derive(Debug)]
struct Second {
    address: PhysAddr,
    /// Its number and the chunks of it that were decoded, if it is in RAM.
    ram: Option<(usize, u64)>,
}

impl Block {
    /// Bytes and instructions.
    pub fn extent(&self) -> (u64, u32) {
        (self.ops.last().map_or(0, |op| op.end.into()), self.ops.len() as u32)
    }

    /// RAM pages and the chunks of them that were decoded.
    fn pages(&self) -> impl Iterator<Item = (usize, u64)> {
        let first = (self.page != NONE).then_some((self.page as usize, self.chunks));
        first.into_iter().chain(self.second.as_ref().and_then(|s| s.ram))
    }
}

/// Which entries of the virtual index may lead to a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Index {
    None,
    One(u32),
    Several,
}

/// An entry of the virtual index.
#[derive(Clone, Copy, Debug)]
struct Fast {
    rip: u64,
    /// The fetch translation it was found through (`emu_core::mmu::execid`).
    exec: u32,
    epoch: u32,
    mode: u32,
    block: u32,
}

impl Fast {
    const EMPTY: Self = Self { rip: 0, exec: u32::MAX, epoch: 0, mode: 0, block: NONE };
}

/// All decoded blocks.
#[derive(Debug)]
pub struct Cache {
    blocks: Vec<Option<Block>>,
    free: Vec<u32>,
    buckets: Vec<u32>,
    fast: Vec<Fast>,
    /// The blocks of a page and the chunks of it that they were decoded from.
    by_page: AddrMap<usize, Vec<(u32, u64)>>,
    /// Changes when the virtual index is to forget all it has. Never 0, the epoch of empty entries.
    epoch: u32,
    /// The block that [`Cache::heat`] found last.
    last: u32,
    /// The block that is not kept.
    passing: Option<Block>,
    /// Blocks decoded since the start.
    pub decoded: u64,
    /// Blocks dropped because their bytes were written.
    pub dropped: u64,
}

/// What is known of the code at an address, for an engine that translates what runs often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    /// It has not been decoded.
    Unknown,
    /// It has been found no more often than the engine asked for, and can be executed.
    Cold(BlockId),
    /// It has been found more often than that.
    Hot(BlockId),
    /// It has been marked by [`Cache::never`].
    Never,
}

/// Names a block until the next change of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId(u32);

impl Default for Cache {
    fn default() -> Self {
        Self::with_sizes(BUCKETS, FAST)
    }
}

impl Cache {
    /// A cache for programs of a few pages.
    pub fn small() -> Self {
        Self::with_sizes(SMALL, SMALL)
    }

    /// Both sizes are powers of two.
    fn with_sizes(buckets: usize, fast: usize) -> Self {
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
            buckets: vec![NONE; buckets],
            fast: vec![Fast::EMPTY; fast],
            by_page: AddrMap::default(),
            epoch: 1,
            last: NONE,
            passing: None,
            decoded: 0,
            dropped: 0,
        }
    }
}

impl Cache {
    /// The block, if it is still there.
    #[inline(always)]
    pub fn get(&self, id: BlockId) -> Option<&Block> {
        match self.blocks.get(id.0 as usize) {
            Some(b) => b.as_ref(),
            None => self.passing.as_ref(),
        }
    }

    /// The block at CS:RIP, decoded if need be. `single`: it holds one instruction only.
    ///
    /// # Errors
    /// The fault of fetching its first instruction.
    #[inline(always)]
    pub fn find(&mut self, cpu: &mut Cpu, single: bool) -> Result<BlockId, Exception> {
        let rip = cpu.state.rip;
        let mode = cpu.state.mode.0 | if single { SINGLE } else { 0 };
        match self.indexed(cpu, rip, mode) {
            Some(at) => Ok(BlockId(at)),
            None => self.find_slow(cpu, mode),
        }
    }

    /// What the virtual index has for `rip`.
    #[inline(always)]
    fn indexed(&self, cpu: &Cpu, rip: u64, mode: u32) -> Option<u32> {
        let fast = &self.fast[fast_index(rip) & (self.fast.len() - 1)];
        let there = fast.rip == rip && fast.mode == mode && fast.epoch == self.epoch;
        (there && fast.exec == cpu.exec_id(rip)).then_some(fast.block)
    }

    /// Looks for the block at CS:RIP and, with `count`, counts, without decoding anything: what has been found `hot` times is hot.
    #[inline]
    pub fn heat(&mut self, cpu: &mut Cpu, hot: u32, count: bool) -> Heat {
        let Some(at) = self.known(cpu) else { return Heat::Unknown };
        let Some(Some(block)) = self.blocks.get_mut(at as usize) else { return Heat::Unknown };
        match block.runs {
            NEVER => Heat::Never,
            n if n >= hot => Heat::Hot(BlockId(at)),
            _ => {
                block.runs += u32::from(count);
                Heat::Cold(BlockId(at))
            }
        }
    }

    /// Marks the block at CS:RIP, if there is one, as not to be translated.
    pub fn never(&mut self, cpu: &mut Cpu) {
        if let Some(at) = self.known(cpu)
            && let Some(Some(block)) = self.blocks.get_mut(at as usize)
        {
            block.runs = NEVER;
        }
    }

    /// Gives the room of a block that has been translated back, unless much leads to it: it is seldom wanted again.
    pub fn translated(&mut self, id: BlockId) {
        if self.block(id.0).is_some_and(|b| b.index != Index::Several) {
            self.remove(id.0);
        }
    }

    /// How often the block at guest-physical address `gpa` has been found; 0 if it is not to be translated.
    pub fn runs(&self, gpa: PhysAddr, mode: Mode) -> u32 {
        let mut at = self.buckets[self.bucket(gpa.0)];
        while let Some(Some(b)) = self.blocks.get(at as usize) {
            if b.key.gpa == gpa.0 && b.key.mode == mode.0 {
                return if b.runs == NEVER { 0 } else { b.runs };
            }
            at = b.next;
        }
        0
    }

    /// The block of several instructions at CS:RIP, if it has been decoded.
    fn known(&mut self, cpu: &mut Cpu) -> Option<u32> {
        let (rip, mode) = (cpu.state.rip, cpu.state.mode.0);
        let exec = cpu.exec_id(rip);
        // Cold code goes where it went before, and there is more of it than either index has at hand.
        if let Some(then) = self.block(self.last).map(|b| b.then)
            && exec != 0
            && self
                .block(then)
                .is_some_and(|b| b.seen_rip == rip && b.seen_exec == exec && b.key.mode == mode)
        {
            self.last = then;
            return Some(then);
        }
        let at = match self.indexed(cpu, rip, mode) {
            Some(at) => at,
            None => {
                let (key, lin) = place(cpu, mode).ok()?;
                self.decoded_at(cpu, key, lin)?
            }
        };
        if let Some(Some(last)) = self.blocks.get_mut(self.last as usize) {
            last.then = at;
        }
        self.last = at;
        Some(at)
    }

    fn block(&self, id: u32) -> Option<&Block> {
        self.blocks.get(id as usize)?.as_ref()
    }

    /// The block with `key`, decoded before and still right.
    fn decoded_at(&mut self, cpu: &mut Cpu, key: Key, lin: u64) -> Option<u32> {
        let mut at = self.buckets[self.bucket(key.gpa)];
        while let Some(Some(b)) = self.blocks.get(at as usize) {
            if b.key == key && self.still_valid(cpu, b, lin) {
                if key.flat() && b.second.is_none() {
                    self.remember(cpu, cpu.state.rip, key.mode, at);
                }
                return Some(at);
            }
            at = b.next;
        }
        None
    }

    #[inline(never)]
    fn find_slow(&mut self, cpu: &mut Cpu, mode: u32) -> Result<BlockId, Exception> {
        let rip = cpu.state.rip;
        let (key, lin) = place(cpu, mode)?;
        if let Some(at) = self.decoded_at(cpu, key, lin) {
            return Ok(BlockId(at));
        }
        let flat = key.flat();
        let block = build(cpu, key, lin)?;
        self.decoded += 1;
        let keep = block.1;
        let block = block.0;
        if !keep {
            self.passing = Some(block);
            return Ok(BlockId(NONE));
        }
        let crosses = block.second.is_some();
        let id = self.insert(block);
        if flat && !crosses {
            self.remember(cpu, rip, mode, id);
        }
        Ok(BlockId(id))
    }

    fn still_valid(&self, cpu: &mut Cpu, b: &Block, lin: u64) -> bool {
        match &b.second {
            None => true,
            Some(second) => {
                let next = cpu.advance(lin & !PAGE_MASK, PAGE_SIZE);
                cpu.fetch_gpa(next) == Ok(second.address)
            }
        }
    }

    fn remember(&mut self, cpu: &Cpu, rip: u64, mode: u32, block: u32) {
        let (exec, epoch) = (cpu.exec_id(rip), self.epoch);
        if exec != 0 {
            let slot = fast_index(rip) & (self.fast.len() - 1);
            self.fast[slot] = Fast { rip, exec, epoch, mode, block };
            if let Some(Some(b)) = self.blocks.get_mut(block as usize) {
                (b.seen_rip, b.seen_exec) = (rip, exec);
                b.index = match b.index {
                    Index::None => Index::One(slot as u32),
                    Index::One(old) if old as usize == slot => b.index,
                    _ => Index::Several,
                };
            }
        }
    }

    fn insert(&mut self, mut block: Block) -> u32 {
        if self.blocks.len() - self.free.len() >= MAX_BLOCKS {
            self.clear();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() as u32 - 1
        });
        let head = self.bucket(block.key.gpa);
        let head = &mut self.buckets[head];
        block.next = *head;
        *head = slot;
        for (page, chunks) in block.pages() {
            self.by_page.entry(page).or_default().push((slot, chunks));
        }
        self.blocks[slot as usize] = Some(block);
        slot
    }

    /// Drops every block.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.free.clear();
        self.buckets.fill(NONE);
        self.by_page.clear();
        self.forget_fast();
    }

    /// Drops the blocks that were decoded from bytes that have been hit.
    pub fn invalidate(&mut self, hits: &[CodeHit]) {
        for hit in hits {
            let Some(list) = self.by_page.get(&hit.index) else { continue };
            let overlaps = |&&(_, chunks): &&(u32, u64)| chunks & hit.chunks != 0;
            let doomed: Vec<u32> = list.iter().filter(overlaps).map(|&(id, _)| id).collect();
            self.dropped += doomed.len() as u64;
            for id in doomed {
                self.remove(id);
            }
        }
    }

    fn bucket(&self, gpa: u64) -> usize {
        (gpa.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize & (self.buckets.len() - 1)
    }

    fn forget_fast(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.fast.fill(Fast::EMPTY);
            self.epoch = 1;
        }
    }

    fn remove(&mut self, id: u32) {
        let Some(block) = self.blocks.get_mut(id as usize).and_then(Option::take) else { return };
        match block.index {
            Index::None => {}
            Index::One(slot) => {
                let entry = &mut self.fast[slot as usize];
                if entry.block == id {
                    *entry = Fast::EMPTY;
                }
            }
            Index::Several => self.forget_fast(),
        }
        self.free.push(id);
        for (page, _) in block.pages() {
            if let Some(list) = self.by_page.get_mut(&page) {
                list.retain(|&(i, _)| i != id);
            }
        }
        let head = self.bucket(block.key.gpa);
        if self.buckets[head] == id {
            self.buckets[head] = block.next;
            return;
        }
        let mut at = self.buckets[head];
        while let Some(Some(b)) = self.blocks.get_mut(at as usize) {
            if b.next == id {
                b.next = block.next;
                return;
            }
            at = b.next;
        }
    }
}

/// The key of the block at CS:RIP, and its linear address.
fn place(cpu: &mut Cpu, mode: u32) -> Result<(Key, u64), Exception> {
    let rip = cpu.state.rip;
    let (lin, extent) = if mode & (Mode::FLAT | Mode::CODE64) != 0 {
        (rip, 0)
    } else {
        let limit = cpu.state.seg[Seg::CS as usize].limit;
        (seg::code(cpu, rip)?, rip << 32 | u64::from(limit))
    };
    Ok((Key { gpa: cpu.fetch_gpa(lin)?.0, mode, extent }, lin))
}

fn fast_index(rip: u64) -> usize {
    (rip ^ rip >> 13) as usize
}

/// The chunks of a page that bytes `from..to` of it lie in.
fn chunk_mask(from: u64, to: u64) -> u64 {
    let last = (to - 1).min(PAGE_MASK) >> 6;
    (!0 << (from >> 6)) & (!0 >> (63 - last))
}

/// Decodes the block at `lin`, and says whether it may be kept.
fn build(cpu: &mut Cpu, key: Key, lin: u64) -> Result<(Block, bool), Exception> {
    let mode = Mode(key.mode & !SINGLE);
    let most = if key.mode & SINGLE != 0 { 1 } else { MAX_OPS };
    let rip = cpu.state.rip;
    let limit = if key.extent == 0 { u64::MAX } else { key.extent & 0xffff_ffff };
    let room = PAGE_SIZE - (lin & PAGE_MASK);
    let mut keep = !matches!(cpu.mem.frame(PhysAddr(key.gpa)), Frame::Mmio);
    let mut block = Block {
        key,
        ops: Box::default(),
        owns_rip: false,
        page: NONE,
        chunks: 0,
        second: None,
        runs: 0,
        next: NONE,
        index: Index::None,
        seen_rip: 0,
        seen_exec: 0,
        then: NONE,
    };
    let mut ops: Vec<Op> = Vec::new();
    // RAM pages and the chunks of them that are marked.
    let mut pages = [None; 2];
    let mut second = None;
    let mut at = 0;
    while ops.len() < most && at < room {
        let here = lin.wrapping_add(at);
        let mut fetched = match cpu.fetch_in_page(here) {
            Ok(f) => f,
            Err(e) if ops.is_empty() => return Err(e),
            Err(_) => break,
        };
        let mut decoded = decode(&fetched.bytes[..fetched.len], rip.wrapping_add(at), mode, cpu);
        if decoded.is_none() {
            if !ops.is_empty() {
                break;
            }
            cpu.fetch_beyond(here, &mut fetched);
            decoded = decode(&fetched.bytes[..fetched.len], rip.wrapping_add(at), mode, cpu);
        }
        let Some(mut d) = decoded else {
            // The instruction goes on in a page that cannot be fetched.
            match fetched.next {
                Some(Err(e)) => return Err(e),
                _ => break,
            }
        };
        let len = u64::from(d.op.len.max(1));
        let crosses = at + len > room;
        let beyond = limit != u64::MAX && rip.wrapping_add(at + len - 1) > limit;
        if !ops.is_empty() && (crosses || beyond) {
            break;
        }
        if beyond {
            return Err(Exception::gp0());
        }
        // Mark first, then decode what is there now: another processor may have written meanwhile.
        let mut marked = false;
        let from = key.gpa & PAGE_MASK;
        marked |= mark(cpu, &mut pages[0], fetched.ram, chunk_mask(from + at, from + at + len));
        if crosses && let Some(Ok((page, ram))) = fetched.next {
            second = Some(page.page_base());
            keep &= !matches!(cpu.mem.frame(page), Frame::Mmio);
            marked |= mark(cpu, &mut pages[1], ram, chunk_mask(0, at + len - room));
        }
        if marked {
            continue;
        }
        at += len;
        d.op.end = at as u16;
        block.owns_rip = d.owns_rip;
        ops.push(d.op);
        if d.ends {
            break;
        }
    }
    if let Some((page, chunks)) = pages[0] {
        (block.page, block.chunks) = (page as u32, chunks);
    }
    block.second = second.map(|address| Box::new(Second { address, ram: pages[1] }));
    block.ops = ops.into_boxed_slice();
    Ok((block, keep))
}

/// Marks `chunks` of RAM page `ram` and notes them; true if any of them is new to the block.
fn mark(cpu: &mut Cpu, noted: &mut Option<(usize, u64)>, ram: Option<usize>, chunks: u64) -> bool {
    let Some(index) = ram else { return false };
    let old = noted.map_or(0, |(_, c)| c);
    if old & chunks == chunks {
        return false;
    }
    cpu.mark_code(index, chunks);
    *noted = Some((index, old | chunks));
    true
}
