//! Which instructions the processor offers: what CPUID does not report raises #UD.

use emu_core::features::{
    Features, ext1_ecx, ext1_edx, ext8_ebx, leaf1_ecx as c, leaf1_edx as d, leaf7_ebx as b, leaf7_ecx as e,
    xsave_eax,
};
use iced_x86::{Code, CpuidFeature as F, Instruction};

/// BMI1: without it, F3 0F BC is BSF.
pub fn bmi1(f: &Features) -> bool {
    f.leaf7_ebx & b::BMI1 != 0
}

/// LZCNT: without it, F3 0F BD is BSR.
pub fn lzcnt(f: &Features) -> bool {
    f.ext1_ecx & ext1_ecx::LZCNT != 0
}

/// Whether every feature that `ins` needs is there.
pub fn offered(f: &Features, ins: &Instruction) -> bool {
    code_offered(f, ins.code())
}

/// Whether every feature that `code` needs is there.
pub fn code_offered(f: &Features, code: Code) -> bool {
    // Reading the shadow stack pointer is a NOP where there are none, as the P6 made its opcode; the rest of CET is #UD.
    if matches!(code, Code::Rdsspd_r32 | Code::Rdsspq_r64) {
        return has(f, F::MULTIBYTENOP);
    }
    // The decoder counts it to MMX, but it came with SSE2 (SDM vol. 1, 5.6.3).
    if code == Code::Paddq_mm_mmm64 && !has(f, F::SSE2) {
        return false;
    }
    code.cpuid_features().iter().all(|&x| has(f, x))
}

/// Whether `f` offers what the decoder calls `x`.
pub fn has(f: &Features, x: F) -> bool {
    let (c1, d1, b7, c7) = (f.leaf1_ecx, f.leaf1_edx, f.leaf7_ebx, f.leaf7_ecx);
    match x {
        F::INTEL8086
        | F::INTEL186
        | F::INTEL286
        | F::INTEL386
        | F::INTEL486
        | F::CPUID
        | F::PAUSE
        | F::SMM
        // Prefixes that are ignored where the feature is missing.
        | F::WBNOINVD
        | F::HLE => true,
        // The P6 made these opcodes NOPs; later features are hidden in them.
        F::MULTIBYTENOP | F::CET_IBT | F::CLDEMOTE | F::PREFETCHITI | F::MPX => d1 & d::CMOV != 0,
        F::PREFETCHW | F::PREFETCHWT1 => f.long_mode() || f.ext1_ecx & ext1_ecx::PREFETCHW != 0,
        F::RDPMC => d1 & (d::CMOV | d::MMX) != 0,
        F::X64 => f.long_mode(),
        F::FPU | F::FPU287 | F::FPU387 => d1 & d::FPU != 0,
        F::TSC => d1 & d::TSC != 0,
        F::MSR => d1 & d::MSR != 0,
        F::CX8 => d1 & d::CX8 != 0,
        F::SEP => d1 & d::SEP != 0,
        F::CMOV => d1 & d::CMOV != 0,
        F::CLFSH => d1 & d::CLFLUSH != 0,
        F::MMX => d1 & d::MMX != 0,
        F::FXSR => d1 & d::FXSR != 0,
        F::SSE => d1 & d::SSE != 0,
        F::SSE2 => d1 & d::SSE2 != 0,
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
        F::BMI1 => bmi1(f),
        F::AVX2 => b7 & b::AVX2 != 0,
        F::BMI2 => b7 & b::BMI2 != 0,
        F::INVPCID => b7 & b::INVPCID != 0,
        F::RDSEED => b7 & b::RDSEED != 0,
        F::ADX => b7 & b::ADX != 0,
        F::SMAP => b7 & b::SMAP != 0,
        F::CLFLUSHOPT => b7 & b::CLFLUSHOPT != 0,
        F::CLWB => b7 & b::CLWB != 0,
        F::SHA => b7 & b::SHA != 0,
        F::PKU => c7 & e::PKU != 0,
        F::VAES => c7 & e::VAES != 0,
        F::VPCLMULQDQ => c7 & e::VPCLMULQDQ != 0,
        F::RDPID => c7 & e::RDPID != 0,
        F::LZCNT => lzcnt(f),
        F::SSE4A => f.ext1_ecx & ext1_ecx::SSE4A != 0,
        F::CLZERO => f.ext8_ebx & ext8_ebx::CLZERO != 0,
        F::SYSCALL => f.ext1_edx & ext1_edx::SYSCALL != 0,
        F::RDTSCP => f.ext1_edx & ext1_edx::RDTSCP != 0,
        F::XSAVEOPT => f.xsave_eax & xsave_eax::XSAVEOPT != 0,
        F::XSAVEC => f.xsave_eax & xsave_eax::XSAVEC != 0,
        F::XSAVES => f.xsave_eax & xsave_eax::XSAVES != 0,
        _ => false,
    }
}
