//! The op list: for each op its type rule, semantics, traps and observers.
//!
//! Notation: `a`, `b`, `c` are the arguments, `imm` the 64-bit immediate, `aux` the 32-bit auxiliary, `ty` the type
//! stored with the instruction, which is the result's type and the operation's width unless the row says otherwise.
//! Integers are unsigned bit patterns of their width; an operation wraps at its width.
//!
//! A `Flags` argument c that only passes flags on may be absent ([`super::Value::NONE`]) where nothing can come of
//! it: for `Shl`, `Shr` and `Sar` by a constant whose masked count is not 0, and for `Rol`, `Ror`, `BitTest`, `Clz`,
//! `Ctz` and the shifts by any count when no `FlagsOf` with a mask other than 0 names the instruction. `Adc`, `Sbb`,
//! `Adcx`, `Adox`, `Rcl` and `Rcr` always have theirs, since they compute with its CF or OF.

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Type {
    /// No value.
    Void,
    /// A truth value, 0 or 1.
    Bool,
    /// 8-bit integer.
    I8,
    /// 16-bit integer.
    I16,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// The six status flags as one value: CF, PF, AF, ZF, SF, OF.
    Flags,
    /// 128 bits.
    V128,
    /// 256 bits.
    V256,
}

impl Type {
    /// Width in bits; 1 for `Bool`, 0 for `Void` and `Flags`.
    pub const fn bits(self) -> u32 {
        match self {
            Type::Void | Type::Flags => 0,
            Type::Bool => 1,
            Type::I8 => 8,
            Type::I16 => 16,
            Type::I32 => 32,
            Type::I64 => 64,
            Type::V128 => 128,
            Type::V256 => 256,
        }
    }

    /// Width in bytes of a memory access of this type.
    pub const fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// I8 to I64.
    pub const fn is_int(self) -> bool {
        matches!(self, Type::I8 | Type::I16 | Type::I32 | Type::I64)
    }

    /// The integer type of `bytes` 1, 2, 4 or 8.
    pub const fn int(bytes: u32) -> Self {
        match bytes {
            1 => Type::I8,
            2 => Type::I16,
            4 => Type::I32,
            _ => Type::I64,
        }
    }
}

/// An x86 condition code, numbered as Jcc encodes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Cc {
    O,
    NO,
    B,
    AE,
    E,
    NE,
    BE,
    A,
    S,
    NS,
    P,
    NP,
    L,
    GE,
    LE,
    G,
}

impl Cc {
    /// All codes in order of encoding.
    pub const ALL: [Cc; 16] = {
        use Cc::*;
        [O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G]
    };

    /// The opposite condition.
    pub const fn invert(self) -> Self {
        Self::ALL[self as usize ^ 1]
    }

    /// The flags it reads, as RFLAGS bits.
    pub const fn reads(self) -> u32 {
        use crate::state::bits::rflags::{CF, OF, PF, SF, ZF};
        let bits = match self as u8 >> 1 {
            0 => OF,
            1 => CF,
            2 => ZF,
            3 => CF | ZF,
            4 => SF,
            5 => PF,
            6 => SF | OF,
            _ => SF | OF | ZF,
        };
        bits as u32
    }

    /// Whether the condition holds for `flags` in RFLAGS positions.
    pub const fn holds(self, flags: u32) -> bool {
        use crate::state::bits::rflags as f;
        let f64 = flags as u64;
        let (cf, pf, zf, sf, of) =
            (f64 & f::CF != 0, f64 & f::PF != 0, f64 & f::ZF != 0, f64 & f::SF != 0, f64 & f::OF != 0);
        let base = match self as u8 >> 1 {
            0 => of,
            1 => cf,
            2 => zf,
            3 => cf || zf,
            4 => sf,
            5 => pf,
            6 => sf != of,
            _ => zf || sf != of,
        };
        base != (self as u8 & 1 == 1)
    }
}

/// State outside the general and vector registers that blocks read or write directly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum StateField {
    /// Segment bases, I64.
    EsBase,
    /// See [`StateField::EsBase`].
    CsBase,
    /// See [`StateField::EsBase`].
    SsBase,
    /// See [`StateField::EsBase`].
    DsBase,
    /// See [`StateField::EsBase`].
    FsBase,
    /// See [`StateField::EsBase`].
    GsBase,
    /// The whole of RFLAGS except that the six status flags are unspecified, I64. Written only with the status bits
    /// as read; only DF may change through it.
    RflagsSystem,
    /// MXCSR, I32.
    Mxcsr,
    /// CR0, I64, read only.
    Cr0,
    /// CR2, I64.
    Cr2,
    /// CR3, I64, read only.
    Cr3,
    /// CR4, I64, read only.
    Cr4,
    /// PKRU, I32, read only.
    Pkru,
    /// Selector of a segment register, I16, read only.
    EsSel,
    /// See [`StateField::EsSel`].
    CsSel,
    /// See [`StateField::EsSel`].
    SsSel,
    /// See [`StateField::EsSel`].
    DsSel,
    /// See [`StateField::EsSel`].
    FsSel,
    /// See [`StateField::EsSel`].
    GsSel,
}

impl StateField {
    /// (byte offset in [`crate::state::CpuState`], type).
    pub const fn place(self) -> (usize, Type) {
        use crate::state::{CpuState, SegReg};
        use core::mem::{offset_of, size_of};
        const fn seg(i: usize) -> usize {
            offset_of!(CpuState, seg) + i * size_of::<SegReg>()
        }
        use StateField::*;
        match self {
            EsBase | CsBase | SsBase | DsBase | FsBase | GsBase => {
                (seg(self as usize) + offset_of!(SegReg, base), Type::I64)
            }
            RflagsSystem => (offset_of!(CpuState, rflags), Type::I64),
            Mxcsr => (offset_of!(CpuState, mxcsr), Type::I32),
            Cr0 => (offset_of!(CpuState, cr0), Type::I64),
            Cr2 => (offset_of!(CpuState, cr2), Type::I64),
            Cr3 => (offset_of!(CpuState, cr3), Type::I64),
            Cr4 => (offset_of!(CpuState, cr4), Type::I64),
            Pkru => (offset_of!(CpuState, pkru), Type::I32),
            EsSel | CsSel | SsSel | DsSel | FsSel | GsSel => {
                (seg(self as usize - EsSel as usize) + offset_of!(SegReg, sel), Type::I16)
            }
        }
    }
}

/// Bits of `aux` of memory ops.
pub mod mem_flags {
    /// The access goes through the stack segment: a non-canonical address raises #SS rather than #GP.
    pub const STACK: u32 = 1 << 0;
    /// The access is a write (for `SegAddr` and `CheckAlign`).
    pub const WRITE: u32 = 1 << 1;
    /// Shift of the access size in bytes within `aux` of `SegAddr`.
    pub const SIZE_SHIFT: u32 = 8;
    /// Shift of the segment number within `aux` of `SegAddr`.
    pub const SEG_SHIFT: u32 = 4;
}

/// What kind of indirect jump a [`Op::GotoReg`] is, for return prediction (`aux`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum BrKind {
    /// JMP.
    Jmp,
    /// CALL: the return address has been pushed.
    Call,
    /// RET.
    Ret,
}

/// The REP instruction of a [`Op::RepString`] or [`Op::RepSkip`] (`aux` bits 7-0; element bytes in bits 15-8; address
/// bits 16, 32 or 64 in bits 23-16; bit 24 set: elements that differ let it go on, else those that are equal).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum RepKind {
    /// REP MOVS.
    Movs,
    /// REP STOS.
    Stos,
    /// REPcc CMPS.
    Cmps,
    /// REPcc SCAS.
    Scas,
}

/// What an [`Op::System`] does (`imm`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum SystemKind {
    /// Sets RFLAGS.IF; an interrupt that waited for it is signalled anew.
    EnableInterrupts,
    /// Clears RFLAGS.IF.
    DisableInterrupts,
    /// Sets RFLAGS.AC of supervisor code: its accesses to user pages are allowed under SMAP.
    AllowUser,
    /// Clears RFLAGS.AC of supervisor code.
    ForbidUser,
    /// Exchanges the base of GS with IA32_KERNEL_GS_BASE.
    SwapGs,
}

impl SystemKind {
    /// All, in order.
    pub const ALL: [Self; 5] = {
        use SystemKind::*;
        [EnableInterrupts, DisableInterrupts, AllowUser, ForbidUser, SwapGs]
    };

    /// The kind numbered `n`.
    pub fn from_number(n: i64) -> Option<Self> {
        usize::try_from(n).ok().and_then(|n| Self::ALL.get(n)).copied()
    }
}

/// What an [`Op::Transfer`] is (`imm`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum TransferKind {
    /// SYSCALL in 64-bit code.
    Syscall,
    /// SYSRET with REX.W in 64-bit code at CPL 0.
    Sysret,
    /// IRETQ in 64-bit code at CPL 0.
    Iret,
}

impl TransferKind {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Syscall, Self::Sysret, Self::Iret];

    /// The kind numbered `n`.
    pub fn from_number(n: i64) -> Option<Self> {
        usize::try_from(n).ok().and_then(|n| Self::ALL.get(n)).copied()
    }
}

macro_rules! ops {
    ($( $(#[$doc:meta])* $name:ident = $text:literal [$($arg:tt)*] $class:ident; )*) => {
        /// What an instruction does. See each variant.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Op { $( $(#[$doc])* $name, )* }

        impl Op {
            /// Every op, in order.
            pub const ALL: &'static [Op] = &[$(Op::$name),*];

            /// Its name in IR text.
            pub const fn name(self) -> &'static str {
                match self { $(Op::$name => $text,)* }
            }

            /// Its class.
            pub const fn class(self) -> Class {
                match self { $(Op::$name => Class::$class,)* }
            }

            /// Type rules of the arguments, in order.
            pub const fn args(self) -> &'static [ArgRule] {
                match self { $(Op::$name => &[$(ArgRule::$arg),*],)* }
            }
        }
    };
}

/// What type an argument must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgRule {
    /// The instruction's own type.
    T,
    /// Any integer type.
    Int,
    /// [`Type::I8`].
    I8,
    /// [`Type::I32`].
    I32,
    /// [`Type::I64`].
    I64,
    /// [`Type::Bool`].
    Bool,
    /// [`Type::Flags`].
    Flags,
    /// V128 or V256.
    Vec,
    /// Any type with a value.
    Any,
}

/// How an op behaves towards state, faults and control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Depends on its arguments alone; may be removed or moved.
    Pure,
    /// Reads guest registers or other state; may be removed.
    ReadState,
    /// Writes guest state.
    WriteState,
    /// May raise a guest fault, and thereby observes all guest state; reads memory at most.
    Faulting,
    /// May raise a guest fault before it writes memory.
    FaultingWrite,
    /// Writes memory at a place already checked by a `LoadW`; cannot fault.
    MemWrite,
    /// A marker without effect on state.
    Marker,
    /// May leave the block.
    SideExit,
    /// Ends the block.
    Terminator,
}

ops! {
    /// Start of a guest instruction: `imm` = its RIP minus the block key's RIP, `aux` = its length in bytes. Void.
    Guest = "guest" [] Marker;
    /// The constant `imm`, truncated to `ty`.
    Const = "const" [] Pure;
    /// The guest's RIP at block start plus `imm` (an offset in CS, not yet truncated to the operand size). I64.
    Pc = "pc" [] Pure;
    /// `ty` (I8 to I64) read from the guest-physical address of the block's first byte plus `imm`: an immediate or
    /// displacement within the block's own code, in its first page, that the guest keeps changing. What a store to it
    /// has put there is seen by whatever comes behind, so the block need not go ([`super::Block::words`]).
    CodeWord = "codeword" [] ReadState;

    /// Low `ty` bits of general register `imm` (0-15).
    GetReg = "getreg" [] ReadState;
    /// Writes general register `imm`: I64 whole; I32 zero-extended; I16 and I8 keep the other bits.
    SetReg = "setreg" [T] WriteState;
    /// Bits 15-8 of general register `imm` (0-3: AH, CH, DH, BH). I8.
    GetRegHi = "getreghi" [] ReadState;
    /// Writes bits 15-8 of general register `imm` (0-3). `ty` I8.
    SetRegHi = "setreghi" [T] WriteState;
    /// The six status flags.
    GetFlags = "getflags" [] ReadState;
    /// Replaces the six status flags. `aux` other than 0 (set by the dead-flags pass) promises that only the following
    /// observe the value before the next `SetFlags` replaces it: bit 0 faulting ops, bit 1 side exits. An emitter may
    /// then keep the operands of the flags alive and compute them on the way out alone. Treating it as `aux` 0 is
    /// always right.
    SetFlags = "setflags" [Flags] WriteState;
    /// Reads state field `imm` ([`StateField`]), whose type is `ty`.
    GetState = "getstate" [] ReadState;
    /// Writes state field `imm`.
    SetState = "setstate" [T] WriteState;
    /// Vector register `imm`: V128 its low half, V256 the whole YMM.
    GetVec = "getvec" [] ReadState;
    /// Writes vector register `imm`; V128 keeps the upper bits (legacy SSE).
    SetVec = "setvec" [T] WriteState;
    /// Writes vector register `imm` and clears all bits above `ty` (VEX).
    SetVecZero = "setveczero" [T] WriteState;

    /// a + b. Flags as ADD.
    Add = "add" [T T] Pure;
    /// a - b. Flags as SUB and CMP.
    Sub = "sub" [T T] Pure;
    /// a + b + CF of c. Flags as ADC.
    Adc = "adc" [T T Flags] Pure;
    /// a - b - CF of c. Flags as SBB.
    Sbb = "sbb" [T T Flags] Pure;
    /// a + b + CF of c. Flags: CF is the carry out, the others as in c. I32 or I64.
    Adcx = "adcx" [T T Flags] Pure;
    /// a + b + OF of c. Flags: OF is the carry out, the others as in c. I32 or I64.
    Adox = "adox" [T T Flags] Pure;
    /// a AND b. Flags: CF, OF, AF clear; SF, ZF, PF by the result.
    And = "and" [T T] Pure;
    /// a OR b. Flags as `And`.
    Or = "or" [T T] Pure;
    /// a XOR b. Flags as `And`.
    Xor = "xor" [T T] Pure;
    /// NOT a.
    Not = "not" [T] Pure;
    /// 0 - a. Flags as NEG.
    Neg = "neg" [T] Pure;
    /// Low half of a * b. Flags: CF = OF = signed overflow; SF, ZF, PF by the result; AF clear.
    Mul = "mul" [T T] Pure;
    /// High half of the unsigned product. Flags: CF = OF = high half non-zero; SF, ZF, PF by the *low* half; AF clear.
    MulHiU = "mulhiu" [T T] Pure;
    /// High half of the signed product. Flags: CF = OF = high half is not the low half's sign; the rest as `MulHiU`.
    MulHiS = "mulhis" [T T] Pure;
    /// a << n with n = b masked to 5 bits (6 if `ty` is I64); zero beyond the width. For n = 0 the flags are c; else
    /// CF last bit out, OF = SF ^ CF, SF, ZF, PF by the result, AF clear. Count type I8.
    Shl = "shl" [T I8 Flags] Pure;
    /// Logical a >> n, n masked as for `Shl`. OF = msb(result) ^ bit below it; for n = 0 the flags are c.
    Shr = "shr" [T I8 Flags] Pure;
    /// Arithmetic a >> n, n masked as for `Shl`. OF clear; for n = 0 the flags are c.
    Sar = "sar" [T I8 Flags] Pure;
    /// Rotate left by b (masked as for `Shl`, then modulo the width). Masked count 0: flags are c. Else CF = lsb,
    /// OF = msb ^ CF of the result, the others as in c.
    Rol = "rol" [T I8 Flags] Pure;
    /// Rotate right. CF = msb, OF = msb ^ next msb of the result, the others as in c.
    Ror = "ror" [T I8 Flags] Pure;
    /// Rotate left through CF of c; count masked as for `Shl`, then modulo width + 1. OF = msb(result) ^ CF when the
    /// masked count is not 0; masked count 0: flags are c.
    Rcl = "rcl" [T I8 Flags] Pure;
    /// Rotate right through CF of c. OF = msb ^ next msb of the result.
    Rcr = "rcr" [T I8 Flags] Pure;
    /// Bit-field test: CF = bit (b modulo the width) of a; the other flags as in c; the value is a itself.
    BitTest = "bittest" [T T Flags] Pure;
    /// Number of leading zeros; the width for zero. Flags as LZCNT on c: CF = (a = 0), ZF = (result = 0), others c.
    Clz = "clz" [T Flags] Pure;
    /// Number of trailing zeros; the width for zero. Flags as TZCNT on c.
    Ctz = "ctz" [T Flags] Pure;
    /// Number of ones. Flags: ZF = (a = 0), the others clear.
    Popcnt = "popcnt" [T] Pure;
    /// Byte order reversed (I16 to I64).
    Bswap = "bswap" [T] Pure;
    /// High bits of a zero-extended to `ty`; `a` is narrower.
    ZExt = "zext" [Any] Pure;
    /// a sign-extended to `ty`; `a` is narrower.
    SExt = "sext" [Int] Pure;
    /// Low bits of a; `a` is wider.
    Trunc = "trunc" [Int] Pure;
    /// Quotient of a:b (high:low half) by c, unsigned. Raises #DE if c = 0 or it does not fit.
    DivU = "divu" [T T T] Faulting;
    /// Remainder of the same; raises the same fault.
    RemU = "remu" [T T T] Faulting;
    /// Signed quotient, rounded to zero; raises #DE likewise.
    DivS = "divs" [T T T] Faulting;
    /// Signed remainder; raises #DE likewise.
    RemS = "rems" [T T T] Faulting;
    /// a = b. The types of a and b are alike; the result is Bool (so for the five ops that follow).
    CmpEq = "cmpeq" [Int Int] Pure;
    /// a != b.
    CmpNe = "cmpne" [Int Int] Pure;
    /// Unsigned a < b.
    CmpUlt = "cmpult" [Int Int] Pure;
    /// Unsigned a <= b.
    CmpUle = "cmpule" [Int Int] Pure;
    /// Signed a < b.
    CmpSlt = "cmpslt" [Int Int] Pure;
    /// Signed a <= b.
    CmpSle = "cmpsle" [Int Int] Pure;
    /// b if a, else c.
    Select = "select" [Bool T T] Pure;
    /// Logical negation of a Bool.
    NotBool = "notbool" [Bool] Pure;
    /// base a + (index b << `aux`) + `imm`, wrapping at `ty` (I16, I32 or I64). Either argument may be absent
    /// ([`super::Value::NONE`]).
    Lea = "lea" [T T] Pure;

    /// The status flags that the arithmetic op a sets (see each op). `imm`: the mask of flags (RFLAGS bits) that
    /// anyone reads; the rest is unspecified. Lifters give [`crate::state::bits::rflags::STATUS`], passes narrow it.
    FlagsOf = "flagsof" [Any] Pure;
    /// Flags in the mask `imm` from a, the others from b.
    MergeFlags = "mergeflags" [Flags Flags] Pure;
    /// Flags b if a, else c.
    SelectFlags = "selectflags" [Bool Flags Flags] Pure;
    /// Condition `imm` ([`Cc`]) of flags a. Bool.
    TestCc = "testcc" [Flags] Pure;
    /// Flags a as RFLAGS bits (the other bits zero). I32.
    PackFlags = "packflags" [Flags] Pure;
    /// Flags from the status bits of a (RFLAGS positions). `ty` Flags.
    UnpackFlags = "unpackflags" [I32] Pure;

    /// The linear address of offset a in the segment named by `aux` (see [`mem_flags`]), after the limit, type and
    /// null checks for an access of the size and kind in `aux`; a segment of 4 GiB wraps. Raises #GP(0) or #SS(0). I64, below 4 GiB. Only
    /// outside 64-bit code, and there only for FS, GS and writes through CS if the mode is flat; `a` is zero-extended to I64.
    SegAddr = "segaddr" [I64] Faulting;
    /// Raises #GP(0) if linear address a is not a multiple of `imm`. Void.
    CheckAlign = "checkalign" [I64] Faulting;
    /// Loads `ty` (integer or vector) from linear address a. Raises #PF, #GP or #SS. `aux`: [`mem_flags`].
    Load = "load" [I64] Faulting;
    /// Loads like `Load` but demands write permission: the read of a read-modify-write.
    LoadW = "loadw" [I64] Faulting;
    /// Stores b (whose type is `ty`) at linear address a.
    Store = "store" [I64 T] FaultingWrite;
    /// Stores b where the `LoadW` a loaded from, in the same guest instruction, with its width.
    StoreW = "storew" [T T] MemWrite;
    /// Atomically replaces `ty` at linear address a by itself + b; the value is the old one.
    AtomicAdd = "atomicadd" [I64 T] FaultingWrite;
    /// Atomic AND; the value is the old one.
    AtomicAnd = "atomicand" [I64 T] FaultingWrite;
    /// Atomic OR; the value is the old one.
    AtomicOr = "atomicor" [I64 T] FaultingWrite;
    /// Atomic XOR; the value is the old one.
    AtomicXor = "atomicxor" [I64 T] FaultingWrite;
    /// Atomic exchange; the value is the old one.
    AtomicXchg = "atomicxchg" [I64 T] FaultingWrite;
    /// Atomic compare-exchange: if memory equals b, stores c; the value is the old one. Always needs write access.
    AtomicCas = "atomiccas" [I64 T T] FaultingWrite;
    /// A memory fence: `imm` 0 LFENCE, 1 SFENCE, 2 MFENCE (or a locked operation). Void.
    Fence = "fence" [] MemWrite;
    /// A change of system state: `imm` is a [`SystemKind`]. The rights of memory accesses behind it may be others. Void.
    System = "system" [] WriteState;
    /// `imm` 0: the time-stamp counter; #GP(0) above CPL 0 with CR4.TSD. `imm` 1: IA32_TSC_AUX. I64.
    ReadTsc = "readtsc" [] Faulting;
    /// A whole REP MOVS or REP STOS ([`RepKind`] in `aux`, flat segments only, source base I64 a, destination base
    /// I64 b added to the offsets): reads and updates RCX, RSI, RDI, RAX, DF in guest state. It may stop early with the
    /// registers updated; the value is Bool: whether RCX (at the address size) is now zero. Raises faults with the
    /// registers at the faulting element.
    RepString = "repstring" [I64 I64] FaultingWrite;
    /// Passes over elements that let a REPcc CMPS or SCAS ([`RepKind`] in `aux`, bases as for `RepString`) go on: updates
    /// RCX, RSI, RDI by them, and no flags. It looks at those elements from RSI and RDI on, at most RCX of them, that lie
    /// in the page of the first on either side and come before an index wraps, and passes over them up to the first
    /// that ends the repetition, but never over the last it looks at, which is left to make the flags. None, where a
    /// page cannot be read or is a device's. Void.
    RepSkip = "repskip" [I64 I64] WriteState;

    /// The vector operation `aux` ([`super::VecOp`] or [`super::encoded`]) with immediate `imm` on a.
    Vec1 = "vec1" [Any] Pure;
    /// The vector operation `aux` on a and b (in the order of the manual's destination and source).
    Vec2 = "vec2" [Any Any] Pure;
    /// The vector operation `aux` on a, b and c.
    Vec3 = "vec3" [Any Any Any] Pure;
    /// A floating-point operation `aux` on a (and b and c if present) under MXCSR, whose sticky flags it sets. Never
    /// raises #XM: blocks whose mode unmasks an exception do not contain it. Not moved across MXCSR accesses.
    Fp = "fp" [Any Any Any] WriteState;
    /// Clears bits 511-128 of vector registers 0 to `imm` - 1, as VZEROUPPER does. Void.
    ZeroUpper = "zeroupper" [] WriteState;

    /// An x87 instruction between registers: `aux` says which ([`super::x87`]), on the x87's own state, and moves its
    /// instruction pointer as that instruction does. FCMOVcc happens if Bool a. `ty` is Flags for FCOMI and its kin, I16
    /// for FNSTSW AX, else Void. Every exception is masked: with FCW otherwise, or before CR0 allows it, the
    /// interpreter executes the instruction instead.
    X87 = "x87" [Any] WriteState;
    /// An x87 instruction with a memory operand at linear address a, whose offset in its segment is b: `aux` as in
    /// `X87`, `imm` its [`mem_flags`] with segment and size. Changes nothing if the access faults. Void.
    X87Mem = "x87mem" [I64 I64] FaultingWrite;

    /// Leaves the guest instruction in hand, of which nothing has happened yet, to the interpreter if a. Void.
    InterpretIf = "interpretif" [Bool] Faulting;
    /// Leaves the block if a, to RIP b, or to RIP `imm` (relative to the key's RIP) if b is absent. The guest instruction that it
    /// belongs to has then completed. With b it is where a trace goes past a computed jump: a says that b is not the RIP at which
    /// the block goes on.
    ExitIf = "exitif" [Bool I64] SideExit;
    /// Continues at RIP `imm` relative to the key's. `aux`: [`BrKind`]; [`BrKind::Call`] if it ends a direct CALL,
    /// whose return address has been pushed and lies right behind the block's bytes.
    Goto = "goto" [] Terminator;
    /// Continues at relative RIP `imm` if a, else at relative RIP `aux` (as i32).
    Branch = "branch" [Bool] Terminator;
    /// Continues at RIP a. `aux`: [`BrKind`]. For [`BrKind::Call`], `imm` is the relative RIP of the return address.
    GotoReg = "gotoreg" [I64] Terminator;
    /// A transfer between privilege levels ([`TransferKind`] in `imm`), which is the guest instruction in hand: changes
    /// registers, flags, segments and mode as that does, and goes on where it leads. What is not common (faults,
    /// returns to 32-bit code or from an NMI, single-stepping) may be left to the interpreter with the instruction not
    /// begun; the evaluator leaves all of it.
    Transfer = "transfer" [] Terminator;
    /// Lets the interpreter execute the guest instruction at relative RIP `imm`, then goes on wherever that leads.
    /// `aux`: the front end's number of the mnemonic, for statistics.
    Interpret = "interpret" [] Terminator;
}

impl Op {
    /// Whether `FlagsOf` may name it.
    pub const fn sets_flags(self) -> bool {
        use Op::*;
        matches!(
            self,
            Add | Sub
                | Adc
                | Sbb
                | Adcx
                | Adox
                | And
                | Or
                | Xor
                | Neg
                | Mul
                | MulHiU
                | MulHiS
                | Shl
                | Shr
                | Sar
                | Rol
                | Ror
                | Rcl
                | Rcr
                | BitTest
                | Clz
                | Ctz
                | Popcnt
        )
    }

    /// Whether it may raise a guest fault.
    pub const fn can_fault(self) -> bool {
        matches!(self.class(), Class::Faulting | Class::FaultingWrite)
    }

    /// Whether it ends the block.
    pub const fn is_terminator(self) -> bool {
        matches!(self.class(), Class::Terminator)
    }
}
