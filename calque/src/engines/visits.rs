//! When a place is worth a copy of the translation that its code has for another RIP.
//!
//! Programs that are started again and again, at other addresses each time, run most of their code once or twice there:
//! the interpreter does that in less time than a copy takes.

/// So often a place is come to before it gets a copy.
const FEW: u8 = 4;

/// How often places have lately been come to whose code is translated for other RIPs: a few, and not exactly.
#[derive(Debug)]
pub struct Visits(Box<[(u32, u8)]>);

impl Visits {
    /// Places that are remembered: one for each hash.
    const SIZE: usize = 1 << 16;

    /// None so far.
    pub fn new() -> Self {
        Self(vec![(0, 0); Self::SIZE].into())
    }

    /// Counts a visit of `rip`: whether there have been enough for a copy.
    pub fn enough(&mut self, rip: u64) -> bool {
        let hash = rip.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (tag, n) = &mut self.0[(hash >> 48) as usize % Self::SIZE];
        let mine = (hash >> 8) as u32;
        if *tag != mine {
            (*tag, *n) = (mine, 0);
        }
        *n = n.saturating_add(1);
        *n > FEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_worth_a_copy_when_it_comes_again() {
        let mut visits = Visits::new();
        let rips = [0x5555_5555_4000, 0x7fff_f7dd_1234, u64::MAX];
        for n in 0..=FEW {
            assert_eq!(rips.map(|rip| visits.enough(rip)), [n == FEW; 3], "visit {n}");
        }
        assert!(visits.enough(rips[0]), "it stays so until another place takes its entry");
        assert!(!visits.enough(0x1000));
    }
}
