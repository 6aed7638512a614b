//! Vector operations.

use super::Codegen;
use emu_core::ir::{Inst, Value};

impl Codegen {
    pub fn vector(&mut self, _me: Value, _inst: &Inst) {
        self.unsupported("vector operation");
    }

    pub fn load_vec(&mut self, _me: Value, _inst: &Inst) {
        self.unsupported("vector load");
    }

    pub fn store_vec(&mut self, _inst: &Inst) {
        self.unsupported("vector store");
    }

    pub fn live_xmm(&self) -> u16 {
        0
    }

    pub fn save_live_xmm(&mut self, _live: u16, _save: bool) {}

    pub fn vec_to_state(&mut self, _bytes: u32, _disp: i32, _x: u8) {}
}
