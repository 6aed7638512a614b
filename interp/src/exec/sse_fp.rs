//! Floating-point arithmetic and comparisons of SSE (SDM vol. 1, chapters 10 and 11; vol. 2).
//!
//! The arithmetic is `emu_core::softfloat::ieee`. An instruction evaluates all its elements under one [`Env`] and
//! then [`commit`]s the flags: with an unmasked exception MXCSR has its flags and nothing else has changed.

use super::lanes::{Lane, map1, replace};
use super::simd::{Aligned, Bytes, Outcome, Source, Xmm, binary, by_source, set_xmm, unary, xmm};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags;
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::softfloat::ieee::{Double, Env, Format, Single, reciprocal, reciprocal_root};
use emu_core::state::bits::cr4;
use emu_core::state::bits::rflags::{CF, ZF};
use iced_x86::{Code, Mnemonic};

/// Merges the exception flags of `env` into MXCSR.
///
/// # Errors
/// #XM, or #UD without CR4.OSXMMEXCPT, if one of them is unmasked.
#[inline(always)]
pub fn commit(cpu: &mut Cpu, env: &Env) -> Outcome {
    match env.outcome() {
        Ok(flags) => {
            cpu.state.mxcsr |= u32::from(flags.0);
            Ok(())
        }
        Err(flags) => {
            cpu.state.mxcsr |= u32::from(flags.0);
            let handled = cpu.state.cr4 & cr4::OSXMMEXCPT != 0;
            Err(Exception::new(if handled { Vector::XM } else { Vector::UD }))
        }
    }
}

/// `xmm0 = f(env, xmm0, source, imm8)`.
#[inline(always)]
pub fn float<S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(&mut Env, u128, u128, u8) -> u128) -> Outcome {
    let b = S::get(cpu, op)?;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let r = f(&mut env, xmm(cpu, op.dst), b, op.imm as u8);
    commit(cpu, &env)?;
    set_xmm(cpu, op.dst, r);
    Ok(())
}

/// Lane `i` of format `F`.
#[inline(always)]
pub fn lane<F: Format>(v: u128, i: usize) -> u64 {
    (v >> (F::BITS as usize * i)) as u64 & (F::SIGN | F::MAGNITUDE)
}

/// Puts a value of format `F` into lane `i`.
#[inline(always)]
pub fn with_lane<F: Format>(v: u128, i: usize, value: u64) -> u128 {
    if F::BITS == 32 { replace(v, i, value as u32) } else { replace(v, i, value) }
}

/// `f` of each of the first `n` pairs of lanes; the other lanes are those of `a`.
#[inline(always)]
pub fn each<F: Format>(a: u128, b: u128, n: usize, mut f: impl FnMut(u64, u64) -> u64) -> u128 {
    (0..n).fold(a, |r, i| with_lane::<F>(r, i, f(lane::<F>(a, i), lane::<F>(b, i))))
}

/// HADDPS, HADDPD and (by `f`) HSUBPS, HSUBPD.
#[inline(always)]
fn horizontal<F: Format>(a: u128, b: u128, mut f: impl FnMut(u64, u64) -> u64) -> u128 {
    let n = 128 / F::BITS as usize;
    (0..n).fold(0, |r, i| {
        let (v, at) = if i < n / 2 { (a, 2 * i) } else { (b, 2 * i - n) };
        with_lane::<F>(r, i, f(lane::<F>(v, at), lane::<F>(v, at + 1)))
    })
}

/// ADDSUBPS, ADDSUBPD: even lanes are subtracted, odd ones added.
#[inline(always)]
fn add_sub<F: Format>(env: &mut Env, a: u128, b: u128) -> u128 {
    (0..128 / F::BITS as usize).fold(0, |r, i| {
        let (x, y) = (lane::<F>(a, i), lane::<F>(b, i));
        with_lane::<F>(r, i, if i % 2 == 0 { env.sub::<F>(x, y) } else { env.add::<F>(x, y) })
    })
}

/// DPPS and DPPD. Bits 7-4 of `imm` choose the products, bits 3-0 where the sum goes. Exceptions are determined
/// separately for the products and each layer of sums (the manual says "for each add and multiply"; measured).
fn dot<F: Format>(env: &mut Env, a: u128, b: u128, imm: u8) -> u128 {
    let n = 128 / F::BITS as usize;
    let mut products = [0; 4];
    for (i, p) in products.iter_mut().enumerate().take(n) {
        if imm >> (4 + i) & 1 != 0 {
            *p = env.mul::<F>(lane::<F>(a, i), lane::<F>(b, i));
        }
    }
    env.settle();
    if env.outcome().is_err() {
        return 0;
    }
    let mut sum = env.add::<F>(products[0], products[1]);
    if n == 4 {
        let upper = env.add::<F>(products[2], products[3]);
        env.settle();
        if env.outcome().is_err() {
            return 0;
        }
        sum = env.add::<F>(sum, upper);
    }
    (0..n).filter(|i| imm >> i & 1 != 0).fold(0, |r, i| with_lane::<F>(r, i, sum))
}

/// COMISS, COMISD, UCOMISS, UCOMISD.
#[inline(always)]
fn comis<S: Source, F: Format, const SIGNAL: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = S::get(cpu, op)?;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let relation = env.compare::<F>(lane::<F>(xmm(cpu, op.dst), 0), lane::<F>(b, 0), SIGNAL);
    commit(cpu, &env)?;
    flags::set(&mut cpu.state, relation.eflags().into());
    Ok(())
}

/// PTEST.
fn ptest<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = S::get(cpu, op)?;
    let a = xmm(cpu, op.dst);
    flags::set(&mut cpu.state, flags::when(a & b == 0, ZF) | flags::when(!a & b == 0, CF));
    Ok(())
}

/// The handler of a scalar comparison into EFLAGS.
macro_rules! comis {
    ($s:ident, $mem:ty, $format:ty, $signal:literal) => {
        if $s.kinds[1] == Kind::Mem {
            comis::<$mem, $format, $signal>
        } else {
            comis::<Xmm, $format, $signal>
        }
    };
}

/// The handler of an operation on each of `$n` lanes.
macro_rules! lanes {
    ($s:ident, $mem:ty, $format:ty, $n:literal, |$env:ident, $a:ident, $b:ident, $imm:ident| $f:expr) => {
        by_source!($s, $mem, float, |$env, a, b, $imm| each::<$format>(a, b, $n, |$a, $b| $f))
    };
}

/// All four forms of an operation of two operands.
macro_rules! arithmetic {
    ($s:ident, $m:ident: $($ss:ident $sd:ident $ps:ident $pd:ident $f:ident)*) => {
        match $m {
            $(
                Mnemonic::$ss => return Some(lanes!($s, Bytes<4>, Single, 1, |e, a, b, _i| e.$f::<Single>(a, b))),
                Mnemonic::$sd => return Some(lanes!($s, Bytes<8>, Double, 1, |e, a, b, _i| e.$f::<Double>(a, b))),
                Mnemonic::$ps => return Some(lanes!($s, Aligned, Single, 4, |e, a, b, _i| e.$f::<Single>(a, b))),
                Mnemonic::$pd => return Some(lanes!($s, Aligned, Double, 2, |e, a, b, _i| e.$f::<Double>(a, b))),
            )*
            _ => {}
        }
    };
}

fn ones(on: bool) -> u64 {
    if on { u64::MAX } else { 0 }
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    let m = s.mnemonic();
    arithmetic! { s, m:
        Addss Addsd Addps Addpd add
        Subss Subsd Subps Subpd sub
        Mulss Mulsd Mulps Mulpd mul
        Divss Divsd Divps Divpd div
        Minss Minsd Minps Minpd min
        Maxss Maxsd Maxps Maxpd max
    }
    Some(match m {
        M::Sqrtss => lanes!(s, Bytes<4>, Single, 1, |e, _a, b, _i| e.sqrt::<Single>(b)),
        M::Sqrtsd => lanes!(s, Bytes<8>, Double, 1, |e, _a, b, _i| e.sqrt::<Double>(b)),
        M::Sqrtps => lanes!(s, Aligned, Single, 4, |e, _a, b, _i| e.sqrt::<Single>(b)),
        M::Sqrtpd => lanes!(s, Aligned, Double, 2, |e, _a, b, _i| e.sqrt::<Double>(b)),
        M::Cmpss => lanes!(s, Bytes<4>, Single, 1, |e, a, b, i| ones(e.predicate::<Single>(a, b, i & 7))),
        // The string instruction has the same name.
        M::Cmpsd if s.ins.code() == Code::Cmpsd_xmm_xmmm64_imm8 => {
            lanes!(s, Bytes<8>, Double, 1, |e, a, b, i| ones(e.predicate::<Double>(a, b, i & 7)))
        }
        M::Cmpps => lanes!(s, Aligned, Single, 4, |e, a, b, i| ones(e.predicate::<Single>(a, b, i & 7))),
        M::Cmppd => lanes!(s, Aligned, Double, 2, |e, a, b, i| ones(e.predicate::<Double>(a, b, i & 7))),
        M::Roundss => lanes!(s, Bytes<4>, Single, 1, |e, _a, b, i| e.round_integral::<Single>(b, i)),
        M::Roundsd => lanes!(s, Bytes<8>, Double, 1, |e, _a, b, i| e.round_integral::<Double>(b, i)),
        M::Roundps => lanes!(s, Aligned, Single, 4, |e, _a, b, i| e.round_integral::<Single>(b, i)),
        M::Roundpd => lanes!(s, Aligned, Double, 2, |e, _a, b, i| e.round_integral::<Double>(b, i)),
        M::Comiss => comis!(s, Bytes<4>, Single, true),
        M::Comisd => comis!(s, Bytes<8>, Double, true),
        M::Ucomiss => comis!(s, Bytes<4>, Single, false),
        M::Ucomisd => comis!(s, Bytes<8>, Double, false),
        M::Haddps => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Single>(a, b, |x, y| e.add::<Single>(x, y))
        }),
        M::Haddpd => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Double>(a, b, |x, y| e.add::<Double>(x, y))
        }),
        M::Hsubps => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Single>(a, b, |x, y| e.sub::<Single>(x, y))
        }),
        M::Hsubpd => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Double>(a, b, |x, y| e.sub::<Double>(x, y))
        }),
        M::Addsubps => by_source!(s, Aligned, float, |e, a, b, _| add_sub::<Single>(e, a, b)),
        M::Addsubpd => by_source!(s, Aligned, float, |e, a, b, _| add_sub::<Double>(e, a, b)),
        M::Dpps => by_source!(s, Aligned, float, dot::<Single>),
        M::Dppd => by_source!(s, Aligned, float, dot::<Double>),
        M::Rcpps => by_source!(s, Aligned, unary, |v| map1(v, reciprocal)),
        M::Rsqrtps => by_source!(s, Aligned, unary, |v| map1(v, reciprocal_root)),
        M::Rcpss => by_source!(s, Bytes<4>, binary, |a, b| replace(a, 0, reciprocal(u32::get(b, 0)))),
        M::Rsqrtss => by_source!(s, Bytes<4>, binary, |a, b| replace(a, 0, reciprocal_root(u32::get(b, 0)))),
        M::Ptest if s.kinds[1] == Kind::Mem => ptest::<Aligned>,
        M::Ptest => ptest::<Xmm>,
        _ => return None,
    })
}
