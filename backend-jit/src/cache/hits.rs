//! Which blocks stores to code concern, by the bytes that blocks were made from.

use super::{BlockInfo, Cache};
use crate::BlockId;
use emu_core::addr::{PAGE_SIZE, PhysAddr};
use emu_core::cpu::CodeHit;
use emu_core::pages::chunks_of;

/// (page, 64-byte chunks of it) that a block was made from, by its address, its bytes of guest code, further chunks of its
/// page and its second page.
pub(super) fn pages(at: PhysAddr, guest_len: u32, further: u64, next: Option<PhysAddr>) -> [(u64, u64); 2] {
    let in_first = u64::from(guest_len).min(PAGE_SIZE - at.offset());
    let first = (at.page(), chunks(at.offset(), in_first) | further);
    let second = next.map_or((u64::MAX, 0), |next| (next.page(), chunks(0, u64::from(guest_len) - in_first)));
    [first, second]
}

impl Cache {
    /// Drops every block made from bytes that were hit; the number of them.
    pub fn invalidate(&mut self, hits: &[CodeHit]) -> usize {
        let mut dropped = 0;
        for hit in hits {
            let Some(list) = self.by_page.get(&hit.page.page()) else { continue };
            let page = hit.page.page();
            let victims: Vec<BlockId> =
                list.iter().copied().filter(|&id| self.is_hit(id, page, hit)).collect();
            dropped += victims.len();
            for id in victims {
                self.remove(id);
            }
        }
        self.invalidated += dropped as u64;
        dropped
    }

    /// Whether block `id` was made from bytes of page number `page` that were hit.
    fn is_hit(&self, id: BlockId, page: u64, hit: &CodeHit) -> bool {
        let b = &self.blocks[id.0];
        let chunks = b.pages.iter().filter(|(p, _)| *p == page).fold(0, |all, (_, m)| all | m) & hit.chunks;
        chunks != 0
            && (hit.chunks.count_ones() != 1
                || self.decoded(b, page, hit.chunks.trailing_zeros()) & hit.bytes != 0)
    }

    /// Which bytes of 64-byte chunk `chunk` of page number `page`, one of a block's, it was made from, by bit: what it reads
    /// there each time it runs is not among them.
    fn decoded(&self, b: &BlockInfo, page: u64, chunk: u32) -> u64 {
        if page != b.key.phys.page() || b.next_page.is_some() || b.further >> chunk & 1 != 0 {
            return !0;
        }
        let within = |at: u64, len: u64| {
            let first = u64::from(chunk) * 64;
            let (from, to) =
                (at.clamp(first, first + 64) - first, (at + len).clamp(first, first + 64) - first);
            if from == to { 0 } else { (!0 << from) & (!0 >> (64 - to)) }
        };
        let words = self.words.range(b.words.0..b.words.0 + b.words.1);
        let read = words.fold(0, |m, &(at, len)| m | within(at.into(), len.into()));
        within(b.key.phys.offset(), b.guest_len.into()) & !read
    }

    /// Which bytes of 64-byte chunk `chunk` of `page` live blocks were made from, by bit; None: no block was made from it.
    pub fn bytes_in_use(&self, page: PhysAddr, chunk: u32) -> Option<u64> {
        let list = self.by_page.get(&page.page())?;
        let blocks = list.iter().map(|id| &self.blocks[id.0]);
        let uses = |b: &&BlockInfo| b.pages.iter().any(|&(p, m)| p == page.page() && m >> chunk & 1 != 0);
        blocks.filter(uses).map(|b| self.decoded(b, page.page(), chunk)).reduce(|a, b| a | b)
    }
}

/// Mask of the 64-byte chunks that `len` bytes at page offset `at` touch.
fn chunks(at: u64, len: u64) -> u64 {
    if len == 0 { 0 } else { chunks_of(PhysAddr(at), len as usize) }
}
