//! How often each instruction form ran on each leg, as the interpreter's trail of the cases tells.

use super::leg::Step;
use iced_x86::{Code, Decoder, DecoderOptions};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Counts of one form on one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 3]", into = "[u64; 3]")]
pub struct Times {
    /// It was executed, to its end or to a fault of its own.
    pub ran: u64,
    /// It came to its end.
    pub completed: u64,
    /// It stood in a block that this leg had translated.
    pub translated: u64,
}

impl From<[u64; 3]> for Times {
    fn from([ran, completed, translated]: [u64; 3]) -> Self {
        Self { ran, completed, translated }
    }
}

impl From<Times> for [u64; 3] {
    fn from(t: Times) -> Self {
        [t.ran, t.completed, t.translated]
    }
}

impl Times {
    /// Adds another part's.
    pub fn add(&mut self, other: Times) {
        self.ran = self.ran.saturating_add(other.ran);
        self.completed = self.completed.saturating_add(other.completed);
        self.translated = self.translated.saturating_add(other.translated);
    }
}

/// By leg, then by form.
pub type ByLeg = BTreeMap<String, BTreeMap<String, Times>>;

/// As a table of text: a line for each form with, for each leg, how often it ran, came to its end, and was translated.
/// The first line names the legs.
pub fn to_table(counts: &ByLeg) -> String {
    let mut table = String::from("form");
    for leg in counts.keys() {
        table += &format!("\t{leg}");
    }
    table.push('\n');
    let forms: BTreeSet<&String> = counts.values().flat_map(BTreeMap::keys).collect();
    for form in forms {
        table += form;
        for leg in counts.values() {
            let t = leg.get(form).copied().unwrap_or_default();
            table += &format!("\t{} {} {}", t.ran, t.completed, t.translated);
        }
        table.push('\n');
    }
    table
}

/// Reads what [`to_table`] wrote; None if it is something else.
pub fn from_table(text: &str) -> Option<ByLeg> {
    let mut lines = text.lines();
    let legs: Vec<&str> = lines.next()?.split('\t').skip(1).collect();
    let mut counts = ByLeg::new();
    for line in lines {
        let mut cells = line.split('\t');
        let form = cells.next()?;
        for leg in &legs {
            let numbers: Vec<u64> =
                cells.next()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
            let times: [u64; 3] = numbers.try_into().ok()?;
            counts.entry((*leg).to_owned()).or_default().insert(form.to_owned(), times.into());
        }
    }
    Some(counts)
}

/// One executed instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    code: Code,
    /// Where it lay in guest-physical memory.
    pub(super) at: u64,
    completed: bool,
}

/// The forms of a trail; `icount` is the processor's count of completed instructions at its end. Bytes that the decoder
/// does not know and instructions that could not be fetched whole are left out.
pub(super) fn done(steps: &[Step], icount: u64) -> Vec<Done> {
    let mut list = Vec::with_capacity(steps.len());
    for (n, s) in steps.iter().enumerate() {
        let after = steps.get(n + 1).map_or(icount, |s| s.icount);
        let i = Decoder::with_ip(s.bits, &s.bytes, s.rip, DecoderOptions::NONE).decode();
        let completed = after != s.icount;
        if !i.is_invalid() && (completed || i.len() <= s.present) {
            list.push(Done { code: i.code(), at: s.at, completed });
        }
    }
    list
}

/// The counts of a campaign.
#[derive(Debug, Default)]
pub(super) struct Counts {
    legs: BTreeMap<&'static str, Vec<Times>>,
}

impl Counts {
    /// Adds what a leg has run.
    pub(super) fn add(&mut self, leg: &'static str, done: &[Done], translated: impl Fn(u64) -> bool) {
        let table = self.legs.entry(leg).or_insert_with(|| vec![Times::default(); Code::values().len()]);
        for d in done {
            let t = &mut table[d.code as usize];
            t.ran += 1;
            t.completed += u64::from(d.completed);
            t.translated += u64::from(translated(d.at));
        }
    }

    /// By name, without the forms that did not run.
    pub(super) fn by_leg(&self) -> ByLeg {
        let forms = |table: &Vec<Times>| {
            let all = Code::values().zip(table).filter(|(_, t)| t.ran != 0);
            all.map(|(code, t)| (format!("{code:?}"), *t)).collect()
        };
        self.legs.iter().map(|(leg, table)| ((*leg).to_owned(), forms(table))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_back() {
        let times = |n| Times { ran: n, completed: n - 1, translated: 0 };
        let leg = |forms: &[(&str, u64)]| forms.iter().map(|(f, n)| ((*f).to_owned(), times(*n))).collect();
        let mut counts = ByLeg::new();
        counts.insert("interpreter".into(), leg(&[("Add_rm8_r8", 5), ("Nopd", 7)]));
        counts.insert("host code".into(), leg(&[("Nopd", 9)]));
        let read = from_table(&to_table(&counts)).expect("its own table");
        assert_eq!(read["interpreter"], counts["interpreter"]);
        assert_eq!(read["host code"]["Nopd"], times(9));
        assert_eq!(read["host code"]["Add_rm8_r8"], Times::default());
        assert_eq!(from_table("form\tinterpreter\nNopd\t1 2\n"), None);
    }
}
