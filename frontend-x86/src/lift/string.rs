//! String instructions. REP MOVS and REP STOS are one [`Op::RepString`] in a block of their own; REPcc CMPS and SCAS
//! do one element per run of a block that goes back to itself, and where many are left, an [`Op::RepSkip`] passes over
//! those that let them go on.

use super::branch;
use crate::operand::{Addr, Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Cc, Op, RepKind, StateField, Type, Value};
use emu_core::state::bits::rflags;
use emu_core::state::{Mode, Seg, gpr};
use iced_x86::OpKind;

/// Whether a mnemonic that SSE shares means the string instruction.
pub(super) fn is_string(cx: &Cx) -> bool {
    addr_ty(cx.i.op_kind(0)).is_some() || addr_ty(cx.i.op_kind(1)).is_some()
}

/// Address width of a string operand.
fn addr_ty(kind: OpKind) -> Option<Type> {
    Some(match kind {
        OpKind::MemorySegSI | OpKind::MemoryESDI => Type::I16,
        OpKind::MemorySegESI | OpKind::MemoryESEDI => Type::I32,
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => Type::I64,
        _ => return None,
    })
}

/// Element width and address width.
#[derive(Clone, Copy)]
struct Shape {
    ty: Type,
    addr: Type,
}

fn shape(cx: &Cx) -> Result<Shape, NotLifted> {
    let ty = Type::int(cx.i.memory_size().size() as u32);
    let addr = addr_ty(cx.i.op_kind(0)).or_else(|| addr_ty(cx.i.op_kind(1))).ok_or(NotLifted)?;
    Ok(Shape { ty, addr })
}

fn repeated(cx: &Cx) -> bool {
    cx.i.has_rep_prefix() || cx.i.has_repne_prefix()
}

/// Index register `reg` and the linear address it gives in `seg`.
fn place(cx: &mut Cx, s: Shape, reg: usize, seg: Seg, write: bool) -> (Value, Addr) {
    let r = cx.b.get_reg(s.addr, reg);
    let off = cx.resize(r, s.addr, Type::I64);
    (r, cx.linear(off, seg, s.ty.bytes(), write))
}

/// What to add to an index register: the element's size, or minus that if DF is set.
fn step(cx: &mut Cx, s: Shape) -> Value {
    let f = cx.b.get_state(StateField::RflagsSystem);
    let df = cx.konst(Type::I64, rflags::DF);
    let df = cx.op(Op::And, Type::I64, &[f, df]);
    // DF is bit 10: this makes it twice the size.
    let twice = cx.shr(Type::I64, df, 9 - s.ty.bytes().trailing_zeros());
    let size = cx.konst(Type::I64, s.ty.bytes().into());
    let d = cx.op(Op::Sub, Type::I64, &[size, twice]);
    cx.resize(d, Type::I64, s.addr)
}

fn advance(cx: &mut Cx, s: Shape, reg: usize, old: Value, step: Value) {
    let v = cx.lea(s.addr, Some(old), Some(step), 0, 0);
    cx.b.set_reg(s.addr, reg, v);
}

/// MOVS.
pub(super) fn movs(cx: &mut Cx) -> Lift {
    let s = shape(cx)?;
    if repeated(cx) {
        return rep(cx, s, RepKind::Movs);
    }
    let seg = cx.seg();
    // The source's page fault comes before the destination's segment check.
    let (si, from) = place(cx, s, gpr::RSI, seg, false);
    let v = cx.load(s.ty, from);
    let (di, to) = place(cx, s, gpr::RDI, Seg::ES, true);
    cx.store(s.ty, to, v);
    let d = step(cx, s);
    advance(cx, s, gpr::RSI, si, d);
    advance(cx, s, gpr::RDI, di, d);
    Ok(Flow::Next)
}

/// STOS.
pub(super) fn stos(cx: &mut Cx) -> Lift {
    let s = shape(cx)?;
    if repeated(cx) {
        return rep(cx, s, RepKind::Stos);
    }
    let (di, to) = place(cx, s, gpr::RDI, Seg::ES, true);
    let v = cx.b.get_reg(s.ty, gpr::RAX);
    cx.store(s.ty, to, v);
    let d = step(cx, s);
    advance(cx, s, gpr::RDI, di, d);
    Ok(Flow::Next)
}

/// LODS.
pub(super) fn lods(cx: &mut Cx) -> Lift {
    let s = shape(cx)?;
    if repeated(cx) {
        return Err(NotLifted);
    }
    let seg = cx.seg();
    let (si, from) = place(cx, s, gpr::RSI, seg, false);
    let v = cx.load(s.ty, from);
    let d = step(cx, s);
    cx.b.set_reg(s.ty, gpr::RAX, v);
    advance(cx, s, gpr::RSI, si, d);
    Ok(Flow::Next)
}

/// Iterations that are not worth a look for more.
const FEW: u64 = 6;

/// The base that segment `seg` adds to an offset, if a repeated instruction as a whole can use it.
fn source_base(cx: &mut Cx, s: Shape, seg: Seg) -> Option<Value> {
    if !cx.mode.contains(Mode::FLAT) || s.addr == Type::I16 {
        return None;
    }
    Some(match seg {
        Seg::FS | Seg::GS if !cx.mode.contains(Mode::CODE64) => return None,
        // Its faults would be #SS.
        Seg::SS => return None,
        Seg::FS => cx.b.get_state(StateField::FsBase),
        Seg::GS => cx.b.get_state(StateField::GsBase),
        _ => cx.konst(Type::I64, 0),
    })
}

/// The auxiliary of the ops that work on many elements.
fn rep_aux(s: Shape, kind: RepKind) -> u32 {
    kind as u32 | s.ty.bytes() << 8 | s.addr.bits() << 16
}

fn rep(cx: &mut Cx, s: Shape, kind: RepKind) -> Lift {
    let seg = if kind == RepKind::Movs { cx.seg() } else { Seg::ES };
    let source = source_base(cx, s, seg).ok_or(NotLifted)?;
    let zero = cx.konst(Type::I64, 0);
    let done = cx.b.op_imm(Op::RepString, Type::Bool, &[source, zero], 0, rep_aux(s, kind));
    let next = cx.rel(cx.next_ip());
    let again = cx.rel(cx.i.ip());
    let again = i32::try_from(again).map_err(|_| NotLifted)?;
    cx.b.op_imm(Op::Branch, Type::Void, &[done], next, again as u32);
    Ok(Flow::End)
}

/// SCAS.
pub(super) fn scas(cx: &mut Cx) -> Lift {
    let s = shape(cx)?;
    compare(cx, s, RepKind::Scas, |cx| {
        let (di, at) = place(cx, s, gpr::RDI, Seg::ES, false);
        let b = cx.load(s.ty, at);
        let a = cx.b.get_reg(s.ty, gpr::RAX);
        (a, b, None, di)
    })
}

/// CMPS, which reads at rDI first.
pub(super) fn cmps(cx: &mut Cx) -> Lift {
    let s = shape(cx)?;
    compare(cx, s, RepKind::Cmps, |cx| {
        let seg = cx.seg();
        let (di, to) = place(cx, s, gpr::RDI, Seg::ES, false);
        let b = cx.load(s.ty, to);
        let (si, from) = place(cx, s, gpr::RSI, seg, false);
        let a = cx.load(s.ty, from);
        (a, b, Some(si), di)
    })
}

/// One comparison, and the loop around it if a prefix asks for one. `operands` loads both and names RSI (if it is
/// used) and RDI.
///
/// The comparison that ends a repeated instruction gives it its flags. Before that they stay as they were, since a fault
/// leaves them so (SDM vol. 2, REP: "the EFLAGS value is restored to the state prior to the execution of the instruction").
fn compare(
    cx: &mut Cx,
    s: Shape,
    kind: RepKind,
    operands: impl FnOnce(&mut Cx) -> (Value, Value, Option<Value>, Value),
) -> Lift {
    let rep = repeated(cx);
    let zero = cx.konst(s.addr, 0);
    let (mut left, mut before) = (Value::NONE, Value::NONE);
    if rep {
        before = cx.b.get_flags();
        let n = cx.b.get_reg(s.addr, gpr::RCX);
        let none = cx.op(Op::CmpEq, Type::Bool, &[n, zero]);
        let next = cx.rel(cx.next_ip());
        cx.b.op_imm(Op::ExitIf, Type::Void, &[none], next, 0);
        left = cx.lea(s.addr, Some(n), None, 0, -1);
    }
    let (a, b, si, di) = operands(cx);
    let d = step(cx, s);
    if let Some(si) = si {
        advance(cx, s, gpr::RSI, si, d);
    }
    advance(cx, s, gpr::RDI, di, d);
    let v = cx.op(Op::Sub, s.ty, &[a, b]);
    let f = cx.b.flags_of(v);
    if !rep {
        cx.b.set_flags(f);
        return Ok(Flow::Next);
    }
    cx.b.set_reg(s.addr, gpr::RCX, left);
    let repne = cx.i.has_repne_prefix();
    let found = cx.b.test_cc(if repne { Cc::E } else { Cc::NE }, f);
    let seg = if kind == RepKind::Cmps { cx.seg() } else { Seg::ES };
    if let Some(source) = source_base(cx, s, seg) {
        let end = End { found, left, flags: f, before };
        return go_on(cx, s, rep_aux(s, kind) | u32::from(repne) << 24, source, &end);
    }
    let empty = cx.op(Op::CmpEq, Type::Bool, &[left, zero]);
    let (x, y) = (cx.op(Op::ZExt, Type::I8, &[found]), cx.op(Op::ZExt, Type::I8, &[empty]));
    let any = cx.op(Op::Or, Type::I8, &[x, y]);
    let zero = cx.konst(Type::I8, 0);
    let again = cx.op(Op::CmpEq, Type::Bool, &[any, zero]);
    let f = cx.op(Op::SelectFlags, Type::Flags, &[again, before, f]);
    cx.b.set_flags(f);
    let back = cx.i.ip();
    branch::branch(cx, again, back)
}

/// How a REPcc CMPS or SCAS may end behind an element.
struct End {
    /// What it looks for.
    found: Value,
    /// Elements that are left.
    left: Value,
    /// The flags of the comparison.
    flags: Value,
    /// Those before the instruction.
    before: Value,
}

/// Ends the block behind an element of a REPcc CMPS or SCAS: at the next instruction if that was the last (`found`, or
/// none `left`), else at itself, past what may be passed over.
fn go_on(cx: &mut Cx, s: Shape, aux: u32, source: Value, &End { found, left, flags, before }: &End) -> Lift {
    let (next, again) = (cx.rel(cx.next_ip()), cx.rel(cx.i.ip()));
    let exit = |cx: &mut Cx, c: Value, to: i64| cx.b.op_imm(Op::ExitIf, Type::Void, &[c], to, 0);
    cx.b.set_flags(flags);
    exit(cx, found, next);
    let zero = cx.konst(s.addr, 0);
    let empty = cx.op(Op::CmpEq, Type::Bool, &[left, zero]);
    exit(cx, empty, next);
    cx.b.set_flags(before);
    let few = cx.konst(s.addr, FEW);
    let few = cx.op(Op::CmpUlt, Type::Bool, &[left, few]);
    exit(cx, few, again);
    let dest = cx.konst(Type::I64, 0);
    cx.b.op_imm(Op::RepSkip, Type::Void, &[source, dest], 0, aux);
    cx.b.op_imm(Op::Goto, Type::Void, &[], again, 0);
    Ok(Flow::End)
}
