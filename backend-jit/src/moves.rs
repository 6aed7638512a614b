//! The same code at another address: what to change in a block's host code when another process has the same bytes of the
//! same physical page at another RIP, as every one has whose program or library was placed at random.
//!
//! The emitter notes where its code depends on where the guest's or the host's lies; the rest is copied. That takes a
//! fiftieth of a translation, and nothing is added to the code itself.

use crate::sidetable::Site;
use emu_core::mmu::tlb::{EXEC_ENTRIES, ExecEntry, TLB_ENTRIES, TlbEntry, TlbSet};
use std::mem::offset_of;

/// What stands at a noted place: a field of 4 bytes, but for `Pc64`. All are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Field {
    /// Number of an exit.
    Exit,
    /// Number of a site, or one more.
    Site,
    /// Distance to something outside the block in the arena.
    Outside,
    /// Distance between the block's body and what is out of line.
    Across,
    /// A RIP that is zero-extended.
    Pc32,
    /// A RIP that is sign-extended.
    PcSigned,
    /// A RIP, 8 bytes.
    Pc64,
    /// Offset in the inline cache of the number of a page's fetch translation.
    Page,
    /// Offset in the inline cache in a page's entry for reading or writing.
    Entry,
}

const FIELDS: [Field; 9] = [
    Field::Exit,
    Field::Site,
    Field::Outside,
    Field::Across,
    Field::Pc32,
    Field::PcSigned,
    Field::Pc64,
    Field::Page,
    Field::Entry,
];

/// A noted place: the field in the upper 4 bits, its offset in the block below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move(u32);

impl Move {
    /// `field` at byte `at` of a block.
    pub fn new(field: Field, at: usize) -> Self {
        debug_assert!(at < 1 << 28);
        Self((field as u32) << 28 | at as u32)
    }
}

/// By how much things move, modulo the width of each.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// RIP: a multiple of the page size.
    pub rip: u64,
    /// Place of the body in the arena.
    pub code: u32,
    /// Bytes of it.
    pub hot: usize,
    /// Place of what is out of line.
    pub cold: u32,
    /// Numbers of exits.
    pub exits: u32,
    /// Numbers of sites.
    pub sites: u32,
}

impl Shift {
    /// Changes all noted places of `code`. None when something does not fit its field there, and for places outside `code`.
    pub fn apply(&self, code: &mut [u8], moves: &[Move]) -> Option<()> {
        for m in moves {
            let at = (m.0 & 0xfff_ffff) as usize;
            let field = FIELDS.get((m.0 >> 28) as usize)?;
            if *field == Field::Pc64 {
                let word: &mut [u8; 8] = code.get_mut(at..at + 8)?.try_into().ok()?;
                *word = u64::from_le_bytes(*word).wrapping_add(self.rip).to_le_bytes();
                continue;
            }
            let word: &mut [u8; 4] = code.get_mut(at..at + 4)?.try_into().ok()?;
            let old = u32::from_le_bytes(*word);
            let new = match field {
                Field::Exit => old.wrapping_add(self.exits),
                Field::Site => old.wrapping_add(self.sites),
                Field::Outside if at < self.hot => old.wrapping_sub(self.code),
                Field::Outside => old.wrapping_sub(self.cold),
                Field::Across if at < self.hot => old.wrapping_add(self.cold).wrapping_sub(self.code),
                Field::Across => old.wrapping_add(self.code).wrapping_sub(self.cold),
                Field::Pc32 => u32::try_from(u64::from(old).wrapping_add(self.rip)).ok()?,
                Field::PcSigned => {
                    let rip = (i64::from(old as i32) as u64).wrapping_add(self.rip);
                    i32::try_from(rip as i64).ok()? as u32
                }
                Field::Page => self.page(old),
                Field::Entry => self.entry(old),
                Field::Pc64 => return None,
            };
            *word = new.to_le_bytes();
        }
        Some(())
    }

    /// The offset that leads to the entry of a page moved.
    fn page(&self, offset: u32) -> u32 {
        let (start, size) = (crate::frame::exec_id(0) as u32, size_of::<ExecEntry>() as u32);
        let index = (offset - start) / size;
        let moved = index.wrapping_add((self.rip >> emu_core::addr::PAGE_SHIFT) as u32) % EXEC_ENTRIES as u32;
        start + moved * size
    }

    /// The offset that leads to the same word of the entry of a page moved, in the same table.
    fn entry(&self, offset: u32) -> u32 {
        const TABLE: u32 = (TLB_ENTRIES * size_of::<TlbEntry>()) as u32;
        const { assert!(offset_of!(TlbSet, read) == 0 && offset_of!(TlbSet, write) == TABLE as usize) };
        let by = (self.rip >> emu_core::addr::PAGE_SHIFT) as u32 * size_of::<TlbEntry>() as u32;
        offset & !(TABLE - 1) | offset.wrapping_add(by) & (TABLE - 1)
    }

    /// The site moved.
    pub fn site(&self, site: &Site) -> Site {
        let x87 = site.x87.map(|mut last| {
            last.rip = last.rip.wrapping_add(self.rip);
            last
        });
        Site { rip: site.rip.wrapping_add(self.rip), x87, ..*site }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::exec_id;

    #[test]
    fn each_field_moves_by_its_own_shift() {
        let shift = Shift { rip: 0x5000, code: 0x40, hot: 36, cold: 0x10, exits: 3, sites: 7 };
        let mut code = Vec::new();
        let last = exec_id(EXEC_ENTRIES - 1) as u32;
        let entry = offset_of!(TlbSet, write) as u32 + 16 * (TLB_ENTRIES as u32 - 2) + 8;
        for word in [10, 20, 0x100, 0x200, 0x40_1000, (-0x1000i32) as u32, 0, 0, last, 0x100, 0x200, entry] {
            code.extend_from_slice(&u32::to_le_bytes(word));
        }
        code[24..32].copy_from_slice(&0x7fff_1234_5678u64.to_le_bytes());
        let mut moves: Vec<_> =
            FIELDS.iter().zip([0, 4, 8, 12, 16, 20, 24, 32, 44]).map(|(&f, at)| Move::new(f, at)).collect();
        moves.extend([Move::new(Field::Outside, 36), Move::new(Field::Across, 40)]);
        // The signed RIP would become positive and still fits.
        assert_eq!(shift.apply(&mut code, &moves), Some(()));
        let word = |at: usize| u32::from_le_bytes(code[at..at + 4].try_into().unwrap());
        assert_eq!([0, 4, 8, 12, 16, 20].map(word), [13, 27, 0xc0, 0x1d0, 0x40_6000, 0x4000]);
        assert_eq!(u64::from_le_bytes(code[24..32].try_into().unwrap()), 0x7fff_1234_a678);
        assert_eq!([32, 36, 40].map(word), [exec_id(4) as u32, 0xf0, 0x230]);
        assert_eq!(word(44), offset_of!(TlbSet, write) as u32 + 16 * 3 + 8);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let far = Shift { rip: 1 << 32, code: 0, hot: 8, cold: 0, exits: 0, sites: 0 };
        for field in [Field::Pc32, Field::PcSigned] {
            assert_eq!(far.apply(&mut [0; 8], &[Move::new(field, 0)]), None);
        }
        assert_eq!(far.apply(&mut [0; 4], &[Move::new(Field::Exit, 4)]), None);
    }
}
