//! Stretches of accesses at small distances from one register, as translated code does at once: pushes and pops, fields of
//! structures; near the borders of pages of all kinds, so that looks into the translation cache fail, and accesses fault, at
//! each place in them.
//!
//! `CALQUE_TEST_SCALE` multiplies the number of cases, `CALQUE_TEST_SEED` gives others. As 64-bit Arm code: see
//! `testsuite/scripts/arm.sh`.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), unix))]

use calque::diff::scene::{DATA, SCENES};
use calque::diff::{Case, Kind, LegKind, Outcome, Rng, World};

/// Stretches with each their own values.
const STRETCHES: f64 = 1200.0;
const VALUES: usize = 12;

/// The address registers but for RSP: RBX and RBP.
const BASES: [u8; 2] = [3, 5];

fn variable(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One instruction; of a jump, without the distance.
fn instruction(rng: &mut Rng, wide: bool) -> Vec<u8> {
    let reg = |rng: &mut Rng| rng.pick(&[0u8, 1, 2, 3, 5, 6, 7, 0, 1, 2, 4]);
    let sized = |rng: &mut Rng, rest: &[u8]| {
        let mut bytes = if wide && !rng.one_in(3) { vec![0x48] } else { Vec::new() };
        bytes.extend(rest);
        bytes
    };
    let near = |rng: &mut Rng| (8 * rng.below(12)) as u8;
    let r = reg(rng);
    match rng.below(14) {
        0..=3 => vec![0x50 + r],
        4..=6 => vec![0x58 + r],
        // To and from the stack, and fields.
        7 | 8 => {
            let (op, disp) = (rng.pick(&[0x8b, 0x89, 0x03, 0x01, 0x39]), near(rng));
            sized(rng, &[op, 0x44 | r << 3, 0x24, disp])
        }
        9 | 10 => {
            let (op, base, disp) = (rng.pick(&[0x8b, 0x89, 0x03, 0x01, 0x39]), rng.pick(&BASES), near(rng));
            sized(rng, &[op, 0x40 | r << 3 | base, disp])
        }
        11 => {
            let (op, other) = (rng.pick(&[0x89, 0x01, 0x39, 0x31]), reg(rng));
            sized(rng, &[op, 0xc0 | r << 3 | other])
        }
        12 => {
            let disp = near(rng).wrapping_sub(0x30);
            sized(rng, &[0x8d, 0x64, 0x24, disp])
        }
        // To the end; the distance comes later.
        _ => vec![0x70 | rng.below(16) as u8, 0],
    }
}

fn stretch(rng: &mut Rng, wide: bool) -> Vec<Vec<u8>> {
    let count = 4 + rng.below(14);
    let mut code: Vec<Vec<u8>> = (0..count).map(|_| instruction(rng, wide)).collect();
    let mut behind = 0;
    for i in code.iter_mut().rev() {
        if let [0x70..=0x7f, distance] = &mut i[..] {
            *distance = behind;
        }
        behind += i.len() as u8;
    }
    code
}

fn values(rng: &mut Rng, case: &mut Case) {
    case.gpr = std::array::from_fn(|_| rng.next() >> rng.below(64));
    for r in [3, 4, 5] {
        // In the middle of a page, or so that its border is somewhere in the stretch.
        let page = DATA + 0x1000 * rng.below(8) as u64;
        let within = if rng.one_in(2) { 0x800 } else { rng.below(0x200) as u64 };
        let odd = if rng.one_in(8) { rng.below(8) as u64 } else { 0 };
        case.gpr[r] = (page + (within & !7)).wrapping_sub(0x80) + odd;
    }
    case.rflags = 2 | rng.next() & 0x8d5;
}

#[test]
fn engines_agree_on_stretches_of_accesses() {
    let scale = variable("CALQUE_TEST_SCALE").unwrap_or(1.0);
    let seed = variable("CALQUE_TEST_SEED").unwrap_or(1.0) as u64;
    let kinds = [Kind::Optimized(emu_core::ir::PassSet::ALL.0), Kind::Jit].map(LegKind::Engine);
    let mut world = World::new(&kinds).expect("the engines");
    let scenes: Vec<usize> = (0..SCENES.len()).filter(|&n| SCENES[n].bits != 16 && !SCENES[n].v86).collect();
    let (mut rng, mut same, mut faults) = (Rng::new(seed), 0u64, 0u64);
    for n in 0..(STRETCHES * scale) as u64 {
        let scene = rng.pick(&scenes);
        let layout = if rng.one_in(4) { 0 } else { rng.next() as u32 & 0xff_ffff };
        let code = stretch(&mut rng, SCENES[scene].bits == 64);
        let first =
            Case { scene, layout, at: 0x100, code, mxcsr: 0x1f80, fpu: [0x37f, 0, 0], ..Case::empty() };
        let cases: Vec<Case> = (0..VALUES)
            .map(|i| {
                let mut case = Case { cold: i == 0 && rng.one_in(2), ..first.clone() };
                values(&mut rng, &mut case);
                case
            })
            .collect();
        for (outcome, case) in world.run_group(&cases).into_iter().zip(&cases) {
            match outcome {
                Outcome::Same(_) => same += 1,
                Outcome::Differs(kind, list) => {
                    let small = world.shrink(case, kind);
                    let shown = small.as_ref().unwrap_or(case);
                    panic!(
                        "stretch {n} of seed {seed}: {} differs: {list:#?}\n{}",
                        kind.name(),
                        world.report(shown, kind)
                    );
                }
                _ => faults += 1,
            }
        }
    }
    let translated: u64 =
        world.legs().iter().filter(|l| l.kind == Kind::Jit).map(|l| l.driver.translated).sum();
    assert!(
        same > 10 * faults && translated > 3 * same,
        "{same} cases agree, {faults} do not end, {translated}"
    );
}
