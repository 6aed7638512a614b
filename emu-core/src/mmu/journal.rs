//! A record of every write to RAM, to take writes back and to compare what two engines wrote.

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::cpu::Cpu;
use std::collections::BTreeMap;

/// One recorded write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Guest-physical address of the first byte.
    pub addr: PhysAddr,
    /// Bytes before the write, in the low `len` bytes.
    pub old: u64,
    /// Bytes written, in the low `len` bytes.
    pub new: u64,
    /// Length in bytes, 1 to 8.
    pub len: u8,
}

impl JournalEntry {
    /// What was written: address and value of each byte, upwards.
    fn bytes(self) -> impl Iterator<Item = (u64, u8)> {
        self.with_values(self.new)
    }

    fn with_values(self, values: u64) -> impl Iterator<Item = (u64, u8)> {
        (0..u64::from(self.len)).map(move |i| (self.addr.0.wrapping_add(i), (values >> (8 * i)) as u8))
    }
}

/// Writes in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The writes, oldest first.
    pub entries: Vec<JournalEntry>,
    /// Entries whose `new` is known.
    known: usize,
}

impl Journal {
    /// Whether both leave the same bytes behind: the quick answer for nearly all that do. No means that it is not known.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.same_pieces(other)
            // One may have written in larger pieces.
            || self.entries.iter().flat_map(|e| e.bytes()).eq(other.entries.iter().flat_map(|e| e.bytes()))
    }

    /// Whether the writes are of the same pieces, with the same values or with others that a later write of the same piece
    /// hides: reads and writes in place leave entries with what came last.
    fn same_pieces(&self, other: &Self) -> bool {
        let piece = |e: &JournalEntry| (e.addr, e.len);
        self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).enumerate().all(|(n, (a, b))| {
                let hidden = || self.entries[n + 1..].iter().any(|e| piece(e) == piece(a));
                piece(a) == piece(b) && (a.new == b.new || hidden())
            })
    }

    /// The last value of each byte written.
    pub fn last_bytes(&self) -> BTreeMap<u64, u8> {
        self.entries.iter().flat_map(|e| e.bytes()).collect()
    }

    /// The last value of each byte written, where it is not what there was before the first write.
    pub fn changed_bytes(&self) -> BTreeMap<u64, u8> {
        let mut last = self.last_bytes();
        let mut before = BTreeMap::new();
        for e in self.entries.iter().rev() {
            before.extend(e.with_values(e.old));
        }
        last.retain(|at, value| before.get(at) != Some(value));
        last
    }

    /// Forgets all writes.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.known = 0;
    }
}

impl Cpu {
    /// Notes in the journal, if one is kept, that `len` bytes at `addr`, within a page of RAM, are about to be written:
    /// what they hold now, and what they will by the next [`Cpu::complete_journal`].
    pub fn journal_ahead(&mut self, addr: PhysAddr, len: usize) {
        if self.mmu.journal.is_none() {
            return;
        }
        debug_assert!(addr.offset() as usize + len <= PAGE_SIZE as usize, "within a page");
        for from in (0..len).step_by(8) {
            let (addr, len) = (addr.wrapping_add(from as u64), (len - from).min(8));
            let old = self.phys_read(addr, len);
            let entry = JournalEntry { addr, old, new: old, len: len as u8 };
            self.mmu.journal.get_or_insert_default().entries.push(entry);
        }
    }

    /// Completes the journal after writes that it was told of ahead: entries do not know yet what was written. Giving
    /// each entry since the last time what its bytes are now keeps the last value of every byte right.
    pub fn complete_journal(&mut self) {
        let Some(mut journal) = self.mmu.journal.take() else { return };
        for e in &mut journal.entries[journal.known..] {
            e.new = self.phys_read(e.addr, e.len.into());
        }
        journal.known = journal.entries.len();
        self.mmu.journal = Some(journal);
    }

    /// Takes the writes of `journal` back, newest first.
    pub fn take_back(&mut self, journal: &Journal) {
        for e in journal.entries.iter().rev() {
            self.phys_write(e.addr, e.len.into(), e.old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(writes: &[(u64, u8, u64)]) -> Journal {
        let entry = |&(addr, len, new)| JournalEntry { addr: PhysAddr(addr), old: 0, new, len };
        Journal { entries: writes.iter().map(entry).collect(), known: 0 }
    }

    #[test]
    fn pieces_and_hidden_values_do_not_matter_and_last_values_do() {
        let whole = journal(&[(8, 2, 0x0201), (8, 1, 5)]);
        assert!(whole.same_bytes(&journal(&[(8, 1, 1), (9, 1, 2), (8, 1, 5)])));
        // The first value is hidden by the last.
        let twice = journal(&[(8, 4, 7), (16, 1, 3), (8, 4, 9)]);
        assert!(twice.same_bytes(&journal(&[(8, 4, 9), (16, 1, 3), (8, 4, 9)])));
        assert!(!twice.same_bytes(&journal(&[(8, 4, 7), (16, 1, 3), (8, 4, 8)])));
        assert!(!twice.same_bytes(&journal(&[(8, 4, 7), (16, 1, 4), (8, 4, 9)])));
        // A shorter later write hides only a part: not known, and the last values say it.
        let part = (journal(&[(8, 2, 0x0101), (8, 1, 5)]), journal(&[(8, 2, 0x0201), (8, 1, 5)]));
        assert!(!part.0.same_bytes(&part.1));
        assert_eq!(part.0.last_bytes(), [(8, 5), (9, 1)].into());
        assert_eq!(part.1.last_bytes(), [(8, 5), (9, 2)].into());
        assert!(!whole.same_bytes(&journal(&[(8, 2, 0x0201)])));
        // What was 0 before and after is no change, whatever it was in between.
        assert_eq!(journal(&[(8, 2, 0x0100), (16, 1, 7), (16, 1, 0)]).changed_bytes(), [(9, 1)].into());
    }
}
