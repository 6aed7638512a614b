//! MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, with their repeat prefixes.
//!
//! Every iteration leaves rCX, rSI and rDI exact, so a fault or an interrupt between two of them restarts the
//! instruction where it was. A repeated instruction ends its block; when it stops early, `rip` is its own address.
//! Long runs of MOVS and STOS go page by page through `Cpu::copy_run` and `Cpu::fill_run`.

use super::by_width;
use crate::decode::{Class, Handler, Op, Shape};
use crate::flags;
use crate::operand::{W8, W16, W32, Width, linear_at, load, reg, segment, set_reg, store};
use crate::system::{io, seg};
use emu_core::addr::{PAGE_SHIFT, PhysAddr};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::state::bits::rflags::{DF, STATUS, ZF};
use emu_core::state::gpr::{RAX, RCX, RDI, RDX, RSI};
use emu_core::state::{Mode, Seg};
use iced_x86::Mnemonic;

/// Iterations that are not worth a bulk run.
const FEW: u64 = 8;
/// Iterations without bulk runs after which the engine gets a say.
const BURST: u32 = 1024;

/// How an instruction repeats.
trait Repeat: 'static {
    const ON: bool;
    /// ZF that lets CMPS and SCAS go on; None: they do not look at it.
    const WHILE: Option<bool>;
}
struct Once;
impl Repeat for Once {
    const ON: bool = false;
    const WHILE: Option<bool> = None;
}
struct Rep;
impl Repeat for Rep {
    const ON: bool = true;
    const WHILE: Option<bool> = None;
}
struct Repe;
impl Repeat for Repe {
    const ON: bool = true;
    const WHILE: Option<bool> = Some(true);
}
struct Repne;
impl Repeat for Repne {
    const ON: bool = true;
    const WHILE: Option<bool> = Some(false);
}

/// Register `r` cut to the address size.
#[inline(always)]
fn pointer(cpu: &Cpu, op: &Op, r: usize) -> u64 {
    cpu.state.gpr[r] & op.addr_mask()
}

/// Sets the address-size part of register `r` as a write of that width does.
#[inline(always)]
fn set_pointer(cpu: &mut Cpu, op: &Op, r: usize, v: u64) {
    match op.addr_shift {
        48 => set_reg::<W16>(&mut cpu.state, r as u8, v),
        32 => set_reg::<W32>(&mut cpu.state, r as u8, v),
        _ => cpu.state.gpr[r] = v,
    }
}

/// Moves register `r` one element on.
#[inline(always)]
fn advance<W: Width>(cpu: &mut Cpu, op: &Op, r: usize) {
    let step = W::BYTES as u64;
    let step = if cpu.state.rflags & DF != 0 { step.wrapping_neg() } else { step };
    let v = cpu.state.gpr[r].wrapping_add(step);
    set_pointer(cpu, op, r, v);
}

/// The linear address of `bytes` bytes at DS:rSI, or the overriding segment.
#[inline(always)]
fn source(cpu: &mut Cpu, op: &Op, bytes: u64) -> Result<u64, Exception> {
    let off = pointer(cpu, op, RSI);
    if op.class == Class::Flat { Ok(off) } else { linear_at(cpu, segment(op.seg), off, bytes, false) }
}

/// The linear address of `bytes` bytes at ES:rDI.
#[inline(always)]
fn target(cpu: &mut Cpu, op: &Op, bytes: u64, write: bool) -> Result<u64, Exception> {
    let off = pointer(cpu, op, RDI);
    let mode = cpu.state.mode;
    if mode.contains(Mode::FLAT) && !mode.contains(Mode::ALIGN) {
        return Ok(off);
    }
    linear_at(cpu, Seg::ES, off, bytes, write)
}

/// Runs `one` once, or until the count is used up or the condition fails; `bulk` may do many iterations at a time.
///
/// SDM vol. 2, REP: "When a fault occurs during the execution of a CMPS or SCAS instruction that is prefixed with REPE or
/// REPNE, the EFLAGS value is restored to the state prior to the execution of the instruction." So the comparison that ends
/// the instruction gives it its flags, and those before give none, whatever comes between two: Intel's processors have it so
/// for a single step, too.
#[inline(always)]
fn repeat<R: Repeat>(
    cpu: &mut Cpu,
    op: &Op,
    bulk: impl Fn(&mut Cpu, &Op, u64) -> u64,
    one: impl Fn(&mut Cpu, &Op) -> Result<(), Exception>,
) -> Result<(), Exception> {
    if !R::ON {
        return one(cpu, op);
    }
    let mut burst = BURST;
    let before = cpu.state.rflags & STATUS;
    let restore = |cpu: &mut Cpu| {
        if R::WHILE.is_some() {
            flags::set(&mut cpu.state, before);
        }
    };
    loop {
        let count = pointer(cpu, op, RCX);
        if count == 0 {
            return Ok(());
        }
        let step = cpu.state.mode.contains(Mode::STEP);
        // A journal is for comparison with other engines, of which bulk runs are a part.
        let single = step || cpu.mmu.journal.is_some();
        let done = if count >= FEW && !single { bulk(cpu, op, count) } else { 0 };
        if done == 0 {
            one(cpu, op).inspect_err(|_| restore(cpu))?;
        }
        let left = count - done.max(1);
        set_pointer(cpu, op, RCX, left);
        if left == 0 || R::WHILE.is_some_and(|zf| zf != (cpu.state.rflags & ZF != 0)) {
            return Ok(());
        }
        burst -= 1;
        if burst == 0 || step || cpu.signals.peek() != 0 || !cpu.code_hits.is_empty() {
            restore(cpu);
            cpu.state.rip = cpu.state.rip.wrapping_sub(op.len.into());
            return Ok(());
        }
    }
}

fn no_bulk(_: &mut Cpu, _: &Op, _: u64) -> u64 {
    0
}

/// Bytes of a bulk run from `off` that neither pass the end of the address space nor a page's worth.
fn span<W: Width>(cpu: &Cpu, op: &Op, count: u64, off: u64) -> Option<u64> {
    let len = count.min(4096 / W::BYTES as u64) * W::BYTES as u64;
    (cpu.state.rflags & DF == 0 && off.checked_add(len - 1).is_some_and(|end| end <= op.addr_mask()))
        .then_some(len)
}

/// Moves register `r` on by a run's bytes. Without any, its upper half stays, since nothing has happened.
fn skip(cpu: &mut Cpu, op: &Op, r: usize, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let v = cpu.state.gpr[r].wrapping_add(bytes as u64);
    set_pointer(cpu, op, r, v);
}

/// Where the instruction that runs lies, which RIP is behind; None if that is in two pages.
fn own_page(cpu: &mut Cpu, op: &Op) -> Option<PhysAddr> {
    let at = |cpu: &Cpu, back: u64| seg::code(cpu, cpu.state.rip.wrapping_sub(back)).ok();
    let (first, last) = (at(cpu, op.len.into())?, at(cpu, 1)?);
    (first >> PAGE_SHIFT == last >> PAGE_SHIFT).then(|| cpu.fetch_gpa(first).ok())?
}

fn bulk_movs<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
    let Some(a) = span::<W>(cpu, op, count, pointer(cpu, op, RSI)) else { return 0 };
    let Some(b) = span::<W>(cpu, op, count, pointer(cpu, op, RDI)) else { return 0 };
    let len = a.min(b);
    let (Ok(src), Ok(dst)) = (source(cpu, op, len), target(cpu, op, len, true)) else { return 0 };
    let own = own_page(cpu, op);
    let n = cpu.copy_run(dst, src, len as usize, W::BYTES, own);
    skip(cpu, op, RSI, n);
    skip(cpu, op, RDI, n);
    (n / W::BYTES) as u64
}

fn bulk_stos<W: Width>(cpu: &mut Cpu, op: &Op, count: u64) -> u64 {
    let Some(len) = span::<W>(cpu, op, count, pointer(cpu, op, RDI)) else { return 0 };
    let Ok(dst) = target(cpu, op, len, true) else { return 0 };
    let own = own_page(cpu, op);
    let n = cpu.fill_run(dst, cpu.state.gpr[RAX], len as usize, W::BYTES, own);
    skip(cpu, op, RDI, n);
    (n / W::BYTES) as u64
}

fn movs<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    repeat::<R>(cpu, op, bulk_movs::<W>, |cpu, op| {
        let src = source(cpu, op, W::BYTES as u64)?;
        let v = load::<W>(cpu, src, op.stack())?;
        let dst = target(cpu, op, W::BYTES as u64, true)?;
        store::<W>(cpu, dst, v, false)?;
        advance::<W>(cpu, op, RSI);
        advance::<W>(cpu, op, RDI);
        Ok(())
    })
}

fn stos<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    repeat::<R>(cpu, op, bulk_stos::<W>, |cpu, op| {
        let v = reg::<W>(&cpu.state, 0);
        let dst = target(cpu, op, W::BYTES as u64, true)?;
        store::<W>(cpu, dst, v, false)?;
        advance::<W>(cpu, op, RDI);
        Ok(())
    })
}

fn lods<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    repeat::<R>(cpu, op, no_bulk, |cpu, op| {
        let src = source(cpu, op, W::BYTES as u64)?;
        let v = load::<W>(cpu, src, op.stack())?;
        set_reg::<W>(&mut cpu.state, 0, v);
        advance::<W>(cpu, op, RSI);
        Ok(())
    })
}

fn scas<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    repeat::<R>(cpu, op, no_bulk, |cpu, op| {
        let at = target(cpu, op, W::BYTES as u64, false)?;
        let v = load::<W>(cpu, at, false)?;
        let a = reg::<W>(&cpu.state, 0);
        flags::set(&mut cpu.state, flags::sub::<W>(a, v, 0).1);
        advance::<W>(cpu, op, RDI);
        Ok(())
    })
}

/// CMPS reads at rDI first. The manual leaves the order open: Intel's processors do this and AMD's up to family 19h, while family
/// 1Ah begins at rSI.
fn cmps<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    repeat::<R>(cpu, op, no_bulk, |cpu, op| {
        let at = target(cpu, op, W::BYTES as u64, false)?;
        let b = load::<W>(cpu, at, false)?;
        let at = source(cpu, op, W::BYTES as u64)?;
        let a = load::<W>(cpu, at, op.stack())?;
        flags::set(&mut cpu.state, flags::sub::<W>(a, b, 0).1);
        advance::<W>(cpu, op, RSI);
        advance::<W>(cpu, op, RDI);
        Ok(())
    })
}

/// INS makes sure that the store cannot fault before it takes anything from the port.
fn ins<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let port = cpu.state.gpr[RDX] as u16;
    io::check(cpu, port, W::BYTES)?;
    repeat::<R>(cpu, op, no_bulk, |cpu, op| {
        let dst = target(cpu, op, W::BYTES as u64, true)?;
        cpu.probe_write(dst, W::BYTES, Priv::Current, false)?;
        let v = cpu.bus.port_read(port, W::BYTES as u8);
        store::<W>(cpu, dst, v.into(), false)?;
        advance::<W>(cpu, op, RDI);
        Ok(())
    })
}

fn outs<R: Repeat, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let port = cpu.state.gpr[RDX] as u16;
    io::check(cpu, port, W::BYTES)?;
    repeat::<R>(cpu, op, no_bulk, |cpu, op| {
        let src = source(cpu, op, W::BYTES as u64)?;
        let v = load::<W>(cpu, src, op.stack())?;
        cpu.bus.port_write(port, W::BYTES as u8, v as u32);
        advance::<W>(cpu, op, RSI);
        Ok(())
    })
}

macro_rules! plain {
    ($rep:expr, $bytes:expr, $f:ident) => {
        if $rep { by_width!($bytes, $f<Rep>) } else { by_width!($bytes, $f<Once>) }
    };
}
macro_rules! port {
    ($rep:expr, $f:ident, $w:ty) => {
        if $rep { $f::<Rep, $w> as Handler } else { $f::<Once, $w> }
    };
}
macro_rules! conditional {
    ($s:ident, $bytes:expr, $f:ident) => {
        if $s.ins.has_repne_prefix() {
            by_width!($bytes, $f<Repne>)
        } else if $s.ins.has_rep_prefix() {
            by_width!($bytes, $f<Repe>)
        } else {
            by_width!($bytes, $f<Once>)
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    if !s.ins.is_string_instruction() {
        return None;
    }
    let rep = s.ins.has_rep_prefix() || s.ins.has_repne_prefix();
    Some(match s.mnemonic() {
        Movsb => plain!(rep, 1, movs),
        Movsw => plain!(rep, 2, movs),
        Movsd => plain!(rep, 4, movs),
        Movsq => plain!(rep, 8, movs),
        Stosb => plain!(rep, 1, stos),
        Stosw => plain!(rep, 2, stos),
        Stosd => plain!(rep, 4, stos),
        Stosq => plain!(rep, 8, stos),
        Lodsb => plain!(rep, 1, lods),
        Lodsw => plain!(rep, 2, lods),
        Lodsd => plain!(rep, 4, lods),
        Lodsq => plain!(rep, 8, lods),
        Scasb => conditional!(s, 1, scas),
        Scasw => conditional!(s, 2, scas),
        Scasd => conditional!(s, 4, scas),
        Scasq => conditional!(s, 8, scas),
        Cmpsb => conditional!(s, 1, cmps),
        Cmpsw => conditional!(s, 2, cmps),
        Cmpsd => conditional!(s, 4, cmps),
        Cmpsq => conditional!(s, 8, cmps),
        Insb => port!(rep, ins, W8),
        Insw => port!(rep, ins, W16),
        Insd => port!(rep, ins, W32),
        Outsb => port!(rep, outs, W8),
        Outsw => port!(rep, outs, W16),
        Outsd => port!(rep, outs, W32),
        _ => return None,
    })
}
