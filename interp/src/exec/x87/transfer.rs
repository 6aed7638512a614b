//! Loads and stores of every type, constants, FXCH, FCMOVcc, and the stack's own instructions: FFREE, FFREEP,
//! FINCSTP, FDECSTP.

use super::super::save_area::address;
use super::control::wait;
use super::source::{Source, St0, by_source, is_memory};
use super::stack::{Stack, note, note_memory};
use crate::decode::{Handler, Op, Shape};
use crate::flags;
use crate::operand::{Mem, Src, W64, check_alignment, linear};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::softfloat::{Constant, Ctx, F80, Flags, Operand};
use iced_x86::Mnemonic;

/// `m64int`, loaded exactly.
struct Int64;
/// `m80fp`: no conversion and no exception.
struct Real80;
/// `m80bcd`.
struct Bcd;

/// The address of an operand of ten bytes, which alignment checks want at a multiple of 8 (SDM vol. 3A, table 6-7).
fn ten_byte_address(cpu: &mut Cpu, op: &Op, write: bool) -> Result<u64, Exception> {
    let lin = linear(cpu, op, 10, write)?;
    check_alignment(cpu, lin, 10, 8)?;
    Ok(lin)
}

/// Reads ten bytes as processors do: the significand, then the rest, so that a fault of either is its own.
fn ten_bytes(cpu: &mut Cpu, op: &Op) -> Result<[u8; 10], Exception> {
    let lin = ten_byte_address(cpu, op, false)?;
    let low = cpu.load::<8>(lin, op.stack())?;
    let high = cpu.load::<2>(address(cpu, lin, 8), op.stack())?;
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&(high as u16).to_le_bytes());
    Ok(bytes)
}

impl Source for Int64 {
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        let v = Mem::get::<W64>(cpu, op)? as i64;
        note_memory(cpu, op);
        Ok(Some(F80::from(v).into()))
    }
}

impl Source for Real80 {
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        let bytes = ten_bytes(cpu, op)?;
        note_memory(cpu, op);
        Ok(Some(F80::from_bytes(bytes).into()))
    }
}

impl Source for Bcd {
    fn take(cpu: &mut Cpu, op: &Op) -> Result<Option<Operand>, Exception> {
        let bytes = ten_bytes(cpu, op)?;
        note_memory(cpu, op);
        Ok(Some(F80::from_bcd(bytes).into()))
    }
}

/// FLD and FILD of what is converted: an unmasked stack overflow or IE stops the push.
fn load<S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let v = S::take(cpu, op)?;
    let f = &mut cpu.state.fpu;
    if f.full() {
        f.overflow();
        return Ok(());
    }
    // Memory is never empty.
    let Some(v) = v else { return Ok(()) };
    let mut c = f.ctx();
    let v = c.load(v);
    f.raise(c.flags);
    if c.writes_load() {
        f.push(v);
    }
    Ok(())
}

/// FLD of a register or of `m80fp`, FILD `m64int`, FBLD: what they load is pushed as it is.
fn load_exact<S: Source>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let v = S::take(cpu, op)?;
    let f = &mut cpu.state.fpu;
    match v {
        // Of two stack faults, the underflow is told.
        None => {
            if f.underflow() {
                f.push(F80::INDEFINITE);
            }
        }
        Some(_) if f.full() => f.overflow(),
        Some(v) => {
            f.raise(Flags::NONE);
            f.push(v.value());
        }
    }
    Ok(())
}

macro_rules! constants {
    ($($name:ident $which:ident)*) => {$(
        fn $name(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
            load_constant(cpu, op, Constant::$which)
        }
    )*};
}
constants! {
    fld1 One
    fldl2t Log2Of10
    fldl2e Log2OfE
    fldpi Pi
    fldlg2 Log10Of2
    fldln2 LnOf2
    fldz Zero
}

fn load_constant(cpu: &mut Cpu, op: &Op, which: Constant) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    if f.full() {
        f.overflow();
        return Ok(());
    }
    f.raise(Flags::NONE);
    f.push(which.load(f.ctx().rounding));
    Ok(())
}

/// A format in memory to store to.
trait Format: 'static {
    const BYTES: usize;
    /// The low eight bytes and the rest. The real indefinite gives the format's own indefinite.
    fn of(c: &mut Ctx, a: F80) -> (u64, u16);
}

macro_rules! formats {
    ($($name:ident $bytes:literal |$c:ident, $a:ident| $e:expr;)*) => {$(
        struct $name;
        impl Format for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            fn of($c: &mut Ctx, $a: F80) -> (u64, u16) {
                $e
            }
        }
    )*};
}
formats! {
    ToReal32 4 |c, a| (c.to_f32(a).into(), 0);
    ToReal64 8 |c, a| (c.to_f64(a), 0);
    ToReal80 10 |_c, a| (a.mant, a.se);
    ToInt16 2 |c, a| (c.to_i16(a) as u64, 0);
    ToInt32 4 |c, a| (c.to_i32(a) as u64, 0);
    ToInt64 8 |c, a| (c.to_i64(a) as u64, 0);
    ChopInt16 2 |c, a| (c.truncate_to_i16(a) as u64, 0);
    ChopInt32 4 |c, a| (c.truncate_to_i32(a) as u64, 0);
    ChopInt64 8 |c, a| (c.truncate_to_i64(a) as u64, 0);
    ToBcd 10 |c, a| {
        let b = F80::from_bytes(c.to_bcd(a));
        (b.mant, b.se)
    };
}

fn put<F: Format>(cpu: &mut Cpu, op: &Op, (low, high): (u64, u16)) -> Result<(), Exception> {
    let lin = match F::BYTES {
        10 => ten_byte_address(cpu, op, true)?,
        n => linear(cpu, op, n as u64, true)?,
    };
    let stack = op.stack();
    match F::BYTES {
        2 => cpu.store::<2>(lin, low & 0xffff, stack),
        4 => cpu.store::<4>(lin, low & 0xffff_ffff, stack),
        8 => cpu.store::<8>(lin, low, stack),
        _ => {
            cpu.probe_write(lin, 10, Priv::Current, stack)?;
            cpu.store::<8>(lin, low, stack)?;
            cpu.store::<2>(address(cpu, lin, 8), high.into(), stack)
        }
    }
}

/// FST, FIST, FISTTP, FBSTP and their popping forms to memory.
fn store<F: Format, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    let f = &cpu.state.fpu;
    let mut c = f.ctx();
    let Some(a) = f.read(0) else { return store_empty::<F, POP>(cpu, op) };
    let v = F::of(&mut c, a);
    let writes = c.writes_memory();
    if writes {
        put::<F>(cpu, op, v)?;
    }
    note_memory(cpu, op);
    let f = &mut cpu.state.fpu;
    f.raise(c.flags);
    f.pop_if(writes && POP);
    Ok(())
}

#[cold]
fn store_empty<F: Format, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mut c = cpu.state.fpu.ctx();
    if c.masked.intersects(Flags::IE) {
        let indefinite = F::of(&mut c, F80::INDEFINITE);
        put::<F>(cpu, op, indefinite)?;
    }
    note_memory(cpu, op);
    let f = &mut cpu.state.fpu;
    let masked = f.underflow();
    f.pop_if(masked && POP);
    Ok(())
}

/// FST and FSTP to a register.
fn copy<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    match f.read(0) {
        Some(a) => {
            f.raise(Flags::NONE);
            f.write(op.dst, a);
            f.pop_if(POP);
        }
        None => {
            if f.underflow() {
                f.write(op.dst, F80::INDEFINITE);
                f.pop_if(POP);
            }
        }
    }
    Ok(())
}

/// FSTPNCE (D9 D8+i): FSTP that only pops if ST(0) is empty, without an exception.
fn copy_unchecked(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    f.raise(Flags::NONE);
    if let Some(a) = f.read(0) {
        f.write(op.dst, a);
    }
    f.pop_if(true);
    Ok(())
}

fn fxch(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    let (a, b) = (f.read(op.dst), f.read(op.src));
    if a.is_some() && b.is_some() {
        f.raise(Flags::NONE);
    } else if !f.underflow() {
        return Ok(());
    }
    f.write(op.src, a.unwrap_or(F80::INDEFINITE));
    f.write(op.dst, b.unwrap_or(F80::INDEFINITE));
    Ok(())
}

/// FCMOVcc, `CC` as Jcc encodes it: an empty register is a fault whether the condition holds or not.
/// C1 is kept otherwise.
fn fcmov<const CC: u8>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let holds = flags::condition(cpu.state.rflags, CC);
    let f = &mut cpu.state.fpu;
    match (f.read(op.dst), f.read(op.src)) {
        (Some(_), Some(b)) if holds => f.write(op.dst, b),
        (Some(_), Some(_)) => {}
        _ => {
            if f.underflow() {
                f.write(op.dst, F80::INDEFINITE);
            }
        }
    }
    Ok(())
}

/// FFREE, and FFREEP, which pops too.
fn ffree<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    f.raise(Flags::NONE);
    f.free(op.dst);
    f.pop_if(POP);
    Ok(())
}

/// FINCSTP and FDECSTP: TOP moves, tags do not.
fn turn<const BY: u16>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    wait(cpu)?;
    note(cpu, op);
    let f = &mut cpu.state.fpu;
    f.raise(Flags::NONE);
    f.rotate(BY);
    Ok(())
}

/// Stores to memory by operand size: real formats, or integers.
fn stores(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match (s.mnemonic(), s.bytes) {
        (Fst, 4) => store::<ToReal32, false>,
        (Fst, _) => store::<ToReal64, false>,
        (Fstp, 4) => store::<ToReal32, true>,
        (Fstp, 8) => store::<ToReal64, true>,
        (Fstp, _) => store::<ToReal80, true>,
        (Fist, 2) => store::<ToInt16, false>,
        (Fist, _) => store::<ToInt32, false>,
        (Fistp, 2) => store::<ToInt16, true>,
        (Fistp, 4) => store::<ToInt32, true>,
        (Fistp, _) => store::<ToInt64, true>,
        (Fisttp, 2) => store::<ChopInt16, true>,
        (Fisttp, 4) => store::<ChopInt32, true>,
        (Fisttp, _) => store::<ChopInt64, true>,
        (Fbstp, _) => store::<ToBcd, true>,
        _ => return None,
    })
}

/// The handler, if the instruction is of this file.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match s.mnemonic() {
        Fld if !is_memory(s) => load_exact::<St0>,
        Fld if s.bytes == 10 => load_exact::<Real80>,
        Fld => by_source!(s, reg St0, load),
        Fild if s.bytes == 8 => load_exact::<Int64>,
        Fild => by_source!(s, int, load),
        Fbld => load_exact::<Bcd>,
        Fld1 => fld1,
        Fldl2t => fldl2t,
        Fldl2e => fldl2e,
        Fldpi => fldpi,
        Fldlg2 => fldlg2,
        Fldln2 => fldln2,
        Fldz => fldz,
        Fst if !is_memory(s) => copy::<false>,
        Fstp if !is_memory(s) => copy::<true>,
        Fstpnce => copy_unchecked,
        Fst | Fstp | Fist | Fistp | Fisttp | Fbstp => return stores(s),
        Fxch => fxch,
        Fcmovb => fcmov::<2>,
        Fcmovnb => fcmov::<3>,
        Fcmove => fcmov::<4>,
        Fcmovne => fcmov::<5>,
        Fcmovbe => fcmov::<6>,
        Fcmovnbe => fcmov::<7>,
        Fcmovu => fcmov::<10>,
        Fcmovnu => fcmov::<11>,
        Ffree => ffree::<false>,
        Ffreep => ffree::<true>,
        Fincstp => turn::<1>,
        Fdecstp => turn::<7>,
        _ => return None,
    })
}
