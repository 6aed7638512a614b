//! From guest code to installed host code: lift, passes, emit, with what `--log` and `--stats` want to know.

use crate::log::{Log, Topic};
use backend_jit::{BlockId, Jit, JitConfig, JitError};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::fault::Exception;
use emu_core::ir::passes::{self, PassSet};
use emu_core::ir::{Block, BlockKey, print};
use frontend_x86::{Lifted, Lifter, Mnemonic};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// Most guest instructions in a block.
const BLOCK_INSNS: u32 = 64;

/// What translating an address came to.
#[derive(Debug)]
pub enum Translated {
    /// Installed.
    Block(BlockId),
    /// The interpreter has to execute the first instruction there.
    Interpret,
}

/// The translating half of an engine.
#[derive(Debug)]
pub struct Translator {
    lifter: Lifter,
    /// The code cache.
    pub jit: Jit,
    passes: PassSet,
    log: Arc<Log>,
    /// Keep each block's IR, to show it in a report.
    keep_ir: bool,
    ir: HashMap<BlockKey, Block>,
    fallbacks: HashMap<Mnemonic, u64>,
    at: HashMap<BlockKey, Mnemonic>,
    /// Guest instructions translated.
    pub insns: u64,
}

impl Translator {
    /// A translator with an empty cache.
    ///
    /// # Errors
    /// When there is no back-end for this host, or no memory for code.
    pub fn new(config: JitConfig, passes: PassSet, log: Arc<Log>, keep_ir: bool) -> Result<Self, JitError> {
        Ok(Self {
            lifter: Lifter::new(BLOCK_INSNS),
            jit: Jit::new(config)?,
            passes,
            log,
            keep_ir,
            ir: HashMap::new(),
            fallbacks: HashMap::new(),
            at: HashMap::new(),
            insns: 0,
        })
    }

    /// The key of the block at the processor's instruction pointer.
    ///
    /// # Errors
    /// The fault of fetching there.
    pub fn key(cpu: &mut Cpu) -> Result<BlockKey, Exception> {
        let s = &cpu.state;
        let lin = if s.is_long64() { s.rip } else { s.seg[1].base.wrapping_add(s.rip) & 0xffff_ffff };
        let (rip, mode) = (s.rip, s.mode);
        Ok(BlockKey { phys: cpu.fetch_gpa(lin)?, rip, mode })
    }

    /// Translates the block at the processor's instruction pointer and installs it.
    ///
    /// # Errors
    /// The fault of fetching the first instruction.
    pub fn translate(&mut self, cpu: &mut Cpu) -> Result<Translated, Exception> {
        let mut block = match self.lifter.lift(cpu)? {
            Lifted::Block(block) => block,
            Lifted::Interpret { mnemonic } => {
                if let Ok(key) = Self::key(cpu) {
                    self.at.insert(key, mnemonic);
                }
                return Ok(Translated::Interpret);
            }
        };
        let logging = [Topic::Guest, Topic::Ir, Topic::Host].iter().any(|&t| self.log.wants(t));
        let before = (logging && self.log.wants(Topic::Ir)).then(|| print::block(&block));
        passes::run(&mut block, self.passes);
        self.insns += u64::from(block.guest_insns);
        let Ok(id) = self.jit.compile(&block) else {
            // What the emitter cannot take, the interpreter executes.
            return Ok(Translated::Interpret);
        };
        if logging {
            self.log_block(cpu, &block, before, id);
        }
        if self.keep_ir {
            self.ir.insert(block.key, block);
        }
        Ok(Translated::Block(id))
    }

    /// Notes that the instruction at the processor's instruction pointer is interpreted, for `--stats`.
    pub fn note_fallback(&mut self, cpu: &mut Cpu) {
        let Ok(key) = Self::key(cpu) else { return };
        let mnemonic = match self.at.get(&key) {
            Some(&m) => m,
            None => {
                let m = frontend_x86::mnemonic_at(cpu);
                self.at.insert(key, m);
                m
            }
        };
        *self.fallbacks.entry(mnemonic).or_default() += 1;
    }

    /// Drops translations that overlap `hits`.
    pub fn invalidate(&mut self, hits: &[CodeHit]) {
        self.jit.invalidate(hits);
        let gone = |key: &BlockKey| hits.iter().any(|h| h.page.page() == key.phys.page());
        self.at.retain(|key, _| !gone(key));
        self.ir.retain(|key, _| !gone(key));
    }

    /// The block's IR and host code, for a report.
    pub fn describe(&self, key: &BlockKey) -> String {
        let mut text = String::new();
        if let Some(block) = self.ir.get(key) {
            let _ = writeln!(text, "IR:\n{}", print::block(block));
        }
        if let Some(id) = self.jit.lookup(key) {
            let _ = writeln!(text, "host code:\n{}", disassemble(&self.jit.host_code(id)));
        }
        text
    }

    /// Interpreted instructions by mnemonic, most frequent first.
    pub fn fallbacks(&self) -> Vec<(String, u64)> {
        let mut list: Vec<_> = self.fallbacks.iter().map(|(m, n)| (format!("{m:?}").to_lowercase(), *n)).collect();
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list
    }

    fn log_block(&self, cpu: &mut Cpu, block: &Block, before: Option<String>, id: BlockId) {
        let mut text = format!(
            "-- block phys {} rip {:#x} mode {:#x}: {} instructions, {} bytes\n",
            block.key.phys, block.key.rip, block.key.mode.0, block.guest_insns, block.guest_len
        );
        if self.log.wants(Topic::Guest) {
            let mut code = vec![0; block.guest_len as usize];
            if cpu.mem.read(block.key.phys, &mut code) {
                text += &frontend_x86::disassemble(&code, block.key.rip, block.key.mode);
            }
        }
        if let Some(before) = before {
            let _ = write!(text, "IR as lifted:\n{before}IR after the passes:\n{}", print::block(block));
        }
        if self.log.wants(Topic::Host) {
            let _ = write!(text, "host code:\n{}", disassemble(&self.jit.host_code(id)));
        }
        self.log.write(&text);
    }
}

/// Host code as text: disassembled where the host is x86, in hexadecimal elsewhere.
fn disassemble(code: &[u8]) -> String {
    if cfg!(target_arch = "x86_64") {
        return frontend_x86::disassemble_host(code);
    }
    code.chunks(4).map(|w| w.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect()
}
