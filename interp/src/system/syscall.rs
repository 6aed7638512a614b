//! SYSCALL, SYSRET, SYSENTER, SYSEXIT.

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// SYSCALL.
///
/// # Errors
/// As the manual lists them.
pub fn syscall(_cpu: &mut Cpu, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// SYSRET; `size` 8 returns to 64-bit code.
///
/// # Errors
/// As the manual lists them.
pub fn sysret(_cpu: &mut Cpu, _size: usize) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// SYSENTER.
///
/// # Errors
/// As the manual lists them.
pub fn sysenter(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// SYSEXIT; `size` 8 returns to 64-bit code.
///
/// # Errors
/// As the manual lists them.
pub fn sysexit(_cpu: &mut Cpu, _size: usize) -> Result<(), Exception> {
    Err(Exception::ud())
}
