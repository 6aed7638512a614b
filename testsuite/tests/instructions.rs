//! `docs/instructions.md` says what becomes of every instruction that the decoder knows, and says it of today's code; every
//! form that is offered has run in the recorded campaign of the differential tester, on every engine.

use calque::diff::LegKind;
use calque::diff::counts::{self, ByLeg};
use std::path::{Path, PathBuf};
use testsuite::instruction_table::{for_host, legs, markdown, times};
use testsuite::instructions::{Fate, rows};

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn campaign() -> ByLeg {
    let text = std::fs::read_to_string(home().join("campaign.tsv")).expect("the recorded counts");
    counts::from_table(&text).expect("a table of 'calque diff counts'")
}

#[test]
fn the_table_is_fresh() {
    let rows = rows();
    let missing: Vec<_> = rows.iter().filter(|r| r.fate == Fate::Missing).map(|r| r.code).collect();
    assert!(missing.is_empty(), "offered, and nobody executes them: {missing:?}");
    let path = home().join("../docs/instructions.md");
    let text = markdown(&rows, &campaign());
    if std::env::var_os("CALQUE_BLESS").is_some() {
        std::fs::write(&path, &text).expect("docs is writable");
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = old.lines().zip(text.lines()).find(|(a, b)| a != b);
    assert!(
        old == text,
        "docs/instructions.md is not fresh: run this test with CALQUE_BLESS=1; first difference {differs:?}"
    );
}

/// Every form that is offered has run on every engine. What has been lifted since the campaign shows 0 in the table until
/// the next one: as it is now it has not run translated there.
#[test]
fn every_offered_form_has_run() {
    let counts = campaign();
    let mut never = Vec::new();
    for row in rows().iter().filter(|r| matches!(r.fate, Fate::Lifted | Fate::Interpreted)) {
        for leg in legs() {
            let wanted = leg != LegKind::Host || for_host(row.code);
            if wanted && times(&counts, leg, row.code).ran == 0 {
                never.push(format!("{:?} on {}", row.code, leg.name()));
            }
        }
    }
    assert!(never.is_empty(), "{} never ran: {never:#?}", never.len());
}
