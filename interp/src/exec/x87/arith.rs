//! FADD, FSUB, FSUBR, FMUL, FDIV and FDIVR, with their popping and integer forms; and what takes ST(0) and ST(1)
//! without saying so: FPREM, FPREM1, FSCALE, FYL2X, FYL2XP1, FPATAN.

use super::control::wait;
use super::source::{Source, St1, by_source};
use super::stack::{Stack, note};
use crate::decode::{Handler, Op, Shape};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::softfloat::{Ctx, F80, Flags, Operand};
use iced_x86::Mnemonic;

/// An operation on two operands: the destination first.
trait Binary: 'static {
    /// The result.
    fn of(c: &mut Ctx, a: Operand, b: Operand) -> F80;
}

macro_rules! operations {
    ($($name:ident |$c:ident, $a:ident, $b:ident| $e:expr;)*) => {$(
        struct $name;
        impl Binary for $name {
            #[inline(always)]
            fn of($c: &mut Ctx, $a: Operand, $b: Operand) -> F80 {
                $e
            }
        }
    )*};
}
operations! {
    Sum |c, a, b| c.add(a, b);
    Product |c, a, b| c.mul(a, b);
    Difference |c, a, b| c.sub(a, b);
    DifferenceR |c, a, b| c.sub(b, a);
    Quotient |c, a, b| c.div(a, b);
    QuotientR |c, a, b| c.div(b, a);
    Rem |c, a, b| c.rem(a, b);
    RemNearest |c, a, b| c.rem_nearest(a, b);
    Scale |c, a, b| c.scale(a, b);
    YLog2X |c, a, b| c.y_log2_x(b, a);
    YLog2XPlus1 |c, a, b| c.y_log2_x_plus_1(b, a);
    Atan |c, a, b| c.atan2(b, a);
}

/// `dst = dst op src`, then a pop if `POP`. With a memory operand the destination is ST(0).
fn binary<O: Binary, const POP: bool, S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let b = S::take(cpu, op)?;
    let f = &mut cpu.state.fpu;
    let (Some(a), Some(b)) = (f.read(op.dst), b) else {
        if f.underflow() {
            f.write(op.dst, F80::INDEFINITE);
            f.pop_if(POP);
        }
        return Ok(());
    };
    let mut c = f.ctx();
    let r = O::of(&mut c, a.into(), b);
    f.raise(c.flags);
    if c.writes_register() {
        f.write(op.dst, r);
        f.pop_if(POP);
    }
    Ok(())
}

fn popping<O: Binary, S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    binary::<O, true, S>(cpu, op)
}

fn keeping<O: Binary, S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    binary::<O, false, S>(cpu, op)
}

/// FPREM, FPREM1 and FSCALE: `ST(0) = ST(0) op ST(1)`. FPREM and FPREM1 tell by C2 whether they are done, and by the
/// other condition codes the low quotient bits; without a quotient C0 and C3 are kept (measured).
fn on_top<O: Binary, const REDUCES: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    if REDUCES {
        f.fsw &= !Flags::C2.bits();
    }
    let (Some(a), Some(b)) = (f.read(0), f.read(1)) else {
        if f.underflow() {
            f.write(0, F80::INDEFINITE);
        }
        return Ok(());
    };
    let mut c = f.ctx();
    let r = O::of(&mut c, a.into(), b.into());
    if REDUCES && !r.is_nan() && c.writes_register() {
        f.fsw &= !Flags::CONDITIONS.bits();
    }
    f.raise(c.flags);
    if c.writes_register() {
        f.write(0, r);
    }
    Ok(())
}

/// FYL2X, FYL2XP1, FPATAN: `ST(1) = ST(1) op ST(0)`, then a pop.
fn into_next<O: Binary>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    let (Some(a), Some(b)) = (f.read(0), f.read(1)) else {
        if f.underflow() {
            f.write(1, F80::INDEFINITE);
            f.pop_if(true);
        }
        return Ok(());
    };
    let mut c = f.ctx();
    let r = O::of(&mut c, a.into(), b.into());
    f.raise(c.flags);
    if c.writes_register() {
        f.write(1, r);
        f.pop_if(true);
    }
    Ok(())
}

/// The handler, if the instruction is of this file.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match s.mnemonic() {
        Fadd => by_source!(s, reg St1, keeping<Sum>),
        Fmul => by_source!(s, reg St1, keeping<Product>),
        Fsub => by_source!(s, reg St1, keeping<Difference>),
        Fsubr => by_source!(s, reg St1, keeping<DifferenceR>),
        Fdiv => by_source!(s, reg St1, keeping<Quotient>),
        Fdivr => by_source!(s, reg St1, keeping<QuotientR>),
        Fiadd => by_source!(s, int, keeping<Sum>),
        Fimul => by_source!(s, int, keeping<Product>),
        Fisub => by_source!(s, int, keeping<Difference>),
        Fisubr => by_source!(s, int, keeping<DifferenceR>),
        Fidiv => by_source!(s, int, keeping<Quotient>),
        Fidivr => by_source!(s, int, keeping<QuotientR>),
        Faddp => popping::<Sum, St1>,
        Fmulp => popping::<Product, St1>,
        Fsubp => popping::<Difference, St1>,
        Fsubrp => popping::<DifferenceR, St1>,
        Fdivp => popping::<Quotient, St1>,
        Fdivrp => popping::<QuotientR, St1>,
        Fprem => on_top::<Rem, true>,
        Fprem1 => on_top::<RemNearest, true>,
        Fscale => on_top::<Scale, false>,
        Fyl2x => into_next::<YLog2X>,
        Fyl2xp1 => into_next::<YLog2XPlus1>,
        Fpatan => into_next::<Atan>,
        _ => return None,
    })
}
