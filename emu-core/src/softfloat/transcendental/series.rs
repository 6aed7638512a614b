//! Power series in fixed point with 127 fraction bits.
//!
//! The coefficients are computed at compile time from their definition, so there is no table to trust.

use super::super::wide::mul_high;

/// One.
const UNIT: u128 = 1 << 127;

const fn mul(a: u128, b: u128) -> u128 {
    mul_high(a, b) << 1
}

/// `1/first!`, `1/(first + step)!`, ...
const fn inverse_factorials<const N: usize>(first: usize, step: usize) -> [u128; N] {
    let mut out = [0; N];
    let (mut n, mut value, mut i) = (1, UNIT, 0);
    while i < N {
        while n <= first + i * step {
            value /= n as u128;
            n += 1;
        }
        out[i] = value;
        i += 1;
    }
    out
}

/// `sin(r) / r` in powers of `r^2`, alternating; enough for `|r| <= pi/4`.
pub(super) const SIN: [u128; 18] = inverse_factorials(1, 2);
/// `cos(r)` in powers of `r^2`, alternating; enough for `|r| <= pi/4`.
pub(super) const COS: [u128; 19] = inverse_factorials(0, 2);
/// `(e^t - 1) / t` in powers of `t`; enough for `|t| <= ln 2`.
pub(super) const EXP: [u128; 33] = inverse_factorials(1, 1);
/// `atanh(s) / s` in powers of `s^2`, enough for `|s| <= 0.172`; alternating, it is `atan(s) / s`.
pub(super) const ODD: [u128; 27] = {
    let mut out = [0; 27];
    let mut i = 0;
    while i < 27 {
        out[i] = UNIT / (2 * i as u128 + 1);
        i += 1;
    }
    out
};

/// The sum of `c[i] * z^i`.
pub(super) const fn sum(c: &[u128], z: u128) -> u128 {
    let mut i = c.len() - 1;
    let mut acc = c[i];
    while i > 0 {
        i -= 1;
        acc = c[i] + mul(z, acc);
    }
    acc
}

/// The sum of `(-z)^i * c[i]`, one step low: with a `z` too small to see it stays below `c[0]`, as it must.
pub(super) const fn alternating(c: &[u128], z: u128) -> u128 {
    let mut i = c.len() - 1;
    let mut acc = c[i];
    while i > 0 {
        i -= 1;
        acc = c[i] - mul(z, acc);
    }
    acc - 1
}
