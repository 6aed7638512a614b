//! What happens between two instructions when a request bit is set (SDM vol. 3A, 6.9).

use super::{Kind, asynchronous};
use crate::system::smm;
use emu_core::cpu::Cpu;
use emu_core::signals::request;
use emu_core::state::Activity;
use emu_core::state::bits::{rflags, shadow};

/// What [`service`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Nothing to do: go on.
    Nothing,
    /// An SMI, NMI or interrupt was taken: `rip` has changed.
    Taken,
    /// The processor is halted (or waits for its start-up IPI) and nothing woke it.
    Halted,
    /// Request bits that are the run loop's are set (they are left set): STOP, TIMER, INIT, SIPI.
    Exit(u32),
    /// The processor is shut down, now or from before.
    Shutdown,
}

/// Serves the request bits in `cpu.signals`: to be called at block boundaries when one is set, and while halted.
///
/// A request that cannot be taken now does not stay in the word, where it would make translated code stop at every
/// boundary: a masked interrupt is signalled anew by [`interrupts_enabled`], a blocked NMI or SMI is latched until
/// IRET or RSM. Only an interrupt shadow leaves the bit in place, for the one instruction it lasts.
pub fn service(cpu: &mut Cpu) -> Service {
    if cpu.signals.take(request::MAIL) != 0 {
        cpu.serve_mail();
    }
    let pending = cpu.signals.peek();
    let outer = pending & (request::STOP | request::TIMER | request::INIT | request::SIPI);
    if outer != 0 {
        return Service::Exit(outer);
    }
    match cpu.state.activity {
        Activity::Shutdown => return Service::Shutdown,
        Activity::WaitForSipi => {
            cpu.signals.take(request::INTR | request::NMI | request::SMI);
            cpu.state.intr_withheld = true;
            return Service::Halted;
        }
        // HLT completed, so a shadow from before it is over.
        Activity::Halted => cpu.state.shadow = 0,
        Activity::Active => {}
    }
    if pending & request::SMI != 0 && cpu.state.shadow & shadow::MOV_SS == 0 {
        cpu.signals.take(request::SMI);
        if cpu.state.smm {
            cpu.state.smi_latched = true;
        } else {
            smm::enter(cpu);
            return Service::Taken;
        }
    }
    if pending & request::NMI != 0 && cpu.state.shadow & shadow::MOV_SS == 0 {
        cpu.signals.take(request::NMI);
        if cpu.state.nmi_blocked {
            cpu.state.nmi_latched = true;
        } else {
            return taken(cpu, 2, Kind::Nmi);
        }
    }
    if pending & request::INTR != 0 && cpu.state.shadow == 0 {
        cpu.signals.take(request::INTR);
        if cpu.state.rflags & rflags::IF != 0
            && let Some(vector) = cpu.irq.has_interrupt().then(|| cpu.irq.acknowledge()).flatten()
        {
            if cpu.irq.has_interrupt() {
                cpu.signals.raise(request::INTR);
            }
            return taken(cpu, vector, Kind::External);
        }
        cpu.state.intr_withheld = true;
    }
    if cpu.state.activity == Activity::Halted { Service::Halted } else { Service::Nothing }
}

fn taken(cpu: &mut Cpu, vector: u8, kind: Kind) -> Service {
    tracing::trace!(vector, rip = cpu.state.rip, "interrupt");
    match asynchronous(cpu, vector, kind) {
        Ok(()) => Service::Taken,
        Err(super::Shutdown) => Service::Shutdown,
    }
}

/// Signals a waiting interrupt anew. To be called after IF was set or CR8 lowered; everything in
/// [`crate::system`] that does so has called it.
pub fn interrupts_enabled(cpu: &mut Cpu) {
    if cpu.state.rflags & rflags::IF == 0 {
        return;
    }
    cpu.state.intr_withheld = false;
    if cpu.irq.has_interrupt() {
        cpu.signals.raise(request::INTR);
    }
}
