//! The paravirtual clock of KVM (Linux: Documentation/virt/kvm/x86/msr.rst): structures in guest memory from which
//! a guest computes nanoseconds out of its TSC without leaving its own code.
//!
//! The TSC ticks once a nanosecond at a constant rate, so a structure stays right until the TSC is moved.

use emu_core::addr::PhysAddr;
use emu_core::clock::TSC_HZ;
use emu_core::cpu::Cpu;

/// Nanoseconds are `(ticks << SHIFT) * MUL >> 32`; MUL has its top bit set, as guests expect of a scaled factor.
const MUL: u64 = 1 << 31;
const SHIFT: u64 = 1;
const _: () = assert!(TSC_HZ == 1_000_000_000, "MUL and SHIFT are for ticks of a nanosecond");
/// PVCLOCK_TSC_STABLE_BIT: the clocks of all processors agree.
const FLAG_STABLE: u64 = 1;

/// MSR_KVM_SYSTEM_TIME(_NEW): bit 0 enables, the rest is the address of a `pvclock_vcpu_time_info`.
pub(super) fn write_system_time(cpu: &mut Cpu, value: u64) {
    cpu.state.msr.kvm_system_time = value;
    refresh(cpu);
}

/// Writes the time structure anew, if the guest has enabled it: after the TSC has been moved.
pub(super) fn refresh(cpu: &mut Cpu) {
    let msr = cpu.state.msr.kvm_system_time;
    if msr & 1 == 0 {
        return;
    }
    let base = msr & !3;
    let now = cpu.clock.now();
    let tsc = now.wrapping_add(cpu.state.msr.tsc_offset);
    update(cpu, base, |cpu| {
        cpu.phys_write(PhysAddr(base + 8), 8, tsc);
        cpu.phys_write(PhysAddr(base + 16), 8, now);
        cpu.phys_write(PhysAddr(base + 24), 4, MUL);
        cpu.phys_write(PhysAddr(base + 28), 4, SHIFT | FLAG_STABLE << 8);
    });
}

/// MSR_KVM_WALL_CLOCK(_NEW): the address of a `pvclock_wall_clock`, filled in once: real time at power-on.
pub(super) fn write_wall_clock(cpu: &mut Cpu, value: u64) {
    cpu.state.msr.kvm_wall_clock = value;
    let wall = cpu.boot_wall_ns;
    update(cpu, value, |cpu| {
        cpu.phys_write(PhysAddr(value + 4), 4, (wall / 1_000_000_000) & 0xffff_ffff);
        cpu.phys_write(PhysAddr(value + 8), 4, wall % 1_000_000_000);
    });
}

/// Runs `fill` with the version at `base` odd, so that a reader on another processor tries again.
fn update(cpu: &mut Cpu, base: u64, fill: impl FnOnce(&mut Cpu)) {
    // The structures have 32 bytes at most; an address at the end of the space is nobody's memory.
    if base > u64::MAX - 32 {
        return;
    }
    let version = cpu.phys_read(PhysAddr(base), 4) | 1;
    cpu.phys_write(PhysAddr(base), 4, version);
    fill(cpu);
    cpu.phys_write(PhysAddr(base), 4, version.wrapping_add(1) & 0xffff_ffff);
}
