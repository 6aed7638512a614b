//! The engines against each other: every case that ever differed, then random ones for a while.
//!
//! `CALQUE_TEST_SCALE` multiplies the time (30 s for each of three slices), `CALQUE_TEST_SEED` gives the cases. Without it
//! they are new every day, and the seed is printed. A failure prints everything and the text of a small case; put that into
//! `testsuite/cases/` with the fix.
#![cfg(all(target_arch = "x86_64", unix))]

use calque::diff::generate::{Family, GROUP};
use calque::diff::native::HostFlags;
use calque::diff::{Case, Generator, Kind, LegKind, Outcome, World};
use calque::engines::switches::Off;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds for each slice.
const SECONDS: f64 = 30.0;

fn variable(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Cases that agreed, and those that did not end.
#[derive(Default)]
struct Count {
    same: u64,
    endless: u64,
}

fn check(world: &mut World, cases: &[Case], name: &str, count: &mut Count) {
    for (i, (outcome, case)) in world.run_group(cases).into_iter().zip(cases).enumerate() {
        match outcome {
            Outcome::Same(_) => count.same += 1,
            Outcome::Endless => count.endless += 1,
            Outcome::Explained(_) | Outcome::WithoutHost => {}
            Outcome::Differs(kind, list) => {
                let small = world.shrink(case, kind);
                let shown = small.as_ref().unwrap_or(case);
                panic!("{name} {i}: {} differs: {list:#?}\n{}", kind.name(), world.report(shown, kind));
            }
        }
    }
}

/// Every leg that this host has.
fn legs() -> Vec<LegKind> {
    let mut legs = Kind::ALL.map(LegKind::Engine).to_vec();
    if calque::diff::world::host_available() {
        legs.push(LegKind::Host);
    } else {
        eprintln!("without the host's processor: it is no x86-64 Linux");
    }
    legs
}

#[test]
fn past_failures_stay_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut world = World::new(&legs()).expect("the engines");
    let mut count = Count::default();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "case") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a case");
        let case = Case::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        check(&mut world, &[case], &name, &mut count);
        files += 1;
    }
    assert!(files > 0, "no cases");
}

/// The seed: another one every day, the same for all runs of a day.
fn seed() -> u64 {
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    variable("CALQUE_TEST_SEED").map_or_else(|| today.map_or(0, |t| t.as_secs() / 86_400), |seed| seed as u64)
}

/// Every form in cases of one to twelve instructions, in every mode that the family has, for that long.
fn slice(family: Family, legs: &[LegKind], seconds: f64) {
    let limit = Duration::from_secs_f64(seconds * variable("CALQUE_TEST_SCALE").unwrap_or(1.0));
    let (generator, mut world) =
        (Generator::new(family, Some(&HostFlags::detect())), World::new(legs).expect("the engines"));
    let mut count = Count::default();
    let (seed, start) = (seed(), Instant::now());
    eprintln!("seed {seed}");
    for n in 0.. {
        if start.elapsed() > limit {
            break;
        }
        let name = format!("seed {seed} case {} +", n * GROUP);
        check(&mut world, &generator.group(seed, n), &name, &mut count);
    }
    eprintln!("{} cases agree, {} did not end", count.same, count.endless);
    assert!(count.same > 20 * count.endless.max(1), "cases do not end");
}

#[test]
fn engines_agree_on_random_cases() {
    slice(Family::Engines, &Kind::ALL.map(LegKind::Engine), SECONDS);
}

/// Whatever is switched off, the results are the same: a whole campaign is `calque diff --passes-off`.
#[test]
fn engines_agree_with_each_pass_off() {
    for name in Off::names() {
        eprintln!("without {name}");
        let off = Off::named(&[name]).expect("a pass");
        let legs = [Kind::Optimized(off.passes().0), Kind::JitWithout(off)].map(LegKind::Engine);
        slice(Family::Engines, &legs, SECONDS / 20.0);
    }
}

#[test]
fn host_agrees_on_random_cases() {
    let legs = legs();
    if legs.contains(&LegKind::Host) {
        slice(Family::Host, &legs, SECONDS);
    }
}
