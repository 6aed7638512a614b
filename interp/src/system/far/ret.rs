//! Far RET.

use super::{check_target, drop_privileged_segments, is_8086, return_cs, return_ss};
use crate::system::seg;
use crate::system::stack::{self, Pops};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::{Seg, gpr};

/// Far RET, releasing `imm` bytes of parameters.
///
/// # Errors
/// #GP, #NP, #SS and page faults, as the manual lists them.
pub fn ret(cpu: &mut Cpu, size: usize, imm: u16) -> Result<(), Exception> {
    let mut pops = Pops::new(cpu, size);
    let rip = pops.pop(cpu)?;
    let sel = pops.pop(cpu)? as u16;
    pops.skip(imm.into());
    if is_8086(cpu) {
        if rip > cpu.state.seg[Seg::CS as usize].limit.into() {
            return Err(Exception::gp0());
        }
        cpu.state.gpr[gpr::RSP] = pops.rsp();
        cpu.state.seg[Seg::CS as usize] = seg::legacy(cpu, Seg::CS, sel);
        cpu.state.rip = rip;
        cpu.mode_changed();
        return Ok(());
    }
    let code = return_cs(cpu, sel)?;
    let cpl = seg::rpl(sel);
    let outward = cpl > cpu.state.cpl();
    let mut rsp = pops.rsp();
    let mut new_ss = None;
    if outward {
        let sp = pops.pop(cpu)?;
        let ss_sel = pops.pop(cpu)? as u16;
        let ss = return_ss(cpu, ss_sel, cpl, &code)?;
        let long = cpu.state.long_mode() && code.is_long();
        let mask = if long { u64::MAX } else { stack::mask(&ss) };
        // The parameters were copied, so they are released on the outer stack too.
        rsp = stack::merge(cpu.state.gpr[gpr::RSP], sp.wrapping_add(imm.into()), mask);
        new_ss = Some(ss);
    }
    check_target(cpu, &code.reg, rip)?;
    let cs = code.accessed(cpu)?;
    if let Some(ss) = new_ss {
        cpu.state.seg[Seg::SS as usize] = ss;
    }
    cpu.state.seg[Seg::CS as usize] = cs;
    cpu.state.gpr[gpr::RSP] = rsp;
    cpu.state.rip = rip;
    if outward {
        drop_privileged_segments(cpu, cpl);
    }
    cpu.mode_changed();
    Ok(())
}
