//! XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS (SDM vol. 1, chapter 13), RDPKRU and WRPKRU.
//!
//! State components: 0 x87, 1 SSE, 2 AVX, 9 PKRU. There are no supervisor components, so the S forms differ from
//! XSAVEC and XRSTOR in their checks alone. XINUSE is exact: a component is in use if it is not in its initial
//! configuration, XMM8-15 counted in every mode. The modified optimisation, which would skip what has not changed
//! since the last XRSTOR, is not made; the manual permits that.

use super::save_area::{Area, LEGACY_SIZE, MXCSR_INIT, XMM_AT, XMM_SIZE, reachable};
use crate::decode::{Handler, Op, Shape};
use crate::operand::{linear, task_switched};
use crate::system::cpl0;
use crate::system::cpuid::XSAVE_COMPONENTS;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::softfloat::F80;
use emu_core::state::bits::{cr4, xcr0};
use emu_core::state::gpr::{RAX, RCX, RDX};
use emu_core::state::{CpuState, FpuState};
use iced_x86::Mnemonic;

const HEADER: usize = LEGACY_SIZE;
const XSTATE_BV: usize = HEADER;
const XCOMP_BV: usize = HEADER + 8;
const HEADER_SIZE: usize = 64;
const COMPACTED: u64 = 1 << 63;
/// The components that this file can move.
const KNOWN: u64 = xcr0::X87 | xcr0::SSE | xcr0::AVX | xcr0::PKRU;

/// The instructions that save.
const XSAVE: u8 = 0;
const XSAVEOPT: u8 = 1;
const XSAVEC: u8 = 2;
const XSAVES: u8 = 3;

/// The x87 in its initial configuration (SDM vol. 1, 13.6): FNINIT with empty registers cleared too.
const X87_INIT: FpuState =
    FpuState { st: [F80::ZERO; 8], fcw: 0x37f, fsw: 0, ftw: 0, fop: 0, fip: 0, fcs: 0, fdp: 0, fds: 0 };

/// The components that are not in their initial configuration, of those that XCR0 enables.
pub fn in_use(s: &CpuState) -> u64 {
    let any = |half: usize| s.vec[..16].iter().any(|v| v.0[half] | v.0[half + 1] != 0);
    let mut mask = 0;
    let mut add = |on: bool, bit: u64| mask |= if on { bit } else { 0 };
    add(s.fpu != X87_INIT, xcr0::X87);
    add(any(0), xcr0::SSE);
    add(any(2), xcr0::AVX);
    add(s.pkru != 0, xcr0::PKRU);
    mask & s.xcr0
}

/// Where each extended component lies: (its bit, its offset, its size). `layout` is XCOMP_BV of a compacted area;
/// None means the standard format.
fn places(layout: Option<u64>) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut next = HEADER + HEADER_SIZE;
    XSAVE_COMPONENTS.into_iter().filter_map(move |(bit, size, offset)| {
        let (mask, size) = (1 << bit, size as usize);
        let at = match layout {
            None => offset as usize,
            Some(bv) if bv & mask == 0 => return None,
            Some(_) => next,
        };
        next = at + size;
        Some((mask, at, size))
    })
}

/// The end of the last of `components`.
fn extent(layout: Option<u64>, components: u64) -> usize {
    let ends = places(layout).filter(|p| p.0 & components != 0).map(|p| p.1 + p.2);
    ends.fold(HEADER + HEADER_SIZE, usize::max)
}

/// #UD, #NM and the privilege check; then the requested-feature bitmap.
fn requested(cpu: &Cpu, supervisor: bool) -> Result<u64, Exception> {
    let s = &cpu.state;
    if s.cr4 & cr4::OSXSAVE == 0 {
        return Err(Exception::ud());
    }
    task_switched(s)?;
    let mut enabled = s.xcr0;
    if supervisor {
        cpl0(cpu)?;
        enabled |= s.msr.xss;
    }
    let wanted = s.gpr[RAX] & 0xffff_ffff | s.gpr[RDX] << 32;
    Ok(wanted & enabled & KNOWN)
}

/// The area's address: #GP(0) unless 64-byte aligned.
fn area_address(cpu: &mut Cpu, op: &Op, bytes: usize, write: bool) -> Result<u64, Exception> {
    let lin = linear(cpu, op, bytes as u64, write)?;
    if lin & 63 == 0 { Ok(lin) } else { Err(Exception::gp0()) }
}

fn save<const FORM: u8, const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let rfbm = requested(cpu, FORM == XSAVES)?;
    let compacted = FORM >= XSAVEC;
    let layout = compacted.then_some(rfbm);
    let lin = area_address(cpu, op, extent(layout, rfbm), true)?;
    let mut area = Area::empty();
    let s = &cpu.state;
    let mut xinuse = in_use(s);
    if compacted && s.mxcsr != MXCSR_INIT {
        xinuse |= xcr0::SSE;
    }
    let saved = if FORM == XSAVE { rfbm } else { rfbm & xinuse };
    if saved & xcr0::X87 != 0 {
        area.set_x87(&s.fpu, WIDE);
    }
    if saved & xcr0::SSE != 0 {
        area.set_xmm(s);
    }
    // In the standard format MXCSR goes with SSE and AVX, in use or not; in the compacted one with SSE.
    let with_mxcsr = if compacted { saved & xcr0::SSE } else { rfbm & (xcr0::SSE | xcr0::AVX) };
    if with_mxcsr != 0 {
        area.set_mxcsr(s.mxcsr);
    }
    for (bit, at, _) in places(layout) {
        match bit & saved {
            xcr0::AVX => set_upper_halves(&mut area, s, at),
            xcr0::PKRU => area.set(at, s.pkru.into()),
            _ => {}
        }
    }
    if compacted {
        area.set(XSTATE_BV, rfbm & xinuse);
        area.set(XCOMP_BV, COMPACTED | rfbm);
    } else {
        let mut old = Area::empty();
        old.read(cpu, lin, op.stack(), XSTATE_BV, 8)?;
        area.set(XSTATE_BV, old.get(XSTATE_BV) & !rfbm | rfbm & xinuse);
    }
    area.write(cpu, lin, op.stack())
}

fn set_upper_halves(area: &mut Area, s: &CpuState, at: usize) {
    for i in 0..reachable(s) {
        area.set(at + 16 * i, s.vec[i].0[2]);
        area.set(at + 16 * i + 8, s.vec[i].0[3]);
    }
}

/// The header's rules (SDM vol. 1, 13.8 and 13.12): gives XSTATE_BV, and XCOMP_BV if the area is compacted.
fn check_header(cpu: &Cpu, area: &Area, supervisor: bool) -> Result<(u64, Option<u64>), Exception> {
    let (bv, comp) = (area.get(XSTATE_BV), area.get(XCOMP_BV));
    let reserved_zero = (XCOMP_BV + 8..HEADER + HEADER_SIZE).step_by(8).all(|at| area.get(at) == 0);
    let compact_allowed = cpu.features.xsave_eax & 0xa != 0;
    if comp & COMPACTED == 0 || !compact_allowed {
        let ok = !supervisor && comp == 0 && area.get(XCOMP_BV + 8) == 0 && bv & !cpu.state.xcr0 == 0;
        return if ok { Ok((bv, None)) } else { Err(Exception::gp0()) };
    }
    let layout = comp & !COMPACTED;
    let enabled = cpu.state.xcr0 | if supervisor { cpu.state.msr.xss } else { 0 };
    let ok = layout & !enabled == 0 && bv & !layout == 0 && reserved_zero;
    if ok { Ok((bv, Some(layout))) } else { Err(Exception::gp0()) }
}

fn restore<const SUPERVISOR: bool, const WIDE: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let rfbm = requested(cpu, SUPERVISOR)?;
    let lin = area_address(cpu, op, HEADER + HEADER_SIZE, false)?;
    let mut area = Area::empty();
    area.read(cpu, lin, op.stack(), HEADER, HEADER_SIZE)?;
    let (bv, layout) = check_header(cpu, &area, SUPERVISOR)?;
    let present = rfbm & bv;
    let compacted = layout.is_some();
    // The segment's limit has to hold the components too.
    area_address(cpu, op, extent(layout, present), false)?;

    let mxcsr_with = if compacted { present & xcr0::SSE } else { rfbm & (xcr0::SSE | xcr0::AVX) };
    if present & xcr0::X87 != 0 || mxcsr_with != 0 {
        area.read(cpu, lin, op.stack(), 0, XMM_AT)?;
    }
    if present & xcr0::SSE != 0 {
        area.read(cpu, lin, op.stack(), XMM_AT, XMM_SIZE)?;
    }
    for (_, at, size) in places(layout).filter(|p| p.0 & present != 0) {
        area.read(cpu, lin, op.stack(), at, size)?;
    }
    let mxcsr = match (mxcsr_with != 0, compacted && rfbm & xcr0::SSE != 0) {
        (true, _) => area.mxcsr()?,
        (_, true) => MXCSR_INIT,
        _ => cpu.state.mxcsr,
    };

    // Nothing faults from here on. What is requested and not present goes to its initial configuration, which for
    // all but the x87 is zero, as the untouched parts of `area` are.
    cpu.state.mxcsr = mxcsr;
    if rfbm & xcr0::X87 != 0 {
        cpu.state.fpu = if present & xcr0::X87 != 0 { area.x87(WIDE) } else { X87_INIT };
    }
    if rfbm & xcr0::SSE != 0 {
        area.load_xmm(&mut cpu.state);
    }
    let at = |bit: u64| places(layout).find(|p| p.0 == bit && p.0 & present != 0).map(|p| p.1);
    if rfbm & xcr0::AVX != 0 {
        load_upper_halves(&area, &mut cpu.state, at(xcr0::AVX));
    }
    if rfbm & xcr0::PKRU != 0 {
        set_pkru(cpu, at(xcr0::PKRU).map_or(0, |at| area.get(at) as u32));
    }
    cpu.state.update_mode();
    Ok(())
}

fn load_upper_halves(area: &Area, s: &mut CpuState, at: Option<usize>) {
    for i in 0..reachable(s) {
        for half in 0..2 {
            s.vec[i].0[2 + half] = at.map_or(0, |at| area.get(at + 16 * i + 8 * half));
        }
    }
}

fn set_pkru(cpu: &mut Cpu, value: u32) {
    let old = std::mem::replace(&mut cpu.state.pkru, value);
    if old != value {
        cpu.keys_changed(old);
    }
}

/// RDPKRU and WRPKRU: #UD without CR4.PKE, #GP(0) unless ECX (and for WRPKRU EDX) is zero.
fn pkru<const WRITE: bool>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let s = &mut cpu.state;
    if s.cr4 & cr4::PKE == 0 {
        return Err(Exception::ud());
    }
    if s.gpr[RCX] as u32 != 0 || WRITE && s.gpr[RDX] as u32 != 0 {
        return Err(Exception::gp0());
    }
    if WRITE {
        let value = s.gpr[RAX] as u32;
        set_pkru(cpu, value);
    } else {
        s.gpr[RAX] = s.pkru.into();
        s.gpr[RDX] = 0;
    }
    Ok(())
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    Some(match s.mnemonic() {
        Xsave => save::<XSAVE, false>,
        Xsave64 => save::<XSAVE, true>,
        Xsaveopt => save::<XSAVEOPT, false>,
        Xsaveopt64 => save::<XSAVEOPT, true>,
        Xsavec => save::<XSAVEC, false>,
        Xsavec64 => save::<XSAVEC, true>,
        Xsaves => save::<XSAVES, false>,
        Xsaves64 => save::<XSAVES, true>,
        Xrstor => restore::<false, false>,
        Xrstor64 => restore::<false, true>,
        Xrstors => restore::<true, false>,
        Xrstors64 => restore::<true, true>,
        Rdpkru => pkru::<false>,
        Wrpkru => pkru::<true>,
        _ => return None,
    })
}
