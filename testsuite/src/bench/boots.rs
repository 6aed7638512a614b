//! Boots: from the start of the emulator to the shell's prompt, with the kernels of `calque run debian`.

use super::console::Console;
use super::measure::Entrant;
use super::place::{self, Machine};
use super::results::Row;
use super::workloads::Kind;
use anyhow::{Context, Result, bail};
use calque::guests::debian::{Flavour, Prepared, prepare};
use calque::guests::{Cache, Silent};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PROMPT: &str = "root@calque:";

/// The row of one kernel; resident MiB of each machine at the last of its prompts.
///
/// # Errors
/// When the kernel cannot be had.
pub fn row(
    flavour: Flavour,
    machines: &[Entrant],
    runs: u32,
    logs: &Path,
) -> Result<(Row, Vec<(String, f64)>)> {
    let guest = prepare(flavour, &Cache::of_user()?, &Silent)?;
    let mut row = Row::new(&format!("boot-{}", flavour.name()), Kind::Boot);
    let mut resident = BTreeMap::new();
    for _ in 0..runs {
        for (name, machine, _) in machines.iter().filter(|(_, m, _)| *m != Machine::Bare) {
            match boot(machine, &guest, &logs.join(format!("{name}-boot.err"))) {
                Ok((seconds, mib)) => {
                    row.seconds.entry(name.clone()).or_default().push(seconds);
                    resident.insert(name.clone(), mib);
                }
                Err(e) => row.troubles.push(format!("{name}: {e}")),
            }
        }
    }
    Ok((row, resident.into_iter().collect()))
}

fn boot(machine: &Machine, guest: &Prepared, errors: &Path) -> Result<(f64, f64)> {
    let mut command = match machine {
        Machine::Calque(binary, more) => {
            let mut command = Command::new(binary);
            command.arg("qemu").args(more);
            command
        }
        Machine::Qemu(binary) => {
            let mut command = Command::new(binary);
            command.args(["-accel", "tcg,thread=multi"]);
            command
        }
        Machine::Bare => bail!("the host is not booted"),
    };
    command.args("-cpu max -m 1024 -smp 1 -nodefaults -display none -serial stdio -no-reboot".split(' '));
    command
        .arg("-kernel")
        .arg(&guest.kernel)
        .arg("-initrd")
        .arg(&guest.initrd)
        .arg("-append")
        .arg(&guest.append);
    let started = Instant::now();
    let mut console = Console::start(command, File::create(errors)?, Some(PROMPT))?;
    loop {
        let line = console.line(started + Duration::from_secs(300));
        let line = line.with_context(|| format!("no prompt; last heard:\n{}", console.last()))?;
        if line.text.starts_with(PROMPT) {
            let resident = place::resident(console.pid()).unwrap_or(0.0);
            return Ok((line.at.duration_since(started).as_secs_f64(), resident));
        }
    }
}
