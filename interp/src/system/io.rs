//! I/O permission and port access (SDM vol. 1, chapter 19).

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// Whether IN or OUT of `size` bytes at `port` is allowed.
///
/// # Errors
/// As the manual lists them.
pub fn check(_cpu: &mut Cpu, _port: u16, _size: usize) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// IN, with the permission check.
///
/// # Errors
/// As the manual lists them.
pub fn port_in(_cpu: &mut Cpu, _port: u16, _size: usize) -> Result<u32, Exception> {
    Err(Exception::ud())
}

/// OUT, with the permission check.
///
/// # Errors
/// As the manual lists them.
pub fn port_out(_cpu: &mut Cpu, _port: u16, _size: usize, _value: u32) -> Result<(), Exception> {
    Err(Exception::ud())
}
