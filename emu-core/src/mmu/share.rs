//! A vCPU's side of sharing memory with others: see [`crate::crew`] and [`crate::pages`] for the rules.
//!
//! **Page tables.** Before shadow entries are made from a guest table, its page is marked, other vCPUs have given up
//! their write entries for it, and the table is read (again) only then. Giving up takes as long as the others need to
//! get to the end of a block, and nobody may wait in the middle of an instruction; so an access that meets a table
//! which others may still write uses what the walk found this one time, caches nothing, and leaves the page in
//! [`Pending`]. At the next block boundary its marks are completed ([`Cpu::serve_mail`]).

use super::shadow::Shadow;
use super::space::Spaces;
use super::walk::Path;
use crate::addr::PhysAddr;
use crate::cpu::{CodeHit, Cpu};
use crate::crew::{Crew, Mail};
use crate::mem::{Frame, PhysMem, page};
use crate::signals::request;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pages with page tables that could not be shadowed yet: (address, index).
#[derive(Debug, Default)]
pub(crate) struct Pending(Vec<(PhysAddr, usize)>);

fn drop_writes(spaces: &mut Spaces, mem: &PhysMem, index: usize, me: usize) {
    spaces.forget_writes(mem.host_page(index) as u64, index);
    mem.pages().disclaim(index, me);
}

impl Cpu {
    /// Applies what others have told and asked. Between instructions only: it may wait for other vCPUs.
    pub fn serve_mail(&mut self) {
        let mem = self.mem.clone();
        let Some(crew) = mem.crew() else { return };
        if crew.asked_aside() {
            crew.park(self.me());
            crew.unpark(self.me());
        }
        self.serve_requests();
        self.serve_news();
        self.complete_pending(crew);
    }

    /// Another vCPU need not wait for this one until [`Cpu::unpark`]: it sleeps, or does not run.
    pub fn park(&self) {
        if let Some(crew) = self.mem.crew() {
            crew.park(self.me());
        }
    }

    /// This vCPU is about to execute instructions again.
    pub fn unpark(&mut self) {
        let mem = self.mem.clone();
        if let Some(crew) = mem.crew() {
            crew.unpark(self.me());
            self.serve_mail();
        }
    }

    #[inline]
    pub(super) fn me(&self) -> usize {
        self.index as usize
    }

    fn serve_requests(&mut self) {
        let (me, mem, spaces) = (self.me(), &self.mem, &mut self.mmu.spaces);
        self.mailbox.serve_requests(|index| drop_writes(spaces, mem, index, me));
    }

    /// Applies news. To be called before anything that the guest may take for an invalidation.
    pub fn serve_news(&mut self) {
        while self.mailbox.has_news()
            && let Some(mail) = self.mailbox.take()
        {
            self.sharing.news += 1;
            match mail {
                Mail::FlushAll => self.flush_all(),
                Mail::Code { page, index, chunks } => {
                    self.mem.pages().settle(index);
                    self.code_hits.push(CodeHit::whole(page, index, chunks));
                }
                Mail::Table { addr, len } => {
                    if let Frame::Ram(_, index) = self.mem.frame(addr) {
                        self.mem.pages().settle(index);
                        if self.mmu.shadow.tracks(addr) {
                            self.table_written(addr, len as usize);
                        }
                    }
                }
                Mail::Untrack { page } => {
                    if let Frame::Ram(_, index) = self.mem.frame(page) {
                        self.mem.pages().settle(index);
                        self.untrack(page);
                    }
                }
            }
        }
    }

    /// Drops whatever was made from the page tables in `page`.
    fn untrack(&mut self, page: PhysAddr) {
        let mut dropped = Vec::new();
        self.mmu.shadow.forget_page(page, &mut dropped);
        self.mmu.spaces.forget_roots();
        for d in dropped {
            self.forget(d);
        }
    }

    fn revoke(&mut self, crew: &Crew, set: u64, index: usize) {
        self.sharing.revocations += 1;
        let (me, mem, spaces) = (self.me(), &self.mem, &mut self.mmu.spaces);
        crew.revoke_writes(me, set, index, || {
            self.mailbox.serve_requests(|i| drop_writes(spaces, mem, i, me));
        });
    }

    /// To be called before code bytes of RAM page `index` are decoded: from now on every store to the page passes
    /// the slow path, in every vCPU. `chunks` is the mask of 64-byte chunks that will have been decoded. Between
    /// instructions only.
    pub fn mark_code(&mut self, index: usize, chunks: u64) {
        let me = self.me();
        self.undecoded.forget(index, chunks);
        let others = self.mem.pages().mark_code(index, chunks, me);
        self.give_up_writes(index);
        if others != 0 {
            let mem = self.mem.clone();
            if let Some(crew) = mem.crew() {
                self.revoke(crew, others, index);
            }
        }
    }

    fn give_up_writes(&mut self, index: usize) {
        if self.mem.pages().disclaim(index, self.me()) {
            self.mmu.spaces.forget_writes(self.mem.host_page(index) as u64, index);
        }
    }

    /// From now on every store to the page at `page` takes the slow path; the result is who else may have a write
    /// entry for it still.
    pub(super) fn track(&mut self, page: PhysAddr) -> u64 {
        let Frame::Ram(_, index) = self.mem.frame(page) else { return 0 };
        let others = self.mem.pages().mark_table(index, self.me());
        self.give_up_writes(index);
        others
    }

    /// Whether the tables on `path` may be shadowed as they were read.
    pub(super) fn is_tracked(&self, path: &Path) -> bool {
        path.tables[..path.len].iter().all(|&t| self.mmu.shadow.tracks(PhysAddr(t)))
    }

    /// Starts tracking the tables on `path`; false if some of them can only be tracked at the next block boundary.
    pub(super) fn track_path(&mut self, path: &Path) -> bool {
        let mut complete = true;
        for &table in &path.tables[..path.len] {
            let page = PhysAddr(table).page_base();
            let Frame::Ram(_, index) = self.mem.frame(page) else { continue };
            if self.mmu.shadow.tracks(page) {
                continue;
            }
            if self.track(page) == 0 {
                self.mmu.shadow.note_tracked(page);
            } else {
                complete = false;
                if !self.mmu.pending.0.contains(&(page, index)) {
                    self.mmu.pending.0.push((page, index));
                }
                self.signals.raise_quietly(request::MAIL);
            }
        }
        complete
    }

    fn complete_pending(&mut self, crew: &Crew) {
        for (page, index) in std::mem::take(&mut self.mmu.pending.0) {
            let others = self.track(page);
            if others != 0 {
                self.revoke(crew, others, index);
            }
            self.mmu.shadow.note_tracked(page);
        }
    }

    /// Stores to RAM page `index` through `store`, telling whoever derived something from the old bytes.
    pub(super) fn store_shared(&mut self, addr: PhysAddr, size: usize, index: usize, store: impl FnOnce()) {
        let me = self.me();
        let pages = self.mem.pages();
        if pages.claim(index, me) {
            store();
            pages.note_dirty(index);
            return;
        }
        let Some(crew) = self.mem.crew() else { return store() };
        let hit = pages.store(crew, (addr, size), index, Some(me), store);
        if hit.chunks != 0 {
            self.code_hits.push(CodeHit::whole(addr.page_base(), index, hit.chunks));
        }
        if hit.table {
            self.table_written(addr, size);
        }
    }

    /// Runs `f` while no other vCPU executes instructions. Before the instruction in hand has touched memory only.
    pub(super) fn exclusively<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        let mem: Arc<PhysMem> = self.mem.clone();
        let Some(crew) = mem.crew().filter(|_| !mem.single()) else { return f(self) };
        self.sharing.alone += 1;
        let (me, spaces) = (self.me(), &mut self.mmu.spaces);
        let gate = crew.alone(me, || self.mailbox.serve_requests(|i| drop_writes(spaces, &mem, i, me)));
        let result = f(self);
        drop(gate);
        result
    }

    /// Whether stores to RAM page `index` have to be told to somebody.
    pub(super) fn is_marked(&self, index: usize) -> bool {
        self.mem.attrs(index).load(Ordering::Relaxed) & (page::CODE | page::TABLE) != 0
    }
}

impl Shadow {
    /// Drops nothing, but remembers that the page is marked for this vCPU.
    pub(super) fn note_tracked(&mut self, page: PhysAddr) {
        self.by_page.entry(page.page()).or_default();
    }

    /// Whether the page of `addr` is marked for this vCPU.
    pub(super) fn tracks(&self, addr: PhysAddr) -> bool {
        self.by_page.contains_key(&addr.page())
    }
}
