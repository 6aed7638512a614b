//! The page that the stack is in, kept at hand for accesses relative to RSP: what is pushed, popped and called is nearly
//! always in the page that was pushed to last.
//!
//! Two scratch slots hold tag and addend of its write entry: two instructions less than a look into the translation cache.
//! The tag is moved up by [`BELOW`], so that what is pushed can be compared by RSP as it was before, and negated, so that a
//! register of 32 bits can be added to it as it is. What is elsewhere, or in
//! the page's first bytes, is looked up out of line, and a page that can be written is the one at hand from then on.
//!
//! What lies at an index from RSP is mostly there, too, and is compared with the same tag; what is not in RSP's page, as of a
//! large array, does not become the page at hand.
//! Tables at constant addresses, with an index, are mostly within a page or two: for loads from them [`TABLES`] more pages are
//! kept, by the constant's. What is at an address that is a constant altogether is not looked for there, since code that goes over
//! many such pages would find another one each time.
//!
//! Invariant: tag and addend are of one entry of the set in force, or the tag is one that no address has
//! ([`layout::NO_TAG`]). Every helper and every change of the set sees to that, and translated code is entered so.

use super::Codegen;
use super::asm::{Cond, Logic, Reg, ZR};
use super::mem::{Stub, StubKind};
use super::vals::{GUEST, S0, S1, STATE, TLB, TLB_WRITE, slot};
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::addr::PAGE_SHIFT;
use emu_core::ir::{Op, Type, Value};
use emu_core::state::gpr;

/// Spill slots that are not for values, by number.
pub const SLOTS: u64 = (1 << (2 + 2 * TABLES)) - 1;

/// Pages of tables.
const TABLES: usize = 4;

/// So many bytes below the address that is compared accesses may begin.
pub const BELOW: i32 = 64;

/// An access, or a span of them.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The register with an address.
    pub at: Reg,
    /// Its lower half is the address.
    pub half: bool,
    /// Where the span begins, from there: not above it, and no more than [`BELOW`] below.
    pub from: i32,
    pub span: u32,
    /// It has to be the entry for writing.
    pub write: bool,
    pub page: Page,
}

/// The page at hand that an access is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Page {
    /// The stack's.
    Stack,
    /// That too, but what is not in the page of RSP does not become the one at hand.
    Frame,
    /// That of tables with this number.
    Table(usize),
}

impl Page {
    /// Scratch slot of its tag.
    fn slot(self) -> usize {
        match self {
            Self::Stack | Self::Frame => layout::WINDOW,
            Self::Table(n) => layout::WINDOW + 2 + 2 * n,
        }
    }
}

/// An access that is not in the page at hand.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    look: Look,
    addend: Reg,
    /// Where to go if the translation cache does not have it either.
    miss: DynamicLabel,
}

/// Slots of tags.
fn tags() -> impl Iterator<Item = usize> {
    (0..=TABLES).map(|n| layout::WINDOW + 2 * n)
}

/// There is no page at hand from here on.
pub fn close(scratch: &mut [u64]) {
    for tag in tags() {
        scratch[tag] = scratch[layout::NO_TAG];
    }
}

impl Codegen {
    /// Whether the address `v` is RSP and perhaps a displacement.
    pub fn is_stack(&self, v: Value) -> bool {
        let mut v = v;
        for _ in 0..32 {
            let i = &self.insts[v.index()];
            v = match i.op {
                Op::GetReg => return i.imm == gpr::RSP as i64,
                Op::Lea if i.args[0].is_some() && !i.args[1].is_some() => i.args[0],
                Op::ZExt | Op::Trunc => i.args[0],
                Op::Add | Op::Sub if self.constant(i.args[1]).is_some() => i.args[0],
                _ => return false,
            };
        }
        false
    }

    /// Whether the access in hand is looked up here.
    pub fn in_window(&self) -> bool {
        self.stack_window && !self.flags_busy() && self.is_stack(self.insts[self.at].args[0])
    }

    /// The page that the access in hand, whose flags nobody has, is compared with if it is not looked up in the translation cache.
    pub fn page_here(&self, write: bool) -> Option<Page> {
        let address = self.insts[self.at].args[0];
        if self.in_window() {
            return Some(Page::Stack);
        }
        let lea = &self.insts[address.index()];
        let [base, index, _] = lea.args;
        if !self.stack_window || lea.op != Op::Lea || lea.ty != Type::I64 || !index.is_some() {
            return None;
        }
        if base.is_some() && self.is_stack(base) {
            return Some(Page::Frame);
        }
        let at = if base.is_some() { self.constant(base)? } else { 0 };
        let page = at.wrapping_add(lea.imm as u64) >> PAGE_SHIFT;
        (!write && page != 0).then_some(Page::Table(page as usize % TABLES))
    }

    /// Leaves the addend for a span in `addend`, or goes to `miss`. Changes [`S0`] and NZCV.
    pub fn look_in_window(&mut self, look: Look, addend: Reg, miss: DynamicLabel) {
        debug_assert!((-BELOW..=0).contains(&look.from));
        let (label, resume) = (self.asm.label(), self.asm.label());
        self.asm.ldp(S0, addend, STATE, slot(look.page.slot()) as i32);
        let end = (i64::from(look.from) + i64::from(look.span)).max(0);
        self.asm.add_reg_or_half(S0, S0, look.at, look.half);
        let below = if let Page::Table(_) = look.page { 0 } else { i64::from(BELOW) };
        self.asm.arith_imm(true, true, true, ZR, S0, (4096 - below - end) as u64);
        self.asm.b_cond(Cond::Hi, label);
        self.asm.resume(resume);
        let kind = StubKind::Outside(Outside { look, addend, miss });
        self.stubs.push(Stub { label, resume, site: 0, kind });
    }

    /// The stub behind that. Changes [`S1`] if the span begins below the address, or that is half a register.
    pub fn outside(&mut self, o: &Outside, resume: DynamicLabel) {
        let Look { mut at, half, from, span, write, page } = o.look;
        let own = if write { TLB_WRITE } else { TLB };
        if let Page::Table(_) = page {
            self.look_up_tag(at, own, (S0, o.addend), span, false, o.miss);
            self.asm.logic_imm(Logic::And, true, S0, at, !0xfff);
            self.asm.sub(true, S0, ZR, S0);
            return self.asm.stp(S0, o.addend, STATE, slot(page.slot()) as i32);
        }
        if half {
            self.asm.mov(false, S1, at);
            at = S1;
        }
        if from != 0 {
            self.asm.arith_imm(true, from < 0, false, S1, at, from.unsigned_abs().into());
            at = S1;
        }
        let other = self.asm.label();
        self.look_up_tag(at, TLB_WRITE, (S0, o.addend), span, false, if write { o.miss } else { other });
        if let Page::Frame = page {
            self.asm.logic(Logic::Eor, true, S0, at, GUEST[gpr::RSP], 0);
            self.asm.lsr_imm(true, S0, S0, 12);
            self.asm.cbz(true, true, S0, resume);
        }
        self.asm.logic_imm(Logic::And, true, S0, at, !0xfff);
        self.asm.add_imm(true, S0, S0, BELOW as u64);
        self.asm.sub(true, S0, ZR, S0);
        self.asm.stp(S0, o.addend, STATE, slot(layout::WINDOW) as i32);
        if !write {
            self.asm.b(resume);
            self.asm.bind(other);
            self.look_up_tag(at, TLB, (S0, o.addend), span, false, o.miss);
        }
    }

    /// In the body of a block: the set that is looked into has changed. Changes [`S0`].
    pub fn close_window(&mut self) {
        self.asm.ldr(Type::I64, S0, STATE, slot(layout::NO_TAG));
        for tag in tags() {
            self.asm.str(Type::I64, S0, STATE, slot(tag));
        }
    }
}
