//! Control and debug registers.

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// MOV from CR0, 2, 3, 4 or 8.
///
/// # Errors
/// As the manual lists them.
pub fn read(_cpu: &mut Cpu, _n: u8) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// MOV to CR0, 2, 3, 4 or 8.
///
/// # Errors
/// As the manual lists them.
pub fn write(_cpu: &mut Cpu, _n: u8, _value: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// MOV from DRn.
///
/// # Errors
/// As the manual lists them.
pub fn read_dr(_cpu: &mut Cpu, _n: u8) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// MOV to DRn.
///
/// # Errors
/// As the manual lists them.
pub fn write_dr(_cpu: &mut Cpu, _n: u8, _value: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}
