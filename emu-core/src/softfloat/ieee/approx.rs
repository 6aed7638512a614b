//! RCPPS and RSQRTPS: approximations whose error the manual bounds (relative, 1.5 * 2^-12) and whose bits it leaves
//! open. Processors differ from each other here; calque's definition is the true value, truncated far beyond that
//! bound and rounded to 12 significant bits (ties to even), so its error is at most 2^-12. Neither instruction
//! looks at MXCSR or raises a flag: denormal operands count as zeros, and denormal results become zeros.

use super::format::{Format, Number, Single};

const SIGNIFICANT: u32 = 12;

/// RCPPS of a single.
pub fn reciprocal(v: u32) -> u32 {
    let (v, sign) = (u64::from(v), u64::from(v) & Single::SIGN);
    let r = if Single::is_nan(v) {
        v | Single::QUIET
    } else if v & Single::MAGNITUDE == Single::INFINITY {
        sign
    } else if Single::exponent(v) == 0 {
        sign | Single::INFINITY
    } else {
        let n = Number::unpack::<Single>(v);
        // sig is in [2^63, 2^64), so the quotient is in (2^62, 2^63].
        pack(sign, -n.exp - 63, ((1u128 << 126) / u128::from(n.sig)) as u64)
    };
    r as u32
}

/// RSQRTPS of a single.
pub fn reciprocal_root(v: u32) -> u32 {
    let (v, sign) = (u64::from(v), u64::from(v) & Single::SIGN);
    let r = if Single::is_nan(v) {
        v | Single::QUIET
    } else if Single::exponent(v) == 0 {
        sign | Single::INFINITY
    } else if sign != 0 {
        Single::INDEFINITE
    } else if v == Single::INFINITY {
        0
    } else {
        let n = Number::unpack::<Single>(v);
        // v = m * 2^e with m of at most 25 bits and e even; 1/sqrt(v) = sqrt(2^126 / m) * 2^(-e/2 - 63).
        let odd = (n.exp - 23) & 1;
        let (m, e) = ((n.sig >> 40) << odd, n.exp - 23 - odd);
        pack(0, -e / 2 - 63, ((1u128 << 126) / u128::from(m)).isqrt() as u64)
    };
    r as u32
}

/// `sig * 2^exp`, rounded to [`SIGNIFICANT`] bits.
fn pack(sign: u64, exp: i32, sig: u64) -> u64 {
    let drop = 64 - sig.leading_zeros() - SIGNIFICANT;
    let (rest, kept) = (sig & ((1 << drop) - 1), sig >> drop);
    let half = 1 << (drop - 1);
    let kept = kept + u64::from(rest > half || rest == half && kept & 1 != 0);
    let top = 63 - kept.leading_zeros();
    let biased = exp + (drop + top) as i32 + Single::BIAS;
    if biased < 1 {
        return sign;
    }
    sign | (biased as u64) << Single::FRACTION | kept << (Single::FRACTION - top) & (Single::QUIET * 2 - 1)
}
