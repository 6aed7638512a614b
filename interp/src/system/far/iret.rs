//! IRET, IRETD, IRETQ: from real mode, virtual-8086 mode, protected mode (also back into virtual-8086 mode or to the
//! previous task) and long mode.

use super::{check_target, drop_privileged_segments, return_cs, return_ss};
use crate::system::stack::{self, Pops};
use crate::system::task::{self, Reason};
use crate::system::{flags, seg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::signals::request;
use emu_core::state::bits::rflags;
use emu_core::state::{Seg, gpr};

/// IRET with an operand of `size` bytes. `next_rip` is where the task resumes that ends with this instruction, if
/// it is a nested one.
///
/// # Errors
/// #GP, #NP, #SS, #TS and page faults, as the manual lists them.
pub fn iret(cpu: &mut Cpu, size: usize, next_rip: u64) -> Result<(), Exception> {
    if cpu.state.real_mode() {
        real(cpu, size)?;
    } else if cpu.state.v86() {
        virtual_8086(cpu, size)?;
    } else if cpu.state.rflags & rflags::NT != 0 {
        if cpu.state.long_mode() {
            return Err(Exception::gp0());
        }
        nested_task(cpu, next_rip)?;
    } else {
        protected(cpu, size)?;
    }
    unblock_nmi(cpu);
    Ok(())
}

/// NMIs are let in again; one that came meanwhile is signalled.
pub(in crate::system) fn unblock_nmi(cpu: &mut Cpu) {
    cpu.state.nmi_blocked = false;
    if std::mem::take(&mut cpu.state.nmi_latched) {
        cpu.signals.raise(request::NMI);
    }
}

/// IP, CS and FLAGS off the stack.
fn pop_frame(cpu: &mut Cpu, pops: &mut Pops) -> Result<(u64, u16, u64), Exception> {
    Ok((pops.pop(cpu)?, pops.pop(cpu)? as u16, pops.pop(cpu)?))
}

/// Goes to 8086-style code with new flags.
fn go_8086(cpu: &mut Cpu, rip: u64, sel: u16, rsp: u64, new_flags: u64) -> Result<(), Exception> {
    if rip > cpu.state.seg[Seg::CS as usize].limit.into() {
        return Err(Exception::gp0());
    }
    cpu.state.seg[Seg::CS as usize] = seg::legacy(cpu, Seg::CS, sel);
    cpu.state.gpr[gpr::RSP] = rsp;
    cpu.state.rip = rip;
    flags::replace(cpu, new_flags);
    Ok(())
}

fn real(cpu: &mut Cpu, size: usize) -> Result<(), Exception> {
    let mut pops = Pops::new(cpu, size);
    let (rip, sel, image) = pop_frame(cpu, &mut pops)?;
    let keep = rflags::VM | rflags::VIF | rflags::VIP;
    let writable = if size == 2 { 0xffff } else { !keep };
    let new = cpu.state.rflags & !writable | image & writable;
    go_8086(cpu, rip, sel, pops.rsp(), new)
}

fn virtual_8086(cpu: &mut Cpu, size: usize) -> Result<(), Exception> {
    let iopl3 = cpu.state.rflags & rflags::IOPL == rflags::IOPL;
    // VME handles 16-bit IRET only; anything else is the monitor's business, whatever the stack holds.
    if !iopl3 {
        flags::virtual_popf(cpu, 0, size)?;
    }
    let mut pops = Pops::new(cpu, size);
    let (rip, sel, image) = pop_frame(cpu, &mut pops)?;
    let new = if iopl3 {
        let keep = rflags::VM | rflags::VIF | rflags::VIP | rflags::IOPL;
        let writable = if size == 2 { 0xffff & !rflags::IOPL } else { !keep };
        cpu.state.rflags & !writable | image & writable
    } else {
        flags::virtual_popf(cpu, image, size)?
    };
    go_8086(cpu, rip, sel, pops.rsp(), new)
}

/// Back to the task that the current TSS links to.
fn nested_task(cpu: &mut Cpu, next_rip: u64) -> Result<(), Exception> {
    let sel = seg::read(cpu, cpu.state.tr.base, 2)? as u16;
    let bad = seg::fault(Vector::TS, sel);
    if sel & 4 != 0 || sel & !3 == 0 {
        return Err(bad);
    }
    let tss = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if !matches!(tss.system_type(), Some(3 | 11)) {
        return Err(bad);
    }
    tss.check_present(Vector::NP)?;
    task::switch(cpu, &tss, Reason::Iret, next_rip)
}

fn protected(cpu: &mut Cpu, size: usize) -> Result<(), Exception> {
    let mut pops = Pops::new(cpu, size);
    let (rip, sel, image) = pop_frame(cpu, &mut pops)?;
    let old_cpl = cpu.state.cpl();
    let long = cpu.state.long_mode();
    if size == 4 && image & rflags::VM != 0 && old_cpl == 0 && !long {
        return to_virtual_8086(cpu, pops, rip, sel, image);
    }
    let code = return_cs(cpu, sel)?;
    let cpl = seg::rpl(sel);
    let outward = cpl > old_cpl;
    let mut rsp = pops.rsp();
    let mut new_ss = None;
    if outward || cpu.state.is_long64() {
        let sp = pops.pop(cpu)?;
        let ss_sel = pops.pop(cpu)? as u16;
        let ss = return_ss(cpu, ss_sel, cpl, &code)?;
        let mask = if long && code.is_long() { u64::MAX } else { stack::mask(&ss) };
        // A 16-bit outer stack gets SP only and keeps the upper half of this level's ESP, as on processors.
        rsp = stack::merge(cpu.state.gpr[gpr::RSP], sp, mask);
        new_ss = Some(ss);
    }
    check_target(cpu, &code.reg, rip)?;
    let cs = code.accessed(cpu)?;
    if let Some(ss) = new_ss {
        cpu.state.seg[Seg::SS as usize] = ss;
    }
    cpu.state.seg[Seg::CS as usize] = cs;
    cpu.state.gpr[gpr::RSP] = rsp;
    cpu.state.rip = rip;
    if outward {
        drop_privileged_segments(cpu, cpl);
    }
    let new = flags::iret_image(cpu, image, size, old_cpl);
    flags::replace(cpu, new);
    Ok(())
}

/// To virtual-8086 mode: ESP, SS, ES, DS, FS and GS follow on the stack.
fn to_virtual_8086(cpu: &mut Cpu, mut pops: Pops, rip: u64, sel: u16, image: u64) -> Result<(), Exception> {
    let sp = pops.pop(cpu)?;
    let mut sels = [0; 5];
    for s in &mut sels {
        *s = pops.pop(cpu)? as u16;
    }
    if rip > 0xffff {
        return Err(Exception::gp0());
    }
    cpu.state.seg[Seg::CS as usize] = seg::v86(sel);
    for (s, v) in [Seg::SS, Seg::ES, Seg::DS, Seg::FS, Seg::GS].into_iter().zip(sels) {
        cpu.state.seg[s as usize] = seg::v86(v);
    }
    cpu.state.gpr[gpr::RSP] = sp;
    cpu.state.rip = rip;
    flags::replace(cpu, image);
    Ok(())
}
