//! Delivery outside long mode: the real-mode vector table, and the gates of protected and virtual-8086 mode
//! (SDM vol. 3A, 6.12; vol. 3B, 20.1.4 and 20.3).

use super::{Event, enter_flags};
use crate::system::stack::{self, Frame};
use crate::system::task::{self, Reason};
use crate::system::{flags, seg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::bits::rflags;
use emu_core::state::{Seg, SegReg, gpr};

/// Through the real-mode vector table: three words on the stack, no error code.
pub(super) fn real(cpu: &mut Cpu, event: &Event) -> Result<(), Exception> {
    if u32::from(event.vector) * 4 + 3 > cpu.state.idtr.limit.into() {
        return Err(event.gate_fault(Vector::GP));
    }
    let base = cpu.state.idtr.base;
    through_vector_table(cpu, base, event, event.flags, rflags::IF | rflags::TF | rflags::AC | rflags::RF)
}

/// The 8086-style part that real mode shares with redirected INT n of virtual-8086 mode: pushes `image`, CS and IP,
/// clears `clear` in RFLAGS and goes to the far pointer in the table at `base`.
pub(super) fn through_vector_table(
    cpu: &mut Cpu,
    base: u64,
    event: &Event,
    image: u64,
    clear: u64,
) -> Result<(), Exception> {
    let pointer = seg::read(cpu, base.wrapping_add(u64::from(event.vector) * 4), 4)?;
    let mut frame = Frame::current(cpu, 2);
    frame.push(image);
    frame.push(cpu.state.seg[Seg::CS as usize].sel.into());
    frame.push(event.rip);
    let rsp = frame.commit(cpu)?;
    cpu.state.gpr[gpr::RSP] = rsp;
    cpu.state.rip = pointer & 0xffff;
    cpu.state.seg[Seg::CS as usize] = seg::legacy(cpu, Seg::CS, (pointer >> 16) as u16);
    let value = cpu.state.rflags & !clear;
    flags::replace(cpu, value);
    Ok(())
}

/// Through the IDT of protected mode: task, interrupt and trap gates, 16 and 32 bits wide.
pub(super) fn protected(cpu: &mut Cpu, event: &Event) -> Result<(), Exception> {
    let at = u64::from(event.vector) * 8;
    if at + 7 > cpu.state.idtr.limit.into() {
        return Err(event.gate_fault(Vector::GP));
    }
    let lin = cpu.state.idtr.base.wrapping_add(at);
    let gate = seg::read(cpu, lin, 8)?;
    let attr = (gate >> 40) as u8;
    let kind = attr & 0x1f;
    if !matches!(kind, 5 | 6 | 7 | 14 | 15) {
        return Err(event.gate_fault(Vector::GP));
    }
    if event.soft && attr >> 5 & 3 < cpu.state.cpl() {
        return Err(event.gate_fault(Vector::GP));
    }
    if attr & 0x80 == 0 {
        return Err(event.gate_fault(Vector::NP));
    }
    let sel = (gate >> 16) as u16;
    if kind == 5 {
        return task_gate(cpu, event, sel);
    }
    let wide = kind & 8 != 0;
    let offset = if wide { gate & 0xffff | gate >> 32 & 0xffff_0000 } else { gate & 0xffff };
    let interrupt_gate = kind & 1 == 0;

    if sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let bad = seg::fault(Vector::GP, sel);
    let code = seg::fetch(cpu, sel)?.ok_or(bad)?;
    let cpl = cpu.state.cpl();
    if !code.is_code() || code.dpl() > cpl {
        return Err(bad);
    }
    code.check_present(Vector::NP)?;
    if offset > code.reg.limit.into() {
        return Err(Exception::gp0());
    }
    let v86 = cpu.state.v86();
    let new_cpl = if code.is_conforming() { cpl } else { code.dpl() };
    if v86 && (code.is_conforming() || new_cpl != 0) {
        return Err(bad);
    }
    let size = if wide { 4 } else { 2 };
    let mut new_ss = None;
    let mut frame = if new_cpl < cpl {
        let (ss, sp) = stack::from_tss(cpu, new_cpl)?;
        new_ss = Some(ss);
        let mut f = Frame::inner(ss, sp, size);
        if v86 {
            for s in [Seg::GS, Seg::FS, Seg::DS, Seg::ES] {
                f.push(cpu.state.seg[s as usize].sel.into());
            }
        }
        f.push(cpu.state.seg[Seg::SS as usize].sel.into());
        f.push(cpu.state.gpr[gpr::RSP]);
        f
    } else {
        Frame::current(cpu, size)
    };
    frame.push(event.flags);
    frame.push(cpu.state.seg[Seg::CS as usize].sel.into());
    frame.push(event.rip);
    if let Some(error) = event.error {
        frame.push(error.into());
    }
    let mut cs = code.accessed(cpu)?;
    cs.sel = sel & !3 | u16::from(new_cpl);
    let rsp = frame.commit(cpu)?;

    if v86 {
        for s in [Seg::GS, Seg::FS, Seg::DS, Seg::ES] {
            cpu.state.seg[s as usize] = SegReg::null(0);
        }
    }
    if let Some(ss) = new_ss {
        cpu.state.seg[Seg::SS as usize] = ss;
    }
    cpu.state.seg[Seg::CS as usize] = cs;
    cpu.state.gpr[gpr::RSP] = rsp;
    cpu.state.rip = offset;
    enter_flags(cpu, interrupt_gate);
    Ok(())
}

fn task_gate(cpu: &mut Cpu, event: &Event, sel: u16) -> Result<(), Exception> {
    let bad = seg::fault(Vector::GP, sel);
    if sel & 4 != 0 || sel & !3 == 0 {
        return Err(bad);
    }
    let tss = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if !matches!(tss.system_type(), Some(1 | 9)) {
        return Err(bad);
    }
    tss.check_present(Vector::NP)?;
    task::switch(cpu, &tss, Reason::Gate { error: event.error, flags: event.flags }, event.rip)
}
