//! Moves of MMX, SSE and their VEX forms, with the non-temporal and masked forms, LDMXCSR, STMXCSR and EMMS.

use super::lanes::replace;
use super::simd::{
    AlwaysAligned, Bytes, Form, Gpr32, Gpr64, Legacy, Mm, Outcome, Source, Unaligned, Vector, Vex, Xmm,
    binary, binary_mm, by_form, by_source_128, enter_mmx, ready_mmx, store, store_vector, unary, vector, xmm,
};
use crate::decode::{Handler, Kind, Op, Shape};
use crate::operand::{Dst, Mem, Src, W32, W64, linear_at, mm, segment, set_reg};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::state::Mode;
use emu_core::state::gpr::RDI;
use iced_x86::{Code, Mnemonic};

/// The bits of MXCSR that exist: also what FXSAVE reports as MXCSR_MASK.
pub const MXCSR_MASK: u32 = 0xffff;

fn load<F: Form, S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    unary::<F, S>(cpu, op, |v| v)
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

fn store_aligned<F: Form>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = vector::<F>(cpu, op.src);
    store_vector::<F>(cpu, op, v, true)
}

fn store_all<F: Form>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = vector::<F>(cpu, op.src);
    store_vector::<F>(cpu, op, v, false)
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
fn load_low<F: Form, S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary::<F, S>(cpu, op, |a, b| replace(a, 0, b as u64))
}

/// Replaces the high quadword by a low one.
fn load_high<F: Form, S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    binary::<F, S>(cpu, op, |a, b| replace(a, 1, b as u64))
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
    if cpu.state.mode.contains(Mode::ALIGN) {
        // It stores a quadword as far as alignment goes, whatever the mask.
        let offset = cpu.state.gpr[RDI] & op.addr_mask();
        linear_at(cpu, segment(op.seg), offset, 8, true)?;
    }
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
        M::Movaps
        | M::Movapd
        | M::Movdqa
        | M::Movntps
        | M::Movntpd
        | M::Movntdq
        | M::Movntdqa
        | M::Vmovaps
        | M::Vmovapd
        | M::Vmovdqa
        | M::Vmovntps
        | M::Vmovntpd
        | M::Vmovntdq
        | M::Vmovntdqa => match (to, from) {
            (true, _) => by_form!(s, store_aligned),
            (_, true) => by_form!(s, load<AlwaysAligned>),
            _ => by_form!(s, load<Vector>),
        },
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu | M::Vmovups | M::Vmovupd | M::Vmovdqu | M::Vlddqu => {
            match (to, from) {
                (true, _) => by_form!(s, store_all),
                (_, true) => by_form!(s, load<Unaligned>),
                _ => by_form!(s, load<Vector>),
            }
        }
        M::Movlps | M::Movlpd | M::Vmovlps | M::Vmovlpd if to => store_low::<8>,
        M::Movlps | M::Movlpd | M::Vmovlps | M::Vmovlpd => by_form!(s, load_low<Bytes<8>>),
        M::Movhps | M::Movhpd | M::Vmovhps | M::Vmovhpd if to => store_high,
        M::Movhps | M::Movhpd | M::Vmovhps | M::Vmovhpd => by_form!(s, load_high<Bytes<8>>),
        M::Movlhps | M::Vmovlhps => by_form!(s, load_high<Xmm>),
        M::Movhlps | M::Vmovhlps => {
            by_source_128!(s, Unaligned, binary, |a, b| replace(a, 0, (b >> 64) as u64))
        }
        M::Movntq => store_mm::<8>,
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => {
            // With VEX they are not where `vex_operands` puts what it knows.
            (op.src, op.dst) = (s.ins.op1_register().number() as u8, s.ins.op2_register().number() as u8);
            if s.mnemonic() == M::Maskmovq { maskmovq } else { maskmovdqu }
        }
        M::Ldmxcsr | M::Vldmxcsr => ldmxcsr,
        M::Stmxcsr | M::Vstmxcsr => stmxcsr,
        M::Emms => emms,
        M::Movss | M::Movsd | M::Movd | M::Movq => return by_code(s),
        M::Vmovss | M::Vmovsd | M::Vmovd | M::Vmovq => return by_vex_code(s),
        _ => return None,
    })
}

/// Mnemonics that stand for many things.
fn by_code(s: &Shape) -> Option<Handler> {
    let (from, to) = (s.kinds[1] == Kind::Mem, s.kinds[0] == Kind::Mem);
    Some(match s.ins.code() {
        Code::Movss_xmm_xmmm32 | Code::Movss_xmmm32_xmm => match (to, from) {
            (true, _) => store_low::<4>,
            (_, true) => load::<Legacy, Bytes<4>>,
            _ => |cpu, op| binary::<Legacy, Xmm>(cpu, op, |a, b| replace(a, 0, b as u32)),
        },
        Code::Movsd_xmm_xmmm64 | Code::Movsd_xmmm64_xmm => match (to, from) {
            (true, _) => store_low::<8>,
            (_, true) => load::<Legacy, Bytes<8>>,
            _ => load_low::<Legacy, Xmm>,
        },
        Code::Movq_xmm_xmmm64 | Code::Movq_xmmm64_xmm => match (to, from) {
            (true, _) => store_low::<8>,
            (_, true) => load::<Legacy, Bytes<8>>,
            _ => |cpu, op| unary::<Legacy, Xmm>(cpu, op, |b| b & u128::from(u64::MAX)),
        },
        Code::Movd_xmm_rm32 if from => load::<Legacy, Bytes<4>>,
        Code::Movd_xmm_rm32 => |cpu, op| unary::<Legacy, Gpr32>(cpu, op, |b| b),
        Code::Movq_xmm_rm64 if from => load::<Legacy, Bytes<8>>,
        Code::Movq_xmm_rm64 => |cpu, op| unary::<Legacy, Gpr64>(cpu, op, |b| b),
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

/// The same with VEX: between two registers, operand 1 gives the upper part.
fn by_vex_code(s: &Shape) -> Option<Handler> {
    use Code::*;
    let (from, to) = (s.kinds[1] == Kind::Mem, s.kinds[0] == Kind::Mem);
    Some(match s.ins.code() {
        VEX_Vmovss_xmm_m32 => load::<Vex<1>, Bytes<4>>,
        VEX_Vmovss_m32_xmm => store_low::<4>,
        VEX_Vmovss_xmm_xmm_xmm | VEX_Vmovss_xmm_xmm_xmm_0F11 => {
            |cpu, op| binary::<Vex<1>, Xmm>(cpu, op, |a, b| replace(a, 0, b as u32))
        }
        VEX_Vmovsd_xmm_m64 => load::<Vex<1>, Bytes<8>>,
        VEX_Vmovsd_m64_xmm => store_low::<8>,
        VEX_Vmovsd_xmm_xmm_xmm | VEX_Vmovsd_xmm_xmm_xmm_0F11 => load_low::<Vex<1>, Xmm>,
        VEX_Vmovq_xmm_xmmm64 | VEX_Vmovq_xmmm64_xmm => match (to, from) {
            (true, _) => store_low::<8>,
            (_, true) => load::<Vex<1>, Bytes<8>>,
            _ => |cpu, op| unary::<Vex<1>, Xmm>(cpu, op, |b| b & u128::from(u64::MAX)),
        },
        VEX_Vmovd_xmm_rm32 if from => load::<Vex<1>, Bytes<4>>,
        VEX_Vmovd_xmm_rm32 => load::<Vex<1>, Gpr32>,
        VEX_Vmovq_xmm_rm64 if from => load::<Vex<1>, Bytes<8>>,
        VEX_Vmovq_xmm_rm64 => load::<Vex<1>, Gpr64>,
        VEX_Vmovd_rm32_xmm if to => store_low::<4>,
        VEX_Vmovd_rm32_xmm => to_gpr::<4>,
        VEX_Vmovq_rm64_xmm if to => store_low::<8>,
        VEX_Vmovq_rm64_xmm => to_gpr::<8>,
        _ => return None,
    })
}
