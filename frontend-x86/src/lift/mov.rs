//! Moves, conversions and exchanges without flags.

use super::system;
use crate::cond;
use crate::operand::{Cx, Flow, Gpr, Lift, NotLifted};
use emu_core::ir::{Op, StateField, Type};
use emu_core::state::gpr;
use iced_x86::{Mnemonic as M, OpKind, Register};

/// MOV and its relatives.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    match cx.i.mnemonic() {
        M::Mov => return mov(cx),
        M::Movnti => {
            let ty = cx.op_ty(1)?;
            let v = cx.read(1, ty)?;
            cx.write(0, ty, v)?;
        }
        M::Movzx | M::Movsx | M::Movsxd => {
            let (to, from) = (cx.op_ty(0)?, cx.op_ty(1)?);
            let v = cx.read(1, from)?;
            let v = if from == to {
                v
            } else {
                cx.op(if cx.i.mnemonic() == M::Movzx { Op::ZExt } else { Op::SExt }, to, &[v])
            };
            cx.write(0, to, v)?;
        }
        M::Lea => {
            let r = cx.gpr(0)?;
            let off = cx.offset(0, None);
            let v = cx.resize(off, Type::I64, r.ty);
            cx.set(r, v);
        }
        M::Xchg => return xchg(cx),
        M::Bswap => {
            let r = cx.gpr(0)?;
            if r.ty == Type::I16 {
                return Err(NotLifted);
            }
            let v = cx.get(r);
            let v = cx.op(Op::Bswap, r.ty, &[v]);
            cx.set(r, v);
        }
        M::Movbe => {
            let ty = if cx.is_mem(0) { cx.op_ty(1)? } else { cx.op_ty(0)? };
            let v = cx.read(1, ty)?;
            let v = cx.op(Op::Bswap, ty, &[v]);
            cx.write(0, ty, v)?;
        }
        M::Cbw => extend(cx, Type::I8, Type::I16),
        M::Cwde => extend(cx, Type::I16, Type::I32),
        M::Cdqe => extend(cx, Type::I32, Type::I64),
        M::Cwd => spread(cx, Type::I16),
        M::Cdq => spread(cx, Type::I32),
        _ => spread(cx, Type::I64),
    }
    Ok(Flow::Next)
}

fn extend(cx: &mut Cx, from: Type, to: Type) {
    let v = cx.b.get_reg(from, gpr::RAX);
    let v = cx.op(Op::SExt, to, &[v]);
    cx.b.set_reg(to, gpr::RAX, v);
}

fn spread(cx: &mut Cx, ty: Type) {
    let v = cx.b.get_reg(ty, gpr::RAX);
    let v = cx.sar(ty, v, ty.bits() - 1);
    cx.b.set_reg(ty, gpr::RDX, v);
}

fn mov(cx: &mut Cx) -> Lift {
    if cx.i.op_kind(1) == OpKind::Register {
        let src = cx.i.op_register(1);
        if src.is_segment_register() {
            return from_segment(cx, src);
        }
        if src.is_cr() {
            return system::from_control(cx, src);
        }
    }
    // Loads of segment registers and moves to control registers fail here.
    let ty = cx.op_ty(0)?;
    let v = cx.read(1, ty)?;
    cx.write(0, ty, v)?;
    Ok(Flow::Next)
}

fn from_segment(cx: &mut Cx, src: Register) -> Lift {
    use StateField::*;
    let field = match src {
        Register::ES => EsSel,
        Register::CS => CsSel,
        Register::SS => SsSel,
        Register::DS => DsSel,
        Register::FS => FsSel,
        _ => GsSel,
    };
    let v = cx.b.get_state(field);
    if cx.is_mem(0) {
        let a = cx.addr(2, true);
        cx.store(Type::I16, a, v);
    } else {
        let r = cx.gpr(0)?;
        let v = cx.resize(v, Type::I16, r.ty);
        cx.set(r, v);
    }
    Ok(Flow::Next)
}

fn xchg(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    if cx.is_mem(0) || cx.is_mem(1) {
        let (m, r) = if cx.is_mem(0) { (0, 1) } else { (1, 0) };
        debug_assert!(cx.is_mem(m));
        let r = cx.gpr(r)?;
        let v = cx.get(r);
        if !cx.locks() {
            let (old, place) = cx.modify(m, ty)?;
            cx.write_back(place, ty, v);
            cx.set(r, old);
            return Ok(Flow::Next);
        }
        let a = cx.addr(ty.bytes(), true);
        let old = cx.atomic(Op::AtomicXchg, ty, a, &[v]);
        cx.set(r, old);
        return Ok(Flow::Next);
    }
    let (x, y): (Gpr, Gpr) = (cx.gpr(0)?, cx.gpr(1)?);
    let a = cx.get(x);
    let b = cx.get(y);
    cx.set(x, b);
    cx.set(y, a);
    Ok(Flow::Next)
}

/// CMOVcc. The source is read whatever the condition, and a 32-bit destination is zero-extended either way.
pub(super) fn cmov(cx: &mut Cx) -> Lift {
    let r = cx.gpr(0)?;
    let cc = cond::of(cx.i)?;
    let v = cx.read(1, r.ty)?;
    let old = cx.get(r);
    let c = cx.guest_cc(cc);
    let v = cx.op(Op::Select, r.ty, &[c, v, old]);
    cx.set(r, v);
    Ok(Flow::Next)
}

/// SETcc.
pub(super) fn setcc(cx: &mut Cx) -> Lift {
    let cc = cond::of(cx.i)?;
    let c = cx.guest_cc(cc);
    let v = cx.op(Op::ZExt, Type::I8, &[c]);
    cx.write(0, Type::I8, v)?;
    Ok(Flow::Next)
}
