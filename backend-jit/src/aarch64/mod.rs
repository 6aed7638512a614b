//! The place of the 64-bit Arm emitter, which is not built yet: [`Codegen::new`] says so.

use crate::cache::{Cache, ExitDesc};
use crate::sidetable::Site;
use crate::{JitConfig, JitError};
use emu_core::cpu::Cpu;
use emu_core::ir::Block;

/// Arena offsets of the trampolines.
#[derive(Clone, Copy, Debug, Default)]
#[expect(dead_code, reason = "read once there is an emitter")]
pub struct Entry {
    /// The function that enters translated code.
    pub enter: usize,
}

impl Entry {
    /// Offset of the way out for computed jumps.
    pub fn way_out(&self) -> usize {
        0
    }
}

/// Where a block's code and facts will lie.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read once there is an emitter")]
pub struct Place {
    /// Offset in the arena.
    pub base: usize,
    /// Number of its first exit.
    pub first_exit: u32,
    /// Number of its first site.
    pub first_site: u32,
}

/// The emitter: cannot be made.
#[derive(Debug)]
pub struct Codegen {
    /// Exits of the block.
    pub exits: Vec<ExitDesc>,
    /// Sites of the block.
    pub sites: Vec<Site>,
}

const NOT_BUILT: JitError = JitError::Host("there is no translator for this host's processor yet");

impl Codegen {
    /// An emitter for this host.
    ///
    /// # Errors
    /// Always: it is not built yet.
    pub fn new(_: &JitConfig) -> Result<Self, JitError> {
        Err(NOT_BUILT)
    }

    /// Writes the trampolines.
    pub fn prologue(&mut self) -> Entry {
        Entry::default()
    }

    /// The code that was emitted last.
    pub fn code(&self) -> &[u8] {
        &[]
    }

    /// Emits a block.
    ///
    /// # Errors
    /// Always.
    pub fn compile(&mut self, _: &Block, _: Place) -> Result<(), JitError> {
        Err(NOT_BUILT)
    }
}

/// Calls translated code, of which there is none.
pub fn enter(_: &Cache, _: Entry, _: usize, _: &mut Cpu) -> u64 {
    0
}
