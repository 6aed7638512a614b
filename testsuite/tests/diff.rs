//! The differential tester itself: what it makes of an engine that is wrong, and of the parts of a campaign.
#![cfg(all(target_arch = "x86_64", unix))]

use calque::diff::campaign::{self, CampaignError, MergeError, Options, Plan, Records, ResultFile, Tally};
use calque::diff::generate::Family;
use calque::diff::recorded::Recorded;
use calque::diff::scene::SCENES;
use calque::diff::world::host_available;
use calque::diff::{Case, Generator, Kind, LegKind, Outcome, World, line};
use calque::runcase::Runner;
use emu_core::addr::is_canonical;
use emu_core::features::Features;
use emu_core::ir::PassSet;
use iced_x86::{Decoder, DecoderOptions};
use interp::features::code_offered;
use serde_json::Value;

fn plan(cases: u64) -> Plan {
    Plan { cases, seed: 11, family: Family::Engines, legs: vec!["eval".into()] }
}

fn part(plan: &Plan, shard: (u64, u64)) -> ResultFile {
    let options = Options { shard, keep: 20, limit: None };
    let legs = [LegKind::Engine(Kind::Eval)];
    let tally = campaign::run(plan, &legs, options, Records::Unused, &mut |_| ()).expect("the engines");
    ResultFile { plan: plan.clone(), of: shard.1, shards: vec![shard.0], tally }
}

/// Engines whose processor lacks CMOV are wrong wherever it, or what came with it, is executed.
#[test]
fn a_wrong_engine_is_found_and_its_failure_made_small() {
    let lacking = Features::parse("max,-cmov").expect("a feature");
    for kind in [Kind::Eval, Kind::Optimized(PassSet::ALL.0), Kind::Jit] {
        let world = World::with_processors(&[LegKind::Engine(kind)], lacking).expect("the engines");
        let mut said = String::new();
        let options = Options { shard: (1, 1), keep: 3, limit: None };
        let tell = &mut |text: &str| said += text;
        let tally =
            campaign::run_in(world, &plan(20_000), options, Records::Unused, tell).expect("a campaign");
        assert!(tally.failures.len() >= 3, "{}: {}", kind.name(), tally.summary());
        for f in &tally.failures {
            let small = Case::parse(&f.text).expect("a case");
            let bits = SCENES[small.scene].bits;
            let code = Decoder::new(bits, &small.bytes(), DecoderOptions::NONE).decode().code();
            assert!(small.code.len() == 1 && !code_offered(&lacking, code), "{code:?}: {}", f.text);
            assert!(small.gpr.iter().filter(|r| **r != 0).count() <= 2, "{}", f.text);
            // The line is ready for `run-case`, and shows the same on an engine that is right.
            assert!(said.contains(&format!("run-case: {}\n", f.line)), "{said}");
            let (answer, ok) = Runner::default().line(&f.line, 1);
            assert!(ok, "{answer}");
            let mut right = World::new(&[LegKind::Engine(kind)]).expect("the engines");
            assert!(matches!(right.run(&small), Outcome::Same(_)), "{}", f.text);
        }
        assert!(tally.summary().contains("FAILED"));
    }
}

/// What a processor gave is what the interpreter gives to the same cases without that processor, and one bit more or less
/// is a failure.
#[test]
fn a_processor_stands_in_for_itself_when_recorded() {
    if !host_available() {
        return;
    }
    let plan = Plan { family: Family::Host, ..plan(5_000) };
    let options = Options { shard: (1, 2), keep: 20, limit: None };
    let mut file = Vec::new();
    let legs = [LegKind::Host];
    let made = campaign::run(&plan, &legs, options, Records::Write(&mut file), &mut |_| ()).expect("a host");
    assert!(made.recorded > made.cases / 2 && made.recorded <= made.same, "{}", made.summary());
    let file = String::from_utf8(file).expect("text");
    let check = |file: &str| {
        let recorded = Recorded::read(file.as_bytes(), &plan, options.shard).expect("a record");
        let records = Records::Check(&recorded);
        campaign::run(&plan, &[LegKind::Engine(Kind::Jit)], options, records, &mut |_| ())
    };
    let got = check(&file).expect("a campaign");
    assert_eq!((got.recorded, &got.failures[..]), (made.recorded, &[][..]), "{}", got.summary());
    assert_eq!(got.cases, made.cases);

    let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
    let at = lines.iter().rposition(|l| l.split(' ').count() == 2 && !l.starts_with("end")).expect("a case");
    let case: u64 = lines[at].split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let flipped = if lines[at].ends_with('0') { "1" } else { "0" };
    let cut = lines[at].len() - 1;
    lines[at].replace_range(cut.., flipped);
    let got = check(&(lines.join("\n") + "\n")).expect("a campaign");
    assert_eq!(got.recorded, made.recorded - 1);
    let [failure] = &got.failures[..] else { panic!("{}", got.summary()) };
    assert_eq!((failure.case, failure.leg.as_str()), ((plan.seed, case), "recorded processor"));
    assert!(failure.what[0].contains("differs from what a processor gave"), "{:?}", failure.what);

    // Without a form that the processor has, the cases are others.
    let other = file.replacen("without", "without Add_rm8_r8", 1);
    assert!(matches!(check(&other), Err(CampaignError::Foreign(0))));
}

/// Whether it ended at an address that is not canonical, which one refuses at the jump to it and another at the fetch.
fn wild(end: &Value) -> bool {
    let rip = end["regs"]["rip"].as_str().expect("a RIP").trim_start_matches("0x");
    !is_canonical(u64::from_str_radix(rip, 16).expect("hexadecimal"), 48)
}

/// Every scene's cases can be given to `run-case`, and end there on every engine as they do here.
#[test]
fn cases_become_lines_for_run_case() {
    let mut runner = Runner::default();
    for family in [Family::Engines, Family::Host] {
        let generator = Generator::new(family, None);
        for n in 0..24 {
            for case in generator.group(5, n).into_iter().step_by(300) {
                let mut first = None;
                for engine in ["interp", "eval", "jit"] {
                    let text = line::run_case(&case, engine);
                    let (answer, ok) = runner.line(&text, 1);
                    assert!(ok, "{text}\n{answer}");
                    let mut got: Value = serde_json::from_str(&answer).expect("JSON");
                    // Counted by each as it likes where something is repeated.
                    got["insns"] = Value::Null;
                    let first = first.get_or_insert_with(|| got.clone());
                    if got["end"] != "limit" && !wild(first) && !wild(&got) {
                        assert_eq!(*first, got, "{engine}: {text}");
                    }
                }
            }
        }
    }
}

#[test]
fn shards_merge_to_the_whole() {
    let plan = plan(3 * 512 + 100);
    let parts: Vec<_> = (1..=3).map(|i| (format!("part {i}"), part(&plan, (i, 3)))).collect();
    let merged = ResultFile::merge(&parts).expect("parts of one campaign");
    assert_eq!((merged.shards.as_slice(), merged.missing(), merged.cut_short()), (&[1, 2, 3][..], vec![], 0));
    let same = |t: &Tally| Tally { seconds: 0.0, legs: Default::default(), ..t.clone() };
    assert_eq!(same(&merged.tally), same(&part(&plan, (1, 1)).tally));

    assert_eq!(ResultFile::merge(&parts[1..2]).expect("one part").missing(), [(1, 1), (3, 3)]);
    let mut cut = parts[0].clone();
    cut.1.tally.cases -= 7;
    assert_eq!(ResultFile::merge(&[cut]).expect("one part").cut_short(), 7);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let plan = plan(100);
    let file =
        |shards: Vec<u64>, of: u64| ResultFile { plan: plan.clone(), of, shards, tally: Tally::default() };
    let named = |f: ResultFile| ("x".to_owned(), f);
    assert_eq!(ResultFile::merge(&[]), Err(MergeError::None));
    let twice = [named(file(vec![1], 2)), named(file(vec![1], 2))];
    assert_eq!(ResultFile::merge(&twice), Err(MergeError::Twice("x".into(), 1)));
    for bad in [0, 3] {
        let no_shard = [named(file(vec![bad], 2))];
        assert_eq!(ResultFile::merge(&no_shard), Err(MergeError::NoShard("x".into(), bad, 2)));
    }
    let other = [named(file(vec![1], 2)), named(file(vec![2], 3))];
    assert_eq!(ResultFile::merge(&other), Err(MergeError::OtherPlan("x".into())));
    // However many there are said to be, and however much to have been counted.
    let mut huge = file(vec![2], u64::MAX - 1);
    huge.plan.cases = u64::MAX;
    huge.tally.cases = u64::MAX;
    let merged = ResultFile::merge(&[named(huge)]).expect("one part");
    assert_eq!(merged.missing(), [(1, 1), (3, u64::MAX - 1)]);
    assert_eq!(merged.cut_short(), 0);
}
