//! SYSCALL, SYSRET and IRETQ in 64-bit code without leaving translated code (SDM vol. 2B; vol. 3A, 5.8.8 and 6.14.3).
//!
//! The common case alone: whatever faults, or leads to anything but 64-bit code, is left to the interpreter before
//! anything has changed.

use super::{Done, Leave};
use crate::jumps::Switch;
use crate::{host, layout};
use emu_core::cpu::Cpu;
use emu_core::ir::TransferKind;
use emu_core::mmu::Priv;
use emu_core::signals::request;
use emu_core::state::bits::{efer, rflags};
use emu_core::state::segment::attr;
use emu_core::state::{Seg, SegReg, gpr};

const R11: usize = 11;

/// Where a transfer leads.
struct Target {
    rip: u64,
    cs: SegReg,
    ss: SegReg,
    flags: u64,
}

pub(super) fn do_transfer(cpu: &mut Cpu) -> Done {
    let target = match TransferKind::from_number(cpu.state.scratch[layout::ARG + 2] as u32 as i64) {
        Some(TransferKind::Syscall) => syscall(cpu),
        Some(TransferKind::Sysret) => sysret(cpu),
        Some(TransferKind::Iret) => iret(cpu),
        None => None,
    };
    let target = target.ok_or(Leave::Interpret)?;
    go(cpu, &target);
    let s = &mut cpu.state;
    // SAFETY: `Jit::run_code` has put the address of the switch of its own doors there; they live as long as it
    // does, and all that is changed of a switch is in cells.
    let switch = unsafe { &*(s.scratch[layout::SWITCH] as *const Switch) };
    match switch.to(s.mode) {
        Some((doors, returns)) => {
            s.scratch[layout::DOORS] = doors;
            s.scratch[layout::RETURNS] = returns;
            s.scratch[layout::RESULT] = target.rip;
            Ok(())
        }
        None => Err(Leave::Elsewhere),
    }
}

/// RFLAGS, whose status bits are in translated code's word.
fn flags(cpu: &Cpu) -> u64 {
    cpu.state.rflags & !rflags::STATUS | host::status_flags(&cpu.state.scratch)
}

/// Changes CS, SS, RIP and flags, and all that hangs on them. RF is not kept: there are no breakpoints, under which
/// translated code does not run.
fn go(cpu: &mut Cpu, to: &Target) {
    let s = &mut cpu.state;
    let opened = to.flags & !s.rflags & rflags::IF != 0;
    s.seg[Seg::CS as usize] = to.cs;
    s.seg[Seg::SS as usize] = to.ss;
    s.rip = to.rip;
    s.rflags = to.flags & rflags::ALL & !rflags::RF | rflags::FIXED1;
    s.scratch[layout::FLAGS] = host::to_word(s.rflags);
    cpu.state.update_privilege();
    cpu.select_tlb();
    if opened && std::mem::take(&mut cpu.state.intr_withheld) {
        cpu.signals.raise(request::INTR);
    }
}

/// Flat 64-bit code and a flat stack, as SYSCALL and SYSRET load them whatever the tables say.
fn flat(cs: u16, ss: u16, cpl: u16) -> (SegReg, SegReg) {
    let dpl = cpl << attr::DPL_SHIFT;
    let all = attr::P | attr::S | attr::RW | attr::A | attr::G | dpl;
    let segment = |sel, more| SegReg { sel, attr: all | more, limit: u32::MAX, base: 0 };
    (segment(cs, attr::CODE | attr::L), segment(ss, attr::DB))
}

fn syscall(cpu: &mut Cpu) -> Option<Target> {
    if cpu.state.efer & efer::SCE == 0 {
        return None;
    }
    let old = flags(cpu);
    let s = &mut cpu.state;
    let sel = (s.msr.star >> 32) as u16 & !3;
    let (cs, ss) = flat(sel, sel.wrapping_add(8), 0);
    s.gpr[gpr::RCX] = s.scratch[layout::ARG];
    s.gpr[R11] = old & !rflags::RF;
    Some(Target { rip: s.msr.lstar, cs, ss, flags: old & !s.msr.fmask })
}

fn sysret(cpu: &Cpu) -> Option<Target> {
    let s = &cpu.state;
    let (rip, image) = (s.gpr[gpr::RCX], s.gpr[R11]);
    if s.efer & efer::SCE == 0 || !cpu.state.is_canonical(rip) {
        return None;
    }
    let sel = (s.msr.star >> 48) as u16;
    let (cs, ss) = flat(sel.wrapping_add(16) | 3, sel.wrapping_add(8) | 3, 3);
    let kept = rflags::ALL & !(rflags::RF | rflags::VM);
    Some(Target { rip, cs, ss, flags: image & kept })
}

fn iret(cpu: &mut Cpu) -> Option<Target> {
    /// What is left to the interpreter if the new flags have it.
    const RARE: u64 = rflags::TF | rflags::NT | rflags::VM | rflags::VIF | rflags::VIP;
    let old = flags(cpu);
    if cpu.state.nmi_blocked || old & RARE != 0 {
        return None;
    }
    let pop = |cpu: &mut Cpu, n: u64| {
        let at = cpu.state.gpr[gpr::RSP].wrapping_add(8 * n);
        cpu.load::<8>(at, true).ok()
    };
    // RSP and SS are only read once the rest is fine: another page may be marked as accessed by that.
    let (rip, cs_sel, image) = (pop(cpu, 0)?, pop(cpu, 1)? as u16, pop(cpu, 2)?);
    if image & RARE != 0 || !cpu.state.is_canonical(rip) {
        return None;
    }
    let cpl = cs_sel & 3;
    let dpl = cpl << attr::DPL_SHIFT;
    let dpl_mask = 3 << attr::DPL_SHIFT;
    let cs = descriptor(cpu, cs_sel)?;
    let code = attr::P | attr::S | attr::CODE | attr::A | attr::L;
    if cs.attr & (code | attr::EC | attr::DB | dpl_mask) != code | dpl {
        return None;
    }
    let (rsp, ss_sel) = (pop(cpu, 3)?, pop(cpu, 4)? as u16);
    let ss = if ss_sel & !3 == 0 {
        if cpl == 3 || ss_sel != cpl {
            return None;
        }
        // Unusable; its DPL carries the privilege level.
        SegReg { sel: ss_sel, attr: dpl, limit: 0, base: 0 }
    } else {
        let ss = descriptor(cpu, ss_sel)?;
        let data = attr::P | attr::S | attr::RW | attr::A;
        if ss_sel & 3 != cpl || ss.attr & (data | attr::CODE | dpl_mask) != data | dpl {
            return None;
        }
        ss
    };
    // Data segments that the outer level may not use would have to go.
    let above = |r: &SegReg| {
        let segment = r.attr & (attr::P | attr::S) == attr::P | attr::S;
        let conforming = r.attr & (attr::CODE | attr::EC) == attr::CODE | attr::EC;
        segment && !conforming && u16::from(r.dpl()) < cpl
    };
    let s = &mut cpu.state;
    if [Seg::ES, Seg::DS, Seg::FS, Seg::GS].iter().any(|&seg| above(&s.seg[seg as usize])) {
        return None;
    }
    s.gpr[gpr::RSP] = rsp;
    Some(Target { rip, cs, ss, flags: image })
}

/// The segment that the global table has for `sel`.
fn descriptor(cpu: &mut Cpu, sel: u16) -> Option<SegReg> {
    let (table, at) = (cpu.state.gdtr, u64::from(sel & !7));
    if sel & 4 != 0 || at == 0 || at + 7 > table.limit.into() {
        return None;
    }
    let raw = cpu.load_slow(table.base.wrapping_add(at), 8, Priv::System, false).ok()?;
    Some(SegReg::from_descriptor(sel, raw))
}
