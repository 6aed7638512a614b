//! One processor driven block by block by an engine of one's choice: what the library, `run-case` and `diff` stand on.
//!
//! Unlike the engines behind `--engine`, a driver stops exactly: after a number of instructions, or at an address. It
//! takes little memory, since there may be a thousand of them.
//!
//! Invariant: translated blocks end at the stop address, if there is one, and are entered only while all of their
//! instructions may run; everything else is interpreted, which is the same by the equivalence that `diff` checks.

use super::forget_code;
use super::switches::Off;
use backend_jit::{Jit, JitConfig, JitError, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::engine::Engine;
use emu_core::fault::{Exception, Vector};
use emu_core::ir::{Block, BlockKey, End, Op, Optimizer, PassSet, eval};
use emu_core::mem::Frame;
use emu_core::state::bits::rflags;
use emu_core::state::{Activity, Mode};
use frontend_x86::{Lifted, Lifter};
use iced_x86::{Decoder, DecoderOptions};
use interp::system::deliver;
use interp::{Interp, StepResult};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Which engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// The interpreter, which the others are held against.
    Interp,
    /// The IR evaluator on blocks as lifted.
    Eval,
    /// The IR evaluator after these passes (the bits of a [`PassSet`]).
    Optimized(u32),
    /// Host code.
    Jit,
    /// Host code, made with something switched off.
    JitWithout(Off),
}

impl Kind {
    /// Every engine of an ordinary comparison, the interpreter first.
    pub const ALL: [Kind; 4] = [Kind::Interp, Kind::Eval, Kind::Optimized(PassSet::ALL.0), Kind::Jit];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Interp => "interpreter",
            Kind::Eval => "evaluator",
            Kind::Optimized(_) => "evaluator after passes",
            Kind::Jit => "host code",
            Kind::JitWithout(_) => "host code with something off",
        }
    }

    /// Its name in `run-case`: `interp`, `eval` (after all passes) or `jit`.
    pub const fn short(self) -> &'static str {
        match self {
            Kind::Interp => "interp",
            Kind::Eval | Kind::Optimized(_) => "eval",
            Kind::Jit | Kind::JitWithout(_) => "jit",
        }
    }

    /// What is switched off, if it is host code.
    pub fn host_code(self) -> Option<Off> {
        match self {
            Kind::Jit => Some(Off::default()),
            Kind::JitWithout(off) => Some(off),
            _ => None,
        }
    }
}

/// Why a driver came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// At a HLT (or MWAIT).
    Halted,
    /// By a triple fault, or by what was caught: see [`Cpu::caught`].
    Shutdown,
    /// The instructions are used up.
    Limit,
    /// At the stop address, before the instruction there.
    Stopped,
}

/// Settings of a driver.
#[derive(Clone, Copy, Debug)]
pub struct DriverConfig {
    /// Which engine.
    pub kind: Kind,
    /// Bytes of the code cache, for [`Kind::Jit`].
    pub cache_bytes: usize,
    /// Go from block to block inside translated code. Then limits are kept only roughly, and there is no stop address.
    pub chain: bool,
}

impl DriverConfig {
    /// Exact limits.
    pub const fn exact(kind: Kind) -> Self {
        Self { kind, cache_bytes: 1 << 20, chain: false }
    }
}

/// The engine of one processor. See the module.
#[derive(Debug)]
pub struct Driver {
    config: DriverConfig,
    interp: Interp,
    lifter: Lifter,
    optimizer: Optimizer,
    jit: Option<Jit>,
    /// Lifted blocks of the evaluator; None: to be interpreted.
    blocks: HashMap<BlockKey, Option<Block>>,
    /// Instructions in each translated block, 0: to be interpreted.
    sizes: HashMap<BlockKey, u32>,
    /// The linear address that blocks have been cut at.
    stop: Option<u64>,
    /// Instructions that ran translated (evaluated or as host code).
    pub translated: u64,
    /// Instructions left to the interpreter.
    pub interpreted: u64,
    /// Translations that failed, by reason.
    pub refused: HashMap<String, u64>,
    /// Translated code jumped to an address that is not canonical.
    pub wild: bool,
    /// What was lifted, as text, if wanted.
    pub trace: Option<String>,
    /// Guest-physical addresses of the instructions in the blocks at hand, if wanted.
    pub lifted: Option<HashSet<u64>>,
}

const MAX_INSNS: u32 = 64;

/// The linear address of the instruction pointer.
pub fn code_address(cpu: &Cpu) -> u64 {
    let s = &cpu.state;
    if s.is_long64() { s.rip } else { s.seg[1].base.wrapping_add(s.rip) & 0xffff_ffff }
}

impl Driver {
    /// A driver that has translated nothing yet.
    ///
    /// # Errors
    /// When the host has no back-end, or gives no memory for code.
    pub fn new(config: DriverConfig) -> Result<Self, JitError> {
        let jit = config.kind.host_code().map(|off| {
            Jit::new(JitConfig {
                cache_bytes: config.cache_bytes,
                chain: config.chain,
                single_block: !config.chain,
                ..off.config()
            })
        });
        let jit = jit.transpose()?;
        let passes = match config.kind {
            Kind::Interp | Kind::Eval => PassSet::NONE,
            Kind::Optimized(bits) => PassSet(bits),
            Kind::Jit => PassSet::ALL,
            Kind::JitWithout(off) => off.passes(),
        };
        let mut lifter = Lifter::new(MAX_INSNS);
        lifter.lift_words(config.kind.host_code().is_none_or(|off| off.config().code_words));
        if jit.is_some() {
            lifter.set_emits(backend_jit::emits);
        }
        Ok(Self {
            config,
            interp: Interp::small(),
            lifter,
            optimizer: Optimizer::new(passes),
            jit,
            blocks: HashMap::new(),
            sizes: HashMap::new(),
            stop: None,
            translated: 0,
            interpreted: 0,
            refused: HashMap::new(),
            wild: false,
            trace: None,
            lifted: None,
        })
    }

    /// Which engine it is.
    pub fn kind(&self) -> Kind {
        self.config.kind
    }

    /// Gives up every block made from bytes that this processor has written.
    pub fn drain(&mut self, cpu: &mut Cpu) {
        if cpu.code_hits.is_empty() {
            return;
        }
        let hits = std::mem::take(&mut cpu.code_hits);
        self.invalidate(cpu, &hits);
    }

    /// Whether there is a block that holds the instruction at this guest-physical address: as far as
    /// [`Driver::lifted`] notes it.
    pub fn has_lifted(&self, at: u64) -> bool {
        self.lifted.as_ref().is_some_and(|l| l.contains(&at))
    }

    fn forget_lifted(&mut self) {
        self.blocks.clear();
        if let Some(lifted) = &mut self.lifted {
            lifted.clear();
        }
    }

    fn invalidate(&mut self, cpu: &mut Cpu, hits: &[CodeHit]) {
        self.forget_lifted();
        self.lifter.note_stores(hits);
        Engine::invalidate(&mut self.interp, hits);
        if let Some(jit) = &mut self.jit {
            jit.invalidate(hits);
            self.sizes.retain(|key, _| jit.lookup(key).is_some());
        }
        forget_code(cpu, hits, self.jit.as_ref());
    }

    /// Gives up everything made from code in RAM pages `from` to `to` (page numbers): for those who write guest
    /// memory from outside.
    pub fn forget_pages(&mut self, cpu: &mut Cpu, pages: impl Iterator<Item = u64>) {
        let mut hits = Vec::new();
        for n in pages {
            let addr = PhysAddr(n << 12);
            if let Frame::Ram(_, index) = cpu.mem.frame(addr) {
                let chunks = cpu.mem.code_chunks(index).load(Ordering::Relaxed);
                if chunks != 0 {
                    hits.push(CodeHit::whole(addr, index, chunks));
                }
            }
        }
        if !hits.is_empty() {
            self.invalidate(cpu, &hits);
        }
    }

    /// Forgets every block that was translated, but not what the interpreter decoded.
    fn forget_blocks(&mut self) {
        self.forget_lifted();
        self.sizes.clear();
        if let Some(jit) = &mut self.jit {
            jit.flush();
        }
    }

    /// Runs at most `limit` instructions, to `stop` (a linear address) at the furthest. The first instruction runs
    /// even if it is at `stop` already when `go` is set.
    pub fn run(&mut self, cpu: &mut Cpu, limit: u64, stop: Option<u64>, go: bool) -> Ended {
        if self.config.kind != Kind::Interp && self.stop != stop {
            self.forget_blocks();
            self.stop = stop;
        }
        let end = cpu.state.icount.saturating_add(limit);
        // Every turn counts, also one in which nothing was completed: a REP instruction that goes on, a delivery.
        let mut turns = limit.saturating_mul(4).saturating_add(64);
        let mut first = go;
        loop {
            self.drain(cpu);
            if !std::mem::take(&mut first) && stop == Some(code_address(cpu)) {
                return Ended::Stopped;
            }
            let left = end.saturating_sub(cpu.state.icount);
            if left == 0 || turns == 0 {
                return Ended::Limit;
            }
            turns -= 1;
            if let Some(ended) = self.turn(cpu, left) {
                self.drain(cpu);
                return ended;
            }
        }
    }

    /// Runs one block or instruction, of at most `left` instructions; Some when the run is over.
    pub fn turn(&mut self, cpu: &mut Cpu, left: u64) -> Option<Ended> {
        if self.config.kind == Kind::Interp {
            return self.step(cpu);
        }
        let s = &cpu.state;
        if s.activity != Activity::Active {
            return Some(if s.activity == Activity::Shutdown { Ended::Shutdown } else { Ended::Halted });
        }
        if s.mode.0 & Mode::STEP != 0 || s.shadow != 0 || s.rflags & rflags::RF != 0 {
            return self.step(cpu);
        }
        let (rip, mode) = (s.rip, s.mode);
        let lin = code_address(cpu);
        let phys = match cpu.fetch_gpa(lin) {
            Ok(phys) => phys,
            Err(e) => {
                self.wild |= e.vector == Vector::GP;
                return self.step(cpu);
            }
        };
        let key = BlockKey { phys, rip, mode };
        let before = cpu.state.icount;
        let ended =
            if self.jit.is_some() { self.host(cpu, key, left) } else { self.evaluate(cpu, key, left) };
        self.translated += cpu.state.icount.wrapping_sub(before);
        ended
    }

    /// Interprets one instruction, delivering its exception if it has one.
    pub fn step(&mut self, cpu: &mut Cpu) -> Option<Ended> {
        self.interpreted += 1;
        match self.interp.step(cpu) {
            StepResult::Done => None,
            StepResult::Halted => Some(Ended::Halted),
            StepResult::Shutdown => Some(Ended::Shutdown),
        }
    }

    fn fault(&mut self, cpu: &mut Cpu, e: Exception) -> Option<Ended> {
        deliver::exception(cpu, e).is_err().then_some(Ended::Shutdown)
    }

    /// How many instructions there are from here to the stop address, if it is near.
    fn to_stop(&self, cpu: &mut Cpu) -> Option<u32> {
        let stop = self.stop?;
        let lin = code_address(cpu);
        if stop.wrapping_sub(lin) >= 0x1000 {
            return None;
        }
        let bits = cpu.state.mode.code_bits();
        let (mut at, mut n) = (lin, 0);
        while at != stop && n < MAX_INSNS {
            let f = cpu.fetch(at).ok()?;
            let i = Decoder::new(bits, &f.bytes[..f.len], DecoderOptions::NONE).decode();
            if i.is_invalid() {
                return None;
            }
            at = at.wrapping_add(i.len() as u64);
            n += 1;
        }
        Some(n.max(1))
    }

    /// Lifts and optimises the block at RIP.
    fn lift(&mut self, cpu: &mut Cpu) -> Option<Block> {
        if self.stop.is_some() {
            let most = self.to_stop(cpu).unwrap_or(MAX_INSNS);
            self.lifter.set_max_insns(most);
        }
        let lifted = self.lifter.lift(cpu);
        if self.stop.is_some() {
            self.lifter.set_max_insns(MAX_INSNS);
        }
        let Ok(Lifted::Block(mut block)) = lifted else { return None };
        if let Some(t) = &mut self.trace {
            let _ = writeln!(t, "as lifted:\n{block}");
        }
        self.optimizer.run(&mut block);
        if let Some(t) = &mut self.trace
            && self.config.kind != Kind::Eval
        {
            let _ = writeln!(t, "after the passes:\n{block}");
        }
        (block.guest_insns != 0).then_some(block)
    }

    fn note_lifted(&mut self, block: &Block) {
        if let Some(lifted) = &mut self.lifted {
            let insns = block.insts.iter().filter(|i| i.op == Op::Guest);
            lifted.extend(insns.map(|i| block.key.phys.0.wrapping_add(i.imm as u64)));
        }
    }

    fn evaluate(&mut self, cpu: &mut Cpu, key: BlockKey, left: u64) -> Option<Ended> {
        let block = match self.blocks.remove(&key) {
            Some(block) => block,
            None => {
                let block = self.lift(cpu);
                if let Some(b) = &block {
                    self.note_lifted(b);
                }
                block
            }
        };
        let runnable = block.as_ref().is_some_and(|b| u64::from(b.guest_insns) <= left);
        let end = match &block {
            Some(b) if runnable => Some(eval(b, cpu)),
            _ => None,
        };
        self.blocks.insert(key, block);
        match end {
            None | Some(End::Interpret) => self.step(cpu),
            Some(End::Goto(_)) => None,
            Some(End::Fault(e)) => self.fault(cpu, e),
            Some(End::Unsupported(_)) => self.evaluate_one(cpu),
        }
    }

    /// One instruction of a block that holds something the evaluator does not know.
    fn evaluate_one(&mut self, cpu: &mut Cpu) -> Option<Ended> {
        self.lifter.set_max_insns(1);
        let lifted = self.lifter.lift(cpu);
        self.lifter.set_max_insns(MAX_INSNS);
        let Ok(Lifted::Block(mut b)) = lifted else { return self.step(cpu) };
        self.optimizer.run(&mut b);
        match eval(&b, cpu) {
            End::Goto(_) => None,
            End::Interpret | End::Unsupported(_) => self.step(cpu),
            End::Fault(e) => self.fault(cpu, e),
        }
    }

    fn host(&mut self, cpu: &mut Cpu, key: BlockKey, left: u64) -> Option<Ended> {
        let known = self.jit.as_ref().and_then(|j| j.lookup(&key));
        let id = match known {
            Some(id) => id,
            None => {
                if self.sizes.get(&key) == Some(&0) {
                    return self.step(cpu);
                }
                let Some(block) = self.lift(cpu) else {
                    self.sizes.insert(key, 0);
                    return self.step(cpu);
                };
                match self.jit.as_mut()?.compile(&block) {
                    Ok(id) => {
                        self.note_lifted(&block);
                        self.sizes.insert(key, block.guest_insns);
                        id
                    }
                    Err(e) => {
                        *self.refused.entry(e.to_string()).or_default() += 1;
                        self.sizes.insert(key, 0);
                        return self.step(cpu);
                    }
                }
            }
        };
        let jit = self.jit.as_mut()?;
        if self.config.chain {
            jit.set_budget(cpu, left);
        } else if self.sizes.get(&key).is_none_or(|&n| u64::from(n) > left) {
            return self.step(cpu);
        }
        if let Some(t) = &mut self.trace {
            let _ = writeln!(t, "host code:\n{}", super::translator::host_text(jit, id));
        }
        match jit.run(cpu, id) {
            RunExit::NeedBlock | RunExit::Signal | RunExit::CodeHit => None,
            RunExit::Budget => (self.config.chain && left == 0).then_some(Ended::Limit),
            RunExit::Interpret => self.step(cpu),
            RunExit::Fault => self.fault(cpu, backend_jit::fault(cpu)),
        }
    }
}
