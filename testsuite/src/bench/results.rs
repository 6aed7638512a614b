//! The figures of a run, as they are kept in `results.json`.

use super::counters::Counters;
use super::workloads::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the bare processor in [`Row::seconds`].
pub const BARE: &str = "bare";
/// Name of calque.
pub const CALQUE: &str = "calque";

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// What was measured on what, in words.
    pub notes: Vec<String>,
    /// Names of the QEMUs, the first being the yardstick.
    pub qemus: Vec<String>,
    /// One for each workload, and for each boot.
    pub rows: Vec<Row>,
    /// Resident MiB, by machine and when.
    pub resident: BTreeMap<String, f64>,
}

/// One workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Seconds of every run, by machine.
    pub seconds: BTreeMap<String, Vec<f64>>,
    /// Why a machine has no figures, or what was wrong.
    pub troubles: Vec<String>,
    /// calque's counters over one run.
    pub counters: Option<Counters>,
}

/// The median; None of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The geometric mean; None of nothing.
pub fn geometric_mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0);
    for value in values {
        sum += value.ln();
        n += 1;
    }
    (n > 0).then(|| (sum / f64::from(n)).exp())
}

impl Row {
    /// A row without figures.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.into(), kind, seconds: BTreeMap::new(), troubles: Vec::new(), counters: None }
    }

    /// Median seconds on a machine.
    pub fn median(&self, machine: &str) -> Option<f64> {
        median(self.seconds.get(machine)?)
    }

    /// How many times as long `slow` takes as `fast`.
    pub fn ratio(&self, slow: &str, fast: &str) -> Option<f64> {
        Some(self.median(slow)? / self.median(fast)?)
    }

    /// How far single runs on a machine lie from their median, in the middle, as a share of it: the run's noise.
    pub fn noise(&self, machine: &str) -> Option<f64> {
        let values = self.seconds.get(machine)?;
        let middle = median(values)?;
        let far: Vec<_> = values.iter().map(|v| (v - middle).abs()).collect();
        Some(median(&far)? / middle)
    }

    /// Whether there are figures of a machine.
    pub fn has(&self, machine: &str) -> bool {
        self.seconds.get(machine).is_some_and(|v| !v.is_empty())
    }
}

impl Results {
    /// Geometric mean of a ratio over the rows that `chosen` takes and that have it; and how many they are.
    pub fn mean(&self, slow: &str, fast: &str, chosen: impl Fn(&Row) -> bool) -> Option<(f64, usize)> {
        let ratios: Vec<_> =
            self.rows.iter().filter(|r| chosen(r)).filter_map(|r| r.ratio(slow, fast)).collect();
        Some((geometric_mean(ratios.iter().copied())?, ratios.len()))
    }

    /// The QEMU to beat.
    pub fn yardstick(&self) -> Option<&str> {
        self.qemus.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert!((geometric_mean([1.0, 4.0, 16.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean([]), None);
    }

    #[test]
    fn ratios_want_both_sides() {
        let mut row = Row::new("x", Kind::Integer);
        row.seconds.insert(CALQUE.into(), vec![2.0, 2.2, 1.8]);
        assert_eq!(row.ratio(CALQUE, BARE), None);
        row.seconds.insert(BARE.into(), vec![1.0]);
        assert_eq!(row.ratio(CALQUE, BARE), Some(2.0));
        assert!((row.noise(CALQUE).unwrap() - 0.1).abs() < 1e-9);
    }
}
