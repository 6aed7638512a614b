//! Runs of floating-point instructions that are checked once.
//!
//! A look at FPSR behind each operation takes three instructions and keeps the operands. So several operations in a row are
//! emitted twice: in the body without looks but for one behind the last, and out of line one by one. What the body
//! changes in between is undone first: FPSR from [`S2`]; and whatever was in a temporary or a slot is left there until the
//! end. Accesses in a run whose probe misses go over to the careful form too, so helpers are only called from that. What
//! cannot be undone waits behind the look at the end: see `waiting`.
//!
//! Invariants:
//! - nothing in a run writes anything but temporaries and slots before its end, or changes NZCV that is in use;
//! - both forms begin and end with the same places of values: [`Codegen::careful`] refuses the block otherwise.

use super::asm::Reg;
use super::coded::Coded;
use super::flags::Carry;
use super::stretch::calls_nobody;
use super::tops::Tops;
use super::vals::{S2, TEMPS};
use super::vecregs::{FIRST, GUESTS, HOLDERS, V0, VTEMPS, upper};
use super::{Codegen, Loc, Owner, Val, fp, sse};
use crate::frame::Mark;
use crate::hold::Hold;
use crate::layout;
use crate::regalloc::Hint;
use crate::sidetable::{Last, Recipe};
use dynasmrt::DynamicLabel;
use emu_core::ir::{Inst, Op, Type, Value, VecOp};

/// Which form of a run is being emitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// No run is.
    Single,
    /// The one in the body.
    Quick,
    /// The one out of line.
    Careful,
}

/// What a run consists of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum What {
    /// Floating point: what the body does may turn out wrong at any op.
    #[default]
    Float,
    /// Accesses by one base: whether that is there is known behind the first op, before which nothing has changed. See `stretch`.
    Accesses,
}

/// What has been seen of a run.
#[derive(Debug, Default)]
struct Scan {
    /// Most vectors that may wait.
    most: usize,
    /// Upper halves that are set.
    uppers: u32,
    /// What guest registers are set to.
    sets: [Option<Value>; GUESTS as usize],
    /// Those of them of which more than the low lane is new.
    whole: u32,
    /// What else waits.
    others: Vec<Value>,
    /// The group that stores go by, and which of its bytes.
    slot: Option<u8>,
    stored: Vec<(i32, i32)>,
}

impl Scan {
    fn new(kept: usize) -> Self {
        Self { most: VTEMPS - SPARE - kept, ..Self::default() }
    }

    /// From the beginning.
    fn again(&self) -> Self {
        Self { most: self.most, ..Self::default() }
    }

    /// Whether there is room for what waits.
    fn fits(&self) -> bool {
        let mut all: Vec<Value> = self.sets.iter().flatten().chain(&self.others).copied().collect();
        all.sort_unstable_by_key(|v| v.0);
        all.dedup();
        all.len() <= self.most
    }

    /// Whether vector `v` may wait too.
    fn waits(&mut self, v: Value) -> bool {
        self.others.push(v);
        self.fits()
    }
}

/// Most vector temporaries in use at the start.
const KEPT: u32 = 5;
/// Vector temporaries that an operation in a run may want beside what waits.
const SPARE: usize = 2;

/// Where values are, and how far the emitter has come.
#[derive(Clone, Debug)]
struct Places {
    val: Vec<Val>,
    owner: [Owner; TEMPS.len()],
    vowner: [Owner; VTEMPS],
    alias: [Vec<Value>; 16],
    held: [Vec<Value>; HOLDERS as usize],
    slots: u64,
    native: Option<(Value, Carry)>,
    bools: Vec<Value>,
    guest_flags: Vec<Value>,
    lazy: Option<Recipe>,
    recorded: Option<Value>,
    x87_last: Option<Last>,
    tops: Tops,
    from: [i32; layout::HOLDS.len()],
    mark: Mark,
}

/// A run of the block in hand.
#[derive(Debug)]
pub struct Run {
    what: What,
    from: usize,
    /// One behind the op that looks.
    look: usize,
    end: usize,
    careful: DynamicLabel,
    resume: DynamicLabel,
    kept: Kept,
    start: Places,
    finish: Option<Places>,
    /// What waits in it, if it lives no longer.
    prolonged: Vec<Value>,
    /// Constants that temporaries have at the end.
    known: [Option<u64>; TEMPS.len()],
    /// Groups whose bases this one takes from the run before without a test, by index in [`layout::HOLDS`].
    trusts: u32,
}

/// What was in use at the start and must stay.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kept {
    /// Temporaries, by number.
    pub temps: u32,
    /// Vector temporaries, by number.
    pub vectors: u32,
    /// Spill slots.
    pub slots: u64,
}

impl Codegen {
    /// One behind the op with the look of the run that begins with the op at `at`, if it pays; and one behind its last op.
    fn run_end(&self, at: usize) -> Option<(usize, usize)> {
        let first = &self.insts[at];
        if first.op != Op::Fp && !(first.op == Op::Load && self.may_be_undone(at, first)) {
            return None;
        }
        let mut scan = Scan::new(self.used().vectors.count_ones().min(KEPT) as usize);
        let (mut saved, mut end, mut whole) = (0, at, 0);
        for (j, i) in self.insts.iter().enumerate().skip(at) {
            if !self.an.facts[j].needed {
                continue;
            }
            if !self.may_be_in_run(&mut scan, j, i) {
                break;
            }
            if i.op == Op::Fp {
                if fp::is_checked(i) {
                    // FPSR would be kept, too, where more may be raised than is right.
                    saved += if fp::may_raise_more(i) { 4 } else { 3 };
                    (end, whole) = (j + 1, scan.whole.count_ones());
                }
                if i.ty != Type::V128 {
                    break;
                }
            } else if i.op == Op::Load && end == at && self.holds.at(j).is_none() {
                // What is looked up for itself gains nothing.
                if j == at {
                    return None;
                }
            }
        }
        // What has to be put into a guest register behind the look would be made there.
        if saved <= 4 + whole {
            return None;
        }
        // Sets and stores behind the look wait for those before it, which may be of the same ones.
        let mut all = end;
        let mut scan = scan.again();
        for (j, i) in self.insts.iter().enumerate().skip(at).filter(|&(j, _)| self.an.facts[j].needed) {
            if j < end {
                self.may_be_in_run(&mut scan, j, i);
            } else if i.op == Op::Fp || !self.may_be_in_run(&mut scan, j, i) {
                break;
            } else if matches!(i.op, Op::SetVec | Op::Store) {
                all = j + 1;
            }
        }
        Some((end, all))
    }

    /// Whether the op `j` may be in a run behind what has been scanned.
    fn may_be_in_run(&self, scan: &mut Scan, j: usize, i: &Inst) -> bool {
        let bytes = i.ty.bytes() as i32;
        match i.op {
            Op::Fp => true,
            Op::SetVec if upper(i.imm).is_some() => {
                scan.uppers |= 1 << (i.imm & 15);
                !self.reads_later(i.imm, j) && (self.is_zero(i.args[0]) || scan.waits(i.args[0]))
            }
            Op::SetVec if i.ty == Type::V128 && i.imm < GUESTS.into() => {
                scan.sets[i.imm as usize & 15] = Some(i.args[0]);
                scan.whole &= !(1 << i.imm);
                let from = &self.insts[i.args[0].index()];
                if !(from.op == Op::Fp && fp::one_lane(from) || from.op == Op::GetVec) {
                    scan.whole |= 1 << i.imm;
                }
                scan.fits()
            }
            // What has been set waits.
            Op::GetVec if upper(i.imm).is_some() => scan.uppers & 1 << (i.imm & 15) == 0,
            Op::GetVec => {
                let free = scan.sets[i.imm as usize & 15].is_none() || self.only_for_zero(j);
                i.ty == Type::V128 && i.imm < GUESTS.into() && free
            }
            Op::Store => self.may_wait(j).is_some_and(|hold| {
                if scan.slot.is_some_and(|slot| slot != hold.slot) {
                    return false;
                }
                scan.slot = Some(hold.slot);
                scan.stored.push((hold.below, hold.below + bytes));
                let v = if self.stores_lane(i.args[1]) {
                    self.insts[i.args[1].index()].args[0]
                } else {
                    i.args[1]
                };
                scan.waits(v) && (!i.args[2].is_some() || scan.waits(i.args[2]))
            }),
            Op::Load if scan.slot.is_some() => {
                let beside = |h: Hold| {
                    let apart = |&(from, to): &(i32, i32)| h.below >= to || h.below + bytes <= from;
                    !h.first && scan.slot == Some(h.slot) && scan.stored.iter().all(apart)
                };
                self.holds.at(j).is_some_and(beside) && self.may_be_undone(j, i)
            }
            Op::Vec1 if self.stores_lane(Value(j as u32)) => true,
            _ => self.may_be_undone(j, i),
        }
    }

    /// Whether what the op `at` reads is for a zero alone, so that it does not matter.
    fn only_for_zero(&self, at: usize) -> bool {
        let f = &self.an.facts[at];
        f.uses == 2 && self.is_zero(Value(f.last))
    }

    /// Whether `v` is zero, as a register for the purpose is.
    fn is_zero(&self, v: Value) -> bool {
        let i = &self.insts[v.index()];
        i.op == Op::Vec2 && i.args[0] == i.args[1] && VecOp::from_number(i.aux) == Some(VecOp::Pxor)
    }

    /// Whether the op with index `at` writes nothing but temporaries.
    fn may_be_undone(&self, at: usize, i: &Inst) -> bool {
        let elsewhere = self.an.facts[at].hint == Hint::None;
        match i.op {
            Op::Guest | Op::Const | Op::Pc | Op::GetReg | Op::CheckAlign => true,
            Op::Lea | Op::ZExt | Op::Trunc | Op::SExt | Op::Load => elsewhere,
            Op::Vec1 | Op::Vec2 | Op::Vec3 if i.ty == Type::V128 => match VecOp::from_number(i.aux) {
                Some(op) => !sse::changes_flags(op, i),
                None => Coded::from_aux(i.aux).is_some(),
            },
            _ => false,
        }
    }

    fn flags_in_use(&self) -> bool {
        self.bools.iter().any(|&b| self.lives_from(b)) || self.native.is_some_and(|(f, _)| self.lives_from(f))
    }

    /// Whether `v` is used by the op in hand or later.
    fn lives_from(&self, v: Value) -> bool {
        self.an.facts[v.index()].last as usize >= self.at
    }

    /// Begins a run with the op in hand if there is one.
    pub fn begin_run(&mut self) {
        if self.twice && self.form == Form::Single && !self.begin_floats() {
            self.begin_accesses();
        }
    }

    /// Begins a run of floating point with the op in hand if there is one.
    fn begin_floats(&mut self) -> bool {
        if self.flags_in_use() {
            return false;
        }
        let Some((look, end)) = self.run_end(self.at) else { return false };
        self.forget_copies(KEPT);
        let kept = self.used();
        if kept.temps.count_ones() > 3 || kept.vectors.count_ones() > KEPT {
            return false;
        }
        self.vec_enter();
        self.native = None;
        self.prolong_waiting(end);
        self.quick(What::Float, end, kept);
        if let Some(run) = self.runs.last_mut() {
            run.look = look;
        }
        self.asm.mrs_fpsr(S2);
        true
    }

    /// What is in use.
    pub fn used(&self) -> Kept {
        let used = |owners: &[Owner]| {
            owners.iter().enumerate().filter(|(_, o)| **o != Owner::Free).fold(0, |m, (i, _)| m | 1u32 << i)
        };
        Kept { temps: used(&self.owner), vectors: used(&self.vowner), slots: self.slots }
    }

    /// Begins the form in the body of a run from the op in hand up to `end`.
    pub fn quick(&mut self, what: What, end: usize, kept: Kept) {
        let (careful, resume) = (self.asm.label(), self.asm.label());
        let start = self.places();
        let from = self.at;
        let prolonged = self.prolonged.clone();
        let trusts = if what == What::Float { self.trusted() } else { 0 };
        self.runs.push(Run {
            what,
            from,
            look: end,
            end,
            careful,
            resume,
            kept,
            start,
            finish: None,
            prolonged,
            known: [None; 5],
            trusts,
        });
        self.kept = kept;
        self.form = Form::Quick;
        (self.run_of, self.run_from, self.run_until, self.tested) = (what, from, end, trusts);
        self.nan_waits = None;
        // The two forms choose the same temporaries.
        self.known = [None; 5];
    }

    /// Ends the run if the op in hand is its last.
    pub fn end_run(&mut self) {
        if self.form != Form::Single && self.run_of == What::Accesses && self.at == self.run_from {
            self.kept = Kept::default();
        }
        if self.form != Form::Quick || !self.last_of_run() {
            return;
        }
        self.end_moved();
        let finish = self.places();
        if self.known_joins != self.asm.joins {
            self.known = [None; 5];
        }
        if let Some(run) = self.runs.last_mut() {
            run.finish = Some(finish);
            run.known = self.known;
            self.asm.bind(run.resume);
        }
        self.known_joins = self.asm.joins;
        self.kept = Kept::default();
        self.form = Form::Single;
        self.verified = if self.run_of == What::Float { self.tested } else { 0 };
    }

    /// Groups of which the run before has made sure that their bases are there, if nothing since can have called a helper. Its
    /// other form makes sure of that, too, or goes on in the other form of the run that begins here.
    fn trusted(&self) -> u32 {
        let Some(before) = self.runs.last().filter(|r| r.what == What::Float) else { return 0 };
        let quiet = |j: usize| !self.an.facts[j].needed || calls_nobody(&self.insts[j]);
        if !(before.end..self.at).all(quiet) {
            return 0;
        }
        let there = |n: usize| self.temp_of(layout::HOLDS[n] as u8).is_some();
        (0..layout::HOLDS.len())
            .filter(|&n| self.verified & 1 << n != 0 && there(n))
            .fold(0, |m, n| m | 1 << n)
    }

    /// Whether the op in hand looks for all of the run in hand.
    pub fn looks_here(&self) -> bool {
        self.runs.last().is_some_and(|r| self.at + 1 == r.look)
    }

    /// Whether the op in hand is the last of the run in hand.
    pub fn last_of_run(&self) -> bool {
        self.runs.last().is_some_and(|r| self.at + 1 == r.end)
    }

    /// One behind the last op of the run of floating point whose body's form is in hand.
    pub fn run_stop(&self) -> Option<usize> {
        self.runs.last().filter(|_| self.waits()).map(|r| r.end)
    }

    /// Where to go from the quick form if something is not as usual.
    pub fn way_to_careful(&self) -> Option<DynamicLabel> {
        self.runs.last().filter(|_| self.form == Form::Quick).map(|r| r.careful)
    }

    /// Whether the register of `v`, an operand that dies, may be the result's in both forms of a run: it has been made there.
    pub fn may_spoil(&self, v: Value) -> bool {
        match self.val[v.index()].loc {
            Loc::Vec(r) => {
                self.form != Form::Single
                    && self.run_of == What::Float
                    && !self.lives(v)
                    && self.kept.vectors & 1 << (r - FIRST) == 0
            }
            _ => false,
        }
    }

    fn places(&self) -> Places {
        Places {
            val: self.val.clone(),
            owner: self.owner,
            vowner: self.vowner,
            alias: self.alias.clone(),
            held: self.held.clone(),
            slots: self.slots,
            native: self.native,
            bools: self.bools.clone(),
            guest_flags: self.guest_flags.clone(),
            lazy: self.lazy,
            recorded: self.recorded,
            x87_last: self.x87_last,
            tops: self.tops.clone(),
            from: self.from,
            mark: self.frame.mark(),
        }
    }

    fn put_places(&mut self, p: Places) {
        self.val = p.val;
        self.owner = p.owner;
        self.vowner = p.vowner;
        self.alias = p.alias;
        self.held = p.held;
        self.slots = p.slots;
        self.native = p.native;
        self.bools = p.bools;
        self.guest_flags = p.guest_flags;
        self.lazy = p.lazy;
        self.recorded = p.recorded;
        self.x87_last = p.x87_last;
        self.tops = p.tops;
        self.from = p.from;
        self.frame.go_back(p.mark);
    }

    /// The careful forms, behind the body.
    pub fn emit_runs(&mut self) {
        self.form = Form::Careful;
        let mark = self.frame.mark();
        let mut runs = std::mem::take(&mut self.runs).into_iter().peekable();
        while let Some(run) = runs.next() {
            self.form = Form::Careful;
            self.careful(run, runs.peek().filter(|next| next.trusts != 0));
        }
        self.frame.go_back(mark);
        self.kept = Kept::default();
        self.form = Form::Single;
    }

    /// `next`: the run behind it, if that goes by bases of this one.
    fn careful(&mut self, run: Run, next: Option<&Run>) {
        self.asm.bind(run.careful);
        if run.what == What::Float {
            self.asm.msr_fpsr(S2);
        }
        self.put_places(run.start);
        self.known = [None; 5];
        self.kept = run.kept;
        (self.run_of, self.run_from, self.run_until) = (run.what, run.from, run.end);
        self.prolonged = run.prolonged;
        self.emit_ops(run.from, run.end);
        if self.known_joins != self.asm.joins {
            self.known = [None; 5];
        }
        for t in TEMPS {
            if let (Some(c), Owner::Free) = (run.known[t as usize], self.owner[t as usize])
                && self.known[t as usize] != Some(c)
            {
                self.asm.mov_imm(t, c);
            }
        }
        let same = run.finish.is_some_and(|f| {
            self.move_vectors(&f);
            self.same_places(&f)
        });
        if !same {
            self.frame.fail("the two forms of a run end differently");
        }
        let Some(next) = next else { return self.asm.b(run.resume) };
        let lost = self.asm.label();
        for n in (0..layout::HOLDS.len()).filter(|&n| next.trusts & 1 << n != 0) {
            if let Some(t) = self.temp_of(layout::HOLDS[n] as u8) {
                self.asm.cbz(false, true, t, lost);
            }
        }
        self.asm.b(run.resume);
        self.asm.bind(lost);
        self.between(run.end, next);
    }

    /// Behind the other form of a run that has lost a base: what comes up to run `next`, and on in the other form of that.
    fn between(&mut self, from: usize, next: &Run) {
        self.kept = Kept::default();
        self.form = Form::Single;
        (self.known, self.known_joins) = ([None; 5], self.asm.joins);
        let twice = std::mem::replace(&mut self.twice, false);
        self.emit_ops(from, next.from);
        self.twice = twice;
        self.at = next.from;
        self.forget_copies(KEPT);
        self.native = None;
        self.move_vectors(&next.start);
        if !self.same_places(&next.start) {
            self.frame.fail("what comes between two runs ends differently");
        }
        self.asm.mrs_fpsr(S2);
        self.asm.b(next.careful);
    }

    /// At the end of the careful form, moves the vectors that live on to the temporaries in which the other form has them. What
    /// that has in guest registers is there here, too, since the guest's state is the same.
    fn move_vectors(&mut self, other: &Places) {
        let mut moves: Vec<(Reg, Reg)> = Vec::new();
        for n in 0..self.val.len() {
            match (self.val[n].loc, other.val[n].loc) {
                (from, to) if from == to || !self.lives(Value(n as u32)) => continue,
                (Loc::Vec(from), Loc::Vec(to)) => moves.push((to, from)),
                (Loc::GuestV(from), Loc::Vec(to)) if from < GUESTS => moves.push((to, from)),
                (Loc::Vec(_) | Loc::GuestV(_), Loc::GuestV(_)) => {}
                // Not a vector: see `same_places`.
                _ => continue,
            }
            self.val[n].loc = other.val[n].loc;
        }
        while !moves.is_empty() {
            match moves.iter().position(|&(to, _)| moves.iter().all(|&(_, from)| from != to)) {
                Some(n) => {
                    let (to, from) = moves.swap_remove(n);
                    self.vmov(to, from);
                }
                None => {
                    // In a circle, of which there is one at a time.
                    self.vmov(V0, moves[0].1);
                    moves[0].1 = V0;
                }
            }
        }
        (self.vowner, self.held) = (other.vowner, other.held.clone());
    }

    /// Whether all values that live on are where `other` has them.
    fn same_places(&self, other: &Places) -> bool {
        let values = (0..self.val.len()).filter(|&n| self.lives(Value(n as u32)));
        let same = |n: usize| (self.val[n].loc, self.val[n].clean) == (other.val[n].loc, other.val[n].clean);
        values.clone().all(same)
            && self.owner == other.owner
            && (self.slots, self.from) == (other.slots, other.from)
            && (self.native, self.lazy, self.recorded) == (other.native, other.lazy, other.recorded)
            && (&self.bools, &self.guest_flags) == (&other.bools, &other.guest_flags)
    }
}
