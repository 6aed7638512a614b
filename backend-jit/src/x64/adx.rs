//! Chains of additions whose flags stay in the host's: ADCX, ADOX, MULX, and what accesses between them do with flags.
//!
//! Accesses that find their addend without a test (see [`super::twice`]) leave the host's flags alone; in the careful form,
//! where the same access tests and may call a helper, they are kept around it. Flags that the host has and that only
//! faults could see get their word just where a fault can come: before an access that looks, or any other op that may
//! leave.

use super::asm::{Alu, Mem, RDX, Rm, state};
use super::flags::guest_word;
use super::{Codegen, Loc, NO_SLOT, alu::Dest};
use crate::layout;
use crate::regalloc::Hint;
use emu_core::ir::ops::Class;
use emu_core::ir::{Cc, Inst, Op, Type, Value};

impl Codegen {
    /// Adcx and Adox.
    pub fn add_through(&mut self, me: Value, inst: &Inst) {
        let [a, b, c] = inst.args;
        let ty = inst.ty;
        if !self.host.adx {
            return self.add_through_word(me, inst);
        }
        if self.native != Some(c) {
            self.flags_to_host(c);
        }
        let src = self.rm(b);
        let d = self.dest_from(me, a, ty, &[b]);
        if !self.lives(c) {
            // Nobody sees those flags any more; the host has the new ones in a moment.
            self.native = None;
            self.unsaved = None;
        }
        self.save_flags(false);
        let prefix = if inst.op == Op::Adcx { 0x66 } else { 0xf3 };
        self.asm.word(ty, prefix, 2, 0xf6, d.reg(), src);
        self.native_flags_of(me.index());
        self.finish(me, d, true);
    }

    /// Adcx and Adox on a host without: the carry goes through a flags word.
    fn add_through_word(&mut self, me: Value, inst: &Inst) {
        let [a, b, c] = inst.args;
        let ty = inst.ty;
        let carry = inst.op == Op::Adcx;
        let old = self.word(c);
        let src = self.src(b, ty);
        let d = self.dest_from(me, a, ty, &[b]);
        self.save_flags(false);
        self.asm.bt_mem16(old, if carry { 8 } else { 0 });
        self.alu_src(ty, Alu::Adc, d.reg(), src);
        let fact = self.an.facts[me.index()];
        if fact.mask != 0 {
            let out = state(layout::slot(layout::SAVE0));
            self.asm.setcc(Cc::B as u8, Rm::M(out));
            let (t, s) = (self.grab(), self.new_slot(1));
            let new = state(layout::slot(s));
            self.asm.load(Type::I16, t, old);
            if carry {
                self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), !0x100);
            }
            self.asm.store(Type::I16, new, t);
            self.asm.load(Type::I8, t, out);
            if carry {
                self.asm.alu_to(Type::I8, Alu::Or, Rm::M(Self::high(new)), t);
            } else {
                self.asm.store(Type::I8, new, t);
            }
            self.drop_temp(t);
            let val = &mut self.val[fact.flags as usize];
            (val.slot, val.loc) = (s as u8, Loc::Slot);
        }
        self.finish(me, d, true);
    }

    /// Both halves of an unsigned product whose flags nobody wants, by MULX: the flags stay as they are.
    pub fn mul_without_flags(&mut self, inst: &Inst, low: Value, high: Value) {
        let [a, b, _] = inst.args;
        self.copy_fixed(RDX, a, Type::I64);
        let src = self.reg(b);
        // The upper half is made before its turn, so it may only go where nothing comes between.
        let next = high.index() == low.index() + 1;
        let to_guest =
            next && matches!(self.an.facts[high.index()].hint, Hint::Full(g) if Self::pinned(g).is_some());
        let h = if to_guest { self.dest_empty(high, &[]) } else { Dest::Temp(RDX) };
        let l = self.dest_empty(low, &[]);
        self.asm.mulx(inst.ty, h.reg(), l.reg(), src);
        if h != Dest::Temp(RDX) {
            self.drop_temp(RDX);
        }
        for (v, d) in [(low, l), (high, h)] {
            self.val[v.index()].done = true;
            self.finish(v, d, true);
        }
    }

    /// Leaves the guest's new flags `f` in the host's, since only faults may see them before they are replaced. False if
    /// they have to be in their word.
    pub fn leave_unsaved(&mut self, f: Value) -> bool {
        let val = self.val[f.index()];
        if self.native != Some(f) || val.slot != NO_SLOT || val.known.is_some() {
            return false;
        }
        let behind = self.insts.iter().enumerate().skip(self.at + 1);
        let seen =
            behind.take_while(|(_, i)| i.op != Op::SetFlags).filter(|(_, i)| Self::may_leave(i)).last();
        let last = &mut self.an.facts[f.index()].last;
        *last = (*last).max(seen.map_or(0, |(at, _)| at as u32));
        self.unsaved = Some(f);
        true
    }

    /// Whether someone may see the guest's flags at `inst`: all but what certainly does not.
    fn may_leave(inst: &Inst) -> bool {
        let plain =
            matches!(inst.ty, Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Bool | Type::Flags);
        match inst.op {
            Op::Guest | Op::SetReg | Op::SetRegHi | Op::SetFlags => false,
            Op::ReadTsc => true,
            op => !(plain && matches!(op.class(), Class::Pure | Class::ReadState)),
        }
    }

    /// Gives flags that only the host has their word, before an op at which they may be seen. Plain accesses see to it
    /// themselves.
    pub fn settle_before(&mut self, inst: &Inst) {
        if self.unsaved.is_some() && !matches!(inst.op, Op::Load | Op::Store) && Self::may_leave(inst) {
            self.settle_unsaved();
        }
    }

    /// Puts the guest's flags into their word if only the host has them. The host's stay.
    pub fn settle_unsaved(&mut self) {
        let Some(f) = self.unsaved.take() else { return };
        self.with_rax(|c| c.store_flags(guest_word()));
        self.val[f.index()].in_guest = true;
        self.guest_flags.push(f);
    }

    /// Whether the host's flags hold anything that is wanted behind the op in hand, or by it if it faults.
    pub fn wants_host_flags(&self) -> bool {
        // A side exit takes them from there even where they could be made again.
        let deferred =
            |f: Value| self.deferred == Some(f) && self.an.facts[f.index()].last as usize >= self.at;
        self.unsaved.is_some()
            || self.bools.iter().any(|&b| self.lives(b))
            || self.native.is_some_and(|f| self.an.facts[f.index()].read as usize > self.at || deferred(f))
    }

    /// In the careful form, before an access that has no test in the quick one: keeps the host's flags. Returns where,
    /// for [`Self::bring_host_flags`].
    pub fn keep_host_flags(&mut self) -> Mem {
        // What a fault is to see it finds in the guest's word.
        let to = match self.unsaved {
            Some(_) => guest_word(),
            None => state(layout::slot(layout::KEPT_FLAGS)),
        };
        self.around_rax(|c| c.store_flags(to));
        to
    }

    /// Behind that access.
    pub fn bring_host_flags(&mut self, from: Mem) {
        self.around_rax(|c| c.load_flags(from));
    }
}
