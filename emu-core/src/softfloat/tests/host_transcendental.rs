//! Transcendental functions against the host: within one unit in the last place, and the same exceptions.

use super::super::{Ctx, F80, Flags};
use super::host::{self, Instruction, UNTOUCHED};
use super::operands::Random;

const CASES: u32 = 250_000;

/// What a function leaves: the register to judge, and whether the stack grew, stayed or shrank.
struct Outcome {
    /// The result, wherever it ends up.
    result: F80,
    /// What lies above it, if it was pushed down.
    above: Option<F80>,
    pops: bool,
}

fn replace(result: F80) -> Outcome {
    Outcome { result, above: None, pops: false }
}

fn pop(result: F80) -> Outcome {
    Outcome { result, above: None, pops: true }
}

/// Orders encodings of one sign by magnitude, so that a difference counts units in the last place.
fn ordinal(v: F80) -> i128 {
    let exponent = i128::from(v.exponent().max(1)) << 63;
    let magnitude = exponent + i128::from(v.mant) - (1 << 63);
    if v.is_negative() { -magnitude } else { magnitude }
}

fn distance(a: F80, b: F80) -> i128 {
    if a.is_nan() || b.is_nan() {
        if a == b { 0 } else { i128::MAX }
    } else {
        (ordinal(a) - ordinal(b)).abs()
    }
}

/// How well one function agrees.
#[derive(Default)]
struct Tally {
    same: u32,
    one_off: u32,
    c1_differs: u32,
    wrong: u32,
}

fn check(
    name: &str,
    instruction: Instruction,
    operands: fn(&mut Random) -> (F80, F80),
    ours: fn(&mut Ctx, F80, F80) -> Outcome,
) {
    let mut random = Random::named(name);
    let mut tally = Tally::default();
    for _ in 0..CASES {
        let cw = random.control_word();
        let (a, b) = operands(&mut random);
        let theirs = host::run(instruction, cw, a, b, [UNTOUCHED; 10]);
        let mut ctx = Ctx::from_control_word(cw);
        let outcome = ours(&mut ctx, a, b);
        let pushed = outcome.above.is_some() && !ctx.flags.intersects(Flags::C2);
        let (result, depth) = match ctx.writes_register() {
            true => (outcome.result, 2 + u16::from(pushed) - u16::from(outcome.pops)),
            false => (a, 2),
        };
        let their_result = if depth == 3 { theirs.st1 } else { theirs.st0 };
        let units = distance(result, their_result);
        let top_agrees = depth < 3 || outcome.above.is_none_or(|v| distance(v, theirs.st0) <= 1);
        let compared = (Flags::EXCEPTIONS | Flags::C2).bits();
        let flags = (theirs.status ^ ctx.flags.bits()) & compared;
        let agrees = units <= 1 && flags == 0 || beside_border(cw, flags, result, their_result);
        if !agrees || theirs.depth() != depth || !top_agrees {
            tally.wrong += 1;
            if tally.wrong <= 12 {
                let flags = Flags(theirs.status) & (Flags::EXCEPTIONS | Flags::CONDITIONS);
                say(&format!("{name} cw {cw:04x} st0 {a:?} st1 {b:?}"));
                say(&format!("   host {their_result:?} {flags:?} {}", theirs.depth()));
                say(&format!("   ours {result:?} {:?} {depth}", ctx.flags));
            }
        }
        tally.same += u32::from(units == 0);
        tally.one_off += u32::from(units == 1);
        tally.c1_differs += u32::from((theirs.status ^ ctx.flags.bits()) & Flags::C1.bits() != 0);
    }
    let Tally { same, one_off, c1_differs, wrong } = tally;
    say(&format!("{name}: {same} same, {one_off} one unit off, {c1_differs} differ in C1, of {CASES}"));
    assert_eq!(wrong, 0, "{name}: {wrong} of {CASES} differ from the host");
}

/// Whether two results that may be a unit apart are so at the border of the tiny or the huge, and each has its own flags; an
/// exception that is not masked scales the result, too. AMD's processors agree there.
fn beside_border(cw: u16, flags: u16, ours: F80, theirs: F80) -> bool {
    /// What is added to the exponent of a tiny result or taken from that of a huge one (SDM vol. 1, 8.5.4 and 8.5.5).
    const SCALE: u16 = 24576;
    const HUGE: u16 = 0x7ffe;
    let (tiny, huge) = (Flags::UE.bits(), Flags::OE.bits());
    let close = |scaled: bool| match scaled {
        false => distance(ours, theirs) <= 1,
        true if flags == tiny => (SCALE..=SCALE + 1).contains(&ours.exponent()),
        true => (HUGE - SCALE..=HUGE - SCALE + 1).contains(&ours.exponent()),
    };
    let smallest = |v: F80| v.exponent() <= 1 && (1 << 63) - 1 <= v.mant && v.mant <= 1 << 63;
    let largest = |v: F80| v.exponent() == HUGE && v.mant == u64::MAX || v.exponent() > HUGE;
    let border = flags == tiny && smallest(theirs) || flags == huge && largest(theirs);
    !host::is_amd() && border && close(flags & !cw != 0)
}

#[expect(
    clippy::print_stdout,
    reason = "the statistic is what the test is run for; cargo shows it on request"
)]
fn say(line: &str) {
    println!("{line}");
}

/// Any encoding, or a number of ordinary size.
fn any_or_ordinary(random: &mut Random, low: i32, high: i32) -> F80 {
    if random.below(4) == 0 {
        return random.f80();
    }
    let sign = (random.next() as u16) & 0x8000;
    F80 { mant: random.significand(), se: sign | (0x3fff + random.range(low, high)) as u16 }
}

fn angle(random: &mut Random) -> (F80, F80) {
    (any_or_ordinary(random, -40, 64), F80::ONE)
}

#[test]
fn sine() {
    check("fsin", host::fsin, angle, |c, a, _| replace(c.sin(a)));
}

#[test]
fn cosine() {
    check("fcos", host::fcos, angle, |c, a, _| replace(c.cos(a)));
}

#[test]
fn sine_and_cosine() {
    check("fsincos", host::fsincos, angle, |c, a, _| {
        let (sin, cos) = c.sin_cos(a);
        Outcome { result: sin, above: Some(cos), pops: false }
    });
}

#[test]
fn tangent() {
    check("fptan", host::fptan, angle, |c, a, _| {
        let (tan, one) = c.tan(a);
        Outcome { result: tan, above: Some(one), pops: false }
    });
}

#[test]
fn arc_tangent() {
    let point = |r: &mut Random| (any_or_ordinary(r, -30, 30), any_or_ordinary(r, -30, 30));
    check("fpatan", host::fpatan, point, |c, x, y| pop(c.atan2(y, x)));
}

#[test]
fn exponential() {
    let argument = |r: &mut Random| (any_or_ordinary(r, -70, -1), F80::ONE);
    check("f2xm1", host::f2xm1, argument, |c, a, _| replace(c.exp2_minus_1(a)));
}

#[test]
fn logarithm() {
    let pair = |r: &mut Random| {
        let near_one = r.below(3) == 0;
        let mut x = any_or_ordinary(r, if near_one { -1 } else { -40 }, if near_one { 0 } else { 40 });
        if r.below(8) != 0 {
            x = x.abs();
        }
        (x, any_or_ordinary(r, -30, 30))
    };
    check("fyl2x", host::fyl2x, pair, |c, x, y| pop(c.y_log2_x(y, x)));
}

#[test]
fn logarithm_plus_one() {
    let pair = |r: &mut Random| (any_or_ordinary(r, -70, -3), any_or_ordinary(r, -30, 30));
    check("fyl2xp1", host::fyl2xp1, pair, |c, x, y| pop(c.y_log2_x_plus_1(y, x)));
}
