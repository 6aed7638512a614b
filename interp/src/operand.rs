//! How instructions reach their operands.
//!
//! A handler is generic over the operand's [`Width`] and over where its operands are:
//!
//! | type | is | field |
//! |---|---|---|
//! | [`R0`], [`R1`] | the register that is operand 0 or 1 | [`Op::dst`], [`Op::src`] |
//! | [`Mem`] | the memory operand (an instruction has at most one besides string operands) | `base`… |
//! | [`Locked`] | the memory operand under LOCK | |
//! | [`Imm`] | the immediate, sign-extended to 64 bits where the instruction does so | [`Op::imm`] |
//!
//! [`Src::get`] reads, [`Dst::put`] writes, [`Dst::update`] is a read-modify-write that demands write permission
//! before it reads. Values travel as `u64`, zero-extended; results need not be masked.
//!
//! For 16-byte operands use [`load_128`], [`store_128`] (unaligned allowed) or [`load_128_aligned`],
//! [`store_128_aligned`] (#GP(0) unless 16-byte aligned), with `cpu.state.vec[op.dst & 15]`; for 10 bytes or more
//! [`linear`] with a byte count gives a checked linear address, which then goes to `Cpu::load::<N>` and
//! `Cpu::store::<N>`, with `Cpu::probe_write` first where several stores must be all or none. MMX registers are
//! [`mm`] and [`set_mm`]; `op.dst` and `op.src` number XMM, MMX, ST, control, debug and segment registers as the
//! encoding does; a third operand is in [`Op::ins`]. 8-bit general registers are numbered `2 * n` (low byte) and `2 * n + 1` (AH, CH, DH, BH).

use crate::decode::{Class, Op};
use crate::system::seg;
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::bits::cr0;
use emu_core::state::{CpuState, Mode, Seg};

/// An operand width.
pub trait Width: 'static {
    /// Size in bytes.
    const BYTES: usize;
    /// Size in bits.
    const BITS: u32 = 8 * Self::BYTES as u32;
    /// The bits of an operand.
    const MASK: u64 = u64::MAX >> (64 - Self::BITS);

    /// Sign-extends from this width.
    #[inline(always)]
    fn sx(value: u64) -> u64 {
        ((value << (64 - Self::BITS)) as i64 >> (64 - Self::BITS)) as u64
    }
}

/// 8 bits.
#[derive(Debug)]
pub struct W8;
/// 16 bits.
#[derive(Debug)]
pub struct W16;
/// 32 bits.
#[derive(Debug)]
pub struct W32;
/// 64 bits.
#[derive(Debug)]
pub struct W64;
impl Width for W8 {
    const BYTES: usize = 1;
}
impl Width for W16 {
    const BYTES: usize = 2;
}
impl Width for W32 {
    const BYTES: usize = 4;
}
impl Width for W64 {
    const BYTES: usize = 8;
}

/// Reads general register `r`.
#[inline(always)]
pub fn reg<W: Width>(s: &CpuState, r: u8) -> u64 {
    if W::BYTES == 1 {
        s.gpr[usize::from(r >> 1) & 15] >> ((r & 1) * 8) & 0xff
    } else {
        s.gpr[usize::from(r) & 15] & W::MASK
    }
}

/// Writes general register `r`: 32-bit writes clear the upper half, narrower ones keep the rest.
#[inline(always)]
pub fn set_reg<W: Width>(s: &mut CpuState, r: u8, value: u64) {
    match W::BYTES {
        1 => {
            let shift = (r & 1) * 8;
            let g = &mut s.gpr[usize::from(r >> 1) & 15];
            *g = *g & !(0xff << shift) | (value & 0xff) << shift;
        }
        2 => {
            let g = &mut s.gpr[usize::from(r) & 15];
            *g = *g & !0xffff | value & 0xffff;
        }
        _ => s.gpr[usize::from(r) & 15] = value & W::MASK,
    }
}

/// MMX register `n`.
#[inline(always)]
pub fn mm(s: &CpuState, n: u8) -> u64 {
    s.fpu.st[usize::from(n) & 7].mant
}

/// Writes MMX register `n`: the exponent becomes all ones (SDM vol. 1, 9.2). Tags and TOP are the caller's.
#[inline(always)]
pub fn set_mm(s: &mut CpuState, n: u8, value: u64) {
    let st = &mut s.fpu.st[usize::from(n) & 7];
    st.mant = value;
    st.se = 0xffff;
}

/// The memory operand's offset in its segment, cut to the address size.
#[inline(always)]
pub fn offset(s: &CpuState, op: &Op) -> u64 {
    let base = s.gpr[usize::from(op.base) & 15] & i64::from(op.base_mask) as u64;
    let index = s.gpr[usize::from(op.index) & 15].wrapping_mul(op.scale.into());
    let sum = base.wrapping_add(index).wrapping_add(i64::from(op.disp) as u64);
    sum & (u64::MAX >> (op.addr_shift & 63))
}

/// The offset for every class of operand: what LEA gives.
#[inline(always)]
pub fn effective(s: &CpuState, op: &Op) -> u64 {
    match op.class {
        Class::Flat | Class::Segment => offset(s, op),
        // `rip` is the next instruction's while a handler runs.
        Class::Rip => s.rip.wrapping_add(i64::from(op.disp) as u64) & (u64::MAX >> (op.addr_shift & 63)),
        Class::Direct => op.imm,
    }
}

/// The linear address of the memory operand for an access of `bytes` bytes, after the segment's checks.
///
/// # Errors
/// #GP(0), #SS(0), or #AC(0).
#[inline(always)]
pub fn linear(cpu: &mut Cpu, op: &Op, bytes: u64, write: bool) -> Result<u64, Exception> {
    if op.class == Class::Flat { Ok(offset(&cpu.state, op)) } else { linear_slow(cpu, op, bytes, write) }
}

/// The same for instructions that are never checked for alignment.
///
/// # Errors
/// #GP(0) or #SS(0).
#[inline(always)]
pub fn linear_unchecked(cpu: &mut Cpu, op: &Op, bytes: u64, write: bool) -> Result<u64, Exception> {
    let off = effective(&cpu.state, op);
    linear_unaligned(cpu, segment(op.seg), off, bytes, write)
}

#[inline(never)]
fn linear_slow(cpu: &mut Cpu, op: &Op, bytes: u64, write: bool) -> Result<u64, Exception> {
    let off = effective(&cpu.state, op);
    linear_at(cpu, segment(op.seg), off, bytes, write)
}

/// The linear address of `bytes` bytes at `off` in `seg`, after the segment's checks. An address that is not canonical
/// is left to the access to refuse, as it comes before the alignment check.
///
/// # Errors
/// #GP(0), #SS(0), or #AC(0).
#[inline]
pub fn linear_at(cpu: &mut Cpu, seg: Seg, off: u64, bytes: u64, write: bool) -> Result<u64, Exception> {
    let lin = linear_unaligned(cpu, seg, off, bytes, write)?;
    if bytes.is_power_of_two() && bytes <= 8 {
        check_alignment(cpu, lin, bytes, bytes)?;
    }
    Ok(lin)
}

/// #AC(0) if alignment checks are in force and `lin` is no multiple of `align`. An operand of `bytes` bytes that is not
/// canonical from end to end is left to the access to refuse.
///
/// # Errors
/// #AC(0).
#[inline]
pub fn check_alignment(cpu: &Cpu, lin: u64, bytes: u64, align: u64) -> Result<(), Exception> {
    if cpu.state.mode.contains(Mode::ALIGN) && lin & (align - 1) != 0 {
        let s = &cpu.state;
        let whole = s.is_canonical(lin) && s.is_canonical(lin.wrapping_add(bytes - 1));
        if !cpu.state.mode.contains(Mode::CODE64) || whole {
            return Err(Exception::new(Vector::AC));
        }
    }
    Ok(())
}

/// The same for accesses that are never checked for alignment.
///
/// # Errors
/// #GP(0) or #SS(0).
#[inline]
pub fn linear_unaligned(
    cpu: &mut Cpu,
    seg: Seg,
    off: u64,
    bytes: u64,
    write: bool,
) -> Result<u64, Exception> {
    let mode = cpu.state.mode;
    if mode.contains(Mode::CODE64) {
        match seg {
            Seg::FS | Seg::GS => Ok(cpu.state.seg[seg as usize].base.wrapping_add(off)),
            _ => Ok(off),
        }
    } else {
        seg::linear(cpu, seg, off, bytes, write)
    }
}

/// The segment register numbered `n`.
#[inline(always)]
pub fn segment(n: u8) -> Seg {
    [Seg::ES, Seg::CS, Seg::SS, Seg::DS, Seg::FS, Seg::GS, Seg::DS, Seg::DS][usize::from(n) & 7]
}

/// Reads a `W` at a linear address.
///
/// # Errors
/// As for `Cpu::load`.
#[inline(always)]
pub fn load<W: Width>(cpu: &mut Cpu, lin: u64, stack: bool) -> Result<u64, Exception> {
    match W::BYTES {
        1 => cpu.load::<1>(lin, stack),
        2 => cpu.load::<2>(lin, stack),
        4 => cpu.load::<4>(lin, stack),
        _ => cpu.load::<8>(lin, stack),
    }
}

/// Writes a `W` at a linear address.
///
/// # Errors
/// As for `Cpu::store`.
#[inline(always)]
pub fn store<W: Width>(cpu: &mut Cpu, lin: u64, value: u64, stack: bool) -> Result<(), Exception> {
    let value = value & W::MASK;
    match W::BYTES {
        1 => cpu.store::<1>(lin, value, stack),
        2 => cpu.store::<2>(lin, value, stack),
        4 => cpu.store::<4>(lin, value, stack),
        _ => cpu.store::<8>(lin, value, stack),
    }
}

#[inline(always)]
fn modify<W: Width>(cpu: &mut Cpu, lin: u64, ss: bool, f: impl Fn(u64) -> u64) -> Result<u64, Exception> {
    let f = |old| f(old) & W::MASK;
    match W::BYTES {
        1 => cpu.modify::<1>(lin, ss, f),
        2 => cpu.modify::<2>(lin, ss, f),
        4 => cpu.modify::<4>(lin, ss, f),
        _ => cpu.modify::<8>(lin, ss, f),
    }
}

#[inline(always)]
fn modify_locked<W: Width>(
    cpu: &mut Cpu,
    lin: u64,
    ss: bool,
    f: impl Fn(u64) -> u64,
) -> Result<u64, Exception> {
    let f = |old| f(old) & W::MASK;
    match W::BYTES {
        1 => cpu.modify_locked::<1>(lin, ss, f),
        2 => cpu.modify_locked::<2>(lin, ss, f),
        4 => cpu.modify_locked::<4>(lin, ss, f),
        _ => cpu.modify_locked::<8>(lin, ss, f),
    }
}

/// Reads the 16-byte memory operand.
///
/// # Errors
/// As for `Cpu::load`.
#[inline]
pub fn load_128(cpu: &mut Cpu, op: &Op) -> Result<u128, Exception> {
    let lin = linear(cpu, op, 16, false)?;
    cpu.load_128(lin, op.stack())
}

/// Writes the 16-byte memory operand.
///
/// # Errors
/// As for `Cpu::store`.
#[inline]
pub fn store_128(cpu: &mut Cpu, op: &Op, value: u128) -> Result<(), Exception> {
    let lin = linear(cpu, op, 16, true)?;
    cpu.store_128(lin, value, op.stack())
}

/// [`load_128`] of an operand that must be aligned.
///
/// # Errors
/// #GP(0) if it is not, and as for `Cpu::load`.
#[inline]
pub fn load_128_aligned(cpu: &mut Cpu, op: &Op) -> Result<u128, Exception> {
    let lin = linear(cpu, op, 16, false)?;
    aligned(lin)?;
    cpu.load_128(lin, op.stack())
}

/// [`store_128`] of an operand that must be aligned.
///
/// # Errors
/// #GP(0) if it is not, and as for `Cpu::store`.
#[inline]
pub fn store_128_aligned(cpu: &mut Cpu, op: &Op, value: u128) -> Result<(), Exception> {
    let lin = linear(cpu, op, 16, true)?;
    aligned(lin)?;
    cpu.store_128(lin, value, op.stack())
}

#[inline(always)]
fn aligned(lin: u64) -> Result<(), Exception> {
    if lin & 15 == 0 { Ok(()) } else { Err(Exception::gp0()) }
}

/// #NM if CR0.TS is set (`NO_FPU` and its kin say more, at decoding).
///
/// # Errors
/// #NM.
#[inline]
pub fn task_switched(s: &CpuState) -> Result<(), Exception> {
    if s.cr0 & cr0::TS != 0 { Err(Exception::new(Vector::NM)) } else { Ok(()) }
}

/// An operand that can be read.
pub trait Src: 'static {
    /// It is the memory operand.
    const MEMORY: bool = false;

    /// Its value, zero-extended.
    ///
    /// # Errors
    /// The fault of reading it.
    fn get<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<u64, Exception>;
}

/// An operand that can be written.
pub trait Dst: Src {
    /// It is a register.
    const REGISTER: bool;

    /// Writes it.
    ///
    /// # Errors
    /// The fault of writing it.
    fn put<W: Width>(cpu: &mut Cpu, op: &Op, value: u64) -> Result<(), Exception>;

    /// Replaces it by `f` of it and gives the old value. `f` may run more than once.
    ///
    /// # Errors
    /// The fault of writing it; nothing has changed then.
    fn update<W: Width>(cpu: &mut Cpu, op: &Op, f: impl Fn(u64) -> u64) -> Result<u64, Exception>;
}

macro_rules! registers {
    ($($name:ident $field:ident $doc:literal)*) => {$(
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $name;
        impl Src for $name {
            #[inline(always)]
            fn get<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<u64, Exception> {
                Ok(reg::<W>(&cpu.state, op.$field))
            }
        }
        impl Dst for $name {
            const REGISTER: bool = true;
            #[inline(always)]
            fn put<W: Width>(cpu: &mut Cpu, op: &Op, value: u64) -> Result<(), Exception> {
                set_reg::<W>(&mut cpu.state, op.$field, value);
                Ok(())
            }
            #[inline(always)]
            fn update<W: Width>(cpu: &mut Cpu, op: &Op, f: impl Fn(u64) -> u64) -> Result<u64, Exception> {
                let old = reg::<W>(&cpu.state, op.$field);
                set_reg::<W>(&mut cpu.state, op.$field, f(old));
                Ok(old)
            }
        }
    )*};
}
registers! {
    R0 dst "The general register that is operand 0."
    R1 src "The general register that is operand 1."
}

/// The immediate.
#[derive(Debug)]
pub struct Imm;
impl Src for Imm {
    #[inline(always)]
    fn get<W: Width>(_cpu: &mut Cpu, op: &Op) -> Result<u64, Exception> {
        Ok(op.imm & W::MASK)
    }
}

macro_rules! memory {
    ($($name:ident $modify:ident $doc:literal)*) => {$(
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $name;
        impl Src for $name {
            const MEMORY: bool = true;

            #[inline(always)]
            fn get<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<u64, Exception> {
                let lin = linear(cpu, op, W::BYTES as u64, false)?;
                load::<W>(cpu, lin, op.stack())
            }
        }
        impl Dst for $name {
            const REGISTER: bool = false;
            #[inline(always)]
            fn put<W: Width>(cpu: &mut Cpu, op: &Op, value: u64) -> Result<(), Exception> {
                let lin = linear(cpu, op, W::BYTES as u64, true)?;
                store::<W>(cpu, lin, value, op.stack())
            }
            #[inline(always)]
            fn update<W: Width>(cpu: &mut Cpu, op: &Op, f: impl Fn(u64) -> u64) -> Result<u64, Exception> {
                let lin = linear(cpu, op, W::BYTES as u64, true)?;
                $modify::<W>(cpu, lin, op.stack(), f)
            }
        }
    )*};
}
memory! {
    Mem modify "The memory operand."
    Locked modify_locked "The memory operand of a LOCK'd instruction: updates are atomic."
}
