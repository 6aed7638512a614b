//! FXSAVE and FXRSTOR (SDM vol. 2A), in their legacy and REX.W forms.
//!
//! XMM registers and MXCSR are saved and restored whatever CR4.OSFXSR says, which the manual leaves to the processor.
//! CPUID offers no "fast FXSAVE" that would skip them.

use super::save_area::{Area, LEGACY_SIZE, XMM_AT, XMM_SIZE};
use crate::decode::{Handler, Op, Shape, raise};
use crate::operand::linear;
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::Mode;
use iced_x86::Mnemonic;

/// The area's address: #GP(0) unless 16-byte aligned.
fn area_address(cpu: &mut Cpu, op: &Op, write: bool) -> Result<u64, Exception> {
    let lin = linear(cpu, op, LEGACY_SIZE as u64, write)?;
    if lin & 15 == 0 { Ok(lin) } else { Err(Exception::gp0()) }
}

fn fxsave<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let lin = area_address(cpu, op, true)?;
    let mut area = Area::empty();
    area.set_x87(&cpu.state.fpu, WIDE);
    area.set_mxcsr(cpu.state.mxcsr);
    area.set_xmm(&cpu.state);
    area.write(cpu, lin, op.stack())
}

fn fxrstor<const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let lin = area_address(cpu, op, false)?;
    let mut area = Area::empty();
    // What follows is reserved or the guest's own.
    area.read(cpu, lin, op.stack(), 0, XMM_AT + XMM_SIZE)?;
    cpu.state.mxcsr = area.mxcsr()?;
    cpu.state.fpu = area.x87(WIDE);
    area.load_xmm(&mut cpu.state);
    cpu.state.update_mode();
    Ok(())
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    let run: Handler = match s.mnemonic() {
        Fxsave => fxsave::<false>,
        Fxsave64 => fxsave::<true>,
        Fxrstor => fxrstor::<false>,
        Fxrstor64 => fxrstor::<true>,
        _ => return None,
    };
    Some(if s.mode.contains(Mode::NO_FPU) { raise(Vector::NM) } else { run })
}
