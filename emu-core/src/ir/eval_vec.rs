//! Vector operations of the evaluator, by the pages of the manual (SDM vol. 2) that their names give. Integer
//! operations alone; floating point is in `eval_fp`.

use super::ops::Type;
use super::vecop::VecOp;

/// A vector value, low quadword first.
type V = [u64; 4];

/// The result of `op`; `ty` is its type and `from` are the types of `a` and `b`.
pub(super) fn eval(op: VecOp, ty: Type, from: [Type; 2], imm: i64, a: V, b: V, c: V) -> V {
    if op == VecOp::SetLane {
        let mut out = bytes_of(a);
        let n = from[1].bytes() as usize;
        let at = imm as usize * n;
        out[at..at + n].copy_from_slice(&b[0].to_le_bytes()[..n]);
        return from_bytes(out);
    }
    if let Some(v) = across(op, ty, from[0], imm, a) {
        return v;
    }
    let mut out = [0; 4];
    for half in 0..(ty.bits() / 128) as usize {
        let take = |v: V| u128::from(v[2 * half]) | u128::from(v[2 * half + 1]) << 64;
        let r = lanes(op, imm, take(a), take(b), take(c));
        out[2 * half] = r as u64;
        out[2 * half + 1] = (r >> 64) as u64;
    }
    out
}

fn from_bytes(b: [u8; 32]) -> V {
    std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|k| b[8 * i + k])))
}

fn bytes_of(v: V) -> [u8; 32] {
    let mut out = [0; 32];
    for (chunk, q) in out.chunks_mut(8).zip(v) {
        chunk.copy_from_slice(&q.to_le_bytes());
    }
    out
}

/// Lane `n` of `bits` bits.
fn lane(v: V, bits: u32, n: u32) -> u64 {
    let at = n * bits;
    Type::int(bits / 8).truncate(v[(at / 64) as usize] >> (at % 64))
}

/// Operations between vectors and integers, or from a narrower part of the vector.
fn across(op: VecOp, ty: Type, from: Type, imm: i64, a: V) -> Option<V> {
    use VecOp::*;
    let one = |q: u64| Some([q, 0, 0, 0]);
    let signs = |bits: u32| {
        let n = from.bits() / bits;
        (0..n).fold(0, |m, k| m | (lane(a, bits, k) >> (bits - 1)) << k)
    };
    let (width, to, signed) = match op {
        FromInt => return one(a[0]),
        Lane => return one(lane(a, ty.bits(), imm as u32)),
        ZeroHigh => return one(a[0]),
        Pmovmskb => return one(signs(8)),
        Movmskps => return one(signs(32)),
        Movmskpd => return one(signs(64)),
        Pmovsxbw => (8, 16, true),
        Pmovsxbd => (8, 32, true),
        Pmovsxbq => (8, 64, true),
        Pmovsxwd => (16, 32, true),
        Pmovsxwq => (16, 64, true),
        Pmovsxdq => (32, 64, true),
        Pmovzxbw => (8, 16, false),
        Pmovzxbd => (8, 32, false),
        Pmovzxbq => (8, 64, false),
        Pmovzxwd => (16, 32, false),
        Pmovzxwq => (16, 64, false),
        Pmovzxdq => (32, 64, false),
        _ => return None,
    };
    let mut out = [0; 4];
    for n in 0..ty.bits() / to {
        let v = lane(a, width, n);
        let v = if signed { Type::int(width / 8).signed(v) as u64 } else { v };
        out[(n * to / 64) as usize] |= Type::int(to / 8).truncate(v) << (n * to % 64);
    }
    Some(out)
}

/// `f` on each lane of `bits` bits of a and b.
fn map(bits: u32, a: u128, b: u128, f: impl Fn(u64, u64) -> u64) -> u128 {
    let ty = Type::int(bits / 8);
    let mut r = 0;
    for at in (0..128).step_by(bits as usize) {
        let v = f(ty.truncate((a >> at) as u64), ty.truncate((b >> at) as u64));
        r |= u128::from(ty.truncate(v)) << at;
    }
    r
}

/// `f` on each lane as signed numbers.
fn smap(bits: u32, a: u128, b: u128, f: impl Fn(i64, i64) -> i64) -> u128 {
    let ty = Type::int(bits / 8);
    map(bits, a, b, |x, y| f(ty.signed(x), ty.signed(y)) as u64)
}

fn clamp(bits: u32, v: i64) -> i64 {
    v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
}

fn uclamp(bits: u32, v: i64) -> i64 {
    v.clamp(0, (1 << bits) - 1)
}

/// Lane `n` of `bits` bits, unsigned.
fn at(bits: u32, v: u128, n: u32) -> u64 {
    Type::int(bits / 8).truncate((v >> (n * bits)) as u64)
}

/// Lane `n` of `bits` bits, signed.
fn sat(bits: u32, v: u128, n: u32) -> i64 {
    Type::int(bits / 8).signed(at(bits, v, n))
}

/// A vector from its lanes.
fn build(bits: u32, f: impl Fn(u32) -> u64) -> u128 {
    let ty = Type::int(bits / 8);
    (0..128 / bits).fold(0, |r, n| r | u128::from(ty.truncate(f(n))) << (n * bits))
}

/// Pairs of neighbours of a, then of b, combined.
fn horizontal(bits: u32, a: u128, b: u128, f: impl Fn(i64, i64) -> i64) -> u128 {
    let half = 64 / bits;
    build(bits, |n| {
        let (v, k) = if n < half { (a, 2 * n) } else { (b, 2 * (n - half)) };
        f(sat(bits, v, k), sat(bits, v, k + 1)) as u64
    })
}

/// Lanes of a and b alternately, from lane `first` on.
fn interleave(bits: u32, a: u128, b: u128, first: u32) -> u128 {
    build(bits, |n| at(bits, if n % 2 == 0 { a } else { b }, first + n / 2))
}

/// Lanes of twice `bits` of a, then of b, narrowed.
fn pack(bits: u32, a: u128, b: u128, f: impl Fn(u32, i64) -> i64) -> u128 {
    let half = 64 / bits;
    build(bits, |n| {
        let v = if n < half { sat(2 * bits, a, n) } else { sat(2 * bits, b, n - half) };
        f(bits, v) as u64
    })
}

/// Logical (`left`: to the left) and arithmetic shifts of lanes by `n`.
fn shift(bits: u32, a: u128, n: u64, left: bool) -> u128 {
    if n >= u64::from(bits) {
        return 0;
    }
    map(bits, a, 0, |x, _| if left { x << n } else { x >> n })
}

fn shift_right_signed(bits: u32, a: u128, n: u64) -> u128 {
    let n = n.min(u64::from(bits) - 1);
    smap(bits, a, 0, |x, _| x >> n)
}

/// Everything that works on 128 bits by itself.
fn lanes(op: VecOp, imm: i64, a: u128, b: u128, c: u128) -> u128 {
    use VecOp::*;
    let add = |x: u64, y: u64| x.wrapping_add(y);
    let sub = |x: u64, y: u64| x.wrapping_sub(y);
    let all = |on: bool| if on { u64::MAX } else { 0 };
    let control = imm as u32;
    match op {
        Pand => a & b,
        Pandn => !a & b,
        Por => a | b,
        Pxor => a ^ b,
        Paddb => map(8, a, b, add),
        Paddw => map(16, a, b, add),
        Paddd => map(32, a, b, add),
        Paddq => map(64, a, b, add),
        Psubb => map(8, a, b, sub),
        Psubw => map(16, a, b, sub),
        Psubd => map(32, a, b, sub),
        Psubq => map(64, a, b, sub),
        Paddsb => smap(8, a, b, |x, y| clamp(8, x + y)),
        Paddsw => smap(16, a, b, |x, y| clamp(16, x + y)),
        Psubsb => smap(8, a, b, |x, y| clamp(8, x - y)),
        Psubsw => smap(16, a, b, |x, y| clamp(16, x - y)),
        Paddusb => map(8, a, b, |x, y| (x + y).min(0xff)),
        Paddusw => map(16, a, b, |x, y| (x + y).min(0xffff)),
        Psubusb | Psubusw => map(if op == Psubusb { 8 } else { 16 }, a, b, |x, y| x.saturating_sub(y)),
        Pmullw => smap(16, a, b, |x, y| x * y),
        Pmulhw => smap(16, a, b, |x, y| (x * y) >> 16),
        Pmulhuw => map(16, a, b, |x, y| (x * y) >> 16),
        Pmulld => smap(32, a, b, |x, y| x * y),
        Pmuludq => build(64, |n| at(32, a, 2 * n) * at(32, b, 2 * n)),
        Pmuldq => build(64, |n| (sat(32, a, 2 * n) * sat(32, b, 2 * n)) as u64),
        Pmulhrsw => smap(16, a, b, |x, y| (((x * y) >> 14) + 1) >> 1),
        Pmaddwd => build(32, |n| {
            let p = |k| sat(16, a, k) * sat(16, b, k);
            (p(2 * n) + p(2 * n + 1)) as u64
        }),
        Pmaddubsw => build(16, |n| {
            let p = |k| at(8, a, k) as i64 * sat(8, b, k);
            clamp(16, p(2 * n) + p(2 * n + 1)) as u64
        }),
        Psadbw => build(64, |n| (8 * n..8 * n + 8).map(|k| at(8, a, k).abs_diff(at(8, b, k))).sum()),
        Pavgb => map(8, a, b, |x, y| (x + y + 1) >> 1),
        Pavgw => map(16, a, b, |x, y| (x + y + 1) >> 1),
        Pminub => map(8, a, b, u64::min),
        Pminuw => map(16, a, b, u64::min),
        Pminud => map(32, a, b, u64::min),
        Pmaxub => map(8, a, b, u64::max),
        Pmaxuw => map(16, a, b, u64::max),
        Pmaxud => map(32, a, b, u64::max),
        Pminsb => smap(8, a, b, i64::min),
        Pminsw => smap(16, a, b, i64::min),
        Pminsd => smap(32, a, b, i64::min),
        Pmaxsb => smap(8, a, b, i64::max),
        Pmaxsw => smap(16, a, b, i64::max),
        Pmaxsd => smap(32, a, b, i64::max),
        Phaddw => horizontal(16, a, b, |x, y| x + y),
        Phaddd => horizontal(32, a, b, |x, y| x + y),
        Phaddsw => horizontal(16, a, b, |x, y| clamp(16, x + y)),
        Phsubw => horizontal(16, a, b, |x, y| x - y),
        Phsubd => horizontal(32, a, b, |x, y| x - y),
        Phsubsw => horizontal(16, a, b, |x, y| clamp(16, x - y)),
        Psignb => smap(8, a, b, |x, y| x * y.signum()),
        Psignw => smap(16, a, b, |x, y| x * y.signum()),
        Psignd => smap(32, a, b, |x, y| x * y.signum()),
        Pabsb => smap(8, a, 0, |x, _| x.abs()),
        Pabsw => smap(16, a, 0, |x, _| x.abs()),
        Pabsd => smap(32, a, 0, |x, _| x.abs()),
        Pcmpeqb => map(8, a, b, |x, y| all(x == y)),
        Pcmpeqw => map(16, a, b, |x, y| all(x == y)),
        Pcmpeqd => map(32, a, b, |x, y| all(x == y)),
        Pcmpeqq => map(64, a, b, |x, y| all(x == y)),
        Pcmpgtb => smap(8, a, b, |x, y| all(x > y) as i64),
        Pcmpgtw => smap(16, a, b, |x, y| all(x > y) as i64),
        Pcmpgtd => smap(32, a, b, |x, y| all(x > y) as i64),
        Pcmpgtq => smap(64, a, b, |x, y| all(x > y) as i64),
        Psllw => shift(16, a, b as u64, true),
        Pslld => shift(32, a, b as u64, true),
        Psllq => shift(64, a, b as u64, true),
        Psrlw => shift(16, a, b as u64, false),
        Psrld => shift(32, a, b as u64, false),
        Psrlq => shift(64, a, b as u64, false),
        Psraw => shift_right_signed(16, a, b as u64),
        Psrad => shift_right_signed(32, a, b as u64),
        Pslldq => a.checked_shl(8 * control.min(16)).unwrap_or(0),
        Psrldq => a.checked_shr(8 * control.min(16)).unwrap_or(0),
        Pshufd => build(32, |n| at(32, a, control >> (2 * n) & 3)),
        Pshuflw => build(16, |n| at(16, a, if n < 4 { control >> (2 * n) & 3 } else { n })),
        Pshufhw => build(16, |n| at(16, a, if n < 4 { n } else { 4 + (control >> (2 * (n - 4)) & 3) })),
        Pshufb => build(8, |n| match at(8, b, n) {
            k if k & 0x80 != 0 => 0,
            k => at(8, a, k as u32 & 15),
        }),
        Shufps => build(32, |n| at(32, if n < 2 { a } else { b }, control >> (2 * n) & 3)),
        Shufpd => build(64, |n| at(64, if n == 0 { a } else { b }, control >> n & 1)),
        Palignr => build(8, |n| match n + (control & 0xff) {
            k @ 0..16 => at(8, b, k),
            k @ 16..32 => at(8, a, k - 16),
            _ => 0,
        }),
        Punpcklbw => interleave(8, a, b, 0),
        Punpcklwd => interleave(16, a, b, 0),
        Punpckldq => interleave(32, a, b, 0),
        Punpcklqdq => interleave(64, a, b, 0),
        Punpckhbw => interleave(8, a, b, 8),
        Punpckhwd => interleave(16, a, b, 4),
        Punpckhdq => interleave(32, a, b, 2),
        Punpckhqdq => interleave(64, a, b, 1),
        Packsswb => pack(8, a, b, clamp),
        Packssdw => pack(16, a, b, clamp),
        Packuswb => pack(8, a, b, uclamp),
        Packusdw => pack(16, a, b, uclamp),
        Pblendw => build(16, |n| at(16, if control >> n & 1 != 0 { b } else { a }, n)),
        Pblendvb => build(8, |n| at(8, if at(8, c, n) & 0x80 != 0 { b } else { a }, n)),
        Movsd => a >> 64 << 64 | b & u128::from(u64::MAX),
        Movss => a >> 32 << 32 | b & u128::from(u32::MAX),
        // Integer and lane operations are in `across`; floating point is in `eval_fp`.
        _ => 0,
    }
}
