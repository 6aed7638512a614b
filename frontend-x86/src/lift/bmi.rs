//! BMI1, BMI2 and ADX (SDM vol. 2). PDEP, PEXT, BEXTR are left to the interpreter.
//!
//! Flags as the interpreter has them: those that the manual leaves undefined (AF, PF) go by the result as those of AND do.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Op, Type, Value};
use emu_core::state::bits::rflags::CF;
use emu_core::state::{Mode, gpr};
use iced_x86::{EncodingKind, Mnemonic as M};

/// Lifts an instruction of this group.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    if cx.i.encoding() == EncodingKind::VEX && !cx.mode.contains(Mode::PROT) {
        return Err(NotLifted);
    }
    let ty = cx.gpr(0)?.ty;
    match cx.i.mnemonic() {
        M::Andn => {
            let b = cx.read(2, ty)?;
            let a = cx.read(1, ty)?;
            let a = cx.op(Op::Not, ty, &[a]);
            let v = cx.op(Op::And, ty, &[a, b]);
            finish(cx, v)?;
            cx.set_flags_of(v);
        }
        m @ (M::Blsr | M::Blsmsk | M::Blsi) => {
            let a = cx.read(1, ty)?;
            let (one, zero) = (cx.konst(ty, 1), cx.konst(ty, 0));
            // The borrow of a - 1 and of 0 - a tell whether a is zero.
            let (v, by) = if m == M::Blsi {
                let n = cx.op(Op::Sub, ty, &[zero, a]);
                (cx.op(Op::And, ty, &[a, n]), n)
            } else {
                let n = cx.op(Op::Sub, ty, &[a, one]);
                (cx.op(if m == M::Blsr { Op::And } else { Op::Xor }, ty, &[a, n]), n)
            };
            finish(cx, v)?;
            let (carry, rest) = (cx.b.flags_of(by), cx.b.flags_of(v));
            let f = cx.merge(CF as i64, carry, rest);
            cx.b.set_flags(f);
        }
        M::Bzhi => bzhi(cx, ty)?,
        M::Mulx => {
            let b = cx.read(2, ty)?;
            let a = cx.b.get_reg(ty, gpr::RDX);
            let low = cx.op(Op::Mul, ty, &[a, b]);
            let high = cx.op(Op::MulHiU, ty, &[a, b]);
            let (to_high, to_low) = (cx.gpr(0)?, cx.gpr(1)?);
            cx.set(to_low, low);
            cx.set(to_high, high);
        }
        M::Rorx => {
            let a = cx.read(1, ty)?;
            let n = u64::from(cx.i.immediate8()) & u64::from(ty.bits() - 1);
            let v = if n == 0 {
                a
            } else {
                let n = cx.konst(Type::I8, n);
                cx.op(Op::Ror, ty, &[a, n])
            };
            finish(cx, v)?;
        }
        m @ (M::Shlx | M::Shrx | M::Sarx) => {
            let a = cx.read(1, ty)?;
            let n = cx.read(2, ty)?;
            let n = cx.op(Op::Trunc, Type::I8, &[n]);
            let op = match m {
                M::Shlx => Op::Shl,
                M::Shrx => Op::Shr,
                _ => Op::Sar,
            };
            let v = cx.op(op, ty, &[a, n]);
            finish(cx, v)?;
        }
        M::Adcx | M::Adox => add_through(cx, ty)?,
        _ => return Err(NotLifted),
    }
    Ok(Flow::Next)
}

fn finish(cx: &mut Cx, v: Value) -> Result<(), NotLifted> {
    let d = cx.gpr(0)?;
    cx.set(d, v);
    Ok(())
}

/// The low bits of operand 1, as many as operand 2 says; all of them and CF if that is the width or more.
fn bzhi(cx: &mut Cx, ty: Type) -> Result<(), NotLifted> {
    let a = cx.read(1, ty)?;
    let n = cx.read(2, ty)?;
    let byte = cx.konst(ty, 0xff);
    let n = cx.op(Op::And, ty, &[n, byte]);
    let width = cx.konst(ty, ty.bits().into());
    let count = cx.op(Op::Trunc, Type::I8, &[n]);
    let ones = cx.konst(ty, u64::MAX);
    let above = cx.op(Op::Shl, ty, &[ones, count]);
    let low = cx.op(Op::Not, ty, &[above]);
    let part = cx.op(Op::And, ty, &[a, low]);
    let fits = cx.op(Op::CmpUlt, Type::Bool, &[n, width]);
    let v = cx.op(Op::Select, ty, &[fits, part, a]);
    // The flags are those of the result and itself, with CF added.
    let same = cx.op(Op::And, ty, &[v, v]);
    finish(cx, v)?;
    let over = cx.op(Op::NotBool, Type::Bool, &[fits]);
    let over = cx.op(Op::ZExt, Type::I32, &[over]);
    let carry = cx.op(Op::UnpackFlags, Type::Flags, &[over]);
    let rest = cx.b.flags_of(same);
    let f = cx.merge(CF as i64, carry, rest);
    cx.b.set_flags(f);
    Ok(())
}

/// ADCX adds through CF, ADOX through OF, and both leave the other flags.
fn add_through(cx: &mut Cx, ty: Type) -> Result<(), NotLifted> {
    let b = cx.read(1, ty)?;
    let a = cx.read(0, ty)?;
    let keep = cx.b.get_flags();
    let op = if cx.i.mnemonic() == M::Adcx { Op::Adcx } else { Op::Adox };
    let v = cx.op(op, ty, &[a, b, keep]);
    finish(cx, v)?;
    cx.set_flags_of(v);
    Ok(())
}
