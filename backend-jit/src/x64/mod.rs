//! The x86-64 emitter.
//!
//! [`Codegen`] goes once over a block, after the backward pass of [`crate::regalloc`], and emits each op's host code
//! as it comes; slow paths and exits follow the body. Files are named after instruction groups, as in the lifter.

pub mod adx;
pub mod alu;
pub mod asm;
pub mod atomic;
pub mod bits;
pub mod branch;
pub mod calls;
pub mod door;
pub mod dot;
pub mod flags;
pub mod gates;
mod known;
pub mod lazy;
pub mod mem;
pub mod mov;
mod moving;
pub mod muldiv;
pub mod set;
pub mod shift;
pub mod sse;
pub mod string;
pub mod stubs;
pub mod system;
pub mod trampoline;
pub mod twice;
pub mod vals;
pub mod vecenc;
pub mod vecregs;
pub mod window;
pub mod x87;

pub use crate::cache::Place;
pub use crate::exit::{status_flags, to_word};
use crate::frame::Frame;
use crate::helpers::Helper;
use crate::hold::Holds;
use crate::moves::Field;
use crate::regalloc::Analysis;
use crate::sidetable::{Last, Recipe};
use crate::{JitConfig, JitError, addresses};
use asm::{Alu, Asm, Reg};
use emu_core::ir::{Block, Inst, Op, Value};
use std::ops::Range;
pub use trampoline::enter;

/// The largest code cache: displacements are 32 bits.
pub const MAX_ARENA: usize = 1 << 30;

/// The word of a jump whose displacement lies at arena offset `at` and which goes to `to`.
pub const fn jump_word(at: usize, to: usize) -> u32 {
    (to as i64 - (at as i64 + 4)) as u32
}

/// Calls are predicted by the host itself: see [`calls`].
pub const RETURN_RING: bool = false;

pub use crate::hold::no_addend;
pub use door::DOOR_BYTES;
pub use window::close as close_window;

/// Whether the emitter knows each of the instructions: it does, or the host says at translation that it has not got one.
pub const fn emits(_: &[Inst], _: usize) -> bool {
    true
}

/// No spill slot.
pub const NO_SLOT: u8 = 0xff;

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loc {
    /// Nowhere: not made yet, dead, or a constant.
    #[default]
    None,
    /// In a temporary.
    Temp(Reg),
    /// It is the low part of this guest register.
    Guest(u8),
    /// In its spill slot.
    Slot,
    /// A truth value: this condition of the host's flags.
    Cc(u8),
    /// In a vector temporary.
    Xmm(u8),
    /// It is what this guest vector register holds, as much as its type is wide.
    GuestV(u8),
    /// Lane 0 or 1 of this vector, to be stored from there.
    LaneOf(Value, u8),
}

/// What is known of a value while its block is emitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Val {
    loc: Loc,
    /// Spill slot, or [`NO_SLOT`]. With a register too, both are right.
    slot: u8,
    /// Zeros above its width.
    clean: bool,
    /// A flags value that is the guest's current word.
    in_guest: bool,
    /// Of a flags value, the slot has only CF: see [`Codegen::save_carry`].
    carry: bool,
    /// A flags value that already has the CF it is going to be merged with.
    merged: bool,
    /// The word of a flags value that is always the same; no place has it yet, unless there is a slot.
    known: Option<u16>,
    /// Emitted with an earlier op.
    done: bool,
    /// A vector that was computed straight into the guest register it is bound for.
    made: bool,
}

const NEW_VAL: Val = Val {
    loc: Loc::None,
    slot: NO_SLOT,
    clean: false,
    in_guest: false,
    carry: false,
    merged: false,
    known: None,
    done: false,
    made: false,
};

/// Who has a temporary.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Owner {
    #[default]
    Free,
    /// Nobody, but it has the addend that is in this scratch slot too: see [`crate::hold`].
    Addend(u8),
    /// Nobody, but it has what is in this guest register, which is in memory.
    Copy(u8),
    Val(Value),
    Transient,
}

impl Owner {
    /// What the temporary has is somewhere else, too.
    pub fn is_spare(self) -> bool {
        matches!(self, Self::Addend(_) | Self::Copy(_))
    }
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
    fail: usize,
    way_out: usize,
    vec_load: usize,
    vec_save: usize,
    window_write: usize,
    window_read: usize,
}

impl Entry {
    /// Offset of the code that leaves for the RIP in RAX.
    pub fn way_out(&self) -> usize {
        self.way_out
    }

    /// There is no ring of returns here.
    pub fn no_return(&self) -> usize {
        self.way_out
    }
}

/// What the host's processor offers beyond x86-64-v1.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub adx: bool,
    pub lzcnt: bool,
    pub bmi1: bool,
    pub bmi2: bool,
    pub popcnt: bool,
    pub sse41: bool,
    pub avx: bool,
    pub avx2: bool,
    pub fma: bool,
    pub f16c: bool,
    pub aes: bool,
    pub pclmul: bool,
    pub vaes: bool,
    pub vpclmul: bool,
}

impl Host {
    fn detect(baseline: bool) -> Self {
        macro_rules! has {
            ($name:tt) => {
                !baseline && std::is_x86_feature_detected!($name)
            };
        }
        Self {
            adx: has!("adx"),
            lzcnt: has!("lzcnt"),
            bmi1: has!("bmi1"),
            bmi2: has!("bmi2"),
            popcnt: has!("popcnt"),
            sse41: has!("sse4.1"),
            avx: has!("avx"),
            avx2: has!("avx2"),
            fma: has!("fma"),
            f16c: has!("f16c"),
            aes: has!("aes"),
            pclmul: has!("pclmulqdq"),
            vaes: has!("vaes"),
            vpclmul: has!("vpclmulqdq"),
        }
    }
}

/// The emitter, whose memory is reused from block to block.
#[derive(Debug)]
pub struct Codegen {
    asm: Asm,
    insts: Vec<Inst>,
    an: Analysis,
    holds: Holds,
    /// The temporary that the access in hand leaves with the addend of this slot.
    addend: Option<(Reg, u8)>,
    val: Vec<Val>,
    owner: [Owner; 16],
    locked: u16,
    /// How far RSP is to move yet: see [`moving`].
    moved: i32,
    alias: [Vec<Value>; 16],
    slots: u64,
    xmm: [Option<Value>; 16],
    xmm_locked: u16,
    /// Values that guest vector registers hold: see `vecregs`.
    held: [Vec<Value>; 16],
    /// How many guest vector registers are in host registers.
    pins: u8,
    /// They are from here on.
    vec_live: bool,
    /// A value that is an operand in memory.
    folded: Option<(Value, asm::Mem)>,
    native: Option<Value>,
    bools: Vec<Value>,
    guest_flags: Vec<Value>,
    /// The flags value whose word is in AX while no more code than this has been emitted.
    word_in_ax: Option<(Value, usize)>,
    /// The guest's flags are not in their word but made by this.
    lazy: Option<Recipe>,
    /// The flags of a product that no `SetFlags` has taken yet.
    product: Option<lazy::Product>,
    /// The guest's flags are not in their word but this value: side exits put them there.
    deferred: Option<Value>,
    /// The guest's flags are these, which the host's are; their word is out of date.
    unsaved: Option<Value>,
    /// The host's x87 is the guest's from here on.
    x87_live: bool,
    /// The last x87 instruction so far that moved the pointers.
    x87_last: Option<Last>,
    stubs: Vec<mem::Stub>,
    sides: Vec<branch::Side>,
    withheld: Vec<system::Withheld>,
    indirect_miss: Option<dynasmrt::DynamicLabel>,
    thunks: [usize; Helper::ALL.len()],
    gates: gates::Gates,
    entry: Entry,
    host: Host,
    /// GS may lead to the set in force: see [`set`].
    segment: bool,
    /// It does in the block in hand.
    gs: bool,
    /// The block in hand, with its exits and sites.
    pub frame: Frame,
    at: usize,
    chain: bool,
    link_pages: bool,
    predict_returns: bool,
    share_probes: bool,
    trust_looks: bool,
    twice: twice::Twice,
    fold_addresses: bool,
    stack_window: bool,
    count: bool,
    heed_budget: bool,
}

impl Codegen {
    /// An emitter for this host.
    ///
    /// # Errors
    /// None on x86-64: every such processor will do.
    pub fn new(cfg: &JitConfig) -> Result<Self, JitError> {
        Ok(Self {
            asm: Asm::default(),
            insts: Vec::new(),
            an: Analysis::default(),
            holds: Holds::default(),
            addend: None,
            val: Vec::new(),
            owner: [Owner::Free; 16],
            locked: 0,
            moved: 0,
            alias: Default::default(),
            slots: 0,
            xmm: [None; 16],
            xmm_locked: 0,
            held: Default::default(),
            pins: if cfg.pin_vectors { vecregs::PINNED } else { 0 },
            vec_live: false,
            folded: None,
            native: None,
            bools: Vec::new(),
            guest_flags: Vec::new(),
            lazy: None,
            product: None,
            word_in_ax: None,
            deferred: None,
            unsaved: None,
            x87_live: false,
            x87_last: None,
            stubs: Vec::new(),
            sides: Vec::new(),
            withheld: Vec::new(),
            indirect_miss: None,
            thunks: [0; Helper::ALL.len()],
            gates: gates::Gates::default(),
            entry: Entry::default(),
            host: Host::detect(cfg.baseline),
            gs: false,
            segment: cfg.set_in_segment && !cfg.baseline && set::possible(),
            frame: Frame::default(),
            at: 0,
            chain: cfg.chain && !cfg.single_block,
            link_pages: cfg.link_pages,
            predict_returns: cfg.predict_returns,
            share_probes: cfg.share_probes,
            trust_looks: cfg.trust_looks,
            twice: twice::Twice::default(),
            fold_addresses: cfg.fold_addresses,
            stack_window: cfg.stack_window,
            count: cfg.count_insns,
            heed_budget: cfg.heed_budget,
        })
    }

    /// The code that was emitted last.
    pub fn code(&self) -> &[u8] {
        &self.asm.buf
    }

    /// Bytes of it that are not out of line.
    pub fn hot(&self) -> usize {
        self.asm.hot()
    }

    fn reset(&mut self, block: &Block, place: Place) {
        self.asm.reset(place.base);
        self.frame.reset(block, place);
        self.gs = self.by_gs();
        self.insts.clear();
        self.insts.extend_from_slice(&block.insts);
        self.val.clear();
        self.val.resize(block.insts.len(), NEW_VAL);
        self.owner = [Owner::Free; 16];
        self.locked = 0;
        self.addend = None;
        self.moved = 0;
        self.alias.iter_mut().for_each(Vec::clear);
        self.slots = 0;
        self.xmm = [None; 16];
        self.xmm_locked = 0;
        self.held.iter_mut().for_each(Vec::clear);
        self.vec_live = false;
        self.folded = None;
        self.native = None;
        self.bools.clear();
        self.guest_flags.clear();
        self.lazy = None;
        self.product = None;
        self.word_in_ax = None;
        self.twice.form = twice::Form::Single;
        self.deferred = None;
        self.unsaved = None;
        self.x87_live = false;
        self.x87_last = None;
        self.stubs.clear();
        self.sides.clear();
        self.withheld.clear();
        self.indirect_miss = None;
    }

    /// Emits a block: its code, exits and sites are in `self` afterwards.
    ///
    /// # Errors
    /// [`JitError::Unsupported`] for what is not built, and [`JitError::Internal`] for bugs.
    pub fn compile(&mut self, block: &Block, place: Place) -> Result<(), JitError> {
        match self.compile_as(block, place) {
            Err(JitError::Internal(_)) if self.trust_looks => {
                debug_assert!(false, "a block cannot be emitted in two forms");
                self.trust_looks = false;
                let once = self.compile_as(block, place);
                self.trust_looks = true;
                once
            }
            done => done,
        }
    }

    fn compile_as(&mut self, block: &Block, place: Place) -> Result<(), JitError> {
        self.reset(block, place);
        let insts = std::mem::take(&mut self.insts);
        self.an.run(&insts);
        if self.fold_addresses {
            addresses::find(&insts, &mut self.an);
        }
        self.holds.run(if self.share_probes { &insts } else { &[] }, None);
        self.insts = insts;
        if place.door {
            self.begin_with_door();
        }
        self.guard_entry(block.next_page.is_some());
        self.count_block();
        match self.part() {
            Some(part) => self.emit_twice(part)?,
            None => {
                self.emit_ops(0..self.insts.len())?;
                self.emit_sides();
                self.asm.go_cold();
            }
        }
        self.emit_exits();
        self.emit_stubs();
        self.frame.check()?;
        let hot = self.asm.hot();
        if !self.asm.finish(place.cold(hot, self.asm.buf.len() - hot)) {
            return Err(JitError::Internal("unresolved label"));
        }
        for (field, ends) in [(Field::Outside, &self.asm.outside), (Field::Across, &self.asm.across)] {
            for &end in ends {
                self.frame.note(field, end);
            }
        }
        Ok(())
    }

    fn emit_ops(&mut self, ops: Range<usize>) -> Result<(), JitError> {
        for i in ops {
            let inst = self.insts[i];
            self.at = i;
            if inst.op == Op::Guest {
                self.frame.begin(&inst);
                continue;
            }
            if !self.an.facts[i].needed || self.val[i].done {
                if self.val[i].done {
                    self.end_op();
                }
                continue;
            }
            self.emit(Value(i as u32), &inst);
            self.end_op();
            self.frame.check()?;
        }
        Ok(())
    }

    fn emit(&mut self, me: Value, inst: &Inst) {
        if inst.op.is_terminator() {
            self.x87_end();
        }
        self.settle_before(inst);
        self.settle_stack_before(me, inst);
        self.make_late_operands(inst);
        match inst.op {
            Op::Guest | Op::FlagsOf => {}
            Op::Const => self.konst(me),
            Op::Pc => self.pc(me, inst),
            Op::CodeWord => self.code_word(me, inst),
            Op::GetReg => self.get_reg(me, inst),
            Op::SetReg => self.set_reg(inst),
            Op::GetRegHi => self.get_reg_hi(me, inst),
            Op::SetRegHi => self.set_reg_hi(inst),
            Op::GetFlags => self.get_flags(me),
            Op::SetFlags => self.set_flags(inst),
            Op::GetState => self.get_state(me, inst),
            Op::SetState => self.set_state(inst),
            Op::Add => self.alu2(me, inst, Alu::Add),
            Op::Sub => self.alu2(me, inst, Alu::Sub),
            Op::And => self.alu2(me, inst, Alu::And),
            Op::Or => self.alu2(me, inst, Alu::Or),
            Op::Xor => self.alu2(me, inst, Alu::Xor),
            Op::Adc => self.alu_carry(me, inst, Alu::Adc),
            Op::Sbb => self.alu_carry(me, inst, Alu::Sbb),
            Op::Adcx | Op::Adox => self.add_through(me, inst),
            Op::Not | Op::Neg => self.unary(me, inst),
            Op::Mul => self.mul(me, inst),
            Op::MulHiU | Op::MulHiS => self.mul_high(me, inst),
            Op::Shl | Op::Shr | Op::Sar | Op::Rol | Op::Ror | Op::Rcl | Op::Rcr => self.shift(me, inst),
            Op::BitTest => self.bit_test(me, inst),
            Op::Clz | Op::Ctz => self.count_zeros(me, inst),
            Op::Popcnt => self.popcnt(me, inst),
            Op::Bswap => self.bswap(me, inst),
            Op::ZExt => self.zext(me, inst),
            Op::SExt => self.sext(me, inst),
            Op::Trunc => self.trunc(me, inst),
            Op::DivU | Op::RemU | Op::DivS | Op::RemS => self.div(me, inst),
            Op::CmpEq | Op::CmpNe | Op::CmpUlt | Op::CmpUle | Op::CmpSlt | Op::CmpSle => {
                self.compare_bool(me, inst);
            }
            Op::Select if inst.ty.bits() > 64 => self.select_vec(me, inst),
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
            Op::System => self.system(inst),
            Op::ReadTsc => self.read_tsc(me, inst),
            Op::GetVec => self.get_vec(me, inst),
            Op::SetVec | Op::SetVecZero => self.set_vec(inst),
            Op::ZeroUpper => self.zero_upper(inst),
            Op::Vec1 | Op::Vec2 | Op::Vec3 | Op::Fp => self.vector(me, inst),
            Op::X87 => self.x87(me, inst),
            Op::X87Mem => self.x87_mem(inst),
            Op::InterpretIf => self.interpret_if(inst),
            Op::ExitIf => self.exit_if(inst),
            Op::Goto => self.goto(inst),
            Op::Branch => self.branch(inst),
            Op::GotoReg => self.goto_reg(inst),
            Op::Transfer => self.transfer(inst),
            Op::Interpret => self.interpret(inst),
        }
    }
}
