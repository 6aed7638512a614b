//! From IR to host code, and running it.
//!
//! [`Jit`] owns a code cache for one vCPU: [`Jit::compile`] translates a block, [`Jit::run`] enters it, goes from
//! block to block along links and through doors, and comes back with a [`RunExit`] and an exact processor state.
//! The parts at the crate's root know nothing of the host; `x64/` and `aarch64/` emit code.

mod addresses;
pub mod arena;
pub mod cache;
pub mod exit;
mod forms;
pub mod frame;
pub mod helpers;
pub mod hold;
pub mod jumps;
pub mod labels;
pub mod layout;
pub mod moves;
pub mod regalloc;
pub mod ring;
pub mod sidetable;
mod tables;
pub mod x87;

pub mod aarch64;
#[cfg(target_arch = "x86_64")]
#[path = "x64/mod.rs"]
mod host;
#[cfg(not(target_arch = "x86_64"))]
use aarch64 as host;

use arena::Arena;
use cache::{Beyond, Cache, NewBlock};
use emu_core::addr::{PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::fault::Exception;
use emu_core::ir::{Block, BlockKey, Inst};
use emu_core::state::bits::rflags;
use emu_core::state::{Mode, Seg};
use exit::Kind;
pub use exit::RunExit;
use std::io::Write;

/// Names a translated block until it is dropped; then it names none, until the cache is flushed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockId(pub(crate) u32);

/// The largest code cache that this host's emitter can do with, in bytes.
pub const MAX_CACHE: usize = host::MAX_ARENA;

/// Most parts of a code cache: when it is full, the oldest goes.
const SLICES: usize = 8;
/// What a part has in bytes, at least, if there are several.
const LEAST_SLICE: usize = 256 << 10;

/// Why the translator cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum JitError {
    /// The host is not served.
    #[error("{0}")]
    Host(&'static str),
    /// The host gives no memory for code.
    #[error("the host cannot provide memory for translated code: {0}")]
    NoMemory(#[from] std::io::Error),
    /// The block contains something that is not built; interpret it.
    #[error("not translated: {0}")]
    Unsupported(&'static str),
    /// The emitter went wrong; interpret the block.
    #[error("bug in the code generator: {0}")]
    Internal(&'static str),
    /// The block is larger than the whole code cache.
    #[error("a block of {0} bytes does not fit the code cache")]
    TooLarge(usize),
}

/// Settings of a [`Jit`].
#[derive(Clone, Copy, Debug)]
pub struct JitConfig {
    /// Size of the code cache in bytes; memory is used as code comes.
    pub cache_bytes: usize,
    /// Link blocks and let computed jumps find them.
    pub chain: bool,
    /// Count completed instructions in `icount`.
    pub count_insns: bool,
    /// Heed [`Jit::set_budget`] in translated code; without it a budget ends a run only where that comes back anyway.
    pub heed_budget: bool,
    /// Return after each block.
    pub single_block: bool,
    /// Write `/tmp/perf-PID.map` for `perf`.
    pub perf_map: bool,
    /// Link blocks across pages, guarded by the fetch translation (otherwise as computed jumps go).
    pub link_pages: bool,
    /// Predict returns.
    pub predict_returns: bool,
    /// Use no host instruction beyond the architecture's first version.
    pub baseline: bool,
    /// Keep guest vector registers in host registers.
    pub pin_vectors: bool,
    /// Keep the guest's order of loads and stores where the host's is weaker: when other threads share memory.
    pub ordered: bool,
    /// Do so without barriers in loads and stores of translated code, because those others have its thread pass one
    /// where they need it: see [`emu_core::order`].
    pub plain: bool,
    /// Let accesses share looks into the translation cache.
    pub share_probes: bool,
    /// Accesses that share a look do not test that nothing has come between, but where it may have: `x64/twice.rs`.
    pub trust_looks: bool,
    /// Ask the host for large pages behind translated code.
    pub large_pages: bool,
    /// Keep the page that the stack is in at hand.
    pub stack_window: bool,
    /// Put code that is seldom run in a place of its own.
    pub stubs_apart: bool,
    /// Let a segment register of the host lead to the translation cache, where it can.
    pub set_in_segment: bool,
    /// Copy blocks that are wanted at another RIP as well.
    pub copy_blocks: bool,
    /// Leave `base + displacement` to the accesses that use it.
    pub fold_addresses: bool,
    /// Take immediates that keep changing for data: for whoever makes the blocks, since the emitter has them as they come.
    pub code_words: bool,
    /// Let LOCK be where no other vCPU is: for whoever makes the blocks, too.
    pub elide_locks: bool,
}

impl Default for JitConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            chain: true,
            count_insns: true,
            heed_budget: true,
            single_block: false,
            perf_map: false,
            link_pages: true,
            predict_returns: true,
            baseline: false,
            pin_vectors: true,
            ordered: true,
            plain: false,
            share_probes: true,
            trust_looks: true,
            fold_addresses: true,
            code_words: true,
            elide_locks: true,
            copy_blocks: true,
            stack_window: true,
            stubs_apart: true,
            set_in_segment: true,
            large_pages: true,
        }
    }
}

/// Counters of a [`Jit`].
#[derive(Clone, Copy, Debug, Default)]
pub struct JitStats {
    /// Blocks translated.
    pub blocks: u64,
    /// Translations copied to another RIP.
    pub copies: u64,
    /// Guest instructions translated.
    pub guest_insns: u64,
    /// Bytes of host code made.
    pub host_bytes: u64,
    /// Doors made apart for blocks that computed jumps came to when they were there already.
    pub doors: u64,
    /// Direct links made.
    pub links: u64,
    /// Whole-cache flushes.
    pub flushes: u64,
    /// Times that the oldest part of the cache made room.
    pub evictions: u64,
    /// Blocks dropped because their bytes changed.
    pub invalidated: u64,
    /// Entries into translated code.
    pub entries: u64,
    /// Returns for a block at a known place.
    pub exits_direct: u64,
    /// Returns for a block at a computed place.
    pub exits_indirect: u64,
    /// Returns for the interpreter.
    pub exits_interpret: u64,
    /// Returns with a fault.
    pub exits_fault: u64,
    /// Bytes of the code cache in use.
    pub cache_used: u64,
    /// Live blocks.
    pub live_blocks: u64,
}

/// A translator with its code cache, for one vCPU.
#[derive(Debug)]
pub struct Jit {
    cfg: JitConfig,
    cache: Cache,
    codegen: host::Codegen,
    entry: host::Entry,
    /// See [`hold::no_addend`].
    no_addend: u64,
    stats: JitStats,
    budget: u64,
    /// The exit that came back last and may be linked to what is run next.
    pending: Option<u32>,
    /// Translated code was left last at a jump to a computed place.
    computed: bool,
    /// There was no room for a door.
    full: bool,
    /// Blocks read their own code, in RAM pages up to this one.
    reads_ram: Option<usize>,
    perf: Option<std::fs::File>,
}

impl Jit {
    /// A translator with an empty cache.
    ///
    /// # Errors
    /// When the host's processor is not served or it gives no memory.
    pub fn new(cfg: JitConfig) -> Result<Self, JitError> {
        // Only links across pages are such that a copy can be made.
        let copy_blocks = cfg.copy_blocks && cfg.link_pages;
        let cfg = JitConfig { copy_blocks, ..cfg };
        let mut codegen = host::Codegen::new(&cfg)?;
        let bytes = cfg.cache_bytes.clamp(1 << 16, host::MAX_ARENA);
        let arena = Arena::new(bytes, cfg.large_pages, (bytes / LEAST_SLICE).clamp(1, SLICES))?;
        let entry = codegen.prologue();
        let cache = Cache::new(arena, codegen.code(), entry.way_out(), entry.no_return())
            .ok_or(JitError::Internal("the trampolines do not fit"))?;
        let perf = if cfg.perf_map {
            Some(std::fs::File::create(format!("/tmp/perf-{}.map", std::process::id()))?)
        } else {
            None
        };
        let stats = JitStats::default();
        Ok(Self {
            cfg,
            cache,
            no_addend: host::no_addend(),
            codegen,
            entry,
            stats,
            budget: u64::MAX,
            pending: None,
            computed: false,
            full: false,
            reads_ram: None,
            perf,
        })
    }

    /// The translated block with `key`.
    #[inline]
    pub fn lookup(&self, key: &BlockKey) -> Option<BlockId> {
        self.cache.lookup(key)
    }

    /// The translated block with `key`, which the processor's RIP leads to, if it is what the bytes there say now: a
    /// block that reaches into a second page may have been made from another.
    pub fn find(&self, cpu: &mut Cpu, key: &BlockKey) -> Option<BlockId> {
        let id = self.cache.lookup(key)?;
        if let Some(second) = self.cache.second_page(id) {
            let base = if key.mode.contains(Mode::CODE64) { 0 } else { cpu.state.seg[Seg::CS as usize].base };
            let next = next_page(base.wrapping_add(key.rip), key.mode);
            if cpu.fetch_gpa(next).ok()? != second.page_base() {
                return None;
            }
        }
        Some(id)
    }

    /// Translates a block. A full cache gives up its oldest part first; ids of blocks in there become stale.
    ///
    /// # Errors
    /// [`JitError::Unsupported`] or [`JitError::Internal`]: the block has to be interpreted.
    pub fn compile(&mut self, block: &Block) -> Result<BlockId, JitError> {
        let words: Vec<_> = block.words().collect();
        for again in [true, false] {
            let place = self.cache.place(self.cfg.stubs_apart, self.computed);
            self.codegen.compile(block, place)?;
            let moves = if self.cfg.copy_blocks { &self.codegen.frame.moves[..] } else { &[] };
            let moves = self.cache.note_moves(moves);
            let new = NewBlock {
                key: block.key,
                guest_len: block.guest_len,
                further: block.chunks,
                words: &words,
                next_page: block.next_page,
                code: self.codegen.code(),
                hot: self.codegen.hot(),
                exits: &self.codegen.frame.exits,
                sites: &self.codegen.frame.sites,
                moves,
                door: self.codegen.frame.door,
            };
            if let Some(id) = self.cache.insert(&new, place) {
                if let Some(page) = block.ram {
                    self.reads_ram = Some(page.max(self.reads_ram.unwrap_or(0)));
                }
                self.stats.blocks += 1;
                self.stats.guest_insns += u64::from(block.guest_insns);
                self.stats.host_bytes += new.code.len() as u64;
                self.name_for_perf(block.key, id);
                return Ok(id);
            }
            if again {
                tracing::debug!(blocks = self.cache.live(), "code cache full");
                self.make_room();
            }
        }
        Err(JitError::TooLarge(self.codegen.code().len()))
    }

    fn name_for_perf(&mut self, key: BlockKey, id: BlockId) {
        let Some(file) = &mut self.perf else { return };
        for ((code, at), name) in self.cache.host_code(id).into_iter().flatten().zip(["guest", "seldom"]) {
            // A profile without a name is no reason to stop.
            let _ = writeln!(file, "{at:p} {:x} {name}_{:x}_{:x}", code.len(), key.rip, key.mode.0);
        }
    }

    /// Whether there is a translation of the same bytes for another RIP.
    pub fn has_twin(&self, key: &BlockKey) -> bool {
        self.cache.twin(key).is_some()
    }

    /// A copy of a translation of the same bytes for another RIP, which the processor's RIP and mode lead to with `key`;
    /// None when there is none, or no room.
    pub fn copy(&mut self, cpu: &mut Cpu, key: &BlockKey) -> Option<BlockId> {
        let twin = self.cache.twin(key)?;
        if let Some(second) = self.cache.second_page(twin)
            && cpu.fetch_gpa(next_page(key.rip, key.mode)).ok()? != second.page_base()
        {
            return None;
        }
        let id = self.cache.copy(twin, key.rip)?;
        if self.cfg.chain && !self.cfg.single_block {
            self.cache.link_within(id);
        }
        self.stats.copies += 1;
        self.name_for_perf(*key, id);
        Some(id)
    }

    /// Lets [`Jit::run`] come back with [`RunExit::Budget`] after `insns` more instructions; tested where signals are.
    pub fn set_budget(&mut self, cpu: &Cpu, insns: u64) {
        self.budget = cpu.state.icount.saturating_add(insns);
    }

    /// Runs the block `id`, which the processor's RIP and mode must lead to, and those that follow. On x86 hosts it takes up to
    /// 256 KiB of the thread's stack, for the guest's calls.
    pub fn run(&mut self, cpu: &mut Cpu, id: BlockId) -> RunExit {
        let mut id = id;
        loop {
            let exit = self.run_linked(cpu, id);
            if self.full {
                self.make_room();
                return exit;
            }
            if exit != RunExit::NeedBlock || !self.cfg.chain || self.cfg.single_block {
                return exit;
            }
            match self.known(cpu) {
                Some(next) => id = next,
                None => return exit,
            }
        }
    }

    /// Goes on in translated code after the interpreter has executed what [`Jit::run`] came back for, if the place
    /// is known; None: nothing was done. What would make [`Jit::run`] wrong there makes this wrong.
    pub fn resume(&mut self, cpu: &mut Cpu) -> Option<RunExit> {
        let mode = cpu.state.mode;
        if !mode.contains(Mode::FLAT) || !self.cfg.chain || self.cfg.single_block {
            return None;
        }
        let set = self.cache.jumps.select(mode);
        let code = self.cache.jumps.find(set, cpu.state.rip, cpu.exec_id(cpu.state.rip))?;
        self.pending = None;
        let exit = self.run_code(cpu, set, code);
        if exit != RunExit::NeedBlock {
            return Some(exit);
        }
        Some(match self.known(cpu) {
            Some(next) => self.run(cpu, next),
            None => exit,
        })
    }

    /// The translated block that the processor's RIP leads to, if it is flat code and was not come to by a computed jump: what
    /// has no door then is mostly cold, and so is where an exit led to nothing before. The engine finds that out sooner.
    fn known(&mut self, cpu: &mut Cpu) -> Option<BlockId> {
        let (rip, mode) = (cpu.state.rip, cpu.state.mode);
        if self.computed || !mode.contains(Mode::FLAT) {
            return None;
        }
        let beyond = self.pending.map_or(Beyond::Unknown, |n| self.cache.beyond(n));
        if beyond == Beyond::Cold {
            return None;
        }
        let phys = cpu.fetch_gpa(rip).ok()?;
        if let Beyond::Block(id, exec) = beyond
            && exec != 0
            && cpu.exec_id(rip) == exec
            && self.cache.second_page(id).is_none()
        {
            return Some(id);
        }
        let found = self.find(cpu, &BlockKey { phys, rip, mode });
        if let (None, Some(exit)) = (found, self.pending) {
            self.cache.leads_nowhere(exit);
        }
        found
    }

    /// Runs the block `id` and those that are linked.
    fn run_linked(&mut self, cpu: &mut Cpu, id: BlockId) -> RunExit {
        let Some(code) = self.cache.code_offset(id) else { return RunExit::NeedBlock };
        let exec = if self.cfg.chain && !self.cfg.single_block { self.entered(cpu, id) } else { 0 };
        let set = self.cache.jumps.select(cpu.state.mode);
        self.cache.remember(set, id, exec);
        if std::mem::take(&mut self.computed) && exec != 0 {
            self.open_door(set, id, exec);
        }
        self.run_code(cpu, set, code)
    }

    /// Lets computed jumps in `set` come to block `id` from here on while its fetch translation is `exec`.
    fn open_door(&mut self, set: usize, id: BlockId, exec: u32) {
        if self.cache.open_door(set, id, exec) {
            return;
        }
        let (at, key, code) = self.cache.door_place(id);
        let Some(guard) = self.codegen.door(at, &key, exec, code) else { return };
        if !self.cache.add_door(id, exec, self.codegen.code(), guard) {
            self.full = true;
            return;
        }
        self.cache.open_door(set, id, exec);
        self.stats.doors += 1;
        if let Some(file) = &mut self.perf {
            // A profile without a name is no reason to stop.
            let len = self.codegen.code().len();
            let _ =
                writeln!(file, "{:p} {len:x} door_{:x}_{:x}", self.cache.address(at), key.rip, key.mode.0);
        }
    }

    /// Runs the code at an offset of the arena, a live block's that the processor's RIP leads to in the mode of `set`.
    fn run_code(&mut self, cpu: &mut Cpu, set: usize, code: usize) -> RunExit {
        self.stats.entries += 1;
        let s = &mut cpu.state;
        s.scratch[layout::FLAGS] = host::to_word(s.rflags);
        let (doors, returns, switch) = self.cache.jumps.enter(set);
        s.scratch[layout::DOORS] = doors;
        s.scratch[layout::NO_DOOR] = self.cache.address(self.entry.way_out()) as u64;
        s.scratch[layout::RETURNS] = returns;
        s.scratch[layout::SWITCH] = switch;
        s.scratch[layout::CODE_BASE] = self.cache.address(0) as u64;
        s.scratch[layout::BUDGET] = self.budget;
        s.scratch[layout::MX_GUEST] = u64::from(s.mxcsr | 0x1f80);
        s.scratch[layout::MX_HOST] = 0x1f80;
        s.scratch[layout::LIVE] = 0;
        s.scratch[layout::X87_SITE] = 0;
        s.scratch[layout::NO_ADDEND] = self.no_addend;
        s.scratch[layout::STACK_LIMIT] = 0;
        if let Some(last) = self.reads_ram {
            let last_page = cpu.mem.host_page(last) as u64;
            cpu.state.scratch[layout::RAM] = last_page - ((last as u64) << PAGE_SHIFT);
        }
        let word = host::enter(&self.cache, self.entry, code, cpu);
        if Kind::from_word(word) == Some(Kind::Panic) {
            helpers::resume_panic();
        }
        cpu.complete_journal();
        x87::unpack(&mut cpu.state);
        let s = &mut cpu.state;
        s.mxcsr |= s.scratch[layout::MX_GUEST] as u32 & 0x3f;
        s.rflags = s.rflags & !rflags::STATUS | host::status_flags(&s.scratch);
        self.after(cpu, word)
    }

    /// Brings what depends on fetch translations up to date before block `id` is entered, which the processor's RIP
    /// leads to: the link that led here, and the block's check of its second page. The number of the translation.
    fn entered(&mut self, cpu: &mut Cpu, id: BlockId) -> u32 {
        let pending = self.pending.take();
        if !cpu.state.mode.contains(Mode::FLAT) {
            if let Some(exit) = pending {
                self.cache.link(exit, id, 0);
            }
            return 0;
        }
        let rip = cpu.state.rip;
        let mut exec = cpu.exec_id(rip);
        if exec == 0 && cpu.fetch_gpa(rip).is_ok() {
            exec = cpu.exec_id(rip);
        }
        if self.cache.second_page(id).is_some() {
            let next = next_page(rip, cpu.state.mode);
            self.cache.guard_entry(id, cpu.exec_id(next));
        }
        if let Some(exit) = pending {
            self.cache.link(exit, id, exec);
        }
        exec
    }

    fn after(&mut self, cpu: &mut Cpu, word: u64) -> RunExit {
        let n = (word >> 32) as u32;
        self.x87_pointers(cpu, word);
        let kind = Kind::from_word(word);
        self.computed = kind == Some(Kind::Indirect);
        let exit = match kind {
            Some(Kind::Direct) => {
                self.stats.exits_direct += 1;
                if let Some((rip, linkable)) = self.cache.exit(n) {
                    cpu.state.rip = rip;
                    self.pending = (linkable && self.cfg.chain && !self.cfg.single_block).then_some(n);
                }
                self.boundary(cpu)
            }
            Some(Kind::Indirect) | None => {
                self.stats.exits_indirect += 1;
                self.boundary(cpu)
            }
            Some(kind) => {
                if let Some(site) = self.cache.sites.get(n) {
                    cpu.state.rip = site.rip;
                    if let Some(recipe) = site.flags {
                        let s = &mut cpu.state;
                        s.rflags = s.rflags & !rflags::STATUS | recipe.flags(&s.gpr, &s.scratch);
                    }
                    if self.cfg.count_insns {
                        cpu.state.icount -= u64::from(site.undo);
                    }
                }
                if kind == Kind::Fault {
                    self.stats.exits_fault += 1;
                    return RunExit::Fault;
                }
                self.stats.exits_interpret += 1;
                RunExit::Interpret
            }
        };
        if cpu.code_hits.is_empty() { exit } else { RunExit::CodeHit }
    }

    /// Makes FIP, FOP and the selectors good, by the last x87 instruction that was executed.
    fn x87_pointers(&self, cpu: &mut Cpu, word: u64) {
        let left_at = match Kind::from_word(word) {
            Some(Kind::Fault | Kind::Interpret) => self.cache.sites.get((word >> 32) as u32),
            _ => None,
        };
        let ended = (cpu.state.scratch[layout::X87_SITE] as u32).checked_sub(1);
        let ended = ended.and_then(|n| self.cache.sites.get(n)).and_then(|s| s.x87);
        for last in [ended, left_at.and_then(|s| s.x87)].into_iter().flatten() {
            x87::note(&mut cpu.state, &last);
        }
    }

    /// Why a block boundary was a reason to come back.
    fn boundary(&self, cpu: &Cpu) -> RunExit {
        if cpu.signals.peek() != 0 {
            RunExit::Signal
        } else if self.cfg.count_insns && cpu.state.icount >= self.budget {
            RunExit::Budget
        } else {
            RunExit::NeedBlock
        }
    }

    /// Drops every block made from bytes that were hit. Others may have been made from the same 64-byte chunks:
    /// [`Jit::bytes_in_use`].
    pub fn invalidate(&mut self, hits: &[CodeHit]) {
        self.pending = None;
        self.cache.invalidate(hits);
    }

    /// Which bytes of 64-byte chunk `chunk` of the page of `addr` live blocks were made from, by bit; None: there is no such
    /// block. What a block reads of its own code each time it runs is not among them.
    pub fn bytes_in_use(&self, addr: PhysAddr, chunk: u32) -> Option<u64> {
        self.cache.bytes_in_use(addr, chunk)
    }

    /// Gives up the oldest part of a full cache.
    fn make_room(&mut self) {
        self.pending = None;
        self.full = false;
        self.cache.make_room();
    }

    /// Forgets every block.
    pub fn flush(&mut self) {
        self.pending = None;
        self.full = false;
        self.cache.flush();
    }

    /// Counters by name, for `--stats`.
    pub fn stats(&self) -> Vec<(String, u64)> {
        let c = self.counters();
        [
            ("blocks translated", c.blocks),
            ("guest instructions in them", c.guest_insns),
            ("host bytes made", c.host_bytes),
            ("blocks copied to another RIP", c.copies),
            ("live blocks", c.live_blocks),
            ("code cache bytes in use", c.cache_used),
            ("code cache flushes", c.flushes),
            ("code cache evictions", c.evictions),
            ("blocks invalidated", c.invalidated),
            ("doors added to blocks", c.doors),
            ("direct links", c.links),
            ("direct links that were there, behind a page not yet fetched from", self.cache.relinks),
            ("entries into translated code", c.entries),
            ("exits at a direct jump", c.exits_direct),
            ("exits at an indirect jump", c.exits_indirect),
            ("exits to the interpreter", c.exits_interpret),
            ("exits with a fault", c.exits_fault),
        ]
        .map(|(name, n)| (name.to_owned(), n))
        .into()
    }

    /// Counters.
    pub fn counters(&self) -> JitStats {
        JitStats {
            links: self.cache.links,
            flushes: self.cache.flushes,
            evictions: self.cache.evictions,
            invalidated: self.cache.invalidated,
            cache_used: self.cache.used() as u64,
            live_blocks: self.cache.live() as u64,
            ..self.stats
        }
    }

    /// A block's host code, for a disassembler, in parts with the addresses at which they run: what is out of line comes
    /// last. Empty when the block is gone.
    pub fn host_code(&self, id: BlockId) -> Vec<(u64, Vec<u8>)> {
        let parts = self.cache.host_code(id).into_iter().flatten();
        parts.filter(|(code, _)| !code.is_empty()).map(|(code, at)| (at as u64, code)).collect()
    }
}

/// The exception for which [`Jit::run`] or [`Jit::resume`] has just come back with [`RunExit::Fault`].
pub fn fault(cpu: &Cpu) -> Exception {
    helpers::exception(cpu)
}

/// Whether this host's emitter knows each of `insts` from `from` on: the front end ends a block before an instruction
/// that it does not.
pub fn emits(insts: &[Inst], from: usize) -> bool {
    host::emits(insts, from)
}

/// First linear address of the page behind that of `lin`.
pub(crate) fn next_page(lin: u64, mode: Mode) -> u64 {
    let next = (lin & !PAGE_MASK).wrapping_add(PAGE_SIZE);
    if mode.contains(Mode::LMA) { next } else { next & 0xffff_ffff }
}
