//! The manual's rules one by one, small enough to check by hand, on every host; and that nothing panics.

use super::super::{Class, Constant, Ctx, F80, Flags, Operand, Precision, Relation, Rounding};
use super::operands::Random;

const fn f(se: u16, mant: u64) -> F80 {
    F80 { mant, se }
}

const MAX: F80 = f(0x7ffe, u64::MAX);
const MIN: F80 = f(1, 1 << 63);
const TINY: F80 = f(0, 1);
const QUIET_SMALL: F80 = f(0x7fff, 0xc000_0000_0000_0001);
const QUIET_LARGE: F80 = f(0x7fff, 0xe000_0000_0000_0000);
const SIGNALLING: F80 = f(0x7fff, 0xbfff_ffff_ffff_ffff);
const UNNORMAL: F80 = f(0x3fff, 0x7fff_ffff_ffff_ffff);

/// Runs an operation with the given exceptions unmasked.
fn with<R>(unmasked: Flags, op: impl FnOnce(&mut Ctx) -> R) -> (R, Ctx) {
    let mut ctx = Ctx { masked: Flags::EXCEPTIONS & !unmasked, ..Ctx::default() };
    (op(&mut ctx), ctx)
}

#[test]
fn classes() {
    let cases = [
        (F80::NEG_ZERO, Class::Zero, 1),
        (TINY, Class::Denormal, 2),
        (f(0, 1 << 63), Class::PseudoDenormal, 2),
        (F80::ONE, Class::Normal, 0),
        (UNNORMAL, Class::Unsupported, 2),
        (f(0x7fff, 0), Class::Unsupported, 2),
        (f(0x7fff, 1), Class::Unsupported, 2),
        (F80::INFINITY, Class::Infinity, 2),
        (SIGNALLING, Class::SNan, 2),
        (F80::INDEFINITE, Class::QNan, 2),
    ];
    for (v, class, tag) in cases {
        assert_eq!((v.class(), v.tag()), (class, tag), "{v:?}");
        assert_eq!(F80::from_bytes(v.to_bytes()), v);
    }
}

/// SDM vol. 1, table 4-7.
#[test]
fn nan_selection() {
    let add = |a: F80, b: F80| {
        let mut ctx = Ctx::default();
        (ctx.add(a, b), ctx.flags)
    };
    assert_eq!(add(QUIET_SMALL, F80::ONE), (QUIET_SMALL, Flags::NONE));
    assert_eq!(add(QUIET_SMALL, QUIET_LARGE), (QUIET_LARGE, Flags::NONE));
    assert_eq!(add(QUIET_SMALL, SIGNALLING), (QUIET_SMALL, Flags::IE));
    assert_eq!(add(SIGNALLING, F80::ONE), (f(0x7fff, u64::MAX), Flags::IE));
    assert_eq!(add(QUIET_SMALL, QUIET_SMALL.chs()), (QUIET_SMALL, Flags::NONE));
    assert_eq!(add(QUIET_SMALL, UNNORMAL), (F80::INDEFINITE, Flags::IE));
}

/// A signalling NaN in memory still signals, and loses to a quiet NaN in a register.
#[test]
fn memory_operand_keeps_its_nature() {
    let signalling = Operand::f32(0x7fbf_ffff);
    let (r, ctx) = with(Flags::NONE, |c| c.add(QUIET_SMALL, signalling));
    assert_eq!((r, ctx.flags), (QUIET_SMALL, Flags::IE));
    let (r, ctx) = with(Flags::NONE, |c| c.add(F80::ZERO, Operand::f32(1)));
    assert_eq!((r, ctx.flags), (f(0x3f6a, 1 << 63), Flags::DE));
    let (r, ctx) = with(Flags::NONE, |c| c.load(Operand::f64(0x7ff0_0000_0000_0001)));
    assert_eq!((r, ctx.flags), (f(0x7fff, 0xc000_0000_0000_0800), Flags::IE));
}

/// SDM vol. 1, 8.5.4 and 8.5.5: unmasked, a register result comes with its exponent moved by 24576.
#[test]
fn unmasked_range_errors() {
    let (r, ctx) = with(Flags::OE, |c| c.add(MAX, MAX));
    assert_eq!((r, ctx.flags), (f(0x1fff, u64::MAX), Flags::OE));
    assert!(ctx.writes_register() && !ctx.writes_memory());
    let (r, ctx) = with(Flags::UE, |c| c.div(MIN, 2));
    assert_eq!((r, ctx.flags), (f(0x6000, 1 << 63), Flags::UE));
    let (_, ctx) = with(Flags::UE, |c| c.to_f32(MIN));
    assert_eq!((ctx.flags, ctx.writes_memory()), (Flags::UE, false));
    let (r, ctx) = with(Flags::NONE, |c| c.div(MIN, 2));
    assert_eq!((r, ctx.flags), (f(0, 1 << 62), Flags::NONE), "exact denormals are no underflow when masked");
    let (r, _) = with(Flags::OE, |c| c.scale(F80::ONE, 1 << 20));
    assert_eq!(r, F80::INFINITY, "massive overflow");
}

/// SDM vol. 1, 4.9.2: an unmasked exception keeps those of lower priority from being raised.
#[test]
fn priorities() {
    let third = |c: &mut Ctx| c.div(TINY, 3);
    assert_eq!(with(Flags::NONE, third).1.flags, Flags::DE | Flags::UE | Flags::PE);
    let (_, ctx) = with(Flags::DE, third);
    assert_eq!((ctx.flags, ctx.writes_register(), ctx.unmasked()), (Flags::DE, false, Flags::DE));
    assert_eq!(with(Flags::NONE, |c| c.div(TINY, F80::ZERO)).1.flags, Flags::ZE);
    assert_eq!(with(Flags::NONE, |c| c.sqrt(TINY.chs())).1.flags, Flags::IE);
    let (r, ctx) = with(Flags::DE, |c| c.load(Operand::f32(1)));
    assert_eq!((r.class(), ctx.writes_register(), ctx.writes_load()), (Class::Normal, false, true));
}

#[test]
fn precision_control() {
    let third = |precision| {
        let mut ctx = Ctx { precision, ..Ctx::default() };
        ctx.div(F80::ONE, 3).mant
    };
    assert_eq!(third(Precision::Single24), 0xaaaa_ab00_0000_0000);
    assert_eq!(third(Precision::Double53), 0xaaaa_aaaa_aaaa_a800);
    assert_eq!(third(Precision::Extended64), 0xaaaa_aaaa_aaaa_aaab);
}

#[test]
fn constants_follow_rounding_control() {
    let pi = |rounding| Constant::Pi.load(rounding).mant & 0xf;
    let loads = [Rounding::Nearest, Rounding::Down, Rounding::Up, Rounding::Zero].map(pi);
    assert_eq!(loads, [5, 4, 5, 4]);
    assert_eq!(Constant::Log2Of10.load(Rounding::Up).mant & 0xff, 0xff);
}

#[test]
fn partial_remainder() {
    let (r, ctx) = with(Flags::NONE, |c| c.rem(23, 4));
    assert_eq!((r, ctx.flags), (F80::from(3), Flags::C0 | Flags::C1), "quotient 5");
    let (r, ctx) = with(Flags::NONE, |c| c.rem_nearest(23, 4));
    assert_eq!((r, ctx.flags), (F80::ONE.chs(), Flags::C0 | Flags::C3), "quotient 6");
    let (r, ctx) = with(Flags::NONE, |c| c.rem(MAX, 3));
    assert_eq!((ctx.flags, i32::from(MAX.exponent()) - i32::from(r.exponent()) >= 32), (Flags::C2, true));
}

#[test]
fn stores() {
    let ties = [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2)];
    for (halves, nearest) in ties {
        let (v, _) = with(Flags::NONE, |c| c.div(F80::from(halves), 2));
        assert_eq!(with(Flags::NONE, |c| c.to_i32(v)).0, nearest);
        assert_eq!(with(Flags::NONE, |c| c.truncate_to_i64(v)).0, halves / 2);
    }
    assert_eq!(with(Flags::NONE, |c| c.to_i16(F80::from(-32768))).0, i16::MIN);
    let (r, ctx) = with(Flags::NONE, |c| c.to_i16(F80::from(32768)));
    assert_eq!((r, ctx.flags), (i16::MIN, Flags::IE));
    let decimal = F80::from(-120_034).chs().chs();
    let (bytes, _) = with(Flags::NONE, |c| c.to_bcd(decimal));
    assert_eq!(bytes, [0x34, 0x00, 0x12, 0, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(F80::from_bcd(bytes), decimal);
    assert_eq!(with(Flags::NONE, |c| c.to_bcd(F80::INFINITY)).0, [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff]);
}

#[test]
fn relations() {
    let mut ctx = Ctx::default();
    assert_eq!(ctx.compare(F80::ZERO, F80::NEG_ZERO), Relation::Equal);
    assert_eq!(ctx.compare(F80::INFINITY.chs(), MAX.chs()), Relation::Less);
    assert_eq!(ctx.compare_quiet(QUIET_SMALL, F80::ONE), Relation::Unordered);
    assert_eq!((ctx.flags, Relation::Unordered.eflags()), (Flags::NONE, 0x45));
    assert_eq!(ctx.compare(QUIET_SMALL, F80::ONE), Relation::Unordered);
    assert_eq!(ctx.flags, Flags::IE);
}

#[test]
fn angles_out_of_range() {
    let huge = F80::from(i64::MIN);
    let (r, ctx) = with(Flags::NONE, |c| c.sin(huge));
    assert_eq!((r, ctx.flags), (huge, Flags::C2));
    let (r, _) = with(Flags::NONE, |c| c.sin(Constant::Pi.load(Rounding::Nearest)));
    assert_eq!(r, f(0xbfbf, 1 << 63), "the 66-bit pi shows");
}

/// Overflow checks are on in tests, so this also shows that no intermediate wraps.
#[test]
fn nothing_panics() {
    let mut random = Random::named("nothing panics");
    for _ in 0..100_000 {
        let cw = if random.below(2) == 0 { random.next() as u16 } else { random.control_word() };
        let mut c = Ctx::from_control_word(cw);
        let a = random.f80();
        let b = random.partner(a);
        let memory = Operand::f64(random.next());
        let results = [
            c.add(a, b),
            c.sub(a, memory),
            c.mul(a, b),
            c.div(a, b),
            c.sqrt(a),
            c.rem(a, b),
            c.rem_nearest(a, b),
            c.round_to_integer(a),
            c.scale(a, b),
            c.extract(a).0,
            c.sin_cos(a).0,
            c.tan(a).0,
            c.atan2(a, b),
            c.exp2_minus_1(a),
            c.y_log2_x(a, b),
            c.y_log2_x_plus_1(a, b),
            c.load(memory),
        ];
        for r in results {
            // FXTRACT and the stopped operations give operands back; everything computed is canonical.
            assert!(r == a || r == b || !matches!(r.class(), Class::Unsupported | Class::PseudoDenormal));
        }
        let _ = (c.to_f32(a), c.to_f64(a), c.to_i16(a), c.to_i32(a), c.to_i64(a), c.to_bcd(a));
        let _ = (c.compare(a, b), c.compare_quiet(a, memory), a.examine(), F80::from_bcd(a.to_bytes()));
    }
}
