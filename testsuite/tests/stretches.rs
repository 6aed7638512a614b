//! Stretches of accesses at small distances from one register, as translated code does at once: pushes and pops, fields of
//! structures; near the borders of pages of all kinds, so that looks into the translation cache fail, and accesses fault, at
//! each place in them. And the same with floating point and vectors between, of numbers ordinary and odd, which Arm code
//! looks at once for all of them.
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

/// The legacy encoding of map 0F with prefix `pp` (0, 1 for 66, 2 for F3, 3 for F2).
fn legacy(pp: u8, opcode: u8, modrm: &[u8]) -> Vec<u8> {
    let mut bytes = if pp == 0 { Vec::new() } else { vec![[0x66, 0xf3, 0xf2][pp as usize - 1]] };
    bytes.extend([0x0f, opcode]);
    bytes.extend(modrm);
    bytes
}

/// A VEX encoding of registers below 8: map and prefix, W and L, the opcode, the other source, and what follows.
fn vex((map, pp): (u8, u8), (w, l): (bool, bool), opcode: u8, other: u8, modrm: &[u8]) -> Vec<u8> {
    let third = u8::from(w) << 7 | (15 - other) << 3 | u8::from(l) << 2 | pp;
    let mut bytes = vec![0xc4, 0xe0 | map, third, opcode];
    bytes.extend(modrm);
    bytes
}

/// An instruction of floating point, a move of a vector, or sometimes one of [`instruction`].
fn floating(rng: &mut Rng, wide: bool) -> Vec<u8> {
    let few = |rng: &mut Rng| rng.below(6) as u8;
    let (d, a) = (few(rng), few(rng));
    // A register or memory.
    let memory = |rng: &mut Rng| {
        let disp = (8 * rng.below(12)) as u8;
        vec![0x40 | d << 3 | rng.pick(&BASES), disp]
    };
    let any = |rng: &mut Rng| match rng.below(3) {
        0 => memory(rng),
        _ => vec![0xc0 | d << 3 | few(rng)],
    };
    let (old, l) = (rng.one_in(3), rng.one_in(2));
    let arithmetic = [0x58, 0x59, 0x5c, 0x58, 0x59, 0x5c, 0x5e, 0x5d, 0x5f, 0x51];
    match rng.below(20) {
        0..=4 => {
            let (pp, opcode) = (rng.pick(&[3, 3, 3, 2, 1, 1, 0]), rng.pick(&arithmetic));
            let unary = opcode == 0x51 && pp < 2;
            let packed = pp < 2;
            match any(rng) {
                // What is packed has to be aligned.
                m if old && (pp >= 2 || m[0] >= 0xc0) => legacy(pp, opcode, &m),
                m => vex((1, pp), (false, l && packed), opcode, if unary { 0 } else { a }, &m),
            }
        }
        5..=8 => {
            let form = rng.pick(&[0x90, 0xa0, 0xb0]);
            let what = rng.pick(&[8, 9, 8, 9, 0xc, 0xd, 0xa, 0xf, 6]);
            let m = any(rng);
            vex((2, 1), (!rng.one_in(4), l && (what == 6 || what & 1 == 0)), form | what, a, &m)
        }
        9 | 10 => {
            let m = memory(rng);
            let opcode = 0x10 | u8::from(rng.one_in(2));
            if old { legacy(3, opcode, &m) } else { vex((1, 3), (false, false), opcode, 0, &m) }
        }
        11 | 12 => {
            let m = memory(rng);
            let opcode = 0x10 | u8::from(rng.one_in(2));
            let pp = rng.below(2) as u8;
            if old { legacy(pp, opcode, &m) } else { vex((1, pp), (false, l), opcode, 0, &m) }
        }
        13 => {
            let m = [0xc0 | d << 3 | few(rng)];
            if old { legacy(1, 0x28, &m) } else { vex((1, 1), (false, l), 0x28, 0, &m) }
        }
        14 => {
            let m = [0xc0 | d << 3 | few(rng)];
            if old { legacy(3, 0x10, &m) } else { vex((1, 3), (false, false), 0x10, a, &m) }
        }
        15 => {
            let (opcode, m) = (rng.pick(&[0x14, 0x15, 0x57]), [0xc0 | d << 3 | few(rng)]);
            if old { legacy(1, opcode, &m) } else { vex((1, 1), (false, l), opcode, a, &m) }
        }
        16 => {
            let m = any(rng);
            if old { legacy(1, 0x2e, &m) } else { vex((1, 1), (false, false), 0x2e, 0, &m) }
        }
        17 => legacy(3, 0x2c, &[0xc0 | rng.pick(&[0, 1, 2, 6]) << 3 | d]),
        _ => instruction(rng, wide),
    }
}

fn stretch(rng: &mut Rng, wide: bool, one: fn(&mut Rng, bool) -> Vec<u8>) -> Vec<Vec<u8>> {
    let count = 4 + rng.below(14);
    let mut code: Vec<Vec<u8>> = (0..count).map(|_| one(rng, wide)).collect();
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

/// Numbers in vector registers and where the address registers lead to: mostly such as give no exception but inexact.
fn numbers(rng: &mut Rng, case: &mut Case) {
    let odd = rng.pick(&[4, 30, 1000]);
    let mut number = || match rng.below(odd) {
        0 => rng.lane(),
        _ if rng.one_in(4) => {
            let single = |n: usize| u64::from((n as f32 / 8.0 - 125.0).to_bits());
            single(rng.below(2000)) << 32 | single(rng.below(2000))
        }
        _ => (rng.below(1 << 20) as f64 / 8.0 - 125.0).to_bits(),
    };
    case.xmm = std::array::from_fn(|_| [number(), number()]);
    case.upper = std::array::from_fn(|_| [number(), number()]);
    let mut patch = |at: u64| case.patches.push((at, (0..24).flat_map(|_| number().to_le_bytes()).collect()));
    for r in BASES {
        patch(case.gpr[r as usize] & !7);
    }
    case.mxcsr = 0x1f80 | rng.pick(&[0, 0, 0, 0x20, 0x2000, 0x8040]);
}

#[test]
fn engines_agree_on_stretches_of_accesses() {
    agree(instruction, |_, _| {});
}

#[test]
fn engines_agree_on_stretches_of_floating_point() {
    agree(floating, numbers);
}

fn agree(one: fn(&mut Rng, bool) -> Vec<u8>, more: fn(&mut Rng, &mut Case)) {
    let scale = variable("CALQUE_TEST_SCALE").unwrap_or(1.0);
    let seed = variable("CALQUE_TEST_SEED").unwrap_or(1.0) as u64;
    let kinds = [Kind::Optimized(emu_core::ir::PassSet::ALL.0), Kind::Jit].map(LegKind::Engine);
    let mut world = World::new(&kinds).expect("the engines");
    let scenes: Vec<usize> = (0..SCENES.len()).filter(|&n| SCENES[n].bits != 16 && !SCENES[n].v86).collect();
    let (mut rng, mut same, mut faults) = (Rng::new(seed), 0u64, 0u64);
    for n in 0..(STRETCHES * scale) as u64 {
        let scene = rng.pick(&scenes);
        let layout = if rng.one_in(4) { 0 } else { rng.next() as u32 & 0xff_ffff };
        let code = stretch(&mut rng, SCENES[scene].bits == 64, one);
        let first =
            Case { scene, layout, at: 0x100, code, mxcsr: 0x1f80, fpu: [0x37f, 0, 0], ..Case::empty() };
        let cases: Vec<Case> = (0..VALUES)
            .map(|i| {
                let mut case = Case { cold: i == 0 && rng.one_in(2), ..first.clone() };
                values(&mut rng, &mut case);
                more(&mut rng, &mut case);
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
