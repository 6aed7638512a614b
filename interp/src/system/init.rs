//! INIT and start-up IPIs (SDM vol. 3A, 9.4 and 10.1): how application processors come to run.

use emu_core::cpu::Cpu;
use emu_core::signals::request;
use emu_core::state::bits::cr0;
use emu_core::state::{Activity, CpuState, Seg, SegReg, gpr};

/// INIT of an application processor: it waits for its start-up IPI afterwards. Floating-point and vector registers,
/// XCR0, the cache bits of CR0 and the model-specific registers stay (table 10-1); the local APIC has been reset by
/// whoever delivered the INIT. As under KVM, the paravirtual clock stops until it is enabled again.
pub fn init(cpu: &mut Cpu) {
    cpu.signals.take(request::INTR | request::NMI | request::SMI);
    let mut new = CpuState::reset();
    let old = &cpu.state;
    new.cr0 = new.cr0 & !(cr0::CD | cr0::NW) | old.cr0 & (cr0::CD | cr0::NW);
    new.icount = old.icount;
    new.tlb = old.tlb;
    new.fpu = old.fpu;
    new.vec = old.vec;
    new.opmask = old.opmask;
    new.mxcsr = old.mxcsr;
    new.xcr0 = old.xcr0;
    new.pkru = old.pkru;
    new.msr = old.msr.clone();
    new.msr.kvm_system_time = 0;
    new.gpr[gpr::RDX] = cpu.features.signature().into();
    new.activity = Activity::WaitForSipi;
    let (cr0, cr4, efer) = (old.cr0, old.cr4, old.efer);
    cpu.state = *new;
    cpu.paging_changed(cr0, cr4, efer);
}

/// A start-up IPI: a processor that waits for one begins in real mode at `vector` pages; any other ignores it.
pub fn start_up(cpu: &mut Cpu, vector: u8) {
    if cpu.state.activity != Activity::WaitForSipi {
        return;
    }
    let base = u64::from(vector) << 12;
    cpu.state.seg[Seg::CS as usize] = SegReg { sel: (base >> 4) as u16, attr: 0x9b, limit: 0xffff, base };
    cpu.state.rip = 0;
    cpu.state.activity = Activity::Active;
    cpu.mode_changed();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::deliver::{Service, service};
    use crate::system::testbed::Bed;

    #[test]
    fn init_keeps_what_the_manual_says_and_waits() {
        let mut b = Bed::long();
        b.cpu.state.gpr[3] = 7;
        b.cpu.state.mxcsr = 0x9fc0;
        b.cpu.state.msr.lstar = 0x1234;
        b.cpu.state.msr.kvm_system_time = 0x5001;
        b.cpu.signals.raise(request::NMI);
        init(&mut b.cpu);
        let s = &b.cpu.state;
        assert_eq!((s.rip, s.seg[1].base, s.cr0 & 1, s.efer, s.gpr[3]), (0xfff0, 0xffff_0000, 0, 0, 0));
        assert_eq!((s.mxcsr, s.msr.lstar, s.msr.kvm_system_time), (0x9fc0, 0x1234, 0));
        assert_eq!(s.activity, Activity::WaitForSipi);
        assert!(s.real_mode() && s.cpl() == 0);
        b.cpu.signals.raise(request::INTR);
        assert_eq!(service(&mut b.cpu), Service::Halted, "nothing but a start-up IPI wakes it");
    }

    #[test]
    fn a_start_up_ipi_is_for_those_who_wait() {
        let mut b = Bed::long();
        let rip = b.cpu.state.rip;
        start_up(&mut b.cpu, 0x9a);
        assert_eq!(b.cpu.state.rip, rip);
        init(&mut b.cpu);
        start_up(&mut b.cpu, 0x9a);
        let s = &b.cpu.state;
        assert_eq!((s.seg[1].sel, s.seg[1].base, s.rip), (0x9a00, 0x9_a000, 0));
        assert_eq!(s.activity, Activity::Active);
    }
}
