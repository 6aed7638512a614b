//! `calque diff`: campaigns, their replay, and the merging of their result files.

use super::Job;
use crate::diff::campaign::{self, Options, Plan, Records, ResultFile, Tally};
use crate::diff::generate::Family;
use crate::diff::recorded::Recorded;
use crate::diff::{Case, Kind, LegKind, Outcome, World, reasons};
use crate::engines::switches::Off;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `calque diff`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DiffArgs {
    #[command(subcommand)]
    command: Option<DiffCommand>,
    #[command(flatten)]
    campaign: CampaignArgs,
}

#[derive(Debug, clap::Subcommand)]
enum DiffCommand {
    /// Put result files of one campaign's shards together
    Merge {
        /// Result files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the whole result here
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write how often each instruction form ran on each leg, as a table, from results of any campaigns
    Counts {
        /// Result files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the table here
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Run cases from files again, on every leg, and show everything
    Replay {
        /// Case files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the differences that are known, with the manual's words
    Reasons,
}

#[derive(Debug, clap::Args)]
struct CampaignArgs {
    /// Cases in the whole campaign, all shards together
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    cases: u64,
    /// Seed: the same seed gives the same cases
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The part to run: I of N, I from 1 to N
    #[arg(long, default_value = "1/1", value_name = "I/N", value_parser = parse_shard)]
    shard: (u64, u64),
    /// What the interpreter is compared with: eval (before the passes), optimized, jit, host; separated by commas
    #[arg(long, value_delimiter = ',', value_name = "LEGS", default_value = "eval,optimized,jit")]
    legs: Vec<String>,
    /// Switch passes off in optimized and jit, or something of the emitter in jit; separated by commas
    #[arg(long, value_delimiter = ',', value_name = "PASSES")]
    passes_off: Vec<String>,
    /// Write the result to a file, for 'calque diff merge'
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write each failure to a file SEED-CASE.case in this folder
    #[arg(long, value_name = "FOLDER")]
    failures: Option<PathBuf>,
    /// Stop after this many different failures
    #[arg(long, default_value_t = 20, value_name = "N")]
    keep: usize,
    /// Write how each case ended on the host's processor to a file, for --recorded; needs the leg host
    #[arg(long, value_name = "FILE", conflicts_with = "recorded")]
    record: Option<PathBuf>,
    /// Hold the interpreter against what --record wrote with the same seed, cases and shard, on whatever host
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

fn parse_shard(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("'{text}' is not I/N with I from 1 to N");
    let (i, n) = text.split_once('/').ok_or_else(wrong)?;
    let shard: (u64, u64) = (i.parse().map_err(|_| wrong())?, n.parse().map_err(|_| wrong())?);
    if shard.0 == 0 || shard.0 > shard.1 { Err(wrong()) } else { Ok(shard) }
}

/// A leg by name, with `off` switched off.
fn leg(name: &str, off: Off) -> Result<LegKind> {
    Ok(match name {
        "eval" => LegKind::Engine(Kind::Eval),
        "optimized" => LegKind::Engine(Kind::Optimized(off.passes().0)),
        "jit" if off == Off::default() => LegKind::Engine(Kind::Jit),
        "jit" => LegKind::Engine(Kind::JitWithout(off)),
        "host" => LegKind::Host,
        _ => bail!("--legs: there is no leg '{name}'; there are eval, optimized, jit and host"),
    })
}

impl CampaignArgs {
    /// The legs' names for the result file, with what is off: such results belong to campaigns of their own.
    fn names(&self) -> Vec<String> {
        let off = self.passes_off.iter().map(|name| format!("-{name}")).collect::<String>();
        let recorded = self.recorded.iter().map(|_| "recorded".to_owned());
        self.legs.iter().map(|leg| format!("{leg}{off}")).chain(recorded).collect()
    }
}

impl DiffArgs {
    pub(super) fn into_job(self) -> Job {
        Job(Box::new(move || match self.command {
            None => run(&self.campaign),
            Some(DiffCommand::Merge { files, output }) => merge(&files, output.as_deref()),
            Some(DiffCommand::Counts { files, output }) => counts(&files, &output),
            Some(DiffCommand::Replay { files }) => replay(&files),
            Some(DiffCommand::Reasons) => {
                let text: String =
                    reasons::all().iter().map(|(r, words)| format!("{r}: {words}\n")).collect();
                say(&text);
                Ok(0)
            }
        }))
    }
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

/// 0, or 1 when something differs.
fn run(args: &CampaignArgs) -> Result<u8> {
    let off = Off::named(&args.passes_off).map_err(anyhow::Error::msg).context("--passes-off")?;
    let legs = args.legs.iter().map(|l| leg(l, off)).collect::<Result<Vec<_>>>()?;
    if legs.contains(&LegKind::Host) {
        crate::diff::native::Native::new().context("--legs host")?;
    }
    let host = legs.contains(&LegKind::Host);
    if args.record.is_some() && !host {
        bail!("--record: the host's processor is no leg; add it with --legs host");
    }
    if args.recorded.is_some() && host {
        bail!("--recorded: stands in for the host's processor, so --legs must not name that");
    }
    // What was recorded is of cases for a processor.
    let family = if host || args.recorded.is_some() { Family::Host } else { Family::Engines };
    let plan = Plan { cases: args.cases, seed: args.seed, family, legs: args.names() };
    let options =
        Options { shard: args.shard, keep: args.keep, limit: args.seconds.map(Duration::from_secs) };
    // What cannot be written is better known before the hours than after.
    if let Some(folder) = &args.failures {
        std::fs::create_dir_all(folder).with_context(|| format!("--failures {}", folder.display()))?;
    }
    if let Some(path) = &args.output {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.with_context(|| format!("--output {}", path.display()))?;
    }
    let recorded = args.recorded.as_ref().map(|path| read_recorded(path, &plan, args.shard)).transpose()?;
    let mut record = match &args.record {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("--record {}", path.display()))?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    let records = match (&recorded, &mut record) {
        (Some(recorded), _) => Records::Check(recorded),
        (None, Some(file)) => Records::Write(file),
        (None, None) => Records::Unused,
    };
    // A panic of an engine is a failure to report, not the end.
    std::panic::set_hook(Box::new(|_| ()));
    let tally = campaign::run(&plan, &legs, options, records, &mut |line| say(&format!("{line}\n")))?;
    drop(std::panic::take_hook());
    say(&format!("seed {}, shard {}/{}: {}", args.seed, args.shard.0, args.shard.1, tally.summary()));
    for f in &tally.failures {
        if let Some(folder) = &args.failures {
            let path = folder.join(format!("{}-{}.case", f.case.0, f.case.1));
            let text = format!("# {} differs: {}\n{}", f.leg, f.what.join("; "), f.text);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    let failed = !tally.failures.is_empty();
    if let Some(path) = &args.output {
        let file = ResultFile { plan, of: args.shard.1, shards: vec![args.shard.0], tally };
        write_result(path, &file)?;
    }
    Ok(u8::from(failed))
}

fn read_recorded(path: &Path, plan: &Plan, shard: (u64, u64)) -> Result<Recorded> {
    let name = || format!("--recorded {}", path.display());
    let file = File::open(path).with_context(name)?;
    Recorded::read(BufReader::new(file), plan, shard).with_context(name)
}

fn write_result(path: &Path, file: &ResultFile) -> Result<()> {
    let text = serde_json::to_string_pretty(file).context("the result as JSON")?;
    std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
}

fn read_result(path: &Path) -> Result<(String, ResultFile)> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
    let file =
        serde_json::from_str(&text).with_context(|| format!("{name} is not a result of 'calque diff'"))?;
    Ok((name, file))
}

fn counts(files: &[PathBuf], output: &Path) -> Result<u8> {
    let mut all = Tally::default();
    for path in files {
        all.add(&read_result(path)?.1.tally);
    }
    std::fs::write(output, crate::diff::counts::to_table(&all.executed))
        .with_context(|| output.display().to_string())?;
    Ok(0)
}

fn merge(files: &[PathBuf], output: Option<&Path>) -> Result<u8> {
    let list = files.iter().map(|path| read_result(path)).collect::<Result<Vec<_>>>()?;
    let all = ResultFile::merge(&list)?;
    if let Some(path) = output {
        write_result(path, &all)?;
    }
    say(&format!(
        "seed {}, {} of {} shards: {}",
        all.plan.seed,
        all.shards.len(),
        all.of,
        all.tally.summary()
    ));
    let (missing, cut) = (all.missing(), all.cut_short());
    if !missing.is_empty() {
        let gap = |(a, b): &(u64, u64)| if a == b { a.to_string() } else { format!("{a}-{b}") };
        say(&format!("missing shards: {}\n", missing.iter().map(gap).collect::<Vec<_>>().join(", ")));
    }
    if cut != 0 {
        say(&format!("{cut} cases of these shards were not run: they were stopped early\n"));
    }
    Ok(u8::from(!all.tally.failures.is_empty() || !missing.is_empty() || cut != 0))
}

fn replay(files: &[PathBuf]) -> Result<u8> {
    let mut kinds = Kind::ALL.map(LegKind::Engine).to_vec();
    if crate::diff::world::host_available() {
        kinds.push(LegKind::Host);
    }
    let mut world = World::new(&kinds)?;
    let mut failed = false;
    for path in files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
        let case = Case::parse(&text).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
        let outcome = world.run(&case);
        say(&format!("{name}: {outcome:?}\n"));
        if let Outcome::Differs(kind, _) = outcome {
            failed = true;
            say(&world.report(&case, kind));
        }
    }
    Ok(u8::from(failed))
}
