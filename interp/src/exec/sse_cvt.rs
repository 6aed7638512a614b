//! Conversions of SSE between the formats and integers (SDM vol. 2, CVT*).

use super::lanes::{Lane, replace};
use super::simd::{
    Aligned, Bytes, Gpr32, Gpr64, Mm, Outcome, Source, Xmm, by_source, enter_mmx, ready_mmx, set_xmm,
};
use super::sse_fp::{commit, float, lane, with_lane};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{W32, W64, set_mm, set_reg};
use emu_core::cpu::Cpu;
use emu_core::softfloat::ieee::{Double, Env, Format, Single};
use iced_x86::Mnemonic;

/// Two or four lanes to doublewords, rounded or (`T`) truncated.
#[inline(always)]
fn to_doublewords<F: Format, const T: bool>(env: &mut Env, v: u128) -> u128 {
    (0..128 / F::BITS as usize).fold(0, |r, i| replace(r, i, to_integer::<F, T>(env, v, i, 32) as u32))
}

#[inline(always)]
fn to_integer<F: Format, const T: bool>(env: &mut Env, v: u128, i: usize, bits: u32) -> u64 {
    let v = lane::<F>(v, i);
    if T { env.truncate::<F>(v, bits) } else { env.to_integer::<F>(v, bits) }
}

/// `n` doublewords to format `F`.
#[inline(always)]
fn from_doublewords<F: Format>(env: &mut Env, v: u128, n: usize) -> u128 {
    (0..n).fold(0, |r, i| with_lane::<F>(r, i, env.from_integer::<F>(i32::get(v, i).into())))
}

/// CVTSI2SS, CVTSI2SD.
#[inline(always)]
fn from_gpr<S: Source, F: Format, const BITS: u32>(cpu: &mut Cpu, op: &Op) -> Outcome {
    float::<S>(cpu, op, |env, a, b, _| {
        let v = if BITS == 32 { i32::get(b, 0).into() } else { i64::get(b, 0) };
        with_lane::<F>(a, 0, env.from_integer::<F>(v))
    })
}

fn from_gpr_of<F: Format>(s: &Shape) -> Handler {
    match (s.kinds[1], s.size(1)) {
        (Kind::Mem, 4) => from_gpr::<Bytes<4>, F, 32>,
        (Kind::Mem, _) => from_gpr::<Bytes<8>, F, 64>,
        (_, 4) => from_gpr::<Gpr32, F, 32>,
        _ => from_gpr::<Gpr64, F, 64>,
    }
}

/// CVTSS2SI, CVTSD2SI, CVTTSS2SI, CVTTSD2SI.
#[inline(always)]
fn to_gpr<S: Source, F: Format, const T: bool, const BITS: u32>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = S::get(cpu, op)?;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let r = to_integer::<F, T>(&mut env, b, 0, BITS);
    commit(cpu, &env)?;
    match BITS {
        32 => set_reg::<W32>(&mut cpu.state, op.dst, r),
        _ => set_reg::<W64>(&mut cpu.state, op.dst, r),
    }
    Ok(())
}

/// CVTPI2PS, CVTPI2PD. From memory there is no transition to MMX; otherwise #XM comes after it (measured), as in
/// [`to_mm`].
#[inline(always)]
fn from_mm<S: Source, F: Format, const TRANSITION: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    if TRANSITION {
        ready_mmx(cpu)?;
        enter_mmx(cpu);
    }
    float::<S>(cpu, op, |env, a, b, _| {
        let r = from_doublewords::<F>(env, b, 2);
        if F::BITS == 32 { replace(a, 0, r as u64) } else { r }
    })
}

/// CVTPS2PI, CVTPD2PI, CVTTPS2PI, CVTTPD2PI.
#[inline(always)]
fn to_mm<S: Source, F: Format, const T: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    let b = S::get(cpu, op)?;
    enter_mmx(cpu);
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let low = to_integer::<F, T>(&mut env, b, 0, 32);
    let high = to_integer::<F, T>(&mut env, b, 1, 32);
    commit(cpu, &env)?;
    set_mm(&mut cpu.state, op.dst, low | high << 32);
    Ok(())
}

/// CVTDQ2PD is exact; the others run under MXCSR.
#[inline(always)]
fn widen_doublewords<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = S::get(cpu, op)?;
    let r = from_doublewords::<Double>(&mut Env::from_mxcsr(cpu.state.mxcsr), b, 2);
    set_xmm(cpu, op.dst, r);
    Ok(())
}

macro_rules! to_gpr {
    ($s:ident, $mem:ty, $format:ty, $truncate:literal) => {
        match ($s.kinds[1], $s.bytes) {
            (Kind::Mem, 4) => to_gpr::<$mem, $format, $truncate, 32>,
            (Kind::Mem, _) => to_gpr::<$mem, $format, $truncate, 64>,
            (_, 4) => to_gpr::<Xmm, $format, $truncate, 32>,
            _ => to_gpr::<Xmm, $format, $truncate, 64>,
        }
    };
}

macro_rules! to_mm {
    ($s:ident, $mem:ty, $format:ty, $truncate:literal) => {
        if $s.kinds[1] == Kind::Mem {
            to_mm::<$mem, $format, $truncate>
        } else {
            to_mm::<Xmm, $format, $truncate>
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    let memory = s.kinds[1] == Kind::Mem;
    macro_rules! packed {
        ($mem:ty, $f:expr) => {
            by_source!(s, $mem, float, $f)
        };
    }
    Some(match s.mnemonic() {
        M::Cvtss2sd => packed!(Bytes<4>, |e, a, b, _| {
            with_lane::<Double>(a, 0, e.convert::<Single, Double>(lane::<Single>(b, 0)))
        }),
        M::Cvtsd2ss => packed!(Bytes<8>, |e, a, b, _| {
            with_lane::<Single>(a, 0, e.convert::<Double, Single>(lane::<Double>(b, 0)))
        }),
        M::Cvtps2pd => packed!(Bytes<8>, |e, _, b, _| (0..2).fold(0, |r, i| {
            with_lane::<Double>(r, i, e.convert::<Single, Double>(lane::<Single>(b, i)))
        })),
        M::Cvtpd2ps => packed!(Aligned, |e, _, b, _| (0..2).fold(0, |r, i| {
            with_lane::<Single>(r, i, e.convert::<Double, Single>(lane::<Double>(b, i)))
        })),
        M::Cvtdq2ps => packed!(Aligned, |e, _, b, _| from_doublewords::<Single>(e, b, 4)),
        M::Cvtdq2pd if memory => widen_doublewords::<Bytes<8>>,
        M::Cvtdq2pd => widen_doublewords::<Xmm>,
        M::Cvtps2dq => packed!(Aligned, |e, _, b, _| to_doublewords::<Single, false>(e, b)),
        M::Cvttps2dq => packed!(Aligned, |e, _, b, _| to_doublewords::<Single, true>(e, b)),
        M::Cvtpd2dq => packed!(Aligned, |e, _, b, _| to_doublewords::<Double, false>(e, b)),
        M::Cvttpd2dq => packed!(Aligned, |e, _, b, _| to_doublewords::<Double, true>(e, b)),
        M::Cvtsi2ss => from_gpr_of::<Single>(s),
        M::Cvtsi2sd => from_gpr_of::<Double>(s),
        M::Cvtss2si => to_gpr!(s, Bytes<4>, Single, false),
        M::Cvttss2si => to_gpr!(s, Bytes<4>, Single, true),
        M::Cvtsd2si => to_gpr!(s, Bytes<8>, Double, false),
        M::Cvttsd2si => to_gpr!(s, Bytes<8>, Double, true),
        M::Cvtpi2ps if memory => from_mm::<Bytes<8>, Single, false>,
        M::Cvtpi2ps => from_mm::<Mm, Single, true>,
        M::Cvtpi2pd if memory => from_mm::<Bytes<8>, Double, false>,
        M::Cvtpi2pd => from_mm::<Mm, Double, true>,
        M::Cvtps2pi => to_mm!(s, Bytes<8>, Single, false),
        M::Cvttps2pi => to_mm!(s, Bytes<8>, Single, true),
        M::Cvtpd2pi => to_mm!(s, Aligned, Double, false),
        M::Cvttpd2pi => to_mm!(s, Aligned, Double, true),
        _ => return None,
    })
}
