//! Pushes and pops.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Op, StateField, Type, Value};
use emu_core::state::bits::rflags;
use emu_core::state::{Mode, gpr};
use iced_x86::{Mnemonic as M, OpKind, Register};

/// Pushes `v`: the store first, since it may fault, then the stack pointer.
pub(super) fn push(cx: &mut Cx, ty: Type, v: Value) {
    let sp = cx.sp_plus(-i64::from(ty.bytes()));
    let a = cx.stack_addr(sp, ty.bytes(), true);
    cx.store(ty, a, v);
    cx.set_sp(sp);
}

/// Reads the top of the stack without popping it.
pub(super) fn top(cx: &mut Cx, ty: Type) -> Value {
    let sp = cx.sp();
    let a = cx.stack_addr(sp, ty.bytes(), false);
    cx.load(ty, a)
}

/// PUSH, POP, LEAVE, PUSHF.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    let width = |cx: &Cx| Type::int(cx.i.stack_pointer_increment().unsigned_abs());
    match cx.i.mnemonic() {
        M::Push => {
            let ty = width(cx);
            let is_segment = cx.i.op_kind(0) == OpKind::Register && cx.i.op_register(0).is_segment_register();
            if is_segment {
                return Err(NotLifted);
            }
            let v = cx.read(0, ty)?;
            push(cx, ty, v);
        }
        M::Pop => {
            let ty = width(cx);
            if cx.is_mem(0) {
                let v = top(cx, ty);
                // An address that uses the stack pointer sees it popped.
                let on_sp = matches!(cx.i.memory_base(), Register::RSP | Register::ESP);
                let disp = if on_sp { i64::from(ty.bytes()) } else { 0 };
                let a = cx.addr_plus(ty.bytes(), true, disp, None);
                cx.store(ty, a, v);
                let sp = cx.sp_plus(ty.bytes().into());
                cx.set_sp(sp);
            } else {
                let r = cx.gpr(0)?;
                let v = top(cx, ty);
                let sp = cx.sp_plus(ty.bytes().into());
                cx.set_sp(sp);
                cx.set(r, v);
            }
        }
        M::Leave => {
            let ty = width_of_leave(cx);
            let sp_ty = cx.sp_ty();
            let bp = cx.b.get_reg(sp_ty, gpr::RBP);
            let a = cx.stack_addr(bp, ty.bytes(), false);
            let v = cx.load(ty, a);
            let sp = cx.lea(sp_ty, Some(bp), None, 0, ty.bytes().into());
            cx.set_sp(sp);
            cx.b.set_reg(ty, gpr::RBP, v);
        }
        _ => {
            if cx.mode.contains(Mode::V86) {
                return Err(NotLifted);
            }
            let ty = width(cx);
            let flags = cx.b.get_flags();
            let status = cx.op(Op::PackFlags, Type::I32, &[flags]);
            let status = cx.op(Op::ZExt, Type::I64, &[status]);
            let system = cx.b.get_state(StateField::RflagsSystem);
            let keep = cx.konst(Type::I64, !(rflags::STATUS | rflags::VM | rflags::RF));
            let system = cx.op(Op::And, Type::I64, &[system, keep]);
            let v = cx.op(Op::Or, Type::I64, &[system, status]);
            let v = cx.resize(v, Type::I64, ty);
            push(cx, ty, v);
        }
    }
    Ok(Flow::Next)
}

/// Operand size of LEAVE, whose stack pointer increment the decoder cannot know.
fn width_of_leave(cx: &Cx) -> Type {
    use iced_x86::Code;
    match cx.i.code() {
        Code::Leavew => Type::I16,
        Code::Leaved => Type::I32,
        _ => Type::I64,
    }
}
