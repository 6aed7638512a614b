//! What the run loop and the engines know of each other.

use crate::cpu::{CodeHit, Cpu};

/// Why an engine returned to the run loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget of instructions is used up.
    Budget,
    /// HLT (or MWAIT): nothing to do until a signal is raised.
    Halted,
    /// A request bit that the run loop serves is set: STOP, TIMER, INIT, SIPI.
    Signal,
    /// A triple fault; the state is that before the third fault's delivery.
    Shutdown,
}

/// Counters of an engine that a guest may read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Blocks translated.
    pub blocks: u64,
    /// Stores to decoded code.
    pub code_hits: u64,
    /// Instructions that translated code left to the interpreter.
    pub interpreted: u64,
}

/// Executes guest instructions: the interpreter, the translator, or both in lockstep.
pub trait Engine: Send {
    /// Runs `cpu` for about `budget` instructions (the block in hand is finished), delivering exceptions and
    /// interrupts on the way.
    fn run(&mut self, cpu: &mut Cpu, budget: u64) -> Exit;

    /// Drops whatever was derived from the bytes that were hit.
    fn invalidate(&mut self, hits: &[CodeHit]);

    /// The counters that guests may read about their engine.
    fn gauges(&self) -> Gauges {
        Gauges::default()
    }

    /// What went wrong inside the engine, if it cannot go on: it has returned [`Exit::Signal`] then.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Where the guest spent its time, if the engine was told to find out.
    fn profile(&self) -> Option<String> {
        None
    }

    /// Counters by name, for `--stats`, in the order to print.
    fn stats(&self) -> Vec<(String, u64)>;
}
