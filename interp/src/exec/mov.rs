//! MOV, MOVZX, MOVSX, MOVSXD, MOVBE, MOVNTI, LEA, XCHG, CMOVcc, SETcc, BSWAP, XLAT, CBW and CWD and their kin, LAHF,
//! SAHF, single-flag instructions, NOPs and hints, and loads and stores of segment registers.

use super::by_width;
use crate::decode::{Handler, Kind, Op, Shape};
use crate::flags;
use crate::operand::{
    Dst, Imm, Locked, Mem, R0, R1, Src, W8, W16, W32, W64, Width, effective, linear_at, load, reg, segment,
    set_reg,
};
use crate::system::seg;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::Seg;
use emu_core::state::bits::rflags::{AF, CF, DF, PF, SF, ZF};
use emu_core::state::bits::shadow;
use emu_core::state::gpr::{RAX, RBX, RDX};
use iced_x86::Mnemonic;

fn mov<D: Dst, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    D::put::<W>(cpu, op, v)
}

/// MOVZX from `N` to a register; zero-extension makes the destination's width matter only for 16 bits.
fn movzx<N: Width, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<N>(cpu, op)?;
    set_reg::<W>(&mut cpu.state, op.dst, v);
    Ok(())
}

fn movsx<N: Width, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<N>(cpu, op)?;
    set_reg::<W>(&mut cpu.state, op.dst, N::sx(v));
    Ok(())
}

fn swap<W: Width>(v: u64) -> u64 {
    v.swap_bytes() >> (64 - W::BITS)
}

fn movbe<D: Dst, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    D::put::<W>(cpu, op, swap::<W>(v))
}

/// BSWAP of a 16-bit register is undefined; processors clear it.
fn bswap<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = reg::<W>(&cpu.state, op.dst);
    set_reg::<W>(&mut cpu.state, op.dst, if W::BYTES == 2 { 0 } else { swap::<W>(v) });
    Ok(())
}

fn lea<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = effective(&cpu.state, op);
    set_reg::<W>(&mut cpu.state, op.dst, v);
    Ok(())
}

/// XCHG; with memory it is locked with or without the prefix.
fn xchg<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let new = reg::<W>(&cpu.state, op.src);
    let old = D::update::<W>(cpu, op, |_| new)?;
    set_reg::<W>(&mut cpu.state, op.src, old);
    Ok(())
}

/// XCHG r, m as the decoder may order it.
fn xchg_from<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let new = reg::<W>(&cpu.state, op.dst);
    let old = Locked::update::<W>(cpu, op, |_| new)?;
    set_reg::<W>(&mut cpu.state, op.dst, old);
    Ok(())
}

/// CMOVcc reads its source in any case, and clears the upper half of a 32-bit destination in any case.
fn cmov<const CC: u8, S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = S::get::<W>(cpu, op)?;
    let v = if flags::condition(cpu.state.rflags, CC) { v } else { reg::<W>(&cpu.state, op.dst) };
    set_reg::<W>(&mut cpu.state, op.dst, v);
    Ok(())
}

fn setcc<const CC: u8, D: Dst>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = u64::from(flags::condition(cpu.state.rflags, CC));
    D::put::<W8>(cpu, op, v)
}

/// CBW, CWDE, CDQE: from `N` to `W` in the accumulator.
fn widen<N: Width, W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = N::sx(cpu.state.gpr[RAX] & N::MASK);
    set_reg::<W>(&mut cpu.state, 0, v);
    Ok(())
}

/// CWD, CDQ, CQO: the accumulator's sign into rDX.
fn spread<W: Width>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let sign = flags::msb::<W>(cpu.state.gpr[RAX]);
    set_reg::<W>(&mut cpu.state, RDX as u8, 0u64.wrapping_sub(sign));
    Ok(())
}

fn xlat(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let off = cpu.state.gpr[RBX].wrapping_add(cpu.state.gpr[RAX] & 0xff) & op.addr_mask();
    let lin = linear_at(cpu, segment(op.seg), off, 1, false)?;
    let v = load::<W8>(cpu, lin, op.stack())?;
    set_reg::<W8>(&mut cpu.state, 0, v);
    Ok(())
}

const LAHF_BITS: u64 = SF | ZF | AF | PF | CF;

fn lahf(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = cpu.state.rflags & LAHF_BITS | 2;
    set_reg::<W8>(&mut cpu.state, 1, v);
    Ok(())
}

fn sahf(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = reg::<W8>(&cpu.state, 1);
    flags::set_some(&mut cpu.state, LAHF_BITS, v);
    Ok(())
}

/// SALC: AL becomes all copies of CF.
fn salc(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = 0u64.wrapping_sub(cpu.state.rflags & CF);
    set_reg::<W8>(&mut cpu.state, 0, v);
    Ok(())
}

fn flag<const KEEP: u64, const FLIP: u64>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.state.rflags = cpu.state.rflags & !KEEP ^ FLIP;
    Ok(())
}

fn nop(_cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    Ok(())
}

fn pause(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.pause();
    Ok(())
}

/// MFENCE, and the two that ask for less. Guest memory is host memory, so the host's fence is the guest's.
fn fence(_cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(())
}

/// MOV from a segment register. To a register it is as wide as the operand size, to memory always 16 bits.
fn mov_from_seg<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let sel = cpu.state.seg[segment(op.src) as usize].sel;
    D::put::<W>(cpu, op, sel.into())
}

/// Loads a segment register; a load of SS holds interrupts off for one instruction.
pub(super) fn load_segment(cpu: &mut Cpu, which: Seg, sel: u16) -> Result<(), Exception> {
    seg::load(cpu, which, sel)?;
    if which == Seg::SS {
        cpu.state.shadow |= shadow::MOV_SS;
    }
    Ok(())
}

fn mov_to_seg<S: Src>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let sel = S::get::<W16>(cpu, op)? as u16;
    load_segment(cpu, segment(op.dst), sel)
}

/// A segment register as a type.
trait Which: 'static {
    const SEG: Seg;
}
macro_rules! segments {
    ($($name:ident $seg:ident)*) => {$(
        struct $name;
        impl Which for $name {
            const SEG: Seg = Seg::$seg;
        }
    )*};
}
segments! { SegDS DS SegES ES SegFS FS SegGS GS SegSS SS }

/// LDS and its kin: an offset of width `W`, then a selector.
fn load_far_pointer<S: Which, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (offset, sel) = far_pointer::<W>(cpu, op)?;
    seg::load(cpu, S::SEG, sel)?;
    set_reg::<W>(&mut cpu.state, op.dst, offset);
    Ok(())
}

/// Reads a far pointer operand: offset of width `W`, selector.
pub(super) fn far_pointer<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(u64, u16), Exception> {
    let off = effective(&cpu.state, op);
    let at = linear_at(cpu, segment(op.seg), off, W::BYTES as u64, false)?;
    let offset = load::<W>(cpu, at, op.stack())?;
    let off = off.wrapping_add(W::BYTES as u64) & op.addr_mask();
    let at = linear_at(cpu, segment(op.seg), off, 2, false)?;
    let sel = load::<W16>(cpu, at, op.stack())?;
    Ok((offset, sel as u16))
}

macro_rules! by_condition {
    ($cc:expr, |$n:ident| $e:expr) => {
        match $cc {
            0 => {
                const $n: u8 = 0;
                $e
            }
            1 => {
                const $n: u8 = 1;
                $e
            }
            2 => {
                const $n: u8 = 2;
                $e
            }
            3 => {
                const $n: u8 = 3;
                $e
            }
            4 => {
                const $n: u8 = 4;
                $e
            }
            5 => {
                const $n: u8 = 5;
                $e
            }
            6 => {
                const $n: u8 = 6;
                $e
            }
            7 => {
                const $n: u8 = 7;
                $e
            }
            8 => {
                const $n: u8 = 8;
                $e
            }
            9 => {
                const $n: u8 = 9;
                $e
            }
            10 => {
                const $n: u8 = 10;
                $e
            }
            11 => {
                const $n: u8 = 11;
                $e
            }
            12 => {
                const $n: u8 = 12;
                $e
            }
            13 => {
                const $n: u8 = 13;
                $e
            }
            14 => {
                const $n: u8 = 14;
                $e
            }
            _ => {
                const $n: u8 = 15;
                $e
            }
        }
    };
}
pub(super) use by_condition;

/// The four-bit condition of a Jcc, SETcc or CMOVcc. iced numbers its conditions from 1 in the encoding's order.
pub(super) fn condition_of(s: &Shape) -> Option<u8> {
    use iced_x86::ConditionCode as C;
    Some(match s.ins.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
        C::None => return None,
    })
}

fn moves(s: &Shape, op: &Op) -> Option<Handler> {
    use Kind::{Imm as I, Mem as M, Reg as R};
    let (r0, r1) = (s.ins.op0_register(), s.ins.op1_register());
    let w = s.bytes;
    Some(match (s.kinds[0], s.kinds[1]) {
        (R, _) if r0.is_segment_register() => {
            if op.dst == Seg::CS as u8 || op.dst > Seg::GS as u8 {
                return None;
            }
            if s.kinds[1] == R { mov_to_seg::<R1> } else { mov_to_seg::<Mem> }
        }
        (R, R) if r1.is_segment_register() => by_width!(w, mov_from_seg<R0>),
        (M, R) if r1.is_segment_register() => mov_from_seg::<Mem, W16>,
        (R, R) if !r0.is_gpr() || !r1.is_gpr() => return None,
        (R, R) => by_width!(w, mov<R0, R1>),
        (R, M) => by_width!(w, mov<R0, Mem>),
        (R, I) => by_width!(w, mov<R0, Imm>),
        (M, R) => by_width!(w, mov<Mem, R1>),
        (M, I) => by_width!(w, mov<Mem, Imm>),
        _ => return None,
    })
}

macro_rules! extend {
    ($s:ident, $f:ident) => {
        match ($s.size(1), $s.kinds[1] == Kind::Reg) {
            (1, true) => by_width!($s.bytes, $f<W8, R1>),
            (1, false) => by_width!($s.bytes, $f<W8, Mem>),
            (2, true) => by_width!($s.bytes, $f<W16, R1>),
            (2, false) => by_width!($s.bytes, $f<W16, Mem>),
            (_, true) => by_width!($s.bytes, $f<W32, R1>),
            (_, false) => by_width!($s.bytes, $f<W32, Mem>),
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &Op) -> Option<Handler> {
    use Kind::{Mem as M, Reg as R};
    use Mnemonic::*;
    let w = s.bytes;
    Some(match s.mnemonic() {
        Mov => return moves(s, op),
        Movzx => extend!(s, movzx),
        Movsx | Movsxd => extend!(s, movsx),
        Movbe if s.kinds[0] == R => by_width!(w, movbe<R0, Mem>),
        Movbe => by_width!(w, movbe<Mem, R1>),
        Movnti => by_width!(w, mov<Mem, R1>),
        Bswap => by_width!(w, bswap),
        Lea => by_width!(w, lea),
        Xchg => match (s.kinds[0], s.kinds[1]) {
            (R, R) => by_width!(w, xchg<R0>),
            (M, _) => by_width!(w, xchg<Locked>),
            _ => by_width!(w, xchg_from),
        },
        Cbw => widen::<W8, W16>,
        Cwde => widen::<W16, W32>,
        Cdqe => widen::<W32, W64>,
        Cwd => spread::<W16>,
        Cdq => spread::<W32>,
        Cqo => spread::<W64>,
        Xlatb => xlat,
        Lahf => lahf,
        Sahf => sahf,
        Salc => salc,
        Clc => flag::<CF, 0>,
        Stc => flag::<CF, CF>,
        Cmc => flag::<0, CF>,
        Cld => flag::<DF, 0>,
        Std => flag::<DF, DF>,
        Lds => by_width!(w, load_far_pointer<SegDS>),
        Les => by_width!(w, load_far_pointer<SegES>),
        Lfs => by_width!(w, load_far_pointer<SegFS>),
        Lgs => by_width!(w, load_far_pointer<SegGS>),
        Lss => by_width!(w, load_far_pointer<SegSS>),
        Pause => pause,
        Mfence | Lfence | Sfence => fence,
        Nop | Reservednop | Endbr32 | Endbr64 | Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2
        | Prefetch | Prefetchw | Prefetchwt1 | Prefetchit0 | Prefetchit1 | Cldemote | Rdsspd | Rdsspq
        | Bndmov | Bndcl | Bndcu | Bndcn | Bndmk | Bndldx | Bndstx => nop,
        _ => {
            let cc = condition_of(s)?;
            if s.bytes == 1 && s.ins.op_count() == 1 {
                return Some(by_condition!(cc, |N| if s.kinds[0] == R {
                    setcc::<N, R0> as Handler
                } else {
                    setcc::<N, Mem>
                }));
            }
            if s.kinds[0] != R
                || s.ins.flow_control() != iced_x86::FlowControl::Next
                || !s.ins.op0_register().is_gpr()
            {
                return None;
            }
            by_condition!(cc, |N| match (s.kinds[1] == R, w) {
                (true, 2) => cmov::<N, R1, W16> as Handler,
                (true, 4) => cmov::<N, R1, W32>,
                (true, _) => cmov::<N, R1, W64>,
                (false, 2) => cmov::<N, Mem, W16>,
                (false, 4) => cmov::<N, Mem, W32>,
                (false, _) => cmov::<N, Mem, W64>,
            })
        }
    })
}
