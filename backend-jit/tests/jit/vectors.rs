//! Every vector operation: integer ones against the evaluator, floating-point ones against Rust's arithmetic.

use crate::r#gen::Rng;
use crate::random::check;
use backend_jit::{Jit, JitConfig};
use emu_core::addr::PhysAddr;
use emu_core::ir::{Block, BlockKey, Op, Type, Value, VecOp};
use emu_core::state::Mode;

const V: Type = Type::V128;

fn start() -> Block {
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode: Mode(0) });
    b.op_imm(Op::Guest, Type::Void, &[], 0, 4);
    b.guest_insns = 1;
    b.guest_len = 4;
    b
}

fn finish(mut b: Block) -> Block {
    b.op_imm(Op::Goto, Type::Void, &[], 4, 0);
    b
}

fn get(b: &mut Block, n: i64) -> Value {
    b.op_imm(Op::GetVec, V, &[], n, 0)
}

fn is_float(op: VecOp) -> bool {
    op as u32 >= VecOp::Addss as u32
}

fn one_argument(op: VecOp) -> bool {
    let n = op.name();
    n.starts_with("pmov")
        || n.starts_with("pabs")
        || matches!(op, VecOp::Pshufd | VecOp::Pshuflw | VecOp::Pshufhw)
        || matches!(op, VecOp::Pslldq | VecOp::Psrldq | VecOp::ZeroHigh)
}

fn shift(op: VecOp) -> bool {
    let n = op.name();
    (n.starts_with("psll") || n.starts_with("psrl") || n.starts_with("psra")) && !n.ends_with("dq")
}

/// A block that uses `op`, if it is an integer operation.
fn block(op: VecOp, r: &mut Rng) -> Option<Block> {
    if is_float(op) {
        return None;
    }
    let mut b = start();
    let (x, y, z) = (get(&mut b, 0), get(&mut b, 1), get(&mut b, 2));
    let imm = (r.next() >> 56) as i64;
    let aux = op as u32;
    let v = match op {
        VecOp::Pmovmskb | VecOp::Movmskps | VecOp::Movmskpd => {
            let v = b.op_imm(Op::Vec1, Type::I32, &[x], 0, aux);
            b.set_reg(Type::I32, 3, v);
            return Some(finish(b));
        }
        VecOp::FromInt => {
            let ty = if imm & 1 == 0 { Type::I32 } else { Type::I64 };
            let i = b.get_reg(ty, 10);
            b.op_imm(Op::Vec1, V, &[i], 0, aux)
        }
        VecOp::Lane => {
            let ty = [Type::I8, Type::I16, Type::I32, Type::I64][imm as usize % 4];
            let lanes = i64::from(128 / ty.bits());
            let v = b.op_imm(Op::Vec1, ty, &[x], imm / 4 % lanes, aux);
            b.set_reg(ty, 3, v);
            return Some(finish(b));
        }
        VecOp::SetLane => {
            let ty = [Type::I8, Type::I16, Type::I32, Type::I64][imm as usize % 4];
            let lanes = i64::from(128 / ty.bits());
            let i = b.get_reg(ty, 3);
            b.op_imm(Op::Vec2, V, &[x, i], imm / 4 % lanes, aux)
        }
        VecOp::Pblendvb => b.op_imm(Op::Vec3, V, &[x, y, z], 0, aux),
        _ if shift(op) && imm & 1 == 0 => b.op_imm(Op::Vec1, V, &[x], imm >> 1, aux),
        _ if shift(op) => {
            let i = b.iconst(Type::I64, imm as u64 >> 1);
            let n = b.op_imm(Op::Vec1, V, &[i], 0, VecOp::FromInt as u32);
            b.op_imm(Op::Vec2, V, &[x, n], 0, aux)
        }
        _ if one_argument(op) => b.op_imm(Op::Vec1, V, &[x], imm, aux),
        _ => b.op_imm(Op::Vec2, V, &[x, y], imm, aux),
    };
    // Operands that live on must not be overwritten.
    let keep = b.vec2(V, VecOp::Paddd, x, y);
    b.op_imm(Op::SetVec, V, &[v], 3, 0);
    let to = if imm & 16 == 0 { Op::SetVec } else { Op::SetVecZero };
    b.op_imm(to, V, &[keep], 2, 0);
    Some(finish(b))
}

#[test]
fn integer_operations() {
    for baseline in [false, true] {
        let mut jit = Jit::new(JitConfig { single_block: true, baseline, ..JitConfig::default() }).unwrap();
        let mut done = 0;
        for &op in VecOp::ALL {
            for seed in 1..60 {
                let Some(b) = block(op, &mut Rng(seed)) else { continue };
                emu_core::ir::verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
                let translated = check(&mut jit, &b, seed).unwrap_or_else(|e| panic!("{e}"));
                // An x86 host without extensions leaves some to the interpreter.
                let all = cfg!(target_arch = "aarch64") || !baseline;
                assert!(translated || !all, "{} is not translated", op.name());
                done += u32::from(translated);
            }
        }
        assert!(done > 3000, "{done}");
    }
}

#[cfg(target_arch = "x86_64")]
/// Runs a block that is `xmm0 = op(xmm0, xmm1)`; gives the low lanes and MXCSR.
fn float(op: VecOp, imm: i64, a: u64, b: u64, mxcsr: u32) -> (u64, u32) {
    use crate::r#gen::cpu;
    use backend_jit::RunExit;
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    let mut blk = start();
    let (x, y) = (get(&mut blk, 0), get(&mut blk, 1));
    let v = blk.op_imm(Op::Fp, V, &[x, y], imm, op as u32);
    blk.op_imm(Op::SetVec, V, &[v], 0, 0);
    let id = jit.compile(&finish(blk)).unwrap();
    let mut c = cpu(&mut Rng(1));
    c.state.mxcsr = mxcsr;
    c.state.vec[0].0[0] = a;
    c.state.vec[1].0[0] = b;
    let high = c.state.vec[0].0[1];
    assert_eq!(jit.run(&mut c, id), RunExit::NeedBlock);
    if op.name().ends_with("sd") || op.name().ends_with("ss") {
        assert_eq!(c.state.vec[0].0[1], high, "the upper lane changed");
    }
    (c.state.vec[0].0[0], c.state.mxcsr)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn doubles() {
    let (a, b) = (1.0f64, 3.0f64);
    let bits = |f: f64| f.to_bits();
    assert_eq!(float(VecOp::Addsd, 0, bits(a), bits(b), 0x1f80), (bits(4.0), 0x1f80));
    assert_eq!(float(VecOp::Subsd, 0, bits(a), bits(b), 0x1f80), (bits(-2.0), 0x1f80));
    assert_eq!(float(VecOp::Mulsd, 0, bits(a), bits(b), 0x1f80), (bits(3.0), 0x1f80));
    // Inexact is sticky, and rounding is the guest's: up gives the next number.
    assert_eq!(float(VecOp::Divsd, 0, bits(a), bits(b), 0x1f80), (bits(a / b), 0x1fa0));
    assert_eq!(float(VecOp::Divsd, 0, bits(a), bits(b), 0x5f80), (bits(a / b) + 1, 0x5fa0));
    assert_eq!(float(VecOp::Sqrtsd, 0, bits(0.0), bits(9.0), 0x1f80), (bits(3.0), 0x1f80));
    assert_eq!(float(VecOp::Maxpd, 0, bits(a), bits(b), 0x1f80).0, bits(b));
    assert_eq!(float(VecOp::Cmpsd, 1, bits(a), bits(b), 0x1f80).0, u64::MAX);
    assert_eq!(float(VecOp::Cvttps2dq, 0, 0, u64::from((-2.5f32).to_bits()), 0x1f80).0 as u32, -2i32 as u32);
    // A zero divide sets its flag even if the guest would trap: such code is not translated, the flags stay.
    assert_eq!(float(VecOp::Divsd, 0, bits(a), bits(0.0), 0x1d80), (bits(f64::INFINITY), 0x1d84));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn conversions_and_comparisons() {
    use crate::r#gen::cpu;
    use backend_jit::RunExit;
    use emu_core::ir::Cc;
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    let mut b = start();
    let x = get(&mut b, 0);
    let i = b.get_reg(Type::I32, 3);
    let d = b.op_imm(Op::Fp, V, &[x, i], 0, VecOp::Cvtsi2sd as u32);
    b.op_imm(Op::SetVec, V, &[d], 1, 0);
    let back = b.op_imm(Op::Fp, Type::I64, &[d, d], 0, VecOp::Cvttsd2si as u32);
    b.set_reg(Type::I64, 2, back);
    let f = b.op_imm(Op::Fp, Type::Flags, &[x, d], 0, VecOp::Ucomisd as u32);
    b.set_flags(f);
    let t = b.test_cc(Cc::A, f);
    b.op_imm(Op::Branch, Type::Void, &[t], 0x40, 0x80);
    let id = jit.compile(&b).unwrap();
    for (x, n, flags, to) in [
        (7.5f64, -3i32, 0u64, 0x5040u64),
        (-7.5, -3, 1, 0x5080),
        (-3.0, -3, 0x40, 0x5080),
        (f64::NAN, -3, 0x45, 0x5080),
    ] {
        let mut c = cpu(&mut Rng(3));
        c.state.vec[0].0[0] = x.to_bits();
        c.state.gpr[3] = n as u32 as u64;
        assert_eq!(jit.run(&mut c, id), RunExit::NeedBlock);
        assert_eq!(f64::from_bits(c.state.vec[1].0[0]), f64::from(n));
        assert_eq!(c.state.gpr[2] as i64, i64::from(n));
        assert_eq!(c.state.rflags & 0x8d5, flags, "{x}");
        assert_eq!(c.state.rip, to, "{x}");
    }
}

#[test]
fn vectors_survive_a_slow_path() {
    // The first load misses the translation cache while a vector is in a host register.
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    let mut b = start();
    let (x, y) = (get(&mut b, 0), get(&mut b, 1));
    let s = b.vec2(V, VecOp::Paddq, x, y);
    let a = b.iconst(Type::I64, 0x0ff8);
    let v = b.op(Op::Load, V, &[a]);
    let s2 = b.vec2(V, VecOp::Pxor, s, v);
    b.op(Op::Store, V, &[a, s2]);
    b.op_imm(Op::SetVec, V, &[s2], 2, 0);
    for seed in 1..20 {
        assert!(check(&mut jit, &finish(b.clone()), seed).unwrap_or_else(|e| panic!("{e}")));
    }
}
