//! Operands: effective addresses, loads, stores and write-back, shared by every instruction.
//!
//! Invariant kept here and by the callers: all ops of an instruction that may fault come before the first that
//! writes guest state. Read-modify-write operands load with [`Op::LoadW`], so their write-back cannot fault.

use crate::changing::{Part, Word};
use crate::trace::Trace;
use emu_core::features::Features;
use emu_core::ir::{Block, Cc, Inst, Op, StateField, Type, Value, VecOp, mem_flags};
use emu_core::state::bits::rflags;
use emu_core::state::{Mode, Seg, gpr};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// What follows an instruction in its block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// The next instruction.
    Next,
    /// The instruction at this relative RIP: a trace goes on there.
    At(i64),
    /// Nothing: the terminator has been written.
    End,
}

/// The instruction is left to the interpreter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotLifted;

/// Result of lifting an instruction.
pub(crate) type Lift = Result<Flow, NotLifted>;

/// The status flags as a 64-bit immediate.
pub(crate) const STATUS: i64 = rflags::STATUS as i64;

/// A part of a general register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpr {
    /// Its number as encoded.
    pub num: usize,
    /// Its width.
    pub ty: Type,
    /// AH, CH, DH or BH.
    pub high: bool,
}

impl Gpr {
    /// From the decoder's name; None if it is no general register.
    pub fn from(r: Register) -> Option<Self> {
        use Register as R;
        let n = r as usize;
        let of = |first: Register, ty| Gpr { num: n - first as usize, ty, high: false };
        Some(if r >= R::RAX && r <= R::R15 {
            of(R::RAX, Type::I64)
        } else if r >= R::EAX && r <= R::R15D {
            of(R::EAX, Type::I32)
        } else if r >= R::AX && r <= R::R15W {
            of(R::AX, Type::I16)
        } else if r >= R::AL && r <= R::R15L {
            match n - R::AL as usize {
                k @ 0..=3 => Gpr { num: k, ty: Type::I8, high: false },
                k @ 4..=7 => Gpr { num: k - 4, ty: Type::I8, high: true },
                k => Gpr { num: k - 4, ty: Type::I8, high: false },
            }
        } else {
            return None;
        })
    }
}

/// A linear address with the `aux` of the access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addr {
    pub lin: Value,
    pub aux: u32,
}

/// Where the result of a read-modify-write goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Reg(Gpr),
    /// The `LoadW` that read the old value.
    Mem(Value),
}

/// One instruction being lifted, and the block it goes to.
pub(crate) struct Cx<'a, 't> {
    pub b: &'a mut Block,
    pub i: &'a Instruction,
    /// Its bytes, prefixes included.
    pub bytes: &'a [u8],
    pub mode: Mode,
    pub features: &'a Features,
    /// Limit of CS, for branches outside flat code.
    pub cs_limit: u32,
    pub trace: &'a mut Trace<'t>,
    /// What of it is to be lifted as data.
    pub word: Option<Word>,
    /// See [`crate::Lifter::elide_locks`].
    pub alone: bool,
}

/// The low bits of `v` that a value of type `ty` has.
pub(crate) fn mask(ty: Type, v: u64) -> u64 {
    match ty.bits() {
        0 | 64.. => v,
        n => v & ((1 << n) - 1),
    }
}

impl Cx<'_, '_> {
    /// Appends an op with at most three arguments.
    pub fn op(&mut self, op: Op, ty: Type, args: &[Value]) -> Value {
        self.b.op(op, ty, args)
    }

    /// A constant.
    pub fn konst(&mut self, ty: Type, v: u64) -> Value {
        self.b.iconst(ty, mask(ty, v))
    }

    /// `a << n` for a constant `n` that is not 0 after masking.
    pub fn shl(&mut self, ty: Type, a: Value, n: u32) -> Value {
        let n = self.konst(Type::I8, n.into());
        self.op(Op::Shl, ty, &[a, n])
    }

    /// Logical `a >> n` for a constant `n` that is not 0 after masking.
    pub fn shr(&mut self, ty: Type, a: Value, n: u32) -> Value {
        let n = self.konst(Type::I8, n.into());
        self.op(Op::Shr, ty, &[a, n])
    }

    /// Arithmetic `a >> n` for a constant `n` that is not 0 after masking.
    pub fn sar(&mut self, ty: Type, a: Value, n: u32) -> Value {
        let n = self.konst(Type::I8, n.into());
        self.op(Op::Sar, ty, &[a, n])
    }

    /// `a` zero-extended or truncated from `from` to `to`.
    pub fn resize(&mut self, a: Value, from: Type, to: Type) -> Value {
        match from.bits().cmp(&to.bits()) {
            core::cmp::Ordering::Less => self.op(Op::ZExt, to, &[a]),
            core::cmp::Ordering::Equal => a,
            core::cmp::Ordering::Greater => self.op(Op::Trunc, to, &[a]),
        }
    }

    /// Replaces the status flags by those of the arithmetic op `v`.
    pub fn set_flags_of(&mut self, v: Value) {
        let f = self.b.flags_of(v);
        self.b.set_flags(f);
    }

    /// Flags of `keep` replaced by those of `f` in the mask `bits`.
    pub fn merge(&mut self, bits: i64, f: Value, keep: Value) -> Value {
        self.b.op_imm(Op::MergeFlags, Type::Flags, &[f, keep], bits, 0)
    }

    /// Condition `cc` of the guest's flags.
    pub fn guest_cc(&mut self, cc: Cc) -> Value {
        let f = self.b.get_flags();
        self.b.test_cc(cc, f)
    }

    /// Type of stack pushes: the stack pointer's width.
    pub fn sp_ty(&self) -> Type {
        if self.mode.contains(Mode::CODE64) {
            Type::I64
        } else if self.mode.contains(Mode::STACK32) {
            Type::I32
        } else {
            Type::I16
        }
    }

    /// RIP after this instruction.
    pub fn next_ip(&self) -> u64 {
        self.i.next_ip()
    }

    /// `target` relative to the block key's RIP.
    pub fn rel(&self, target: u64) -> i64 {
        target.wrapping_sub(self.b.key.rip) as i64
    }

    /// Reads a general register.
    pub fn get(&mut self, r: Gpr) -> Value {
        if r.high {
            self.b.op_imm(Op::GetRegHi, Type::I8, &[], r.num as i64, 0)
        } else {
            self.b.get_reg(r.ty, r.num)
        }
    }

    /// Writes a general register.
    pub fn set(&mut self, r: Gpr, v: Value) {
        if r.high {
            self.b.op_imm(Op::SetRegHi, Type::I8, &[v], r.num as i64, 0);
        } else {
            self.b.set_reg(r.ty, r.num, v);
        }
    }

    /// The general register that operand `n` is.
    pub fn gpr(&self, n: u32) -> Result<Gpr, NotLifted> {
        if self.i.op_kind(n) != OpKind::Register {
            return Err(NotLifted);
        }
        Gpr::from(self.i.op_register(n)).ok_or(NotLifted)
    }

    /// Whether operand `n` is in memory (addressed by ModRM or an absolute offset).
    pub fn is_mem(&self, n: u32) -> bool {
        self.i.op_kind(n) == OpKind::Memory
    }

    /// The integer type of operand `n`, a general register or memory.
    pub fn op_ty(&self, n: u32) -> Result<Type, NotLifted> {
        if self.is_mem(n) {
            match self.i.memory_size().size() {
                s @ (1 | 2 | 4 | 8) => Ok(Type::int(s as u32)),
                _ => Err(NotLifted),
            }
        } else {
            Ok(self.gpr(n)?.ty)
        }
    }

    /// Reads operand `n` as `ty`: register, memory or immediate.
    pub fn read(&mut self, n: u32, ty: Type) -> Result<Value, NotLifted> {
        match self.i.op_kind(n) {
            OpKind::Register => {
                let r = self.gpr(n)?;
                Ok(self.get(r))
            }
            OpKind::Memory => {
                let a = self.addr(ty.bytes(), false);
                Ok(self.load(ty, a))
            }
            OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => {
                if let Some(v) = self.word(Part::Immediate, ty) {
                    return Ok(v);
                }
                let v = self.i.immediate(n);
                Ok(self.konst(ty, v))
            }
            _ => Err(NotLifted),
        }
    }

    /// Writes `v` to operand `n`, which has not been read.
    pub fn write(&mut self, n: u32, ty: Type, v: Value) -> Result<(), NotLifted> {
        if self.is_mem(n) {
            let a = self.addr(ty.bytes(), true);
            self.store(ty, a, v);
        } else {
            let r = self.gpr(n)?;
            self.set(r, v);
        }
        Ok(())
    }

    /// Whether the access is locked: a host atomic. XCHG with memory is without being told.
    ///
    /// In user mode on the only vCPU it need not be, but where it is the barrier that is written `lock or [rsp], 0` and the like,
    /// which a driver in user mode may put between its own stores and loads of what a device stores.
    pub fn locks(&self) -> bool {
        let barrier = || self.i.try_immediate(1).is_ok_and(|v| v == 0);
        let needed = !self.alone || self.mode.cpl() < 3 || barrier();
        needed && (self.i.has_lock_prefix() || self.i.mnemonic() == Mnemonic::Xchg)
    }

    /// Reads operand `n` in order to write it back.
    pub fn modify(&mut self, n: u32, ty: Type) -> Result<(Value, Place), NotLifted> {
        if self.is_mem(n) {
            let a = self.addr(ty.bytes(), true);
            let v = self.b.op_imm(Op::LoadW, ty, &[a.lin], 0, a.aux);
            Ok((v, Place::Mem(v)))
        } else {
            let r = self.gpr(n)?;
            Ok((self.get(r), Place::Reg(r)))
        }
    }

    /// Writes the result of a read-modify-write.
    pub fn write_back(&mut self, p: Place, ty: Type, v: Value) {
        match p {
            Place::Reg(r) => self.set(r, v),
            Place::Mem(loaded) => {
                self.op(Op::StoreW, ty, &[loaded, v]);
            }
        }
    }

    /// Loads from memory.
    pub fn load(&mut self, ty: Type, a: Addr) -> Value {
        self.b.op_imm(Op::Load, ty, &[a.lin], 0, a.aux)
    }

    /// Stores to memory.
    pub fn store(&mut self, ty: Type, a: Addr, v: Value) {
        self.b.op_imm(Op::Store, ty, &[a.lin, v], 0, a.aux);
    }

    /// An atomic op on memory; the value is the old one.
    pub fn atomic(&mut self, op: Op, ty: Type, a: Addr, args: &[Value]) -> Value {
        let mut all = [a.lin; 3];
        all[1..=args.len()].copy_from_slice(args);
        self.b.op_imm(op, ty, &all[..=args.len()], 0, a.aux)
    }

    /// The linear address of the memory operand, for an access of `bytes`.
    pub fn addr(&mut self, bytes: u32, write: bool) -> Addr {
        self.addr_plus(bytes, write, 0, None)
    }

    /// The linear address of the memory operand plus `disp` bytes plus the I64 `extra`.
    pub fn addr_plus(&mut self, bytes: u32, write: bool, disp: i64, extra: Option<Value>) -> Addr {
        let seg = self.seg();
        let off = self.offset(disp, extra);
        self.linear(off, seg, bytes, write)
    }

    /// The segment of the memory operand. In 64-bit code only FS and GS are overrides: the base register chooses
    /// between #GP and #SS whatever other prefix stands there.
    pub fn seg(&self) -> Seg {
        match self.i.memory_segment() {
            Register::ES | Register::CS | Register::SS | Register::DS if self.mode.contains(Mode::CODE64) => {
                match self.i.memory_base() {
                    Register::RSP | Register::ESP | Register::RBP | Register::EBP => Seg::SS,
                    _ => Seg::DS,
                }
            }
            Register::ES => Seg::ES,
            Register::CS => Seg::CS,
            Register::SS => Seg::SS,
            Register::FS => Seg::FS,
            Register::GS => Seg::GS,
            _ => Seg::DS,
        }
    }

    /// The address width of the memory operand.
    pub fn addr_ty(&self) -> Type {
        let of = |r: Register| match r {
            Register::RIP => Type::I64,
            Register::EIP => Type::I32,
            r => Gpr::from(r).map_or(Type::I64, |g| g.ty),
        };
        match (self.i.memory_base(), self.i.memory_index()) {
            (Register::None, Register::None) => match self.i.memory_displ_size() {
                2 => Type::I16,
                4 => Type::I32,
                _ if self.mode.contains(Mode::CODE64) => Type::I64,
                _ => Type::I32,
            },
            (Register::None, x) => of(x),
            (b, _) => of(b),
        }
    }

    /// The effective address: the offset within the segment, zero-extended to I64.
    pub fn offset(&mut self, disp: i64, extra: Option<Value>) -> Value {
        let ty = self.addr_ty();
        let word = self.word(Part::Displacement, ty);
        let ip_rel = self.i.is_ip_rel_memory_operand();
        let imm = match word {
            None => self.i.memory_displacement64() as i64,
            Some(_) if ip_rel => self.next_ip() as i64,
            Some(_) => 0,
        };
        let imm = imm.wrapping_add(disp);
        let v = if ip_rel {
            let imm = self.rel(imm as u64);
            let pc = self.b.op_imm(Op::Pc, Type::I64, &[], imm, 0);
            self.resize(pc, Type::I64, ty)
        } else {
            let base = Gpr::from(self.i.memory_base()).map(|r| self.get(r));
            let index = Gpr::from(self.i.memory_index()).map(|r| self.get(r));
            let scale = self.i.memory_index_scale().trailing_zeros();
            match (base, index) {
                (None, None) => self.konst(ty, imm as u64),
                (Some(b), None) if mask(ty, imm as u64) == 0 => b,
                _ => self.lea(ty, base, index, scale, imm),
            }
        };
        let v = match word {
            None => v,
            Some(_) => self.lea(ty, Some(v), word, 0, 0),
        };
        let v = match extra {
            None => v,
            Some(x) => {
                let x = self.resize(x, Type::I64, ty);
                self.lea(ty, Some(v), Some(x), 0, 0)
            }
        };
        self.resize(v, ty, Type::I64)
    }

    /// base + (index << scale) + imm.
    pub fn lea(
        &mut self,
        ty: Type,
        base: Option<Value>,
        index: Option<Value>,
        scale: u32,
        imm: i64,
    ) -> Value {
        let imm = match ty {
            Type::I16 => i64::from(imm as i16),
            Type::I32 => i64::from(imm as i32),
            _ => imm,
        };
        let arg = |v: Option<Value>| v.unwrap_or(Value::NONE);
        let args = [arg(base), arg(index), Value::NONE];
        self.b.push(Inst { op: Op::Lea, ty, aux: scale, args, imm })
    }

    /// The linear address of offset `off` in segment `seg`.
    pub fn linear(&mut self, off: Value, seg: Seg, bytes: u32, write: bool) -> Addr {
        let mut aux = if seg == Seg::SS { mem_flags::STACK } else { 0 };
        let fs_gs = matches!(seg, Seg::FS | Seg::GS);
        if self.mode.contains(Mode::CODE64) {
            if !fs_gs {
                return Addr { lin: off, aux };
            }
            let field = if seg == Seg::FS { StateField::FsBase } else { StateField::GsBase };
            let base = self.b.get_state(field);
            let def = self.b.def(off);
            let lin = match def.op {
                Op::Const => {
                    let imm = def.imm;
                    self.lea(Type::I64, Some(base), None, 0, imm)
                }
                _ => self.lea(Type::I64, Some(base), Some(off), 0, 0),
            };
            return Addr { lin, aux };
        }
        // Nothing can be written through CS.
        if self.mode.contains(Mode::FLAT) && !fs_gs && !(write && seg == Seg::CS) {
            return Addr { lin: off, aux };
        }
        let check = aux
            | if write { mem_flags::WRITE } else { 0 }
            | (seg as u32) << mem_flags::SEG_SHIFT
            | bytes << mem_flags::SIZE_SHIFT;
        aux &= mem_flags::STACK;
        let lin = self.b.op_imm(Op::SegAddr, Type::I64, &[off], 0, check);
        Addr { lin, aux }
    }

    /// The stack pointer.
    pub fn sp(&mut self) -> Value {
        let ty = self.sp_ty();
        self.b.get_reg(ty, gpr::RSP)
    }

    /// Stack pointer plus `delta`.
    pub fn sp_plus(&mut self, delta: i64) -> Value {
        let sp = self.sp();
        let ty = self.sp_ty();
        self.lea(ty, Some(sp), None, 0, delta)
    }

    /// Writes the stack pointer.
    pub fn set_sp(&mut self, v: Value) {
        let ty = self.sp_ty();
        self.b.set_reg(ty, gpr::RSP, v);
    }

    /// The linear address of the stack pointer value `sp`.
    pub fn stack_addr(&mut self, sp: Value, bytes: u32, write: bool) -> Addr {
        let ty = self.sp_ty();
        let off = self.resize(sp, ty, Type::I64);
        self.linear(off, Seg::SS, bytes, write)
    }

    /// Reads vector register `n`.
    pub fn get_vec(&mut self, n: usize) -> Value {
        self.b.op_imm(Op::GetVec, Type::V128, &[], n as i64, 0)
    }

    /// Writes the low half of vector register `n`.
    pub fn set_vec(&mut self, n: usize, v: Value) {
        self.b.op_imm(Op::SetVec, Type::V128, &[v], n as i64, 0);
    }

    /// A vector operation on one value.
    pub fn vec1(&mut self, ty: Type, op: VecOp, a: Value, imm: i64) -> Value {
        self.b.op_imm(Op::Vec1, ty, &[a], imm, op as u32)
    }

    /// A vector operation on two values.
    pub fn vec2(&mut self, op: VecOp, a: Value, b: Value, imm: i64) -> Value {
        self.b.op_imm(Op::Vec2, Type::V128, &[a, b], imm, op as u32)
    }
}
