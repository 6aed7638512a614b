//! BT, BTS, BTR, BTC, BSF, BSR, LZCNT, TZCNT, POPCNT, CRC32, RDRAND, RDSEED.

use super::by_width;
use crate::decode::{Class, Handler, Kind, Op, Shape};
use crate::flags::{self, when};
use crate::operand::{
    Dst, Imm, Locked, Mem, R0, R1, Src, W16, W32, W64, Width, effective, linear_at, load, reg, segment,
    set_reg,
};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::bits::rflags::{CF, STATUS, ZF};
use iced_x86::Mnemonic;

const TEST: u8 = 0;
const SET: u8 = 1;
const RESET: u8 = 2;
const FLIP: u8 = 3;

#[inline(always)]
fn changed<const DO: u8>(v: u64, bit: u64) -> u64 {
    match DO {
        SET => v | 1 << bit,
        RESET => v & !(1 << bit),
        FLIP => v ^ 1 << bit,
        _ => v,
    }
}

/// A bit of a register, or of memory by an immediate number: the number is taken modulo the width.
fn bit<const DO: u8, D: Dst, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let n = S::get::<W>(cpu, op)? & u64::from(W::BITS - 1);
    let old =
        if DO == TEST { D::get::<W>(cpu, op)? } else { D::update::<W>(cpu, op, |v| changed::<DO>(v, n))? };
    flags::set_some(&mut cpu.state, CF, old >> n & 1);
    Ok(())
}

/// A bit of memory by a register: the number is signed and reaches beyond the operand.
fn bit_string<const DO: u8, const LOCK: bool, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let number = W::sx(reg::<W>(&cpu.state, op.src)) as i64;
    let n = number as u64 & u64::from(W::BITS - 1);
    let step = (number >> W::BITS.trailing_zeros()) * W::BYTES as i64;
    let off = effective(&cpu.state, op).wrapping_add(step as u64) & op.addr_mask();
    let lin = if op.class == Class::Flat {
        off
    } else {
        linear_at(cpu, segment(op.seg), off, W::BYTES as u64, DO != TEST)?
    };
    let old = if DO == TEST {
        load::<W>(cpu, lin, op.stack())?
    } else {
        let f = |v| changed::<DO>(v, n);
        let ss = op.stack();
        match (LOCK, W::BYTES) {
            (false, 2) => cpu.modify::<2>(lin, ss, f)?,
            (false, 4) => cpu.modify::<4>(lin, ss, f)?,
            (false, _) => cpu.modify::<8>(lin, ss, f)?,
            (true, 2) => cpu.modify_locked::<2>(lin, ss, f)?,
            (true, 4) => cpu.modify_locked::<4>(lin, ss, f)?,
            (true, _) => cpu.modify_locked::<8>(lin, ss, f)?,
        }
    };
    flags::set_some(&mut cpu.state, CF, old >> n & 1);
    Ok(())
}

/// BSF, BSR: a zero source leaves the destination alone (all of it).
fn scan<const UP: bool, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    flags::set_some(&mut cpu.state, ZF, when(v == 0, ZF));
    if v != 0 {
        let n = if UP { v.trailing_zeros() } else { 63 - v.leading_zeros() };
        set_reg::<W>(&mut cpu.state, op.dst, n.into());
    }
    Ok(())
}

fn forward<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    scan::<true, S, W>(cpu, op)
}

fn reverse<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    scan::<false, S, W>(cpu, op)
}

fn count_zeros<const TRAILING: bool, W: Width>(cpu: &mut Cpu, op: &Op, v: u64) {
    let n = if v == 0 {
        W::BITS
    } else if TRAILING {
        v.trailing_zeros()
    } else {
        v.leading_zeros() - (64 - W::BITS)
    };
    set_reg::<W>(&mut cpu.state, op.dst, n.into());
    flags::set_some(&mut cpu.state, CF | ZF, when(v == 0, CF) | when(n == 0, ZF));
}

fn tzcnt<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    count_zeros::<true, W>(cpu, op, v);
    Ok(())
}

fn lzcnt<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    count_zeros::<false, W>(cpu, op, v);
    Ok(())
}

fn popcnt<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    set_reg::<W>(&mut cpu.state, op.dst, v.count_ones().into());
    flags::set(&mut cpu.state, when(v == 0, ZF));
    Ok(())
}

/// CRC32 with the Castagnoli polynomial, bit-reflected; the result is 32 bits wide and zero-extended.
fn crc32<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    let mut crc = cpu.state.gpr[usize::from(op.dst) & 15] & 0xffff_ffff;
    for i in 0..W::BYTES {
        crc ^= v >> (8 * i) & 0xff;
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    set_reg::<W32>(&mut cpu.state, op.dst, crc);
    Ok(())
}

/// RDRAND, RDSEED: CF says whether the number is good; without one the destination is 0.
fn random<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = cpu.entropy.draw();
    set_reg::<W>(&mut cpu.state, op.dst, v.unwrap_or(0));
    flags::set_some(&mut cpu.state, STATUS, when(v.is_some(), CF));
    Ok(())
}

macro_rules! wide {
    ($bytes:expr, $f:ident < $($g:tt),* >) => {
        match $bytes {
            2 => $f::<$($g,)* W16> as Handler,
            4 => $f::<$($g,)* W32>,
            _ => $f::<$($g,)* W64>,
        }
    };
}

fn bits<const DO: u8>(s: &Shape) -> Handler {
    let w = s.bytes;
    match (s.kinds[0], s.kinds[1], s.locked()) {
        (Kind::Reg, Kind::Reg, _) => wide!(w, bit<DO, R0, R1>),
        (Kind::Reg, _, _) => wide!(w, bit<DO, R0, Imm>),
        (_, Kind::Reg, true) => wide!(w, bit_string<DO, true>),
        (_, Kind::Reg, false) => wide!(w, bit_string<DO, false>),
        (_, _, true) => wide!(w, bit<DO, Locked, Imm>),
        _ => wide!(w, bit<DO, Mem, Imm>),
    }
}

macro_rules! source {
    ($s:ident, $bytes:expr, $f:ident) => {
        match $s.kinds[1] {
            Kind::Reg => by_width!($bytes, $f<R1>),
            _ => by_width!($bytes, $f<Mem>),
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    let w = s.bytes;
    Some(match s.mnemonic() {
        Mnemonic::Bt => bits::<TEST>(s),
        Mnemonic::Bts => bits::<SET>(s),
        Mnemonic::Btr => bits::<RESET>(s),
        Mnemonic::Btc => bits::<FLIP>(s),
        Mnemonic::Bsf => source!(s, w, forward),
        Mnemonic::Bsr => source!(s, w, reverse),
        Mnemonic::Tzcnt => source!(s, w, tzcnt),
        Mnemonic::Lzcnt => source!(s, w, lzcnt),
        Mnemonic::Popcnt => source!(s, w, popcnt),
        Mnemonic::Crc32 => source!(s, s.size(1), crc32),
        Mnemonic::Rdrand | Mnemonic::Rdseed => by_width!(w, random),
        _ => return None,
    })
}
