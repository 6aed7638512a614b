//! Delivery of exceptions and interrupts (SDM vol. 3A, chapter 6).
//!
//! Delivery is a transaction: a fault on the way (a bad gate, a stack that is not there) leaves the state as it was
//! before, and becomes the next event to deliver, merged with the first by the double-fault table.

mod legacy;
mod long;
mod service;
#[cfg(test)]
mod tests;

pub use service::{Service, interrupts_enabled, service};

use super::flags;
use emu_core::cpu::{Caught, Cpu};
use emu_core::events::{self, Origin};
use emu_core::fault::{Exception, Vector};
use emu_core::state::Activity;
use emu_core::state::bits::{debugctl, rflags};

/// A triple fault: the processor has shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown;

/// Set in [`Exception::error`] of a #DB that is a fault (instruction breakpoint, general detect): RF is pushed set.
pub const DB_FAULT: u32 = 1 << 31;

/// A #DB with the DR6 bits it is to set; delivery sets them. Vector 1 pushes no error code.
pub const fn debug(dr6: u32, fault: bool) -> Exception {
    Exception::with_error(Vector::DB, dr6 | if fault { DB_FAULT } else { 0 })
}

/// Where an interrupt comes from: this decides privilege checks, the EXT bit and the return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`next_rip` is the address of the following instruction everywhere")]
pub enum Kind {
    /// A maskable interrupt from the APIC or the 8259.
    External,
    /// A non-maskable interrupt: [`asynchronous`] blocks further ones until IRET.
    Nmi,
    /// INT n: the gate's DPL is checked.
    Software { next_rip: u64 },
    /// INT1: a trap like any #DB, without DPL check.
    Int1 { next_rip: u64 },
    /// INT3: as INT n with vector 3.
    Int3 { next_rip: u64 },
    /// INTO: as INT n with vector 4.
    Into { next_rip: u64 },
}

/// One event on its way through the IDT.
#[derive(Clone, Copy, Debug)]
struct Event {
    vector: u8,
    /// To be pushed last, in protected and long mode.
    error: Option<u32>,
    /// Caused by INT n, INT3 or INTO: check the gate's DPL, keep EXT clear.
    soft: bool,
    /// Return address.
    rip: u64,
    /// RFLAGS as pushed.
    flags: u64,
}

impl Event {
    /// The error code for a fault on this event's own gate.
    fn gate_fault(&self, vector: Vector) -> Exception {
        Exception::with_error(vector, u32::from(self.vector) * 8 + 2)
    }
}

/// Delivers `e` at `cpu.state.rip` (that of the faulting instruction, or of the next one for traps).
///
/// # Errors
/// [`Shutdown`], with the state as it was before the third fault's delivery.
pub fn exception(cpu: &mut Cpu, e: Exception) -> Result<(), Shutdown> {
    if cpu.catch {
        return catch(cpu, e);
    }
    let mut current = e;
    loop {
        match raise(cpu, current) {
            Ok(()) => return Ok(()),
            Err(next) => match combine(current.vector, next) {
                Some(e) => {
                    // Also when it becomes a double fault: handlers look there for an overflown stack.
                    if next.vector == Vector::PF {
                        cpu.state.cr2 = next.cr2;
                    }
                    current = e;
                }
                None => {
                    tracing::debug!(rip = cpu.state.rip, first = ?e, "triple fault");
                    cpu.fatal = Some(e);
                    cpu.state.activity = Activity::Shutdown;
                    // Nothing is executed any more that a shadow could cover.
                    cpu.state.shadow = 0;
                    return Err(Shutdown);
                }
            },
        }
    }
}

/// Leaves `e` to the embedder, unless a software interrupt has been left already, whose return address `e` carries.
#[cold]
fn catch(cpu: &mut Cpu, e: Exception) -> Result<(), Shutdown> {
    let start = cpu.state.rip;
    match &mut cpu.caught {
        Some(c) if c.software => {
            c.start = start;
            cpu.state.rip = e.cr2;
        }
        _ => {
            let (vector, error) = (e.vector as u8, e.vector.has_error_code().then_some(e.error));
            cpu.caught = Some(Caught { vector, error, cr2: e.cr2, software: false, start, raised: e });
        }
    }
    Err(Shutdown)
}

/// Delivers an interrupt. For External and NMI see [`asynchronous`], which also delivers the faults of delivery.
///
/// # Errors
/// The fault met on the way, with EXT in its error code where it belongs.
pub fn interrupt(cpu: &mut Cpu, vector: u8, kind: Kind) -> Result<(), Exception> {
    if cpu.catch {
        let next = match kind {
            Kind::External | Kind::Nmi => cpu.state.rip,
            Kind::Software { next_rip }
            | Kind::Int1 { next_rip }
            | Kind::Int3 { next_rip }
            | Kind::Into { next_rip } => next_rip,
        };
        // Not an error to tell: it leads to `catch`, which finds what is caught already.
        let raised = Exception { vector: Vector::BP, error: 0, cr2: next };
        let start = cpu.state.rip;
        cpu.caught = Some(Caught { vector, error: None, cr2: 0, software: true, start, raised });
        return Err(raised);
    }
    let (rip, soft) = match kind {
        Kind::External | Kind::Nmi => (cpu.state.rip, false),
        Kind::Int1 { next_rip } => (next_rip, false),
        Kind::Software { next_rip } | Kind::Int3 { next_rip } | Kind::Into { next_rip } => (next_rip, true),
    };
    let origin = match kind {
        Kind::External => Origin::External,
        Kind::Nmi => Origin::Nmi,
        _ => Origin::Software,
    };
    cpu.tell(events::Event::Interrupt { vector, origin });
    let event = Event { vector, error: None, soft, rip, flags: cpu.state.rflags };
    dispatch(cpu, &event)
}

/// Delivers an external interrupt or NMI between two instructions, and whatever faults that raises.
///
/// # Errors
/// [`Shutdown`].
pub fn asynchronous(cpu: &mut Cpu, vector: u8, kind: Kind) -> Result<(), Shutdown> {
    cpu.state.activity = Activity::Active;
    if kind == Kind::Nmi {
        cpu.state.nmi_blocked = true;
    }
    match interrupt(cpu, vector, kind) {
        Ok(()) => Ok(()),
        Err(e) => exception(cpu, e),
    }
}

/// INT n of virtual-8086 code that the redirection bitmap sends to the 8086-style handler in the vector table at
/// linear address 0 (SDM vol. 3B, 20.3.1.1): below IOPL 3 VIF takes the place of IF.
pub(super) fn event_through_vector_table(cpu: &mut Cpu, vector: u8, rip: u64) -> Result<(), Exception> {
    let event = Event { vector, error: None, soft: true, rip, flags: cpu.state.rflags };
    let (image, flag) = if event.flags & rflags::IOPL == rflags::IOPL {
        (event.flags, rflags::IF)
    } else {
        (flags::virtual_image(event.flags), rflags::VIF)
    };
    legacy::through_vector_table(cpu, 0, &event, image, flag | rflags::TF | rflags::RF)
}

fn raise(cpu: &mut Cpu, e: Exception) -> Result<(), Exception> {
    cpu.tell(events::Event::Exception(e));
    let s = &mut cpu.state;
    let mut is_fault = !matches!(e.vector, Vector::DB | Vector::BP | Vector::OF | Vector::DF | Vector::MC);
    if e.vector == Vector::PF {
        s.cr2 = e.cr2;
    } else if e.vector == Vector::DB {
        is_fault = e.error & DB_FAULT != 0;
        // SDM vol. 3B, 17.2.3: bits are set and never cleared by the processor; GD, LBR and BTF go off on entry.
        s.dr[6] |= u64::from(e.error & 0xe00f);
        s.dr[7] &= !(1 << 13);
        s.msr.debugctl &= !(debugctl::LBR | debugctl::BTF);
    }
    let event = Event {
        vector: e.vector as u8,
        error: e.vector.has_error_code().then_some(e.error),
        soft: false,
        rip: s.rip,
        flags: s.rflags | if is_fault { rflags::RF } else { 0 },
    };
    dispatch(cpu, &event)
}

fn dispatch(cpu: &mut Cpu, event: &Event) -> Result<(), Exception> {
    let done = if cpu.state.real_mode() {
        legacy::real(cpu, event)
    } else if cpu.state.long_mode() {
        long::deliver(cpu, event)
    } else {
        legacy::protected(cpu, event)
    };
    match done {
        Ok(()) => {
            cpu.state.shadow = 0;
            Ok(())
        }
        // SDM vol. 3A, 6.13: EXT tells a fault met while an earlier exception or an external event was delivered.
        Err(mut e) => {
            if !event.soft && matches!(e.vector, Vector::TS | Vector::NP | Vector::SS | Vector::GP) {
                e.error |= 1;
            }
            Err(e)
        }
    }
}

/// The event to deliver when `second` was raised while `first` was delivered (SDM vol. 3A, table 6-5); None when
/// that is a triple fault.
fn combine(first: Vector, second: Exception) -> Option<Exception> {
    use Vector::*;
    let contributory = |v| matches!(v, DE | TS | NP | SS | GP | CP);
    match (first, second.vector) {
        (DF, _) => None,
        (PF, v) if v == PF || contributory(v) => Some(Exception::new(DF)),
        (a, b) if contributory(a) && contributory(b) => Some(Exception::new(DF)),
        _ => Some(second),
    }
}

/// The flags a handler starts with: TF, NT, RF and VM clear, and IF through an interrupt gate (SDM vol. 3A, 6.12.1).
fn enter_flags(cpu: &mut Cpu, interrupt_gate: bool) {
    let mut clear = rflags::TF | rflags::NT | rflags::RF | rflags::VM;
    if interrupt_gate {
        clear |= rflags::IF;
    }
    let value = cpu.state.rflags & !clear;
    flags::replace(cpu, value);
}
