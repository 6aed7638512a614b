//! Flag instructions, fences, instructions without effect, and those system instructions that need no more than a
//! change of a flag or register: CLI, STI, CLAC, STAC, SWAPGS, RDTSC, RDTSCP; reads of control registers and PKRU, the
//! bases of FS and GS; and SYSCALL, SYSRET and IRETQ. The rest is the interpreter's.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::{Cc, Op, StateField, SystemKind, TransferKind, Type, Value};
use emu_core::state::bits::{cr4, rflags};
use emu_core::state::{Mode, gpr};
use iced_x86::{Mnemonic as M, Register};

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

/// MOV from CR0, CR2, CR3 or CR4.
pub(super) fn from_control(cx: &mut Cx, src: Register) -> Lift {
    let field = match src {
        Register::CR0 => StateField::Cr0,
        Register::CR2 => StateField::Cr2,
        Register::CR3 => StateField::Cr3,
        Register::CR4 => StateField::Cr4,
        _ => return Err(NotLifted),
    };
    if !cx.mode.contains(Mode::CODE64) || cx.mode.cpl() != 0 {
        return Err(NotLifted);
    }
    let v = cx.b.get_state(field);
    let r = cx.gpr(0)?;
    cx.set(r, v);
    Ok(Flow::Next)
}

/// Leaves the instruction to the interpreter unless CR4 has `want` of the bits of `mask`.
fn need_cr4(cx: &mut Cx, mask: u64, want: u64) {
    let v = cx.b.get_state(StateField::Cr4);
    let mask = cx.konst(Type::I64, mask);
    let v = cx.op(Op::And, Type::I64, &[v, mask]);
    let want = cx.konst(Type::I64, want);
    let wrong = cx.op(Op::CmpNe, Type::Bool, &[v, want]);
    cx.b.op(Op::InterpretIf, Type::Void, &[wrong]);
}

/// RDPKRU: ECX must be zero.
pub(super) fn rdpkru(cx: &mut Cx) -> Lift {
    if !cx.mode.contains(Mode::CODE64) {
        return Err(NotLifted);
    }
    need_cr4(cx, cr4::PKE, cr4::PKE);
    let c = cx.b.get_reg(Type::I32, gpr::RCX);
    let zero = cx.konst(Type::I32, 0);
    let wrong = cx.op(Op::CmpNe, Type::Bool, &[c, zero]);
    cx.b.op(Op::InterpretIf, Type::Void, &[wrong]);
    let v = cx.b.get_state(StateField::Pkru);
    cx.b.set_reg(Type::I32, gpr::RAX, v);
    cx.b.set_reg(Type::I32, gpr::RDX, zero);
    Ok(Flow::Next)
}

/// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE.
pub(super) fn segment_base(cx: &mut Cx) -> Lift {
    if !cx.mode.contains(Mode::CODE64) {
        return Err(NotLifted);
    }
    let m = cx.i.mnemonic();
    let fs = matches!(m, M::Rdfsbase | M::Wrfsbase);
    let field = if fs { StateField::FsBase } else { StateField::GsBase };
    need_cr4(cx, cr4::FSGSBASE, cr4::FSGSBASE);
    let r = cx.gpr(0)?;
    if matches!(m, M::Rdfsbase | M::Rdgsbase) {
        let v = cx.b.get_state(field);
        let v = cx.resize(v, Type::I64, r.ty);
        cx.set(r, v);
        return Ok(Flow::Next);
    }
    let v = cx.get(r);
    let v = cx.resize(v, r.ty, Type::I64);
    if r.ty == Type::I64 {
        // Canonical addresses have 48 bits, or 57.
        let bits = cx.b.get_state(StateField::Cr4);
        let (mask, zero) = (cx.konst(Type::I64, cr4::LA57), cx.konst(Type::I64, 0));
        let bits = cx.op(Op::And, Type::I64, &[bits, mask]);
        let long = cx.op(Op::CmpNe, Type::Bool, &[bits, zero]);
        let (few, many) = (cx.konst(Type::I8, 64 - 57), cx.konst(Type::I8, 64 - 48));
        let count = cx.op(Op::Select, Type::I8, &[long, few, many]);
        let up = cx.op(Op::Shl, Type::I64, &[v, count]);
        let same = cx.op(Op::Sar, Type::I64, &[up, count]);
        let wrong = cx.op(Op::CmpNe, Type::Bool, &[v, same]);
        cx.b.op(Op::InterpretIf, Type::Void, &[wrong]);
    }
    cx.b.op_imm(Op::SetState, Type::I64, &[v], field as i64, 0);
    Ok(Flow::Next)
}

/// SYSCALL, SYSRET and IRETQ of 64-bit code.
pub(super) fn transfer(cx: &mut Cx) -> Lift {
    let kind = match cx.i.mnemonic() {
        M::Syscall => TransferKind::Syscall,
        M::Sysretq => TransferKind::Sysret,
        _ => TransferKind::Iret,
    };
    let allowed = kind == TransferKind::Syscall || cx.mode.cpl() == 0;
    if !cx.mode.contains(Mode::CODE64) || !allowed {
        return Err(NotLifted);
    }
    cx.b.op_imm(Op::Transfer, Type::Void, &[], kind as i64, 0);
    Ok(Flow::End)
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
