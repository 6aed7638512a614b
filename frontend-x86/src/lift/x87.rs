//! The x87, register stack and all, by escape opcode (SDM vol. 2, A.5).
//!
//! IR ops name x87 instructions as they are; their stack, tags and status word are the x87's own. What a host without an
//! x87 does not promise to repeat bit by bit (transcendentals), what is rare (environments, FNINIT) and undocumented
//! aliases are left to the interpreter.

use crate::operand::{Cx, Flow, Lift, NotLifted};
use emu_core::ir::x87::{self, Access, POINTERS, WAIT};
use emu_core::ir::{Cc, Op, Type, mem_flags};
use emu_core::state::{Mode, Seg, gpr};
use iced_x86::Mnemonic;

/// How [`x87`] names the instruction, if it is of this group.
pub(super) fn opcode(cx: &Cx) -> Option<u32> {
    if cx.i.mnemonic() == Mnemonic::Wait {
        return Some(WAIT);
    }
    let prefix = |b: u8| {
        matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
            || cx.mode.contains(Mode::CODE64) && b & 0xf0 == 0x40
    };
    let mut rest = cx.bytes.iter().copied().skip_while(|&b| prefix(b));
    let (escape, modrm) = (rest.next()?, rest.next()?);
    (escape & 0xf8 == 0xd8).then(|| u32::from(escape & 7) << 8 | u32::from(modrm))
}

/// Lifts the instruction named `aux`.
pub(super) fn lift(cx: &mut Cx, aux: u32) -> Lift {
    if cx.mode.contains(Mode::NO_FPU) {
        return Err(NotLifted);
    }
    if x87::memory(aux) { memory(cx, aux) } else { registers(cx, aux) }
}

fn memory(cx: &mut Cx, aux: u32) -> Lift {
    let (bytes, write) = match x87::access(aux) {
        Access::Read(n) => (n, false),
        Access::Write(n) => (n, true),
        Access::Other => return Err(NotLifted),
    };
    // FLDCW, FNSTCW and FNSTSW keep the pointers.
    let control = matches!((x87::escape(aux), x87::digit(aux)), (0xd9, 5 | 7) | (0xdd, 7));
    let aux = if control { aux } else { aux | POINTERS };
    let seg = cx.seg();
    // A pending error comes before the operand's segment is looked at; FNSTCW and FNSTSW do not wait for one.
    let waits = !control || x87::loads_control(aux);
    if waits && (!cx.mode.contains(Mode::FLAT) || matches!(seg, Seg::FS | Seg::GS | Seg::CS)) {
        cx.b.op_imm(Op::X87, Type::Void, &[], 0, WAIT);
    }
    let offset = cx.offset(0, None);
    let a = cx.linear(offset, seg, bytes, write);
    let imm = a.aux | (seg as u32) << mem_flags::SEG_SHIFT | bytes << mem_flags::SIZE_SHIFT;
    cx.b.op_imm(Op::X87Mem, Type::Void, &[a.lin, offset], imm.into(), aux);
    Ok(Flow::Next)
}

fn registers(cx: &mut Cx, aux: u32) -> Lift {
    let (escape, modrm) = (x87::escape(aux), x87::modrm(aux));
    let moving = aux | POINTERS;
    let op = |cx: &mut Cx, ty, args: &[_], aux| cx.b.op_imm(Op::X87, ty, args, 0, aux);
    if aux == WAIT {
        op(cx, Type::Void, &[], aux);
        return Ok(Flow::Next);
    }
    match (escape, modrm) {
        (0xd8, _)
        | (0xd9, 0xc0..=0xcf | 0xe0 | 0xe1 | 0xe4 | 0xe5 | 0xe8..=0xee)
        | (0xd9, 0xf4..=0xf8 | 0xfa | 0xfc | 0xfd)
        | (0xda, 0xe9)
        | (0xdc, 0xc0..=0xcf | 0xe0..=0xff)
        | (0xdd, 0xc0..=0xc7 | 0xd0..=0xef)
        | (0xde, 0xc0..=0xcf | 0xd9 | 0xe0..=0xff) => {
            op(cx, Type::Void, &[], moving);
        }
        // FNOP and FNCLEX keep the pointers.
        (0xd9, 0xd0) | (0xdb, 0xe2) => {
            op(cx, Type::Void, &[], aux);
        }
        (0xda | 0xdb, 0xc0..=0xdf) => {
            let cc = [Cc::B, Cc::E, Cc::BE, Cc::P][usize::from(modrm >> 3 & 3)];
            let cc = cx.guest_cc(if escape == 0xdb { cc.invert() } else { cc });
            op(cx, Type::Void, &[cc], moving);
        }
        (0xdb | 0xdf, 0xe8..=0xf7) => {
            let f = op(cx, Type::Flags, &[], moving);
            cx.b.set_flags(f);
        }
        (0xdf, 0xe0) => {
            let v = op(cx, Type::I16, &[], aux);
            cx.b.set_reg(Type::I16, gpr::RAX, v);
        }
        _ => return Err(NotLifted),
    }
    Ok(Flow::Next)
}
