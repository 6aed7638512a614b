//! Where commands run: a guest in an emulator, or a shell under chroot on this very processor.
//!
//! `testsuite/bench/agent.sh` is at the other end. It takes one line at a time and answers with marker lines:
//! `@@begin`, `@@end STATUS` and `@@sum MD5` around a timed command, `@@done STATUS` behind an untimed one, `@@sync WORD`
//! as an echo. A command's time is the one between the arrivals of `@@begin` and `@@end`, on the host's clock: a guest's
//! own clock is not asked.

use super::console::{Console, Silence};
use super::counters::Counters;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// The bare processor.
    Bare,
    /// calque: the binary and its further options.
    Calque(PathBuf, Vec<String>),
    /// QEMU's translator: the binary.
    Qemu(PathBuf),
}

/// What all machines are given.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Folder of `make-bench.sh`.
    pub folder: PathBuf,
    /// Kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk that mounts the image.
    pub initrd: PathBuf,
    /// Kernel command line.
    pub append: String,
    /// MiB.
    pub memory: u32,
}

/// How one timed command went.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Seconds that passed.
    pub seconds: f64,
    /// Seconds of processor time that the machine used, all its threads together.
    pub cpu: f64,
    /// MD5 of its standard output.
    pub sum: String,
    /// Exit status.
    pub status: i32,
    /// The end of its standard error, if the status is not 0.
    pub said: String,
}

/// A place that commands run in.
#[derive(Debug)]
pub struct Place {
    machine: Machine,
    console: Console,
    /// Flags of /proc/cpuinfo there.
    pub flags: Vec<String>,
    /// Seconds from start to readiness.
    pub boot: f64,
    errors: PathBuf,
}

impl Machine {
    /// The command that starts the guest on this machine.
    fn command(&self, guest: &Guest, cpus: u32) -> Command {
        let image = guest.folder.join("bench.img");
        let line = format!(
            "-cpu max -m {} -smp {cpus} -nodefaults -display none -serial stdio -no-reboot",
            guest.memory
        );
        let emulator = |mut command: Command| {
            command.args(line.split(' ')).arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initrd);
            command.arg("-append").arg(format!("{} root=/dev/vda ro init=/bench/src/agent.sh", guest.append));
            command.arg("-drive").arg(format!("file={},if=virtio,format=raw,readonly=on", image.display()));
            command
        };
        match self {
            Self::Bare => {
                let tree = guest.folder.join("tree");
                let mut command = Command::new("unshare");
                // One processor, as the guests have: the last, since interrupts are mostly served by the first.
                let pin = match cpus {
                    1 => "n=$(nproc --all); exec taskset -c $((n - 1))",
                    _ => "exec",
                };
                command.args(["--mount", "sh", "-c"]).arg(format!(
                    "mount --bind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\" && {pin} chroot \"$0\" /bench/src/agent.sh bare"
                ));
                command.arg(tree).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
                command
            }
            Self::Calque(binary, more) => {
                let mut command = Command::new(binary);
                command.arg("qemu").args(more);
                emulator(command)
            }
            Self::Qemu(binary) => {
                let mut command = Command::new(binary);
                command.args(["-accel", "tcg,thread=multi"]);
                emulator(command)
            }
        }
    }
}

impl Place {
    /// Starts `machine` with `cpus` processors and waits until it takes commands.
    ///
    /// # Errors
    /// When it does not come up in `limit`.
    pub fn start(
        machine: &Machine,
        guest: &Guest,
        cpus: u32,
        errors: &Path,
        limit: Duration,
    ) -> Result<Self> {
        let started = Instant::now();
        let file = File::create(errors).with_context(|| format!("{}", errors.display()))?;
        let command = machine.command(guest, cpus);
        let console = Console::start(command, file, None).with_context(|| format!("starting {machine:?}"))?;
        let mut place =
            Self { machine: machine.clone(), console, flags: Vec::new(), boot: 0.0, errors: errors.into() };
        let until = started + limit;
        let flags = place.marker("@@flags", until)?;
        place.flags = flags.text.split_whitespace().map(String::from).collect();
        place.boot = place.marker("@@ready", until)?.at.duration_since(started).as_secs_f64();
        Ok(place)
    }

    /// Waits for a marker line; what follows the marker, and when.
    fn marker(&mut self, marker: &str, until: Instant) -> Result<super::console::Line> {
        Ok(self.until(marker, until)?.0)
    }

    /// Waits for a marker line; it, and the lines before it.
    fn until(&mut self, marker: &str, until: Instant) -> Result<(super::console::Line, Vec<String>)> {
        let mut before = Vec::new();
        loop {
            match self.console.line(until) {
                Ok(mut line) => {
                    if let Some(rest) = line.text.strip_prefix(marker) {
                        line.text = rest.trim().to_owned();
                        return Ok((line, before));
                    }
                    before.push(line.text);
                }
                Err(why) => bail!("{}", self.complaint(marker, &why)),
            }
        }
    }

    fn complaint(&self, wanted: &str, why: &Silence) -> String {
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        format!("waiting for {wanted}: {why}; last heard:\n{}\n{}", self.console.last(), errors.trim_end())
    }

    /// Runs `command` and times it.
    ///
    /// # Errors
    /// When it does not end in `limit`, or the guest has died: the place is of no use any more.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Timing> {
        self.console.send(format!("run {command}\n").as_bytes());
        let until = Instant::now() + limit;
        let begin = self.marker("@@begin", until)?.at;
        let used = self.used();
        let end = self.marker("@@end", until)?;
        let cpu = self.used() - used;
        let (sum, said) = self.until("@@sum", Instant::now() + Duration::from_secs(60))?;
        Ok(Timing {
            seconds: end.at.duration_since(begin).as_secs_f64(),
            cpu,
            sum: sum.text,
            status: end.text.parse().unwrap_or(-1),
            said: said.join("; "),
        })
    }

    /// Runs `command` without timing it.
    ///
    /// # Errors
    /// As [`Self::run`], or when it fails.
    pub fn prepare(&mut self, command: &str) -> Result<()> {
        self.console.send(format!("do {command}\n").as_bytes());
        let status = self.marker("@@done", Instant::now() + Duration::from_secs(120))?;
        ensure!(status.text == "0", "{command}: status {}", status.text);
        Ok(())
    }

    /// calque's counters up to now; None of other machines.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counters(&mut self) -> Result<Option<Counters>> {
        if !matches!(self.machine, Machine::Calque(..)) {
            return Ok(None);
        }
        // Ctrl-A c has the report written between two blocks of the guest; the echo comes after it.
        self.console.send(b"\x01csync counters\n");
        let (_, lines) = self.until("@@sync counters", Instant::now() + Duration::from_secs(10))?;
        Ok(Some(Counters::parse(&lines)))
    }

    /// Processor time of the machine and of its finished children up to now, in seconds (a hundredth is the grain).
    fn used(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.console.pid())).unwrap_or_default();
        // Behind the name in parentheses: state is field 3, the four times are fields 14 to 17.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 = fields.skip(11).take(4).filter_map(|f| f.parse::<u64>().ok()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Resident memory of the emulator now, in MiB.
    pub fn resident(&self) -> Option<f64> {
        resident(self.console.pid())
    }

    /// Ends it.
    pub fn stop(mut self) {
        if matches!(self.machine, Machine::Calque(..)) {
            self.console.send(b"\x01x");
            self.console.wait(Duration::from_secs(5));
        }
    }
}

/// Resident memory of a process, in MiB.
pub fn resident(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
