//! From guest code to installed host code: lift, passes, emit, with what `--log` and `--stats` want to know.

use super::driver::code_address;
use super::kept::Kept;
use super::paths::Paths;
use crate::log::{Log, Topic};
use backend_jit::{BlockId, Jit, JitConfig, JitError};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::fault::Exception;
use emu_core::ir::passes::{Optimizer, PassSet};
use emu_core::ir::{Block, BlockKey, BrKind, Inst, Op};
use emu_core::state::Mode;
use frontend_x86::{Guide, Lifted, Lifter, TRANSLATED, mnemonic_of};
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
    /// Not yet: what follows is to be recorded first, since it ends in a computed jump.
    Unrecorded,
    /// The interpreter has to execute the first instruction there.
    Interpret,
}

/// The translating half of an engine.
#[derive(Debug)]
pub struct Translator {
    lifter: Lifter,
    /// The code cache.
    pub jit: Jit,
    optimizer: Optimizer,
    traces: bool,
    /// Traces go on past computed jumps.
    follow: bool,
    log: Arc<Log>,
    /// Each block's IR, if it is kept.
    kept: Option<Kept>,
    /// Interpreted instructions by the number of their mnemonic.
    fallbacks: HashMap<u32, u64>,
    /// Blocks that the emitter refused, by its reason.
    refused: HashMap<String, u64>,
}

impl Translator {
    /// A translator with an empty cache.
    ///
    /// # Errors
    /// When there is no back-end for this host, or no memory for code.
    pub fn new(config: JitConfig, passes: PassSet, log: Arc<Log>, keep_ir: bool) -> Result<Self, JitError> {
        let mut lifter = Lifter::new(BLOCK_INSNS);
        lifter.lift_words(config.code_words);
        lifter.elide_locks(config.elide_locks);
        lifter.set_emits(backend_jit::emits);
        Ok(Self {
            lifter,
            jit: Jit::new(config)?,
            optimizer: Optimizer::new(passes),
            traces: passes.contains(PassSet::TRACE),
            follow: passes.contains(PassSet::TRACE) && passes.contains(PassSet::FOLLOW),
            log,
            kept: keep_ir.then(Kept::default),
            fallbacks: HashMap::new(),
            refused: HashMap::new(),
        })
    }

    /// The key of the block at the processor's instruction pointer.
    ///
    /// # Errors
    /// The fault of fetching there.
    pub fn key(cpu: &mut Cpu) -> Result<BlockKey, Exception> {
        let lin = code_address(cpu);
        let (rip, mode) = (cpu.state.rip, cpu.state.mode);
        Ok(BlockKey { phys: cpu.fetch_gpa(lin)?, rip, mode })
    }

    /// Translates the block at the processor's instruction pointer and installs it. `heat` says how often the block
    /// with a key has run, which leads traces; `paths` has the paths that have been recorded, or there are none.
    ///
    /// # Errors
    /// The fault of fetching the first instruction.
    pub fn translate(
        &mut self,
        cpu: &mut Cpu,
        heat: &dyn Fn(&BlockKey) -> u32,
        paths: Option<&mut Paths>,
    ) -> Result<Translated, Exception> {
        let mut paths = paths.filter(|_| self.follow);
        let recorded = match &mut paths {
            Some(paths) => paths.take(&Self::key(cpu)?),
            None => None,
        };
        let jit = &self.jit;
        let guide = |key: &BlockKey| if jit.lookup(key).is_some() { TRANSLATED } else { heat(key) };
        let guide: Option<Guide> = self.traces.then_some(&guide);
        let mut block = match self.lifter.lift_along(cpu, guide, recorded.as_ref())? {
            Lifted::Block(block) => block,
            Lifted::Interpret { .. } => return Ok(Translated::Interpret),
        };
        if let (Some(paths), None) = (&mut paths, &recorded)
            && ends_in_computed_jump(&block)
        {
            paths.record(block.key);
            return Ok(Translated::Unrecorded);
        }
        let logging = [Topic::Guest, Topic::Ir, Topic::Host].iter().any(|&t| self.log.wants(t));
        let before = (logging && self.log.wants(Topic::Ir)).then(|| block.to_string());
        if block.ram.is_none() {
            self.lifter.has_no_words(block.key.phys);
        }
        self.optimizer.run(&mut block);
        let id = match self.jit.compile(&block) {
            Ok(id) => id,
            Err(_) if recorded.as_ref().is_some_and(|path| !path.leaps.is_empty()) => {
                // It may have got too big for something.
                return self.translate(cpu, heat, None);
            }
            Err(e) => {
                // What the emitter cannot take, the interpreter executes.
                *self.refused.entry(e.to_string()).or_default() += 1;
                return Ok(Translated::Interpret);
            }
        };
        if logging {
            self.log_block(cpu, &block, before, id);
        }
        if let Some(kept) = &mut self.kept {
            let jit = &self.jit;
            kept.insert(block);
            kept.retain(jit.counters().evictions, |key| jit.lookup(key).is_some());
        }
        Ok(Translated::Block(id))
    }

    /// Whether the block at the processor's instruction pointer, which is about to run, should be translated although it has
    /// not run `hot` times since its bytes changed: they keep changing.
    pub fn is_hot(&mut self, cpu: &mut Cpu, hot: u32) -> bool {
        self.lifter.knows_changes() && Self::key(cpu).is_ok_and(|key| self.lifter.is_hot(key.phys, hot))
    }

    /// Notes that the instruction at the processor's instruction pointer is interpreted, for `--stats`.
    pub fn note_fallback(&mut self, cpu: &mut Cpu) {
        let bits = cpu.state.mode.code_bits();
        let lin = code_address(cpu);
        let known = cpu.fetch_in_page(lin).ok().and_then(|mut f| {
            mnemonic_of(&f.bytes[..f.len], bits).or_else(|| {
                cpu.fetch_beyond(lin, &mut f);
                mnemonic_of(&f.bytes[..f.len], bits)
            })
        });
        let mnemonic = known.unwrap_or(0);
        *self.fallbacks.entry(mnemonic).or_default() += 1;
    }

    /// Drops translations that overlap `hits`.
    pub fn invalidate(&mut self, hits: &[CodeHit]) {
        self.jit.invalidate(hits);
        self.lifter.note_stores(hits);
        if let Some(kept) = &mut self.kept {
            let jit = &self.jit;
            kept.retain_hit(hits, |key| jit.lookup(key).is_some());
        }
    }

    /// Whether a block whose IR was kept ends in an instruction that may branch to itself, as repeated string
    /// instructions do.
    pub fn repeats(&self, key: &BlockKey) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.repeats(key))
    }

    /// RIP of the last guest instruction of a block whose IR was kept.
    pub fn last_instruction(&self, key: &BlockKey) -> Option<u64> {
        self.kept.as_ref()?.last_instruction(key)
    }

    /// The block's IR and host code, for a report.
    pub fn describe(&self, key: &BlockKey) -> String {
        let mut text = String::new();
        if let Some(block) = self.kept.as_ref().and_then(|kept| kept.block(key)) {
            let _ = writeln!(text, "IR:\n{block}");
        }
        if let Some(id) = self.jit.lookup(key) {
            let _ = writeln!(text, "host code:\n{}", host_text(&self.jit, id));
        }
        text
    }

    /// Interpreted instructions by mnemonic, most frequent first.
    pub fn fallbacks(&self) -> Vec<(String, u64)> {
        let mut list: Vec<_> =
            self.fallbacks.iter().map(|(m, n)| (frontend_x86::mnemonic_name(*m), *n)).collect();
        list.extend(self.refused.iter().map(|(why, n)| (format!("(block) {why}"), *n)));
        list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list
    }

    fn log_block(&self, cpu: &mut Cpu, block: &Block, before: Option<String>, id: BlockId) {
        let mut text = format!(
            "-- block phys {} rip {:#x} mode {:#x}: {} instructions, {} bytes\n",
            block.key.phys, block.key.rip, block.key.mode.0, block.guest_insns, block.guest_len
        );
        if self.log.wants(Topic::Guest) {
            for i in block.insts.iter().filter(|i| i.op == Op::Guest) {
                let mut code = vec![0; i.aux as usize];
                if cpu.mem.read(block.key.phys.wrapping_add(i.imm as u64), &mut code) {
                    let rip = block.key.rip.wrapping_add(i.imm as u64);
                    text += &frontend_x86::disassemble(&code, rip, block.key.mode.code_bits());
                }
            }
        }
        if let Some(before) = before {
            let _ = write!(text, "IR as lifted:\n{before}IR after the passes:\n{block}");
        }
        if self.log.wants(Topic::Host) {
            let _ = write!(text, "host code:\n{}", host_text(&self.jit, id));
        }
        self.log.write(&text);
    }
}

/// Whether a trace might go on past the block's end along a recorded path.
fn ends_in_computed_jump(block: &Block) -> bool {
    let jump = |i: &Inst| i.op == Op::GotoReg && i.aux == BrKind::Jmp as u32;
    block.key.mode.contains(Mode::FLAT) && block.insts.last().is_some_and(jump)
}

/// Host code as text: disassembled where the host is x86, as words in hexadecimal elsewhere.
pub fn host_text(jit: &Jit, id: BlockId) -> String {
    let hex = |w: &[u8]| w.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n";
    let text = |(at, code): &(u64, Vec<u8>)| match cfg!(target_arch = "x86_64") {
        true => frontend_x86::disassemble(code, *at, 64),
        false => code.chunks(4).map(hex).collect(),
    };
    let parts: Vec<String> = jit.host_code(id).iter().map(text).collect();
    parts.join("out of line:\n")
}
