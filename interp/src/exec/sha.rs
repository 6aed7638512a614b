//! The SHA extensions (SDM vol. 2, SHA1* and SHA256*; FIPS 180-4).
//!
//! The manual numbers words from the top: A, or word 0 of a message, is lane 3.

use super::lanes::{Lane, build};
use super::simd::{Aligned, Outcome, Source, Vector, binary, binary_imm, by_source_128, set_xmm, xmm};
use crate::decode::{Handler, Op, Shape};
use emu_core::cpu::Cpu;
use iced_x86::Mnemonic;

/// The four words, the top one first.
fn words(v: u128) -> [u32; 4] {
    [3, 2, 1, 0].map(|i| u32::get(v, i))
}

fn vector(w: [u32; 4]) -> u128 {
    build::<u32>(4, |i| w[3 - i])
}

/// `sha1rnds4` of the manual: four rounds with the function and constant that `imm` chooses.
fn sha1rnds4(state: u128, message: u128, imm: u8) -> u128 {
    let [mut a, mut b, mut c, mut d] = words(state);
    let choose = |b: u32, c: u32, d: u32| b & c ^ !b & d;
    let parity = |b: u32, c: u32, d: u32| b ^ c ^ d;
    let majority = |b: u32, c: u32, d: u32| b & c ^ b & d ^ c & d;
    // E comes with the first word.
    let mut e = 0u32;
    for w in words(message) {
        let (f, k) = match imm & 3 {
            0 => (choose(b, c, d), 0x5a82_7999),
            1 => (parity(b, c, d), 0x6ed9_eba1),
            2 => (majority(b, c, d), 0x8f1b_bcdc),
            _ => (parity(b, c, d), 0xca62_c1d6u32),
        };
        let next = f.wrapping_add(a.rotate_left(5)).wrapping_add(w).wrapping_add(e).wrapping_add(k);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    vector([a, b, c, d])
}

/// `sha1nexte` of the manual.
fn sha1nexte(a: u128, b: u128) -> u128 {
    let mut w = words(b);
    w[0] = w[0].wrapping_add(words(a)[0].rotate_left(30));
    vector(w)
}

/// `sha1msg1` of the manual.
fn sha1msg1(a: u128, b: u128) -> u128 {
    let ([w0, w1, w2, w3], [w4, w5, ..]) = (words(a), words(b));
    vector([w2 ^ w0, w3 ^ w1, w4 ^ w2, w5 ^ w3])
}

/// `sha1msg2` of the manual.
fn sha1msg2(a: u128, b: u128) -> u128 {
    let ([a0, a1, a2, a3], [_, w13, w14, w15]) = (words(a), words(b));
    let w16 = (a0 ^ w13).rotate_left(1);
    vector([w16, (a1 ^ w14).rotate_left(1), (a2 ^ w15).rotate_left(1), (a3 ^ w16).rotate_left(1)])
}

/// SHA256RNDS2: two rounds; XMM0 has the message words with their constants in its low half.
fn sha256rnds2<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let abef = words(S::get(cpu, op)?);
    let cdgh = words(xmm(cpu, op.dst));
    let wk = xmm(cpu, 0);
    let ([mut a, mut b, mut e, mut f], [mut c, mut d, mut g, mut h]) = (abef, cdgh);
    for i in 0..2 {
        let choose = e & f ^ !e & g;
        let majority = a & b ^ a & c ^ b & c;
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let t1 = choose.wrapping_add(s1).wrapping_add(u32::get(wk, i)).wrapping_add(h);
        let next = t1.wrapping_add(majority).wrapping_add(s0);
        (a, b, c, d, e, f, g, h) = (next, a, b, c, t1.wrapping_add(d), e, f, g);
    }
    // The new C, D, G and H are the old A, B, E and F, which software has.
    let _ = (c, d, g, h);
    set_xmm(cpu, op.dst, vector([a, b, e, f]));
    Ok(())
}

/// `sha256msg1` of the manual.
fn sha256msg1(a: u128, b: u128) -> u128 {
    let sigma0 = |v: u32| v.rotate_right(7) ^ v.rotate_right(18) ^ v >> 3;
    build::<u32>(4, |i| {
        let next = if i < 3 { u32::get(a, i + 1) } else { u32::get(b, 0) };
        u32::get(a, i).wrapping_add(sigma0(next))
    })
}

/// `sha256msg2` of the manual.
fn sha256msg2(a: u128, b: u128) -> u128 {
    let sigma1 = |v: u32| v.rotate_right(17) ^ v.rotate_right(19) ^ v >> 10;
    let w16 = u32::get(a, 0).wrapping_add(sigma1(u32::get(b, 2)));
    let w17 = u32::get(a, 1).wrapping_add(sigma1(u32::get(b, 3)));
    let w18 = u32::get(a, 2).wrapping_add(sigma1(w16));
    let w19 = u32::get(a, 3).wrapping_add(sigma1(w17));
    vector([w19, w18, w17, w16])
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    Some(match s.mnemonic() {
        M::Sha1rnds4 => by_source_128!(s, Aligned, binary_imm, sha1rnds4),
        M::Sha1nexte => by_source_128!(s, Aligned, binary, sha1nexte),
        M::Sha1msg1 => by_source_128!(s, Aligned, binary, sha1msg1),
        M::Sha1msg2 => by_source_128!(s, Aligned, binary, sha1msg2),
        M::Sha256msg1 => by_source_128!(s, Aligned, binary, sha256msg1),
        M::Sha256msg2 => by_source_128!(s, Aligned, binary, sha256msg2),
        M::Sha256rnds2 if s.from_memory() => sha256rnds2::<Aligned>,
        M::Sha256rnds2 => sha256rnds2::<Vector>,
        _ => return None,
    })
}
