//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 2B, 4.1).
//!
//! The first operand is `a`, the second `b`; `i` walks over `a` and `j` over `b` as in the manual's figures.

use super::lanes::{Lane, build};
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
        let mut elements = [0; 16];
        for (i, e) in elements.iter_mut().enumerate().take(n) {
            *e = match imm & 3 {
                0 => u8::get(v, i).into(),
                1 => u16::get(v, i).into(),
                2 => i8::get(v, i).into(),
                _ => i16::get(v, i).into(),
            };
        }
        let len = match len {
            Some(len) => len.unsigned_abs().min(n as u64) as usize,
            None => elements[..n].iter().position(|&e| e == 0).unwrap_or(n),
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
    match imm >> 4 & 3 {
        1 => first ^ ((1 << n) - 1),
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
