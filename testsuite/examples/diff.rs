//! A campaign of the differential oracle: `diff --cases N --seed S --shard I/N [--from K] [--keep FILES]`.
//!
//! Every failure is printed, made small, and written to `target/diff-SEED-NUMBER.case`; the campaign goes on until
//! `--keep` different failures (default 20) have been seen.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::time::Instant;
use testsuite::oracle::{Case, Generator, Kind, Outcome, Tally, World, report, shrink};

struct Options {
    cases: u64,
    seed: u64,
    shard: (u64, u64),
    from: u64,
    keep: usize,
    replay: Vec<String>,
}

fn options() -> Result<Options> {
    let mut o = Options { cases: 100_000, seed: 1, shard: (1, 1), from: 0, keep: 20, replay: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if !arg.starts_with("--") {
            o.replay.push(arg);
            continue;
        }
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{arg} {value}: not a number"));
        match arg.as_str() {
            "--cases" => o.cases = number()?,
            "--seed" => o.seed = number()?,
            "--from" => o.from = number()?,
            "--keep" => o.keep = number()? as usize,
            "--shard" => {
                let (i, n) = value.split_once('/').context("--shard I/N")?;
                o.shard = (i.parse()?, n.parse()?);
                if o.shard.0 == 0 || o.shard.0 > o.shard.1 {
                    bail!("--shard {value}: I is from 1 to N");
                }
            }
            _ => bail!("unknown option {arg}"),
        }
    }
    Ok(o)
}

fn main() -> Result<()> {
    let o = options()?;
    std::panic::set_hook(Box::new(|p| eprintln!("{p}")));
    let mut world = World::new(&Kind::ALL)?;
    for path in &o.replay {
        let case = Case::parse(&std::fs::read_to_string(path)?).map_err(anyhow::Error::msg)?;
        let outcome = world.run(&case);
        println!("{path}: {outcome:?}");
        if let Outcome::Differs(kind, _) = outcome {
            println!("{}", report(&case, kind));
        }
    }
    if !o.replay.is_empty() {
        return Ok(());
    }
    let generator = Generator::new();
    for bits in [16, 32, 64] {
        let (all, lifted) = generator.forms(bits);
        println!("{bits}-bit code: {all} forms, {lifted} translated");
    }
    let mut tally = Tally::default();
    let mut failures = HashMap::new();
    let start = Instant::now();
    for n in o.from..o.from + o.cases {
        if (n / 64) % o.shard.1 != o.shard.0 - 1 {
            continue;
        }
        let case = generator.case(o.seed, n);
        let outcome = world.run(&case);
        tally.note(&case, &outcome);
        let Outcome::Differs(kind, list) = outcome else { continue };
        let small = shrink(&case, kind);
        let shown = small.as_ref().unwrap_or(&case);
        let what = list[0].split([':', ' ']).next().unwrap_or_default().to_owned();
        let forms: Vec<_> = testsuite::oracle::generate::forms(shown).take(3).collect();
        let seen = failures.entry((kind, forms, what)).or_insert(0u32);
        *seen += 1;
        if *seen > 1 {
            continue;
        }
        println!(
            "== seed {} case {n}, {}{}",
            o.seed,
            kind.name(),
            if small.is_some() { "" } else { " (by history)" }
        );
        println!("first seen: {list:#?}\n{}", report(shown, kind));
        std::fs::write(format!("target/diff-{}-{n}.case", o.seed), shown.to_text())?;
        if failures.len() >= o.keep {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{}{seconds:.1} s, {:.0} cases/s", tally.summary(&world), tally.same as f64 / seconds);
    for ((kind, forms, what), count) in &failures {
        println!("FAILED {count} times: {} {forms:?} {what}", kind.name());
    }
    if !failures.is_empty() {
        bail!("{} different failures", failures.len());
    }
    Ok(())
}
