//! Runs workloads in all places by turns.
//!
//! Each machine's guest is started once and kept; a run of a workload goes bare, calque, QEMU, bare, calque, QEMU, so that
//! what else the host is doing falls on all alike. A machine that dies, hangs, or prints something else than the bare
//! processor is named in the row, and its guest started anew.

use super::place::{Guest, Machine, Place, Timing};
use super::results::{BARE, CALQUE, Row};
use super::workloads::Workload;
use anyhow::Result;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Longest that a guest may take to come up.
const START: Duration = Duration::from_secs(300);
/// Longest that a workload may take.
const LIMIT: Duration = Duration::from_secs(180);
/// The same where processor time is taken: the host is busy with other work then.
const LIMIT_BUSY: Duration = Duration::from_secs(900);

/// The bare processor's time is known to a hundredth of a second: what takes less than this is repeated, and the mean taken.
const LEAST_BARE: f64 = 0.3;
/// So often at most.
const MOST_REPEATS: u32 = 10;

/// A machine under a name, with the number of its processors.
pub type Entrant = (String, Machine, u32);

/// A machine under a name, with its guest while it runs.
#[derive(Debug)]
struct Contender {
    name: String,
    machine: Machine,
    cpus: u32,
    place: Option<Place>,
    /// It could not be started, and is not tried again.
    absent: Option<String>,
    /// Its processor time counts, and is so short that one run does not tell it.
    repeats: bool,
}

/// The machines of a run.
#[derive(Debug)]
pub struct Field {
    guest: Guest,
    contenders: Vec<Contender>,
    /// Where standard errors of the machines go.
    logs: PathBuf,
    /// Take processor time, not the time that passed.
    cpu_time: bool,
}

impl Field {
    /// Machines under their names, none started yet. The first is the one whose output is right.
    /// With `cpu_time`, processor time counts, not the time that passed.
    pub fn new(guest: Guest, machines: Vec<Entrant>, logs: PathBuf, cpu_time: bool) -> Self {
        let contender = |(name, machine, cpus)| {
            let repeats = cpu_time && machine == Machine::Bare;
            Contender { name, machine, cpus, place: None, absent: None, repeats }
        };
        Self { guest, contenders: machines.into_iter().map(contender).collect(), logs, cpu_time }
    }

    /// Times `workload` `runs` times on every machine.
    pub fn row(&mut self, workload: &Workload, runs: u32) -> Row {
        let mut row = Row::new(workload.name, workload.kind);
        let mut right: Option<String> = None;
        let limit = if self.cpu_time { LIMIT_BUSY } else { LIMIT };
        let mut out: Vec<bool> = vec![false; self.contenders.len()];
        for run in 0..runs {
            for (at, contender) in self.contenders.iter_mut().enumerate() {
                if out[at] {
                    continue;
                }
                let trouble =
                    match contender.time(workload, &self.guest, &self.logs, limit, run + 1 == runs, &mut row)
                    {
                        Ok(None) => continue,
                        Ok(Some(timing)) if timing.status != 0 => {
                            format!("status {}: {}", timing.status, timing.said)
                        }
                        Ok(Some(timing)) => match &right {
                            Some(right) if *right != timing.sum => {
                                "printed something else than the others".into()
                            }
                            _ => {
                                right.get_or_insert(timing.sum);
                                let seconds = if self.cpu_time { timing.cpu } else { timing.seconds };
                                row.seconds.entry(contender.name.clone()).or_default().push(seconds);
                                continue;
                            }
                        },
                        Err(e) => e.to_string(),
                    };
                out[at] = true;
                row.seconds.remove(&contender.name);
                row.troubles.push(format!("{}: {trouble}", contender.name));
            }
        }
        row
    }

    /// Resident memory of the machines that run, in MiB.
    pub fn resident(&self) -> Vec<(String, f64)> {
        let of = |c: &Contender| Some((c.name.clone(), c.place.as_ref()?.resident()?));
        self.contenders.iter().filter(|c| c.machine != Machine::Bare).filter_map(of).collect()
    }

    /// Ends all guests.
    pub fn stop(self) {
        self.contenders.into_iter().filter_map(|c| c.place).for_each(Place::stop);
    }
}

impl Contender {
    /// One run; None if this machine does not take part, which the row says.
    fn time(
        &mut self,
        workload: &Workload,
        guest: &Guest,
        logs: &std::path::Path,
        limit: Duration,
        count: bool,
        row: &mut Row,
    ) -> Result<Option<Timing>> {
        let skip = |row: &mut Row, why: String| {
            if !row.troubles.contains(&why) {
                row.troubles.push(why);
            }
            Ok(None)
        };
        if let Some(why) = &self.absent {
            return skip(row, format!("{}: not started: {why}", self.name));
        }
        let place = match &mut self.place {
            Some(place) => place,
            None => match Place::start(
                &self.machine,
                guest,
                self.cpus,
                &logs.join(format!("{}.err", self.name.replace(' ', "-"))),
                START,
            ) {
                Ok(place) => self.place.insert(place),
                Err(e) => {
                    self.absent = Some(e.to_string());
                    return Err(e);
                }
            },
        };
        if let Some(flag) = workload.needs
            && !place.flags.iter().any(|f| f == flag)
        {
            return skip(row, format!("{}: no {flag} there", self.name));
        }
        let result = (|| {
            let before = if count { place.counters()? } else { None };
            let mut timing = place.run(workload.command, limit)?;
            let (mut sum, mut n) = (timing.cpu, 1);
            while self.repeats && sum < LEAST_BARE && n < MOST_REPEATS && timing.status == 0 {
                timing = place.run(workload.command, limit)?;
                (sum, n) = (sum + timing.cpu, n + 1);
            }
            timing.cpu = sum / f64::from(n);
            let after = if count { place.counters()? } else { None };
            if let Some((before, after)) = before.zip(after) {
                row.counters.get_or_insert(after.since(&before));
            }
            Ok(Some(timing))
        })();
        if result.is_err() {
            // It hangs or is gone: the next workload gets a new guest.
            self.place = None;
        }
        result
    }
}

/// A line that says how a row went.
pub fn line(row: &Row) -> String {
    let mut text = format!("{:16}", row.name);
    let mut names: Vec<_> = row.seconds.keys().collect();
    names.sort_by_key(|name| (*name != BARE, *name != CALQUE, *name));
    for name in names {
        let Some(seconds) = row.median(name) else { continue };
        let _ = write!(text, "  {name} {seconds:.3} s");
        if let Some(ratio) = row.ratio(name, BARE).filter(|_| name != BARE) {
            let _ = write!(text, " ({ratio:.1}x bare)");
        }
    }
    for trouble in &row.troubles {
        let _ = write!(text, "\n    {}", trouble.lines().next().unwrap_or_default());
    }
    text
}
