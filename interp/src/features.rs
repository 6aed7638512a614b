//! Which instructions the processor offers: what CPUID does not report raises #UD.

use emu_core::features::{Features, ext1_ecx, leaf1_ecx as c, leaf7_ebx as b, leaf7_ecx as e};
use iced_x86::{CpuidFeature as F, Instruction};

/// BMI1: without it, F3 0F BC is BSF.
pub fn bmi1(f: &Features) -> bool {
    f.leaf7_ebx & b::BMI1 != 0
}

/// LZCNT: without it, F3 0F BD is BSR.
pub fn lzcnt(f: &Features) -> bool {
    f.ext1_ecx & 1 << 5 != 0
}

/// Whether every feature that `ins` needs is there.
pub fn offered(f: &Features, ins: &Instruction) -> bool {
    ins.cpuid_features().iter().all(|&x| has(f, x))
}

fn has(f: &Features, x: F) -> bool {
    let (c1, d1, b7, c7) = (f.leaf1_ecx, f.leaf1_edx, f.leaf7_ebx, f.leaf7_ecx);
    match x {
        F::INTEL8086
        | F::INTEL8086_ONLY
        | F::INTEL186
        | F::INTEL286
        | F::INTEL386
        | F::INTEL486
        | F::X64
        | F::CPUID
        | F::MULTIBYTENOP
        | F::PAUSE
        | F::PREFETCHW
        | F::RDPMC
        | F::SMM
        // NOPs where the feature is missing.
        | F::CET_IBT
        | F::CET_SS
        | F::CLDEMOTE
        | F::PREFETCHWT1
        | F::PREFETCHITI
        | F::MPX
        | F::WBNOINVD
        | F::HLE => true,
        F::FPU | F::FPU287 | F::FPU387 => d1 & 1 != 0,
        F::TSC => d1 & 1 << 4 != 0,
        F::MSR => d1 & 1 << 5 != 0,
        F::CX8 => d1 & 1 << 8 != 0,
        F::SEP => d1 & 1 << 11 != 0,
        F::CMOV => d1 & 1 << 15 != 0,
        F::CLFSH => d1 & 1 << 19 != 0,
        F::MMX => d1 & 1 << 23 != 0,
        F::FXSR => d1 & 1 << 24 != 0,
        F::SSE => d1 & 1 << 25 != 0,
        F::SSE2 => d1 & 1 << 26 != 0,
        F::SSE3 => c1 & c::SSE3 != 0,
        F::PCLMULQDQ => c1 & c::PCLMULQDQ != 0,
        F::MONITOR => c1 & c::MONITOR != 0,
        F::SSSE3 => c1 & c::SSSE3 != 0,
        F::FMA => c1 & c::FMA != 0,
        F::CMPXCHG16B => c1 & c::CMPXCHG16B != 0,
        F::SSE4_1 => c1 & c::SSE4_1 != 0,
        F::SSE4_2 => c1 & c::SSE4_2 != 0,
        F::MOVBE => c1 & c::MOVBE != 0,
        F::POPCNT => c1 & c::POPCNT != 0,
        F::AES => c1 & c::AES != 0,
        F::XSAVE => c1 & c::XSAVE != 0,
        F::AVX => c1 & c::AVX != 0,
        F::F16C => c1 & c::F16C != 0,
        F::RDRAND => c1 & c::RDRAND != 0,
        F::FSGSBASE => b7 & b::FSGSBASE != 0,
        F::BMI1 => b7 & b::BMI1 != 0,
        F::AVX2 => b7 & b::AVX2 != 0,
        F::BMI2 => b7 & b::BMI2 != 0,
        F::INVPCID => b7 & b::INVPCID != 0,
        F::RDSEED => b7 & b::RDSEED != 0,
        F::ADX => b7 & b::ADX != 0,
        F::SMAP => b7 & b::SMAP != 0,
        F::CLFLUSHOPT => b7 & b::CLFLUSHOPT != 0,
        F::CLWB => b7 & b::CLWB != 0,
        F::SHA => b7 & b::SHA != 0,
        F::PKU => c7 & 1 << 3 != 0,
        F::VAES => c7 & e::VAES != 0,
        F::VPCLMULQDQ => c7 & e::VPCLMULQDQ != 0,
        F::RDPID => c7 & 1 << 22 != 0,
        F::LZCNT => lzcnt(f),
        F::SSE4A => f.ext1_ecx & ext1_ecx::SSE4A != 0,
        F::SYSCALL => f.ext1_edx & 1 << 11 != 0,
        F::RDTSCP => f.ext1_edx & 1 << 27 != 0,
        F::XSAVEOPT => f.xsave_eax & 1 != 0,
        F::XSAVEC => f.xsave_eax & 2 != 0,
        F::XSAVES => f.xsave_eax & 8 != 0,
        _ => false,
    }
}
