//! SSE to SSE4.1 on XMM registers: moves here, tables of operations in the submodules.

mod fp;
mod int;

use crate::operand::{Addr, Cx, Flow, Gpr, Lift, NotLifted};
use emu_core::ir::{Op, StateField, Type, Value, VecOp};
use emu_core::state::Mode;
use iced_x86::{Mnemonic as M, OpKind, Register};

/// Lifts whatever the other groups do not know.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    if cx.mode.contains(Mode::NO_SSE) {
        return Err(NotLifted);
    }
    for n in 0..cx.i.op_count() {
        if cx.i.op_kind(n) == OpKind::Register && cx.i.op_register(n).is_mm() {
            return Err(NotLifted);
        }
    }
    match cx.i.mnemonic() {
        M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq | M::Movntdqa => {
            full(cx, true)
        }
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => full(cx, false),
        M::Movd | M::Movq => movd(cx),
        M::Movss => scalar(cx, VecOp::Movss, Type::I32),
        M::Movsd => scalar(cx, VecOp::Movsd, Type::I64),
        M::Movlps | M::Movlpd => half(cx, 0),
        M::Movhps | M::Movhpd => half(cx, 1),
        M::Movhlps => {
            let (a, b) = (xmm(cx, 0)?, xmm(cx, 1)?);
            let (a_old, b) = (cx.get_vec(a), cx.get_vec(b));
            let high = cx.vec1(Type::I64, VecOp::Lane, b, 1);
            let v = cx.vec2(VecOp::SetLane, a_old, high, 0);
            cx.set_vec(a, v);
            Ok(Flow::Next)
        }
        M::Stmxcsr => {
            let a = cx.addr(4, true);
            let v = cx.b.get_state(StateField::Mxcsr);
            cx.store(Type::I32, a, v);
            Ok(Flow::Next)
        }
        m => {
            if let Some(flow) = int::lift(cx, m)? {
                return Ok(flow);
            }
            match fp::lift(cx, m) {
                Err(NotLifted) => super::avx::legacy(cx),
                lifted => lifted,
            }
        }
    }
}

/// The number of the XMM register that operand `n` is.
fn xmm(cx: &Cx, n: u32) -> Result<usize, NotLifted> {
    let r = cx.i.op_register(n);
    if cx.i.op_kind(n) == OpKind::Register && r.is_xmm() {
        Ok(r as usize - Register::XMM0 as usize)
    } else {
        Err(NotLifted)
    }
}

/// Reads operand `n`: a register, 16 aligned bytes, or a scalar into the low lane of zeros.
pub(super) fn source(cx: &mut Cx, n: u32) -> Result<Value, NotLifted> {
    if !cx.is_mem(n) {
        let r = xmm(cx, n)?;
        return Ok(cx.get_vec(r));
    }
    let size = cx.i.memory_size().size() as u32;
    if size == 16 {
        let a = aligned(cx, false);
        return Ok(cx.load(Type::V128, a));
    }
    if !matches!(size, 2 | 4 | 8) {
        return Err(NotLifted);
    }
    let a = cx.addr(size, false);
    let mut v = cx.load(Type::int(size), a);
    if size == 2 {
        v = cx.op(Op::ZExt, Type::I32, &[v]);
    }
    Ok(cx.vec1(Type::V128, VecOp::FromInt, v, 0))
}

/// The address of 16 bytes, checked to be aligned.
fn aligned(cx: &mut Cx, write: bool) -> Addr {
    let a = cx.addr(16, write);
    cx.b.op_imm(Op::CheckAlign, Type::Void, &[a.lin], 16, a.aux);
    a
}

fn full(cx: &mut Cx, check: bool) -> Lift {
    if cx.is_mem(0) {
        let r = xmm(cx, 1)?;
        let a = if check { aligned(cx, true) } else { cx.addr(16, true) };
        let v = cx.get_vec(r);
        cx.store(Type::V128, a, v);
    } else {
        let r = xmm(cx, 0)?;
        let v = if cx.is_mem(1) {
            let a = if check { aligned(cx, false) } else { cx.addr(16, false) };
            cx.load(Type::V128, a)
        } else {
            let s = xmm(cx, 1)?;
            cx.get_vec(s)
        };
        cx.set_vec(r, v);
    }
    Ok(Flow::Next)
}

fn movd(cx: &mut Cx) -> Lift {
    if let Ok(r) = xmm(cx, 0) {
        let v = if let Ok(s) = xmm(cx, 1) {
            let v = cx.get_vec(s);
            cx.vec1(Type::V128, VecOp::ZeroHigh, v, 0)
        } else {
            let ty = cx.op_ty(1)?;
            let v = cx.read(1, ty)?;
            cx.vec1(Type::V128, VecOp::FromInt, v, 0)
        };
        cx.set_vec(r, v);
        return Ok(Flow::Next);
    }
    let ty = cx.op_ty(0)?;
    let s = xmm(cx, 1)?;
    let v = cx.get_vec(s);
    let v = cx.vec1(ty, VecOp::Lane, v, 0);
    cx.write(0, ty, v)?;
    Ok(Flow::Next)
}

/// MOVSS and MOVSD.
fn scalar(cx: &mut Cx, op: VecOp, ty: Type) -> Lift {
    if cx.is_mem(0) {
        let s = xmm(cx, 1)?;
        let v = cx.get_vec(s);
        let v = cx.vec1(ty, VecOp::Lane, v, 0);
        let a = cx.addr(ty.bytes(), true);
        cx.store(ty, a, v);
        return Ok(Flow::Next);
    }
    let r = xmm(cx, 0)?;
    let v = source(cx, 1)?;
    let v = if cx.is_mem(1) {
        v
    } else {
        let old = cx.get_vec(r);
        cx.vec2(op, old, v, 0)
    };
    cx.set_vec(r, v);
    Ok(Flow::Next)
}

/// MOVLPx and MOVHPx.
fn half(cx: &mut Cx, lane: i64) -> Lift {
    if cx.is_mem(0) {
        let s = xmm(cx, 1)?;
        let v = cx.get_vec(s);
        let v = cx.vec1(Type::I64, VecOp::Lane, v, lane);
        let a = cx.addr(8, true);
        cx.store(Type::I64, a, v);
        return Ok(Flow::Next);
    }
    if !cx.is_mem(1) {
        return Err(NotLifted);
    }
    let r = xmm(cx, 0)?;
    let a = cx.addr(8, false);
    let v = cx.load(Type::I64, a);
    let old = cx.get_vec(r);
    let v = cx.vec2(VecOp::SetLane, old, v, lane);
    cx.set_vec(r, v);
    Ok(Flow::Next)
}

/// Writes integer `v` of type `ty` to operand 0: memory of that type, or a register, zero-extended.
pub(super) fn write_int(cx: &mut Cx, ty: Type, v: Value) -> Lift {
    if cx.is_mem(0) {
        let a = cx.addr(ty.bytes(), true);
        cx.store(ty, a, v);
    } else {
        let r: Gpr = cx.gpr(0)?;
        let v = cx.resize(v, ty, r.ty);
        cx.set(r, v);
    }
    Ok(Flow::Next)
}
