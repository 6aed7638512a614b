//! Far JMP, CALL, RET and IRET (SDM vol. 2; vol. 3A, 5.8 and 7.3).
//!
//! Operand size in bytes. Offsets and immediates come zero-extended from the instruction.

mod call;
mod iret;
mod ret;
#[cfg(test)]
mod tests;

pub use call::{call, jmp};
pub use iret::iret;
pub(super) use iret::unblock_nmi;
pub use ret::ret;

use super::{canonical, seg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::segment::attr;
use emu_core::state::{Mode, Seg, SegReg};

/// Whether transfers follow the rules of real and virtual-8086 mode.
fn is_8086(cpu: &Cpu) -> bool {
    !cpu.state.mode.contains(Mode::PROT)
}

/// #GP(0) unless `rip` may be executed in the code segment `cs`.
fn check_target(cpu: &Cpu, cs: &SegReg, rip: u64) -> Result<(), Exception> {
    let ok = if cpu.state.long_mode() && cs.attr & attr::L != 0 {
        canonical(cpu, rip)
    } else {
        rip <= cs.limit.into()
    };
    if ok { Ok(()) } else { Err(Exception::gp0()) }
}

/// #GP(selector) for a code segment that claims to be 64-bit and 32-bit at once.
fn check_long_code(cpu: &Cpu, code: &seg::Desc) -> Result<(), Exception> {
    let both = attr::L | attr::DB;
    if cpu.state.long_mode() && code.reg.attr & both == both {
        return Err(seg::fault(Vector::GP, code.sel));
    }
    Ok(())
}

/// The code segment of a RET or IRET to `sel`, checked: returns to the same or an outer level only.
fn return_cs(cpu: &mut Cpu, sel: u16) -> Result<seg::Desc, Exception> {
    if sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let bad = seg::fault(Vector::GP, sel);
    let cs = seg::fetch(cpu, sel)?.ok_or(bad)?;
    let rpl = seg::rpl(sel);
    let dpl_ok = if cs.is_conforming() { cs.dpl() <= rpl } else { cs.dpl() == rpl };
    if !cs.is_code() || rpl < cpu.state.cpl() || !dpl_ok {
        return Err(bad);
    }
    check_long_code(cpu, &cs)?;
    cs.check_present(Vector::NP)?;
    Ok(cs)
}

/// The stack segment that RET or IRET loads for a return to `cpl` in the code segment `cs`.
fn return_ss(cpu: &mut Cpu, sel: u16, cpl: u8, cs: &seg::Desc) -> Result<SegReg, Exception> {
    if sel & !3 == 0 {
        if cpu.state.long_mode() && cs.is_long() && cpl != 3 && seg::rpl(sel) == cpl {
            return Ok(seg::null_ss(sel, cpl));
        }
        return Err(Exception::gp0());
    }
    let bad = seg::fault(Vector::GP, sel);
    let ss = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if seg::rpl(sel) != cpl || ss.dpl() != cpl || !ss.is_writable_data() {
        return Err(bad);
    }
    ss.check_present(Vector::SS)?;
    ss.accessed(cpu)
}

/// After a return to an outer level: data segments that `cpl` may not use become null. A register that is already
/// null keeps its base (FS and GS of 64-bit code).
fn drop_privileged_segments(cpu: &mut Cpu, cpl: u8) {
    for s in [Seg::ES, Seg::DS, Seg::FS, Seg::GS] {
        let reg = &mut cpu.state.seg[s as usize];
        let conforming = reg.attr & (attr::CODE | attr::EC) == attr::CODE | attr::EC;
        if reg.present() && reg.attr & attr::S != 0 && !conforming && reg.dpl() < cpl {
            *reg = SegReg::null(0);
        }
    }
}
