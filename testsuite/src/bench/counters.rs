//! calque's counters, as Ctrl-A c and `--stats` write them, and what they say about a workload.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters(pub BTreeMap<String, u64>);

impl Counters {
    /// Reads a report: lines of a number and, two blanks behind it, a name.
    pub fn parse<S: AsRef<str>>(lines: &[S]) -> Self {
        let counter = |line: &str| {
            let (value, name) = line.trim_start().split_once("  ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(lines.iter().filter_map(|line| counter(line.as_ref())).collect())
    }

    /// What was counted between `before` and `self`. Rates are left out.
    pub fn since(&self, before: &Self) -> Self {
        let counted = |(name, &now): (&String, &u64)| {
            let grown = now.saturating_sub(before.get(name));
            (grown > 0 && !name.ends_with(" a second")).then(|| (name.clone(), grown))
        };
        Self(self.0.iter().filter_map(counted).collect())
    }

    /// One counter, 0 if there is none of that name.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// A page for people: the counters by size, each also per thousand guest instructions where those were counted.
    pub fn page(&self, name: &str, seconds: f64) -> String {
        let total = self.get("guest instructions");
        if total == 0 {
            let mut text =
                format!("{name}: {seconds:.3} s, guest instructions not counted\n\n           count  what\n");
            for (name, value) in self.by_size() {
                let _ = writeln!(text, "{value:>16}  {name}");
            }
            return text;
        }
        let mut text = format!("{name}: {total} guest instructions in {seconds:.3} s");
        if seconds > 0.0 {
            let _ = write!(text, ", {:.0} million a second", total as f64 / seconds / 1e6);
        }
        text.push_str("\n\n           count  per 1000  what\n");
        for (name, value) in self.by_size() {
            let _ = writeln!(text, "{value:>16}  {:>8.3}  {name}", *value as f64 * 1000.0 / total as f64);
        }
        text
    }

    /// All but the instructions, the largest first.
    fn by_size(&self) -> Vec<(&String, &u64)> {
        let mut list: Vec<_> = self.0.iter().filter(|(name, _)| *name != "guest instructions").collect();
        list.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        list
    }

    /// The largest causes of leaving translated code, in one line for a table; nothing where instructions were not counted.
    pub fn losses(&self) -> String {
        let total = self.get("guest instructions") as f64;
        if total == 0.0 {
            return String::new();
        }
        let telling = |name: &str| {
            [
                "exits",
                "interpreted ",
                "cold blocks",
                "translation cache misses",
                "stores to decoded code",
                "walks",
            ]
            .iter()
            .any(|start| name.starts_with(start))
        };
        // Fewer than one in a hundred thousand instructions explain nothing.
        let large = self
            .by_size()
            .into_iter()
            .filter(|(name, _)| telling(name))
            .map(|(name, v)| (name, *v as f64 * 1000.0 / total))
            .filter(|(_, rate)| *rate >= 0.01);
        let parts: Vec<_> = large.take(4).map(|(name, rate)| format!("{name} {rate:.2}")).collect();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_and_subtracted() {
        let before = Counters::parse(&[
            "guest at 0010:0x1",
            "             100  guest instructions",
            "",
            "  7  CR3 loads",
        ]);
        assert_eq!(before.0.len(), 2);
        let after = Counters::parse(&[
            "2100  guest instructions",
            "7  CR3 loads",
            "40  interpreted fld",
            "9  guest instructions a second",
        ]);
        let grown = after.since(&before);
        assert_eq!(grown.get("guest instructions"), 2000);
        assert_eq!(grown.0.len(), 2);
        assert_eq!(grown.losses(), "interpreted fld 20.00");
        assert!(grown.page("x", 1.0).contains("20.000  interpreted fld"));
    }
}
