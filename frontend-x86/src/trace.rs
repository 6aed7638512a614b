//! Traces: whether a block goes on past a branch, and which way.
//!
//! A block that goes on along the likely way leaves through a side exit where that way is not taken. Dead flags are
//! then found across branches, flags that only the exits see are made there, instructions are counted and signals
//! polled once, and values stay where they are. A loop comes several times over into the block that it begins.
//!
//! With a recorded path (see [`crate::path`]) a trace takes that and nothing else, past computed jumps too: there it leaves
//! unless the jump goes where the path does.
//!
//! Invariants: a trace stays in the page of its first byte, so all of it is valid under the one fetch translation that
//! led there; without a path it never comes to an instruction twice, except to its own beginning.

use crate::path::Path;
use emu_core::addr::PAGE_SIZE;
use emu_core::ir::BlockKey;

/// Heat of a block that has been translated.
pub const TRANSLATED: u32 = u32::MAX;

/// How often a loop may come into its block.
const COPIES: u32 = 4;

/// Says how often the block with a key has run: 0 if that is unknown, [`TRANSLATED`] if it has been translated.
pub type Guide<'a> = &'a dyn Fn(&BlockKey) -> u32;

/// Where a block goes on after a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Nowhere: it ends.
    End,
    /// At the target.
    Taken,
    /// Behind the branch.
    Next,
}

/// The course of a trace.
pub(crate) struct Trace<'a> {
    guide: Option<Guide<'a>>,
    key: BlockKey,
    limit: u32,
    copies: u32,
    joined: bool,
    path: Option<&'a Path>,
    /// The step of the path that comes next.
    step: usize,
    /// It has come back to its beginning and ends there.
    closed: bool,
    /// The instructions of this round, by their place in the page.
    been: [u64; PAGE_SIZE as usize / 64],
}

impl core::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Trace").field("copies", &self.copies).finish_non_exhaustive()
    }
}

impl<'a> Trace<'a> {
    /// A trace from `key` of at most `limit` instructions, or that many behind a path; with neither guide nor path it ends at
    /// the first branch.
    pub fn new(key: BlockKey, limit: u32, guide: Option<Guide<'a>>, path: Option<&'a Path>) -> Self {
        let path = path.filter(|p| !p.leaps.is_empty());
        Self {
            guide: guide.filter(|_| path.is_none()),
            key,
            limit: limit + path.map_or(0, |p| p.insns),
            copies: 1,
            joined: false,
            path,
            step: 0,
            closed: false,
            been: [0; PAGE_SIZE as usize / 64],
        }
    }

    /// Most instructions.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The block goes past no branch from here on.
    pub fn end_here(&mut self) {
        self.guide = None;
        self.step = usize::MAX;
    }

    /// Where the path goes on from the instruction that ends at relative RIP `behind`, the one with number `insns`: once; and
    /// whether it goes on there in this trace rather than ends.
    fn led(&mut self, behind: i64, insns: u32) -> Option<(i64, bool)> {
        let path = self.path?;
        let rel = |rip: u64| rip.wrapping_sub(self.key.rip) as i64;
        // Blocks of the interpreter end where no branch is, too.
        while path.leaps.get(self.step).is_some_and(|l| l.behind == l.next && rel(l.behind) != behind) {
            self.step += 1;
        }
        let Some(leap) = path.leaps.get(self.step).filter(|l| rel(l.behind) == behind) else {
            self.step = usize::MAX;
            return None;
        };
        let to = rel(leap.next);
        self.step += 1;
        if insns + 1 >= self.limit || self.offset(to) >= PAGE_SIZE {
            self.step = usize::MAX;
            return None;
        }
        if !path.closes || self.step < path.leaps.len() {
            return Some((to, true));
        }
        // A short loop comes several times over.
        let again = self.copies < COPIES && (insns + 1) / self.copies + insns < self.limit - path.insns;
        if again {
            (self.step, self.copies) = (0, self.copies + 1);
        }
        Some((to, again))
    }

    /// Where to go on at a computed jump before relative RIP `behind`, and leave if it goes elsewhere.
    pub fn follow(&mut self, behind: i64, insns: u32) -> Option<i64> {
        let (to, goes_on) = self.led(behind, insns)?;
        self.joined = true;
        self.closed = !goes_on;
        Some(to)
    }

    /// Whether the block has gone past a branch.
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// Whether this round has been at relative RIP `rel` already and ends there; from now on it has been.
    pub fn visit(&mut self, rel: i64) -> bool {
        if self.path.is_some() {
            return self.closed;
        }
        let at = self.offset(rel);
        let old = at < PAGE_SIZE && self.been[at as usize / 64] >> (at % 64) & 1 != 0;
        if at < PAGE_SIZE {
            self.been[at as usize / 64] |= 1 << (at % 64);
        }
        old
    }

    fn offset(&self, rel: i64) -> u64 {
        self.key.phys.offset().wrapping_add(rel as u64)
    }

    /// How promising it is to go on at relative RIP `rel`, `insns` instructions into the block; None if it may not.
    fn heat(&self, rel: i64, insns: u32) -> Option<u32> {
        let guide = self.guide?;
        let at = self.offset(rel);
        if at >= PAGE_SIZE || rel != 0 && self.been[at as usize / 64] >> (at % 64) & 1 != 0 {
            return None;
        }
        if rel == 0 {
            // Another round of the loop, if it comes in whole.
            let round = insns / self.copies;
            return (self.copies < COPIES && insns + round <= self.limit).then_some(TRANSLATED);
        }
        let rip = self.key.rip.wrapping_add(rel as u64);
        match guide(&BlockKey { phys: self.key.phys.wrapping_add(rel as u64), rip, mode: self.key.mode }) {
            TRANSLATED => None,
            n => Some(n),
        }
    }

    /// Goes on at `rel`.
    fn join(&mut self, rel: i64) {
        self.joined = true;
        if rel == 0 {
            self.copies += 1;
            self.been.fill(0);
        }
    }

    /// Which way to go at a conditional branch to `taken` that is followed by `next`.
    pub fn branch(&mut self, taken: i64, next: i64, at: i64, insns: u32) -> Way {
        if self.path.is_some() {
            let way = match self.led(next, insns) {
                Some((to, true)) if to == taken => Way::Taken,
                Some((to, true)) if to == next => Way::Next,
                _ => Way::End,
            };
            self.joined |= way != Way::End;
            return way;
        }
        if insns + 1 >= self.limit {
            return Way::End;
        }
        let (t, n) = (self.heat(taken, insns), self.heat(next, insns));
        let way = match (t, n) {
            (None, None) => Way::End,
            // A loop's end is worth more copies of it, not what comes behind.
            _ if taken == 0 => {
                if t.is_some() {
                    Way::Taken
                } else {
                    Way::End
                }
            }
            _ if next == 0 => {
                if n.is_some() {
                    Way::Next
                } else {
                    Way::End
                }
            }
            (Some(t), Some(n)) if t == n => {
                if taken <= at {
                    Way::Taken
                } else {
                    Way::Next
                }
            }
            (Some(t), Some(n)) if t > n => Way::Taken,
            (Some(_), Some(_)) => Way::Next,
            // The other way is translated, or was gone already: follow this one only if it is known to be warm.
            (Some(t), None) => {
                if t >= WARM {
                    Way::Taken
                } else {
                    Way::End
                }
            }
            (None, Some(n)) => {
                if n >= WARM {
                    Way::Next
                } else {
                    Way::End
                }
            }
        };
        match way {
            Way::Taken => self.join(taken),
            Way::Next => self.join(next),
            Way::End => {}
        }
        way
    }

    /// Whether to go on at the target of a jump that ends at relative RIP `behind`.
    pub fn jump(&mut self, to: i64, behind: i64, insns: u32) -> bool {
        if self.path.is_some() {
            let go = self.led(behind, insns) == Some((to, true));
            self.joined |= go;
            return go;
        }
        let go = insns + 1 < self.limit && self.heat(to, insns).is_some();
        if go {
            self.join(to);
        }
        go
    }
}

/// Runs from which on a block is worth following when nothing is known of the alternative.
const WARM: u32 = 4;
