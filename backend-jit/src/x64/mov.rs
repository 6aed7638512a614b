//! Moves: guest registers, state fields, widening and narrowing, selection.

use super::asm::{Alu, Mem, Reg, Rm, Shift, state};
use super::vals::Src;
use super::{Codegen, Loc, NO_SLOT, Owner};
use crate::layout;
use crate::moves::Field;
use crate::regalloc::Hint;
use emu_core::ir::{Inst, StateField, Type, Value};

impl Codegen {
    pub fn get_reg(&mut self, me: Value, inst: &Inst) {
        let g = inst.imm as u8 & 15;
        self.val[me.index()].loc = Loc::Guest(g);
        self.alias[g as usize].push(me);
    }

    pub fn set_reg(&mut self, inst: &Inst) {
        let g = inst.imm as u8 & 15;
        let (v, ty) = (inst.args[0], inst.ty);
        let here = self.val[v.index()].loc == Loc::Guest(g);
        if here && (ty != Type::I32 || self.val[v.index()].clean) {
            return;
        }
        // A pending copy must not be disturbed by saving what the register holds now.
        if let Loc::Temp(t) = self.val[v.index()].loc {
            self.lock(t);
        }
        self.save_aliases(g, v);
        match Self::pinned(g) {
            Some(h) => self.set_pinned(h, v, ty),
            None => self.set_in_memory(g, v, ty),
        }
        if here {
            self.val[v.index()].clean = true;
        } else if self.constant(v).is_none()
            && self.lives(v)
            && !matches!(self.val[v.index()].loc, Loc::Cc(_))
        {
            self.set_guest(v, g, ty == Type::I32);
        }
    }

    fn set_pinned(&mut self, h: Reg, v: Value, ty: Type) {
        if let Some(c) = self.constant(v) {
            match ty {
                Type::I8 => {
                    if h.0 >= 4 {
                        self.asm.buf.push(0x40 | h.0 >> 3);
                    }
                    self.asm.buf.extend_from_slice(&[0xb0 | h.0 & 7, c as u8]);
                }
                Type::I16 => {
                    self.asm.buf.push(0x66);
                    if h.0 >= 8 {
                        self.asm.buf.push(0x41);
                    }
                    self.asm.buf.push(0xb8 | h.0 & 7);
                    self.asm.buf.extend_from_slice(&(c as u16).to_le_bytes());
                }
                _ => self.asm.mov_imm(h, c),
            }
            return;
        }
        let rm = self.rm(v);
        match (ty, rm) {
            (Type::I64 | Type::I32, Rm::R(r)) => self.asm.mov(ty, h, r),
            (Type::I64 | Type::I32, Rm::M(m)) => self.asm.load(ty, h, m),
            (_, Rm::R(r)) => self.asm.mov_part(ty, h, r),
            (_, Rm::M(_)) => self.asm.sized(ty, 0, 0x8a, h.0, rm, 1),
        }
    }

    fn set_in_memory(&mut self, g: u8, v: Value, ty: Type) {
        let m = state(layout::gpr(g as usize));
        if let Some(c) = self.constant(v) {
            let wide = if ty == Type::I32 { Type::I64 } else { ty };
            if matches!(wide, Type::I8 | Type::I16) || i64::from(c as i32) == c as i64 {
                return self.asm.store_imm(wide, m, c as i32);
            }
        }
        let clean = self.val[v.index()].clean;
        let r = self.reg(v);
        if ty == Type::I32 && !clean && self.constant(v).is_none() {
            let t = self.grab();
            self.asm.mov(Type::I32, t, r);
            self.asm.store(Type::I64, m, t);
            self.set_copy(t, g);
        } else {
            self.asm.store(if ty == Type::I32 { Type::I64 } else { ty }, m, r);
            if matches!(ty, Type::I64 | Type::I32) {
                self.leave_copy(v, r, g);
            }
        }
    }

    /// `v` has been stored as guest register `g` from `r`, which it leaves if it was there.
    fn leave_copy(&mut self, v: Value, r: Reg, g: u8) {
        if self.owner[r.0 as usize] == Owner::Val(v) && self.val[v.index()].slot == NO_SLOT {
            self.owner[r.0 as usize] = Owner::Free;
            self.val[v.index()].loc = Loc::None;
        }
        self.set_copy(r, g);
    }

    /// AH, CH, DH, BH.
    pub fn get_reg_hi(&mut self, me: Value, inst: &Inst) {
        let g = inst.imm as u8 & 3;
        let d = self.grab();
        match Self::pinned(g) {
            Some(Reg(3)) => self.asm.buf.extend_from_slice(&[0x0f, 0xb6, 0xc0 | d.0 << 3 | 7]),
            Some(h) => {
                self.save_flags(false);
                self.asm.mov(Type::I32, d, h);
                self.asm.shift_imm(Type::I32, Shift::Shr, Rm::R(d), 8);
            }
            None => self.asm.load(Type::I8, d, state(layout::gpr(g as usize) + 1)),
        }
        let clean = Self::pinned(g).is_none() || Self::pinned(g) == Some(Reg(3));
        self.set_temp(me, d, clean);
    }

    pub fn set_reg_hi(&mut self, inst: &Inst) {
        let g = inst.imm as u8 & 3;
        let v = inst.args[0];
        let t = self.reg(v);
        self.save_aliases(g, Value::NONE);
        match Self::pinned(g) {
            Some(Reg(3)) if t.0 < 4 => {
                // mov bh, r8
                self.asm.buf.extend_from_slice(&[0x88, 0xc0 | t.0 << 3 | 7]);
            }
            Some(h) => {
                // Rotating brings the byte to the bottom and back.
                self.save_flags(false);
                let from = if t == h { self.grab() } else { t };
                if t == h {
                    self.asm.mov(Type::I32, from, t);
                }
                self.asm.shift_imm(Type::I64, Shift::Ror, Rm::R(h), 8);
                self.asm.mov_part(Type::I8, h, from);
                self.asm.shift_imm(Type::I64, Shift::Rol, Rm::R(h), 8);
            }
            None => self.asm.store(Type::I8, state(layout::gpr(g as usize) + 1), t),
        }
    }

    pub fn konst(&mut self, me: Value) {
        self.val[me.index()].clean = true;
    }

    /// RIP of the block plus `imm`.
    pub fn pc(&mut self, me: Value, inst: &Inst) {
        let d = self.dest_empty(me, &[]);
        let v = self.frame.key.rip.wrapping_add(inst.imm as u64);
        self.mov_pc(d.reg(), v);
        self.finish(me, d, true);
    }

    /// Moves a RIP of the guest's to a register.
    pub fn mov_pc(&mut self, d: Reg, rip: u64) {
        self.asm.mov_imm(d, rip);
        self.note(match rip {
            _ if u32::try_from(rip).is_ok() => Field::Pc32,
            _ if i32::try_from(rip as i64).is_ok() => Field::PcSigned,
            _ => Field::Pc64,
        });
    }

    /// Notes that the field just emitted depends on where the block lies.
    pub fn note(&mut self, field: Field) {
        self.frame.note(field, self.asm.buf.len());
    }

    pub fn zext(&mut self, me: Value, inst: &Inst) {
        let v = inst.args[0];
        let from = self.insts[v.index()].ty;
        if self.constant(v).is_some() {
            let d = self.dest_empty(me, &[]);
            self.copy_to(d.reg(), v, Type::I64);
            return self.finish(me, d, true);
        }
        let rm = self.rm(v);
        let clean = self.val[v.index()].clean;
        if clean && !self.lives(v) {
            match (rm, self.an.facts[me.index()].hint, self.val[v.index()].loc) {
                (Rm::R(r), hint, Loc::Temp(_)) if !matches!(hint, Hint::Full(g) if Self::pinned(g).is_some()) =>
                {
                    self.val[v.index()].loc = Loc::None;
                    self.owner[r.0 as usize] = Owner::Transient;
                    return self.set_temp(me, r, true);
                }
                (_, hint, Loc::Guest(g)) if hint == Hint::None || hint == Hint::Full(g) => {
                    self.unalias(v);
                    self.val[v.index()].loc = Loc::None;
                    return self.set_guest(me, g, true);
                }
                _ => {}
            }
        }
        let d = self.dest_empty(me, &[]);
        self.asm.zext(from, d.reg(), rm);
        self.finish(me, d, true);
    }

    pub fn sext(&mut self, me: Value, inst: &Inst) {
        let v = inst.args[0];
        let from = self.insts[v.index()].ty;
        let rm = self.rm(v);
        let d = self.dest_empty(me, &[]);
        self.asm.sext(from, inst.ty, d.reg(), rm);
        self.finish(me, d, Self::is_wide(inst.ty));
    }

    pub fn trunc(&mut self, me: Value, inst: &Inst) {
        let v = inst.args[0];
        if let Loc::Guest(g) = self.val[v.index()].loc {
            self.val[me.index()].loc = Loc::Guest(g);
            self.alias[g as usize].push(me);
            return;
        }
        let d = self.dest_from(me, v, Type::I32, &[]);
        let clean = matches!(d, super::alu::Dest::Guest(..)) && inst.ty == Type::I32;
        if clean {
            // A copy of 32 bits clears the rest; in place it does not.
            self.asm.mov(Type::I32, d.reg(), d.reg());
        }
        self.finish(me, d, clean);
    }

    pub fn select(&mut self, me: Value, inst: &Inst) {
        let (b, c) = (inst.args[1], inst.args[2]);
        let ty = if inst.ty == Type::I64 { Type::I64 } else { Type::I32 };
        let cc = self.condition(inst.args[0]);
        if self.insts[b.index()].ty == Type::Bool {
            self.bool_operand(b);
            self.bool_operand(c);
        }
        let src = match self.rm(b) {
            // A narrow value may lie at the end of its place.
            Rm::M(_) if !Self::is_wide(inst.ty) => Rm::R(self.reg(b)),
            rm => rm,
        };
        let d = self.dest_from(me, c, ty, &[b]);
        self.asm.cmov(ty, cc, d.reg(), src);
        self.finish(me, d, Self::is_wide(inst.ty));
    }

    /// A truth value must not be in the host's flags.
    fn bool_operand(&mut self, v: Value) {
        self.save_bool(v);
    }

    pub fn get_state(&mut self, me: Value, inst: &Inst) {
        let Some(&field) = FIELDS.get(inst.imm as usize) else {
            return self.frame.fail("no such state field");
        };
        let (offset, ty) = field.place();
        let d = self.dest_empty(me, &[]);
        if field == StateField::Mxcsr {
            // The sticky flags are in the host's register while translated code runs.
            self.save_flags(false);
            let at = state(layout::slot(layout::MX_GUEST));
            self.asm.op(false, super::asm::Opc(0, 1, 0xae), 3, Rm::M(at), 0);
            self.asm.load(Type::I32, d.reg(), at);
            self.asm.alu_imm(Type::I32, Alu::And, Rm::R(d.reg()), 0x3f);
            self.asm.alu(Type::I32, Alu::Or, d.reg(), Rm::M(state(layout::field(offset))));
        } else {
            self.asm.load(ty, d.reg(), state(layout::field(offset)));
        }
        self.finish(me, d, true);
    }

    pub fn code_word(&mut self, me: Value, inst: &Inst) {
        let at = self.frame.word_at(inst);
        let d = self.dest_empty(me, &[]);
        let ram = state(layout::slot(layout::RAM));
        let place = match i32::try_from(at) {
            Ok(disp) => {
                self.asm.load(Type::I64, d.reg(), ram);
                Mem { base: d.reg(), index: None, scale: 0, disp }
            }
            Err(_) => {
                let far = self.grab();
                self.asm.mov_imm(far, at);
                self.asm.load(Type::I64, d.reg(), ram);
                Mem { base: d.reg(), index: Some(far), scale: 0, disp: 0 }
            }
        };
        self.asm.load(inst.ty, d.reg(), place);
        self.finish(me, d, true);
    }

    pub fn set_state(&mut self, inst: &Inst) {
        let Some(&field) = FIELDS.get(inst.imm as usize) else {
            return self.frame.fail("no such state field");
        };
        let (offset, ty) = field.place();
        let m = state(layout::field(offset));
        if field == StateField::Mxcsr {
            return self.frame.unsupported("setstate mxcsr");
        }
        match self.src(inst.args[0], ty) {
            Src::Imm(i) => self.asm.store_imm(ty, m, i),
            Src::Rm(Rm::R(r)) => self.asm.store(ty, m, r),
            Src::Rm(Rm::M(_)) => {
                let r = self.reg(inst.args[0]);
                self.asm.store(ty, m, r);
            }
        }
    }
}

/// State fields by number.
const FIELDS: [StateField; 19] = {
    use StateField::*;
    [
        EsBase,
        CsBase,
        SsBase,
        DsBase,
        FsBase,
        GsBase,
        RflagsSystem,
        Mxcsr,
        Cr0,
        Cr2,
        Cr3,
        Cr4,
        Pkru,
        EsSel,
        CsSel,
        SsSel,
        DsSel,
        FsSel,
        GsSel,
    ]
};
