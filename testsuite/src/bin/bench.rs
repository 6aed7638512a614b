//! The benchmark command; `testsuite/scripts/bench.sh` prepares what it needs and starts it. See docs/benchmarks.md.
#![allow(clippy::print_stdout, reason = "a command that reports")]

use anyhow::{Context, Result, anyhow, bail};
use calque::guests::debian::{Flavour, prepare};
use calque::guests::{Cache, Silent};
use clap::{Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use testsuite::bench::measure::Entrant;
use testsuite::bench::place::{Guest, Machine};
use testsuite::bench::results::{BARE, CALQUE, Results};
use testsuite::bench::workloads::{self, Workload};
use testsuite::bench::{boots, compare, lockstep, measure, plot, table};

/// Times programs bare, in calque and in QEMU, by turns.
#[derive(Debug, Parser)]
#[command(name = "bench.sh")]
struct Options {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compare two result files; status 1 if the newer one is worse by more than noise
    Compare {
        /// The stored results.json
        before: PathBuf,
        /// The new one
        after: PathBuf,
    },
    /// Measure, then compare with a stored result file
    Nightly {
        /// The stored results.json; made from this run if it is not there
        stored: PathBuf,
        #[command(flatten)]
        run: RunOptions,
    },
    /// Run the beginning of each workload with translator and interpreter in step; status 1 if they differ
    Lockstep {
        /// Seconds of the guest's time for each: a nanosecond an instruction
        #[arg(long, default_value_t = 0.1, value_name = "SECONDS")]
        seconds: f64,
        #[command(flatten)]
        run: RunOptions,
    },
    /// List the workloads
    List,
}

#[derive(Debug, Clone, clap::Args)]
struct RunOptions {
    /// Only these workloads or kinds, separated by commas; `boots` for the boots
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Runs of each workload on each machine (medians are shown)
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Two dozen workloads, once each, no boots
    #[arg(long)]
    quick: bool,
    /// A QEMU to measure beside; may be repeated, `none` for none
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-system-x86_64")]
    qemu: Vec<String>,
    /// A further calque under another name: NAME=PROGRAM or NAME=OPTIONS
    #[arg(long, value_name = "NAME=...")]
    also: Vec<String>,
    /// Further options for calque, separated by blanks
    #[arg(long, default_value = "", allow_hyphen_values = true, value_name = "OPTIONS")]
    calque_args: String,
    /// Where the report goes
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Run once more in a calque with --stats, so that interpreted instructions are counted by name
    #[arg(long)]
    explain: bool,
    /// Take processor time instead of the time that passed: for machines that are busy with other work
    #[arg(long)]
    cpu_time: bool,
    /// Memory of the guests in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.what {
        None => measured(&options.run).map(|_| true),
        Some(What::List) => {
            workloads::ALL.iter().for_each(|w| println!("{:16} {:36} {}", w.name, w.kind.title(), w.command));
            Ok(true)
        }
        Some(What::Compare { before, after }) => load(before).and_then(|b| Ok(compared(&b, &load(after)?))),
        Some(What::Nightly { stored, run }) => nightly(stored, run),
        Some(What::Lockstep { seconds, run }) => in_step(*seconds, run),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn load(path: &Path) -> Result<Results> {
    let text = fs::read(path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
}

fn compared(before: &Results, after: &Results) -> bool {
    let (text, worse) = compare::report(before, after);
    print!("{text}");
    !worse
}

fn nightly(stored: &Path, run: &RunOptions) -> Result<bool> {
    let after = measured(run)?;
    if !stored.exists() {
        fs::write(stored, serde_json::to_vec_pretty(&after)?)
            .with_context(|| format!("{}", stored.display()))?;
        println!("stored in {}", stored.display());
        return Ok(true);
    }
    Ok(compared(&load(stored)?, &after))
}

/// The machines with one processor, under their names; and the names of the QEMUs.
fn machines(o: &RunOptions) -> Result<(Vec<Entrant>, Vec<String>)> {
    let binary = PathBuf::from(std::env::var_os("CALQUE_BIN").context("CALQUE_BIN names no program")?);
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    let args = words(&o.calque_args);
    let mut list = vec![(BARE.to_owned(), Machine::Bare, 1)];
    list.push((CALQUE.into(), Machine::Calque(binary.clone(), args.clone()), 1));
    for also in &o.also {
        let (name, what) = also.split_once('=').with_context(|| format!("--also {also}: NAME=..."))?;
        let machine = match what.starts_with('-') {
            true => Machine::Calque(binary.clone(), args.iter().cloned().chain(words(what)).collect()),
            false => Machine::Calque(what.into(), args.clone()),
        };
        list.push((name.into(), machine, 1));
    }
    let mut qemus = Vec::new();
    for qemu in o.qemu.iter().filter(|q| *q != "none") {
        let name = format!("QEMU {}", version(qemu)?);
        list.push((name.clone(), Machine::Qemu(qemu.into()), 1));
        qemus.push(name);
    }
    Ok((list, qemus))
}

/// Major and minor version of a QEMU.
fn version(qemu: &str) -> Result<String> {
    let output = Command::new(qemu).arg("--version").output().with_context(|| format!("{qemu} --version"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let full = text.split_whitespace().skip_while(|w| *w != "version").nth(1);
    let full = full.with_context(|| format!("{qemu} --version says {text:?}"))?;
    Ok(full.split('.').take(2).collect::<Vec<_>>().join("."))
}

/// The guest, what its kernel is, and the report's folder.
fn prepared(o: &RunOptions) -> Result<(Guest, String, PathBuf)> {
    let folder = PathBuf::from(
        std::env::var_os("CALQUE_BENCH").context("CALQUE_BENCH names no folder: start bench.sh")?,
    );
    if !folder.join("bench.img").exists() {
        bail!("{} has no bench.img: start bench.sh", folder.display());
    }
    let out = o.out.clone().unwrap_or_else(|| folder.join("report"));
    fs::create_dir_all(out.join("logs")).with_context(|| format!("{}", out.display()))?;
    let kernel = prepare(Flavour::Cloud, &Cache::of_user()?, &Silent)?;
    let guest = Guest {
        folder,
        kernel: kernel.kernel,
        initrd: kernel.initrd,
        append: kernel.append,
        memory: o.memory,
    };
    Ok((guest, kernel.description, out))
}

/// Whether the beginning of no workload shows a difference.
fn in_step(seconds: f64, o: &RunOptions) -> Result<bool> {
    let chosen = workloads::chosen(&o.only, o.quick).map_err(|e| anyhow!(e))?;
    let (guest, kernel, out) = prepared(o)?;
    let (machines, _) = machines(&RunOptions { qemu: Vec::new(), ..o.clone() })?;
    let Some((_, Machine::Calque(binary, args), _)) = machines.iter().find(|(n, ..)| n == CALQUE) else {
        bail!("there is no calque");
    };
    println!("guest: {kernel}");
    let say = &mut |line: &str| println!("{line}");
    let differ = lockstep::run(binary, args, &guest, &chosen, seconds, &out.join("logs"), say)?;
    if !differ.is_empty() {
        println!("differences: {}", differ.join(" "));
    }
    Ok(differ.is_empty())
}

/// Measures, and writes the report folder.
fn measured(o: &RunOptions) -> Result<Results> {
    let chosen = workloads::chosen(&o.only, o.quick).map_err(|e| anyhow!(e))?;
    let runs = if o.quick { 1 } else { o.runs };
    let (guest, kernel, out) = prepared(o)?;
    let (machines, qemus) = machines(o)?;
    let mut results = Results { qemus, notes: notes(o, runs, &kernel), ..Results::default() };

    for cpus in [1, 2] {
        let workloads: Vec<_> = chosen.iter().filter(|w| w.cpus() == cpus).copied().collect();
        if workloads.is_empty() {
            continue;
        }
        let mut list: Vec<_> = machines.iter().map(|(n, m, _)| (n.clone(), m.clone(), cpus)).collect();
        if cpus == 2
            && let Some((_, calque, _)) = machines.iter().find(|(n, ..)| n == CALQUE)
        {
            // How much the second processor brings.
            list.push((table::ONE_CPU.into(), calque.clone(), 1));
        }
        let mut field = measure::Field::new(guest.clone(), list, out.join("logs"), o.cpu_time);
        for workload in &workloads {
            let row = field.row(workload, runs);
            println!("{}", measure::line(&row));
            results.rows.push(row);
            // A run that is broken off leaves what it had.
            write(&results, &out)?;
        }
        if cpus == 1 {
            let resident = field.resident().into_iter();
            results.resident =
                resident.map(|(name, mib)| (format!("{name} after the workloads"), mib)).collect();
        }
        field.stop();
    }
    let boots = o.only.is_empty() && !o.quick || o.only.iter().any(|n| n == "boots");
    for flavour in [Flavour::Cloud, Flavour::Generic].into_iter().filter(|_| boots) {
        let (row, resident) = boots::row(flavour, &machines, runs, &out.join("logs"))?;
        let at = format!("at the prompt of {}", row.name);
        results.resident.extend(resident.into_iter().map(|(name, mib)| (format!("{name} {at}"), mib)));
        println!("{}", measure::line(&row));
        results.rows.push(row);
    }
    if o.explain {
        explain(&mut results, &guest, &machines, &chosen, &out)?;
    }
    write(&results, &out)?;
    println!("\n{}\nreport: {}", table::by_kind(&results), out.display());
    Ok(results)
}

/// One more run of each workload in a calque that counts by name.
fn explain(
    results: &mut Results,
    guest: &Guest,
    machines: &[Entrant],
    chosen: &[Workload],
    out: &Path,
) -> Result<()> {
    let Some((_, Machine::Calque(binary, args), _)) = machines.iter().find(|(n, ..)| n == CALQUE) else {
        return Ok(());
    };
    let machine = Machine::Calque(binary.clone(), args.iter().cloned().chain(["--stats".into()]).collect());
    let list = vec![(CALQUE.to_owned(), machine, 1)];
    let mut field = measure::Field::new(guest.clone(), list, out.join("logs"), false);
    for workload in chosen.iter().filter(|w| w.cpus() == 1) {
        let counted = field.row(workload, 1).counters;
        if let Some(row) = results.rows.iter_mut().find(|r| r.name == workload.name && counted.is_some()) {
            row.counters = counted;
        }
    }
    field.stop();
    Ok(())
}

fn notes(o: &RunOptions, runs: u32, kernel: &str) -> Vec<String> {
    let read = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|l| l.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = read("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    vec![
        format!("host: {cpu}, {cores} cores, load {load} at the start"),
        format!("guest: {kernel}, {} MiB, the same image for all", o.memory),
        format!(
            "{runs} runs of each on each machine, by turns; medians of {}",
            if o.cpu_time {
                "the processor time used (boots: of the time that passed)"
            } else {
                "the time that passed"
            }
        ),
        format!("calque options: {}", if o.calque_args.is_empty() { "none" } else { &o.calque_args }),
    ]
}

fn write(results: &Results, out: &Path) -> Result<()> {
    fs::write(out.join("results.json"), serde_json::to_vec_pretty(results)?)?;
    fs::write(out.join("table.md"), table::markdown(results))?;
    fs::write(out.join("plot.svg"), plot::svg(results))?;
    let folder = out.join("counters");
    fs::create_dir_all(&folder)?;
    for row in &results.rows {
        if let Some(counters) = &row.counters {
            let seconds = row.median(CALQUE).unwrap_or(0.0);
            fs::write(folder.join(format!("{}.txt", row.name)), counters.page(&row.name, seconds))?;
        }
    }
    Ok(())
}
