//! The run loop of one virtual processor: runs its engine, sleeps when the guest halts, serves what engines leave.

use crate::board::counters::{Counter, Counters};
use crate::ending::Ending;
use emu_core::clock::Timers;
use emu_core::cpu::Cpu;
use emu_core::engine::{Engine, Exit};
use emu_core::signals::request;
use emu_core::state::bits::{cr0, rflags};
use emu_core::state::{Activity, Mode};
use std::sync::Arc;

/// Instructions per turn under the real clock: only a bound, since signals end a turn at once.
const REAL_SLICE: u64 = 10_000_000;
/// Instructions per turn under the virtual clock: the granularity of virtual time.
const VIRTUAL_SLICE: u64 = 5_000;

/// Why the processor stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// STOP was raised: somebody else knows why.
    Asked,
    /// The machine is over for a reason that the processor found itself.
    Ended(Ending),
}

/// Runs `cpu` until something ends the run.
pub fn run(cpu: &mut Cpu, engine: &mut dyn Engine, timers: &Arc<Timers>, counters: &Counters) -> Stop {
    let clock = cpu.clock.clone();
    // Nanoseconds that the virtual clock is ahead of the instruction count, from skipped idle time.
    let mut skipped = clock.now().saturating_sub(cpu.state.icount);
    loop {
        let slice = if clock.is_virtual() {
            let room = timers.next_due().map_or(VIRTUAL_SLICE, |at| at.saturating_sub(clock.now()));
            room.clamp(1, VIRTUAL_SLICE)
        } else {
            REAL_SLICE
        };
        let exit = engine.run(cpu, slice);
        publish(cpu, engine, counters);
        if clock.is_virtual() {
            clock.advance_to(cpu.state.icount + skipped);
            timers.run_due();
        }
        match exit {
            Exit::Budget => {}
            Exit::Halted => {
                if clock.is_virtual() {
                    // Idle time costs nothing: go to the next event at once.
                    if cpu.signals.peek() == 0
                        && let Some(at) = timers.next_due()
                    {
                        skipped += at.saturating_sub(clock.now());
                        clock.advance_to(at);
                        timers.run_due();
                        continue;
                    }
                }
                cpu.signals.wait(None);
            }
            Exit::Signal => {
                if let Some(report) = engine.failure() {
                    return Stop::Ended(Ending::Difference(report));
                }
                let asked = cpu.signals.peek();
                if asked & request::STOP != 0 {
                    return Stop::Asked;
                }
                if cpu.signals.take(request::TIMER) != 0 {
                    timers.run_due();
                }
                if cpu.signals.take(request::INIT) != 0 {
                    // INIT of the only processor: the board treats it as a reset of the machine.
                    return Stop::Ended(Ending::Reset);
                }
                // A start-up IPI means something to a processor that waits for one, and only to that.
                cpu.signals.take(request::SIPI | request::SMI);
            }
            Exit::Shutdown => {
                return Stop::Ended(Ending::TripleFault(format!(
                    "{}{}, code {}",
                    cause(cpu),
                    whereabouts(cpu),
                    code_bytes(cpu)
                )));
            }
        }
    }
}

/// Publishes what the guest may read about itself.
fn publish(cpu: &Cpu, engine: &dyn Engine, counters: &Counters) {
    counters.set(Counter::Instructions, cpu.state.icount);
    counters.set(Counter::TlbMisses, cpu.mmu.stats.misses);
    counters.set(Counter::Walks, cpu.mmu.stats.walks);
    let gauges = engine.gauges();
    counters.set(Counter::Blocks, gauges.blocks);
    counters.set(Counter::CodeHits, gauges.code_hits);
    counters.set(Counter::Interpreted, gauges.interpreted);
}

/// The exception that could not be delivered, if it is known: "on #PF with error code 0x2 ".
fn cause(cpu: &Cpu) -> String {
    match cpu.fatal {
        Some(e) if e.vector.has_error_code() => format!("on #{:?} with error code {:#x} ", e.vector, e.error),
        Some(e) => format!("on #{:?} ", e.vector),
        None => String::new(),
    }
}

/// The bytes at the instruction pointer.
fn code_bytes(cpu: &mut Cpu) -> String {
    let s = &cpu.state;
    let lin = if s.is_long64() { s.rip } else { s.seg[1].base.wrapping_add(s.rip) & 0xffff_ffff };
    match cpu.fetch(lin) {
        Ok(f) => f.bytes[..f.len].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "),
        Err(_) => "not readable".into(),
    }
}

/// Where the processor stands, in one line.
pub fn whereabouts(cpu: &Cpu) -> String {
    let s = &cpu.state;
    let mode = match (s.mode.contains(Mode::CODE64), s.mode.contains(Mode::PROT), s.mode.contains(Mode::V86))
    {
        (true, ..) => "64-bit",
        (_, true, _) if s.long_mode() => "compatibility",
        (_, true, _) => "protected",
        (_, _, true) => "virtual-8086",
        _ => "real",
    };
    format!(
        "at {:04x}:{:#x} ({mode} mode, CPL {}, paging {}), CR2={:#x}, CR3={:#x}, RSP={:#x}, IF={}{}",
        s.seg[1].sel,
        s.rip,
        s.cpl(),
        if s.cr0 & cr0::PG != 0 { "on" } else { "off" },
        s.cr2,
        s.cr3,
        s.gpr[4],
        u8::from(s.rflags & rflags::IF != 0),
        if s.activity == Activity::Halted { ", halted" } else { "" },
    )
}
