//! What is known about the places where translated code may leave: numbers in code, facts here.

/// A place in a block that may leave for a fault or the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// RIP of the guest instruction.
    pub rip: u64,
    /// Instructions counted at block entry that have not completed here.
    pub undo: u32,
}

/// The sites of every live block. Blocks own consecutive runs; a cache flush clears all.
#[derive(Debug, Default)]
pub struct SideTable {
    sites: Vec<Site>,
}

impl SideTable {
    /// Number of the next site.
    pub fn next(&self) -> u32 {
        self.sites.len() as u32
    }

    /// Adds the sites of a finished block.
    pub fn extend(&mut self, sites: &[Site]) {
        self.sites.extend_from_slice(sites);
    }

    /// The site with number `n`.
    pub fn get(&self, n: u32) -> Option<&Site> {
        self.sites.get(n as usize)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.sites.clear();
    }
}
