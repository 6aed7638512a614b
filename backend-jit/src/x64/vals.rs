//! Where values are: temporaries, guest registers, spill slots, host flags; and how they get into registers.
//!
//! Invariants:
//! - a value whose place is `Guest(r)` is listed in `alias[r]`, and whoever changes guest register r calls
//!   `save_aliases` first;
//! - a temporary is free, owned by one value, or transient until the end of the op;
//! - bits above a value's width are unspecified unless it is `clean`, which means zero up to bit 63;
//! - moving a value never touches the host's flags.

use super::asm::{Mem, RAX, RCX, RDX, Reg, Rm, state};
use super::{Codegen, Loc, NO_SLOT, Owner};
use crate::layout;
use emu_core::ir::{Op, Type, Value};
use emu_core::state::gpr;

/// Host registers for values.
pub const TEMPS: [Reg; 3] = [RAX, RCX, RDX];

/// The host register that holds each guest register, or 16 where it stays in memory.
pub const PINNED: [u8; 16] = [3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 16, 15, 16, 16, 16];

/// What an instruction's source can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Src {
    Imm(i32),
    Rm(Rm),
}

impl Codegen {
    /// Host register of guest register `r`, if it is pinned.
    #[inline]
    pub fn pinned(r: u8) -> Option<Reg> {
        let h = PINNED[r as usize];
        (h < 16).then_some(Reg(h))
    }

    /// The value of a constant, truncated to its width.
    #[inline]
    pub fn constant(&self, v: Value) -> Option<u64> {
        let inst = &self.insts[v.index()];
        (inst.op == Op::Const).then(|| {
            let bits = inst.ty.bits().max(1);
            inst.imm as u64 & (u64::MAX >> (64 - bits))
        })
    }

    /// The constant as a sign-extended 32-bit immediate for operations of width `ty`.
    pub fn imm32(&self, v: Value, ty: Type) -> Option<i32> {
        let c = self.constant(v)?;
        match ty {
            Type::I64 => i32::try_from(c as i64).ok(),
            Type::I16 => Some(i32::from(c as i16)),
            Type::I8 => Some(i32::from(c as i8)),
            _ => Some(c as i32),
        }
    }

    /// Whether `v` is used after the op in hand.
    #[inline]
    pub fn lives(&self, v: Value) -> bool {
        self.an.facts[v.index()].last as usize > self.at
    }

    #[inline]
    pub fn lock(&mut self, r: Reg) {
        self.locked |= 1 << r.0;
    }

    #[inline]
    pub fn unlock(&mut self, r: Reg) {
        self.locked &= !(1 << r.0);
    }

    /// A free temporary, for the op in hand; it is locked. Spills the value that is used last if need be.
    pub fn grab(&mut self) -> Reg {
        let mut pick: Option<(Reg, u32)> = None;
        // RDX first: RAX and RCX are wanted by flags and shifts.
        for r in [RDX, RCX, RAX] {
            match self.owner[r.0 as usize] {
                Owner::Free => {
                    pick = Some((r, u32::MAX));
                    break;
                }
                o if o.is_spare() && self.locked & 1 << r.0 == 0 => pick = Some((r, u32::MAX)),
                Owner::Val(v) if self.locked & 1 << r.0 == 0 => {
                    let last = self.an.facts[v.index()].last;
                    if pick.is_none_or(|(_, l)| last > l) {
                        pick = Some((r, last));
                    }
                }
                _ => {}
            }
        }
        let Some((r, _)) = pick else {
            self.frame.fail("out of temporaries");
            return RDX;
        };
        self.spill(r);
        self.owner[r.0 as usize] = Owner::Transient;
        self.lock(r);
        r
    }

    /// Makes the given temporary free and takes it, as [`Codegen::grab`] does. It must not be locked.
    pub fn grab_fixed(&mut self, r: Reg) {
        debug_assert!(self.locked & 1 << r.0 == 0, "r{} is locked at {}", r.0, self.at);
        self.vacate(r);
        self.owner[r.0 as usize] = Owner::Transient;
        self.lock(r);
    }

    /// Moves whatever is in `r` to another temporary or to a slot.
    pub fn vacate(&mut self, r: Reg) {
        let Owner::Val(v) = self.owner[r.0 as usize] else { return };
        if let Some(free) = self.vacant() {
            self.asm.mov(Type::I64, free, r);
            self.owner[free.0 as usize] = Owner::Val(v);
            self.owner[r.0 as usize] = Owner::Free;
            self.val[v.index()].loc = Loc::Temp(free);
        } else {
            self.spill(r);
        }
    }

    /// A temporary without a value, if there is one.
    pub fn vacant(&self) -> Option<Reg> {
        let has = |f: fn(Owner) -> bool| {
            TEMPS.into_iter().find(|t| f(self.owner[t.0 as usize]) && self.locked & 1 << t.0 == 0)
        };
        has(|o| o == Owner::Free).or_else(|| has(Owner::is_spare))
    }

    /// Ends the use of a transient temporary early.
    pub fn drop_temp(&mut self, r: Reg) {
        if self.owner[r.0 as usize] == Owner::Transient {
            self.owner[r.0 as usize] = Owner::Free;
            self.unlock(r);
        }
    }

    fn spill(&mut self, r: Reg) {
        if let Owner::Val(v) = self.owner[r.0 as usize] {
            if self.val[v.index()].slot == NO_SLOT {
                let s = self.new_slot(1);
                self.asm.store(Type::I64, state(layout::slot(s)), r);
                self.val[v.index()].slot = s as u8;
            }
            self.val[v.index()].loc = Loc::Slot;
        }
        self.owner[r.0 as usize] = Owner::Free;
    }

    /// `n` consecutive free slots.
    pub fn new_slot(&mut self, n: usize) -> usize {
        let mask = (1u64 << n) - 1;
        for at in 0..=layout::SPILLS - n {
            if self.slots & mask << at == 0 {
                self.slots |= mask << at;
                return layout::SPILL + at;
            }
        }
        self.frame.fail("out of spill slots");
        layout::SPILL
    }

    pub fn free_slots(&mut self, slot: usize, n: usize) {
        self.slots &= !(((1u64 << n) - 1) << (slot - layout::SPILL));
    }

    /// The spill slot of `v`.
    pub fn slot_of(&self, v: Value) -> Mem {
        debug_assert!(self.val[v.index()].slot != NO_SLOT, "{v:?} has no slot at {}", self.at);
        state(layout::slot(self.val[v.index()].slot as usize))
    }

    /// The operand that names `v` where it is; constants that fit are immediates.
    pub fn src(&mut self, v: Value, ty: Type) -> Src {
        if let Some(imm) = self.imm32(v, ty) {
            return Src::Imm(imm);
        }
        Src::Rm(self.rm(v))
    }

    /// The register or memory operand that holds `v`. A register is locked.
    pub fn rm(&mut self, v: Value) -> Rm {
        if let Some(c) = self.constant(v) {
            let r = self.grab();
            self.asm.mov_imm(r, c);
            return Rm::R(r);
        }
        if let Loc::Cc(_) = self.val[v.index()].loc {
            self.save_bool(v);
        }
        self.make_late(v);
        match self.val[v.index()].loc {
            Loc::Temp(r) => {
                self.lock(r);
                Rm::R(r)
            }
            Loc::Guest(g) if g == gpr::RSP as u8 && self.moved != 0 => {
                self.settle_stack();
                self.rm(v)
            }
            Loc::Guest(g) => match Self::pinned(g).or_else(|| self.copy_of(g)) {
                Some(h) => {
                    self.lock(h);
                    Rm::R(h)
                }
                None => Rm::M(state(layout::gpr(g as usize))),
            },
            Loc::Slot => Rm::M(self.slot_of(v)),
            other => {
                debug_assert!(false, "{v:?} ({:?}) is at {other:?} at {}", self.insts[v.index()].op, self.at);
                self.frame.fail("value has no place");
                Rm::R(RAX)
            }
        }
    }

    /// `v` in some register, which is locked.
    pub fn reg(&mut self, v: Value) -> Reg {
        match self.rm(v) {
            Rm::R(r) => r,
            Rm::M(m) => {
                let r = self.grab();
                let ty = self.insts[v.index()].ty;
                if let (Loc::Guest(g), Type::I64) = (self.val[v.index()].loc, ty) {
                    self.asm.load(ty, r, m);
                    self.owner[r.0 as usize] = Owner::Copy(g);
                    return r;
                }
                let from_slot = self.val[v.index()].loc == Loc::Slot;
                let whole = from_slot && ty != Type::Bool;
                self.asm.load(if whole { Type::I64 } else { ty }, r, m);
                if !whole {
                    self.val[v.index()].clean = true;
                }
                self.unalias(v);
                self.owner[r.0 as usize] = Owner::Val(v);
                self.val[v.index()].loc = Loc::Temp(r);
                r
            }
        }
    }

    /// Copies `v` into `d`: 64 bits if `ty` is I64, else at least its low part, the rest unspecified, but zero if
    /// it was clean.
    pub fn copy_to(&mut self, d: Reg, v: Value, ty: Type) {
        if let Some(c) = self.constant(v) {
            self.asm.mov_imm(d, c);
            return;
        }
        let locked = self.locked;
        match self.rm(v) {
            Rm::R(r) if r == d => {}
            Rm::R(r) => self.asm.mov(ty, d, r),
            Rm::M(m) => self.asm.load(ty, d, m),
        }
        // The source is not needed where it was any more.
        self.locked = locked;
    }

    /// Copies `v` into fixed temporary `d`, which is vacated first, and locks it.
    pub fn copy_fixed(&mut self, d: Reg, v: Value, ty: Type) {
        let mine = matches!(self.val[v.index()].loc, Loc::Temp(r) if r == d);
        let once = self.insts[self.at].used().filter(|&a| a == v).count() < 2;
        if mine && once && !self.lives(v) {
            self.release(v);
            self.owner[d.0 as usize] = Owner::Transient;
            self.lock(d);
            return;
        }
        if mine {
            self.unlock(d);
            self.vacate(d);
            self.owner[d.0 as usize] = Owner::Transient;
            self.lock(d);
            self.copy_to(d, v, Type::I64);
            return;
        }
        self.grab_fixed(d);
        self.copy_to(d, v, ty);
    }

    /// The temporary that has what is in guest register `g`, if one does beside the memory that `g` is in.
    pub fn copy_of(&self, g: u8) -> Option<Reg> {
        TEMPS.into_iter().find(|t| self.owner[t.0 as usize] == Owner::Copy(g))
    }

    /// As [`Self::copy_of`], for a value that dies here: the temporary is the op's.
    pub fn take_copy(&mut self, v: Value) -> Option<Reg> {
        let Loc::Guest(g) = self.val[v.index()].loc else { return None };
        let t = self.copy_of(g).filter(|t| self.locked & 1 << t.0 == 0 && !self.lives(v))?;
        self.owner[t.0 as usize] = Owner::Transient;
        self.lock(t);
        Some(t)
    }

    /// Guest register `g` is about to change. A temporary that an operand is read from stays the op's.
    fn forget_copy(&mut self, g: u8) {
        if let Some(t) = self.copy_of(g) {
            let read = self.locked & 1 << t.0 != 0;
            self.owner[t.0 as usize] = if read { Owner::Transient } else { Owner::Free };
        }
    }

    /// Temporary `r`, if it is one, has all 64 bits of guest register `g` now, which is in memory.
    pub fn set_copy(&mut self, r: Reg, g: u8) {
        if TEMPS.contains(&r) && matches!(self.owner[r.0 as usize], Owner::Free | Owner::Transient) {
            self.owner[r.0 as usize] = Owner::Copy(g);
        }
    }

    /// Removes `v` from the aliases of a guest register.
    pub fn unalias(&mut self, v: Value) {
        if let Loc::Guest(g) = self.val[v.index()].loc {
            self.alias[g as usize].retain(|&x| x != v);
        }
    }

    /// Says that `v` is what guest register `g` holds.
    pub fn set_guest(&mut self, v: Value, g: u8, clean: bool) {
        self.release(v);
        self.val[v.index()].loc = Loc::Guest(g);
        self.val[v.index()].clean = clean;
        self.alias[g as usize].push(v);
    }

    /// Says that `v` was computed into temporary `r`.
    pub fn set_temp(&mut self, v: Value, r: Reg, clean: bool) {
        self.owner[r.0 as usize] = Owner::Val(v);
        let val = &mut self.val[v.index()];
        val.loc = Loc::Temp(r);
        val.clean = clean;
    }

    /// Guest register `g` is about to change: values that are aliases of it and live on get a place of their own.
    /// `keep` is left alone.
    pub fn save_aliases(&mut self, g: u8, keep: Value) {
        if self.alias[g as usize].is_empty() {
            return self.forget_copy(g);
        }
        let copy = self.copy_of(g);
        let mut list = std::mem::take(&mut self.alias[g as usize]);
        for &v in &list {
            if v == keep || !self.lives(v) {
                continue;
            }
            if let Some(t) = copy.filter(|&t| self.owner[t.0 as usize] == Owner::Copy(g)) {
                self.set_temp(v, t, false);
                continue;
            }
            match (self.vacant(), Self::pinned(g)) {
                (Some(t), Some(h)) => {
                    self.asm.mov(Type::I64, t, h);
                    self.set_temp(v, t, false);
                }
                (Some(t), None) => {
                    self.asm.load(Type::I64, t, state(layout::gpr(g as usize)));
                    self.set_temp(v, t, false);
                }
                (None, Some(h)) => {
                    let s = self.new_slot(1);
                    self.asm.store(Type::I64, state(layout::slot(s)), h);
                    self.val[v.index()].slot = s as u8;
                    self.val[v.index()].loc = Loc::Slot;
                }
                (None, None) => {
                    self.asm.store(Type::I64, state(layout::slot(layout::SAVE0)), RAX);
                    self.asm.load(Type::I64, RAX, state(layout::gpr(g as usize)));
                    let s = self.new_slot(1);
                    self.asm.store(Type::I64, state(layout::slot(s)), RAX);
                    self.asm.load(Type::I64, RAX, state(layout::slot(layout::SAVE0)));
                    self.val[v.index()].slot = s as u8;
                    self.val[v.index()].loc = Loc::Slot;
                }
            }
        }
        // Operands that die here keep their place until the op is done.
        list.retain(|&v| self.val[v.index()].loc == Loc::Guest(g) && (v == keep || !self.lives(v)));
        self.alias[g as usize] = list;
        self.forget_copy(g);
    }

    /// Gives up every place of `v`.
    pub fn release(&mut self, v: Value) {
        let val = self.val[v.index()];
        self.forget_vec(v);
        match val.loc {
            Loc::Temp(r) if self.owner[r.0 as usize] == Owner::Val(v) => {
                self.owner[r.0 as usize] = Owner::Free;
            }
            Loc::Guest(_) => self.unalias(v),
            Loc::Cc(_) => self.bools.retain(|&b| b != v),
            _ => {}
        }
        if val.slot != NO_SLOT {
            let n = (self.insts[v.index()].ty.bits() as usize / 64).max(1);
            self.free_slots(val.slot as usize, n);
        }
        if val.in_guest {
            self.guest_flags.retain(|&f| f != v);
        }
        let val = &mut self.val[v.index()];
        val.loc = Loc::None;
        val.slot = NO_SLOT;
        val.in_guest = false;
        if self.native == Some(v) {
            self.native = None;
        }
        if self.unsaved == Some(v) {
            self.unsaved = None;
        }
    }

    /// Gives up `v` if the op in hand is its last use.
    fn end_value(&mut self, v: Value) {
        if self.an.facts[v.index()].last as usize == self.at {
            self.release(v);
        }
    }

    /// After an op: frees transients and what has died.
    pub fn end_op(&mut self) {
        let inst = self.insts[self.at];
        for v in inst.used() {
            if self.an.facts[v.index()].late {
                self.end_value(self.insts[v.index()].args[0]);
            }
            self.end_value(v);
        }
        if inst.op == Op::ExitIf
            && let Some(f) = self.deferred
            && self.an.facts[f.index()].last as usize == self.at
        {
            // No other exit before the next write of flags.
            self.deferred = None;
            self.release(f);
        }
        let me = Value(self.at as u32);
        if self.an.facts[self.at].last == 0 && self.val[self.at].loc != Loc::None {
            self.release(me);
        }
        let addend = self.addend.take();
        for r in TEMPS {
            if self.owner[r.0 as usize] == Owner::Transient {
                self.owner[r.0 as usize] = match addend {
                    Some((t, slot)) if t == r => Owner::Addend(slot),
                    _ => Owner::Free,
                };
            }
        }
        self.locked = 0;
        self.xmm_locked = 0;
    }
}
