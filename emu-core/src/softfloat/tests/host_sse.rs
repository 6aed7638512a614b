//! Every operation of [`ieee`] against the host's SSE: values and flags, in every rounding mode, with DAZ and FTZ,
//! all exceptions masked. What unmasked exceptions leave in MXCSR is judged in `testsuite`.

use super::super::ieee::{Double, Env, Format, Single, reciprocal, reciprocal_root};
use super::operands::Random;
use std::arch::asm;

const CASES: u32 = 150_000;

/// An encoding of format `F` that looks for trouble.
fn value<F: Format>(random: &mut Random) -> u64 {
    let fraction_mask = (1u64 << F::FRACTION) - 1;
    let sign = random.next() & F::SIGN;
    let exponent = match random.below(10) {
        0 => 0,
        1 => F::SPECIAL,
        2 => random.below(4),
        3 => F::SPECIAL - random.below(4),
        4 | 5 => (F::BIAS + random.range(-3, 3)) as u64,
        6 => (F::BIAS + random.range(-70, 70)) as u64,
        7 => (F::BIAS / 2 + random.range(-30, 30)) as u64,
        8 => (F::BIAS + F::BIAS / 2 + random.range(-30, 30)) as u64,
        _ => random.below(F::SPECIAL + 1),
    };
    let r = random.next();
    let fraction = match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1,
        3 => r & random.next() & random.next(),
        4 => r | random.next() | random.next(),
        5 => (r & !0x3fff_ffff | 0x1fff_ffff).wrapping_add(random.below(3)),
        6 => 1 << (r % u64::from(F::FRACTION)),
        _ => r,
    };
    sign | exponent << F::FRACTION | fraction & fraction_mask
}

/// A value, often near `a`.
fn near<F: Format>(random: &mut Random, a: u64) -> u64 {
    match random.below(5) {
        0 => a ^ 1 << random.below(F::BITS.into()) ^ random.below(2),
        1 => {
            (a ^ random.next() & F::SIGN).wrapping_add(random.below(5)).wrapping_sub(2)
                & (F::SIGN | F::MAGNITUDE)
        }
        2 => {
            let e = F::exponent(a) as i32 + random.range(-60, 60);
            value::<F>(random) & !F::INFINITY | (e.clamp(0, F::SPECIAL as i32) as u64) << F::FRACTION
        }
        _ => value::<F>(random),
    }
}

/// An MXCSR with every exception masked.
fn mxcsr(random: &mut Random) -> u32 {
    let r = random.next() as u32;
    0x1f80 | r & 0x6000 | if random.below(2) == 0 { r & 0x8040 } else { 0 }
}

macro_rules! host {
    ($text:expr, $mxcsr:expr, $a:expr, $b:expr $(, $c:expr)?) => {{
        let mut result = f64::from_bits($a);
        let mut m: u32 = $mxcsr;
        let mut save: u32 = 0;
        // SAFETY: changes only `result`, the two words given by address, and MXCSR, which it restores.
        unsafe {
            asm!(
                "stmxcsr [{s}]", "ldmxcsr [{m}]", $text, "stmxcsr [{m}]", "ldmxcsr [{s}]",
                s = in(reg) &raw mut save,
                m = in(reg) &raw mut m,
                x = inout(xmm_reg) result,
                y = in(xmm_reg) f64::from_bits($b),
                $(z = in(xmm_reg) f64::from_bits($c),)?
                options(nostack),
            );
        }
        (result.to_bits(), m & 0x3f)
    }};
}

/// Both ways of getting the result: from scratch, and with PE already set.
fn both(m: u32, f: impl Fn(&mut Env) -> u64) -> (u64, u32) {
    let mut env = Env::from_mxcsr(m);
    let r = f(&mut env);
    let mut quick = Env::from_mxcsr(m | 0x20);
    assert_eq!(f(&mut quick), r, "quick result, mxcsr {m:#x}");
    assert_eq!((quick.flags.0 | 0x20), (env.flags.0 | 0x20), "quick flags, mxcsr {m:#x}");
    (r, env.flags.0.into())
}

macro_rules! binary {
    ($($test:ident, $f:ident, $single:literal, $double:literal;)*) => {$(
        #[test]
        fn $test() {
            let mut random = Random::named(stringify!($test));
            for _ in 0..CASES {
                let m = mxcsr(&mut random);
                let a = value::<Single>(&mut random);
                let b = near::<Single>(&mut random, a);
                let (r, flags) = host!(concat!($single, " {x}, {y}"), m, a, b);
                assert_eq!(both(m, |e| e.$f::<Single>(a, b)), (r & 0xffff_ffff, flags), "{a:#x} {b:#x} {m:#x}");
                let a = value::<Double>(&mut random);
                let b = near::<Double>(&mut random, a);
                let theirs = host!(concat!($double, " {x}, {y}"), m, a, b);
                assert_eq!(both(m, |e| e.$f::<Double>(a, b)), theirs, "{a:#x} {b:#x} {m:#x}");
            }
        }
    )*};
}

binary! {
    add, add, "addss", "addsd";
    sub, sub, "subss", "subsd";
    mul, mul, "mulss", "mulsd";
    div, div, "divss", "divsd";
    min, min, "minss", "minsd";
    max, max, "maxss", "maxsd";
}

macro_rules! unary {
    ($($test:ident, $from:ty, $text:literal, $mask:literal, |$env:ident, $v:ident| $ours:expr;)*) => {$(
        #[test]
        fn $test() {
            let mut random = Random::named(stringify!($test));
            for _ in 0..CASES {
                let m = mxcsr(&mut random);
                let $v = value::<$from>(&mut random);
                let (r, flags) = host!($text, m, 0, $v);
                assert_eq!(both(m, |$env| $ours), (r & $mask, flags), "{:#x} {m:#x}", $v);
            }
        }
    )*};
}

const LOW: u64 = 0xffff_ffff;

unary! {
    sqrt_single, Single, "sqrtss {x}, {y}", 0xffff_ffff, |e, v| e.sqrt::<Single>(v);
    sqrt_double, Double, "sqrtsd {x}, {y}", 0xffff_ffff_ffff_ffff, |e, v| e.sqrt::<Double>(v);
    widen, Single, "cvtss2sd {x}, {y}", 0xffff_ffff_ffff_ffff, |e, v| e.convert::<Single, Double>(v);
    narrow, Double, "cvtsd2ss {x}, {y}", 0xffff_ffff, |e, v| e.convert::<Double, Single>(v);
    single_to_i32, Single, "cvtps2dq {x}, {y}", 0xffff_ffff, |e, v| e.to_integer::<Single>(v, 32);
    single_to_i32_truncated, Single, "cvttps2dq {x}, {y}", 0xffff_ffff, |e, v| e.truncate::<Single>(v, 32);
    double_to_i32, Double, "cvtpd2dq {x}, {y}", 0xffff_ffff, |e, v| e.to_integer::<Double>(v, 32);
    double_to_i32_truncated, Double, "cvttpd2dq {x}, {y}", 0xffff_ffff, |e, v| e.truncate::<Double>(v, 32);
}

macro_rules! to_gpr {
    ($($test:ident, $format:ty, $text:literal, $f:ident;)*) => {$(
        #[test]
        fn $test() {
            let mut random = Random::named(stringify!($test));
            for _ in 0..CASES {
                let m = mxcsr(&mut random);
                let v = value::<$format>(&mut random);
                let (mut flags, mut save, theirs) = (m, 0u32, 0u64);
                let mut theirs: u64 = theirs;
                // SAFETY: writes a register, two words given by address, and MXCSR, which it restores.
                unsafe {
                    asm!(
                        "stmxcsr [{s}]", "ldmxcsr [{m}]", $text, "stmxcsr [{m}]", "ldmxcsr [{s}]",
                        s = in(reg) &raw mut save, m = in(reg) &raw mut flags,
                        x = inout(reg) theirs, y = in(xmm_reg) f64::from_bits(v), options(nostack),
                    );
                }
                assert_eq!(both(m, |e| e.$f::<$format>(v, 64)), (theirs, flags & 0x3f), "{v:#x} {m:#x}");
            }
        }
    )*};
}

to_gpr! {
    single_to_i64, Single, "cvtss2si {x}, {y}", to_integer;
    single_to_i64_truncated, Single, "cvttss2si {x}, {y}", truncate;
    double_to_i64, Double, "cvtsd2si {x}, {y}", to_integer;
    double_to_i64_truncated, Double, "cvttsd2si {x}, {y}", truncate;
}

macro_rules! from_gpr {
    ($($test:ident, $format:ty, $text:literal, $mask:expr;)*) => {$(
        #[test]
        fn $test() {
            let mut random = Random::named(stringify!($test));
            for _ in 0..CASES {
                let m = mxcsr(&mut random);
                let v = random.next() as i64 >> random.below(64) ^ random.below(2) as i64;
                let v = if random.below(3) == 0 { (v | i64::MIN) >> random.below(40) } else { v };
                let (mut flags, mut save, mut theirs) = (m, 0u32, 0f64);
                // SAFETY: as in `to_gpr`.
                unsafe {
                    asm!(
                        "stmxcsr [{s}]", "ldmxcsr [{m}]", $text, "stmxcsr [{m}]", "ldmxcsr [{s}]",
                        s = in(reg) &raw mut save, m = in(reg) &raw mut flags,
                        x = inout(xmm_reg) theirs, y = in(reg) v, options(nostack),
                    );
                }
                let ours = both(m, |e| e.from_integer::<$format>(v));
                assert_eq!(ours, (theirs.to_bits() & $mask, flags & 0x3f), "{v:#x} {m:#x}");
            }
        }
    )*};
}

from_gpr! {
    single_from_i64, Single, "cvtsi2ss {x}, {y}", LOW;
    double_from_i64, Double, "cvtsi2sd {x}, {y}", u64::MAX;
}

#[test]
fn round_integral() {
    if !is_x86_feature_detected!("sse4.1") {
        return;
    }
    let mut random = Random::named("round_integral");
    macro_rules! each {
        ($($imm:literal)*) => {$(
            for _ in 0..CASES / 4 {
                let m = mxcsr(&mut random);
                let v = value::<Single>(&mut random);
                let (r, flags) = host!(concat!("roundss {x}, {y}, ", $imm), m, 0, v);
                assert_eq!(both(m, |e| e.round_integral::<Single>(v, $imm)), (r & LOW, flags), "{v:#x} {m:#x}");
                let v = value::<Double>(&mut random);
                let theirs = host!(concat!("roundsd {x}, {y}, ", $imm), m, 0, v);
                assert_eq!(both(m, |e| e.round_integral::<Double>(v, $imm)), theirs, "{v:#x} {m:#x}");
            }
        )*};
    }
    each!(0 1 2 3 4 8 9 10 11 12);
}

#[test]
fn predicates() {
    let mut random = Random::named("predicates");
    let wide = is_x86_feature_detected!("avx");
    macro_rules! each {
        ($single:literal, $double:literal, $mid:literal: $($imm:literal)*) => {$(
            for _ in 0..CASES / 8 {
                let m = mxcsr(&mut random);
                let a = value::<Single>(&mut random);
                let b = near::<Single>(&mut random, a);
                let (r, flags) = host!(concat!($single, $mid, "{x}, {y}, ", $imm), m, a, b);
                let ours = both(m, |e| if e.predicate::<Single>(a, b, $imm) { LOW } else { 0 });
                assert_eq!(ours, (r & LOW, flags), "{a:#x} {b:#x} {m:#x} {}", $imm);
                let a = value::<Double>(&mut random);
                let b = near::<Double>(&mut random, a);
                let theirs = host!(concat!($double, $mid, "{x}, {y}, ", $imm), m, a, b);
                let ours = both(m, |e| if e.predicate::<Double>(a, b, $imm) { u64::MAX } else { 0 });
                assert_eq!(ours, theirs, "{a:#x} {b:#x} {m:#x} {}", $imm);
            }
        )*};
    }
    each!("cmpss", "cmpsd", " ": 0 1 2 3 4 5 6 7);
    if wide {
        each!("vcmpss", "vcmpsd", " {x}, ": 8 9 10 11 12 13 14 15);
        each!("vcmpss", "vcmpsd", " {x}, ": 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    }
}

#[test]
fn comis() {
    let mut random = Random::named("comis");
    macro_rules! each {
        ($($format:ty, $text:literal, $signal:literal;)*) => {$(
            for _ in 0..CASES {
                let m = mxcsr(&mut random);
                let a = value::<$format>(&mut random);
                let b = near::<$format>(&mut random, a);
                let (mut flags, mut save) = (m, 0u32);
                let eflags: u64;
                // SAFETY: pops what it pushes; writes a register, two words by address, and MXCSR, restored.
                unsafe {
                    asm!(
                        "stmxcsr [{s}]", "ldmxcsr [{m}]", $text, "pushfq", "pop {f}", "stmxcsr [{m}]", "ldmxcsr [{s}]",
                        s = in(reg) &raw mut save, m = in(reg) &raw mut flags, f = out(reg) eflags,
                        x = in(xmm_reg) f64::from_bits(a), y = in(xmm_reg) f64::from_bits(b),
                    );
                }
                let ours = both(m, |e| e.compare::<$format>(a, b, $signal).eflags().into());
                assert_eq!(ours, (eflags & 0x8d5, flags & 0x3f), "{a:#x} {b:#x} {m:#x}");
            }
        )*};
    }
    each! {
        Single, "comiss {x}, {y}", true;
        Single, "ucomiss {x}, {y}", false;
        Double, "comisd {x}, {y}", true;
        Double, "ucomisd {x}, {y}", false;
    }
}

#[test]
fn mul_add() {
    if !is_x86_feature_detected!("fma") {
        return;
    }
    let mut random = Random::named("mul_add");
    for _ in 0..CASES * 2 {
        let m = mxcsr(&mut random);
        let a = value::<Single>(&mut random);
        let b = near::<Single>(&mut random, a);
        let product = (Env::from_mxcsr(m).mul::<Single>(a, b)) ^ Single::SIGN;
        let c = near::<Single>(&mut random, product);
        // The 213 form multiplies its second operand by its first.
        let (r, flags) = host!("vfmadd213ss {x}, {y}, {z}", m, a, b, c);
        let ours = both(m, |e| e.mul_add::<Single>(b, a, c));
        assert_eq!(ours, (r & LOW, flags), "{a:#x} {b:#x} {c:#x} {m:#x}");
        let a = value::<Double>(&mut random);
        let b = near::<Double>(&mut random, a);
        let product = (Env::from_mxcsr(m).mul::<Double>(a, b)) ^ Double::SIGN;
        let c = near::<Double>(&mut random, product);
        let theirs = host!("vfmadd213sd {x}, {y}, {z}", m, a, b, c);
        assert_eq!(both(m, |e| e.mul_add::<Double>(b, a, c)), theirs, "{a:#x} {b:#x} {c:#x} {m:#x}");
    }
}

/// Special operands agree with the host exactly; of ordinary results the manual bounds the error.
#[test]
fn approximations() {
    let mut random = Random::named("approximations");
    for _ in 0..CASES {
        let v = value::<Single>(&mut random);
        let ordinary = Single::is_plain(v) && !Single::is_zero(v);
        let check = |ours: u32, theirs: u32, truth: f64| {
            let (value, limit) = (f64::from(f32::from_bits(ours)), truth.abs() * 1.5 / 4096.0);
            if !ordinary || truth.is_nan() {
                assert_eq!(ours, theirs, "{v:#x}");
            } else if truth.abs() >= f64::from(f32::MIN_POSITIVE) {
                assert!((value - truth).abs() <= limit, "{v:#x}: {value} for {truth}");
            } else {
                // The manual leaves a narrow band open, in which the result may or may not be tiny.
                assert!(value == 0.0 || (value - truth).abs() <= limit, "{v:#x}: {value} for {truth}");
            }
        };
        let x = f64::from(f32::from_bits(v as u32));
        let (r, flags) = host!("rcpss {x}, {y}", 0x1f80, 0, v);
        assert_eq!(flags, 0);
        check(reciprocal(v as u32), r as u32, 1.0 / x);
        let (r, flags) = host!("rsqrtss {x}, {y}", 0x1f80, 0, v);
        assert_eq!(flags, 0);
        check(reciprocal_root(v as u32), r as u32, 1.0 / x.sqrt());
    }
}
