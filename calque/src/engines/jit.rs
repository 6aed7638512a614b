//! The translating engine: interpret cold blocks, translate warm ones, and let the interpreter have what is not
//! translated.

use super::forget_code;
use super::paths::Paths;
use super::profile::Profile;
use super::translator::{Translated, Translator};
use super::visits::Visits;
use backend_jit::{BlockId, RunExit};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::engine::{Engine, Exit, Gauges};
use emu_core::ir::BlockKey;
use emu_core::state::{Activity, Mode};
use interp::Interp;
use interp::block::Heat;
use interp::system::deliver::{self, Service};

/// Blocks that a translation has, at most or nearly so, behind its first.
const INSIDE: u8 = 8;

/// Counters of the engine.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    cold_blocks: u64,
    entries: u64,
    need_block: u64,
    interpret: u64,
    faults: u64,
    signals: u64,
    code_hits: u64,
}

/// See the module.
#[derive(Debug)]
pub struct JitEngine {
    interp: Interp,
    translator: Translator,
    hot: u32,
    count_fallbacks: bool,
    counters: Counters,
    /// There was no translated block for the place that translated code came to last.
    missed: bool,
    /// Of places that might get copies of translations.
    visits: Visits,
    /// So many blocks more are taken for parts of a translation for other RIPs that the interpreter has begun to execute:
    /// they need none of their own.
    uncopied: u8,
    paths: Paths,
    /// Go on in translated code right after an interpreted instruction.
    pub resume: bool,
    /// Samples of where the guest is, under `--profile`.
    pub profile: Option<Profile>,
}

impl JitEngine {
    /// An engine that translates a block when it has been interpreted `hot` times. `count_fallbacks` keeps the
    /// list of interpreted instructions for `--stats`, at some cost.
    pub fn new(translator: Translator, hot: u32, count_fallbacks: bool) -> Self {
        Self {
            interp: Interp::new(),
            translator,
            hot,
            count_fallbacks,
            counters: Counters::default(),
            missed: false,
            visits: Visits::new(),
            uncopied: 0,
            paths: Paths::default(),
            resume: true,
            profile: None,
        }
    }

    fn drain_code_hits(&mut self, cpu: &mut Cpu) {
        if cpu.code_hits.is_empty() {
            return;
        }
        let hits = std::mem::take(&mut cpu.code_hits);
        self.counters.code_hits += hits.len() as u64;
        self.invalidate(&hits);
        forget_code(cpu, &hits, Some(&self.translator.jit));
    }

    /// Runs one block or instruction, with what follows it in translated code; Some to leave. At `end` it goes no further.
    fn turn(&mut self, cpu: &mut Cpu, end: u64) -> Option<Exit> {
        if cpu.state.mode.0 & Mode::STEP != 0 || cpu.state.shadow != 0 {
            return super::left(self.interp.step(cpu));
        }
        if self.paths.is_recording() {
            return self.record(cpu);
        }
        let known = !std::mem::take(&mut self.missed);
        let next = if known && self.resume { self.translator.jit.resume(cpu) } else { None };
        let mut exit = match next {
            Some(exit) => exit,
            None => match self.block(cpu) {
                Ok(id) => self.translator.jit.run(cpu, id),
                Err(left) => return left,
            },
        };
        self.counters.entries += 1;
        if let Some(profile) = &mut self.profile {
            profile.exit(cpu.state.rip, &exit);
        }
        loop {
            match exit {
                RunExit::Interpret => {
                    if let Some(exit) = self.interpret_one(cpu) {
                        return Some(exit);
                    }
                }
                RunExit::Fault => {
                    self.counters.faults += 1;
                    if deliver::exception(cpu, backend_jit::fault(cpu)).is_err() {
                        return Some(Exit::Shutdown);
                    }
                }
                _ => break,
            }
            let next = if self.resumable(cpu, end) { self.translator.jit.resume(cpu) } else { None };
            match next {
                Some(next) => exit = next,
                None => return None,
            }
        }
        match exit {
            RunExit::NeedBlock => {
                self.counters.need_block += 1;
                self.missed = true;
            }
            RunExit::Signal | RunExit::Budget => self.counters.signals += 1,
            RunExit::Interpret | RunExit::Fault | RunExit::CodeHit => {}
        }
        None
    }

    /// The translated block to go on with; or else something has been interpreted.
    fn block(&mut self, cpu: &mut Cpu) -> Result<BlockId, Option<Exit>> {
        let inside = std::mem::take(&mut self.uncopied);
        let heat = self.interp.heat(cpu, self.hot, inside == 0);
        match heat {
            Heat::Never => return Err(self.interpret_one(cpu)),
            Heat::Cold(block) if !self.translator.is_hot(cpu, self.hot) => {
                return Err(self.interpret_block(cpu, block, inside.saturating_sub(1)));
            }
            Heat::Cold(_) | Heat::Unknown | Heat::Hot(_) => {}
        }
        let Ok(key) = Translator::key(cpu) else {
            // The interpreter meets the same fault and delivers it.
            return Err(super::left(self.interp.step(cpu)));
        };
        if let Some(id) = self.translator.jit.find(cpu, &key) {
            return Ok(id);
        }
        if heat == Heat::Unknown && self.hot > 0 {
            self.counters.cold_blocks += 1;
            return Err(super::left(self.interp.run_block(cpu)));
        }
        if self.translator.jit.has_twin(&key) {
            if let Heat::Hot(block) = heat
                && !self.visits.enough(key.rip)
            {
                return Err(self.interpret_block(cpu, block, INSIDE));
            }
            if let Some(id) = self.translator.jit.copy(cpu, &key) {
                return Ok(id);
            }
        } else if inside > 0
            && let Heat::Hot(block) = heat
        {
            return Err(self.interpret_block(cpu, block, inside - 1));
        }
        let interp = &self.interp;
        let runs = |key: &BlockKey| interp.runs(key.phys, key.mode);
        match self.translator.translate(cpu, &runs, Some(&mut self.paths)) {
            Ok(Translated::Block(id)) => {
                // What other processes have at other places is interpreted there until it gets its copy.
                if let (Heat::Cold(block) | Heat::Hot(block), 0) = (heat, cpu.state.cpl()) {
                    self.interp.translated(block);
                }
                Ok(id)
            }
            Ok(Translated::Unrecorded) => Err(self.record(cpu)),
            Ok(Translated::Interpret) => {
                self.interp.never(cpu);
                Err(self.interpret_one(cpu))
            }
            Err(_) => Err(super::left(self.interp.step(cpu))),
        }
    }

    /// Has the interpreter execute a block of the path that is being recorded.
    fn record(&mut self, cpu: &mut Cpu) -> Option<Exit> {
        self.counters.cold_blocks += 1;
        super::left(self.paths.go_on(&mut self.interp, cpu))
    }

    /// Whether translated code may go on with nothing looked at in between.
    fn resumable(&self, cpu: &Cpu, end: u64) -> bool {
        self.resume
            && self.profile.is_none()
            && cpu.signals.peek() == 0
            && cpu.code_hits.is_empty()
            && cpu.state.mode.0 & Mode::STEP == 0
            && cpu.state.shadow == 0
            && cpu.state.activity == Activity::Active
            && cpu.state.icount < end
    }

    /// Has the interpreter execute a block that it has found; then so many more are taken for parts of a translation.
    fn interpret_block(
        &mut self,
        cpu: &mut Cpu,
        block: interp::block::BlockId,
        uncopied: u8,
    ) -> Option<Exit> {
        self.counters.cold_blocks += 1;
        self.uncopied = uncopied;
        super::left(self.interp.run_found(cpu, block))
    }

    fn interpret_one(&mut self, cpu: &mut Cpu) -> Option<Exit> {
        self.counters.interpret += 1;
        if self.count_fallbacks {
            self.translator.note_fallback(cpu);
        }
        super::left(self.interp.step(cpu))
    }
}

impl Engine for JitEngine {
    fn run(&mut self, cpu: &mut Cpu, budget: u64) -> Exit {
        let end = cpu.state.icount.saturating_add(budget);
        self.translator.jit.set_budget(cpu, budget);
        loop {
            if let Some(profile) = &mut self.profile {
                let jit = &self.translator.jit;
                profile.turn(cpu, |cpu| {
                    let parts = jit.host_code(jit.lookup(&Translator::key(cpu).ok()?)?);
                    Some(parts.iter().map(|(_, code)| code.len()).sum())
                });
            }
            if cpu.signals.peek() != 0 || cpu.state.activity != Activity::Active {
                match deliver::service(cpu) {
                    Service::Exit(_) => return Exit::Signal,
                    Service::Shutdown => return Exit::Shutdown,
                    Service::Halted => return Exit::Halted,
                    Service::Nothing | Service::Taken => {}
                }
            }
            self.drain_code_hits(cpu);
            if cpu.state.icount >= end {
                return Exit::Budget;
            }
            if let Some(exit) = self.turn(cpu, end) {
                self.drain_code_hits(cpu);
                return exit;
            }
        }
    }

    fn invalidate(&mut self, hits: &[CodeHit]) {
        self.interp.invalidate(hits);
        self.translator.invalidate(hits);
    }

    fn gauges(&self) -> Gauges {
        let (c, blocks) = (&self.counters, self.translator.jit.counters().blocks);
        Gauges { blocks, code_hits: c.code_hits, interpreted: c.interpret }
    }

    fn profile(&self) -> Option<String> {
        self.profile.as_ref().map(Profile::report)
    }

    fn stats(&self) -> Vec<(String, u64)> {
        let c = &self.counters;
        let mut list = vec![
            ("cold blocks interpreted".to_owned(), c.cold_blocks),
            ("exits: block needed".to_owned(), c.need_block),
            ("exits: interpret one".to_owned(), c.interpret),
            ("exits: fault".to_owned(), c.faults),
            ("exits: signal".to_owned(), c.signals),
            ("stores to decoded code".to_owned(), c.code_hits),
        ];
        list.extend(self.translator.jit.stats());
        list.extend(self.interp.stats().into_iter().map(|(name, n)| (format!("interpreter: {name}"), n)));
        for (mnemonic, n) in self.translator.fallbacks().into_iter().take(40) {
            list.push((format!("interpreted {mnemonic}"), n));
        }
        list
    }
}
