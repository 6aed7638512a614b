//! Floating-point arithmetic, comparisons and conversions under MXCSR.

use super::{source, write_int, xmm};
use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Op, Type, Value, VecOp};
use emu_core::state::Mode;
use iced_x86::Mnemonic as M;

/// How an operation takes its operands.
enum Form {
    /// The destination's old value counts: scalars, and packed operations on both.
    Both,
    /// The source alone counts.
    Source,
    /// To a general register.
    ToInt,
    /// From a general register or memory of that size.
    IntSource,
    /// The flags are the result.
    Flags,
}

/// Lifts the instruction if it belongs here.
pub(super) fn lift(cx: &mut Cx, m: M) -> Lift {
    let (op, form) = table(m).ok_or(NotLifted)?;
    if cx.mode.contains(Mode::FP_UNMASKED) {
        return Err(NotLifted);
    }
    let fp = |cx: &mut Cx, ty: Type, a: Value, b: Value, imm: i64| {
        cx.b.op_imm(Op::Fp, ty, &[a, b], imm, op as u32)
    };
    match form {
        Form::Both => {
            let r = xmm(cx, 0)?;
            let b = source(cx, 1)?;
            let a = cx.get_vec(r);
            let imm = if cx.i.op_count() == 3 { i64::from(cx.i.immediate8() & 7) } else { 0 };
            let v = fp(cx, Type::V128, a, b, imm);
            cx.set_vec(r, v);
        }
        Form::Source => {
            let r = xmm(cx, 0)?;
            let b = source(cx, 1)?;
            let v = fp(cx, Type::V128, b, b, 0);
            cx.set_vec(r, v);
        }
        Form::ToInt => {
            let ty = cx.gpr(0)?.ty;
            let b = source(cx, 1)?;
            let v = fp(cx, ty, b, b, 0);
            write_int(cx, ty, v)?;
        }
        Form::IntSource => {
            let r = xmm(cx, 0)?;
            let ty = cx.op_ty(1)?;
            let b = cx.read(1, ty)?;
            let a = cx.get_vec(r);
            let v = fp(cx, Type::V128, a, b, 0);
            cx.set_vec(r, v);
        }
        Form::Flags => {
            let b = source(cx, 1)?;
            let a = xmm(cx, 0)?;
            let a = cx.get_vec(a);
            let f = fp(cx, Type::Flags, a, b, 0);
            cx.b.set_flags(f);
        }
    }
    Ok(Flow::Next)
}

fn table(m: M) -> Option<(VecOp, Form)> {
    use Form::*;
    use VecOp::*;
    Some(match m {
        M::Addss => (Addss, Both),
        M::Addsd => (Addsd, Both),
        M::Addps => (Addps, Both),
        M::Addpd => (Addpd, Both),
        M::Subss => (Subss, Both),
        M::Subsd => (Subsd, Both),
        M::Subps => (Subps, Both),
        M::Subpd => (Subpd, Both),
        M::Mulss => (Mulss, Both),
        M::Mulsd => (Mulsd, Both),
        M::Mulps => (Mulps, Both),
        M::Mulpd => (Mulpd, Both),
        M::Divss => (Divss, Both),
        M::Divsd => (Divsd, Both),
        M::Divps => (Divps, Both),
        M::Divpd => (Divpd, Both),
        M::Minss => (Minss, Both),
        M::Minsd => (Minsd, Both),
        M::Minps => (Minps, Both),
        M::Minpd => (Minpd, Both),
        M::Maxss => (Maxss, Both),
        M::Maxsd => (Maxsd, Both),
        M::Maxps => (Maxps, Both),
        M::Maxpd => (Maxpd, Both),
        M::Sqrtss => (Sqrtss, Both),
        M::Sqrtsd => (Sqrtsd, Both),
        M::Sqrtps => (Sqrtps, Source),
        M::Sqrtpd => (Sqrtpd, Source),
        M::Cmpss => (Cmpss, Both),
        M::Cmpsd => (Cmpsd, Both),
        M::Cmpps => (Cmpps, Both),
        M::Cmppd => (Cmppd, Both),
        M::Comiss => (Comiss, Flags),
        M::Comisd => (Comisd, Flags),
        M::Ucomiss => (Ucomiss, Flags),
        M::Ucomisd => (Ucomisd, Flags),
        M::Cvtss2sd => (Cvtss2sd, Both),
        M::Cvtsd2ss => (Cvtsd2ss, Both),
        M::Cvtps2pd => (Cvtps2pd, Source),
        M::Cvtpd2ps => (Cvtpd2ps, Source),
        M::Cvtdq2ps => (Cvtdq2ps, Source),
        M::Cvtdq2pd => (Cvtdq2pd, Source),
        M::Cvtps2dq => (Cvtps2dq, Source),
        M::Cvttps2dq => (Cvttps2dq, Source),
        M::Cvtpd2dq => (Cvtpd2dq, Source),
        M::Cvttpd2dq => (Cvttpd2dq, Source),
        M::Cvtsi2ss => (Cvtsi2ss, IntSource),
        M::Cvtsi2sd => (Cvtsi2sd, IntSource),
        M::Cvtss2si => (Cvtss2si, ToInt),
        M::Cvtsd2si => (Cvtsd2si, ToInt),
        M::Cvttss2si => (Cvttss2si, ToInt),
        M::Cvttsd2si => (Cvttsd2si, ToInt),
        _ => return None,
    })
}
