//! Floating point on adversarial values, under every rounding mode, with DAZ and FTZ: translated code against the
//! evaluator, whose arithmetic is in integers.

use crate::r#gen::Rng;
use crate::random::check_from;
use backend_jit::{Jit, JitConfig};
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::ir::encoded::{Encoded, Needs, Shape};
use emu_core::ir::{Block, BlockKey, Cc, Op, Optimizer, PassSet, StateField, Type, Value, VecOp};
use emu_core::state::Mode;

const V: Type = Type::V128;

/// A number of `bits` (32 or 64) bits that is likely to be a corner.
fn number(r: &mut Rng, bits: u32) -> u64 {
    let fraction = if bits == 64 { 52 } else { 23 };
    let exponents = (1u64 << (bits - 1 - fraction)) - 1;
    let bias = exponents >> 1;
    let k = r.next() >> 32;
    // Exponents at both ends, near one, near those of the limits of integers, and any.
    let exp = match k % 8 {
        0 => 0,
        1 => 1 + k / 8 % 3,
        2 => exponents,
        3 => exponents - 1 - k / 8 % 2,
        4 => bias + [30, 31, 32, 62, 63][(k / 8 % 5) as usize],
        5 | 6 => bias + k / 8 % 8,
        _ => k / 8 % (exponents + 1),
    };
    let random = r.next();
    let low = match random >> 60 & 7 {
        0 | 1 => 0,
        2 => 1,
        3 => u64::MAX,
        4 => 1 << (fraction - 1),
        5 => random << (random >> 50 & 63),
        6 => !(random >> (random >> 50 & 63)),
        _ => random,
    };
    (random >> 63) << (bits - 1) | exp << fraction | low & ((1 << fraction) - 1)
}

fn vector(r: &mut Rng, single: bool) -> u128 {
    let n = if single { 4 } else { 2 };
    let bits = 128 / n;
    (0..n).fold(0, |v, i| v | u128::from(number(r, bits)) << (bits * i))
}

/// An encoding, and whether it is on singles.
fn named(prefix: u8, map: u8, opcode: u8, w: bool, shape: Shape, needs: Needs) -> u32 {
    let imm = map == 3 || opcode == 0xc2;
    Encoded { prefix, map, opcode, w, l: false, digit: 0, imm, shape, needs }.aux()
}

/// Operations by encoding, and whether they are on singles.
fn coded() -> Vec<(u32, bool)> {
    use Shape::{DVRm, Rm, Store, VRm};
    // ROUNDPS, PD, SS, SD; HADDPD, HADDPS, HSUBPD, HSUBPS; ADDSUBPD, ADDSUBPS; DPPS, DPPD; VCMPPS, PD, SS, SD.
    let avx = [
        (0x66, 3, 0x08, Rm, true),
        (0x66, 3, 0x09, Rm, false),
        (0x66, 3, 0x0a, VRm, true),
        (0x66, 3, 0x0b, VRm, false),
        (0x66, 1, 0x7c, VRm, false),
        (0xf2, 1, 0x7c, VRm, true),
        (0x66, 1, 0x7d, VRm, false),
        (0xf2, 1, 0x7d, VRm, true),
        (0x66, 1, 0xd0, VRm, false),
        (0xf2, 1, 0xd0, VRm, true),
        (0x66, 3, 0x40, VRm, true),
        (0x66, 3, 0x41, VRm, false),
        (0, 1, 0xc2, VRm, true),
        (0x66, 1, 0xc2, VRm, false),
        (0xf3, 1, 0xc2, VRm, true),
        (0xf2, 1, 0xc2, VRm, false),
    ];
    let mut all: Vec<(u32, bool)> = avx
        .iter()
        .map(|&(prefix, map, op, shape, single)| (named(prefix, map, op, false, shape, Needs::Avx), single))
        .collect();
    // VCVTPH2PS and VCVTPS2PH.
    all.push((named(0x66, 2, 0x13, false, Rm, Needs::F16c), false));
    all.push((named(0x66, 3, 0x1d, false, Store, Needs::F16c), true));
    for order in [0x90, 0xa0, 0xb0] {
        for kind in 6..16 {
            for w in [false, true] {
                all.push((named(0x66, 2, order | kind, w, DVRm, Needs::Fma), !w));
            }
        }
    }
    all
}

/// Every operation, as the IR names it.
fn all() -> Vec<u32> {
    let named = VecOp::ALL.iter().map(|&op| op as u32).filter(|&n| n >= VecOp::Addss as u32);
    named.chain(coded().into_iter().map(|(aux, _)| aux)).collect()
}

/// Whether the operands are singles.
fn singles(aux: u32) -> bool {
    let Some(op) = VecOp::from_number(aux) else {
        return coded().iter().any(|&(n, single)| n == aux && single);
    };
    let n = op.name();
    let from = n.strip_prefix("cvtt").or(n.strip_prefix("cvt"));
    match from {
        Some(rest) => rest.starts_with("ss") || rest.starts_with("ps"),
        None => n.ends_with("ss") || n.ends_with("ps"),
    }
}

/// Operation `aux` on two vectors.
fn apply(b: &mut Block, aux: u32, x: Value, y: Value, r: &mut Rng) -> Value {
    use VecOp::*;
    let k = (r.next() >> 40) as i64;
    let (ints, wide) = ([Type::I32, Type::I64], (k >> 4 & 1) as usize);
    let Some(op) = VecOp::from_number(aux) else {
        let e = Encoded::from_aux(aux).unwrap();
        // Rounding has four bits, predicates five, products and places of their sum eight.
        let imm = match e.opcode {
            _ if !e.imm => 0,
            0x40 | 0x41 => k >> 8 & 255,
            0xc2 => k >> 8 & 31,
            _ => k >> 8 & 15,
        };
        let third = if k & 1 == 0 { x } else { b.op_imm(Op::GetVec, V, &[], 2, 0) };
        let args: &[Value] = match e.shape {
            Shape::Rm | Shape::Store => &[y],
            Shape::DVRm => &[x, y, third],
            _ => &[x, y],
        };
        return b.op_imm(Op::Fp, V, args, imm, aux);
    };
    match op {
        Comiss | Comisd | Ucomiss | Ucomisd => b.op_imm(Op::Fp, Type::Flags, &[x, y], 0, aux),
        Cvtss2si | Cvtsd2si | Cvttss2si | Cvttsd2si => b.op_imm(Op::Fp, ints[wide], &[y, y], 0, aux),
        Cvtsi2ss | Cvtsi2sd => {
            let i = b.get_reg(ints[wide], 3);
            b.op_imm(Op::Fp, V, &[x, i], 0, aux)
        }
        Cvtps2pd | Cvtpd2ps | Cvtdq2ps | Cvtdq2pd | Cvtps2dq | Cvttps2dq | Cvtpd2dq | Cvttpd2dq => {
            b.op_imm(Op::Fp, V, &[y, y], 0, aux)
        }
        _ => b.op_imm(Op::Fp, V, &[x, y], k & 7, aux),
    }
}

/// Writes the result of operation `aux` as the encoding that it has does: with VEX, zeros come above.
fn set(b: &mut Block, aux: u32, v: Value, n: i64) {
    let vex = |e: Encoded| e.opcode == 0xc2 || e.needs != Needs::Avx;
    let op = if Encoded::from_aux(aux).is_some_and(vex) { Op::SetVecZero } else { Op::SetVec };
    b.op_imm(op, V, &[v], n, 0);
}

/// A block around `op`: its operands from registers and memory, its result used again, flags read and kept.
fn block(op: u32, r: &mut Rng) -> Block {
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode: Mode(0) });
    b.op_imm(Op::Guest, Type::Void, &[], 0, 4);
    b.guest_insns = 1;
    b.guest_len = 4;
    let k = r.next() >> 40;
    let read = |b: &mut Block, n: i64| b.op_imm(Op::GetVec, V, &[], n, 0);
    let x = read(&mut b, 0);
    let y = if k & 1 == 0 {
        read(&mut b, 1)
    } else {
        let a = b.iconst(Type::I64, 0x1000);
        b.op(Op::Load, V, &[a])
    };
    // Flags that are in use on the way.
    let (p, q) = (b.get_reg(Type::I32, 1), b.get_reg(Type::I32, 2));
    let sum = b.op(Op::Sub, Type::I32, &[p, q]);
    let before = b.flags_of(sum);
    let below = b.test_cc(Cc::B, before);
    let v = apply(&mut b, op, x, y, r);
    let mut flags = before;
    match b.def(v).ty {
        Type::V128 => {
            set(&mut b, op, v, 3);
            // Again, on the result, so that what is known of it counts.
            let second = VecOp::ALL[VecOp::Addss as usize + (r.next() >> 33) as usize % 32];
            let (s, t) = if k & 2 == 0 { (v, x) } else { (x, v) };
            let w = b.op_imm(Op::Fp, V, &[s, t], 0, second as u32);
            let w = if k & 4 == 0 { b.op_imm(Op::Fp, V, &[w, v], 0, second as u32) } else { w };
            b.op_imm(Op::SetVec, V, &[w], 2, 0);
        }
        Type::Flags => {
            flags = v;
            let cc = [Cc::A, Cc::B, Cc::E, Cc::P, Cc::AE, Cc::BE, Cc::S, Cc::L][(k >> 8) as usize % 8];
            let t = b.test_cc(cc, v);
            let i = b.op(Op::ZExt, Type::I64, &[t]);
            b.set_reg(Type::I64, 6, i);
        }
        ty => b.set_reg(ty, 7, v),
    }
    let carry = b.op(Op::ZExt, Type::I32, &[below]);
    b.set_reg(Type::I32, 5, carry);
    if k & 8 == 0 {
        b.set_flags(flags);
    }
    if k & 0x30 == 0 {
        let mx = b.get_state(StateField::Mxcsr);
        b.set_reg(Type::I32, 4, mx);
    }
    let t = b.test_cc(Cc::BE, flags);
    b.op_imm(Op::Branch, Type::Void, &[t], 0x40, 0x80);
    b
}

#[test]
fn floating_point_does_what_the_evaluator_does() {
    let cases: u64 = std::env::var("CALQUE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4000) / 40;
    for baseline in [false, true] {
        let mut jit = Jit::new(JitConfig { single_block: true, baseline, ..JitConfig::default() }).unwrap();
        for op in all() {
            for seed in 1..=cases {
                let r = &mut Rng(seed << 32 | u64::from(op));
                let b = block(op, r);
                emu_core::ir::verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
                let mode = r.next();
                // Rounding, DAZ and FTZ, and flags that are set already.
                let mxcsr = match mode >> 60 {
                    0..8 => 0x1f80,
                    8..12 => 0x1f80 | (mode >> 8) as u32 & 0x6000,
                    _ => 0x1f80 | (mode >> 8) as u32 & 0xe07f,
                };
                let single = singles(op) != (mode & 0x1f == 0);
                let [x, y, z, third] = [0; 4].map(|_| vector(r, single));
                let equal = mode >> 16 & 15 == 0;
                let prepare = |c: &mut Cpu| {
                    c.state.mxcsr = mxcsr;
                    c.state.vec[0].set_xmm(x);
                    c.state.vec[1].set_xmm(if equal { x } else { y });
                    c.state.vec[2].set_xmm(third);
                    c.store::<8>(0x1000, z as u64, false).unwrap();
                    c.store::<8>(0x1008, (z >> 64) as u64, false).unwrap();
                };
                match check_from(&mut jit, &b, seed, prepare) {
                    // An x86 host without AVX leaves some to the interpreter.
                    Ok(translated) => {
                        let may_not = cfg!(target_arch = "x86_64") && VecOp::from_number(op).is_none();
                        assert!(translated || may_not, "{op:#x} is not translated");
                    }
                    Err(e) => panic!("{op:#x}: {e}"),
                }
            }
        }
    }
}

/// A block of up to a dozen operations on registers and memory, instruction by instruction, with a comparison or a
/// conversion to an integer at its end.
fn many(r: &mut Rng) -> Block {
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode: Mode(0) });
    let below = |r: &mut Rng, n: u64| (r.next() >> 33) % n;
    let load = |b: &mut Block, r: &mut Rng, ty: Type| {
        // Now and then one that faults, or of a page that nobody has looked up.
        let at = match below(r, 24) {
            0 => 1 << 60,
            1 => 0x2ff8,
            n => 0x1000 + 8 * (n % 4),
        };
        let a = b.iconst(Type::I64, at);
        b.op(Op::Load, ty, &[a])
    };
    let ops: Vec<u32> = all();
    let n = 2 + below(r, 11) as u32;
    for k in 0..n {
        b.op_imm(Op::Guest, Type::Void, &[], 4 * i64::from(k), 4);
        if k == 0 || below(r, 12) == 0 {
            let v = load(&mut b, r, Type::I32);
            b.set_reg(Type::I32, 6, v);
            continue;
        }
        let x = b.op_imm(Op::GetVec, V, &[], below(r, 4) as i64, 0);
        if below(r, 6) == 0 {
            let i = load(&mut b, r, Type::I64);
            let v = b.op_imm(Op::Vec1, V, &[i], 0, VecOp::FromInt as u32);
            b.op_imm(Op::SetVec, V, &[v], below(r, 4) as i64, 0);
            continue;
        }
        let y = match below(r, 5) {
            0 => load(&mut b, r, V),
            n => b.op_imm(Op::GetVec, V, &[], n as i64 - 1, 0),
        };
        if below(r, 4) == 0 {
            let v = b.vec2(V, [VecOp::Pxor, VecOp::Punpckldq, VecOp::Movsd][below(r, 3) as usize], x, y);
            b.op_imm(Op::SetVec, V, &[v], below(r, 4) as i64, 0);
            continue;
        }
        // Mostly those that programs are made of.
        let op = match below(r, 3) {
            0 => ops[below(r, ops.len() as u64) as usize],
            _ => VecOp::ALL[VecOp::Addss as usize + below(r, 16) as usize] as u32,
        };
        let v = apply(&mut b, op, x, y, r);
        match b.def(v).ty {
            Type::V128 => set(&mut b, op, v, below(r, 4) as i64),
            Type::Flags => b.set_flags(v),
            ty => b.set_reg(ty, 7, v),
        }
    }
    b.op_imm(Op::Goto, Type::Void, &[], 4 * i64::from(n), 0);
    b.guest_insns = n;
    b.guest_len = 4 * n;
    b
}

#[test]
fn so_do_operations_in_a_row() {
    let cases: u64 = std::env::var("CALQUE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4000) / 4;
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    let mut passes = Optimizer::new(PassSet::ALL);
    let mut done = 0;
    for seed in 1..=cases {
        let r = &mut Rng(seed << 20 | 1);
        let mut b = many(r);
        // In every other case nothing out of the ordinary happens.
        let plain = seed % 2 == 0;
        let mxcsr = if plain { 0x1f80 } else { 0x1f80 | (r.next() >> 8) as u32 & 0xe07f };
        let v = [0; 5].map(|_| match plain {
            true => u128::from(1.5f64.to_bits() + (r.next() >> 44)) * (1 << 64 | 1),
            false => vector(r, r.0 & 1 == 0),
        });
        let prepare = |c: &mut Cpu| {
            c.state.mxcsr = mxcsr;
            for (n, &v) in v[..4].iter().enumerate() {
                c.state.vec[n].set_xmm(v);
            }
            for n in 0..6 {
                c.store::<8>(0x1000 + 8 * n, (v[4] >> (64 * (n & 1))) as u64, false).unwrap();
            }
        };
        for _ in 0..2 {
            emu_core::ir::verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
            match check_from(&mut jit, &b, seed, prepare) {
                Ok(translated) => done += u64::from(translated),
                Err(e) => panic!("{e}"),
            }
            passes.run(&mut b);
        }
    }
    assert!(done > cases / 2, "{done} of {cases} were translated");
}
