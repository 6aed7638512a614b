//! The CPU models.
//!
//! `486`, `pentium` and `pentium3` are the processors of that name, as far as CPUID goes. The x86-64 levels are those of
//! the System V psABI: they fix what programs may use, no more and no less; what only a kernel sees (page sizes, PCID,
//! SMEP, x2APIC, the TSC deadline, the paravirtual clock) is the same in all of them, because leaving it out would
//! only be slow.

use super::Features;
use super::bits::{
    ext1_ecx as xc, ext1_edx as xd, ext8_ebx, leaf1_ecx as c, leaf1_edx as d, leaf7_ebx as b, leaf7_ecx as e,
    leaf7_edx as f, xsave_eax as x,
};

/// The models by name, each a superset of the one before; `default` is one of its own.
pub const MODELS: &[(&str, Features)] = &[
    ("486", I486),
    ("pentium", PENTIUM),
    ("pentium3", PENTIUM3),
    ("x86-64-v1", V1),
    ("x86-64-v2", V2),
    ("x86-64-v3", V3),
    ("max", MAX),
    ("default", Features::DEFAULT),
];

/// QEMU's names for what is nearest here.
const ALIASES: &[(&str, &str)] = &[
    ("i486", "486"),
    ("qemu64", "x86-64-v1"),
    ("x86-64", "x86-64-v1"),
    ("host", "max"),
    ("base", "x86-64-v1"),
];

/// The model called `name`.
pub(super) fn find(name: &str) -> Option<Features> {
    let name = ALIASES.iter().find(|a| a.0 == name).map_or(name, |a| a.1);
    MODELS.iter().find(|m| m.0 == name).map(|m| m.1)
}

const NONE: Features = Features {
    leaf1_ecx: 0,
    leaf1_edx: 0,
    leaf7_ebx: 0,
    leaf7_ecx: 0,
    leaf7_edx: 0,
    ext1_ecx: 0,
    ext1_edx: 0,
    ext8_ebx: 0,
    xsave_eax: 0,
    version: 0,
    max_basic: 1,
    max_extended: 0,
};

/// A late 486DX4, which has CPUID.
const I486: Features = Features { leaf1_edx: d::FPU | d::VME | d::PSE, version: 0x480, ..NONE };

/// A Pentium MMX.
const PENTIUM: Features = Features {
    leaf1_edx: I486.leaf1_edx | d::DE | d::TSC | d::MSR | d::MCE | d::CX8 | d::MMX | d::APIC,
    version: 0x543,
    ..NONE
};

const PENTIUM3: Features = Features {
    leaf1_edx: PENTIUM.leaf1_edx
        | d::PAE
        | d::SEP
        | d::MTRR
        | d::PGE
        | d::MCA
        | d::CMOV
        | d::PAT
        | d::PSE36
        | d::FXSR
        | d::SSE,
    version: 0x683,
    max_basic: 2,
    ..NONE
};

/// x86-64 as AMD made it, with this machine's system features.
const V1: Features = Features {
    leaf1_ecx: c::PCID | c::X2APIC | c::TSC_DEADLINE | c::HYPERVISOR,
    leaf1_edx: PENTIUM3.leaf1_edx | d::SSE2 | d::CLFLUSH | d::SS,
    leaf7_ebx: b::TSC_ADJUST | b::SMEP | b::ERMS | b::INVPCID | b::SMAP,
    leaf7_ecx: e::UMIP | e::LA57,
    leaf7_edx: f::FSRM | f::SPEC_CTRL | f::ARCH_CAPABILITIES,
    ext1_edx: xd::SYSCALL | xd::NX | xd::PDPE1GB | xd::RDTSCP | xd::LM,
    // Family 6, model 36h, stepping 1 (Saltwell): an in-order core that Linux lists as free of speculation, so it turns
    // every mitigation off, retpolines and page-table isolation included; no erratum is tied to it.
    version: 0x0003_0661,
    max_basic: 0x16,
    max_extended: 0x8000_0008,
    ..NONE
};

const V2: Features = Features {
    leaf1_ecx: V1.leaf1_ecx | c::CMPXCHG16B | c::POPCNT | c::SSE3 | c::SSE4_1 | c::SSE4_2 | c::SSSE3,
    ext1_ecx: xc::LAHF64,
    ..V1
};

const V3: Features = Features {
    leaf1_ecx: V2.leaf1_ecx | c::AVX | c::F16C | c::FMA | c::MOVBE | c::XSAVE,
    leaf7_ebx: V2.leaf7_ebx | b::AVX2 | b::BMI1 | b::BMI2,
    ext1_ecx: V2.ext1_ecx | xc::LZCNT,
    ..V2
};

const MAX: Features = Features {
    leaf1_ecx: V3.leaf1_ecx | c::PCLMULQDQ | c::AES | c::RDRAND,
    leaf7_ebx: V3.leaf7_ebx | b::FSGSBASE | b::RDSEED | b::ADX | b::CLFLUSHOPT | b::CLWB | b::SHA,
    leaf7_ecx: V3.leaf7_ecx | e::PKU | e::VAES | e::VPCLMULQDQ | e::RDPID,
    ext1_ecx: V3.ext1_ecx | xc::SSE4A | xc::PREFETCHW,
    ext8_ebx: ext8_ebx::CLZERO,
    xsave_eax: x::XSAVEOPT | x::XSAVEC | x::XGETBV1 | x::XSAVES,
    ..V3
};

impl Features {
    /// What `calque run` offers unless told otherwise.
    ///
    /// Not [`Features::max`], which has instructions that the translator leaves to the interpreter, such as gathers and
    /// SHA: a C library that is offered AVX2 uses it everywhere.
    pub const DEFAULT: Self = TRANSLATED;

    /// Everything that this build executes in full. MONITOR can be added: MWAIT ends at once, as the manual allows, but
    /// an idle guest that uses it never sleeps.
    pub const fn max() -> Self {
        MAX
    }
}

/// x86-64-v2 with AES, PCLMULQDQ, MOVBE, XSAVE, RDRAND and the like: what the translator lifts, and beside it what is
/// too rare to matter.
const TRANSLATED: Features = Features {
    leaf1_ecx: V2.leaf1_ecx | c::PCLMULQDQ | c::AES | c::MOVBE | c::XSAVE | c::RDRAND,
    leaf7_ebx: V2.leaf7_ebx | b::FSGSBASE | b::RDSEED | b::CLFLUSHOPT | b::CLWB,
    leaf7_ecx: V2.leaf7_ecx | e::RDPID,
    xsave_eax: MAX.xsave_eax,
    ..V2
};
