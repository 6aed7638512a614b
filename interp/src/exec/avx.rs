//! AVX and AVX2 (SDM vol. 1, chapter 14; vol. 2, VEX.*): whether the unit is enabled, and what SSE has no model of.
//!
//! A VEX instruction that repeats an SSE one in both halves is in the table of the SSE one (`sse_*.rs`), for its form.
//! Here are those that cross the halves' border, look at a mask before they touch memory, or stand alone.

use super::lanes::{Lane, build, map2};
use super::save_area::reachable;
use super::simd::{
    AVX_DISABLED, Aligned, Bytes, Form, HalfVector, Halves, Outcome, Source, Unaligned, Vector, Vex, Xmm,
    binary, binary_imm, binary_imm_step, by_source, first, set_vector, store, vector, vex_operands,
};
use super::{aes, avx_gather, f16c, fma, sse_cvt, sse_fp, sse_int, sse_mov, sse_shuffle, sse_str};
use crate::decode::{Encoding, Handler, Kind, Op, Shape};
use crate::operand::{effective, linear_unaligned, segment};
use emu_core::cpu::Cpu;
use emu_core::mmu::Priv;
use emu_core::state::Mode;
use iced_x86::{EncodingKind, Mnemonic};

/// The handler, if the instruction is a vector one with VEX.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    if s.ins.encoding() != EncodingKind::VEX {
        return None;
    }
    let before = (op.src, op.imm);
    vex_operands(s, op);
    let run = sse_mov::choose(s, op)
        .or_else(|| sse_int::choose(s))
        .or_else(|| sse_shuffle::choose(s))
        .or_else(|| sse_fp::choose(s))
        .or_else(|| sse_cvt::choose(s))
        .or_else(|| sse_str::choose(s))
        .or_else(|| aes::choose(s))
        .or_else(|| fma::choose(s))
        .or_else(|| f16c::choose(s))
        .or_else(|| avx_gather::choose(s, op))
        .or_else(|| own(s));
    match run {
        Some(_) if s.mode.contains(Mode::NO_AVX) => Some(AVX_DISABLED),
        Some(run) => Some(run),
        // Not a vector instruction: other groups find its operands where they expect them.
        None => {
            (op.src, op.imm) = before;
            None
        }
    }
}

/// Every lane is lane 0 of the source.
#[inline(always)]
fn broadcast<F: Form, S: Source, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [v, _] = S::wide::<F>(cpu, op)?;
    let all = build(16 / T::BYTES, |_| T::get(v, 0));
    F::put(cpu, op, [all; 2]);
    Ok(())
}

/// VBROADCASTF128, VBROADCASTI128.
fn broadcast_half(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [v, _] = HalfVector::wide::<Vex<2>>(cpu, op)?;
    set_vector::<2>(cpu, op.dst, [v; 2]);
    Ok(())
}

/// VEXTRACTF128, VEXTRACTI128.
fn extract_half<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = vector::<Vex<2>>(cpu, op.src)[op.imm as usize & 1];
    if MEMORY {
        return store(cpu, op, 16, v);
    }
    set_vector::<1>(cpu, op.dst, [v, 0]);
    Ok(())
}

/// VINSERTF128, VINSERTI128.
fn insert_half<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [v, _] = S::wide::<Vex<2>>(cpu, op)?;
    let mut r = vector::<Vex<2>>(cpu, first(op));
    r[op.imm as usize & 1] = v;
    set_vector::<2>(cpu, op.dst, r);
    Ok(())
}

/// VPERM2F128, VPERM2I128: each half of the destination is one of four, or zero.
fn permute_halves<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [b0, b1] = S::wide::<Vex<2>>(cpu, op)?;
    let [a0, a1] = vector::<Vex<2>>(cpu, first(op));
    let half = |control: u64| match control & 8 {
        0 => [a0, a1, b0, b1][control as usize & 3],
        _ => 0,
    };
    set_vector::<2>(cpu, op.dst, [half(op.imm), half(op.imm >> 4)]);
    Ok(())
}

/// Doubleword `i` of eight, or quadword of four.
#[inline(always)]
fn lane_of<T: Lane>(v: Halves, i: usize) -> T {
    let n = 16 / T::BYTES;
    T::get(v[i / n], i & (n - 1))
}

/// VPERMD, VPERMPS: the first source holds the lane numbers.
fn permute_doublewords<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = S::wide::<Vex<2>>(cpu, op)?;
    let numbers = vector::<Vex<2>>(cpu, first(op));
    let r = numbers.map(|half| build::<u32>(4, |i| lane_of(v, u32::get(half, i) as usize & 7)));
    set_vector::<2>(cpu, op.dst, r);
    Ok(())
}

/// VPERMQ, VPERMPD: the immediate holds the lane numbers.
fn permute_quadwords<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = S::wide::<Vex<2>>(cpu, op)?;
    let r = [0, 2].map(|h| build::<u64>(2, |i| lane_of(v, (op.imm >> (2 * (h + i))) as usize & 3)));
    set_vector::<2>(cpu, op.dst, r);
    Ok(())
}

/// VPERMILPS and VPERMILPD with a vector of lane numbers, in each half alone.
#[inline(always)]
fn permute_within<T: Lane + Into<u64>>(v: u128, numbers: u128) -> u128 {
    let n = 16 / T::BYTES;
    build(n, |i| {
        let number: u64 = T::get(numbers, i).into();
        // That of VPERMILPD is bit 1.
        T::get(v, (if n == 2 { number >> 1 } else { number }) as usize & (n - 1))
    })
}

/// VPMASKMOV*, VMASKMOVP* to a register: lanes whose mask bit is clear are zero and are not read.
fn mask_load<F: Form, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let mask = vector::<F>(cpu, first(op));
    let mut r = [0; 2];
    for i in 0..F::HALVES * 16 / T::BYTES {
        if let Some(at) = masked_lane::<T>(cpu, op, mask, i, false)? {
            let v = match T::BYTES {
                4 => cpu.load::<4>(at, op.stack())?,
                _ => cpu.load::<8>(at, op.stack())?,
            };
            let bit = i * T::BYTES * 8;
            r[bit / 128] |= u128::from(v) << (bit % 128);
        }
    }
    F::put(cpu, op, r);
    Ok(())
}

/// The same to memory: lanes whose mask bit is clear are not touched and cannot fault; the others are all stored or
/// none.
fn mask_store<F: Form, T: Lane>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let mask = vector::<F>(cpu, first(op));
    let v = vector::<F>(cpu, op.src);
    let mut places = [None; 8];
    for (i, place) in places.iter_mut().enumerate().take(F::HALVES * 16 / T::BYTES) {
        *place = masked_lane::<T>(cpu, op, mask, i, true)?;
        if let Some(at) = *place {
            cpu.probe_write(at, T::BYTES, Priv::Current, op.stack())?;
        }
    }
    for (i, at) in places.iter().enumerate() {
        let Some(at) = *at else { continue };
        match T::BYTES {
            4 => cpu.store::<4>(at, lane_of::<u32>(v, i).into(), op.stack())?,
            _ => cpu.store::<8>(at, lane_of::<u64>(v, i), op.stack())?,
        }
    }
    Ok(())
}

/// The linear address of lane `i` of the memory operand, if its mask bit is set.
fn masked_lane<T: Lane>(
    cpu: &mut Cpu,
    op: &Op,
    mask: Halves,
    i: usize,
    write: bool,
) -> Result<Option<u64>, emu_core::fault::Exception> {
    let bit = i * T::BYTES * 8;
    if mask[bit / 128] >> (bit % 128 + 8 * T::BYTES - 1) & 1 == 0 {
        return Ok(None);
    }
    // One memory operand, whose address alone is cut to the address size (SDM vol. 1, 3.7.5.1): as of any other, its upper
    // lanes may lie beyond 64 KiB or, in 64-bit code, 4 GiB. Offsets in a segment have 32 bits.
    let lane = effective(&cpu.state, op).wrapping_add((i * T::BYTES) as u64);
    let off = if cpu.state.mode.contains(Mode::CODE64) { lane } else { lane & 0xffff_ffff };
    // SDM vol. 2, VPMASKMOV: "No AC# reported for any mask bit combinations".
    linear_unaligned(cpu, segment(op.seg), off, T::BYTES as u64, write).map(Some)
}

/// VZEROALL, and VZEROUPPER, which leaves the low halves.
fn zero<const LOW: bool>(cpu: &mut Cpu, _op: &Op) -> Outcome {
    let n = reachable(&cpu.state);
    for v in &mut cpu.state.vec[..n] {
        v.0[2..].fill(0);
        if LOW {
            v.0[..2].fill(0);
        }
    }
    Ok(())
}

/// A shift of each lane by its own count, which is not taken modulo anything.
#[inline(always)]
fn shift_each<T: Lane>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    map2::<T>(a, b, f)
}

/// The instructions that are here.
fn own(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    let memory = s.from_memory();
    macro_rules! wide {
        ($f:ident, $mem:ty, $reg:ty) => {
            if memory { $f::<$mem> as Handler } else { $f::<$reg> }
        };
    }
    macro_rules! broadcast {
        ($mem:literal, $lane:ty) => {
            match (s.encoding, memory) {
                (Encoding::Vex256, true) => broadcast::<Vex<2>, Bytes<$mem>, $lane> as Handler,
                (Encoding::Vex256, _) => broadcast::<Vex<2>, Xmm, $lane>,
                (_, true) => broadcast::<Vex<1>, Bytes<$mem>, $lane>,
                _ => broadcast::<Vex<1>, Xmm, $lane>,
            }
        };
    }
    macro_rules! masked {
        ($lane:ty) => {
            match (s.kinds[0] == Kind::Mem, s.encoding) {
                (true, Encoding::Vex256) => mask_store::<Vex<2>, $lane> as Handler,
                (true, _) => mask_store::<Vex<1>, $lane>,
                (_, Encoding::Vex256) => mask_load::<Vex<2>, $lane>,
                _ => mask_load::<Vex<1>, $lane>,
            }
        };
    }
    Some(match s.mnemonic() {
        M::Vzeroupper => zero::<false>,
        M::Vzeroall => zero::<true>,
        M::Vbroadcastss | M::Vpbroadcastd => broadcast!(4, u32),
        M::Vbroadcastsd | M::Vpbroadcastq => broadcast!(8, u64),
        M::Vpbroadcastb => broadcast!(1, u8),
        M::Vpbroadcastw => broadcast!(2, u16),
        M::Vbroadcastf128 | M::Vbroadcasti128 => broadcast_half,
        M::Vextractf128 | M::Vextracti128 if s.kinds[0] == Kind::Mem => extract_half::<true>,
        M::Vextractf128 | M::Vextracti128 => extract_half::<false>,
        M::Vinsertf128 | M::Vinserti128 => wide!(insert_half, HalfVector, Xmm),
        M::Vperm2f128 | M::Vperm2i128 => wide!(permute_halves, Unaligned, Vector),
        M::Vpermd | M::Vpermps => wide!(permute_doublewords, Unaligned, Vector),
        M::Vpermq | M::Vpermpd => wide!(permute_quadwords, Unaligned, Vector),
        M::Vpermilps if s.kinds[2] == Kind::Imm => {
            by_source!(s, Aligned, binary_imm, |_, v, i| sse_shuffle::pshufd(v, i))
        }
        M::Vpermilpd if s.kinds[2] == Kind::Imm => pair_by_immediate(s),
        M::Vpermilps => by_source!(s, Aligned, binary, permute_within::<u32>),
        M::Vpermilpd => by_source!(s, Aligned, binary, permute_within::<u64>),
        M::Vpblendd => blend_doublewords(s),
        M::Vmaskmovps | M::Vpmaskmovd => masked!(u32),
        M::Vmaskmovpd | M::Vpmaskmovq => masked!(u64),
        M::Vpsllvd => by_source!(s, Aligned, binary, |a, b| {
            shift_each::<u32>(a, b, |v, n| v.checked_shl(n).unwrap_or(0))
        }),
        M::Vpsrlvd => by_source!(s, Aligned, binary, |a, b| {
            shift_each::<u32>(a, b, |v, n| v.checked_shr(n).unwrap_or(0))
        }),
        M::Vpsravd => by_source!(s, Aligned, binary, |a, b| {
            shift_each::<u32>(a, b, |v, n| (v as i32 >> n.min(31)) as u32)
        }),
        M::Vpsllvq => by_source!(s, Aligned, binary, |a, b| {
            shift_each::<u64>(a, b, |v, n| if n < 64 { v << n } else { 0 })
        }),
        M::Vpsrlvq => by_source!(s, Aligned, binary, |a, b| {
            shift_each::<u64>(a, b, |v, n| if n < 64 { v >> n } else { 0 })
        }),
        _ => return None,
    })
}

/// VPERMILPD with an immediate: two of its bits for each half.
fn pair_by_immediate(s: &Shape) -> Handler {
    fn run<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, f: fn(u128, u128, u8) -> u128) -> Outcome {
        binary_imm_step::<F, S, 2>(cpu, op, f)
    }
    by_source!(s, Aligned, run, |_, v, i| sse_shuffle::shufpd(v, v, i))
}

/// VPBLENDD: four of the immediate's bits for each half.
fn blend_doublewords(s: &Shape) -> Handler {
    fn run<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, f: fn(u128, u128, u8) -> u128) -> Outcome {
        binary_imm_step::<F, S, 4>(cpu, op, f)
    }
    by_source!(s, Aligned, run, sse_shuffle::blend::<u32>)
}
