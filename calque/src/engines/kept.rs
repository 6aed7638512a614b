//! The IR of translated blocks, for lockstep: what a report shows, and which blocks repeat their last instruction.

use emu_core::cpu::CodeHit;
use emu_core::ir::{Block, BlockKey, Op};
use std::collections::HashMap;

/// One block.
#[derive(Debug)]
struct Entry {
    block: Block,
    /// Its last guest instruction, counted from the block's RIP.
    last: i64,
    /// It may branch to that instruction, as repeated string instructions do.
    repeats: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Kept {
    /// By physical page, since code that changes is asked for by page.
    pages: HashMap<u64, HashMap<BlockKey, Entry>>,
    /// Evictions of the code cache that are known.
    evictions: u64,
}

impl Kept {
    /// Keeps `block` in the place of what had its key.
    pub fn insert(&mut self, block: Block) {
        let marker = block.insts.iter().rev().find(|i| i.op == Op::Guest);
        let last = marker.map_or(0, |m| m.imm);
        let repeats = block.insts.last().is_some_and(|l| match l.op {
            Op::Branch => i64::from(l.aux as i32) == last || l.imm == last,
            Op::Goto => l.imm == last,
            _ => false,
        });
        let page = self.pages.entry(block.key.phys.page()).or_default();
        page.insert(block.key, Entry { block, last, repeats });
    }

    fn get(&self, key: &BlockKey) -> Option<&Entry> {
        self.pages.get(&key.phys.page())?.get(key)
    }

    /// The block of `key`.
    pub fn block(&self, key: &BlockKey) -> Option<&Block> {
        self.get(key).map(|e| &e.block)
    }

    /// Whether the block of `key` may branch to its last instruction.
    pub fn repeats(&self, key: &BlockKey) -> bool {
        self.get(key).is_some_and(|e| e.repeats)
    }

    /// RIP of the last guest instruction of the block of `key`.
    pub fn last_instruction(&self, key: &BlockKey) -> Option<u64> {
        self.get(key).map(|e| key.rip.wrapping_add(e.last as u64))
    }

    /// Lets go of blocks in pages that `hits` are in, but for those that are `live`.
    pub fn retain_hit(&mut self, hits: &[CodeHit], live: impl Fn(&BlockKey) -> bool) {
        for hit in hits {
            if let Some(page) = self.pages.get_mut(&hit.page.page()) {
                page.retain(|key, _| live(key));
            }
        }
    }

    /// If the code cache has given something up, lets go of blocks but for those that are `live`.
    pub fn retain(&mut self, evictions: u64, live: impl Fn(&BlockKey) -> bool) {
        if std::mem::replace(&mut self.evictions, evictions) == evictions {
            return;
        }
        for page in self.pages.values_mut() {
            page.retain(|key, _| live(key));
        }
        self.pages.retain(|_, page| !page.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::addr::PhysAddr;
    use emu_core::ir::Type;
    use emu_core::state::Mode;

    fn block(phys: u64, target: i64) -> Block {
        let mut b = Block::new(BlockKey { phys: PhysAddr(phys), rip: 0x40_0000, mode: Mode(0) });
        b.op_imm(Op::Guest, Type::Void, &[], 0, 3);
        b.op_imm(Op::Guest, Type::Void, &[], 3, 2);
        b.op_imm(Op::Goto, Type::Void, &[], target, 0);
        b
    }

    #[test]
    fn blocks_are_kept_until_they_are_gone() {
        let mut kept = Kept::default();
        let (a, b) = (block(0x1000, 3), block(0x2008, 9));
        let keys = [a.key, b.key];
        kept.insert(a);
        kept.insert(b.clone());
        assert_eq!(keys.map(|k| kept.repeats(&k)), [true, false]);
        assert_eq!(kept.last_instruction(&keys[1]), Some(0x40_0003));
        assert_eq!(kept.block(&keys[1]), Some(&b));
        kept.retain_hit(&[CodeHit::of_store(PhysAddr(0x1ff0), 4, 1, 1)], |_| false);
        assert_eq!(keys.map(|k| kept.block(&k).is_some()), [false, true]);
        kept.retain(0, |_| false);
        assert!(kept.block(&keys[1]).is_some(), "nothing has been evicted");
        kept.retain(1, |k| k.phys.0 != 0x2008);
        assert!(kept.block(&keys[1]).is_none());
    }
}
