//! Accesses that the translation cache answers piece by piece: those that cross into the next page.
//!
//! Translated code looks a page up once and sends what crosses its end out of line. Where both pages are in the cache nothing
//! else has to happen: no translation is made or lost.

use super::tlb::{TlbEntry, TlbSet, index};
use super::wide::copy;
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
        // SAFETY: hits name host memory of guest pages that cover the pieces, and `bytes` has room for both.
        unsafe {
            copy(bytes.as_mut_ptr(), at.first, at.room);
            copy(bytes[at.room..].as_mut_ptr(), at.second, size - at.room);
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
            copy(at.first, bytes.as_ptr(), at.room);
            copy(at.second, bytes[at.room..].as_ptr(), size - at.room);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::addr::PhysAddr;
    use crate::cpu::{Cpu, Wiring};
    use crate::cpu_box::CpuBox;
    use crate::features::Features;
    use crate::mem::PhysMem;
    use crate::mmu::{Access, Priv};

    /// Linear pages 8 and 9 are physical pages 7 and 3.
    fn two_pages_apart() -> CpuBox {
        let mem = PhysMem::new(16 << 12).expect("memory");
        let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
        crate::mmu::tests::into_long_mode(&mut cpu);
        for (at, entry) in
            [(0, 0x1067), (0x1000, 0x2067), (0x2000, 0x4067), (0x4040, 0x7067), (0x4048, 0x3067)]
        {
            cpu.phys_write(PhysAddr(at), 8, entry);
        }
        for i in 0..32u64 {
            cpu.phys_write(PhysAddr(0x7fe0 + i), 1, i);
            cpu.phys_write(PhysAddr(0x3000 + i), 1, 32 + i);
        }
        cpu
    }

    fn bytes(words: [u64; 4]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn reads_across_a_pages_end_are_answered_when_both_pages_are_cached() {
        let mut cpu = two_pages_apart();
        cpu.translate(0x8ff0, Access::Read, Priv::Current, false).expect("mapped");
        assert_eq!(cpu.read_cached(0x8ff0, 32), None, "the second page is not known yet");
        cpu.translate(0x9000, Access::Read, Priv::Current, false).expect("mapped");
        for size in 1..=32usize {
            for lin in 0x8fe0..0x9000u64 {
                let words = cpu.read_cached(lin, size).expect("both pages are cached");
                let first = (lin - 0x8fe0) as u8;
                let want: Vec<u8> = (first..first + size as u8).collect();
                assert_eq!(bytes(words)[..size], want, "{size} bytes at {lin:#x}");
            }
        }
        assert_eq!(cpu.read_cached(u64::MAX, 2), None, "not around the end");
    }

    #[test]
    fn writes_across_a_pages_end_change_those_bytes_alone() {
        let mut cpu = two_pages_apart();
        let words = [0x1111_1111_1111_1111; 4];
        cpu.translate(0x8ff0, Access::Write, Priv::Current, false).expect("mapped");
        assert!(!cpu.write_cached(0x8ffd, 8, words), "the second page is not known yet");
        assert_eq!(cpu.phys_read(PhysAddr(0x7ff8), 8), 0x1f1e_1d1c_1b1a_1918, "nothing has been written");
        cpu.translate(0x9000, Access::Write, Priv::Current, false).expect("mapped");
        assert!(cpu.write_cached(0x8ffd, 8, words));
        assert_eq!(cpu.phys_read(PhysAddr(0x7ff8), 8), 0x1111_111c_1b1a_1918);
        assert_eq!(cpu.phys_read(PhysAddr(0x3000), 8), 0x2726_2511_1111_1111);
    }
}
