//! States in which instructions matter: registers, flags, descriptors and memory.

use crate::diff::case::Case;
use crate::diff::rng::Rng;
use crate::diff::scene::{CODE, DATA, DATA_LEN, SCENES, STACK, STACK_LEN, Scene};
use emu_core::state::Seg;

/// An address of interest in `len` bytes from `base` on.
pub(super) fn place(rng: &mut Rng, base: u64, len: u64) -> u64 {
    let page = base + (rng.below((len >> 12) as usize) as u64) * 0x1000;
    page + match rng.below(8) {
        0 | 1 => 0x1000 - 1 - rng.below(40) as u64,
        2 => 0,
        3 => rng.below(0x1000) as u64,
        4 => rng.below(0x100) as u64 * 16 + 8,
        _ => rng.below(0x100) as u64 * 16,
    }
}

/// Registers, memory and patches of `case`, whose instructions start at `starts`.
pub(super) fn state(rng: &mut Rng, case: &mut Case, scene: &Scene, starts: &[i64]) {
    use emu_core::state::bits::rflags as f;
    let ds = scene.base(Seg::DS);
    let ss = scene.base(Seg::SS);
    for r in &mut case.gpr {
        *r = rng.number();
    }
    let start = case.at + CODE - if scene.bits == 64 { 0 } else { scene.base(Seg::CS) };
    for n in [3, 5, 6, 7, 8, 13] {
        let mut at = place(rng, DATA, DATA_LEN).wrapping_sub(ds);
        match rng.below(40) {
            0 => at = rng.number(),
            1 if scene.bits == 64 => at |= 0xffff_8000_0000_0000,
            2 => at = 0u64.wrapping_sub(rng.below(20) as u64),
            3 if scene.bits == 64 => at = (1u64 << 47).wrapping_sub(rng.below(20) as u64),
            // The code itself.
            4 | 5 => at = CODE.wrapping_sub(ds).wrapping_add(case.at + rng.below(40) as u64),
            _ => {}
        }
        if scene.bits != 64 {
            at = at & 0xffff_ffff | if rng.one_in(4) { rng.next() << 32 } else { 0 };
        }
        if scene.bits == 16 && rng.one_in(3) {
            at |= rng.next() & 0xffff_0000;
        }
        case.gpr[n] = at;
    }
    let stack = STACK + 0x1000 + (rng.below(0x100) as u64) * 8 - 0x400;
    case.gpr[4] = match rng.below(12) {
        0 => place(rng, STACK, STACK_LEN),
        1 => place(rng, DATA, DATA_LEN),
        2 => stack + rng.below(8) as u64,
        _ => stack,
    }
    .wrapping_sub(ss);
    if rng.one_in(2) {
        case.gpr[5] = case.gpr[4].wrapping_add(rng.below(64) as u64 * 4);
    }
    if !rng.one_in(3) {
        case.gpr[1] = rng.below(20) as u64;
    }
    if rng.one_in(2) {
        case.gpr[9] = rng.below(64) as u64;
    }
    let label = |rng: &mut Rng| start.wrapping_add(starts[rng.below(starts.len())] as u64);
    if rng.one_in(3) {
        let n = rng.pick(&[0, 2, 10, 14]);
        case.gpr[n] = label(rng);
    }
    case.rflags = f::FIXED1 | rng.next() & f::STATUS;
    for (bit, n) in [(f::DF, 4), (f::IF, 2), (f::AC, 12), (f::IOPL, 4), (f::NT, 24), (f::TF, 40), (f::ID, 4)]
    {
        if rng.one_in(n) {
            case.rflags |= bit;
        }
    }
    for x in case.xmm.as_flattened_mut().iter_mut().chain(case.upper.as_flattened_mut()) {
        *x = rng.lane();
    }
    if rng.one_in(3) {
        let (a, b) = (rng.below(16), rng.below(16));
        case.xmm[a] = case.xmm[b];
    }
    if rng.one_in(4) {
        case.xmm[rng.below(16)] = [rng.below(80) as u64, 0];
    }
    case.mxcsr = 0x1f80 | rng.next() as u32 & 0x603f;
    if rng.one_in(4) {
        case.mxcsr |= rng.next() as u32 & 0x8040;
    }
    if rng.one_in(8) {
        case.mxcsr &= !(rng.next() as u32 & 0x1f80);
    }
    for st in &mut case.st {
        let se = match rng.below(3) {
            0 => 0x3fff + rng.below(70) as u16,
            1 => rng.pick(&[0, 1, 0x7fff, 0x7ffe, 0x3fff]),
            _ => rng.next() as u16,
        };
        *st = (rng.lane() | if rng.one_in(8) { 0 } else { 1 << 63 }, se | (rng.next() as u16 & 0x8000));
    }
    case.fpu[0] = 0x37f & !(rng.next() as u16 & 0x300) | rng.next() as u16 & 0xf00;
    if rng.one_in(3) {
        case.fpu[1] = rng.next() as u16 & 0x7f00;
        case.fpu[2] = rng.next() as u16 & 0xff;
    }
    patches(rng, case, ss, label);
}

fn patches(rng: &mut Rng, case: &mut Case, ss: u64, label: impl Fn(&mut Rng) -> u64) {
    // Return addresses, of one width or another.
    if rng.one_in(2) {
        let at = case.gpr[4].wrapping_add(ss);
        if (STACK..STACK + STACK_LEN - 64).contains(&at) {
            let width = rng.pick(&[2usize, 4, 8]);
            let words = (0..6).flat_map(|_| {
                let v = if rng.one_in(2) { label(rng) } else { rng.number() };
                v.to_le_bytes().into_iter().take(width)
            });
            let bytes = words.collect();
            case.patches.push((at, bytes));
        }
    }
    let at = place(rng, DATA, DATA_LEN).min(DATA + DATA_LEN - 32);
    let bytes = (0..4).flat_map(|_| rng.lane().to_le_bytes()).collect();
    let scene = &SCENES[case.scene];
    // The runner on the host writes patches with the rights that the pages have.
    let writable = |a: u64| scene.host_rights(a, case.layout) & 2 != 0;
    if !scene.native || writable(at) && writable(at + 31) {
        case.patches.push((at, bytes));
    }
}

pub(super) fn selector(rng: &mut Rng) -> u16 {
    (rng.below(25) as u16) << 3 | rng.pick(&[0, 3])
}
