//! CLI, STI, PUSHF, POPF (SDM vol. 2; vol. 3B, 20.3 for VME).

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// CLI.
///
/// # Errors
/// As the manual lists them.
pub fn cli(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// STI; sets the interrupt shadow where IF was clear.
///
/// # Errors
/// As the manual lists them.
pub fn sti(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// PUSHF: the value to push.
///
/// # Errors
/// As the manual lists them.
pub fn pushf(_cpu: &Cpu, _size: usize) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// POPF of a value that has been read from the stack; the caller moves RSP afterwards.
///
/// # Errors
/// As the manual lists them.
pub fn popf(_cpu: &mut Cpu, _value: u64, _size: usize) -> Result<(), Exception> {
    Err(Exception::ud())
}
