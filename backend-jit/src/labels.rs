//! Labels of a block's code and the places that name them, for every host's form of such places.

use dynasmrt::components::{LabelRegistry, PatchLoc};
use dynasmrt::relocations::Relocation;
use dynasmrt::{AssemblyOffset, DynamicLabel};

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

    /// Fills in the places in `code`. False if a label is missing or out of reach, which is a bug.
    pub fn finish(&mut self, code: &mut [u8]) -> bool {
        let mut ok = true;
        for (place, l) in self.uses.drain(..) {
            match self.registry.resolve_dynamic(l) {
                Ok(target) => ok &= place.patch(&mut code[place.range(0)], 0, target.0).is_ok(),
                Err(_) => ok = false,
            }
        }
        ok
    }
}
