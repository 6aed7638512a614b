//! Runs of floating-point instructions that are checked once.
//!
//! A look at FPSR behind each operation takes three instructions and keeps the operands. So several operations in a row are
//! emitted twice: in the body without looks but for one behind the last, and out of line one by one. What the body
//! changes in between is undone first: guest vector registers from their homes in the state, where those that will change
//! are put at the start, FPSR from [`S2`]; and whatever was in a temporary or a slot is left there until the end. Accesses
//! in a run whose probe misses go over to the careful form too, so helpers are only called from that.
//!
//! Invariants:
//! - nothing in a run writes anything but guest vector registers, temporaries and slots, or changes NZCV that is in use;
//! - both forms begin and end with the same places of values: [`Codegen::careful`] refuses the block otherwise.

use super::asm::Reg;
use super::coded::Coded;
use super::flags::Carry;
use super::vals::{S2, STATE, TEMPS};
use super::vecregs::{GUESTS, VTEMPS, vec};
use super::{Codegen, Owner, Val, fp, sse};
use crate::frame::Mark;
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

/// Where values are, and how far the emitter has come.
#[derive(Clone, Debug)]
struct Places {
    val: Vec<Val>,
    owner: [Owner; TEMPS.len()],
    vowner: [Owner; VTEMPS],
    alias: [Vec<Value>; 16],
    held: [Vec<Value>; GUESTS as usize],
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
        let (mut checks, mut end) = (0, at);
        for (j, i) in self.insts.iter().enumerate().skip(at) {
            let needed = self.an.facts[j].needed;
            if i.op == Op::Fp && needed {
                if fp::is_checked(i) {
                    checks += 1;
                    end = j + 1;
                }
                if i.ty != Type::V128 {
                    break;
                }
            } else if needed && !self.may_be_undone(j, i) {
                break;
            }
        }
        // What is bound for a register may be made there.
        let written = (at..end).fold(0u32, |m, j| match self.insts[j].op {
            Op::SetVec => m | 1 << (self.insts[j].imm & 15),
            _ => match self.an.facts[j].vset as usize {
                0 => m,
                set => m | 1 << (self.insts[set].imm & 15),
            },
        });
        (3 * checks > 4 + written.count_ones()).then_some((end, written))
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
        if self.form != Form::Single || self.begin_accesses() || self.flags_in_use() {
            return;
        }
        let Some((end, saved)) = self.run_end(self.at) else { return };
        let kept = self.used();
        if kept.temps.count_ones() > 2 || kept.vectors.count_ones() > 4 {
            return;
        }
        self.vec_enter();
        self.native = None;
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
        self.runs.push(Run { what, from, end, careful, resume, saved, kept, start, finish: None });
        self.kept = kept;
        self.form = Form::Quick;
        (self.run_of, self.run_from) = (what, from);
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
        if let Some(run) = self.runs.last_mut() {
            run.finish = Some(finish);
            self.asm.bind(run.resume);
        }
        self.kept = Kept::default();
        self.form = Form::Single;
        self.known = [None; 5];
    }

    /// Whether the op in hand is the last of the run in hand.
    pub fn last_of_run(&self) -> bool {
        self.runs.last().is_some_and(|r| self.at + 1 == r.end)
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
        (self.run_of, self.run_from) = (run.what, run.from);
        self.emit_ops(run.from, run.end);
        self.asm.b(run.resume);
        let same = run.finish.is_some_and(|f| self.same_places(&f));
        if !same {
            self.frame.fail("the two forms of a run end differently");
        }
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
    }
}
