//! One instruction as host code: lifted, optimised and emitted alone, then run on a bare processor.

use crate::case::Case;
use crate::guest::Guest;
use backend_jit::{BlockId, Jit, JitConfig, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::features::Features;
use emu_core::ir::{BlockKey, Optimizer, PassSet};
use frontend_x86::{Lifted, lift_bytes};

/// Where the code is said to be.
const CODE: u64 = 0x8000;

pub struct Translated {
    guest: Guest,
    jit: Jit,
    optimizer: Optimizer,
}

/// The translations of one instruction, which depend on whether MXCSR masks everything.
pub struct Code {
    bytes: Vec<u8>,
    ids: Vec<(BlockKey, Option<BlockId>)>,
}

impl Translated {
    pub fn new(pin_vectors: bool) -> Self {
        let cfg = JitConfig { single_block: true, pin_vectors, ..JitConfig::default() };
        let jit = Jit::new(cfg).expect("this host is served");
        Self { guest: Guest::new(), jit, optimizer: Optimizer::new(PassSet::ALL) }
    }

    pub fn prepare(&mut self, bytes: &[u8]) -> Code {
        self.jit.flush();
        Code { bytes: bytes.to_vec(), ids: Vec::new() }
    }

    /// What it leaves; None if it is the interpreter's.
    pub fn run(&mut self, code: &mut Code, case: &Case) -> Option<Case> {
        self.guest.load(case);
        let cpu = self.guest.cpu();
        let key = BlockKey { phys: PhysAddr(CODE), rip: CODE, mode: cpu.state.mode };
        let known = code.ids.iter().find(|(k, _)| *k == key).map(|(_, id)| *id);
        let id = known.unwrap_or_else(|| {
            let id = match lift_bytes(key, &code.bytes, Features::max(), 1) {
                Lifted::Interpret { .. } => None,
                Lifted::Block(mut b) => {
                    self.optimizer.run(&mut b);
                    Some(self.jit.compile(&b).unwrap_or_else(|e| panic!("{:02x?}: {e}\n{b}", code.bytes)))
                }
            };
            code.ids.push((key, id));
            id
        })?;
        let cpu = self.guest.cpu();
        cpu.state.rip = CODE;
        let fault = match self.jit.run(cpu, id) {
            RunExit::Fault => Some(backend_jit::fault(self.guest.cpu()).vector as u8),
            RunExit::Interpret => return None,
            _ => None,
        };
        Some(self.guest.state(case, fault))
    }
}
