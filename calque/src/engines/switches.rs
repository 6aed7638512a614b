//! What `--passes-off` switches off: the passes over the IR, and what the emitter does beside them.

use backend_jit::JitConfig;
use emu_core::ir::PassSet;

/// What is switched off in the emitter, and by what name.
type Switch = (&'static str, fn(&mut JitConfig));

/// Large host pages behind RAM and translated code.
pub const LARGE_PAGES: &str = "pages";
/// Going on in translated code right after an interpreted instruction, which is the engine's business.
pub const RESUME: &str = "resume";

/// The switches beside the passes.
const EMITTER: [Switch; 15] = [
    // Links across pages.
    ("links", |c| c.link_pages = false),
    // Predicted returns.
    ("returns", |c| c.predict_returns = false),
    // Shared looks into the translation cache.
    ("share", |c| c.share_probes = false),
    ("trust", |c| c.trust_looks = false),
    // Addresses as parts of operands.
    ("addresses", |c| c.fold_addresses = false),
    // Immediates of changing code as data.
    ("words", |c| c.code_words = false),
    // Accesses without LOCK in user mode where there is one vCPU.
    ("locks", |c| c.elide_locks = false),
    (LARGE_PAGES, |c| c.large_pages = false),
    (RESUME, |_| ()),
    // Copies of translations for other RIPs.
    ("copies", |c| c.copy_blocks = false),
    // The stack's page at hand.
    ("window", |c| c.stack_window = false),
    // A place of its own for code that is seldom run.
    ("apart", |c| c.stubs_apart = false),
    // A segment register of the host that leads to the translation cache.
    ("segment", |c| c.set_in_segment = false),
    // Guest vector registers in host registers.
    ("pins", |c| c.pin_vectors = false),
    // Instructions of the host beyond its architecture's first version.
    ("extensions", |c| c.baseline = true),
];

/// A set of switches that are off.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Off {
    /// The bits of a [`PassSet`].
    passes: u32,
    /// By index in [`EMITTER`].
    emitter: u32,
}

impl Off {
    /// Those named.
    ///
    /// # Errors
    /// What to say of a name that is none.
    pub fn named<S: AsRef<str>>(names: &[S]) -> Result<Self, String> {
        let mut off = Self::default();
        for name in names.iter().map(AsRef::as_ref) {
            match (PassSet::named(name), EMITTER.iter().position(|(n, _)| *n == name)) {
                (Some(pass), _) => off.passes |= pass.0,
                (None, Some(i)) => off.emitter |= 1 << i,
                (None, None) => {
                    let all: Vec<_> = Self::names().collect();
                    return Err(format!("there is no pass '{name}': the passes are {}", all.join(", ")));
                }
            }
        }
        Ok(off)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PassSet::NAMES.iter().map(|(name, _)| *name).chain(EMITTER.iter().map(|(name, _)| *name))
    }

    /// The passes that are on.
    pub const fn passes(self) -> PassSet {
        PassSet::ALL.without(PassSet(self.passes))
    }

    /// Whether `name`, of those beside the passes, is off.
    pub fn has(self, name: &str) -> bool {
        EMITTER.iter().zip(0..).any(|((n, _), i)| *n == name && self.emitter >> i & 1 != 0)
    }

    /// The emitter's settings, otherwise as they usually are.
    pub fn config(self) -> JitConfig {
        let mut config = JitConfig::default();
        for (i, (_, switch_off)) in EMITTER.iter().enumerate() {
            if self.emitter >> i & 1 != 0 {
                switch_off(&mut config);
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_switches_something_off() {
        let names: Vec<_> = Off::names().collect();
        for name in &names {
            let off = Off::named(&[name]).unwrap();
            let on = Off::default();
            let differs = format!("{:?}", off.config()) != format!("{:?}", on.config());
            assert!(differs || off.passes() != on.passes() || *name == RESUME, "{name}");
            assert_eq!(off.has(name), PassSet::named(name).is_none(), "{name}");
        }
        assert_eq!(Off::named(&names).unwrap().passes(), PassSet::NONE);
        assert!(Off::named(&["passes"]).unwrap_err().contains("'passes'"));
    }
}
