//! The basic operations against `rustc_apfloat`, a port of LLVM's, on every host.
//!
//! It knows nothing of precision control, C1, DE or the x87's NaN rules and odd encodings, so those operands
//! are left to the host tests; what remains must agree in value and in the IEEE flags.

use rustc_apfloat::ieee::{Double, Single, X87DoubleExtended};
use rustc_apfloat::{Float, FloatConvert, Round, Status, StatusAnd};

use super::super::{Class, Ctx, F80, Flags, Operand, Rounding};
use super::operands::Random;

const CASES: u32 = 250_000;

fn to_theirs(v: F80) -> X87DoubleExtended {
    X87DoubleExtended::from_bits(u128::from(v.se) << 64 | u128::from(v.mant))
}

fn to_ours(v: X87DoubleExtended) -> F80 {
    let bits = v.to_bits();
    F80 { mant: bits as u64, se: (bits >> 64) as u16 }
}

fn round(rounding: Rounding) -> Round {
    match rounding {
        Rounding::Nearest => Round::NearestTiesToEven,
        Rounding::Down => Round::TowardNegative,
        Rounding::Up => Round::TowardPositive,
        Rounding::Zero => Round::TowardZero,
    }
}

fn flags(status: Status) -> Flags {
    let pairs = [
        (Status::INVALID_OP, Flags::IE),
        (Status::DIV_BY_ZERO, Flags::ZE),
        (Status::OVERFLOW, Flags::OE),
        (Status::UNDERFLOW, Flags::UE),
        (Status::INEXACT, Flags::PE),
    ];
    pairs.into_iter().filter(|(theirs, _)| status.contains(*theirs)).fold(Flags::NONE, |all, (_, f)| all | f)
}

/// A number or an infinity in its one canonical encoding.
fn canonical(random: &mut Random, near: Option<F80>) -> F80 {
    loop {
        let v = match near {
            Some(a) => random.partner(a),
            None => random.f80(),
        };
        if matches!(v.class(), Class::Zero | Class::Denormal | Class::Normal | Class::Infinity) {
            return v;
        }
    }
}

/// The flags both sides know. LLVM judges tininess by what the denormal rounds to, so UE is not compared at
/// the smallest normal number; and it does not report an overflow that ends at the largest finite number.
fn comparable(result: F80) -> Flags {
    let ieee = Flags::IE | Flags::ZE | Flags::OE | Flags::UE | Flags::PE;
    match (result.exponent(), result.mant) {
        (1, 0x8000_0000_0000_0000) => ieee & !Flags::UE,
        (0x7ffe, u64::MAX) => ieee & !Flags::OE,
        _ => ieee,
    }
}

fn check(
    name: &str,
    ours: fn(&mut Ctx, F80, F80) -> F80,
    theirs: fn(X87DoubleExtended, X87DoubleExtended, Round) -> StatusAnd<X87DoubleExtended>,
) {
    let mut random = Random::named(name);
    for _ in 0..CASES {
        let a = canonical(&mut random, None);
        let b = canonical(&mut random, Some(a));
        let mut ctx = Ctx::from_control_word(random.control_word() | 0x33f);
        let result = ours(&mut ctx, a, b);
        let expected = theirs(to_theirs(a), to_theirs(b), round(ctx.rounding));
        let mask = comparable(result);
        assert!(
            result == to_ours(expected.value) || result.is_nan() && expected.value.is_nan(),
            "{name} {a:?} {b:?} {:?}: {result:?}, apfloat {:?}",
            ctx.rounding,
            to_ours(expected.value)
        );
        assert_eq!(
            ctx.flags & mask,
            flags(expected.status) & mask,
            "{name} {a:?} {b:?} {:?} gives {result:?} (ours, apfloat)",
            ctx.rounding
        );
    }
}

#[test]
fn add_sub() {
    check("add", |c, a, b| c.add(a, b), |a, b, r| a.add_r(b, r));
    check("sub", |c, a, b| c.sub(a, b), |a, b, r| a.sub_r(b, r));
}

#[test]
fn mul_div() {
    check("mul", |c, a, b| c.mul(a, b), |a, b, r| a.mul_r(b, r));
    check("div", |c, a, b| c.div(a, b), |a, b, r| a.div_r(b, r));
}

/// FPREM and FPREM1 repeated until C2 is clear are C's `fmod` and IEEE's remainder.
#[test]
fn remainders() {
    fn repeated(c: &mut Ctx, a: F80, b: F80, step: fn(&mut Ctx, F80, F80) -> F80) -> F80 {
        let mut rest = a;
        for _ in 0..1100 {
            c.flags = Flags::NONE;
            rest = step(c, rest, b);
            if !c.flags.intersects(Flags::C2) {
                return rest;
            }
        }
        panic!("{a:?} by {b:?} never ends");
    }
    let near = |seed: &str| {
        let mut random = Random::named(seed);
        move || {
            let a = canonical(&mut random, None);
            let b = canonical(&mut random, Some(a));
            (a, b)
        }
    };
    let mut pairs = near("remainders");
    for _ in 0..CASES / 50 {
        let (a, b) = pairs();
        let mut ctx = Ctx::default();
        for (result, expected) in [
            (repeated(&mut ctx, a, b, |c, a, b| c.rem(a, b)), to_theirs(a).c_fmod(to_theirs(b))),
            (repeated(&mut ctx, a, b, |c, a, b| c.rem_nearest(a, b)), to_theirs(a).ieee_rem(to_theirs(b))),
        ] {
            let expected = expected.value;
            assert!(
                result == to_ours(expected) || result.is_nan() && expected.is_nan(),
                "{a:?} by {b:?}: {result:?}, apfloat {:?}",
                to_ours(expected)
            );
        }
    }
}

#[test]
fn narrow() {
    let mut random = Random::named("narrow");
    for _ in 0..CASES {
        let a = canonical(&mut random, None);
        let mut ctx = Ctx::from_control_word(random.control_word() | 0x33f);
        let mode = round(ctx.rounding);
        let single = ctx.to_f32(a);
        let expected: StatusAnd<Single> = to_theirs(a).convert_r(mode, &mut false);
        assert_eq!(u128::from(single), expected.value.to_bits(), "{a:?} to single, {:?}", ctx.rounding);
        if !matches!(single & 0x7fff_ffff, 0x0080_0000 | 0x7f7f_ffff) {
            assert_eq!(ctx.flags & !Flags::C1, flags(expected.status), "{a:?} to single, {:?}", ctx.rounding);
        }
        ctx.flags = Flags::NONE;
        let double = ctx.to_f64(a);
        let expected: StatusAnd<Double> = to_theirs(a).convert_r(mode, &mut false);
        assert_eq!(u128::from(double), expected.value.to_bits(), "{a:?} to double, {:?}", ctx.rounding);
    }
}

#[test]
fn widen() {
    let mut random = Random::named("widen");
    for _ in 0..CASES {
        let bits = random.next();
        let single = Single::from_bits(u128::from(bits as u32));
        let double = Double::from_bits(u128::from(bits));
        let wide: X87DoubleExtended = single.convert(&mut false).value;
        if !single.is_nan() {
            assert_eq!(Operand::f32(bits as u32).value(), to_ours(wide), "{:08x}", bits as u32);
        }
        let wide: X87DoubleExtended = double.convert(&mut false).value;
        if !double.is_nan() {
            assert_eq!(Operand::f64(bits).value(), to_ours(wide), "{bits:016x}");
        }
    }
}

#[test]
fn integers() {
    let mut random = Random::named("integers");
    for _ in 0..CASES {
        let v = (random.next() as i64) >> random.below(64);
        let expected = X87DoubleExtended::from_i128(i128::from(v)).value;
        assert_eq!(F80::from(v), to_ours(expected));
        let a = canonical(&mut random, None);
        let mut ctx = Ctx::from_control_word(random.control_word() | 0x33f);
        let expected = to_theirs(a).to_i128_r(32, round(ctx.rounding), &mut false);
        let ours = ctx.to_i32(a);
        if expected.status.contains(Status::INVALID_OP) {
            assert_eq!((ours, ctx.flags), (i32::MIN, Flags::IE), "{a:?}");
        } else {
            assert_eq!(i128::from(ours), expected.value, "{a:?} {:?}", ctx.rounding);
            assert_eq!(ctx.flags & !Flags::C1, flags(expected.status), "{a:?} {:?}", ctx.rounding);
        }
        let integral = ctx.round_to_integer(a);
        let expected = to_theirs(a).round_to_integral(round(ctx.rounding)).value;
        assert_eq!(integral, to_ours(expected), "{a:?} {:?}", ctx.rounding);
    }
}
