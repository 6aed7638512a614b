//! Where vectors are: guest registers in host registers, temporaries, and how both survive calls.
//!
//! The guest's vector registers 0 to 11 are the host's, whole YMM registers where the host has AVX, from the first vector
//! op of a block on until translated code is left (byte `LIVE_VEC` of `layout::LIVE`, as for the x87). The others stay in
//! the state; host registers 12 to 15 are temporaries. Integer code pays nothing; thunks save and reload the
//! registers only while they are live.
//!
//! Upper halves: a legacy SSE operation keeps those of its destination and a VEX one clears them, for the host as for
//! the guest. So `SetVec` of 128 bits into a pinned register needs a legacy encoding and `SetVecZero` a VEX one, and an
//! operation is computed in place only in that encoding.
//!
//! Invariants:
//! - `held[r]` lists values that are what guest register r holds (its low 128 bits for a V128);
//! - a value whose place is `GuestV(r)` is in `held[r]`; whoever changes r calls `change` first.

use super::asm::{Alu, Mem, Opc, RAX, Reg, Rm, state};
use super::flags::E;
use super::mem::{Stub, StubKind};
use super::{Codegen, Loc, NO_SLOT};
use crate::layout;
use dynasmrt::dynasm;
use emu_core::ir::{Inst, Op, Type, Value};

/// Guest vector registers in host registers of the same number, unless that is switched off.
pub const PINNED: u8 = 12;
/// Temporaries.
const TEMPS: std::ops::Range<u8> = PINNED..16;

fn live() -> Rm {
    Rm::M(state(layout::slot(layout::LIVE) + layout::LIVE_VEC))
}

impl Codegen {
    /// Makes sure that the guest's vector registers are in the host's.
    pub fn vec_enter(&mut self) {
        if self.vec_live {
            return;
        }
        self.vec_live = true;
        if self.pins == 0 {
            return;
        }
        self.save_flags(true);
        let (label, resume) = (self.asm.label(), self.asm.label());
        self.asm.alu_imm(Type::I8, Alu::Cmp, live(), 0);
        self.asm.jcc(E, label);
        self.asm.bind(resume);
        self.stubs.push(Stub { label, resume, site: 0, kind: StubKind::Vec, live_xmm: 0 });
    }

    /// The routines that load and save the pinned registers; both keep everything else but flags.
    pub fn vec_routine(&mut self, save: bool) {
        // Registers whose upper halves the host knows to be zero: otherwise every legacy SSE operation waits for
        // the old value of its destination. Guests that use no AVX, or clear behind it, have them all zero.
        let narrow = (!save && self.host.avx).then(|| {
            dynasm!(self.asm; .arch x64; push rax; xor eax, eax);
            for r in 0..self.pins as usize {
                for q in 2..4 {
                    self.asm.alu(Type::I64, Alu::Or, RAX, Rm::M(state(layout::vec(r) + 8 * q)));
                }
            }
            dynasm!(self.asm; .arch x64; test rax, rax; pop rax);
            self.asm.jcc8(E)
        });
        for r in 0..self.pins {
            self.vec_whole(save, r, state(layout::vec(r as usize)));
        }
        if let Some(narrow) = narrow {
            self.vec_loaded();
            self.asm.here8(narrow);
            for r in 0..self.pins {
                self.vec_mem(false, false, r, state(layout::vec(r as usize)));
            }
        }
        if save {
            if self.host.avx {
                // Rust code is legacy SSE: dirty upper halves would slow it down on some hosts.
                self.asm.buf.extend_from_slice(&[0xc5, 0xf8, 0x77]);
            }
            dynasm!(self.asm; .arch x64; ret);
        } else {
            self.vec_loaded();
        }
    }

    fn vec_loaded(&mut self) {
        self.asm.store_imm(Type::I8, state(layout::slot(layout::LIVE) + layout::LIVE_VEC), 1);
        dynasm!(self.asm; .arch x64; ret);
    }

    /// Calls a routine if the registers are live; changes flags.
    pub fn vec_if_live(&mut self, routine: usize) {
        self.asm.alu_imm(Type::I8, Alu::Cmp, live(), 0);
        let skip = self.asm.jcc8(E);
        self.asm.call_abs(routine);
        self.asm.here8(skip);
    }

    /// As much as the host has of a register.
    fn vec_whole(&mut self, store: bool, x: u8, m: Mem) {
        self.vec_mem(self.host.avx, store, x, m);
    }

    /// Whether `v` has 256 bits.
    pub fn is_wide_vec(&self, v: Value) -> bool {
        v.is_some() && self.insts[v.index()].ty == Type::V256
    }

    fn is_vec(&self, v: Value) -> bool {
        matches!(self.insts[v.index()].ty, Type::V128 | Type::V256)
    }

    /// `v` in a host vector register, which is locked.
    pub fn xreg(&mut self, v: Value) -> u8 {
        let wide = self.is_wide_vec(v);
        let x = match self.val[v.index()].loc {
            Loc::Xmm(x) | Loc::GuestV(x)
                if x < self.pins || matches!(self.val[v.index()].loc, Loc::Xmm(_)) =>
            {
                x
            }
            Loc::GuestV(g) => {
                let x = self.grab_x();
                self.vec_mem(wide, false, x, state(layout::vec(g as usize)));
                self.set_x(v, x);
                x
            }
            Loc::Slot => {
                let m = self.slot_of(v);
                let x = self.grab_x();
                self.vec_mem(wide, false, x, m);
                self.set_x(v, x);
                x
            }
            other => {
                debug_assert!(false, "vector {v:?} is at {other:?} at {}", self.at);
                self.frame.fail("vector has no place");
                0
            }
        };
        self.xmm_locked |= 1 << x;
        x
    }

    /// `v` as an operand: folded memory, its home in the state, or a register.
    pub fn xrm(&mut self, v: Value) -> Rm {
        if let Some((w, m)) = self.folded
            && w == v
        {
            return Rm::M(m);
        }
        match self.val[v.index()].loc {
            Loc::GuestV(g) if g >= self.pins => Rm::M(state(layout::vec(g as usize))),
            _ => Rm::R(Reg(self.xreg(v))),
        }
    }

    /// Whether guest register `r` holds `v`.
    pub fn holds(&self, r: u8, v: Value) -> bool {
        self.held[r as usize].contains(&v)
    }

    /// Says that `v` is in temporary `x`.
    pub fn set_x(&mut self, v: Value, x: u8) {
        self.xmm[x as usize] = Some(v);
        self.val[v.index()].loc = Loc::Xmm(x);
    }

    /// Says that guest register `r` now holds `v` and nothing else.
    pub fn set_held(&mut self, v: Value, r: u8) {
        self.held[r as usize].clear();
        self.held[r as usize].push(v);
        match self.val[v.index()].loc {
            Loc::Xmm(_) if r >= self.pins => return,
            Loc::Xmm(x) => self.xmm[x as usize] = None,
            Loc::GuestV(_) => return,
            _ => {}
        }
        self.val[v.index()].loc = Loc::GuestV(r);
    }

    /// Forgets every place of vector `v`.
    pub fn unhold(&mut self, v: Value) {
        for list in &mut self.held {
            list.retain(|&h| h != v);
        }
    }

    /// Guest register `r` is about to change: values that live on and are nowhere else get a place of their own.
    pub fn change(&mut self, r: u8, keep: Value) {
        if self.held[r as usize].is_empty() {
            return;
        }
        let list = std::mem::take(&mut self.held[r as usize]);
        for &v in &list {
            if v == keep || !self.lives(v) || self.val[v.index()].loc != Loc::GuestV(r) {
                continue;
            }
            if let Some(other) = (0..16).find(|&o| o != r && self.holds(o, v)) {
                self.val[v.index()].loc = Loc::GuestV(other);
                continue;
            }
            let (x, wide) = (self.grab_x(), self.is_wide_vec(v));
            if r < self.pins {
                self.vec_copy(wide, x, r);
            } else {
                self.vec_mem(wide, false, x, state(layout::vec(r as usize)));
            }
            self.set_x(v, x);
            self.xmm_locked &= !(1 << x);
        }
        // Operands that die here keep their place until the op is done.
        self.held[r as usize] = list;
        let at = self.at;
        let (facts, val) = (&self.an.facts, &self.val);
        self.held[r as usize].retain(|v| {
            *v == keep || val[v.index()].loc == Loc::GuestV(r) && facts[v.index()].last as usize <= at
        });
    }

    /// The pinned register that the value in hand is bound for, if it may be computed there, and whether that has
    /// to be in a legacy encoding.
    pub fn bound(&mut self, me: Value) -> Option<(u8, bool)> {
        let fact = self.an.facts[me.index()];
        if fact.vset == 0 {
            return None;
        }
        let set = self.insts[fact.vset as usize];
        let r = set.imm as u8 & 31;
        if r >= self.pins || set.ty != self.insts[me.index()].ty {
            return None;
        }
        let legacy = set.op == Op::SetVec && set.ty == Type::V128 || !self.host.avx;
        if legacy && set.op == Op::SetVecZero {
            return None;
        }
        let alone = |c: &Self, v: Value| {
            c.lives(v) && c.val[v.index()].loc == Loc::GuestV(r) && !(0..16).any(|o| o != r && c.holds(o, v))
        };
        if self.held[r as usize].iter().any(|&v| alone(self, v)) {
            return None;
        }
        Some((r, legacy))
    }

    /// The value in hand has been computed into guest register `r`, which `bound` gave.
    pub fn made_in(&mut self, me: Value, r: u8) {
        self.change(r, me);
        self.val[me.index()].loc = Loc::None;
        self.val[me.index()].made = true;
        self.set_held(me, r);
    }

    pub fn get_vec(&mut self, me: Value, inst: &Inst) {
        self.vec_enter();
        let g = inst.imm as u8 & 31;
        if g >= 16 {
            return self.frame.unsupported("vector registers beyond 15");
        }
        self.val[me.index()].loc = Loc::GuestV(g);
        self.held[g as usize].push(me);
    }

    pub fn set_vec(&mut self, inst: &Inst) {
        self.vec_enter();
        let (r, v) = (inst.imm as u8 & 31, inst.args[0]);
        if r >= 16 {
            return self.frame.unsupported("vector registers beyond 15");
        }
        let clears = inst.op == Op::SetVecZero && inst.ty == Type::V128;
        let here = self.holds(r, v);
        let in_place = self.an.facts[v.index()].vset as usize == self.at && self.val[v.index()].made && here;
        if in_place || here && !clears {
            return;
        }
        let wide = inst.ty == Type::V256;
        if wide && !self.host.avx {
            return self.frame.unsupported("256-bit move");
        }
        let home = state(layout::vec(r as usize));
        if r >= self.pins {
            let mut x = self.xreg(v);
            self.change(r, v);
            let whole = clears && self.host.avx;
            if whole {
                // In one store, so that a load of the whole register need not wait for several.
                let t = if TEMPS.contains(&x) { x } else { self.grab_x() };
                self.vec_copy(false, t, x);
                x = t;
            }
            self.vec_mem(wide || whole, true, x, home);
        } else {
            // The source may be memory that `change` does not touch, or a register it does not give away: locked.
            let s = self.xrm(v);
            self.change(r, v);
            let legacy = inst.op == Op::SetVec && !wide || !self.host.avx;
            let opc = Opc(0, 1, if matches!(s, Rm::R(_)) { 0x28 } else { 0x10 });
            if legacy {
                if s != Rm::R(Reg(r)) {
                    self.asm.op(false, opc, r, s, 0);
                }
            } else {
                self.vex(false, wide, opc, r, 0, s);
            }
        }
        if clears && !self.host.avx {
            self.zero_home(r);
        }
        self.set_held(v, r);
    }

    /// VZEROUPPER.
    pub fn zero_upper(&mut self, inst: &Inst) {
        self.vec_enter();
        let count = inst.imm.clamp(0, 16) as u8;
        for r in 0..count {
            if self.held[r as usize].iter().any(|&v| self.is_wide_vec(v)) {
                self.change(r, Value::NONE);
                self.held[r as usize].clear();
            }
        }
        let wide = TEMPS.into_iter().any(|x| self.xmm[x as usize].is_some_and(|v| self.is_wide_vec(v)));
        if !self.host.avx {
            for r in 0..count {
                self.zero_home(r);
            }
            return;
        }
        if wide || count < 16 {
            for r in 0..count.min(self.pins) {
                self.vex(false, false, Opc(0, 1, 0x28), r, 0, Rm::R(Reg(r)));
            }
        } else {
            self.asm.buf.extend_from_slice(&[0xc5, 0xf8, 0x77]);
        }
        for r in self.pins..count {
            self.zero_home(r);
        }
    }

    fn zero_home(&mut self, r: u8) {
        for q in 2..4 {
            self.asm.store_imm(Type::I64, state(layout::vec(r as usize) + 8 * q), 0);
        }
    }

    /// A temporary for a result: that of an operand which dies, or a free one. `ops` are those whose registers the
    /// encoding lets be overwritten.
    pub fn dest_x(&mut self, ops: &[Value]) -> u8 {
        for &v in ops {
            if v.is_some()
                && let Loc::Xmm(x) = self.val[v.index()].loc
                && !self.lives(v)
            {
                self.val[v.index()].loc = Loc::None;
                self.xmm[x as usize] = None;
                return x;
            }
        }
        self.grab_x()
    }

    /// A free temporary, locked; spills the value that is used last if need be.
    pub fn grab_x(&mut self) -> u8 {
        let mut pick: Option<(u8, u32)> = None;
        for x in TEMPS {
            if self.xmm_locked & 1 << x != 0 {
                continue;
            }
            let last = self.xmm[x as usize].map_or(u32::MAX, |v| self.an.facts[v.index()].last);
            if pick.is_none_or(|(_, l)| last > l) {
                pick = Some((x, last));
            }
        }
        let Some((x, _)) = pick else {
            self.frame.fail("out of vector registers");
            return TEMPS.start;
        };
        if let Some(v) = self.xmm[x as usize].take() {
            self.spill_x(v, x);
        }
        self.xmm_locked |= 1 << x;
        x
    }

    fn spill_x(&mut self, v: Value, x: u8) {
        if let Some(r) = (0..16).find(|&r| self.holds(r, v)) {
            self.val[v.index()].loc = Loc::GuestV(r);
            return;
        }
        if self.val[v.index()].slot == NO_SLOT {
            let wide = self.is_wide_vec(v);
            let s = self.new_slot(if wide { 4 } else { 2 });
            self.vec_mem(wide, true, x, state(layout::slot(s)));
            self.val[v.index()].slot = s as u8;
        }
        self.val[v.index()].loc = Loc::Slot;
    }

    /// Temporaries that hold values; in the high half, those with 256 bits.
    pub fn live_xmm(&self) -> u32 {
        self.xmm.iter().enumerate().fold(0, |m, (i, v)| {
            let wide = v.is_some_and(|v| self.is_wide_vec(v));
            m | u32::from(v.is_some()) << i | u32::from(wide) << (16 + i)
        })
    }

    /// Keeps temporaries on the host's stack around a helper.
    pub fn save_live_xmm(&mut self, live: u32, save: bool) {
        let bytes = 32 * (live as u16).count_ones() as i32;
        if bytes == 0 {
            return;
        }
        let rsp = Reg(4);
        let mut at = 0;
        if save {
            self.asm.lea(Type::I64, rsp, Mem { base: rsp, index: None, scale: 0, disp: -bytes });
        }
        for x in TEMPS.filter(|x| live & 1 << x != 0) {
            let wide = live >> (16 + x) & 1 != 0;
            self.vec_mem(wide, save, x, Mem { base: rsp, index: None, scale: 0, disp: at });
            at += 32;
        }
        if !save {
            self.asm.lea(Type::I64, rsp, Mem { base: rsp, index: None, scale: 0, disp: bytes });
        }
    }

    /// Whether `v` is a vector in no guest register: for `release`.
    pub fn forget_vec(&mut self, v: Value) {
        if self.is_vec(v) {
            self.unhold(v);
            if let Loc::Xmm(x) = self.val[v.index()].loc
                && self.xmm[x as usize] == Some(v)
            {
                self.xmm[x as usize] = None;
            }
        }
    }
}
