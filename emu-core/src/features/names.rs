//! Features by name, as `/proc/cpuinfo` and QEMU spell them, and what each of them needs.

use super::Features;
use super::bits::{
    ext1_ecx, ext1_edx, ext8_ebx, leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx, leaf7_edx, xsave_eax,
};

/// The words of [`Features`] that hold bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    C1,
    D1,
    B7,
    C7,
    D7,
    ExtC,
    ExtD,
    Ext8,
    Xsave,
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Its names, the usual one first.
    pub names: &'static [&'static str],
    word: Word,
    /// Its bit.
    pub bit: u32,
    /// What it makes no sense without.
    needs: &'static [&'static str],
}

impl Named {
    /// The word that its bit is in.
    pub fn word<'a>(&self, f: &'a mut Features) -> &'a mut u32 {
        match self.word {
            Word::C1 => &mut f.leaf1_ecx,
            Word::D1 => &mut f.leaf1_edx,
            Word::B7 => &mut f.leaf7_ebx,
            Word::C7 => &mut f.leaf7_ecx,
            Word::D7 => &mut f.leaf7_edx,
            Word::ExtC => &mut f.ext1_ecx,
            Word::ExtD => &mut f.ext1_edx,
            Word::Ext8 => &mut f.ext8_ebx,
            Word::Xsave => &mut f.xsave_eax,
        }
    }

    /// Adds it to `f` with all it needs, and the leaf that reports it.
    pub(super) fn add(&self, f: &mut Features) {
        *self.word(f) |= self.bit;
        match self.word {
            Word::B7 | Word::C7 | Word::D7 => f.max_basic = f.max_basic.max(7),
            Word::Xsave => f.max_basic = f.max_basic.max(0xd),
            Word::ExtC | Word::ExtD | Word::Ext8 => f.max_extended = 0x8000_0008,
            Word::C1 | Word::D1 => {}
        }
        for needed in self.needs.iter().filter_map(|n| find(n)) {
            needed.add(f);
        }
    }

    /// Removes it from `f` with all that needs it.
    pub(super) fn remove(&self, f: &mut Features) {
        *self.word(f) &= !self.bit;
        for other in FEATURES.iter().filter(|o| o.needs.contains(&self.names[0])) {
            if *other.word(f) & other.bit != 0 {
                other.remove(f);
            }
        }
    }
}

/// The feature called `name`; `_` and `.` may stand for `-`.
pub(super) fn find(name: &str) -> Option<&'static Named> {
    let plain: String = name.to_ascii_lowercase().replace(['_', '.'], "-");
    FEATURES.iter().find(|n| n.names.contains(&plain.as_str()))
}

macro_rules! features {
    ($($word:ident $module:ident { $($bit:ident $names:expr $(, needs $needs:expr)?;)* })*) => {
        /// Every feature that calque knows.
        pub const FEATURES: &[Named] = &[$($(
            Named {
                names: &$names,
                word: Word::$word,
                bit: $module::$bit,
                needs: features!(@needs $($needs)?),
            },
        )*)*];
    };
    (@needs) => { &[] };
    (@needs $needs:expr) => { &$needs };
}

features! {
    D1 leaf1_edx {
        FPU ["fpu"];
        VME ["vme"];
        DE ["de"];
        PSE ["pse"];
        TSC ["tsc"];
        MSR ["msr"];
        PAE ["pae"];
        MCE ["mce"];
        CX8 ["cx8"];
        APIC ["apic"];
        SEP ["sep"];
        MTRR ["mtrr"], needs ["msr"];
        PGE ["pge"];
        MCA ["mca"], needs ["msr"];
        CMOV ["cmov"];
        PAT ["pat"], needs ["msr"];
        PSE36 ["pse36"];
        CLFLUSH ["clflush"];
        MMX ["mmx"], needs ["fpu"];
        FXSR ["fxsr"], needs ["fpu"];
        SSE ["sse"], needs ["fxsr"];
        SSE2 ["sse2"], needs ["sse"];
        SS ["ss"];
    }
    C1 leaf1_ecx {
        SSE3 ["sse3", "pni"], needs ["sse2"];
        PCLMULQDQ ["pclmulqdq", "pclmul"], needs ["sse2"];
        MONITOR ["monitor"];
        SSSE3 ["ssse3"], needs ["sse3"];
        FMA ["fma"], needs ["avx"];
        CMPXCHG16B ["cx16"], needs ["cx8"];
        PCID ["pcid"], needs ["lm"];
        SSE4_1 ["sse4-1"], needs ["ssse3"];
        SSE4_2 ["sse4-2"], needs ["sse4-1"];
        X2APIC ["x2apic"], needs ["apic", "msr"];
        MOVBE ["movbe"];
        POPCNT ["popcnt"];
        TSC_DEADLINE ["tsc-deadline", "tsc-deadline-timer"], needs ["apic", "tsc"];
        AES ["aes", "aes-ni"], needs ["sse2"];
        XSAVE ["xsave"], needs ["fxsr"];
        AVX ["avx"], needs ["xsave", "sse4-2"];
        F16C ["f16c"], needs ["avx"];
        RDRAND ["rdrand", "rdrnd"];
        HYPERVISOR ["hypervisor"], needs ["msr", "tsc"];
    }
    B7 leaf7_ebx {
        FSGSBASE ["fsgsbase"], needs ["lm"];
        TSC_ADJUST ["tsc-adjust"], needs ["tsc", "msr"];
        BMI1 ["bmi1"];
        AVX2 ["avx2"], needs ["avx"];
        SMEP ["smep"];
        BMI2 ["bmi2"];
        ERMS ["erms"];
        INVPCID ["invpcid"];
        RDSEED ["rdseed"];
        ADX ["adx"];
        SMAP ["smap"];
        CLFLUSHOPT ["clflushopt"];
        CLWB ["clwb"];
        SHA ["sha-ni", "sha"], needs ["sse2"];
    }
    C7 leaf7_ecx {
        UMIP ["umip"];
        PKU ["pku"], needs ["lm"];
        VAES ["vaes"], needs ["avx", "aes"];
        VPCLMULQDQ ["vpclmulqdq"], needs ["avx", "pclmulqdq"];
        LA57 ["la57"], needs ["lm"];
        RDPID ["rdpid"];
    }
    D7 leaf7_edx {
        FSRM ["fsrm"];
        SPEC_CTRL ["spec-ctrl"], needs ["msr"];
        ARCH_CAPABILITIES ["arch-capabilities"], needs ["msr"];
    }
    ExtC ext1_ecx {
        LAHF64 ["lahf-lm"], needs ["lm"];
        LZCNT ["lzcnt", "abm"];
        SSE4A ["sse4a"], needs ["sse2"];
        PREFETCHW ["3dnowprefetch", "prefetchw"];
    }
    ExtD ext1_edx {
        SYSCALL ["syscall"], needs ["msr"];
        NX ["nx", "xd"], needs ["pae", "msr"];
        PDPE1GB ["pdpe1gb"], needs ["lm"];
        RDTSCP ["rdtscp"], needs ["tsc"];
        LM ["lm", "i64"], needs ["pae", "syscall", "sse2"];
    }
    Ext8 ext8_ebx {
        CLZERO ["clzero"];
    }
    Xsave xsave_eax {
        XSAVEOPT ["xsaveopt"], needs ["xsave"];
        XSAVEC ["xsavec"], needs ["xsave"];
        XGETBV1 ["xgetbv1"], needs ["xsave"];
        XSAVES ["xsaves"], needs ["xsavec"];
    }
}
