//! Where the second operand of an instruction comes from.

use super::stack::{Stack, note, note_memory};
use crate::decode::{Kind, Op, Shape};
use crate::operand::{Mem, Src, W16, W32, W64};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::softfloat::Operand;

/// A source operand.
pub trait Source: 'static {
    /// Reads it, then moves the pointers. None: an empty register.
    ///
    /// # Errors
    /// The fault of reading it; no pointer has moved then.
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception>;
}

/// The register that is operand 1.
#[derive(Debug)]
pub struct St1;
/// The register that is operand 0.
#[derive(Debug)]
pub struct St0;
/// `m32fp`.
#[derive(Debug)]
pub struct Real32;
/// `m64fp`.
#[derive(Debug)]
pub struct Real64;
/// `m16int`.
#[derive(Debug)]
pub struct Int16;
/// `m32int`.
#[derive(Debug)]
pub struct Int32;

impl Source for St1 {
    #[inline(always)]
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        note(cpu, op);
        Ok(cpu.state.fpu.read(op.src).map(Operand::from))
    }
}

impl Source for St0 {
    #[inline(always)]
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        note(cpu, op);
        Ok(cpu.state.fpu.read(op.dst).map(Operand::from))
    }
}

macro_rules! memory {
    ($($name:ident $w:ident |$v:ident| $e:expr;)*) => {$(
        impl Source for $name {
            #[inline(always)]
            fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
                let $v = Mem::get::<$w>(cpu, op)?;
                note_memory(cpu, op);
                Ok(Some($e))
            }
        }
    )*};
}
memory! {
    Real32 W32 |v| Operand::f32(v as u32);
    Real64 W64 |v| Operand::f64(v);
    Int16 W16 |v| Operand::from(v as i16);
    Int32 W32 |v| Operand::from(v as i32);
}

/// Whether operand 0 is memory.
pub fn is_memory(s: &Shape) -> bool {
    s.kinds[0] == Kind::Mem
}

/// An instance of a function whose last type parameter is the [`Source`]: `$reg` for registers, else memory of
/// operand 0's size, taken as real numbers or as integers.
macro_rules! by_source {
    ($s:expr, reg $reg:ident, $f:ident $(< $($g:ty),+ >)?) => {
        match ($crate::exec::x87::source::is_memory($s), $s.bytes) {
            (false, _) => $f::<$($($g,)+)? $reg> as $crate::decode::Handler,
            (true, 4) => $f::<$($($g,)+)? $crate::exec::x87::source::Real32>,
            (true, _) => $f::<$($($g,)+)? $crate::exec::x87::source::Real64>,
        }
    };
    ($s:expr, int, $f:ident $(< $($g:ty),+ >)?) => {
        match $s.bytes {
            2 => $f::<$($($g,)+)? $crate::exec::x87::source::Int16> as $crate::decode::Handler,
            _ => $f::<$($($g,)+)? $crate::exec::x87::source::Int32>,
        }
    };
}
pub(super) use by_source;
