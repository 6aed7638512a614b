//! Binary and unary arithmetic and logic, XADD and CMPXCHG.

use crate::operand::{Cx, Flow, Lift, NotLifted, Place, STATUS};
use emu_core::ir::{Op, Type};
use emu_core::state::bits::rflags;
use emu_core::state::gpr;
use iced_x86::{Mnemonic as M, OpKind};

/// ADD, SUB, ADC, SBB, AND, OR, XOR, CMP, TEST.
pub(super) fn binary(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let m = cx.i.mnemonic();
    if matches!(m, M::Cmp | M::Test) {
        let a = cx.read(0, ty)?;
        let b = cx.read(1, ty)?;
        let v = cx.op(if m == M::Cmp { Op::Sub } else { Op::And }, ty, &[a, b]);
        cx.set_flags_of(v);
        return Ok(Flow::Next);
    }
    if cx.locks() {
        return locked(cx, ty);
    }
    let same = cx.i.op_kind(1) == OpKind::Register
        && cx.i.op_kind(0) == OpKind::Register
        && cx.i.op_register(0) == cx.i.op_register(1);
    if same && matches!(m, M::Xor | M::Sub) {
        let zero = cx.konst(ty, 0);
        let v = cx.op(if m == M::Xor { Op::Xor } else { Op::Sub }, ty, &[zero, zero]);
        cx.write(0, ty, zero)?;
        cx.set_flags_of(v);
        return Ok(Flow::Next);
    }
    let b = cx.read(1, ty)?;
    let (a, place) = cx.modify(0, ty)?;
    let v = match m {
        M::Adc | M::Sbb => {
            let carry = cx.b.get_flags();
            cx.op(if m == M::Adc { Op::Adc } else { Op::Sbb }, ty, &[a, b, carry])
        }
        _ => cx.op(plain(m)?, ty, &[a, b]),
    };
    cx.write_back(place, ty, v);
    cx.set_flags_of(v);
    Ok(Flow::Next)
}

fn plain(m: M) -> Result<Op, NotLifted> {
    Ok(match m {
        M::Add => Op::Add,
        M::Sub => Op::Sub,
        M::And => Op::And,
        M::Or => Op::Or,
        M::Xor => Op::Xor,
        _ => return Err(NotLifted),
    })
}

/// The forms with LOCK: one atomic op, and the flags from the old value.
fn locked(cx: &mut Cx, ty: Type) -> Lift {
    let op = plain(cx.i.mnemonic())?;
    let b = cx.read(1, ty)?;
    let addr = cx.addr(ty.bytes(), true);
    let (atomic, arg) = match op {
        Op::Add => (Op::AtomicAdd, b),
        Op::Sub => (Op::AtomicAdd, cx.op(Op::Neg, ty, &[b])),
        Op::And => (Op::AtomicAnd, b),
        Op::Or => (Op::AtomicOr, b),
        _ => (Op::AtomicXor, b),
    };
    let old = cx.atomic(atomic, ty, addr, &[arg]);
    let v = cx.op(op, ty, &[old, b]);
    cx.set_flags_of(v);
    Ok(Flow::Next)
}

/// INC, DEC, NEG, NOT.
pub(super) fn unary(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let m = cx.i.mnemonic();
    let old;
    let v;
    if cx.locks() {
        if m == M::Neg {
            return Err(NotLifted);
        }
        let addr = cx.addr(ty.bytes(), true);
        let all = cx.konst(ty, u64::MAX);
        let one = cx.konst(ty, 1);
        old = match m {
            M::Inc => cx.atomic(Op::AtomicAdd, ty, addr, &[one]),
            M::Dec => cx.atomic(Op::AtomicAdd, ty, addr, &[all]),
            _ => cx.atomic(Op::AtomicXor, ty, addr, &[all]),
        };
        v = apply(cx, m, ty, old);
    } else {
        let place;
        (old, place) = cx.modify(0, ty)?;
        v = apply(cx, m, ty, old);
        cx.write_back(place, ty, v);
    }
    match m {
        M::Not => {}
        M::Neg => cx.set_flags_of(v),
        _ => {
            let f = cx.b.flags_of(v);
            let keep = cx.b.get_flags();
            let f = cx.merge(STATUS & !(rflags::CF as i64), f, keep);
            cx.b.set_flags(f);
        }
    }
    Ok(Flow::Next)
}

fn apply(cx: &mut Cx, m: M, ty: Type, a: emu_core::ir::Value) -> emu_core::ir::Value {
    match m {
        M::Not => cx.op(Op::Not, ty, &[a]),
        M::Neg => cx.op(Op::Neg, ty, &[a]),
        _ => {
            let one = cx.konst(ty, 1);
            cx.op(if m == M::Inc { Op::Add } else { Op::Sub }, ty, &[a, one])
        }
    }
}

/// XADD and CMPXCHG.
pub(super) fn exchange(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let src_reg = cx.gpr(1)?;
    let src = cx.get(src_reg);
    let locked = cx.locks();
    if cx.i.mnemonic() == M::Xadd {
        let v;
        if locked {
            let addr = cx.addr(ty.bytes(), true);
            let old = cx.atomic(Op::AtomicAdd, ty, addr, &[src]);
            v = cx.op(Op::Add, ty, &[old, src]);
            cx.set(src_reg, old);
        } else {
            let (old, place) = cx.modify(0, ty)?;
            v = cx.op(Op::Add, ty, &[old, src]);
            if let Place::Mem(_) = place {
                cx.write_back(place, ty, v);
                cx.set(src_reg, old);
            } else {
                cx.set(src_reg, old);
                cx.write_back(place, ty, v);
            }
        }
        cx.set_flags_of(v);
        return Ok(Flow::Next);
    }
    cmpxchg(cx, ty, src, locked)
}

/// CMPXCHG. On a mismatch the accumulator takes the old value; on a match it is not written at all, nor is a register
/// destination on a mismatch, which shows in the upper halves of 64-bit registers.
fn cmpxchg(cx: &mut Cx, ty: Type, src: emu_core::ir::Value, locked: bool) -> Lift {
    let acc = cx.b.get_reg(ty, gpr::RAX);
    let wide = if ty == Type::I32 { Type::I64 } else { ty };
    let acc_wide = cx.b.get_reg(wide, gpr::RAX);
    let (old, eq, cmp);
    if locked {
        let addr = cx.addr(ty.bytes(), true);
        old = cx.atomic(Op::AtomicCas, ty, addr, &[acc, src]);
        cmp = cx.op(Op::Sub, ty, &[acc, old]);
        eq = cx.op(Op::CmpEq, Type::Bool, &[acc, old]);
    } else {
        let place;
        (old, place) = cx.modify(0, ty)?;
        cmp = cx.op(Op::Sub, ty, &[acc, old]);
        eq = cx.op(Op::CmpEq, Type::Bool, &[acc, old]);
        match place {
            Place::Mem(_) => {
                let v = cx.op(Op::Select, ty, &[eq, src, old]);
                cx.write_back(place, ty, v);
            }
            Place::Reg(r) => {
                let old_wide = cx.resize(old, ty, wide);
                let fail = cx.op(Op::Select, wide, &[eq, acc_wide, old_wide]);
                let src_wide = cx.resize(src, ty, wide);
                let r_wide = crate::operand::Gpr { ty: wide, ..r };
                let kept = cx.get(r_wide);
                let v = cx.op(Op::Select, wide, &[eq, src_wide, kept]);
                cx.b.set_reg(wide, gpr::RAX, fail);
                // With RAX itself as destination the comparison always matches, so the order does not matter.
                cx.set(r_wide, v);
                cx.set_flags_of(cmp);
                return Ok(Flow::Next);
            }
        }
    }
    let old_wide = cx.resize(old, ty, wide);
    let v = cx.op(Op::Select, wide, &[eq, acc_wide, old_wide]);
    cx.b.set_reg(wide, gpr::RAX, v);
    cx.set_flags_of(cmp);
    Ok(Flow::Next)
}
