//! The register stack, its faults, and the status word.
//!
//! Overflow and underflow of the stack (SDM vol. 1, 8.5.1.1) raise IE together with SF; C1 tells overflow from
//! underflow. Masked, an underflow works on the real indefinite, and an overflow pushes it.

use super::super::save_area::{physical, status_word};
use crate::decode::Op;
use crate::operand::effective;
use emu_core::cpu::Cpu;
use emu_core::softfloat::{Ctx, F80, Flags};
use emu_core::state::{FpuState, Mode, Seg};

/// The status word's SF: the invalid operation was a stack fault.
const SF: Flags = Flags(1 << 6);
const TOP_SHIFT: u32 = 11;
const TOP: u16 = 7 << TOP_SHIFT;

/// Register-stack operations on the x87's state. `i` counts from the top.
pub trait Stack {
    /// ST(i), or None if it is empty.
    fn read(&self, i: u8) -> Option<F80>;
    /// What ST(i) holds, empty or not.
    fn contents(&self, i: u8) -> F80;
    /// Replaces ST(i) and marks it full.
    fn write(&mut self, i: u8, value: F80);
    /// Marks ST(i) empty.
    fn free(&mut self, i: u8);
    /// Adds `n` to TOP; tags stay with their registers.
    fn rotate(&mut self, n: u16);
    /// Marks ST(0) empty and raises TOP, if `on`.
    fn pop_if(&mut self, on: bool);
    /// Pushes; the caller has seen that there is room.
    fn push(&mut self, value: F80);
    /// Whether a push would overflow.
    fn full(&self) -> bool;
    /// Arithmetic under the current control word.
    fn ctx(&self) -> Ctx;
    /// Adds exceptions and sets C1 as in `flags`; other condition codes are only added to.
    fn raise(&mut self, flags: Flags);
    /// Replaces all condition codes by those of `flags` and adds its exceptions.
    fn raise_conditions(&mut self, flags: Flags);
    /// Raises a stack underflow. True: it is masked, go on with the indefinite.
    fn underflow(&mut self) -> bool;
    /// Raises a stack overflow. If it is masked, the indefinite is pushed.
    fn overflow(&mut self);
    /// Stack overflow of an instruction that also replaces ST(0): if masked, both become the indefinite.
    fn overflow_pair(&mut self);
}

impl Stack for FpuState {
    #[inline(always)]
    fn read(&self, i: u8) -> Option<F80> {
        let p = physical(self.fsw, i.into());
        (self.ftw >> p & 1 != 0).then(|| self.st[p])
    }

    #[inline(always)]
    fn contents(&self, i: u8) -> F80 {
        self.st[physical(self.fsw, i.into())]
    }

    #[inline(always)]
    fn write(&mut self, i: u8, value: F80) {
        let p = physical(self.fsw, i.into());
        self.st[p] = value;
        self.ftw |= 1 << p;
    }

    #[inline(always)]
    fn free(&mut self, i: u8) {
        self.ftw &= !(1 << physical(self.fsw, i.into()));
    }

    #[inline(always)]
    fn rotate(&mut self, n: u16) {
        let top = self.fsw.wrapping_add(n << TOP_SHIFT) & TOP;
        self.fsw = self.fsw & !TOP | top;
    }

    #[inline(always)]
    fn pop_if(&mut self, on: bool) {
        if on {
            self.free(0);
            self.rotate(1);
        }
    }

    #[inline(always)]
    fn push(&mut self, value: F80) {
        self.rotate(7);
        self.write(0, value);
    }

    #[inline(always)]
    fn full(&self) -> bool {
        self.read(7).is_some()
    }

    #[inline(always)]
    fn ctx(&self) -> Ctx {
        Ctx::from_control_word(self.fcw)
    }

    #[inline(always)]
    fn raise(&mut self, flags: Flags) {
        let fsw = self.fsw & !Flags::C1.bits() | flags.bits();
        self.fsw = status_word(self.fcw, fsw);
    }

    #[inline(always)]
    fn raise_conditions(&mut self, flags: Flags) {
        self.fsw &= !Flags::CONDITIONS.bits();
        self.raise(flags);
    }

    #[cold]
    fn underflow(&mut self) -> bool {
        self.raise(Flags::IE | SF);
        self.fcw & Flags::IE.bits() != 0
    }

    #[cold]
    fn overflow(&mut self) {
        self.raise(Flags::IE | SF | Flags::C1);
        if self.fcw & Flags::IE.bits() != 0 {
            self.push(F80::INDEFINITE);
        }
    }

    #[cold]
    fn overflow_pair(&mut self) {
        if self.fcw & Flags::IE.bits() != 0 {
            self.write(0, F80::INDEFINITE);
        }
        self.overflow();
    }
}

/// Points FIP and FOP at the instruction.
#[inline(always)]
pub fn note(cpu: &mut Cpu, op: &Op) {
    let s = &mut cpu.state;
    let long = s.mode.contains(Mode::CODE64);
    s.fpu.fip = s.rip.wrapping_sub(op.len.into()) & if long { u64::MAX } else { 0xffff_ffff };
    s.fpu.fcs = if long { 0 } else { s.seg[Seg::CS as usize].sel };
    s.fpu.fop = op.imm as u16;
}

/// Points FIP and FOP at the instruction, and FDP at its memory operand.
#[inline(always)]
pub fn note_memory(cpu: &mut Cpu, op: &Op) {
    note(cpu, op);
    let s = &mut cpu.state;
    s.fpu.fdp = effective(s, op);
    let long = s.mode.contains(Mode::CODE64);
    s.fpu.fds = if long { 0 } else { s.seg[usize::from(op.seg) % 6].sel };
}
