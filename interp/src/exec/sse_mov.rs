//! Moves of MMX and SSE, their non-temporal and masked forms, LDMXCSR, STMXCSR and EMMS.

use super::lanes::replace;
use super::simd::{
    Aligned, Bytes, Gpr32, Gpr64, Mm, Outcome, Source, Unaligned, Xmm, binary, binary_mm, enter_mmx,
    ready_mmx, store, unary, xmm,
};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{Dst, Mem, Src, W32, W64, linear_at, mm, segment, set_reg, store_128_aligned};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::state::gpr::RDI;
use iced_x86::{Code, Mnemonic};

/// The bits of MXCSR that exist: also what FXSAVE reports as MXCSR_MASK.
pub const MXCSR_MASK: u32 = 0xffff;

fn load<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    unary::<S>(cpu, op, |v| v)
}

fn load_mm<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary_mm::<S>(cpu, op, |_, b| b)
}

/// Stores the low `N` bytes of an XMM register.
fn store_low<const N: usize>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = xmm(cpu, op.src);
    store(cpu, op, N, v)
}

/// MOVHPS and MOVHPD to memory.
fn store_high(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = xmm(cpu, op.src) >> 64;
    store(cpu, op, 8, v)
}

fn store_aligned(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = xmm(cpu, op.src);
    store_128_aligned(cpu, op, v)
}

/// Stores the low `N` bytes of an MMX register. The transition to MMX waits until the store has succeeded.
fn store_mm<const N: usize>(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    let v = mm(&cpu.state, op.src);
    store(cpu, op, N, v.into())?;
    enter_mmx(cpu);
    Ok(())
}

/// MOVD and MOVQ from an XMM register to a general one.
fn to_gpr<const N: usize>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = xmm(cpu, op.src) as u64;
    gpr::<N>(cpu, op, v)
}

/// MOVD and MOVQ from an MMX register to a general one.
fn mm_to_gpr<const N: usize>(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    enter_mmx(cpu);
    let v = mm(&cpu.state, op.src);
    gpr::<N>(cpu, op, v)
}

fn gpr<const N: usize>(cpu: &mut Cpu, op: &Op, v: u64) -> Outcome {
    match N {
        4 => set_reg::<W32>(&mut cpu.state, op.dst, v),
        _ => set_reg::<W64>(&mut cpu.state, op.dst, v),
    }
    Ok(())
}

/// Replaces the low quadword.
fn load_low<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary::<S>(cpu, op, |a, b| replace(a, 0, b as u64))
}

/// Replaces the high quadword by a low one.
fn load_high<S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary::<S>(cpu, op, |a, b| replace(a, 1, b as u64))
}

/// MASKMOVQ and MASKMOVDQU: stores the bytes of operand 1 whose mask byte in operand 2 has its top bit set, at rDI.
/// Bytes that are not stored are not touched and cannot fault (the manual leaves that open).
fn mask_move(cpu: &mut Cpu, op: &Op, bytes: usize, value: u128, mask: u128) -> Outcome {
    let offset = cpu.state.gpr[RDI] & op.addr_mask();
    let chosen = |i: &usize| mask >> (8 * i + 7) & 1 != 0;
    let mut at = [0; 16];
    for i in (0..bytes).filter(chosen) {
        let off = offset.wrapping_add(i as u64) & op.addr_mask();
        at[i] = linear_at(cpu, segment(op.seg), off, 1, true)?;
        cpu.probe_write(at[i], 1, Priv::Current, op.stack())?;
    }
    for i in (0..bytes).filter(chosen) {
        cpu.store::<1>(at[i], (value >> (8 * i)) as u64 & 0xff, op.stack())?;
    }
    Ok(())
}

/// The mask's register number is in [`Op::dst`], which the instruction has no other use for.
fn maskmovdqu(cpu: &mut Cpu, op: &Op) -> Outcome {
    let (value, mask) = (xmm(cpu, op.src), xmm(cpu, op.dst));
    mask_move(cpu, op, 16, value, mask)
}

fn maskmovq(cpu: &mut Cpu, op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    let (value, mask) = (mm(&cpu.state, op.src), mm(&cpu.state, op.dst));
    mask_move(cpu, op, 8, value.into(), mask.into())?;
    enter_mmx(cpu);
    Ok(())
}

/// LDMXCSR: #GP(0) for bits that do not exist.
fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = Mem::get::<W32>(cpu, op)? as u32;
    if v & !MXCSR_MASK != 0 {
        return Err(Exception::gp0());
    }
    cpu.state.mxcsr = v;
    cpu.state.update_mode();
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = cpu.state.mxcsr;
    Mem::put::<W32>(cpu, op, v.into())
}

/// EMMS: every x87 register is empty.
fn emms(cpu: &mut Cpu, _op: &Op) -> Outcome {
    ready_mmx(cpu)?;
    cpu.state.fpu.fsw &= !0x3800;
    cpu.state.fpu.ftw = 0;
    Ok(())
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    use Kind::Mem as Memory;
    use Mnemonic as M;
    let (from, to) = (s.kinds[1] == Memory, s.kinds[0] == Memory);
    Some(match s.mnemonic() {
        M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq | M::Movntdqa => {
            match (to, from) {
                (true, _) => store_aligned,
                (_, true) => load::<Aligned>,
                _ => load::<Xmm>,
            }
        }
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => match (to, from) {
            (true, _) => store_low::<16>,
            (_, true) => load::<Unaligned>,
            _ => load::<Xmm>,
        },
        M::Movlps | M::Movlpd if to => store_low::<8>,
        M::Movlps | M::Movlpd => load_low::<Bytes<8>>,
        M::Movhps | M::Movhpd if to => store_high,
        M::Movhps | M::Movhpd => load_high::<Bytes<8>>,
        M::Movlhps => load_high::<Xmm>,
        M::Movhlps => |cpu, op| binary::<Xmm>(cpu, op, |a, b| replace(a, 0, (b >> 64) as u64)),
        M::Movntq => store_mm::<8>,
        M::Maskmovq | M::Maskmovdqu => {
            op.dst = s.ins.op2_register().number() as u8;
            if s.mnemonic() == M::Maskmovq { maskmovq } else { maskmovdqu }
        }
        M::Ldmxcsr => ldmxcsr,
        M::Stmxcsr => stmxcsr,
        M::Emms => emms,
        M::Movss | M::Movsd | M::Movd | M::Movq => return by_code(s),
        _ => return None,
    })
}

/// Mnemonics that stand for many things.
fn by_code(s: &Shape) -> Option<Handler> {
    let (from, to) = (s.kinds[1] == Kind::Mem, s.kinds[0] == Kind::Mem);
    Some(match s.ins.code() {
        Code::Movss_xmm_xmmm32 | Code::Movss_xmmm32_xmm => match (to, from) {
            (true, _) => store_low::<4>,
            (_, true) => load::<Bytes<4>>,
            _ => |cpu, op| binary::<Xmm>(cpu, op, |a, b| replace(a, 0, b as u32)),
        },
        Code::Movsd_xmm_xmmm64 | Code::Movsd_xmmm64_xmm => match (to, from) {
            (true, _) => store_low::<8>,
            (_, true) => load::<Bytes<8>>,
            _ => load_low::<Xmm>,
        },
        Code::Movq_xmm_xmmm64 | Code::Movq_xmmm64_xmm => match (to, from) {
            (true, _) => store_low::<8>,
            (_, true) => load::<Bytes<8>>,
            _ => |cpu, op| unary::<Xmm>(cpu, op, |b| b & u128::from(u64::MAX)),
        },
        Code::Movd_xmm_rm32 if from => load::<Bytes<4>>,
        Code::Movd_xmm_rm32 => |cpu, op| unary::<Gpr32>(cpu, op, |b| b),
        Code::Movq_xmm_rm64 if from => load::<Bytes<8>>,
        Code::Movq_xmm_rm64 => |cpu, op| unary::<Gpr64>(cpu, op, |b| b),
        Code::Movd_rm32_xmm if to => store_low::<4>,
        Code::Movd_rm32_xmm => to_gpr::<4>,
        Code::Movq_rm64_xmm if to => store_low::<8>,
        Code::Movq_rm64_xmm => to_gpr::<8>,
        Code::Movq_mm_mmm64 | Code::Movq_mmm64_mm => match (to, from) {
            (true, _) => store_mm::<8>,
            (_, true) => load_mm::<Bytes<8>>,
            _ => load_mm::<Mm>,
        },
        Code::Movd_mm_rm32 if from => load_mm::<Bytes<4>>,
        Code::Movd_mm_rm32 => load_mm::<Gpr32>,
        Code::Movq_mm_rm64 if from => load_mm::<Bytes<8>>,
        Code::Movq_mm_rm64 => load_mm::<Gpr64>,
        Code::Movd_rm32_mm if to => store_mm::<4>,
        Code::Movd_rm32_mm => mm_to_gpr::<4>,
        Code::Movq_rm64_mm if to => store_mm::<8>,
        Code::Movq_rm64_mm => mm_to_gpr::<8>,
        _ => return None,
    })
}
