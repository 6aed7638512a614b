//! Both engines over the same guest, block by block, stopping at the first difference.
//!
//! A batch of blocks runs as translated code first, with every store journalled and every device access logged; its
//! effects are noted and undone; then the interpreter executes as many instructions from the same state, seeing the
//! same device values; then registers, flags and stored bytes are compared. The interpreter's outcome stands.
//! Instructions that translated code leaves to the interpreter run once. A batch that differs is taken back and run
//! again block by block, so that the report names the first block that differs.

use super::driver::code_address;
use super::paths::Paths;
use super::replay::{Log as AccessLog, ReplayBus, ReplayInterrupts};
use super::translator::{Translated, Translator};
use super::{forget_code, left};
use backend_jit::{BlockId, RunExit};
use emu_core::addr::PAGE_SIZE;
use emu_core::bus::SystemBus;
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::engine::{Engine, Exit};
use emu_core::ir::BlockKey;
use emu_core::mmu::Journal;
use emu_core::state::{Activity, CpuState, Mode};
use interp::Interp;
use interp::system::deliver::{self, Service};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Blocks in a batch.
const BATCH: u32 = 200;
/// The interpreter's blocks are no longer than this, so that it may run whole ones while more is left to do.
const INTERP_BLOCK: u64 = 64;

/// See the module.
#[derive(Debug)]
pub struct Lockstep {
    interp: Interp,
    translator: Translator,
    paths: Paths,
    accesses: Arc<AccessLog>,
    /// The board's bus, without a log; None: the log does not stand before it yet.
    bus: Option<Arc<dyn SystemBus>>,
    /// Batches compared.
    compared: u64,
    /// Instructions that may still be batched: after a difference, none until the batch has been gone through again.
    single_until: u64,
    difference: Option<String>,
}

/// What a run left behind, for comparison.
struct Outcome {
    state: CpuState,
    /// Every store to RAM, in order.
    stores: Journal,
}

impl Lockstep {
    /// A lockstep engine over `translator`, which must leave translated code after each block and keep its IR.
    pub fn new(translator: Translator) -> Self {
        Self {
            interp: Interp::new(),
            translator,
            paths: Paths::default(),
            accesses: Arc::new(AccessLog::default()),
            bus: None,
            compared: 0,
            single_until: 0,
            difference: None,
        }
    }

    /// Puts the access log between the processor and its devices, and makes every store visible.
    fn wire(&mut self, cpu: &mut Cpu) {
        let log = self.accesses.clone();
        self.bus = Some(cpu.bus.clone());
        cpu.bus = Arc::new(ReplayBus { real: cpu.bus.clone(), log: log.clone() });
        cpu.irq = Arc::new(ReplayInterrupts { real: cpu.irq.clone(), log });
        cpu.mmu.trap_writes = true;
        cpu.flush_all();
    }

    fn turn(&mut self, cpu: &mut Cpu) -> Option<Exit> {
        self.accesses.record();
        if cpu.state.mode.0 & Mode::STEP != 0 || cpu.state.shadow != 0 {
            return left(self.interp.step(cpu));
        }
        if self.paths.is_recording() {
            return left(self.paths.go_on(&mut self.interp, cpu));
        }
        let Ok(key) = Translator::key(cpu) else { return left(self.interp.step(cpu)) };
        let id = match self.translator.jit.find(cpu, &key) {
            Some(id) => id,
            None => match self.translator.translate(cpu, &|_| 1, Some(&mut self.paths)) {
                Ok(Translated::Block(id)) => id,
                Ok(Translated::Unrecorded) => return left(self.paths.go_on(&mut self.interp, cpu)),
                _ => return left(self.interp.step(cpu)),
            },
        };
        self.compare(cpu, &key, id)
    }

    fn compare(&mut self, cpu: &mut Cpu, key: &BlockKey, id: BlockId) -> Option<Exit> {
        let before = cpu.state.clone();
        cpu.mmu.journal = Some(Journal::default());
        let most = if before.icount < self.single_until { 1 } else { BATCH };
        let (exit, count) = self.run_batch(cpu, *key, id, most);
        let fault = (exit == RunExit::Fault).then(|| backend_jit::fault(cpu));
        let mut dead = false;
        if let Some(e) = fault {
            dead = deliver::exception(cpu, e).is_err();
        }
        let journal = cpu.mmu.journal.take().unwrap_or_default();
        cpu.take_back(&journal);
        let translated =
            Outcome { state: std::mem::replace(&mut cpu.state, before.clone()), stores: journal };
        let hits = std::mem::take(&mut cpu.code_hits);
        cpu.mode_changed();

        self.accesses.replay();
        cpu.mmu.journal = Some(Journal::default());
        let ended = self.run_interpreted(cpu, count, fault.is_some());
        cpu.code_hits.extend(hits);
        let journal = cpu.mmu.journal.take().unwrap_or_default();
        let mut differences = self.accesses.finish().into_iter().collect::<Vec<_>>();
        cpu.state.icount = before.icount + count;
        if dead != matches!(ended, Some(Exit::Shutdown)) {
            differences.push(format!("triple fault: translated {dead}, interpreted {ended:?}"));
        }
        if !same_state(&translated.state, &cpu.state) {
            differences.extend(compare_states(&translated.state, &cpu.state));
        }
        differences.extend(compare_stores(&translated.stores, &journal));
        self.compared += 1;
        if !differences.is_empty() && most > 1 {
            // Back to the start of the batch, to find the block.
            cpu.take_back(&journal);
            cpu.state = before;
            cpu.mode_changed();
            self.single_until = cpu.state.icount + count + 1;
            self.accesses.rewind();
            return None;
        }
        if !differences.is_empty() {
            self.report(key, &before, exit, &differences);
            return Some(Exit::Signal);
        }
        if ended.is_some() {
            return ended;
        }
        if exit == RunExit::Interpret {
            return left(self.interp.step(cpu));
        }
        None
    }

    /// Runs up to `most` translated blocks; ends early where something has to be done between blocks, or after a
    /// repeated string instruction.
    fn run_batch(&mut self, cpu: &mut Cpu, mut key: BlockKey, mut id: BlockId, most: u32) -> (RunExit, u64) {
        let mut total = 0;
        for n in 1.. {
            let (exit, count, plain) = self.run_translated(cpu, key, id);
            total += count;
            let quiet = cpu.code_hits.is_empty()
                && cpu.signals.peek() == 0
                && cpu.state.shadow == 0
                && !self.accesses.waits();
            if exit != RunExit::NeedBlock
                || !plain
                || !quiet
                || n >= most
                || cpu.state.mode.contains(Mode::STEP)
            {
                return (exit, total);
            }
            match self.next_block(cpu) {
                Some(next) => (key, id) = next,
                None => return (exit, total),
            }
        }
        (RunExit::NeedBlock, total)
    }

    /// Interprets `count` instructions, and one more that faults if `fault`. Some if that ended the run.
    fn run_interpreted(&mut self, cpu: &mut Cpu, count: u64, fault: bool) -> Option<Exit> {
        let mut steps = count;
        let mut ended = None;
        while steps > INTERP_BLOCK && ended.is_none() && cpu.code_hits.is_empty() {
            let (before, rip) = (cpu.state.icount, cpu.state.rip);
            ended = left(self.interp.run_block(cpu));
            let done = cpu.state.icount - before;
            if done == 0 {
                // A fault that the translated code did not meet: a difference, which the comparison will show.
                return ended;
            }
            let unfinished = cpu.state.rip == rip && done == 1 && repeats_at(cpu);
            steps -= if unfinished { 0 } else { done };
        }
        steps += u64::from(fault);
        while steps > 0 && ended.is_none() {
            let rip = cpu.state.rip;
            ended = left(self.interp.step(cpu));
            steps -= u64::from(!(cpu.state.rip == rip && repeats_at(cpu)));
        }
        ended
    }

    /// Runs a translated block, and if it leaves a string instruction unfinished, goes on until that is done. The
    /// second value is how many instructions completed, the third whether no string instruction was involved.
    fn run_translated(&mut self, cpu: &mut Cpu, mut key: BlockKey, mut id: BlockId) -> (RunExit, u64, bool) {
        let mut completed = 0;
        let mut plain = true;
        loop {
            let before = cpu.state.icount;
            let exit = self.translator.jit.run(cpu, id);
            completed += cpu.state.icount - before;
            let rip = cpu.state.rip;
            match exit {
                RunExit::Interpret if repeats_at(cpu) => {
                    // It may have come part of the way: the rest is the interpreter's, in both runs.
                    while cpu.state.rip == rip && left(self.interp.step(cpu)).is_none() {}
                    return (RunExit::NeedBlock, completed + 1, false);
                }
                RunExit::NeedBlock | RunExit::Signal | RunExit::CodeHit
                    if rip.wrapping_sub(key.rip) < PAGE_SIZE
                        && self.translator.last_instruction(&key) == Some(rip)
                        && repeats_at(cpu) =>
                {
                    completed -= 1;
                    plain = false;
                }
                _ => return (exit, completed, plain && !self.translator.repeats(&key)),
            }
            match self.next_block(cpu) {
                Some(next) => (key, id) = next,
                None => return (exit, completed, false),
            }
        }
    }

    fn next_block(&mut self, cpu: &mut Cpu) -> Option<(BlockKey, BlockId)> {
        let key = Translator::key(cpu).ok()?;
        if let Some(id) = self.translator.jit.lookup(&key) {
            return Some((key, id));
        }
        match self.translator.translate(cpu, &|_| 1, Some(&mut self.paths)) {
            Ok(Translated::Block(id)) => Some((key, id)),
            _ => None,
        }
    }

    fn report(&mut self, key: &BlockKey, before: &CpuState, exit: RunExit, differences: &[String]) {
        let mut text = format!(
            "from block at phys {}, rip {:#x}, mode {:#x}, left by {exit:?}, after {} batches compared\n",
            key.phys, key.rip, key.mode.0, self.compared
        );
        for d in differences {
            let _ = writeln!(text, "  {d}");
        }
        let _ = writeln!(
            text,
            "before: gpr {:x?}\n  rip {:#x} rflags {:#x}",
            before.gpr, before.rip, before.rflags
        );
        text += &self.translator.describe(key);
        self.difference = Some(text);
    }
}

/// Whether a repeated string instruction stands at the instruction pointer.
fn repeats_at(cpu: &mut Cpu) -> bool {
    let (long, lin) = (cpu.state.is_long64(), code_address(cpu));
    let Ok(f) = cpu.fetch(lin) else { return false };
    let mut rep = false;
    for b in &f.bytes[..f.len] {
        match b {
            0xf2 | 0xf3 => rep = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 => {}
            0x40..=0x4f if long => {}
            0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf => return rep,
            _ => return false,
        }
    }
    false
}

/// Whether two states agree in all that [`compare_states`] looks at: the quick answer for nearly every block.
fn same_state(t: &CpuState, i: &CpuState) -> bool {
    t.gpr == i.gpr
        && (t.rip, t.rflags, t.mode, t.mxcsr) == (i.rip, i.rflags, i.mode, i.mxcsr)
        && (t.cr0, t.cr2, t.cr3, t.cr4) == (i.cr0, i.cr2, i.cr3, i.cr4)
        && t.seg == i.seg
        && t.vec[..16] == i.vec[..16]
        && t.fpu == i.fpu
}

/// Every difference of the states, one line each.
fn compare_states(t: &CpuState, i: &CpuState) -> Vec<String> {
    let mut list = Vec::new();
    let mut check = |name: &str, a: u64, b: u64| {
        if a != b {
            list.push(format!("{name}: translated {a:#x}, interpreted {b:#x}"));
        }
    };
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    for (n, name) in NAMES.iter().enumerate() {
        check(name, t.gpr[n], i.gpr[n]);
    }
    check("rip", t.rip, i.rip);
    check("rflags", t.rflags, i.rflags);
    check("mode", t.mode.0.into(), i.mode.0.into());
    check("mxcsr", t.mxcsr.into(), i.mxcsr.into());
    check("cr0", t.cr0, i.cr0);
    check("cr2", t.cr2, i.cr2);
    check("cr3", t.cr3, i.cr3);
    check("cr4", t.cr4, i.cr4);
    for n in 0..6 {
        check(&format!("segment {n} base"), t.seg[n].base, i.seg[n].base);
        check(&format!("segment {n} selector"), t.seg[n].sel.into(), i.seg[n].sel.into());
    }
    for n in 0..16 {
        for q in 0..4 {
            check(&format!("vector register {n} quadword {q}"), t.vec[n].0[q], i.vec[n].0[q]);
        }
    }
    if t.fpu != i.fpu {
        list.push("x87 state differs".into());
    }
    list
}

/// The first byte of RAM that the runs left different, if any.
fn compare_stores(translated: &Journal, interpreted: &Journal) -> Option<String> {
    if translated.same_bytes(interpreted) {
        return None;
    }
    let (t, i) = (translated.changed_bytes(), interpreted.changed_bytes());
    let a = t.keys().chain(i.keys()).copied().filter(|a| t.get(a) != i.get(a)).min()?;
    let show = |m: &BTreeMap<u64, u8>| m.get(&a).map_or("unchanged".into(), |b| format!("{b:#x}"));
    Some(format!("memory at {a:#x}: translated {}, interpreted {}", show(&t), show(&i)))
}

impl Engine for Lockstep {
    fn run(&mut self, cpu: &mut Cpu, budget: u64) -> Exit {
        if self.bus.is_none() {
            self.wire(cpu);
        }
        let end = cpu.state.icount.saturating_add(budget);
        loop {
            if cpu.signals.peek() != 0 || cpu.state.activity != Activity::Active {
                match deliver::service(cpu) {
                    Service::Exit(_) => return Exit::Signal,
                    Service::Shutdown => return Exit::Shutdown,
                    Service::Halted => return Exit::Halted,
                    Service::Nothing | Service::Taken => {}
                }
            }
            if !cpu.code_hits.is_empty() {
                let hits = std::mem::take(&mut cpu.code_hits);
                self.invalidate(&hits);
                forget_code(cpu, &hits, Some(&self.translator.jit));
            }
            if cpu.state.icount >= end {
                return Exit::Budget;
            }
            let ended = self.turn(cpu);
            if let Some(bus) = &self.bus {
                self.accesses.settle(&**bus);
            }
            if let Some(exit) = ended {
                return exit;
            }
        }
    }

    fn invalidate(&mut self, hits: &[CodeHit]) {
        self.interp.invalidate(hits);
        self.translator.invalidate(hits);
    }

    fn failure(&self) -> Option<String> {
        self.difference.clone()
    }

    fn stats(&self) -> Vec<(String, u64)> {
        let mut list = vec![("batches compared".to_owned(), self.compared)];
        list.extend(self.translator.jit.stats());
        list
    }
}
