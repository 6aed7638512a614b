//! The assembler: instruction words by name, in a buffer with labels. Encodings are those of the Arm Architecture
//! Reference Manual, chapter C4 (A64 index by encoding).
//!
//! Registers are numbers; 31 is the zero register, or the stack pointer where an instruction's page says so. `wide`
//! chooses the 64-bit form.

use super::share::Offset;
use crate::labels::{Labels, Split};
use dynasmrt::aarch64::{Aarch64Relocation, encode_logical_immediate_32bit, encode_logical_immediate_64bit};
use dynasmrt::components::PatchLoc;
use dynasmrt::{AssemblyOffset, DynamicLabel};
use emu_core::ir::Type;

/// A host register by number.
pub type Reg = u8;

/// The zero register.
pub const ZR: Reg = 31;
/// The stack pointer, as a base.
pub const SP: Reg = 31;
/// The link register.
pub const LR: Reg = 30;

/// A condition, as encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cond {
    Eq,
    Ne,
    Cs,
    Cc,
    Mi,
    Pl,
    Vs,
    Vc,
    Hi,
    Ls,
    Ge,
    Lt,
    Gt,
    Le,
    Al,
}

impl Cond {
    const ALL: [Cond; 15] = {
        use Cond::*;
        [Eq, Ne, Cs, Cc, Mi, Pl, Vs, Vc, Hi, Ls, Ge, Lt, Gt, Le, Al]
    };

    /// The opposite.
    pub const fn invert(self) -> Self {
        Self::ALL[self as usize ^ 1]
    }
}

/// Logical operations between registers, as encoded: `opc` and `N`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Logic {
    And = 0,
    Orr = 1,
    Eor = 2,
    Ands = 3,
    Bic = 4,
    Orn = 5,
    Eon = 6,
}

/// Two-source operations, as encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Two {
    Udiv = 2,
    Sdiv = 3,
    Lsl = 8,
    Lsr = 9,
    Asr = 10,
    Ror = 11,
}

/// The buffer.
#[derive(Debug, Default)]
pub struct Asm {
    pub buf: Vec<u8>,
    labels: Labels<Aarch64Relocation>,
    /// Arena offset at which the buffer will lie.
    pub base: usize,
    /// How often ways have come together.
    pub joins: u32,
}

const fn sf(wide: bool) -> u32 {
    (wide as u32) << 31
}

const fn rd(r: Reg) -> u32 {
    r as u32
}

const fn rn(r: Reg) -> u32 {
    (r as u32) << 5
}

const fn rm(r: Reg) -> u32 {
    (r as u32) << 16
}

/// log2 of the bytes of an integer type.
pub const fn size(ty: Type) -> u32 {
    match ty {
        Type::I16 => 1,
        Type::I32 => 2,
        Type::I64 => 3,
        _ => 0,
    }
}

impl Asm {
    /// Starts over, for code that will lie at arena offset `base`.
    pub fn reset(&mut self, base: usize) {
        self.buf.clear();
        self.labels.clear();
        self.base = base;
        self.joins = 0;
    }

    /// Appends an instruction word.
    #[inline]
    pub fn raw(&mut self, word: u32) {
        self.buf.extend_from_slice(&word.to_le_bytes());
    }

    pub fn label(&mut self) -> DynamicLabel {
        self.labels.make()
    }

    /// Something else than what stands before may lead here.
    pub fn bind(&mut self, l: DynamicLabel) {
        self.joins += 1;
        self.resume(l);
    }

    /// A stub comes back here, with all temporaries as they were.
    pub fn resume(&mut self, l: DynamicLabel) {
        // A label that is bound twice shows as one that does not resolve.
        self.labels.bind(l, self.buf.len());
    }

    fn reloc(&mut self, l: DynamicLabel, kind: Aarch64Relocation) {
        let at = AssemblyOffset(self.buf.len());
        self.labels.refer(PatchLoc::new(at, 0, 4, 4, kind), l);
    }

    /// Resolves the labels. False if one is missing or out of reach.
    pub fn finish(&mut self) -> bool {
        let whole = Split { at: self.buf.len(), gap: 0 };
        self.labels.finish(&mut self.buf, whole, |_| {})
    }

    // Moves and constants.

    pub fn mov(&mut self, wide: bool, d: Reg, s: Reg) {
        self.logic(Logic::Orr, wide, d, ZR, s, 0);
    }

    /// Loads a constant.
    pub fn mov_imm(&mut self, d: Reg, v: u64) {
        let part = |i: u32| (v >> (16 * i)) as u16;
        let zeros = (0..4).filter(|&i| part(i) == 0).count();
        let ones = (0..4).filter(|&i| part(i) == 0xffff).count();
        if zeros < 3
            && ones < 3
            && let Some(imm) = encode_logical_immediate_64bit(v)
        {
            return self.raw(0xb200_0000 | u32::from(imm) << 10 | rn(ZR) | rd(d));
        }
        let (skip, first) = if ones > zeros { (0xffff, 0x9280_0000) } else { (0, 0xd280_0000) };
        let mut begun = false;
        for i in 0..4 {
            let p = part(i);
            if p == skip && (begun || i != 3) {
                continue;
            }
            let (op, imm) = match begun {
                false => (first, if skip == 0 { p } else { !p }),
                true => (0xf280_0000, p),
            };
            self.raw(op | i << 21 | u32::from(imm) << 5 | rd(d));
            begun = true;
        }
    }

    /// Instructions that it takes to make `v` by [`Asm::mov_imm`].
    pub fn moves(v: u64) -> usize {
        let part = |i: u32| (v >> (16 * i)) as u16;
        let count = |of: u16| (0..4).filter(|&i| part(i) == of).count();
        let parts = 4 - count(0).max(count(0xffff)).min(3);
        if parts > 1 && encode_logical_immediate_64bit(v).is_some() { 1 } else { parts }
    }

    /// Replaces bits 15-0.
    pub fn movk(&mut self, d: Reg, v: u16) {
        self.raw(0xf280_0000 | u32::from(v) << 5 | rd(d));
    }

    // Arithmetic.

    fn addsub(&mut self, wide: bool, sub: bool, flags: bool, rest: u32) {
        self.raw(sf(wide) | u32::from(sub) << 30 | u32::from(flags) << 29 | rest);
    }

    /// `d = n +- (m << shift)`, optionally setting NZCV.
    #[allow(clippy::too_many_arguments, reason = "the fields of one instruction")]
    pub fn arith(&mut self, wide: bool, sub: bool, flags: bool, d: Reg, n: Reg, m: Reg, shift: u8) {
        let rest = 0x0b00_0000 | rm(m) | u32::from(shift) << 10 | rn(n) | rd(d);
        self.addsub(wide, sub, flags, rest);
    }

    pub fn add(&mut self, wide: bool, d: Reg, n: Reg, m: Reg, shift: u8) {
        self.arith(wide, false, false, d, n, m, shift);
    }

    /// `d = n + m`, of which the lower half counts if it is `half`.
    pub fn add_reg_or_half(&mut self, d: Reg, n: Reg, m: Reg, half: bool) {
        if half {
            self.raw(0x8b20_4000 | rm(m) | rn(n) | rd(d));
        } else {
            self.add(true, d, n, m, 0);
        }
    }

    pub fn sub(&mut self, wide: bool, d: Reg, n: Reg, m: Reg) {
        self.arith(wide, true, false, d, n, m, 0);
    }

    /// `n - (m >> shift, arithmetic)`, for its NZCV alone.
    pub fn cmp_asr(&mut self, wide: bool, n: Reg, m: Reg, shift: u8) {
        self.raw(sf(wide) | 0x6b80_0000 | rm(m) | u32::from(shift) << 10 | rn(n) | rd(ZR));
    }

    /// Whether `v` is an immediate of addition and subtraction.
    pub fn is_imm12(v: u64) -> bool {
        v < 0x1000 || v & 0xfff == 0 && v < 0x100_0000
    }

    /// `d = n +- imm` for an immediate that [`Asm::is_imm12`] allows. `n` is not the zero register; neither is `d`
    /// unless flags are set.
    pub fn arith_imm(&mut self, wide: bool, sub: bool, flags: bool, d: Reg, n: Reg, imm: u64) {
        debug_assert!(n != ZR && (flags || d != ZR) && Self::is_imm12(imm));
        let field = if imm < 0x1000 { (imm as u32) << 10 } else { 1 << 22 | (imm as u32 >> 12) << 10 };
        self.addsub(wide, sub, flags, 0x1100_0000 | field | rn(n) | rd(d));
    }

    pub fn add_imm(&mut self, wide: bool, d: Reg, n: Reg, imm: u64) {
        self.arith_imm(wide, false, false, d, n, imm);
    }

    /// Moves the stack pointer.
    pub fn move_sp(&mut self, down: bool, imm: u32) {
        self.addsub(true, down, false, 0x1100_0000 | imm << 10 | rn(SP) | rd(SP));
    }

    /// `adcs` or `sbcs`.
    pub fn carry(&mut self, wide: bool, sub: bool, d: Reg, n: Reg, m: Reg) {
        self.addsub(wide, sub, true, 0x1a00_0000 | rm(m) | rn(n) | rd(d));
    }

    pub fn logic(&mut self, op: Logic, wide: bool, d: Reg, n: Reg, m: Reg, shift: u8) {
        let (opc, not) = (op as u32 & 3, op as u32 >> 2);
        let word = sf(wide) | 0x0a00_0000 | opc << 29 | not << 21 | rm(m) | u32::from(shift) << 10;
        self.raw(word | rn(n) | rd(d));
    }

    /// As [`Asm::logic`], with `m` shifted right.
    pub fn logic_lsr(&mut self, op: Logic, wide: bool, d: Reg, n: Reg, m: Reg, shift: u8) {
        let (opc, not) = (op as u32 & 3, op as u32 >> 2);
        let word = sf(wide) | 0x0a40_0000 | opc << 29 | not << 21 | rm(m) | u32::from(shift) << 10;
        self.raw(word | rn(n) | rd(d));
    }

    /// The field of a logical immediate, if `v` is one.
    pub fn logical_imm(wide: bool, v: u64) -> Option<u16> {
        if wide { encode_logical_immediate_64bit(v) } else { encode_logical_immediate_32bit(v as u32) }
    }

    /// A logical operation with an immediate that [`Asm::logical_imm`] allows. `d` is not the zero register unless `op`
    /// sets flags.
    pub fn logic_imm(&mut self, op: Logic, wide: bool, d: Reg, n: Reg, imm: u64) {
        let field = Self::logical_imm(wide, imm);
        debug_assert!(field.is_some() && (op as u8) < 4 && (d != ZR || op == Logic::Ands));
        let field = u32::from(field.unwrap_or(0));
        self.raw(sf(wide) | 0x1200_0000 | (op as u32) << 29 | field << 10 | rn(n) | rd(d));
    }

    // Bit fields.

    fn bitfield(&mut self, op: u32, wide: bool, d: Reg, n: Reg, immr: u32, imms: u32) {
        self.raw(sf(wide) | op | u32::from(wide) << 22 | immr << 16 | imms << 10 | rn(n) | rd(d));
    }

    pub fn lsl_imm(&mut self, wide: bool, d: Reg, n: Reg, by: u8) {
        let w = if wide { 64 } else { 32 };
        let by = u32::from(by);
        self.bitfield(0x5300_0000, wide, d, n, (w - by) % w, w - 1 - by);
    }

    pub fn lsr_imm(&mut self, wide: bool, d: Reg, n: Reg, by: u8) {
        self.bitfield(0x5300_0000, wide, d, n, by.into(), if wide { 63 } else { 31 });
    }

    pub fn asr_imm(&mut self, wide: bool, d: Reg, n: Reg, by: u8) {
        self.bitfield(0x1300_0000, wide, d, n, by.into(), if wide { 63 } else { 31 });
    }

    pub fn ror_imm(&mut self, wide: bool, d: Reg, n: Reg, by: u8) {
        self.raw(
            sf(wide) | 0x1380_0000 | u32::from(wide) << 22 | rm(n) | u32::from(by) << 10 | rn(n) | rd(d),
        );
    }

    /// `len` bits from bit `at` on, zero-extended.
    pub fn ubfx(&mut self, wide: bool, d: Reg, n: Reg, at: u8, len: u8) {
        self.bitfield(0x5300_0000, wide, d, n, at.into(), u32::from(at + len - 1));
    }

    /// `len` bits from bit `at` on, sign-extended.
    pub fn sbfx(&mut self, wide: bool, d: Reg, n: Reg, at: u8, len: u8) {
        self.bitfield(0x1300_0000, wide, d, n, at.into(), u32::from(at + len - 1));
    }

    /// The low `len` bits of `n` into bits `at` on of `d`.
    pub fn bfi(&mut self, wide: bool, d: Reg, n: Reg, at: u8, len: u8) {
        let w: u32 = if wide { 64 } else { 32 };
        self.bitfield(0x3300_0000, wide, d, n, (w - u32::from(at)) % w, u32::from(len) - 1);
    }

    /// `len` bits of `n` from bit `at` on into the low bits of `d`.
    pub fn bfxil(&mut self, wide: bool, d: Reg, n: Reg, at: u8, len: u8) {
        self.bitfield(0x3300_0000, wide, d, n, at.into(), u32::from(at + len - 1));
    }

    /// Zero-extends from `ty`.
    pub fn zext(&mut self, ty: Type, d: Reg, n: Reg) {
        match ty {
            Type::I8 | Type::I16 => self.ubfx(false, d, n, 0, ty.bits() as u8),
            Type::I32 => self.mov(false, d, n),
            Type::Bool => self.ubfx(false, d, n, 0, 1),
            _ => self.mov(true, d, n),
        }
    }

    /// Sign-extends from `ty` to 32 or 64 bits.
    pub fn sext(&mut self, ty: Type, wide: bool, d: Reg, n: Reg) {
        if ty == Type::I64 || ty == Type::I32 && !wide {
            return self.mov(wide, d, n);
        }
        self.sbfx(wide, d, n, 0, ty.bits() as u8);
    }

    // Shifts by registers, products, counts.

    pub fn two(&mut self, op: Two, wide: bool, d: Reg, n: Reg, m: Reg) {
        self.raw(sf(wide) | 0x1ac0_0000 | rm(m) | (op as u32) << 10 | rn(n) | rd(d));
    }

    fn one(&mut self, op: u32, wide: bool, d: Reg, n: Reg) {
        self.raw(sf(wide) | 0x5ac0_0000 | op << 10 | rn(n) | rd(d));
    }

    pub fn rbit(&mut self, wide: bool, d: Reg, n: Reg) {
        self.one(0, wide, d, n);
    }

    pub fn rev16(&mut self, d: Reg, n: Reg) {
        self.one(1, false, d, n);
    }

    /// Reverses all bytes.
    pub fn rev(&mut self, wide: bool, d: Reg, n: Reg) {
        self.one(if wide { 3 } else { 2 }, wide, d, n);
    }

    pub fn clz(&mut self, wide: bool, d: Reg, n: Reg) {
        self.one(4, wide, d, n);
    }

    pub fn mul(&mut self, wide: bool, d: Reg, n: Reg, m: Reg) {
        self.raw(sf(wide) | 0x1b00_7c00 | rm(m) | rn(n) | rd(d));
    }

    /// `d = a - n * m`.
    pub fn msub(&mut self, wide: bool, d: Reg, n: Reg, m: Reg, a: Reg) {
        self.raw(sf(wide) | 0x1b00_8000 | rm(m) | u32::from(a) << 10 | rn(n) | rd(d));
    }

    /// The 64-bit product of two 32-bit factors.
    pub fn mull(&mut self, signed: bool, d: Reg, n: Reg, m: Reg) {
        let op = if signed { 0x9b20_7c00 } else { 0x9ba0_7c00 };
        self.raw(op | rm(m) | rn(n) | rd(d));
    }

    /// The high half of the 128-bit product.
    pub fn mulh(&mut self, signed: bool, d: Reg, n: Reg, m: Reg) {
        let op = if signed { 0x9b40_7c00 } else { 0x9bc0_7c00 };
        self.raw(op | rm(m) | rn(n) | rd(d));
    }

    // Conditions and flags.

    pub fn csel(&mut self, wide: bool, d: Reg, n: Reg, m: Reg, c: Cond) {
        self.raw(sf(wide) | 0x1a80_0000 | rm(m) | (c as u32) << 12 | rn(n) | rd(d));
    }

    /// Compares n with m if `c` holds, else clears NZCV.
    pub fn ccmp(&mut self, wide: bool, n: Reg, m: Reg, c: Cond) {
        self.raw(
            0x7a40_0000 | u32::from(wide) << 31 | u32::from(m) << 16 | (c as u32) << 12 | u32::from(n) << 5,
        );
    }

    /// 1 if `c`, else 0.
    pub fn cset(&mut self, d: Reg, c: Cond) {
        self.raw(0x1a80_0400 | rm(ZR) | (c.invert() as u32) << 12 | rn(ZR) | rd(d));
    }

    /// NZCV into bits 31-28 of `d`, the other bits zero.
    pub fn mrs_nzcv(&mut self, d: Reg) {
        self.raw(0xd53b_4200 | rd(d));
    }

    pub fn msr_nzcv(&mut self, s: Reg) {
        self.raw(0xd51b_4200 | rd(s));
    }

    pub fn mrs_fpsr(&mut self, d: Reg) {
        self.raw(0xd53b_4420 | rd(d));
    }

    pub fn msr_fpsr(&mut self, s: Reg) {
        self.raw(0xd51b_4420 | rd(s));
    }

    pub fn mrs_fpcr(&mut self, d: Reg) {
        self.raw(0xd53b_4400 | rd(d));
    }

    pub fn msr_fpcr(&mut self, s: Reg) {
        self.raw(0xd51b_4400 | rd(s));
    }

    // Memory.

    fn store_op(ty: Type, load: bool) -> u32 {
        size(ty) << 30 | u32::from(load) << 22
    }

    /// Loads `ty`, zero-extended, from `[base + offset]`; an offset that is not negative and a multiple of the size.
    pub fn ldr(&mut self, ty: Type, d: Reg, base: Reg, offset: usize) {
        let field = self.scaled(offset, size(ty));
        self.raw(Self::store_op(ty, true) | 0x3900_0000 | field | rn(base) | rd(d));
    }

    pub fn str(&mut self, ty: Type, s: Reg, base: Reg, offset: usize) {
        let field = self.scaled(offset, size(ty));
        self.raw(Self::store_op(ty, false) | 0x3900_0000 | field | rn(base) | rd(s));
    }

    fn scaled(&self, offset: usize, log: u32) -> u32 {
        debug_assert!(offset.is_multiple_of(1 << log) && offset >> log < 4096, "offset {offset}");
        ((offset >> log) as u32) << 10
    }

    /// What names a place from `base` on in loads and stores of `1 << log` bytes; `word` is that of the register offset.
    fn offset_of(&self, word: u32, log: u32, base: Reg, offset: Offset) -> u32 {
        // Without the register offset's mark.
        let plain = word & !0x0020_0800;
        rn(base)
            | match offset {
                Offset::Reg(r) => word | 0x6000 | rm(r),
                Offset::Scaled(r) => word | 0x7000 | rm(r),
                Offset::Imm(i) if i >= 0 && i & ((1 << log) - 1) == 0 && i >> log < 4096 => {
                    plain | 0x0100_0000 | ((i >> log) as u32) << 10
                }
                Offset::Imm(i) => {
                    debug_assert!((-256..256).contains(&i));
                    plain | (i as u32 & 0x1ff) << 12
                }
            }
    }

    /// Loads `ty`, zero-extended. An immediate offset that is no multiple of the size is from -256 to 255.
    pub fn load_at(&mut self, ty: Type, d: Reg, base: Reg, offset: Offset) {
        let word = self.offset_of(Self::store_op(ty, true) | 0x3820_0800, size(ty), base, offset);
        self.raw(word | rd(d));
    }

    pub fn store_at(&mut self, ty: Type, s: Reg, base: Reg, offset: Offset) {
        let word = self.offset_of(Self::store_op(ty, false) | 0x3820_0800, size(ty), base, offset);
        self.raw(word | rd(s));
    }

    /// Loads or stores a vector register, or its low lane if `ty` is an integer; a load leaves zeros above.
    pub fn vector_at(&mut self, load: bool, ty: Type, r: Reg, base: Reg, offset: Offset) {
        let (op, log) = match ty {
            Type::V128 => (0x3ca0_0800 | u32::from(load) << 22, 4),
            _ => (Self::store_op(ty, load) | 0x3c20_0800, size(ty)),
        };
        let word = self.offset_of(op, log, base, offset);
        self.raw(word | rd(r));
    }

    /// Loads two 64-bit registers from `[base + offset]`.
    pub fn ldp(&mut self, a: Reg, b: Reg, base: Reg, offset: i32) {
        self.pair(0xa940_0000, a, b, base, offset, 8);
    }

    pub fn stp(&mut self, a: Reg, b: Reg, base: Reg, offset: i32) {
        self.pair(0xa900_0000, a, b, base, offset, 8);
    }

    /// Moves `base` by `offset` and stores two 64-bit registers there.
    pub fn stp_before(&mut self, a: Reg, b: Reg, base: Reg, offset: i32) {
        self.pair(0xa980_0000, a, b, base, offset, 8);
    }

    /// Loads two 64-bit registers from `[base]` and moves it by `offset`.
    pub fn ldp_after(&mut self, a: Reg, b: Reg, base: Reg, offset: i32) {
        self.pair(0xa8c0_0000, a, b, base, offset, 8);
    }

    fn pair(&mut self, op: u32, a: Reg, b: Reg, base: Reg, offset: i32, scale: i32) {
        debug_assert!(offset % scale == 0 && (-64..64).contains(&(offset / scale)));
        self.raw(op | ((offset / scale) as u32 & 0x7f) << 15 | u32::from(b) << 10 | rn(base) | rd(a));
    }

    /// Stores two 128-bit vector registers.
    pub fn stp_q(&mut self, a: Reg, b: Reg, base: Reg, offset: i32) {
        self.pair(0xad00_0000, a, b, base, offset, 16);
    }

    /// Loads or stores two 64-bit vector registers.
    pub fn pair_d(&mut self, load: bool, a: Reg, b: Reg, base: Reg, offset: i32) {
        self.pair(if load { 0x6d40_0000 } else { 0x6d00_0000 }, a, b, base, offset, 8);
    }

    /// Load-acquire exclusive.
    pub fn ldaxr(&mut self, ty: Type, d: Reg, base: Reg) {
        self.raw(size(ty) << 30 | 0x085f_fc00 | rn(base) | rd(d));
    }

    /// Store-release exclusive; `status` becomes 0 if it was done.
    pub fn stlxr(&mut self, ty: Type, status: Reg, s: Reg, base: Reg) {
        self.raw(size(ty) << 30 | 0x0800_fc00 | rm(status) | rn(base) | rd(s));
    }

    /// An atomic read-modify-write with acquire and release: `op` 0 adds, 1 clears bits, 2 exclusive or, 3 sets bits, 8
    /// exchanges (FEAT_LSE).
    pub fn lse(&mut self, op: u32, ty: Type, s: Reg, d: Reg, base: Reg) {
        self.raw(size(ty) << 30 | 0x38e0_0000 | rm(s) | op << 12 | rn(base) | rd(d));
    }

    /// Compare and swap with acquire and release: `old` is what is expected, and then what was there (FEAT_LSE).
    pub fn casal(&mut self, ty: Type, old: Reg, new: Reg, base: Reg) {
        self.raw(size(ty) << 30 | 0x08e0_fc00 | rm(old) | rn(base) | rd(new));
    }

    /// A barrier for everything, inner shareable.
    pub fn dmb(&mut self) {
        self.raw(0xd503_3bbf);
    }

    /// A barrier: loads before it come before everything behind it.
    pub fn dmb_load(&mut self) {
        self.raw(0xd503_39bf);
    }

    /// A barrier between stores.
    pub fn dmb_store(&mut self) {
        self.raw(0xd503_3abf);
    }

    // Vectors: what more than one group uses.

    pub fn ldr_q(&mut self, d: Reg, base: Reg, offset: usize) {
        let field = self.scaled(offset, 4);
        self.raw(0x3dc0_0000 | field | rn(base) | rd(d));
    }

    pub fn str_q(&mut self, s: Reg, base: Reg, offset: usize) {
        let field = self.scaled(offset, 4);
        self.raw(0x3d80_0000 | field | rn(base) | rd(s));
    }

    /// Loads the 128 bits at a label.
    pub fn ldr_q_literal(&mut self, d: Reg, l: DynamicLabel) {
        self.raw(0x9c00_0000 | rd(d));
        self.reloc(l, Aarch64Relocation::BCOND);
    }

    pub fn vzero(&mut self, d: Reg) {
        self.raw(0x6f00_e400 | rd(d));
    }

    // Branches.

    pub fn b(&mut self, l: DynamicLabel) {
        self.raw(0x1400_0000);
        self.reloc(l, Aarch64Relocation::B);
    }

    pub fn b_cond(&mut self, c: Cond, l: DynamicLabel) {
        self.raw(0x5400_0000 | c as u32);
        self.reloc(l, Aarch64Relocation::BCOND);
    }

    /// Jumps if `r` is zero, or with `not` if it is not.
    pub fn cbz(&mut self, not: bool, wide: bool, r: Reg, l: DynamicLabel) {
        self.raw(sf(wide) | 0x3400_0000 | u32::from(not) << 24 | rd(r));
        self.reloc(l, Aarch64Relocation::BCOND);
    }

    /// The address of a label within the block.
    pub fn adr(&mut self, d: Reg, l: DynamicLabel) {
        self.raw(0x1000_0000 | rd(d));
        self.reloc(l, Aarch64Relocation::ADR);
    }

    /// 64 bits at base + 8 * index.
    pub fn ldr_scaled(&mut self, d: Reg, base: Reg, index: Reg) {
        self.raw(0xf860_7800 | rm(index) | rn(base) | rd(d));
    }

    /// Loads the 32-bit word at a label.
    pub fn ldr_literal(&mut self, d: Reg, l: DynamicLabel) {
        self.raw(0x1800_0000 | rd(d));
        self.reloc(l, Aarch64Relocation::BCOND);
    }

    /// The 8 bytes at `l`.
    pub fn ldr_literal_wide(&mut self, d: Reg, l: DynamicLabel) {
        self.raw(0x5800_0000 | rd(d));
        self.reloc(l, Aarch64Relocation::BCOND);
    }

    pub fn br(&mut self, r: Reg) {
        self.raw(0xd61f_0000 | rn(r));
    }

    pub fn blr(&mut self, r: Reg) {
        self.raw(0xd63f_0000 | rn(r));
    }

    pub fn ret(&mut self) {
        self.raw(0xd65f_03c0);
    }

    /// Jumps to arena offset `target`; with `link`, calls it.
    pub fn b_abs(&mut self, link: bool, target: usize) {
        let d = super::jump_word(self.base + self.buf.len(), target);
        self.raw(d | u32::from(link) << 31);
    }
}
