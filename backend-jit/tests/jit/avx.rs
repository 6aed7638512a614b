//! Operations by encoding, on 128 and 256 bits: those that a legacy form names against the evaluator on that name, and
//! those across halves against what the manual says.

use crate::r#gen::{Rng, cpu, snapshot};
use backend_jit::{BlockId, Jit, JitConfig, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::cpu_box::CpuBox;
use emu_core::ir::encoded::{Encoded, Needs, Shape};
use emu_core::ir::{Block, BlockKey, Cc, Op, Type, Value, VecOp, eval};
use emu_core::state::Mode;

use Shape::{Group, Rm, VRm};
use VecOp::*;

/// The operation, and its prefix, map, opcode, shape and digit.
const NAMED: &[(VecOp, u8, u8, u8, Shape, u8)] = &[
    (Pand, 0x66, 1, 0xdb, VRm, 0),
    (Pandn, 0, 1, 0x55, VRm, 0),
    (Por, 0x66, 1, 0x56, VRm, 0),
    (Pxor, 0x66, 1, 0xef, VRm, 0),
    (Paddb, 0x66, 1, 0xfc, VRm, 0),
    (Paddq, 0x66, 1, 0xd4, VRm, 0),
    (Psubw, 0x66, 1, 0xf9, VRm, 0),
    (Pmullw, 0x66, 1, 0xd5, VRm, 0),
    (Pmulhuw, 0x66, 1, 0xe4, VRm, 0),
    (Pmuludq, 0x66, 1, 0xf4, VRm, 0),
    (Pmaddwd, 0x66, 1, 0xf5, VRm, 0),
    (Psadbw, 0x66, 1, 0xf6, VRm, 0),
    (Pminub, 0x66, 1, 0xda, VRm, 0),
    (Pmaxsd, 0x66, 2, 0x3d, VRm, 0),
    (Pcmpeqb, 0x66, 1, 0x74, VRm, 0),
    (Pcmpgtq, 0x66, 2, 0x37, VRm, 0),
    (Pmulld, 0x66, 2, 0x40, VRm, 0),
    (Pmuldq, 0x66, 2, 0x28, VRm, 0),
    (Pmulhrsw, 0x66, 2, 0x0b, VRm, 0),
    (Pmaddubsw, 0x66, 2, 0x04, VRm, 0),
    (Phaddd, 0x66, 2, 0x02, VRm, 0),
    (Psignw, 0x66, 2, 0x09, VRm, 0),
    (Pshufb, 0x66, 2, 0x00, VRm, 0),
    (Punpcklbw, 0x66, 1, 0x60, VRm, 0),
    (Punpckhqdq, 0x66, 1, 0x15, VRm, 0),
    (Punpckldq, 0, 1, 0x14, VRm, 0),
    (Packsswb, 0x66, 1, 0x63, VRm, 0),
    (Packusdw, 0x66, 2, 0x2b, VRm, 0),
    (Palignr, 0x66, 3, 0x0f, VRm, 0),
    (Pblendw, 0x66, 3, 0x0e, VRm, 0),
    (Shufps, 0, 1, 0xc6, VRm, 0),
    (Pabsw, 0x66, 2, 0x1d, Rm, 0),
    (Pshufd, 0x66, 1, 0x70, Rm, 0),
    (Pshufhw, 0xf3, 1, 0x70, Rm, 0),
    (Psrlw, 0x66, 1, 0x71, Group, 2),
    (Psrad, 0x66, 1, 0x72, Group, 4),
    (Psllq, 0x66, 1, 0x73, Group, 6),
    (Pslldq, 0x66, 1, 0x73, Group, 7),
    (Addps, 0, 1, 0x58, VRm, 0),
    (Mulpd, 0x66, 1, 0x59, VRm, 0),
    (Subps, 0, 1, 0x5c, VRm, 0),
    (Divpd, 0x66, 1, 0x5e, VRm, 0),
    (Minps, 0, 1, 0x5d, VRm, 0),
    (Maxpd, 0x66, 1, 0x5f, VRm, 0),
    (Cmppd, 0x66, 1, 0xc2, VRm, 0),
    (Sqrtps, 0, 1, 0x51, Rm, 0),
    (Cvtdq2ps, 0, 1, 0x5b, Rm, 0),
    (Cvttps2dq, 0xf3, 1, 0x5b, Rm, 0),
];

fn start() -> Block {
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode: Mode(Mode::CODE64) });
    b.op_imm(Op::Guest, Type::Void, &[], 0, 4);
    b.guest_insns = 1;
    b.guest_len = 4;
    b
}

fn finish(mut b: Block, ty: Type, v: Value) -> Block {
    b.op_imm(Op::SetVecZero, ty, &[v], 3, 0);
    b.op_imm(Op::Goto, Type::Void, &[], 4, 0);
    b
}

fn state(seed: u64) -> CpuBox {
    let r = &mut Rng(seed);
    let mut c = cpu(r);
    for n in 0..4 {
        for q in 0..4 {
            c.state.vec[n].0[q] = if r.next() >> 63 == 0 { r.next() } else { r.number() };
        }
    }
    c
}

fn run(jit: &mut Jit, b: &Block, seed: u64) -> Option<CpuBox> {
    let id = jit.compile(b).ok()?;
    let mut c = state(seed);
    assert_eq!(jit.run(&mut c, id), RunExit::NeedBlock, "{b}");
    Some(c)
}

#[test]
fn operations_with_a_legacy_form() {
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    let mut done = 0;
    for &(op, prefix, map, opcode, shape, digit) in NAMED {
        for (seed, ty) in (1..14).flat_map(|s| [(s, Type::V128), (s, Type::V256)]) {
            let fp = op as u32 >= Addss as u32;
            let imm = (Rng(seed << 9 | u64::from(opcode)).next() >> 56) as i64;
            let imm = if fp { imm & 7 } else { imm };
            let (imm_byte, needs, l) = (shape == Group || map == 3, Needs::Avx2, ty == Type::V256);
            let imm_byte = imm_byte || matches!(opcode, 0x70 | 0xc2 | 0xc6);
            let e = Encoded { prefix, map, opcode, w: false, l, digit, imm: imm_byte, shape, needs };
            let make = |aux: u32, ty: Type| {
                let mut b = start();
                let x = b.op_imm(Op::GetVec, ty, &[], 0, 0);
                let y = b.op_imm(Op::GetVec, ty, &[], 1, 0);
                let v = match (fp, shape == VRm, aux == op as u32) {
                    (true, false, true) => b.op_imm(Op::Fp, ty, &[x, x], imm, aux),
                    (true, false, false) => b.op_imm(Op::Fp, ty, &[x], imm, aux),
                    (true, true, _) => b.op_imm(Op::Fp, ty, &[x, y], imm, aux),
                    (false, false, _) => b.op_imm(Op::Vec1, ty, &[x], imm, aux),
                    _ => b.op_imm(Op::Vec2, ty, &[x, y], imm, aux),
                };
                finish(b, ty, v)
            };
            // Half by half, by the evaluator.
            let mut want = state(seed);
            let mut result = [0; 4];
            for high in 0..if l { 2 } else { 1 } {
                let mut c = state(seed);
                c.state.mxcsr = want.state.mxcsr;
                for n in 0..2 {
                    let q = c.state.vec[n].0;
                    c.state.vec[n].0[..2].copy_from_slice(&[q[2 * high], q[2 * high + 1]]);
                }
                eval(&make(op as u32, Type::V128), &mut c);
                result[2 * high..2 * high + 2].copy_from_slice(&c.state.vec[3].0[..2]);
                want.state.mxcsr = c.state.mxcsr;
                (want.state.rip, want.state.icount) = (c.state.rip, c.state.icount);
            }
            want.state.vec[3].0[..4].copy_from_slice(&result);
            if let Some(got) = run(&mut jit, &make(e.aux(), ty), seed) {
                assert_eq!(snapshot(&want), snapshot(&got), "{} {ty:?} imm {imm:#x} seed {seed}", op.name());
                done += 1;
            }
        }
    }
    assert!(done > 1000 || !cfg!(target_arch = "aarch64"), "{done}");
}

/// What an operation across halves makes of the quadwords of x and y.
type Across = fn([u64; 4], [u64; 4], u8) -> [u64; 4];

const ACROSS: &[(&str, u8, u8, u8, Shape, bool, Across)] = &[
    ("vperm2f128", 0x66, 3, 0x06, VRm, false, |x, y, i| {
        let half = |n: u8| match n & 15 {
            n if n & 8 != 0 => [0; 2],
            n => [[x[0], x[1]], [x[2], x[3]], [y[0], y[1]], [y[2], y[3]]][n as usize & 3],
        };
        let (l, h) = (half(i), half(i >> 4));
        [l[0], l[1], h[0], h[1]]
    }),
    ("vpermq", 0x66, 3, 0x00, Rm, true, |x, _, i| std::array::from_fn(|n| x[(i >> (2 * n)) as usize & 3])),
    ("vpblendd", 0x66, 3, 0x02, VRm, false, |x, y, i| {
        std::array::from_fn(|n| {
            let take = |k: usize| if i >> (2 * n + k) & 1 != 0 { y[n] } else { x[n] };
            take(0) & 0xffff_ffff | take(1) & !0xffff_ffff
        })
    }),
    ("vpermilpd", 0x66, 3, 0x05, Rm, false, |x, _, i| {
        std::array::from_fn(|n| x[n & 2 | (i >> n & 1) as usize])
    }),
    ("vblendpd", 0x66, 3, 0x0d, VRm, false, |x, y, i| {
        std::array::from_fn(|n| if i >> n & 1 != 0 { y[n] } else { x[n] })
    }),
    ("vshufpd", 0x66, 1, 0xc6, VRm, false, |x, y, i| {
        std::array::from_fn(|n| if n & 1 == 0 { x } else { y }[n & 2 | (i >> n & 1) as usize])
    }),
    ("vmovddup", 0xf2, 1, 0x12, Rm, false, |x, _, _| [x[0], x[0], x[2], x[2]]),
];

fn doublewords(x: [u64; 4]) -> [u32; 8] {
    std::array::from_fn(|n| (x[n / 2] >> (32 * (n & 1))) as u32)
}

fn from_doublewords(x: [u32; 8]) -> [u64; 4] {
    std::array::from_fn(|n| u64::from(x[2 * n]) | u64::from(x[2 * n + 1]) << 32)
}

fn byte(x: [u64; 4], n: usize) -> u8 {
    (x[n / 8] >> (8 * (n % 8))) as u8
}

/// `f` on the doublewords of x and y.
fn by_doubleword(x: [u64; 4], y: [u64; 4], f: impl Fn(u32, u32) -> u32) -> [u64; 4] {
    let (x, y) = (doublewords(x), doublewords(y));
    from_doublewords(std::array::from_fn(|n| f(x[n], y[n])))
}

/// Operations of each half for itself, which have both widths.
const BY_LANES: &[(&str, u8, u8, u8, Shape, bool, Across)] = &[
    ("vpsllvd", 0x66, 2, 0x47, VRm, false, |x, y, _| {
        by_doubleword(x, y, |x, n| x.checked_shl(n).unwrap_or(0))
    }),
    ("vpsrlvd", 0x66, 2, 0x45, VRm, false, |x, y, _| {
        by_doubleword(x, y, |x, n| x.checked_shr(n).unwrap_or(0))
    }),
    ("vpsravd", 0x66, 2, 0x46, VRm, false, |x, y, _| {
        by_doubleword(x, y, |x, n| (x as i32 >> n.min(31)) as u32)
    }),
    ("vpsllvq", 0x66, 2, 0x47, VRm, true, |x, y, _| {
        std::array::from_fn(|n| if y[n] < 64 { x[n] << y[n] } else { 0 })
    }),
    ("vpsrlvq", 0x66, 2, 0x45, VRm, true, |x, y, _| {
        std::array::from_fn(|n| if y[n] < 64 { x[n] >> y[n] } else { 0 })
    }),
    ("vpermilps", 0x66, 2, 0x0c, VRm, false, |x, y, _| {
        let (x, y) = (doublewords(x), doublewords(y));
        from_doublewords(std::array::from_fn(|n| x[n & 4 | y[n] as usize & 3]))
    }),
    ("vpermilpd", 0x66, 2, 0x0d, VRm, false, |x, y, _| {
        std::array::from_fn(|n| x[n & 2 | (y[n] >> 1 & 1) as usize])
    }),
    ("vmpsadbw", 0x66, 3, 0x42, VRm, false, |x, y, i| {
        let mut out = [0; 4];
        for word in 0..16 {
            let half = word / 8;
            let imm = usize::from(i >> (3 * half));
            let (at, with) = (16 * half + (imm >> 2 & 1) * 4 + word % 8, 16 * half + (imm & 3) * 4);
            let sum: u64 = (0..4).map(|k| u64::from(byte(x, at + k).abs_diff(byte(y, with + k)))).sum();
            out[word / 4] |= sum << (16 * (word % 4));
        }
        out
    }),
];

/// The S-box of AES, by its definition (FIPS 197, 5.1.1).
fn s_box(v: u8) -> u8 {
    let times = |mut a: u8, mut b: u8| {
        let mut r = 0;
        while b != 0 {
            r ^= if b & 1 != 0 { a } else { 0 };
            a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
            b >>= 1;
        }
        r
    };
    let inverse = (1..=255).find(|&w| times(v, w) == 1).unwrap_or(0);
    (0..5).fold(0x63, |r, n| r ^ inverse.rotate_left(n))
}

/// Operations on 128 bits alone.
const NARROW: &[(&str, u8, u8, u8, Shape, bool, Across)] = &[
    ("phminposuw", 0x66, 2, 0x41, Rm, false, |x, _, _| {
        let word = |n: usize| x[n / 4] >> (16 * (n % 4)) & 0xffff;
        let least = (0..8).min_by_key(|&n| (word(n), n)).unwrap_or(0);
        [word(least) | (least as u64) << 16, 0, 0, 0]
    }),
    ("aeskeygenassist", 0x66, 3, 0xdf, Rm, false, |x, _, i| {
        let sub = |v: u32| u32::from_le_bytes(v.to_le_bytes().map(s_box));
        let x = doublewords(x);
        let (a, b) = (sub(x[1]), sub(x[3]));
        let turned = |v: u32| v.rotate_right(8) ^ u32::from(i);
        from_doublewords([a, turned(a), b, turned(b), 0, 0, 0, 0])
    }),
];

/// VPERMD and VPERMPS, whose first operand is the numbers.
fn permd(x: [u64; 4], y: [u64; 4], _: u8) -> [u64; 4] {
    let (x, y) = (doublewords(x), doublewords(y));
    from_doublewords(x.map(|n| y[n as usize & 7]))
}

const WHOLE: &[(&str, u8, u8, u8, Shape, bool, Across)] =
    &[("vpermd", 0x66, 2, 0x36, VRm, false, permd), ("vpermps", 0x66, 2, 0x16, VRm, false, permd)];

#[test]
fn operations_across_halves() {
    compare(ACROSS, Type::V256);
    compare(WHOLE, Type::V256);
}

#[test]
fn operations_by_lanes() {
    compare(BY_LANES, Type::V128);
    compare(BY_LANES, Type::V256);
    compare(NARROW, Type::V128);
}

/// Translates what only an x86 host may lack something for.
fn translate(jit: &mut Jit, b: &Block) -> Option<BlockId> {
    match jit.compile(b) {
        Ok(id) => Some(id),
        Err(e) if cfg!(target_arch = "aarch64") => panic!("{e}\n{b}"),
        Err(_) => None,
    }
}

fn compare(table: &[(&str, u8, u8, u8, Shape, bool, Across)], ty: Type) {
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    for &(name, prefix, map, opcode, shape, w, f) in table {
        for seed in 1..80 {
            let imm = (Rng(seed << 9 | u64::from(opcode)).next() >> 56) as u8;
            let (l, imm_byte) = (ty == Type::V256, map == 3 || opcode == 0xc6);
            let needs = if opcode == 0xdf { Needs::Aes } else { Needs::Avx2 };
            let e = Encoded { prefix, map, opcode, w, l, digit: 0, imm: imm_byte, shape, needs };
            let mut b = start();
            let x = b.op_imm(Op::GetVec, ty, &[], 0, 0);
            let y = b.op_imm(Op::GetVec, ty, &[], 1, 0);
            let v = match shape {
                Rm => b.op_imm(Op::Vec1, ty, &[x], imm.into(), e.aux()),
                _ => b.op_imm(Op::Vec2, ty, &[x, y], imm.into(), e.aux()),
            };
            let b = finish(b, ty, v);
            // Every other time with numbers that are small enough to be counts.
            let small = |c: &mut Cpu| {
                if seed % 2 == 0 {
                    let mask = if w { 0x7f } else { 0x3f_0000_003f };
                    c.state.vec[1].0.iter_mut().for_each(|q| *q &= mask);
                }
            };
            let Some(id) = translate(&mut jit, &b) else { continue };
            let (mut old, mut got) = (state(seed), state(seed));
            small(&mut old);
            small(&mut got);
            assert_eq!(jit.run(&mut got, id), RunExit::NeedBlock, "{b}");
            let quads = |n: usize| std::array::from_fn(|q| old.state.vec[n].0[q]);
            let mut want = f(quads(0), quads(1), imm);
            if !l {
                want[2..].fill(0);
            }
            assert_eq!(got.state.vec[3].0[..4], want, "{name} {ty:?} imm {imm:#x} seed {seed}");
            assert_eq!(got.state.mxcsr, old.state.mxcsr, "{name}");
        }
    }
}

#[test]
fn tests_of_bits_and_signs() {
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    // VTESTPS, VTESTPD, VPTEST, and the bits that each looks at.
    for (opcode, mask) in [(0x0e, 0x8000_0000_8000_0000), (0x0f, 1 << 63), (0x17, u64::MAX)] {
        for (seed, ty) in (1..60).flat_map(|s| [(s, Type::V128), (s, Type::V256)]) {
            let l = ty == Type::V256;
            let (shape, needs) = (Shape::Flags, Needs::Avx);
            let e = Encoded { prefix: 0x66, map: 2, opcode, w: false, l, digit: 0, imm: false, shape, needs };
            let mut b = start();
            let x = b.op_imm(Op::GetVec, ty, &[], 0, 0);
            let y = b.op_imm(Op::GetVec, ty, &[], 1, 0);
            let f = b.op_imm(Op::Vec2, Type::Flags, &[x, y], 0, e.aux());
            b.set_flags(f);
            let t = b.test_cc([Cc::E, Cc::B, Cc::A, Cc::BE][seed as usize & 3], f);
            let i = b.op(Op::ZExt, Type::I64, &[t]);
            b.set_reg(Type::I64, 3, i);
            b.op_imm(Op::Goto, Type::Void, &[], 4, 0);
            let Some(id) = translate(&mut jit, &b) else { continue };
            let mut c = state(seed);
            let r = &mut Rng(seed << 3);
            for q in 0..4 {
                // One bit, or none, in one quadword; bits of y are in x, or not.
                let bit = |r: &mut Rng| 1u64 << [0, 31, 63, 62][(r.next() >> 60) as usize & 3];
                let few = r.next() >> 62;
                c.state.vec[0].0[q] = if few == 0 { bit(r) } else { u64::MAX * (few & 1) };
                c.state.vec[1].0[q] = if r.next() >> 62 == 0 { bit(r) } else { 0 };
            }
            let n = if l { 4 } else { 2 };
            let none = |f: fn(u64, u64) -> u64| {
                (0..n).all(|q| f(c.state.vec[0].0[q], c.state.vec[1].0[q]) & mask == 0)
            };
            let (zf, cf) = (none(|x, y| x & y), none(|x, y| !x & y));
            assert_eq!(jit.run(&mut c, id), RunExit::NeedBlock, "{b}");
            let flags = u64::from(zf) << 6 | u64::from(cf);
            assert_eq!(c.state.rflags & 0x8d5, flags, "{opcode:#x} {ty:?} seed {seed}");
            let holds = [zf, cf, !zf && !cf, zf || cf][seed as usize & 3];
            assert_eq!(c.state.gpr[3], u64::from(holds), "{opcode:#x} {ty:?} seed {seed}");
        }
    }
}

#[test]
fn the_end_of_canonical_addresses_comes_before_a_page() {
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    for (seed, at) in
        [0x7fff_ffff_ffe5u64, 0x7fff_ffff_fff3, 0x7fff_ffff_ffe0, 0x7fff_ffff_ffd0].into_iter().enumerate()
    {
        let mut b = start();
        let a = b.iconst(Type::I64, at);
        let v = b.op(Op::Load, Type::V256, &[a]);
        let b = finish(b, Type::V256, v);
        let Some(id) = translate(&mut jit, &b) else { continue };
        let (mut want, mut got) = (state(seed as u64 + 1), state(seed as u64 + 1));
        let end = eval(&b, &mut want);
        let exit = jit.run(&mut got, id);
        assert!(crate::agree(end, exit, &got), "{at:#x}: {end:?} {exit:?}");
        assert_eq!(snapshot(&want), snapshot(&got), "{at:#x}");
    }
}

#[test]
fn both_halves_go_to_memory_and_back() {
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    // Within a page, across pages, and beyond memory.
    for (seed, at) in [0x1000u64, 0x1ff8, 0x1fe1, 0x2fef, 1 << 60].into_iter().enumerate() {
        let mut b = start();
        let a = b.iconst(Type::I64, at);
        let x = b.op_imm(Op::GetVec, Type::V256, &[], 0, 0);
        b.op(Op::Store, Type::V256, &[a, x]);
        b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
        b.guest_insns = 2;
        let v = b.op(Op::Load, Type::V256, &[a]);
        let w = b.op_imm(Op::Vec2, Type::V256, &[v, x], 0, Paddd as u32);
        b.op_imm(Op::SetVec, Type::V256, &[w], 1, 0);
        b.op_imm(Op::ZeroUpper, Type::Void, &[], 1, 0);
        b.op_imm(Op::Goto, Type::Void, &[], 8, 0);
        let Ok(id) = jit.compile(&b) else { continue };
        let (mut want, mut got) = (state(seed as u64 + 1), state(seed as u64 + 1));
        let end = eval(&b, &mut want);
        let exit = jit.run(&mut got, id);
        assert!(crate::agree(end, exit, &got), "{end:?} {exit:?}");
        assert_eq!(snapshot(&want), snapshot(&got), "{at:#x}");
    }
}
