//! Paths past computed jumps, recorded while the interpreter goes on from places that are hot: see [`frontend_x86::Path`].

use emu_core::cpu::Cpu;
use emu_core::ir::BlockKey;
use frontend_x86::{Leap, Path, Recorder};
use interp::{Interp, StepResult};
use std::collections::HashMap;

/// Most paths that are kept.
const MOST: usize = 4096;

/// Recorded paths, and the one that is being recorded.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<BlockKey, Path>,
    recorder: Option<Recorder>,
}

impl Paths {
    /// The path that has been recorded from `key` on, for one translation.
    pub fn take(&mut self, key: &BlockKey) -> Option<Path> {
        self.known.remove(key)
    }

    /// Begins to record what follows `key`.
    pub fn record(&mut self, key: BlockKey) {
        self.recorder = Some(Recorder::new(key));
    }

    /// Whether a path is being recorded.
    pub fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    /// Has the interpreter execute the next block of the path that is being recorded, and notes where it has gone. What is
    /// out of the ordinary ends the path.
    pub fn go_on(&mut self, interp: &mut Interp, cpu: &mut Cpu) -> StepResult {
        let (rip, mode) = (cpu.state.rip, cpu.state.mode);
        let (result, extent) = interp.run_measured(cpu);
        let Some(recorder) = &mut self.recorder else { return result };
        let plain = mode == cpu.state.mode && cpu.code_hits.is_empty();
        let more = extent.filter(|_| plain).is_some_and(|(bytes, insns)| {
            recorder.note(Leap { behind: rip.wrapping_add(bytes), next: cpu.state.rip }, insns)
        });
        if !more && let Some(done) = self.recorder.take() {
            if self.known.len() >= MOST {
                self.known.clear();
            }
            self.known.insert(done.key, done.path());
        }
        result
    }
}
