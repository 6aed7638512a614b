//! Which bytes of chunks with decoded code nobody has decoded: stores to them drop nothing.
//!
//! A chunk of 64 bytes is marked as a whole ([`crate::pages`]), but holds data besides code, and immediates that a
//! translation reads where they lie ([`crate::ir::Op::CodeWord`]). An engine that has been told of a store to a
//! marked chunk, and knows what it has still made from it, notes the rest here; whoever decodes from the chunk
//! afterwards takes that back ([`crate::cpu::Cpu::mark_code`]), so what is noted is always true.
//!
//! Only a single vCPU's stores are looked up here. Those of devices, and of several vCPUs, disarm the chunk, and
//! everything made from it goes.

use crate::addr::AddrMap;

/// The most chunks that are noted; beyond that all are forgotten, which costs a message each.
const MOST: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Undecoded(AddrMap<u64, u64>);

fn key(index: usize, chunk: u32) -> u64 {
    (index as u64) << 6 | u64::from(chunk & 63)
}

impl Undecoded {
    /// Nobody has decoded `bytes` (by bit) of 64-byte chunk `chunk` of RAM page `index`.
    pub fn note(&mut self, index: usize, chunk: u32, bytes: u64) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(key(index, chunk), bytes);
    }

    /// Somebody is about to decode from `chunks` (by bit) of RAM page `index`.
    #[inline]
    pub fn forget(&mut self, index: usize, chunks: u64) {
        if self.0.is_empty() {
            return;
        }
        let mut left = chunks;
        while left != 0 {
            self.0.remove(&key(index, left.trailing_zeros()));
            left &= left - 1;
        }
    }

    /// Whether nobody has decoded any of `bytes` (by bit) of that chunk.
    pub fn has(&self, index: usize, chunk: u32, bytes: u64) -> bool {
        self.0.get(&key(index, chunk)).is_some_and(|&known| bytes & !known == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_again_is_forgotten() {
        let mut u = Undecoded::default();
        u.note(5, 3, 0xf0);
        assert!(u.has(5, 3, 0x30) && u.has(5, 3, 0xf0));
        assert!(!u.has(5, 3, 0x18) && !u.has(5, 4, 0x10) && !u.has(6, 3, 0x10));
        u.forget(5, 1 << 2 | 1 << 4);
        assert!(u.has(5, 3, 0xf0));
        u.forget(5, 1 << 3);
        assert!(!u.has(5, 3, 0x10));
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut u = Undecoded::default();
        for page in 0..2 * MOST {
            u.note(page, 0, !0);
        }
        assert!(u.0.len() <= MOST && u.has(2 * MOST - 1, 0, 1));
    }
}
