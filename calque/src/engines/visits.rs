//! When a place is worth a copy of the translation that its code has for another RIP.
//!
//! Programs that are started again and again, at other addresses each time, run most of their code once or twice there:
//! the interpreter does that in less time than copies take. One that goes on for long comes back to nearly all of it. Which it is
//! shows in how often its part of the address space has been come to: addresses are chosen anew for each start.

/// So often a place is come to before it gets a copy.
const FEW: u8 = 4;
/// The same in a region that has been come to [`MANY`] times.
const FEWER: u8 = 1;
/// More than a short program takes.
const MANY: u32 = 4096;
/// log2 of the bytes of a region.
const REGION: u32 = 24;

/// How often places have lately been come to whose code is translated for other RIPs: a few, and not exactly.
#[derive(Debug)]
pub struct Visits {
    /// One place for each hash.
    places: Box<[(u32, u8)]>,
    /// One region for each hash.
    regions: Box<[(u64, u32)]>,
}

/// A hash, of which the upper bits are the better ones.
fn hash(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Visits {
    /// None so far.
    pub fn new() -> Self {
        Self { places: vec![(0, 0); 1 << 16].into(), regions: vec![(0, 0); 1 << 8].into() }
    }

    /// Counts a visit of `rip`: whether there have been enough for a copy.
    pub fn enough(&mut self, rip: u64) -> bool {
        let region = rip >> REGION;
        let (tag, of_region) = &mut self.regions[(hash(region) >> 56) as usize];
        if *tag != region {
            (*tag, *of_region) = (region, 0);
        }
        *of_region = of_region.saturating_add(1);
        let few = if *of_region > MANY { FEWER } else { FEW };
        let hash = hash(rip);
        let (tag, n) = &mut self.places[(hash >> 48) as usize];
        let mine = (hash >> 8) as u32;
        if *tag != mine {
            (*tag, *n) = (mine, 0);
        }
        *n = n.saturating_add(1);
        *n > few
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

    #[test]
    fn where_a_program_goes_on_for_long_fewer_visits_do() {
        let mut visits = Visits::new();
        let code = 0x5555_5500_0000;
        (0..u64::from(MANY)).for_each(|n| assert!(!visits.enough(code + n)));
        let rip = code + 0x80_0000;
        assert_eq!([rip; 2].map(|rip| visits.enough(rip)), [false, true]);
        let elsewhere = 0x7fff_f7dd_1234;
        assert_eq!([elsewhere; 2].map(|rip| visits.enough(rip)), [false, false]);
    }
}
