//! How vector instructions reach their operands, and when they may run at all.
//!
//! A handler is one of the functions here with a *meaning* in it, a function of plain values; the macros make one
//! instance for a register and one for memory. Legacy SSE instructions replace the low 128 bits of their
//! destination and keep the rest.
//!
//! Which exception a disabled unit raises: SDM vol. 3A, tables 2-1 to 2-3 of chapter 14 and vol. 2A, 2.4.

use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{self, Src, W32, W64, linear, mm, reg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::bits::{cr0, cr4};
use iced_x86::{OpKind, Register};

/// What a handler gives.
pub type Outcome = Result<(), Exception>;

/// Where a source operand is; its value is zero-extended to 128 bits.
pub trait Source: 'static {
    /// Its value.
    ///
    /// # Errors
    /// The fault of reading it.
    fn get(cpu: &mut Cpu, op: &Op) -> Result<u128, Exception>;
}

macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident |$cpu:ident, $op:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Source for $name {
            #[inline(always)]
            fn get($cpu: &mut Cpu, $op: &Op) -> Result<u128, Exception> {
                $value
            }
        }
    )*};
}

sources! {
    /// The XMM register that is operand 1.
    Xmm |cpu, op| Ok(xmm(cpu, op.src));
    /// The MMX register that is operand 1.
    Mm |cpu, op| Ok(mm(&cpu.state, op.src).into());
    /// The 32-bit general register that is operand 1.
    Gpr32 |cpu, op| Ok(reg::<W32>(&cpu.state, op.src).into());
    /// The 64-bit general register that is operand 1.
    Gpr64 |cpu, op| Ok(reg::<W64>(&cpu.state, op.src).into());
    /// The immediate.
    Immediate |_cpu, op| Ok(op.imm.into());
    /// 16 bytes of memory, #GP(0) unless aligned.
    Aligned |cpu, op| operand::load_128_aligned(cpu, op);
    /// 16 bytes of memory.
    Unaligned |cpu, op| operand::load_128(cpu, op);
}

/// `N` (1, 2, 4 or 8) bytes of memory.
#[derive(Debug)]
pub struct Bytes<const N: usize>;
impl<const N: usize> Source for Bytes<N> {
    #[inline(always)]
    fn get(cpu: &mut Cpu, op: &Op) -> Result<u128, Exception> {
        let v = match N {
            1 => operand::Mem::get::<operand::W8>(cpu, op),
            2 => operand::Mem::get::<operand::W16>(cpu, op),
            4 => operand::Mem::get::<W32>(cpu, op),
            _ => operand::Mem::get::<W64>(cpu, op),
        };
        Ok(v?.into())
    }
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

/// `xmm0 = f(xmm0, source)`.
#[inline(always)]
pub fn binary<S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128) -> u128) -> Outcome {
    let b = S::get(cpu, op)?;
    let r = f(xmm(cpu, op.dst), b);
    set_xmm(cpu, op.dst, r);
    Ok(())
}

/// `xmm0 = f(xmm0, source, imm8)`.
#[inline(always)]
pub fn binary_imm<S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128, u128, u8) -> u128) -> Outcome {
    binary::<S>(cpu, op, |a, b| f(a, b, op.imm as u8))
}

/// `xmm0 = f(source)`.
#[inline(always)]
pub fn unary<S: Source>(cpu: &mut Cpu, op: &Op, f: impl Fn(u128) -> u128) -> Outcome {
    let b = S::get(cpu, op)?;
    set_xmm(cpu, op.dst, f(b));
    Ok(())
}

/// An MMX instruction may run: #MF if an unmasked x87 exception is pending.
///
/// # Errors
/// #MF.
#[inline]
pub fn ready_mmx(cpu: &Cpu) -> Outcome {
    if cpu.state.fpu.fsw & 0x80 != 0 { Err(Exception::new(Vector::MF)) } else { Ok(()) }
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

/// The instances of a function generic over [`Source`] for XMM: a register, memory as `$mem` has it.
macro_rules! by_source {
    ($s:expr, $mem:ty, $f:ident, $meaning:expr) => {
        match $s.kinds[1] {
            $crate::decode::Kind::Mem => (|cpu, op| $f::<$mem>(cpu, op, $meaning)) as $crate::decode::Handler,
            _ => |cpu, op| $f::<$crate::exec::simd::Xmm>(cpu, op, $meaning),
        }
    };
}
pub(crate) use by_source;

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
    Err(Exception::new(if ud { Vector::UD } else { Vector::NM }))
};

/// What an MMX instruction does while `Mode::NO_FPU` is set.
pub const MMX_DISABLED: Handler = |cpu, _op| {
    let ud = cpu.state.cr0 & cr0::EM != 0;
    Err(Exception::new(if ud { Vector::UD } else { Vector::NM }))
};
