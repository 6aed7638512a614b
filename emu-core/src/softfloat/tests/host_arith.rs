//! Register arithmetic against the host: values, exceptions, condition codes, and whether anything is written,
//! under every rounding, precision and mask.

use super::super::{Constant, Ctx, F80, Flags};
use super::host::{self, Instruction, State, UNTOUCHED};
use super::operands::Random;

const CASES: u32 = 250_000;

/// What an instruction leaves on a stack that held `a`, `b`.
enum Effect {
    /// ST(0) is replaced.
    Replace(F80),
    /// ST(0) is replaced by the second, then the first is pushed.
    Push(F80, F80),
    /// Only flags.
    Nothing,
}

fn check(name: &str, instruction: Instruction, conditions: Flags, ours: fn(&mut Ctx, F80, F80) -> Effect) {
    let mut random = Random::named(name);
    let mut wrong = 0;
    for _ in 0..CASES {
        let cw = random.control_word();
        let a = random.f80();
        let b = random.partner(a);
        let (a, b) = if random.below(2) == 0 { (a, b) } else { (b, a) };
        let theirs = host::run(instruction, cw, a, b, [UNTOUCHED; 10]);
        let mut ctx = Ctx::from_control_word(cw);
        let effect = ours(&mut ctx, a, b);
        let (depth, st0, st1) = match effect {
            Effect::Replace(r) if ctx.writes_register() => (2, r, b),
            Effect::Push(top, below) if ctx.writes_register() => (3, top, below),
            _ => (2, a, b),
        };
        let relevant = (conditions | Flags::EXCEPTIONS).bits();
        let same = theirs.status & relevant == ctx.flags.bits() & relevant
            && (theirs.depth(), theirs.st0, theirs.st1) == (depth, st0, st1);
        // SDM vol. 1, 4.9.1.5: an unmasked underflow is of a tiny result, exact or not. Where the result is the denormal operand
        // itself, nothing computed, Intel's processors find none.
        let may = matches!(name, "fprem" | "fprem1" | "fscale") && !host::is_amd();
        let untouched = (theirs.depth(), theirs.st0, theirs.st1) == (2, a, b) && a.exponent() == 0;
        let missed = Flags::UE.bits() & !cw;
        let as_intel =
            may && untouched && missed != 0 && (theirs.status ^ ctx.flags.bits()) & relevant == missed;
        if !same && !as_intel {
            wrong += 1;
            if wrong <= 20 {
                report(name, cw, (a, b), &theirs, (st0, st1, ctx.flags));
            }
        }
    }
    assert_eq!(wrong, 0, "{name}: {wrong} of {CASES} differ from the host");
}

#[expect(
    clippy::print_stdout,
    reason = "cargo shows a failing test's output, and these lines are the evidence"
)]
fn report(name: &str, cw: u16, (a, b): (F80, F80), theirs: &State, (st0, st1, flags): (F80, F80, Flags)) {
    let bits = Flags(theirs.status) & (Flags::EXCEPTIONS | Flags::CONDITIONS);
    println!("{name} cw {cw:04x} st0 {a:?} st1 {b:?}");
    println!("   host {:?} {:?} {bits:?}", theirs.st0, theirs.st1);
    println!("   ours {st0:?} {st1:?} {flags:?}");
}

#[test]
fn add_and_sub() {
    check("fadd", host::fadd, Flags::C1, |c, a, b| Effect::Replace(c.add(a, b)));
    check("fsub", host::fsub, Flags::C1, |c, a, b| Effect::Replace(c.sub(a, b)));
    check("fsubr", host::fsubr, Flags::C1, |c, a, b| Effect::Replace(c.sub(b, a)));
}

#[test]
fn mul() {
    check("fmul", host::fmul, Flags::C1, |c, a, b| Effect::Replace(c.mul(a, b)));
}

#[test]
fn div() {
    check("fdiv", host::fdiv, Flags::C1, |c, a, b| Effect::Replace(c.div(a, b)));
    check("fdivr", host::fdivr, Flags::C1, |c, a, b| Effect::Replace(c.div(b, a)));
}

#[test]
fn sqrt() {
    check("fsqrt", host::fsqrt, Flags::C1, |c, a, _| Effect::Replace(c.sqrt(a)));
}

#[test]
fn remainders() {
    check("fprem", host::fprem, Flags::CONDITIONS, |c, a, b| Effect::Replace(c.rem(a, b)));
    check("fprem1", host::fprem1, Flags::CONDITIONS, |c, a, b| Effect::Replace(c.rem_nearest(a, b)));
}

#[test]
fn round_to_integer() {
    check("frndint", host::frndint, Flags::C1, |c, a, _| Effect::Replace(c.round_to_integer(a)));
}

#[test]
fn scale_and_extract() {
    check("fscale", host::fscale, Flags::C1, |c, a, b| Effect::Replace(c.scale(a, b)));
    check("fxtract", host::fxtract, Flags::C1, |c, a, _| {
        let (exponent, significand) = c.extract(a);
        Effect::Push(significand, exponent)
    });
}

#[test]
fn sign_and_class() {
    check("fabs", host::fabs, Flags::C1, |_, a, _| Effect::Replace(a.abs()));
    check("fchs", host::fchs, Flags::C1, |_, a, _| Effect::Replace(a.chs()));
    check("fxam", host::fxam, Flags::CONDITIONS, |c, a, _| {
        c.flags |= a.examine();
        Effect::Nothing
    });
}

#[test]
fn compare() {
    check("fcom", host::fcom, Flags::CONDITIONS, |c, a, b| {
        let relation = c.compare(a, b);
        c.flags |= relation.conditions();
        Effect::Nothing
    });
    check("fucom", host::fucom, Flags::CONDITIONS, |c, a, b| {
        let relation = c.compare_quiet(a, b);
        c.flags |= relation.conditions();
        Effect::Nothing
    });
    check("ftst", host::ftst, Flags::CONDITIONS, |c, a, _| {
        let relation = c.compare(a, F80::ZERO);
        c.flags |= relation.conditions();
        Effect::Nothing
    });
}

#[test]
fn constants() {
    let loads: [(Instruction, Constant); 5] = [
        (host::fldl2t, Constant::Log2Of10),
        (host::fldl2e, Constant::Log2OfE),
        (host::fldpi, Constant::Pi),
        (host::fldlg2, Constant::Log10Of2),
        (host::fldln2, Constant::LnOf2),
    ];
    for (instruction, constant) in loads {
        for cw in (0..16).map(|modes| 0x7f | modes << 8) {
            let theirs = host::run(instruction, cw, F80::ZERO, F80::ZERO, [0; 10]);
            let ctx = Ctx::from_control_word(cw);
            assert_eq!(theirs.st0, constant.load(ctx.rounding), "{constant:?} cw {cw:04x}");
            assert_eq!(theirs.status & 0x023f, 0, "{constant:?} raises nothing");
        }
    }
}
