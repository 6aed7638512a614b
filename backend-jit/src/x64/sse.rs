//! Vector operations: each is one host instruction, on registers that `vecregs` deals out.
//!
//! The host's MXCSR is the guest's with all exceptions masked, so that floating point is the host's own, with its
//! rounding, its NaNs and its sticky flags.
//!
//! A load whose value only the next operation uses becomes that operation's memory operand, and a lane that is only
//! stored is stored from the vector register: see `fold_load` and `lane`.

use super::asm::{Opc, RCX, Reg, Rm};
use super::dot::is_dot;
use super::mem::Stored;
use super::vecenc::{Coding, Form, coding};
use super::{Codegen, Loc};
use crate::helpers::Helper;
use emu_core::ir::{Inst, Op, Type, Value, VecOp};

impl Codegen {
    pub fn vector(&mut self, me: Value, inst: &Inst) {
        self.vec_enter();
        let Some(op) = VecOp::from_number(inst.aux) else {
            return match coding(inst, self.needs_wide(inst)) {
                Some(c) => self.coded(me, inst, c),
                None => self.frame.fail("no such vector operation"),
            };
        };
        if self.needs_wide(inst) && !self.host.avx2 {
            return self.frame.unsupported("256-bit vectors on this host");
        }
        match op {
            VecOp::FromInt => self.int_to_vec(me, inst),
            VecOp::Lane => self.lane(me, inst),
            VecOp::SetLane => self.set_lane(me, inst),
            VecOp::Pblendvb if !self.host.avx => self.frame.unsupported("pblendvb on this host"),
            _ => match coding(inst, self.needs_wide(inst)) {
                Some(c) => self.coded(me, inst, c),
                None => self.frame.unsupported(op.name()),
            },
        }
    }

    fn needs_wide(&self, inst: &Inst) -> bool {
        inst.ty == Type::V256 || inst.args.iter().any(|&v| self.is_wide_vec(v))
    }

    /// Whether the host has it.
    fn has(&self, c: &Coding) -> bool {
        use emu_core::ir::encoded::Needs;
        match c.needs {
            None => c.opc.1 == 1 || self.host.sse41,
            Some(n) => {
                self.host.avx
                    && match n {
                        Needs::Avx => true,
                        Needs::Avx2 => self.host.avx2,
                        Needs::Fma => self.host.fma,
                        Needs::F16c => self.host.f16c,
                        Needs::Aes => self.host.aes,
                        Needs::Pclmul => self.host.pclmul,
                        Needs::Vaes => self.host.vaes,
                        Needs::Vpclmul => self.host.vpclmul,
                    }
            }
        }
    }

    fn coded(&mut self, me: Value, inst: &Inst, c: Coding) {
        if !self.has(&c) || c.l && !self.host.avx {
            return self.frame.unsupported("a vector operation that this host has not got");
        }
        let args = c.args(inst);
        match c.form {
            Form::Two if is_dot(&c) => self.dot(me, inst, c, args[0], args[1]),
            Form::Two => self.two(me, inst, c, args[0], args[1]),
            Form::One => self.one(me, inst, c, args[0]),
            Form::Fused => self.fused(me, inst, c, args),
            Form::Blend => {
                let rm = self.xrm(args[1]);
                let [a, m] = [args[0], args[2]].map(|v| self.xreg(v));
                let d = self.vex_dest(me, &args);
                self.vex(c.w, c.l, c.opc, d, a, rm);
                self.asm.buf.push(m << 4);
                self.made(me, d);
            }
            Form::Group(digit) => self.by_imm(me, inst, c, digit, args[0]),
            Form::ToInt => {
                let rm = if c.reg_only { Rm::R(Reg(self.xreg(args[0]))) } else { self.xrm(args[0]) };
                let d = self.dest_empty(me, &[]);
                self.simd(c, inst.ty == Type::I64 || c.w, d.reg().0, 0, rm);
                self.imm(c, inst);
                self.finish(me, d, true);
            }
            Form::Store => {
                let a = self.xreg(args[0]);
                let d = self.vex_dest(me, &[]);
                self.vex(c.w, c.l, c.opc, a, 0, Rm::R(Reg(d)));
                self.imm(c, inst);
                self.made(me, d);
            }
            Form::Compare | Form::Index => {
                self.save_flags(false);
                let rm = if c.reg_only { Rm::R(Reg(self.xreg(args[1]))) } else { self.xrm(args[1]) };
                let a = self.xreg(args[0]);
                if c.is_string_index() {
                    self.grab_fixed(RCX);
                }
                self.simd(c, c.w, a, 0, rm);
                self.imm(c, inst);
                if c.form == Form::Index {
                    self.set_temp(me, RCX, true);
                } else {
                    self.native = Some(me);
                }
            }
            Form::FromInt => {
                let wide = self.insts[args[1].index()].ty == Type::I64;
                let b = self.int_rm(args[1]);
                self.two_rm(me, inst, Coding { w: wide, ..c }, args[0], b);
            }
        }
    }

    fn imm(&mut self, c: Coding, inst: &Inst) {
        if c.imm {
            self.asm.buf.push(inst.imm as u8);
        }
    }

    /// An instruction in VEX form if the host has that, whose destination and second source do not matter for it.
    fn simd(&mut self, c: Coding, w: bool, reg: u8, other: u8, rm: Rm) {
        if self.host.avx {
            self.vex(w, c.l, c.opc, reg, other, rm);
        } else {
            self.asm.op(w, c.opc, reg, rm, 0);
        }
    }

    /// An operand in an integer register or memory.
    fn int_rm(&mut self, v: Value) -> Rm {
        match self.folded {
            Some((w, m)) if w == v => Rm::M(m),
            _ => Rm::R(self.reg(v)),
        }
    }

    /// Where a VEX form puts its result.
    fn vex_dest(&mut self, me: Value, ops: &[Value]) -> u8 {
        match self.bound(me) {
            Some((r, false)) => r,
            _ => self.dest_x(ops),
        }
    }

    /// The value in hand is in host register `d`.
    fn made(&mut self, me: Value, d: u8) {
        if d < self.pins { self.made_in(me, d) } else { self.set_x(me, d) }
    }

    fn two(&mut self, me: Value, inst: &Inst, c: Coding, a: Value, b: Value) {
        let in_memory = match self.val[a.index()].loc {
            Loc::GuestV(g) => g >= self.pins,
            loc => loc == Loc::Slot,
        };
        if a == b && inst.op == Op::Vec2 && inst.aux == VecOp::Pxor as u32 && in_memory && self.host.avx {
            // Zero, whatever is there.
            let d = self.vex_dest(me, &[]);
            self.vex(c.w, c.l, c.opc, d, d, Rm::R(Reg(d)));
            return self.made(me, d);
        }
        let rm = if c.reg_only { Rm::R(Reg(self.xreg(b))) } else { self.xrm(b) };
        self.two_rm(me, inst, c, a, rm);
    }

    fn two_rm(&mut self, me: Value, inst: &Inst, c: Coding, a: Value, rm: Rm) {
        let x = self.xreg(a);
        let vector_rm = c.form != Form::FromInt;
        match self.bound(me) {
            Some((r, false)) => {
                self.vex(c.w, c.l, c.opc, r, x, rm);
                self.imm(c, inst);
                self.made_in(me, r);
            }
            Some((r, true)) if self.holds(r, a) || !vector_rm || rm != Rm::R(Reg(r)) => {
                if !self.holds(r, a) {
                    self.legacy_copy(r, x);
                }
                self.asm.op(c.w, c.opc, r, rm, 0);
                self.imm(c, inst);
                self.made_in(me, r);
            }
            _ if self.host.avx => {
                let d = self.dest_x(&[a, inst.args[1]]);
                self.vex(c.w, c.l, c.opc, d, x, rm);
                self.imm(c, inst);
                self.set_x(me, d);
            }
            _ => {
                // A register that is not also the second operand's.
                let d = if rm == Rm::R(Reg(x)) { self.grab_x() } else { self.dest_x(&[a]) };
                if d != x {
                    self.legacy_copy(d, x);
                }
                self.asm.op(c.w, c.opc, d, rm, 0);
                self.imm(c, inst);
                self.set_x(me, d);
            }
        }
    }

    fn one(&mut self, me: Value, inst: &Inst, c: Coding, a: Value) {
        let rm = if c.reg_only { Rm::R(Reg(self.xreg(a))) } else { self.xrm(a) };
        self.one_rm(me, inst, c, a, rm);
    }

    fn one_rm(&mut self, me: Value, inst: &Inst, c: Coding, a: Value, rm: Rm) {
        match self.bound(me) {
            Some((r, legacy)) => {
                if legacy {
                    self.asm.op(c.w, c.opc, r, rm, 0);
                } else {
                    self.vex(c.w, c.l, c.opc, r, 0, rm);
                }
                self.imm(c, inst);
                self.made_in(me, r);
            }
            None => {
                let d = self.dest_x(&[a]);
                self.simd(c, c.w, d, 0, rm);
                self.imm(c, inst);
                self.set_x(me, d);
            }
        }
    }

    /// d = d op (b, c), as FMA.
    fn fused(&mut self, me: Value, inst: &Inst, c: Coding, [a, b, m]: [Value; 3]) {
        let rm = self.xrm(m);
        let (xa, xb) = (self.xreg(a), self.xreg(b));
        let busy = |d: u8| xb == d || rm == Rm::R(Reg(d));
        let d = match self.bound(me) {
            Some((r, false)) if xa == r || !busy(r) => r,
            _ if xa >= self.pins && !busy(xa) => self.dest_x(&[a]),
            _ => self.grab_x(),
        };
        if d != xa {
            self.vec_copy(c.l, d, xa);
        }
        self.vex(c.w, c.l, c.opc, d, xb, rm);
        self.imm(c, inst);
        self.made(me, d);
    }

    /// A shift by an immediate.
    fn by_imm(&mut self, me: Value, inst: &Inst, c: Coding, digit: u8, a: Value) {
        let x = self.xreg(a);
        // Immediates are bytes; larger counts shift everything out, as 255 does.
        let imm = inst.imm.clamp(0, 255) as u8;
        match self.bound(me) {
            Some((r, false)) => {
                self.vex(false, c.l, c.opc, digit, r, Rm::R(Reg(x)));
                self.asm.buf.push(imm);
                self.made_in(me, r);
            }
            Some((r, true)) => {
                if !self.holds(r, a) {
                    self.legacy_copy(r, x);
                }
                self.asm.op(false, c.opc, digit, Rm::R(Reg(r)), 0);
                self.asm.buf.push(imm);
                self.made_in(me, r);
            }
            None => {
                let d = self.dest_x(&[a]);
                if self.host.avx {
                    self.vex(false, c.l, c.opc, digit, d, Rm::R(Reg(x)));
                } else {
                    if d != x {
                        self.legacy_copy(d, x);
                    }
                    self.asm.op(false, c.opc, digit, Rm::R(Reg(d)), 0);
                }
                self.asm.buf.push(imm);
                self.set_x(me, d);
            }
        }
    }

    fn int_to_vec(&mut self, me: Value, inst: &Inst) {
        let ty = self.insts[inst.args[0].index()].ty;
        let mut r = self.reg(inst.args[0]);
        if !Self::is_wide(ty) {
            let t = self.grab();
            self.asm.zext(ty, t, Rm::R(r));
            r = t;
        }
        let c = Coding { w: ty == Type::I64, ..Coding::of(Opc(0x66, 1, 0x6e), Form::One) };
        self.one_rm(me, inst, c, Value::NONE, Rm::R(r));
    }

    fn lane(&mut self, me: Value, inst: &Inst) {
        if self.stored_lane(me, inst) {
            return;
        }
        let a = self.xreg(inst.args[0]);
        let n = inst.imm as u8;
        let d = self.dest_empty(me, &[]);
        let (r, wide) = (d.reg().0, inst.ty == Type::I64);
        match inst.ty {
            Type::I16 => {
                self.vec_one(false, Opc(0x66, 1, 0xc5), r, Rm::R(Reg(a)));
                self.asm.buf.push(n & 7);
            }
            Type::I32 | Type::I64 if n == 0 => self.vec_one(wide, Opc(0x66, 1, 0x7e), a, Rm::R(Reg(r))),
            _ if !self.host.sse41 => return self.frame.unsupported("pextr on this host"),
            Type::I8 => {
                self.vec_one(false, Opc(0x66, 3, 0x14), a, Rm::R(Reg(r)));
                self.asm.buf.push(n & 15);
            }
            _ => {
                self.vec_one(wide, Opc(0x66, 3, 0x16), a, Rm::R(Reg(r)));
                self.asm.buf.push(n & 3);
            }
        }
        self.finish(me, d, true);
    }

    /// A lane whose only use is a store of the same instruction: that will take it from the vector.
    fn stored_lane(&mut self, me: Value, inst: &Inst) -> bool {
        let n = match (inst.ty, inst.imm) {
            (Type::I32 | Type::I64, 0) => 0,
            (Type::I64, 1) => 1,
            _ => return false,
        };
        let fact = self.an.facts[me.index()];
        let at = fact.last as usize;
        let next = &self.insts[at];
        if fact.uses != 1 || next.op != Op::Store || next.args[1] != me || next.ty != inst.ty {
            return false;
        }
        if self.insts[self.at..at].iter().any(|i| matches!(i.op, Op::Guest | Op::SetVec | Op::SetVecZero)) {
            return false;
        }
        let source = &mut self.an.facts[inst.args[0].index()];
        source.last = source.last.max(at as u32);
        self.val[me.index()].loc = Loc::LaneOf(inst.args[0], n);
        true
    }

    /// A store of a lane that `stored_lane` has left in its vector.
    pub fn store_lane(&mut self, inst: &Inst, vector: Value, lane: u8) {
        let x = self.xreg(vector);
        let value = if lane == 0 { Stored::Xmm(x) } else { Stored::XmmHigh(x) };
        let m = self.probe_stored(inst, value);
        let opc = match (lane, inst.ty) {
            (0, Type::I32) => Opc(0xf3, 1, 0x11),
            (0, _) => Opc(0xf2, 1, 0x11),
            _ => Opc(0, 1, 0x17),
        };
        self.vec_one(false, opc, x, Rm::M(m));
        if !self.lives(vector) {
            self.release(vector);
        }
    }

    fn set_lane(&mut self, me: Value, inst: &Inst) {
        let ty = self.insts[inst.args[1].index()].ty;
        if ty != Type::I16 && !self.host.sse41 {
            return self.frame.unsupported("pinsr on this host");
        }
        let opc = match ty {
            Type::I8 => Opc(0x66, 3, 0x20),
            Type::I16 => Opc(0x66, 1, 0xc4),
            _ => Opc(0x66, 3, 0x22),
        };
        let rm = self.int_rm(inst.args[1]);
        let c = Coding { w: ty == Type::I64, imm: true, ..Coding::of(opc, Form::FromInt) };
        self.two_rm(me, inst, c, inst.args[0], rm);
    }

    pub fn select_vec(&mut self, me: Value, inst: &Inst) {
        self.vec_enter();
        let (b, c) = (self.xreg(inst.args[1]), self.xreg(inst.args[2]));
        let wide = self.needs_wide(inst);
        let d = self.grab_x();
        let cc = self.condition(inst.args[0]);
        self.vec_copy(wide, d, b);
        let skip = self.asm.jcc8(cc);
        self.vec_copy(wide, d, c);
        self.asm.here8(skip);
        self.set_x(me, d);
    }

    pub fn load_vec(&mut self, me: Value, inst: &Inst) {
        self.vec_enter();
        if inst.ty == Type::V256 && !self.host.avx {
            return self.frame.unsupported("256-bit load");
        }
        if self.fold_load(me, inst) {
            return;
        }
        let m = self.probe(inst, inst.args[0], inst.ty.bytes(), Helper::LoadVec, None);
        let c = Coding { l: inst.ty == Type::V256, ..Coding::of(Opc(0, 1, 0x10), Form::One) };
        self.one_rm(me, inst, c, Value::NONE, Rm::M(m));
    }

    pub fn store_vec(&mut self, inst: &Inst) {
        self.vec_enter();
        let wide = inst.ty == Type::V256;
        if wide && !self.host.avx {
            return self.frame.unsupported("256-bit store");
        }
        let x = self.xreg(inst.args[1]);
        let m = self.probe_vec(inst, Some(inst.args[1]));
        self.vec_mem(wide, true, x, m);
    }

    /// If the value that the load in hand gives is only the memory operand of the vector operation that follows, or
    /// only becomes a vector, emits both. Ops between them say where values are.
    pub fn fold_load(&mut self, me: Value, inst: &Inst) -> bool {
        let Some((user, via)) = self.vector_user(me, inst) else { return false };
        // The operand is named before the operation is emitted.
        self.settle_stack();
        self.vec_enter();
        let from = self.at;
        let vector = inst.ty.bits() > 64;
        let helper = if vector { Helper::LoadVec } else { Helper::Load };
        for j in from + 1..user {
            if self.an.facts[j].needed && Some(j) != via {
                self.at = j;
                let between = self.insts[j];
                self.passive(Value(j as u32), &between);
                self.val[j].done = true;
            }
        }
        self.at = from;
        let m = self.probe(inst, inst.args[0], inst.ty.bytes(), helper, None);
        let used = via.map_or(me, |v| Value(v as u32));
        if let Some(v) = via {
            self.val[v].done = true;
        }
        self.at = user;
        let op = self.insts[user];
        if op.op == Op::Vec1 && op.aux == VecOp::FromInt as u32 {
            // MOVD or MOVQ from memory.
            let opc = if inst.ty == Type::I64 { Opc(0xf3, 1, 0x7e) } else { Opc(0x66, 1, 0x6e) };
            self.one_rm(Value(user as u32), &op, Coding::of(opc, Form::One), Value::NONE, Rm::M(m));
        } else {
            self.folded = Some((used, m));
            self.emit(Value(user as u32), &op);
            self.folded = None;
        }
        self.val[user].done = true;
        self.at = from;
        true
    }

    /// The operation to fold the load in hand into, and the `FromInt` between them.
    fn vector_user(&self, me: Value, inst: &Inst) -> Option<(usize, Option<usize>)> {
        let next = |from: usize, v: Value| {
            let fact = self.an.facts[v.index()];
            if fact.uses != 1 {
                return None;
            }
            for j in from + 1..self.insts.len() {
                if !self.an.facts[j].needed {
                    continue;
                }
                match self.insts[j].op {
                    Op::Const | Op::GetReg | Op::GetVec => {}
                    Op::Vec1 | Op::Vec2 | Op::Vec3 | Op::Fp if fact.last as usize == j => return Some(j),
                    _ => return None,
                }
            }
            None
        };
        let user = next(self.at, me)?;
        let is = |j: usize, op: VecOp| self.insts[j].op != Op::Fp && self.insts[j].aux == op as u32;
        if inst.ty.bits() > 64 {
            let fits = self.takes_memory(user, me, inst.ty);
            return (fits && self.tolerates(user, inst)).then_some((user, None));
        }
        if is(user, VecOp::SetLane) {
            return (self.insts[user].args[1] == me && self.host.sse41).then_some((user, None));
        }
        if self.insts[user].op == Op::Fp && self.takes_memory(user, me, inst.ty) {
            // CVTSI2SS and SD.
            return Some((user, None));
        }
        if !is(user, VecOp::FromInt) {
            return None;
        }
        let v = Value(user as u32);
        if let Some(second) = next(user, v)
            && self.takes_memory(second, v, inst.ty)
        {
            return Some((second, Some(user)));
        }
        matches!(inst.ty, Type::I32 | Type::I64).then_some((user, None))
    }

    /// Whether the alignment of what the load in hand reads does not matter for operation `j`: VEX encodings do not care.
    fn tolerates(&self, j: usize, load: &Inst) -> bool {
        let set = self.an.facts[j].vset as usize;
        let keeps = set != 0 && self.insts[set].op == Op::SetVec && self.insts[set].ty == Type::V128;
        let checked = |i: &&Inst| i.op == Op::CheckAlign && i.args[0] == load.args[0] && i.imm % 16 == 0;
        let before = self.insts[..self.at].iter().rev().take_while(|i| i.op != Op::Guest);
        self.host.avx && !keeps || before.filter(checked).count() != 0
    }

    /// Whether operation `j` may have `v`, of `ty` in memory, as its r/m operand.
    fn takes_memory(&self, j: usize, v: Value, ty: Type) -> bool {
        let inst = &self.insts[j];
        let Some(c) = coding(inst, self.needs_wide(inst)) else { return false };
        let args = c.args(inst);
        let n = match c.form {
            Form::One | Form::ToInt => 0,
            Form::Two | Form::Blend | Form::Compare | Form::FromInt => 1,
            Form::Fused => 2,
            Form::Group(_) | Form::Store | Form::Index => return false,
        };
        if c.reg_only || args[n] != v || args.iter().filter(|&&a| a == v).count() != 1 {
            return false;
        }
        // A narrow operand is what the instruction itself has in memory: then the operation reads no more.
        let narrow = ty.bits() <= 64;
        let reads_low = inst.op == Op::Fp
            || VecOp::from_number(inst.aux).is_none()
            || VecOp::from_number(inst.aux).is_some_and(|o| o.name().starts_with("pmov"));
        !narrow || c.form == Form::FromInt || reads_low
    }
}
