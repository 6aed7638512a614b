//! Far JMP, CALL, RET and IRET (SDM vol. 3A, 5.8).

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// Far JMP.
///
/// # Errors
/// As the manual lists them.
pub fn jmp(_cpu: &mut Cpu, _sel: u16, _offset: u64, _size: usize, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// Far CALL.
///
/// # Errors
/// As the manual lists them.
pub fn call(_cpu: &mut Cpu, _sel: u16, _offset: u64, _size: usize, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// Far RET, releasing `imm` bytes of parameters.
///
/// # Errors
/// As the manual lists them.
pub fn ret(_cpu: &mut Cpu, _size: usize, _imm: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// IRET, IRETD, IRETQ.
///
/// # Errors
/// As the manual lists them.
pub fn iret(_cpu: &mut Cpu, _size: usize, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}
