//! Near JMP, Jcc, CALL, RET, LOOP, JCXZ.

use super::mov::{by_condition, condition_of};
use super::stack::{peek, push};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags;
use crate::operand::{Mem, R0, Src, W16, W32, W64, Width, reg, set_reg};
use emu_core::addr::is_canonical;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::bits::cr4;
use emu_core::state::bits::rflags::ZF;
use emu_core::state::{Mode, Seg};
use iced_x86::{Code, Mnemonic, OpKind};

/// Checks a near branch target (SDM vol. 2A, JMP): canonical in 64-bit code, within CS's limit elsewhere.
#[inline(always)]
fn check(cpu: &Cpu, target: u64) -> Result<(), Exception> {
    let s = &cpu.state;
    let good = if s.mode.contains(Mode::CODE64) {
        is_canonical(target, 48) || s.cr4 & cr4::LA57 != 0 && is_canonical(target, 57)
    } else {
        s.mode.contains(Mode::FLAT) || target <= u64::from(s.seg[Seg::CS as usize].limit)
    };
    if good { Ok(()) } else { Err(Exception::gp0()) }
}

/// Branches to `target`, cut to the operand size `W`.
#[inline(always)]
fn go<W: Width>(cpu: &mut Cpu, target: u64) -> Result<(), Exception> {
    let target = target & W::MASK;
    check(cpu, target)?;
    cpu.state.rip = target;
    Ok(())
}

fn jmp<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let target = cpu.state.rip.wrapping_add(op.imm);
    go::<W>(cpu, target)
}

fn jmp_to<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let target = S::get::<W>(cpu, op)?;
    go::<W>(cpu, target)
}

fn jcc<const CC: u8, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if flags::condition(cpu.state.rflags, CC) { jmp::<W>(cpu, op) } else { Ok(()) }
}

fn call<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = cpu.state.rip;
    let target = next.wrapping_add(op.imm) & W::MASK;
    check(cpu, target)?;
    push::<W>(cpu, next)?;
    cpu.state.rip = target;
    Ok(())
}

fn call_to<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = cpu.state.rip;
    let target = S::get::<W>(cpu, op)?;
    check(cpu, target)?;
    push::<W>(cpu, next)?;
    cpu.state.rip = target;
    Ok(())
}

/// RET, releasing `imm` bytes of parameters.
fn ret<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (target, sp) = peek::<W>(cpu, 0)?;
    check(cpu, target)?;
    cpu.state.rip = target;
    super::stack::set_sp(cpu, sp.wrapping_add(op.imm));
    Ok(())
}

/// LOOP (`KIND` 0), LOOPE (1), LOOPNE (2) with counter `C` and operand size `W`.
fn loop_<const KIND: u8, C: Width, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let count = reg::<C>(&cpu.state, 1).wrapping_sub(1) & C::MASK;
    let zf = cpu.state.rflags & ZF != 0;
    let taken = count != 0
        && match KIND {
            0 => true,
            1 => zf,
            _ => !zf,
        };
    if taken {
        jmp::<W>(cpu, op)?;
    }
    set_reg::<C>(&mut cpu.state, 1, count);
    Ok(())
}

fn jcxz<C: Width, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    if reg::<C>(&cpu.state, 1) == 0 { jmp::<W>(cpu, op) } else { Ok(()) }
}

macro_rules! by_target {
    ($s:ident, |$w:ident| $e:expr) => {
        match $s.ins.op0_kind() {
            OpKind::NearBranch16 => {
                type $w = W16;
                $e
            }
            OpKind::NearBranch32 => {
                type $w = W32;
                $e
            }
            _ => {
                type $w = W64;
                $e
            }
        }
    };
}

/// Size in bytes of the counter of LOOP and JCXZ.
fn counter(code: Code) -> usize {
    use Code::*;
    match code {
        Loop_rel8_16_CX | Loop_rel8_32_CX | Loope_rel8_16_CX | Loope_rel8_32_CX | Loopne_rel8_16_CX
        | Loopne_rel8_32_CX | Jcxz_rel8_16 | Jcxz_rel8_32 => 2,
        Loop_rel8_16_RCX | Loop_rel8_64_RCX | Loope_rel8_16_RCX | Loope_rel8_64_RCX | Loopne_rel8_16_RCX
        | Loopne_rel8_64_RCX | Jrcxz_rel8_16 | Jrcxz_rel8_64 => 8,
        _ => 4,
    }
}

macro_rules! by_counter {
    ($s:ident, |$c:ident, $w:ident| $e:expr) => {
        match counter($s.ins.code()) {
            2 => {
                type $c = W16;
                by_target!($s, |$w| $e)
            }
            4 => {
                type $c = W32;
                by_target!($s, |$w| $e)
            }
            _ => {
                type $c = W64;
                by_target!($s, |$w| $e)
            }
        }
    };
}

macro_rules! indirect {
    ($s:ident, $f:ident) => {
        match ($s.kinds[0] == Kind::Reg, $s.bytes) {
            (true, 2) => $f::<R0, W16> as Handler,
            (true, 4) => $f::<R0, W32>,
            (true, _) => $f::<R0, W64>,
            (false, 2) => $f::<Mem, W16>,
            (false, 4) => $f::<Mem, W32>,
            (false, _) => $f::<Mem, W64>,
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    let direct =
        matches!(s.ins.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    Some(match s.mnemonic() {
        Jmp if direct => by_target!(s, |W| jmp::<W> as Handler),
        Call if direct => by_target!(s, |W| call::<W> as Handler),
        Jmp if s.ins.is_jmp_near_indirect() => indirect!(s, jmp_to),
        Call if s.ins.is_call_near_indirect() => indirect!(s, call_to),
        Ret => match s.ins.code() {
            Code::Retnw | Code::Retnw_imm16 => ret::<W16>,
            Code::Retnd | Code::Retnd_imm16 => ret::<W32>,
            _ => ret::<W64>,
        },
        Loop => by_counter!(s, |C, W| loop_::<0, C, W> as Handler),
        Loope => by_counter!(s, |C, W| loop_::<1, C, W> as Handler),
        Loopne => by_counter!(s, |C, W| loop_::<2, C, W> as Handler),
        Jcxz | Jecxz | Jrcxz => by_counter!(s, |C, W| jcxz::<C, W> as Handler),
        _ if direct => {
            let cc = condition_of(s)?;
            by_condition!(cc, |N| by_target!(s, |W| jcc::<N, W> as Handler))
        }
        _ => return None,
    })
}
