//! Flag instructions, fences, instructions without effect, and those system instructions that need no more than a
//! change of a flag or register: CLI, STI, CLAC, STAC, SWAPGS, RDTSC, RDTSCP. The rest is the interpreter's.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Cc, Op, StateField, SystemKind, Type, Value};
use emu_core::state::bits::rflags;
use emu_core::state::{Mode, gpr};
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

/// System instructions whose checks the mode settles.
pub(super) fn privileged(cx: &mut Cx) -> Lift {
    let long0 = cx.mode.contains(Mode::CODE64) && cx.mode.cpl() == 0;
    let allowed = match cx.i.mnemonic() {
        // VIF stands in for IF only where IOPL does not allow the real thing.
        M::Cli | M::Sti => cx.mode.contains(Mode::IOPL_OK),
        M::Clac | M::Stac | M::Swapgs => long0,
        _ => true,
    };
    if !allowed {
        return Err(NotLifted);
    }
    match cx.i.mnemonic() {
        M::Cli => system(cx, SystemKind::DisableInterrupts),
        M::Sti => system(cx, SystemKind::EnableInterrupts),
        M::Clac => system(cx, SystemKind::ForbidUser),
        M::Stac => system(cx, SystemKind::AllowUser),
        M::Swapgs => system(cx, SystemKind::SwapGs),
        m => {
            let t = cx.b.op_imm(Op::ReadTsc, Type::I64, &[], 0, 0);
            if m == M::Rdtscp {
                let aux = cx.b.op_imm(Op::ReadTsc, Type::I64, &[], 1, 0);
                let aux = cx.op(Op::Trunc, Type::I32, &[aux]);
                cx.b.set_reg(Type::I32, gpr::RCX, aux);
            }
            let low = cx.op(Op::Trunc, Type::I32, &[t]);
            let high = cx.shr(Type::I64, t, 32);
            cx.b.set_reg(Type::I32, gpr::RAX, low);
            cx.b.set_reg(Type::I64, gpr::RDX, high);
        }
    }
    Ok(Flow::Next)
}

fn system(cx: &mut Cx, kind: SystemKind) {
    cx.b.op_imm(Op::System, Type::Void, &[], kind as i64, 0);
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
