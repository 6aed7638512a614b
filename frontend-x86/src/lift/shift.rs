//! Shifts, rotates and double shifts.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Op, Type, Value};
use emu_core::state::bits::rflags;
use emu_core::state::gpr;
use iced_x86::{Mnemonic as M, OpKind};

/// A shift count.
enum Count {
    /// Known, masked to 5 or 6 bits.
    Known(u32),
    /// CL.
    Cl(Value),
}

fn count(cx: &mut Cx, n: u32, ty: Type) -> Count {
    let mask = if ty == Type::I64 { 63 } else { 31 };
    match cx.i.op_kind(n) {
        OpKind::Register => Count::Cl(cx.b.get_reg(Type::I8, gpr::RCX)),
        _ => Count::Known(cx.i.immediate(n) as u32 & mask),
    }
}

/// SHL, SHR, SAR, ROL, ROR, RCL, RCR.
pub(super) fn shift(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    let op = match cx.i.mnemonic() {
        M::Shl | M::Sal => Op::Shl,
        M::Shr => Op::Shr,
        M::Sar => Op::Sar,
        M::Rol => Op::Rol,
        M::Ror => Op::Ror,
        M::Rcl => Op::Rcl,
        _ => Op::Rcr,
    };
    let plain = matches!(op, Op::Shl | Op::Shr | Op::Sar);
    let n = count(cx, 1, ty);
    let (old, place) = cx.modify(0, ty)?;
    match n {
        Count::Known(0) => cx.write_back(place, ty, old),
        Count::Known(k) => {
            let k = cx.konst(Type::I8, k.into());
            let v = if plain {
                cx.op(op, ty, &[old, k])
            } else {
                let f = cx.b.get_flags();
                cx.op(op, ty, &[old, k, f])
            };
            cx.write_back(place, ty, v);
            cx.set_flags_of(v);
        }
        Count::Cl(k) => {
            let f = cx.b.get_flags();
            let v = cx.op(op, ty, &[old, k, f]);
            cx.write_back(place, ty, v);
            cx.set_flags_of(v);
        }
    }
    Ok(Flow::Next)
}

/// SHLD and SHRD of 32 and 64 bits (the 16-bit forms have counts beyond their width).
pub(super) fn double(cx: &mut Cx) -> Lift {
    let ty = cx.op_ty(0)?;
    if ty == Type::I16 {
        return Err(NotLifted);
    }
    let left = cx.i.mnemonic() == M::Shld;
    let (there, back) = if left { (Op::Shl, Op::Shr) } else { (Op::Shr, Op::Shl) };
    let fill = cx.read(1, ty)?;
    let n = count(cx, 2, ty);
    let (old, place) = cx.modify(0, ty)?;
    let width = ty.bits();
    match n {
        Count::Known(0) => cx.write_back(place, ty, old),
        Count::Known(k) => {
            let k1 = cx.konst(Type::I8, k.into());
            let k2 = cx.konst(Type::I8, (width - k).into());
            let main = cx.op(there, ty, &[old, k1]);
            let rest = cx.op(back, ty, &[fill, k2]);
            let v = cx.op(Op::Or, ty, &[main, rest]);
            cx.write_back(place, ty, v);
            let f = double_flags(cx, ty, old, main, v);
            cx.b.set_flags(f);
        }
        Count::Cl(k) => {
            let flags = cx.b.get_flags();
            let main = cx.op(there, ty, &[old, k, flags]);
            let limit = cx.konst(Type::I8, width.into());
            let mask = cx.konst(Type::I8, u64::from(width) - 1);
            let k = cx.op(Op::And, Type::I8, &[k, mask]);
            let k2 = cx.op(Op::Sub, Type::I8, &[limit, k]);
            let rest = cx.op(back, ty, &[fill, k2, flags]);
            let or = cx.op(Op::Or, ty, &[main, rest]);
            let zero = cx.konst(Type::I8, 0);
            let none = cx.op(Op::CmpEq, Type::Bool, &[k, zero]);
            let v = cx.op(Op::Select, ty, &[none, old, or]);
            cx.write_back(place, ty, v);
            let f = double_flags(cx, ty, old, main, or);
            let f = cx.op(Op::SelectFlags, Type::Flags, &[none, flags, f]);
            cx.b.set_flags(f);
        }
    }
    Ok(Flow::Next)
}

/// Flags of a double shift: CF as the shift of the destination leaves it, OF when the sign changes, SF, ZF and PF by
/// the result, AF clear.
fn double_flags(cx: &mut Cx, ty: Type, old: Value, main: Value, v: Value) -> Value {
    let changed = cx.op(Op::Xor, ty, &[old, v]);
    let top = cx.konst(ty, 1 << (ty.bits() - 1));
    let sign = cx.op(Op::And, ty, &[changed, top]);
    // Twice the sign bit overflows exactly when it is set.
    let twice = cx.op(Op::Add, ty, &[sign, sign]);
    let by_result = cx.b.flags_of(v);
    let by_sign = cx.b.flags_of(twice);
    let f = cx.merge(rflags::OF as i64, by_sign, by_result);
    let by_shift = cx.b.flags_of(main);
    cx.merge(rflags::CF as i64, by_shift, f)
}
