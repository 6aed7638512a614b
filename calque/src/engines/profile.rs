//! `--profile`: where the guest spends its time, found by looking where it is a thousand times a second.
//!
//! A thread sets [`request::SAMPLE`]; translated code comes out at its next poll, and the engine notes the instruction
//! pointer. So a sample names a block that was about to run (a loop's head, the target of an indirect jump), never an
//! instruction inside one. Time in the interpreter and in helpers counts for the block that caused it. What a profile
//! costs is its exits: some thousand a second.

use super::driver::code_address;
use crate::symbols::Symbols;
use backend_jit::RunExit;
use emu_core::cpu::Cpu;
use emu_core::signals::{Signals, request};
use emu_core::state::Activity;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time between samples.
const PERIOD: Duration = Duration::from_millis(1);
/// Lines of each list in the report.
const LINES: usize = 40;
/// Bytes of guest code kept of a place.
const CODE: usize = 60;
/// Blocks whose guest code is shown.
const SHOWN: usize = 8;

/// A place in the guest. User programs may use the same addresses: they are told apart by CR3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Spot {
    user: bool,
    space: u64,
    rip: u64,
}

/// What is known of a place.
#[derive(Clone, Debug, Default)]
struct Seen {
    samples: u64,
    /// Bytes of host code of the block there, when it was last seen.
    host: Option<usize>,
    /// Its first guest instructions.
    code: Vec<u8>,
    bits: u32,
}

/// The samples of a run, and the exits from translated code by place.
#[derive(Debug)]
pub struct Profile {
    seen: HashMap<Spot, Seen>,
    exits: HashMap<(u64, &'static str), u64>,
    total: u64,
    idle: u64,
    symbols: Arc<Symbols>,
    /// What the sampling thread holds on to; None before the first turn.
    clock: Option<Arc<()>>,
}

impl Profile {
    /// A profile without samples; places are named by `symbols`.
    pub fn new(symbols: Arc<Symbols>) -> Self {
        Self { seen: HashMap::new(), exits: HashMap::new(), total: 0, idle: 0, symbols, clock: None }
    }

    /// Called at every turn of the engine: takes a sample if one is due. `host_bytes` is the size of the host code of the
    /// block at the instruction pointer, if it is translated.
    pub fn turn(&mut self, cpu: &mut Cpu, host_bytes: impl FnOnce(&mut Cpu) -> Option<usize>) {
        if self.clock.is_none() {
            let clock = Arc::new(());
            start(&cpu.signals, Arc::downgrade(&clock));
            self.clock = Some(clock);
        }
        if cpu.signals.take(request::SAMPLE) != 0 {
            self.sample(cpu, host_bytes);
        }
    }

    /// Notes an exit from translated code to the engine.
    pub fn exit(&mut self, rip: u64, exit: &RunExit) {
        let why = match exit {
            RunExit::NeedBlock => "block not linked",
            RunExit::Interpret => "left to the interpreter",
            RunExit::Fault => "fault",
            RunExit::CodeHit => "store to code",
            // These come from outside.
            RunExit::Signal | RunExit::Budget => return,
        };
        *self.exits.entry((rip, why)).or_default() += 1;
    }

    fn sample(&mut self, cpu: &mut Cpu, host_bytes: impl FnOnce(&mut Cpu) -> Option<usize>) {
        self.total += 1;
        if cpu.state.activity != Activity::Active {
            self.idle += 1;
            return;
        }
        let s = &cpu.state;
        let user = s.cpl() == 3;
        let spot = Spot { user, space: if user { s.cr3 } else { 0 }, rip: s.rip };
        let lin = code_address(cpu);
        let bits = s.mode.code_bits();
        let seen = self.seen.entry(spot).or_default();
        seen.samples += 1;
        // Looked up now and then, since a cold block becomes a warm one.
        if seen.samples.is_power_of_two() {
            seen.host = host_bytes(cpu);
            seen.bits = bits;
            while seen.code.len() < CODE
                && let Ok(fetched) = cpu.fetch(lin.wrapping_add(seen.code.len() as u64))
                && fetched.len > 0
            {
                seen.code.extend(&fetched.bytes[..fetched.len]);
            }
        }
    }

    /// The report.
    pub fn report(&self) -> String {
        let (mut text, symbols) = (String::new(), &*self.symbols);
        let share = |n: u64| 100.0 * n as f64 / self.total.max(1) as f64;
        let user: u64 = self.seen.iter().filter(|(spot, _)| spot.user).map(|(_, seen)| seen.samples).sum();
        let kernel = self.total - self.idle - user;
        let _ = writeln!(
            text,
            "profile: {} samples, one each millisecond: {:.1}% user, {:.1}% kernel, {:.1}% idle",
            self.total,
            share(user),
            share(kernel),
            share(self.idle)
        );
        let _ = writeln!(text, " samples   share  host bytes  place");
        let mut list: Vec<_> = self.seen.iter().collect();
        list.sort_by(|a, b| b.1.samples.cmp(&a.1.samples).then_with(|| a.0.cmp(b.0)));
        for (spot, seen) in list.iter().take(LINES) {
            let host = seen.host.map_or_else(|| "-".into(), |n| n.to_string());
            let _ = write!(text, "{:>8}  {:>5.1}%  {host:>10}  ", seen.samples, share(seen.samples));
            let _ = match spot.user {
                true => {
                    writeln!(text, "user {:#x} in {:#x}  {}", spot.rip, spot.space, symbols.name(spot.rip))
                }
                false => writeln!(text, "kernel {:#x}  {}", spot.rip, symbols.name(spot.rip)),
            };
        }
        let mut exits: Vec<_> = self.exits.iter().collect();
        exits.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let _ = writeln!(text, "exits from translated code by place\n   count  place");
        for ((rip, why), count) in exits.into_iter().take(LINES) {
            let _ = writeln!(text, "{count:>8}  {rip:#x}  {why}  {}", symbols.name(*rip));
        }
        for (spot, seen) in list.iter().take(SHOWN) {
            let _ = writeln!(text, "guest code at {:#x}  {}", spot.rip, symbols.name(spot.rip));
            text += &frontend_x86::disassemble(&seen.code, spot.rip, seen.bits);
        }
        text
    }
}

/// The thread that asks for samples, until the profile or the processor is gone.
fn start(signals: &Arc<Signals>, alive: Weak<()>) {
    let signals = Arc::downgrade(signals);
    let ask = move || {
        while let Some(signals) = signals.upgrade()
            && alive.strong_count() > 0
        {
            signals.raise(request::SAMPLE);
            drop(signals);
            std::thread::sleep(PERIOD);
        }
    };
    // Without the thread there are no samples, which the report shows.
    let _ = std::thread::Builder::new().name("profile".into()).spawn(ask);
}
