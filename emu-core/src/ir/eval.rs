//! The evaluator: executes a block on a processor exactly by the text of [`super::ops`]. It is what translated code is
//! held against, and what says whether lifting or emitting is wrong.

use super::block::{Block, Inst, Value};
use super::encoded::ENCODED;
use super::eval_fp;
use super::eval_int::{self, Ints};
use super::eval_vec;
use super::ops::{Cc, Op, StateField, SystemKind, Type, mem_flags};
use super::vecop::VecOp;
use crate::addr::{PAGE_MASK, PAGE_SIZE};
use crate::cpu::Cpu;
use crate::fault::{Exception, Vector};
use crate::mem::Frame;
use crate::mmu::{Access, Priv};
use crate::signals::request;
use crate::state::bits::{cr4, rflags};
use crate::state::segment::attr;
use crate::state::{Mode, Seg};

#[path = "eval_string.rs"]
mod string;
#[path = "eval_x87_ops.rs"]
mod x87_ops;

/// How a block ended. The processor's RIP names where to go on, and its instruction count is up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At this RIP.
    Goto(u64),
    /// The interpreter has to execute the instruction at RIP: it is not translated, or it stores into decoded bytes.
    Interpret,
    /// The instruction at RIP faults; nothing of it has happened (but for completed elements of a string
    /// instruction).
    Fault(Exception),
    /// The block holds an operation that is not evaluated (named by its encoding). Nothing has happened.
    Unsupported(Op),
}

/// Executes `block` on `cpu`.
pub fn eval(block: &Block, cpu: &mut Cpu) -> End {
    if let Some(i) = block.insts.iter().find(|i| unknown(i)) {
        return End::Unsupported(i.op);
    }
    let mut e = Eval { block, cpu, vals: vec![[0; 4]; block.insts.len()], marker: 0, started: 0 };
    for at in 0..block.insts.len() {
        match e.inst(at) {
            Ok(None) => {}
            Ok(Some(end)) => return end,
            Err(Stop::Code) => {
                e.cpu.state.rip = e.rip(e.marker);
                e.cpu.state.icount += e.started - 1;
                return End::Interpret;
            }
            Err(Stop::Fault(x)) => {
                e.cpu.state.rip = e.rip(e.marker);
                e.cpu.state.icount += e.started - 1;
                return End::Fault(x);
            }
        }
    }
    unreachable!("the verifier demands a terminator")
}

/// Whether the evaluator does not know an op.
fn unknown(i: &Inst) -> bool {
    match i.op {
        Op::Fp => !eval_fp::knows(i.aux, i.ty),
        Op::Vec1 | Op::Vec2 | Op::Vec3 => i.aux & ENCODED != 0,
        _ => false,
    }
}

/// Why a guest instruction does not complete.
enum Stop {
    /// It faults.
    Fault(Exception),
    /// The interpreter has to execute it: it would store into decoded bytes, perhaps those of this block.
    Code,
}

impl From<Exception> for Stop {
    fn from(x: Exception) -> Self {
        Self::Fault(x)
    }
}

struct Eval<'a> {
    block: &'a Block,
    cpu: &'a mut Cpu,
    /// By index of the instruction: integers and flags in the first quadword.
    vals: Vec<[u64; 4]>,
    /// Relative RIP of the last marker.
    marker: i64,
    /// Markers seen.
    started: u64,
}

impl Eval<'_> {
    fn rip(&self, rel: i64) -> u64 {
        self.block.key.rip.wrapping_add(rel as u64)
    }

    fn int(&self, i: &Inst, n: usize) -> u64 {
        let v = i.args[n];
        if v.is_some() { self.vals[v.index()][0] } else { 0 }
    }

    fn ty(&self, v: Value) -> Type {
        self.block.def(v).result()
    }

    fn leave(&mut self, rip: u64, completed: u64) -> Option<End> {
        self.cpu.state.rip = rip;
        self.cpu.state.icount += completed;
        Some(End::Goto(rip))
    }

    fn inst(&mut self, at: usize) -> Result<Option<End>, Stop> {
        use Op::*;
        let i = self.block.insts[at];
        let ty = i.ty;
        let (a, b, c) = (self.int(&i, 0), self.int(&i, 1), self.int(&i, 2));
        let done = u64::from(self.block.guest_insns);
        let v = match i.op {
            Guest => {
                self.marker = i.imm;
                self.started += 1;
                0
            }
            Const => ty.truncate(i.imm as u64),
            Pc => self.rip(i.imm),
            CodeWord => {
                let mut bytes = [0; 8];
                let at = self.block.key.phys.wrapping_add(i.imm as u64);
                // Where there is no memory there was no code.
                let _ = self.cpu.mem.read(at, &mut bytes[..ty.bytes() as usize]);
                u64::from_le_bytes(bytes)
            }
            ZExt => a,
            SExt => ty.truncate(self.ty(i.args[0]).signed(a) as u64),
            Trunc => ty.truncate(a),
            DivU | RemU | DivS | RemS => {
                eval_int::divide(i.op, ty, a, b, c).ok_or(Exception::new(Vector::DE))?
            }
            CmpEq | CmpNe | CmpUlt | CmpUle | CmpSlt | CmpSle => {
                eval_int::compare(i.op, self.ty(i.args[0]), a, b).into()
            }
            NotBool => a ^ 1,
            Lea => ty.truncate(a.wrapping_add(b << i.aux).wrapping_add(i.imm as u64)),
            FlagsOf => {
                let f = self.flags_of(i.args[0]);
                let wanted = i.imm as u64;
                // What nobody may read is made wrong on purpose.
                f & wanted | !f & !wanted & rflags::STATUS
            }
            MergeFlags => a & i.imm as u64 | b & !(i.imm as u64),
            SelectFlags => {
                if a != 0 {
                    b
                } else {
                    c
                }
            }
            TestCc => Cc::ALL[i.imm as usize].holds(a as u32).into(),
            PackFlags => a & rflags::STATUS,
            UnpackFlags => a & rflags::STATUS,
            Select | Load | LoadW | Store | StoreW | Vec1 | Vec2 | Vec3 | Fp | GetVec | SetVec
            | SetVecZero => {
                return self.wide(at, &i).map(|()| None);
            }
            GetReg | SetReg | GetRegHi | SetRegHi | GetFlags | SetFlags | GetState | SetState => {
                self.state(&i, a)
            }
            SegAddr => self.seg_addr(a, i.aux)?,
            CheckAlign => {
                if a % i.imm as u64 != 0 {
                    return Err(Exception::gp0().into());
                }
                0
            }
            AtomicAdd | AtomicAnd | AtomicOr | AtomicXor | AtomicXchg | AtomicCas => self.atomic(&i)?,
            Fence => 0,
            X87 => self.x87(&i, a)?,
            X87Mem => {
                self.x87_mem(&i, a, b)?;
                0
            }
            System => {
                self.system(&i);
                0
            }
            ReadTsc => self.read_tsc(i.imm)?,
            ZeroUpper => {
                self.cpu.state.vec[..i.imm as usize].iter_mut().for_each(|v| v.0[2..].fill(0));
                0
            }
            RepString => self.rep_string(&i, a, b)?,
            RepSkip => {
                self.rep_skip(&i, a, b)?;
                0
            }
            ExitIf => {
                if a != 0 {
                    let to = if i.args[1].is_some() { b } else { self.rip(i.imm) };
                    return Ok(self.leave(to, self.started));
                }
                0
            }
            Goto => return Ok(self.leave(self.rip(i.imm), done)),
            Branch => {
                let to = if a != 0 { i.imm } else { i64::from(i.aux as i32) };
                return Ok(self.leave(self.rip(to), done));
            }
            GotoReg => return Ok(self.leave(a, done)),
            InterpretIf => {
                if a != 0 {
                    return Err(Stop::Code);
                }
                0
            }
            Transfer => return Err(Stop::Code),
            Interpret => {
                self.leave(self.rip(i.imm), done);
                return Ok(Some(End::Interpret));
            }
            _ => eval_int::value(i.op, ty, self.ints(&i)),
        };
        self.vals[at][0] = v;
        Ok(None)
    }

    /// Arguments of an integer op; its flags come last.
    fn ints(&self, i: &Inst) -> Ints {
        let flags = match i.op {
            Op::Clz | Op::Ctz => self.int(i, 1),
            _ => self.int(i, 2),
        };
        Ints { a: self.int(i, 0), b: self.int(i, 1), flags }
    }

    fn flags_of(&self, v: Value) -> u64 {
        let d = self.block.def(v);
        eval_int::flags(d.op, d.ty, self.ints(d))
    }

    /// Ops on values of any width.
    fn wide(&mut self, at: usize, i: &Inst) -> Result<(), Stop> {
        use Op::*;
        let arg = |n: usize| {
            let v = i.args[n];
            if v.is_some() { self.vals[v.index()] } else { [0; 4] }
        };
        let (a, b, c) = (arg(0), arg(1), arg(2));
        let stack = i.aux & mem_flags::STACK != 0;
        let reg = i.imm as usize;
        self.vals[at] = match i.op {
            Select => {
                if a[0] != 0 {
                    b
                } else {
                    c
                }
            }
            Load => self.load(i.ty, a[0], stack)?,
            LoadW => {
                self.check_write(a[0], i.ty.bytes() as usize, stack)?;
                self.load(i.ty, a[0], stack)?
            }
            Store => {
                self.store(i.ty, a[0], b, stack)?;
                b
            }
            StoreW => {
                let addr = self.block.def(i.args[0]);
                let lin = self.int(addr, 0);
                self.put(i.ty, lin, b, addr.aux & mem_flags::STACK != 0)?;
                b
            }
            GetVec => {
                let q = &self.cpu.state.vec[reg].0;
                let high = i.ty == Type::V256;
                [q[0], q[1], if high { q[2] } else { 0 }, if high { q[3] } else { 0 }]
            }
            SetVec | SetVecZero => {
                let n = i.ty.bytes() as usize / 8;
                let q = &mut self.cpu.state.vec[reg].0;
                q[..n].copy_from_slice(&a[..n]);
                if i.op == SetVecZero {
                    q[n..].fill(0);
                }
                a
            }
            Fp => {
                let from = if i.args[1].is_some() { self.ty(i.args[1]) } else { i.ty };
                let (v, flags) = eval_fp::fp(i.aux, i.ty, from, i.imm, [a, b, c], self.cpu.state.mxcsr);
                self.cpu.state.mxcsr |= flags;
                v
            }
            _ => {
                let op = VecOp::from_number(i.aux).expect("the verifier demands a vector operation");
                let from = |n: usize| if i.args[n].is_some() { self.ty(i.args[n]) } else { i.ty };
                // Shifts by an immediate take it where the others take b.
                let b = if i.op == Vec1 { [i.imm as u64, 0, 0, 0] } else { b };
                eval_vec::eval(op, i.ty, [from(0), from(1)], i.imm, a, b, c)
            }
        };
        Ok(())
    }

    fn load(&mut self, ty: Type, lin: u64, stack: bool) -> Result<[u64; 4], Exception> {
        let mut v = [0; 4];
        match ty {
            Type::I8 => v[0] = self.cpu.load::<1>(lin, stack)?,
            Type::I16 => v[0] = self.cpu.load::<2>(lin, stack)?,
            Type::I32 => v[0] = self.cpu.load::<4>(lin, stack)?,
            Type::I64 => v[0] = self.cpu.load::<8>(lin, stack)?,
            _ => {
                self.cpu.within_half(lin, ty.bytes() as usize, stack)?;
                for (n, q) in v[..ty.bytes() as usize / 8].iter_mut().enumerate() {
                    *q = self.cpu.load::<8>(lin.wrapping_add(8 * n as u64), stack)?;
                }
            }
        }
        Ok(v)
    }

    /// The faults of a write of up to a page, and whether it would fall on decoded bytes.
    fn check_write(&mut self, lin: u64, size: usize, stack: bool) -> Result<(), Stop> {
        self.cpu.probe_write(lin, size, Priv::Current, stack)?;
        let first = (PAGE_SIZE - (lin & PAGE_MASK)).min(size as u64);
        let mut decoded = self.decoded(lin, first, stack)?;
        if first < size as u64 {
            decoded |= self.decoded(lin.wrapping_add(first), size as u64 - first, stack)?;
        }
        if decoded { Err(Stop::Code) } else { Ok(()) }
    }

    /// Whether bytes within one page, which may be written, have been decoded.
    fn decoded(&mut self, lin: u64, size: u64, stack: bool) -> Result<bool, Exception> {
        let t = self.cpu.translate(lin, Access::Write, Priv::Current, stack)?;
        let Frame::Ram(_, index) = t.frame else { return Ok(false) };
        Ok(self.cpu.decoded_chunks(t.gpa, size as usize, index) != 0)
    }

    fn store(&mut self, ty: Type, lin: u64, v: [u64; 4], stack: bool) -> Result<(), Stop> {
        self.check_write(lin, ty.bytes() as usize, stack)?;
        self.put(ty, lin, v, stack)
    }

    /// Stores where writing has been checked.
    fn put(&mut self, ty: Type, lin: u64, v: [u64; 4], stack: bool) -> Result<(), Stop> {
        match ty {
            Type::I8 => self.cpu.store::<1>(lin, v[0], stack)?,
            Type::I16 => self.cpu.store::<2>(lin, v[0], stack)?,
            Type::I32 => self.cpu.store::<4>(lin, v[0], stack)?,
            Type::I64 => self.cpu.store::<8>(lin, v[0], stack)?,
            _ => {
                for (n, q) in v[..ty.bytes() as usize / 8].iter().enumerate() {
                    self.cpu.store::<8>(lin.wrapping_add(8 * n as u64), *q, stack)?;
                }
            }
        }
        Ok(())
    }

    fn state(&mut self, i: &Inst, a: u64) -> u64 {
        let s = &mut self.cpu.state;
        let r = i.imm as usize;
        match i.op {
            Op::GetReg => return i.ty.truncate(s.gpr[r]),
            Op::SetReg => set_reg(&mut s.gpr[r], i.ty, a),
            Op::GetRegHi => return s.gpr[r] >> 8 & 0xff,
            Op::SetRegHi => s.gpr[r] = s.gpr[r] & !0xff00 | a << 8,
            Op::GetFlags => return s.rflags & rflags::STATUS,
            Op::SetFlags => s.rflags = s.rflags & !rflags::STATUS | a,
            _ => {
                let f = StateField::from_number(i.imm).expect("the verifier demands a field");
                return self.field(f, (i.op == Op::SetState).then_some(a));
            }
        }
        a
    }

    fn system(&mut self, i: &Inst) {
        let cpu = &mut *self.cpu;
        match SystemKind::from_number(i.imm).expect("the verifier demands a kind") {
            SystemKind::EnableInterrupts => {
                cpu.state.rflags |= rflags::IF;
                if std::mem::take(&mut cpu.state.intr_withheld) {
                    cpu.signals.raise(request::INTR);
                }
            }
            SystemKind::DisableInterrupts => cpu.state.rflags &= !rflags::IF,
            SystemKind::AllowUser => {
                cpu.state.rflags |= rflags::AC;
                cpu.select_tlb();
            }
            SystemKind::ForbidUser => {
                cpu.state.rflags &= !rflags::AC;
                cpu.select_tlb();
            }
            SystemKind::SwapGs => {
                let s = &mut cpu.state;
                std::mem::swap(&mut s.seg[Seg::GS as usize].base, &mut s.msr.kernel_gs_base);
            }
        }
    }

    fn read_tsc(&mut self, what: i64) -> Result<u64, Stop> {
        if what == 1 {
            return Ok(self.cpu.state.msr.tsc_aux);
        }
        let s = &self.cpu.state;
        if s.cpl() != 0 && s.cr4 & cr4::TSD != 0 {
            return Err(Exception::gp0().into());
        }
        Ok(self.cpu.tsc())
    }

    fn field(&mut self, f: StateField, set: Option<u64>) -> u64 {
        use StateField::*;
        let s = &mut self.cpu.state;
        let word = match f {
            EsBase | CsBase | SsBase | DsBase | FsBase | GsBase => &mut s.seg[f as usize].base,
            RflagsSystem => {
                if let Some(v) = set {
                    s.rflags = s.rflags & !rflags::DF | v & rflags::DF;
                }
                return s.rflags;
            }
            Mxcsr => {
                if let Some(v) = set {
                    s.mxcsr = v as u32;
                }
                return s.mxcsr.into();
            }
            Cr0 => &mut s.cr0,
            Cr2 => &mut s.cr2,
            Cr3 => &mut s.cr3,
            Cr4 => &mut s.cr4,
            Pkru => return s.pkru.into(),
            EsSel | CsSel | SsSel | DsSel | FsSel | GsSel => {
                return s.seg[f as usize - EsSel as usize].sel.into();
            }
        };
        if let Some(v) = set {
            *word = v;
        }
        *word
    }

    /// Segment checks outside 64-bit code (SDM vol. 3A, 5.3 to 5.5).
    fn seg_addr(&self, offset: u64, aux: u32) -> Result<u64, Exception> {
        let s = &self.cpu.state;
        let seg = &s.seg[(aux >> mem_flags::SEG_SHIFT & 7) as usize];
        let size = u64::from(aux >> mem_flags::SIZE_SHIFT).max(1);
        let code = seg.attr & attr::CODE != 0;
        let rw = seg.attr & attr::RW != 0;
        let right = !s.mode.contains(Mode::PROT)
            || seg.present() && if aux & mem_flags::WRITE != 0 { !code && rw } else { !code || rw };
        let last = offset + size - 1;
        let limit = u64::from(seg.limit);
        let inside = if seg.attr & (attr::CODE | attr::EC) == attr::EC {
            let top = if seg.attr & attr::DB != 0 { 0xffff_ffff } else { 0xffff };
            offset > limit && last <= top
        } else {
            // A 4 GiB segment wraps.
            last <= limit || seg.limit == u32::MAX
        };
        if right && inside {
            Ok(seg.base.wrapping_add(offset) & 0xffff_ffff)
        } else if aux & mem_flags::STACK != 0 {
            Err(Exception::ss0())
        } else {
            Err(Exception::gp0())
        }
    }

    fn atomic(&mut self, i: &Inst) -> Result<u64, Stop> {
        let (lin, b, c) = (self.int(i, 0), self.int(i, 1), self.int(i, 2));
        let stack = i.aux & mem_flags::STACK != 0;
        self.check_write(lin, i.ty.bytes() as usize, stack)?;
        let old = self.load(i.ty, lin, stack)?[0];
        let new = match i.op {
            Op::AtomicAdd => old.wrapping_add(b),
            Op::AtomicAnd => old & b,
            Op::AtomicOr => old | b,
            Op::AtomicXor => old ^ b,
            Op::AtomicXchg => b,
            _ => {
                if old == b {
                    c
                } else {
                    old
                }
            }
        };
        self.put(i.ty, lin, [i.ty.truncate(new), 0, 0, 0], stack)?;
        Ok(old)
    }
}

/// Writes a register as instructions of that width do.
fn set_reg(r: &mut u64, ty: Type, v: u64) {
    *r = match ty {
        Type::I64 => v,
        Type::I32 => v & 0xffff_ffff,
        Type::I16 => *r & !0xffff | v & 0xffff,
        _ => *r & !0xff | v & 0xff,
    };
}
