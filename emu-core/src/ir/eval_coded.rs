//! Floating-point operations of the evaluator that are named by their encoding (SDM vol. 2, the pages of the instructions
//! that [`coded`] lists), on 128 bits.

use super::encoded::Encoded;
use super::eval_fp::{Lanewise, V, lane, lanes, set};
use crate::softfloat::Rounding;
use crate::softfloat::ieee::{Arithmetic, Double, Env, Half, Signs, Single};

/// What an encoding means.
#[derive(Clone, Copy)]
pub(super) enum Coded {
    /// ROUNDPS and its kin: on doubles, on all lanes.
    Round(bool, bool),
    /// HADDPS and its kin: on doubles, differences.
    Horizontal(bool, bool),
    /// ADDSUBPS and ADDSUBPD: on doubles.
    AddSub(bool),
    /// DPPS and DPPD: on doubles.
    Dot(bool),
    /// VCMPPS and its kin, with 32 predicates: on doubles, on all lanes.
    Compare(bool, bool),
    /// VFMADD132PS and its kin: on doubles.
    Fused(bool, Fused),
    /// VCVTPH2PS.
    FromHalves,
    /// VCVTPS2PH.
    ToHalves,
}

/// A fused multiply-add by its opcode.
#[derive(Clone, Copy)]
pub(super) struct Fused {
    /// Which of the operands 0 to 2 are multiplied, and which is added.
    order: [usize; 3],
    /// Of even and of odd lanes.
    signs: [Signs; 2],
    all: bool,
}

impl Fused {
    /// SDM vol. 2, A.3: rows 9, A and B of map 0F38 are the orders 132, 213 and 231.
    fn from_opcode(opcode: u8) -> Option<Self> {
        let order = match opcode >> 4 {
            9 => [0, 2, 1],
            0xa => [1, 0, 2],
            0xb => [1, 2, 0],
            _ => return None,
        };
        let kind = opcode & 15;
        let of = |product, addend| Signs { product, addend };
        let signs = match kind {
            6 => [of(false, true), of(false, false)],
            7 => [of(false, false), of(false, true)],
            8.. => [of(kind >= 12, kind & 2 != 0); 2],
            _ => return None,
        };
        Some(Self { order, signs, all: kind < 8 || kind & 1 == 0 })
    }
}

/// What `aux` names, if it is one of these.
pub(super) fn coded(aux: u32) -> Option<Coded> {
    use Coded::*;
    let e = Encoded::from_aux(aux).filter(|e| !e.l)?;
    Some(match (e.prefix, e.map, e.opcode) {
        (0x66, 3, op @ 0x08..=0x0b) => Round(op & 1 != 0, op < 0x0a),
        (prefix @ (0x66 | 0xf2), 1, op @ (0x7c | 0x7d)) => Horizontal(prefix == 0x66, op == 0x7d),
        (prefix @ (0x66 | 0xf2), 1, 0xd0) => AddSub(prefix == 0x66),
        (0x66, 3, op @ (0x40 | 0x41)) => Dot(op == 0x41),
        (prefix, 1, 0xc2) => Compare(matches!(prefix, 0x66 | 0xf2), matches!(prefix, 0 | 0x66)),
        (0x66, 2, 0x13) => FromHalves,
        (0x66, 3, 0x1d) => ToHalves,
        (0x66, 2, op) => Fused(e.w, self::Fused::from_opcode(op)?),
        _ => return None,
    })
}

/// The result of an operation on `v`.
pub(super) fn apply(env: &mut Env, what: Coded, imm: i64, v: [V; 3]) -> V {
    let by = |double: bool| if double { apply_on::<Double> } else { apply_on::<Single> };
    match what {
        Coded::Round(double, _)
        | Coded::Horizontal(double, _)
        | Coded::AddSub(double)
        | Coded::Dot(double)
        | Coded::Compare(double, _)
        | Coded::Fused(double, _) => by(double)(env, what, imm, v),
        Coded::FromHalves => (0..4).fold([0; 4], |mut out, n| {
            let v = env.widen_half(lane::<Half>(&v[0], n));
            set::<Single>(&mut out, n, v);
            out
        }),
        Coded::ToHalves => to_halves(env, imm, &v[0]),
    }
}

fn apply_on<F: Arithmetic>(env: &mut Env, what: Coded, imm: i64, [a, b, c]: [V; 3]) -> V {
    match what {
        Coded::Round(_, all) => round::<F>(env, all, imm, a, &b),
        Coded::Horizontal(_, sub) => horizontal::<F>(env, sub, &a, &b),
        Coded::AddSub(_) => (0..128 / F::BITS).fold([0; 4], |mut out, n| {
            let (x, y) = (lane::<F>(&a, n), lane::<F>(&b, n));
            let v = if n & 1 == 0 { env.sub::<F>(x, y) } else { env.add::<F>(x, y) };
            set::<F>(&mut out, n, v);
            out
        }),
        Coded::Dot(_) => dot::<F>(env, imm, &a, &b),
        Coded::Compare(_, all) => {
            lanes::<F>(env, Lanewise::Compare, if all { 128 / F::BITS } else { 1 }, imm, a, &b)
        }
        Coded::Fused(_, f) => {
            let mut out = a;
            for n in 0..if f.all { 128 / F::BITS } else { 1 } {
                let [x, y, z] = f.order.map(|k| lane::<F>([&a, &b, &c][k], n));
                let v = env.fused::<F>(x, y, z, f.signs[n as usize & 1]);
                set::<F>(&mut out, n, v);
            }
            out
        }
        Coded::FromHalves | Coded::ToHalves => a,
    }
}

/// ROUNDPS, whose source is a, and ROUNDSS, whose source is b.
fn round<F: Arithmetic>(env: &mut Env, all: bool, imm: i64, a: V, b: &V) -> V {
    let mut out = a;
    for i in 0..if all { 128 / F::BITS } else { 1 } {
        let v = env.round_integral::<F>(lane::<F>(if all { &a } else { b }, i), imm as u8);
        set::<F>(&mut out, i, v);
    }
    out
}

/// HADDPS and its kin: pairs of a, then of b.
fn horizontal<F: Arithmetic>(env: &mut Env, sub: bool, a: &V, b: &V) -> V {
    let mut out = [0; 4];
    let half = 64 / F::BITS;
    for i in 0..2 * half {
        let (v, at) = if i < half { (a, 2 * i) } else { (b, 2 * (i - half)) };
        let (x, y) = (lane::<F>(v, at), lane::<F>(v, at + 1));
        let v = if sub { env.sub::<F>(x, y) } else { env.add::<F>(x, y) };
        set::<F>(&mut out, i, v);
    }
    out
}

/// DPPS and DPPD: the immediate's high bits choose products, its low bits where their sum goes.
fn dot<F: Arithmetic>(env: &mut Env, imm: i64, a: &V, b: &V) -> V {
    let n = 128 / F::BITS;
    let mut terms: Vec<u64> = (0..n)
        .map(|i| if imm >> (4 + i) & 1 != 0 { env.mul::<F>(lane::<F>(a, i), lane::<F>(b, i)) } else { 0 })
        .collect();
    while terms.len() > 1 {
        terms = terms.chunks(2).map(|p| env.add::<F>(p[0], p[1])).collect();
    }
    let mut out = [0; 4];
    (0..n).filter(|i| imm >> i & 1 != 0).for_each(|i| set::<F>(&mut out, i, terms[0]));
    out
}

/// The rounding is MXCSR's or the immediate's; FTZ does not count.
fn to_halves(env: &mut Env, imm: i64, a: &V) -> V {
    env.ftz = false;
    env.rounding = match imm & 7 {
        0 => Rounding::Nearest,
        1 => Rounding::Down,
        2 => Rounding::Up,
        3 => Rounding::Zero,
        _ => env.rounding,
    };
    let mut out = [0; 4];
    for n in 0..4 {
        let v = env.convert::<Single, Half>(lane::<Single>(a, n));
        set::<Half>(&mut out, n, v);
    }
    out
}
