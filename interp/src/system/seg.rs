//! Segment loads and the segmentation check (SDM vol. 3A, chapters 3 and 5).

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::Seg;

/// MOV, POP or LxS of a data segment register. After a load of SS the caller sets the interrupt shadow.
///
/// # Errors
/// As the manual lists them.
pub fn load(_cpu: &mut Cpu, _seg: Seg, _sel: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// The linear address of `size` bytes at `offset` in `seg`, after all segment checks.
///
/// # Errors
/// As the manual lists them.
pub fn linear(_cpu: &Cpu, _seg: Seg, _offset: u64, _size: u64, _write: bool) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// The linear address of the code byte at `rip`, after the limit check.
///
/// # Errors
/// As the manual lists them.
pub fn code(_cpu: &Cpu, _rip: u64) -> Result<u64, Exception> {
    Err(Exception::ud())
}
