//! All engines side by side: runs a case on each, compares, and makes a failing case small.

use super::case::Case;
use super::leg::{Ended, Kind, Leg, LegError, compare};
use super::scene::{CODE, RAM, SCENES};
use super::{generate, leg, scene};
use emu_core::addr::PhysAddr;
use emu_core::mem::PhysMem;
use emu_core::state::CpuState;
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use std::collections::HashMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

const PAGE: usize = 0x1000;
/// Most instructions of a case, as the interpreter counts.
const LIMIT: u32 = 300;
/// Most blocks of a case: repeated string instructions take one for each element.
const PATIENCE: u32 = 100_000;

/// The engines.
#[derive(Debug)]
pub struct World {
    kinds: Vec<Kind>,
    legs: Vec<Leg>,
    place: Option<(usize, u32)>,
    base: Vec<u8>,
    template: Box<CpuState>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every engine agrees.
    Same(Ended),
    /// It does not end, and says nothing.
    Endless,
    /// They differ, as is known: after an indirect jump or return to an address that is not canonical, the interpreter
    /// raises #GP at the jump and translated code at its target, as different makers' processors do.
    Explained,
    /// An engine differs from the interpreter: which, and in what.
    Differs(Kind, Vec<String>),
}

impl World {
    /// Engines in fresh machines, the interpreter first.
    ///
    /// # Errors
    /// When the host gives no memory or has no back-end.
    pub fn new(kinds: &[Kind]) -> Result<Self, LegError> {
        let legs = kinds.iter().map(|&k| Leg::new(k)).collect::<Result<_, _>>()?;
        Ok(Self { kinds: kinds.to_vec(), legs, place: None, base: Vec::new(), template: CpuState::reset() })
    }

    /// The engines.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    fn prepare(&mut self, case: &Case) -> bool {
        let moved = self.place != Some((case.scene, case.layout));
        if moved {
            let scene = &SCENES[case.scene];
            self.base = scene.image(case.layout);
            self.template = scene.state(case.layout, &self.base);
            self.place = Some((case.scene, case.layout));
        }
        moved
    }

    /// Runs a case on every engine. After a difference, the machines are made anew.
    pub fn run(&mut self, case: &Case) -> Outcome {
        let outcome = self.run_here(case);
        if let Outcome::Differs(..) = outcome
            && let Ok(fresh) = Self::new(&self.kinds)
        {
            let old = std::mem::replace(self, fresh);
            for (new, old) in self.legs.iter_mut().zip(old.legs) {
                (new.translated, new.interpreted, new.refused) =
                    (old.translated, old.interpreted, old.refused);
            }
        }
        outcome
    }

    fn run_here(&mut self, case: &Case) -> Outcome {
        let moved = self.prepare(case);
        let scene = &SCENES[case.scene];
        let mut first = Ended::Limit;
        for n in 0..self.legs.len() {
            let leg = &mut self.legs[n];
            let (base, template) = (&self.base, &self.template);
            let ran = catch_unwind(AssertUnwindSafe(|| {
                leg.load(case, scene, base, template, moved);
                leg.run(if n == 0 { LIMIT } else { PATIENCE })
            }));
            let kind = leg.kind;
            let ended = match ran {
                Ok(ended) => ended,
                Err(payload) => {
                    let why = payload
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                        .unwrap_or_default();
                    return Outcome::Differs(kind, vec![format!("panics: {why}")]);
                }
            };
            if n == 0 {
                first = ended;
                if ended == Ended::Limit {
                    // The others have not been loaded.
                    self.place = None;
                    return Outcome::Endless;
                }
                continue;
            }
            let mut list = Vec::new();
            if ended != first {
                list.push(format!("ends with {ended:?}, the interpreter with {first:?}"));
            }
            let counts = !generate::repeats(case);
            list.extend(compare(&self.legs[0].cpu.state, &self.legs[n].cpu.state, counts));
            list.extend(self.memory(n));
            if !list.is_empty() && (self.legs[n].wild || self.jumped_wild()) {
                self.place = None;
                return Outcome::Explained;
            }
            if !list.is_empty() {
                return Outcome::Differs(kind, list);
            }
        }
        Outcome::Same(first)
    }

    /// Whether the interpreter ended in the #GP of an indirect jump in 64-bit code: see [`Outcome::Explained`].
    fn jumped_wild(&self) -> bool {
        let leg = &self.legs[0];
        let s = &leg.cpu.state;
        if !s.is_long64() || s.rip != scene::HANDLERS + 13 * 8 + 1 {
            return false;
        }
        // The error code, then where it happened.
        let mut frame = [0; 16];
        let mut code = [0; 15];
        let mem = &leg.cpu.mem;
        let at = |mem: &PhysMem, a: u64, buf: &mut [u8]| a < RAM as u64 && mem.read(PhysAddr(a), buf);
        if !at(mem, s.gpr[4], &mut frame) {
            return false;
        }
        let rip = u64::from_le_bytes(frame[8..].try_into().unwrap_or_default());
        at(mem, rip, &mut code) && {
            let i = Decoder::new(64, &code, DecoderOptions::NONE).decode();
            matches!(
                i.flow_control(),
                FlowControl::IndirectBranch | FlowControl::IndirectCall | FlowControl::Return
            )
        }
    }

    /// The first byte of each page that differs.
    fn memory(&self, n: usize) -> Vec<String> {
        let (mut a, mut b) = ([0; PAGE], [0; PAGE]);
        let mut list = Vec::new();
        for page in 0..RAM / PAGE {
            if !self.legs[0].touched(page) && !self.legs[n].touched(page) {
                continue;
            }
            self.legs[0].page(page, &mut a);
            self.legs[n].page(page, &mut b);
            if a != b
                && let Some(i) = (0..PAGE).find(|&i| a[i] != b[i])
            {
                let at = page * PAGE + i;
                list.push(format!("memory at {at:#x}: interpreter {:#x}, this {:#x}", a[i], b[i]));
            }
        }
        list
    }
}

/// Makes a failing case small: it still fails in fresh machines, in the same engine. None if it does not fail there
/// (it depends on what ran before).
pub fn shrink(case: &Case, kind: Kind) -> Option<Case> {
    let mut world = World::new(&[Kind::Interp, kind]).ok()?;
    let mut fails = |c: &Case| matches!(world.run(c), Outcome::Differs(..));
    let mut best = case.clone();
    best.cold = true;
    if !fails(&best) {
        best = case.clone();
        if !fails(&best) {
            return None;
        }
    }
    let mut attempt = |best: &mut Case, change: &mut dyn FnMut(&mut Case)| {
        let mut c = best.clone();
        change(&mut c);
        if c != *best && fails(&c) {
            *best = c;
        }
    };
    for _ in 0..2 {
        for n in (0..best.code.len()).rev() {
            attempt(&mut best, &mut |c| c.code.truncate(n));
            attempt(&mut best, &mut |c| {
                if n < c.code.len() {
                    c.code.remove(n);
                }
            });
            attempt(&mut best, &mut |c| {
                if let Some(i) = c.code.get_mut(n) {
                    i.fill(0x90);
                }
            });
        }
        attempt(&mut best, &mut |c| c.layout = 0);
        attempt(&mut best, &mut |c| c.at = 0);
        attempt(&mut best, &mut |c| c.patches.clear());
        for n in 0..16 {
            attempt(&mut best, &mut |c| c.gpr[n] = 0);
            attempt(&mut best, &mut |c| c.gpr[n] &= 0xffff_ffff);
            attempt(&mut best, &mut |c| c.xmm[n] = [0; 2]);
        }
        attempt(&mut best, &mut |c| c.rflags = 2);
        for bit in 0..22 {
            attempt(&mut best, &mut |c| c.rflags &= !(1 << bit) | 2);
        }
        attempt(&mut best, &mut |c| c.mxcsr = 0x1f80);
        attempt(&mut best, &mut |c| c.st = [(0, 0); 8]);
        attempt(&mut best, &mut |c| c.fpu = [0x37f, 0, 0]);
    }
    Some(best)
}

/// Everything about a failing case: bytes, disassembly, IR, the state it starts from and the differences.
pub fn report(case: &Case, kind: Kind) -> String {
    let mut text = case.to_text();
    let scene = &SCENES[case.scene];
    let _ = write!(
        text,
        "{}",
        frontend_x86::disassemble(&case.bytes(), CODE + case.at - scene_base(case), scene.bits)
    );
    let Ok(mut world) = World::new(&[Kind::Interp, kind]) else { return text };
    world.legs[1].trace = Some(String::new());
    let outcome = world.run_here(case);
    if let Some(trace) = world.legs[1].trace.take() {
        text += &trace;
    }
    match outcome {
        Outcome::Differs(k, list) => {
            let _ = writeln!(text, "{} differs:", k.name());
            for line in list {
                let _ = writeln!(text, "  {line}");
            }
        }
        other => {
            let _ = writeln!(text, "in fresh machines: {other:?}");
        }
    }
    let s = &world.legs[0].cpu.state;
    let _ = writeln!(text, "interpreter: rip {:x} rflags {:x} gpr {:x?}", s.rip, s.rflags, s.gpr);
    text
}

fn scene_base(case: &Case) -> u64 {
    let scene = &SCENES[case.scene];
    if scene.bits == 64 { 0 } else { scene.base(emu_core::state::Seg::CS) }
}

/// Counters of a campaign.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cases on which every engine agreed.
    pub same: u64,
    /// Cases that did not end.
    pub endless: u64,
    /// Cases with a known difference.
    pub explained: u64,
    /// Cases that ended in a triple fault.
    pub shutdown: u64,
    /// Forms of instructions that were in cases, with counts.
    pub forms: HashMap<iced_x86::Code, u64>,
}

impl Tally {
    /// Counts a case.
    pub fn note(&mut self, case: &Case, outcome: &Outcome) {
        match outcome {
            Outcome::Same(ended) => {
                self.same += 1;
                self.shutdown += u64::from(*ended == Ended::Shutdown);
            }
            Outcome::Endless => self.endless += 1,
            Outcome::Explained => self.explained += 1,
            Outcome::Differs(..) => {}
        }
        for code in generate::forms(case) {
            *self.forms.entry(code).or_default() += 1;
        }
    }

    /// As text.
    pub fn summary(&self, world: &World) -> String {
        let mut t = format!(
            "{} cases agree ({} by triple fault), {} did not end, {} differ as is known, {} forms\n",
            self.same,
            self.shutdown,
            self.endless,
            self.explained,
            self.forms.len()
        );
        for leg in world.legs() {
            let leg::Leg { kind, translated, interpreted, .. } = leg;
            let _ = writeln!(
                t,
                "{}: {translated} instructions translated, {interpreted} interpreted",
                kind.name()
            );
            for (why, n) in &leg.refused {
                let _ = writeln!(t, "  {n} blocks: {why}");
            }
        }
        t
    }
}
