//! What a backward pass over a block tells the emitter: last uses, demanded flags, and which guest register a value
//! is bound for. Host-neutral.
//!
//! A *hint* says that a value may be computed straight into guest register r: between its definition and the
//! `SetReg r` that wants it nothing reads r, nothing observes the state (no fault, no exit), and no guest instruction
//! begins. The emitter still has to save older values that are aliases of r.

use emu_core::ir::ops::Class;
use emu_core::ir::{Cc, Inst, Op, Type, Value};
use emu_core::state::bits::rflags;

/// The status flags as a narrow mask.
pub const STATUS: u16 = rflags::STATUS as u16;
const CF: u16 = rflags::CF as u16;
const OF: u16 = rflags::OF as u16;
const ZF: u16 = rflags::ZF as u16;

/// Where a value is bound for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hint {
    /// Nowhere in particular.
    #[default]
    None,
    /// The whole of this guest register will be overwritten by it or by what is made of it.
    Full(u8),
    /// The low part of this guest register, as wide as the value.
    Part(u8),
}

/// Facts about one value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fact {
    /// Index of the last instruction that uses it (for a flags value too, and then side exits included that would
    /// have to make it the guest's); 0: never.
    pub last: u32,
    /// For a flags value: the last instruction that uses it other than such a side exit.
    pub read: u32,
    /// Number of uses other than by `FlagsOf`.
    pub uses: u16,
    /// For a flags value: the flags that are read. For an arithmetic op: those that its `FlagsOf` must give.
    pub mask: u16,
    /// For an arithmetic op: its `FlagsOf`, or 0.
    pub flags: u32,
    /// Where the value goes.
    pub hint: Hint,
    /// The `SetVec` or `SetVecZero` of a vector register into which it may be computed straight, or 0.
    pub vset: u32,
    /// It must be emitted.
    pub needed: bool,
    /// It is left to the accesses that use it: see [`crate::addresses`].
    pub late: bool,
    /// Some access names it by its parts.
    pub parts: bool,
    /// For what is late: the first instruction that wants it as a value, or 0.
    pub made: u32,
}

/// The facts about a block, by value.
#[derive(Debug, Default)]
pub struct Analysis {
    /// One per instruction.
    pub facts: Vec<Fact>,
}

/// Which flags `inst`, of whose own flags `mask` is read, reads of its flags argument.
pub fn flags_argument(insts: &[Inst], inst: &Inst, mask: u16) -> u16 {
    let count = || {
        let by = insts.get(inst.args[1].index())?;
        (by.op == Op::Const).then(|| by.imm as u32 & if inst.ty == Type::I64 { 63 } else { 31 })
    };
    match inst.op {
        Op::SetFlags | Op::PackFlags => STATUS,
        Op::TestCc => Cc::ALL[inst.imm as usize & 15].reads() as u16,
        Op::Adc | Op::Sbb => CF,
        Op::Shl | Op::Shr | Op::Sar if count().is_some_and(|n| n != 0) => 0,
        Op::Shl | Op::Shr | Op::Sar => mask,
        Op::Rol | Op::Ror if count().is_some_and(|n| n != 0) => mask & !(CF | OF),
        Op::Rol | Op::Ror => mask,
        Op::Rcl | Op::Rcr | Op::Adcx => mask | CF,
        Op::Adox => mask | OF,
        Op::BitTest => mask & !CF,
        Op::Clz | Op::Ctz => mask & !(CF | ZF),
        Op::SelectFlags => mask,
        _ => 0,
    }
}

impl Analysis {
    /// Analyses `insts`, reusing memory.
    pub fn run(&mut self, insts: &[Inst]) {
        self.facts.clear();
        self.facts.resize(insts.len(), Fact::default());
        let mut bound = [(u32::MAX, false); 16];
        let mut vectors = [(u32::MAX, 0); 64];
        // The last side exit before the next write of flags.
        let mut exit = 0;
        for i in (0..insts.len()).rev() {
            let inst = &insts[i];
            match inst.op {
                Op::ExitIf if exit == 0 => exit = i as u32,
                Op::SetFlags => {
                    if inst.aux & 2 != 0 {
                        let f = &mut self.facts[inst.args[0].index()];
                        f.last = f.last.max(exit);
                    }
                    exit = 0;
                }
                _ => {}
            }
            let me = self.facts[i];
            let class = inst.op.class();
            let root = !matches!(class, Class::Pure | Class::ReadState);
            let needed = root || me.last != 0 || me.mask != 0;
            self.facts[i].needed = needed;
            if needed {
                self.demand(insts, i);
            }
            self.bind(insts, i, needed, &mut bound);
            self.bind_vector(insts, i, needed, &mut vectors);
        }
    }

    fn touch(&mut self, v: Value, at: usize) -> &mut Fact {
        let f = &mut self.facts[v.index()];
        f.last = f.last.max(at as u32);
        f.read = f.read.max(at as u32);
        f
    }

    fn demand(&mut self, insts: &[Inst], i: usize) {
        let inst = &insts[i];
        let mask = self.facts[i].mask;
        match inst.op {
            Op::FlagsOf => {
                let want = mask & inst.imm as u16;
                let f = &mut self.facts[inst.args[0].index()];
                f.mask |= want;
                if want != 0 {
                    f.flags = i as u32;
                }
            }
            Op::MergeFlags => {
                let imm = inst.imm as u16;
                for (arg, want) in [(inst.args[0], mask & imm), (inst.args[1], mask & !imm)] {
                    if want != 0 {
                        self.touch(arg, i).mask |= want;
                    }
                }
            }
            _ => {
                let want = flags_argument(insts, inst, mask);
                for arg in inst.used() {
                    if insts[arg.index()].ty == Type::Flags {
                        if want != 0 {
                            self.touch(arg, i).mask |= want;
                        }
                    } else {
                        self.touch(arg, i).uses += 1;
                    }
                }
            }
        }
    }

    /// As `bind`, for vector registers.
    fn bind_vector(&mut self, insts: &[Inst], i: usize, needed: bool, bound: &mut [(u32, u32); 64]) {
        let inst = &insts[i];
        if needed && matches!(inst.ty, Type::V128 | Type::V256) {
            for b in bound.iter_mut().filter(|b| b.0 == i as u32) {
                self.facts[i].vset = b.1;
                b.0 = u32::MAX;
            }
        }
        match inst.op {
            // Hosts may number halves of registers beyond 31.
            Op::SetVec | Op::SetVecZero => bound[inst.imm as usize & 63] = (inst.args[0].0, i as u32),
            Op::GetVec if needed => bound[inst.imm as usize & 63].0 = u32::MAX,
            Op::Guest | Op::ZeroUpper => bound.fill((u32::MAX, 0)),
            op if matches!(
                op.class(),
                Class::Faulting
                    | Class::FaultingWrite
                    | Class::MemWrite
                    | Class::SideExit
                    | Class::Terminator
            ) =>
            {
                bound.fill((u32::MAX, 0));
            }
            _ => {}
        }
    }

    fn bind(&mut self, insts: &[Inst], i: usize, needed: bool, bound: &mut [(u32, bool); 16]) {
        let inst = &insts[i];
        let mut own = None;
        if needed {
            for (r, b) in bound.iter_mut().enumerate() {
                if b.0 == i as u32 {
                    let hint = if b.1 { Hint::Full(r as u8) } else { Hint::Part(r as u8) };
                    self.facts[i].hint = hint;
                    own = Some((r, b.1));
                    b.0 = u32::MAX;
                }
            }
        }
        match inst.op {
            Op::SetReg => {
                let full = matches!(inst.ty, Type::I32 | Type::I64);
                bound[inst.imm as usize & 15] = (inst.args[0].0, full);
            }
            Op::GetReg | Op::GetRegHi | Op::SetRegHi if needed => {
                bound[inst.imm as usize & 15].0 = u32::MAX;
            }
            Op::Guest => bound.fill((u32::MAX, false)),
            op if matches!(
                op.class(),
                Class::Faulting
                    | Class::FaultingWrite
                    | Class::MemWrite
                    | Class::SideExit
                    | Class::Terminator
            ) =>
            {
                bound.fill((u32::MAX, false));
            }
            _ => {}
        }
        // What is made in place of its first operand can have that operand made there too.
        if let Some((r, true)) = own
            && matches!(
                inst.op,
                Op::ZExt
                    | Op::Trunc
                    | Op::Add
                    | Op::Sub
                    | Op::And
                    | Op::Or
                    | Op::Xor
                    | Op::Not
                    | Op::Neg
                    | Op::Shl
                    | Op::Shr
                    | Op::Sar
            )
            && self.facts[inst.args[0].index()].last == i as u32
            && self.facts[inst.args[0].index()].uses == 1
            && insts[inst.args[0].index()].ty.is_int()
        {
            bound[r] = (inst.args[0].0, true);
        }
    }
}
