//! `docs/instructions.md` says what becomes of every instruction that the decoder knows, and says it of today's code.

use std::path::Path;
use testsuite::instructions::{Fate, markdown, rows};

#[test]
fn the_table_is_fresh() {
    let rows = rows();
    let missing: Vec<_> = rows.iter().filter(|r| r.fate == Fate::Missing).map(|r| r.code).collect();
    assert!(missing.is_empty(), "offered, and nobody executes them: {missing:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/instructions.md");
    let text = markdown(&rows, None);
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
