//! The beginning of each workload with translated code and the interpreter in step (`--engine lockstep`): a difference ends
//! calque, which says where it is.

use super::place::{Guest, Machine, Place};
use super::workloads::Workload;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Patience with the start of the guest, and with a workload.
const LIMIT: Duration = Duration::from_secs(1800);
/// What the shell says of a program that was killed.
const KILLED: i32 = 128 + 9;

/// Runs each of `workloads` for `seconds` of the guest's time, which under lockstep is a nanosecond an instruction, in the
/// calque `binary` with `args`, and says of each how far it came. Returns the names of those with a difference.
///
/// # Errors
/// When the guest does not start.
pub fn run(
    binary: &Path,
    args: &[String],
    guest: &Guest,
    workloads: &[Workload],
    seconds: f64,
    logs: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<&'static str>> {
    let engine = ["--engine", "lockstep"].map(String::from);
    let machine = Machine::Calque(PathBuf::from(binary), args.iter().cloned().chain(engine).collect());
    // The kernel otherwise clears what it gives out, element by element under lockstep.
    let guest = &Guest { append: format!("{} init_on_alloc=0", guest.append), ..guest.clone() };
    let (mut place, mut differ) = (None, Vec::new());
    for w in workloads.iter().filter(|w| w.cpus() == 1) {
        let here = match &mut place {
            Some(place) => place,
            None => place.insert(Place::start(&machine, guest, 1, &logs.join("lockstep.stderr"), LIMIT)?),
        };
        match part(here, w, seconds) {
            Ok((instructions, ended)) => {
                let how = if ended { "to its end" } else { "then stopped" };
                say(&format!(
                    "{:16} {:9.1} million instructions, {how}: no difference",
                    w.name,
                    instructions as f64 / 1e6
                ));
            }
            Err(e) => {
                say(&format!("{:16} {e:#}", w.name));
                differ.push(w.name);
                place = None;
            }
        }
    }
    if let Some(place) = place {
        place.stop();
    }
    Ok(differ)
}

/// Instructions executed, and whether the workload came to its end.
fn part(place: &mut Place, w: &Workload, seconds: f64) -> Result<(u64, bool)> {
    let before = place.counters()?.unwrap_or_default();
    let command = w.command.replace('\'', "'\\''");
    let timing = place.run(&format!("timeout -s KILL {seconds} sh -c '{command}'"), LIMIT)?;
    let done = place.counters()?.unwrap_or_default().since(&before).get("guest instructions");
    anyhow::ensure!(
        timing.status == 0 || timing.status == KILLED,
        "status {}: {}",
        timing.status,
        timing.said
    );
    Ok((done, timing.status == 0))
}
