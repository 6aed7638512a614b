//! Names for fetch translations.
//!
//! A pair of linear page and guest-physical page has one number for as long as the table lives, which the fetch
//! entries of the inline cache carry. So translated code proves with a single comparison that a jump to a known
//! place in another page still arrives at the code it was linked to, whatever address space is in force.
//!
//! Invariant: no number is given to two pairs, and 0 to none.

use crate::addr::AddrMap;

/// Pairs remembered; beyond, all are forgotten and get new numbers.
const MAX: usize = 1 << 18;

/// See the module.
#[derive(Debug, Default)]
pub struct ExecIds {
    known: AddrMap<(u64, u64), u32>,
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
