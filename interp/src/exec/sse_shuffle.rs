//! Shuffles, packs and unpacks, blends, inserts and extracts of MMX and SSE.

use super::lanes::{Lane, build, map1, replace};
use super::simd::{
    Aligned, Bytes, Gpr32, Gpr64, Mm, Outcome, Source, Xmm, binary, binary_imm, binary_mm, binary_mm_imm,
    by_source, by_source_mm, enter_mmx, ready_mmx, set_xmm, store, to_register, unary, xmm,
};
use super::sse_int::{clamp, mpsadbw};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{W32, W64, mm, set_reg};
use emu_core::cpu::Cpu;
use iced_x86::Mnemonic;

/// The lanes of the lower halves of `a` and `b` in turn; `bytes` is the length of the vectors.
#[inline(always)]
pub fn unpack_low<T: Lane>(a: u128, b: u128, bytes: usize) -> u128 {
    build(bytes / T::BYTES, |i| T::get(if i % 2 == 0 { a } else { b }, i / 2))
}

/// The lanes of the upper halves of `a` and `b` in turn.
#[inline(always)]
pub fn unpack_high<T: Lane>(a: u128, b: u128, bytes: usize) -> u128 {
    unpack_low::<T>(a >> (4 * bytes), b >> (4 * bytes), bytes)
}

/// The lanes of `a`, then those of `b`, each narrowed by `f`.
#[inline(always)]
fn pack<T: Lane, N: Lane>(a: u128, b: u128, bytes: usize, f: impl Fn(T) -> N) -> u128 {
    let n = bytes / T::BYTES;
    build(2 * n, |i| f(if i < n { T::get(a, i) } else { T::get(b, i - n) }))
}

/// `packsswb` of the manual.
#[inline]
pub fn packsswb(a: u128, b: u128, bytes: usize) -> u128 {
    pack(a, b, bytes, |v: i16| v.clamp(-128, 127) as i8)
}

/// `packuswb` of the manual.
#[inline]
pub fn packuswb(a: u128, b: u128, bytes: usize) -> u128 {
    pack(a, b, bytes, |v: i16| v.clamp(0, 255) as u8)
}

/// `packssdw` of the manual.
#[inline]
pub fn packssdw(a: u128, b: u128, bytes: usize) -> u128 {
    pack(a, b, bytes, clamp)
}

/// `packusdw` of the manual.
#[inline]
pub fn packusdw(a: u128, b: u128, bytes: usize) -> u128 {
    pack(a, b, bytes, |v: i32| v.clamp(0, 0xffff) as u16)
}

/// `pshufb` of the manual.
#[inline]
pub fn pshufb(a: u128, b: u128, bytes: usize) -> u128 {
    build::<u8>(bytes, |i| {
        let at = u8::get(b, i);
        if at & 0x80 != 0 { 0 } else { u8::get(a, usize::from(at) & (bytes - 1)) }
    })
}

/// `palignr` of the manual.
#[inline]
pub fn palignr(a: u128, b: u128, imm: u8, bytes: usize) -> u128 {
    build::<u8>(bytes, |i| match i + usize::from(imm) {
        at if at < bytes => u8::get(b, at),
        at if at < 2 * bytes => u8::get(a, at - bytes),
        _ => 0,
    })
}

/// Lane numbers of two bits out of an immediate.
#[inline(always)]
fn two_bits(imm: u8, i: usize) -> usize {
    usize::from(imm >> (2 * i) & 3)
}

/// Four words chosen by `imm`: PSHUFW, and a half of PSHUFLW and PSHUFHW.
#[inline]
pub fn shuffle_words(v: u64, imm: u8) -> u64 {
    build::<u16>(4, |i| u16::get(v.into(), two_bits(imm, i))) as u64
}

/// `pshufd` of the manual.
#[inline]
pub fn pshufd(v: u128, imm: u8) -> u128 {
    build::<u32>(4, |i| u32::get(v, two_bits(imm, i)))
}

/// `shufps` of the manual.
#[inline]
pub fn shufps(a: u128, b: u128, imm: u8) -> u128 {
    build::<u32>(4, |i| u32::get(if i < 2 { a } else { b }, two_bits(imm, i)))
}

/// `shufpd` of the manual.
#[inline]
pub fn shufpd(a: u128, b: u128, imm: u8) -> u128 {
    build::<u64>(2, |i| u64::get(if i < 1 { a } else { b }, usize::from(imm >> i & 1)))
}

/// Lanes of `b` where `imm` has ones, of `a` elsewhere: PBLENDW, BLENDPS, BLENDPD.
#[inline(always)]
pub fn blend<T: Lane>(a: u128, b: u128, imm: u8) -> u128 {
    build(16 / T::BYTES, |i| T::get(if imm >> i & 1 != 0 { b } else { a }, i))
}

/// Lanes of `b` where the lane of `mask` has its top bit set, of `a` elsewhere.
#[inline(always)]
pub fn blend_by_sign<T: Lane>(a: u128, b: u128, mask: u128) -> u128 {
    build(16 / T::BYTES, |i| {
        let sign = mask >> (8 * T::BYTES * (i + 1) - 1) & 1;
        T::get(if sign != 0 { b } else { a }, i)
    })
}

/// `insertps` of the manual; a memory operand comes as lane 0, with bits 7-6 of `imm` clear.
#[inline]
pub fn insertps(a: u128, b: u128, imm: u8) -> u128 {
    let r = replace(a, two_bits(imm, 2), u32::get(b, two_bits(imm, 3)));
    build::<u32>(4, |i| if imm >> i & 1 != 0 { 0 } else { u32::get(r, i) })
}

/// The top bits of the lanes, from lane 0 on.
#[inline(always)]
pub fn sign_mask<T: Lane>(v: u128) -> u64 {
    (0..16 / T::BYTES).fold(0, |m, i| m | ((v >> (8 * T::BYTES * (i + 1) - 1) & 1) as u64) << i)
}

/// Widens the low lanes of `v` from `N` to `T` by `f`.
#[inline(always)]
fn widen<N: Lane, T: Lane>(v: u128, f: impl Fn(N) -> T) -> u128 {
    build(16 / T::BYTES, |i| f(N::get(v, i)))
}

/// PBLENDVB, BLENDVPS, BLENDVPD: the mask is XMM0.
#[inline(always)]
fn blend_variable<S: Source, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let mask = xmm(cpu, 0);
    binary::<S>(cpu, op, |a, b| blend_by_sign::<T>(a, b, mask))
}

fn blend_variable_of<T: Lane>(s: &Shape) -> Handler {
    if s.kinds[1] == Kind::Mem { blend_variable::<Aligned, T> } else { blend_variable::<Xmm, T> }
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
fn mask_of<T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = sign_mask::<T>(xmm(cpu, op.src));
    set_reg::<W32>(&mut cpu.state, op.dst, v);
    Ok(())
}

fn mask_of_mm(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    enter_mmx(cpu);
    let v = sign_mask::<u8>(mm(&cpu.state, op.src).into());
    set_reg::<W32>(&mut cpu.state, op.dst, v);
    Ok(())
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ and EXTRACTPS; general registers get the lane zero-extended.
fn extract<T: Lane, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let lane = usize::from(op.imm as u8) & (16 / T::BYTES - 1);
    let v = T::get(xmm(cpu, op.src), lane).put(0);
    if MEMORY {
        return store(cpu, op, T::BYTES, v);
    }
    set_reg::<W64>(&mut cpu.state, op.dst, v as u64);
    Ok(())
}

fn extract_from<T: Lane>(s: &Shape) -> Handler {
    if to_register(s) { extract::<T, false> } else { extract::<T, true> }
}

fn extract_word_mm(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    enter_mmx(cpu);
    let v = u16::get(mm(&cpu.state, op.src).into(), two_bits(op.imm as u8, 0));
    set_reg::<W32>(&mut cpu.state, op.dst, v.into());
    Ok(())
}

/// The source of PINSRB, PINSRW, PINSRD, PINSRQ.
#[inline(always)]
fn insert<S: Source, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary_imm::<S>(cpu, op, |a, b, imm| replace(a, usize::from(imm) & (16 / T::BYTES - 1), T::get(b, 0)))
}

#[inline(always)]
fn insert_word_mm<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary_mm_imm::<S>(cpu, op, |a, b, imm| replace(a, two_bits(imm, 0), u16::get(b, 0)))
}

/// MOVQ2DQ.
fn movq2dq(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    let v = Mm::get(cpu, op)?;
    enter_mmx(cpu);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// Those that also exist for MMX registers.
fn shared(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    let memory = s.kinds[1] == Kind::Mem;
    let mmx = s.ins.op0_register().is_mm();
    macro_rules! both {
        ($low:ty, $f:expr) => {
            if mmx {
                by_source_mm!(s, $low, binary_mm, |a, b| $f(a, b, 8))
            } else {
                by_source!(s, Aligned, binary, |a, b| $f(a, b, 16))
            }
        };
    }
    Some(match s.mnemonic() {
        // The MMX forms read no more than they need.
        M::Punpcklbw => both!(Bytes<4>, unpack_low::<u8>),
        M::Punpcklwd => both!(Bytes<4>, unpack_low::<u16>),
        M::Punpckldq => both!(Bytes<4>, unpack_low::<u32>),
        M::Punpckhbw => both!(Bytes<8>, unpack_high::<u8>),
        M::Punpckhwd => both!(Bytes<8>, unpack_high::<u16>),
        M::Punpckhdq => both!(Bytes<8>, unpack_high::<u32>),
        M::Packsswb => both!(Bytes<8>, packsswb),
        M::Packuswb => both!(Bytes<8>, packuswb),
        M::Packssdw => both!(Bytes<8>, packssdw),
        M::Pshufb => both!(Bytes<8>, pshufb),
        M::Palignr if mmx => {
            by_source_mm!(s, Bytes<8>, binary_mm_imm, |a, b, i| palignr(a, b, i, 8))
        }
        M::Palignr => by_source!(s, Aligned, binary_imm, |a, b, i| palignr(a, b, i, 16)),
        M::Pshufw => {
            by_source_mm!(s, Bytes<8>, binary_mm_imm, |_, b, i| shuffle_words(b as u64, i).into())
        }
        M::Pmovmskb if s.ins.op1_register().is_mm() => mask_of_mm,
        M::Pmovmskb => mask_of::<u8>,
        M::Pextrw if s.ins.op1_register().is_mm() => extract_word_mm,
        M::Pextrw => extract_from::<u16>(s),
        M::Pinsrw if mmx && memory => insert_word_mm::<Bytes<2>>,
        M::Pinsrw if mmx => insert_word_mm::<Gpr32>,
        M::Pinsrw if memory => insert::<Bytes<2>, u16>,
        M::Pinsrw => insert::<Gpr32, u16>,
        _ => return None,
    })
}

/// Those that take a widened part of their source.
fn widening(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    macro_rules! widened {
        ($mem:literal, $from:ty, $to:ty) => {
            by_source!(s, Bytes<$mem>, unary, |v| widen(v, |lane: $from| <$to>::from(lane)))
        };
    }
    Some(match s.mnemonic() {
        M::Pmovsxbw => widened!(8, i8, i16),
        M::Pmovsxbd => widened!(4, i8, i32),
        M::Pmovsxbq => widened!(2, i8, i64),
        M::Pmovsxwd => widened!(8, i16, i32),
        M::Pmovsxwq => widened!(4, i16, i64),
        M::Pmovsxdq => widened!(8, i32, i64),
        M::Pmovzxbw => widened!(8, u8, u16),
        M::Pmovzxbd => widened!(4, u8, u32),
        M::Pmovzxbq => widened!(2, u8, u64),
        M::Pmovzxwd => widened!(8, u16, u32),
        M::Pmovzxwq => widened!(4, u16, u64),
        M::Pmovzxdq => widened!(8, u32, u64),
        _ => return None,
    })
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    if let Some(run) = shared(s).or_else(|| widening(s)) {
        return Some(run);
    }
    let memory = s.kinds[1] == Kind::Mem;
    macro_rules! xmm2 {
        ($f:expr) => {
            by_source!(s, Aligned, binary, $f)
        };
    }
    macro_rules! xmm3 {
        ($f:expr) => {
            by_source!(s, Aligned, binary_imm, $f)
        };
    }
    Some(match s.mnemonic() {
        M::Punpcklqdq | M::Unpcklpd => xmm2!(|a, b| unpack_low::<u64>(a, b, 16)),
        M::Punpckhqdq | M::Unpckhpd => xmm2!(|a, b| unpack_high::<u64>(a, b, 16)),
        M::Unpcklps => xmm2!(|a, b| unpack_low::<u32>(a, b, 16)),
        M::Unpckhps => xmm2!(|a, b| unpack_high::<u32>(a, b, 16)),
        M::Packusdw => xmm2!(|a, b| packusdw(a, b, 16)),
        M::Pshufd => xmm3!(|_, b, i| pshufd(b, i)),
        M::Pshuflw => xmm3!(|_, b, i| replace(b, 0, shuffle_words(b as u64, i))),
        M::Pshufhw => xmm3!(|_, b, i| replace(b, 1, shuffle_words((b >> 64) as u64, i))),
        M::Shufps => xmm3!(shufps),
        M::Shufpd => xmm3!(shufpd),
        M::Pblendw => xmm3!(blend::<u16>),
        M::Blendps => xmm3!(blend::<u32>),
        M::Blendpd => xmm3!(blend::<u64>),
        M::Pblendvb => blend_variable_of::<u8>(s),
        M::Blendvps => blend_variable_of::<u32>(s),
        M::Blendvpd => blend_variable_of::<u64>(s),
        M::Mpsadbw => xmm3!(mpsadbw),
        M::Insertps if memory => {
            |cpu, op| binary_imm::<Bytes<4>>(cpu, op, |a, b, i| insertps(a, b, i & 0x3f))
        }
        M::Insertps => |cpu, op| binary_imm::<Xmm>(cpu, op, insertps),
        M::Movmskps => mask_of::<u32>,
        M::Movmskpd => mask_of::<u64>,
        M::Movq2dq => movq2dq,
        M::Movdq2q => |cpu, op| binary_mm::<Xmm>(cpu, op, |_, b| b),
        M::Movsldup => by_source!(s, Aligned, unary, |v| map1::<u64>(v, |p| p << 32 | p & 0xffff_ffff)),
        M::Movshdup => by_source!(s, Aligned, unary, |v| map1::<u64>(v, |p| p >> 32 | p >> 32 << 32)),
        M::Movddup => by_source!(s, Bytes<8>, unary, |v| unpack_low::<u64>(v, v, 16)),
        M::Pextrb => extract_from::<u8>(s),
        M::Pextrd | M::Extractps => extract_from::<u32>(s),
        M::Pextrq => extract_from::<u64>(s),
        M::Pinsrb if memory => insert::<Bytes<1>, u8>,
        M::Pinsrb => insert::<Gpr32, u8>,
        M::Pinsrd if memory => insert::<Bytes<4>, u32>,
        M::Pinsrd => insert::<Gpr32, u32>,
        M::Pinsrq if memory => insert::<Bytes<8>, u64>,
        M::Pinsrq => insert::<Gpr64, u64>,
        _ => return None,
    })
}
