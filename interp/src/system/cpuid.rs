//! CPUID (SDM vol. 2A).

use emu_core::cpu::Cpu;

/// CPUID: EAX, EBX, ECX, EDX from EAX and ECX.
pub fn cpuid(_cpu: &mut Cpu) {}
