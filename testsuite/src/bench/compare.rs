//! Whether a run is worse than a stored one by more than noise.
//!
//! What is compared is calque's time over the bare processor's in the same run (over QEMU's for boots, which have no bare
//! time), so that another host, or a busier one, does not look like a change of calque.

use super::results::{BARE, CALQUE, Results, Row};
use std::fmt::Write;

/// A ratio is worse when it grew by more than this at least.
const LEAST: f64 = 0.08;
/// How many times the runs' own noise it has to be outside of.
const NOISES: f64 = 3.0;

/// What became of one ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The workload.
    pub name: String,
    /// The stored ratio.
    pub before: f64,
    /// The new one.
    pub after: f64,
    /// How much it may grow unnoticed, as a share.
    pub allowed: f64,
}

impl Change {
    /// Grown by more than noise.
    pub fn worse(&self) -> bool {
        self.after > self.before * (1.0 + self.allowed)
    }

    /// Shrunk by more than noise.
    pub fn better(&self) -> bool {
        self.after * (1.0 + self.allowed) < self.before
    }
}

/// The ratio of a row that says how fast calque is, and the machine it is taken against.
fn figure<'a>(row: &Row, yardstick: Option<&'a str>) -> Option<(f64, &'a str)> {
    let against = |machine| Some((row.ratio(CALQUE, machine)?, machine));
    against(BARE).or_else(|| against(yardstick?))
}

/// All ratios that both runs have, and the names that the new one has lost.
pub fn changes(before: &Results, after: &Results) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut lost) = (Vec::new(), Vec::new());
    for old in &before.rows {
        let Some((was, against)) = figure(old, before.yardstick()) else { continue };
        let Some(new) = after.rows.iter().find(|r| r.name == old.name) else { continue };
        let Some(is) = new.ratio(CALQUE, against) else {
            lost.push(old.name.clone());
            continue;
        };
        let noise: f64 = [(old, CALQUE), (old, against), (new, CALQUE), (new, against)]
            .iter()
            .filter_map(|(row, machine)| row.noise(machine))
            .map(|n| n * n)
            .sum();
        let allowed = LEAST.max(NOISES * noise.sqrt());
        changes.push(Change { name: old.name.clone(), before: was, after: is, allowed });
    }
    (changes, lost)
}

/// The comparison for people, and whether something got worse or was lost.
pub fn report(before: &Results, after: &Results) -> (String, bool) {
    let (mut changes, lost) = changes(before, after);
    changes.sort_by(|a, b| (b.after / b.before).total_cmp(&(a.after / a.before)));
    let mut text = String::new();
    let (mut worse, mut better) = (0, 0);
    for change in &changes {
        let verdict = match (change.worse(), change.better()) {
            (true, _) => {
                worse += 1;
                "WORSE"
            }
            (_, true) => {
                better += 1;
                "better"
            }
            _ => continue,
        };
        let _ = writeln!(
            text,
            "{verdict:6} {:16} {:.2} -> {:.2} ({:+.0}%, noise {:.0}%)",
            change.name,
            change.before,
            change.after,
            (change.after / change.before - 1.0) * 100.0,
            change.allowed * 100.0
        );
    }
    for name in &lost {
        let _ = writeln!(text, "LOST   {name:16} has no figure any more");
    }
    let _ = writeln!(text, "{} compared: {worse} worse, {better} better, {} lost", changes.len(), lost.len());
    (text, worse > 0 || !lost.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workloads::Kind;

    fn results(calque: &[f64]) -> Results {
        let mut row = Row::new("sieve", Kind::Integer);
        row.seconds.insert(BARE.into(), vec![1.0, 1.0, 1.0]);
        if !calque.is_empty() {
            row.seconds.insert(CALQUE.into(), calque.to_vec());
        }
        Results { rows: vec![row], ..Results::default() }
    }

    #[test]
    fn only_what_stands_out_of_the_noise_is_worse() {
        let steady = results(&[2.0, 2.0, 2.01]);
        assert!(!report(&steady, &results(&[2.1, 2.1, 2.1])).1);
        assert!(report(&steady, &results(&[2.3, 2.3, 2.3])).1);
        assert!(!report(&results(&[1.5, 2.0, 2.6]), &results(&[2.3, 2.3, 2.3])).1);
        assert!(report(&steady, &results(&[1.0, 1.0, 1.0])).0.contains("better"));
    }

    #[test]
    fn a_lost_figure_is_worse() {
        let (text, worse) = report(&results(&[2.0]), &results(&[]));
        assert!(worse && text.contains("LOST"));
    }
}
