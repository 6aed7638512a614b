//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 2B, 4.1).
//!
//! The first operand is `a`, the second `b`; `i` walks over `a` and `j` over `b` as in the manual's figures.

use super::lanes::build;
use super::simd::{Form, Legacy, Outcome, Source, Unaligned, Vex, Xmm, set_vector, set_xmm, xmm};
use crate::decode::{Encoding, Handler, Op, Shape};
use crate::flags;
use crate::operand::{W32, set_reg};
use emu_core::cpu::Cpu;
use emu_core::state::bits::rflags::{CF, OF, SF, ZF};
use emu_core::state::gpr::{RAX, RCX, RDX};
use iced_x86::{Code, Mnemonic};

/// One operand: its elements and how many of them are valid.
struct Text {
    elements: [i32; 16],
    len: usize,
}

/// How many elements of 8 or 16 bits a register holds.
fn capacity(imm: u8) -> usize {
    if imm & 1 != 0 { 8 } else { 16 }
}

impl Text {
    /// `len`: explicit, else up to the first zero.
    fn new(v: u128, imm: u8, len: Option<i64>) -> Self {
        let n = capacity(imm);
        let bytes = v.to_le_bytes();
        let word = |i: usize| u16::from_le_bytes([bytes[(2 * i) & 15], bytes[(2 * i + 1) & 15]]);
        let elements: [i32; 16] = match imm & 3 {
            0 => bytes.map(i32::from),
            2 => bytes.map(|b| (b as i8).into()),
            signed => std::array::from_fn(|i| match (i < n, signed) {
                (false, _) => 0,
                (true, 1) => word(i).into(),
                (true, _) => (word(i) as i16).into(),
            }),
        };
        let len = match len {
            Some(len) => len.unsigned_abs().min(n as u64) as usize,
            None => {
                let zeros = elements.iter().rev().fold(0u32, |bits, &e| bits << 1 | u32::from(e == 0));
                (zeros.trailing_zeros() as usize).min(n)
            }
        };
        Self { elements, len }
    }

    /// Element `i`, if it is valid.
    fn at(&self, i: usize) -> Option<i32> {
        (i < self.len).then(|| self.elements[i])
    }
}

/// The intermediate result IntRes2, a bit for each element of `b`.
fn aggregate(a: &Text, b: &Text, imm: u8) -> u32 {
    let n = capacity(imm);
    let any = |j: usize| b.at(j).is_some_and(|e| a.elements[..a.len].contains(&e));
    if imm & 0xd == 0 {
        // Equal any, bytes: by a set of the values in `a`.
        let mut set = [0u64; 4];
        a.elements[..a.len].iter().for_each(|&e| set[e as u8 as usize >> 6] |= 1 << (e & 63));
        let has = |e: &i32| u32::from(set[*e as u8 as usize >> 6] >> (e & 63) & 1 != 0);
        let first = b.elements[..b.len].iter().rev().fold(0, |bits, e| bits << 1 | has(e));
        return polarity(first, b, imm);
    }
    let ranges = |j: usize| {
        b.at(j).is_some_and(|e| a.elements[..a.len].chunks_exact(2).any(|pair| pair[0] <= e && e <= pair[1]))
    };
    // Two ends are equal; a valid element equals no invalid one.
    let each = |j: usize| a.at(j) == b.at(j);
    // Beyond the end of `a` everything matches, beyond the register nothing is compared.
    let ordered = |j: usize| (0..n - j).all(|i| a.at(i).is_none_or(|e| b.at(i + j) == Some(e)));
    let first = (0..n).fold(0, |bits, j| {
        let on = match imm >> 2 & 3 {
            0 => any(j),
            1 => ranges(j),
            2 => each(j),
            _ => ordered(j),
        };
        bits | u32::from(on) << j
    });
    polarity(first, b, imm)
}

/// IntRes2 from IntRes1.
fn polarity(first: u32, b: &Text, imm: u8) -> u32 {
    match imm >> 4 & 3 {
        1 => first ^ ((1 << capacity(imm)) - 1),
        3 => first ^ ((1 << b.len) - 1),
        _ => first,
    }
}

/// IntRes2 of the operands; sets the flags.
fn compare(cpu: &mut Cpu, op: &Op, b: u128, lengths: Option<(i64, i64)>) -> u32 {
    let imm = op.imm as u8;
    let a = Text::new(xmm(cpu, op.dst), imm, lengths.map(|l| l.0));
    let b = Text::new(b, imm, lengths.map(|l| l.1));
    let r = aggregate(&a, &b, imm);
    let n = capacity(imm);
    let bits = flags::when(r != 0, CF)
        | flags::when(b.len < n, ZF)
        | flags::when(a.len < n, SF)
        | flags::when(r & 1 != 0, OF);
    flags::set(&mut cpu.state, bits);
    r
}

/// The lengths of the explicit forms: `BITS` of rAX and rDX.
fn lengths<const BITS: u32>(cpu: &Cpu) -> Option<(i64, i64)> {
    let (a, b) = (cpu.state.gpr[RAX], cpu.state.gpr[RDX]);
    match BITS {
        0 => None,
        32 => Some(((a as i32).into(), (b as i32).into())),
        _ => Some((a as i64, b as i64)),
    }
}

/// The forms that give an index in ECX; `BITS` is 0 for implicit lengths.
fn index<F: Form, S: Source, const BITS: u32>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [b, _] = S::wide::<F>(cpu, op)?;
    let r = compare(cpu, op, b, lengths::<BITS>(cpu));
    let at = match (r, op.imm & 0x40 != 0) {
        (0, _) => capacity(op.imm as u8) as u32,
        (_, false) => r.trailing_zeros(),
        (_, true) => 31 - r.leading_zeros(),
    };
    set_reg::<W32>(&mut cpu.state, RCX as u8, at.into());
    Ok(())
}

/// The forms that give a mask in XMM0.
fn mask<F: Form, S: Source, const BITS: u32>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [b, _] = S::wide::<F>(cpu, op)?;
    let r = compare(cpu, op, b, lengths::<BITS>(cpu));
    let ones = |j: usize| if r >> j & 1 != 0 { u16::MAX } else { 0 };
    let v = match (op.imm & 0x40 != 0, op.imm & 1 != 0) {
        (false, _) => r.into(),
        (true, false) => build::<u8>(16, |j| ones(j) as u8),
        (true, true) => build::<u16>(8, ones),
    };
    if F::ALIGNED {
        set_xmm(cpu, 0, v);
    } else {
        set_vector::<1>(cpu, 0, [v, 0]);
    }
    Ok(())
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    macro_rules! by_length {
        ($f:ident, $bits:literal) => {
            match (s.from_memory(), s.encoding) {
                (true, Encoding::Legacy) => $f::<Legacy, Unaligned, $bits> as Handler,
                (_, Encoding::Legacy) => $f::<Legacy, Xmm, $bits>,
                (true, _) => $f::<Vex<1>, Unaligned, $bits>,
                _ => $f::<Vex<1>, Xmm, $bits>,
            }
        };
    }
    let wide = matches!(
        s.ins.code(),
        Code::Pcmpestri64_xmm_xmmm128_imm8
            | Code::Pcmpestrm64_xmm_xmmm128_imm8
            | Code::VEX_Vpcmpestri64_xmm_xmmm128_imm8
            | Code::VEX_Vpcmpestrm64_xmm_xmmm128_imm8
    );
    Some(match s.mnemonic() {
        M::Pcmpistri | M::Vpcmpistri => by_length!(index, 0),
        M::Pcmpistrm | M::Vpcmpistrm => by_length!(mask, 0),
        M::Pcmpestri64 | M::Pcmpestri | M::Vpcmpestri64 | M::Vpcmpestri if wide => by_length!(index, 64),
        M::Pcmpestrm64 | M::Pcmpestrm | M::Vpcmpestrm64 | M::Vpcmpestrm if wide => by_length!(mask, 64),
        M::Pcmpestri | M::Vpcmpestri => by_length!(index, 32),
        M::Pcmpestrm | M::Vpcmpestrm => by_length!(mask, 32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_bytes_are_found_as_by_comparing_each() {
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // Few values, zeros and high bits among them.
            u128::from_le_bytes(std::array::from_fn(|_| {
                x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                [0, 1, 2, 0x41, 0x42, 0x80, 0xc1, 0xff][(x >> 61) as usize]
            }))
        };
        for round in 0..4000 {
            let (v, w) = (next(), next());
            let explicit = |n: i64| (round % 2 == 1).then_some(n);
            for imm in [0, 2, 0x10, 0x12, 0x30, 0x32] {
                let (a, b) =
                    (Text::new(v, imm, explicit(round % 19)), Text::new(w, imm, explicit(-(round % 17))));
                let valid = |v: u128, len: usize| v.to_le_bytes()[..len].to_vec();
                let (from, of) = (valid(v, a.len), valid(w, b.len));
                let expected = (0..16).fold(0u32, |bits, j| {
                    let on = of.get(j).is_some_and(|e| from.contains(e));
                    let inverted = imm >> 4 == 1 || imm >> 4 == 3 && j < of.len();
                    bits | u32::from(on ^ inverted) << j
                });
                assert_eq!(aggregate(&a, &b, imm), expected, "{v:#x} {w:#x} {imm:#x}");
                if round % 2 == 0 {
                    assert_eq!(a.len, v.to_le_bytes().iter().position(|&e| e == 0).unwrap_or(16));
                }
            }
        }
    }
}
