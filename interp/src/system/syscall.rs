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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;

    fn bed() -> Bed {
        let mut b = Bed::long();
        let m = &mut b.cpu.state.msr;
        m.star = 0x0023_0010 << 32;
        m.lstar = 0xffff_ffff_8000_1000;
        m.fmask = rflags::IF | rflags::TF | rflags::AC;
        m.sysenter_cs = 0x10;
        m.sysenter_esp = 0xffff_8000_0000_2000;
        m.sysenter_eip = 0xffff_8000_0000_3000;
        b
    }

    #[test]
    fn syscall_and_back() {
        let mut b = bed().user(USER_CODE64);
        b.cpu.state.rflags = 2 | rflags::IF | rflags::CF;
        syscall(&mut b.cpu, CODE + 2).unwrap();
        let s = &b.cpu.state;
        assert_eq!((s.rip, s.cpl(), s.rflags), (0xffff_ffff_8000_1000, 0, 2 | rflags::CF));
        assert_eq!((s.gpr[gpr::RCX], s.gpr[R11]), (CODE + 2, 2 | rflags::IF | rflags::CF));
        assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS), b.rsp()), (0x10, 0x18, STACK));
        assert!(b.cpu.state.is_long64());

        sysret(&mut b.cpu, 8).unwrap();
        assert_eq!((b.cpu.state.rip, b.cpu.state.cpl()), (CODE + 2, 3));
        assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS)), (0x33, 0x2b));
        assert_eq!(b.cpu.state.rflags, 2 | rflags::IF | rflags::CF);
        assert_eq!(sysret(&mut b.cpu, 8), Err(Exception::gp0()));
    }

    #[test]
    fn sysret_to_compatibility_mode_and_to_nowhere() {
        let mut b = bed();
        b.cpu.state.gpr[gpr::RCX] = 1 << 47;
        let before = b.essence();
        assert_eq!(sysret(&mut b.cpu, 8), Err(Exception::gp0()));
        assert_eq!(b.essence(), before);
        b.cpu.state.gpr[gpr::RCX] = 0x1_0000_4000;
        sysret(&mut b.cpu, 4).unwrap();
        assert_eq!((b.cpu.state.rip, b.sel(Seg::CS)), (0x4000, 0x23));
        assert!(!b.cpu.state.is_long64());
        assert_eq!(syscall(&mut b.cpu, 0), Err(Exception::ud()));
    }

    #[test]
    fn without_sce_it_is_undefined() {
        let mut b = bed();
        b.cpu.state.efer &= !efer::SCE;
        assert_eq!(syscall(&mut b.cpu, 0), Err(Exception::ud()));
        assert_eq!(sysret(&mut b.cpu, 8), Err(Exception::ud()));
    }

    #[test]
    fn sysenter_and_sysexit() {
        let mut b = bed().user(USER_CODE32);
        sysenter(&mut b.cpu).unwrap();
        assert!(b.cpu.state.is_long64());
        assert_eq!((b.cpu.state.rip, b.rsp()), (0xffff_8000_0000_3000, 0xffff_8000_0000_2000));
        assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS), b.cpu.state.cpl()), (0x10, 0x18, 0));
        b.cpu.state.gpr[gpr::RCX] = 0x5000;
        b.cpu.state.gpr[gpr::RDX] = 0x4000;
        sysexit(&mut b.cpu, 4).unwrap();
        assert_eq!((b.cpu.state.rip, b.rsp(), b.cpu.state.cpl()), (0x4000, 0x5000, 3));
        assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS)), (0x23, 0x2b));
        assert_eq!(sysexit(&mut b.cpu, 4), Err(Exception::gp0()));
        b.cpu.state.msr.sysenter_cs = 0;
        assert_eq!(sysenter(&mut b.cpu), Err(Exception::gp0()));
    }
}
