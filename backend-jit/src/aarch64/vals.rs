//! Where values are: temporaries, guest registers, spill slots, the host's flags; and how they get into registers.
//!
//! Host registers: x0 to x4 are temporaries; x16, x17 and the link register belong to the op in hand; x5 counts
//! instructions or, where they are not counted, points at the newest predicted return; x6 and x7 point at the write and the read half of the translation cache in force; w15 is the guest's
//! flags word (see `flags`); x28 points at the processor's state; x18 is the host system's; x29 is `vecregs::LIVE`; the others are guest
//! registers ([`GUEST`]), those that a Rust function may change last.
//!
//! Invariants:
//! - a value whose place is `Guest(r)` is listed in `alias[r]`, and whoever changes guest register r calls
//!   `save_aliases` first;
//! - a temporary is free, owned by one value, or transient until the end of the op;
//! - a register that [`Codegen::reg`] gave is not taken away before the end of the op;
//! - the guest register that [`Codegen::dest`] gave may be that of an operand: it is written by the op's last
//!   instruction that reads operands.

use super::asm::{Asm, Reg, ZR};
use super::run::Form;
use super::{Codegen, Loc, Owner};
use crate::layout;
use crate::regalloc::Hint;
use emu_core::ir::{Op, Type, Value};

/// Host registers of the guest's general registers.
pub const GUEST: [Reg; 16] = [19, 20, 21, 22, 23, 24, 25, 26, 27, 8, 9, 10, 11, 12, 13, 14];
/// The first of them that a Rust function may change.
pub const VOLATILE: usize = 9;
/// Temporaries.
pub const TEMPS: [Reg; 5] = [0, 1, 2, 3, 4];
/// The count of instructions, if they are counted.
pub const ICOUNT: Reg = 5;
/// If not, the newest predicted return.
pub const RETURNS: Reg = 5;
/// The write half of the translation cache.
pub const TLB_WRITE: Reg = 6;
/// The read half, where the set begins.
pub const TLB: Reg = 7;
/// The guest's flags word.
pub const FLAGS: Reg = 15;
/// Belong to the op in hand.
pub const S0: Reg = 16;
/// See [`S0`].
pub const S1: Reg = 17;
/// See [`S0`]; thunks change it.
pub const S2: Reg = 30;
/// The processor's state.
pub const STATE: Reg = 28;

/// Byte offset in the state of scratch slot `n`.
pub const fn slot(n: usize) -> usize {
    (layout::slot(n) + layout::BIAS) as usize
}

/// Byte offset in the state of general register `n`.
pub const fn gpr(n: usize) -> usize {
    (layout::gpr(n) + layout::BIAS) as usize
}

/// Where the value in hand is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dest {
    pub reg: Reg,
    /// It is this guest register.
    pub guest: Option<u8>,
}

impl Codegen {
    /// Whether `v` is used after the op in hand.
    pub fn lives(&self, v: Value) -> bool {
        self.an.facts[v.index()].last as usize > self.at
    }

    /// The value of a constant, as wide as it is.
    pub fn constant(&self, v: Value) -> Option<u64> {
        let i = &self.insts[v.index()];
        match i.op {
            Op::Const if i.ty == Type::Bool => Some(i.imm as u64 & 1),
            Op::Const => Some(i.ty.truncate(i.imm as u64)),
            Op::Pc => Some(self.frame.rip(i.imm)),
            _ => None,
        }
    }

    pub fn is_wide(ty: Type) -> bool {
        matches!(ty, Type::I32 | Type::I64)
    }

    /// A free temporary for the op in hand; the value that is needed last makes room.
    pub fn temp(&mut self) -> Reg {
        if let Some(t) = self.free_temp().or_else(|| self.evict_page()).or_else(|| self.evict_base()) {
            return self.take(t);
        }
        let mut victim = None;
        for t in TEMPS {
            if let (Owner::Val(v), 0) = (self.owner[t as usize], (self.locked | self.kept.temps) & 1 << t) {
                let last = self.an.facts[v.index()].last;
                if victim.is_none_or(|(_, _, far)| last > far) {
                    victim = Some((t, v, last));
                }
            }
        }
        let Some((t, v, _)) = victim else {
            self.frame.fail("out of temporaries");
            return TEMPS[0];
        };
        self.spill(v, t);
        self.take(t)
    }

    /// Temporary `t` is the op's from now on.
    fn take(&mut self, t: Reg) -> Reg {
        self.owner[t as usize] = Owner::Transient;
        self.locked |= 1 << t;
        self.known[t as usize] = None;
        t
    }

    /// A temporary that holds `c`: one that has been left with it, if nothing has wanted it since.
    pub fn const_reg(&mut self, c: u64) -> Reg {
        if self.known_joins != self.asm.joins {
            // It may have been left on another way.
            (self.known, self.known_joins) = ([None; 5], self.asm.joins);
        }
        let left = |t: &Reg| {
            self.known[*t as usize] == Some(c)
                && matches!(self.owner[*t as usize], Owner::Free | Owner::Transient)
        };
        if let (Form::Single, Some(t)) = (self.form, TEMPS.into_iter().find(left)) {
            self.take(t);
            self.known[t as usize] = Some(c);
            return t;
        }
        let t = self.temp();
        self.imm(t, c);
        self.known[t as usize] = Some(c);
        t
    }

    /// `c` into `d`: from behind the block's code if it would take several instructions to make.
    pub fn imm(&mut self, d: Reg, c: u64) {
        if Asm::moves(c) == 1 {
            return self.asm.mov_imm(d, c);
        }
        let label = match self.imms.iter().find(|i| i.0 == c) {
            Some(i) => i.1,
            None => {
                let label = self.asm.label();
                self.imms.push((c, label));
                label
            }
        };
        if c >> 32 == 0 {
            self.asm.ldr_literal(d, label);
        } else {
            self.asm.ldr_literal_wide(d, label);
        }
    }

    /// Those constants, behind the code.
    pub fn emit_imms(&mut self) {
        for (c, label) in std::mem::take(&mut self.imms) {
            self.asm.bind(label);
            self.asm.raw(c as u32);
            if c >> 32 != 0 {
                self.asm.raw((c >> 32) as u32);
            }
        }
    }

    fn free_temp(&self) -> Option<Reg> {
        let free = |t: &Reg| self.owner[*t as usize] == Owner::Free && self.kept.temps & 1 << t == 0;
        let known = |t: &Reg| self.form == Form::Single && self.known[*t as usize].is_some();
        TEMPS.into_iter().find(|t| free(t) && !known(t)).or_else(|| TEMPS.into_iter().find(free))
    }

    /// Gives `v`, which is clean and lives on, a place of its own; it is in `from`.
    pub fn keep(&mut self, v: Value, from: Reg) {
        match self.free_temp().or_else(|| self.evict_page()).or_else(|| self.evict_base()) {
            Some(t) => {
                self.known[t as usize] = None;
                self.asm.mov(true, t, from);
                self.set_temp(v, t, true);
            }
            None => {
                self.spill(v, from);
                self.val[v.index()].clean = true;
            }
        }
    }

    fn spill(&mut self, v: Value, from: Reg) {
        let s = self.new_slot();
        self.asm.str(Type::I64, from, STATE, slot(s as usize));
        self.val[v.index()].loc = Loc::Slot(s);
    }

    fn new_slot(&mut self) -> u8 {
        let free = (!(self.slots | self.kept.slots | super::window::SLOTS)).trailing_zeros() as usize;
        if free >= layout::SPILLS {
            self.frame.fail("out of spill slots");
            return layout::SPILL as u8;
        }
        self.slots |= 1 << free;
        (layout::SPILL + free) as u8
    }

    fn free_slot(&mut self, s: u8) {
        self.slots &= !(1 << (s as usize - layout::SPILL));
    }

    /// A temporary that the op needs no more.
    pub fn drop_temp(&mut self, t: Reg) {
        if t < 5 && self.owner[t as usize] == Owner::Transient {
            self.owner[t as usize] = Owner::Free;
            self.locked &= !(1 << t);
        }
    }

    /// The register that holds `v`, as wide as its type; what is above is unspecified unless it is clean. Zero may be
    /// the zero register.
    pub fn reg(&mut self, v: Value) -> Reg {
        match self.constant(v) {
            Some(0) => return ZR,
            Some(c) => return self.const_reg(c),
            None => {}
        }
        if let Loc::Cc(_) = self.val[v.index()].loc {
            self.save_bool(v);
        }
        match self.val[v.index()].loc {
            Loc::Temp(r) => {
                self.locked |= 1 << r;
                r
            }
            Loc::Guest(g) => GUEST[g as usize],
            Loc::Word => FLAGS,
            Loc::Slot(s) => {
                let t = self.temp();
                self.asm.ldr(Type::I64, t, STATE, slot(s as usize));
                self.free_slot(s);
                self.owner[t as usize] = Owner::Val(v);
                self.val[v.index()].loc = Loc::Temp(t);
                t
            }
            other => {
                debug_assert!(false, "{v:?} ({:?}) is at {other:?} at {}", self.insts[v.index()].op, self.at);
                self.frame.fail("value has no place");
                ZR
            }
        }
    }

    /// As [`Codegen::reg`], never the zero register.
    pub fn reg_nz(&mut self, v: Value) -> Reg {
        let r = self.reg(v);
        if r != ZR {
            return r;
        }
        let t = self.temp();
        self.asm.mov_imm(t, 0);
        t
    }

    /// Whether the bits above its type are known to be zero.
    pub fn is_clean(&self, v: Value) -> bool {
        self.constant(v).is_some()
            || self.val[v.index()].clean
            || matches!(self.insts[v.index()].ty, Type::I64 | Type::Flags)
    }

    /// `v` zero-extended: in its register, or in `scratch`.
    pub fn clean(&mut self, v: Value, scratch: Reg) -> Reg {
        let r = self.reg(v);
        if self.is_clean(v) {
            return r;
        }
        self.asm.zext(self.insts[v.index()].ty, scratch, r);
        scratch
    }

    /// `v` sign-extended to 32 bits, or to 64 with `wide`: in its register, or in `scratch`.
    pub fn signed(&mut self, v: Value, wide: bool, scratch: Reg) -> Reg {
        let ty = self.insts[v.index()].ty;
        let r = self.reg(v);
        if ty == Type::I64 || ty == Type::I32 && !wide || r == ZR {
            return r;
        }
        self.asm.sext(ty, wide, scratch, r);
        scratch
    }

    /// The register in which to compute the value in hand. Operands are to be looked up after this.
    pub fn dest(&mut self, me: Value) -> Dest {
        if let Hint::Full(g) = self.an.facts[me.index()].hint {
            self.save_aliases(g);
            return Dest { reg: GUEST[g as usize], guest: Some(g) };
        }
        Dest { reg: self.temp(), guest: None }
    }

    /// The value in hand is in `d`. `clean`: with zeros above its width.
    pub fn finish(&mut self, me: Value, d: Dest, clean: bool) {
        match d.guest {
            Some(g) => self.set_guest(me, g, clean),
            None => self.set_temp(me, d.reg, clean),
        }
    }

    /// Says that `v` is in temporary `r`.
    pub fn set_temp(&mut self, v: Value, r: Reg, clean: bool) {
        debug_assert!(r < 5);
        self.owner[r as usize] = Owner::Val(v);
        let val = &mut self.val[v.index()];
        (val.loc, val.clean) = (Loc::Temp(r), clean);
    }

    /// Says that `v` is what guest register `g` holds.
    pub fn set_guest(&mut self, v: Value, g: u8, clean: bool) {
        self.release(v);
        let val = &mut self.val[v.index()];
        (val.loc, val.clean) = (Loc::Guest(g), clean);
        self.alias[g as usize].push(v);
    }

    /// Guest register `g` is about to change: values that are what it holds and live on get a place of their own.
    pub fn save_aliases(&mut self, g: u8) {
        if self.alias[g as usize].is_empty() {
            return;
        }
        let list = std::mem::take(&mut self.alias[g as usize]);
        let mut keep = Vec::new();
        for &v in &list {
            if !self.lives(v) {
                // Operands that die here keep their place until the op is done.
                keep.push(v);
                continue;
            }
            let clean = self.val[v.index()].clean;
            self.keep(v, GUEST[g as usize]);
            self.val[v.index()].clean = clean;
        }
        self.alias[g as usize] = keep;
    }

    /// `me` has the same bits as `v` in its type: takes over its place, or gets a copy.
    pub fn share(&mut self, me: Value, v: Value, clean: bool) {
        let place = self.val[v.index()].loc;
        match place {
            Loc::Guest(g) => self.set_guest(me, g, clean),
            Loc::Temp(r) if !self.lives(v) => {
                self.val[v.index()].loc = Loc::None;
                self.set_temp(me, r, clean);
            }
            _ => {
                let r = self.reg(v);
                let t = self.temp();
                self.asm.mov(true, t, r);
                self.set_temp(me, t, clean);
            }
        }
    }

    /// Gives up the place of `v`.
    pub fn release(&mut self, v: Value) {
        match self.val[v.index()].loc {
            Loc::Temp(r) if self.owner[r as usize] == Owner::Val(v) => {
                self.owner[r as usize] = Owner::Free;
            }
            Loc::Guest(g) => self.alias[g as usize].retain(|&x| x != v),
            Loc::Cc(_) => self.bools.retain(|&x| x != v),
            Loc::Word => self.guest_flags.retain(|&x| x != v),
            Loc::Slot(s) => self.free_slot(s),
            Loc::Vec(r) => {
                self.free_vec(v, r);
                self.unhold(v);
            }
            Loc::GuestV(_) | Loc::ZeroV => self.unhold(v),
            Loc::VecSlot(s) => {
                self.free_pair(s);
                self.unhold(v);
            }
            _ => {}
        }
        self.val[v.index()].loc = Loc::None;
        if self.native.is_some_and(|(f, _)| f == v) {
            self.native = None;
        }
    }

    pub fn end_value(&mut self, v: Value) {
        if self.an.facts[v.index()].last as usize == self.at {
            self.release(v);
        }
    }

    /// After an op: frees transients and what has died.
    pub fn end_op(&mut self) {
        let inst = self.insts[self.at];
        for v in inst.used() {
            if self.an.facts[v.index()].late {
                self.end_parts(v);
            }
            self.end_value(v);
        }
        if self.an.facts[self.at].last == 0 {
            self.release(Value(self.at as u32));
        }
        for r in TEMPS {
            if self.owner[r as usize] == Owner::Transient {
                self.owner[r as usize] = Owner::Free;
            }
        }
        self.locked = 0;
        self.end_vec();
    }
}
