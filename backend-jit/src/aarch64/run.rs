//! Runs of floating-point instructions that are checked once.
//!
//! A look at FPSR behind each operation takes three instructions and keeps the operands. So several operations in a row are
//! emitted twice: in the body without looks but for one behind the last, and out of line one by one. What the body
//! changes in between is undone first: guest vector registers from their homes in the state, where those that will change
//! are put at the start, FPSR from [`S2`]; and whatever was in a temporary or a slot is left there until the end. Accesses
//! in a run whose probe misses go over to the careful form too, so helpers are only called from that. What cannot be undone,
//! stores by a base that is there for sure and sets of upper halves, waits behind the look at the end ([`Waiting`]); what is
//! loaded behind such a store lies beside it, by the same base.
//!
//! Invariants:
//! - nothing in a run writes anything but guest vector registers, temporaries and slots before its end, or changes NZCV that
//!   is in use;
//! - what waits lives until the end of its run, in either form;
//! - both forms begin and end with the same places of values: [`Codegen::careful`] refuses the block otherwise.

use super::asm::Reg;
use super::coded::Coded;
use super::flags::Carry;
use super::share::Offset;
use super::vals::{S2, STATE, TEMPS};
use super::vecregs::{GUESTS, HOLDERS, V0, V1, VTEMPS, upper, vec};
use super::{Codegen, Loc, Owner, Val, fp, sse};
use crate::frame::Mark;
use crate::hold::Hold;
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

/// What the form in the body of a run does behind its look.
#[derive(Clone, Copy, Debug)]
pub enum Waiting {
    /// The upper half of a guest register becomes a value.
    Upper(u8, Value),
    /// A value, or with the other one two halves, is stored so far from the base in a temporary.
    Store(Type, Value, Value, Reg, i32),
}

/// Most vector temporaries in use at the start.
const KEPT: u32 = 5;
/// Most vectors that wait and are not in guest registers.
const WAIT: usize = 4;

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
    mark: Mark,
}

/// A run of the block in hand.
#[derive(Debug)]
pub struct Run {
    what: What,
    from: usize,
    end: usize,
    careful: DynamicLabel,
    resume: DynamicLabel,
    /// Guest registers that are in their homes.
    saved: u32,
    kept: Kept,
    start: Places,
    finish: Option<Places>,
    /// What waits in it, if it lives no longer.
    prolonged: Vec<Value>,
    /// Constants that temporaries have at the end.
    known: [Option<u64>; TEMPS.len()],
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
    /// One behind the last op of the run that begins with the op at `at`, if it pays, and the guest vector registers that
    /// it changes.
    fn run_end(&self, at: usize) -> Option<(usize, u32)> {
        if self.insts[at].op != Op::Fp {
            return None;
        }
        let (mut saved, mut end, mut waiting) = (0, at, 0);
        // The group that stores wait of, and which of its bytes.
        let mut stored: Option<(u8, Vec<(i32, i32)>)> = None;
        for (j, i) in self.insts.iter().enumerate().skip(at) {
            if !self.an.facts[j].needed {
                continue;
            }
            let bytes = i.ty.bytes() as i32;
            match i.op {
                Op::Fp => {
                    if fp::is_checked(i) {
                        // FPSR would be kept, too, where more may be raised than is right.
                        saved += if fp::may_raise_more(i) { 4 } else { 3 };
                        end = j + 1;
                    }
                    if i.ty != Type::V128 {
                        break;
                    }
                }
                Op::SetVec if upper(i.imm).is_some() => {
                    waiting += 1;
                    if waiting > WAIT || self.reads_later(i.imm, j) {
                        break;
                    }
                }
                Op::Store => {
                    waiting += 1;
                    let Some(hold) = self.may_wait(j) else { break };
                    let (slot, list) = stored.get_or_insert((hold.slot, Vec::new()));
                    if waiting > WAIT || *slot != hold.slot {
                        break;
                    }
                    list.push((hold.below, hold.below + bytes));
                }
                Op::Load if stored.is_some() => {
                    let beside = |h: Hold| {
                        let apart = |&(from, to): &(i32, i32)| h.below >= to || h.below + bytes <= from;
                        !h.first && stored.iter().all(|(s, list)| *s == h.slot && list.iter().all(apart))
                    };
                    if !self.holds.at(j).is_some_and(beside) || !self.may_be_undone(j, i) {
                        break;
                    }
                }
                Op::Vec1 if self.stores_lane(Value(j as u32)) => {}
                _ if self.may_be_undone(j, i) => {}
                _ => break,
            }
        }
        // What is bound for a register may be made there.
        let written = (at..end).fold(0u32, |m, j| {
            let set = match self.insts[j].op {
                Op::SetVec => j,
                _ => self.an.facts[j].vset as usize,
            };
            let n = self.insts[set].imm;
            if set == 0 || upper(n).is_some() { m } else { m | 1 << (n & 15) }
        });
        (saved > 4 + written.count_ones()).then_some((end, written))
    }

    /// Whether what has been read from vector register `n` so far is used behind the op `at`.
    fn reads_later(&self, n: i64, at: usize) -> bool {
        let read =
            |(j, i): (usize, &Inst)| i.op == Op::GetVec && i.imm == n && self.an.facts[j].last as usize > at;
        self.insts[..at].iter().enumerate().any(read)
    }

    /// Whether the store `at` may wait for the end of a run that begins with the op in hand: its base is at hand, and stays.
    fn may_wait(&self, at: usize) -> Option<Hold> {
        let i = &self.insts[at];
        let vector = matches!(i.ty, Type::V128 | Type::V256) || self.stores_lane(i.args[1]);
        let hold = self.holds.at(at)?;
        (vector && !hold.first && !hold.last && self.temp_of(hold.slot).is_some()).then_some(hold)
    }

    /// Prolongs the lives of what waits in the run from the op in hand up to `end`, in both forms, to behind the last op.
    fn prolong_waiting(&mut self, end: usize) {
        self.prolonged.clear();
        let mut uppers = 0u32;
        for j in (self.at..end).rev() {
            let i = self.insts[j];
            let values = match i.op {
                _ if !self.an.facts[j].needed => continue,
                Op::SetVec if upper(i.imm).is_some() => {
                    let bit = 1 << (i.imm & 15);
                    let later = uppers & bit != 0;
                    uppers |= bit;
                    if later {
                        continue;
                    }
                    [i.args[0], Value::NONE]
                }
                Op::Store if i.ty.bytes() >= 16 => [i.args[1], i.args[2]],
                Op::Store => [self.insts[i.args[1].index()].args[0], Value::NONE],
                _ => continue,
            };
            for v in values.into_iter().filter(|v| v.is_some()) {
                let f = &mut self.an.facts[v.index()];
                if (f.last as usize) < end {
                    f.last = end as u32;
                    self.prolonged.push(v);
                }
            }
        }
    }

    /// Whether the form in the body of a run of floating point is in hand.
    fn waits(&self) -> bool {
        self.form == Form::Quick && self.run_of == What::Float
    }

    /// In the body's form of a run, lets upper half `n` become `v` at the end.
    pub fn defer_upper(&mut self, n: u8, v: Value) -> bool {
        if !self.waits() {
            return false;
        }
        self.waiting.retain(|w| !matches!(w, Waiting::Upper(r, _) if *r == n));
        self.waiting.push(Waiting::Upper(n, v));
        true
    }

    /// In the body's form of a run, lets a store of `v` be done at the end, at `below` from the base in `base`.
    pub fn defer_store(&mut self, ty: Type, v: Value, high: Value, base: Reg, below: i32) {
        self.waiting.push(Waiting::Store(ty, v, high, base, below));
    }

    /// The store in hand, if it waits for the end of the run in hand.
    pub fn waiting_store(&self) -> Option<Hold> {
        if self.waits() { self.holds.at(self.at) } else { None }
    }

    /// Behind the look of the run in hand: what has waited, which ends then.
    pub fn do_waiting(&mut self) {
        if self.form == Form::Single || self.run_of != What::Float || self.at + 1 != self.run_until {
            return;
        }
        if self.form == Form::Quick {
            self.do_what_waits();
        }
        for v in std::mem::take(&mut self.prolonged) {
            self.release(v);
        }
    }

    fn do_what_waits(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        // None is read from a home that another one goes to.
        for w in &waiting {
            let (Waiting::Upper(_, v) | Waiting::Store(_, v, ..)) = *w;
            let high = if let Waiting::Store(_, _, high, ..) = *w { high } else { Value::NONE };
            for v in [v, high].into_iter().filter(|v| v.is_some()) {
                let lost =
                    |r: u8| waiting.iter().any(|w| matches!(w, Waiting::Upper(n, _) if n + GUESTS == r));
                if matches!(self.val[v.index()].loc, Loc::GuestV(r) if r >= GUESTS && lost(r)) {
                    self.vreg(v);
                }
            }
        }
        for w in waiting {
            match w {
                Waiting::Upper(n, v) => self.set_upper(n, v),
                Waiting::Store(ty, v, high, base, below) => {
                    self.storing();
                    let low = self.vread(v, V0);
                    if !high.is_some() {
                        self.asm.vector_at(false, ty, low, base, Offset::Imm(below));
                        continue;
                    }
                    let high = self.vread(high, V1);
                    self.store_pair(low, high, base, Offset::Imm(below));
                }
            }
        }
    }

    /// Whether the op with index `at` writes nothing but temporaries.
    fn may_be_undone(&self, at: usize, i: &Inst) -> bool {
        let elsewhere = self.an.facts[at].hint == Hint::None;
        match i.op {
            Op::Guest | Op::Const | Op::Pc | Op::GetReg | Op::CheckAlign => true,
            Op::GetVec | Op::SetVec => i.ty == Type::V128 && i.imm < GUESTS.into(),
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
        if !self.twice || self.form != Form::Single || self.begin_accesses() || self.flags_in_use() {
            return;
        }
        let Some((end, saved)) = self.run_end(self.at) else { return };
        self.forget_copies(KEPT);
        let kept = self.used();
        if kept.temps.count_ones() > 3 || kept.vectors.count_ones() > KEPT {
            return;
        }
        self.vec_enter();
        self.native = None;
        self.prolong_waiting(end);
        self.quick(What::Float, end, saved, kept);
        self.asm.mrs_fpsr(S2);
        for r in (0..GUESTS).filter(|r| saved & 1 << r != 0) {
            self.asm.str_q(r, STATE, vec(r.into()));
        }
    }

    /// What is in use.
    pub fn used(&self) -> Kept {
        let used = |owners: &[Owner]| {
            owners.iter().enumerate().filter(|(_, o)| **o != Owner::Free).fold(0, |m, (i, _)| m | 1u32 << i)
        };
        Kept { temps: used(&self.owner), vectors: used(&self.vowner), slots: self.slots }
    }

    /// Begins the form in the body of a run from the op in hand up to `end`.
    pub fn quick(&mut self, what: What, end: usize, saved: u32, kept: Kept) {
        let (careful, resume) = (self.asm.label(), self.asm.label());
        let start = self.places();
        let from = self.at;
        let prolonged = self.prolonged.clone();
        self.runs.push(Run {
            what,
            from,
            end,
            careful,
            resume,
            saved,
            kept,
            start,
            finish: None,
            prolonged,
            known: [None; 5],
        });
        self.kept = kept;
        self.form = Form::Quick;
        (self.run_of, self.run_from, self.run_until, self.tested) = (what, from, end, 0);
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

    /// Guest vector register `r` is about to change.
    pub fn changing(&mut self, r: Reg) {
        if self.form == Form::Quick
            && self.run_of == What::Float
            && self.runs.last().is_some_and(|run| run.saved & 1 << r == 0)
        {
            self.frame.fail("a run changes what it has not saved");
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
        self.frame.go_back(p.mark);
    }

    /// The careful forms, behind the body.
    pub fn emit_runs(&mut self) {
        self.form = Form::Careful;
        let mark = self.frame.mark();
        for run in std::mem::take(&mut self.runs) {
            self.careful(run);
        }
        self.frame.go_back(mark);
        self.kept = Kept::default();
        self.form = Form::Single;
    }

    fn careful(&mut self, run: Run) {
        self.asm.bind(run.careful);
        if run.what == What::Float {
            self.asm.msr_fpsr(S2);
        }
        for r in (0..GUESTS).filter(|r| run.saved & 1 << r != 0) {
            self.asm.ldr_q(r, STATE, vec(r.into()));
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
        self.asm.b(run.resume);
        let same = run.finish.is_some_and(|f| self.same_places(&f));
        if !same {
            self.frame.fail("the two forms of a run end differently");
        }
    }

    /// Those of `list` that live on.
    fn living<'a>(&'a self, list: &'a [Value]) -> impl Iterator<Item = Value> + 'a {
        list.iter().copied().filter(|&v| self.lives(v))
    }

    /// Whether all values that live on are where `other` has them.
    fn same_places(&self, other: &Places) -> bool {
        let values = (0..self.val.len()).filter(|&n| self.lives(Value(n as u32)));
        let same = |n: usize| (self.val[n].loc, self.val[n].clean) == (other.val[n].loc, other.val[n].clean);
        values.clone().all(same)
            && self.owner == other.owner
            && self.vowner == other.vowner
            && self.slots == other.slots
            && (self.native, self.lazy, self.recorded) == (other.native, other.lazy, other.recorded)
            && (&self.bools, &self.guest_flags) == (&other.bools, &other.guest_flags)
            && (0..GUESTS as usize).all(|r| self.held[r] == other.held[r])
            && (GUESTS as usize..HOLDERS as usize)
                .all(|r| self.living(&self.held[r]).eq(self.living(&other.held[r])))
    }
}
