//! Far JMP and CALL: direct, through call gates, and to tasks.

use super::{check_long_code, check_target, is_8086};
use crate::system::seg::{self, Desc};
use crate::system::stack::{self, Frame};
use crate::system::task::{self, Reason};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::segment::attr;
use emu_core::state::{Seg, SegReg, gpr};

/// Far JMP.
///
/// # Errors
/// #GP, #NP, #TS and page faults, as the manual lists them.
pub fn jmp(cpu: &mut Cpu, sel: u16, offset: u64, size: usize, next_rip: u64) -> Result<(), Exception> {
    transfer(cpu, sel, offset, size, next_rip, false)
}

/// Far CALL.
///
/// # Errors
/// As for [`jmp`], and #SS.
pub fn call(cpu: &mut Cpu, sel: u16, offset: u64, size: usize, next_rip: u64) -> Result<(), Exception> {
    transfer(cpu, sel, offset, size, next_rip, true)
}

fn transfer(
    cpu: &mut Cpu,
    sel: u16,
    offset: u64,
    size: usize,
    next_rip: u64,
    is_call: bool,
) -> Result<(), Exception> {
    let offset = offset & (u64::MAX >> (64 - 8 * size));
    if is_8086(cpu) {
        if offset > cpu.state.seg[Seg::CS as usize].limit.into() {
            return Err(Exception::gp0());
        }
        if is_call {
            push_return(cpu, size, next_rip)?;
        }
        cpu.state.seg[Seg::CS as usize] = seg::legacy(cpu, Seg::CS, sel);
        cpu.state.rip = offset;
        cpu.mode_changed();
        return Ok(());
    }
    if sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let d = seg::fetch(cpu, sel)?.ok_or(seg::fault(Vector::GP, sel))?;
    match d.system_type() {
        None => direct(cpu, &d, offset, size, next_rip, is_call),
        Some(kind) => through_system(cpu, &d, kind, next_rip, is_call),
    }
}

/// Pushes CS and the return address on the current stack.
fn push_return(cpu: &mut Cpu, size: usize, next_rip: u64) -> Result<(), Exception> {
    let mut frame = Frame::current(cpu, size);
    frame.push(cpu.state.seg[Seg::CS as usize].sel.into());
    frame.push(next_rip);
    cpu.state.gpr[gpr::RSP] = frame.commit(cpu)?;
    Ok(())
}

/// To a code segment of the same privilege.
fn direct(
    cpu: &mut Cpu,
    code: &Desc,
    offset: u64,
    size: usize,
    next_rip: u64,
    is_call: bool,
) -> Result<(), Exception> {
    let cpl = cpu.state.cpl();
    let allowed =
        if code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl && seg::rpl(code.sel) <= cpl };
    if !code.is_code() || !allowed {
        return Err(seg::fault(Vector::GP, code.sel));
    }
    check_long_code(cpu, code)?;
    code.check_present(Vector::NP)?;
    check_target(cpu, &code.reg, offset)?;
    let cs = code.accessed(cpu)?;
    if is_call {
        push_return(cpu, size, next_rip)?;
    }
    go(cpu, cs, cpl, offset);
    Ok(())
}

/// Loads CS with the RPL of `cpl` and goes to `rip`.
fn go(cpu: &mut Cpu, cs: SegReg, cpl: u8, rip: u64) {
    cpu.state.seg[Seg::CS as usize] = SegReg { sel: cs.sel & !3 | u16::from(cpl), ..cs };
    cpu.state.rip = rip;
    cpu.mode_changed();
}

/// Through a gate or to a TSS.
fn through_system(cpu: &mut Cpu, d: &Desc, kind: u8, next_rip: u64, is_call: bool) -> Result<(), Exception> {
    let bad = seg::fault(Vector::GP, d.sel);
    let long = cpu.state.long_mode();
    let reason = if is_call { Reason::Call } else { Reason::Jump };
    let known = if long { kind == 12 } else { matches!(kind, 1 | 4 | 5 | 9 | 12) };
    if !known || d.dpl() < cpu.state.cpl().max(seg::rpl(d.sel)) {
        return Err(bad);
    }
    d.check_present(Vector::NP)?;
    match kind {
        4 | 12 => call_gate(cpu, d, next_rip, is_call),
        5 => {
            let sel = (d.raw >> 16) as u16;
            let bad = seg::fault(Vector::GP, sel);
            if sel & 4 != 0 || sel & !3 == 0 {
                return Err(bad);
            }
            let tss = seg::fetch(cpu, sel)?.ok_or(bad)?;
            if !matches!(tss.system_type(), Some(1 | 9)) {
                return Err(bad);
            }
            tss.check_present(Vector::NP)?;
            task::switch(cpu, &tss, reason, next_rip)
        }
        _ if d.sel & 4 != 0 => Err(bad),
        _ => task::switch(cpu, d, reason, next_rip),
    }
}

fn call_gate(cpu: &mut Cpu, gate: &Desc, next_rip: u64, is_call: bool) -> Result<(), Exception> {
    let long = cpu.state.long_mode();
    let wide = gate.reg.attr & 8 != 0;
    let mut offset = gate.raw & 0xffff;
    if wide {
        offset |= gate.raw >> 32 & 0xffff_0000;
    }
    if long {
        let bad = seg::fault(Vector::GP, gate.sel);
        let high = seg::fetch_high(cpu, gate)?.ok_or(bad)?;
        if high >> 40 & 0x1f != 0 {
            return Err(bad);
        }
        offset |= high << 32;
    }
    let sel = (gate.raw >> 16) as u16;
    if sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let bad = seg::fault(Vector::GP, sel);
    let code = seg::fetch(cpu, sel)?.ok_or(bad)?;
    let cpl = cpu.state.cpl();
    let inward = is_call && !code.is_conforming() && code.dpl() < cpl;
    let allowed = if code.is_conforming() || is_call { code.dpl() <= cpl } else { code.dpl() == cpl };
    if !code.is_code() || !allowed {
        return Err(bad);
    }
    if long && code.reg.attr & (attr::L | attr::DB) != attr::L {
        return Err(bad);
    }
    code.check_present(Vector::NP)?;
    let size = match (long, wide) {
        (true, _) => 8,
        (_, true) => 4,
        _ => 2,
    };
    check_target(cpu, &code.reg, offset)?;
    if !is_call {
        let cs = code.accessed(cpu)?;
        go(cpu, cs, cpl, offset);
        return Ok(());
    }
    let old_cs = cpu.state.seg[Seg::CS as usize].sel;
    let old_ss = cpu.state.seg[Seg::SS as usize].sel;
    let old_rsp = cpu.state.gpr[gpr::RSP];
    let mut new_ss = None;
    let mut frame = match (inward, long) {
        (false, true) => Frame::long(old_rsp, Priv::Current),
        (false, false) => Frame::current(cpu, size),
        (true, true) => {
            let rsp = stack::from_tss64(cpu, 4 + 8 * u64::from(code.dpl()))?;
            new_ss = Some(seg::null_ss(code.dpl().into(), code.dpl()));
            Frame::long(rsp, Priv::System)
        }
        (true, false) => {
            let (ss, sp) = stack::from_tss(cpu, code.dpl())?;
            new_ss = Some(ss);
            Frame::inner(ss, sp, size)
        }
    };
    if inward {
        frame.push(old_ss.into());
        frame.push(old_rsp);
        let count = if long { 0 } else { gate.raw >> 32 & 31 };
        copy_parameters(cpu, &mut frame, count, size)?;
    }
    frame.push(old_cs.into());
    frame.push(next_rip);
    let cs = code.accessed(cpu)?;
    cpu.state.gpr[gpr::RSP] = frame.commit(cpu)?;
    if let Some(ss) = new_ss {
        cpu.state.seg[Seg::SS as usize] = ss;
    }
    go(cpu, cs, if inward { code.dpl() } else { cpl }, offset);
    Ok(())
}

/// Copies the caller's parameters to the inner stack, the last pushed one ending nearest to the return address.
fn copy_parameters(cpu: &mut Cpu, frame: &mut Frame, count: u64, size: usize) -> Result<(), Exception> {
    let (rsp, mask) = (cpu.state.gpr[gpr::RSP], stack::current_mask(cpu));
    for i in (0..count).rev() {
        let offset = rsp.wrapping_add(i * size as u64) & mask;
        let lin = seg::linear(cpu, Seg::SS, offset, size as u64, false)?;
        frame.push(cpu.load_slow(lin, size, Priv::Current, true)?);
    }
    Ok(())
}
