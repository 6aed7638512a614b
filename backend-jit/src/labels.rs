//! Labels of a block's code and the places that name them, for every host's form of such places.

use dynasmrt::components::{LabelRegistry, PatchLoc};
use dynasmrt::relocations::Relocation;
use dynasmrt::{AssemblyOffset, DynamicLabel};

/// Where a block's code is cut in two.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Offset of the second part.
    pub at: usize,
    /// Bytes between the parts where they will lie, modulo 2^64.
    pub gap: usize,
}

/// The labels of one block.
#[derive(Debug)]
pub struct Labels<R: Relocation> {
    registry: LabelRegistry,
    uses: Vec<(PatchLoc<R>, DynamicLabel)>,
}

impl<R: Relocation> Default for Labels<R> {
    fn default() -> Self {
        Self { registry: LabelRegistry::new(), uses: Vec::new() }
    }
}

impl<R: Relocation> Labels<R> {
    /// Starts over.
    pub fn clear(&mut self) {
        self.registry.clear();
        self.uses.clear();
    }

    /// A new label.
    pub fn make(&mut self) -> DynamicLabel {
        self.registry.new_dynamic_label()
    }

    /// Puts `l` at offset `at`.
    pub fn bind(&mut self, l: DynamicLabel, at: usize) {
        // A label that is put twice stays where it was.
        let _ = self.registry.define_dynamic(l, AssemblyOffset(at));
    }

    /// Notes a place that names `l`.
    pub fn refer(&mut self, place: PatchLoc<R>, l: DynamicLabel) {
        self.uses.push((place, l));
    }

    /// Fills in the places in `code`, whose bytes from `split.at` on will lie further away; `across` is told the end of each
    /// place that names a label of the other part. False if a label is missing or out of reach, which is a bug.
    pub fn finish(&mut self, code: &mut [u8], split: Split, mut across: impl FnMut(usize)) -> bool {
        let mut ok = true;
        for (place, l) in self.uses.drain(..) {
            let Ok(target) = self.registry.resolve_dynamic(l) else {
                ok = false;
                continue;
            };
            let range = place.range(0);
            let (from, to) = (range.start >= split.at, target.0 >= split.at);
            if from != to {
                across(range.end);
            }
            let target = match (from, to) {
                (false, true) => target.0.wrapping_add(split.gap),
                (true, false) => target.0.wrapping_sub(split.gap),
                _ => target.0,
            };
            ok &= place.patch(&mut code[range], 0, target).is_ok();
        }
        ok
    }
}
