//! The remaining system instructions.

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// HLT.
///
/// # Errors
/// As the manual lists them.
pub fn hlt(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INVLPG.
///
/// # Errors
/// As the manual lists them.
pub fn invlpg(_cpu: &mut Cpu, _lin: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INVPCID; `desc` is the 16-byte memory operand (check [`super::cpl0`] before reading it).
///
/// # Errors
/// As the manual lists them.
pub fn invpcid(_cpu: &mut Cpu, _kind: u64, _desc: u128) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INVD, WBINVD, WBNOINVD.
///
/// # Errors
/// As the manual lists them.
pub fn wbinvd(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// CLTS.
///
/// # Errors
/// As the manual lists them.
pub fn clts(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// LMSW.
///
/// # Errors
/// As the manual lists them.
pub fn lmsw(_cpu: &mut Cpu, _value: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// SMSW: the value to store (CR0; memory and 16-bit operands take the low word).
///
/// # Errors
/// As the manual lists them.
pub fn smsw(_cpu: &Cpu) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// SWAPGS.
///
/// # Errors
/// As the manual lists them.
pub fn swapgs(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// RDTSC: sets EDX:EAX.
///
/// # Errors
/// As the manual lists them.
pub fn rdtsc(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// RDTSCP: sets EDX:EAX and ECX.
///
/// # Errors
/// As the manual lists them.
pub fn rdtscp(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// RDPMC.
///
/// # Errors
/// As the manual lists them.
pub fn rdpmc(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// RDPID: the value to store.
///
/// # Errors
/// As the manual lists them.
pub fn rdpid(_cpu: &Cpu) -> Result<u64, Exception> {
    Err(Exception::ud())
}

/// MONITOR.
///
/// # Errors
/// As the manual lists them.
pub fn monitor(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// MWAIT.
///
/// # Errors
/// As the manual lists them.
pub fn mwait(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// XGETBV: sets EDX:EAX.
///
/// # Errors
/// As the manual lists them.
pub fn xgetbv(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// XSETBV.
///
/// # Errors
/// As the manual lists them.
pub fn xsetbv(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INT n.
///
/// # Errors
/// As the manual lists them.
pub fn int_n(_cpu: &mut Cpu, _vector: u8, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INT3.
///
/// # Errors
/// As the manual lists them.
pub fn int3(_cpu: &mut Cpu, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INT1 (ICEBP).
///
/// # Errors
/// As the manual lists them.
pub fn int1(_cpu: &mut Cpu, _next_rip: u64) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// INTO: traps if OF is set; otherwise the caller goes on at `next_rip` (false).
///
/// # Errors
/// As the manual lists them.
pub fn into(_cpu: &mut Cpu, _next_rip: u64) -> Result<bool, Exception> {
    Err(Exception::ud())
}

/// RSM.
///
/// # Errors
/// As the manual lists them.
pub fn rsm(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::ud())
}
