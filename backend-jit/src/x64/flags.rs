//! Flags and truth values: kept in the host's flags while nothing disturbs them, else as canonical words and bytes.
//!
//! Invariants:
//! - `native` names the flags value that the host's flags hold, exact in the bits of its mask; `bools` are the truth
//!   values whose place is a condition of the host's flags;
//! - an emitter calls `save_flags` before an instruction that changes the host's flags;
//! - the guest's flags are in scratch slot `FLAGS`; `guest_flags` lists the values that are the same as that word.

use super::asm::{Alu, Mem, RAX, Rm, state};
use super::twice::Form;
use super::{Codegen, Loc, NO_SLOT, Owner};
use crate::sidetable::Recipe;
use crate::{exit, layout};
use dynasmrt::{DynasmApi, dynasm};
use emu_core::ir::{Cc, Inst, Type, Value};

/// Conditions as encoded.
pub const E: u8 = Cc::E as u8;
pub const NE: u8 = Cc::NE as u8;
pub const AE: u8 = Cc::AE as u8;

/// Place of the guest's flags word.
pub const fn guest_word() -> Mem {
    state(layout::slot(layout::FLAGS))
}

impl Codegen {
    /// The host's flags are about to change: what is in them and lives on is saved; with `own`, also what the op in
    /// hand uses last.
    pub fn save_flags(&mut self, own: bool) {
        let from = if own { self.at } else { self.at + 1 };
        while let Some(b) = self.bools.pop() {
            if self.an.facts[b.index()].last as usize >= from {
                self.save_bool(b);
            } else {
                self.val[b.index()].loc = Loc::None;
            }
        }
        if self.unsaved.is_some_and(|f| self.an.facts[f.index()].last as usize >= from) {
            self.settle_unsaved();
        }
        self.unsaved = None;
        if let Some(f) = self.native.take()
            && (self.an.facts[f.index()].read as usize >= from
                || self.deferred == Some(f)
                    && self.lazy.is_none()
                    && self.an.facts[f.index()].last as usize >= self.at)
        {
            let val = self.val[f.index()];
            if !val.in_guest && val.slot == NO_SLOT && self.only_carry(f, from) {
                self.save_carry(f);
            } else {
                self.save_native(f);
            }
        }
    }

    /// Stores the host's flags as the word of `f`, unless it has one.
    fn save_native(&mut self, f: Value) {
        let val = self.val[f.index()];
        if val.in_guest || val.slot != NO_SLOT {
            return;
        }
        let s = self.new_slot(1);
        self.val[f.index()].slot = s as u8;
        self.val[f.index()].loc = Loc::Slot;
        self.with_rax(|c| c.store_flags(state(layout::slot(s))));
    }

    /// Runs `f` with RAX free for use, without touching the host's flags. RAX no longer has an addend then.
    pub fn with_rax(&mut self, f: impl FnOnce(&mut Self)) {
        if self.owner[0].is_spare() && self.locked & 1 == 0 {
            self.owner[0] = Owner::Free;
        }
        self.around_rax(f);
    }

    /// As [`Self::with_rax`], leaving no trace: what is where does not change.
    pub fn around_rax(&mut self, f: impl FnOnce(&mut Self)) {
        let save = state(layout::slot(layout::SAVE0));
        let used = self.owner[0] != Owner::Free;
        if used {
            self.asm.store(Type::I64, save, RAX);
        }
        f(self);
        if used {
            self.asm.load(Type::I64, RAX, save);
        }
    }

    /// Stores the canonical word of the host's flags at `to`. Changes RAX alone.
    pub fn store_flags(&mut self, to: Mem) {
        self.flags_to_ax();
        self.asm.store(Type::I16, to, RAX);
    }

    /// Loads the canonical word at `from` into the host's flags. Changes RAX.
    pub fn load_flags(&mut self, from: Mem) {
        self.asm.load(Type::I16, RAX, from);
        dynasm!(self.asm; .arch x64; add al, 0x7f; sahf);
    }

    /// The canonical word of the host's flags into AX.
    pub fn flags_to_ax(&mut self) {
        dynasm!(self.asm; .arch x64; seto al; lahf);
    }

    /// Gives a truth value in the host's flags a byte of its own.
    pub fn save_bool(&mut self, b: Value) {
        let Loc::Cc(cc) = self.val[b.index()].loc else { return };
        let s = self.new_slot(1);
        self.asm.setcc(cc, Rm::M(state(layout::slot(s))));
        self.val[b.index()].slot = s as u8;
        self.val[b.index()].loc = Loc::Slot;
        self.bools.retain(|&x| x != b);
    }

    /// The op in hand left the flags of `v` in the host's flags.
    pub fn native_flags_of(&mut self, v: usize) {
        let fact = self.an.facts[v];
        if fact.mask != 0 {
            self.native = Some(Value(fact.flags));
        }
    }

    /// AX holds the canonical word of the flags of `v`.
    pub fn word_flags_of(&mut self, v: usize) {
        let fact = self.an.facts[v];
        let s = self.new_slot(1);
        self.asm.store(Type::I16, state(layout::slot(s)), RAX);
        self.word_in_ax = Some((Value(fact.flags), self.asm.buf.len()));
        let f = &mut self.val[fact.flags as usize];
        f.slot = s as u8;
        f.loc = Loc::Slot;
    }

    /// Whether the operation in hand is wanted for its flags alone and those are the same each time (XOR of a register
    /// with itself): then nothing is emitted for it.
    pub fn knows_flags(&mut self, me: Value) -> bool {
        let f = Value(self.an.facts[me.index()].flags);
        let Some(recipe) = Recipe::of(&self.insts, f, |_| None) else { return false };
        self.val[f.index()].known = Some(exit::to_word(recipe.flags(&[0; 16], &[])) as u16);
        true
    }

    /// A place that holds the word of `f`.
    pub fn word(&mut self, f: Value) -> Mem {
        if self.val[f.index()].in_guest {
            return guest_word();
        }
        if let Some(word) = self.val[f.index()].known
            && self.val[f.index()].slot == NO_SLOT
        {
            let s = self.new_slot(1);
            self.asm.store_imm(Type::I16, state(layout::slot(s)), word.into());
            self.val[f.index()].slot = s as u8;
            self.val[f.index()].loc = Loc::Slot;
        }
        if self.native == Some(f) {
            self.save_native(f);
        }
        if self.val[f.index()].carry {
            self.frame.fail("flags of which only CF was kept");
        }
        self.slot_of(f)
    }

    /// The place of the high byte of a flags word: SF to CF.
    pub fn high(m: Mem) -> Mem {
        Mem { disp: m.disp + 1, ..m }
    }

    /// Loads `f` into the host's flags.
    pub fn flags_to_host(&mut self, f: Value) {
        let m = self.word(f);
        self.save_flags(true);
        self.with_rax(|c| c.load_flags(m));
        self.native = Some(f);
    }

    pub fn get_flags(&mut self, me: Value) {
        self.val[me.index()].in_guest = true;
        self.guest_flags.push(me);
    }

    pub fn set_flags(&mut self, inst: &Inst) {
        let f = inst.args[0];
        self.forget_lazy();
        self.deferred = None;
        self.unsaved = None;
        if self.val[f.index()].in_guest {
            return;
        }
        let known = self.val[f.index()].known;
        if inst.aux != 0 && (self.try_lazy(f) || inst.aux == 2) {
            self.deferred = Some(f);
            if known.is_some() && self.lazy.is_none() {
                self.word(f);
            }
            return;
        }
        if self.product.is_some_and(|p| p.flags == f) {
            return self.frame.fail("the flags of a product are lost");
        }
        self.save_guest_word(f);
        if inst.aux == 1 && self.leave_unsaved(f) {
            return;
        }
        if let Some(word) = known {
            self.asm.store_imm(Type::I16, guest_word(), word.into());
        } else if self.native == Some(f) && self.val[f.index()].slot == NO_SLOT {
            self.with_rax(|c| c.store_flags(guest_word()));
        } else if self.twice.form == Form::Single && self.word_in_ax == Some((f, self.asm.buf.len())) {
            self.asm.store(Type::I16, guest_word(), RAX);
        } else {
            let m = self.word(f);
            self.with_rax(|c| {
                c.asm.load(Type::I16, RAX, m);
                c.asm.store(Type::I16, guest_word(), RAX);
            });
        }
        self.val[f.index()].in_guest = true;
        self.guest_flags.push(f);
    }

    /// The guest's word is about to change: values that are the same as it and live on get words of their own.
    fn save_guest_word(&mut self, keep: Value) {
        let mut list = std::mem::take(&mut self.guest_flags);
        for &v in &list {
            self.val[v.index()].in_guest = false;
            if v == keep || !self.lives(v) || self.native == Some(v) || self.val[v.index()].slot != NO_SLOT {
                continue;
            }
            let s = self.new_slot(1);
            self.with_rax(|c| {
                c.asm.load(Type::I16, RAX, guest_word());
                c.asm.store(Type::I16, state(layout::slot(s)), RAX);
            });
            self.val[v.index()].slot = s as u8;
            self.val[v.index()].loc = Loc::Slot;
        }
        list.clear();
        self.guest_flags = list;
    }

    pub fn test_cc(&mut self, me: Value, inst: &Inst) {
        let f = inst.args[0];
        let mut cc = inst.imm as u8 & 15;
        if self.native != Some(f) && self.val[f.index()].carry {
            self.save_flags(false);
            self.carry_to_host(f);
        } else if self.native != Some(f) {
            let byte = |m: Mem, high: bool| if high { Self::high(m) } else { m };
            let (high, mask) = match cc >> 1 {
                0 => (false, 1),
                1 => (true, 1),
                2 => (true, 0x40),
                3 => (true, 0x41),
                4 => (true, 0x80),
                5 => (true, 4),
                _ => (true, 0),
            };
            if mask == 0 {
                self.flags_to_host(f);
            } else {
                let m = self.word(f);
                self.save_flags(false);
                self.asm.test_imm(Type::I8, Rm::M(byte(m, high)), mask);
                cc = NE ^ (cc & 1);
            }
        }
        self.val[me.index()].loc = Loc::Cc(cc);
        self.bools.push(me);
    }

    /// The condition code under which `b` holds; the host's flags have it when this returns.
    pub fn condition(&mut self, b: Value) -> u8 {
        if let Some(c) = self.constant(b) {
            self.save_flags(false);
            // Bytes of the state register: never zero, so the comparison decides by the constant alone.
            dynasm!(self.asm; .arch x64; cmp rbp, 0);
            return if c != 0 { NE } else { E };
        }
        if let Loc::Cc(cc) = self.val[b.index()].loc {
            return cc;
        }
        self.save_flags(false);
        let rm = self.rm(b);
        match rm {
            Rm::R(r) => self.asm.test(Type::I8, rm, r),
            Rm::M(_) => self.asm.alu_imm(Type::I8, Alu::Cmp, rm, 0),
        }
        NE
    }

    pub fn not_bool(&mut self, me: Value, inst: &Inst) {
        let cc = self.condition(inst.args[0]);
        self.val[me.index()].loc = Loc::Cc(cc ^ 1);
        self.bools.push(me);
    }

    pub fn merge_flags(&mut self, me: Value, inst: &Inst) {
        let (a, b) = (inst.args[0], inst.args[1]);
        let want = u64::from(self.an.facts[me.index()].mask);
        let mask = inst.imm as u64;
        if self.val[a.index()].merged {
            self.take_place(me, a);
            return self.copy_flags(me, a);
        }
        if want & !mask == 0 {
            return self.copy_flags(me, a);
        }
        if want & mask == 0 {
            return self.copy_flags(me, b);
        }
        let (ma, mb) = (self.word(a), self.word(b));
        self.save_flags(true);
        let keep = exit::to_word(mask) as i32;
        let t = self.grab();
        let u = self.grab();
        self.asm.load(Type::I16, t, ma);
        self.asm.load(Type::I16, u, mb);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), keep);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(u), !keep & 0xffff);
        self.asm.alu(Type::I32, Alu::Or, t, Rm::R(u));
        self.new_word(me, t);
    }

    /// Whoever would use the flags `f` from here on uses `me`, which are the same.
    fn take_place(&mut self, me: Value, f: Value) {
        let last = self.an.facts[f.index()].last as usize;
        for i in self.insts.iter_mut().take(last + 1).skip(self.at + 1) {
            for v in i.args.iter_mut().filter(|v| **v == f) {
                *v = me;
            }
        }
        let old = self.an.facts[f.index()];
        let new = &mut self.an.facts[me.index()];
        (new.last, new.read) = (new.last.max(old.last), new.read.max(old.read));
        new.mask |= old.mask;
        let at = self.at as u32;
        let old = &mut self.an.facts[f.index()];
        (old.last, old.read) = (old.last.min(at), old.read.min(at));
    }

    pub fn new_word(&mut self, me: Value, from: super::asm::Reg) {
        let s = self.new_slot(1);
        self.asm.store(Type::I16, state(layout::slot(s)), from);
        self.val[me.index()].slot = s as u8;
        self.val[me.index()].loc = Loc::Slot;
    }

    /// `me` is the same flags as `f`.
    fn copy_flags(&mut self, me: Value, f: Value) {
        if self.lives(f) {
            let m = self.word(f);
            self.with_rax(|c| {
                c.asm.load(Type::I16, RAX, m);
                c.new_word(me, RAX);
            });
            return;
        }
        let old = self.val[f.index()];
        if self.native == Some(f) {
            self.native = Some(me);
        }
        if old.in_guest {
            self.guest_flags.retain(|&x| x != f);
            self.guest_flags.push(me);
        }
        self.val[me.index()] = old;
        self.val[me.index()].merged = false;
        let val = &mut self.val[f.index()];
        (val.loc, val.slot, val.in_guest) = (Loc::None, NO_SLOT, false);
    }

    pub fn select_flags(&mut self, me: Value, inst: &Inst) {
        let (mb, mc) = (self.word(inst.args[1]), self.word(inst.args[2]));
        let t = self.grab();
        let cc = self.condition(inst.args[0]);
        self.asm.load(Type::I16, t, mc);
        self.asm.cmov(Type::I32, cc, t, Rm::M(mb));
        self.new_word(me, t);
    }

    pub fn pack_flags(&mut self, me: Value, inst: &Inst) {
        let m = self.word(inst.args[0]);
        self.save_flags(true);
        let t = self.grab();
        let u = self.grab();
        self.asm.load(Type::I8, t, Self::high(m));
        self.asm.load(Type::I8, u, m);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), 0xd5);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(u), 1);
        self.asm.shift_imm(Type::I32, super::asm::Shift::Shl, Rm::R(u), 11);
        self.asm.alu(Type::I32, Alu::Or, t, Rm::R(u));
        self.set_temp(me, t, true);
    }

    pub fn unpack_flags(&mut self, me: Value, inst: &Inst) {
        self.save_flags(true);
        let t = self.grab();
        let u = self.grab();
        self.copy_to(t, inst.args[0], Type::I32);
        self.asm.mov(Type::I32, u, t);
        self.asm.shift_imm(Type::I32, super::asm::Shift::Shl, Rm::R(t), 8);
        self.asm.shift_imm(Type::I32, super::asm::Shift::Shr, Rm::R(u), 11);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(u), 1);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), 0xd500);
        self.asm.alu(Type::I32, Alu::Or, t, Rm::R(u));
        self.new_word(me, t);
    }
}
