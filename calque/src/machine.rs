//! A whole run: build the machine, start its threads, run it until it ends, tell how.

use crate::backends::console::{self, Key, RawTerminal};
use crate::backends::sink::{self, Threaded};
use crate::board::{self, Board, Parts, tables};
use crate::boot::{self, Image};
use crate::config::{Chardev, ClockKind, EngineKind, Machine};
use crate::control::Control;
use crate::ending::Ending;
use crate::engines;
use crate::engines::switches::{LARGE_PAGES, Off};
use crate::log::Log;
use crate::stats;
use crate::vcpu::{self, Stop, Vcpu};
use anyhow::{Context, Result, anyhow};
use devices::sink::ByteSink;
use devices::uart::Uart;
use devices::virtio::Console;
use emu_core::clock::{Clock, Timers};
use emu_core::cpu::{Cpu, Wiring};
use emu_core::mem::PhysMem;
use emu_core::signals::{Signals, request};
use emu_core::state::Activity;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What outlives a reset of the guest.
#[derive(Debug)]
struct Host {
    control: Arc<Control>,
    stdout: Arc<Threaded>,
    serial: Arc<dyn ByteSink>,
    hvc: Option<Arc<dyn ByteSink>>,
    debugcon: Option<Arc<dyn ByteSink>>,
    /// What the keys go to.
    input: Arc<Mutex<Option<Input>>>,
    log: Arc<Log>,
    started: Instant,
}

/// A device of the guest that takes keys.
#[derive(Clone, Debug)]
enum Input {
    Uart(Arc<Uart>),
    Console(Arc<Console>),
}

impl Input {
    /// Whether there was room for `byte`; if not, waits a moment for some.
    fn receive(&self, byte: u8) -> bool {
        let wait = Duration::from_millis(50);
        let taken = match self {
            Self::Uart(uart) => uart.receive(&[byte]) != 0,
            Self::Console(console) => console.push_input(&[byte]) != 0,
        };
        match self {
            _ if taken => {}
            Self::Uart(uart) => {
                uart.wait_for_room(wait);
            }
            Self::Console(_) => std::thread::sleep(wait),
        }
        taken
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Uart(a), Self::Uart(b)) => Arc::ptr_eq(a, b),
            (Self::Console(a), Self::Console(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Runs the machine to its end. `note` is printed before it starts.
///
/// # Errors
/// Whatever keeps it from starting, in one line.
pub fn run(machine: &Machine, note: &str) -> Result<Ending> {
    let image = Image::open(machine)?;
    let mut machine = machine.clone();
    if machine.engine == EngineKind::Lockstep {
        // Two engines see the same time only if it is counted.
        machine.clock = ClockKind::Virtual;
    }
    let log = Log::new(machine.log.clone(), machine.log_file.as_deref()).context("the log file")?;
    let stdout = sink::stdout()?;
    let host = Host {
        control: Arc::default(),
        serial: sink::open(&machine.serial, &stdout).map_err(|e| anyhow!(e))?,
        hvc: machine.hvc.as_ref().map(|dev| sink::open(dev, &stdout)).transpose().map_err(|e| anyhow!(e))?,
        debugcon: machine
            .debugcon
            .as_ref()
            .map(|dev| sink::open(dev, &stdout))
            .transpose()
            .map_err(|e| anyhow!(e))?,
        stdout,
        input: Arc::default(),
        log: Arc::new(log),
        started: Instant::now(),
    };
    // The first machine is built before the terminal is touched, so that errors print plainly.
    let mut built = Built::new(&machine, &image, &host)?;
    announce(note, &image);
    let terminal = machine.on_terminal().then(RawTerminal::enter);
    if machine.on_terminal() {
        pump_keys(&host);
    }
    if let Some(limit) = machine.time_limit {
        let control = host.control.clone();
        std::thread::Builder::new().name("time limit".into()).spawn(move || {
            std::thread::sleep(limit);
            control.end(Ending::TimeLimit);
        })?;
    }
    let ending = loop {
        let ending = built.run(&host)?;
        if ending != Ending::Reset || machine.no_reboot {
            break ending;
        }
        drop(built);
        built = Built::new(&machine, &image, &host)?;
    };
    host.stdout.flush();
    drop(terminal);
    let mut err = std::io::stderr();
    let _ = writeln!(err, "calque: {ending}");
    if machine.stats {
        let _ = err.write_all(stats::report(&built.vcpus, host.started.elapsed()).as_bytes());
    }
    Ok(ending)
}

/// Says what is about to run. Not before all is open and loaded: an error is to be the only line there is.
fn announce(note: &str, image: &Image) {
    let mut err = std::io::stderr();
    if !note.is_empty() {
        let _ = writeln!(err, "calque: {note}");
    }
    let _ = writeln!(err, "calque: {}", image.description());
}

/// A machine from power-on to its end or reset.
struct Built {
    vcpus: Vec<Vcpu>,
    timers: Arc<Timers>,
    board: Board,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Built {
    fn new(machine: &Machine, image: &Image, host: &Host) -> Result<Self> {
        let mem = PhysMem::new(machine.memory)?;
        if !Off::named(&machine.passes_off).map_err(anyhow::Error::msg)?.has(LARGE_PAGES) {
            mem.prefer_large_pages();
        }
        let entry = image.load(machine, &mem)?;
        let clock = match machine.clock {
            ClockKind::Real => Clock::real(),
            ClockKind::Virtual => Clock::virtual_clock(),
        };
        let timers = Timers::new(clock.clone());
        let signals: Vec<_> = (0..machine.cpus).map(|_| Arc::new(Signals::default())).collect();
        let mailboxes = mem.connect(&signals);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let board = board::build(Parts {
            machine,
            mem: &mem,
            timers: &timers,
            signals: &signals,
            control: &host.control,
            serial: host.serial.clone(),
            hvc: host.hvc.clone(),
            debugcon: host.debugcon.clone(),
            wall: wall.as_secs() as i64,
        })?;
        let features = machine.cpu;
        tables::install(&mem, &board.pci, &features, machine.cpus)?;
        let mut vcpus = Vec::new();
        for (index, ((signals, mailbox), irq)) in
            (0u32..).zip(signals.iter().zip(mailboxes).zip(board.lapics.iter().cloned()))
        {
            let wiring = Wiring {
                mem: mem.clone(),
                bus: board.bus.clone(),
                irq,
                signals: signals.clone(),
                mailbox,
                clock: clock.clone(),
            };
            let mut cpu = Cpu::new(wiring, features, index);
            cpu.boot_wall_ns = wall.as_nanos() as u64;
            if host.log.listens() {
                cpu.listener = Some(host.log.clone());
            }
            // As firmware leaves them: MTRRs on, write-back by default. Without them Linux does without PAT.
            cpu.state.msr.mtrr_def_type = 0x806;
            if index == 0 {
                boot::enter(&mut cpu, &entry);
            } else {
                cpu.state.activity = Activity::WaitForSipi;
            }
            // Nobody waits for it before its thread runs.
            cpu.park();
            vcpus.push(Vcpu {
                cpu,
                engine: engines::make(machine, &host.log)?,
                counted: machine.counts_instructions(),
            });
        }
        let server = if clock.is_virtual() {
            None
        } else {
            let timers = timers.clone();
            Some(std::thread::Builder::new().name("timers".into()).spawn(move || timers.serve())?)
        };
        let input = match &board.console {
            Some(console) if machine.hvc == Some(Chardev::Stdio) => Input::Console(console.clone()),
            _ => Input::Uart(board.uart.clone()),
        };
        *host.input.lock().unwrap_or_else(|e| e.into_inner()) = Some(input);
        host.control.attach(signals);
        Ok(Self { vcpus, timers, board, server })
    }

    fn run(&mut self, host: &Host) -> Result<Ending> {
        let Self { vcpus, timers, board, .. } = self;
        loop {
            let stop = if timers.clock().is_virtual() {
                vcpu::in_turns(vcpus, timers, &board.counters)
            } else {
                vcpu::on_threads(vcpus, &board.counters, &host.control)
                    .context("the host gives no thread for a virtual processor")?
            };
            if let Stop::Ended(ending) = stop {
                return Ok(ending);
            }
            // What is asked from now on raises STOP anew.
            for vcpu in vcpus.iter() {
                vcpu.cpu.signals.take(request::STOP);
            }
            if host.control.take_status() {
                let report = stats::report(vcpus, host.started.elapsed());
                host.serial.write(format!("\n{report}").replace('\n', "\r\n").as_bytes());
            }
            if let Some(ending) = host.control.take_ending() {
                return Ok(ending);
            }
        }
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        self.timers.stop();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Reads the terminal on a thread of its own.
fn pump_keys(host: &Host) {
    let (input, control, stdout) = (host.input.clone(), host.control.clone(), host.stdout.clone());
    let pump = move || {
        console::pump_stdin(|key| {
            match key {
                Key::Byte(b) => {
                    let Some(target) = input.lock().unwrap_or_else(|e| e.into_inner()).clone() else {
                        return true;
                    };
                    // A guest that does not read holds up the terminal, not calque: try again as room appears.
                    while !target.receive(b) {
                        if control.ended() {
                            return false;
                        }
                        let current = input.lock().unwrap_or_else(|e| e.into_inner());
                        if current.as_ref().is_none_or(|now| !now.same(&target)) {
                            break;
                        }
                    }
                }
                Key::Quit => {
                    control.end(Ending::User);
                    return false;
                }
                Key::Status => control.ask_status(),
                Key::Help => stdout.write(console::HELP.as_bytes()),
            }
            true
        });
    };
    // Without the thread the guest runs all the same, deaf.
    let _ = std::thread::Builder::new().name("keys".into()).spawn(pump);
}
