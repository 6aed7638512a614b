//! The verifier: whether a block keeps the invariants of [`super`] and the type rules of its ops.
//!
//! It runs after lifting and after every pass in debug builds and tests.

use super::block::{Block, Inst, Value};
use super::encoded::Encoded;
use super::ops::{ArgRule, BrKind, Cc, Class, Op, StateField, SystemKind, TransferKind, Type};
use super::vecop::VecOp;
use super::x87;
use crate::addr::PAGE_SIZE;
use crate::state::bits::rflags;

/// What is wrong with a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IR instruction {at}: {why}")]
pub struct VerifyError {
    /// Index of the instruction.
    pub at: usize,
    /// The broken rule.
    pub why: String,
}

impl Inst {
    /// The type of the value it defines; [`Type::Void`] if it defines none.
    pub const fn result(&self) -> Type {
        use Op::*;
        match self.op {
            SetReg | SetRegHi | SetFlags | SetState | SetVec | SetVecZero | Store | StoreW | Guest
            | X87Mem | ZeroUpper | CheckAlign | Fence | System | ExitIf | Goto | Branch | GotoReg
            | Transfer | InterpretIf | Interpret => Type::Void,
            _ => self.ty,
        }
    }
}

impl Block {
    /// The constant that `v` is, truncated to its type.
    pub fn as_const(&self, v: Value) -> Option<u64> {
        let i = self.insts.get(v.index())?;
        (i.op == Op::Const).then(|| i.ty.truncate(i.imm as u64))
    }
}

impl Type {
    /// The low bits of `v` that a value of this type (an integer or `Bool`) has.
    #[inline]
    pub const fn truncate(self, v: u64) -> u64 {
        match self.bits() {
            0 | 64.. => v,
            n => v & ((1 << n) - 1),
        }
    }

    /// `v`, a value of this integer type, as a signed number.
    #[inline]
    pub const fn signed(self, v: u64) -> i64 {
        let n = 64 - self.bits();
        ((v << n) as i64) >> n
    }
}

impl StateField {
    /// Every field, in order of its number.
    pub const ALL: [StateField; 19] = {
        use StateField::*;
        [
            EsBase,
            CsBase,
            SsBase,
            DsBase,
            FsBase,
            GsBase,
            RflagsSystem,
            Mxcsr,
            Cr0,
            Cr2,
            Cr3,
            Cr4,
            Pkru,
            EsSel,
            CsSel,
            SsSel,
            DsSel,
            FsSel,
            GsSel,
        ]
    };

    /// The field with number `n`.
    pub fn from_number(n: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(n).ok()?).copied()
    }
}

/// Checks a block.
///
/// # Errors
/// The first broken rule.
pub fn verify(block: &Block) -> Result<(), VerifyError> {
    let mut v = Verifier { block, marker: 0, written: None };
    for at in 0..block.insts.len() {
        v.inst(at).map_err(|why| VerifyError { at, why })?;
    }
    let last = block.insts.len().wrapping_sub(1);
    match block.insts.last() {
        Some(i) if i.op.is_terminator() => Ok(()),
        _ => Err(VerifyError { at: last, why: "the block has no terminator".into() }),
    }
}

struct Verifier<'a> {
    block: &'a Block,
    /// The last `Guest`.
    marker: usize,
    /// The first write of guest state or memory behind the marker.
    written: Option<usize>,
}

macro_rules! need {
    ($cond:expr, $($why:tt)*) => {
        if !$cond {
            return Err(format!($($why)*));
        }
    };
}

impl Verifier<'_> {
    fn inst(&mut self, at: usize) -> Result<(), String> {
        let i = &self.block.insts[at];
        need!(at != 0 || i.op == Op::Guest, "the first instruction is not a marker");
        need!(!i.op.is_terminator() || at + 1 == self.block.insts.len(), "a terminator inside the block");
        self.args(at, i)?;
        types(self.block, i)?;
        match i.op.class() {
            Class::Marker => {
                self.marker = at;
                self.written = None;
            }
            Class::Faulting => self.may_fault()?,
            Class::FaultingWrite => {
                self.may_fault()?;
                self.written = Some(at);
            }
            // FWAIT writes nothing: with an error pending, the interpreter begins the instruction anew.
            Class::WriteState if i.op == Op::X87 && i.aux == x87::WAIT => {}
            Class::WriteState | Class::MemWrite => self.written = self.written.or(Some(at)),
            Class::Pure | Class::ReadState | Class::SideExit | Class::Terminator => {}
        }
        Ok(())
    }

    fn may_fault(&self) -> Result<(), String> {
        match self.written {
            None => Ok(()),
            Some(w) => Err(format!("may fault behind the write at {w} of the same guest instruction")),
        }
    }

    fn args(&self, at: usize, i: &Inst) -> Result<(), String> {
        let rules = i.op.args();
        for (n, &a) in i.args.iter().enumerate() {
            let Some(&rule) = rules.get(n) else {
                need!(!a.is_some(), "argument {n} is one too many");
                continue;
            };
            if !a.is_some() {
                need!(self.may_lack(at, i, n), "argument {n} is missing");
                continue;
            }
            need!(a.index() < at, "argument {n} is defined later");
            let ty = self.block.def(a).result();
            let ok = match rule {
                ArgRule::T => ty == i.ty,
                ArgRule::Int => ty.is_int(),
                ArgRule::I8 => ty == Type::I8,
                ArgRule::I32 => ty == Type::I32,
                ArgRule::I64 => ty == Type::I64,
                ArgRule::Bool => ty == Type::Bool,
                ArgRule::Flags => ty == Type::Flags,
                ArgRule::Vec => matches!(ty, Type::V128 | Type::V256),
                ArgRule::Any => ty != Type::Void,
            };
            need!(ok, "argument {n} has type {ty:?}, which {rule:?} with {:?} does not allow", i.ty);
        }
        if i.op == Op::StoreW {
            let d = self.block.def(i.args[0]);
            need!(d.op == Op::LoadW && d.ty == i.ty, "does not name a LoadW of its width");
            need!(i.args[0].index() > self.marker, "names a LoadW of another guest instruction");
        }
        Ok(())
    }

    /// Whether argument `n` may be absent: see [`super::ops`].
    fn may_lack(&self, at: usize, i: &Inst, n: usize) -> bool {
        use Op::*;
        let asked = || {
            self.block.insts[at..].iter().any(|u| u.op == FlagsOf && u.imm != 0 && u.args[0].index() == at)
        };
        match i.op {
            Lea => true,
            Fp => n != 0,
            X87 => true,
            ExitIf => n == 1,
            Shl | Shr | Sar if n == 2 => {
                let mask = if i.ty == Type::I64 { 63 } else { 31 };
                self.block.as_const(i.args[1]).is_some_and(|k| k & mask != 0) || !asked()
            }
            Rol | Ror | BitTest => n == 2 && !asked(),
            Clz | Ctz => n == 1 && !asked(),
            _ => false,
        }
    }
}

/// Rules on the instruction's own type, immediate and auxiliary.
fn types(block: &Block, i: &Inst) -> Result<(), String> {
    use Op::*;
    let arg = |n: usize| block.def(i.args[n]);
    let int = i.ty.is_int();
    let vec = matches!(i.ty, Type::V128 | Type::V256);
    let below = |n: i64| (0..n).contains(&i.imm);
    match i.op {
        GetReg | SetReg => need!(int && below(16), "no such register"),
        GetRegHi | SetRegHi => need!(i.ty == Type::I8 && below(4), "no such register"),
        GetVec | SetVec | SetVecZero => need!(vec && below(32), "no such register"),
        GetState | SetState => {
            let f = StateField::from_number(i.imm).ok_or("no such field")?;
            need!(f.place().1 == i.ty, "{f:?} has another type");
            let fixed = matches!(f, StateField::Cr0 | StateField::Cr3 | StateField::Cr4 | StateField::Pkru)
                || f as u8 >= StateField::EsSel as u8;
            need!(i.op == GetState || !fixed, "{f:?} is read only");
        }
        Const => need!(int || i.ty == Type::Bool, "a constant is an integer"),
        CodeWord => {
            need!(int, "is not an integer");
            let at = block.key.phys.offset().wrapping_add(i.imm as u64);
            need!(
                i.imm >= 0 && at + u64::from(i.ty.bytes()) <= PAGE_SIZE,
                "is not in the block's first page"
            );
        }
        Pc => need!(i.ty == Type::I64, "a program counter has 64 bits"),
        GetFlags | FlagsOf | MergeFlags | SelectFlags | UnpackFlags => {
            need!(i.ty == Type::Flags, "is not of type Flags");
            need!(i.op != FlagsOf || arg(0).op.sets_flags(), "{} sets no flags", arg(0).op.name());
            let masked = matches!(i.op, FlagsOf | MergeFlags);
            need!(!masked || i.imm & !(rflags::STATUS as i64) == 0, "mask {:#x} has other bits", i.imm);
        }
        PackFlags => need!(i.ty == Type::I32, "is not of type I32"),
        TestCc => need!(i.ty == Type::Bool && below(Cc::ALL.len() as i64), "no such condition"),
        Add | Sub | Adc | Sbb | And | Or | Xor | Not | Neg | Mul | MulHiU | MulHiS | Shl | Shr | Sar
        | Rol | Ror | Rcl | Rcr | BitTest | Clz | Ctz | Popcnt | DivU | RemU | DivS | RemS | AtomicAdd
        | AtomicAnd | AtomicOr | AtomicXor | AtomicXchg | AtomicCas => need!(int, "is not an integer"),
        Adcx | Adox => need!(matches!(i.ty, Type::I32 | Type::I64), "cannot be of type {:?}", i.ty),
        Bswap => need!(int && i.ty != Type::I8, "cannot be of type {:?}", i.ty),
        Lea => need!(int && i.ty != Type::I8 && i.aux < 4, "cannot be of type {:?}", i.ty),
        ZExt => {
            let from = arg(0).result();
            let ok = int && (from.is_int() || from == Type::Bool) && from.bits() < i.ty.bits();
            need!(ok, "extends {from:?} to {:?}", i.ty);
        }
        SExt => need!(int && arg(0).ty.bits() < i.ty.bits(), "extends {:?} to {:?}", arg(0).ty, i.ty),
        Trunc => need!(int && arg(0).ty.bits() > i.ty.bits(), "truncates {:?} to {:?}", arg(0).ty, i.ty),
        CmpEq | CmpNe | CmpUlt | CmpUle | CmpSlt | CmpSle => {
            let (a, b) = (arg(0).result(), arg(1).result());
            need!(i.ty == Type::Bool && a == b, "compares {a:?} with {b:?}");
        }
        NotBool | RepString => need!(i.ty == Type::Bool, "is not of type Bool"),
        System => need!(SystemKind::from_number(i.imm).is_some(), "no such change of state"),
        SegAddr | ReadTsc => need!(i.ty == Type::I64, "is not of type I64"),
        CheckAlign => need!(i.imm > 0, "alignment {}", i.imm),
        Load | LoadW | Store | StoreW | Select => need!(int || vec, "cannot be of type {:?}", i.ty),
        Vec1 | Vec2 | Vec3 | Fp => {
            let known = VecOp::from_number(i.aux).is_some() || Encoded::from_aux(i.aux).is_some();
            need!(known, "no such vector operation");
        }
        RepSkip => need!(i.ty == Type::Void, "is not of type Void"),
        ZeroUpper => need!(below(17), "no such registers"),
        X87 => need!(matches!(i.ty, Type::Void | Type::Flags | Type::I16), "cannot be of type {:?}", i.ty),
        X87Mem => need!(i.ty == Type::Void && x87::memory(i.aux), "is no x87 operation on memory"),
        GotoReg => need!(i.aux <= BrKind::Ret as u32, "no such kind"),
        Transfer => need!(TransferKind::from_number(i.imm).is_some(), "no such transfer"),
        Guest | SetFlags | Fence | InterpretIf | ExitIf | Goto | Branch | Interpret => {}
    }
    Ok(())
}
