//! The x87's instructions, for hosts that have no x87 (see `aarch64/x87.rs`).

use super::{Done, Leave, access, check_writes};
use crate::layout;
use emu_core::cpu::Cpu;
use emu_core::ir::{eval_x87, x87};
use emu_core::mmu::Priv;

/// An instruction between registers: its name and [`layout::X87_FLAGS`] in the first argument, FCMOVcc's condition in the
/// second.
pub(super) fn do_x87(cpu: &mut Cpu) -> Done {
    if !eval_x87::masked(&cpu.state.fpu) {
        return Err(Leave::Interpret);
    }
    let s = &cpu.state.scratch;
    let (order, holds) = (s[layout::ARG], s[layout::ARG + 1] as u32 != 0);
    let v = eval_x87::registers(&mut cpu.state.fpu, order as u32, holds);
    cpu.state.scratch[layout::RESULT] =
        if order & layout::X87_FLAGS != 0 { crate::host::to_word(v) } else { v };
    Ok(())
}

/// One with a memory operand: linear address, name, and the access.
pub(super) fn do_x87_mem(cpu: &mut Cpu) -> Done {
    if !eval_x87::masked(&cpu.state.fpu) {
        return Err(Leave::Interpret);
    }
    let (lin, size, stack) = access(cpu);
    let aux = cpu.state.scratch[layout::ARG + 1] as u32;
    let ten = size == 10;
    let rest = cpu.advance(lin, 8);
    if matches!(x87::access(aux), x87::Access::Read(_)) {
        if ten {
            cpu.within_half(lin, size, stack)?;
        }
        let low = match size {
            2 => cpu.load::<2>(lin, stack)?,
            4 => cpu.load::<4>(lin, stack)?,
            _ => cpu.load::<8>(lin, stack)?,
        };
        let high = if ten { cpu.load::<2>(rest, stack)? } else { 0 };
        if x87::loads_control(aux) && eval_x87::unmasks(low) {
            return Err(Leave::Interpret);
        }
        eval_x87::load(&mut cpu.state.fpu, aux, low, high);
        return Ok(());
    }
    let (fsw, ftw) = (cpu.state.fpu.fsw, cpu.state.fpu.ftw);
    let (low, high) = eval_x87::store(&mut cpu.state.fpu, aux);
    let done = store(cpu, (lin, rest, size, stack), low, high);
    if done.is_err() {
        (cpu.state.fpu.fsw, cpu.state.fpu.ftw) = (fsw, ftw);
    }
    done
}

fn store(cpu: &mut Cpu, (lin, rest, size, stack): (u64, u64, usize, bool), low: u64, high: u16) -> Done {
    cpu.probe_write(lin, size, Priv::Current, stack)?;
    check_writes(cpu, lin, size, stack)?;
    match size {
        2 => cpu.store::<2>(lin, low & 0xffff, stack)?,
        4 => cpu.store::<4>(lin, low & 0xffff_ffff, stack)?,
        _ => cpu.store::<8>(lin, low, stack)?,
    }
    if size == 10 {
        cpu.store::<2>(rest, high.into(), stack)?;
    }
    Ok(())
}
