//! What works on ST(0) alone: FSQRT, FRNDINT, F2XM1, FSIN, FCOS, FABS, FCHS, and FSINCOS, FPTAN and FXTRACT, which
//! also push.

use super::control::wait;
use super::stack::{Stack, note};
use crate::decode::{Handler, Op, Shape};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::softfloat::{Ctx, F80, Flags};
use iced_x86::Mnemonic;

/// An operation on ST(0).
trait Unary: 'static {
    /// It tells by C2 whether it did anything.
    const REDUCES: bool = false;
    /// The result.
    fn of(c: &mut Ctx, a: F80) -> F80;
}

/// An operation that replaces ST(0) and pushes a second result.
trait Pair: 'static {
    /// It tells by C2 whether it did anything.
    const REDUCES: bool;
    /// What replaces ST(0) and what is pushed.
    fn of(c: &mut Ctx, a: F80) -> (F80, F80);
}

macro_rules! operations {
    ($($trait:ident $name:ident $reduces:literal |$c:ident, $a:ident| $e:expr => $r:ty;)*) => {$(
        struct $name;
        impl $trait for $name {
            const REDUCES: bool = $reduces;
            #[inline(always)]
            fn of($c: &mut Ctx, $a: F80) -> $r {
                $e
            }
        }
    )*};
}
operations! {
    Unary Sqrt false |c, a| c.sqrt(a) => F80;
    Unary Round false |c, a| c.round_to_integer(a) => F80;
    Unary Exp false |c, a| c.exp2_minus_1(a) => F80;
    Unary Sin true |c, a| c.sin(a) => F80;
    Unary Cos true |c, a| c.cos(a) => F80;
    Unary Abs false |_c, a| a.abs() => F80;
    Unary Chs false |_c, a| a.chs() => F80;
    Pair SinCos true |c, a| c.sin_cos(a) => (F80, F80);
    Pair Tan true |c, a| c.tan(a) => (F80, F80);
    Pair Extract false |c, a| c.extract(a) => (F80, F80);
}

fn unary<O: Unary>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    if O::REDUCES {
        f.fsw &= !Flags::C2.bits();
    }
    let Some(a) = f.read(0) else {
        if f.underflow() {
            f.write(0, F80::INDEFINITE);
        }
        return Ok(());
    };
    let mut c = f.ctx();
    let r = O::of(&mut c, a);
    f.raise(c.flags);
    if c.writes_register() {
        f.write(0, r);
    }
    Ok(())
}

fn pair<O: Pair>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    if O::REDUCES {
        f.fsw &= !Flags::C2.bits();
    }
    let Some(a) = f.read(0) else {
        if f.underflow() {
            f.write(0, F80::INDEFINITE);
            f.push(F80::INDEFINITE);
        }
        return Ok(());
    };
    if f.full() {
        f.overflow_pair();
        return Ok(());
    }
    let mut c = f.ctx();
    let (r, pushed) = O::of(&mut c, a);
    f.raise(c.flags);
    if c.writes_register() && !c.flags.intersects(Flags::C2) {
        f.write(0, r);
        f.push(pushed);
    }
    Ok(())
}

/// The handler, if the instruction is of this file.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match s.mnemonic() {
        Fsqrt => unary::<Sqrt>,
        Frndint => unary::<Round>,
        F2xm1 => unary::<Exp>,
        Fsin => unary::<Sin>,
        Fcos => unary::<Cos>,
        Fabs => unary::<Abs>,
        Fchs => unary::<Chs>,
        Fsincos => pair::<SinCos>,
        Fptan => pair::<Tan>,
        Fxtract => pair::<Extract>,
        _ => return None,
    })
}
