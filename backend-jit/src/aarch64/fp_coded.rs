//! Floating-point operations that are named by their x86 encoding, on 128 bits: see `fp` for how they are checked.
//!
//! Where the host would choose another NaN than the guest, or give it another sign, the result is compared with itself
//! by an instruction that raises IOC for any NaN, so that the helper does the operation over.

use super::Codegen;
use super::asm::{Logic, Reg};
use super::coded::Coded;
use super::fp::{FCMGE, double, lanes};
use super::mem::FpTo;
use super::vals::{S0, S1};
use super::vecregs::{V0, V1, V2};
use super::words::{AND, EOR};
use emu_core::ir::encoded::Encoded;
use emu_core::ir::{Inst, Op, Value};

/// What an encoding means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Float {
    /// ROUNDPS and its kin: on doubles, on all lanes.
    Round(bool, bool),
    /// HADDPS and its kin: on doubles, differences.
    Horizontal(bool, bool),
    /// ADDSUBPS and ADDSUBPD: on doubles.
    AddSub(bool),
    /// DPPS and DPPD: on doubles.
    Dot(bool),
    /// VFMADD132PS and its kin: on doubles.
    Fused(bool, Fused),
    /// VCVTPH2PS.
    FromHalves,
    /// VCVTPS2PH.
    ToHalves,
}

/// Which lanes' addends lose their sign's meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Minus {
    None,
    Even,
    Odd,
    All,
}

/// A fused multiply-add.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fused {
    /// Numbers of the arguments: factors, addend.
    order: [u8; 3],
    /// The product is subtracted.
    negative: bool,
    minus: Minus,
    all: bool,
}

impl Fused {
    fn from_opcode(opcode: u8) -> Option<Self> {
        let order = match opcode & 0xf0 {
            0x90 => [0, 2, 1],
            0xa0 => [1, 0, 2],
            0xb0 => [1, 2, 0],
            _ => return None,
        };
        let (negative, minus) = match opcode & 0xe {
            6 if opcode & 1 == 0 => (false, Minus::Even),
            6 => (false, Minus::Odd),
            8 => (false, Minus::None),
            0xa => (false, Minus::All),
            0xc => (true, Minus::None),
            0xe => (true, Minus::All),
            _ => return None,
        };
        Some(Self { order, negative, minus, all: opcode & 0xf < 8 || opcode & 1 == 0 })
    }
}

impl Float {
    /// Whether it is on low lanes.
    pub fn one_lane(self) -> bool {
        match self {
            Self::Round(_, all) => !all,
            Self::Fused(_, f) => !f.all,
            _ => false,
        }
    }

    /// What an encoding of 128 bits names, if it is one of these.
    pub fn from_encoding(e: Encoded) -> Option<Self> {
        use Float::*;
        Some(match (e.prefix, e.map, e.opcode) {
            (0x66, 3, op @ 0x08..=0x0b) => Round(op & 1 != 0, op < 0x0a),
            (prefix @ (0x66 | 0xf2), 1, op @ (0x7c | 0x7d)) => Horizontal(prefix == 0x66, op == 0x7d),
            (prefix @ (0x66 | 0xf2), 1, 0xd0) => AddSub(prefix == 0x66),
            (0x66, 3, op @ (0x40 | 0x41)) => Dot(op == 0x41),
            (0x66, 2, 0x13) => FromHalves,
            (0x66, 3, 0x1d) => ToHalves,
            (0x66, 2, op) => Fused(e.w, self::Fused::from_opcode(op)?),
            _ => return None,
        })
    }
}

const FADD: u32 = 0x4e20_d400;
const FSUB: u32 = 0x4ea0_d400;
const FMUL: u32 = 0x6e20_dc00;
const FADDP: u32 = 0x6e20_d400;
const FNEG: u32 = 0x6ea0_f800;
const FMLA: u32 = 0x4e20_cc00;
const FMLS: u32 = 0x4ea0_cc00;
/// The scalar forms: bit 21 negates the result, bit 15 the product.
const FMADD: u32 = 0x1f00_0000;
/// Low four singles from halves, and back.
const FCVTL: u32 = 0x0e21_7800;
const FCVTN: u32 = 0x0e21_6800;

/// The signs of lanes: of even ones, of odd ones.
const fn signs(wide: bool, odd: bool) -> (u64, u64) {
    match (wide, odd) {
        (false, false) => (1 << 31, 1 << 31),
        (false, true) => (1 << 63, 1 << 63),
        (true, false) => (1 << 63, 0),
        (true, true) => (0, 1 << 63),
    }
}

impl Codegen {
    /// Fp by encoding.
    pub fn float_coded(&mut self, me: Value, inst: &Inst, op: Float) {
        match op {
            Float::Round(wide, all) => self.round(me, inst, wide, all),
            Float::Horizontal(wide, sub) => self.horizontal(me, inst, wide, sub),
            Float::AddSub(wide) => self.add_sub_lanes(me, inst, wide),
            Float::Dot(wide) => self.dot(me, inst, wide),
            Float::Fused(wide, f) => self.fused(me, inst, wide, f),
            Float::FromHalves => {
                let a = self.vreg(inst.args[0]);
                self.packed(me, inst, a, a, false, |g, d| g.v2(FCVTL, d, a));
            }
            Float::ToHalves => self.narrow_to_halves(me, inst),
        }
    }

    /// ROUNDPS and its kin. Inexact is what is no integer, whichever way it is rounded; FRINTX says so.
    fn round(&mut self, me: Value, inst: &Inst, wide: bool, all: bool) {
        let imm = inst.imm as usize;
        let emit = |g: &mut Self, d: Reg, _: Reg, b: Reg| {
            let size = double(wide);
            // N, M (down), P (up), Z, then I (as MXCSR says) and X (that, raising inexact).
            let words: [u32; 6] = if all {
                [0x4e21_8800, 0x4e21_9800, 0x4ea1_8800, 0x4ea1_9800, 0x6ea1_9800, 0x6e21_9800]
            } else {
                [0x1e24_4000, 0x1e25_4000, 0x1e24_c000, 0x1e25_c000, 0x1e27_c000, 0x1e27_4000]
            };
            if imm & 8 == 0 {
                g.v2(words[5] | size, if imm & 4 != 0 { d } else { V1 }, b);
            }
            match imm & 12 {
                4 => {}
                12 => g.v2(words[4] | size, d, b),
                _ => g.v2(words[imm & 3] | size, d, b),
            }
        };
        if !all {
            return self.scalar(me, inst, (wide, true), emit);
        }
        let a = self.vreg(inst.args[0]);
        self.packed(me, inst, a, a, false, |g, d| emit(g, d, a, a));
    }

    /// HADDPS and its kin: of neighbours.
    fn horizontal(&mut self, me: Value, inst: &Inst, wide: bool, sub: bool) {
        let (a, b) = (self.vreg(inst.args[0]), self.vreg(inst.args[1]));
        self.packed(me, inst, a, b, false, |g, d| {
            let size = if wide { 3 << 22 } else { 2 << 22 };
            g.v3(0x4e00_1800 | size, V2, a, b);
            g.v3(0x4e00_5800 | size, V1, a, b);
            g.v3(if sub { FSUB } else { FADD } | double(wide), d, V2, V1);
        });
    }

    /// Raises IOC if a lane of `v` is a NaN. Changes [`V1`].
    fn raise_if_nan(&mut self, wide: bool, all: bool, v: Reg) {
        self.v3(lanes(FCMGE, all) | double(wide), V1, v, v);
    }

    /// The same for the result of the fused operation in hand, in `d`. In the body's form of a run it may be left to a later
    /// one: if that has this result among its operands, a NaN comes out of it, too; or one comparison does for both.
    fn raise_if_fused_nan(&mut self, me: Value, inst: &Inst, wide: bool, all: bool, d: Reg) {
        let before = self.nan_waits.take();
        let next = self.fused_later(inst, None);
        let passed_on = self.fused_later(inst, Some(me)).is_some();
        let lives = |g: &Self, v: Value, j: usize| g.an.facts[v.index()].last as usize > j;
        match (before, next) {
            (None, Some(_)) if passed_on => {}
            (None, Some(j)) if lives(self, me, j) => self.nan_waits = Some(me),
            (Some(v), Some(j)) if passed_on && lives(self, v, j) => self.nan_waits = before,
            _ => {
                let other =
                    before.map_or(d, |v| if all { self.vread(v, V2) } else { self.vread_low(v, wide, V2) });
                self.v3(lanes(FCMGE, all) | double(wide), V1, other, d);
            }
        }
    }

    /// The next operation of the run in hand, if its body's form is, that is fused as `inst` is on the same lanes, and has
    /// `v` among its operands if there is one.
    fn fused_later(&self, inst: &Inst, v: Option<Value>) -> Option<usize> {
        let end = self.run_stop()?;
        let Some(Coded::Float(Float::Fused(wide, f))) = Coded::from_aux(inst.aux) else { return None };
        (self.at + 1..end).find(|&j| {
            let i = &self.insts[j];
            let same =
                |c: Coded| matches!(c, Coded::Float(Float::Fused(w, g)) if (w, g.all) == (wide, f.all));
            i.op == Op::Fp
                && self.an.facts[j].needed
                && Coded::from_aux(i.aux).is_some_and(same)
                && v.is_none_or(|v| i.args.contains(&v))
        })
    }

    /// ADDSUBPS and ADDSUBPD: sums, the addends of even lanes with their sign changed.
    fn add_sub_lanes(&mut self, me: Value, inst: &Inst, wide: bool) {
        let (a, b) = (self.vreg(inst.args[0]), self.vreg(inst.args[1]));
        self.packed(me, inst, a, b, false, |g, d| {
            let (low, high) = signs(wide, false);
            g.vconst(V1, low, high);
            g.v3(EOR, V1, V1, b);
            g.v3(FADD | double(wide), d, a, V1);
            g.raise_if_nan(wide, true, d);
        });
    }

    /// DPPS and DPPD. What flushing makes of a tiny product may make the sum inexact that was not.
    fn dot(&mut self, me: Value, inst: &Inst, wide: bool) {
        let (a, b) = (self.vreg(inst.args[0]), self.vreg(inst.args[1]));
        let imm = inst.imm as u64;
        let lane_bits = |n: u64| {
            let on = |k: u64| imm >> (n + k) & 1 != 0;
            let half = |h: u64| match wide {
                true if on(h) => u64::MAX,
                true => 0,
                false => {
                    let of = |k: u64| if on(2 * h + k) { 0xffff_ffffu64 } else { 0 };
                    of(0) | of(1) << 32
                }
            };
            (half(0), half(1))
        };
        self.packed(me, inst, a, b, true, |g, d| {
            let size = double(wide);
            let (mut x, mut y) = (a, b);
            let (low, high) = lane_bits(4);
            if (low, high) != (u64::MAX, u64::MAX) {
                // Products that are not wanted are zero times zero.
                g.vconst(V0, low, high);
                g.v3(AND, V1, a, V0);
                g.v3(AND, V2, b, V0);
                (x, y) = (V1, V2);
            }
            g.v3(FMUL | size, V2, x, y);
            for _ in 0..if wide { 1 } else { 2 } {
                g.v3(FADDP | size, V2, V2, V2);
            }
            g.raise_if_nan(wide, true, V2);
            let (low, high) = lane_bits(0);
            g.vconst(V0, low, high);
            g.v3(AND, d, V2, V0);
        });
    }

    /// VFMADD132PS and its kin. A factor or addend that is flushed may make the sum inexact that was not.
    fn fused(&mut self, me: Value, inst: &Inst, wide: bool, f: Fused) {
        let args: [Reg; 3] = std::array::from_fn(|n| match f.all {
            true => self.vreg(inst.args[n]),
            false => self.vlow(inst.args[n], wide),
        });
        let [a, b, c] = f.order.map(|n| args[usize::from(n)]);
        let size = double(wide);
        if !f.all {
            return self.scalar(me, inst, (wide, true), |g, d, _, _| {
                // The host negates all of it, or the product.
                let (all, product) = match (f.negative, f.minus == Minus::All) {
                    (false, false) => (false, false),
                    (false, true) => (true, true),
                    (true, false) => (false, true),
                    (true, true) => (true, false),
                };
                let word = FMADD | size | u32::from(all) << 21 | u32::from(product) << 15;
                g.v3(word | u32::from(c) << 10, d, a, b);
                g.raise_if_fused_nan(me, inst, wide, false, d);
            });
        }
        let addend = inst.args[usize::from(f.order[2])];
        if f.minus == Minus::None && c != a && c != b && self.may_spoil(addend) {
            // In its own register, in the body with nothing to copy.
            let word = if f.negative { FMLS } else { FMLA } | size;
            let look = self.checked(inst, args[0], args[1], true);
            let to = self.vdest_over(me, addend, &[a, b]);
            // Where it may have to be done over at once, the addend is still wanted.
            let sum = if self.run_stop().is_some() { c } else { V0 };
            self.vmov(sum, c);
            self.v3(word, sum, a, b);
            self.raise_if_fused_nan(me, inst, wide, true, sum);
            self.check(&look, FpTo::Vec(to.reg));
            self.vmov(to.reg, sum);
            self.asm.bind(look.resume);
            return self.vfinish(me, to);
        }
        self.packed(me, inst, args[0], args[1], true, |g, d| {
            let sum = if d == a || d == b || f.minus != Minus::None { V0 } else { d };
            match f.minus {
                Minus::None => g.vmov(sum, c),
                Minus::All => g.v2(FNEG | size, V0, c),
                Minus::Even | Minus::Odd => {
                    let (low, high) = signs(wide, f.minus == Minus::Odd);
                    g.vconst(V0, low, high);
                    g.v3(EOR, V0, V0, c);
                }
            }
            g.v3(if f.negative { FMLS } else { FMLA } | size, sum, a, b);
            g.raise_if_fused_nan(me, inst, wide, true, sum);
            g.vmov(d, sum);
        });
    }

    /// VCVTPS2PH, whose rounding the immediate chooses. FZ does not concern halves.
    fn narrow_to_halves(&mut self, me: Value, inst: &Inst) {
        let a = self.vreg(inst.args[0]);
        let imm = inst.imm as u64;
        self.packed(me, inst, a, a, false, |g, d| {
            if imm & 4 != 0 {
                return g.v2(FCVTN, d, a);
            }
            g.asm.mrs_fpcr(S1);
            // 0 nearest, 1 down, 2 up, 3 to zero; here up is 1 and down 2.
            let rounding = (imm & 1) << 1 | imm >> 1 & 1;
            g.asm.logic_imm(Logic::And, true, S0, S1, !(3 << 22));
            if rounding != 0 {
                g.asm.logic_imm(Logic::Orr, true, S0, S0, rounding << 22);
            }
            g.asm.msr_fpcr(S0);
            g.v2(FCVTN, d, a);
            g.asm.msr_fpcr(S1);
        });
    }
}
