//! All legs side by side: runs groups of cases on each, compares, and makes a failing case small.

use super::case::Case;
use super::counts::{self, ByLeg, Counts, Done};
use super::explain;
use super::finals::Terms;
use super::host::{self, HostLeg};
use super::leg::{Leg, LegError, PAGE, Place, Ran, TABLES, compare};
use super::native::Native;
use super::reasons::Reason;
use super::scene::{CODE, RAM, SCENES};
use super::{generate, scene};
use crate::engines::driver::{Ended, Kind};
use emu_core::addr::PhysAddr;
use emu_core::features::Features;
use emu_core::mmu::Journal;
use emu_core::state::CpuState;
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Most instructions of a case, as the interpreter counts.
const LIMIT: u32 = 300;
/// Most blocks of a case: repeated string instructions take one for each element.
const PATIENCE: u32 = 100_000;

/// A leg by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LegKind {
    /// One of calque's engines.
    Engine(Kind),
    /// The host's processor.
    Host,
    /// What a processor gave, from a file.
    Recorded,
}

impl LegKind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            LegKind::Engine(kind) => kind.name(),
            LegKind::Host => "host processor",
            LegKind::Recorded => "recorded processor",
        }
    }

    /// The engine of `run-case` that shows it: for a processor the one it was held against.
    pub const fn run_case(self) -> &'static str {
        match self {
            LegKind::Engine(kind) => kind.short(),
            LegKind::Host | LegKind::Recorded => Kind::Interp.short(),
        }
    }
}

/// The legs.
#[derive(Debug)]
pub struct World {
    kinds: Vec<LegKind>,
    /// What the processors of the legs behind the interpreter have.
    features: Features,
    legs: Vec<Leg>,
    host: Option<HostLeg>,
    place: Option<(usize, u32)>,
    base: Vec<u8>,
    template: Box<CpuState>,
    /// The machines are made anew after a difference.
    renewing: bool,
    counts: Counts,
    /// Final states are of interest, and those of the last group.
    recording: bool,
    finals: Vec<Option<u64>>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every leg agrees.
    Same(Ended),
    /// It does not end, and says nothing.
    Endless,
    /// The engines agree, and the host did not run it: it cannot be set up there, or the runner was lost with it.
    WithoutHost,
    /// They differ, for a reason that is known and listed.
    Explained(Reason),
    /// A leg differs from the interpreter: which, and in what.
    Differs(LegKind, Vec<String>),
}

impl World {
    /// Legs in fresh machines; the interpreter, which the others are held against, is always one.
    ///
    /// # Errors
    /// When the host gives no memory or has no back-end.
    pub fn new(kinds: &[LegKind]) -> Result<Self, LegError> {
        Self::with_processors(kinds, Features::max())
    }

    /// The same, but all engines except the interpreter have processors with `features`. Where those lack something they
    /// are wrong, and so it can be seen what becomes of a failure.
    ///
    /// # Errors
    /// As for [`World::new`].
    pub fn with_processors(kinds: &[LegKind], features: Features) -> Result<Self, LegError> {
        let mut legs = vec![Leg::new(Kind::Interp, Features::max())?];
        for kind in kinds {
            match kind {
                LegKind::Engine(Kind::Interp) | LegKind::Host | LegKind::Recorded => {}
                LegKind::Engine(kind) => legs.push(Leg::new(*kind, features)?),
            }
        }
        let host = kinds.contains(&LegKind::Host).then(HostLeg::default);
        let template = CpuState::reset();
        Ok(Self {
            kinds: kinds.to_vec(),
            features,
            legs,
            host,
            place: None,
            base: Vec::new(),
            template,
            renewing: true,
            counts: Counts::default(),
            recording: false,
            finals: Vec::new(),
        })
    }

    /// Every engine of calque, without the host.
    ///
    /// # Errors
    /// As for [`World::new`].
    pub fn engines() -> Result<Self, LegError> {
        Self::new(&Kind::ALL.map(LegKind::Engine))
    }

    /// The engines.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// Times that the runner on the host's processor had to be started again.
    pub fn host_restarts(&self) -> u64 {
        self.host.as_ref().map_or(0, |h| h.restarts)
    }

    /// How often instruction forms have run, by leg.
    pub fn counts(&self) -> ByLeg {
        self.counts.by_leg()
    }

    /// From now on [`World::finals`] says something.
    pub fn record(&mut self) {
        self.recording = true;
    }

    /// The final state of each case of the last group, as 64 bits (see [`super::finals`]). With the host's processor as a leg:
    /// what that gave, where the interpreter agrees outright; without it: what the interpreter gave. None also where an undefined
    /// flag was read, after which anything may be right.
    pub fn finals(&self) -> &[Option<u64>] {
        &self.finals
    }

    /// Runs a case on every leg. After a difference, the machines are made anew.
    pub fn run(&mut self, case: &Case) -> Outcome {
        self.run_group(std::slice::from_ref(case)).pop().unwrap_or(Outcome::Endless)
    }

    /// Runs cases of one scene and layout; after a difference, the machines are made anew.
    pub fn run_group(&mut self, cases: &[Case]) -> Vec<Outcome> {
        let Some(first) = cases.first() else { return Vec::new() };
        let scene = &SCENES[first.scene];
        if self.place != Some((first.scene, first.layout)) {
            self.base = scene.image(first.layout);
            self.template = scene.state(first.layout, &self.base);
            self.place = Some((first.scene, first.layout));
        }
        let mut outcomes: Vec<Option<Outcome>> = vec![None; cases.len()];
        let mut reference = Vec::with_capacity(cases.len());
        let table = (0..8).any(|n| first.layout >> (3 * n) & 7 == 4) && !scene.native;
        for (n, case) in cases.iter().enumerate() {
            match self.run_leg(0, case, LIMIT, table) {
                Ok(ran) if ran.ended == Ended::Limit => {
                    outcomes[n] = Some(Outcome::Endless);
                    reference.push(None);
                }
                Ok(ran) => reference.push(Some(ran)),
                Err(why) => {
                    let kind = LegKind::Engine(Kind::Interp);
                    outcomes[n] = Some(Outcome::Differs(kind, vec![format!("panics: {why}")]));
                    reference.push(None);
                }
            }
        }
        let sent = match &mut self.host {
            Some(host) if scene.native => host.send(scene, &self.base, cases, &reference),
            _ => Vec::new(),
        };
        let done: Vec<Vec<Done>> = reference
            .iter()
            .map(|r| r.as_ref().map_or_else(Vec::new, |r| counts::done(&r.steps, r.state.icount)))
            .collect();
        self.run_others(cases, &reference, &done, &mut outcomes, table);
        let mut finals = vec![None; cases.len()];
        if self.recording && scene.native && self.host.is_none() {
            for (n, ran) in reference.iter().enumerate() {
                finals[n] = ran.as_ref().and_then(|ran| {
                    let terms = Terms::new(scene, ran, explain::undefined(scene, ran)?);
                    Some(terms.of_interpreter(&cases[n], &self.base, ran))
                });
            }
        }
        let mut differing = Vec::new();
        let mut answered = vec![!scene.native || self.host.is_none(); cases.len()];
        if let Some(host) = &mut self.host
            && !sent.is_empty()
        {
            for (n, seen) in sent.iter().zip(host.receive(sent.len())) {
                answered[*n] = true;
                let (Some(ran), None) = (&reference[*n], &outcomes[*n]) else { continue };
                let mut list = host::compare(&cases[*n], scene, &self.base, ran, &seen);
                if self.recording
                    && list.is_empty()
                    && let Some(undefined) = explain::undefined(scene, ran)
                {
                    let terms = Terms::new(scene, ran, undefined);
                    let given = terms.of_processor(&seen);
                    if terms.of_interpreter(&cases[*n], &self.base, ran) == given {
                        finals[*n] = Some(given);
                    } else {
                        list.push("what is recorded: the processor's is not the interpreter's".into());
                    }
                }
                if !list.is_empty() {
                    differing.push((*n, seen, list));
                }
            }
        }
        for (n, seen, list) in differing {
            let Some(ran) = &reference[n] else { continue };
            outcomes[n] = Some(match explain::host(scene, ran, &seen, &list) {
                Some(why) => Outcome::Explained(why),
                None => Outcome::Differs(LegKind::Host, list),
            });
        }
        let interpreter = LegKind::Engine(Kind::Interp).name();
        for (done, outcome) in done.iter().zip(&outcomes) {
            if !matches!(outcome, Some(Outcome::Endless)) {
                self.counts.add(interpreter, done, |_| false);
            }
        }
        for n in sent.into_iter().filter(|n| answered[*n]) {
            if !matches!(outcomes[n], Some(Outcome::Differs(..))) {
                self.counts.add(LegKind::Host.name(), &done[n], |_| false);
            }
        }
        let done: Vec<Outcome> = outcomes
            .into_iter()
            .zip(reference.iter().zip(answered))
            .map(|(o, (r, answered))| match (o, r) {
                (Some(outcome), _) => outcome,
                (None, None) => Outcome::Endless,
                (None, Some(ran)) if answered => Outcome::Same(ran.ended),
                (None, Some(_)) => Outcome::WithoutHost,
            })
            .collect();
        if self.renewing && done.iter().any(|o| matches!(o, Outcome::Differs(..))) {
            self.renew();
        }
        self.finals = finals;
        done
    }

    /// Whether the host's processor is a leg.
    pub fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Makes a failing case small: it still fails in fresh machines, in the same leg. None if it does not fail there
    /// (it depends on what ran before).
    pub fn shrink(&self, case: &Case, kind: LegKind) -> Option<Case> {
        if kind == LegKind::Recorded {
            // Of no other case is known what a processor gives.
            return Some(case.clone());
        }
        shrink(Self::with_processors(&[kind], self.features).ok()?, case)
    }

    /// Everything about a failing case: bytes, disassembly, IR, the state it starts from, the differences, and the same
    /// case for `run-case`.
    pub fn report(&self, case: &Case, kind: LegKind) -> String {
        report(Self::with_processors(&[kind], self.features).ok(), case, kind)
    }

    fn renew(&mut self) {
        if let Ok(fresh) = Self::with_processors(&self.kinds, self.features) {
            let old = std::mem::replace(self, fresh);
            for (new, old) in self.legs.iter_mut().zip(old.legs) {
                new.driver.translated = old.driver.translated;
                new.driver.interpreted = old.driver.interpreted;
                new.driver.refused = old.driver.refused;
            }
            self.host = old.host;
            self.counts = old.counts;
            self.recording = old.recording;
        }
    }

    fn run_leg(&mut self, n: usize, case: &Case, limit: u32, table: bool) -> Result<Ran, String> {
        let number = (case.scene, case.layout);
        let scene = &SCENES[case.scene];
        let place = Place { scene, base: &self.base, template: &self.template, number };
        let leg = &mut self.legs[n];
        catch_unwind(AssertUnwindSafe(|| {
            leg.load(case, &place);
            leg.run(limit, table)
        }))
        .map_err(|payload| {
            let text = payload.downcast_ref::<String>().cloned();
            text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
        })
    }

    /// Runs and compares every leg but the first and the host.
    fn run_others(
        &mut self,
        cases: &[Case],
        reference: &[Option<Ran>],
        done: &[Vec<Done>],
        outcomes: &mut [Option<Outcome>],
        table: bool,
    ) {
        let end = reference.iter().rposition(Option::is_some);
        for n in 1..self.legs.len() {
            let kind = LegKind::Engine(self.legs[n].kind);
            for (i, case) in cases.iter().enumerate() {
                let Some(want) = &reference[i] else { continue };
                let ran = match self.run_leg(n, case, PATIENCE, table) {
                    Ok(ran) => ran,
                    Err(why) => {
                        outcomes[i].get_or_insert(Outcome::Differs(kind, vec![format!("panics: {why}")]));
                        return;
                    }
                };
                let mut list = Vec::new();
                if ran.ended != want.ended || ran.caught != want.caught {
                    list.push(format!(
                        "ends with {:?} {:x?}, the interpreter with {:?} {:x?}",
                        ran.ended, ran.caught, want.ended, want.caught
                    ));
                }
                list.extend(compare(&want.state, &ran.state, !repeats(case, want)));
                if table && ran.table != want.table {
                    list.push("page tables differ".into());
                }
                if self.legs[n].kind.host_code().is_some() {
                    let pages = written_pages(&want.journal);
                    list.extend(self.host_code_memory(n, case, &want.journal, &pages, end == Some(i)));
                    self.legs[n].wrote = pages;
                } else {
                    list.extend(journals(&self.base, case, &want.journal, &ran.journal));
                }
                if list.is_empty() {
                    let driver = &self.legs[n].driver;
                    self.counts.add(kind.name(), &done[i], |at| driver.has_lifted(at));
                    continue;
                }
                if outcomes[i].is_some() {
                    self.legs[n].lost();
                    continue;
                }
                if ran.wild || self.jumped_wild(want, case) {
                    outcomes[i] = Some(Outcome::Explained(Reason::WildJump));
                    self.legs[n].lost();
                    continue;
                }
                outcomes[i] = Some(Outcome::Differs(kind, list));
                return;
            }
        }
    }

    /// Pages of a leg of host code against what the interpreter left: those that it wrote, and all at the end of a group.
    fn host_code_memory(
        &self,
        n: usize,
        case: &Case,
        journal: &Journal,
        pages: &[usize],
        all: bool,
    ) -> Vec<String> {
        let mut list = Vec::new();
        let mut buf = [0; PAGE];
        let check = |page: usize, list: &mut Vec<String>, buf: &mut [u8; PAGE]| {
            let mut want = self.base[page * PAGE..][..PAGE].to_vec();
            let code = (CODE + case.at, case.bytes());
            for (at, bytes) in case.patches.iter().chain([&code]) {
                overlay(&mut want, page, *at, bytes);
            }
            for e in &journal.entries {
                overlay(&mut want, page, e.addr.0, &e.new.to_le_bytes()[..usize::from(e.len).min(8)]);
            }
            // In tables the walker sets accessed and dirty bits, in the first byte of an entry, whenever it walks anew.
            let walkers = TABLES.contains(&page) && !pages.contains(&page);
            let mask = |i: usize| if walkers && i.is_multiple_of(4) { !0x60 } else { !0 };
            if self.legs[n].page(page, buf)
                && buf[..] != want[..]
                && let Some(i) = (0..PAGE).find(|&i| (buf[i] ^ want[i]) & mask(i) != 0)
            {
                let at = page * PAGE + i;
                list.push(format!("memory at {at:#x}: interpreter {:#x}, this {:#x}", want[i], buf[i]));
            }
        };
        for &page in pages {
            check(page, &mut list, &mut buf);
        }
        if all {
            // Accessed and dirty bits are compared on their own.
            for page in (0..RAM / PAGE).filter(|p| *p != 4 && !pages.contains(p)) {
                if self.legs[n].touched(page) {
                    check(page, &mut list, &mut buf);
                }
            }
        }
        list
    }

    /// Whether the interpreter ended in the #GP of an indirect jump in 64-bit code: see [`Reason::WildJump`].
    fn jumped_wild(&self, ran: &Ran, case: &Case) -> bool {
        let s = &ran.state;
        let rip = match ran.caught {
            Some(c) if c.vector == 13 => s.rip,
            Some(_) => return false,
            None if s.is_long64() && s.rip == scene::HANDLERS + 13 * 8 + 1 => {
                // The error code, then where it happened.
                let at = s.gpr[4].wrapping_add(8);
                let byte = |a: u64| {
                    let e =
                        ran.journal.entries.iter().rev().find(|e| a.wrapping_sub(e.addr.0) < e.len.into());
                    e.map_or(0, |e| e.new >> (8 * (a - e.addr.0)) & 0xff)
                };
                (0..8).fold(0, |v, i| v | byte(at.wrapping_add(i)) << (8 * i))
            }
            None => return false,
        };
        let mut code = self.base.clone();
        let start = (CODE + case.at) as usize;
        let bytes = case.bytes();
        if let Some(room) = code.get_mut(start..start + bytes.len()) {
            room.copy_from_slice(&bytes);
        }
        let Some(at) = usize::try_from(rip).ok().filter(|a| a + 15 < RAM) else { return false };
        let i = Decoder::new(64, &code[at..at + 15], DecoderOptions::NONE).decode();
        matches!(
            i.flow_control(),
            FlowControl::IndirectBranch | FlowControl::IndirectCall | FlowControl::Return
        )
    }
}

/// Whether a case holds a repeated string instruction, or has written itself one: see [`generate::repeats`].
fn repeats(case: &Case, ran: &Ran) -> bool {
    let prefixed = |s: &super::leg::Step| s.bytes[..4].iter().any(|b| matches!(b, 0xf2 | 0xf3));
    generate::repeats(case) || ran.steps.iter().any(prefixed)
}

/// The pages that a journal is about.
fn written_pages(journal: &Journal) -> Vec<usize> {
    let mut pages = Vec::new();
    for e in &journal.entries {
        for at in [e.addr.0, e.addr.0 + u64::from(e.len.max(1)) - 1] {
            let page = at as usize / PAGE;
            if page < RAM / PAGE && !pages.contains(&page) {
                pages.push(page);
            }
        }
    }
    pages
}

/// Puts the part of `bytes` at `at` that lies in `page` into its image.
fn overlay(image: &mut [u8], page: usize, at: u64, bytes: &[u8]) {
    let start = (page * PAGE) as u64;
    for (i, b) in bytes.iter().enumerate() {
        if let Some(slot) = (at + i as u64).checked_sub(start).and_then(|o| image.get_mut(o as usize)) {
            *slot = *b;
        }
    }
}

/// What memory holds at `at` before the case runs.
fn loaded_byte(base: &[u8], case: &Case, at: u64) -> u8 {
    let code = (CODE + case.at, case.bytes());
    let mut value = base.get(at as usize).copied().unwrap_or(0);
    for (from, bytes) in case.patches.iter().chain([&code]) {
        if let Some(b) = at.checked_sub(*from).and_then(|o| bytes.get(o as usize)) {
            value = *b;
        }
    }
    value
}

/// The first difference of what two journals leave.
fn journals(base: &[u8], case: &Case, a: &Journal, b: &Journal) -> Option<String> {
    if a.same_bytes(b) {
        return None;
    }
    let (a, b) = (a.last_bytes(), b.last_bytes());
    let before = |at: u64| loaded_byte(base, case, at);
    a.keys().chain(b.keys()).find_map(|at| {
        let (x, y) = (a.get(at), b.get(at));
        let (x, y) = (x.copied().unwrap_or_else(|| before(*at)), y.copied().unwrap_or_else(|| before(*at)));
        (x != y).then(|| format!("memory at {at:#x}: interpreter {x:#x}, this {y:#x}"))
    })
}

/// See [`World::shrink`].
fn shrink(mut world: World, case: &Case) -> Option<Case> {
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
            attempt(&mut best, &mut |c| c.upper[n] = [0; 2]);
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

/// See [`World::report`].
fn report(world: Option<World>, case: &Case, kind: LegKind) -> String {
    let mut text = case.to_text();
    let scene = &SCENES[case.scene];
    let base = if scene.bits == 64 { 0 } else { scene.base(emu_core::state::Seg::CS) };
    text += &frontend_x86::disassemble(&case.bytes(), CODE + case.at - base, scene.bits);
    let Some(mut world) = world else { return text };
    if let Some(leg) = world.legs.get_mut(1) {
        leg.driver.trace = Some(String::new());
    }
    world.renewing = false;
    let (mut trace, mut state) = (None, String::new());
    let outcome = world.run(case);
    if let Some(leg) = world.legs.get_mut(1) {
        trace = leg.driver.trace.take();
    }
    if let Some(leg) = world.legs.first() {
        let s = &leg.cpu.state;
        state = format!("interpreter: rip {:x} rflags {:x} gpr {:x?}\n", s.rip, s.rflags, s.gpr);
    }
    text += &trace.unwrap_or_default();
    text += &trail(&mut world, case);
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
    text += &state;
    let _ = writeln!(text, "run-case: {}", super::line::run_case(case, kind.run_case()));
    text
}

/// What the interpreter runs of a case that leaves its own code.
fn trail(world: &mut World, case: &Case) -> String {
    let Ok(ran) = world.run_leg(0, case, LIMIT, false) else { return String::new() };
    let own =
        |s: &super::leg::Step| (0..case.bytes().len() as u64).contains(&s.at.wrapping_sub(CODE + case.at));
    if ran.steps.iter().all(own) {
        return String::new();
    }
    let mut text = String::from("the interpreter's way:\n");
    for s in &ran.steps {
        let len = Decoder::new(s.bits, &s.bytes, DecoderOptions::NONE).decode().len().max(1);
        text += &frontend_x86::disassemble(&s.bytes[..len], s.rip, s.bits);
    }
    text
}

/// Whether there is a native leg on this host.
pub fn host_available() -> bool {
    Native::new().is_ok()
}

/// Reads a byte of a leg's memory.
pub fn byte(leg: &Leg, at: u64) -> Option<u8> {
    let mut b = [0];
    leg.cpu.mem.read(PhysAddr(at), &mut b).then_some(b[0])
}
