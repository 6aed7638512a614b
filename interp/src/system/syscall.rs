//! SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM vol. 2B; vol. 3A, 5.8.7 and 5.8.8).
//!
//! The segments they load are fixed: nothing is read from the descriptor tables.

use super::{canonical, cpl0, flags};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::bits::{efer, rflags};
use emu_core::state::{Mode, Seg, SegReg, gpr};

const R11: usize = 11;

/// A flat code segment; `long` is 64-bit code, else 32-bit.
fn flat_code(sel: u16, cpl: u8, long: bool) -> SegReg {
    let attr = 0x809b | if long { 0x2000 } else { 0x4000 } | u16::from(cpl) << 5;
    SegReg { sel, attr, limit: u32::MAX, base: 0 }
}

/// A flat writable data segment.
fn flat_data(sel: u16, cpl: u8) -> SegReg {
    SegReg { sel, attr: 0xc093 | u16::from(cpl) << 5, limit: u32::MAX, base: 0 }
}

/// Loads CS and SS and goes to `rip` with new flags.
fn go(cpu: &mut Cpu, cs: SegReg, ss: SegReg, rip: u64, new_flags: u64) {
    cpu.state.seg[Seg::CS as usize] = cs;
    cpu.state.seg[Seg::SS as usize] = ss;
    cpu.state.rip = rip;
    flags::replace(cpu, new_flags);
}

/// SYSCALL. Only in 64-bit code, as on Intel processors.
///
/// # Errors
/// #UD outside 64-bit code or with EFER.SCE clear.
pub fn syscall(cpu: &mut Cpu, next_rip: u64) -> Result<(), Exception> {
    let s = &mut cpu.state;
    if !s.is_long64() || s.efer & efer::SCE == 0 {
        return Err(Exception::ud());
    }
    s.gpr[gpr::RCX] = next_rip;
    s.gpr[R11] = s.rflags & !rflags::RF;
    let sel = (s.msr.star >> 32) as u16;
    let (rip, new_flags) = (s.msr.lstar, s.rflags & !s.msr.fmask & !rflags::RF);
    go(cpu, flat_code(sel & !3, 0, true), flat_data((sel & !3).wrapping_add(8), 0), rip, new_flags);
    Ok(())
}

/// SYSRET; `size` 8 (REX.W) returns to 64-bit code, else to compatibility mode.
///
/// # Errors
/// #UD outside 64-bit code or with EFER.SCE clear, #GP(0) above CPL 0 or for a non-canonical RCX.
pub fn sysret(cpu: &mut Cpu, size: usize) -> Result<(), Exception> {
    if !cpu.state.is_long64() || cpu.state.efer & efer::SCE == 0 {
        return Err(Exception::ud());
    }
    cpl0(cpu)?;
    let long = size == 8;
    let rcx = cpu.state.gpr[gpr::RCX];
    if long && !canonical(cpu, rcx) {
        return Err(Exception::gp0());
    }
    let sel = (cpu.state.msr.star >> 48) as u16;
    let cs = sel.wrapping_add(if long { 16 } else { 0 }) | 3;
    let ss = sel.wrapping_add(8) | 3;
    let rip = if long { rcx } else { rcx & 0xffff_ffff };
    let new_flags = cpu.state.gpr[R11] & 0x3c_7fd7;
    go(cpu, flat_code(cs, 3, long), flat_data(ss, 3), rip, new_flags);
    Ok(())
}

/// SYSENTER.
///
/// # Errors
/// #GP(0) in real mode or with a null IA32_SYSENTER_CS.
pub fn sysenter(cpu: &mut Cpu) -> Result<(), Exception> {
    let s = &mut cpu.state;
    let sel = s.msr.sysenter_cs as u16;
    if s.real_mode() || sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let long = s.long_mode();
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    s.gpr[gpr::RSP] = s.msr.sysenter_esp & mask;
    let rip = s.msr.sysenter_eip & mask;
    let new_flags = s.rflags & !(rflags::VM | rflags::IF | rflags::RF);
    go(cpu, flat_code(sel & !3, 0, long), flat_data((sel & !3).wrapping_add(8), 0), rip, new_flags);
    Ok(())
}

/// SYSEXIT; `size` 8 (REX.W) returns to 64-bit code.
///
/// # Errors
/// #GP(0) outside protected mode, above CPL 0, with a null IA32_SYSENTER_CS or non-canonical RCX or RDX.
pub fn sysexit(cpu: &mut Cpu, size: usize) -> Result<(), Exception> {
    let sel = cpu.state.msr.sysenter_cs as u16;
    if !cpu.state.mode.contains(Mode::PROT) || sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    cpl0(cpu)?;
    let (rcx, rdx) = (cpu.state.gpr[gpr::RCX], cpu.state.gpr[gpr::RDX]);
    let long = size == 8;
    if long && (!canonical(cpu, rcx) || !canonical(cpu, rdx)) {
        return Err(Exception::gp0());
    }
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    let (cs, ss) = if long { (32, 40) } else { (16, 24) };
    cpu.state.gpr[gpr::RSP] = rcx & mask;
    let flags = cpu.state.rflags;
    go(
        cpu,
        flat_code(sel.wrapping_add(cs) | 3, 3, long),
        flat_data(sel.wrapping_add(ss) | 3, 3),
        rdx & mask,
        flags,
    );
    Ok(())
}
