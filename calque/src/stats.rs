//! The report of `--stats` and Ctrl-A c.

use crate::vcpu::whereabouts;
use emu_core::cpu::Cpu;
use emu_core::engine::Engine;
use std::fmt::Write;
use std::time::Duration;

/// All counters, a line each.
pub fn report(cpu: &Cpu, engine: &dyn Engine, elapsed: Duration) -> String {
    let mut text = format!("guest {}\n", whereabouts(cpu));
    let mut line = |name: &str, value: u64| {
        let _ = writeln!(text, "{value:>16}  {name}");
    };
    let seconds = elapsed.as_secs_f64().max(1e-9);
    line("guest instructions", cpu.state.icount);
    line("guest instructions a second", (cpu.state.icount as f64 / seconds) as u64);
    let m = &cpu.mmu.stats;
    let s = &cpu.mmu.shadow.stats;
    line("translation cache misses", m.misses);
    line("misses answered by shadow tables", s.hits);
    line("walks of guest page tables", m.walks);
    line("shadow tables", cpu.mmu.shadow.len() as u64);
    line("shadow entries filled", s.fills);
    line("stores to guest page tables", s.writes);
    line("shadow entries cleared by them", s.cleared);
    line("page tables turned into data", s.floods);
    line("full drops of the shadow tables", s.overflows);
    line("flushes of the translation caches", m.flushes);
    line("CR3 loads", m.cr3_loads);
    line("CR3 loads that kept their address space", m.cr3_kept);
    line("INVLPG", m.invlpgs);
    for (name, value) in engine.stats() {
        line(&name, value);
    }
    if let Some(profile) = engine.profile() {
        text += &profile;
    }
    text
}
