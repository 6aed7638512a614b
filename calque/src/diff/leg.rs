//! One way of executing guest code: the interpreter, or lifted blocks by the evaluator or as host code, with a processor
//! and memory of its own.
//!
//! Loading a case costs little when only values differ from the last one: what the last one wrote is undone (from the
//! journal of stores, or by comparing the pages that the interpreter wrote), and translations stay.

use super::case::Case;
use super::scene::{CODE, CODE_LEN, DATA, DATA_LEN, RAM, STACK, STACK_LEN, Scene};
use crate::engines::driver::{Driver, DriverConfig, Ended, Kind, code_address};
use backend_jit::JitError;
use emu_core::addr::PhysAddr;
use emu_core::cpu::{Caught, Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::entropy::Entropy;
use emu_core::features::Features;
use emu_core::mem::{Frame, MemError, PhysMem, page};
use emu_core::mmu::Journal;
use emu_core::softfloat::F80;
use emu_core::state::CpuState;
use emu_core::state::bits::rflags;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Bytes of a page.
pub(super) const PAGE: usize = 0x1000;
/// The pages that hold page tables.
pub(super) const TABLES: std::ops::Range<usize> = 1..5;

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

/// What a leg made of a case.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// What would have been delivered, in native scenes.
    pub caught: Option<Caught>,
    /// The processor at the end.
    pub state: Box<CpuState>,
    /// What it wrote, oldest first; of host code nothing is known.
    pub journal: Journal,
    /// The last page of tables, where accessed and dirty bits may have changed.
    pub table: Option<Box<[u8; PAGE]>>,
    /// Translated code jumped to an address that is not canonical.
    pub wild: bool,
    /// What it ran, of the interpreter.
    pub steps: Vec<Step>,
}

/// An instruction that a leg is about to run, in the case's pages.
#[derive(Clone, Debug)]
pub struct Step {
    /// RIP.
    pub rip: u64,
    /// The guest-physical address, which is the same in native scenes.
    pub at: u64,
    /// The bytes there.
    pub bytes: [u8; 15],
    /// How many of them certainly are in pages that may be fetched from.
    pub present: usize,
    /// The width of code.
    pub bits: u32,
    /// Instructions that the processor had completed before it.
    pub icount: u64,
    /// The general registers before it.
    pub gpr: [u64; 16],
}

impl Step {
    /// What `cpu` is about to run, if that lies in the case's pages: jumps lead into data, too.
    fn next(cpu: &Cpu, layout: u32) -> Option<Self> {
        // Memory is mapped one to one, and in long mode once more at the end of each half.
        let lin = code_address(cpu);
        let at = match lin {
            _ if lin < RAM as u64 => lin,
            _ if cpu.state.is_long64() && lin & !(RAM as u64 - 1) == 0xffff_8000_0000_0000 => {
                lin & (RAM as u64 - 1)
            }
            _ => return None,
        };
        let pages = [(CODE, CODE_LEN), (DATA, DATA_LEN), (STACK, STACK_LEN)];
        if pages.iter().all(|(from, len)| !(*from..from + len).contains(&at)) {
            return None;
        }
        // The second page of code may not be there.
        let gap = layout & 1 << 27 != 0;
        let present = match at >> 12 {
            0x11 if gap => return None,
            0x10 if gap => (0x1000 - (at & 0xfff)).min(15) as usize,
            0x10..=0x13 => 15,
            // Whether data may be fetched is the layout's affair: one that comes to its end will have been.
            _ => 0,
        };
        let mut bytes = [0; 15];
        cpu.mem.read(PhysAddr(at), &mut bytes).then(|| Self {
            rip: cpu.state.rip,
            at,
            bytes,
            present,
            bits: cpu.state.mode.code_bits(),
            icount: cpu.state.icount,
            gpr: cpu.state.gpr,
        })
    }
}

/// What a leg loads.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The scene.
    pub scene: &'a Scene,
    /// Its memory.
    pub base: &'a [u8],
    /// Its registers.
    pub template: &'a CpuState,
    /// Which scene and layout it is.
    pub number: (usize, u32),
}

/// An engine with a processor and memory of its own.
#[derive(Debug)]
pub struct Leg {
    /// Which engine.
    pub kind: Kind,
    /// The processor.
    pub cpu: CpuBox,
    /// The engine.
    pub driver: Driver,
    journal: Journal,
    patched: Vec<(u64, usize)>,
    code: (u64, Vec<u8>),
    flush: bool,
    place: Option<(usize, u32)>,
    /// Pages that the last case wrote, by the interpreter's account: for host code, which keeps no journal.
    pub wrote: Vec<usize>,
}

impl Leg {
    /// An engine in a fresh machine whose processor has `features`.
    ///
    /// # Errors
    /// When the host gives no memory or has no back-end.
    pub fn new(kind: Kind, features: Features) -> Result<Self, LegError> {
        let mem = PhysMem::new(RAM as u64)?;
        let mut cpu = Cpu::new(Wiring::bare(mem), features, 0);
        if kind.host_code().is_none() {
            cpu.mmu.trap_writes = true;
            cpu.mmu.journal = Some(Journal::default());
        }
        let mut driver = Driver::new(DriverConfig { kind, cache_bytes: 4 << 20, chain: true })?;
        driver.lifted = Some(HashSet::new());
        Ok(Self {
            kind,
            cpu,
            driver,
            journal: Journal::default(),
            patched: Vec::new(),
            code: (0, Vec::new()),
            flush: true,
            place: None,
            wrote: Vec::new(),
        })
    }

    fn page_index(&self, page: usize) -> Option<usize> {
        match self.cpu.mem.frame(PhysAddr((page * PAGE) as u64)) {
            Frame::Ram(_, index) => Some(index),
            _ => None,
        }
    }

    /// Whether a page may differ from what was loaded.
    pub fn touched(&self, page: usize) -> bool {
        self.page_index(page)
            .is_some_and(|i| self.cpu.mem.attrs(i).load(Ordering::Relaxed) & page::DIRTY != 0)
    }

    /// Reads a page.
    pub fn page(&self, page: usize, buf: &mut [u8; PAGE]) -> bool {
        self.cpu.mem.read(PhysAddr((page * PAGE) as u64), buf)
    }

    /// Writes memory from outside.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() || at.checked_add(bytes.len() as u64).is_none_or(|end| end > RAM as u64) {
            return;
        }
        let (first, last) = (at as usize / PAGE, (at as usize + bytes.len() - 1) / PAGE);
        self.flush |= first < TABLES.end && last >= TABLES.start;
        self.driver.forget_pages(&mut self.cpu, first as u64..last as u64 + 1);
        let written = self.cpu.mem.write(PhysAddr(at), bytes);
        debug_assert!(written, "within RAM");
    }

    /// Puts memory back: what the last case wrote and was given.
    fn undo(&mut self, base: &[u8]) {
        for e in std::mem::take(&mut self.journal).entries.iter().rev() {
            let old = e.old.to_le_bytes();
            self.put(e.addr.0, &old[..usize::from(e.len).min(8)]);
        }
        if self.kind.host_code().is_some() {
            for n in std::mem::take(&mut self.wrote) {
                self.restore_page(n, base);
                if (CODE as usize / PAGE..CODE as usize / PAGE + 4).contains(&n) {
                    self.code = (0, Vec::new());
                }
            }
        }
        for (at, len) in std::mem::take(&mut self.patched) {
            if let Some(bytes) = base.get(at as usize..at as usize + len) {
                self.put(at, bytes);
            }
        }
    }

    fn restore_page(&mut self, n: usize, base: &[u8]) {
        let mut buf = [0; PAGE];
        let want = &base[n * PAGE..][..PAGE];
        if self.page(n, &mut buf) && buf != want {
            self.put((n * PAGE) as u64, want);
        }
    }

    /// Puts memory and processor into the case's initial state.
    pub fn load(&mut self, case: &Case, place: &Place) {
        let moved = self.place != Some(place.number);
        self.place = Some(place.number);
        self.undo(place.base);
        let code = (CODE + case.at, case.bytes());
        if moved {
            self.driver.forget_pages(&mut self.cpu, 0..(RAM / PAGE) as u64);
            self.code = (0, Vec::new());
            for n in 0..RAM / PAGE {
                let at = (n * PAGE) as u64;
                let written = self.cpu.mem.write(PhysAddr(at), &place.base[n * PAGE..][..PAGE]);
                debug_assert!(written, "within RAM");
            }
        } else if self.code != code || self.flush {
            // The old code's bytes go, also those that a case wrote into itself.
            for n in CODE as usize / PAGE..CODE as usize / PAGE + 4 {
                self.restore_page(n, place.base);
            }
            self.code = (0, Vec::new());
        }
        if !moved && self.tables_changed(TABLES.end - 1, place.base) {
            for n in TABLES {
                self.restore_page(n, place.base);
            }
        }
        if self.code != code {
            self.put(code.0, &code.1);
            self.code = code;
        }
        for (at, bytes) in &case.patches {
            self.put(*at, bytes);
            self.patched.push((*at, bytes.len()));
        }
        let flush = std::mem::take(&mut self.flush) || case.cold || moved;
        self.load_state(case, place, flush);
        if flush {
            for n in 0..RAM / PAGE {
                if let Some(i) = self.page_index(n) {
                    self.cpu.mem.attrs(i).fetch_and(!page::DIRTY, Ordering::Relaxed);
                }
            }
        }
    }

    /// What it has written is not known: the next case loads everything.
    pub fn lost(&mut self) {
        self.place = None;
    }

    /// Accessed and dirty bits are set behind the journal's back.
    fn tables_changed(&self, n: usize, base: &[u8]) -> bool {
        let mut buf = [0; PAGE];
        n == TABLES.end - 1 && self.page(n, &mut buf) && buf != base[n * PAGE..][..PAGE]
    }

    fn load_state(&mut self, case: &Case, place: &Place, flush: bool) {
        let cpu = &mut *self.cpu;
        let (scene, template) = (place.scene, place.template);
        let old = &cpu.state;
        let tlb = old.tlb;
        let paging = |s: &CpuState| (s.cr0, s.cr3, s.cr4, s.efer, s.pkru);
        let changed = paging(old) != paging(template);
        let (cr0, cr4, efer) = (old.cr0, old.cr4, old.efer);
        cpu.state.clone_from(template);
        let s = &mut cpu.state;
        s.tlb = tlb;
        s.gpr = case.gpr;
        s.rip = (CODE + case.at).wrapping_sub(if scene.bits == 64 { 0 } else { s.seg[1].base });
        s.rflags = case.rflags | 2;
        if scene.v86 {
            s.rflags |= rflags::VM;
        }
        if scene.native {
            // What Linux gives user code.
            s.rflags = s.rflags & !(rflags::IOPL | rflags::NT | rflags::TF | rflags::RF) | rflags::IF;
            if scene.bits != 64 {
                s.gpr = s.gpr.map(|g| g & 0xffff_ffff);
            }
        }
        if scene.cpl != 3 {
            // Without IOPL 3 in user mode, so that both meanings are seen.
            s.rflags &= !rflags::NT;
        }
        for (v, (x, u)) in s.vec.iter_mut().zip(case.xmm.iter().zip(&case.upper)) {
            v.0[..2].copy_from_slice(x);
            v.0[2..4].copy_from_slice(u);
        }
        s.mxcsr = case.mxcsr & 0xffff;
        for (st, &(mant, se)) in s.fpu.st.iter_mut().zip(&case.st) {
            *st = F80 { mant, se };
        }
        (s.fpu.fcw, s.fpu.fsw, s.fpu.ftw) = (case.fpu[0], case.fpu[1], case.fpu[2] as u8);
        cpu.irq.set_cr8(0);
        cpu.entropy = Entropy::Seeded(0);
        cpu.catch = scene.native;
        cpu.caught = None;
        if changed || flush {
            cpu.paging_changed(cr0, cr4, efer);
            cpu.load_cr3(cpu.state.cr3);
            cpu.flush_all();
        }
        cpu.mode_changed();
    }

    /// Runs to the end of the case, for at most `limit` instructions or blocks. `table`: the last page of tables is of
    /// interest.
    pub fn run(&mut self, limit: u32, table: bool) -> Ran {
        self.driver.wild = false;
        let mut ended = Ended::Limit;
        let mut steps = Vec::new();
        let layout = self.place.map_or(0, |p| p.1);
        for _ in 0..limit {
            self.driver.drain(&mut self.cpu);
            if self.kind == Kind::Interp {
                steps.extend(Step::next(&self.cpu, layout));
            }
            if let Some(e) = self.driver.turn(&mut self.cpu, 200_000) {
                ended = e;
                break;
            }
        }
        self.driver.drain(&mut self.cpu);
        if let Some(journal) = &mut self.cpu.mmu.journal {
            std::mem::swap(&mut self.journal, journal);
            journal.clear();
        }
        let table = if table {
            let mut page = Box::new([0; PAGE]);
            self.page(TABLES.end - 1, &mut page).then_some(page)
        } else {
            None
        };
        Ran {
            ended,
            caught: self.cpu.caught.take(),
            state: Box::new(self.cpu.state.clone()),
            journal: self.journal.clone(),
            table,
            wild: self.driver.wild,
            steps,
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
