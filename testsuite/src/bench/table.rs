//! The figures as a table in Markdown.

use super::results::{BARE, CALQUE, Results, Row};
use super::workloads::Kind;
use std::fmt::Write;

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.digits$}"))
}

/// A page: notes, means by kind, every workload, and what was wrong.
pub fn markdown(results: &Results) -> String {
    let mut text = String::from("# Benchmarks\n\n");
    for note in &results.notes {
        let _ = writeln!(text, "- {note}");
    }
    let _ = writeln!(
        text,
        "\nTimes as ratios of medians. *QEMU / calque* above 1 means that calque is faster.\n"
    );
    text += &by_kind(results);
    text.push('\n');
    text += &by_workload(results);
    let troubled: Vec<_> = results.rows.iter().filter(|r| !r.troubles.is_empty()).collect();
    if !troubled.is_empty() {
        text.push_str("\n## Not measured, or wrong\n\n");
        for row in troubled {
            for trouble in &row.troubles {
                let _ = writeln!(text, "- {}: {}", row.name, trouble.lines().next().unwrap_or_default());
            }
        }
    }
    if !results.resident.is_empty() {
        text.push_str("\n## Resident memory\n\n");
        for (name, mib) in &results.resident {
            let _ = writeln!(text, "- {name}: {mib:.0} MiB");
        }
    }
    text
}

/// Geometric means by kind, and overall.
pub fn by_kind(results: &Results) -> String {
    let mut text = String::from("| kind | workloads |");
    for qemu in &results.qemus {
        let _ = write!(text, " {qemu} / calque |");
    }
    text.push_str(" calque / bare |");
    for qemu in &results.qemus {
        let _ = write!(text, " {qemu} / bare |");
    }
    let columns = 3 + 2 * results.qemus.len();
    let _ = writeln!(text, "\n|{}", "---|".repeat(columns));
    let mut line = |title: &str, chosen: &dyn Fn(&Row) -> bool| {
        let n = results.rows.iter().filter(|r| chosen(r) && r.has(CALQUE)).count();
        if n == 0 {
            return;
        }
        let mean = |slow: &str, fast: &str| number(results.mean(slow, fast, chosen).map(|(mean, _)| mean), 2);
        let _ = write!(text, "| {title} | {n} |");
        for qemu in &results.qemus {
            let _ = write!(text, " {} |", mean(qemu, CALQUE));
        }
        let _ = write!(text, " {} |", mean(CALQUE, BARE));
        for qemu in &results.qemus {
            let _ = write!(text, " {} |", mean(qemu, BARE));
        }
        text.push('\n');
    };
    for &kind in Kind::ALL {
        line(kind.title(), &|r| r.kind == kind);
    }
    line("**all with one CPU**", &|r| r.kind != Kind::TwoCpus);
    line("**all that compute**", &|r| r.kind.computes());
    text
}

/// Every workload.
pub fn by_workload(results: &Results) -> String {
    let mut text = String::from("| workload | kind | bare s | calque s | calque / bare |");
    for qemu in &results.qemus {
        let _ = write!(text, " {qemu} s | {qemu} / calque |");
    }
    text.push_str(" calque with one CPU s | leaves translated code, per 1000 instructions |");
    let columns = 7 + 2 * results.qemus.len();
    let _ = writeln!(text, "\n|{}", "---|".repeat(columns));
    for row in &results.rows {
        let _ = write!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.name,
            row.kind.title(),
            number(row.median(BARE), 3),
            number(row.median(CALQUE), 3),
            number(row.ratio(CALQUE, BARE), 2)
        );
        for qemu in &results.qemus {
            let _ =
                write!(text, " {} | {} |", number(row.median(qemu), 3), number(row.ratio(qemu, CALQUE), 2));
        }
        let losses = row.counters.as_ref().map(|c| c.losses()).unwrap_or_default();
        let alone = row.median(ONE_CPU).map_or_else(String::new, |v| format!("{v:.3}"));
        let _ = writeln!(text, " {alone} | {losses} |");
    }
    text
}

/// Name of calque with one processor in rows of two-processor workloads.
pub const ONE_CPU: &str = "calque 1 CPU";
