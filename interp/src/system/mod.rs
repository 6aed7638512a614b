//! The system side of the processor: far transfers, events, task switches, CPUID, MSRs, control registers.
//!
//! Everything here takes the whole [`Cpu`]. Invariant: on `Err(Exception)` no guest state has been changed, so the
//! instruction can be restarted; the one exception is a task switch that faults after its commit point (SDM vol.
//! 3A, 7.3), where the state is the new task's and the exception belongs to its first instruction. So whoever
//! gets an `Err` must deliver it at `cpu.state.rip` as it stands. On success, functions that transfer control have
//! set `cpu.state.rip`; all others leave it to the caller.
//!
//! Operand sizes are in bytes: 2, 4 or 8. "SDM" is the Intel manual of December 2022.

pub mod cpuid;
pub mod cr;
pub mod deliver;
pub mod desc;
pub mod far;
pub mod flags;
pub mod init;
pub mod io;
mod kvmclock;
pub mod misc;
pub mod msr;
mod mtrr;
pub mod seg;
mod smm;
mod stack;
pub mod syscall;
mod task;
#[cfg(test)]
mod testbed;

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// #GP(0) unless at CPL 0: the first check of every privileged instruction.
///
/// # Errors
/// #GP(0).
#[inline]
pub fn cpl0(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cpl() == 0 { Ok(()) } else { Err(Exception::gp0()) }
}

/// Whether `addr` is canonical; outside long mode every address is.
fn canonical(cpu: &Cpu, addr: u64) -> bool {
    !cpu.state.long_mode() || cpu.state.is_canonical(addr)
}
