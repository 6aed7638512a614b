//! Addition, subtraction, logic, comparison and address arithmetic.

use super::asm::{Alu, Mem, Reg, Rm, state};
use super::flags::guest_word;
use super::vals::Src;
use super::{Codegen, Loc, NO_SLOT, Owner};
use crate::layout;
use crate::regalloc::Hint;
use emu_core::ir::{Cc, Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

/// Where an op computes: a host register that is a guest register, or a temporary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dest {
    Guest(u8, Reg),
    /// The low part of a guest register.
    Part(u8, Reg),
    Temp(Reg),
}

impl Dest {
    pub fn reg(self) -> Reg {
        match self {
            Dest::Guest(_, r) | Dest::Part(_, r) | Dest::Temp(r) => r,
        }
    }
}

/// Where INC and DEC find the CF that they keep.
#[derive(Clone, Copy, Debug)]
pub enum Carry {
    /// In this flags word.
    Word(Mem),
    /// In the host's flags; with the number of the `MergeFlags` that wants it.
    Native(usize),
}

impl Codegen {
    /// A register in which to compute the value in hand, without contents. Operands in `avoid` must not be in it.
    pub fn dest_empty(&mut self, me: Value, avoid: &[Value]) -> Dest {
        if let Hint::Full(g) = self.an.facts[me.index()].hint
            && let Some(h) = Self::pinned(g)
            && !avoid.iter().any(|v| v.is_some() && self.val[v.index()].loc == Loc::Guest(g))
        {
            self.save_aliases(g, Value::NONE);
            return Dest::Guest(g, h);
        }
        Dest::Temp(self.grab())
    }

    /// A register that holds `a`, in which the value in hand is computed in place; `others` stay intact.
    pub fn dest_from(&mut self, me: Value, a: Value, ty: Type, others: &[Value]) -> Dest {
        let at_guest = match self.val[a.index()].loc {
            Loc::Guest(g) => Some(g),
            _ => None,
        };
        let hint = self.an.facts[me.index()].hint;
        if let Hint::Full(g) | Hint::Part(g) = hint
            && let Some(h) = Self::pinned(g)
            && (matches!(hint, Hint::Full(_)) || at_guest == Some(g) && self.insts[a.index()].ty == ty)
            && !others.iter().any(|&v| v.is_some() && v != a && self.val[v.index()].loc == Loc::Guest(g))
        {
            self.save_aliases(g, Value::NONE);
            if at_guest != Some(g) {
                self.copy_to(h, a, ty);
            }
            return if matches!(hint, Hint::Full(_)) { Dest::Guest(g, h) } else { Dest::Part(g, h) };
        }
        if let Loc::Temp(t) = self.val[a.index()].loc
            && !self.lives(a)
            && !(others.contains(&a) && self.insts[a.index()].op == Op::Const)
        {
            self.owner[t.0 as usize] = Owner::Transient;
            self.lock(t);
            self.val[a.index()].loc = Loc::None;
            return Dest::Temp(t);
        }
        if let Some(t) = self.take_copy(a) {
            return Dest::Temp(t);
        }
        let t = self.grab();
        self.copy_to(t, a, ty);
        Dest::Temp(t)
    }

    /// The value in hand is in `d`. `clean`: with zeros above its width.
    pub fn finish(&mut self, me: Value, d: Dest, clean: bool) {
        match d {
            Dest::Guest(g, _) => self.set_guest(me, g, clean),
            Dest::Part(g, _) => self.set_guest(me, g, false),
            Dest::Temp(r) => self.set_temp(me, r, clean),
        }
    }

    pub fn is_wide(ty: Type) -> bool {
        matches!(ty, Type::I32 | Type::I64)
    }

    /// Add, Sub, And, Or, Xor.
    pub fn alu2(&mut self, me: Value, inst: &Inst, op: Alu) {
        let ty = inst.ty;
        let fact = self.an.facts[me.index()];
        let (mut a, mut b) = (inst.args[0], inst.args[1]);
        let commutes = op != Alu::Sub;
        if commutes && a != b {
            let in_hint = |v: Value| match fact.hint {
                Hint::Full(g) | Hint::Part(g) => self.val[v.index()].loc == Loc::Guest(g),
                Hint::None => false,
            };
            let dying = |v: Value| matches!(self.val[v.index()].loc, Loc::Temp(_)) && !self.lives(v);
            if self.constant(a).is_some() || in_hint(b) && !in_hint(a) || !in_hint(a) && !dying(a) && dying(b)
            {
                std::mem::swap(&mut a, &mut b);
            }
        }
        if fact.last == 0 {
            if self.knows_flags(me) {
                return;
            }
            if matches!(op, Alu::Sub | Alu::And) {
                return self.compare(me, ty, op, a, b);
            }
        }
        if fact.mask == 0 && matches!(op, Alu::Add | Alu::Sub) && self.try_lea(me, ty, op, a, b) {
            return;
        }
        if self.in_memory(me, ty, op, a, b) {
            return;
        }
        let src = self.src(b, ty);
        let step = self.is_step(me, op, src);
        self.give_carry(step);
        self.save_flags(false);
        let d = self.dest_from(me, a, ty, &[b]);
        if let Some(carry) = step {
            self.step(me, ty, op, Rm::R(d.reg()), carry);
        } else {
            let narrow = !Self::is_wide(ty) && fact.mask == 0 && !matches!(d, Dest::Part(..));
            let w = if narrow && !matches!(src, Src::Rm(Rm::M(_))) { Type::I32 } else { ty };
            self.alu_src(w, op, d.reg(), src);
        }
        self.native_flags_of(me.index());
        self.finish(me, d, Self::is_wide(ty));
    }

    pub fn alu_src(&mut self, ty: Type, op: Alu, d: Reg, src: Src) {
        match src {
            Src::Imm(i) => self.asm.alu_imm(ty, op, Rm::R(d), i),
            Src::Rm(rm) => self.asm.alu(ty, op, d, rm),
        }
    }

    /// Whether this is an INC or DEC: an addition or subtraction of one whose flags are wanted without CF, to be
    /// merged with the CF of flags that are at hand.
    pub fn is_step(&self, me: Value, op: Alu, src: Src) -> Option<Carry> {
        let fact = self.an.facts[me.index()];
        if !matches!(op, Alu::Add | Alu::Sub)
            || src != Src::Imm(1)
            || fact.mask == 0
            || u64::from(fact.mask) & rflags::CF != 0
        {
            return None;
        }
        let f = Value(fact.flags);
        let behind = self.insts.iter().enumerate().skip(f.index() + 1).take(8);
        let (at, merge) = behind.into_iter().find(|(_, i)| i.op == Op::MergeFlags && i.args[0] == f)?;
        let keeps = merge.imm as u64 & rflags::STATUS == rflags::STATUS & !rflags::CF
            && u64::from(self.an.facts[at].mask) & rflags::CF != 0;
        let carry = merge.args[1];
        if !keeps {
            None
        } else if self.is_guest_word(carry, me) {
            Some(Carry::Word(guest_word()))
        } else if carry.index() >= me.index() {
            None
        } else if self.native == Some(carry) {
            Some(Carry::Native(at))
        } else {
            let slot = self.val[carry.index()].slot;
            (slot != NO_SLOT).then(|| Carry::Word(state(layout::slot(slot.into()))))
        }
    }

    /// An INC or DEC takes its CF from the host's flags: if it is all that still wants them, they need no word.
    fn give_carry(&mut self, step: Option<Carry>) {
        let Some(Carry::Native(merge)) = step else { return };
        let carry = self.insts[merge].args[1];
        let only = self.an.facts[carry.index()].read as usize == merge
            && (self.at + 1..merge).all(|i| !self.insts[i].used().any(|v| v == carry));
        if only && self.deferred != Some(carry) {
            self.native = None;
        }
    }

    /// Whether `f` is the guest's flags word as it is at the op in hand; it may be read further on.
    fn is_guest_word(&self, f: Value, me: Value) -> bool {
        if f.index() < me.index() {
            return self.val[f.index()].in_guest;
        }
        let between = &self.insts[me.index()..f.index()];
        self.insts[f.index()].op == Op::GetFlags && between.iter().all(|i| i.op != Op::SetFlags)
    }

    /// INC or DEC, which keep CF. What is in the host's flags and lives on has been saved.
    pub fn step(&mut self, me: Value, ty: Type, op: Alu, d: Rm, carry: Carry) {
        self.val[self.an.facts[me.index()].flags as usize].merged = true;
        if let Carry::Word(m) = carry {
            self.asm.bt_mem16(m, 8);
        }
        self.asm.sized(ty, 0, 0xfe, u8::from(op != Alu::Add), d, 2);
    }

    /// The operation `me` on what is in memory.
    pub fn alu_on(&mut self, m: Mem, me: Value, ty: Type, op: Alu, src: Src, step: Option<Carry>) {
        match (step, src) {
            (Some(carry), _) => self.step(me, ty, op, Rm::M(m), carry),
            (_, Src::Imm(i)) => self.asm.alu_imm(ty, op, Rm::M(m), i),
            (_, Src::Rm(Rm::R(r))) => self.asm.alu_to(ty, op, Rm::M(m), r),
            (_, Src::Rm(Rm::M(_))) => self.frame.fail("memory to memory"),
        }
    }

    /// An operation on a guest register that lives in memory, in place.
    fn in_memory(&mut self, me: Value, ty: Type, op: Alu, a: Value, b: Value) -> bool {
        let Hint::Full(g) = self.an.facts[me.index()].hint else { return false };
        if ty != Type::I64 || Self::pinned(g).is_some() || self.val[a.index()].loc != Loc::Guest(g) {
            return false;
        }
        let m = state(layout::gpr(g as usize));
        let src = match self.src(b, ty) {
            Src::Rm(Rm::M(_)) => Src::Rm(Rm::R(self.reg(b))),
            s => s,
        };
        let step = self.is_step(me, op, src);
        self.give_carry(step);
        self.save_flags(false);
        self.save_aliases(g, Value::NONE);
        self.alu_on(m, me, ty, op, src, step);
        self.native_flags_of(me.index());
        self.set_guest(me, g, true);
        true
    }

    /// A sum without flags into another register.
    fn try_lea(&mut self, me: Value, ty: Type, op: Alu, a: Value, b: Value) -> bool {
        if !Self::is_wide(ty) || self.constant(a).is_some() {
            return false;
        }
        let imm = self.imm32(b, ty);
        if op == Alu::Sub && imm.is_none_or(|i| i == i32::MIN) {
            return false;
        }
        // In place an addition is as good, unless it would disturb flags that are wanted.
        let in_place = match (self.an.facts[me.index()].hint, self.val[a.index()].loc) {
            (Hint::Full(g), Loc::Guest(h)) => g == h,
            (Hint::None, Loc::Temp(_)) => !self.lives(a),
            _ => false,
        };
        if in_place && self.native.is_none() && self.bools.is_empty() {
            return false;
        }
        if matches!(self.an.facts[me.index()].hint, Hint::Full(g) if Self::pinned(g).is_none()) && in_place {
            return false;
        }
        let disp = imm.map(|i| if op == Alu::Sub { -i } else { i });
        let base = self.reg(a);
        let index = if disp.is_none() { Some(self.reg(b)) } else { None };
        self.lea_to(me, ty, Some((base, a)), index.map(|r| (r, b)), 0, disp.unwrap_or(0));
        true
    }

    /// A temporary for a sum of these, of which one may go that is in memory, too.
    fn grab_or_copy(&mut self, parts: [Option<(Reg, Value)>; 2]) -> Reg {
        let copy = |r: Reg| matches!(self.owner[r.0 as usize], Owner::Copy(_));
        match parts.into_iter().flatten().find(|&(r, _)| copy(r)) {
            Some((r, _)) if self.vacant().is_none() => {
                self.owner[r.0 as usize] = Owner::Transient;
                r
            }
            _ => self.grab(),
        }
    }

    fn lea_to(
        &mut self,
        me: Value,
        ty: Type,
        base: Option<(Reg, Value)>,
        index: Option<(Reg, Value)>,
        scale: u8,
        disp: i32,
    ) {
        let wide = if ty == Type::I64 { Type::I64 } else { Type::I32 };
        let d = match self.an.facts[me.index()].hint {
            Hint::Full(g) if Self::pinned(g).is_some() => self.dest_empty(me, &[]),
            _ => {
                let dying = [base, index]
                    .into_iter()
                    .flatten()
                    .find(|&(r, v)| self.owner[r.0 as usize] == Owner::Val(v) && r.0 < 3 && !self.lives(v));
                match dying {
                    Some((r, v)) => {
                        self.val[v.index()].loc = Loc::None;
                        self.owner[r.0 as usize] = Owner::Transient;
                        Dest::Temp(r)
                    }
                    None => match [base, index]
                        .into_iter()
                        .flatten()
                        .find(|&(r, _)| self.owner[r.0 as usize] == Owner::Transient && r.0 < 3)
                    {
                        Some((r, _)) => Dest::Temp(r),
                        None => Dest::Temp(self.grab_or_copy([base, index])),
                    },
                }
            }
        };
        match (base, index) {
            (Some((b, _)), i) => {
                let m = Mem { base: b, index: i.map(|(r, _)| r), scale, disp };
                if i.is_none() && disp == 0 {
                    self.asm.mov(wide, d.reg(), b);
                } else {
                    self.asm.lea(wide, d.reg(), m);
                }
            }
            (None, Some((i, _))) if scale == 0 => {
                self.asm.lea(wide, d.reg(), Mem { base: i, index: None, scale: 0, disp });
            }
            (None, Some((i, _))) => {
                // Without a base the encoding wants 32 bits of displacement.
                self.lea_no_base(wide, d.reg(), i, scale, disp);
            }
            (None, None) => self.asm.mov_imm(d.reg(), disp as i64 as u64),
        }
        self.finish(me, d, Self::is_wide(ty));
    }

    fn lea_no_base(&mut self, ty: Type, d: Reg, i: Reg, scale: u8, disp: i32) {
        let rex = u8::from(ty == Type::I64) << 3 | (d.0 >> 3) << 2 | (i.0 >> 3) << 1;
        if rex != 0 {
            self.asm.buf.push(0x40 | rex);
        }
        self.asm.buf.extend_from_slice(&[0x8d, (d.0 & 7) << 3 | 4, scale << 6 | (i.0 & 7) << 3 | 5]);
        self.asm.buf.extend_from_slice(&disp.to_le_bytes());
    }

    pub fn lea(&mut self, me: Value, inst: &Inst) {
        if self.stays_behind(me, inst) {
            return;
        }
        let ty = inst.ty;
        let (mut a, mut b) = (inst.args[0], inst.args[1]);
        let mut disp = inst.imm;
        let scale = inst.aux as u8;
        if a.is_some()
            && let Some(c) = self.constant(a)
        {
            disp = disp.wrapping_add(c as i64);
            a = Value::NONE;
        }
        if b.is_some()
            && let Some(c) = self.constant(b)
        {
            disp = disp.wrapping_add((c << scale) as i64);
            b = Value::NONE;
        }
        if ty != Type::I64 {
            disp = i64::from(disp as i32);
        }
        let base = a.is_some().then(|| (self.reg(a), a));
        let index = b.is_some().then(|| (self.reg(b), b));
        let Ok(small) = i32::try_from(disp) else {
            // A displacement beyond 32 bits: as a register of its own.
            self.save_flags(false);
            let d = self.grab();
            self.asm.mov_imm(d, disp as u64);
            if let Some((r, _)) = base {
                self.asm.alu(ty, Alu::Add, d, Rm::R(r));
            }
            if let Some((r, _)) = index {
                self.asm.lea(ty, d, Mem { base: d, index: Some(r), scale, disp: 0 });
            }
            self.set_temp(me, d, true);
            return;
        };
        if base.is_none() && index.is_none() {
            let d = self.dest_empty(me, &[]);
            let v = if ty == Type::I64 { disp as u64 } else { u64::from(disp as u32) };
            self.asm.mov_imm(d.reg(), v);
            self.finish(me, d, Self::is_wide(ty));
            return;
        }
        self.lea_to(me, ty, base, index, scale, small);
    }

    /// A comparison whose difference or conjunction nobody wants.
    fn compare(&mut self, me: Value, ty: Type, op: Alu, a: Value, b: Value) {
        self.save_flags(false);
        self.compare_flags(ty, op, a, b);
        self.native_flags_of(me.index());
    }

    fn compare_flags(&mut self, ty: Type, op: Alu, a: Value, b: Value) {
        let src = self.src(b, ty);
        let mut left = self.rm(a);
        if op == Alu::And {
            match (left, src) {
                (_, Src::Imm(i)) => self.asm.test_imm(ty, left, i),
                (Rm::R(r), Src::Rm(rm)) => self.asm.test(ty, rm, r),
                (_, Src::Rm(Rm::R(r))) => self.asm.test(ty, left, r),
                (_, Src::Rm(rm)) => {
                    let r = self.reg(a);
                    self.asm.test(ty, rm, r);
                }
            }
            return;
        }
        if matches!(left, Rm::M(_)) && matches!(src, Src::Rm(Rm::M(_))) {
            left = Rm::R(self.reg(a));
        }
        match (left, src) {
            (Rm::R(r), Src::Imm(0)) => self.asm.test(ty, left, r),
            (_, Src::Imm(i)) => self.asm.alu_imm(ty, Alu::Cmp, left, i),
            (Rm::R(r), Src::Rm(rm)) => self.asm.alu(ty, Alu::Cmp, r, rm),
            (Rm::M(_), Src::Rm(Rm::R(r))) => self.asm.alu_to(ty, Alu::Cmp, left, r),
            (Rm::M(_), Src::Rm(Rm::M(_))) => self.frame.fail("memory to memory"),
        }
    }

    /// CmpEq and its kin.
    pub fn compare_bool(&mut self, me: Value, inst: &Inst) {
        let cc = match inst.op {
            Op::CmpEq => Cc::E,
            Op::CmpNe => Cc::NE,
            Op::CmpUlt => Cc::B,
            Op::CmpUle => Cc::BE,
            Op::CmpSlt => Cc::L,
            _ => Cc::LE,
        };
        self.save_flags(true);
        let ty = self.insts[inst.args[0].index()].ty;
        self.compare_flags(ty, Alu::Sub, inst.args[0], inst.args[1]);
        self.val[me.index()].loc = Loc::Cc(cc as u8);
        self.bools.push(me);
    }

    /// Adc and Sbb.
    pub fn alu_carry(&mut self, me: Value, inst: &Inst, op: Alu) {
        let ty = inst.ty;
        let (a, b, c) = (inst.args[0], inst.args[1], inst.args[2]);
        let native = self.native == Some(c);
        let src = self.src(b, ty);
        let d = self.dest_from(me, a, ty, &[b]);
        let kept = self.val[c.index()].carry;
        let at = if native || kept { None } else { Some(self.word(c)) };
        self.save_flags(false);
        if let Some(m) = at {
            self.asm.bt_mem16(m, 8);
        } else if !native {
            self.carry_to_host(c);
        }
        self.alu_src(ty, op, d.reg(), src);
        self.native_flags_of(me.index());
        self.finish(me, d, Self::is_wide(ty));
    }

    /// Not and Neg.
    pub fn unary(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        if inst.op == Op::Neg {
            self.save_flags(false);
        }
        let d = self.dest_from(me, inst.args[0], ty, &[]);
        self.asm.unary(ty, if inst.op == Op::Not { 2 } else { 3 }, Rm::R(d.reg()));
        if inst.op == Op::Neg {
            self.native_flags_of(me.index());
        }
        self.finish(me, d, Self::is_wide(ty));
    }
}
