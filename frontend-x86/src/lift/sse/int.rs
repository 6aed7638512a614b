//! Integer and bitwise vector operations, shuffles, and lanes to and from general registers.

use super::{source, write_int, xmm};
use crate::operand::{Cx, Flow, NotLifted};
use emu_core::ir::{Op, Type, Value, VecOp};
use iced_x86::{Mnemonic as M, OpKind};

/// Lifts the instruction if it belongs here.
pub(super) fn lift(cx: &mut Cx, m: M) -> Result<Option<Flow>, NotLifted> {
    if let Some(op) = binary(m) {
        // Shifts by an immediate share their mnemonic with those by a register.
        let r = xmm(cx, 0)?;
        let v = if cx.i.op_kind(1) == OpKind::Immediate8 {
            let a = cx.get_vec(r);
            let imm = cx.i.immediate8().into();
            cx.vec1(Type::V128, op, a, imm)
        } else {
            let b = source(cx, 1)?;
            let a = cx.get_vec(r);
            cx.vec2(op, a, b, 0)
        };
        cx.set_vec(r, v);
        return Ok(Some(Flow::Next));
    }
    if let Some(op) = unary(m) {
        let r = xmm(cx, 0)?;
        let s = source(cx, 1)?;
        let imm = if cx.i.op_count() == 3 { cx.i.immediate8().into() } else { 0 };
        let v = cx.vec1(Type::V128, op, s, imm);
        cx.set_vec(r, v);
        return Ok(Some(Flow::Next));
    }
    if let Some((op, imm)) = with_imm(m, cx) {
        let r = xmm(cx, 0)?;
        let b = source(cx, 1)?;
        let a = cx.get_vec(r);
        let v = cx.vec2(op, a, b, imm);
        cx.set_vec(r, v);
        return Ok(Some(Flow::Next));
    }
    special(cx, m)
}

fn special(cx: &mut Cx, m: M) -> Result<Option<Flow>, NotLifted> {
    match m {
        M::Pmovmskb | M::Movmskps | M::Movmskpd => {
            let op = match m {
                M::Pmovmskb => VecOp::Pmovmskb,
                M::Movmskps => VecOp::Movmskps,
                _ => VecOp::Movmskpd,
            };
            let s = xmm(cx, 1)?;
            let s = cx.get_vec(s);
            let v = cx.vec1(Type::I32, op, s, 0);
            write_int(cx, Type::I32, v)?;
        }
        M::Movddup | M::Movshdup | M::Movsldup => {
            let r = xmm(cx, 0)?;
            let s = source(cx, 1)?;
            let v = match m {
                M::Movddup => cx.vec2(VecOp::Punpcklqdq, s, s, 0),
                M::Movshdup => cx.vec1(Type::V128, VecOp::Pshufd, s, 0xf5),
                _ => cx.vec1(Type::V128, VecOp::Pshufd, s, 0xa0),
            };
            cx.set_vec(r, v);
        }
        M::Pextrb | M::Pextrw | M::Pextrd | M::Pextrq | M::Extractps => {
            let ty = match m {
                M::Pextrb => Type::I8,
                M::Pextrw => Type::I16,
                M::Pextrq => Type::I64,
                _ => Type::I32,
            };
            let s = xmm(cx, 1)?;
            let s = cx.get_vec(s);
            let v = cx.vec1(ty, VecOp::Lane, s, lane(cx, ty));
            write_int(cx, ty, v)?;
        }
        M::Pinsrb | M::Pinsrw | M::Pinsrd | M::Pinsrq => {
            let ty = match m {
                M::Pinsrb => Type::I8,
                M::Pinsrw => Type::I16,
                M::Pinsrd => Type::I32,
                _ => Type::I64,
            };
            let r = xmm(cx, 0)?;
            let v = if cx.is_mem(1) {
                cx.read(1, ty)?
            } else {
                let g = cx.gpr(1)?;
                let v = cx.get(g);
                cx.resize(v, g.ty, ty)
            };
            let old = cx.get_vec(r);
            let imm = lane(cx, ty);
            let v = cx.vec2(VecOp::SetLane, old, v, imm);
            cx.set_vec(r, v);
        }
        M::Pblendvb | M::Blendvps | M::Blendvpd => {
            let r = xmm(cx, 0)?;
            let b = source(cx, 1)?;
            let a = cx.get_vec(r);
            let mut mask = cx.get_vec(0);
            if m != M::Pblendvb {
                // Spread each lane's sign over its bytes.
                mask = cx.vec1(Type::V128, VecOp::Psrad, mask, 31);
            }
            if m == M::Blendvpd {
                mask = cx.vec1(Type::V128, VecOp::Pshufd, mask, 0xf5);
            }
            let v = cx.b.op_imm(Op::Vec3, Type::V128, &[a, b, mask], 0, VecOp::Pblendvb as u32);
            cx.set_vec(r, v);
        }
        M::Ptest => {
            let b = source(cx, 1)?;
            let a = xmm(cx, 0)?;
            let a = cx.get_vec(a);
            let and = cx.vec2(VecOp::Pand, a, b, 0);
            let andn = cx.vec2(VecOp::Pandn, a, b, 0);
            let z = is_zero(cx, and);
            let c = is_zero(cx, andn);
            let z = cx.shl(Type::I32, z, 6);
            let f = cx.op(Op::Or, Type::I32, &[z, c]);
            let f = cx.op(Op::UnpackFlags, Type::Flags, &[f]);
            cx.b.set_flags(f);
        }
        _ => return Ok(None),
    }
    Ok(Some(Flow::Next))
}

/// The lane that the immediate names.
fn lane(cx: &Cx, ty: Type) -> i64 {
    i64::from(cx.i.immediate8()) & i64::from(128 / ty.bits() - 1)
}

/// 1 if vector `v` is all zero, else 0: I32.
fn is_zero(cx: &mut Cx, v: Value) -> Value {
    let lo = cx.vec1(Type::I64, VecOp::Lane, v, 0);
    let hi = cx.vec1(Type::I64, VecOp::Lane, v, 1);
    let any = cx.op(Op::Or, Type::I64, &[lo, hi]);
    let zero = cx.konst(Type::I64, 0);
    let z = cx.op(Op::CmpEq, Type::Bool, &[any, zero]);
    cx.op(Op::ZExt, Type::I32, &[z])
}

/// Two-operand forms with an immediate.
fn with_imm(m: M, cx: &Cx) -> Option<(VecOp, i64)> {
    if cx.i.op_count() != 3 {
        return None;
    }
    let imm = i64::from(cx.i.immediate8());
    Some(match m {
        M::Shufps => (VecOp::Shufps, imm),
        M::Shufpd => (VecOp::Shufpd, imm),
        M::Palignr => (VecOp::Palignr, imm),
        M::Pblendw => (VecOp::Pblendw, imm),
        // Wider lanes are two or four words each.
        M::Blendps => (VecOp::Pblendw, (0..4).map(|i| ((imm >> i & 1) * 3) << (2 * i)).sum()),
        M::Blendpd => (VecOp::Pblendw, (0..2).map(|i| ((imm >> i & 1) * 15) << (4 * i)).sum()),
        _ => return None,
    })
}

fn unary(m: M) -> Option<VecOp> {
    use VecOp::*;
    Some(match m {
        M::Pabsb => Pabsb,
        M::Pabsw => Pabsw,
        M::Pabsd => Pabsd,
        M::Pshufd => Pshufd,
        M::Pshuflw => Pshuflw,
        M::Pshufhw => Pshufhw,
        M::Pmovsxbw => Pmovsxbw,
        M::Pmovsxbd => Pmovsxbd,
        M::Pmovsxbq => Pmovsxbq,
        M::Pmovsxwd => Pmovsxwd,
        M::Pmovsxwq => Pmovsxwq,
        M::Pmovsxdq => Pmovsxdq,
        M::Pmovzxbw => Pmovzxbw,
        M::Pmovzxbd => Pmovzxbd,
        M::Pmovzxbq => Pmovzxbq,
        M::Pmovzxwd => Pmovzxwd,
        M::Pmovzxwq => Pmovzxwq,
        M::Pmovzxdq => Pmovzxdq,
        _ => return None,
    })
}

/// `op xmm, xmm/m128`, and the shifts.
fn binary(m: M) -> Option<VecOp> {
    use VecOp::*;
    Some(match m {
        M::Pand | M::Andps | M::Andpd => Pand,
        M::Pandn | M::Andnps | M::Andnpd => Pandn,
        M::Por | M::Orps | M::Orpd => Por,
        M::Pxor | M::Xorps | M::Xorpd => Pxor,
        M::Paddb => Paddb,
        M::Paddw => Paddw,
        M::Paddd => Paddd,
        M::Paddq => Paddq,
        M::Psubb => Psubb,
        M::Psubw => Psubw,
        M::Psubd => Psubd,
        M::Psubq => Psubq,
        M::Paddsb => Paddsb,
        M::Paddsw => Paddsw,
        M::Paddusb => Paddusb,
        M::Paddusw => Paddusw,
        M::Psubsb => Psubsb,
        M::Psubsw => Psubsw,
        M::Psubusb => Psubusb,
        M::Psubusw => Psubusw,
        M::Pmullw => Pmullw,
        M::Pmulhw => Pmulhw,
        M::Pmulhuw => Pmulhuw,
        M::Pmuludq => Pmuludq,
        M::Pmaddwd => Pmaddwd,
        M::Psadbw => Psadbw,
        M::Pavgb => Pavgb,
        M::Pavgw => Pavgw,
        M::Pminub => Pminub,
        M::Pmaxub => Pmaxub,
        M::Pminsw => Pminsw,
        M::Pmaxsw => Pmaxsw,
        M::Pminsb => Pminsb,
        M::Pmaxsb => Pmaxsb,
        M::Pminuw => Pminuw,
        M::Pmaxuw => Pmaxuw,
        M::Pminsd => Pminsd,
        M::Pmaxsd => Pmaxsd,
        M::Pminud => Pminud,
        M::Pmaxud => Pmaxud,
        M::Pmulld => Pmulld,
        M::Pmuldq => Pmuldq,
        M::Pmulhrsw => Pmulhrsw,
        M::Pmaddubsw => Pmaddubsw,
        M::Phaddw => Phaddw,
        M::Phaddd => Phaddd,
        M::Phaddsw => Phaddsw,
        M::Phsubw => Phsubw,
        M::Phsubd => Phsubd,
        M::Phsubsw => Phsubsw,
        M::Psignb => Psignb,
        M::Psignw => Psignw,
        M::Psignd => Psignd,
        M::Pcmpeqb => Pcmpeqb,
        M::Pcmpeqw => Pcmpeqw,
        M::Pcmpeqd => Pcmpeqd,
        M::Pcmpeqq => Pcmpeqq,
        M::Pcmpgtb => Pcmpgtb,
        M::Pcmpgtw => Pcmpgtw,
        M::Pcmpgtd => Pcmpgtd,
        M::Pcmpgtq => Pcmpgtq,
        M::Psllw => Psllw,
        M::Pslld => Pslld,
        M::Psllq => Psllq,
        M::Psrlw => Psrlw,
        M::Psrld => Psrld,
        M::Psrlq => Psrlq,
        M::Psraw => Psraw,
        M::Psrad => Psrad,
        M::Pslldq => Pslldq,
        M::Psrldq => Psrldq,
        M::Pshufb => Pshufb,
        M::Punpcklbw => Punpcklbw,
        M::Punpcklwd => Punpcklwd,
        M::Punpckldq | M::Unpcklps => Punpckldq,
        M::Punpcklqdq | M::Unpcklpd | M::Movlhps => Punpcklqdq,
        M::Punpckhbw => Punpckhbw,
        M::Punpckhwd => Punpckhwd,
        M::Punpckhdq | M::Unpckhps => Punpckhdq,
        M::Punpckhqdq | M::Unpckhpd => Punpckhqdq,
        M::Packsswb => Packsswb,
        M::Packssdw => Packssdw,
        M::Packuswb => Packuswb,
        M::Packusdw => Packusdw,
        _ => return None,
    })
}
