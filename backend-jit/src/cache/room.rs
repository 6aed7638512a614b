//! Making room in the code cache: its oldest part goes, or everything.
//!
//! The arena is filled slice by slice and numbers go up, so the oldest slice has the lowest numbers.

use super::Cache;
use crate::BlockId;

impl Cache {
    /// Notes that the arena's current slice is filled from here on.
    pub(super) fn start_slice(&mut self) {
        self.starts[self.arena.current()] = Some(self.blocks.next());
    }

    /// Makes room by giving up the oldest part of the cache, or all where it has no parts.
    pub fn make_room(&mut self) {
        if self.arena.slices() == 1 {
            return self.flush();
        }
        let after = |slice: usize| (slice + 1) % self.starts.len();
        let next = after(self.arena.current());
        if self.starts[next].is_some()
            && let Some(left) = self.starts[after(next)]
        {
            self.evictions += 1;
            self.drop_before(left);
        }
        self.arena.advance(self.reserved);
        self.start_slice();
    }

    /// Forgets the blocks whose numbers are below `left`, and what they have.
    fn drop_before(&mut self, left: u32) {
        for id in self.blocks.first()..left {
            self.cut_off(BlockId(id));
        }
        // In one go: a page may have many.
        self.by_page.retain(|_, list| {
            list.retain(|id| id.0 >= left);
            !list.is_empty()
        });
        self.blocks.drop_before(left);
        // What the next block has begins where theirs ends.
        let (exit, site, moved, word) = match self.blocks.get(left) {
            Some(b) => (b.exits.0, b.sites.0, b.moves.0, b.words.0),
            None => (self.exits.next(), self.sites.next(), self.moves.next(), self.words.next()),
        };
        self.exits.drop_before(exit);
        self.sites.drop_before(site);
        self.moves.drop_before(moved);
        self.words.drop_before(word);
    }

    /// Forgets every block.
    pub fn flush(&mut self) {
        self.flushes += 1;
        self.arena.truncate(self.reserved);
        self.sites.clear();
        self.table.clear();
        self.blocks.clear();
        self.exits.clear();
        self.moves.clear();
        self.words.clear();
        self.twins.clear();
        self.by_page.clear();
        self.jumps.flush();
        self.starts.fill(None);
        self.start_slice();
    }
}
