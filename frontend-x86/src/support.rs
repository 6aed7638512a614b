//! Which instructions the guest's processor has.

use emu_core::features::{Features, ext1_edx, leaf1_ecx, leaf7_ebx, leaf7_ecx};
use iced_x86::{Code, CpuidFeature as F, Instruction};

/// Whether a machine with `have` offers `f`. Features that are never lifted count as absent.
fn has(have: &Features, f: F) -> bool {
    let (c, d, b) = (have.leaf1_ecx, have.leaf1_edx, have.leaf7_ebx);
    match f {
        F::INTEL8086 | F::INTEL186 | F::INTEL286 | F::INTEL386 | F::INTEL486 | F::PAUSE => true,
        F::X64 => have.long_mode(),
        F::SYSCALL => have.ext1_edx & ext1_edx::SYSCALL != 0,
        // Opcodes that do nothing, since the P6 and in long mode.
        F::MULTIBYTENOP | F::CET_IBT | F::CET_SS => d & 1 << 15 != 0,
        F::PREFETCHW | F::PREFETCHWT1 => have.long_mode() || have.ext1_ecx & 1 << 8 != 0,
        F::FPU | F::FPU287 | F::FPU387 => d & 1 != 0,
        F::CX8 => d & 1 << 8 != 0,
        F::CMPXCHG16B => c & leaf1_ecx::CMPXCHG16B != 0,
        F::CMOV => d & 1 << 15 != 0,
        F::SSE => d & 1 << 25 != 0,
        F::SSE2 => d & 1 << 26 != 0,
        F::SSE3 => c & leaf1_ecx::SSE3 != 0,
        F::SSSE3 => c & leaf1_ecx::SSSE3 != 0,
        F::SSE4_1 => c & leaf1_ecx::SSE4_1 != 0,
        F::SSE4_2 => c & leaf1_ecx::SSE4_2 != 0,
        F::POPCNT => c & leaf1_ecx::POPCNT != 0,
        F::MOVBE => c & leaf1_ecx::MOVBE != 0,
        F::TSC => d & 1 << 4 != 0,
        F::SMAP => b & 1 << 20 != 0,
        F::FSGSBASE => b & leaf7_ebx::FSGSBASE != 0,
        F::PKU => have.leaf7_ecx & leaf7_ecx::PKU != 0,
        F::RDTSCP => have.ext1_edx & 1 << 27 != 0,
        F::AES => c & 1 << 25 != 0,
        F::PCLMULQDQ => c & 1 << 1 != 0,
        F::AVX => c & 1 << 28 != 0,
        F::F16C => c & 1 << 29 != 0,
        F::FMA => c & 1 << 12 != 0,
        F::BMI1 => b & leaf7_ebx::BMI1 != 0,
        F::AVX2 => b & 1 << 5 != 0,
        F::BMI2 => b & 1 << 8 != 0,
        F::ADX => b & 1 << 19 != 0,
        F::VAES => have.leaf7_ecx & 1 << 9 != 0,
        F::VPCLMULQDQ => have.leaf7_ecx & 1 << 10 != 0,
        F::LZCNT => have.ext1_ecx & 1 << 5 != 0,
        _ => false,
    }
}

/// Remembers the answer for each form of instruction.
#[derive(Debug)]
pub(crate) struct Support {
    features: Features,
    /// By [`Code`]: 0 not asked yet, 1 present, 2 absent.
    known: Box<[u8]>,
}

impl Support {
    pub fn new(features: Features) -> Self {
        Self { features, known: vec![0; Code::values().len()].into() }
    }

    /// Forgets everything if the machine is another.
    pub fn set(&mut self, features: Features) {
        if self.features != features {
            *self = Self::new(features);
        }
    }

    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether the machine has this instruction.
    pub fn allows(&mut self, i: &Instruction) -> bool {
        let slot = &mut self.known[i.code() as usize];
        if *slot == 0 {
            let all = i.cpuid_features().iter().all(|&f| has(&self.features, f));
            *slot = if all { 1 } else { 2 };
        }
        *slot == 1
    }
}
