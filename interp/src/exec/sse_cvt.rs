//! Conversions of SSE, AVX and F16C between the formats and integers (SDM vol. 2, CVT*).

use super::lanes::{Lane, replace};
use super::simd::{
    Aligned, Bytes, Form, Gpr32, Gpr64, Legacy, Mm, Outcome, Source, Twice, Vector, Vex, Xmm, by_source,
    by_source_128, enter_mmx, halves, ready_mmx,
};
use super::sse_fp::{commit, float, lane, with_lane};
use crate::decode::{Encoding, Handler, Kind, Op, Shape};
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
fn from_gpr<V: Form, S: Source, F: Format, const BITS: u32>(cpu: &mut Cpu, op: &Op) -> Outcome {
    float::<V, S>(cpu, op, |env, a, b, _| {
        let v = if BITS == 32 { i32::get(b, 0).into() } else { i64::get(b, 0) };
        with_lane::<F>(a, 0, env.from_integer::<F>(v))
    })
}

fn from_gpr_of<F: Format>(s: &Shape) -> Handler {
    match (s.encoding, s.from_memory(), s.size(s.ins.op_count() - 1)) {
        (Encoding::Legacy, true, 4) => from_gpr::<Legacy, Bytes<4>, F, 32>,
        (Encoding::Legacy, true, _) => from_gpr::<Legacy, Bytes<8>, F, 64>,
        (Encoding::Legacy, _, 4) => from_gpr::<Legacy, Gpr32, F, 32>,
        (Encoding::Legacy, ..) => from_gpr::<Legacy, Gpr64, F, 64>,
        (_, true, 4) => from_gpr::<Vex<1>, Bytes<4>, F, 32>,
        (_, true, _) => from_gpr::<Vex<1>, Bytes<8>, F, 64>,
        (_, _, 4) => from_gpr::<Vex<1>, Gpr32, F, 32>,
        _ => from_gpr::<Vex<1>, Gpr64, F, 64>,
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
    float::<Legacy, S>(cpu, op, |env, a, b, _| {
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

/// Half `h` of the destination comes from bit `bits * h` of the source on.
#[inline(always)]
fn wider<F: Form, S: Source>(
    cpu: &mut Cpu,
    op: &Op,
    bits: usize,
    f: impl Fn(&mut Env, u128) -> u128,
) -> Outcome {
    let [v, _] = S::wide::<F>(cpu, op)?;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let r = halves::<F>(|h| f(&mut env, v >> (bits * h)));
    commit(cpu, &env)?;
    F::put(cpu, op, r);
    Ok(())
}

/// Each half of the source makes `bits` bits of the destination, whose rest becomes zero.
#[inline(always)]
fn narrower<F: Form, S: Source>(
    cpu: &mut Cpu,
    op: &Op,
    bits: usize,
    f: impl Fn(&mut Env, u128) -> u128,
) -> Outcome {
    let v = S::wide::<F>(cpu, op)?;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let [low, high] = halves::<F>(|h| f(&mut env, v[h]) << (bits * h));
    commit(cpu, &env)?;
    F::put(cpu, op, [low | high, 0]);
    Ok(())
}

fn singles_to_doubles(env: &mut Env, v: u128) -> u128 {
    (0..2).fold(0, |r, i| with_lane::<Double>(r, i, env.convert::<Single, Double>(lane::<Single>(v, i))))
}

fn doubles_to_singles(env: &mut Env, v: u128) -> u128 {
    (0..2).fold(0, |r, i| with_lane::<Single>(r, i, env.convert::<Double, Single>(lane::<Double>(v, i))))
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
    // `$mem` bytes for each half, which is as long as `$mem` bytes made wider.
    macro_rules! longer {
        ($mem:literal, $f:expr) => {{
            const BITS: usize = 8 * $mem;
            match s.encoding {
                Encoding::Vex256 if memory => {
                    (|cpu, op| wider::<Vex<2>, Twice<$mem>>(cpu, op, BITS, $f)) as Handler
                }
                Encoding::Vex256 => |cpu, op| wider::<Vex<2>, Vector>(cpu, op, BITS, $f),
                Encoding::Vex128 if memory => |cpu, op| wider::<Vex<1>, Bytes<$mem>>(cpu, op, BITS, $f),
                Encoding::Vex128 => |cpu, op| wider::<Vex<1>, Vector>(cpu, op, BITS, $f),
                Encoding::Legacy if memory => |cpu, op| wider::<Legacy, Bytes<$mem>>(cpu, op, BITS, $f),
                Encoding::Legacy => |cpu, op| wider::<Legacy, Vector>(cpu, op, BITS, $f),
            }
        }};
    }
    macro_rules! shorter {
        ($bits:literal, $f:expr) => {{
            #[inline(always)]
            fn run<F: Form, S: Source>(
                cpu: &mut Cpu,
                op: &Op,
                f: impl Fn(&mut Env, u128) -> u128,
            ) -> Outcome {
                narrower::<F, S>(cpu, op, $bits, f)
            }
            by_source!(s, Aligned, run, $f)
        }};
    }
    macro_rules! scalar {
        ($mem:ty, $f:expr) => {
            by_source_128!(s, $mem, float, $f)
        };
    }
    macro_rules! packed {
        ($mem:ty, $f:expr) => {
            by_source!(s, $mem, float, $f)
        };
    }
    Some(match s.mnemonic() {
        M::Cvtss2sd | M::Vcvtss2sd => scalar!(Bytes<4>, |e, a, b, _| {
            with_lane::<Double>(a, 0, e.convert::<Single, Double>(lane::<Single>(b, 0)))
        }),
        M::Cvtsd2ss | M::Vcvtsd2ss => scalar!(Bytes<8>, |e, a, b, _| {
            with_lane::<Single>(a, 0, e.convert::<Double, Single>(lane::<Double>(b, 0)))
        }),
        M::Cvtps2pd | M::Vcvtps2pd => longer!(8, singles_to_doubles),
        M::Cvtpd2ps | M::Vcvtpd2ps => shorter!(64, doubles_to_singles),
        M::Cvtdq2ps | M::Vcvtdq2ps => packed!(Aligned, |e, _, b, _| from_doublewords::<Single>(e, b, 4)),
        // Exact: it raises nothing.
        M::Cvtdq2pd | M::Vcvtdq2pd => longer!(8, |e, v| from_doublewords::<Double>(e, v, 2)),
        M::Cvtps2dq | M::Vcvtps2dq => packed!(Aligned, |e, _, b, _| to_doublewords::<Single, false>(e, b)),
        M::Cvttps2dq | M::Vcvttps2dq => packed!(Aligned, |e, _, b, _| to_doublewords::<Single, true>(e, b)),
        M::Cvtpd2dq | M::Vcvtpd2dq => shorter!(64, to_doublewords::<Double, false>),
        M::Cvttpd2dq | M::Vcvttpd2dq => shorter!(64, to_doublewords::<Double, true>),
        M::Cvtsi2ss | M::Vcvtsi2ss => from_gpr_of::<Single>(s),
        M::Cvtsi2sd | M::Vcvtsi2sd => from_gpr_of::<Double>(s),
        M::Cvtss2si | M::Vcvtss2si => to_gpr!(s, Bytes<4>, Single, false),
        M::Cvttss2si | M::Vcvttss2si => to_gpr!(s, Bytes<4>, Single, true),
        M::Cvtsd2si | M::Vcvtsd2si => to_gpr!(s, Bytes<8>, Double, false),
        M::Cvttsd2si | M::Vcvttsd2si => to_gpr!(s, Bytes<8>, Double, true),
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
