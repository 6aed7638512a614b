//! Multiplication and division.

use crate::operand::{Cx, Flow, Gpr, Lift};
use emu_core::ir::{Op, Type};
use emu_core::state::gpr;
use iced_x86::Mnemonic as M;

/// MUL, IMUL, DIV, IDIV.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let m = cx.i.mnemonic();
    if m == M::Imul && cx.i.op_count() > 1 {
        let first = if cx.i.op_count() == 3 { 1 } else { 0 };
        let a = cx.read(first, ty)?;
        let b = cx.read(first + 1, ty)?;
        let v = cx.op(Op::Mul, ty, &[a, b]);
        cx.write(0, ty, v)?;
        cx.set_flags_of(v);
        return Ok(Flow::Next);
    }
    let src = cx.read(0, ty)?;
    let low = Gpr { num: gpr::RAX, ty, high: false };
    let high = match ty {
        Type::I8 => Gpr { num: gpr::RAX, ty, high: true },
        _ => Gpr { num: gpr::RDX, ty, high: false },
    };
    let a = cx.get(low);
    if matches!(m, M::Mul | M::Imul) {
        let lo = cx.op(Op::Mul, ty, &[a, src]);
        let hi = cx.op(if m == M::Mul { Op::MulHiU } else { Op::MulHiS }, ty, &[a, src]);
        cx.set(low, lo);
        cx.set(high, hi);
        cx.set_flags_of(hi);
        return Ok(Flow::Next);
    }
    let (div, rem) = if m == M::Div { (Op::DivU, Op::RemU) } else { (Op::DivS, Op::RemS) };
    let h = cx.get(high);
    let q = cx.op(div, ty, &[h, a, src]);
    let r = cx.op(rem, ty, &[h, a, src]);
    cx.set(low, q);
    cx.set(high, r);
    Ok(Flow::Next)
}
