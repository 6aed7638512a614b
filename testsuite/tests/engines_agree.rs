//! The engines against each other: every case that ever differed, then random ones for a while.
//!
//! `CALQUE_TEST_SCALE` multiplies the time (60 s on two cores), `CALQUE_TEST_SEED` gives other cases. A failure prints
//! everything and the text of a small case; put that into `testsuite/cases/` with the fix.
#![cfg(all(target_arch = "x86_64", unix))]

use std::path::Path;
use std::time::{Duration, Instant};
use testsuite::oracle::{Case, Generator, Kind, Outcome, Tally, World, report, shrink};

/// Seconds for each half of the random cases.
const SECONDS: f64 = 30.0;

fn variable(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

fn check(world: &mut World, case: &Case, name: &str, tally: &mut Tally) {
    let outcome = world.run(case);
    tally.note(case, &outcome);
    if let Outcome::Differs(kind, list) = outcome {
        let small = shrink(case, kind);
        let shown = small.as_ref().unwrap_or(case);
        panic!("{name}: {} differs: {list:#?}\n{}", kind.name(), report(shown, kind));
    }
}

#[test]
fn past_failures_stay_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut world = World::new(&Kind::ALL).expect("the engines");
    let mut tally = Tally::default();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "case") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a case");
        let case = Case::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        check(&mut world, &case, &name, &mut tally);
        count += 1;
    }
    assert!(count > 0, "no cases");
}

/// Every form in cases of one to twelve instructions, in every mode.
fn slice(shard: u64) {
    let limit = Duration::from_secs_f64(SECONDS * variable("CALQUE_TEST_SCALE").unwrap_or(1.0));
    let seed = variable("CALQUE_TEST_SEED").map_or(2026, |s| s as u64);
    let (generator, mut world) = (Generator::new(), World::new(&Kind::ALL).expect("the engines"));
    let mut tally = Tally::default();
    let start = Instant::now();
    for n in (0..).filter(|n| n / 64 % 2 == shard) {
        if start.elapsed() > limit {
            break;
        }
        let case = generator.case(seed, n);
        check(&mut world, &case, &format!("seed {seed} case {n}"), &mut tally);
    }
    let summary = tally.summary(&world);
    eprintln!("{summary}");
    assert!(tally.same > 50 * tally.endless.max(1), "cases do not end: {summary}");
    for leg in &world.legs()[1..] {
        assert!(leg.translated > leg.interpreted, "little was translated: {summary}");
    }
}

#[test]
fn random_cases_agree_first_half() {
    slice(0);
}

#[test]
fn random_cases_agree_second_half() {
    slice(1);
}
