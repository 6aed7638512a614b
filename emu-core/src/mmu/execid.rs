//! Names for fetch translations.
//!
//! A pair of linear page and guest-physical page has one number for as long as the table lives, which the fetch
//! entries of the inline cache carry. So translated code proves with a single comparison that a jump to a known
//! place in another page still arrives at the code it was linked to, whatever address space is in force.
//!
//! Invariant: no number is given to two pairs, and 0 to none.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Pairs remembered; beyond, all are forgotten and get new numbers.
const MAX: usize = 1 << 18;

/// See the module.
#[derive(Debug, Default)]
pub struct ExecIds {
    known: HashMap<(u64, u64), u32, BuildHasherDefault<PageHasher>>,
    last: u32,
}

impl ExecIds {
    /// The number of the pair of pages; None once the numbers are used up.
    pub fn id(&mut self, linear: u64, physical: u64) -> Option<u32> {
        if let Some(&id) = self.known.get(&(linear, physical)) {
            return Some(id);
        }
        // The highest number is left to links that have not been made.
        if self.last >= u32::MAX - 1 {
            return None;
        }
        if self.known.len() >= MAX {
            self.known.clear();
        }
        self.last += 1;
        self.known.insert((linear, physical), self.last);
        Some(self.last)
    }
}

/// A hash for page addresses.
#[derive(Debug, Default)]
pub(super) struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(b.into()));
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_keeps_its_number_and_no_other_gets_it() {
        let mut ids = ExecIds::default();
        let a = ids.id(0x1000, 0x2000).unwrap();
        assert_ne!(a, 0);
        assert_ne!(ids.id(0x1000, 0x3000).unwrap(), a);
        assert_ne!(ids.id(0x2000, 0x1000).unwrap(), a);
        assert_eq!(ids.id(0x1000, 0x2000), Some(a));
        ids.last = u32::MAX - 1;
        assert_eq!(ids.id(0x5000, 0x2000), None);
    }
}
