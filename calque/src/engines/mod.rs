//! The engines behind `--engine`, put together from the crates that know how to interpret, lift and emit.

pub mod driver;
pub mod jit;
mod kept;
pub mod lockstep;
mod paths;
pub mod profile;
mod replay;
pub mod switches;
pub mod translator;
mod visits;

use crate::config::{ClockKind, EngineKind, Machine};
use crate::log::Log;
use crate::symbols::Symbols;
use anyhow::{Context, Result};
use backend_jit::{Jit, JitConfig};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::engine::Engine;
use jit::JitEngine;
use lockstep::Lockstep;
use profile::Profile;
use std::sync::Arc;
use switches::Off;
use translator::Translator;

/// After stores to decoded bytes, once what was made from them has been dropped: chunks from which `jit`, the only other
/// one that may have blocks still, has none are no longer marked, and of the rest it is noted which bytes nobody has decoded.
pub fn forget_code(cpu: &mut Cpu, hits: &[CodeHit], jit: Option<&Jit>) {
    for hit in hits {
        let mut free = hit.chunks;
        for chunk in (0..64).filter(|chunk| hit.chunks >> chunk & 1 != 0) {
            if let Some(used) = jit.and_then(|jit| jit.bytes_in_use(hit.page, chunk)) {
                cpu.undecoded.note(hit.index, chunk, !used);
                free &= !(1 << chunk);
            }
        }
        cpu.mem.unmark_code(hit.index, free);
    }
}

/// What a step of the interpreter means to the engine that asked for it: Some to leave.
fn left(result: interp::StepResult) -> Option<emu_core::engine::Exit> {
    use emu_core::engine::Exit;
    use interp::StepResult;
    match result {
        StepResult::Done => None,
        StepResult::Halted => Some(Exit::Halted),
        StepResult::Shutdown => Some(Exit::Shutdown),
    }
}

/// What each processor has for translated code at least, in bytes.
pub const LEAST_CACHE: usize = 4 << 20;

/// The engine that `machine` asks for.
///
/// # Errors
/// When there is no back-end for this host.
pub fn make(machine: &Machine, log: &Arc<Log>) -> Result<Box<dyn Engine>> {
    if machine.engine == EngineKind::Interp {
        return Ok(Box::new(interp::Interp::new()));
    }
    let off = Off::named(&machine.passes_off).map_err(anyhow::Error::msg)?;
    let lockstep = machine.engine == EngineKind::Lockstep;
    let config = off.config();
    let config = JitConfig {
        // The processors share the room for code.
        cache_bytes: (machine.code_cache as usize / machine.cpus as usize).max(LEAST_CACHE),
        single_block: lockstep,
        chain: !lockstep,
        // Under the real clock nothing waits for a turn to end but what raises a signal.
        heed_budget: machine.clock == ClockKind::Virtual,
        count_insns: machine.counts_instructions(),
        perf_map: machine.perf_map,
        // With one processor on the virtual clock, devices work in its thread; else on the real one they see to order.
        ordered: machine.cpus > 1 || machine.clock != ClockKind::Virtual,
        plain: machine.cpus == 1 && emu_core::order::one_sided(),
        elide_locks: config.elide_locks && machine.cpus == 1,
        ..config
    };
    let translator = Translator::new(config, off.passes(), log.clone(), lockstep)
        .context("--engine jit is not possible on this host; use --engine interp")?;
    Ok(match lockstep {
        true => Box::new(Lockstep::new(translator)),
        false => {
            let mut engine = JitEngine::new(translator, machine.hot, machine.stats);
            engine.resume = !off.has(switches::RESUME);
            if machine.profile {
                let mut symbols = Symbols::default();
                machine.symbols.iter().try_for_each(|path| symbols.load(path))?;
                engine.profile = Some(Profile::new(symbols.into()));
            }
            Box::new(engine)
        }
    })
}
