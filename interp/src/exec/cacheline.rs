//! CLFLUSH, CLFLUSHOPT, CLWB (SDM vol. 2A) and CLZERO (AMD64 APM vol. 3). There is no cache: what is left is which
//! memory they touch, and how.

use crate::decode::{Handler, Op, Shape};
use crate::operand::{Mem, Src, W8, linear_at, segment};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::state::Seg;
use emu_core::state::gpr::RAX;
use iced_x86::{Code, CodeSize, Mnemonic, Register};

/// Bytes of a line, as CPUID leaf 1 says.
const LINE: u64 = 64;

/// CLFLUSH and its kin are loads as far as faults go.
fn touch(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    Mem::get::<W8>(cpu, op).map(drop)
}

/// CLZERO: the line that rAX points into becomes zero; all of it, or a fault.
fn clzero(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let off = cpu.state.gpr[RAX] & op.addr_mask();
    let lin = linear_at(cpu, segment(op.seg), off, 1, true)? & !(LINE - 1);
    cpu.probe_write(lin, LINE as usize, Priv::Current, op.stack())?;
    for i in 0..LINE / 8 {
        cpu.store::<8>(lin + 8 * i, 0, op.stack())?;
    }
    Ok(())
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    match s.mnemonic() {
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => Some(touch),
        Mnemonic::Clzero => {
            op.addr_shift = match s.ins.code() {
                Code::Clzerow => 48,
                Code::Clzerod => 32,
                _ => 0,
            };
            // In 64-bit code the other prefixes are ignored.
            let narrow = s.ins.code_size() != CodeSize::Code64;
            op.seg = match s.ins.segment_prefix() {
                Register::ES if narrow => Seg::ES,
                Register::CS if narrow => Seg::CS,
                Register::SS if narrow => Seg::SS,
                Register::FS => Seg::FS,
                Register::GS => Seg::GS,
                _ => Seg::DS,
            } as u8;
            Some(clzero)
        }
        _ => None,
    }
}
