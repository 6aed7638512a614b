//! Vector operations. Guest vector registers live in the state; values of a block live in host vector registers.
//!
//! The host's MXCSR is the guest's with all exceptions masked, so that floating point is the host's own, with its
//! rounding, its NaNs and its sticky flags.

use super::asm::{Mem, Opc, Reg, Rm, state};
use super::vecenc::{Form, float, integer, shift_imm};
use super::{Codegen, Loc, NO_SLOT, vecenc};
use crate::layout;
use emu_core::ir::{Inst, Op, Type, Value, VecOp};

/// Vector registers for values: the last one is scratch.
const VALUES: u8 = vecenc::SCRATCH;

impl Codegen {
    pub fn vector(&mut self, me: Value, inst: &Inst) {
        let wide = |v: &Value| v.is_some() && self.insts[v.index()].ty == Type::V256;
        if inst.ty == Type::V256 || inst.args.iter().any(wide) {
            return self.unsupported("256-bit vectors");
        }
        match inst.op {
            Op::GetVec => {
                let x = self.grab_x();
                self.vec_mem(false, x, state(layout::vec(inst.imm as usize & 31)));
                self.set_x(me, x);
            }
            Op::SetVec | Op::SetVecZero => {
                let x = self.xreg(inst.args[0]);
                let at = layout::vec(inst.imm as usize & 31);
                self.vec_mem(true, x, state(at));
                if inst.op == Op::SetVecZero {
                    for i in 2..8 {
                        self.asm.store_imm(Type::I64, state(at + 8 * i), 0);
                    }
                }
            }
            _ => {
                let Some(op) = VecOp::from_number(inst.aux) else {
                    return self.fail("no such vector operation");
                };
                self.vec_op(me, inst, op);
            }
        }
    }

    fn vec_op(&mut self, me: Value, inst: &Inst, op: VecOp) {
        if inst.op == Op::Vec1
            && let Some((opc, ext)) = shift_imm(op)
        {
            return self.by_imm(me, inst, opc, ext);
        }
        let table = if inst.op == Op::Fp { float(op) } else { integer(op) };
        let Some((opc, form)) = table else {
            return match op {
                VecOp::FromInt => self.int_to_vec(me, inst),
                VecOp::Lane => self.lane(me, inst),
                VecOp::SetLane => self.set_lane(me, inst),
                VecOp::Pblendvb => self.blend(me, inst),
                _ => self.unsupported(op.name()),
            };
        };
        if opc.1 > 1 && !self.host.sse41 {
            return self.unsupported("an operation beyond the host's SSE");
        }
        let one = if inst.op == Op::Fp { 1 } else { 0 };
        match form {
            Form::Two | Form::TwoImm => {
                let (a, b) = (self.xreg(inst.args[0]), self.xreg(inst.args[1]));
                let d = self.dest_x(&[(inst.args[0], a), (inst.args[1], b)]);
                self.vec_two(false, opc, d, a, Rm::R(Reg(b)));
                if form == Form::TwoImm {
                    self.asm.buf.push(inst.imm as u8);
                }
                self.set_x(me, d);
            }
            Form::One | Form::OneImm => {
                let a = self.xreg(inst.args[one]);
                let d = self.dest_x(&[(inst.args[one], a)]);
                self.vec_one(false, opc, d, Rm::R(Reg(a)));
                if form == Form::OneImm {
                    self.asm.buf.push(inst.imm as u8);
                }
                self.set_x(me, d);
            }
            Form::ShiftImm(ext) => self.by_imm(me, inst, opc, ext),
            Form::ToInt => {
                let v = if inst.args[1].is_some() { inst.args[1] } else { inst.args[0] };
                let a = self.xreg(v);
                let d = self.dest_empty(me, &[]);
                self.vec_one(inst.ty == Type::I64, opc, d.reg().0, Rm::R(Reg(a)));
                self.finish(me, d, true);
            }
            Form::Compare => {
                self.save_flags(false);
                let (a, b) = (self.xreg(inst.args[0]), self.xreg(inst.args[1]));
                self.vec_one(false, opc, a, Rm::R(Reg(b)));
                self.native = Some(me);
            }
            Form::FromInt => {
                let a = self.xreg(inst.args[0]);
                let wide = self.insts[inst.args[1].index()].ty == Type::I64;
                let b = self.reg(inst.args[1]);
                let d = self.dest_x(&[(inst.args[0], a)]);
                self.vec_two(wide, opc, d, a, Rm::R(b));
                self.set_x(me, d);
            }
        }
    }

    fn by_imm(&mut self, me: Value, inst: &Inst, opc: Opc, ext: u8) {
        let a = self.xreg(inst.args[0]);
        let d = self.dest_x(&[(inst.args[0], a)]);
        // Immediates are bytes; larger counts shift everything out, as 255 does.
        self.vec_shift(opc, ext, d, a, inst.imm.clamp(0, 255) as u8);
        self.set_x(me, d);
    }

    fn int_to_vec(&mut self, me: Value, inst: &Inst) {
        let ty = self.insts[inst.args[0].index()].ty;
        let mut r = self.reg(inst.args[0]);
        if !Self::is_wide(ty) {
            let t = self.grab();
            self.asm.zext(ty, t, Rm::R(r));
            r = t;
        }
        let x = self.grab_x();
        self.vec_one(ty == Type::I64, Opc(0x66, 1, 0x6e), x, Rm::R(r));
        self.set_x(me, x);
    }

    fn lane(&mut self, me: Value, inst: &Inst) {
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
            _ if !self.host.sse41 => return self.unsupported("pextr on this host"),
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

    fn set_lane(&mut self, me: Value, inst: &Inst) {
        let ty = self.insts[inst.args[1].index()].ty;
        if ty != Type::I16 && !self.host.sse41 {
            return self.unsupported("pinsr on this host");
        }
        let a = self.xreg(inst.args[0]);
        let b = self.reg(inst.args[1]);
        let d = self.dest_x(&[(inst.args[0], a)]);
        let opc = match ty {
            Type::I8 => Opc(0x66, 3, 0x20),
            Type::I16 => Opc(0x66, 1, 0xc4),
            _ => Opc(0x66, 3, 0x22),
        };
        self.vec_two(ty == Type::I64, opc, d, a, Rm::R(b));
        self.asm.buf.push(inst.imm as u8);
        self.set_x(me, d);
    }

    /// Bytes of b where the sign bit of c's is set, else of a.
    fn blend(&mut self, me: Value, inst: &Inst) {
        if !self.host.avx {
            return self.unsupported("pblendvb on this host");
        }
        let [a, b, c] = inst.args.map(|v| self.xreg(v));
        let d = self.dest_x(&[(inst.args[0], a), (inst.args[1], b), (inst.args[2], c)]);
        self.vec_two(false, Opc(0x66, 3, 0x4c), d, a, Rm::R(Reg(b)));
        self.asm.buf.push(c << 4);
        self.set_x(me, d);
    }

    pub fn select_vec(&mut self, me: Value, inst: &Inst) {
        let (b, c) = (self.xreg(inst.args[1]), self.xreg(inst.args[2]));
        let d = self.grab_x();
        let cc = self.condition(inst.args[0]);
        self.vec_move(d, b);
        let skip = self.asm.jcc8(cc);
        self.vec_move(d, c);
        self.asm.here8(skip);
        self.set_x(me, d);
    }

    pub fn load_vec(&mut self, me: Value, inst: &Inst) {
        if inst.ty == Type::V256 {
            return self.unsupported("256-bit load");
        }
        let m = self.probe_vec(inst, None);
        let x = self.grab_x();
        self.vec_mem(false, x, m);
        self.set_x(me, x);
    }

    pub fn store_vec(&mut self, inst: &Inst) {
        if inst.ty == Type::V256 {
            return self.unsupported("256-bit store");
        }
        let x = self.xreg(inst.args[1]);
        let m = self.probe_vec(inst, Some(inst.args[1]));
        self.vec_mem(true, x, m);
    }

    /// `v` in a host vector register, which is locked.
    fn xreg(&mut self, v: Value) -> u8 {
        let x = match self.val[v.index()].loc {
            Loc::Xmm(x) => x,
            Loc::Slot => {
                let m = self.slot_of(v);
                let x = self.grab_x();
                self.vec_mem(false, x, m);
                self.set_x(v, x);
                x
            }
            other => {
                debug_assert!(false, "vector {v:?} is at {other:?} at {}", self.at);
                self.fail("vector has no place");
                0
            }
        };
        self.xmm_locked |= 1 << x;
        x
    }

    fn set_x(&mut self, v: Value, x: u8) {
        self.xmm[x as usize] = Some(v);
        self.val[v.index()].loc = Loc::Xmm(x);
    }

    /// A register for a result: that of an operand which dies, or a free one.
    fn dest_x(&mut self, operands: &[(Value, u8)]) -> u8 {
        // Legacy forms compute in place of the first operand; others do not care.
        let n = if self.host.avx { operands.len() } else { 1 };
        for &(v, x) in &operands[..n] {
            if !self.lives(v) && self.xmm[x as usize] == Some(v) {
                self.val[v.index()].loc = Loc::None;
                self.xmm[x as usize] = None;
                return x;
            }
        }
        self.grab_x()
    }

    /// A free vector register, locked; spills the value that is used last if need be.
    fn grab_x(&mut self) -> u8 {
        let mut pick: Option<(u8, u32)> = None;
        for x in 0..VALUES {
            if self.xmm_locked & 1 << x != 0 {
                continue;
            }
            let last = self.xmm[x as usize].map_or(u32::MAX, |v| self.an.facts[v.index()].last);
            if pick.is_none_or(|(_, l)| last > l) {
                pick = Some((x, last));
            }
        }
        let Some((x, _)) = pick else {
            self.fail("out of vector registers");
            return 0;
        };
        if let Some(v) = self.xmm[x as usize].take() {
            if self.val[v.index()].slot == NO_SLOT {
                let s = self.new_slot(2);
                self.vec_mem(true, x, state(layout::slot(s)));
                self.val[v.index()].slot = s as u8;
            }
            self.val[v.index()].loc = Loc::Slot;
        }
        self.xmm_locked |= 1 << x;
        x
    }

    /// Vector registers that hold values.
    pub fn live_xmm(&self) -> u16 {
        self.xmm.iter().enumerate().fold(0, |m, (i, v)| m | u16::from(v.is_some()) << i)
    }

    /// Keeps vector registers on the host's stack around a helper.
    pub fn save_live_xmm(&mut self, live: u16, save: bool) {
        let bytes = 16 * live.count_ones() as i32;
        if bytes == 0 {
            return;
        }
        let rsp = Reg(4);
        let mut at = 0;
        if save {
            self.asm.lea(Type::I64, rsp, Mem { base: rsp, index: None, scale: 0, disp: -bytes });
        }
        for x in (0..16).filter(|x| live & 1 << x != 0) {
            self.vec_mem(save, x, Mem { base: rsp, index: None, scale: 0, disp: at });
            at += 16;
        }
        if !save {
            self.asm.lea(Type::I64, rsp, Mem { base: rsp, index: None, scale: 0, disp: bytes });
        }
    }

    pub fn vec_to_state(&mut self, _bytes: u32, disp: i32, x: u8) {
        self.vec_mem(true, x, state(disp));
    }
}
