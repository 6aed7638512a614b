//! Accesses of one guest instruction in several copies of a loop, which share no look-up because their distance is not known:
//! mostly the next one is in the page of the one before.
//!
//! The look-up of the first leaves the entry's tag and addend in two temporaries ([`Owner::Page`]); the others compare with
//! that tag, three instructions less, and look for themselves out of line where it is another page, which is the one at hand
//! from then on.
//!
//! Invariants:
//! - tag and addend are of one entry that is in force, or the tag is one that no address has ([`layout::NO_TAG`]);
//! - whoever calls a helper that may change translations gives the temporaries up (`forget_pages`) or puts that tag into
//!   them (`tags` of a slow path).

use super::asm::Reg;
use super::mem::{Stub, StubKind};
use super::run::Form;
use super::share::{At, Slow, Touch};
use super::vals::{STATE, TEMPS, slot};
use super::{Codegen, Owner};
use crate::layout;
use emu_core::ir::{Op, Type};

/// So many temporaries have to be free for two of them to be taken.
const FREE: usize = 3;

/// The access of an instruction that comes again.
#[derive(Clone, Copy, Debug)]
pub struct Near {
    /// Index of the access.
    at: u32,
    /// Number of the group.
    group: u8,
    /// There is a further one.
    more: bool,
}

/// An access that has not found its page at hand.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    pub slow: Slow,
    pub touch: Touch,
    pub tag: Reg,
    pub addend: Reg,
}

impl Codegen {
    /// Finds the accesses of instructions that come several times.
    pub fn find_nears(&mut self) {
        self.nears.clear();
        // Where an access is, and the how manieth of its instruction.
        let mut places: Vec<(i64, u32, usize)> = Vec::new();
        let (mut rel, mut nth) = (0, 0);
        for (at, i) in self.insts.iter().enumerate() {
            match i.op {
                Op::Guest => (rel, nth) = (i.imm, 0),
                Op::Load | Op::Store if self.share_probes && self.an.facts[at].needed => {
                    nth += 1;
                    let place = (rel, nth);
                    let known = places.iter().position(|p| (p.0, p.1) == place);
                    let group = known.unwrap_or(places.len());
                    match known {
                        Some(n) => {
                            let before = places[n].2 as u32;
                            if let Some(b) = self.nears.iter_mut().find(|b| b.at == before) {
                                b.more = true;
                            }
                            places[n].2 = at;
                        }
                        None => places.push((rel, nth, at)),
                    }
                    if group < 64 && self.holds.at(at).is_none() && i.ty.bytes() <= 16 {
                        self.nears.push(Near { at: at as u32, group: group as u8, more: false });
                    }
                }
                _ => {}
            }
        }
    }

    fn near_here(&self) -> Option<Near> {
        let n = self.nears.binary_search_by_key(&(self.at as u32), |n| n.at).ok()?;
        Some(self.nears[n])
    }

    /// The temporaries with tag and addend of a group.
    fn page_of(&self, group: u8) -> Option<(Reg, Reg)> {
        let of = |part| TEMPS.into_iter().find(|&t| self.owner[t as usize] == Owner::Page(group, part));
        of(false).zip(of(true))
    }

    /// Gives up the temporaries of a group.
    fn drop_page(&mut self, group: u8) {
        for o in &mut self.owner {
            if matches!(o, Owner::Page(g, _) if *g == group) {
                *o = Owner::Free;
            }
        }
    }

    /// A helper that may change translations is called in line, or the set that is looked into may change.
    pub fn forget_pages(&mut self) {
        for o in &mut self.owner {
            if matches!(o, Owner::Page(..)) {
                *o = Owner::Free;
            }
        }
    }

    /// A page at hand makes room: one of its temporaries, if one does.
    pub fn evict_page(&mut self) -> Option<Reg> {
        let can = |t: Reg| (self.locked | self.kept.temps) & 1 << t == 0;
        let (t, group) = TEMPS.into_iter().find_map(|t| match self.owner[t as usize] {
            Owner::Page(g, _) if can(t) => Some((t, g)),
            _ => None,
        })?;
        self.drop_page(group);
        Some(t)
    }

    /// The temporaries that hold tags, by number.
    pub fn tags(&self) -> u8 {
        let tag = |t: &Reg| matches!(self.owner[*t as usize], Owner::Page(_, false));
        TEMPS.into_iter().filter(tag).fold(0, |m, t| m | 1 << t)
    }

    /// The access in hand, which shares nothing, if its instruction comes again: by the page at hand, or so that it is at
    /// hand. Gives the registers whose sum is the host address.
    pub fn access_near(&mut self, at: At, touch: Touch, slow: Slow) -> Option<(Reg, Reg)> {
        // With flags in use the comparison would be one that is right only within an entry's index.
        if self.form != Form::Single || self.flags_busy() {
            return None;
        }
        let near = self.near_here()?;
        let bytes = touch.bytes();
        let known = self.page_of(near.group);
        let (tag, addend) = match known {
            Some(both) => both,
            None if near.more && self.free_temps() >= FREE => {
                let both = (self.temp(), self.temp());
                self.owner[both.0 as usize] = Owner::Page(near.group, false);
                self.owner[both.1 as usize] = Owner::Page(near.group, true);
                both
            }
            None => return None,
        };
        self.locked |= 1 << tag | 1 << addend;
        let (label, resume) = (self.asm.label(), self.asm.label());
        let a = self.sum_here(at, 0);
        self.native = None;
        match known {
            Some(_) => self.compare_tag(a, tag, bytes, false, label),
            None => self.look_up_tag(a, touch.table(), (tag, addend), bytes, false, label),
        }
        self.asm.resume(resume);
        let slow = Slow { tags: self.tags(), bases: self.bases(), ..slow };
        let again = Again { slow, touch, tag, addend };
        let site = self.site();
        self.stubs.push(Stub { label, resume, site, kind: StubKind::Again(again) });
        if !near.more {
            // Until the end of the op nobody else takes them.
            self.drop_page(near.group);
        }
        Some((addend, a))
    }

    fn free_temps(&self) -> usize {
        TEMPS.into_iter().filter(|&t| self.owner[t as usize] == Owner::Free).count()
    }

    /// The stub of an access whose page is not the one at hand.
    pub fn again(&mut self, a: &Again, site: u32) {
        let slow = self.asm.label();
        let out = self.asm.label();
        let r = self.sum(a.slow.at, 0);
        self.look_up_tag(r, a.touch.table(), (a.tag, a.addend), a.slow.bytes, true, slow);
        self.asm.b(out);
        self.asm.bind(slow);
        self.slow_path(&a.slow, site);
        self.asm.mov(true, a.addend, super::vals::S1);
        self.asm.bind(out);
    }

    /// Makes tags match nothing, behind a helper.
    pub fn spoil_tags(&mut self, tags: u8) {
        for t in TEMPS.into_iter().filter(|t| tags & 1 << t != 0) {
            self.asm.ldr(Type::I64, t, STATE, slot(layout::NO_TAG));
        }
    }
}
