//! Debug facilities of one instruction: TF, RF, and the breakpoints of DR0-DR3 (SDM vol. 3B, chapter 17).
//!
//! Used only while [`Mode::STEP`] is set or RF is pending, so it may take its time: data breakpoints are found by asking the
//! decoder which memory and which port the instruction uses. Not modelled: data breakpoints on the lanes of gathers and
//! of masked moves.

use crate::system::deliver;
use crate::system::seg;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::access::Fetched;
use emu_core::state::bits::{cr4, debugctl, rflags, shadow};
use emu_core::state::gpr::{RCX, RDX};
use emu_core::state::{Mode, Seg};
use iced_x86::{
    Decoder, DecoderError, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

/// DR6.BS: the trap is a single step.
const BS: u32 = 1 << 14;

/// What is to be known before the instruction runs.
#[derive(Debug)]
pub struct Before {
    trap: bool,
    /// Under DEBUGCTL.BTF the trap comes after branches alone: None for other instructions, else where RIP is if a
    /// conditional branch is not taken.
    branch: Option<Option<u64>>,
    /// DR6 bits of the data and I/O breakpoints that the instruction will hit.
    data: u32,
    /// The instruction loads RF itself (IRET, and task switches, which keep it).
    pub loads_rf: bool,
}

/// Whether breakpoint `n` is enabled, its R/W field and its length in bytes.
fn breakpoint(cpu: &Cpu, n: u32) -> Option<(u64, u64, u64)> {
    let dr7 = cpu.state.dr[7];
    let on = dr7 >> (2 * n) & 3 != 0;
    let kind = dr7 >> (16 + 4 * n) & 3;
    let len = [1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize];
    on.then(|| (cpu.state.dr[n as usize] & !(len - 1), kind, len))
}

/// The #DB of an instruction breakpoint at CS:RIP, unless RF is set.
pub fn instruction_breakpoint(cpu: &Cpu) -> Option<Exception> {
    if cpu.state.rflags & rflags::RF != 0 || cpu.state.dr[7] & 0xff == 0 {
        return None;
    }
    let lin = code_address(cpu)?;
    let hits = (0..4)
        .filter(|&n| matches!(breakpoint(cpu, n), Some((at, 0, 1)) if at == lin))
        .fold(0, |bits, n| bits | 1 << n);
    (hits != 0).then(|| deliver::debug(hits, true))
}

fn code_address(cpu: &Cpu) -> Option<u64> {
    if cpu.state.mode.contains(Mode::CODE64) {
        Some(cpu.state.rip)
    } else {
        seg::code(cpu, cpu.state.rip).ok()
    }
}

impl Before {
    /// Looks at the processor and at the instruction that is about to run.
    pub fn new(cpu: &mut Cpu) -> Self {
        let s = &cpu.state;
        let trap = s.rflags & rflags::TF != 0;
        let mut before = Self { trap, branch: None, data: 0, loads_rf: false };
        let data = (0..4).any(|n| matches!(breakpoint(cpu, n), Some((_, kind, _)) if kind & 1 != 0));
        let Some(lin) = code_address(cpu) else { return before };
        let Ok(mut f) = cpu.fetch_in_page(lin) else { return before };
        let (bits, rip) = (cpu.state.mode.code_bits(), cpu.state.rip);
        let decode = |f: &Fetched| {
            let mut decoder = Decoder::with_ip(bits, &f.bytes[..f.len], rip, DecoderOptions::NONE);
            (decoder.decode(), decoder.last_error())
        };
        let (mut ins, error) = decode(&f);
        if error == DecoderError::NoMoreBytes {
            cpu.fetch_beyond(lin, &mut f);
            ins = decode(&f).0;
        }
        before.loads_rf = matches!(ins.mnemonic(), Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq);
        // These clear TF as they enter their handler, and no trap follows.
        before.trap &= !matches!(
            ins.mnemonic(),
            Mnemonic::Int | Mnemonic::Int1 | Mnemonic::Int3 | Mnemonic::Syscall | Mnemonic::Sysenter
        );
        before.branch = match ins.flow_control() {
            FlowControl::Next | FlowControl::Exception => None,
            FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => Some(Some(ins.next_ip())),
            _ => Some(None),
        };
        if data {
            before.data = data_hits(cpu, &ins);
        }
        if cpu.state.cr4 & cr4::DE != 0 {
            before.data |= port_hits(cpu, &ins);
        }
        before
    }

    /// The #DB after the instruction, if there is one.
    pub fn traps(&self, cpu: &Cpu) -> Option<Exception> {
        // A load of SS holds back debug exceptions up to the boundary behind the next instruction (SDM vol. 3A, 6.8.3): its
        // own trap, and not that one's.
        if cpu.state.shadow & shadow::MOV_SS != 0 {
            return None;
        }
        let s = &cpu.state;
        let stepped = s.msr.debugctl & debugctl::BTF == 0
            || self.branch.is_some_and(|not_taken| not_taken != Some(s.rip));
        let bits = self.data | if self.trap && stepped { BS } else { 0 };
        (bits != 0).then(|| deliver::debug(bits, false))
    }
}

/// The I/O breakpoints (R/W field 2 under CR4.DE) that the instruction hits.
fn port_hits(cpu: &Cpu, ins: &iced_x86::Instruction) -> u32 {
    let size = match ins.mnemonic() {
        Mnemonic::In => ins.op0_register().size(),
        Mnemonic::Out => ins.op1_register().size(),
        Mnemonic::Insb | Mnemonic::Outsb => 1,
        Mnemonic::Insw | Mnemonic::Outsw => 2,
        Mnemonic::Insd | Mnemonic::Outsd => 4,
        _ => return 0,
    } as u64;
    let immediate = (0..ins.op_count()).find(|&i| ins.op_kind(i) == OpKind::Immediate8);
    let port = match immediate {
        Some(i) => ins.immediate(i),
        None => cpu.state.gpr[RDX] & 0xffff,
    };
    // A repeated instruction that has nothing left to do touches no port.
    let mask = match cpu.state.mode.code_bits() {
        64 => u64::MAX,
        32 => 0xffff_ffff,
        _ => 0xffff,
    };
    if ins.has_rep_prefix() && cpu.state.gpr[RCX] & mask == 0 {
        return 0;
    }
    let hit = |n: &u32| {
        let at = breakpoint(cpu, *n);
        matches!(at, Some((address, 2, len)) if address < port + size && port < address.wrapping_add(len))
    };
    (0..4).filter(hit).fold(0, |bits, n| bits | 1 << n)
}

fn data_hits(cpu: &Cpu, ins: &iced_x86::Instruction) -> u32 {
    let mut factory = InstructionInfoFactory::new();
    let mut hits = 0;
    for m in factory.info(ins).used_memory() {
        let (reads, writes) = match m.access() {
            OpAccess::Read | OpAccess::CondRead => (true, false),
            OpAccess::Write | OpAccess::CondWrite => (false, true),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
            _ => continue,
        };
        let Some(at) = m.virtual_address(0, |r, _, _| register(cpu, r)) else { continue };
        let size = m.memory_size().size().max(1) as u64;
        for n in 0..4 {
            let Some((address, kind, len)) = breakpoint(cpu, n) else { continue };
            let wanted = kind == 1 && writes || kind == 3 && (reads || writes);
            if wanted && address < at.wrapping_add(size) && at < address.wrapping_add(len) {
                hits |= 1 << n;
            }
        }
    }
    hits
}

/// A register's value for address computation; for a segment register, its base.
fn register(cpu: &Cpu, r: Register) -> Option<u64> {
    let s = &cpu.state;
    if r.is_segment_register() {
        let seg = match r {
            Register::ES => Seg::ES,
            Register::CS => Seg::CS,
            Register::SS => Seg::SS,
            Register::FS => Seg::FS,
            Register::GS => Seg::GS,
            _ => Seg::DS,
        };
        let based = !s.is_long64() || matches!(seg, Seg::FS | Seg::GS);
        return Some(if based { s.seg[seg as usize].base } else { 0 });
    }
    if !r.is_gpr() {
        return None;
    }
    let v = s.gpr[r.full_register().number() & 15];
    Some(v & (u64::MAX >> (64 - 8 * r.size().min(8))))
}
