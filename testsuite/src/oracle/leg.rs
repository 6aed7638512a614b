//! One way of executing guest code: the interpreter, or lifted blocks by the evaluator or as host code.

use super::case::Case;
use super::scene::{CODE, RAM, Scene};
use backend_jit::{Jit, JitConfig, JitError, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::cpu::{CodeHit, Cpu, Wiring};
use emu_core::engine::Engine;
use emu_core::entropy::Entropy;
use emu_core::fault::{Exception, Vector};
use emu_core::features::Features;
use emu_core::ir::{Block, BlockKey, End, Optimizer, PassSet, eval};
use emu_core::mem::{MemError, PhysMem, page};
use emu_core::softfloat::F80;
use emu_core::state::bits::rflags;
use emu_core::state::{Activity, CpuState, Mode};
use frontend_x86::{Lifted, Lifter};
use interp::system::deliver;
use interp::{Interp, StepResult};
use std::collections::HashMap;
use std::fmt::Write;

/// Bytes of a page.
const PAGE: usize = 0x1000;
/// The pages that hold page tables.
const TABLES: std::ops::Range<usize> = 1..5;

/// Which engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// The interpreter, which the others are held against.
    Interp,
    /// The evaluator on blocks as lifted.
    Eval,
    /// The evaluator after these passes.
    Optimized(PassSetBits),
    /// Host code.
    Jit,
}

/// The bits of a [`PassSet`].
pub type PassSetBits = u32;

impl Kind {
    /// Every engine of an ordinary comparison, the interpreter first.
    pub const ALL: [Kind; 4] = [Kind::Interp, Kind::Eval, Kind::Optimized(PassSet::ALL.0), Kind::Jit];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Interp => "interpreter",
            Kind::Eval => "evaluator",
            Kind::Optimized(_) => "evaluator after passes",
            Kind::Jit => "host code",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// At a HLT: the end of the case, or a handler.
    Halted,
    /// By a triple fault.
    Shutdown,
    /// It went on for too long.
    Limit,
}

/// Why there are no engines.
#[derive(Debug, thiserror::Error)]
pub enum LegError {
    /// No guest memory.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// No translator.
    #[error(transparent)]
    Jit(#[from] JitError),
}

/// An engine with a processor and memory of its own.
#[derive(Debug)]
pub struct Leg {
    /// Which engine.
    pub kind: Kind,
    /// The processor.
    pub cpu: Box<Cpu>,
    interp: Interp,
    lifter: Lifter,
    /// For instructions next to those that the evaluator does not know.
    single: Lifter,
    optimizer: Optimizer,
    jit: Option<Jit>,
    blocks: HashMap<BlockKey, Option<Block>>,
    /// Pages written by loading the last case.
    loaded: Vec<usize>,
    /// Instructions that ran translated (evaluated or as host code).
    pub translated: u64,
    /// Instructions left to the interpreter.
    pub interpreted: u64,
    /// Translations that failed, by reason.
    pub refused: HashMap<String, u64>,
    /// Translated code jumped to an address that is not canonical: see [`super::world::Outcome::Explained`].
    pub wild: bool,
    /// What was lifted, as text, if wanted.
    pub trace: Option<String>,
}

impl Leg {
    /// An engine in a fresh machine.
    ///
    /// # Errors
    /// When the host gives no memory or has no back-end.
    pub fn new(kind: Kind) -> Result<Self, LegError> {
        let mem = PhysMem::new(RAM as u64)?;
        let cpu = Cpu::new(Wiring::bare(mem), Features::DEFAULT, 0);
        let jit = match kind {
            Kind::Jit => Some(Jit::new(JitConfig { cache_bytes: 4 << 20, ..JitConfig::default() })?),
            _ => None,
        };
        let passes = match kind {
            Kind::Interp | Kind::Eval => PassSet::NONE,
            Kind::Optimized(bits) => PassSet(bits),
            Kind::Jit => PassSet::ALL,
        };
        Ok(Self {
            kind,
            cpu,
            interp: Interp::new(),
            lifter: Lifter::new(64),
            single: Lifter::new(1),
            optimizer: Optimizer::new(passes),
            jit,
            blocks: HashMap::new(),
            loaded: Vec::new(),
            translated: 0,
            interpreted: 0,
            refused: HashMap::new(),
            wild: false,
            trace: None,
        })
    }

    fn page_index(&self, page: usize) -> Option<usize> {
        match self.cpu.mem.frame(PhysAddr((page * PAGE) as u64)) {
            emu_core::mem::Frame::Ram(_, index) => Some(index),
            _ => None,
        }
    }

    /// Whether a page may differ from what was loaded.
    pub fn touched(&self, page: usize) -> bool {
        self.page_index(page).is_some_and(|i| {
            self.cpu.mem.attrs(i).load(std::sync::atomic::Ordering::Relaxed) & page::DIRTY != 0
        })
    }

    /// Reads a page.
    pub fn page(&self, page: usize, buf: &mut [u8; PAGE]) -> bool {
        self.cpu.mem.read(PhysAddr((page * PAGE) as u64), buf)
    }

    /// Gives up everything derived from code bytes.
    fn forget_code(&mut self) {
        for n in 0..RAM / PAGE {
            let Some(index) = self.page_index(n) else { continue };
            let chunks = self.cpu.mem.code_chunks(index).load(std::sync::atomic::Ordering::Relaxed);
            if chunks != 0 {
                self.cpu.code_hits.push(CodeHit { page: PhysAddr((n * PAGE) as u64), index, chunks });
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        let hits = std::mem::take(&mut self.cpu.code_hits);
        if hits.is_empty() {
            return;
        }
        self.blocks.clear();
        Engine::invalidate(&mut self.interp, &hits);
        if let Some(jit) = &mut self.jit {
            jit.invalidate(&hits);
        }
        for hit in &hits {
            self.cpu.mem.unmark_code(hit.index, hit.chunks);
        }
    }

    /// Puts memory and processor into the case's initial state. `base` is the scene's image, `moved` says that it is
    /// another one than last time.
    pub fn load(&mut self, case: &Case, scene: &Scene, base: &[u8], template: &CpuState, moved: bool) {
        self.forget_code();
        self.wild = false;
        let mut flush = case.cold || moved;
        let mut buf = [0; PAGE];
        for n in 0..RAM / PAGE {
            if !(moved || self.loaded.contains(&n) || self.touched(n)) {
                continue;
            }
            let want = &base[n * PAGE..][..PAGE];
            if TABLES.contains(&n) && self.page(n, &mut buf) && buf != want {
                flush = true;
            }
            let _ = self.cpu.mem.write(PhysAddr((n * PAGE) as u64), want);
        }
        self.loaded.clear();
        let code = (CODE + case.at, case.bytes());
        for (at, bytes) in case.patches.iter().chain([&code]) {
            self.loaded.extend([*at as usize / PAGE, (*at as usize + bytes.len()) / PAGE]);
            let _ = self.cpu.mem.write(PhysAddr(*at), bytes);
        }
        self.load_state(case, scene, template, flush);
        if flush {
            for n in 0..RAM / PAGE {
                if let Some(i) = self.page_index(n) {
                    let attrs = self.cpu.mem.attrs(i);
                    attrs.fetch_and(!page::DIRTY, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
    }

    fn load_state(&mut self, case: &Case, scene: &Scene, template: &CpuState, flush: bool) {
        let cpu = &mut *self.cpu;
        let old = &cpu.state;
        let (signal, tlb) = (old.signal_word, old.tlb);
        let paging = |s: &CpuState| (s.cr0, s.cr3, s.cr4, s.efer, s.pkru);
        let changed = paging(old) != paging(template);
        let (cr0, cr4, efer) = (old.cr0, old.cr4, old.efer);
        cpu.state = template.clone();
        let s = &mut cpu.state;
        (s.signal_word, s.tlb) = (signal, tlb);
        s.gpr = case.gpr;
        s.rip = (CODE + case.at).wrapping_sub(if scene.bits == 64 { 0 } else { s.seg[1].base });
        s.rflags = case.rflags | 2;
        if scene.v86 {
            s.rflags |= rflags::VM;
        }
        if scene.cpl != 3 {
            // Without IOPL 3 in user mode, so that both meanings are seen.
            s.rflags &= !rflags::NT;
        }
        for (v, x) in s.vec.iter_mut().zip(&case.xmm) {
            v.0[..2].copy_from_slice(x);
        }
        s.mxcsr = case.mxcsr & 0xffff;
        for (st, &(mant, se)) in s.fpu.st.iter_mut().zip(&case.st) {
            *st = F80 { mant, se };
        }
        (s.fpu.fcw, s.fpu.fsw, s.fpu.ftw) = (case.fpu[0], case.fpu[1], case.fpu[2] as u8);
        cpu.entropy = Entropy::Seeded(0);
        if changed || flush {
            cpu.paging_changed(cr0, cr4, efer);
            cpu.load_cr3(cpu.state.cr3);
            cpu.flush_all();
        }
        cpu.mode_changed();
    }

    /// Runs to the end of the case, for at most `limit` instructions or blocks.
    pub fn run(&mut self, limit: u32) -> Ended {
        for _ in 0..limit {
            self.drain();
            let left = match self.kind {
                Kind::Interp => self.step(),
                _ => self.turn(),
            };
            if let Some(ended) = left {
                return ended;
            }
        }
        Ended::Limit
    }

    fn step(&mut self) -> Option<Ended> {
        self.interpreted += 1;
        match self.interp.step(&mut self.cpu) {
            StepResult::Done => None,
            StepResult::Halted => Some(Ended::Halted),
            StepResult::Shutdown => Some(Ended::Shutdown),
        }
    }

    fn fault(&mut self, e: Exception) -> Option<Ended> {
        deliver::exception(&mut self.cpu, e).is_err().then_some(Ended::Shutdown)
    }

    fn turn(&mut self) -> Option<Ended> {
        let s = &self.cpu.state;
        if s.activity != Activity::Active {
            return Some(if s.activity == Activity::Shutdown { Ended::Shutdown } else { Ended::Halted });
        }
        if s.mode.0 & Mode::STEP != 0 || s.shadow != 0 || s.rflags & rflags::RF != 0 {
            return self.step();
        }
        let lin = if s.is_long64() { s.rip } else { s.seg[1].base.wrapping_add(s.rip) & 0xffff_ffff };
        let (rip, mode) = (s.rip, s.mode);
        let phys = match self.cpu.fetch_gpa(lin) {
            Ok(phys) => phys,
            Err(e) => {
                self.wild |= e.vector == Vector::GP;
                return self.step();
            }
        };
        let key = BlockKey { phys, rip, mode };
        let before = self.cpu.state.icount;
        let ended = if self.jit.is_some() { self.host(key) } else { self.evaluate(key) };
        self.translated += self.cpu.state.icount.wrapping_sub(before);
        ended
    }

    /// Lifts and optimises the block at RIP.
    fn lift(&mut self) -> Option<Block> {
        let Ok(Lifted::Block(mut block)) = self.lifter.lift(&mut self.cpu) else { return None };
        if let Some(t) = &mut self.trace {
            let _ = writeln!(t, "as lifted:\n{block}");
        }
        self.optimizer.run(&mut block);
        if let Some(t) = &mut self.trace
            && self.kind != Kind::Eval
        {
            let _ = writeln!(t, "after the passes:\n{block}");
        }
        (block.guest_insns != 0).then_some(block)
    }

    fn evaluate(&mut self, key: BlockKey) -> Option<Ended> {
        let block = match self.blocks.remove(&key) {
            Some(block) => block,
            None => self.lift(),
        };
        let Some(b) = &block else {
            self.blocks.insert(key, None);
            return self.step();
        };
        let end = eval(b, &mut self.cpu);
        self.blocks.insert(key, block);
        match end {
            End::Goto(_) => None,
            End::Interpret => self.step(),
            End::Fault(e) => self.fault(e),
            End::Unsupported(_) => {
                let Ok(Lifted::Block(mut b)) = self.single.lift(&mut self.cpu) else { return self.step() };
                self.optimizer.run(&mut b);
                match eval(&b, &mut self.cpu) {
                    End::Goto(_) => None,
                    End::Interpret | End::Unsupported(_) => self.step(),
                    End::Fault(e) => self.fault(e),
                }
            }
        }
    }

    fn host(&mut self, key: BlockKey) -> Option<Ended> {
        let known = self.jit.as_ref().and_then(|j| j.lookup(&key));
        let id = match known {
            Some(id) => id,
            None => {
                let Some(block) = self.lift() else { return self.step() };
                let jit = self.jit.as_mut()?;
                match jit.compile(&block) {
                    Ok(id) => id,
                    Err(e) => {
                        *self.refused.entry(e.to_string()).or_default() += 1;
                        return self.step();
                    }
                }
            }
        };
        let jit = self.jit.as_mut()?;
        jit.set_budget(&self.cpu, 200_000);
        if let Some(t) = &mut self.trace {
            let at = jit.host_address(id).unwrap_or(0);
            let _ = writeln!(t, "host code:\n{}", frontend_x86::disassemble(&jit.host_code(id), at, 64));
        }
        match jit.run(&mut self.cpu, id) {
            RunExit::NeedBlock | RunExit::Signal | RunExit::CodeHit => None,
            RunExit::Budget => Some(Ended::Limit),
            RunExit::Interpret => self.step(),
            RunExit::Fault(e) => self.fault(e),
        }
    }
}

/// Every difference of two final states; memory aside. `counts`: compare the number of instructions.
pub fn compare(a: &CpuState, b: &CpuState, counts: bool) -> Vec<String> {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    let mut list = Vec::new();
    let mut check = |name: &str, a: u64, b: u64| {
        if a != b {
            list.push(format!("{name}: interpreter {a:#x}, this {b:#x}"));
        }
    };
    for (n, name) in NAMES.iter().enumerate() {
        check(name, a.gpr[n], b.gpr[n]);
    }
    check("rip", a.rip, b.rip);
    check("rflags", a.rflags, b.rflags);
    check("mode", a.mode.0.into(), b.mode.0.into());
    check("shadow", a.shadow.into(), b.shadow.into());
    check("activity", a.activity as u64, b.activity as u64);
    check("mxcsr", a.mxcsr.into(), b.mxcsr.into());
    for (n, a, b) in [
        ("cr0", a.cr0, b.cr0),
        ("cr2", a.cr2, b.cr2),
        ("cr3", a.cr3, b.cr3),
        ("cr4", a.cr4, b.cr4),
        ("efer", a.efer, b.efer),
        ("xcr0", a.xcr0, b.xcr0),
    ] {
        check(n, a, b);
    }
    if counts {
        check("instructions", a.icount, b.icount);
    }
    for n in 0..6 {
        if a.seg[n] != b.seg[n] {
            list.push(format!("segment {n}: interpreter {:x?}, this {:x?}", a.seg[n], b.seg[n]));
        }
    }
    for n in 0..16 {
        let (x, y) = (a.vec[n].0, b.vec[n].0);
        if x != y {
            list.push(format!("vector register {n}: interpreter {x:x?}, this {y:x?}"));
        }
    }
    let mut same = |name: &str, same: bool| {
        if !same {
            list.push(format!("{name} differs"));
        }
    };
    same("x87 state", a.fpu == b.fpu);
    same("LDTR or TR", (a.ldtr, a.tr) == (b.ldtr, b.tr));
    same("GDTR or IDTR", (a.gdtr, a.idtr) == (b.gdtr, b.idtr));
    same("debug registers", a.dr == b.dr);
    same("MSRs", a.msr == b.msr);
    same("PKRU", a.pkru == b.pkru);
    same("NMI blocking", a.nmi_blocked == b.nmi_blocked);
    list
}
