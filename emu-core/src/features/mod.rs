//! The processor a guest has: which features it offers, by CPU model.
//!
//! CPUID, XCR0, the reserved bits of control registers, the MSRs there are, and #UD of instructions all follow from one
//! [`Features`]; nothing else says what a model can do.
//!
//! - [`bits`]: the bits under the manual's names
//! - [`models`]: the models
//! - [`names`]: the spelling of command lines, QEMU's included, and which feature needs which

mod bits;
mod models;
mod names;

pub use bits::{
    ext1_ecx, ext1_edx, ext8_ebx, leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx, leaf7_edx, xsave_eax,
};
pub use models::MODELS;
pub use names::{FEATURES, Named};

/// A processor: feature bits as CPUID reports them, and what tells it from others. What is not in it raises #UD.
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
    /// Leaf 8000_0008h, EBX.
    pub ext8_ebx: u32,
    /// Leaf 0xd subleaf 1, EAX (XSAVEOPT, XSAVEC, XGETBV1, XSAVES).
    pub xsave_eax: u32,
    /// Family, model and stepping as in leaf 1, EAX, and in EDX after RESET.
    pub version: u32,
    /// The highest basic leaf.
    pub max_basic: u32,
    /// The highest extended leaf; 0 if there is none.
    pub max_extended: u32,
}

impl Features {
    /// Family, model and stepping as in CPUID.1:EAX and in EDX after RESET.
    pub const fn signature(&self) -> u32 {
        self.version
    }

    /// The family, 4 for a 486.
    pub const fn family(&self) -> u32 {
        self.version >> 8 & 0xf
    }

    /// Whether long mode is offered.
    pub const fn long_mode(&self) -> bool {
        self.ext1_edx & ext1_edx::LM != 0
    }

    /// Whether pages of 1 GiB are offered.
    pub const fn gigabyte_pages(&self) -> bool {
        self.ext1_edx & ext1_edx::PDPE1GB != 0
    }

    /// The processor that `text` describes: `MODEL[,+FEATURE][,-FEATURE][,FEATURE=on|off]...`.
    ///
    /// Features that an added one needs come with it, and features that need a removed one go with it.
    ///
    /// # Errors
    /// One line that names what is unknown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let model = parts.next().unwrap_or("");
        let mut features = models::find(model).ok_or_else(|| {
            let all: Vec<_> = MODELS.iter().map(|m| m.0).collect();
            format!("there is no CPU model '{model}': the models are {}", all.join(", "))
        })?;
        for part in parts {
            let (on, name) = match (part.strip_prefix('+'), part.strip_prefix('-'), part.split_once('=')) {
                (Some(name), ..) => (true, name),
                (_, Some(name), _) => (false, name),
                (.., Some((name, "on"))) => (true, name),
                (.., Some((name, "off"))) => (false, name),
                _ if names::find(part).is_some() => {
                    return Err(format!(
                        "'{part}' alone says nothing: write +{part} to have it, -{part} not to"
                    ));
                }
                _ => return Err(format!("'{part}' is not +FEATURE or -FEATURE")),
            };
            let feature = names::find(name).ok_or_else(|| {
                let all: Vec<_> = FEATURES.iter().map(|f| f.names[0]).collect();
                format!("there is no CPU feature '{name}': the features are {}", all.join(", "))
            })?;
            if on {
                feature.add(&mut features);
            } else {
                feature.remove(&mut features);
            }
        }
        Ok(features)
    }
}

impl Default for Features {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_features_by_name() {
        assert_eq!(Features::parse("max"), Ok(Features::max()));
        let f = Features::parse("x86-64-v3,+sha-ni,-avx2,aes=on").unwrap();
        assert_ne!(f.leaf7_ebx & leaf7_ebx::SHA, 0);
        assert_eq!(f.leaf7_ebx & leaf7_ebx::AVX2, 0);
        assert_ne!(f.leaf1_ecx & (leaf1_ecx::AES | leaf1_ecx::AVX), 0);
    }

    #[test]
    fn what_needs_a_feature_goes_with_it() {
        let f = Features::parse("max,-xsave").unwrap();
        assert_eq!(f.leaf1_ecx & (leaf1_ecx::AVX | leaf1_ecx::FMA | leaf1_ecx::F16C), 0);
        assert_eq!((f.leaf7_ebx & leaf7_ebx::AVX2, f.leaf7_ecx & leaf7_ecx::VAES, f.xsave_eax), (0, 0, 0));
        let f = Features::parse("x86-64-v1,+vaes").unwrap();
        let needed = leaf1_ecx::AES | leaf1_ecx::AVX | leaf1_ecx::XSAVE;
        assert_eq!(f.leaf1_ecx & needed, needed);
        assert_eq!(f.leaf7_ebx & leaf7_ebx::AVX2, 0);
    }

    #[test]
    fn unknown_names_get_a_line() {
        for bad in ["", "8086", "x86-64-v4", "max,+avx512f", "max,sse", "max,+", "max,aes=maybe"] {
            let line = Features::parse(bad).unwrap_err();
            assert!(!line.contains('\n') && line.contains('\''), "{bad}: {line}");
        }
    }

    /// What a model has, the next one has too.
    #[test]
    fn models_grow() {
        let fields = |f: &Features| {
            [
                f.leaf1_ecx,
                f.leaf1_edx,
                f.leaf7_ebx,
                f.leaf7_ecx,
                f.ext1_ecx,
                f.ext1_edx,
                f.ext8_ebx,
                f.xsave_eax,
            ]
        };
        let models: Vec<_> = MODELS.iter().filter(|m| m.0 != "default").collect();
        for pair in models.windows(2) {
            for (small, large) in fields(&pair[0].1).iter().zip(fields(&pair[1].1)) {
                assert_eq!(small & !large, 0, "{} and {}", pair[0].0, pair[1].0);
            }
        }
    }

    /// Every name stands for bits of its own, and whatever a model has can be named.
    #[test]
    fn every_bit_has_a_name() {
        let mut rest = Features::max();
        for named in FEATURES {
            *named.word(&mut rest) &= !named.bit;
        }
        let left = [rest.leaf1_ecx, rest.leaf1_edx, rest.leaf7_ebx, rest.leaf7_ecx, rest.leaf7_edx];
        assert_eq!(left, [0; 5]);
        assert_eq!([rest.ext1_ecx, rest.ext1_edx, rest.ext8_ebx, rest.xsave_eax], [0; 4]);
    }

    /// Linux turns its mitigations off for this model, and for whoever has these capabilities.
    #[test]
    fn models_with_long_mode_are_not_affected_by_speculation() {
        for (name, f) in MODELS.iter().filter(|m| m.1.long_mode()) {
            assert_eq!(f.signature(), 0x30661, "{name}");
            assert_ne!(f.leaf7_edx & leaf7_edx::ARCH_CAPABILITIES, 0, "{name}");
        }
    }
}
