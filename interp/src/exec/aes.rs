//! AES-NI, PCLMULQDQ, and both on 256 bits (VAES, VPCLMULQDQ) (SDM vol. 1, 12.13; vol. 2; FIPS 197).
//!
//! The state is a vector of 16 bytes: byte `r + 4 * c` is row `r`, column `c`.

use super::lanes::{Lane, build, map1};
use super::simd::{Aligned, binary, binary_imm, by_source, by_source_128, unary};
use crate::decode::{Handler, Shape};
use iced_x86::Mnemonic;

/// Multiplication by x in GF(2^8).
const fn double(v: u8) -> u8 {
    v << 1 ^ if v & 0x80 != 0 { 0x1b } else { 0 }
}

/// Multiplication in GF(2^8).
const fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut r = 0;
    while b != 0 {
        if b & 1 != 0 {
            r ^= a;
        }
        a = double(a);
        b >>= 1;
    }
    r
}

/// The S-box: inversion in GF(2^8), then an affine map (FIPS 197, 5.1.1).
static SUBSTITUTE: [u8; 256] = {
    let mut table = [0; 256];
    // 3 generates the multiplicative group, 0xf6 is its inverse.
    let (mut p, mut q) = (1u8, 1u8);
    loop {
        p = multiply(p, 3);
        q = multiply(q, 0xf6);
        table[p as usize] =
            q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4) ^ 0x63;
        if p == 1 {
            break;
        }
    }
    table[0] = 0x63;
    table
};

/// The S-box's inverse.
static UNSUBSTITUTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[SUBSTITUTE[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// ShiftRows and SubBytes, or their inverses: row `r` moves by `r * step` bytes.
#[inline(always)]
fn substitute(v: u128, step: usize, table: &[u8; 256]) -> u128 {
    build::<u8>(16, |i| {
        let row = i % 4;
        let from = (i + step * row) % 16;
        table[usize::from(u8::get(v, from))]
    })
}

/// MixColumns with the coefficients of a row.
#[inline(always)]
fn mix(v: u128, row: [u8; 4]) -> u128 {
    build::<u8>(16, |i| {
        let column = i & !3;
        (0..4).fold(0, |sum, k| sum ^ multiply(u8::get(v, column + (i + k) % 4), row[k]))
    })
}

const FORWARD: [u8; 4] = [2, 3, 1, 1];
const BACKWARD: [u8; 4] = [14, 11, 13, 9];
/// Four bytes are a column: rows move left by whole columns, or right.
const LEFT: usize = 4;
const RIGHT: usize = 12;

/// `aesenc` of the manual.
pub fn aesenc(state: u128, key: u128) -> u128 {
    mix(substitute(state, LEFT, &SUBSTITUTE), FORWARD) ^ key
}

/// `aesenclast` of the manual.
pub fn aesenclast(state: u128, key: u128) -> u128 {
    substitute(state, LEFT, &SUBSTITUTE) ^ key
}

/// `aesdec` of the manual.
pub fn aesdec(state: u128, key: u128) -> u128 {
    mix(substitute(state, RIGHT, &UNSUBSTITUTE), BACKWARD) ^ key
}

/// `aesdeclast` of the manual.
pub fn aesdeclast(state: u128, key: u128) -> u128 {
    substitute(state, RIGHT, &UNSUBSTITUTE) ^ key
}

/// `aesimc` of the manual.
pub fn aesimc(key: u128) -> u128 {
    mix(key, BACKWARD)
}

/// `aeskeygenassist` of the manual.
pub fn aeskeygenassist(key: u128, imm: u8) -> u128 {
    let words = map1::<u8>(key, |b| SUBSTITUTE[usize::from(b)]);
    let (x1, x3) = (u32::get(words, 1), u32::get(words, 3));
    let rcon = u32::from(imm);
    build::<u32>(4, |i| [x1, x1.rotate_right(8) ^ rcon, x3, x3.rotate_right(8) ^ rcon][i])
}

/// `pclmulqdq` of the manual: a product without carries.
pub fn pclmulqdq(a: u128, b: u128, imm: u8) -> u128 {
    let x = u128::from(u64::get(a, usize::from(imm & 1)));
    let y = u64::get(b, usize::from(imm >> 4 & 1));
    (0..64).filter(|i| y >> i & 1 != 0).fold(0, |sum, i| sum ^ x << i)
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    Some(match s.mnemonic() {
        M::Aesenc | M::Vaesenc => by_source!(s, Aligned, binary, aesenc),
        M::Aesenclast | M::Vaesenclast => by_source!(s, Aligned, binary, aesenclast),
        M::Aesdec | M::Vaesdec => by_source!(s, Aligned, binary, aesdec),
        M::Aesdeclast | M::Vaesdeclast => by_source!(s, Aligned, binary, aesdeclast),
        M::Aesimc | M::Vaesimc => by_source_128!(s, Aligned, unary, aesimc),
        M::Aeskeygenassist | M::Vaeskeygenassist => {
            by_source_128!(s, Aligned, binary_imm, |_, b, i| aeskeygenassist(b, i))
        }
        M::Pclmulqdq | M::Vpclmulqdq => by_source!(s, Aligned, binary_imm, pclmulqdq),
        _ => return None,
    })
}
