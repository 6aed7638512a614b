//! How vector instructions reach their operands, and when they may run at all.
//!
//! A handler is one of the functions here with a *meaning* in it, a function of plain values of 128 bits; the macros
//! make one instance for a register and one for memory, for each [`Form`]: the legacy encoding, VEX of 128 bits, VEX
//! of 256 bits, in which most instructions do the same to both halves.
//!
//! Which exception a disabled unit raises: SDM vol. 3A, tables 2-1 to 2-3 of chapter 14 and vol. 2A, 2.4.

use super::save_area::address;
use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{self, Src, W32, W64, linear, mm, reg};
use emu_core::cpu::Cpu;
use emu_core::fault::{self, Exception};
use emu_core::mmu::Priv;
use emu_core::state::Mode;
use emu_core::state::bits::{cr0, cr4, xcr0};
use iced_x86::{OpKind, Register};

/// What a handler gives.
pub type Outcome = Result<(), Exception>;

/// A vector as its 128-bit halves, the low one first; those beyond the instruction's length are zero.
pub type Halves = [u128; 2];

/// The halves of a vector of form `F` by number.
#[inline(always)]
pub fn halves<F: Form>(mut f: impl FnMut(usize) -> u128) -> Halves {
    let low = f(0);
    [low, if F::HALVES > 1 { f(1) } else { 0 }]
}

/// How an instruction is encoded: its length, where its first source is, and what becomes of the rest of its
/// destination.
pub trait Form: 'static {
    /// Length in units of 128 bits.
    const HALVES: usize;
    /// Vectors in memory must be aligned (SDM vol. 1, 14.9: the VEX forms never demand it).
    const ALIGNED: bool;

    /// The number of the first source.
    fn first(op: &Op) -> u8;

    /// Writes operand 0.
    fn put(cpu: &mut Cpu, op: &Op, value: Halves);
}

/// Legacy SSE: operand 0 is the first source, and its bits beyond 127 stay.
#[derive(Debug)]
pub struct Legacy;
impl Form for Legacy {
    const HALVES: usize = 1;
    const ALIGNED: bool = true;

    #[inline(always)]
    fn first(op: &Op) -> u8 {
        op.dst
    }

    #[inline(always)]
    fn put(cpu: &mut Cpu, op: &Op, value: Halves) {
        set_xmm(cpu, op.dst, value[0]);
    }
}

/// VEX: the first source is encoded (see [`vex_operands`]); what lies beyond the length becomes zero.
#[derive(Debug)]
pub struct Vex<const HALVES: usize>;
impl<const HALVES: usize> Form for Vex<HALVES> {
    const HALVES: usize = HALVES;
    const ALIGNED: bool = false;

    #[inline(always)]
    fn first(op: &Op) -> u8 {
        first(op)
    }

    #[inline(always)]
    fn put(cpu: &mut Cpu, op: &Op, value: Halves) {
        set_vector::<HALVES>(cpu, op.dst, value);
    }
}

/// Where a VEX instruction's register operands go: [`Op::src`] is the last of them that may be memory instead (operand
/// 2 of three or four, else operand 1), bits 8-15 of [`Op::imm`] the first source (operand 1), bits 16-23 the one
/// encoded in an immediate (operand 3). Legacy handlers find their source where they look for it, this way.
pub fn vex_operands(s: &Shape, op: &mut Op) {
    let register = |i: u32| {
        let there = i < s.ins.op_count() && s.ins.op_kind(i) == OpKind::Register;
        there.then(|| crate::decode::number(s.ins.op_register(i)))
    };
    // The only immediates are bytes; that of four operands' register is not one for iced.
    op.imm &= 0xff;
    op.imm |= u64::from(op.src) << 8;
    if let Some(n) = register(2) {
        op.src = n;
    }
    if let Some(n) = register(3) {
        op.imm |= u64::from(n) << 16;
    }
}

/// The first source of a VEX instruction.
#[inline(always)]
pub fn first(op: &Op) -> u8 {
    (op.imm >> 8) as u8
}

/// The register that a VEX instruction names in an immediate.
#[inline(always)]
pub fn fourth(op: &Op) -> u8 {
    (op.imm >> 16) as u8
}

/// Where a source operand is; its value is zero-extended.
pub trait Source: 'static {
    /// Its value, as long as the instruction is.
    ///
    /// # Errors
    /// The fault of reading it.
    fn wide<F: Form>(cpu: &mut Cpu, op: &Op) -> Result<Halves, Exception>;

    /// Its low 128 bits in a legacy instruction.
    ///
    /// # Errors
    /// The fault of reading it.
    #[inline(always)]
    fn get(cpu: &mut Cpu, op: &Op) -> Result<u128, Exception> {
        Ok(Self::wide::<Legacy>(cpu, op)?[0])
    }
}

macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident<$form:ident> |$cpu:ident, $op:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Source for $name {
            #[inline(always)]
            fn wide<$form: Form>($cpu: &mut Cpu, $op: &Op) -> Result<Halves, Exception> {
                $value
            }
        }
    )*};
}

sources! {
    /// The vector register that is the source.
    Vector<F> |cpu, op| Ok(vector::<F>(cpu, op.src));
    /// The low half of the vector register that is the source.
    Xmm<F> |cpu, op| Ok([xmm(cpu, op.src), 0]);
    /// The MMX register that is operand 1.
    Mm<F> |cpu, op| Ok([mm(&cpu.state, op.src).into(), 0]);
    /// The 32-bit general register that is the source.
    Gpr32<F> |cpu, op| Ok([reg::<W32>(&cpu.state, op.src).into(), 0]);
    /// The 64-bit general register that is the source.
    Gpr64<F> |cpu, op| Ok([reg::<W64>(&cpu.state, op.src).into(), 0]);
    /// The immediate, for every half.
    Immediate<F> |_cpu, op| Ok([(op.imm & 0xff).into(); 2]);
    /// A vector in memory; #GP(0) in legacy instructions unless aligned.
    Aligned<F> |cpu, op| load_vector::<F>(cpu, op, F::ALIGNED);
    /// A vector in memory; #GP(0) unless aligned to its own length.
    AlwaysAligned<F> |cpu, op| load_vector::<F>(cpu, op, true);
    /// A vector in memory.
    Unaligned<F> |cpu, op| load_vector::<F>(cpu, op, false);
    /// 16 bytes of memory, however long the instruction is; aligned in legacy instructions.
    HalfVector<F> |cpu, op| match F::ALIGNED {
        true => Ok([operand::load_128_aligned(cpu, op)?, 0]),
        false => Ok([operand::load_128(cpu, op)?, 0]),
    };
}

/// `N` (1, 2, 4 or 8) bytes of memory.
#[derive(Debug)]
pub struct Bytes<const N: usize>;
impl<const N: usize> Source for Bytes<N> {
    #[inline(always)]
    fn wide<F: Form>(cpu: &mut Cpu, op: &Op) -> Result<Halves, Exception> {
        let v = match N {
            1 => operand::Mem::get::<operand::W8>(cpu, op),
            2 => operand::Mem::get::<operand::W16>(cpu, op),
            4 => operand::Mem::get::<W32>(cpu, op),
            _ => operand::Mem::get::<W64>(cpu, op),
        };
        Ok([v?.into(), 0])
    }
}

/// Twice `N` (2, 4 or 8) bytes of memory.
#[derive(Debug)]
pub struct Twice<const N: usize>;
impl<const N: usize> Source for Twice<N> {
    #[inline(always)]
    fn wide<F: Form>(cpu: &mut Cpu, op: &Op) -> Result<Halves, Exception> {
        match N {
            2 => Bytes::<4>::wide::<F>(cpu, op),
            4 => Bytes::<8>::wide::<F>(cpu, op),
            _ => HalfVector::wide::<F>(cpu, op),
        }
    }
}

#[inline(always)]
fn load_vector<F: Form>(cpu: &mut Cpu, op: &Op, aligned: bool) -> Result<Halves, Exception> {
    let lin = linear(cpu, op, 16 * F::HALVES as u64, false)?;
    if aligned && lin & (16 * F::HALVES as u64 - 1) != 0 {
        return Err(Exception::gp0());
    }
    if F::HALVES > 1 {
        cpu.within_half(lin, 16 * F::HALVES, op.stack())?;
    }
    let mut v = [0; 2];
    for (h, v) in v.iter_mut().enumerate().take(F::HALVES) {
        *v = cpu.load_128(address(cpu, lin, 16 * h), op.stack())?;
    }
    Ok(v)
}

/// Stores operand `value` of `HALVES` halves at the memory operand; #GP(0) if `aligned` is asked for and it is not.
///
/// # Errors
/// The fault of storing it; then nothing was stored.
#[inline(always)]
pub fn store_vector<F: Form>(cpu: &mut Cpu, op: &Op, value: Halves, aligned: bool) -> Outcome {
    let bytes = 16 * F::HALVES;
    let lin = linear(cpu, op, bytes as u64, true)?;
    if aligned && lin & (bytes as u64 - 1) != 0 {
        return Err(Exception::gp0());
    }
    if F::HALVES > 1 {
        cpu.probe_write(lin, bytes, Priv::Current, op.stack())?;
    }
    for (h, &v) in value.iter().enumerate().take(F::HALVES) {
        cpu.store_128(address(cpu, lin, 16 * h), v, op.stack())?;
    }
    Ok(())
}

/// Vector register `n`, as long as the form.
#[inline(always)]
pub fn vector<F: Form>(cpu: &Cpu, n: u8) -> Halves {
    let v = &cpu.state.vec[usize::from(n) & 15];
    [v.xmm(), if F::HALVES > 1 { u128::from(v.0[2]) | u128::from(v.0[3]) << 64 } else { 0 }]
}

/// Replaces vector register `n`: everything beyond `HALVES` becomes zero, whatever `value` holds there.
#[inline(always)]
pub fn set_vector<const HALVES: usize>(cpu: &mut Cpu, n: u8, value: Halves) {
    let [low, high] = value;
    let high = if HALVES > 1 { high } else { 0 };
    let v = &mut cpu.state.vec[usize::from(n) & 15];
    v.0 = [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64, 0, 0, 0, 0];
}

/// XMM register `n`.
#[inline(always)]
pub fn xmm(cpu: &Cpu, n: u8) -> u128 {
    cpu.state.vec[usize::from(n) & 15].xmm()
}

/// Replaces XMM register `n`.
#[inline(always)]
pub fn set_xmm(cpu: &mut Cpu, n: u8, value: u128) {
    cpu.state.vec[usize::from(n) & 15].set_xmm(value);
}

/// `destination = f(first, source)`, half by half.
#[inline(always)]
pub fn binary<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128) -> u128) -> Outcome {
    let b = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, F::first(op));
    F::put(cpu, op, halves::<F>(|h| f(a[h], b[h])));
    Ok(())
}

/// `destination = f(first, source, imm8)`, half by half.
#[inline(always)]
pub fn binary_imm<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128, u8) -> u128) -> Outcome {
    binary::<F, S>(cpu, op, |a, b| f(a, b, op.imm as u8))
}

/// [`binary_imm`] whose upper half takes the immediate's bits from `STEP` on.
#[inline(always)]
pub fn binary_imm_step<F: Form, S: Source, const STEP: u32>(
    cpu: &mut Cpu,
    op: &Op,
    f: impl Fn(u128, u128, u8) -> u128,
) -> Outcome {
    let b = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, F::first(op));
    F::put(cpu, op, halves::<F>(|h| f(a[h], b[h], op.imm as u8 >> (STEP * h as u32))));
    Ok(())
}

/// `destination = f(first, count)`, half by half, with the source's low half as the count of both.
#[inline(always)]
pub fn by_count<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128) -> u128) -> Outcome {
    let [n, _] = S::wide::<F>(cpu, op)?;
    let a = vector::<F>(cpu, F::first(op));
    F::put(cpu, op, halves::<F>(|h| f(a[h], n)));
    Ok(())
}

/// `destination = f(source)`, half by half.
#[inline(always)]
pub fn unary<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128) -> u128) -> Outcome {
    let v = S::wide::<F>(cpu, op)?;
    F::put(cpu, op, halves::<F>(|h| f(v[h])));
    Ok(())
}

/// Half `h` of the destination is `f` of the source's low half from bit `bits * h` on: conversions to wider elements.
#[inline(always)]
pub fn widening<F: Form, S: Source>(
    cpu: &mut Cpu,
    op: &Op,
    bits: usize,
    f: impl Fn(u128) -> u128,
) -> Outcome {
    let [v, _] = S::wide::<F>(cpu, op)?;
    F::put(cpu, op, halves::<F>(|h| f(v >> (bits * h))));
    Ok(())
}

/// An MMX instruction may run: #MF if an unmasked x87 exception is pending.
///
/// # Errors
/// #MF.
#[inline]
pub fn ready_mmx(cpu: &Cpu) -> Outcome {
    if cpu.state.fpu.fsw & 0x80 != 0 { Err(Exception::new(fault::Vector::MF)) } else { Ok(()) }
}

/// The transition from x87 to MMX: TOP becomes 0 and every register valid (SDM vol. 1, 9.5.1).
#[inline]
pub fn enter_mmx(cpu: &mut Cpu) {
    cpu.state.fpu.fsw &= !0x3800;
    cpu.state.fpu.ftw = 0xff;
}

/// `mm0 = f(mm0, source)`.
#[inline(always)]
pub fn binary_mm<S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128) -> u128) -> Outcome {
    ready_mmx(cpu)?;
    let b = S::get(cpu, op)?;
    enter_mmx(cpu);
    let r = f(mm(&cpu.state, op.dst).into(), b);
    operand::set_mm(&mut cpu.state, op.dst, r as u64);
    Ok(())
}

/// `mm0 = f(mm0, source, imm8)`.
#[inline(always)]
pub fn binary_mm_imm<S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128, u8) -> u128) -> Outcome {
    binary_mm::<S>(cpu, op, |a, b| f(a, b, op.imm as u8))
}

/// Stores the low `bytes` (1, 2, 4, 8 or 16) of `value` at the memory operand.
///
/// # Errors
/// The fault of storing it.
#[inline(always)]
pub fn store(cpu: &mut Cpu, op: &Op, bytes: usize, value: u128) -> Outcome {
    if bytes == 16 {
        return operand::store_128(cpu, op, value);
    }
    let lin = linear(cpu, op, bytes as u64, true)?;
    match bytes {
        1 => operand::store::<operand::W8>(cpu, lin, value as u64, op.stack()),
        2 => operand::store::<operand::W16>(cpu, lin, value as u64, op.stack()),
        4 => operand::store::<W32>(cpu, lin, value as u64, op.stack()),
        _ => operand::store::<W64>(cpu, lin, value as u64, op.stack()),
    }
}

/// The instances of a function generic over [`Form`] and [`Source`]: a register, memory as `$mem` has it; in the
/// legacy encoding or in VEX of either length.
macro_rules! by_source {
    ($s:expr, $mem:ty, $f:ident, $meaning:expr) => {{
        use $crate::exec::simd::{Legacy, Vector, Vex};
        match ($s.encoding, $s.from_memory()) {
            ($crate::decode::Encoding::Legacy, true) => {
                (|cpu, op| $f::<Legacy, $mem>(cpu, op, $meaning)) as $crate::decode::Handler
            }
            ($crate::decode::Encoding::Legacy, _) => |cpu, op| $f::<Legacy, Vector>(cpu, op, $meaning),
            ($crate::decode::Encoding::Vex128, true) => |cpu, op| $f::<Vex<1>, $mem>(cpu, op, $meaning),
            ($crate::decode::Encoding::Vex128, _) => |cpu, op| $f::<Vex<1>, Vector>(cpu, op, $meaning),
            (_, true) => |cpu, op| $f::<Vex<2>, $mem>(cpu, op, $meaning),
            _ => |cpu, op| $f::<Vex<2>, Vector>(cpu, op, $meaning),
        }
    }};
}
pub(crate) use by_source;

/// [`by_source!`] for instructions of 128 bits at most.
macro_rules! by_source_128 {
    ($s:expr, $mem:ty, $f:ident, $meaning:expr) => {{
        use $crate::exec::simd::{Legacy, Vector, Vex};
        match ($s.encoding, $s.from_memory()) {
            ($crate::decode::Encoding::Legacy, true) => {
                (|cpu, op| $f::<Legacy, $mem>(cpu, op, $meaning)) as $crate::decode::Handler
            }
            ($crate::decode::Encoding::Legacy, _) => |cpu, op| $f::<Legacy, Vector>(cpu, op, $meaning),
            (_, true) => |cpu, op| $f::<Vex<1>, $mem>(cpu, op, $meaning),
            _ => |cpu, op| $f::<Vex<1>, Vector>(cpu, op, $meaning),
        }
    }};
}
pub(crate) use by_source_128;

/// The instances of a function generic over [`Form`] and [`Source`] whose source is the immediate.
macro_rules! by_immediate {
    ($s:expr, $f:ident, $meaning:expr) => {{
        use $crate::exec::simd::{Immediate, Legacy, Vex};
        match $s.encoding {
            $crate::decode::Encoding::Legacy => {
                (|cpu, op| $f::<Legacy, Immediate>(cpu, op, $meaning)) as $crate::decode::Handler
            }
            $crate::decode::Encoding::Vex128 => |cpu, op| $f::<Vex<1>, Immediate>(cpu, op, $meaning),
            $crate::decode::Encoding::Vex256 => |cpu, op| $f::<Vex<2>, Immediate>(cpu, op, $meaning),
        }
    }};
}
pub(crate) use by_immediate;

/// An instance of a function generic over [`Form`] and what else there is, by encoding.
macro_rules! by_form {
    ($s:expr, $f:ident $(< $($g:ty),+ >)?) => {
        match $s.encoding {
            $crate::decode::Encoding::Legacy => $f::<$crate::exec::simd::Legacy $(, $($g),+)?> as $crate::decode::Handler,
            $crate::decode::Encoding::Vex128 => $f::<$crate::exec::simd::Vex<1> $(, $($g),+)?>,
            $crate::decode::Encoding::Vex256 => $f::<$crate::exec::simd::Vex<2> $(, $($g),+)?>,
        }
    };
}
pub(crate) use by_form;

/// [`by_source!`] for MMX.
macro_rules! by_source_mm {
    ($s:expr, $mem:ty, $f:ident, $meaning:expr) => {
        match $s.kinds[1] {
            $crate::decode::Kind::Mem => (|cpu, op| $f::<$mem>(cpu, op, $meaning)) as $crate::decode::Handler,
            _ => |cpu, op| $f::<$crate::exec::simd::Mm>(cpu, op, $meaning),
        }
    };
}
pub(crate) use by_source_mm;

/// Whether an explicit operand is a register of the class `f` tells.
pub fn uses(s: &Shape, f: impl Fn(Register) -> bool) -> bool {
    (0..s.ins.op_count()).any(|i| s.ins.op_kind(i) == OpKind::Register && f(s.ins.op_register(i)))
}

/// Whether operand 0 is a register.
pub fn to_register(s: &Shape) -> bool {
    s.kinds[0] == Kind::Reg
}

/// What an SSE instruction does while `Mode::NO_SSE` is set.
pub const SSE_DISABLED: Handler = |cpu, _op| {
    let s = &cpu.state;
    let ud = s.cr0 & cr0::EM != 0 || s.cr4 & cr4::OSFXSR == 0;
    Err(Exception::new(if ud { fault::Vector::UD } else { fault::Vector::NM }))
};

/// What an AVX instruction does while `Mode::NO_AVX` is set (SDM vol. 2A, 2.4 and tables 2-18 to 2-26): #UD for what
/// the mode or the operating system forbids comes before #NM.
pub const AVX_DISABLED: Handler = |cpu, _op| {
    let s = &cpu.state;
    let enabled = xcr0::SSE | xcr0::AVX;
    let ud = !s.mode.contains(Mode::PROT) || s.cr4 & cr4::OSXSAVE == 0 || s.xcr0 & enabled != enabled;
    Err(Exception::new(if ud { fault::Vector::UD } else { fault::Vector::NM }))
};

/// What an MMX instruction does while `Mode::NO_FPU` is set.
pub const MMX_DISABLED: Handler = |cpu, _op| {
    let ud = cpu.state.cr0 & cr0::EM != 0;
    Err(Exception::new(if ud { fault::Vector::UD } else { fault::Vector::NM }))
};
