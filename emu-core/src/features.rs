//! The processor features a guest may use, by CPU model.

/// A set of feature bits as CPUID reports them; what is not in it raises #UD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Leaf 1, ECX.
    pub leaf1_ecx: u32,
    /// Leaf 1, EDX.
    pub leaf1_edx: u32,
    /// Leaf 7 subleaf 0, EBX.
    pub leaf7_ebx: u32,
    /// Leaf 7 subleaf 0, ECX.
    pub leaf7_ecx: u32,
    /// Leaf 7 subleaf 0, EDX.
    pub leaf7_edx: u32,
    /// Leaf 8000_0001h, ECX.
    pub ext1_ecx: u32,
    /// Leaf 8000_0001h, EDX.
    pub ext1_edx: u32,
    /// Leaf 0xd subleaf 1, EAX (XSAVEOPT, XSAVEC, XGETBV1, XSAVES).
    pub xsave_eax: u32,
}

/// Bits of CPUID leaf 1, ECX.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod leaf1_ecx {
    pub const SSE3: u32 = 1 << 0;
    pub const PCLMULQDQ: u32 = 1 << 1;
    pub const MONITOR: u32 = 1 << 3;
    pub const SSSE3: u32 = 1 << 9;
    pub const FMA: u32 = 1 << 12;
    pub const CMPXCHG16B: u32 = 1 << 13;
    pub const PCID: u32 = 1 << 17;
    pub const SSE4_1: u32 = 1 << 19;
    pub const SSE4_2: u32 = 1 << 20;
    pub const X2APIC: u32 = 1 << 21;
    pub const MOVBE: u32 = 1 << 22;
    pub const POPCNT: u32 = 1 << 23;
    pub const TSC_DEADLINE: u32 = 1 << 24;
    pub const AES: u32 = 1 << 25;
    pub const XSAVE: u32 = 1 << 26;
    pub const AVX: u32 = 1 << 28;
    pub const F16C: u32 = 1 << 29;
    pub const RDRAND: u32 = 1 << 30;
    pub const HYPERVISOR: u32 = 1 << 31;
}

/// Bits of CPUID leaf 7, EBX.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod leaf7_ebx {
    pub const FSGSBASE: u32 = 1 << 0;
    pub const TSC_ADJUST: u32 = 1 << 1;
    pub const BMI1: u32 = 1 << 3;
    pub const AVX2: u32 = 1 << 5;
    pub const SMEP: u32 = 1 << 7;
    pub const BMI2: u32 = 1 << 8;
    pub const ERMS: u32 = 1 << 9;
    pub const INVPCID: u32 = 1 << 10;
    pub const RDSEED: u32 = 1 << 18;
    pub const ADX: u32 = 1 << 19;
    pub const SMAP: u32 = 1 << 20;
    pub const CLFLUSHOPT: u32 = 1 << 23;
    pub const CLWB: u32 = 1 << 24;
    pub const SHA: u32 = 1 << 29;
}

/// Bits of CPUID leaf 7, ECX.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod leaf7_ecx {
    pub const UMIP: u32 = 1 << 2;
    pub const PKU: u32 = 1 << 3;
    pub const VAES: u32 = 1 << 9;
    pub const VPCLMULQDQ: u32 = 1 << 10;
    pub const LA57: u32 = 1 << 16;
    pub const RDPID: u32 = 1 << 22;
}

/// Bits of CPUID leaf 8000_0001h, ECX.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod ext1_ecx {
    pub const LAHF64: u32 = 1 << 0;
    pub const LZCNT: u32 = 1 << 5;
    pub const SSE4A: u32 = 1 << 6;
    pub const PREFETCHW: u32 = 1 << 8;
}

impl Features {
    /// What `calque run` offers unless told otherwise: x86-64-v2 with AES, PCLMULQDQ, MOVBE, XSAVE and the system
    /// features that make a modern Linux fast.
    ///
    /// Not [`Features::max`], because the translator does not lift AVX and BMI yet, and a C library that is offered
    /// AVX2 uses it everywhere. Once it does, this is the line to change.
    pub const DEFAULT: Self = Self::translated();

    /// What the translator can lift, and around it what is rare enough to be interpreted.
    const fn translated() -> Self {
        use leaf1_ecx as c;
        use leaf7_ebx as b;
        use leaf7_ecx as e;
        Self {
            leaf1_ecx: c::SSE3
                | c::PCLMULQDQ
                | c::SSSE3
                | c::CMPXCHG16B
                | c::PCID
                | c::SSE4_1
                | c::SSE4_2
                | c::X2APIC
                | c::MOVBE
                | c::POPCNT
                | c::TSC_DEADLINE
                | c::AES
                | c::XSAVE
                | c::RDRAND
                | c::HYPERVISOR,
            // FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS
            leaf1_edx: 0x0f8b_fbff,
            leaf7_ebx: b::FSGSBASE
                | b::TSC_ADJUST
                | b::SMEP
                | b::ERMS
                | b::INVPCID
                | b::RDSEED
                | b::SMAP
                | b::CLFLUSHOPT
                | b::CLWB,
            leaf7_ecx: e::UMIP | e::LA57 | e::RDPID,
            // FSRM, SPEC_CTRL, ARCH_CAPABILITIES
            leaf7_edx: 1 << 4 | 1 << 26 | 1 << 29,
            ext1_ecx: ext1_ecx::LAHF64,
            // SYSCALL, NX, 1 GiB pages, RDTSCP, LM
            ext1_edx: 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29,
            // XSAVEOPT, XSAVEC, XGETBV(1), XSAVES
            xsave_eax: 0xf,
        }
    }

    /// Everything that this build executes in full.
    pub const fn max() -> Self {
        use leaf1_ecx as c;
        use leaf7_ebx as b;
        use leaf7_ecx as e;
        let base = Self::translated();
        Self {
            leaf1_ecx: base.leaf1_ecx | c::FMA | c::AVX | c::F16C,
            leaf7_ebx: base.leaf7_ebx | b::BMI1 | b::AVX2 | b::BMI2 | b::ADX | b::SHA,
            leaf7_ecx: base.leaf7_ecx | e::VAES | e::VPCLMULQDQ,
            ext1_ecx: base.ext1_ecx | ext1_ecx::LZCNT | ext1_ecx::SSE4A | ext1_ecx::PREFETCHW,
            ..base
        }
    }

    /// Family, model and stepping as in CPUID.1:EAX and in EDX after RESET.
    pub const fn signature(&self) -> u32 {
        // Family 6, model 36h, stepping 1 (Saltwell): an in-order core that Linux lists as free of speculation, so
        // it turns every mitigation off, retpolines and page-table isolation included; no erratum is tied to it.
        0x0003_0661
    }
}

impl Default for Features {
    fn default() -> Self {
        Self::DEFAULT
    }
}
