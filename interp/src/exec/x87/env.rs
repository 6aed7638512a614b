//! FNSTENV, FLDENV, FNSAVE and FRSTOR (SDM vol. 1, figures 8-9 to 8-12).
//!
//! The environment has four forms: 16 or 32 bits by operand size, and pointers as selector and offset in protected
//! mode or as a linear address in real and virtual-8086 mode.

use super::super::save_area::{address, control_word, physical, status_word};
use super::control::{initialise, wait};
use crate::decode::{Handler, Op, Shape};
use crate::operand::linear;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::softfloat::F80;
use emu_core::state::{FpuState, Mode};
use iced_x86::{Code, Mnemonic};

/// Bytes of one field.
const SHORT: usize = 2;
const LONG: usize = 4;
/// The environment's fields: control, status and tag word, and two for each pointer.
const FIELDS: usize = 7;
/// Bytes of the eight registers behind it.
const REGISTERS: usize = 80;

/// The full tag word: 3 for empty registers, else what they hold.
fn tag_word(f: &FpuState) -> u16 {
    (0..8).fold(0, |word, i| {
        let tag = if f.ftw >> i & 1 != 0 { f.st[i].tag() } else { 3 };
        word | tag << (2 * i)
    })
}

/// The abridged form of a full tag word.
fn abridged(tags: u16) -> u8 {
    (0..8).fold(0, |bits, i| bits | if tags >> (2 * i) & 3 != 3 { 1 << i } else { 0 })
}

/// The seven fields, of `size` bytes each.
fn fields(f: &FpuState, size: usize, protected: bool) -> [u32; FIELDS] {
    let (ip, dp) = (f.fip as u32, f.fdp as u32);
    let pointers = if protected {
        let opcode = if size == LONG { u32::from(f.fop) << 16 } else { 0 };
        // The unused half of the last field reads as ones, as it does beside the three words above.
        let unused = if size == LONG { 0xffff_0000 } else { 0 };
        [ip, u32::from(f.fcs) | opcode, dp, u32::from(f.fds) | unused]
    } else {
        let ip = (u32::from(f.fcs) << 4).wrapping_add(ip);
        let dp = (u32::from(f.fds) << 4).wrapping_add(dp);
        let rest = |linear: u32| linear >> 16 << 12;
        [ip & 0xffff, rest(ip) | u32::from(f.fop), dp & 0xffff, rest(dp)]
    };
    let word = |v: u16| u32::from(v) | 0xffff_0000;
    let [ip, cs, dp, ds] = pointers;
    [word(f.fcw), word(f.fsw), word(tag_word(f)), ip, cs, dp, ds]
}

/// Takes the environment out of its fields; the registers stay.
fn set_fields(f: &mut FpuState, v: [u32; FIELDS], size: usize, protected: bool) {
    f.fcw = control_word(v[0] as u16);
    f.fsw = status_word(f.fcw, v[1] as u16);
    f.ftw = abridged(v[2] as u16);
    if protected {
        (f.fip, f.fcs) = (v[3].into(), v[4] as u16);
        (f.fdp, f.fds) = (v[5].into(), v[6] as u16);
        // The 16-bit form has no opcode.
        f.fop = if size == LONG { (v[4] >> 16) as u16 & 0x7ff } else { 0 };
    } else {
        let linear = |low: u32, high: u32| u64::from(low & 0xffff | high >> 12 << 16);
        (f.fip, f.fcs) = (linear(v[3], v[4]), 0);
        (f.fdp, f.fds) = (linear(v[5], v[6]), 0);
        f.fop = v[4] as u16 & 0x7ff;
    }
}

fn read_field(cpu: &mut Cpu, lin: u64, size: usize, stack: bool) -> Result<u32, Exception> {
    let v = if size == LONG { cpu.load::<4>(lin, stack)? } else { cpu.load::<2>(lin, stack)? };
    Ok(v as u32)
}

fn write_field(cpu: &mut Cpu, lin: u64, size: usize, v: u32, stack: bool) -> Result<(), Exception> {
    if size == LONG {
        cpu.store::<4>(lin, v.into(), stack)
    } else {
        cpu.store::<2>(lin, (v & 0xffff).into(), stack)
    }
}

/// Writes the environment, and the registers if `all`.
fn write_out(cpu: &mut Cpu, op: &Op, size: usize, all: bool) -> Result<(), Exception> {
    let bytes = FIELDS * size + if all { REGISTERS } else { 0 };
    let lin = linear(cpu, op, bytes as u64, true)?;
    let stack = op.stack();
    cpu.probe_write(lin, bytes, Priv::Current, stack)?;
    let f = cpu.state.fpu;
    let v = fields(&f, size, cpu.state.mode.contains(Mode::PROT));
    for (i, v) in v.into_iter().enumerate() {
        write_field(cpu, address(cpu, lin, i * size), size, v, stack)?;
    }
    if all {
        for i in 0..8 {
            let at = FIELDS * size + 10 * i;
            let r = f.st[physical(f.fsw, i)];
            cpu.store::<8>(address(cpu, lin, at), r.mant, stack)?;
            cpu.store::<2>(address(cpu, lin, at + 8), r.se.into(), stack)?;
        }
    }
    Ok(())
}

/// Reads the environment, and the registers if `all`.
fn read_in(cpu: &mut Cpu, op: &Op, size: usize, all: bool) -> Result<(), Exception> {
    wait(cpu)?;
    let bytes = FIELDS * size + if all { REGISTERS } else { 0 };
    let lin = linear(cpu, op, bytes as u64, false)?;
    let stack = op.stack();
    let mut v = [0; FIELDS];
    for (i, v) in v.iter_mut().enumerate() {
        *v = read_field(cpu, address(cpu, lin, i * size), size, stack)?;
    }
    let mut f = cpu.state.fpu;
    set_fields(&mut f, v, size, cpu.state.mode.contains(Mode::PROT));
    if all {
        for i in 0..8 {
            let at = FIELDS * size + 10 * i;
            let mant = cpu.load::<8>(address(cpu, lin, at), stack)?;
            let se = cpu.load::<2>(address(cpu, lin, at + 8), stack)? as u16;
            f.st[physical(f.fsw, i)] = F80 { mant, se };
        }
    }
    cpu.state.fpu = f;
    Ok(())
}

/// FNSTENV: all exceptions are masked afterwards, so none is pending.
fn fnstenv<const SIZE: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    write_out(cpu, op, SIZE, false)?;
    let f = &mut cpu.state.fpu;
    f.fcw |= 0x3f;
    f.fsw = status_word(f.fcw, f.fsw);
    Ok(())
}

/// FNSAVE: FNINIT follows.
fn fnsave<const SIZE: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    write_out(cpu, op, SIZE, true)?;
    initialise(&mut cpu.state.fpu);
    Ok(())
}

fn fldenv<const SIZE: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    read_in(cpu, op, SIZE, false)
}

fn frstor<const SIZE: usize>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    read_in(cpu, op, SIZE, true)
}

/// The handler, if the instruction is of this file.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    let long = matches!(
        s.ins.code(),
        Code::Fnstenv_m28byte | Code::Fldenv_m28byte | Code::Fnsave_m108byte | Code::Frstor_m108byte
    );
    Some(match (s.mnemonic(), long) {
        (Fnstenv, true) => fnstenv::<LONG>,
        (Fnstenv, false) => fnstenv::<SHORT>,
        (Fldenv, true) => fldenv::<LONG>,
        (Fldenv, false) => fldenv::<SHORT>,
        (Fnsave, true) => fnsave::<LONG>,
        (Fnsave, false) => fnsave::<SHORT>,
        (Frstor, true) => frstor::<LONG>,
        (Frstor, false) => frstor::<SHORT>,
        _ => return None,
    })
}
