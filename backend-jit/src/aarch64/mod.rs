//! The 64-bit Arm emitter.
//!
//! [`Codegen`] goes once over a block, after the backward pass of [`crate::regalloc`], and emits each op's host code
//! as it comes; slow paths and exits follow the body. Files are named after instruction groups, as in the lifter. What
//! [`emits`] does not name is left to the interpreter, instruction by instruction: the front end asks before it takes one
//! into a block.
//!
//! The module is compiled on every host, so that its code can be looked at there; only [`enter`] needs the processor.

pub mod adx;
pub mod alu;
pub mod asm;
pub mod avx;
pub mod bits;
pub mod branch;
pub mod coded;
pub mod door;
pub mod flags;
pub mod fp;
pub mod fp_coded;
pub mod lanes;
pub mod lazy;
pub mod mem;
pub mod mov;
pub mod muldiv;
pub mod narrow;
pub mod near;
pub mod record;
pub mod run;
pub mod share;
pub mod shift;
pub mod sse;
pub mod stretch;
pub mod system;
pub mod tops;
pub mod trampoline;
pub mod vals;
pub mod vecregs;
pub mod waiting;
pub mod window;
pub mod words;
pub mod x87;
pub mod x87_quick;

use crate::addresses;
pub use crate::cache::Place;
use crate::frame::Frame;
use crate::helpers::Helper;
use crate::hold::Holds;
use crate::regalloc::Analysis;
use crate::sidetable::{Last, Recipe};
use crate::{JitConfig, JitError};
use asm::{Asm, Cond};
use coded::Coded;
use emu_core::ir::{Block, Inst, Op, Type, Value};
use flags::Carry;
pub use flags::{from_word, to_word};
pub use record::status_flags;
pub use trampoline::enter;

/// The largest code cache: a branch reaches from end to end.
pub const MAX_ARENA: usize = 128 << 20;

pub use door::DOOR_BYTES;

/// Returns are predicted by a ring: see `jumps`.
pub const RETURN_RING: bool = true;

/// What a slot for what accesses share has that has nothing: see `share`.
pub const fn no_addend() -> u64 {
    0
}

pub use window::close as close_window;

/// The word of a branch at arena offset `at` to `to`.
pub const fn jump_word(at: usize, to: usize) -> u32 {
    0x1400_0000 | ((to as i64 - at as i64) >> 2) as u32 & 0x3ff_ffff
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loc {
    /// Nowhere: not made yet, dead, a constant, or flags in NZCV alone.
    #[default]
    None,
    /// In a temporary.
    Temp(u8),
    /// It is the low part of this guest register.
    Guest(u8),
    /// In this scratch slot.
    Slot(u8),
    /// A truth value: this condition of NZCV.
    Cc(Cond),
    /// Flags that are the guest's word.
    Word,
    /// In a vector temporary.
    Vec(u8),
    /// It is what this guest vector register holds, or its upper half: see `vecregs`.
    GuestV(u8),
    /// It is zero, as a register for the purpose is.
    ZeroV,
    /// In this scratch slot and the next.
    VecSlot(u8),
    /// The low lane of this vector, for a store.
    LaneOf(Value),
}

/// What is known of a value while its block is emitted.
#[derive(Clone, Copy, Debug)]
pub struct Val {
    loc: Loc,
    /// Zeros above its width.
    clean: bool,
    /// A vector's bits from this one on are known to be zero.
    low: u8,
    /// A vector of which only the low lane is in its place yet: see `tops`.
    rest: Option<tops::Rest>,
}

const NEW_VAL: Val = Val { loc: Loc::None, clean: false, low: 128, rest: None };

/// Who has a temporary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Free,
    Val(Value),
    Transient,
    /// The group of accesses with this scratch slot: see `share`.
    Base(u8),
    /// A page at hand, by group: its tag or, with `true`, its addend: see `near`.
    Page(u8, bool),
}

/// Arena offsets of the trampolines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// The function that enters translated code.
    pub enter: usize,
    leave: usize,
    direct: usize,
    indirect: usize,
    interpret: usize,
    way_out: usize,
    empty: usize,
    settle: usize,
    vec_begin: usize,
}

impl Entry {
    /// Offset of the code that leaves for the RIP in x0.
    pub fn way_out(&self) -> usize {
        self.way_out
    }

    /// Offset of the code that empty entries of the ring of returns lead to, which are for RIP 0: it leaves for that.
    pub fn no_return(&self) -> usize {
        self.empty
    }
}

/// The emitter, whose memory is reused from block to block.
#[derive(Debug)]
pub struct Codegen {
    asm: Asm,
    insts: Vec<Inst>,
    an: Analysis,
    halves: avx::Halves,
    holds: Holds,
    /// What stands for flags that are not made.
    found: lazy::Found,
    /// What the guest's flags are to be made of here, if their word is not right.
    lazy: Option<Recipe>,
    /// The flags value that is the guest's by a record.
    recorded: Option<Value>,
    share_probes: bool,
    fold_addresses: bool,
    val: Vec<Val>,
    /// By value: it is read as a flags word.
    worded: Vec<bool>,
    owner: [Owner; 5],
    /// By temporary: the constant that it has been left with, while it is free.
    known: [Option<u64>; 5],
    /// What that is since: see [`asm::Asm::joins`].
    known_joins: u32,
    locked: u32,
    vowner: [Owner; vecregs::VTEMPS],
    vlocked: u32,
    alias: [Vec<Value>; 16],
    held: [Vec<Value>; vecregs::HOLDERS as usize],
    slots: u64,
    native: Option<(Value, Carry)>,
    bools: Vec<Value>,
    guest_flags: Vec<Value>,
    stubs: Vec<mem::Stub>,
    sides: Vec<branch::Side>,
    withheld: Vec<system::Withheld>,
    literals: Vec<branch::Literal>,
    indirect_miss: Option<dynasmrt::DynamicLabel>,
    own_door: Option<door::Elsewhere>,
    /// Where the block is entered by a link.
    start: Option<dynasmrt::DynamicLabel>,
    thunks: [usize; Helper::ALL.len()],
    entry: Entry,
    /// The block in hand, with its exits and sites.
    pub frame: Frame,
    at: usize,
    chain: bool,
    link_pages: bool,
    predict_returns: bool,
    count: bool,
    ordered: bool,
    /// Loads and stores have barriers.
    barriers: bool,
    stack_window: bool,
    lse: bool,
    wides: Vec<vecregs::Wide>,
    /// Constants behind the code.
    imms: Vec<(u64, dynasmrt::DynamicLabel)>,
    /// Runs have two forms; if not, there are none.
    twice: bool,
    runs: Vec<run::Run>,
    form: run::Form,
    /// Of the run in hand: what it consists of, its first op, and what in it waits for the end.
    run_of: run::What,
    run_from: usize,
    run_until: usize,
    /// What waits in it and lives no longer.
    prolonged: Vec<Value>,
    /// By index in [`crate::layout::HOLDS`]: the group has its base for sure in the form in hand.
    tested: u32,
    /// So it was at the end of the last run of floating point.
    verified: u32,
    /// By the same index: how far above the span's lowest byte the address is of which the group's base is.
    from: [i32; crate::layout::HOLDS.len()],
    nears: Vec<near::Near>,
    moved: stretch::Moved,
    waiting: Vec<waiting::Waiting>,
    tops: tops::Tops,
    /// A fused operation's result of which it is still to be seen that it is no NaN.
    nan_waits: Option<Value>,
    kept: run::Kept,
    /// The block has made sure that the host has the guest's vector registers and modes of floating point.
    vec_live: bool,
    /// The block has made sure that every exception of the x87 is masked.
    x87_live: bool,
    /// The last x87 instruction so far that moved the pointers.
    x87_last: Option<Last>,
}

/// Whether the emitter knows each of `insts` from `from` on.
pub fn emits(insts: &[Inst], from: usize) -> bool {
    if !insts[from..].iter().any(avx::concerns) {
        return known(insts, from);
    }
    let mut halves = avx::Halves::default();
    halves.run(insts, from) && known(&halves.out, from)
}

fn known(insts: &[Inst], from: usize) -> bool {
    let width = |v: Value| if v.is_some() { insts[v.index()].ty.bits() } else { 0 };
    insts[from..].iter().all(|i| {
        let widest = i.args.iter().map(|&v| width(v)).max().unwrap_or(0).max(i.ty.bits());
        match i.op {
            Op::ZeroUpper | Op::SetVecZero | Op::Transfer | Op::InterpretIf => false,
            Op::X87Mem => x87::known(i.aux),
            Op::Fp => widest <= 128 && fp::known(i),
            Op::Store if i.ty == Type::V256 => i.args[2].is_some(),
            Op::GetVec | Op::SetVec | Op::Load | Op::Store => widest <= 128,
            Op::Vec1 | Op::Vec2 | Op::Vec3 => {
                widest <= 128 && (sse::known(i.aux) || Coded::from_aux(i.aux).is_some_and(|c| !c.is_float()))
            }
            Op::Rcl | Op::Rcr => insts[i.args[1].index()].op == Op::Const,
            _ => widest <= 64,
        }
    })
}

impl Codegen {
    /// An emitter for this host.
    ///
    /// # Errors
    /// None: every such processor will do.
    pub fn new(cfg: &JitConfig) -> Result<Self, JitError> {
        Ok(Self {
            asm: Asm::default(),
            insts: Vec::new(),
            an: Analysis::default(),
            halves: avx::Halves::default(),
            holds: Holds::default(),
            found: lazy::Found::default(),
            lazy: None,
            recorded: None,
            share_probes: cfg.share_probes,
            fold_addresses: cfg.fold_addresses,
            val: Vec::new(),
            worded: Vec::new(),
            owner: [Owner::Free; 5],
            known: [None; 5],
            known_joins: 0,
            locked: 0,
            vowner: [Owner::Free; vecregs::VTEMPS],
            vlocked: 0,
            alias: Default::default(),
            held: Default::default(),
            slots: 0,
            native: None,
            bools: Vec::new(),
            guest_flags: Vec::new(),
            stubs: Vec::new(),
            sides: Vec::new(),
            withheld: Vec::new(),
            literals: Vec::new(),
            indirect_miss: None,
            own_door: None,
            start: None,
            thunks: [0; Helper::ALL.len()],
            entry: Entry::default(),
            frame: Frame::default(),
            at: 0,
            chain: cfg.chain && !cfg.single_block,
            link_pages: cfg.link_pages,
            predict_returns: cfg.predict_returns,
            count: cfg.count_insns,
            ordered: cfg.ordered,
            barriers: cfg.ordered && !cfg.plain,
            stack_window: cfg.stack_window,
            lse: !cfg.baseline && has_lse(),
            wides: Vec::new(),
            imms: Vec::new(),
            twice: true,
            runs: Vec::new(),
            form: run::Form::Single,
            run_of: run::What::Float,
            run_from: 0,
            run_until: 0,
            prolonged: Vec::new(),
            tested: 0,
            verified: 0,
            from: Default::default(),
            nears: Vec::new(),
            moved: stretch::Moved::default(),
            waiting: Vec::new(),
            tops: tops::Tops::default(),
            nan_waits: None,
            kept: run::Kept::default(),
            vec_live: false,
            x87_live: false,
            x87_last: None,
        })
    }

    /// The code that was emitted last.
    pub fn code(&self) -> &[u8] {
        &self.asm.buf
    }

    /// Bytes of it that are not out of line: branches do not reach far enough for a place of its own.
    pub fn hot(&self) -> usize {
        self.code().len()
    }

    fn reset(&mut self, block: &Block, place: Place) {
        self.asm.reset(place.base);
        self.frame.reset(block, place);
        self.insts.clear();
        self.insts.extend_from_slice(&block.insts);
        self.val.clear();
        self.owner = [Owner::Free; 5];
        (self.known, self.known_joins) = ([None; 5], 0);
        self.locked = 0;
        self.vowner = [Owner::Free; vecregs::VTEMPS];
        self.vlocked = 0;
        self.alias.iter_mut().for_each(Vec::clear);
        self.held.iter_mut().for_each(Vec::clear);
        self.slots = 0;
        self.native = None;
        self.lazy = None;
        self.recorded = None;
        self.bools.clear();
        self.guest_flags.clear();
        self.stubs.clear();
        self.sides.clear();
        self.withheld.clear();
        self.literals.clear();
        self.indirect_miss = None;
        self.own_door = None;
        self.start = None;
        self.wides.clear();
        self.imms.clear();
        self.runs.clear();
        self.form = run::Form::Single;
        self.moved.clear();
        self.waiting.clear();
        self.prolonged.clear();
        self.nan_waits = None;
        self.verified = 0;
        self.kept = run::Kept::default();
        self.vec_live = false;
        self.x87_live = false;
        self.x87_last = None;
    }

    /// Emits a block: its code, exits and sites are in `self` afterwards.
    ///
    /// # Errors
    /// [`JitError::Unsupported`] for what is not built, and [`JitError::Internal`] for bugs.
    pub fn compile(&mut self, block: &Block, place: Place) -> Result<(), JitError> {
        self.twice = true;
        match self.compile_once(block, place) {
            // The two forms of a run may turn out not to fit together.
            Err(JitError::Internal(what)) => {
                tracing::debug!("{what}: once more without runs");
                self.twice = false;
                self.compile_once(block, place)
            }
            done => done,
        }
    }

    fn compile_once(&mut self, block: &Block, place: Place) -> Result<(), JitError> {
        self.reset(block, place);
        let mut insts = std::mem::take(&mut self.insts);
        let mut fine = true;
        if insts.iter().any(avx::concerns) {
            fine = self.halves.run(&insts, 0);
            std::mem::swap(&mut self.halves.out, &mut insts);
        }
        if !fine || !known(&insts, 0) {
            self.insts = insts;
            return Err(JitError::Unsupported("an operation that the Arm emitter does not know"));
        }
        self.val.resize(insts.len(), NEW_VAL);
        self.tops.reset(insts.len());
        let loops = self.loops(&insts);
        lazy::find(&mut insts, &mut self.found, loops);
        if self.fold_addresses {
            narrow::find(&mut insts);
        }
        self.an.run(&insts);
        self.found.prolong(&mut self.an);
        if self.fold_addresses {
            addresses::find(&insts, &mut self.an);
        }
        self.holds.run(if self.share_probes { &insts } else { &[] }, Some(self.frame.key.rip));
        self.insts = insts;
        self.bind_loads();
        self.leave_indexed();
        self.leave_tables();
        self.find_words();
        self.find_nears();
        if place.door {
            self.begin_with_door();
        }
        if block.next_page.is_none() || self.frame.flat() {
            self.begin();
        }
        self.guard_entry(block.next_page.is_some());
        self.count_block();
        self.emit_ops(0, self.insts.len());
        self.frame.check()?;
        self.emit_runs();
        self.emit_exits();
        self.emit_stubs();
        self.emit_imms();
        self.emit_wides();
        self.frame.check()?;
        if !self.asm.finish() {
            return Err(JitError::Internal("a label is missing or out of reach"));
        }
        Ok(())
    }

    /// Emits the ops from `from` up to `end`.
    fn emit_ops(&mut self, from: usize, end: usize) {
        for i in from..end {
            let inst = self.insts[i];
            self.at = i;
            if inst.op == Op::Guest {
                self.frame.begin(&inst);
                continue;
            }
            if !self.an.facts[i].needed {
                continue;
            }
            if self.frame.failed() {
                return;
            }
            self.begin_run();
            if !self.is_skipped(i) {
                self.emit(Value(i as u32), &inst);
            }
            self.do_waiting();
            self.end_op();
            self.end_run();
        }
    }

    fn emit(&mut self, me: Value, inst: &Inst) {
        self.make_late_operands(inst);
        if inst.op.is_terminator() {
            self.x87_note(self.x87_last);
        }
        match inst.op {
            Op::Guest | Op::FlagsOf | Op::Const | Op::Pc => {}
            Op::CodeWord => self.code_word(me, inst),
            Op::GetReg => self.get_reg(me, inst),
            Op::SetReg => self.set_reg(inst),
            Op::GetRegHi => self.get_reg_hi(me, inst),
            Op::SetRegHi => self.set_reg_hi(inst),
            Op::GetFlags => self.get_flags(me),
            Op::SetFlags => self.set_flags(inst),
            Op::GetState => self.get_state(me, inst),
            Op::SetState => self.set_state(inst),
            Op::Add | Op::Sub => self.add_sub(me, inst),
            Op::And | Op::Or | Op::Xor => self.logical(me, inst),
            Op::Adc | Op::Sbb => self.with_carry(me, inst),
            Op::Adcx | Op::Adox => self.add_through(me, inst),
            Op::Not => self.not(me, inst),
            Op::Neg => self.neg(me, inst),
            Op::Mul | Op::MulHiU | Op::MulHiS => self.multiply(me, inst),
            Op::Shl | Op::Shr | Op::Sar | Op::Rol | Op::Ror | Op::Rcl | Op::Rcr => self.shift(me, inst),
            Op::BitTest => self.bit_test(me, inst),
            Op::Clz | Op::Ctz => self.count_zeros(me, inst),
            Op::Popcnt => self.popcnt(me, inst),
            Op::Bswap => self.bswap(me, inst),
            Op::ZExt => self.zext(me, inst),
            Op::SExt => self.sext(me, inst),
            Op::Trunc => self.trunc(me, inst),
            Op::DivU | Op::RemU | Op::DivS | Op::RemS => self.divide(me, inst),
            Op::CmpEq | Op::CmpNe | Op::CmpUlt | Op::CmpUle | Op::CmpSlt | Op::CmpSle => {
                self.compare_bool(me, inst);
            }
            Op::Select => self.select(me, inst),
            Op::NotBool => self.not_bool(me, inst),
            Op::Lea if self.an.facts[me.index()].late => {}
            Op::Lea => self.lea(me, inst),
            Op::MergeFlags => self.merge_flags(me, inst),
            Op::SelectFlags => self.select_flags(me, inst),
            Op::TestCc => self.test_cc(me, inst),
            Op::PackFlags => self.pack_flags(me, inst),
            Op::UnpackFlags => self.unpack_flags(me, inst),
            Op::SegAddr => self.seg_addr(me, inst),
            Op::CheckAlign => self.check_align(inst),
            Op::Load => self.load(me, inst),
            Op::LoadW => self.load_w(me, inst),
            Op::Store => self.store(inst),
            Op::StoreW => self.store_w(me, inst),
            Op::AtomicAdd | Op::AtomicAnd | Op::AtomicOr | Op::AtomicXor | Op::AtomicXchg | Op::AtomicCas => {
                self.atomic(me, inst);
            }
            Op::Fence => self.fence(inst),
            Op::RepString => self.rep_string(me, inst),
            Op::RepSkip => self.rep_call(Helper::RepSkip, inst),
            Op::System => {
                self.forget_pages();
                self.system(inst);
            }
            Op::ReadTsc => self.read_tsc(me, inst),
            Op::InterpretIf => self.frame.unsupported("an instruction left on a condition"),
            Op::ExitIf => self.exit_if(inst),
            Op::Goto => self.goto(inst),
            Op::Branch => self.branch(inst),
            Op::GotoReg => self.goto_reg(inst),
            Op::Transfer => self.frame.unsupported("a transfer between privilege levels"),
            Op::Interpret => self.interpret(inst),
            Op::GetVec => self.get_vec(me, inst),
            Op::SetVec => self.set_vec(inst),
            Op::SetVecZero => self.frame.fail("a VEX encoding has been left as it was"),
            Op::Vec1 | Op::Vec2 | Op::Vec3 => self.vector(me, inst),
            Op::ZeroUpper => self.frame.unsupported("256-bit vectors"),
            Op::Fp => self.float(me, inst),
            Op::X87Mem => self.x87_mem(inst),
            Op::X87 => self.x87(me, inst),
        }
    }
}

#[cfg(target_arch = "aarch64")]
fn has_lse() -> bool {
    std::arch::is_aarch64_feature_detected!("lse")
}

#[cfg(not(target_arch = "aarch64"))]
const fn has_lse() -> bool {
    true
}
