//! Which memory accesses of a block share one look into the translation cache. Host-neutral.
//!
//! Accesses at constant distances from one address (the fields of a structure, the slots of a stack frame, the elements
//! that the copies of an unrolled loop touch) nearly always fall into one page. The first of them looks the page up for
//! the whole span and leaves the entry's addend in a scratch slot; the others take it from there, unless it is
//! [`layout::NO_ADDEND`]: then the span crosses a page, the look-up missed, or something that may have changed
//! translations (any helper) has come between, and each looks for itself. Where nothing can have come between, the emitters
//! leave that test out: `x64/twice.rs`, `aarch64/stretch.rs`.
//!
//! If an access of a group writes, all of it goes by the entries for writing: who may write may read. Where there is none
//! (pages with code or page tables, pages not yet copied), reads look for themselves too, and a store has its slow path
//! before it anyway.
//!
//! Loads from a table by a byte may be anywhere in it, and share for the sake of the table (see [`crate::tables`]), where the emitter
//! asks for that.
//!
//! Invariants: the first access of a group comes before the others in the one straight list that a block is, so a slot
//! is always written before it is read; every helper clears all slots; no group goes past an op that may change the
//! privilege or the set that is looked into.

use crate::forms::{Form, Forms};
use crate::layout;
use crate::tables;
use emu_core::ir::{Inst, Op};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// What a slot has that has no addend, or a tag where there is none. Odd, which no addend is; not canonical, so that it leads nowhere from any address
/// that a guest can use; and not known to guests, so that none can pass it off as an addend.
pub fn no_addend() -> u64 {
    static WORD: OnceLock<u64> = OnceLock::new();
    *WORD.get_or_init(|| RandomState::new().hash_one(0) >> 8 | 1 << 62 | 1)
}

/// The widest span that is looked up at once.
const SPAN: i64 = 256;

/// The part of one access in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Index of the access.
    pub at: u32,
    /// Scratch slot of the addend.
    pub slot: u8,
    /// It is the group's first.
    pub first: bool,
    /// It is the group's last.
    pub last: bool,
    /// Its distance from the span's lowest byte.
    pub below: i32,
    /// Bytes in the span.
    pub span: i32,
    /// Some access of the group writes.
    pub write: bool,
    /// The address has an index, too, and is one of a table: see [`crate::tables`].
    pub table: bool,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    form: Form,
    lo: i64,
    hi: i64,
    write: bool,
    table: bool,
    /// Number of its first and its last access.
    first: u32,
    last: u32,
    slot: u8,
}

/// The shares of a block, reusing memory.
#[derive(Debug, Default)]
pub struct Holds {
    forms: Forms,
    groups: Vec<Group>,
    /// Groups before this one can no longer be joined.
    open: usize,
    /// (index of the access, group, distance from the form without displacement).
    accesses: Vec<(u32, u32, i64)>,
    /// Checked addresses and what they are multiples of.
    aligned: Vec<(Form, i64)>,
    /// Checks that cannot fail.
    fine: Vec<u32>,
    /// What came of it, in order of the accesses.
    list: Vec<Hold>,
}

/// Bytes and kind of an access that may share: (bytes, writes).
fn access(i: &Inst) -> Option<(i64, bool)> {
    match i.op {
        Op::Load => Some((i.ty.bytes().into(), false)),
        Op::LoadW | Op::Store => Some((i.ty.bytes().into(), true)),
        _ => None,
    }
}

impl Holds {
    /// The part of the access with index `at`, if it shares.
    pub fn at(&self, at: usize) -> Option<Hold> {
        let n = self.list.binary_search_by_key(&(at as u32), |h| h.at).ok()?;
        Some(self.list[n])
    }

    /// Index of the first access that shares.
    pub fn first(&self) -> Option<usize> {
        self.list.first().map(|h| h.at as usize)
    }

    /// Index of the last.
    pub fn last(&self) -> Option<usize> {
        self.list.last().map(|h| h.at as usize)
    }

    /// Finds the groups of `insts`; those of tables, too, if the block's RIP is given.
    pub fn run(&mut self, insts: &[Inst], tables: Option<u64>) {
        self.list.clear();
        self.groups.clear();
        self.accesses.clear();
        self.aligned.clear();
        self.fine.clear();
        self.open = 0;
        self.forms.run(insts);
        for (at, i) in insts.iter().enumerate() {
            match (i.op, access(i)) {
                (Op::System | Op::RepString | Op::RepSkip, _) => self.open = self.groups.len(),
                (Op::CheckAlign, _) => {
                    let form = self.forms.of(i.args[0]);
                    self.check(at as u32, form, i.imm);
                }
                (_, Some((bytes, write))) => {
                    let table = tables.filter(|_| !write && i.ty.is_int());
                    if let Some(span) =
                        table.and_then(|rip| tables::span(insts, i.args[0], bytes as u32, rip))
                    {
                        self.join_table(at as u32, span);
                        continue;
                    }
                    let form = self.forms.of(i.args[0]);
                    self.join(at as u32, form, bytes, write);
                }
                _ => {}
            }
        }
        self.finish();
    }

    /// Whether the alignment check with index `at` cannot fail after an earlier one.
    pub fn is_aligned(&self, at: usize) -> bool {
        self.fine.binary_search(&(at as u32)).is_ok()
    }

    fn check(&mut self, at: u32, form: Form, to: i64) {
        let root = form.root();
        let known = |&(f, to_known): &(Form, i64)| {
            f.root() == root && to <= to_known && form.disp.wrapping_sub(f.disp) & (to - 1) == 0
        };
        if self.aligned.iter().any(known) {
            self.fine.push(at);
        } else {
            self.aligned.push((form, to));
        }
    }

    fn join(&mut self, at: u32, form: Form, bytes: i64, write: bool) {
        let (d, form) = (form.disp, form.root());
        let end = d.saturating_add(bytes);
        let fits =
            |g: &Group| !g.table && g.form == form && g.hi.max(end).saturating_sub(g.lo.min(d)) <= SPAN;
        let n = self.groups[self.open..].iter().rposition(fits);
        self.put(at, n, Group { form, lo: d, hi: end, write, table: false, first: 0, last: 0, slot: 0 });
    }

    /// The load with index `at` is from the table that is in `span`.
    fn join_table(&mut self, at: u32, (lo, hi): (i64, i64)) {
        let fits = |g: &Group| g.table && g.lo == lo;
        let n = self.groups[self.open..].iter().rposition(fits);
        let form = Form::constant(0, false);
        self.put(at, n, Group { form, lo, hi, write: false, table: true, first: 0, last: 0, slot: 0 });
    }

    /// Puts the access with index `at` into the open group with number `n`, or a new one that is as `like` says.
    fn put(&mut self, at: u32, n: Option<usize>, like: Group) {
        let me = self.accesses.len() as u32;
        let n = match n {
            Some(n) => self.open + n,
            None => {
                self.groups.push(Group { first: me, ..like });
                self.groups.len() - 1
            }
        };
        let Group { lo: d, hi: end, write, .. } = like;
        let g = &mut self.groups[n];
        (g.lo, g.hi, g.last) = (g.lo.min(d), g.hi.max(end), me);
        g.write |= write;
        self.accesses.push((at, n as u32, d));
    }

    /// Deals out the slots.
    fn finish(&mut self) {
        let mut free = (1u32 << layout::HOLDS.len()) - 1;
        for (me, &(at, n, d)) in self.accesses.iter().enumerate() {
            let g = &mut self.groups[n as usize];
            if g.first == g.last {
                continue;
            }
            let (first, last) = (g.first as usize == me, g.last as usize == me);
            if first && free != 0 {
                g.slot = layout::HOLDS[free.trailing_zeros() as usize] as u8;
                free &= free - 1;
            }
            if g.slot == 0 {
                continue;
            }
            if last && let Some(n) = layout::HOLDS.iter().position(|&s| s == usize::from(g.slot)) {
                free |= 1 << n;
            }
            let (below, span) = ((d - g.lo) as i32, (g.hi - g.lo) as i32);
            self.list.push(Hold {
                at,
                slot: g.slot,
                first,
                last,
                below,
                span,
                write: g.write,
                table: g.table,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::addr::PhysAddr;
    use emu_core::ir::{Block, BlockKey, Type, Value, mem_flags};
    use emu_core::state::Mode;

    fn block() -> Block {
        Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) })
    }

    fn lea(b: &mut Block, base: Value, index: Value, scale: u32, imm: i64) -> Value {
        b.push(Inst { op: Op::Lea, ty: Type::I64, aux: scale, args: [base, index, Value::NONE], imm })
    }

    fn load(b: &mut Block, a: Value) -> Value {
        b.op_imm(Op::Load, Type::I32, &[a], 0, mem_flags::STACK)
    }

    fn holds(b: &Block) -> Vec<Hold> {
        let mut h = Holds::default();
        h.run(&b.insts, None);
        h.list
    }

    #[test]
    fn fields_share_and_strangers_do_not() {
        let mut b = block();
        let base = b.get_reg(Type::I64, 3);
        let p = lea(&mut b, base, Value::NONE, 0, 16);
        let q = lea(&mut b, base, Value::NONE, 0, -8);
        let far = lea(&mut b, base, Value::NONE, 0, 5000);
        let r = lea(&mut b, q, Value::NONE, 0, 8);
        let other = b.get_reg(Type::I64, 1);
        let first = load(&mut b, p);
        load(&mut b, far);
        load(&mut b, other);
        let second = load(&mut b, q);
        let third = load(&mut b, r);
        let hold = |v: Value, below, first, last| Hold {
            at: v.0,
            slot: layout::HOLDS[0] as u8,
            first,
            last,
            below,
            span: 28,
            write: false,
            table: false,
        };
        let expected =
            [hold(first, 24, true, false), hold(second, 0, false, false), hold(third, 8, false, true)];
        assert_eq!(holds(&b), expected);
    }

    #[test]
    fn a_group_that_writes_says_so_from_its_first_access_on() {
        let mut b = block();
        let base = b.get_reg(Type::I64, 3);
        let v = load(&mut b, base);
        assert!(holds(&b).is_empty());
        b.op(Op::Store, Type::I32, &[base, v]);
        let list = holds(&b);
        assert_eq!(list.iter().map(|h| (h.at, h.write)).collect::<Vec<_>>(), [(v.0, true), (v.0 + 1, true)]);
    }

    #[test]
    fn an_alignment_is_checked_once() {
        let mut b = block();
        let base = b.get_reg(Type::I64, 3);
        let (p, q) = (lea(&mut b, base, Value::NONE, 0, 32), lea(&mut b, base, Value::NONE, 0, 8));
        let check = |b: &mut Block, v: Value, to| b.op_imm(Op::CheckAlign, Type::Void, &[v], to, 0);
        let first = check(&mut b, base, 16);
        let second = check(&mut b, p, 16);
        let other = check(&mut b, q, 16);
        let wider = check(&mut b, base, 32);
        let mut h = Holds::default();
        h.run(&b.insts, None);
        assert_eq!(
            [first, second, other, wider].map(|v| h.is_aligned(v.index())),
            [false, true, false, false]
        );
    }

    #[test]
    fn indexed_addresses_share_if_their_indices_differ_by_a_constant() {
        let mut b = block();
        let (base, index) = (b.get_reg(Type::I64, 3), b.get_reg(Type::I64, 1));
        let one = b.iconst(Type::I64, 1);
        let next = b.op(Op::Add, Type::I64, &[index, one]);
        let p = lea(&mut b, base, index, 3, 0);
        let q = lea(&mut b, base, next, 3, 0);
        let r = lea(&mut b, base, next, 2, 0);
        load(&mut b, p);
        load(&mut b, q);
        load(&mut b, r);
        let list = holds(&b);
        assert_eq!(list.iter().map(|h| (h.below, h.span)).collect::<Vec<_>>(), [(0, 12), (8, 12)]);
    }

    #[test]
    fn slots_are_used_again_and_privilege_changes_end_groups() {
        let mut b = block();
        for r in 0..12 {
            let base = b.get_reg(Type::I64, r);
            load(&mut b, base);
            load(&mut b, base);
        }
        let list = holds(&b);
        assert_eq!(list.len(), 24);
        assert!(list.iter().all(|h| usize::from(h.slot) == layout::HOLDS[0]));
        let mut b = block();
        let base = b.get_reg(Type::I64, 3);
        load(&mut b, base);
        b.op(Op::System, Type::Void, &[]);
        load(&mut b, base);
        assert!(holds(&b).is_empty());
    }
}
