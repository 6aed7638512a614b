//! Bit tests, counts and byte order.

use super::asm::{Alu, Opc, RAX, Reg, Rm, Shift};
use super::flags::NE;
use super::{Codegen, Loc};
use dynasmrt::{DynasmApi, dynasm};
use emu_core::ir::{Cc, Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

const CF: u16 = rflags::CF as u16;
const ZF: u16 = rflags::ZF as u16;

impl Codegen {
    /// CF = bit b of a; the value is a itself.
    pub fn bit_test(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        let (a, b, c) = (inst.args[0], inst.args[1], inst.args[2]);
        if fact.mask != 0 {
            let rest = (fact.mask & !CF != 0).then(|| self.word(c));
            self.save_flags(false);
            if rest.is_some() {
                self.grab_fixed(RAX);
            }
            let wide = if inst.ty == Type::I8 { Type::I32 } else { inst.ty };
            let bits = inst.ty.bits() as u64;
            let ra = self.reg(a);
            match self.constant(b) {
                Some(n) => {
                    self.asm.word(wide, 0, 1, 0xba, Reg(4), Rm::R(ra));
                    self.asm.buf.push((n & (bits - 1)) as u8);
                }
                None if inst.ty == Type::I8 => {
                    let t = self.grab();
                    self.copy_to(t, b, Type::I32);
                    self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), 7);
                    self.asm.word(wide, 0, 1, 0xa3, t, Rm::R(ra));
                }
                None => {
                    let rb = self.reg(b);
                    self.asm.word(wide, 0, 1, 0xa3, rb, Rm::R(ra));
                }
            }
            match rest {
                Some(m) => {
                    let t = self.grab_or_save(ra);
                    self.asm.setcc(Cc::B as u8, Rm::R(t));
                    self.asm.load(Type::I16, RAX, m);
                    dynasm!(self.asm; .arch x64; and ah, BYTE -2);
                    self.asm.buf.extend_from_slice(&[0x08, 0xc4 | t.0 << 3]); // or ah, t
                    self.word_flags_of(me.index());
                    self.drop_temp(RAX);
                    self.drop_temp(t);
                }
                None => self.native_flags_of(me.index()),
            }
        }
        if fact.last != 0 {
            let d = self.dest_from(me, a, inst.ty, &[]);
            self.finish(me, d, inst.ty == Type::I64);
        }
    }

    /// RCX or RDX for a byte without REX prefix; whatever is there moves out.
    fn grab_or_save(&mut self, not: Reg) -> Reg {
        let _ = not;
        for r in [super::asm::RCX, super::asm::RDX] {
            if self.locked & 1 << r.0 == 0 {
                self.grab_fixed(r);
                return r;
            }
        }
        // Both hold operands, which the test has read: move one to its slot.
        let r = super::asm::RCX;
        self.unlock(r);
        self.grab_fixed(r);
        r
    }

    /// Clz and Ctz.
    pub fn count_zeros(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        let ty = inst.ty;
        let c = inst.args[1];
        let rest = (fact.mask & !(CF | ZF) != 0).then(|| self.word(c));
        self.save_flags(false);
        if rest.is_some() {
            self.grab_fixed(RAX);
        }
        let src = match self.rm(inst.args[0]) {
            Rm::M(_) => Rm::R(self.reg(inst.args[0])),
            rm => rm,
        };
        // A fresh register, so that the operand survives the fallback sequence.
        let d = super::alu::Dest::Temp(self.grab());
        let lead = inst.op == Op::Clz;
        let direct = if lead { self.host.lzcnt } else { self.host.bmi1 };
        if ty == Type::I8 {
            self.count_byte(lead, d.reg(), src);
        } else if direct {
            self.asm.word(ty, 0xf3, 1, if lead { 0xbd } else { 0xbc }, d.reg(), src);
        } else {
            self.count_by_scan(ty, lead, d.reg(), src);
        }
        match rest {
            None => self.native_flags_of(me.index()),
            Some(m) => {
                // LAHF puts CF and ZF into AH; the rest comes from c.
                dynasm!(self.asm; .arch x64; lahf; and eax, 0x4100);
                if let Rm::R(r) = src {
                    self.unlock(r);
                    self.drop_temp(r);
                }
                let t = self.grab();
                self.asm.load(Type::I16, t, m);
                self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), 0xbeff);
                self.asm.alu(Type::I32, Alu::Or, RAX, Rm::R(t));
                self.word_flags_of(me.index());
                self.drop_temp(t);
                self.drop_temp(RAX);
            }
        }
        self.finish(me, d, Self::is_wide(ty));
    }

    /// LZCNT or TZCNT on a host without them: CF = (a = 0), ZF = (result = 0).
    fn count_by_scan(&mut self, ty: Type, lead: bool, d: Reg, src: Rm) {
        let bits = ty.bits() as i32;
        let (ty, src) = if ty == Type::I16 {
            self.asm.zext(ty, d, src);
            (Type::I32, Rm::R(d))
        } else {
            (ty, src)
        };
        self.asm.word(ty, 0, 1, if lead { 0xbd } else { 0xbc }, d, src);
        let some = self.asm.jcc8(NE);
        self.asm.mov_imm(d, if lead { (2 * bits - 1) as u64 } else { bits as u64 });
        self.asm.here8(some);
        if lead {
            // width - 1 - index, and the width for zero: index ^ (width - 1), with 2 * width - 1 chosen to fit.
            self.asm.alu_imm(Type::I32, Alu::Xor, Rm::R(d), bits - 1);
        }
        self.count_flags(d, bits);
    }

    /// CF = (d = width) = not (d < width); then ZF by the result, which leaves CF alone.
    fn count_flags(&mut self, d: Reg, bits: i32) {
        self.asm.alu_imm(Type::I32, Alu::Cmp, Rm::R(d), bits);
        dynasm!(self.asm; .arch x64; cmc);
        self.asm.op(false, Opc(0, 0, 0xff), 0, Rm::R(d), 0);
        self.asm.op(false, Opc(0, 0, 0xff), 1, Rm::R(d), 0);
    }

    /// A byte, with a one planted behind it.
    fn count_byte(&mut self, lead: bool, d: Reg, src: Rm) {
        self.asm.zext(Type::I8, d, src);
        if lead {
            self.asm.shift_imm(Type::I32, Shift::Shl, Rm::R(d), 8);
            self.asm.alu_imm(Type::I32, Alu::Or, Rm::R(d), 0x80);
            self.asm.word(Type::I32, 0, 1, 0xbd, d, Rm::R(d));
            self.asm.alu_imm(Type::I32, Alu::Xor, Rm::R(d), 15);
        } else {
            self.asm.alu_imm(Type::I32, Alu::Or, Rm::R(d), 0x100);
            self.asm.word(Type::I32, 0, 1, 0xbc, d, Rm::R(d));
        }
        self.count_flags(d, 8);
    }

    pub fn popcnt(&mut self, me: Value, inst: &Inst) {
        if !self.host.popcnt {
            return self.frame.unsupported("popcnt without host support");
        }
        self.save_flags(false);
        let src = match self.rm(inst.args[0]) {
            Rm::M(_) => Rm::R(self.reg(inst.args[0])),
            rm => rm,
        };
        let d = self.dest_empty(me, &[]);
        let (ty, src) = if inst.ty == Type::I8 {
            self.asm.zext(Type::I8, d.reg(), src);
            (Type::I32, Rm::R(d.reg()))
        } else {
            (inst.ty, src)
        };
        self.asm.word(ty, 0xf3, 1, 0xb8, d.reg(), src);
        self.native_flags_of(me.index());
        self.finish(me, d, Self::is_wide(inst.ty));
    }

    pub fn bswap(&mut self, me: Value, inst: &Inst) {
        if inst.ty == Type::I16 {
            self.save_flags(false);
        }
        let d = self.dest_from(me, inst.args[0], inst.ty, &[]);
        let r = d.reg();
        if inst.ty == Type::I16 {
            self.asm.shift_imm(Type::I16, Shift::Rol, Rm::R(r), 8);
        } else {
            let rex = u8::from(inst.ty == Type::I64) << 3 | r.0 >> 3;
            if rex != 0 {
                self.asm.buf.push(0x40 | rex);
            }
            self.asm.buf.extend_from_slice(&[0x0f, 0xc8 | r.0 & 7]);
        }
        self.finish(me, d, Self::is_wide(inst.ty));
        debug_assert!(self.val[me.index()].loc != Loc::None);
    }
}
