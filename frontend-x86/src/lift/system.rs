//! Flag instructions, fences and instructions without effect. The rest of the system group is the interpreter's.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Cc, Op, StateField, Type, Value};
use emu_core::state::Mode;
use emu_core::state::bits::rflags;
use iced_x86::Mnemonic as M;

/// Flags of SAHF and LAHF.
const LOW_FLAGS: u64 = rflags::STATUS & 0xff;

/// See the module.
pub(super) fn lift(cx: &mut Cx) -> Lift {
    match cx.i.mnemonic() {
        // With REX.B the byte 90 is XCHG R8, which the decoder does not tell from PAUSE.
        M::Pause if cx.i.len() > 2 => return Err(NotLifted),
        M::Clc => {
            let c = cx.konst(Type::I32, 0);
            set_carry(cx, c);
        }
        M::Stc => {
            let c = cx.konst(Type::I32, 1);
            set_carry(cx, c);
        }
        M::Cmc => {
            let c = cx.guest_cc(Cc::AE);
            let c = cx.op(Op::ZExt, Type::I32, &[c]);
            set_carry(cx, c);
        }
        M::Cld => set_direction(cx, false),
        M::Std => set_direction(cx, true),
        M::Lahf => {
            available(cx)?;
            let f = cx.b.get_flags();
            let f = cx.op(Op::PackFlags, Type::I32, &[f]);
            let keep = cx.konst(Type::I32, LOW_FLAGS);
            let f = cx.op(Op::And, Type::I32, &[f, keep]);
            let fixed = cx.konst(Type::I32, rflags::FIXED1);
            let f = cx.op(Op::Or, Type::I32, &[f, fixed]);
            let f = cx.op(Op::Trunc, Type::I8, &[f]);
            cx.b.op(Op::SetRegHi, Type::I8, &[f]);
        }
        M::Sahf => {
            available(cx)?;
            let f = cx.b.op(Op::GetRegHi, Type::I8, &[]);
            let f = cx.op(Op::ZExt, Type::I32, &[f]);
            let f = cx.op(Op::UnpackFlags, Type::Flags, &[f]);
            let keep = cx.b.get_flags();
            let f = cx.merge(LOW_FLAGS as i64, f, keep);
            cx.b.set_flags(f);
        }
        M::Lfence => fence(cx, 0),
        M::Sfence => fence(cx, 1),
        M::Mfence => fence(cx, 2),
        _ => {}
    }
    Ok(Flow::Next)
}

/// LAHF and SAHF in 64-bit code are a feature of their own.
fn available(cx: &Cx) -> Result<(), NotLifted> {
    if cx.mode.contains(Mode::CODE64) && cx.features.ext1_ecx & 1 == 0 { Err(NotLifted) } else { Ok(()) }
}

fn set_carry(cx: &mut Cx, c: Value) {
    let f = cx.op(Op::UnpackFlags, Type::Flags, &[c]);
    let keep = cx.b.get_flags();
    let f = cx.merge(rflags::CF as i64, f, keep);
    cx.b.set_flags(f);
}

fn set_direction(cx: &mut Cx, on: bool) {
    let f = cx.b.get_state(StateField::RflagsSystem);
    let bit = cx.konst(Type::I64, if on { rflags::DF } else { !rflags::DF });
    let f = cx.op(if on { Op::Or } else { Op::And }, Type::I64, &[f, bit]);
    cx.b.op_imm(Op::SetState, Type::I64, &[f], StateField::RflagsSystem as i64, 0);
}

fn fence(cx: &mut Cx, kind: i64) {
    cx.b.op_imm(Op::Fence, Type::Void, &[], kind, 0);
}
