//! FNINIT, FNCLEX, FLDCW, FNSTCW, FNSTSW, FNOP, and the 8087's FNENI, FNDISI and 287's FNSETPM, which do nothing.
//!
//! None of these moves the instruction and operand pointers. The forms that begin with FN do not wait for a pending
//! exception.

use super::super::save_area::{control_word, status_word};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{Dst, Mem, R0, Src, W16};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::FpuState;
use iced_x86::Mnemonic;

/// The control word after FNINIT.
const FCW_INIT: u16 = 0x37f;

/// #MF if an unmasked exception is pending: the first act of every waiting instruction.
///
/// # Errors
/// #MF.
#[inline(always)]
pub fn wait(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.fpu.fsw & 0x80 != 0 { Err(Exception::new(Vector::MF)) } else { Ok(()) }
}

/// FNINIT: the registers keep their contents and become empty.
pub fn initialise(f: &mut FpuState) {
    *f = FpuState { st: f.st, fcw: FCW_INIT, fsw: 0, ftw: 0, fop: 0, fip: 0, fcs: 0, fdp: 0, fds: 0 };
}

fn fninit(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    initialise(&mut cpu.state.fpu);
    Ok(())
}

fn fnclex(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.state.fpu.fsw &= 0x7f00;
    Ok(())
}

fn fldcw(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let value = Mem::get::<W16>(cpu, op)? as u16;
    let f = &mut cpu.state.fpu;
    f.fcw = control_word(value);
    f.fsw = status_word(f.fcw, f.fsw);
    Ok(())
}

fn fnstcw(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.state.fpu.fcw;
    Mem::put::<W16>(cpu, op, value.into())
}

fn fnstsw<D: Dst>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = cpu.state.fpu.fsw;
    D::put::<W16>(cpu, op, value.into())
}

fn fnop(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    wait(cpu)
}

fn nothing(_cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    Ok(())
}

/// The handler, if the instruction is of this file.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match s.mnemonic() {
        Fninit => fninit,
        Fnclex => fnclex,
        Fldcw => fldcw,
        Fnstcw => fnstcw,
        Fnstsw if s.kinds[0] == Kind::Reg => fnstsw::<R0>,
        Fnstsw => fnstsw::<Mem>,
        Fnop => fnop,
        Fneni | Fndisi | Fnsetpm => nothing,
        _ => return None,
    })
}
