//! Recorded paths: the way that execution took from a place on, for a trace to go along, past computed jumps too.
//!
//! Where a computed jump goes is not in the code, and where it went last says little: each handler of an interpreter is
//! followed by others at other places of the program that it runs. The way from one place on mostly repeats itself. A loop
//! that comes back to the place is found by its period and goes into the trace as a whole.
//!
//! What a path says is believed only as far as the code agrees; of computed jumps it is compared when the trace runs. So a
//! wrong or stale path costs time and nothing else.

use emu_core::addr::PAGE_SHIFT;
use emu_core::ir::BlockKey;

/// Most blocks that are recorded.
const BLOCKS: usize = 200;
/// Most instructions of a loop.
const LOOP_INSNS: u32 = 256;
/// Most instructions of what is no loop.
const INSNS: u32 = 64;
/// How often a place has to come again before it is known what always follows.
const TIMES: usize = 2;

/// One step: from the block whose last instruction ends at RIP `behind` to that at RIP `next`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leap {
    /// RIP behind the block.
    pub behind: u64,
    /// Where it went on.
    pub next: u64,
}

/// A path from a place on, within its page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Path {
    /// The steps in order.
    pub leaps: Vec<Leap>,
    /// Instructions up to the last step.
    pub insns: u32,
    /// The last step leads to the beginning, from where it is the same again.
    pub closes: bool,
}

/// Records a path.
#[derive(Debug)]
pub struct Recorder {
    /// Where it begins.
    pub key: BlockKey,
    leaps: Vec<(Leap, u32)>,
}

impl Recorder {
    /// A recorder of what follows `key`.
    pub fn new(key: BlockKey) -> Self {
        Self { key, leaps: Vec::new() }
    }

    /// Notes a step, after a block of `insns` instructions; whether there is more to record.
    pub fn note(&mut self, leap: Leap, insns: u32) -> bool {
        if leap.next >> PAGE_SHIFT != self.key.rip >> PAGE_SHIFT {
            return false;
        }
        self.leaps.push((leap, insns));
        self.leaps.len() < BLOCKS
    }

    /// What of that is worth a trace: a loop, or what has followed each time.
    pub fn path(&self) -> Path {
        let period = self.period().filter(|&n| self.insns(n) <= LOOP_INSNS);
        let steps = period.unwrap_or_else(|| {
            let same = self.always();
            (0..=same).rev().find(|&n| self.insns(n) <= INSNS).unwrap_or(0)
        });
        let leaps = self.leaps[..steps].iter().map(|l| l.0).collect();
        Path { leaps, insns: self.insns(steps), closes: period.is_some() }
    }

    /// Instructions before the step with number `n`.
    fn insns(&self, n: usize) -> u32 {
        self.leaps[..n].iter().map(|l| l.1).sum()
    }

    /// How many steps have been the same each time that the place was come to; 0 if that was too seldom.
    fn always(&self) -> usize {
        let l = &self.leaps;
        let same = |n: usize| l[n..].iter().zip(l).take_while(|(a, b)| a == b).count();
        // What is cut off by the end of the record says nothing.
        let times = (1..l.len()).filter(|&n| l[n - 1].0.next == self.key.rip);
        let runs: Vec<usize> =
            times.map(|n| (n, same(n))).filter(|&(n, s)| n + s < l.len()).map(|(_, s)| s).collect();
        if runs.len() < TIMES { 0 } else { runs.into_iter().min().unwrap_or(0) }
    }

    /// After how many steps the path begins again, if all that has been recorded says so, and twice at least.
    fn period(&self) -> Option<usize> {
        let l = &self.leaps;
        let again = |&n: &usize| l[n - 1].0.next == self.key.rip && l[n..].iter().zip(l).all(|(a, b)| a == b);
        (1..=l.len() / 2).find(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::addr::PhysAddr;
    use emu_core::state::Mode;

    fn recorded(nexts: &[u64], insns: u32) -> Path {
        let mut r = Recorder::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x1000, mode: Mode(0) });
        for &next in nexts {
            if !r.note(Leap { behind: next + 1, next }, insns) {
                break;
            }
        }
        r.path()
    }

    #[test]
    fn a_loop_is_found_by_its_period_although_it_comes_to_places_several_times() {
        let round = [0x1010, 0x1000, 0x1020, 0x1010, 0x1030, 0x1000];
        let path = recorded(&round.repeat(3), 10);
        assert_eq!((path.leaps.len(), path.insns, path.closes), (6, 60, true));
        // One that is not seen twice is none.
        assert!(!recorded(&round, 10).closes);
    }

    #[test]
    fn without_a_loop_a_path_is_what_always_follows() {
        // The place comes three times, each time with other steps behind the third.
        let record: Vec<u64> = (0..3).flat_map(|n| [0x1010, 0x1020, 0x1030, 0x1100 + n, 0x1000]).collect();
        let path = recorded(&record, 3);
        assert_eq!((path.leaps.len(), path.insns, path.closes), (3, 9, false));
        assert_eq!(recorded(&record[..9], 3), Path::default());
        // No more than fits into a block.
        assert_eq!(recorded(&record, 30).leaps.len(), 2);
        // What is in another page ends the record.
        let mut far = record.clone();
        far[7] = 0x2000;
        assert_eq!(recorded(&far, 3), Path::default());
    }

    #[test]
    fn a_loop_that_is_too_long_is_none() {
        let mut round: Vec<u64> = (0..40).map(|n| 0x1004 + 4 * n).collect();
        round.push(0x1000);
        assert_eq!(recorded(&round.repeat(3), 10), Path::default());
    }
}
