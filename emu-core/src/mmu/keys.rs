//! What a change of PKRU takes from the translation caches (SDM vol. 3A, 4.6.2).
//!
//! Data entries are filled under the PKRU that is in force then, in whatever address space. Programs that guard pages of their own
//! with a key change it all the time (JavaScript engines, whenever they write code), and have a few such pages among thousands: those
//! are noted as they are filled, and they alone are forgotten. Key 0 is everybody's, and a change of its rights drops everything.
//!
//! Invariant: a data entry for a user page whose key is not 0 is noted in [`Keyed`], or it has overflowed.

use super::shadow::Dropped;
use super::walk::Leaf;
use super::{Access, PAGE_MASK};
use crate::addr::PAGE_SHIFT;
use crate::cpu::Cpu;

/// Most pages that are noted.
const MOST: usize = 512;
/// PKRU's bits for key 0.
const KEY_0: u32 = 3;

/// Linear pages with a key other than 0 for which data entries have been filled since PKRU changed.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    pages: Vec<u64>,
    /// There were more.
    overflowed: bool,
}

impl Keyed {
    /// An entry for `access` to the page of `lin` is filled.
    #[inline]
    pub fn note(&mut self, lin: u64, leaf: &Leaf, access: Access) {
        if leaf.key == 0 || !leaf.user || access == Access::Exec {
            return;
        }
        let page = lin & !PAGE_MASK;
        if self.pages.contains(&page) {
            return;
        }
        if self.pages.len() < MOST {
            self.pages.push(page);
        } else {
            self.overflowed = true;
        }
    }
}

impl Cpu {
    /// To be called after PKRU, which was `old`, has changed: user pages may have gained or lost rights.
    pub fn keys_changed(&mut self, old: u32) {
        let keyed = std::mem::take(&mut self.mmu.keyed);
        if keyed.overflowed || (old ^ self.state.pkru) & KEY_0 != 0 {
            return self.flush_caches();
        }
        for lin in keyed.pages {
            self.forget(Dropped { lin, shift: PAGE_SHIFT, spaces: u32::MAX, fetched: false });
        }
    }
}
