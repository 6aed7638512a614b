//! ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST, INC, DEC, NEG, NOT, ADCX, ADOX, XADD, CMPXCHG and its wide forms,
//! DAA, DAS, AAA, AAS.

use super::by_width;
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags;
use crate::operand::{Dst, Imm, Locked, Mem, R0, R1, Src, W8, W16, Width, linear, reg, set_reg};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::bits::rflags::{AF, CF, OF, STATUS, ZF};
use emu_core::state::gpr::{RAX, RBX, RCX, RDX};
use iced_x86::Mnemonic;

/// An operation on two operands and the carry flag.
trait Alu: 'static {
    /// Result and all status flags.
    fn of<W: Width>(a: u64, b: u64, carry: u64) -> (u64, u64);
}

macro_rules! operations {
    ($($name:ident |$a:ident, $b:ident, $c:ident| $e:expr;)*) => {$(
        struct $name;
        impl Alu for $name {
            #[inline(always)]
            fn of<W: Width>($a: u64, $b: u64, $c: u64) -> (u64, u64) {
                let _ = $c;
                $e
            }
        }
    )*};
}
operations! {
    Add |a, b, c| flags::add::<W>(a, b, 0);
    Adc |a, b, c| flags::add::<W>(a, b, c);
    Sub |a, b, c| flags::sub::<W>(a, b, 0);
    Sbb |a, b, c| flags::sub::<W>(a, b, c);
    And |a, b, c| (a & b, flags::szp::<W>(a & b));
    Or |a, b, c| (a | b, flags::szp::<W>(a | b));
    Xor |a, b, c| (a ^ b, flags::szp::<W>(a ^ b));
}

fn binary<A: Alu, D: Dst, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let c = cpu.state.rflags & CF;
    let a = D::update::<W>(cpu, op, |a| A::of::<W>(a, b, c).0)?;
    flags::set(&mut cpu.state, A::of::<W>(a, b, c).1);
    Ok(())
}

/// CMP and TEST: flags only.
fn compare<A: Alu, D: Src, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let a = D::get::<W>(cpu, op)?;
    flags::set(&mut cpu.state, A::of::<W>(a, b, 0).1);
    Ok(())
}

/// INC and DEC keep CF.
fn inc<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let a = D::update::<W>(cpu, op, |a| a.wrapping_add(1))?;
    flags::set_some(&mut cpu.state, STATUS & !CF, flags::add::<W>(a, 1, 0).1);
    Ok(())
}

fn dec<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let a = D::update::<W>(cpu, op, |a| a.wrapping_sub(1))?;
    flags::set_some(&mut cpu.state, STATUS & !CF, flags::sub::<W>(a, 1, 0).1);
    Ok(())
}

fn neg<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let a = D::update::<W>(cpu, op, |a| 0u64.wrapping_sub(a))?;
    flags::set(&mut cpu.state, flags::sub::<W>(0, a, 0).1);
    Ok(())
}

fn not<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    D::update::<W>(cpu, op, |a| !a).map(drop)
}

fn xadd<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = reg::<W>(&cpu.state, op.src);
    let a = D::update::<W>(cpu, op, |a| a.wrapping_add(b))?;
    let (sum, f) = flags::add::<W>(a, b, 0);
    set_reg::<W>(&mut cpu.state, op.src, a);
    if D::REGISTER {
        // With one register twice, the sum wins.
        set_reg::<W>(&mut cpu.state, op.dst, sum);
    }
    flags::set(&mut cpu.state, f);
    Ok(())
}

fn cmpxchg<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let acc = reg::<W>(&cpu.state, 0);
    let new = reg::<W>(&cpu.state, op.src);
    let before = cpu.state.gpr[usize::from(op.dst) & 15];
    let old = D::update::<W>(cpu, op, |old| if old == acc { new } else { old })?;
    if old != acc {
        if D::REGISTER && W::BYTES == 4 {
            // A failed comparison leaves the destination register whole.
            cpu.state.gpr[usize::from(op.dst) & 15] = before;
        }
        set_reg::<W>(&mut cpu.state, 0, old);
    }
    flags::set(&mut cpu.state, flags::sub::<W>(acc, old, 0).1);
    Ok(())
}

/// CMPXCHG8B.
fn cmpxchg8b<D: Dst>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let pair =
        |cpu: &Cpu, high: usize, low: usize| cpu.state.gpr[high] << 32 | cpu.state.gpr[low] & 0xffff_ffff;
    let (want, new) = (pair(cpu, RDX, RAX), pair(cpu, RCX, RBX));
    let old = D::update::<crate::operand::W64>(cpu, op, |old| if old == want { new } else { old })?;
    if old != want {
        cpu.state.gpr[RAX] = old & 0xffff_ffff;
        cpu.state.gpr[RDX] = old >> 32;
    }
    flags::set_some(&mut cpu.state, ZF, flags::when(old == want, ZF));
    Ok(())
}

/// CMPXCHG16B.
fn cmpxchg16b(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let lin = linear(cpu, op, 16, true)?;
    if lin & 15 != 0 {
        return Err(Exception::gp0());
    }
    let pair = |cpu: &Cpu, high: usize, low: usize| {
        u128::from(cpu.state.gpr[high]) << 64 | u128::from(cpu.state.gpr[low])
    };
    let (want, new) = (pair(cpu, RDX, RAX), pair(cpu, RCX, RBX));
    let old = cpu.compare_exchange_128(lin, want, new, op.stack())?;
    if old != want {
        cpu.state.gpr[RAX] = old as u64;
        cpu.state.gpr[RDX] = (old >> 64) as u64;
    }
    flags::set_some(&mut cpu.state, ZF, flags::when(old == want, ZF));
    Ok(())
}

/// ADCX and ADOX: an addition that carries through one flag alone.
fn add_through<const FLAG: u64, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let b = S::get::<W>(cpu, op)?;
    let a = reg::<W>(&cpu.state, op.dst);
    let carry = u64::from(cpu.state.rflags & FLAG != 0);
    let (sum, f) = flags::add::<W>(a, b, carry);
    set_reg::<W>(&mut cpu.state, op.dst, sum);
    flags::set_some(&mut cpu.state, FLAG, flags::when(f & CF != 0, FLAG));
    Ok(())
}

/// DAA (SDM vol. 2A; OF cleared).
fn daa(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let s = &mut cpu.state;
    let al = s.gpr[RAX] & 0xff;
    let low = al & 0xf > 9 || s.rflags & AF != 0;
    let high = al > 0x99 || s.rflags & CF != 0;
    let r = al.wrapping_add(if low { 6 } else { 0 }).wrapping_add(if high { 0x60 } else { 0 }) & 0xff;
    set_reg::<W8>(s, 0, r);
    flags::set(s, flags::when(low, AF) | flags::when(high, CF) | flags::szp::<W8>(r));
    Ok(())
}

/// DAS (OF cleared).
fn das(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let s = &mut cpu.state;
    let al = s.gpr[RAX] & 0xff;
    let low = al & 0xf > 9 || s.rflags & AF != 0;
    let high = al > 0x99 || s.rflags & CF != 0;
    let r = al.wrapping_sub(if low { 6 } else { 0 }).wrapping_sub(if high { 0x60 } else { 0 }) & 0xff;
    let carry = high || low && al < 6;
    set_reg::<W8>(s, 0, r);
    flags::set(s, flags::when(low, AF) | flags::when(carry, CF) | flags::szp::<W8>(r));
    Ok(())
}

fn ascii_adjust(cpu: &mut Cpu, step: u64) {
    let s = &mut cpu.state;
    let ax = s.gpr[RAX] & 0xffff;
    let adjust = ax & 0xf > 9 || s.rflags & AF != 0;
    let r = if adjust { ax.wrapping_add(step) } else { ax } & 0xff0f;
    set_reg::<W16>(s, 0, r);
    flags::set(s, flags::when(adjust, AF | CF) | flags::szp::<W8>(r & 0xff));
}

/// AAA: AX + 106h.
fn aaa(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    ascii_adjust(cpu, 0x106);
    Ok(())
}

/// AAS: AX - 6, AH - 1.
fn aas(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    ascii_adjust(cpu, 0u64.wrapping_sub(0x106));
    Ok(())
}

fn two<A: Alu>(s: &Shape) -> Option<Handler> {
    use Kind::{Imm as I, Mem as M, Reg as R};
    let w = s.bytes;
    Some(match (s.kinds[0], s.kinds[1]) {
        (R, R) => by_width!(w, binary<A, R0, R1>),
        (R, M) => by_width!(w, binary<A, R0, Mem>),
        (R, I) => by_width!(w, binary<A, R0, Imm>),
        (M, R) if s.locked() => by_width!(w, binary<A, Locked, R1>),
        (M, I) if s.locked() => by_width!(w, binary<A, Locked, Imm>),
        (M, R) => by_width!(w, binary<A, Mem, R1>),
        (M, I) => by_width!(w, binary<A, Mem, Imm>),
        _ => return None,
    })
}

fn test<A: Alu>(s: &Shape) -> Option<Handler> {
    use Kind::{Imm as I, Mem as M, Reg as R};
    let w = s.bytes;
    Some(match (s.kinds[0], s.kinds[1]) {
        (R, R) => by_width!(w, compare<A, R0, R1>),
        (R, M) => by_width!(w, compare<A, R0, Mem>),
        (R, I) => by_width!(w, compare<A, R0, Imm>),
        (M, R) => by_width!(w, compare<A, Mem, R1>),
        (M, I) => by_width!(w, compare<A, Mem, Imm>),
        _ => return None,
    })
}

macro_rules! one {
    ($s:ident, $f:ident) => {
        match $s.kinds[0] {
            Kind::Reg => by_width!($s.bytes, $f<R0>),
            _ if $s.locked() => by_width!($s.bytes, $f<Locked>),
            _ => by_width!($s.bytes, $f<Mem>),
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    Some(match s.mnemonic() {
        M::Add => return two::<Add>(s),
        M::Adc => return two::<Adc>(s),
        M::Sub => return two::<Sub>(s),
        M::Sbb => return two::<Sbb>(s),
        M::And => return two::<And>(s),
        M::Or => return two::<Or>(s),
        M::Xor => return two::<Xor>(s),
        M::Cmp => return test::<Sub>(s),
        M::Test => return test::<And>(s),
        M::Inc => one!(s, inc),
        M::Dec => one!(s, dec),
        M::Neg => one!(s, neg),
        M::Not => one!(s, not),
        M::Xadd => one!(s, xadd),
        M::Cmpxchg => one!(s, cmpxchg),
        M::Cmpxchg8b if s.locked() => cmpxchg8b::<Locked>,
        M::Cmpxchg8b => cmpxchg8b::<Mem>,
        M::Cmpxchg16b => cmpxchg16b,
        M::Daa => daa,
        M::Das => das,
        M::Aaa => aaa,
        M::Aas => aas,
        M::Adcx => through::<CF>(s),
        M::Adox => through::<OF>(s),
        _ => return None,
    })
}

fn through<const FLAG: u64>(s: &Shape) -> Handler {
    use crate::operand::{W32, W64};
    match (s.kinds[1], s.bytes) {
        (Kind::Reg, 4) => add_through::<FLAG, R1, W32>,
        (Kind::Reg, _) => add_through::<FLAG, R1, W64>,
        (_, 4) => add_through::<FLAG, Mem, W32>,
        _ => add_through::<FLAG, Mem, W64>,
    }
}
