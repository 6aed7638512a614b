//! The virtual processors and their run loop: run the engine, sleep when the guest halts, serve what engines leave.
//!
//! Under the real clock every processor has a thread ([`on_threads`]). Under the virtual clock they take turns on one
//! ([`in_turns`]), so that the same machine does the same thing every time: in each round every processor executes a
//! slice, while the clock stands still, and then time goes on by the longest of them.

use crate::board::counters::{Counter, Counters};
use crate::control::Control;
use crate::ending::Ending;
use crate::engines::driver::code_address;
use crate::nap::Nap;
use emu_core::clock::Timers;
use emu_core::cpu::Cpu;
use emu_core::cpu_box::CpuBox;
use emu_core::engine::{Engine, Exit};
use emu_core::mem::PhysMem;
use emu_core::signals::request;
use emu_core::state::bits::{cr0, rflags};
use emu_core::state::{Activity, Mode};
use interp::system::init;
use std::sync::Arc;
use std::time::Duration;

/// Instructions per turn under the real clock: only a bound, since signals end a turn at once.
const REAL_SLICE: u64 = 10_000_000;
/// Instructions per turn under the virtual clock: the granularity of virtual time.
const VIRTUAL_SLICE: u64 = 5_000;
/// IA32_APIC_BASE.BSP.
const BSP: u64 = 1 << 8;

/// A virtual processor with what executes its instructions.
pub struct Vcpu {
    /// The processor.
    pub cpu: CpuBox,
    /// Its engine.
    pub engine: Box<dyn Engine>,
    /// The engine counts completed instructions: see [`crate::config::Machine::counts_instructions`].
    pub counted: bool,
}

impl std::fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vcpu").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

/// Why the processors stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// STOP was raised: somebody else knows why.
    Asked,
    /// The machine is over for a reason that a processor found itself.
    Ended(Ending),
}

/// Parks a processor when its thread leaves the run loop, in whatever way: nobody waits for it then.
struct Leaving(Arc<PhysMem>, usize);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(crew) = self.0.crew() {
            crew.park(self.1);
        }
    }
}

/// Ends the run if a processor's thread panics, so that the others do not go on without it.
struct Watching<'a>(&'a Control);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(Ending::Failure);
        }
    }
}

/// Runs every processor on a thread of its own, the first on the caller's, until all have stopped.
///
/// # Errors
/// When the host gives no thread.
pub fn on_threads(vcpus: &mut [Vcpu], counters: &Counters, control: &Control) -> std::io::Result<Stop> {
    let [first, others @ ..] = vcpus else { return Ok(Stop::Asked) };
    if others.is_empty() {
        return Ok(run(first, counters));
    }
    std::thread::scope(|scope| {
        let work = |vcpu: &mut Vcpu| {
            let _watching = Watching(control);
            if let Stop::Ended(ending) = run(vcpu, counters) {
                control.end(ending);
            }
        };
        for (i, vcpu) in others.iter_mut().enumerate() {
            let builder = std::thread::Builder::new().name(format!("vcpu {}", i + 1));
            if let Err(e) = builder.spawn_scoped(scope, move || work(vcpu)) {
                control.stop();
                return Err(e);
            }
        }
        work(first);
        Ok(Stop::Asked)
    })
}

/// Runs one processor under the real clock until something ends the run.
fn run(vcpu: &mut Vcpu, counters: &Counters) -> Stop {
    let _leaving = Leaving(vcpu.cpu.mem.clone(), vcpu.cpu.index as usize);
    let host = std::thread::available_parallelism().map_or(1, usize::from);
    let mut nap = Nap::new(vcpu.cpu.mem.crew().map_or(1, |crew| crew.members().len()), host);
    vcpu.cpu.unpark();
    loop {
        let exit = vcpu.engine.run(&mut vcpu.cpu, REAL_SLICE);
        publish(vcpu, counters);
        if exit == Exit::Halted {
            vcpu.cpu.park();
            nap.wait(&vcpu.cpu.signals);
            vcpu.cpu.unpark();
        } else if let Some(stop) = left(vcpu, exit) {
            return stop;
        }
    }
}

/// Runs the processors in turn under the virtual clock until something ends the run.
pub fn in_turns(vcpus: &mut [Vcpu], timers: &Arc<Timers>, counters: &Counters) -> Stop {
    let clock = timers.clock().clone();
    loop {
        let room = timers.next_due().map_or(VIRTUAL_SLICE, |at| at.saturating_sub(clock.now()));
        let slice = room.clamp(1, VIRTUAL_SLICE);
        let (mut longest, mut halted) = (0, true);
        let mut stop = None;
        for vcpu in vcpus.iter_mut() {
            let before = vcpu.cpu.state.icount;
            vcpu.cpu.unpark();
            let exit = vcpu.engine.run(&mut vcpu.cpu, slice);
            vcpu.cpu.park();
            publish(vcpu, counters);
            longest = longest.max(vcpu.cpu.state.icount - before);
            halted &= exit == Exit::Halted;
            if vcpu.cpu.signals.take(request::TIMER) != 0 {
                timers.run_due();
            }
            stop = left(vcpu, exit);
            if stop.is_some() {
                break;
            }
        }
        clock.advance_to(clock.now() + longest);
        timers.run_due();
        if let Some(stop) = stop {
            return stop;
        }
        if halted && vcpus.iter().all(|v| v.cpu.signals.peek() == 0) {
            idle(vcpus, timers);
        }
    }
}

/// All processors sleep: idle time costs nothing, so go to the next event at once; without one, wait.
fn idle(vcpus: &[Vcpu], timers: &Timers) {
    /// How often to look whether another than the first processor has been called.
    const GLANCE: Duration = Duration::from_millis(10);
    if let Some(at) = timers.next_due() {
        timers.clock().advance_to(at);
        timers.run_due();
    } else if let [first, others @ ..] = vcpus {
        first.cpu.signals.wait((!others.is_empty()).then_some(GLANCE));
    }
}

/// Serves what the engine has left to the run loop; Some to end the run.
fn left(vcpu: &mut Vcpu, exit: Exit) -> Option<Stop> {
    let cpu = &mut *vcpu.cpu;
    match exit {
        Exit::Budget | Exit::Halted => None,
        Exit::Signal => {
            if let Some(report) = vcpu.engine.failure() {
                return Some(Stop::Ended(Ending::Difference(report)));
            }
            if cpu.signals.peek() & request::STOP != 0 {
                return Some(Stop::Asked);
            }
            if cpu.signals.take(request::INIT) != 0 {
                if cpu.irq.apic_base() & BSP != 0 {
                    // The bootstrap processor would begin in the firmware, which there is none of.
                    return Some(Stop::Ended(Ending::Reset));
                }
                init::init(cpu);
            }
            if cpu.signals.take(request::SIPI) != 0 {
                let vector = cpu.signals.sipi_vector();
                init::start_up(cpu, vector);
            }
            None
        }
        Exit::Shutdown => Some(Stop::Ended(Ending::TripleFault(format!(
            "{}{}, code {}",
            cause(cpu),
            whereabouts(cpu),
            code_bytes(cpu)
        )))),
    }
}

/// Publishes what the guest may read about itself.
fn publish(vcpu: &Vcpu, counters: &Counters) {
    let cpu = &vcpu.cpu;
    let n = cpu.index as usize;
    if vcpu.counted {
        counters.set(n, Counter::Instructions, cpu.state.icount);
    }
    counters.set(n, Counter::TlbMisses, cpu.mmu.stats.misses);
    counters.set(n, Counter::Walks, cpu.mmu.stats.walks);
    let gauges = vcpu.engine.gauges();
    counters.set(n, Counter::Blocks, gauges.blocks);
    counters.set(n, Counter::CodeHits, gauges.code_hits);
    counters.set(n, Counter::Interpreted, gauges.interpreted);
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
    match cpu.fetch(code_address(cpu)) {
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
        match s.activity {
            Activity::Halted => ", halted",
            Activity::WaitForSipi => ", waiting to be started",
            _ => "",
        },
    )
}
