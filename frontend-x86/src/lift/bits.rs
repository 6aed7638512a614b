//! Bit tests, scans and counts.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Op, Type, Value};
use emu_core::state::bits::rflags;
use iced_x86::{Mnemonic as M, OpKind};

/// BT, BTS, BTR, BTC.
pub(super) fn test(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let m = cx.i.mnemonic();
    let writes = m != M::Bt;
    let width = ty.bits();
    let n = if cx.i.op_kind(1) == OpKind::Register {
        cx.read(1, ty)?
    } else {
        cx.konst(ty, cx.i.immediate(1) & u64::from(width - 1))
    };
    let mut place = None;
    let mut addr = None;
    let a = if cx.is_mem(0) {
        let at = bit_address(cx, n, ty, writes);
        if !writes {
            cx.load(ty, at)
        } else if cx.locks() {
            addr = Some(at);
            Value::NONE
        } else {
            let v = cx.b.op_imm(Op::LoadW, ty, &[at.lin], 0, at.aux);
            place = Some(crate::operand::Place::Mem(v));
            v
        }
    } else {
        let (v, p) = cx.modify(0, ty)?;
        place = Some(p);
        v
    };
    let bit = if writes { bit_mask(cx, n, ty) } else { Value::NONE };
    let old = match addr {
        None => a,
        Some(at) => match m {
            M::Bts => cx.atomic(Op::AtomicOr, ty, at, &[bit]),
            M::Btr => {
                let not = cx.op(Op::Not, ty, &[bit]);
                cx.atomic(Op::AtomicAnd, ty, at, &[not])
            }
            _ => cx.atomic(Op::AtomicXor, ty, at, &[bit]),
        },
    };
    if let (true, Some(p)) = (writes, place) {
        let v = match m {
            M::Bts => cx.op(Op::Or, ty, &[old, bit]),
            M::Btr => {
                let not = cx.op(Op::Not, ty, &[bit]);
                cx.op(Op::And, ty, &[old, not])
            }
            _ => cx.op(Op::Xor, ty, &[old, bit]),
        };
        cx.write_back(p, ty, v);
    }
    let keep = cx.b.get_flags();
    let t = cx.op(Op::BitTest, ty, &[old, n, keep]);
    cx.set_flags_of(t);
    Ok(Flow::Next)
}

/// 1 << (n modulo the width).
fn bit_mask(cx: &mut Cx, n: Value, ty: Type) -> Value {
    let one = cx.konst(ty, 1);
    let def = *cx.b.def(n);
    if def.op == Op::Const {
        return cx.konst(ty, 1 << (def.imm as u64 & u64::from(ty.bits() - 1)));
    }
    let n = cx.resize(n, ty, Type::I8);
    let m = cx.konst(Type::I8, u64::from(ty.bits() - 1));
    let n = cx.op(Op::And, Type::I8, &[n, m]);
    cx.op(Op::Shl, ty, &[one, n])
}

/// Where the bit string's element with bit `n` lies: a register offset reaches beyond the operand.
fn bit_address(cx: &mut Cx, n: Value, ty: Type, write: bool) -> crate::operand::Addr {
    if cx.i.op_kind(1) != OpKind::Register {
        return cx.addr(ty.bytes(), write);
    }
    let wide = if ty == Type::I64 { n } else { cx.op(Op::SExt, Type::I64, &[n]) };
    let element = cx.sar(Type::I64, wide, ty.bits().trailing_zeros());
    let bytes = cx.shl(Type::I64, element, ty.bytes().trailing_zeros());
    cx.addr_plus(ty.bytes(), write, 0, Some(bytes))
}

/// BSF, BSR, TZCNT, LZCNT, POPCNT.
pub(super) fn scan(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let src = cx.read(1, ty)?;
    let dst = cx.gpr(0)?;
    let v = match cx.i.mnemonic() {
        M::Popcnt => cx.op(Op::Popcnt, ty, &[src]),
        m @ (M::Tzcnt | M::Lzcnt) => {
            let keep = cx.b.get_flags();
            cx.op(if m == M::Tzcnt { Op::Ctz } else { Op::Clz }, ty, &[src, keep])
        }
        m @ (M::Bsf | M::Bsr) => {
            let found = if m == M::Bsf {
                cx.op(Op::Ctz, ty, &[src])
            } else {
                let n = cx.op(Op::Clz, ty, &[src]);
                let top = cx.konst(ty, u64::from(ty.bits() - 1));
                cx.op(Op::Sub, ty, &[top, n])
            };
            // A zero source leaves the whole register alone, upper half included.
            let wide = if ty == Type::I32 { Type::I64 } else { ty };
            let zero = cx.konst(ty, 0);
            let none = cx.op(Op::CmpEq, Type::Bool, &[src, zero]);
            let found = cx.resize(found, ty, wide);
            let r = crate::operand::Gpr { ty: wide, ..dst };
            let old = cx.get(r);
            let v = cx.op(Op::Select, wide, &[none, old, found]);
            cx.set(r, v);
            let by_source = cx.op(Op::And, ty, &[src, src]);
            let f = cx.b.flags_of(by_source);
            let keep = cx.b.get_flags();
            let f = cx.merge(rflags::ZF as i64, f, keep);
            cx.b.set_flags(f);
            return Ok(Flow::Next);
        }
        _ => return Err(NotLifted),
    };
    cx.set(dst, v);
    cx.set_flags_of(v);
    Ok(Flow::Next)
}
