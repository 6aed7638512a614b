//! Locked read-modify-write accesses, compare-exchange and fences.

use super::asm::{Alu, Mem, RAX, RCX, RDX, Rm, state};
use super::vals::Src;
use super::{Codegen, Owner};
use crate::helpers::Helper;
use crate::layout;
use emu_core::ir::{Inst, Op, Type, Value};

impl Codegen {
    /// The atomic operations: after a write probe, one locked host instruction or a loop of them.
    pub fn atomic(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let (addr, b) = (inst.args[0], inst.args[1]);
        let byte = ty == Type::I8;
        if inst.op == Op::AtomicCas {
            return self.compare_exchange(me, inst);
        }
        let old_wanted = self.an.facts[me.index()].last != 0;
        let m = self.probe(inst, addr, ty.bytes(), Helper::Atomic, None);
        match inst.op {
            Op::AtomicXchg => {
                let d = self.grab();
                self.copy_to(d, b, Type::I64);
                self.asm.sized(ty, 0, 0x86, d.0, Rm::M(m), 1);
                self.set_temp(me, d, false);
            }
            Op::AtomicAdd if old_wanted || self.an.facts[me.index()].mask != 0 => {
                let d = self.grab();
                self.copy_to(d, b, Type::I64);
                self.asm.buf.push(0xf0);
                self.asm.sized(ty, 1, 0xc0, d.0, Rm::M(m), 1);
                self.set_temp(me, d, false);
            }
            op if !old_wanted => {
                let alu = match op {
                    Op::AtomicAdd => Alu::Add,
                    Op::AtomicAnd => Alu::And,
                    Op::AtomicOr => Alu::Or,
                    _ => Alu::Xor,
                };
                let src = match self.src(b, ty) {
                    Src::Rm(Rm::M(_)) => Src::Rm(Rm::R(self.reg(b))),
                    s => s,
                };
                self.asm.buf.push(0xf0);
                match src {
                    Src::Imm(i) => self.asm.alu_imm(ty, alu, Rm::M(m), i),
                    Src::Rm(Rm::R(r)) => self.asm.alu_to(ty, alu, Rm::M(m), r),
                    Src::Rm(Rm::M(_)) => self.frame.fail("memory to memory"),
                }
            }
            op => self.atomic_loop(me, ty, op, m, b),
        }
        let _ = byte;
    }

    /// AND, OR or XOR whose old value is wanted: a compare-exchange loop.
    fn atomic_loop(&mut self, me: Value, ty: Type, op: Op, m: Mem, b: Value) {
        // The host address as one register other than RAX, then RAX = old and another = new.
        let Some(index) = m.index else { return self.frame.fail("probe without address") };
        let base = if m.base == RAX || m.base == RDX { RCX } else { m.base };
        let other = if base == RDX { RCX } else { RDX };
        // The address goes through a slot, so that the temporaries can be dealt anew.
        let tmp = state(layout::slot(layout::SAVE0));
        self.asm.lea(Type::I64, m.base, Mem { index: Some(index), ..m });
        self.asm.store(Type::I64, tmp, m.base);
        self.drop_temp(m.base);
        self.locked = 0;
        let operand = state(layout::slot(layout::ARG));
        match self.src(b, Type::I64) {
            Src::Imm(i) => self.asm.store_imm(Type::I64, operand, i),
            Src::Rm(Rm::R(r)) => self.asm.store(Type::I64, operand, r),
            Src::Rm(Rm::M(_)) => {
                let r = self.reg(b);
                self.asm.store(Type::I64, operand, r);
            }
        }
        self.locked = 0;
        self.spill_all();
        self.grab_fixed(base);
        self.grab_fixed(RAX);
        self.grab_fixed(other);
        self.asm.load(Type::I64, base, tmp);
        let at = Mem { base, index: None, scale: 0, disp: 0 };
        self.asm.load(ty, RAX, at);
        let again = self.asm.label();
        self.asm.bind(again);
        self.asm.mov(Type::I64, other, RAX);
        let alu = match op {
            Op::AtomicAnd => Alu::And,
            Op::AtomicOr => Alu::Or,
            _ => Alu::Xor,
        };
        self.asm.alu(ty, alu, other, Rm::M(operand));
        self.asm.buf.push(0xf0);
        self.asm.sized(ty, 1, 0xb0, other.0, Rm::M(at), 1);
        self.asm.jcc(super::flags::NE, again);
        self.set_temp(me, RAX, false);
    }

    /// Moves every value out of the temporaries.
    pub fn spill_all(&mut self) {
        for r in super::vals::TEMPS {
            if let Owner::Val(_) = self.owner[r.0 as usize] {
                // Taking and dropping a temporary leaves it free.
                for t in super::vals::TEMPS {
                    if self.owner[t.0 as usize] == Owner::Free || self.owner[t.0 as usize].is_spare() {
                        self.owner[t.0 as usize] = Owner::Transient;
                    }
                }
                self.vacate(r);
            }
        }
        for t in super::vals::TEMPS {
            if self.owner[t.0 as usize] == Owner::Transient {
                self.owner[t.0 as usize] = Owner::Free;
            }
        }
    }

    fn compare_exchange(&mut self, me: Value, inst: &Inst) {
        let ty = inst.ty;
        let (b, c) = (inst.args[1], inst.args[2]);
        if ty.bits() > 64 {
            return self.frame.unsupported("128-bit compare-exchange");
        }
        let m = self.probe(inst, inst.args[0], ty.bytes(), Helper::Atomic, None);
        let Some(index) = m.index else { return self.frame.fail("probe without address") };
        let tmp = state(layout::slot(layout::SAVE0));
        self.asm.lea(Type::I64, m.base, Mem { index: Some(index), ..m });
        self.asm.store(Type::I64, tmp, m.base);
        self.drop_temp(m.base);
        self.locked = 0;
        self.spill_all();
        self.grab_fixed(RAX);
        self.copy_to(RAX, b, Type::I64);
        let new = match self.rm(c) {
            Rm::R(r) => r,
            Rm::M(_) => self.reg(c),
        };
        let p = self.grab();
        self.asm.load(Type::I64, p, tmp);
        self.asm.buf.push(0xf0);
        self.asm.sized(ty, 1, 0xb0, new.0, Rm::M(Mem { base: p, index: None, scale: 0, disp: 0 }), 1);
        self.set_temp(me, RAX, false);
    }

    pub fn fence(&mut self, inst: &Inst) {
        let n = match inst.imm {
            0 => 0xe8,
            1 => 0xf8,
            _ => 0xf0,
        };
        self.asm.buf.extend_from_slice(&[0x0f, 0xae, n]);
    }
}
