//! What a processor gave, in a file, so that hosts without such a processor can be held against it.
//!
//! Lines of text:
//!
//! ```text
//! calque diff recorded 1 seed 7 cases 1000000 shard 1/1
//! without VEX_Vpclmulqdq_ymm_ymm_ymmm256_imm8 EVEX_...
//! group 0 0123456789abcdef
//! 0 0123456789abcdef
//! 3 0123456789abcdef
//! end 2
//! ```
//!
//! The second line names the forms that the processor lacks: the same cases are made only without them. A group's number
//! is of its cases as they begin, so that those of another generator are known for what they are; the other lines have
//! a case's number and what [`super::finals`] makes of its end, cases in ascending order; the last says how many.

use super::campaign::Plan;
use super::case::Case;
use super::finals::Hash;
use super::generate::GROUP;
use iced_x86::Code;
use std::collections::HashMap;
use std::io::{BufRead, Read, Write};

/// Most bytes of a line: the names of all forms.
const LINE: u64 = 1 << 20;

/// Why a file is no record for this campaign.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// Of another campaign, or no such file at all.
    #[error("line 1: not recorded by this campaign, whose files begin with '{0}'")]
    OtherPlan(String),
    /// A line that has no place there.
    #[error("line {0}: {1}")]
    Line(u64, String),
    /// The file cannot be read.
    #[error("line {0}: {1}")]
    Io(u64, std::io::Error),
}

/// The first line.
fn title(plan: &Plan, shard: (u64, u64)) -> String {
    format!("calque diff recorded 1 seed {} cases {} shard {}/{}", plan.seed, plan.cases, shard.0, shard.1)
}

/// A number for a group's cases as they begin.
pub fn group_hash(cases: &[Case]) -> u64 {
    let mut h = Hash::new();
    for case in cases {
        h.bytes(case.to_text().as_bytes());
    }
    h.value()
}

/// Writes a file.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    file: W,
    count: u64,
}

impl<W: Write> Recorder<W> {
    /// A file for a shard of `plan` on a processor that lacks forms.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(mut file: W, plan: &Plan, shard: (u64, u64), lacking: &[Code]) -> std::io::Result<Self> {
        let names: String = lacking.iter().map(|code| format!(" {code:?}")).collect();
        writeln!(file, "{}\nwithout{names}", title(plan, shard))?;
        Ok(Self { file, count: 0 })
    }

    /// Adds the group `number`: its cases, and what became of those in which processor and interpreter agree.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn group(&mut self, number: u64, cases: &[Case], ends: &[Option<u64>]) -> std::io::Result<()> {
        writeln!(self.file, "group {number} {:016x}", group_hash(cases))?;
        for (n, end) in (number * GROUP..).zip(ends) {
            if let Some(end) = end {
                writeln!(self.file, "{n} {end:016x}")?;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Ends the file; gives the number of cases in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> std::io::Result<u64> {
        writeln!(self.file, "end {}", self.count)?;
        self.file.flush()?;
        Ok(self.count)
    }
}

/// What a file says.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Forms that the processor lacks.
    pub lacking: Vec<Code>,
    groups: HashMap<u64, u64>,
    cases: Vec<(u64, u64)>,
}

impl Recorded {
    /// Reads a file for a shard of `plan`.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn read(file: impl BufRead, plan: &Plan, shard: (u64, u64)) -> Result<Self, RecordedError> {
        let mut lines = Lines { file, number: 0 };
        let title = title(plan, shard);
        if lines.next().ok().flatten().is_none_or(|l| l != title) {
            return Err(RecordedError::OtherPlan(title));
        }
        let mut all = Self::default();
        let without = lines.next()?.unwrap_or_default();
        let mut names = without.split(' ');
        if names.next() != Some("without") {
            return Err(lines.wrong("'without' and names of instruction forms are missing"));
        }
        let codes: HashMap<String, Code> = Code::values().map(|c| (format!("{c:?}"), c)).collect();
        for name in names {
            let Some(code) = codes.get(name) else {
                return Err(lines.wrong(&format!("there is no instruction form '{}'", shown(name))));
            };
            all.lacking.push(*code);
        }
        let mut group = None;
        loop {
            let Some(line) = lines.next()? else {
                return Err(lines.wrong("the end is missing: the file was cut"));
            };
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["end", count] if count.parse() == Ok(all.cases.len()) => break,
                ["end", _] => return Err(lines.wrong("the number of cases is not that of those above")),
                ["group", number, hash] => {
                    let (number, hash) = lines.pair(number, hash, &line)?;
                    let ours = number % shard.1 == shard.0 - 1 && number < plan.cases.div_ceil(GROUP);
                    if !ours || group.is_some_and(|g| g >= number) {
                        return Err(lines.wrong(&format!("group {number} has no place here")));
                    }
                    all.groups.insert(number, hash);
                    group = Some(number);
                }
                [number, hash] => {
                    let (number, hash) = lines.pair(number, hash, &line)?;
                    let ours = group == Some(number / GROUP) && number < plan.cases;
                    if !ours || all.cases.last().is_some_and(|last| last.0 >= number) {
                        return Err(lines.wrong(&format!("case {number} has no place here")));
                    }
                    all.cases.push((number, hash));
                }
                _ => return Err(lines.strange(&line)),
            }
        }
        match lines.next()? {
            Some(_) => Err(lines.wrong("something behind the end")),
            None => Ok(all),
        }
    }

    /// How many cases are in it.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Whether group `number` is in it with other cases than these.
    pub fn is_foreign(&self, number: u64, cases: &[Case]) -> bool {
        self.groups.get(&number).is_some_and(|hash| *hash != group_hash(cases))
    }

    /// What became of case `number`, if that is in it.
    pub fn end(&self, number: u64) -> Option<u64> {
        let at = self.cases.binary_search_by_key(&number, |c| c.0).ok()?;
        Some(self.cases[at].1)
    }
}

/// Digits and nothing else.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Sixteen digits as [`Recorder`] writes them.
fn word(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// The beginning of something that may be long.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

struct Lines<R> {
    file: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end; None behind the last.
    fn next(&mut self) -> Result<Option<String>, RecordedError> {
        self.number += 1;
        let mut line = Vec::new();
        let read = (&mut self.file).take(LINE).read_until(b'\n', &mut line);
        read.map_err(|e| RecordedError::Io(self.number, e))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(self.wrong("it has no end: the file was cut, or is no record"));
        }
        String::from_utf8(line).map(Some).map_err(|_| self.wrong("no text"))
    }

    /// The number and the hash that `line` has as these words.
    fn pair(&self, number: &str, hash: &str, line: &str) -> Result<(u64, u64), RecordedError> {
        decimal(number).zip(word(hash)).ok_or_else(|| self.strange(line))
    }

    fn strange(&self, line: &str) -> RecordedError {
        self.wrong(&format!("not understood: {}", shown(line)))
    }

    fn wrong(&self, what: &str) -> RecordedError {
        RecordedError::Line(self.number, what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::generate::Family;
    use super::*;

    const SHARD: (u64, u64) = (2, 2);

    fn plan() -> Plan {
        Plan { cases: 2000, seed: 7, family: Family::Host, legs: Vec::new() }
    }

    fn file() -> String {
        let mut bytes = Vec::new();
        let lacking = [Code::Crc32_r32_rm8, Code::Nopd];
        let mut r = Recorder::new(&mut bytes, &plan(), SHARD, &lacking).expect("a file");
        r.group(1, &[Case::empty(), Case::empty()], &[Some(5), None, Some(u64::MAX)]).expect("a group");
        r.group(3, &[Case::empty()], &[Some(0)]).expect("a group");
        assert_eq!(r.finish().expect("an end"), 3);
        String::from_utf8(bytes).expect("text")
    }

    fn read(text: &str) -> Result<Recorded, String> {
        Recorded::read(text.as_bytes(), &plan(), SHARD).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_and_back() {
        let all = read(&file()).expect("its own file");
        assert_eq!(all.lacking, [Code::Crc32_r32_rm8, Code::Nopd]);
        assert_eq!(all.len(), 3);
        let ends = [511, 512, 513, 514, 1536].map(|n| all.end(n));
        assert_eq!(ends, [None, Some(5), None, Some(u64::MAX), Some(0)]);
        assert!(!all.is_foreign(1, &[Case::empty(), Case::empty()]));
        let other = Case { rflags: 1, ..Case::empty() };
        assert!(all.is_foreign(1, &[Case::empty(), other]));
    }

    #[test]
    fn a_wrong_file_is_refused_by_its_line() {
        let good = file();
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            read(&good.replacen(from, to, 1)).expect_err(to)
        };
        for (from, to) in
            [("seed 7", "seed 8"), ("cases 2000", "cases 2001"), ("2/2", "1/2"), ("recorded 1", "recorded 2")]
        {
            let error = with(from, to);
            assert!(error.starts_with("line 1: not recorded by this campaign"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        for (from, to, begins) in [
            ("without", "with", "line 2: 'without'"),
            ("Nopd", "Nope", "line 2: there is no instruction form 'Nope'"),
            ("group 1 ", "group 2 ", "line 3: group 2 has no place here"),
            ("group 3 ", "group 5 ", "line 6: group 5 has no place here"),
            ("group 3 ", "group x ", "line 6: not understood"),
            ("\n512 ", "\n511 ", "line 4: case 511 has no place here"),
            ("\n514 ", "\n512 ", "line 5: case 512 has no place here"),
            ("\n514 ", "\n+514 ", "line 5: not understood"),
            ("\n514 ffff", "\n514 fff", "line 5: not understood"),
            ("\n514 ffff", "\n514 FFFF", "line 5: not understood"),
            ("\n514 ", "\n", "line 5: not understood"),
            ("end 3", "end 2", "line 8: the number of cases"),
            ("end 3", "end 3\n", "line 9: something behind the end"),
        ] {
            let error = with(from, to);
            assert!(error.starts_with(begins), "{error}");
        }
        for cut in 0..good.len() {
            let error = read(&good[..cut]).expect_err("cut");
            assert!(error.starts_with("line "), "{error}");
        }
        assert!(Recorded::read(&[0xff, b'\n'][..], &plan(), SHARD).is_err());
    }
}
