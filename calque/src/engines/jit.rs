//! The translating engine: interpret cold blocks, translate warm ones, and let the interpreter have what is not
//! translated.

use super::forget_code;
use super::profile::Profile;
use super::translator::{Translated, Translator};
use backend_jit::RunExit;
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::engine::{Engine, Exit, Gauges};
use emu_core::ir::BlockKey;
use emu_core::state::{Activity, Mode};
use interp::Interp;
use interp::system::deliver::{self, Service};

/// Slots of the table that counts how often cold blocks ran.
const HEAT_SLOTS: usize = 1 << 17;
/// Slots of the table that counts changes of code by page.
const CHANGE_SLOTS: usize = 1 << 12;
/// A block that has proved not to be translatable.
const NEVER: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Heat {
    phys: u64,
    rip: u64,
    mode: Mode,
    runs: u32,
    /// The page's count in [`JitEngine::changes`] when it was made.
    change: u32,
}

impl Heat {
    /// Whether it is of the block with `key`.
    fn is(&self, key: &BlockKey) -> bool {
        self.phys == key.phys.0 && self.rip == key.rip && self.mode == key.mode
    }
}

/// Where the heat of `key` is.
fn slot_of(key: &BlockKey) -> usize {
    let hash = (key.phys.0 ^ u64::from(key.mode.0) << 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 47) as usize % HEAT_SLOTS
}

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
    heat: Box<[Heat]>,
    /// How often stores have hit code, by page: what was counted for other bytes counts no more, and code that keeps
    /// changing stays with the interpreter.
    changes: Box<[u32]>,
    hot: u32,
    count_fallbacks: bool,
    counters: Counters,
    /// Go on in translated code right after an interpreted instruction.
    pub resume: bool,
    /// Samples of where the guest is, under `--profile`.
    pub profile: Option<Profile>,
}

impl JitEngine {
    /// An engine that translates a block when it has been interpreted `hot` times. `count_fallbacks` keeps the
    /// list of interpreted instructions for `--stats`, at some cost.
    pub fn new(translator: Translator, hot: u32, count_fallbacks: bool) -> Self {
        let none = Heat { phys: u64::MAX, rip: 0, mode: Mode::default(), runs: 0, change: 0 };
        Self {
            interp: Interp::new(),
            translator,
            heat: vec![none; HEAT_SLOTS].into(),
            changes: vec![0; CHANGE_SLOTS].into(),
            hot,
            count_fallbacks,
            counters: Counters::default(),
            resume: true,
            profile: None,
        }
    }

    fn heat(&mut self, key: &BlockKey) -> &mut Heat {
        let change = self.changes[key.phys.page() as usize % CHANGE_SLOTS];
        let slot = &mut self.heat[slot_of(key)];
        if !slot.is(key) || slot.change != change {
            *slot = Heat { phys: key.phys.0, rip: key.rip, mode: key.mode, runs: 0, change };
        }
        slot
    }

    /// Whether the block with `key` is known to be on the way to its translation.
    fn is_cold(&self, key: &BlockKey) -> bool {
        let heat = &self.heat[slot_of(key)];
        let change = self.changes[key.phys.page() as usize % CHANGE_SLOTS];
        (1..=self.hot).contains(&heat.runs) && heat.change == change && heat.is(key)
    }

    fn drain_code_hits(&mut self, cpu: &mut Cpu) {
        if cpu.code_hits.is_empty() {
            return;
        }
        let hits = std::mem::take(&mut cpu.code_hits);
        self.counters.code_hits += hits.len() as u64;
        self.invalidate(&hits);
        forget_code(cpu, &hits);
    }

    /// Runs one block or instruction, with what follows it in translated code; Some to leave. At `end` it goes no further.
    fn turn(&mut self, cpu: &mut Cpu, end: u64) -> Option<Exit> {
        if cpu.state.mode.0 & Mode::STEP != 0 || cpu.state.shadow != 0 {
            return super::left(self.interp.step(cpu));
        }
        let Ok(key) = Translator::key(cpu) else {
            // The interpreter meets the same fault and delivers it.
            return super::left(self.interp.step(cpu));
        };
        let hot = self.hot;
        // What is still cold has not been translated.
        let found = if self.is_cold(&key) { None } else { self.translator.jit.find(cpu, &key) };
        let id = match found {
            Some(id) => id,
            None => {
                let heat = self.heat(&key);
                if heat.runs == NEVER {
                    return self.interpret_one(cpu);
                }
                heat.runs += 1;
                if heat.runs <= hot {
                    self.counters.cold_blocks += 1;
                    return super::left(self.interp.run_block(cpu));
                }
                let heat = &self.heat;
                let runs = |key: &BlockKey| {
                    let h = &heat[slot_of(key)];
                    if h.is(key) && h.runs != NEVER { h.runs } else { 0 }
                };
                match self.translator.translate(cpu, &runs) {
                    Ok(Translated::Block(id)) => id,
                    Ok(Translated::Interpret) => {
                        self.heat(&key).runs = NEVER;
                        return self.interpret_one(cpu);
                    }
                    Err(_) => return super::left(self.interp.step(cpu)),
                }
            }
        };
        self.counters.entries += 1;
        let mut exit = self.translator.jit.run(cpu, id);
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
                RunExit::Fault(e) => {
                    self.counters.faults += 1;
                    if deliver::exception(cpu, e).is_err() {
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
            RunExit::NeedBlock => self.counters.need_block += 1,
            RunExit::Signal | RunExit::Budget => self.counters.signals += 1,
            RunExit::Interpret | RunExit::Fault(_) | RunExit::CodeHit => {}
        }
        None
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
                profile.turn(cpu, |cpu| Some(jit.host_code(jit.lookup(&Translator::key(cpu).ok()?)?).len()));
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
        for hit in hits {
            let change = &mut self.changes[hit.page.page() as usize % CHANGE_SLOTS];
            *change = change.wrapping_add(1);
        }
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
