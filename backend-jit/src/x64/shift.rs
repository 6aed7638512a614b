//! Shifts and rotates, with flags exactly as the IR defines them for every count.
//!
//! The host leaves OF (counts other than one) and AF undefined, so when those are demanded the canonical word is
//! built here from the result. Narrow shifts by a count that may reach the width work on 32 bits.

use super::alu::Dest;
use super::asm::{Alu, RAX, RCX, Reg, Rm, Shift};
use super::flags::E;
use super::{Codegen, Owner};
use dynasmrt::{DynasmApi, dynasm};
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

const AF: u16 = rflags::AF as u16;
const OF: u16 = rflags::OF as u16;

impl Codegen {
    pub fn shift(&mut self, me: Value, inst: &Inst) {
        let op = match inst.op {
            Op::Shl => Shift::Shl,
            Op::Shr => Shift::Shr,
            Op::Sar => Shift::Sar,
            Op::Rol => Shift::Rol,
            Op::Ror => Shift::Ror,
            Op::Rcl => Shift::Rcl,
            _ => Shift::Rcr,
        };
        let mask = if inst.ty == Type::I64 { 63 } else { 31 };
        match self.constant(inst.args[1]).map(|c| c as u8 & mask) {
            Some(0) => self.shift_none(me, inst),
            Some(n) => self.shift_const(me, inst, op, n),
            None => self.shift_var(me, inst, op, mask),
        }
    }

    fn shift_none(&mut self, me: Value, inst: &Inst) {
        let fact = self.an.facts[me.index()];
        if fact.mask != 0 {
            // The flags are c's: a word of their own.
            let m = self.word(inst.args[2]);
            self.with_rax(|c| {
                c.asm.load(Type::I16, RAX, m);
                c.word_flags_of(me.index());
            });
        }
        let d = self.dest_from(me, inst.args[0], inst.ty, &[]);
        let clean = inst.ty == Type::I64 || inst.ty == Type::I32;
        if inst.ty == Type::I32 {
            self.asm.mov(Type::I32, d.reg(), d.reg());
        }
        self.finish(me, d, clean);
    }

    /// A register with the operand, extended to 32 bits where the width is narrower.
    fn shift_dest(&mut self, me: Value, inst: &Inst, op: Shift) -> Dest {
        let a = inst.args[0];
        let narrow = !Self::is_wide(inst.ty);
        if !narrow || !matches!(op, Shift::Shr | Shift::Sar | Shift::Shl) {
            return self.dest_from(me, a, inst.ty, &[]);
        }
        let t = self.grab_or_reuse(a);
        let rm = if let Some(c) = self.constant(a) {
            self.asm.mov_imm(t, c);
            Rm::R(t)
        } else {
            self.rm(a)
        };
        let d = Dest::Temp(t);
        match op {
            Shift::Sar => self.asm.sext(inst.ty, Type::I32, d.reg(), rm),
            _ => self.asm.zext(inst.ty, d.reg(), rm),
        }
        d
    }

    fn shift_const(&mut self, me: Value, inst: &Inst, op: Shift, n: u8) {
        let fact = self.an.facts[me.index()];
        let ty = inst.ty;
        let rotate = !matches!(op, Shift::Shl | Shift::Shr | Shift::Sar);
        let c_native = matches!(op, Shift::Rcl | Shift::Rcr) && self.native == Some(inst.args[2]);
        let c_word = match op {
            Shift::Rcl | Shift::Rcr => Some(self.word(inst.args[2])),
            _ if rotate && fact.mask & !(rflags::CF | rflags::OF) as u16 != 0 => {
                Some(self.word(inst.args[2]))
            }
            _ => None,
        };
        let wide_narrow = !rotate && !Self::is_wide(ty) && u32::from(n) >= ty.bits();
        let build = fact.mask & (AF | OF) != 0 && !(n == 1 && fact.mask & AF == 0 && !rotate)
            || rotate && fact.mask != 0
            || wide_narrow && fact.mask != 0;
        self.save_flags(true);
        if build {
            self.grab_fixed(RAX);
        }
        let d = if wide_narrow {
            self.shift_dest(me, inst, op)
        } else {
            self.dest_from(me, inst.args[0], ty, &[])
        };
        if let (Shift::Rcl | Shift::Rcr, Some(m)) = (op, c_word) {
            let _ = c_native;
            self.asm.bt_mem16(m, 8);
        }
        if wide_narrow && op == Shift::Shl {
            self.shl_beyond(d.reg(), ty, n, build);
        } else {
            let w = if wide_narrow { Type::I32 } else { ty };
            self.asm.shift_imm(w, op, Rm::R(d.reg()), n);
            if !build {
                self.native_flags_of(me.index());
            } else {
                self.build_word(d.reg(), ty, op, c_word, Some(n));
            }
        }
        if build {
            self.word_flags_of(me.index());
            self.drop_temp(RAX);
        }
        self.finish(me, d, Self::is_wide(ty));
    }

    /// SHL of a zero-extended narrow value by its width or more: the result is zero; word in AX.
    fn shl_beyond(&mut self, d: Reg, ty: Type, n: u8, build: bool) {
        self.asm.shift_imm(Type::I32, Shift::Shl, Rm::R(d), n);
        if build {
            self.shl_narrow_word(d, ty);
        }
    }

    /// The word of a narrow SHL done on 32 bits: CF is the bit above the width.
    fn shl_narrow_word(&mut self, d: Reg, ty: Type) {
        self.asm.test(ty, Rm::R(d), d);
        dynasm!(self.asm; .arch x64; lahf; bt Rd(d.0), ty.bits() as i8; setc al; or ah, al);
        self.shl_overflow();
    }

    /// With SF and CF in AH: OF = SF ^ CF into AL, AF cleared.
    fn shl_overflow(&mut self) {
        dynasm!(self.asm; .arch x64
            ; mov al, ah
            ; rol al, 1
            ; xor al, ah
            ; and eax, 0xef01
        );
    }

    /// Canonical word of a shift or rotate that was just done (and whose count was not zero) into AX.
    fn build_word(&mut self, d: Reg, ty: Type, op: Shift, c: Option<super::asm::Mem>, n: Option<u8>) {
        let top = ty.bits() as i8 - 1;
        match op {
            Shift::Shl => {
                dynasm!(self.asm; .arch x64; lahf);
                self.shl_overflow();
            }
            Shift::Shr => {
                dynasm!(self.asm; .arch x64; lahf);
                if n.is_some_and(|n| n > 1) {
                    dynasm!(self.asm; .arch x64; and eax, 0xef00);
                } else {
                    // The top bit of the result is zero.
                    dynasm!(self.asm; .arch x64; bt Rd(d.0), top - 1);
                    if ty == Type::I64 {
                        self.asm.buf.truncate(self.asm.buf.len() - 4 - usize::from(d.0 >= 8));
                        dynasm!(self.asm; .arch x64; bt Rq(d.0), 62);
                    }
                    dynasm!(self.asm; .arch x64; setc al; and eax, 0xef01);
                }
            }
            Shift::Sar => dynasm!(self.asm; .arch x64; lahf; and eax, 0xef00),
            _ => self.rotate_word(d, ty, op, c, top),
        }
    }

    /// The word of a rotate: CF and OF by the result, the rest from `c`.
    fn rotate_word(&mut self, d: Reg, ty: Type, op: Shift, c: Option<super::asm::Mem>, top: i8) {
        let bit = |s: &mut Self, n: i8| {
            if ty == Type::I64 {
                dynasm!(s.asm; .arch x64; bt Rq(d.0), n);
            } else {
                dynasm!(s.asm; .arch x64; bt Rd(d.0), n);
            }
        };
        match op {
            Shift::Rol => {
                bit(self, 0);
                dynasm!(self.asm; .arch x64; setc ah);
                bit(self, top);
                dynasm!(self.asm; .arch x64; setc al; xor al, ah);
            }
            Shift::Ror => {
                bit(self, top);
                dynasm!(self.asm; .arch x64; setc ah);
                bit(self, top - 1);
                dynasm!(self.asm; .arch x64; setc al; xor al, ah);
            }
            Shift::Rcl => {
                dynasm!(self.asm; .arch x64; setc ah);
                bit(self, top);
                dynasm!(self.asm; .arch x64; setc al; xor al, ah);
            }
            _ => {
                dynasm!(self.asm; .arch x64; setc ah);
                self.asm.store(Type::I8, super::asm::state(crate::layout::slot(crate::layout::SAVE0)), RAX);
                bit(self, top);
                self.rcr_overflow(d, ty, top);
            }
        }
        if let Some(m) = c {
            let t = self.grab();
            self.asm.load(Type::I16, t, m);
            self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), 0xfe00);
            self.asm.alu(Type::I16, Alu::Or, RAX, Rm::R(t));
            self.drop_temp(t);
        }
    }

    /// RCR: OF = the two top bits of the result differ. CF of the host is the top bit.
    fn rcr_overflow(&mut self, d: Reg, ty: Type, top: i8) {
        dynasm!(self.asm; .arch x64; setc al);
        let t = self.grab();
        self.asm.mov(Type::I64, t, d);
        self.asm.shift_imm(Type::I64, Shift::Shr, Rm::R(t), top as u8 - 1);
        self.asm.alu_imm(Type::I32, Alu::And, Rm::R(t), 1);
        self.asm.alu(Type::I8, Alu::Xor, RAX, Rm::R(t));
        self.drop_temp(t);
        let _ = ty;
    }

    fn shift_var(&mut self, me: Value, inst: &Inst, op: Shift, mask: u8) {
        let fact = self.an.facts[me.index()];
        let ty = inst.ty;
        let rotate = !matches!(op, Shift::Shl | Shift::Shr | Shift::Sar);
        let carry_in = matches!(op, Shift::Rcl | Shift::Rcr);
        let need_c = fact.mask != 0 || carry_in;
        let c = need_c.then(|| self.word(inst.args[2]));
        self.save_flags(true);
        self.copy_fixed(RCX, inst.args[1], Type::I32);
        let narrow = !rotate && !Self::is_wide(ty);
        let a = inst.args[0];
        if fact.mask == 0 {
            let d = if narrow { self.shift_dest(me, inst, op) } else { self.dest_from(me, a, ty, &[]) };
            if let (true, Some(m)) = (carry_in, c) {
                self.asm.bt_mem16(m, 8);
            }
            self.asm.shift_cl(if narrow { Type::I32 } else { ty }, op, Rm::R(d.reg()));
            // A count of zero leaves the upper half of the destination as it was.
            let clean = ty == Type::I64;
            return self.finish_shift(me, d, ty, clean);
        }
        self.grab_fixed(RAX);
        let d = if narrow {
            self.shift_dest(me, inst, op)
        } else {
            let t = self.grab_or_reuse(a);
            self.copy_to(t, a, ty);
            Dest::Temp(t)
        };
        if let Some(m) = c {
            self.asm.load(Type::I16, RAX, m);
        }
        self.asm.test_imm(Type::I8, Rm::R(RCX), i32::from(mask));
        let skip = self.asm.jcc8(E);
        if let (true, Some(m)) = (carry_in, c) {
            self.asm.bt_mem16(m, 8);
        }
        self.asm.shift_cl(if narrow { Type::I32 } else { ty }, op, Rm::R(d.reg()));
        // The count is no longer needed: RCX serves as the extra register below.
        self.drop_temp(RCX);
        match (op, narrow) {
            (Shift::Shl, true) => self.shl_narrow_word(d.reg(), ty),
            _ => self.build_word(d.reg(), ty, op, c, None),
        }
        self.asm.here8(skip);
        self.word_flags_of(me.index());
        self.drop_temp(RAX);
        self.finish_shift(me, d, ty, ty == Type::I64);
    }

    fn grab_or_reuse(&mut self, a: Value) -> Reg {
        if let super::Loc::Temp(t) = self.val[a.index()].loc
            && !self.lives(a)
            && self.owner[t.0 as usize] == Owner::Val(a)
        {
            self.lock(t);
            self.owner[t.0 as usize] = Owner::Transient;
            return t;
        }
        self.grab()
    }

    fn finish_shift(&mut self, me: Value, d: Dest, ty: Type, clean: bool) {
        if ty == Type::I32 && !clean {
            self.asm.mov(Type::I32, d.reg(), d.reg());
        }
        self.finish(me, d, Self::is_wide(ty));
    }
}
