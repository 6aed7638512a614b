//! Floating-point operations of the evaluator, by the pages of the manual (SDM vol. 2) that their names give, in the
//! integers of [`crate::softfloat::ieee`].

use super::eval_coded;
use super::ops::Type;
use super::vecop::VecOp;
use crate::softfloat::ieee::{Arithmetic, Double, Env, Format, Single};

/// A vector value, low quadword first.
pub(super) type V = [u64; 4];

/// An arithmetic operation on one lane of either format.
#[derive(Clone, Copy)]
pub(super) enum Lanewise {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Sqrt,
    Compare,
}

/// Whether [`fp`] knows operation `aux` with a result of type `ty`.
pub fn knows(aux: u32, ty: Type) -> bool {
    match VecOp::from_number(aux) {
        Some(op) => {
            op as u32 >= VecOp::Addss as u32
                && (ty != Type::V256 || lanewise(op).is_some_and(|(.., all)| all))
        }
        None => eval_coded::coded(aux).is_some(),
    }
}

/// The operation, whether on doubles, and whether on all lanes.
fn lanewise(op: VecOp) -> Option<(Lanewise, bool, bool)> {
    use Lanewise::*;
    use VecOp as O;
    let (kind, first) = match op {
        O::Addss | O::Addsd | O::Addps | O::Addpd => (Add, O::Addss),
        O::Subss | O::Subsd | O::Subps | O::Subpd => (Sub, O::Subss),
        O::Mulss | O::Mulsd | O::Mulps | O::Mulpd => (Mul, O::Mulss),
        O::Divss | O::Divsd | O::Divps | O::Divpd => (Div, O::Divss),
        O::Minss | O::Minsd | O::Minps | O::Minpd => (Min, O::Minss),
        O::Maxss | O::Maxsd | O::Maxps | O::Maxpd => (Max, O::Maxss),
        O::Sqrtss | O::Sqrtsd | O::Sqrtps | O::Sqrtpd => (Sqrt, O::Sqrtss),
        O::Cmpss | O::Cmpsd | O::Cmpps | O::Cmppd => (Compare, O::Cmpss),
        _ => return None,
    };
    // Each has its four forms in the order ss, sd, ps, pd.
    let form = op as u32 - first as u32;
    Some((kind, form & 1 != 0, form & 2 != 0))
}

/// Lane `n` of format `F`.
pub(super) fn lane<F: Format>(v: &V, n: u32) -> u64 {
    let at = n * F::BITS;
    v[(at / 64) as usize] >> (at % 64) & (F::SIGN | F::MAGNITUDE)
}

pub(super) fn set<F: Format>(v: &mut V, n: u32, x: u64) {
    let at = n * F::BITS;
    let mask = (F::SIGN | F::MAGNITUDE) << (at % 64);
    let word = &mut v[(at / 64) as usize];
    *word = *word & !mask | x << (at % 64) & mask;
}

/// The result of operation `aux`, which [`knows`] has been asked about, on `a`, `b` (of type `from`) and a third,
/// all exceptions being masked, and the flags to set in MXCSR. `ty` is the result's type; flags are in RFLAGS' places in the first word.
pub fn fp(aux: u32, ty: Type, from: Type, imm: i64, [a, b, c]: [V; 3], mxcsr: u32) -> (V, u32) {
    let mut env = Env::from_mxcsr(mxcsr | 0x1f80);
    let Some(op) = VecOp::from_number(aux) else {
        let r = match eval_coded::coded(aux) {
            Some(what) => eval_coded::apply(&mut env, what, imm, [a, b, c]),
            None => [0; 4],
        };
        return (r, u32::from(env.outcome().unwrap_or_else(|all| all).0));
    };
    let r = match lanewise(op) {
        Some((kind, double, all)) => {
            let bits = if double { 64 } else { 32 };
            let n = if all { ty.bits() / bits } else { 1 };
            if double {
                lanes::<Double>(&mut env, kind, n, imm, a, &b)
            } else {
                lanes::<Single>(&mut env, kind, n, imm, a, &b)
            }
        }
        None => other(&mut env, op, ty, from, a, &b),
    };
    // With everything masked both are the same.
    let flags = env.outcome().unwrap_or_else(|all| all);
    (r, u32::from(flags.0))
}

/// The first `n` lanes; the others are those of `a`.
pub(super) fn lanes<F: Arithmetic>(env: &mut Env, kind: Lanewise, n: u32, imm: i64, a: V, b: &V) -> V {
    use Lanewise::*;
    let mut out = a;
    for i in 0..n {
        let (x, y) = (lane::<F>(&a, i), lane::<F>(b, i));
        let v = match kind {
            Add => env.add::<F>(x, y),
            Sub => env.sub::<F>(x, y),
            Mul => env.mul::<F>(x, y),
            Div => env.div::<F>(x, y),
            Min => env.min::<F>(x, y),
            Max => env.max::<F>(x, y),
            Sqrt => env.sqrt::<F>(y),
            Compare if env.predicate::<F>(x, y, imm as u8 & 31) => u64::MAX,
            Compare => 0,
        };
        set::<F>(&mut out, i, v & (F::SIGN | F::MAGNITUDE));
    }
    out
}

/// Comparisons into flags, and conversions.
fn other(env: &mut Env, op: VecOp, ty: Type, from: Type, a: V, b: &V) -> V {
    use VecOp::*;
    let mut out = [0; 4];
    let single = |n| lane::<Single>(b, n);
    let double = |n| lane::<Double>(b, n);
    let signed = |n| i64::from(lane::<Single>(b, n) as u32 as i32);
    match op {
        Comiss | Ucomiss => {
            out[0] = env.compare::<Single>(lane::<Single>(&a, 0), single(0), op == Comiss).eflags().into();
        }
        Comisd | Ucomisd => {
            out[0] = env.compare::<Double>(a[0], double(0), op == Comisd).eflags().into();
        }
        Cvtss2sd => {
            out = a;
            out[0] = env.convert::<Single, Double>(single(0));
        }
        Cvtsd2ss => {
            out = a;
            let v = env.convert::<Double, Single>(double(0));
            set::<Single>(&mut out, 0, v);
        }
        Cvtps2pd => out[..2].copy_from_slice(&[0, 1].map(|n| env.convert::<Single, Double>(single(n)))),
        Cvtpd2ps => (0..2).for_each(|n| {
            let v = env.convert::<Double, Single>(double(n));
            set::<Single>(&mut out, n, v);
        }),
        Cvtdq2ps => (0..4).for_each(|n| {
            let v = env.from_integer::<Single>(signed(n));
            set::<Single>(&mut out, n, v);
        }),
        Cvtdq2pd => out[..2].copy_from_slice(&[0, 1].map(|n| env.from_integer::<Double>(signed(n)))),
        Cvtps2dq | Cvttps2dq => (0..4).for_each(|n| {
            let v = single(n);
            let v =
                if op == Cvtps2dq { env.to_integer::<Single>(v, 32) } else { env.truncate::<Single>(v, 32) };
            set::<Single>(&mut out, n, v);
        }),
        Cvtpd2dq | Cvttpd2dq => (0..2).for_each(|n| {
            let v = double(n);
            let v =
                if op == Cvtpd2dq { env.to_integer::<Double>(v, 32) } else { env.truncate::<Double>(v, 32) };
            set::<Single>(&mut out, n, v);
        }),
        Cvtsi2ss | Cvtsi2sd => {
            out = a;
            let v = from.signed(from.truncate(b[0]));
            if op == Cvtsi2ss {
                let v = env.from_integer::<Single>(v);
                set::<Single>(&mut out, 0, v);
            } else {
                out[0] = env.from_integer::<Double>(v);
            }
        }
        Cvtss2si => out[0] = env.to_integer::<Single>(single(0), ty.bits()),
        Cvtsd2si => out[0] = env.to_integer::<Double>(double(0), ty.bits()),
        Cvttss2si => out[0] = env.truncate::<Single>(single(0), ty.bits()),
        Cvttsd2si => out[0] = env.truncate::<Double>(double(0), ty.bits()),
        // `lanewise` knows the others, and `knows` refuses what is no floating point.
        _ => {}
    }
    out
}
