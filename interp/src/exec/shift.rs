//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD.

use super::by_width;
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags::{self, msb, szp, when};
use crate::operand::{Dst, Imm, Mem, R0, R1, Src, W8, W16, W32, W64, Width, reg};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::bits::rflags::{CF, OF, STATUS};
use iced_x86::Mnemonic;

/// A shift or rotation by a count that is not 0 and already masked.
trait Shift: 'static {
    /// The flags it changes.
    const CHANGES: u64;
    /// Result and those flags.
    fn of<W: Width>(a: u64, n: u32, carry: u64) -> (u64, u64);
}

/// Whether the top two bits of a result differ, as OF.
fn top_differ<W: Width>(r: u64) -> u64 {
    (msb::<W>(r) ^ msb::<W>(r << 1)) << 11
}

struct Shl;
impl Shift for Shl {
    const CHANGES: u64 = STATUS;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, _: u64) -> (u64, u64) {
        let r = a << n & W::MASK;
        let c = msb::<W>(a << (n - 1));
        (r, szp::<W>(r) | c | (msb::<W>(r) ^ c) << 11)
    }
}

struct Shr;
impl Shift for Shr {
    const CHANGES: u64 = STATUS;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, _: u64) -> (u64, u64) {
        let r = a >> n;
        (r, szp::<W>(r) | a >> (n - 1) & 1 | top_differ::<W>(r))
    }
}

struct Sar;
impl Shift for Sar {
    const CHANGES: u64 = STATUS;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, _: u64) -> (u64, u64) {
        let wide = W::sx(a) as i64;
        let r = (wide >> n) as u64 & W::MASK;
        (r, szp::<W>(r) | (wide >> (n - 1)) as u64 & 1)
    }
}

struct Rol;
impl Shift for Rol {
    const CHANGES: u64 = CF | OF;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, _: u64) -> (u64, u64) {
        let n = n % W::BITS;
        let r = if n == 0 { a } else { (a << n | a >> (W::BITS - n)) & W::MASK };
        (r, r & 1 | (msb::<W>(r) ^ r & 1) << 11)
    }
}

struct Ror;
impl Shift for Ror {
    const CHANGES: u64 = CF | OF;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, _: u64) -> (u64, u64) {
        let n = n % W::BITS;
        let r = if n == 0 { a } else { (a >> n | a << (W::BITS - n)) & W::MASK };
        (r, msb::<W>(r) | top_differ::<W>(r))
    }
}

/// The operand with the carry above it, rotated left by `n` of `BITS + 1`.
fn through_carry<W: Width>(a: u64, n: u32, carry: u64) -> (u64, u64) {
    let bits = W::BITS + 1;
    let all = u128::from(carry) << W::BITS | u128::from(a);
    let r = if n == 0 { all } else { all << n | all >> (bits - n) };
    (r as u64 & W::MASK, (r >> W::BITS) as u64 & 1)
}

struct Rcl;
impl Shift for Rcl {
    const CHANGES: u64 = CF | OF;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, carry: u64) -> (u64, u64) {
        let (r, c) = through_carry::<W>(a, n % (W::BITS + 1), carry);
        (r, c | (msb::<W>(r) ^ c) << 11)
    }
}

struct Rcr;
impl Shift for Rcr {
    const CHANGES: u64 = CF | OF;
    #[inline(always)]
    fn of<W: Width>(a: u64, n: u32, carry: u64) -> (u64, u64) {
        let bits = W::BITS + 1;
        let (r, c) = through_carry::<W>(a, (bits - n % bits) % bits, carry);
        (r, c | top_differ::<W>(r))
    }
}

/// The count's bits that matter.
const fn count_mask<W: Width>() -> u64 {
    if W::BYTES == 8 { 63 } else { 31 }
}

/// With a masked count of 0 the operand is still written (a 32-bit register loses its upper half, and memory must be
/// writable), but no flag changes.
fn shift<F: Shift, D: Dst, C: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let n = (C::get::<W8>(cpu, op)? & count_mask::<W>()) as u32;
    if n == 0 {
        return D::update::<W>(cpu, op, |a| a).map(drop);
    }
    let carry = cpu.state.rflags & CF;
    let a = D::update::<W>(cpu, op, |a| F::of::<W>(a, n, carry).0)?;
    flags::set_some(&mut cpu.state, F::CHANGES, F::of::<W>(a, n, carry).1);
    Ok(())
}

/// SHLD (`LEFT`) and SHRD. Operands of 16 bits with counts above 16 shift the 48-bit value dst:src:dst.
fn double_of<const LEFT: bool, W: Width>(a: u64, b: u64, n: u32) -> (u64, u64) {
    let bits = W::BITS;
    let (a2, b2) = (u128::from(a), u128::from(b));
    let (r, c) = if LEFT {
        let all = a2 << (2 * bits).min(127) | b2 << bits | a2;
        // For 64-bit operands the third part is beyond reach (n is at most 63).
        let all = if bits == 64 { a2 << 64 | b2 } else { all };
        let top = if bits == 64 { 64 } else { 2 * bits };
        ((all << n >> top) as u64 & W::MASK, (all >> (top + bits - n)) as u64 & 1)
    } else {
        let all = if bits == 64 { b2 << 64 | a2 } else { a2 << (2 * bits) | b2 << bits | a2 };
        ((all >> n) as u64 & W::MASK, (all >> (n - 1)) as u64 & 1)
    };
    (r, szp::<W>(r) | when(c != 0, CF) | (msb::<W>(r) ^ msb::<W>(a)) << 11)
}

fn double<const LEFT: bool, const BY_CL: bool, D: Dst, W: Width>(
    cpu: &mut Cpu,
    op: &Op,
) -> Result<(), Exception> {
    let count = if BY_CL { cpu.state.gpr[1] } else { op.imm };
    let n = (count & count_mask::<W>()) as u32;
    let b = reg::<W>(&cpu.state, op.src);
    if n == 0 {
        return D::update::<W>(cpu, op, |a| a).map(drop);
    }
    let a = D::update::<W>(cpu, op, |a| double_of::<LEFT, W>(a, b, n).0)?;
    flags::set(&mut cpu.state, double_of::<LEFT, W>(a, b, n).1);
    Ok(())
}

fn shifts<F: Shift>(s: &Shape) -> Option<Handler> {
    let w = s.bytes;
    Some(match (s.kinds[0], s.kinds[1]) {
        (Kind::Reg, Kind::Imm) => by_width!(w, shift<F, R0, Imm>),
        (Kind::Reg, _) => by_width!(w, shift<F, R0, R1>),
        (_, Kind::Imm) => by_width!(w, shift<F, Mem, Imm>),
        _ => by_width!(w, shift<F, Mem, R1>),
    })
}

macro_rules! doubles {
    ($s:ident, $left:literal) => {
        match ($s.kinds[0] == Kind::Reg, $s.kinds[2] == Kind::Imm, $s.bytes) {
            (true, true, 2) => double::<$left, false, R0, W16> as Handler,
            (true, true, 4) => double::<$left, false, R0, W32>,
            (true, true, _) => double::<$left, false, R0, W64>,
            (true, false, 2) => double::<$left, true, R0, W16>,
            (true, false, 4) => double::<$left, true, R0, W32>,
            (true, false, _) => double::<$left, true, R0, W64>,
            (false, true, 2) => double::<$left, false, Mem, W16>,
            (false, true, 4) => double::<$left, false, Mem, W32>,
            (false, true, _) => double::<$left, false, Mem, W64>,
            (false, false, 2) => double::<$left, true, Mem, W16>,
            (false, false, 4) => double::<$left, true, Mem, W32>,
            (false, false, _) => double::<$left, true, Mem, W64>,
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    Some(match s.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => return shifts::<Shl>(s),
        Mnemonic::Shr => return shifts::<Shr>(s),
        Mnemonic::Sar => return shifts::<Sar>(s),
        Mnemonic::Rol => return shifts::<Rol>(s),
        Mnemonic::Ror => return shifts::<Ror>(s),
        Mnemonic::Rcl => return shifts::<Rcl>(s),
        Mnemonic::Rcr => return shifts::<Rcr>(s),
        Mnemonic::Shld => doubles!(s, true),
        Mnemonic::Shrd => doubles!(s, false),
        _ => return None,
    })
}
