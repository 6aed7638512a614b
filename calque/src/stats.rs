//! The report of `--stats` and Ctrl-A c.

use crate::vcpu::{Vcpu, whereabouts};
use emu_core::cpu::Cpu;
use std::fmt::Write;
use std::time::Duration;

/// All counters, a line each, summed over the processors.
pub fn report(vcpus: &[Vcpu], elapsed: Duration) -> String {
    let mut text = String::new();
    for vcpu in vcpus {
        let _ = match vcpus.len() {
            1 => writeln!(text, "guest {}", whereabouts(&vcpu.cpu)),
            _ => writeln!(text, "guest vCPU {} {}", vcpu.cpu.index, whereabouts(&vcpu.cpu)),
        };
    }
    let mut line = |name: &str, value: u64| {
        let _ = writeln!(text, "{value:>16}  {name}");
    };
    let sum = |of: fn(&Cpu) -> u64| vcpus.iter().map(|v| of(&v.cpu)).sum::<u64>();
    let seconds = elapsed.as_secs_f64().max(1e-9);
    if vcpus.iter().all(|v| v.counted) {
        let instructions = sum(|c| c.state.icount);
        line("guest instructions", instructions);
        line("guest instructions a second", (instructions as f64 / seconds) as u64);
    }
    line("translation cache misses", sum(|c| c.mmu.stats.misses));
    line("misses answered by shadow tables", sum(|c| c.mmu.shadow.stats.hits));
    line("walks of guest page tables", sum(|c| c.mmu.stats.walks));
    line("shadow tables", sum(|c| c.mmu.shadow.len() as u64));
    line("shadow entries filled", sum(|c| c.mmu.shadow.stats.fills));
    line("stores to guest page tables", sum(|c| c.mmu.shadow.stats.writes));
    line("shadow entries cleared by them", sum(|c| c.mmu.shadow.stats.cleared));
    line("page tables turned into data", sum(|c| c.mmu.shadow.stats.floods));
    line("full drops of the shadow tables", sum(|c| c.mmu.shadow.stats.overflows));
    line("flushes of the translation caches", sum(|c| c.mmu.stats.flushes));
    line("CR3 loads", sum(|c| c.mmu.stats.cr3_loads));
    line("CR3 loads that kept their address space", sum(|c| c.mmu.stats.cr3_kept));
    line("INVLPG", sum(|c| c.mmu.stats.invlpgs));
    if vcpus.len() > 1 {
        line("messages from other vCPUs and devices", sum(|c| c.sharing.news));
        line("requests to give up write entries", sum(|c| c.sharing.revocations));
        line("instructions with all other vCPUs aside", sum(|c| c.sharing.alone));
        line("PAUSE", sum(|c| c.sharing.pauses));
    }
    let mut all: Vec<(String, u64)> = Vec::new();
    for (name, value) in vcpus.iter().flat_map(|v| v.engine.stats()) {
        match all.iter_mut().find(|(n, _)| *n == name) {
            Some((_, total)) => *total += value,
            None => all.push((name, value)),
        }
    }
    for (name, value) in all {
        line(&name, value);
    }
    for profile in vcpus.iter().filter_map(|v| v.engine.profile()) {
        text += &profile;
    }
    text
}
