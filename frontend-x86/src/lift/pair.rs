//! CMPXCHG8B and CMPXCHG16B (SDM vol. 2A).

use super::Lift;
use crate::operand::{Addr, Cx, Flow, NotLifted};
use emu_core::ir::{Op, Type, Value};
use emu_core::state::bits::rflags::ZF;
use emu_core::state::gpr;
use iced_x86::Mnemonic as M;

/// Without LOCK: a read and a write of the pair, whatever the comparison says, as the processor does it.
pub(super) fn compare_exchange(cx: &mut Cx) -> Lift {
    if cx.locks() {
        return Err(NotLifted);
    }
    if cx.i.mnemonic() == M::Cmpxchg8b { eight(cx) } else { sixteen(cx) }
}

fn eight(cx: &mut Cx) -> Lift {
    let at = cx.addr(8, true);
    let old = cx.b.op_imm(Op::LoadW, Type::I64, &[at.lin], 0, at.aux);
    let (want, new) = (pair(cx, gpr::RDX, gpr::RAX), pair(cx, gpr::RCX, gpr::RBX));
    let differ = cx.op(Op::Xor, Type::I64, &[old, want]);
    let zero = cx.konst(Type::I64, 0);
    let equal = cx.op(Op::CmpEq, Type::Bool, &[differ, zero]);
    let v = cx.op(Op::Select, Type::I64, &[equal, new, old]);
    cx.op(Op::StoreW, Type::I64, &[old, v]);
    let n = cx.konst(Type::I8, 32);
    let high = cx.op(Op::Shr, Type::I64, &[old, n]);
    let low = cx.resize(old, Type::I64, Type::I32);
    let low = cx.resize(low, Type::I32, Type::I64);
    // On a match they are not written at all, which shows in their upper halves.
    keep_or_take(cx, equal, gpr::RAX, low);
    keep_or_take(cx, equal, gpr::RDX, high);
    zero_flag(cx, differ);
    Ok(Flow::Next)
}

/// Two registers' lower halves as one value.
fn pair(cx: &mut Cx, high: usize, low: usize) -> Value {
    let h = cx.b.get_reg(Type::I64, high);
    let l = cx.b.get_reg(Type::I32, low);
    let n = cx.konst(Type::I8, 32);
    let h = cx.op(Op::Shl, Type::I64, &[h, n]);
    let l = cx.resize(l, Type::I32, Type::I64);
    cx.op(Op::Or, Type::I64, &[h, l])
}

fn sixteen(cx: &mut Cx) -> Lift {
    let at = cx.addr(16, true);
    cx.b.op_imm(Op::CheckAlign, Type::Void, &[at.lin], 16, at.aux);
    let eight = cx.konst(Type::I64, 8);
    let upper = Addr { lin: cx.op(Op::Add, Type::I64, &[at.lin, eight]), ..at };
    let half = |cx: &mut Cx, at: Addr, acc: usize| {
        let old = cx.b.op_imm(Op::LoadW, Type::I64, &[at.lin], 0, at.aux);
        let want = cx.b.get_reg(Type::I64, acc);
        (old, cx.op(Op::Xor, Type::I64, &[old, want]))
    };
    let (low, low_differs) = half(cx, at, gpr::RAX);
    let (high, high_differs) = half(cx, upper, gpr::RDX);
    let differ = cx.op(Op::Or, Type::I64, &[low_differs, high_differs]);
    let zero = cx.konst(Type::I64, 0);
    let equal = cx.op(Op::CmpEq, Type::Bool, &[differ, zero]);
    for (old, new) in [(low, gpr::RBX), (high, gpr::RCX)] {
        let new = cx.b.get_reg(Type::I64, new);
        let v = cx.op(Op::Select, Type::I64, &[equal, new, old]);
        cx.op(Op::StoreW, Type::I64, &[old, v]);
    }
    // On a match they have these values.
    cx.b.set_reg(Type::I64, gpr::RAX, low);
    cx.b.set_reg(Type::I64, gpr::RDX, high);
    zero_flag(cx, differ);
    Ok(Flow::Next)
}

/// Writes `old` to a register unless the comparison was a match.
fn keep_or_take(cx: &mut Cx, equal: Value, reg: usize, old: Value) {
    let kept = cx.b.get_reg(Type::I64, reg);
    let v = cx.op(Op::Select, Type::I64, &[equal, kept, old]);
    cx.b.set_reg(Type::I64, reg, v);
}

/// ZF if `differ` is zero; the other flags stay.
fn zero_flag(cx: &mut Cx, differ: Value) {
    let zero = cx.konst(Type::I64, 0);
    let v = cx.op(Op::Sub, Type::I64, &[differ, zero]);
    let f = cx.b.flags_of(v);
    let keep = cx.b.get_flags();
    let f = cx.merge(ZF as i64, f, keep);
    cx.b.set_flags(f);
}
