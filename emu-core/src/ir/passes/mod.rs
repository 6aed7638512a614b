//! Optimisation passes. Each is linear in the block, keeps its meaning for every observer (faults observe all guest
//! state), and can be switched off, so that a wrong result can be bisected.

mod dce;
mod deadflags;
mod fold;
mod forward;

use super::block::{Block, Inst, Value};
use super::ops::Op;

/// A set of passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassSet(pub u32);

impl PassSet {
    /// Reads of guest state become the values last written or read.
    pub const FORWARD: PassSet = PassSet(1 << 0);
    /// Constants and conversions are computed.
    pub const FOLD: PassSet = PassSet(1 << 1);
    /// Flags that nobody reads are not made.
    pub const DEADFLAGS: PassSet = PassSet(1 << 2);
    /// Values and writes that nobody observes go.
    pub const DCE: PassSet = PassSet(1 << 3);
    /// Blocks go on along the way that is likely, past branches. Not a pass over a block but a licence for whoever
    /// forms it; it stands here to be switched off by name like the others.
    pub const TRACE: PassSet = PassSet(1 << 4);
    /// Blocks go on past computed jumps, too, along a recorded path. The same kind of thing.
    pub const FOLLOW: PassSet = PassSet(1 << 5);
    /// No pass.
    pub const NONE: PassSet = PassSet(0);
    /// Every pass.
    pub const ALL: PassSet = PassSet(0x3f);

    /// The passes by name, in the order in which they run.
    pub const NAMES: [(&'static str, PassSet); 6] = [
        ("forward", Self::FORWARD),
        ("fold", Self::FOLD),
        ("deadflags", Self::DEADFLAGS),
        ("dce", Self::DCE),
        ("trace", Self::TRACE),
        ("follow", Self::FOLLOW),
    ];

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: PassSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without `other`.
    pub const fn without(self, other: PassSet) -> Self {
        Self(self.0 & !other.0)
    }

    /// The pass called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
    }
}

/// Runs passes, keeping their memory from block to block.
#[derive(Debug)]
pub struct Optimizer {
    passes: PassSet,
    scratch: Scratch,
}

/// Tables by instruction that passes use.
#[derive(Debug, Default)]
struct Scratch {
    /// What each value has become.
    subst: Vec<Value>,
    /// Marks, with a meaning by pass.
    marks: Vec<u16>,
}

impl Optimizer {
    /// An optimizer that runs `passes`.
    pub fn new(passes: PassSet) -> Self {
        Self { passes, scratch: Scratch::default() }
    }

    /// Runs the passes on `block`.
    ///
    /// # Panics
    /// In debug builds, if a pass breaks the block.
    pub fn run(&mut self, block: &mut Block) {
        let s = &mut self.scratch;
        let mut each = |pass: PassSet, name: &str, f: &mut dyn FnMut(&mut Block, &mut Scratch)| {
            if self.passes.contains(pass) {
                f(block, s);
                if cfg!(debug_assertions)
                    && let Err(e) = super::verify(block)
                {
                    panic!("pass {name} broke a block: {e}\n{block}");
                }
            }
        };
        each(PassSet::FORWARD, "forward", &mut forward::run);
        each(PassSet::FOLD, "fold", &mut fold::run);
        each(PassSet::DEADFLAGS, "deadflags", &mut deadflags::run);
        each(PassSet::DCE, "dce", &mut dce::run);
    }
}

impl Scratch {
    /// Makes every value stand for itself.
    fn reset_subst(&mut self, n: usize) {
        self.subst.clear();
        self.subst.extend((0..n as u32).map(Value));
    }

    fn reset_marks(&mut self, n: usize) {
        self.marks.clear();
        self.marks.resize(n, 0);
    }

    /// Replaces the arguments of `i` by what they have become. `FlagsOf` and `StoreW` name an instruction rather than
    /// its value, which stays.
    #[inline]
    fn rename(&self, i: &mut Inst) {
        let first = match i.op {
            Op::FlagsOf | Op::StoreW => 1,
            _ => 0,
        };
        for a in &mut i.args[first..] {
            if a.is_some() {
                *a = self.subst[a.index()];
            }
        }
    }
}
