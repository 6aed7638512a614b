//! Descriptor-table instructions.

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::DescTable;

/// LGDT of an operand that has been read (check [`super::cpl0`] before reading it).
///
/// # Errors
/// As the manual lists them.
pub fn lgdt(_cpu: &mut Cpu, _base: u64, _limit: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// LIDT, as [`lgdt`].
///
/// # Errors
/// As the manual lists them.
pub fn lidt(_cpu: &mut Cpu, _base: u64, _limit: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// SGDT: what to store.
///
/// # Errors
/// As the manual lists them.
pub fn sgdt(_cpu: &Cpu) -> Result<DescTable, Exception> {
    Err(Exception::ud())
}

/// SIDT: what to store.
///
/// # Errors
/// As the manual lists them.
pub fn sidt(_cpu: &Cpu) -> Result<DescTable, Exception> {
    Err(Exception::ud())
}

/// LLDT.
///
/// # Errors
/// As the manual lists them.
pub fn lldt(_cpu: &mut Cpu, _sel: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// LTR.
///
/// # Errors
/// As the manual lists them.
pub fn ltr(_cpu: &mut Cpu, _sel: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// SLDT: what to store.
///
/// # Errors
/// As the manual lists them.
pub fn sldt(_cpu: &Cpu) -> Result<u16, Exception> {
    Err(Exception::ud())
}

/// STR: what to store.
///
/// # Errors
/// As the manual lists them.
pub fn str(_cpu: &Cpu) -> Result<u16, Exception> {
    Err(Exception::ud())
}

/// VERR; sets ZF.
///
/// # Errors
/// As the manual lists them.
pub fn verr(_cpu: &mut Cpu, _sel: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// VERW; sets ZF.
///
/// # Errors
/// As the manual lists them.
pub fn verw(_cpu: &mut Cpu, _sel: u16) -> Result<(), Exception> {
    Err(Exception::ud())
}

/// LAR; sets ZF and gives the value to store, if any.
///
/// # Errors
/// As the manual lists them.
pub fn lar(_cpu: &mut Cpu, _sel: u16) -> Result<Option<u32>, Exception> {
    Err(Exception::ud())
}

/// LSL; sets ZF and gives the value to store, if any.
///
/// # Errors
/// As the manual lists them.
pub fn lsl(_cpu: &mut Cpu, _sel: u16) -> Result<Option<u32>, Exception> {
    Err(Exception::ud())
}

/// ARPL: the new destination, if it changes. The caller stores it, then sets ZF to `is_some()`.
///
/// # Errors
/// As the manual lists them.
pub fn arpl(_cpu: &Cpu, _dst: u16, _src: u16) -> Result<Option<u16>, Exception> {
    Err(Exception::ud())
}
