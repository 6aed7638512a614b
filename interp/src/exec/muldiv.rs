//! MUL, IMUL, DIV, IDIV, AAM, AAD.

use super::by_width;
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags::{self, szp, when};
use crate::operand::{Imm, Mem, R0, R1, Src, W8, W16, Width, reg, set_reg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::CpuState;
use emu_core::state::bits::rflags::{CF, OF};
use emu_core::state::gpr::{RAX, RDX};
use iced_x86::Mnemonic;

/// Full product of two signed or unsigned operands: low half, high half, whether the high half says something.
#[inline(always)]
fn product<const SIGNED: bool, W: Width>(a: u64, b: u64) -> (u64, u64, bool) {
    if SIGNED {
        let p = i128::from(W::sx(a) as i64) * i128::from(W::sx(b) as i64);
        let low = p as u64 & W::MASK;
        (low, (p >> W::BITS) as u64 & W::MASK, i128::from(W::sx(low) as i64) != p)
    } else {
        let p = u128::from(a) * u128::from(b);
        let high = (p >> W::BITS) as u64;
        (p as u64 & W::MASK, high, high != 0)
    }
}

fn set_flags<W: Width>(s: &mut CpuState, low: u64, over: bool) {
    flags::set(s, szp::<W>(low) | when(over, CF | OF));
}

/// MUL and one-operand IMUL.
fn mul<const SIGNED: bool, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let s = &mut cpu.state;
    let (low, high, over) = product::<SIGNED, W>(reg::<W>(s, 0), b);
    if W::BYTES == 1 {
        set_reg::<W16>(s, 0, low | high << 8);
    } else {
        set_reg::<W>(s, 0, low);
        set_reg::<W>(s, RDX as u8, high);
    }
    set_flags::<W>(s, low, over);
    Ok(())
}

/// IMUL with two operands: `A` is the destination as source too; with three it is the second operand.
fn imul<A: Src, B: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = B::get::<W>(cpu, op)?;
    let a = A::get::<W>(cpu, op)?;
    let (low, _, over) = product::<true, W>(a, b);
    set_reg::<W>(&mut cpu.state, op.dst, low);
    set_flags::<W>(&mut cpu.state, low, over);
    Ok(())
}

fn divide_error() -> Exception {
    Exception::new(Vector::DE)
}

fn dividend<W: Width>(s: &CpuState) -> (u64, u64) {
    if W::BYTES == 1 {
        (s.gpr[RAX] >> 8 & 0xff, s.gpr[RAX] & 0xff)
    } else {
        (reg::<W>(s, RDX as u8), reg::<W>(s, 0))
    }
}

fn set_quotient<W: Width>(s: &mut CpuState, quotient: u64, remainder: u64) {
    if W::BYTES == 1 {
        set_reg::<W16>(s, 0, quotient & 0xff | (remainder & 0xff) << 8);
    } else {
        set_reg::<W>(s, 0, quotient);
        set_reg::<W>(s, RDX as u8, remainder);
    }
}

fn div<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let d = S::get::<W>(cpu, op)?;
    let (high, low) = dividend::<W>(&cpu.state);
    if high >= d {
        // Also division by 0.
        return Err(divide_error());
    }
    let (q, r) = if W::BYTES < 8 || high == 0 {
        let n = if W::BYTES < 8 { high << W::BITS | low } else { low };
        (n / d, n % d)
    } else {
        let n = u128::from(high) << 64 | u128::from(low);
        ((n / u128::from(d)) as u64, (n % u128::from(d)) as u64)
    };
    set_quotient::<W>(&mut cpu.state, q, r);
    Ok(())
}

fn idiv<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let d = i128::from(W::sx(S::get::<W>(cpu, op)?) as i64);
    let (high, low) = dividend::<W>(&cpu.state);
    let n = i128::from(W::sx(high) as i64) << W::BITS | i128::from(low);
    if d == 0 {
        return Err(divide_error());
    }
    let (q, r) = match (i64::try_from(n), i64::try_from(d)) {
        (Ok(n), Ok(d)) if n != i64::MIN => (i128::from(n / d), i128::from(n % d)),
        _ => (n.wrapping_div(d), n.wrapping_rem(d)),
    };
    if i128::from(W::sx(q as u64 & W::MASK) as i64) != q {
        return Err(divide_error());
    }
    set_quotient::<W>(&mut cpu.state, q as u64 & W::MASK, r as u64 & W::MASK);
    Ok(())
}

fn aam(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let base = op.imm & 0xff;
    if base == 0 {
        return Err(divide_error());
    }
    let s = &mut cpu.state;
    let al = s.gpr[RAX] & 0xff;
    set_reg::<W16>(s, 0, ((al / base) << 8) | (al % base));
    flags::set(s, szp::<W8>(al % base));
    Ok(())
}

fn aad(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let s = &mut cpu.state;
    let (ah, al) = dividend::<W8>(s);
    let r = ah.wrapping_mul(op.imm & 0xff).wrapping_add(al) & 0xff;
    set_reg::<W16>(s, 0, r);
    flags::set(s, szp::<W8>(r));
    Ok(())
}

macro_rules! unary {
    ($s:ident, $f:ident) => {
        match $s.kinds[0] {
            Kind::Reg => by_width!($s.bytes, $f<R0>),
            _ => by_width!($s.bytes, $f<Mem>),
        }
    };
}

fn unsigned_mul<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    mul::<false, S, W>(cpu, op)
}

fn signed_mul<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    mul::<true, S, W>(cpu, op)
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    Some(match s.mnemonic() {
        Mnemonic::Mul => unary!(s, unsigned_mul),
        Mnemonic::Imul => match s.kinds {
            [_, Kind::None, _] => unary!(s, signed_mul),
            [_, Kind::Reg, Kind::None] => by_width!(s.bytes, imul<R0, R1>),
            [_, Kind::Mem, Kind::None] => by_width!(s.bytes, imul<R0, Mem>),
            [_, Kind::Reg, _] => by_width!(s.bytes, imul<R1, Imm>),
            _ => by_width!(s.bytes, imul<Mem, Imm>),
        },
        Mnemonic::Div => unary!(s, div),
        Mnemonic::Idiv => unary!(s, idiv),
        Mnemonic::Aam => aam,
        Mnemonic::Aad => aad,
        _ => return None,
    })
}
