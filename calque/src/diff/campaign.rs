//! A campaign: so many cases from a seed, or the part of them that one shard has, with counts that merge.

use super::counts::ByLeg;
use super::generate::{self, Family, GROUP, Generator};
use super::leg::LegError;
use super::native::HostFlags;
use super::recorded::{Recorded, Recorder};
use super::world::{LegKind, Outcome, World};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::time::{Duration, Instant};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Cases in the whole campaign.
    pub cases: u64,
    /// The seed.
    pub seed: u64,
    /// Which cases: for the host's processor, or for the engines in every mode.
    pub family: Family,
    /// The legs besides the interpreter, by name.
    pub legs: Vec<String>,
}

impl Plan {
    /// Cases of shard `i` of `n`, counted from 1: every nth group.
    fn cases_of(&self, i: u64, n: u64) -> u64 {
        let groups = self.cases.div_ceil(GROUP);
        if i == 0 || i > n || groups < i {
            return 0;
        }
        let whole = ((groups - i) / n + 1).saturating_mul(GROUP);
        let last = (groups - 1) % n == i - 1;
        whole - if last { (GROUP - self.cases % GROUP) % GROUP } else { 0 }
    }
}

/// Counters of a campaign or of parts of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Cases that were run.
    pub cases: u64,
    /// Cases on which every leg agreed.
    pub same: u64,
    /// Cases that did not end.
    pub endless: u64,
    /// Cases on which the engines agreed, and which the host did not run.
    #[serde(default)]
    pub without_host: u64,
    /// Cases whose end was recorded, or is the one that was.
    #[serde(default)]
    pub recorded: u64,
    /// Cases with a known difference, by reason.
    pub explained: BTreeMap<String, u64>,
    /// Instruction forms that were in cases, with counts.
    pub forms: BTreeMap<String, u64>,
    /// How often forms were executed, by leg.
    #[serde(default)]
    pub executed: ByLeg,
    /// Forms that were left out because the host does not have them.
    pub lacking: BTreeMap<String, u64>,
    /// Instructions that ran translated and that were interpreted, by leg.
    pub legs: BTreeMap<String, (u64, u64)>,
    /// Times that the runner on the host's processor had to be started again.
    pub restarts: u64,
    /// Seconds, all shards together.
    pub seconds: f64,
    /// Failures.
    pub failures: Vec<Failure>,
}

/// A kind of failure, with the first case that showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Seed and number of the case.
    pub case: (u64, u64),
    /// The leg that differs.
    pub leg: String,
    /// In what.
    pub what: Vec<String>,
    /// The small case as text.
    pub text: String,
    /// The small case for `run-case`.
    pub line: String,
    /// How often the like was seen.
    pub count: u64,
}

/// A result file: a plan, the shards that are in, and what they came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultFile {
    /// The plan.
    pub plan: Plan,
    /// Shards of how many.
    pub of: u64,
    /// The shards that are in here.
    pub shards: Vec<u64>,
    /// Their counts.
    pub tally: Tally,
}

/// Why result files do not merge.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MergeError {
    /// They belong to different campaigns.
    #[error("{0}: another campaign than the first file (seed, cases, legs or number of shards)")]
    OtherPlan(String),
    /// A shard is in two of them.
    #[error("{0}: shard {1} is in another file already")]
    Twice(String, u64),
    /// A shard that its own campaign does not have.
    #[error("{0}: shards: there is no shard {1} of {2}")]
    NoShard(String, u64, u64),
    /// There are none.
    #[error("no files to merge")]
    None,
}

impl Tally {
    /// Adds what another part has counted.
    pub fn add(&mut self, other: &Tally) {
        // Files come from anywhere.
        let plus = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        plus(&mut self.cases, other.cases);
        plus(&mut self.same, other.same);
        plus(&mut self.endless, other.endless);
        plus(&mut self.without_host, other.without_host);
        plus(&mut self.recorded, other.recorded);
        plus(&mut self.restarts, other.restarts);
        self.seconds += other.seconds;
        let maps = [
            (&mut self.explained, &other.explained),
            (&mut self.forms, &other.forms),
            (&mut self.lacking, &other.lacking),
        ];
        for (mine, theirs) in maps {
            for (key, n) in theirs {
                plus(mine.entry(key.clone()).or_default(), *n);
            }
        }
        for (leg, forms) in &other.executed {
            let mine = self.executed.entry(leg.clone()).or_default();
            for (form, times) in forms {
                mine.entry(form.clone()).or_default().add(*times);
            }
        }
        for (key, (a, b)) in &other.legs {
            let e = self.legs.entry(key.clone()).or_default();
            plus(&mut e.0, *a);
            plus(&mut e.1, *b);
        }
        for f in &other.failures {
            match self.failures.iter_mut().find(|g| (&g.leg, &g.text) == (&f.leg, &f.text)) {
                Some(g) => plus(&mut g.count, f.count),
                None => self.failures.push(f.clone()),
            }
        }
    }

    /// As text.
    pub fn summary(&self) -> String {
        use std::fmt::Write;
        let mut t = format!(
            "{} cases: {} agree, {} did not end, {} differ as is known, {} forms\n",
            self.cases,
            self.same,
            self.endless,
            self.explained.values().fold(0, |sum: u64, n| sum.saturating_add(*n)),
            self.forms.len()
        );
        if self.without_host != 0 {
            let _ = writeln!(t, "{} cases did not run on the host", self.without_host);
        }
        if self.recorded != 0 {
            let _ = writeln!(t, "{} ends recorded, or as recorded", self.recorded);
        }
        for (why, n) in &self.explained {
            let _ = writeln!(t, "  {n} explained: {why}");
        }
        for (leg, (translated, interpreted)) in &self.legs {
            let _ = writeln!(t, "{leg}: {translated} instructions translated, {interpreted} interpreted");
        }
        if !self.lacking.is_empty() {
            let _ = writeln!(t, "{} forms left out: the host does not have them", self.lacking.len());
        }
        if self.restarts != 0 {
            let _ =
                writeln!(t, "the runner on the host's processor was started again {} times", self.restarts);
        }
        if self.seconds > 0.0 {
            let _ = writeln!(t, "{:.1} s, {:.0} cases/s", self.seconds, self.cases as f64 / self.seconds);
        }
        for f in &self.failures {
            let what = f.what.first().map_or("", |w| w.as_str());
            let _ = writeln!(
                t,
                "FAILED {} times: {} seed {} case {}: {what}",
                f.count, f.leg, f.case.0, f.case.1
            );
        }
        t
    }
}

impl ResultFile {
    /// Puts files of one campaign together; each has its name for messages.
    ///
    /// # Errors
    /// [`MergeError`].
    pub fn merge(files: &[(String, ResultFile)]) -> Result<ResultFile, MergeError> {
        let Some(((_, first), _)) = files.split_first() else { return Err(MergeError::None) };
        let mut all = ResultFile { shards: Vec::new(), tally: Tally::default(), ..first.clone() };
        for (name, file) in files {
            if (&file.plan, file.of) != (&all.plan, all.of) {
                return Err(MergeError::OtherPlan(name.clone()));
            }
            for shard in &file.shards {
                if !(1..=file.of).contains(shard) {
                    return Err(MergeError::NoShard(name.clone(), *shard, file.of));
                }
                if all.shards.contains(shard) {
                    return Err(MergeError::Twice(name.clone(), *shard));
                }
                all.shards.push(*shard);
            }
            all.tally.add(&file.tally);
        }
        all.shards.sort_unstable();
        Ok(all)
    }

    /// Shards that are still missing, from the first to the last of each gap.
    pub fn missing(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = 1;
        for shard in self.shards.iter().copied().chain([self.of.saturating_add(1)]) {
            if next < shard {
                gaps.push((next, shard - 1));
            }
            next = shard.saturating_add(1);
        }
        gaps
    }

    /// Cases of the shards in here that were not run: by a limit of time, or after too many failures.
    pub fn cut_short(&self) -> u64 {
        let all: u64 = self.shards.iter().fold(0, |n, s| n.saturating_add(self.plan.cases_of(*s, self.of)));
        all.saturating_sub(self.tally.cases)
    }
}

/// How to run a plan.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Shard I of N: (I, N), from 1.
    pub shard: (u64, u64),
    /// Different failures after which to stop.
    pub keep: usize,
    /// Stop after this long.
    pub limit: Option<Duration>,
}

/// What a campaign has to do with what processors gave.
#[derive(Default)]
pub enum Records<'a> {
    /// Nothing.
    #[default]
    Unused,
    /// It is written down; the host's processor has to be a leg.
    Write(&'a mut dyn Write),
    /// The interpreter is held against it, in the same cases.
    Check(&'a Recorded),
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Records::Unused => "Unused",
            Records::Write(_) => "Write",
            Records::Check(_) => "Check",
        })
    }
}

/// Why a campaign cannot run, or go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// There are no engines.
    #[error(transparent)]
    Leg(#[from] LegError),
    /// What the processor gave cannot be written.
    #[error("what the processor gave cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// The generator, or calque's table of instructions, has changed since the recording.
    #[error("group {0} has other cases than when it was recorded: record them anew with this version")]
    Foreign(u64),
}

/// Runs the shard. `tell` gets a line now and then, and whole reports of failures.
///
/// # Errors
/// When there are no engines; for `records` also when what it wants cannot be done.
pub fn run(
    plan: &Plan,
    legs: &[LegKind],
    options: Options,
    records: Records<'_>,
    tell: &mut dyn FnMut(&str),
) -> Result<Tally, CampaignError> {
    run_in(World::new(legs)?, plan, options, records, tell)
}

/// The same on legs at hand.
///
/// # Errors
/// As for [`run`].
pub fn run_in(
    mut world: World,
    plan: &Plan,
    options: Options,
    records: Records<'_>,
    tell: &mut dyn FnMut(&str),
) -> Result<Tally, CampaignError> {
    let host = world.has_host().then(HostFlags::detect);
    let generator = match records {
        Records::Check(recorded) => Generator::without(&recorded.lacking),
        _ => Generator::new(plan.family, host.as_ref()),
    };
    let mut tally = Tally::default();
    let mut forms: HashMap<iced_x86::Code, u64> = HashMap::new();
    for code in generator.lacking() {
        tally.lacking.insert(format!("{code:?}"), 1);
    }
    if !matches!(records, Records::Unused) {
        world.record();
    }
    let (mut recorder, recorded) = match records {
        Records::Unused => (None, None),
        Records::Write(file) => (Some(Recorder::new(file, plan, options.shard, generator.lacking())?), None),
        Records::Check(recorded) => (None, Some(recorded)),
    };
    let start = Instant::now();
    let mut said = start;
    let mut seen: HashMap<(String, Vec<iced_x86::Code>, String), usize> = HashMap::new();
    let groups = plan.cases.div_ceil(GROUP);
    for group in (0..groups).filter(|g| g % options.shard.1 == options.shard.0 - 1) {
        let left = plan.cases - group * GROUP;
        let mut cases = generator.group(plan.seed, group);
        cases.truncate(left as usize);
        if recorded.is_some_and(|r| r.is_foreign(group, &cases)) {
            return Err(CampaignError::Foreign(group));
        }
        let mut outcomes = world.run_group(&cases);
        if let Some(recorder) = &mut recorder {
            recorder.group(group, &cases, world.finals())?;
        }
        if let Some(recorded) = recorded {
            tally.recorded += against(recorded, group, world.finals(), &mut outcomes);
        }
        for (i, (case, outcome)) in cases.iter().zip(&outcomes).enumerate() {
            tally.cases += 1;
            for code in generate::forms(case) {
                *forms.entry(code).or_default() += 1;
            }
            match outcome {
                Outcome::Same(_) => tally.same += 1,
                Outcome::Endless => tally.endless += 1,
                Outcome::WithoutHost => tally.without_host += 1,
                Outcome::Explained(why) => *tally.explained.entry(why.to_string()).or_default() += 1,
                Outcome::Differs(leg, list) => {
                    let number = group * GROUP + i as u64;
                    note(&world, &mut tally, &mut seen, (plan.seed, number), case, (*leg, list), tell);
                }
            }
        }
        if tally.failures.len() >= options.keep {
            tell("too many different failures: stopped");
            break;
        }
        if options.limit.is_some_and(|l| start.elapsed() > l) {
            break;
        }
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            let rate = tally.cases as f64 / start.elapsed().as_secs_f64();
            tell(&format!(
                "{} cases, {rate:.0} a second, {} different failures",
                tally.cases,
                tally.failures.len()
            ));
        }
    }
    if let Some(recorder) = recorder {
        tally.recorded = recorder.finish()?;
    }
    tally.seconds = start.elapsed().as_secs_f64();
    tally.executed = world.counts();
    tally.restarts = world.host_restarts();
    tally.forms = forms.into_iter().map(|(code, n)| (format!("{code:?}"), n)).collect();
    for leg in world.legs() {
        let counts = (leg.driver.translated, leg.driver.interpreted);
        tally.legs.insert(leg.kind.name().to_owned(), counts);
    }
    Ok(tally)
}

/// Holds the interpreter's ends of a group against what a processor gave; gives how many are the same.
fn against(recorded: &Recorded, group: u64, finals: &[Option<u64>], outcomes: &mut [Outcome]) -> u64 {
    let mut same = 0;
    for ((n, ours), outcome) in (group * GROUP..).zip(finals).zip(outcomes) {
        let Some(given) = recorded.end(n) else { continue };
        if *ours == Some(given) {
            same += 1;
        } else if !matches!(outcome, Outcome::Differs(..)) {
            let what = match ours {
                Some(ours) => {
                    format!("end: differs from what a processor gave: {ours:016x}, and that {given:016x}")
                }
                None => {
                    "end: a processor came to one, the interpreter to none, or by an undefined flag".into()
                }
            };
            *outcome = Outcome::Differs(LegKind::Recorded, vec![what]);
        }
    }
    same
}

type Seen = HashMap<(String, Vec<iced_x86::Code>, String), usize>;

/// Makes a failure small and tells of it, if its like has not been seen.
fn note(
    world: &World,
    tally: &mut Tally,
    seen: &mut Seen,
    number: (u64, u64),
    case: &super::Case,
    (leg, list): (LegKind, &[String]),
    tell: &mut dyn FnMut(&str),
) {
    let word = |l: &str| l.split([':', ' ']).next().unwrap_or_default().to_owned();
    let what = list.first().map_or_else(String::new, |l| word(l));
    let rough = (leg.name().to_owned(), generate::forms(case).take(1).collect::<Vec<_>>(), what.clone());
    if case.code.len() == 1
        && let Some(at) = seen.get(&rough)
    {
        tally.failures[*at].count += 1;
        return;
    }
    let small = world.shrink(case, leg);
    let shown = small.as_ref().unwrap_or(case);
    let key = (leg.name().to_owned(), generate::forms(shown).take(3).collect::<Vec<_>>(), what);
    if let Some(at) = seen.get(&key) {
        tally.failures[*at].count += 1;
        return;
    }
    seen.insert(key, tally.failures.len());
    let history = if small.is_some() { "" } else { " (not alone: it depends on the cases before it)" };
    tell(&format!(
        "== seed {} case {}: {} differs{history}\nfirst seen: {list:#?}\n{}",
        number.0,
        number.1,
        leg.name(),
        world.report(shown, leg)
    ));
    tally.failures.push(Failure {
        case: number,
        leg: leg.name().to_owned(),
        what: list.to_vec(),
        text: shown.to_text(),
        line: super::line::run_case(shown, leg.run_case()),
        count: 1,
    });
}
