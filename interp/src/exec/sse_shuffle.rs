//! Shuffles, packs and unpacks, blends, inserts and extracts of MMX, SSE and AVX, as far as they stay within 128 bits.

use super::lanes::{Lane, build, map1, replace};
use super::simd::{
    Aligned, Bytes, Form, Gpr32, Gpr64, Mm, Outcome, Source, Twice, Unaligned, Vector, Vex, Xmm, binary,
    binary_imm, binary_imm_step, binary_mm, binary_mm_imm, by_form, by_source, by_source_128, by_source_mm,
    enter_mmx, fourth, halves, ready_mmx, set_xmm, store, to_register, unary, vector, widening, xmm,
};
use super::sse_int::{clamp, mpsadbw};
use crate::decode::{Encoding, Handler, Kind, Op, Shape};
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

/// Widens the low lanes of `v` from `N` to `T`.
#[inline(always)]
fn widen<N: Lane + Into<T>, T: Lane>(v: u128) -> u128 {
    build(16 / T::BYTES, |i| N::get(v, i).into())
}

/// PBLENDVB, BLENDVPS, BLENDVPD: the mask is XMM0, and that of the VEX forms encoded.
#[inline(always)]
fn blend_variable<F: Form, S: Source>(
    cpu: &mut Cpu,
    op: &Op,
    f: impl Fn(u128, u128, u128) -> u128,
) -> Outcome {
    let b = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, F::first(op));
    let mask = vector::<F>(cpu, if F::ALIGNED { 0 } else { fourth(op) });
    F::put(cpu, op, halves::<F>(|h| f(a[h], b[h], mask[h])));
    Ok(())
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
fn mask_of<F: Form, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [low, high] = vector::<F>(cpu, op.src);
    let v = sign_mask::<T>(low) | sign_mask::<T>(high) << (16 / T::BYTES);
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
fn insert<F: Form, S: Source, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary_imm::<F, S>(cpu, op, |a, b, imm| replace(a, usize::from(imm) & (16 / T::BYTES - 1), T::get(b, 0)))
}

fn insert_of<M: Source, R: Source, T: Lane>(s: &Shape) -> Handler {
    if s.from_memory() { by_form!(s, insert<M, T>) } else { by_form!(s, insert<R, T>) }
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
        M::Punpcklbw | M::Vpunpcklbw => both!(Bytes<4>, unpack_low::<u8>),
        M::Punpcklwd | M::Vpunpcklwd => both!(Bytes<4>, unpack_low::<u16>),
        M::Punpckldq | M::Vpunpckldq => both!(Bytes<4>, unpack_low::<u32>),
        M::Punpckhbw | M::Vpunpckhbw => both!(Bytes<8>, unpack_high::<u8>),
        M::Punpckhwd | M::Vpunpckhwd => both!(Bytes<8>, unpack_high::<u16>),
        M::Punpckhdq | M::Vpunpckhdq => both!(Bytes<8>, unpack_high::<u32>),
        M::Packsswb | M::Vpacksswb => both!(Bytes<8>, packsswb),
        M::Packuswb | M::Vpackuswb => both!(Bytes<8>, packuswb),
        M::Packssdw | M::Vpackssdw => both!(Bytes<8>, packssdw),
        M::Pshufb | M::Vpshufb => both!(Bytes<8>, pshufb),
        M::Palignr | M::Vpalignr if mmx => {
            by_source_mm!(s, Bytes<8>, binary_mm_imm, |a, b, i| palignr(a, b, i, 8))
        }
        M::Palignr | M::Vpalignr => by_source!(s, Aligned, binary_imm, |a, b, i| palignr(a, b, i, 16)),
        M::Pshufw => {
            by_source_mm!(s, Bytes<8>, binary_mm_imm, |_, b, i| shuffle_words(b as u64, i).into())
        }
        M::Pmovmskb | M::Vpmovmskb if s.ins.op1_register().is_mm() => mask_of_mm,
        M::Pmovmskb | M::Vpmovmskb => by_form!(s, mask_of<u8>),
        M::Pextrw | M::Vpextrw if s.ins.op1_register().is_mm() => extract_word_mm,
        M::Pextrw | M::Vpextrw => extract_from::<u16>(s),
        M::Pinsrw | M::Vpinsrw if mmx && memory => insert_word_mm::<Bytes<2>>,
        M::Pinsrw | M::Vpinsrw if mmx => insert_word_mm::<Gpr32>,
        M::Pinsrw | M::Vpinsrw => insert_of::<Bytes<2>, Gpr32, u16>(s),
        _ => return None,
    })
}

/// Those that take a widened part of their source.
fn longer(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    // Memory holds half, a quarter or an eighth of the destination's length.
    macro_rules! widened {
        ($mem:literal, $from:ty, $to:ty) => {{
            const BITS: usize = 8 * $mem;
            match s.encoding {
                Encoding::Vex256 if s.from_memory() => {
                    |cpu, op| widening::<Vex<2>, Twice<$mem>>(cpu, op, BITS, widen::<$from, $to>)
                }
                Encoding::Vex256 => |cpu, op| widening::<Vex<2>, Vector>(cpu, op, BITS, widen::<$from, $to>),
                _ => by_source_128!(s, Bytes<$mem>, unary, widen::<$from, $to>),
            }
        }};
    }
    Some(match s.mnemonic() {
        M::Pmovsxbw | M::Vpmovsxbw => widened!(8, i8, i16),
        M::Pmovsxbd | M::Vpmovsxbd => widened!(4, i8, i32),
        M::Pmovsxbq | M::Vpmovsxbq => widened!(2, i8, i64),
        M::Pmovsxwd | M::Vpmovsxwd => widened!(8, i16, i32),
        M::Pmovsxwq | M::Vpmovsxwq => widened!(4, i16, i64),
        M::Pmovsxdq | M::Vpmovsxdq => widened!(8, i32, i64),
        M::Pmovzxbw | M::Vpmovzxbw => widened!(8, u8, u16),
        M::Pmovzxbd | M::Vpmovzxbd => widened!(4, u8, u32),
        M::Pmovzxbq | M::Vpmovzxbq => widened!(2, u8, u64),
        M::Pmovzxwd | M::Vpmovzxwd => widened!(8, u16, u32),
        M::Pmovzxwq | M::Vpmovzxwq => widened!(4, u16, u64),
        M::Pmovzxdq | M::Vpmovzxdq => widened!(8, u32, u64),
        _ => return None,
    })
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    if let Some(run) = shared(s).or_else(|| longer(s)) {
        return Some(run);
    }
    macro_rules! xmm2 {
        ($f:expr) => {
            by_source!(s, Aligned, binary, $f)
        };
    }
    // The immediate's bits are the low half's, then the high half's.
    macro_rules! stepped {
        ($step:literal, $f:expr) => {{
            #[inline(always)]
            fn run<F: Form, S: Source>(
                cpu: &mut Cpu,
                op: &Op,
                f: impl Fn(u128, u128, u8) -> u128,
            ) -> Outcome {
                binary_imm_step::<F, S, $step>(cpu, op, f)
            }
            by_source!(s, Aligned, run, $f)
        }};
    }
    macro_rules! xmm3 {
        ($f:expr) => {
            by_source!(s, Aligned, binary_imm, $f)
        };
    }
    Some(match s.mnemonic() {
        M::Punpcklqdq | M::Unpcklpd | M::Vpunpcklqdq | M::Vunpcklpd => {
            xmm2!(|a, b| unpack_low::<u64>(a, b, 16))
        }
        M::Punpckhqdq | M::Unpckhpd | M::Vpunpckhqdq | M::Vunpckhpd => {
            xmm2!(|a, b| unpack_high::<u64>(a, b, 16))
        }
        M::Unpcklps | M::Vunpcklps => xmm2!(|a, b| unpack_low::<u32>(a, b, 16)),
        M::Unpckhps | M::Vunpckhps => xmm2!(|a, b| unpack_high::<u32>(a, b, 16)),
        M::Packusdw | M::Vpackusdw => xmm2!(|a, b| packusdw(a, b, 16)),
        M::Pshufd | M::Vpshufd => xmm3!(|_, b, i| pshufd(b, i)),
        M::Pshuflw | M::Vpshuflw => xmm3!(|_, b, i| replace(b, 0, shuffle_words(b as u64, i))),
        M::Pshufhw | M::Vpshufhw => xmm3!(|_, b, i| replace(b, 1, shuffle_words((b >> 64) as u64, i))),
        M::Shufps | M::Vshufps => xmm3!(shufps),
        M::Shufpd | M::Vshufpd => stepped!(2, shufpd),
        M::Pblendw | M::Vpblendw => xmm3!(blend::<u16>),
        M::Blendps | M::Vblendps => stepped!(4, blend::<u32>),
        M::Blendpd | M::Vblendpd => stepped!(2, blend::<u64>),
        M::Pblendvb | M::Vpblendvb => by_source!(s, Aligned, blend_variable, blend_by_sign::<u8>),
        M::Blendvps | M::Vblendvps => by_source!(s, Aligned, blend_variable, blend_by_sign::<u32>),
        M::Blendvpd | M::Vblendvpd => by_source!(s, Aligned, blend_variable, blend_by_sign::<u64>),
        M::Mpsadbw | M::Vmpsadbw => stepped!(3, mpsadbw),
        M::Insertps | M::Vinsertps if s.from_memory() => {
            by_source_128!(s, Bytes<4>, binary_imm, |a, b, i| insertps(a, b, i & 0x3f))
        }
        M::Insertps | M::Vinsertps => by_source_128!(s, Bytes<4>, binary_imm, insertps),
        M::Movmskps | M::Vmovmskps => by_form!(s, mask_of<u32>),
        M::Movmskpd | M::Vmovmskpd => by_form!(s, mask_of<u64>),
        M::Movq2dq => movq2dq,
        M::Movdq2q => |cpu, op| binary_mm::<Xmm>(cpu, op, |_, b| b),
        M::Movsldup | M::Vmovsldup => {
            by_source!(s, Aligned, unary, |v| map1::<u64>(v, |p| p << 32 | p & 0xffff_ffff))
        }
        M::Movshdup | M::Vmovshdup => {
            by_source!(s, Aligned, unary, |v| map1::<u64>(v, |p| p >> 32 | p >> 32 << 32))
        }
        M::Vmovddup if s.encoding == Encoding::Vex256 => {
            by_source!(s, Unaligned, unary, |v| unpack_low::<u64>(v, v, 16))
        }
        M::Movddup | M::Vmovddup => by_source_128!(s, Bytes<8>, unary, |v| unpack_low::<u64>(v, v, 16)),
        M::Pextrb | M::Vpextrb => extract_from::<u8>(s),
        M::Pextrd | M::Extractps | M::Vpextrd | M::Vextractps => extract_from::<u32>(s),
        M::Pextrq | M::Vpextrq => extract_from::<u64>(s),
        M::Pinsrb | M::Vpinsrb => insert_of::<Bytes<1>, Gpr32, u8>(s),
        M::Pinsrd | M::Vpinsrd => insert_of::<Bytes<4>, Gpr32, u32>(s),
        M::Pinsrq | M::Vpinsrq => insert_of::<Bytes<8>, Gpr64, u64>(s),
        _ => return None,
    })
}
