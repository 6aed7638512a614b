//! Near branches, calls and returns, which end a block; jumps and conditional branches may leave it open instead
//! (see `trace`).

use super::stack;
use crate::changing::Part;
use crate::cond;
use crate::operand::{Cx, Flow, Gpr, Lift, NotLifted};
use crate::trace::Way;
use emu_core::ir::{BrKind, Cc, Op, Type, Value};
use emu_core::state::{Mode, gpr};
use iced_x86::{Code, Mnemonic as M, OpKind, Register};

/// The static target, if CS contains it.
fn target(cx: &Cx) -> Result<u64, NotLifted> {
    match cx.i.op_kind(0) {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {}
        _ => return Err(NotLifted),
    }
    let t = cx.i.near_branch_target();
    if cx.mode.contains(Mode::FLAT) || t <= cx.cs_limit.into() { Ok(t) } else { Err(NotLifted) }
}

/// Ends the block: to `taken` if `c`, else to the next instruction.
pub(super) fn branch(cx: &mut Cx, c: Value, taken: u64) -> Lift {
    let taken = cx.rel(taken);
    let next = cx.next_ip();
    let other = i32::try_from(cx.rel(next)).map_err(|_| NotLifted)?;
    cx.b.op_imm(Op::Branch, Type::Void, &[c], taken, other as u32);
    Ok(Flow::End)
}

fn goto(cx: &mut Cx, to: u64, kind: BrKind) -> Lift {
    let to = cx.rel(to);
    cx.b.op_imm(Op::Goto, Type::Void, &[], to, kind as u32);
    Ok(Flow::End)
}

/// Jcc.
pub(super) fn jcc(cx: &mut Cx) -> Lift {
    let cc = cond::of(cx.i)?;
    let t = target(cx)?;
    let (at, taken, next) = (cx.rel(cx.i.ip()), cx.rel(t), cx.rel(cx.next_ip()));
    match cx.trace.branch(taken, next, at, cx.b.guest_insns) {
        Way::End => {
            let c = cx.guest_cc(cc);
            branch(cx, c, t)
        }
        Way::Taken => Ok(leave_if(cx, cc.invert(), next, taken)),
        Way::Next => Ok(leave_if(cx, cc, taken, next)),
    }
}

/// Leaves the block to `out` if `cc` holds, else goes on at `on`.
fn leave_if(cx: &mut Cx, cc: Cc, out: i64, on: i64) -> Flow {
    let c = cx.guest_cc(cc);
    cx.b.op_imm(Op::ExitIf, Type::Void, &[c], out, 0);
    Flow::At(on)
}

/// Where a trace goes on at the computed JMP in hand.
fn follow(cx: &mut Cx) -> Result<Option<i64>, NotLifted> {
    let whole = if cx.mode.contains(Mode::CODE64) { Type::I64 } else { Type::I32 };
    let ty = cx.op_ty(0)?;
    let behind = cx.rel(cx.next_ip());
    let fits = cx.mode.contains(Mode::FLAT) && ty == whole;
    Ok(if fits { cx.trace.follow(behind, cx.b.guest_insns) } else { None })
}

/// Leaves the block to RIP `v` unless that is at `on`, where it goes on.
fn leave_unless(cx: &mut Cx, v: Value, on: i64) -> Flow {
    let there = if cx.mode.contains(Mode::CODE64) {
        cx.b.op_imm(Op::Pc, Type::I64, &[], on, 0)
    } else {
        let rip = cx.b.key.rip.wrapping_add(on as u64);
        cx.konst(Type::I64, rip & 0xffff_ffff)
    };
    let c = cx.op(Op::CmpNe, Type::Bool, &[v, there]);
    cx.op(Op::ExitIf, Type::Void, &[c, v]);
    Flow::At(on)
}

/// JMP, CALL, RET, LOOPcc, JrCXZ.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    match cx.i.mnemonic() {
        M::Jmp => {
            if let Some(v) = changing_target(cx)? {
                return goto_reg(cx, v, BrKind::Jmp);
            }
            if let Ok(t) = target(cx) {
                let (to, behind) = (cx.rel(t), cx.rel(cx.next_ip()));
                if cx.trace.jump(to, behind, cx.b.guest_insns) {
                    return Ok(Flow::At(to));
                }
                return goto(cx, t, BrKind::Jmp);
            }
            let v = indirect(cx)?;
            if let Some(to) = follow(cx)? {
                return Ok(leave_unless(cx, v, to));
            }
            goto_reg(cx, v, BrKind::Jmp)
        }
        M::Call => {
            if let Some(v) = changing_target(cx)? {
                push_return(cx, near_ty(cx)?);
                return goto_reg(cx, v, BrKind::Call);
            }
            if let Ok(t) = target(cx) {
                push_return(cx, near_ty(cx)?);
                return goto(cx, t, BrKind::Call);
            }
            let v = indirect(cx)?;
            push_return(cx, cx.op_ty(0)?);
            goto_reg(cx, v, BrKind::Call)
        }
        M::Ret => ret(cx),
        _ => count(cx),
    }
}

/// The target of a direct JMP or CALL whose distance keeps changing.
fn changing_target(cx: &mut Cx) -> Result<Option<Value>, NotLifted> {
    let Ok(ty) = near_ty(cx) else { return Ok(None) };
    if in_limit(cx, ty).is_err() {
        return Ok(None);
    }
    let Some(distance) = cx.word(Part::Immediate, ty) else { return Ok(None) };
    let next = next_rip(cx, ty);
    let v = cx.lea(ty, Some(next), Some(distance), 0, 0);
    Ok(Some(cx.resize(v, ty, Type::I64)))
}

/// Operand size of a direct JMP or CALL.
fn near_ty(cx: &Cx) -> Result<Type, NotLifted> {
    match cx.i.op_kind(0) {
        OpKind::NearBranch16 => Ok(Type::I16),
        OpKind::NearBranch32 => Ok(Type::I32),
        OpKind::NearBranch64 => Ok(Type::I64),
        _ => Err(NotLifted),
    }
}

/// RIP behind the instruction.
fn next_rip(cx: &mut Cx, ty: Type) -> Value {
    let next = cx.next_ip();
    if ty == Type::I64 {
        let imm = cx.rel(next);
        cx.b.op_imm(Op::Pc, Type::I64, &[], imm, 0)
    } else {
        cx.konst(ty, next)
    }
}

fn push_return(cx: &mut Cx, ty: Type) {
    let v = next_rip(cx, ty);
    stack::push(cx, ty, v);
}

/// Reads the target of an indirect near JMP or CALL.
fn indirect(cx: &mut Cx) -> Result<Value, NotLifted> {
    match cx.i.code() {
        Code::Jmp_rm16
        | Code::Jmp_rm32
        | Code::Jmp_rm64
        | Code::Call_rm16
        | Code::Call_rm32
        | Code::Call_rm64 => {}
        _ => return Err(NotLifted),
    }
    let ty = cx.op_ty(0)?;
    in_limit(cx, ty)?;
    let v = cx.read(0, ty)?;
    Ok(cx.resize(v, ty, Type::I64))
}

/// Whether any target of type `ty` lies within CS.
fn in_limit(cx: &Cx, ty: Type) -> Result<(), NotLifted> {
    let fits = match ty {
        Type::I16 => cx.cs_limit >= 0xffff,
        _ => cx.cs_limit == u32::MAX,
    };
    if cx.mode.contains(Mode::FLAT) || fits { Ok(()) } else { Err(NotLifted) }
}

fn goto_reg(cx: &mut Cx, v: Value, kind: BrKind) -> Lift {
    let imm = if kind == BrKind::Call { cx.rel(cx.next_ip()) } else { 0 };
    cx.b.op_imm(Op::GotoReg, Type::Void, &[v], imm, kind as u32);
    Ok(Flow::End)
}

fn ret(cx: &mut Cx) -> Lift {
    let ty = match cx.i.code() {
        Code::Retnw | Code::Retnw_imm16 => Type::I16,
        Code::Retnd | Code::Retnd_imm16 => Type::I32,
        Code::Retnq | Code::Retnq_imm16 => Type::I64,
        _ => return Err(NotLifted),
    };
    in_limit(cx, ty)?;
    let extra = if cx.i.op_count() == 1 { i64::from(cx.i.immediate16()) } else { 0 };
    let v = stack::top(cx, ty);
    let sp = cx.sp_plus(i64::from(ty.bytes()) + extra);
    cx.set_sp(sp);
    let v = cx.resize(v, ty, Type::I64);
    goto_reg(cx, v, BrKind::Ret)
}

/// LOOP, LOOPE, LOOPNE and JCXZ, JECXZ, JRCXZ.
fn count(cx: &mut Cx) -> Lift {
    let t = target(cx)?;
    let rcx = Gpr::from(loop_register(cx)).ok_or(NotLifted)?;
    debug_assert_eq!(rcx.num, gpr::RCX);
    let n = cx.get(rcx);
    let zero = cx.konst(rcx.ty, 0);
    let m = cx.i.mnemonic();
    if matches!(m, M::Jcxz | M::Jecxz | M::Jrcxz) {
        let c = cx.op(Op::CmpEq, Type::Bool, &[n, zero]);
        return branch(cx, c, t);
    }
    let left = cx.lea(rcx.ty, Some(n), None, 0, -1);
    let mut c = cx.op(Op::CmpNe, Type::Bool, &[left, zero]);
    if m != M::Loop {
        let f = cx.guest_cc(if m == M::Loope { Cc::E } else { Cc::NE });
        let (f, n) = (cx.op(Op::ZExt, Type::I8, &[f]), cx.op(Op::ZExt, Type::I8, &[c]));
        let both = cx.op(Op::And, Type::I8, &[f, n]);
        let zero = cx.konst(Type::I8, 0);
        c = cx.op(Op::CmpNe, Type::Bool, &[both, zero]);
    }
    cx.set(rcx, left);
    branch(cx, c, t)
}

fn loop_register(cx: &Cx) -> Register {
    use Code as C;
    match cx.i.code() {
        C::Jrcxz_rel8_16
        | C::Jrcxz_rel8_64
        | C::Loop_rel8_16_RCX
        | C::Loop_rel8_64_RCX
        | C::Loope_rel8_16_RCX
        | C::Loope_rel8_64_RCX
        | C::Loopne_rel8_16_RCX
        | C::Loopne_rel8_64_RCX => Register::RCX,
        C::Jecxz_rel8_16
        | C::Jecxz_rel8_32
        | C::Jecxz_rel8_64
        | C::Loop_rel8_16_ECX
        | C::Loop_rel8_32_ECX
        | C::Loop_rel8_64_ECX
        | C::Loope_rel8_16_ECX
        | C::Loope_rel8_32_ECX
        | C::Loope_rel8_64_ECX
        | C::Loopne_rel8_16_ECX
        | C::Loopne_rel8_32_ECX
        | C::Loopne_rel8_64_ECX => Register::ECX,
        _ => Register::CX,
    }
}
