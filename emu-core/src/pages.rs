//! What is known of each RAM page by all who share it: attribute bits, decoded chunks, and which vCPUs have an
//! interest.
//!
//! Three sets of vCPUs belong to a page: those that may hold *write entries* for it or are in the middle of a slow
//! store (`writers`), those that have *decoded* from it (`coders`) and those that *shadow page tables* in it
//! (`tablers`). Marks and stores to marked pages exclude each other by a lock for every 64th page.
//!
//! **Marking** (decoding, shadowing): set the mark, then look at `writers`; whoever else is in there is asked to drop
//! its entries, and only after that are the bytes read. **Storing** to a page that bears no mark: enter `writers`
//! first, look at the marks then. One of the two always sees the other.
//!
//! **A store to a marked page** holds the lock: tell those concerned, store, disarm what they have been told of. A
//! chunk's bit means that somebody decoded it and has not been told of a store since. Who has been told drops
//! everything decoded from the chunk before it runs on, and has to mark it again to decode it again; so no second
//! message is needed, and a page that has become data is soon without marks. The message comes before the store, so
//! whoever sees the new bytes has the message; who applies it takes the lock first ([`Pages::settle`]), so the new
//! bytes are there.

use crate::addr::{PAGE_MASK, PhysAddr};
use crate::crew::{Crew, Mail};
use crate::mem::{page, zeroed};
use crate::order::fence_others;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

const LOCKS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Pages {
    attrs: Box<[AtomicU8]>,
    chunks: Box<[AtomicU64]>,
    writers: Box<[AtomicU64]>,
    coders: Box<[AtomicU64]>,
    tablers: Box<[AtomicU64]>,
    locks: [Mutex<()>; LOCKS],
}

/// What a store to a marked page meant to the vCPU that did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Decoded chunks that it touched.
    pub chunks: u64,
    /// The page holds page tables that the storing vCPU shadows.
    pub table: bool,
}

/// The chunks that `size` bytes at `addr` touch within their page.
pub fn chunks_of(addr: PhysAddr, size: usize) -> u64 {
    let first = addr.offset() >> 6;
    let last = (addr.offset() + size as u64 - 1).min(PAGE_MASK) >> 6;
    (!0u64 << first) & (!0u64 >> (63 - last))
}

/// Which bytes of its 64-byte chunk, by bit, `size` bytes at `addr` are; all, if they are in more chunks than one.
pub fn bytes_of(addr: PhysAddr, size: usize) -> u64 {
    let at = addr.0 as usize % 64;
    if size == 0 || at + size > 64 { !0 } else { (!0 >> (64 - size)) << at }
}

const fn bit(vcpu: usize) -> u64 {
    1 << (vcpu & 63)
}

impl Pages {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            attrs: zeroed::<AtomicU8>(pages),
            chunks: zeroed(pages),
            writers: zeroed(pages),
            coders: zeroed(pages),
            tablers: zeroed(pages),
            locks: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.attrs.len()
    }

    pub(crate) fn attrs(&self, index: usize) -> &AtomicU8 {
        &self.attrs[index]
    }

    pub(crate) fn chunks(&self, index: usize) -> &AtomicU64 {
        &self.chunks[index]
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, ()> {
        self.locks[index % LOCKS].lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Notes that the page was written.
    #[inline]
    pub fn note_dirty(&self, index: usize) {
        if self.attrs[index].load(Ordering::Relaxed) & page::DIRTY == 0 {
            self.attrs[index].fetch_or(page::DIRTY, Ordering::Relaxed);
        }
    }

    /// Whether stores to the page have to be told to somebody.
    #[inline]
    pub fn is_marked(&self, index: usize) -> bool {
        self.attrs[index].load(Ordering::SeqCst) & (page::CODE | page::TABLE) != 0
    }

    /// Makes `me` one that may store to the page without telling. True if it may: the page bears no mark, and who
    /// marks it from now on asks `me` first.
    #[inline]
    pub fn claim(&self, index: usize, me: usize) -> bool {
        if self.is_marked(index) {
            return false;
        }
        if self.writers[index].load(Ordering::SeqCst) & bit(me) == 0 {
            self.writers[index].fetch_or(bit(me), Ordering::SeqCst);
        }
        !self.is_marked(index)
    }

    /// Takes `me` out of those that hold write entries; true if it was among them.
    pub fn disclaim(&self, index: usize, me: usize) -> bool {
        let was = self.writers[index].load(Ordering::Relaxed) & bit(me) != 0;
        if was {
            self.writers[index].fetch_and(!bit(me), Ordering::SeqCst);
        }
        was
    }

    fn other_writers(&self, index: usize, me: usize) -> u64 {
        self.writers[index].load(Ordering::SeqCst) & !bit(me)
    }

    /// Marks chunks that `me` is about to decode; the result is the set of other vCPUs that have to drop their write
    /// entries before it does.
    pub fn mark_code(&self, index: usize, chunks: u64, me: usize) -> u64 {
        let armed = self.chunks[index].load(Ordering::SeqCst) & chunks == chunks;
        if armed && self.coders[index].load(Ordering::SeqCst) & bit(me) != 0 {
            return 0;
        }
        let _held = self.lock(index);
        self.coders[index].fetch_or(bit(me), Ordering::SeqCst);
        self.chunks[index].fetch_or(chunks, Ordering::SeqCst);
        self.attrs[index].fetch_or(page::CODE, Ordering::SeqCst);
        self.other_writers(index, me)
    }

    /// Lets go of chunks after everything decoded from them has been dropped by everyone.
    pub fn unmark_code(&self, index: usize, chunks: u64) {
        let _held = self.lock(index);
        self.disarm(index, chunks);
    }

    fn disarm(&self, index: usize, chunks: u64) {
        let old = self.chunks[index].fetch_and(!chunks, Ordering::SeqCst);
        if old & !chunks == 0 {
            self.coders[index].store(0, Ordering::SeqCst);
            self.attrs[index].fetch_and(!page::CODE, Ordering::SeqCst);
        }
    }

    /// Marks the page as one whose page tables `me` is about to shadow; the result is as for [`Pages::mark_code`].
    pub fn mark_table(&self, index: usize, me: usize) -> u64 {
        let _held = self.lock(index);
        self.tablers[index].fetch_or(bit(me), Ordering::SeqCst);
        self.attrs[index].fetch_or(page::TABLE, Ordering::SeqCst);
        self.other_writers(index, me)
    }

    /// `me` shadows nothing in the page any longer.
    pub fn unmark_table(&self, index: usize, me: usize) {
        let _held = self.lock(index);
        self.untrack(index, bit(me));
    }

    fn untrack(&self, index: usize, vcpus: u64) {
        let old = self.tablers[index].fetch_and(!vcpus, Ordering::SeqCst);
        if old & !vcpus == 0 {
            self.attrs[index].fetch_and(!page::TABLE, Ordering::SeqCst);
        }
    }

    /// Performs a store of `size` bytes at `addr`, within RAM page `index`, of which others may have to know. `me` is
    /// the storing vCPU, or None for a device.
    pub fn store(
        &self,
        crew: &Crew,
        (addr, size): (PhysAddr, usize),
        index: usize,
        me: Option<usize>,
        store: impl FnOnce(),
    ) -> Hit {
        let _held = self.lock(index);
        let attrs = self.attrs[index].load(Ordering::SeqCst);
        let own = me.map_or(0, bit);
        let mut hit = Hit { chunks: 0, table: false };
        if attrs & page::CODE != 0 {
            hit.chunks = self.chunks[index].load(Ordering::SeqCst) & chunks_of(addr, size);
            if hit.chunks != 0 {
                let mail = Mail::Code { page: addr.page_base(), index, chunks: hit.chunks };
                crew.each(self.coders[index].load(Ordering::SeqCst) & !own, |_, m| m.post(mail));
            }
        }
        if attrs & page::TABLE != 0 {
            let tablers = self.tablers[index].load(Ordering::SeqCst);
            hit.table = tablers & own != 0;
            crew.each(tablers & !own, |i, m| {
                if !m.post_table(addr, size as u32) {
                    self.untrack(index, bit(i));
                }
            });
        }
        if me.is_none() && attrs & (page::CODE | page::TABLE) != 0 {
            // Who sees the new bytes finds the news.
            fence_others();
        }
        store();
        if hit.chunks != 0 {
            self.disarm(index, hit.chunks);
        }
        self.note_dirty(index);
        hit
    }

    /// Waits for a store to the page that is under way.
    pub fn settle(&self, index: usize) {
        drop(self.lock(index));
    }
}
