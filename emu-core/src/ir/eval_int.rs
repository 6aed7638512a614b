//! Integer ops of the evaluator: values and flags by the text of [`super::ops`], in plain integers.

use super::ops::{Op, Type};
use crate::state::bits::rflags::{AF, CF, OF, PF, SF, STATUS, ZF};

/// Arguments of an integer op: a and b truncated to their types, and the flags that come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ints {
    pub a: u64,
    pub b: u64,
    pub flags: u64,
}

fn msb(ty: Type, v: u64) -> bool {
    v >> (ty.bits() - 1) & 1 != 0
}

fn bit(on: bool, flag: u64) -> u64 {
    if on { flag } else { 0 }
}

/// SF, ZF and PF of a result.
fn szp(ty: Type, r: u64) -> u64 {
    bit(msb(ty, r), SF) | bit(r == 0, ZF) | bit((r as u8).count_ones().is_multiple_of(2), PF)
}

/// The masked count of a shift or rotate.
fn count(ty: Type, b: u64) -> u32 {
    b as u32 & if ty == Type::I64 { 63 } else { 31 }
}

/// The value of the op.
pub(super) fn value(op: Op, ty: Type, x: Ints) -> u64 {
    ty.truncate(full(op, ty, x))
}

fn full(op: Op, ty: Type, x: Ints) -> u64 {
    let Ints { a, b, flags } = x;
    let w = ty.bits();
    let carry = u64::from(flags & CF != 0);
    match op {
        Op::Add => a.wrapping_add(b),
        Op::Sub => a.wrapping_sub(b),
        Op::Adc | Op::Adcx => a.wrapping_add(b).wrapping_add(carry),
        Op::Adox => a.wrapping_add(b).wrapping_add(u64::from(flags & OF != 0)),
        Op::Sbb => a.wrapping_sub(b).wrapping_sub(carry),
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Not => !a,
        Op::Neg => a.wrapping_neg(),
        Op::Mul => a.wrapping_mul(b),
        Op::MulHiU => ((u128::from(a) * u128::from(b)) >> w) as u64,
        Op::MulHiS => (signed_product(ty, a, b) >> w) as u64,
        Op::Shl => (u128::from(a) << count(ty, b)) as u64,
        Op::Shr => a >> count(ty, b),
        Op::Sar => (i128::from(ty.signed(a)) >> count(ty, b)) as u64,
        Op::Rol => rotate(ty, a, count(ty, b) % w),
        Op::Ror => rotate(ty, a, (w - count(ty, b) % w) % w),
        Op::Rcl => through_carry(ty, a, carry, count(ty, b) % (w + 1)).0,
        Op::Rcr => through_carry(ty, a, carry, w + 1 - count(ty, b) % (w + 1)).0,
        Op::BitTest => a,
        Op::Clz => u64::from(a.leading_zeros() - (64 - w)),
        Op::Ctz => u64::from(a.trailing_zeros().min(w)),
        Op::Popcnt => a.count_ones().into(),
        Op::Bswap => a.swap_bytes() >> (64 - w),
        _ => 0,
    }
}

fn signed_product(ty: Type, a: u64, b: u64) -> i128 {
    i128::from(ty.signed(a)) * i128::from(ty.signed(b))
}

fn rotate(ty: Type, a: u64, n: u32) -> u64 {
    if n == 0 { a } else { a << n | a >> (ty.bits() - n) }
}

/// Rotates a with the carry above it left by `n` of width + 1: (value, carry).
fn through_carry(ty: Type, a: u64, carry: u64, n: u32) -> (u64, bool) {
    let w = ty.bits();
    let n = n % (w + 1);
    let all = u128::from(a) | u128::from(carry) << w;
    let r = if n == 0 { all } else { all << n | all >> (w + 1 - n) };
    (ty.truncate(r as u64), r >> w & 1 != 0)
}

/// The flags of the op.
pub(super) fn flags(op: Op, ty: Type, x: Ints) -> u64 {
    let Ints { a, b, flags } = x;
    let w = ty.bits();
    let r = value(op, ty, x);
    let carry = u64::from(flags & CF != 0);
    let add = || {
        let c = u128::from(a) + u128::from(b) + u128::from(carry) * u128::from(op == Op::Adc);
        let v = !(a ^ b) & (a ^ r);
        bit(c >> w != 0, CF) | (a ^ b ^ r) & AF | bit(msb(ty, v), OF) | szp(ty, r)
    };
    let sub = |a: u64, b: u64| {
        let c = u128::from(a) < u128::from(b) + u128::from(carry) * u128::from(op == Op::Sbb);
        let v = (a ^ b) & (a ^ r);
        bit(c, CF) | (a ^ b ^ r) & AF | bit(msb(ty, v), OF) | szp(ty, r)
    };
    match op {
        Op::Add | Op::Adc => add(),
        Op::Sub | Op::Sbb => sub(a, b),
        Op::Neg => sub(0, a),
        Op::And | Op::Or | Op::Xor => szp(ty, r),
        Op::Mul | Op::MulHiU | Op::MulHiS => {
            let low = ty.truncate(a.wrapping_mul(b));
            let over = match op {
                Op::MulHiU => r != 0,
                _ => signed_product(ty, a, b) != i128::from(ty.signed(low)),
            };
            bit(over, CF | OF) | szp(ty, low)
        }
        Op::Adcx | Op::Adox => {
            let flag = if op == Op::Adcx { CF } else { OF };
            let sum = u128::from(a) + u128::from(b) + u128::from(flags & flag != 0);
            flags & !flag | bit(sum >> w != 0, flag)
        }
        Op::Popcnt => bit(a == 0, ZF),
        Op::BitTest => {
            let on = a >> (b % u64::from(w)) & 1 != 0;
            flags & !CF | bit(on, CF)
        }
        Op::Clz | Op::Ctz => flags & !(CF | ZF) | bit(a == 0, CF) | bit(r == 0, ZF),
        _ => shift_flags(op, ty, x, r),
    }
}

fn shift_flags(op: Op, ty: Type, x: Ints, r: u64) -> u64 {
    let Ints { a, b, flags } = x;
    let w = ty.bits();
    let n = count(ty, b);
    if n == 0 {
        return flags & STATUS;
    }
    let top = msb(ty, r);
    let next = r >> (w - 2) & 1 != 0;
    let keep = flags & STATUS & !(CF | OF);
    let carry = u64::from(flags & CF != 0);
    match op {
        Op::Shl => {
            let c = u128::from(a) << n >> w & 1 != 0;
            bit(c, CF) | bit(top != c, OF) | szp(ty, r)
        }
        Op::Shr => bit(a >> (n - 1) & 1 != 0, CF) | bit(top != next, OF) | szp(ty, r),
        Op::Sar => bit(i128::from(ty.signed(a)) >> (n - 1) & 1 != 0, CF) | szp(ty, r),
        Op::Rol => {
            let c = r & 1 != 0;
            keep | bit(c, CF) | bit(top != c, OF)
        }
        Op::Ror => keep | bit(top, CF) | bit(top != next, OF),
        Op::Rcl => {
            let c = through_carry(ty, a, carry, n).1;
            keep | bit(c, CF) | bit(top != c, OF)
        }
        _ => {
            let c = through_carry(ty, a, carry, w + 1 - n % (w + 1)).1;
            keep | bit(c, CF) | bit(top != next, OF)
        }
    }
}

/// Quotient and remainder of `high:low` by `c`; None if they do not exist or do not fit.
pub(super) fn divide(op: Op, ty: Type, high: u64, low: u64, c: u64) -> Option<u64> {
    let w = ty.bits();
    if c == 0 {
        return None;
    }
    let n = u128::from(high) << w | u128::from(low);
    if matches!(op, Op::DivU | Op::RemU) {
        let (q, r) = (n / u128::from(c), n % u128::from(c));
        return if q >> w != 0 { None } else { Some(if op == Op::DivU { q } else { r } as u64) };
    }
    let n = (n << (128 - 2 * w)) as i128 >> (128 - 2 * w);
    let c = i128::from(ty.signed(c));
    let q = n.checked_div(c)?;
    let fits = q >= -(1i128 << (w - 1)) && q < 1i128 << (w - 1);
    let r = n.checked_rem(c)?;
    fits.then(|| ty.truncate(if op == Op::DivS { q } else { r } as u64))
}

/// The comparison ops.
pub(super) fn compare(op: Op, ty: Type, a: u64, b: u64) -> bool {
    match op {
        Op::CmpEq => a == b,
        Op::CmpNe => a != b,
        Op::CmpUlt => a < b,
        Op::CmpUle => a <= b,
        Op::CmpSlt => ty.signed(a) < ty.signed(b),
        _ => ty.signed(a) <= ty.signed(b),
    }
}
