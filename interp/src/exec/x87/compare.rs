//! FCOM, FUCOM and FICOM with their popping forms, FTST, FXAM, and FCOMI and FUCOMI, which set RFLAGS.
//!
//! An unmasked IE or DE holds back the pops; condition codes and RFLAGS are set all the same (measured; see
//! `Ctx::compare`).

use super::control::wait;
use super::source::{Source, St1, by_source};
use super::stack::{Stack, note};
use crate::decode::{Handler, Op, Shape};
use crate::flags;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::softfloat::{Ctx, F80, Flags, Operand, Relation};
use emu_core::state::FpuState;
use emu_core::state::bits::rflags::STATUS;
use iced_x86::Mnemonic;

fn relation<const QUIET: bool>(c: &mut Ctx, a: F80, b: Operand) -> Relation {
    if QUIET { c.compare_quiet(a, b) } else { c.compare(a, b) }
}

/// Compares ST(0) with `b`: the relation, and whether pops happen. Stack underflow is unordered.
fn against<const QUIET: bool>(f: &mut FpuState, b: Option<Operand>) -> (Relation, bool) {
    let (Some(a), Some(b)) = (f.read(0), b) else {
        return (Relation::Unordered, f.underflow());
    };
    let mut c = f.ctx();
    let r = relation::<QUIET>(&mut c, a, b);
    f.raise(c.flags);
    (r, c.writes_register())
}

fn conditions(f: &mut FpuState, r: Relation) {
    f.raise_conditions(r.conditions());
}

/// FCOM, FUCOM, FICOM with `POPS` pops.
fn fcom<const QUIET: bool, const POPS: u8, S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let b = S::take(cpu, op)?;
    let f = &mut cpu.state.fpu;
    let (r, go_on) = against::<QUIET>(f, b);
    conditions(f, r);
    f.pop_if(go_on && POPS >= 1);
    f.pop_if(go_on && POPS == 2);
    Ok(())
}

fn compare<S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    fcom::<false, 0, S>(cpu, op)
}

fn compare_pop<S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    fcom::<false, 1, S>(cpu, op)
}

/// FCOMPP and FUCOMPP, whose operand is ST(1).
struct Next;
impl Source for Next {
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        note(cpu, op);
        Ok(cpu.state.fpu.read(1).map(Operand::from))
    }
}

/// FTST compares with this.
struct Zero;
impl Source for Zero {
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        note(cpu, op);
        Ok(Some(F80::ZERO.into()))
    }
}

/// FCOMI and FUCOMI: ZF, PF and CF as told, OF, SF and AF cleared.
fn fcomi<const QUIET: bool, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let b = St1::take(cpu, op)?;
    let (r, go_on) = against::<QUIET>(&mut cpu.state.fpu, b);
    flags::set_some(&mut cpu.state, STATUS, r.eflags().into());
    cpu.state.fpu.pop_if(POP && go_on);
    Ok(())
}

/// FXAM: no exception, and an empty register is a class of its own.
fn fxam(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    let class = match f.read(0) {
        Some(a) => a.examine(),
        None => Flags::C3 | Flags::C0 | f.contents(0).examine() & Flags::C1,
    };
    f.raise_conditions(class);
    Ok(())
}

/// The handler, if the instruction is of this file.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match s.mnemonic() {
        Fcom => by_source!(s, reg St1, compare),
        Fcomp => by_source!(s, reg St1, compare_pop),
        Ficom => by_source!(s, int, compare),
        Ficomp => by_source!(s, int, compare_pop),
        Fcompp => fcom::<false, 2, Next>,
        Fucom => fcom::<true, 0, St1>,
        Fucomp => fcom::<true, 1, St1>,
        Fucompp => fcom::<true, 2, Next>,
        Ftst => fcom::<false, 0, Zero>,
        Fcomi => fcomi::<false, false>,
        Fcomip => fcomi::<false, true>,
        Fucomi => fcomi::<true, false>,
        Fucomip => fcomi::<true, true>,
        Fxam => fxam,
        _ => return None,
    })
}
