//! Running: to a HLT, an address, a number of instructions, or an exception; with hooks or without.

use super::hooks::{Action, Block, Code, Interrupt, Memory, MemoryKind, PageFault, Syscall};
use super::vm::Vm;
use crate::engines::driver::{Ended, code_address};
use emu_core::cpu::Caught;
use emu_core::fault::pf;
use emu_core::state::Activity;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// When to stop, besides exceptions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Before the instruction at this RIP (an offset in CS). A run that starts there runs it first.
    pub rip: Option<u64>,
    /// After this many instructions. A repeated string instruction counts once at least, and once per element at most.
    pub max_insns: u64,
}

impl Default for Stop {
    /// At a HLT only.
    fn default() -> Self {
        Self { rip: None, max_insns: u64::MAX }
    }
}

/// An exception as the run ended with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExceptionInfo {
    /// Its vector.
    pub vector: u8,
    /// The error code that would be pushed, 0 when there is none.
    pub error: u32,
    /// The address of a page fault.
    pub cr2: u64,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By HLT; RIP is behind it.
    Halted,
    /// By an exception or software interrupt, which has not been delivered. Faults leave RIP at their instruction.
    Exception(ExceptionInfo),
    /// Before the instruction at [`Stop::rip`].
    Rip,
    /// [`Stop::max_insns`] instructions have run.
    Limit,
    /// A triple fault, with the first of its exceptions if it is known.
    Shutdown(Option<ExceptionInfo>),
    /// A hook asked for it.
    Hook,
}

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// Instructions completed.
    pub insns: u64,
}

fn info(c: &Caught) -> ExceptionInfo {
    ExceptionInfo { vector: c.vector, error: c.error.unwrap_or(0), cr2: c.cr2 }
}

impl Vm {
    /// Runs from the present state.
    pub fn run(&mut self, stop: Stop) -> Run {
        self.refresh();
        let before = self.cpu.state.icount;
        if self.cpu.state.activity == Activity::Halted {
            self.cpu.state.activity = Activity::Active;
        }
        let end = self.run_to(stop, before);
        Run { end, insns: self.cpu.state.icount.wrapping_sub(before) }
    }

    /// The linear address of an offset in CS.
    fn linear(&self, rip: u64) -> u64 {
        let s = &self.cpu.state;
        if s.is_long64() { rip } else { s.seg[1].base.wrapping_add(rip) & 0xffff_ffff }
    }

    fn run_to(&mut self, stop: Stop, before: u64) -> End {
        let mut first = true;
        loop {
            let used = self.cpu.state.icount.wrapping_sub(before);
            let left = stop.max_insns.saturating_sub(used);
            let at = stop.rip.map(|rip| self.linear(rip));
            self.cpu.catch =
                !self.delivering || !self.hooks.interrupt.is_empty() || !self.hooks.fault.is_empty();
            let ended = if self.hooks.stepping() {
                match self.run_hooked(left, at, std::mem::take(&mut first)) {
                    Ok(ended) => ended,
                    Err(end) => return end,
                }
            } else {
                self.driver.run(&mut self.cpu, left, at, std::mem::take(&mut first))
            };
            match ended {
                Ended::Halted => return End::Halted,
                Ended::Limit => return End::Limit,
                Ended::Stopped => return End::Rip,
                Ended::Shutdown => {}
            }
            let Some(caught) = self.cpu.caught.take() else {
                let cause = self.cpu.fatal.map(|e| ExceptionInfo {
                    vector: e.vector as u8,
                    error: if e.vector.has_error_code() { e.error } else { 0 },
                    cr2: e.cr2,
                });
                return End::Shutdown(cause);
            };
            if let Some(end) = self.on_caught(&caught) {
                return end;
            }
            // An instruction that was delivered or handled is not stopped at again.
            first = true;
        }
    }

    /// Decides what becomes of an exception: Some to end the run.
    fn on_caught(&mut self, caught: &Caught) -> Option<End> {
        if caught.vector == 14 && !caught.software {
            let error = caught.error.unwrap_or(0);
            let kind = if error & pf::I != 0 || code_address(&self.cpu) == caught.cr2 {
                MemoryKind::Fetch
            } else if error & pf::W != 0 {
                MemoryKind::Write
            } else {
                MemoryKind::Read
            };
            match self.fault_hooks(PageFault { addr: caught.cr2, kind, error }) {
                Action::Handled => {
                    self.refresh();
                    return None;
                }
                Action::Stop => return Some(End::Hook),
                Action::Continue => {}
            }
        }
        let event = Interrupt { vector: caught.vector, error: caught.error, software: caught.software };
        match self.interrupt_hooks(event) {
            Action::Handled => {
                self.refresh();
                return None;
            }
            Action::Stop => return Some(End::Hook),
            Action::Continue => {}
        }
        if !self.delivering {
            // What tells the handler more than the vector does.
            if caught.vector == 14 && !caught.software {
                self.cpu.state.cr2 = caught.cr2;
            } else if caught.vector == 1 && !caught.software {
                self.cpu.state.dr[6] |= u64::from(caught.raised.error & 0xe00f);
            }
            // A software interrupt has completed, a fault has not.
            self.cpu.state.icount += u64::from(caught.software);
            return Some(End::Exception(info(caught)));
        }
        self.refresh();
        self.deliver(caught)
    }

    /// Runs instruction by instruction with the hooks around.
    fn run_hooked(&mut self, limit: u64, stop: Option<u64>, go: bool) -> Result<Ended, End> {
        let end = self.cpu.state.icount.saturating_add(limit);
        let mut turns = limit.saturating_mul(4).saturating_add(64);
        let mut first = go;
        loop {
            self.driver.drain(&mut self.cpu);
            let addr = code_address(&self.cpu);
            if !std::mem::take(&mut first) && stop == Some(addr) {
                return Ok(Ended::Stopped);
            }
            if self.cpu.state.icount >= end || turns == 0 {
                return Ok(Ended::Limit);
            }
            turns -= 1;
            if let Some(ended) = self.step_hooked(addr)? {
                return Ok(ended);
            }
        }
    }

    fn step_hooked(&mut self, addr: u64) -> Result<Option<Ended>, End> {
        let ins = self.decode(addr);
        let len = ins.map_or(0, |i| i.len() as u8);
        let mut asked = Action::Continue;
        if self.block_start {
            asked = self.block_hooks(Block { addr });
        }
        if asked != Action::Stop {
            asked = self.code_hooks(Code { addr, len });
        }
        if asked != Action::Stop && len != 0 {
            asked = self.memory_hooks(Memory { kind: MemoryKind::Fetch, addr, len, value: 0 });
        }
        if asked == Action::Stop {
            return Err(End::Hook);
        }
        self.refresh();
        self.block_start = ins.is_none_or(|i| i.flow_control() != FlowControl::Next);
        let call = ins.map(|i| i.mnemonic()).filter(|m| matches!(m, Mnemonic::Syscall | Mnemonic::Sysenter));
        if let Some(m) = call {
            match self.syscall_hooks(Syscall { addr, sysenter: m == Mnemonic::Sysenter }) {
                Action::Stop => return Err(End::Hook),
                Action::Handled => {
                    let s = &mut self.cpu.state;
                    s.rip = s.rip.wrapping_add(len.into());
                    s.icount += 1;
                    self.refresh();
                    return Ok(None);
                }
                Action::Continue => {}
            }
        }
        let tracing = !self.hooks.memory.is_empty();
        self.cpu.trace_accesses(tracing);
        let ended = self.driver.step(&mut self.cpu);
        if tracing {
            for t in self.cpu.mmu.trace.replace(Vec::new()).unwrap_or_default() {
                let kind = if t.write { MemoryKind::Write } else { MemoryKind::Read };
                if self.memory_hooks(Memory { kind, addr: t.addr, len: t.len, value: t.value })
                    == Action::Stop
                {
                    return Err(End::Hook);
                }
            }
        }
        Ok(ended)
    }

    /// The instruction at a linear address, if it can be fetched.
    fn decode(&mut self, addr: u64) -> Option<Instruction> {
        let f = self.cpu.fetch(addr).ok()?;
        let s = &self.cpu.state;
        let ins =
            Decoder::with_ip(s.mode.code_bits(), &f.bytes[..f.len], s.rip, DecoderOptions::NONE).decode();
        (!ins.is_invalid()).then_some(ins)
    }
}
