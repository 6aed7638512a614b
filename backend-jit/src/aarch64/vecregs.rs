//! Where vectors are: guest registers in host registers, temporaries, spill slots.
//!
//! The low 128 bits of the guest's vector registers 0 to 15 are v0 to v15 from a block's first vector op until translated
//! code is left; so are the guest's modes of floating point (see `fp`). [`LIVE`] says so in a register of its own: a block
//! with vector ops begins with one test of it, and integer code never loads them. What is above is in the state, from where
//! it is loaded when it is used. v16 to v25 are temporaries, v29 is zero, the others from v26 on belong to the op in hand.
//! Thunks keep all but the latter, while they are live.
//!
//! Invariants:
//! - `held[r]` lists the values that are what guest register r holds, `held[r + GUESTS]` those that its upper half in the
//!   state is;
//! - a value whose place is `GuestV(r)` is in `held[r]`; whoever changes r calls `change` first;
//! - the register that [`Codegen::vdest`] gave may be a guest's, but none that it was told to avoid.

use super::asm::Reg;
use super::mem::{Stub, StubKind};
use super::vals::{STATE, slot};
use super::waiting::Waiting;
use super::{Codegen, Loc, Owner};
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, Type, Value};

/// Guest vector registers, in host registers of the same number.
pub const GUESTS: u8 = 16;
/// Those and their upper halves.
pub const HOLDERS: u8 = 2 * GUESTS;
/// The first vector temporary.
pub const FIRST: Reg = 16;
/// Number of vector temporaries.
pub const VTEMPS: usize = 10;
/// Belong to the op in hand.
pub const V0: Reg = 26;
/// See [`V0`].
pub const V1: Reg = 27;
/// See [`V0`].
pub const V2: Reg = 28;
/// Zero, while the vector registers are live.
pub const VZERO: Reg = 29;
/// See [`V0`]: a pair for table lookups.
pub const PAIR: Reg = 30;
/// A general register that is not 0 while the vector registers and the modes of floating point are the guest's.
pub const LIVE: Reg = 29;

/// Byte offset in the state of vector register `n`.
pub const fn vec(n: usize) -> usize {
    (layout::vec(n) + layout::BIAS) as usize
}

/// Byte offset in the state of the upper half that is in `held[r]`.
const fn upper_home(r: u8) -> usize {
    vec((r - GUESTS) as usize) + 16
}

/// The vector register of which `n` names the upper half.
pub fn upper(n: i64) -> Option<usize> {
    let n = n - super::avx::HIGH;
    (0..i64::from(GUESTS)).contains(&n).then_some(n as usize)
}

/// Where the vector in hand is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VDest {
    pub reg: Reg,
    guest: bool,
}

/// A constant beside the code.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    label: DynamicLabel,
    low: u64,
    high: u64,
}

impl Codegen {
    fn vowner(&mut self, r: Reg) -> &mut Owner {
        &mut self.vowner[(r - FIRST) as usize]
    }

    /// Before a block's first vector op: makes sure that the guest's vector registers are in the host's.
    pub fn vec_enter(&mut self) {
        if self.vec_live {
            return;
        }
        self.vec_live = true;
        let (label, resume) = (self.asm.label(), self.asm.label());
        self.asm.cbz(false, false, LIVE, label);
        self.asm.resume(resume);
        self.stubs.push(Stub { label, resume, site: 0, kind: StubKind::VecBegin });
    }

    /// Guest vector registers between their homes and the host's registers, which then have [`VZERO`], too.
    pub fn vec_guests(&mut self, load: bool) {
        if load {
            self.asm.vzero(VZERO);
        }
        for r in 0..GUESTS {
            let at = vec(r.into());
            if load { self.asm.ldr_q(r, STATE, at) } else { self.asm.str_q(r, STATE, at) }
        }
    }

    /// A free vector temporary for the op in hand.
    pub fn vtemp(&mut self) -> Reg {
        let kept = self.kept.vectors;
        let free = (0..VTEMPS).find(|&i| self.vowner[i] == Owner::Free && kept & 1 << i == 0);
        let i = match free {
            Some(i) => i,
            None => {
                let last = |v: Value| self.an.facts[v.index()].last;
                let victim = (0..VTEMPS)
                    .filter_map(|i| match self.vowner[i] {
                        Owner::Val(v) if (self.vlocked | kept) & 1 << i == 0 => Some((last(v), i, v)),
                        _ => None,
                    })
                    .max_by_key(|&(last, ..)| last);
                let Some((_, i, v)) = victim else {
                    self.frame.fail("out of vector temporaries");
                    return FIRST;
                };
                self.spill_vec(v, FIRST + i as u8);
                i
            }
        };
        self.vowner[i] = Owner::Transient;
        self.vlocked |= 1 << i;
        FIRST + i as u8
    }

    fn spill_vec(&mut self, v: Value, from: Reg) {
        if let Some(r) = (0..HOLDERS).find(|&r| self.holds(r, v)) {
            self.val[v.index()].loc = Loc::GuestV(r);
            return;
        }
        let s = self.new_pair();
        self.asm.str_q(from, STATE, slot(s as usize));
        self.val[v.index()].loc = Loc::VecSlot(s);
    }

    /// Gives up temporaries with what guest registers hold, too, until no more than `most` are in use, if there are so many.
    pub fn forget_copies(&mut self, most: u32) {
        while self.used().vectors.count_ones() > most {
            let copy = |i: usize| match self.vowner[i] {
                Owner::Val(v) => {
                    (0..HOLDERS).find(|&r| self.holds(r, v)).map(|r| (self.an.facts[v.index()].last, i, v, r))
                }
                _ => None,
            };
            let Some((_, i, v, r)) = (0..VTEMPS).filter_map(copy).max_by_key(|c| c.0) else { return };
            self.vowner[i] = Owner::Free;
            self.val[v.index()].loc = Loc::GuestV(r);
        }
    }

    fn new_pair(&mut self) -> u8 {
        for at in 0..layout::SPILLS - 1 {
            if (self.slots | self.kept.slots | super::window::SLOTS) & 3 << at == 0
                && slot(layout::SPILL + at).is_multiple_of(16)
            {
                self.slots |= 3 << at;
                return (layout::SPILL + at) as u8;
            }
        }
        self.frame.fail("out of spill slots");
        layout::SPILL as u8 + 1
    }

    /// Gives up a pair of spill slots.
    pub fn free_pair(&mut self, s: u8) {
        self.slots &= !(3 << (s as usize - layout::SPILL));
    }

    /// Gives up a vector temporary that `v` has.
    pub fn free_vec(&mut self, v: Value, r: Reg) {
        if *self.vowner(r) == Owner::Val(v) {
            *self.vowner(r) = Owner::Free;
        }
    }

    /// The vector register that holds `v`, perhaps its low lane alone (see `tops`): a double if it is `wide`, else a single.
    pub fn vlow(&mut self, v: Value, wide: bool) -> Reg {
        let r = self.vlow_single(v);
        if wide {
            self.make_double(v, r);
        }
        r
    }

    fn vlow_single(&mut self, v: Value) -> Reg {
        match self.val[v.index()].loc {
            Loc::Vec(r) => {
                self.vlocked |= 1 << (r - FIRST);
                r
            }
            Loc::GuestV(r) if r < GUESTS => r,
            Loc::ZeroV => VZERO,
            Loc::GuestV(r) => {
                let t = self.vtemp();
                self.asm.ldr_q(t, STATE, upper_home(r));
                self.set_vec_temp(v, t);
                t
            }
            Loc::VecSlot(s) => {
                let t = self.vtemp();
                self.asm.ldr_q(t, STATE, slot(s as usize));
                self.free_pair(s);
                self.set_vec_temp(v, t);
                t
            }
            _ => {
                self.frame.fail("a vector has no place");
                FIRST
            }
        }
    }

    /// A register that holds `v` for the instruction that comes next, which may be `scratch`. Its place stays as it is.
    pub fn vread(&mut self, v: Value, scratch: Reg) -> Reg {
        if self.val[v.index()].rest.is_some() {
            return self.vreg(v);
        }
        self.vread_low(v, false, scratch)
    }

    /// The same, perhaps with the low lane alone: a double if it is `wide`, else a single.
    pub fn vread_low(&mut self, v: Value, wide: bool, scratch: Reg) -> Reg {
        match self.val[v.index()].loc {
            _ if wide && self.lacks_double(v) => return self.vlow(v, wide),
            Loc::GuestV(r) if r >= GUESTS => self.asm.ldr_q(scratch, STATE, upper_home(r)),
            Loc::VecSlot(s) => self.asm.ldr_q(scratch, STATE, slot(s as usize)),
            _ => return self.vlow(v, wide),
        }
        scratch
    }

    /// Says that `v` is in vector temporary `r`.
    pub fn set_vec_temp(&mut self, v: Value, r: Reg) {
        *self.vowner(r) = Owner::Val(v);
        self.val[v.index()].loc = Loc::Vec(r);
    }

    /// Whether guest register `r` holds `v`.
    pub fn holds(&self, r: u8, v: Value) -> bool {
        self.held[r as usize].contains(&v)
    }

    /// The guest register that the value in hand is bound for, if it may be computed there.
    fn bound(&self, me: Value) -> Option<Reg> {
        let set = match self.an.facts[me.index()].vset {
            0 => return None,
            n => self.insts[n as usize],
        };
        let r = set.imm as u8;
        let alone = |v: Value| self.lives(v) && self.val[v.index()].loc == Loc::GuestV(r);
        // In the body's form of a run no guest register changes.
        let fits = r < GUESTS
            && set.ty == Type::V128
            && !self.waits()
            && !self.held[r as usize].iter().any(|&v| alone(v));
        fits.then_some(r)
    }

    /// The register in which to compute the vector in hand, none of `avoid`. It may be that of an operand which is not
    /// in `avoid`.
    pub fn vdest(&mut self, me: Value, avoid: &[Reg]) -> VDest {
        match self.bound(me) {
            Some(r) if !avoid.contains(&r) => VDest { reg: r, guest: true },
            _ => VDest { reg: self.vtemp(), guest: false },
        }
    }

    /// As [`Codegen::vdest`], for what is made from `a` in place: the register of `a` if that dies.
    pub fn vdest_over(&mut self, me: Value, a: Value, avoid: &[Reg]) -> VDest {
        if let Some(r) = self.bound(me)
            && !avoid.contains(&r)
        {
            return VDest { reg: r, guest: true };
        }
        match self.val[a.index()].loc {
            Loc::Vec(r)
                if !self.lives(a) && !avoid.contains(&r) && self.kept.vectors & 1 << (r - FIRST) == 0 =>
            {
                self.val[a.index()].loc = Loc::None;
                VDest { reg: r, guest: false }
            }
            _ => VDest { reg: self.vtemp(), guest: false },
        }
    }

    /// The vector in hand is in `d`.
    pub fn vfinish(&mut self, me: Value, d: VDest) {
        if !d.guest {
            return self.set_vec_temp(me, d.reg);
        }
        self.held[d.reg as usize].clear();
        self.held[d.reg as usize].push(me);
        self.tops.guest[d.reg as usize] = Some(me);
        self.val[me.index()].loc = Loc::GuestV(d.reg);
    }

    /// Guest register `r` is about to change: values but `keep` that live on and are nowhere else get a place of their
    /// own.
    pub fn change(&mut self, r: u8, keep: Value) {
        for v in std::mem::take(&mut self.held[r as usize]) {
            if v == keep || !self.lives(v) || self.val[v.index()].loc != Loc::GuestV(r) {
                continue;
            }
            if let Some(other) = (0..HOLDERS).find(|&o| o != r && self.holds(o, v)) {
                self.val[v.index()].loc = Loc::GuestV(other);
                continue;
            }
            let t = self.vtemp();
            if r < GUESTS {
                self.vmov(t, r);
            } else {
                self.asm.ldr_q(t, STATE, upper_home(r));
            }
            self.set_vec_temp(v, t);
            self.vlocked &= !(1 << (t - FIRST));
        }
    }

    /// Vector `v` is held no more.
    pub fn unhold(&mut self, v: Value) {
        for list in &mut self.held {
            list.retain(|&h| h != v);
        }
    }

    /// After an op.
    pub fn end_vec(&mut self) {
        for o in &mut self.vowner {
            if *o == Owner::Transient {
                *o = Owner::Free;
            }
        }
        self.vlocked = 0;
    }

    pub fn get_vec(&mut self, me: Value, inst: &Inst) {
        self.vec_enter();
        let r = inst.imm as u8;
        if let Some(n) = upper(inst.imm) {
            let r = n as u8 + GUESTS;
            self.val[me.index()].loc = Loc::GuestV(r);
            self.held[r as usize].push(me);
            return;
        }
        if r >= GUESTS {
            return self.frame.unsupported("vector registers beyond 15");
        }
        self.val[me.index()].loc = Loc::GuestV(r);
        self.held[r as usize].push(me);
        self.tops.guest[r as usize].get_or_insert(me);
    }

    pub fn set_vec(&mut self, inst: &Inst) {
        self.vec_enter();
        let (r, v) = (inst.imm as u8, inst.args[0]);
        if let Some(n) = upper(inst.imm) {
            if !self.defer_set(Waiting::Upper(n as u8, v)) {
                self.set_upper(n as u8, v);
            }
            return;
        }
        if r >= GUESTS {
            return self.frame.unsupported("vector registers beyond 15");
        }
        if !self.defer_set(Waiting::Set(r, v)) && !self.holds(r, v) {
            self.set_low(r, v);
            self.become_guest(r, v);
        }
    }

    /// The upper half of guest register `n` becomes `v`.
    pub fn set_upper(&mut self, n: u8, v: Value) {
        let r = n + GUESTS;
        if self.holds(r, v) {
            return;
        }
        if let Loc::Vec(t) = self.val[v.index()].loc {
            self.vlocked |= 1 << (t - FIRST);
        }
        self.change(r, v);
        let from = self.vread(v, V0);
        self.asm.str_q(from, STATE, upper_home(r));
        self.held[r as usize].push(v);
    }

    /// A 128-bit constant, low half first.
    pub fn vconst(&mut self, d: Reg, low: u64, high: u64) {
        if (low, high) == (0, 0) {
            return self.asm.vzero(d);
        }
        let known = self.wides.iter().find(|w| (w.low, w.high) == (low, high)).map(|w| w.label);
        let label = known.unwrap_or_else(|| {
            let label = self.asm.label();
            self.wides.push(Wide { label, low, high });
            label
        });
        self.asm.ldr_q_literal(d, label);
    }

    /// The constants, behind the code.
    pub fn emit_wides(&mut self) {
        for w in std::mem::take(&mut self.wides) {
            self.asm.bind(w.label);
            self.asm.buf.extend_from_slice(&w.low.to_le_bytes());
            self.asm.buf.extend_from_slice(&w.high.to_le_bytes());
        }
    }

    /// A general register into the low lane of `d`, zeros above.
    pub fn vec_from_int(&mut self, d: Reg, ty: Type, r: Reg) {
        self.v2(if ty == Type::I64 { 0x9e67_0000 } else { 0x1e27_0000 }, d, r);
    }

    /// The first bit of `v` from which on it is known to be zero.
    pub fn low_bits(&self, v: Value) -> u8 {
        self.val[v.index()].low
    }
}
