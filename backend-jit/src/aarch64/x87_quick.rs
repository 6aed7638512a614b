//! The x87's loads, stores and moves in line, where nothing is out of the ordinary: no stack fault, ordinary numbers,
//! stores that round to nearest. Everything else is a stub's, which has the helper do all of the instruction.
//!
//! Nothing here changes NZCV.

use super::Codegen;
use super::asm::{Logic, Reg, Two};
use super::mem::{Stored, Stub, StubKind};
use super::share::{At, Offset};
use super::vals::{S0, S1, S2, STATE};
use super::vecregs::{V0, V1};
use super::x87::fpu;
use crate::helpers::Helper;
use dynasmrt::DynamicLabel;
use emu_core::ir::x87::{self, Access};
use emu_core::ir::{Inst, Type};
use emu_core::softfloat::F80;
use emu_core::state::FpuState;
use std::mem::offset_of;

const FSW: usize = fpu(offset_of!(FpuState, fsw));
const FTW: usize = fpu(offset_of!(FpuState, ftw));
const FCW: usize = fpu(offset_of!(FpuState, fcw));
const MANT: usize = offset_of!(F80, mant);
const SE: usize = offset_of!(F80, se);
const _: () = assert!(size_of::<F80>() == 16);
/// Where TOP is in the status word.
const TOP: u8 = 11;
/// Everything of the status word but C1.
const NOT_C1: u64 = 0xffff_fdff;
/// From general to vector register and back.
const FMOV_TO: u32 = 0x9e67_0000;
const FMOV_FROM: u32 = 0x9e66_0000;

/// A format of real numbers in memory.
#[derive(Clone, Copy)]
struct Real {
    ty: Type,
    /// Bits of the fraction, and of the exponent.
    fraction: u8,
    exponent: u8,
    /// The x87's bias less its own.
    rebias: u64,
}

const SINGLE: Real = Real { ty: Type::I32, fraction: 23, exponent: 8, rebias: 16383 - 127 };
const DOUBLE: Real = Real { ty: Type::I64, fraction: 52, exponent: 11, rebias: 16383 - 1023 };

impl Codegen {
    /// An instruction between registers, if it is one that is done in line; `slow` is where to go otherwise.
    pub fn x87_quick(&mut self, aux: u32, slow: DynamicLabel) -> bool {
        let (escape, modrm) = (x87::escape(aux), x87::modrm(aux));
        let i = modrm & 7;
        match (escape, modrm) {
            (0xd9, 0xc0..=0xc7) => self.x87_push(slow, |g, top| {
                g.x87_valid(top, i, slow);
                g.x87_place(S2, top, i);
                g.asm.ldr_q(V0, S2, 0);
            }),
            (0xd9, 0xe8 | 0xee) => {
                let one = modrm == 0xe8;
                self.x87_push(slow, |g, _| {
                    let (mant, se) = if one { (1 << 63, 0x3fff) } else { (0, 0) };
                    g.vconst(V0, mant, se);
                });
            }
            (0xd9, 0xc8..=0xcf) => self.exchange(i, slow),
            (0xd9, 0xe0 | 0xe1) => {
                let (status, top) = self.x87_top();
                self.x87_valid(top, 0, slow);
                self.x87_place(S2, top, 0);
                self.asm.ldr(Type::I16, S0, S2, SE);
                let (op, mask) = if modrm == 0xe0 { (Logic::Eor, 0x8000) } else { (Logic::And, 0x7fff) };
                self.asm.logic_imm(op, false, S0, S0, mask);
                self.asm.str(Type::I16, S0, S2, SE);
                self.x87_status(status);
            }
            (0xdd, 0xd0..=0xdf) => self.copy_down(i, modrm >= 0xd8, slow),
            _ => return false,
        }
        true
    }

    /// The status word and TOP, in temporaries.
    fn x87_top(&mut self) -> (Reg, Reg) {
        let (status, top) = (self.temp(), self.temp());
        self.asm.ldr(Type::I16, status, STATE, FSW);
        self.asm.ubfx(false, top, status, TOP, 3);
        (status, top)
    }

    /// `d` becomes the number of ST(i).
    fn x87_number(&mut self, d: Reg, top: Reg, i: u8) -> Reg {
        if i == 0 {
            return top;
        }
        self.asm.add_imm(false, d, top, i.into());
        self.asm.logic_imm(Logic::And, false, d, d, 7);
        d
    }

    /// Goes to `slow` unless ST(i) is not empty. Changes [`S0`] and [`S1`].
    fn x87_valid(&mut self, top: Reg, i: u8, slow: DynamicLabel) {
        let n = self.x87_number(S1, top, i);
        self.asm.ldr(Type::I8, S0, STATE, FTW);
        self.asm.two(Two::Lsr, false, S0, S0, n);
        self.asm.logic_imm(Logic::And, false, S0, S0, 1);
        self.asm.cbz(false, false, S0, slow);
    }

    /// The address of ST(i). `d` is not `top`.
    fn x87_place(&mut self, d: Reg, top: Reg, i: u8) {
        let n = self.x87_number(d, top, i);
        self.asm.add(true, d, STATE, n, 4);
        const { assert!(fpu(offset_of!(FpuState, st)) < 4096) };
        self.asm.add_imm(true, d, d, fpu(offset_of!(FpuState, st)) as u64);
    }

    /// The status word is `status` without C1.
    fn x87_status(&mut self, status: Reg) {
        self.asm.logic_imm(Logic::And, false, status, status, NOT_C1);
        self.asm.str(Type::I16, status, STATE, FSW);
    }

    /// ST(n) is full, or is empty; `n` is a number of the register file. Changes [`S0`] and [`S1`].
    fn x87_tag(&mut self, n: Reg, full: bool) {
        self.asm.mov_imm(S0, 1);
        self.asm.two(Two::Lsl, false, S0, S0, n);
        self.asm.ldr(Type::I8, S1, STATE, FTW);
        self.asm.logic(if full { Logic::Orr } else { Logic::Bic }, false, S1, S1, S0, 0);
        self.asm.str(Type::I8, S1, STATE, FTW);
    }

    /// Pushes what `make` leaves in [`V0`]; it gets TOP, and may change the registers of the op in hand.
    fn x87_push(&mut self, slow: DynamicLabel, make: impl FnOnce(&mut Self, Reg)) {
        let (status, top) = self.x87_top();
        make(self, top);
        self.asm.arith_imm(false, true, false, top, top, 1);
        self.asm.logic_imm(Logic::And, false, top, top, 7);
        self.asm.ldr(Type::I8, S0, STATE, FTW);
        self.asm.two(Two::Lsr, false, S0, S0, top);
        self.asm.logic_imm(Logic::And, false, S0, S0, 1);
        self.asm.cbz(true, false, S0, slow);
        self.x87_place(S2, top, 0);
        self.asm.str_q(V0, S2, 0);
        self.x87_tag(top, true);
        self.asm.bfi(false, status, top, TOP, 3);
        self.x87_status(status);
    }

    fn exchange(&mut self, i: u8, slow: DynamicLabel) {
        let (status, top) = self.x87_top();
        self.x87_valid(top, 0, slow);
        self.x87_valid(top, i, slow);
        let other = self.temp();
        self.x87_place(S2, top, 0);
        self.x87_place(other, top, i);
        self.asm.ldr_q(V0, S2, 0);
        self.asm.ldr_q(V1, other, 0);
        self.asm.str_q(V1, S2, 0);
        self.asm.str_q(V0, other, 0);
        self.x87_status(status);
    }

    /// FST and FSTP to a register.
    fn copy_down(&mut self, i: u8, pop: bool, slow: DynamicLabel) {
        let (status, top) = self.x87_top();
        self.x87_valid(top, 0, slow);
        self.x87_place(S2, top, 0);
        self.asm.ldr_q(V0, S2, 0);
        self.x87_place(S2, top, i);
        self.asm.str_q(V0, S2, 0);
        let n = self.x87_number(S2, top, i);
        self.x87_tag(n, true);
        if pop {
            self.x87_tag(top, false);
            self.asm.add_imm(false, top, top, 1);
            self.asm.bfi(false, status, top, TOP, 3);
        }
        self.x87_status(status);
    }

    /// An instruction with a memory operand at `a`, if it is one that is done in line.
    pub fn x87_mem_quick(&mut self, inst: &Inst, a: Reg, slow: DynamicLabel) -> bool {
        let access = x87::access(inst.aux);
        match (x87::escape(inst.aux), x87::digit(inst.aux)) {
            (0xd9, 0) => self.load_real(inst, a, SINGLE, slow),
            (0xdd, 0) => self.load_real(inst, a, DOUBLE, slow),
            (0xdb | 0xdf, 0) | (0xdf, 5) => {
                let Access::Read(bytes) = access else { return false };
                self.load_integer(inst, a, Type::int(bytes), slow);
            }
            (0xd9, digit @ (2 | 3)) => self.store_real(inst, a, SINGLE, digit == 3, slow),
            (0xdd, digit @ (2 | 3)) => self.store_real(inst, a, DOUBLE, digit == 3, slow),
            _ => return false,
        }
        true
    }

    fn x87_fetch(&mut self, inst: &Inst, a: Reg, ty: Type) -> Reg {
        let access = Inst { aux: inst.imm as u32, ..*inst };
        let v = self.temp();
        let a = self.probe(&access, At::reg(a), ty.bytes(), Helper::Load, None);
        self.asm.load_at(ty, v, S1, Offset::Reg(a));
        self.loaded();
        v
    }

    fn load_real(&mut self, inst: &Inst, a: Reg, f: Real, slow: DynamicLabel) {
        let v = self.x87_fetch(inst, a, f.ty);
        self.x87_push(slow, |g, _| {
            // Neither zero, denormal, infinity nor NaN: the exponent plus one has a bit above its lowest.
            g.asm.ubfx(true, S1, v, f.fraction, f.exponent);
            g.asm.add_imm(false, S0, S1, 1);
            g.asm.logic_imm(Logic::And, false, S0, S0, (1 << f.exponent) - 2);
            g.asm.cbz(false, false, S0, slow);
            g.asm.mov_imm(S0, f.rebias);
            g.asm.add(false, S1, S1, S0, 0);
            g.asm.ubfx(true, S0, v, f.fraction + f.exponent, 1);
            g.asm.logic(Logic::Orr, false, S1, S1, S0, 15);
            g.asm.lsl_imm(true, v, v, 63 - f.fraction);
            g.asm.logic_imm(Logic::Orr, true, v, v, 1 << 63);
            g.x87_pack(v, S1);
        });
        self.drop_temp(v);
    }

    /// [`V0`] becomes the number of a significand and a word with sign and exponent.
    fn x87_pack(&mut self, mant: Reg, se: Reg) {
        self.v2(FMOV_TO, V0, mant);
        // Into the high doubleword, the other stays.
        self.v2(0x4e18_1c00, V0, se);
    }

    fn load_integer(&mut self, inst: &Inst, a: Reg, ty: Type, slow: DynamicLabel) {
        let v = self.x87_fetch(inst, a, ty);
        self.x87_push(slow, |g, _| {
            g.asm.cbz(false, true, v, slow);
            g.asm.sext(ty, true, v, v);
            g.asm.asr_imm(true, S0, v, 63);
            g.asm.logic(Logic::Eor, true, v, v, S0, 0);
            g.asm.sub(true, v, v, S0);
            g.asm.clz(true, S1, v);
            g.asm.two(Two::Lsl, true, v, v, S1);
            // The exponent of 2^63, less what it was shifted by.
            g.asm.mov_imm(S2, 0x3fff + 63);
            g.asm.sub(false, S1, S2, S1);
            g.asm.logic_imm(Logic::And, false, S0, S0, 0x8000);
            g.asm.logic(Logic::Orr, false, S1, S1, S0, 0);
            g.x87_pack(v, S1);
        });
        self.drop_temp(v);
    }

    /// FST and FSTP to memory, of what is an ordinary number there.
    fn store_real(&mut self, inst: &Inst, a: Reg, f: Real, pop: bool, slow: DynamicLabel) {
        let drop = 63 - f.fraction;
        let (status, top) = self.x87_top();
        self.x87_valid(top, 0, slow);
        self.x87_place(S2, top, 0);
        let v = self.temp();
        self.asm.ldr(Type::I64, v, S2, MANT);
        self.asm.ldr(Type::I16, S2, S2, SE);
        self.asm.ldr(Type::I16, S0, STATE, FCW);
        self.asm.logic_imm(Logic::And, false, S0, S0, 0xc00);
        self.asm.cbz(true, false, S0, slow);
        self.asm.lsr_imm(true, S0, v, 63);
        self.asm.cbz(false, false, S0, slow);
        // The exponent, less one, and plus two: neither is outside the format's, so it stays inside when rounded up.
        self.asm.logic_imm(Logic::And, false, S1, S2, 0x7fff);
        self.asm.mov_imm(S0, f.rebias + 1);
        self.asm.sub(true, S1, S1, S0);
        self.asm.add_imm(true, S0, S1, 3);
        self.asm.logic(Logic::Orr, true, S0, S0, S1, 0);
        self.asm.lsr_imm(true, S0, S0, f.exponent);
        self.asm.cbz(true, true, S0, slow);
        // The sign waits in a vector register.
        self.asm.lsr_imm(false, S2, S2, 15);
        self.v2(FMOV_TO, V0, S2);
        self.asm.logic_imm(Logic::And, true, S0, v, (1 << drop) - 1);
        self.asm.lsr_imm(true, v, v, drop);
        // Up if what is dropped, and one if what is kept is odd, is more than half.
        self.asm.mov_imm(S2, (1 << (drop - 1)) - 1);
        self.asm.add(true, S2, S2, S0, 0);
        self.v2(FMOV_TO, V1, S1);
        self.asm.logic_imm(Logic::And, true, S1, v, 1);
        self.asm.add(true, S2, S2, S1, 0);
        self.asm.lsr_imm(true, S2, S2, drop);
        self.v2(FMOV_FROM, S1, V1);
        // What is kept begins with the integer bit, which counts for the exponent's missing one.
        self.asm.add(true, v, v, S2, 0);
        self.asm.add(true, v, v, S1, f.fraction);
        self.v2(FMOV_FROM, S1, V0);
        self.asm.bfi(true, v, S1, f.fraction + f.exponent, 1);
        // C1: rounded up; PE: something was dropped.
        self.asm.bfi(false, status, S2, 9, 1);
        self.asm.mov_imm(S1, (1 << drop) - 1);
        self.asm.add(true, S0, S0, S1, 0);
        self.asm.lsr_imm(true, S0, S0, drop);
        self.asm.logic(Logic::Orr, false, status, status, S0, 5);
        let access = Inst { aux: inst.imm as u32, ..*inst };
        let at = At::reg(a);
        let a = self.probe(&access, at, f.ty.bytes(), Helper::Store, Some(Stored::Reg(v)));
        self.storing();
        self.asm.store_at(f.ty, v, S1, Offset::Reg(a));
        if pop {
            self.x87_tag(top, false);
            self.asm.add_imm(false, top, top, 1);
            self.asm.bfi(false, status, top, TOP, 3);
        }
        self.asm.str(Type::I16, status, STATE, FSW);
        self.drop_temp(v);
    }

    /// The way on behind code in line, for which the helper does what is not done there.
    pub fn x87_otherwise(&mut self, label: DynamicLabel, kind: StubKind) {
        let resume = self.asm.label();
        self.asm.bind(resume);
        let site = self.site();
        self.stubs.push(Stub { label, resume, site, kind });
    }
}
