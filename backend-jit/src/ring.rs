//! A list whose entries keep their numbers while older ones are dropped: what the code cache knows of its blocks.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut, Range};

/// See the module. Numbers go up by one, from 0 or from where [`Ring::clear`] left them at 0 again.
#[derive(Debug)]
pub struct Ring<T> {
    /// Number of the first entry that is there.
    first: u32,
    entries: VecDeque<T>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new() }
    }
}

impl<T> Ring<T> {
    /// Number of the next entry.
    pub fn next(&self) -> u32 {
        self.first + self.entries.len() as u32
    }

    /// Number of the oldest entry that is there.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: T) {
        self.entries.push_back(entry);
    }

    /// Adds entries.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = T>) {
        self.entries.extend(entries);
    }

    /// The entry with number `n`, if it has not been dropped.
    #[inline]
    pub fn get(&self, n: u32) -> Option<&T> {
        self.entries.get(n.wrapping_sub(self.first) as usize)
    }

    /// As [`Ring::get`].
    #[inline]
    pub fn get_mut(&mut self, n: u32) -> Option<&mut T> {
        self.entries.get_mut(n.wrapping_sub(self.first) as usize)
    }

    /// The entries with these numbers, none of which has been dropped.
    pub fn range(&self, numbers: Range<u32>) -> impl Iterator<Item = &T> {
        let place = |n: u32| (n - self.first) as usize;
        self.entries.range(place(numbers.start)..place(numbers.end))
    }

    /// Drops the entries whose numbers are below `n`.
    pub fn drop_before(&mut self, n: u32) {
        let count = n.saturating_sub(self.first).min(self.entries.len() as u32);
        self.entries.drain(..count as usize);
        self.first += count;
    }

    /// Drops all entries, and begins with number 0 again.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.first = 0;
    }
}

impl<T> Index<u32> for Ring<T> {
    type Output = T;

    #[inline]
    fn index(&self, n: u32) -> &T {
        &self.entries[n.wrapping_sub(self.first) as usize]
    }
}

impl<T> IndexMut<u32> for Ring<T> {
    #[inline]
    fn index_mut(&mut self, n: u32) -> &mut T {
        &mut self.entries[n.wrapping_sub(self.first) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_when_older_entries_go() {
        let mut r = Ring::default();
        r.extend(0..10u32);
        r.drop_before(4);
        assert_eq!((r.first(), r.next(), r.get(3), r[4], r[9]), (4, 10, None, 4, 9));
        r.push(10);
        r.drop_before(2);
        r[10] = 100;
        assert_eq!(r.range(9..11).copied().collect::<Vec<_>>(), [9, 100]);
        r.drop_before(50);
        assert_eq!((r.first(), r.next(), r.get(10)), (11, 11, None));
        assert_eq!(r.range(11..11).count(), 0);
        r.clear();
        assert_eq!(r.next(), 0);
    }
}
