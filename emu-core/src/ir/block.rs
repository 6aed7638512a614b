//! Blocks, instructions and how lifters build them.

use super::ops::{Cc, Op, StateField, Type};
use super::vecop::VecOp;
use crate::addr::PhysAddr;
use crate::state::Mode;
use crate::state::bits::rflags;

/// Names the value of an instruction: its index in the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Value(pub u32);

impl Value {
    /// No value: an absent argument.
    pub const NONE: Value = Value(u32::MAX);

    /// The index in [`Block::insts`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether it names a value.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.0 != u32::MAX
    }
}

/// One IR instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// Its type: see the op.
    pub ty: Type,
    /// Auxiliary: see the op.
    pub aux: u32,
    /// Arguments; unused ones are [`Value::NONE`].
    pub args: [Value; 3],
    /// Immediate: see the op.
    pub imm: i64,
}

impl Inst {
    /// The arguments that are present.
    pub fn used(&self) -> impl Iterator<Item = Value> + '_ {
        self.args.iter().copied().filter(|v| v.is_some())
    }
}

/// What identifies a translation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockKey {
    /// Guest-physical address of the first byte.
    pub phys: PhysAddr,
    /// RIP of the first instruction.
    pub rip: u64,
    /// Every mode bit that changes meaning.
    pub mode: Mode,
}

/// A guest basic block, or a trace along several, as IR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// What it translates.
    pub key: BlockKey,
    /// The instructions; the last is the terminator.
    pub insts: Vec<Inst>,
    /// Bytes of guest code it was made from, from the key's address on without a gap.
    pub guest_len: u32,
    /// 64-byte chunks of the key's page that it was made from besides, by bit: where a trace went on after a jump.
    pub chunks: u64,
    /// Number of guest instructions that complete when the terminator is reached. With an [`Op::Interpret`]
    /// terminator the interpreted one is not counted.
    pub guest_insns: u32,
    /// The second page, when the last instruction reaches into it: where its bytes were fetched from. Such a block
    /// is valid only while the linear page after the key's maps there.
    pub next_page: Option<PhysAddr>,
    /// The RAM page of the key's address (from [`crate::mem::Frame::Ram`]), if there are [`Op::CodeWord`]s.
    pub ram: Option<usize>,
}

impl Block {
    /// An empty block.
    pub fn new(key: BlockKey) -> Self {
        Self {
            key,
            insts: Vec::with_capacity(64),
            guest_len: 0,
            chunks: 0,
            guest_insns: 0,
            next_page: None,
            ram: None,
        }
    }

    /// What its [`Op::CodeWord`]s read: (offset in the page, bytes). Nothing else of the block was made from that.
    pub fn words(&self) -> impl Iterator<Item = (u16, u8)> + '_ {
        let words = self.insts.iter().filter(|i| i.op == Op::CodeWord);
        words.map(|i| ((self.key.phys.offset() as i64 + i.imm) as u16, i.ty.bytes() as u8))
    }

    /// The instruction that defines `v`.
    pub fn def(&self, v: Value) -> &Inst {
        &self.insts[v.index()]
    }

    /// Appends an instruction.
    pub fn push(&mut self, inst: Inst) -> Value {
        self.insts.push(inst);
        Value(self.insts.len() as u32 - 1)
    }

    /// Appends `op` of type `ty` on up to three arguments, with immediate and auxiliary zero.
    pub fn op(&mut self, op: Op, ty: Type, args: &[Value]) -> Value {
        self.op_imm(op, ty, args, 0, 0)
    }

    /// Appends `op` with its immediate and auxiliary.
    pub fn op_imm(&mut self, op: Op, ty: Type, args: &[Value], imm: i64, aux: u32) -> Value {
        let mut a = [Value::NONE; 3];
        a[..args.len()].copy_from_slice(args);
        self.push(Inst { op, ty, aux, args: a, imm })
    }

    /// A constant.
    pub fn iconst(&mut self, ty: Type, value: u64) -> Value {
        self.op_imm(Op::Const, ty, &[], value as i64, 0)
    }

    /// Reads the low bits of a general register.
    pub fn get_reg(&mut self, ty: Type, reg: usize) -> Value {
        self.op_imm(Op::GetReg, ty, &[], reg as i64, 0)
    }

    /// Writes a general register as instructions of that width do.
    pub fn set_reg(&mut self, ty: Type, reg: usize, v: Value) {
        self.op_imm(Op::SetReg, ty, &[v], reg as i64, 0);
    }

    /// The status flags of an arithmetic op.
    pub fn flags_of(&mut self, v: Value) -> Value {
        self.op_imm(Op::FlagsOf, Type::Flags, &[v], rflags::STATUS as i64, 0)
    }

    /// Reads the guest's status flags.
    pub fn get_flags(&mut self) -> Value {
        self.op(Op::GetFlags, Type::Flags, &[])
    }

    /// Writes the guest's status flags.
    pub fn set_flags(&mut self, f: Value) {
        self.op(Op::SetFlags, Type::Void, &[f]);
    }

    /// Tests a condition of flags.
    pub fn test_cc(&mut self, cc: Cc, f: Value) -> Value {
        self.op_imm(Op::TestCc, Type::Bool, &[f], cc as i64, 0)
    }

    /// Reads a state field.
    pub fn get_state(&mut self, field: StateField) -> Value {
        self.op_imm(Op::GetState, field.place().1, &[], field as i64, 0)
    }

    /// A vector operation on two values.
    pub fn vec2(&mut self, ty: Type, op: VecOp, a: Value, b: Value) -> Value {
        self.op_imm(Op::Vec2, ty, &[a, b], 0, op as u32)
    }
}
