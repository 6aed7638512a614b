//! Random blocks: the translated block and the evaluator must leave the same state, memory and exit.

use crate::r#gen::{Rng, block, cpu, snapshot};
use crate::{agree, disassemble, joined, to_user};
use backend_jit::{Jit, JitConfig, JitError};
use emu_core::cpu::Cpu;
use emu_core::ir::{Block, Optimizer, PassSet, eval};
use emu_core::state::Mode;

/// Runs `b` both ways; true if it was translated.
pub fn check(jit: &mut Jit, b: &Block, seed: u64) -> Result<bool, String> {
    check_from(jit, b, seed, |_| {})
}

/// As [`check`], from a state that `prepare` has changed.
pub fn check_from(jit: &mut Jit, b: &Block, seed: u64, prepare: impl Fn(&mut Cpu)) -> Result<bool, String> {
    let start = || {
        let mut c = cpu(&mut Rng(seed ^ 0x9e37_79b9_7f4a_7c15));
        if b.key.mode.cpl() == 3 {
            to_user(&mut c);
        }
        prepare(&mut c);
        c
    };
    let id = match jit.compile(b) {
        Ok(id) => id,
        Err(JitError::Unsupported(_)) => return Ok(false),
        Err(e) => return Err(format!("{b}\nseed {seed}: {e}")),
    };
    let mut first = start();
    let end = eval(b, &mut first);
    let mut second = start();
    let exit = jit.run(&mut second, id);
    let (want, got) = (snapshot(&first), snapshot(&second));
    if agree(end, exit, &second) && want == got {
        return Ok(true);
    }
    let code = disassemble(&joined(jit, id));
    let before = snapshot(&start());
    Err(format!(
        "{b}\n{code}\nseed {seed}: {end:?} against {exit:?}\nbefore {before}\nwant   {want}\ngot    {got}"
    ))
}

#[test]
fn random_blocks_do_what_the_evaluator_does() {
    compare(JitConfig { single_block: true, ..JitConfig::default() });
}

#[test]
fn random_blocks_do_so_on_a_baseline_host() {
    compare(JitConfig { single_block: true, baseline: true, ..JitConfig::default() });
}

fn compare(cfg: JitConfig) {
    let var =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    let (from, seeds) = (var("CALQUE_FROM", 1), var("CALQUE_SEEDS", 4_000));
    let mut jit = Jit::new(cfg).unwrap();
    let mut passes = Optimizer::new(PassSet::ALL);
    let (mut done, mut bad) = (0, 0);
    let mut shortest: Option<String> = None;
    for seed in from..from + seeds {
        let mut b = block(&mut Rng(seed));
        // The emitter looks into the translation cache in other ways for programs than for the system.
        b.key.mode = Mode(if seed % 2 == 0 { Mode::CPL } else { 0 });
        for _ in 0..2 {
            match check(&mut jit, &b, seed) {
                Ok(translated) => done += u64::from(translated),
                Err(e) => {
                    bad += 1;
                    if shortest.as_ref().is_none_or(|s| e.lines().count() < s.lines().count()) {
                        shortest = Some(e);
                    }
                }
            }
            passes.run(&mut b);
        }
    }
    assert!(bad == 0, "{bad} of {done} blocks differ; the shortest:\n{}", shortest.unwrap_or_default());
    assert!(done * 4 > seeds, "only {done} of {} blocks were translated", 2 * seeds);
}
