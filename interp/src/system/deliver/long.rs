//! Delivery in long mode: 16-byte gates, 64-bit handlers, IST stacks (SDM vol. 3A, 6.14).

use super::{Event, enter_flags};
use crate::system::stack::{self, Frame};
use crate::system::{canonical, seg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::segment::attr;
use emu_core::state::{Seg, gpr};

pub(super) fn deliver(cpu: &mut Cpu, event: &Event) -> Result<(), Exception> {
    let at = u64::from(event.vector) * 16;
    if at + 15 > cpu.state.idtr.limit.into() {
        return Err(event.gate_fault(Vector::GP));
    }
    let lin = cpu.state.idtr.base.wrapping_add(at);
    let low = seg::read(cpu, lin, 8)?;
    let high = seg::read(cpu, lin.wrapping_add(8), 8)?;
    let kind = (low >> 40) as u8;
    if !matches!(kind & 0x1f, 14 | 15) || high >> 40 & 0x1f != 0 {
        return Err(event.gate_fault(Vector::GP));
    }
    let cpl = cpu.state.cpl();
    if event.soft && kind >> 5 & 3 < cpl {
        return Err(event.gate_fault(Vector::GP));
    }
    if kind & 0x80 == 0 {
        return Err(event.gate_fault(Vector::NP));
    }
    let sel = (low >> 16) as u16;
    if sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let bad = seg::fault(Vector::GP, sel);
    let code = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if !code.is_code() || code.dpl() > cpl || code.reg.attr & (attr::L | attr::DB) != attr::L {
        return Err(bad);
    }
    code.check_present(Vector::NP)?;
    let target = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
    if !canonical(cpu, target) {
        return Err(Exception::gp0());
    }
    let new_cpl = if code.is_conforming() { cpl } else { code.dpl() };
    let ist = low >> 32 & 7;
    let rsp = if ist != 0 {
        stack::from_tss64(cpu, 0x24 + 8 * (ist - 1))?
    } else if new_cpl < cpl {
        stack::from_tss64(cpu, 4 + 8 * u64::from(new_cpl))?
    } else {
        cpu.state.gpr[gpr::RSP]
    };
    if !canonical(cpu, rsp) {
        return Err(Exception::ss0());
    }
    let privilege = if new_cpl < cpl { Priv::System } else { Priv::Current };
    let mut frame = Frame::long(rsp & !15, privilege);
    frame.push(cpu.state.seg[Seg::SS as usize].sel.into());
    frame.push(cpu.state.gpr[gpr::RSP]);
    frame.push(event.flags);
    frame.push(cpu.state.seg[Seg::CS as usize].sel.into());
    frame.push(event.rip);
    if let Some(error) = event.error {
        frame.push(error.into());
    }
    let mut cs = code.accessed(cpu)?;
    cs.sel = sel & !3 | u16::from(new_cpl);
    let rsp = frame.commit(cpu)?;

    if new_cpl < cpl {
        cpu.state.seg[Seg::SS as usize] = seg::null_ss(new_cpl.into(), new_cpl);
    }
    cpu.state.seg[Seg::CS as usize] = cs;
    cpu.state.gpr[gpr::RSP] = rsp;
    cpu.state.rip = target;
    enter_flags(cpu, kind & 1 == 0);
    Ok(())
}
