//! PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE.
//!
//! The stack pointer changes after the last access of an instruction, so that every fault restarts cleanly.

use super::mov::load_segment;
use crate::decode::{Class, Handler, Kind, Op, Shape};
use crate::operand::{
    Imm, R0, Src, W16, W32, W64, Width, effective, linear_at, load, reg, segment, set_reg, store,
};
use crate::system::flags;
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::gpr::{RBP, RSP};
use emu_core::state::{CpuState, Mode, Seg};
use iced_x86::{Mnemonic, OpKind};

/// The bits of RSP that are the stack pointer (SS.B, or all in 64-bit code).
#[inline(always)]
pub fn sp_mask(s: &CpuState) -> u64 {
    if s.mode.contains(Mode::CODE64) {
        u64::MAX
    } else if s.mode.contains(Mode::STACK32) {
        0xffff_ffff
    } else {
        0xffff
    }
}

/// Sets the stack pointer, keeping the bits of RSP that are not part of it.
#[inline(always)]
pub fn set_sp(cpu: &mut Cpu, sp: u64) {
    let mask = sp_mask(&cpu.state);
    let rsp = &mut cpu.state.gpr[RSP];
    *rsp = if mask == 0xffff { *rsp & !mask | sp & mask } else { sp & mask };
}

/// The linear address of `bytes` bytes at stack offset `sp`.
#[inline(always)]
fn at(cpu: &mut Cpu, sp: u64, bytes: u64, write: bool) -> Result<u64, Exception> {
    let mode = cpu.state.mode;
    if mode.contains(Mode::FLAT) && !mode.contains(Mode::ALIGN) {
        return Ok(sp);
    }
    at_slow(cpu, sp, bytes, write)
}

#[inline(never)]
fn at_slow(cpu: &mut Cpu, sp: u64, bytes: u64, write: bool) -> Result<u64, Exception> {
    linear_at(cpu, Seg::SS, sp, bytes, write)
}

/// Pushes a `W`.
///
/// # Errors
/// #SS(0), #PF, #AC(0).
#[inline(always)]
pub fn push<W: Width>(cpu: &mut Cpu, value: u64) -> Result<(), Exception> {
    let sp = cpu.state.gpr[RSP].wrapping_sub(W::BYTES as u64) & sp_mask(&cpu.state);
    let lin = at(cpu, sp, W::BYTES as u64, true)?;
    store::<W>(cpu, lin, value, true)?;
    set_sp(cpu, sp);
    Ok(())
}

/// Reads the `W` that is `skip` bytes above the top of the stack, and gives the stack pointer after it too.
///
/// # Errors
/// #SS(0), #PF, #AC(0).
#[inline(always)]
pub fn peek<W: Width>(cpu: &mut Cpu, skip: u64) -> Result<(u64, u64), Exception> {
    let mask = sp_mask(&cpu.state);
    let sp = cpu.state.gpr[RSP].wrapping_add(skip) & mask;
    let lin = at(cpu, sp, W::BYTES as u64, false)?;
    let v = load::<W>(cpu, lin, true)?;
    Ok((v, sp.wrapping_add(W::BYTES as u64) & mask))
}

fn push_operand<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    push::<W>(cpu, v)
}

/// PUSH of a segment register (SDM vol. 2): with 64 bits the selector is zero-extended; with 32 the selector alone is
/// written and the rest stays, as on "all recent Intel Core and Intel Atom processors". What is checked is that write of
/// 16 bits, its alignment (vol. 3A, table 6-7: a word's is 2) and its page among it.
fn push_seg<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let sel = cpu.state.seg[segment(op.dst) as usize].sel.into();
    if W::BYTES == 8 {
        return push::<W64>(cpu, sel);
    }
    let sp = cpu.state.gpr[RSP].wrapping_sub(W::BYTES as u64) & sp_mask(&cpu.state);
    let lin = at(cpu, sp, W16::BYTES as u64, true)?;
    store::<W16>(cpu, lin, sel, true)?;
    set_sp(cpu, sp);
    Ok(())
}

fn pop_reg<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (v, sp) = peek::<W>(cpu, 0)?;
    set_sp(cpu, sp);
    set_reg::<W>(&mut cpu.state, op.dst, v);
    Ok(())
}

/// POP to memory: an address based on rSP is computed after the increment.
fn pop_mem<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (v, sp) = peek::<W>(cpu, 0)?;
    let old = cpu.state.gpr[RSP];
    set_sp(cpu, sp);
    let stored = pop_target(cpu, op, W::BYTES as u64).and_then(|lin| store::<W>(cpu, lin, v, op.stack()));
    if stored.is_err() {
        cpu.state.gpr[RSP] = old;
    }
    stored
}

fn pop_target(cpu: &mut Cpu, op: &Op, bytes: u64) -> Result<u64, Exception> {
    let off = effective(&cpu.state, op);
    if op.class == Class::Flat { Ok(off) } else { linear_at(cpu, segment(op.seg), off, bytes, true) }
}

/// POP of a segment register reads 16 bits whatever the operand size.
fn pop_seg<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = sp_mask(&cpu.state);
    let sp = cpu.state.gpr[RSP] & mask;
    let lin = at(cpu, sp, W::BYTES as u64, false)?;
    let sel = load::<W16>(cpu, lin, true)?;
    let which = segment(op.dst);
    if which == Seg::SS {
        // The new stack width applies to the next instruction, not to this increment.
        let old = cpu.state.gpr[RSP];
        set_sp(cpu, sp.wrapping_add(W::BYTES as u64));
        return load_segment(cpu, which, sel as u16).inspect_err(|_| cpu.state.gpr[RSP] = old);
    }
    load_segment(cpu, which, sel as u16)?;
    set_sp(cpu, sp.wrapping_add(W::BYTES as u64));
    Ok(())
}

/// PUSHA: all or nothing.
fn pusha<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let mask = sp_mask(&cpu.state);
    let size = W::BYTES as u64;
    let old = cpu.state.gpr[RSP];
    // Find every fault before the first write.
    for i in 0..8 {
        let lin = at(cpu, old.wrapping_sub(size * (i + 1)) & mask, size, true)?;
        cpu.probe_write(lin, W::BYTES, Priv::Current, true)?;
    }
    for i in 0..8u64 {
        let lin = at(cpu, old.wrapping_sub(size * (i + 1)) & mask, size, true)?;
        store::<W>(cpu, lin, cpu.state.gpr[i as usize], true)?;
    }
    set_sp(cpu, old.wrapping_sub(8 * size));
    Ok(())
}

fn popa<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let size = W::BYTES as u64;
    let mut values = [0; 8];
    let mut end = 0;
    for (i, v) in values.iter_mut().enumerate() {
        (*v, end) = peek::<W>(cpu, size * i as u64)?;
    }
    for (i, v) in values.iter().enumerate() {
        let r = 7 - i;
        if r != RSP {
            set_reg::<W>(&mut cpu.state, r as u8, *v);
        }
    }
    set_sp(cpu, end);
    Ok(())
}

fn pushf<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = flags::pushf(cpu, W::BYTES)?;
    push::<W>(cpu, v)
}

fn popf<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let (v, sp) = peek::<W>(cpu, 0)?;
    flags::popf(cpu, v, W::BYTES)?;
    set_sp(cpu, sp);
    Ok(())
}

/// LEAVE.
fn leave<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let mask = sp_mask(&cpu.state);
    let sp = cpu.state.gpr[RBP] & mask;
    let lin = at(cpu, sp, W::BYTES as u64, false)?;
    let v = load::<W>(cpu, lin, true)?;
    set_sp(cpu, sp.wrapping_add(W::BYTES as u64));
    set_reg::<W>(&mut cpu.state, RBP as u8, v);
    Ok(())
}

/// ENTER, with nesting levels modulo 32.
fn enter<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = sp_mask(&cpu.state);
    let step = W::BYTES as u64;
    let (size, level) = (op.imm & 0xffff, op.imm >> 32 & 31);
    let rbp = cpu.state.gpr[RBP];
    let mut sp = cpu.state.gpr[RSP].wrapping_sub(step) & mask;
    let frame = sp;
    let lin = at(cpu, sp, step, true)?;
    store::<W>(cpu, lin, rbp, true)?;
    if level > 0 {
        for i in 1..level {
            let lin = at(cpu, rbp.wrapping_sub(step * i) & mask, step, false)?;
            let v = load::<W>(cpu, lin, true)?;
            sp = sp.wrapping_sub(step) & mask;
            let lin = at(cpu, sp, step, true)?;
            store::<W>(cpu, lin, v, true)?;
        }
        sp = sp.wrapping_sub(step) & mask;
        let lin = at(cpu, sp, step, true)?;
        store::<W>(cpu, lin, frame, true)?;
    }
    sp = sp.wrapping_sub(size) & mask;
    // The manual faults if a push to the new frame would: write permission at the final stack pointer.
    let lin = at(cpu, sp, step, true)?;
    cpu.probe_write(lin, W::BYTES, Priv::Current, true)?;
    set_reg::<W>(&mut cpu.state, RBP as u8, frame);
    set_sp(cpu, sp);
    Ok(())
}

/// BOUND.
fn bound<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let off = effective(&cpu.state, op);
    let size = W::BYTES as u64;
    let lin = linear_at(cpu, segment(op.seg), off, size, false)?;
    let low = W::sx(load::<W>(cpu, lin, op.stack())?) as i64;
    let lin = linear_at(cpu, segment(op.seg), off.wrapping_add(size) & op.addr_mask(), size, false)?;
    let high = W::sx(load::<W>(cpu, lin, op.stack())?) as i64;
    let index = W::sx(reg::<W>(&cpu.state, op.dst)) as i64;
    if (low..=high).contains(&index) { Ok(()) } else { Err(Exception::new(Vector::BR)) }
}

macro_rules! wide {
    ($bytes:expr, $f:ident $(< $($g:ty),+ >)?) => {
        match $bytes {
            2 => $f::<$($($g,)+)? W16> as Handler,
            4 => $f::<$($($g,)+)? W32>,
            _ => $f::<$($($g,)+)? W64>,
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    let bytes = s.ins.stack_pointer_increment().unsigned_abs() as usize;
    let seg_operand = s.ins.op_count() > 0
        && s.ins.op0_kind() == OpKind::Register
        && s.ins.op0_register().is_segment_register();
    Some(match s.mnemonic() {
        Push if seg_operand => wide!(bytes, push_seg),
        Push => match s.kinds[0] {
            Kind::Reg => wide!(bytes, push_operand<R0>),
            Kind::Imm => wide!(bytes, push_operand<Imm>),
            _ => wide!(bytes, push_operand<crate::operand::Mem>),
        },
        Pop if seg_operand => wide!(bytes, pop_seg),
        Pop if s.kinds[0] == Kind::Reg => wide!(bytes, pop_reg),
        Pop => wide!(bytes, pop_mem),
        Pusha => pusha::<W16>,
        Pushad => pusha::<W32>,
        Popa => popa::<W16>,
        Popad => popa::<W32>,
        Pushf => pushf::<W16>,
        Pushfd => pushf::<W32>,
        Pushfq => pushf::<W64>,
        Popf => popf::<W16>,
        Popfd => popf::<W32>,
        Popfq => popf::<W64>,
        Leave => match s.ins.code() {
            iced_x86::Code::Leavew => leave::<W16>,
            iced_x86::Code::Leaved => leave::<W32>,
            _ => leave::<W64>,
        },
        Enter => match s.ins.code() {
            iced_x86::Code::Enterw_imm16_imm8 => enter::<W16>,
            iced_x86::Code::Enterd_imm16_imm8 => enter::<W32>,
            _ => enter::<W64>,
        },
        Bound => wide!(s.bytes, bound),
        _ => return None,
    })
}
