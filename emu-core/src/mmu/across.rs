//! Accesses that the translation cache answers piece by piece: those that cross into the next page.
//!
//! Translated code looks a page up once and sends what crosses its end out of line. Where both pages are in the cache nothing
//! else has to happen: no translation is made or lost.

use super::phys::{ram_read, ram_write};
use super::tlb::{TlbEntry, TlbSet, index};
use crate::addr::{PAGE_MASK, PAGE_SIZE};
use crate::cpu::Cpu;

/// Bytes of the widest access.
const WIDEST: usize = 32;

/// An access: where its bytes are on the host, those before the page's end and those behind it.
struct Pieces {
    first: *mut u8,
    /// Bytes of the first.
    room: usize,
    second: *mut u8,
}

/// The pieces of an access of `size` bytes at `lin`, if `entry` has all its pages.
fn pieces<'a>(lin: u64, size: usize, entry: impl Fn(u64) -> &'a TlbEntry) -> Option<Pieces> {
    let room = ((PAGE_SIZE - (lin & PAGE_MASK)) as usize).min(size);
    let first = entry(lin).hit(lin, room as u64)?;
    if room == size {
        return Some(Pieces { first, room, second: first });
    }
    // Not around the end of the address space, where other rules apply.
    let next = lin.checked_add(room as u64)?;
    let second = entry(next).hit(next, (size - room) as u64)?;
    Some(Pieces { first, room, second })
}

/// # Safety
/// `from` has `to.len()` bytes of guest RAM in one page.
unsafe fn gather(from: *const u8, to: &mut [u8]) {
    for (i, part) in to.chunks_mut(8).enumerate() {
        // SAFETY: the caller's.
        let bytes = unsafe { ram_read(from.add(8 * i), part.len()) }.to_le_bytes();
        part.copy_from_slice(&bytes[..part.len()]);
    }
}

/// # Safety
/// `to` has room for `from.len()` bytes of guest RAM in one page, which may be written.
unsafe fn scatter(to: *mut u8, from: &[u8]) {
    for (i, part) in from.chunks(8).enumerate() {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        // SAFETY: the caller's.
        unsafe { ram_write(to.add(8 * i), part.len(), u64::from_le_bytes(bytes)) };
    }
}

impl Cpu {
    fn set(&self) -> &TlbSet {
        // SAFETY: `tlb` points at one of this vCPU's own sets (`select_tlb`).
        unsafe { &*self.state.tlb }
    }

    /// Reads `size` (1-32) bytes at `lin` at the current privilege into words, lowest first, as far as the translation cache
    /// alone can answer it: None if it has not all pages. Nothing but the result changes.
    pub fn read_cached(&self, lin: u64, size: usize) -> Option<[u64; 4]> {
        let size = size.min(WIDEST);
        let set = self.set();
        let at = pieces(lin, size, |lin| &set.read[index(lin)])?;
        let mut bytes = [0; WIDEST];
        // SAFETY: hits name host memory of guest pages that cover the pieces.
        unsafe {
            gather(at.first, &mut bytes[..at.room]);
            gather(at.second, &mut bytes[at.room..size]);
        }
        let mut words = [0; 4];
        for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = part.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
        }
        Some(words)
    }

    /// Writes the lowest `size` (1-32) bytes of `words` at `lin` at the current privilege, as far as the translation cache
    /// alone can do it: false, with nothing written, if it has not all pages for writing.
    pub fn write_cached(&mut self, lin: u64, size: usize, words: [u64; 4]) -> bool {
        let size = size.min(WIDEST);
        let set = self.set();
        let Some(at) = pieces(lin, size, |lin| &set.write[index(lin)]) else { return false };
        let mut bytes = [0; WIDEST];
        for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        // SAFETY: hits name host memory of RAM pages that cover the pieces, and that nothing has been derived from.
        unsafe {
            scatter(at.first, &bytes[..at.room]);
            scatter(at.second, &bytes[at.room..size]);
        }
        true
    }
}
