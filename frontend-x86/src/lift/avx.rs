//! AVX, AVX2, FMA, F16C and VEX-encoded AES and PCLMUL, and what SSE3, SSE4.1, AES and PCLMUL have beyond the tables of
//! `sse`.
//!
//! Most instructions become the operation that their own encoding names (`emu_core::ir::encoded`): which operand is where
//! follows from the decoder's tables. Moves, lanes, and conversions with general registers are ops of their own. Gathers,
//! masked moves, string compares but PCMPISTRI, approximations and VZEROALL are left to the interpreter.

use super::sse::{self, write_int};
use crate::operand::{Addr, Cx, Flow, Lift, NotLifted};
use emu_core::ir::encoded::{Encoded, Needs, Shape};
use emu_core::ir::{Op, StateField, Type, Value, VecOp};
use emu_core::state::{Mode, gpr};
use iced_x86::{
    CpuidFeature as F, EncodingKind, MandatoryPrefix, Mnemonic as M, OpCodeOperandKind as K, OpCodeTableKind,
    OpKind, Register,
};

/// Whether the instruction is encoded with VEX.
pub(super) fn is_vex(cx: &Cx) -> bool {
    cx.i.encoding() == EncodingKind::VEX
}

/// Number and type of a vector register.
fn vector(r: Register) -> Result<(usize, Type), NotLifted> {
    if r.is_xmm() {
        Ok((r as usize - Register::XMM0 as usize, Type::V128))
    } else if r.is_ymm() {
        Ok((r as usize - Register::YMM0 as usize, Type::V256))
    } else {
        Err(NotLifted)
    }
}

fn register(cx: &Cx, n: u32) -> Result<(usize, Type), NotLifted> {
    if cx.i.op_kind(n) == OpKind::Register { vector(cx.i.op_register(n)) } else { Err(NotLifted) }
}

fn get(cx: &mut Cx, (n, ty): (usize, Type)) -> Value {
    cx.b.op_imm(Op::GetVec, ty, &[], n as i64, 0)
}

fn read(cx: &mut Cx, n: u32) -> Result<Value, NotLifted> {
    let r = register(cx, n)?;
    Ok(get(cx, r))
}

/// Writes a register and clears it above `ty`.
fn set(cx: &mut Cx, (n, _): (usize, Type), ty: Type, v: Value) {
    cx.b.op_imm(Op::SetVecZero, ty, &[v], n as i64, 0);
}

/// The address of a vector operand, checked to be aligned if the instruction demands it.
fn address(cx: &mut Cx, ty: Type, aligned: bool, write: bool) -> Addr {
    let a = cx.addr(ty.bytes(), write);
    if aligned {
        cx.b.op_imm(Op::CheckAlign, Type::Void, &[a.lin], ty.bytes().into(), a.aux);
    }
    a
}

/// A source operand: a register, a vector in memory, or a scalar in the low lane of zeros.
fn source(cx: &mut Cx, n: u32, aligned: bool) -> Result<Value, NotLifted> {
    if !cx.is_mem(n) {
        return read(cx, n);
    }
    let size = cx.i.memory_size().size() as u32;
    let ty = match size {
        32 => Type::V256,
        16 => Type::V128,
        1 | 2 | 4 | 8 => {
            let a = cx.addr(size, false);
            let mut v = cx.load(Type::int(size), a);
            if size < 4 {
                v = cx.op(Op::ZExt, Type::I32, &[v]);
            }
            return Ok(cx.vec1(Type::V128, VecOp::FromInt, v, 0));
        }
        _ => return Err(NotLifted),
    };
    let a = address(cx, ty, aligned, false);
    Ok(cx.load(ty, a))
}

/// Lifts an instruction with VEX.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    if cx.mode.contains(Mode::NO_AVX) {
        return Err(NotLifted);
    }
    match cx.i.mnemonic() {
        M::Vmovaps | M::Vmovapd | M::Vmovdqa | M::Vmovntps | M::Vmovntpd | M::Vmovntdq | M::Vmovntdqa => {
            full(cx, true)
        }
        M::Vmovups | M::Vmovupd | M::Vmovdqu | M::Vlddqu => full(cx, false),
        M::Vmovss => scalar(cx, VecOp::Movss, Type::I32),
        M::Vmovsd => scalar(cx, VecOp::Movsd, Type::I64),
        M::Vmovd | M::Vmovq => movd(cx),
        M::Vmovlps | M::Vmovlpd => half(cx, 0),
        M::Vmovhps | M::Vmovhpd => half(cx, 1),
        M::Vpextrb => extract(cx, Type::I8),
        M::Vpextrw => extract(cx, Type::I16),
        M::Vpextrd | M::Vextractps => extract(cx, Type::I32),
        M::Vpextrq => extract(cx, Type::I64),
        M::Vpinsrb => insert(cx, Type::I8),
        M::Vpinsrw => insert(cx, Type::I16),
        M::Vpinsrd => insert(cx, Type::I32),
        M::Vpinsrq => insert(cx, Type::I64),
        M::Vcvtsi2ss => from_int(cx, VecOp::Cvtsi2ss),
        M::Vcvtsi2sd => from_int(cx, VecOp::Cvtsi2sd),
        M::Vbroadcastf128 => twice(cx, 0x18),
        M::Vbroadcasti128 => twice(cx, 0x38),
        M::Vzeroupper => {
            let count = if cx.mode.contains(Mode::CODE64) { 16 } else { 8 };
            cx.b.op_imm(Op::ZeroUpper, Type::Void, &[], count, 0);
            Ok(Flow::Next)
        }
        M::Vstmxcsr => {
            let a = cx.addr(4, true);
            let v = cx.b.get_state(StateField::Mxcsr);
            cx.store(Type::I32, a, v);
            Ok(Flow::Next)
        }
        M::Vmaskmovps
        | M::Vmaskmovpd
        | M::Vpmaskmovd
        | M::Vpmaskmovq
        | M::Vmaskmovdqu
        | M::Vldmxcsr
        | M::Vzeroall
        | M::Vrcpps
        | M::Vrcpss
        | M::Vrsqrtps
        | M::Vrsqrtss
        | M::Vpcmpestri
        | M::Vpcmpestri64
        | M::Vpcmpestrm64
        | M::Vpcmpestrm
        | M::Vpcmpistrm => Err(NotLifted),
        M::Vpcmpistri => string_index(cx),
        _ => encoded(cx),
    }
}

fn full(cx: &mut Cx, aligned: bool) -> Lift {
    if cx.is_mem(0) {
        let r = register(cx, 1)?;
        let a = address(cx, r.1, aligned, true);
        let v = get(cx, r);
        cx.store(r.1, a, v);
    } else {
        let r = register(cx, 0)?;
        let v = source(cx, 1, aligned)?;
        set(cx, r, r.1, v);
    }
    Ok(Flow::Next)
}

/// VMOVSS and VMOVSD.
fn scalar(cx: &mut Cx, op: VecOp, ty: Type) -> Lift {
    if cx.is_mem(0) {
        let v = read(cx, 1)?;
        let v = cx.vec1(ty, VecOp::Lane, v, 0);
        let a = cx.addr(ty.bytes(), true);
        cx.store(ty, a, v);
        return Ok(Flow::Next);
    }
    let r = register(cx, 0)?;
    let v = if cx.i.op_count() == 2 {
        source(cx, 1, false)?
    } else {
        let (a, b) = (read(cx, 1)?, read(cx, 2)?);
        cx.vec2(op, a, b, 0)
    };
    set(cx, r, Type::V128, v);
    Ok(Flow::Next)
}

fn movd(cx: &mut Cx) -> Lift {
    if let Ok(r) = register(cx, 0) {
        let v = if cx.is_mem(1) {
            source(cx, 1, false)?
        } else if let Ok(s) = register(cx, 1) {
            let v = get(cx, s);
            cx.vec1(Type::V128, VecOp::ZeroHigh, v, 0)
        } else {
            let ty = cx.op_ty(1)?;
            let v = cx.read(1, ty)?;
            cx.vec1(Type::V128, VecOp::FromInt, v, 0)
        };
        set(cx, r, Type::V128, v);
        return Ok(Flow::Next);
    }
    let ty = cx.op_ty(0)?;
    let v = read(cx, 1)?;
    let v = cx.vec1(ty, VecOp::Lane, v, 0);
    cx.write(0, ty, v)?;
    Ok(Flow::Next)
}

/// VMOVLPx and VMOVHPx.
fn half(cx: &mut Cx, lane: i64) -> Lift {
    if cx.is_mem(0) {
        let v = read(cx, 1)?;
        let v = cx.vec1(Type::I64, VecOp::Lane, v, lane);
        let a = cx.addr(8, true);
        cx.store(Type::I64, a, v);
        return Ok(Flow::Next);
    }
    let r = register(cx, 0)?;
    let a = cx.addr(8, false);
    let v = cx.load(Type::I64, a);
    let old = read(cx, 1)?;
    let v = cx.vec2(VecOp::SetLane, old, v, lane);
    set(cx, r, Type::V128, v);
    Ok(Flow::Next)
}

fn extract(cx: &mut Cx, ty: Type) -> Lift {
    let n = i64::from(cx.i.immediate8()) & i64::from(128 / ty.bits() - 1);
    let v = read(cx, 1)?;
    let v = cx.vec1(ty, VecOp::Lane, v, n);
    write_int(cx, ty, v)
}

fn insert(cx: &mut Cx, ty: Type) -> Lift {
    let r = register(cx, 0)?;
    let n = i64::from(cx.i.immediate8()) & i64::from(128 / ty.bits() - 1);
    let v = if cx.is_mem(2) {
        let a = cx.addr(ty.bytes(), false);
        cx.load(ty, a)
    } else {
        let g = cx.gpr(2)?;
        cx.get(crate::operand::Gpr { ty, ..g })
    };
    let old = read(cx, 1)?;
    let v = cx.vec2(VecOp::SetLane, old, v, n);
    set(cx, r, Type::V128, v);
    Ok(Flow::Next)
}

fn from_int(cx: &mut Cx, op: VecOp) -> Lift {
    if cx.mode.contains(Mode::FP_UNMASKED) {
        return Err(NotLifted);
    }
    let r = register(cx, 0)?;
    let ty = cx.op_ty(2)?;
    let b = cx.read(2, ty)?;
    let a = read(cx, 1)?;
    let v = cx.b.op_imm(Op::Fp, Type::V128, &[a, b], 0, op as u32);
    set(cx, r, Type::V128, v);
    Ok(Flow::Next)
}

/// VBROADCASTF128 and -I128, as the insertion of what is loaded above itself.
fn twice(cx: &mut Cx, opcode: u8) -> Lift {
    let r = register(cx, 0)?;
    let v = source(cx, 1, false)?;
    let (map, shape) = (3, Shape::VRm);
    let needs = if opcode == 0x18 { Needs::Avx } else { Needs::Avx2 };
    let e = Encoded { prefix: 0x66, map, opcode, w: false, l: true, digit: 0, imm: true, shape, needs };
    let v = cx.b.op_imm(Op::Vec2, Type::V256, &[v, v], 1, e.aux());
    set(cx, r, Type::V256, v);
    Ok(Flow::Next)
}

/// Whether an operation computes under MXCSR.
fn floating(m: M) -> bool {
    let name = format!("{m:?}");
    let base = name.strip_prefix('V').unwrap_or(&name).to_ascii_lowercase();
    let real = ["ps", "pd", "ss", "sd"].iter().any(|end| base.ends_with(end));
    base.starts_with("cvt")
        || real
            && [
                "add", "sub", "mul", "div", "min", "max", "sqrt", "cmp", "round", "dp", "hadd", "hsub",
                "comi", "ucomi", "fm", "fnm",
            ]
            .iter()
            .any(|start| base.starts_with(start))
}

/// What the host must have.
fn needs(cx: &Cx) -> Result<Needs, NotLifted> {
    let mut n = Needs::Avx;
    for f in cx.i.cpuid_features() {
        n = match f {
            F::AVX | F::SSE | F::SSE2 | F::SSE3 | F::SSSE3 | F::SSE4_1 | F::SSE4_2 => continue,
            F::AVX2 => Needs::Avx2,
            F::FMA => Needs::Fma,
            F::F16C => Needs::F16c,
            F::AES => Needs::Aes,
            F::PCLMULQDQ => Needs::Pclmul,
            F::VAES => Needs::Vaes,
            F::VPCLMULQDQ => Needs::Vpclmul,
            _ => return Err(NotLifted),
        };
    }
    Ok(n)
}

/// The encoding, with its shape and 256-bit flag still to be set.
fn encoding(cx: &Cx, shape: Shape) -> Result<Encoded, NotLifted> {
    let info = cx.i.op_code();
    let prefix = match info.mandatory_prefix() {
        MandatoryPrefix::None | MandatoryPrefix::PNP => 0,
        MandatoryPrefix::P66 => 0x66,
        MandatoryPrefix::PF3 => 0xf3,
        MandatoryPrefix::PF2 => 0xf2,
    };
    let map = match info.table() {
        OpCodeTableKind::T0F => 1,
        OpCodeTableKind::T0F38 => 2,
        OpCodeTableKind::T0F3A => 3,
        _ => return Err(NotLifted),
    };
    let opcode = u8::try_from(info.op_code()).map_err(|_| NotLifted)?;
    let digit = info.group_index().clamp(0, 7) as u8;
    let (w, l) = (info.w() == 1, info.l() == 1);
    let last = cx.i.op_count().wrapping_sub(1);
    let imm = cx.i.op_kind(last) == OpKind::Immediate8;
    Ok(Encoded { prefix, map, opcode, w, l, digit, imm, shape, needs: needs(cx)? })
}

/// The immediate, or 0. INSERTPS from memory takes no lane of its source.
fn immediate(cx: &Cx) -> i64 {
    let last = cx.i.op_count() - 1;
    if cx.i.op_kind(last) != OpKind::Immediate8 {
        return 0;
    }
    let narrow = matches!(cx.i.mnemonic(), M::Insertps | M::Vinsertps) && cx.is_mem(last - 1);
    i64::from(cx.i.immediate8() & if narrow { 0x3f } else { 0xff })
}

/// Whether the operand is the encoding's r/m field with a vector in it.
fn is_rm(k: K) -> bool {
    matches!(k, K::xmm_or_mem | K::ymm_or_mem | K::xmm_rm | K::ymm_rm | K::mem)
}

fn is_reg(k: K) -> bool {
    matches!(k, K::xmm_reg | K::ymm_reg)
}

fn is_vvvv(k: K) -> bool {
    matches!(k, K::xmm_vvvv | K::ymm_vvvv)
}

/// An instruction that is what its encoding says.
fn encoded(cx: &mut Cx) -> Lift {
    let m = cx.i.mnemonic();
    let info = cx.i.op_code();
    let fp = floating(m);
    if fp && cx.mode.contains(Mode::FP_UNMASKED) {
        return Err(NotLifted);
    }
    let kinds: Vec<K> = (0..info.op_count()).map(|n| info.op_kind(n)).filter(|k| *k != K::imm8).collect();
    let imm = immediate(cx);
    let op = |n: usize| if fp { Op::Fp } else { [Op::Vec1, Op::Vec2, Op::Vec3][n - 1] };
    match kinds[..] {
        [r, s] if is_reg(r) && is_rm(s) && flags(m) => {
            let e = encoding(cx, Shape::Flags)?;
            let b = source(cx, 1, false)?;
            let a = read(cx, 0)?;
            let f = cx.b.op_imm(op(2), Type::Flags, &[a, b], imm, e.aux());
            cx.b.set_flags(f);
        }
        [r, s] if is_reg(r) && is_rm(s) => {
            let (d, e) = (register(cx, 0)?, encoding(cx, Shape::Rm)?);
            let a = source(cx, 1, false)?;
            let v = cx.b.op_imm(op(1), d.1, &[a], imm, e.aux());
            set(cx, d, d.1, v);
        }
        [r, v, s] if is_reg(r) && is_vvvv(v) && is_rm(s) => {
            let d = register(cx, 0)?;
            let fused = cx.i.cpuid_features().contains(&F::FMA);
            let e = encoding(cx, if fused { Shape::DVRm } else { Shape::VRm })?;
            let c = source(cx, 2, false)?;
            let b = read(cx, 1)?;
            let v = if fused {
                let a = get(cx, d);
                cx.b.op_imm(op(3), d.1, &[a, b, c], imm, e.aux())
            } else {
                cx.b.op_imm(op(2), d.1, &[b, c], imm, e.aux())
            };
            set(cx, d, d.1, v);
        }
        [r, v, s, K::xmm_is4 | K::ymm_is4] if is_reg(r) && is_vvvv(v) && is_rm(s) => {
            let d = register(cx, 0)?;
            let e = Encoded { imm: false, ..encoding(cx, Shape::VRmI)? };
            let b = source(cx, 2, false)?;
            let (a, c) = (read(cx, 1)?, read(cx, 3)?);
            let v = cx.b.op_imm(op(3), d.1, &[a, b, c], 0, e.aux());
            set(cx, d, d.1, v);
        }
        [v, s] if is_vvvv(v) && is_rm(s) => {
            let (d, e) = (register(cx, 0)?, encoding(cx, Shape::Group)?);
            let a = read(cx, 1)?;
            let v = cx.b.op_imm(op(1), d.1, &[a], imm, e.aux());
            set(cx, d, d.1, v);
        }
        [s, r] if is_rm(s) && is_reg(r) => {
            let e = encoding(cx, Shape::Store)?;
            let a = read(cx, 1)?;
            let v = cx.b.op_imm(op(1), Type::V128, &[a], imm, e.aux());
            if !cx.is_mem(0) {
                let d = register(cx, 0)?;
                set(cx, d, Type::V128, v);
                return Ok(Flow::Next);
            }
            let size = cx.i.memory_size().size() as u32;
            if size == 16 {
                let a = cx.addr(16, true);
                cx.store(Type::V128, a, v);
            } else if size == 8 {
                let v = cx.vec1(Type::I64, VecOp::Lane, v, 0);
                let a = cx.addr(8, true);
                cx.store(Type::I64, a, v);
            } else {
                return Err(NotLifted);
            }
            // An `Fp` has set flags before a store that may fault.
            if fp {
                return Err(NotLifted);
            }
        }
        [K::r32_reg | K::r64_reg, s] if is_rm(s) => {
            let ty = cx.gpr(0)?.ty;
            let e = encoding(cx, Shape::ToInt)?;
            let a = source(cx, 1, false)?;
            let v = cx.b.op_imm(op(1), ty, &[a], imm, e.aux());
            write_int(cx, ty, v)?;
        }
        _ => return Err(NotLifted),
    }
    Ok(Flow::Next)
}

/// Whether the result is flags.
fn flags(m: M) -> bool {
    matches!(
        m,
        M::Vptest | M::Vtestps | M::Vtestpd | M::Vcomiss | M::Vcomisd | M::Vucomiss | M::Vucomisd | M::Ptest
    )
}

/// PCMPISTRI: an index and flags of the same comparison. Its operand in memory may lie anywhere.
fn string_index(cx: &mut Cx) -> Lift {
    let b = source(cx, 1, false)?;
    let a = read(cx, 0)?;
    let imm = immediate(cx);
    let index = encoding(cx, Shape::Index)?;
    let i = cx.b.op_imm(Op::Vec2, Type::I32, &[a, b], imm, index.aux());
    let f = cx.b.op_imm(Op::Vec2, Type::Flags, &[a, b], imm, Encoded { shape: Shape::Flags, ..index }.aux());
    cx.b.set_reg(Type::I32, gpr::RCX, i);
    cx.b.set_flags(f);
    Ok(Flow::Next)
}

/// Legacy encodings that the tables of `sse` do not have: as the VEX operation of the same opcode.
pub(super) fn legacy(cx: &mut Cx) -> Lift {
    let m = cx.i.mnemonic();
    if m == M::Pcmpistri {
        return string_index(cx);
    }
    let unary = match m {
        M::Roundps | M::Roundpd | M::Aesimc | M::Aeskeygenassist | M::Phminposuw => true,
        M::Blendps
        | M::Blendpd
        | M::Dpps
        | M::Dppd
        | M::Mpsadbw
        | M::Insertps
        | M::Roundss
        | M::Roundsd
        | M::Haddps
        | M::Haddpd
        | M::Hsubps
        | M::Hsubpd
        | M::Addsubps
        | M::Addsubpd
        | M::Aesenc
        | M::Aesenclast
        | M::Aesdec
        | M::Aesdeclast
        | M::Pclmulqdq => false,
        _ => return Err(NotLifted),
    };
    let fp = floating(m);
    if fp && cx.mode.contains(Mode::FP_UNMASKED) {
        return Err(NotLifted);
    }
    let (d, e) = (register(cx, 0)?, encoding(cx, if unary { Shape::Rm } else { Shape::VRm })?);
    let imm = immediate(cx);
    let b = sse::source(cx, 1)?;
    let v = if unary {
        cx.b.op_imm(if fp { Op::Fp } else { Op::Vec1 }, Type::V128, &[b], imm, e.aux())
    } else {
        let a = get(cx, d);
        cx.b.op_imm(if fp { Op::Fp } else { Op::Vec2 }, Type::V128, &[a, b], imm, e.aux())
    };
    cx.set_vec(d.0, v);
    Ok(Flow::Next)
}
