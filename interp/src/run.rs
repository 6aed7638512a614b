//! The run loop: blocks, faults, interrupts, single steps.

use crate::block::{BlockId, Cache, Heat};
use crate::decode::Op;
use crate::step;
use crate::system::deliver::{self, Service, Shutdown};
use emu_core::addr::PhysAddr;
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::engine::{Engine, Exit};
use emu_core::fault::Exception;
use emu_core::state::bits::rflags;
use emu_core::state::{Activity, Mode};

/// The reference interpreter.
#[derive(Debug, Default)]
pub struct Interp {
    cache: Cache,
    exceptions: u64,
    steps: u64,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// The instruction completed, or its fault was delivered.
    Done,
    /// The processor is halted now.
    Halted,
    /// The processor has shut down.
    Shutdown,
}

/// How far a block got.
struct Progress {
    /// Instructions completed.
    done: u64,
    /// The fault of the next one.
    fault: Option<Exception>,
}

/// Executes the operations of a block from `cpu.state.rip` on. Leaves `rip` at the next instruction, or at the one
/// that faulted.
#[inline(always)]
fn run_ops(cpu: &mut Cpu, ops: &[Op], owns_rip: bool) -> Progress {
    let base = cpu.state.rip;
    for (i, op) in ops.iter().enumerate() {
        let end = base.wrapping_add(op.end.into());
        cpu.state.rip = end;
        if let Err(e) = (op.run)(cpu, op) {
            if !(owns_rip && i + 1 == ops.len()) {
                cpu.state.rip = end.wrapping_sub(op.len.into());
            }
            return Progress { done: i as u64, fault: Some(e) };
        }
        if !cpu.code_hits.is_empty() {
            return Progress { done: i as u64 + 1, fault: None };
        }
    }
    Progress { done: ops.len() as u64, fault: None }
}

impl Interp {
    /// An interpreter that has decoded nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An interpreter that takes little memory, for one of many.
    pub fn small() -> Self {
        Self { cache: Cache::small(), exceptions: 0, steps: 0 }
    }

    /// Executes exactly one instruction at CS:RIP, delivering its exception if it has one; single-step traps and
    /// breakpoints included. Stores into decoded bytes are left in `cpu.code_hits` for the caller.
    pub fn step(&mut self, cpu: &mut Cpu) -> StepResult {
        self.steps += 1;
        let outcome = if cpu.state.mode.contains(Mode::STEP) || cpu.state.rflags & rflags::RF != 0 {
            self.step_slowly(cpu)
        } else {
            let shadow = std::mem::take(&mut cpu.state.shadow);
            match self.one(cpu) {
                Ok(()) => Ok(()),
                Err(e) => {
                    cpu.state.shadow = shadow;
                    self.deliver(cpu, e)
                }
            }
        };
        result(cpu, outcome)
    }

    /// Executes one block at CS:RIP, delivering its exception if it has one. Where an interrupt shadow, RF or
    /// single-stepping asks for it, one instruction. Stores into decoded bytes are left in `cpu.code_hits`, and the
    /// caller hands them to [`Engine::invalidate`] before it runs more.
    #[inline(always)]
    pub fn run_block(&mut self, cpu: &mut Cpu) -> StepResult {
        let outcome = if special(cpu) {
            return self.step(cpu);
        } else {
            self.block(cpu)
        };
        result(cpu, outcome)
    }

    /// See [`Cache::heat`].
    #[inline]
    pub fn heat(&mut self, cpu: &mut Cpu, hot: u32, count: bool) -> Heat {
        self.cache.heat(cpu, hot, count)
    }

    /// See [`Cache::never`].
    pub fn never(&mut self, cpu: &mut Cpu) {
        self.cache.never(cpu);
    }

    /// See [`Cache::translated`].
    pub fn translated(&mut self, id: BlockId) {
        self.cache.translated(id);
    }

    /// See [`Cache::runs`].
    pub fn runs(&self, gpa: PhysAddr, mode: Mode) -> u32 {
        self.cache.runs(gpa, mode)
    }

    /// [`Interp::run_block`] for the block that [`Interp::heat`] has just found at CS:RIP.
    #[inline]
    pub fn run_found(&mut self, cpu: &mut Cpu, id: BlockId) -> StepResult {
        if special(cpu) {
            return self.step(cpu);
        }
        let outcome = match self.execute(cpu, id) {
            Ok(()) => Ok(()),
            Err(e) => self.deliver(cpu, e),
        };
        result(cpu, outcome)
    }

    /// [`Interp::run_block`], and the bytes and instructions of the block if all of it has been executed.
    pub fn run_measured(&mut self, cpu: &mut Cpu) -> (StepResult, Option<(u64, u32)>) {
        let before = cpu.state.icount;
        let found = if special(cpu) { None } else { self.cache.find(cpu, false).ok() };
        let Some(id) = found else { return (self.run_block(cpu), None) };
        let extent = self.cache.get(id).map(crate::block::Block::extent);
        let result = self.run_found(cpu, id);
        let whole = |&(_, insns): &(u64, u32)| cpu.state.icount == before + u64::from(insns);
        (result, extent.filter(whole))
    }

    #[inline(always)]
    fn block(&mut self, cpu: &mut Cpu) -> Result<(), Shutdown> {
        match self.cache.find(cpu, false) {
            Ok(id) => match self.execute(cpu, id) {
                Ok(()) => Ok(()),
                Err(e) => self.deliver(cpu, e),
            },
            Err(e) => self.deliver(cpu, e),
        }
    }

    /// Executes the block: Err if it ended in a fault, which is still to be delivered.
    #[inline(always)]
    fn execute(&mut self, cpu: &mut Cpu, id: BlockId) -> Result<(), Exception> {
        let Some(block) = self.cache.get(id) else { return Ok(()) };
        let p = run_ops(cpu, &block.ops, block.owns_rip);
        cpu.state.icount += p.done;
        if !cpu.state.mode.contains(Mode::CODE64) {
            cpu.state.rip &= 0xffff_ffff;
        }
        match p.fault {
            None => Ok(()),
            Some(e) => Err(e),
        }
    }

    /// One instruction, without looking at shadows or traps.
    fn one(&mut self, cpu: &mut Cpu) -> Result<(), Exception> {
        let id = self.cache.find(cpu, true)?;
        self.execute(cpu, id)
    }

    #[cold]
    #[inline(never)]
    fn deliver(&mut self, cpu: &mut Cpu, e: Exception) -> Result<(), Shutdown> {
        self.exceptions += 1;
        deliver::exception(cpu, e)
    }

    /// One instruction under TF, RF or breakpoints (SDM vol. 3B, 17.3).
    #[inline(never)]
    fn step_slowly(&mut self, cpu: &mut Cpu) -> Result<(), Shutdown> {
        if let Some(e) = step::instruction_breakpoint(cpu) {
            return self.deliver(cpu, e);
        }
        let before = step::Before::new(cpu);
        let shadow = std::mem::take(&mut cpu.state.shadow);
        let had_rf = cpu.state.rflags & rflags::RF != 0;
        if let Err(e) = self.one(cpu) {
            cpu.state.shadow = shadow;
            return self.deliver(cpu, e);
        }
        if had_rf && !before.loads_rf {
            cpu.state.rflags &= !rflags::RF;
        }
        match before.traps(cpu) {
            Some(e) => self.deliver(cpu, e),
            None => Ok(()),
        }
    }

    /// Drops what was decoded from bytes that this processor has written, and lets go of the marks.
    #[cold]
    #[inline(never)]
    fn drain(&mut self, cpu: &mut Cpu) {
        let hits = std::mem::take(&mut cpu.code_hits);
        self.cache.invalidate(&hits);
        for hit in &hits {
            cpu.mem.unmark_code(hit.index, hit.chunks);
        }
    }
}

/// Whether the next instruction must be executed alone.
#[inline(always)]
fn special(cpu: &Cpu) -> bool {
    cpu.state.shadow != 0 || cpu.state.mode.contains(Mode::STEP) || cpu.state.rflags & rflags::RF != 0
}

#[inline(always)]
fn result(cpu: &Cpu, outcome: Result<(), Shutdown>) -> StepResult {
    match outcome {
        Err(Shutdown) => StepResult::Shutdown,
        Ok(()) => match cpu.state.activity {
            Activity::Active => StepResult::Done,
            Activity::Shutdown => StepResult::Shutdown,
            _ => StepResult::Halted,
        },
    }
}

impl Engine for Interp {
    fn run(&mut self, cpu: &mut Cpu, budget: u64) -> Exit {
        let until = cpu.state.icount.saturating_add(budget);
        loop {
            if !cpu.code_hits.is_empty() {
                self.drain(cpu);
            }
            if cpu.signals.peek() != 0 || cpu.state.activity != Activity::Active {
                match deliver::service(cpu) {
                    // Mail may have told of writes to decoded bytes.
                    Service::Nothing if !cpu.code_hits.is_empty() => continue,
                    Service::Nothing if cpu.state.activity == Activity::Active => {}
                    Service::Nothing | Service::Halted => return Exit::Halted,
                    Service::Taken => continue,
                    Service::Exit(_) => return Exit::Signal,
                    Service::Shutdown => return Exit::Shutdown,
                }
            }
            if cpu.state.icount >= until {
                return Exit::Budget;
            }
            match self.run_block(cpu) {
                StepResult::Done | StepResult::Halted => {}
                StepResult::Shutdown => return Exit::Shutdown,
            }
        }
    }

    fn invalidate(&mut self, hits: &[CodeHit]) {
        self.cache.invalidate(hits);
    }

    fn stats(&self) -> Vec<(String, u64)> {
        vec![
            ("interp blocks decoded".into(), self.cache.decoded),
            ("interp blocks dropped".into(), self.cache.dropped),
            ("interp exceptions".into(), self.exceptions),
            ("interp single steps".into(), self.steps),
        ]
    }
}
