//! Floating-point arithmetic and comparisons of SSE and AVX (SDM vol. 1, chapters 10 and 11; vol. 2).
//!
//! The arithmetic is `emu_core::softfloat::ieee`. An instruction evaluates all its elements under one [`Env`] and
//! then [`commit`]s the flags: with an unmasked exception MXCSR has its flags and nothing else has changed.

use super::lanes::{Lane, map1, replace};
use super::simd::{
    Aligned, Bytes, Form, Outcome, Source, Vector, Xmm, binary, by_form, by_source, by_source_128, halves,
    unary, vector, xmm,
};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags;
use emu_core::cpu::Cpu;
use emu_core::fault::{self, Exception};
use emu_core::softfloat::ieee::{Arithmetic, Double, Env, Format, Single, reciprocal, reciprocal_root};
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
            Err(Exception::new(if handled { fault::Vector::XM } else { fault::Vector::UD }))
        }
    }
}

/// `destination = f(env, first, source, imm8)`, half by half, under one environment.
#[inline(always)]
pub fn float<F: Form, S: Source>(
    cpu: &mut Cpu,
    op: &Op,
    f: impl Fn(&mut Env, u128, u128, u8) -> u128,
) -> Outcome {
    let b = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, F::first(op));
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let r = halves::<F>(|h| f(&mut env, a[h], b[h], op.imm as u8));
    commit(cpu, &env)?;
    F::put(cpu, op, r);
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
fn add_sub<F: Arithmetic>(env: &mut Env, a: u128, b: u128) -> u128 {
    (0..128 / F::BITS as usize).fold(0, |r, i| {
        let (x, y) = (lane::<F>(a, i), lane::<F>(b, i));
        with_lane::<F>(r, i, if i % 2 == 0 { env.sub::<F>(x, y) } else { env.add::<F>(x, y) })
    })
}

/// DPPS and DPPD. Bits 7-4 of the immediate choose the products, bits 3-0 where the sum goes, in both halves alike.
/// Exceptions are determined separately for the products and each layer of sums (the manual says "for each add and
/// multiply"; measured).
fn dot<F: Form, S: Source, N: Arithmetic>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let b = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, F::first(op));
    let imm = op.imm as u8;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let n = 128 / N::BITS as usize;
    let mut products = [[0; 4]; 2];
    for h in 0..F::HALVES {
        for i in (0..n).filter(|i| imm >> (4 + i) & 1 != 0) {
            products[h][i] = env.mul::<N>(lane::<N>(a[h], i), lane::<N>(b[h], i));
        }
    }
    let mut step = |env: &mut Env| {
        env.settle();
        match env.outcome() {
            Ok(_) => Ok(()),
            Err(_) => commit(cpu, env),
        }
    };
    step(&mut env)?;
    let mut sums = products.map(|p| [p[0], p[1]]);
    if n == 4 {
        for (sums, p) in sums.iter_mut().zip(&products).take(F::HALVES) {
            *sums = [0, 2].map(|i| env.add::<N>(p[i], p[i + 1]));
        }
        step(&mut env)?;
    }
    let r = halves::<F>(|h| {
        let sum = env.add::<N>(sums[h][0], sums[h][1]);
        (0..n).filter(|i| imm >> i & 1 != 0).fold(0, |r, i| with_lane::<N>(r, i, sum))
    });
    commit(cpu, &env)?;
    F::put(cpu, op, r);
    Ok(())
}

fn dot_of<N: Arithmetic>(s: &Shape) -> Handler {
    if s.from_memory() { by_form!(s, dot<Aligned, N>) } else { by_form!(s, dot<Vector, N>) }
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

/// PTEST, VTESTPS, VTESTPD: of the bits in `mask`.
fn test<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, mask: u128) -> Outcome {
    let b = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, op.dst);
    let none = |f: fn(u128, u128) -> u128| f(a[0], b[0]) & mask == 0 && f(a[1], b[1]) & mask == 0;
    let bits = flags::when(none(|a, b| a & b), ZF) | flags::when(none(|a, b| !a & b), CF);
    flags::set(&mut cpu.state, bits);
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
    ($s:ident, Aligned, $format:ty, $n:literal, |$env:ident, $a:ident, $b:ident, $imm:ident| $f:expr) => {
        by_source!($s, Aligned, float, |$env, a, b, $imm| each::<$format>(a, b, $n, |$a, $b| $f))
    };
    ($s:ident, $mem:ty, $format:ty, $n:literal, |$env:ident, $a:ident, $b:ident, $imm:ident| $f:expr) => {
        by_source_128!($s, $mem, float, |$env, a, b, $imm| each::<$format>(a, b, $n, |$a, $b| $f))
    };
}

/// All four forms of an operation of two operands.
macro_rules! arithmetic {
    ($s:ident, $m:ident: $($f:ident: $ss:ident $sd:ident $ps:ident $pd:ident $vss:ident $vsd:ident $vps:ident $vpd:ident)*) => {
        match $m {
            $(
                Mnemonic::$ss | Mnemonic::$vss => return Some(lanes!($s, Bytes<4>, Single, 1, |e, a, b, _i| e.$f::<Single>(a, b))),
                Mnemonic::$sd | Mnemonic::$vsd => return Some(lanes!($s, Bytes<8>, Double, 1, |e, a, b, _i| e.$f::<Double>(a, b))),
                Mnemonic::$ps | Mnemonic::$vps => return Some(lanes!($s, Aligned, Single, 4, |e, a, b, _i| e.$f::<Single>(a, b))),
                Mnemonic::$pd | Mnemonic::$vpd => return Some(lanes!($s, Aligned, Double, 2, |e, a, b, _i| e.$f::<Double>(a, b))),
            )*
            _ => {}
        }
    };
}

/// The top bits of doublewords.
const SIGNS_32: u128 = 0x8000_0000_8000_0000_8000_0000_8000_0000;
/// The top bits of quadwords.
const SIGNS_64: u128 = 0x8000_0000_0000_0000_8000_0000_0000_0000;

fn ones(on: bool) -> u64 {
    if on { u64::MAX } else { 0 }
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    let m = s.mnemonic();
    arithmetic! { s, m:
        add: Addss Addsd Addps Addpd Vaddss Vaddsd Vaddps Vaddpd
        sub: Subss Subsd Subps Subpd Vsubss Vsubsd Vsubps Vsubpd
        mul: Mulss Mulsd Mulps Mulpd Vmulss Vmulsd Vmulps Vmulpd
        div: Divss Divsd Divps Divpd Vdivss Vdivsd Vdivps Vdivpd
        min: Minss Minsd Minps Minpd Vminss Vminsd Vminps Vminpd
        max: Maxss Maxsd Maxps Maxpd Vmaxss Vmaxsd Vmaxps Vmaxpd
    }
    Some(match m {
        M::Sqrtss | M::Vsqrtss => lanes!(s, Bytes<4>, Single, 1, |e, _a, b, _i| e.sqrt::<Single>(b)),
        M::Sqrtsd | M::Vsqrtsd => lanes!(s, Bytes<8>, Double, 1, |e, _a, b, _i| e.sqrt::<Double>(b)),
        M::Sqrtps | M::Vsqrtps => lanes!(s, Aligned, Single, 4, |e, _a, b, _i| e.sqrt::<Single>(b)),
        M::Sqrtpd | M::Vsqrtpd => lanes!(s, Aligned, Double, 2, |e, _a, b, _i| e.sqrt::<Double>(b)),
        M::Vcmpss => lanes!(s, Bytes<4>, Single, 1, |e, a, b, i| ones(e.predicate::<Single>(a, b, i & 31))),
        M::Vcmpsd => lanes!(s, Bytes<8>, Double, 1, |e, a, b, i| ones(e.predicate::<Double>(a, b, i & 31))),
        M::Vcmpps => lanes!(s, Aligned, Single, 4, |e, a, b, i| ones(e.predicate::<Single>(a, b, i & 31))),
        M::Vcmppd => lanes!(s, Aligned, Double, 2, |e, a, b, i| ones(e.predicate::<Double>(a, b, i & 31))),
        M::Cmpss => lanes!(s, Bytes<4>, Single, 1, |e, a, b, i| ones(e.predicate::<Single>(a, b, i & 7))),
        // The string instruction has the same name.
        M::Cmpsd if s.ins.code() == Code::Cmpsd_xmm_xmmm64_imm8 => {
            lanes!(s, Bytes<8>, Double, 1, |e, a, b, i| ones(e.predicate::<Double>(a, b, i & 7)))
        }
        M::Cmpps => lanes!(s, Aligned, Single, 4, |e, a, b, i| ones(e.predicate::<Single>(a, b, i & 7))),
        M::Cmppd => lanes!(s, Aligned, Double, 2, |e, a, b, i| ones(e.predicate::<Double>(a, b, i & 7))),
        M::Roundss | M::Vroundss => {
            lanes!(s, Bytes<4>, Single, 1, |e, _a, b, i| e.round_integral::<Single>(b, i))
        }
        M::Roundsd | M::Vroundsd => {
            lanes!(s, Bytes<8>, Double, 1, |e, _a, b, i| e.round_integral::<Double>(b, i))
        }
        M::Roundps | M::Vroundps => {
            lanes!(s, Aligned, Single, 4, |e, _a, b, i| e.round_integral::<Single>(b, i))
        }
        M::Roundpd | M::Vroundpd => {
            lanes!(s, Aligned, Double, 2, |e, _a, b, i| e.round_integral::<Double>(b, i))
        }
        M::Comiss | M::Vcomiss => comis!(s, Bytes<4>, Single, true),
        M::Comisd | M::Vcomisd => comis!(s, Bytes<8>, Double, true),
        M::Ucomiss | M::Vucomiss => comis!(s, Bytes<4>, Single, false),
        M::Ucomisd | M::Vucomisd => comis!(s, Bytes<8>, Double, false),
        M::Haddps | M::Vhaddps => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Single>(a, b, |x, y| e.add::<Single>(x, y))
        }),
        M::Haddpd | M::Vhaddpd => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Double>(a, b, |x, y| e.add::<Double>(x, y))
        }),
        M::Hsubps | M::Vhsubps => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Single>(a, b, |x, y| e.sub::<Single>(x, y))
        }),
        M::Hsubpd | M::Vhsubpd => by_source!(s, Aligned, float, |e, a, b, _| {
            horizontal::<Double>(a, b, |x, y| e.sub::<Double>(x, y))
        }),
        M::Addsubps | M::Vaddsubps => by_source!(s, Aligned, float, |e, a, b, _| add_sub::<Single>(e, a, b)),
        M::Addsubpd | M::Vaddsubpd => by_source!(s, Aligned, float, |e, a, b, _| add_sub::<Double>(e, a, b)),
        M::Dpps | M::Vdpps => dot_of::<Single>(s),
        M::Dppd | M::Vdppd => dot_of::<Double>(s),
        M::Rcpps | M::Vrcpps => by_source!(s, Aligned, unary, |v| map1(v, reciprocal)),
        M::Rsqrtps | M::Vrsqrtps => by_source!(s, Aligned, unary, |v| map1(v, reciprocal_root)),
        M::Rcpss | M::Vrcpss => {
            by_source_128!(s, Bytes<4>, binary, |a, b| replace(a, 0, reciprocal(u32::get(b, 0))))
        }
        M::Rsqrtss | M::Vrsqrtss => {
            by_source_128!(s, Bytes<4>, binary, |a, b| replace(a, 0, reciprocal_root(u32::get(b, 0))))
        }
        M::Ptest | M::Vptest => by_source!(s, Aligned, test, u128::MAX),
        M::Vtestps => by_source!(s, Aligned, test, SIGNS_32),
        M::Vtestpd => by_source!(s, Aligned, test, SIGNS_64),
        _ => return None,
    })
}
