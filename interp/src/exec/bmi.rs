//! BMI1, BMI2 and ADX (SDM vol. 1, 5.1.16; vol. 2).
//!
//! All but ADCX and ADOX are encoded with VEX, which real and virtual-8086 mode do not know (vol. 2A, 2.5, class 13:
//! #UD). They need neither XCR0 nor CR4.OSXSAVE.

use super::simd::{first, vex_operands};
use crate::decode::{Handler, Op, Shape, raise};
use crate::flags::{self, szp, when};
use crate::operand::{Mem, R1, Src, W32, W64, Width, reg, set_reg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::bits::rflags::{CF, OF};
use emu_core::state::gpr::RDX;
use emu_core::state::{CpuState, Mode};
use iced_x86::{EncodingKind, Mnemonic};

/// Writes the destination, and the flags: OF and AF are 0, and PF goes by the result where SF does (the manual leaves
/// AF and PF undefined, and SF of BEXTR).
fn finish<W: Width>(s: &mut CpuState, n: u8, r: u64, bits: u64) {
    set_reg::<W>(s, n, r);
    flags::set(s, bits);
}

fn andn<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let r = !reg::<W>(&cpu.state, first(op)) & b & W::MASK;
    finish::<W>(&mut cpu.state, op.dst, r, szp::<W>(r));
    Ok(())
}

/// `len` bits of `v` from bit `start` on.
fn field<W: Width>(v: u64, start: u64, len: u64) -> u64 {
    if start >= W::BITS.into() {
        return 0;
    }
    let v = v >> start;
    if len >= 64 { v } else { v & ((1 << len) - 1) }
}

/// BEXTR: the register operand is operand 2, the control, which is where `vex_operands` puts sources.
fn bextr<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let control = reg::<W>(&cpu.state, op.src);
    let v = first_source::<S, W>(cpu, op)?;
    let r = field::<W>(v, control & 0xff, control >> 8 & 0xff);
    finish::<W>(&mut cpu.state, op.dst, r, szp::<W>(r));
    Ok(())
}

/// BZHI: the control is operand 2.
fn bzhi<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let n = reg::<W>(&cpu.state, op.src) & 0xff;
    let v = first_source::<S, W>(cpu, op)?;
    let r = field::<W>(v, 0, n);
    finish::<W>(&mut cpu.state, op.dst, r, szp::<W>(r) | when(n >= W::BITS.into(), CF));
    Ok(())
}

/// Operand 1 of those whose operand 1 may be memory.
fn first_source<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<u64, Exception> {
    if S::MEMORY { S::get::<W>(cpu, op) } else { Ok(reg::<W>(&cpu.state, first(op))) }
}

/// BLSR, BLSMSK and BLSI, whose destination is encoded where others have their first source, and is operand 0 for iced.
fn lowest_set<const WHAT: u8, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    let less = v.wrapping_sub(1) & W::MASK;
    let (r, carry) = match WHAT {
        RESET => (v & less, v == 0),
        MASK => (v ^ less, v == 0),
        _ => (v & v.wrapping_neg() & W::MASK, v != 0),
    };
    // BLSMSK's result is never zero.
    finish::<W>(&mut cpu.state, op.dst, r, szp::<W>(r) | when(carry, CF));
    Ok(())
}
const RESET: u8 = 0;
const MASK: u8 = 1;
const ISOLATE: u8 = 2;

/// MULX: RDX times operand 2; the high half goes to operand 0, the low one to operand 1. Of two equal destinations the
/// high half stays.
fn mulx<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let p = u128::from(reg::<W>(&cpu.state, RDX as u8)) * u128::from(b);
    set_reg::<W>(&mut cpu.state, first(op), p as u64);
    set_reg::<W>(&mut cpu.state, op.dst, (p >> W::BITS) as u64);
    Ok(())
}

/// PDEP: the low bits of operand 1 go where operand 2 has ones.
fn pdep<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = S::get::<W>(cpu, op)?;
    let mut v = reg::<W>(&cpu.state, first(op));
    let mut r = 0;
    for i in (0..W::BITS).filter(|i| mask >> i & 1 != 0) {
        r |= (v & 1) << i;
        v >>= 1;
    }
    set_reg::<W>(&mut cpu.state, op.dst, r);
    Ok(())
}

/// PEXT: the bits of operand 1 where operand 2 has ones, together.
fn pext<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let mask = S::get::<W>(cpu, op)?;
    let v = reg::<W>(&cpu.state, first(op));
    let mut r = 0;
    for (n, i) in (0..W::BITS).filter(|i| mask >> i & 1 != 0).enumerate() {
        r |= (v >> i & 1) << n;
    }
    set_reg::<W>(&mut cpu.state, op.dst, r);
    Ok(())
}

fn rorx<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    let n = op.imm as u32 & (W::BITS - 1);
    let r = if W::BITS == 64 { v.rotate_right(n) } else { (v as u32).rotate_right(n).into() };
    set_reg::<W>(&mut cpu.state, op.dst, r);
    Ok(())
}

/// SARX, SHLX, SHRX: the count is operand 2.
fn shift<const KIND: u8, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let n = reg::<W>(&cpu.state, op.src) as u32 & (W::BITS - 1);
    let v = first_source::<S, W>(cpu, op)?;
    let r = match KIND {
        LEFT => v << n,
        RIGHT => v >> n,
        _ => (W::sx(v) as i64 >> n) as u64,
    };
    set_reg::<W>(&mut cpu.state, op.dst, r);
    Ok(())
}
const LEFT: u8 = 0;
const RIGHT: u8 = 1;
const SIGNED: u8 = 2;

/// ADCX (`FLAG` is CF) and ADOX (OF): addition through that flag alone.
fn add_through<const FLAG: u64, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let carry = u128::from(cpu.state.rflags & FLAG != 0);
    let sum = u128::from(reg::<W>(&cpu.state, op.dst)) + u128::from(b) + carry;
    set_reg::<W>(&mut cpu.state, op.dst, sum as u64);
    flags::set_some(&mut cpu.state, FLAG, when(sum >> W::BITS != 0, FLAG));
    Ok(())
}

macro_rules! forms {
    ($s:ident, $f:ident $(< $($g:tt),+ >)?) => {
        match ($s.from_memory(), $s.bytes) {
            (true, 4) => $f::<$($($g,)+)? Mem, W32> as Handler,
            (true, _) => $f::<$($($g,)+)? Mem, W64>,
            (_, 4) => $f::<$($($g,)+)? R1, W32>,
            _ => $f::<$($($g,)+)? R1, W64>,
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    let run = match s.mnemonic() {
        M::Andn => forms!(s, andn),
        M::Bextr => forms!(s, bextr),
        M::Bzhi => forms!(s, bzhi),
        M::Blsr => forms!(s, lowest_set<RESET>),
        M::Blsmsk => forms!(s, lowest_set<MASK>),
        M::Blsi => forms!(s, lowest_set<ISOLATE>),
        M::Mulx => forms!(s, mulx),
        M::Pdep => forms!(s, pdep),
        M::Pext => forms!(s, pext),
        M::Rorx => forms!(s, rorx),
        M::Shlx => forms!(s, shift<LEFT>),
        M::Shrx => forms!(s, shift<RIGHT>),
        M::Sarx => forms!(s, shift<SIGNED>),
        M::Adcx => return Some(forms!(s, add_through<CF>)),
        M::Adox => return Some(forms!(s, add_through<OF>)),
        _ => return None,
    };
    if s.ins.encoding() != EncodingKind::VEX {
        return None;
    }
    vex_operands(s, op);
    Some(if s.mode.contains(Mode::PROT) { run } else { raise(Vector::UD) })
}
