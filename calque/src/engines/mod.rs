//! The engines behind `--engine`, put together from the crates that know how to interpret, lift and emit.

use emu_core::cpu::{CodeHit, Cpu};
use emu_core::mem::page;
use std::sync::atomic::Ordering;

/// After the blocks under `hits` have been dropped from every cache: the bytes are data again, and once no decoded
/// byte is left in a page, stores to it need not pass the slow path.
pub fn forget_code(cpu: &Cpu, hits: &[CodeHit]) {
    for hit in hits {
        let old = cpu.mem.code_chunks(hit.index).fetch_and(!hit.chunks, Ordering::AcqRel);
        if old & !hit.chunks == 0 {
            cpu.mem.attrs(hit.index).fetch_and(!page::CODE, Ordering::AcqRel);
        }
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

/// The engine that `machine` asks for.
///
/// # Errors
/// When there is no back-end for this host.
pub fn make(
    machine: &crate::config::Machine,
    _log: &std::sync::Arc<crate::log::Log>,
) -> anyhow::Result<Box<dyn emu_core::engine::Engine>> {
    use crate::config::EngineKind;
    match machine.engine {
        EngineKind::Interp => Ok(Box::new(interp::Interp::new())),
        _ => anyhow::bail!("not yet"),
    }
}
