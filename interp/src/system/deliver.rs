//! Delivery of exceptions and interrupts (SDM vol. 3A, chapter 6).

use emu_core::cpu::Cpu;
use emu_core::fault::Exception;

/// A triple fault: the processor has shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown;

/// Set in [`Exception::error`] of a #DB that is a fault (instruction breakpoint, general detect): RF is pushed set.
pub const DB_FAULT: u32 = 1 << 31;

/// A #DB with the DR6 bits it is to set; delivery sets them.
pub const fn debug(dr6: u32, fault: bool) -> Exception {
    Exception::with_error(emu_core::fault::Vector::DB, dr6 | if fault { DB_FAULT } else { 0 })
}

/// What [`service`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Nothing to do: go on.
    Nothing,
    /// An NMI or interrupt was taken: `rip` has changed.
    Taken,
    /// The processor is halted and nothing woke it.
    Halted,
    /// Request bits that are the run loop's are set (they are left set).
    Exit(u32),
    /// Delivery ended in a triple fault.
    Shutdown,
}

/// Delivers `e` at `cpu.state.rip` (of the faulting instruction, or of the next one for traps).
///
/// # Errors
/// [`Shutdown`].
pub fn exception(_cpu: &mut Cpu, _e: Exception) -> Result<(), Shutdown> {
    Err(Shutdown)
}

/// Serves the request bits in `cpu.signals`: at block boundaries when one is set, and while halted.
pub fn service(_cpu: &mut Cpu) -> Service {
    Service::Nothing
}

/// To be called after IF was set or CR8 lowered other than by this module: a waiting interrupt is signalled anew.
pub fn interrupts_enabled(_cpu: &mut Cpu) {}
