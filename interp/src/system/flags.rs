//! CLI, STI, PUSHF, POPF, with the virtual interrupt flag of VME and PVI (SDM vol. 2; vol. 3B, 20.3 and 20.4).

use super::deliver::interrupts_enabled;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::bits::{cr4, rflags, shadow};

/// What IF means to CLI, STI and, in virtual-8086 mode, PUSHF and POPF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interrupts {
    /// The flag itself.
    Real,
    /// VIF stands in for it.
    Virtual,
    /// Not to be touched: #GP(0).
    Forbidden,
}

fn iopl(cpu: &Cpu) -> u8 {
    ((cpu.state.rflags & rflags::IOPL) >> rflags::IOPL_SHIFT) as u8
}

fn interrupts(cpu: &Cpu) -> Interrupts {
    let s = &cpu.state;
    let virtual_bit = if s.v86() { cr4::VME } else { cr4::PVI };
    if s.real_mode() || iopl(cpu) >= s.cpl() {
        Interrupts::Real
    } else if s.cpl() == 3 && s.cr4 & virtual_bit != 0 {
        Interrupts::Virtual
    } else {
        Interrupts::Forbidden
    }
}

/// Replaces RFLAGS, with all that hangs on it: the mode bits, and a waiting interrupt if IF becomes set.
///
/// RF is only kept while a breakpoint is enabled in DR7: nothing else can see it between two instructions, so
/// that nobody has to clear it after every instruction.
pub fn replace(cpu: &mut Cpu, value: u64) {
    let old = cpu.state.rflags;
    let mut new = value & rflags::ALL | rflags::FIXED1;
    if cpu.state.dr[7] & 0xff == 0 {
        new &= !rflags::RF;
    }
    cpu.state.rflags = new;
    cpu.mode_changed();
    if !old & new & rflags::IF != 0 {
        interrupts_enabled(cpu);
    }
}

/// CLI.
///
/// # Errors
/// #GP(0).
pub fn cli(cpu: &mut Cpu) -> Result<(), Exception> {
    match interrupts(cpu) {
        Interrupts::Real => cpu.state.rflags &= !rflags::IF,
        Interrupts::Virtual => cpu.state.rflags &= !rflags::VIF,
        Interrupts::Forbidden => return Err(Exception::gp0()),
    }
    Ok(())
}

/// STI; sets the interrupt shadow where IF was clear.
///
/// # Errors
/// #GP(0), also for a pending virtual interrupt.
pub fn sti(cpu: &mut Cpu) -> Result<(), Exception> {
    match interrupts(cpu) {
        Interrupts::Real => {
            if cpu.state.rflags & rflags::IF == 0 {
                cpu.state.rflags |= rflags::IF;
                cpu.state.shadow |= shadow::STI;
                interrupts_enabled(cpu);
            }
        }
        Interrupts::Virtual if cpu.state.rflags & rflags::VIP == 0 => cpu.state.rflags |= rflags::VIF,
        _ => return Err(Exception::gp0()),
    }
    Ok(())
}

/// PUSHF, PUSHFD, PUSHFQ: the value to push.
///
/// # Errors
/// #GP(0) in virtual-8086 mode.
pub fn pushf(cpu: &Cpu, size: usize) -> Result<u64, Exception> {
    let value = cpu.state.rflags & !(rflags::VM | rflags::RF);
    if !cpu.state.v86() || iopl(cpu) == 3 {
        return Ok(if size == 2 { value & 0xffff } else { value });
    }
    if size == 2 && interrupts(cpu) == Interrupts::Virtual {
        return Ok(virtual_image(value) & 0xffff);
    }
    Err(Exception::gp0())
}

/// RFLAGS as virtual-8086 code under VME sees them: IOPL 3, and VIF in the place of IF.
pub(super) fn virtual_image(value: u64) -> u64 {
    let vif = if value & rflags::VIF != 0 { rflags::IF } else { 0 };
    value & !rflags::IF | vif | rflags::IOPL
}

/// POPF, POPFD, POPFQ of a value that has been read from the stack; the caller moves RSP afterwards.
///
/// # Errors
/// #GP(0) in virtual-8086 mode.
pub fn popf(cpu: &mut Cpu, value: u64, size: usize) -> Result<(), Exception> {
    if cpu.state.v86() && iopl(cpu) < 3 {
        let new = virtual_popf(cpu, value, size)?;
        replace(cpu, new);
        return Ok(());
    }
    let mut writable = rflags::STATUS | rflags::TF | rflags::DF | rflags::NT;
    if size != 2 {
        writable |= rflags::AC | rflags::ID;
    }
    if interrupts(cpu) == Interrupts::Real {
        writable |= rflags::IF;
    }
    if cpu.state.cpl() == 0 {
        writable |= rflags::IOPL;
    }
    let old = cpu.state.rflags & !(writable | rflags::RF);
    replace(cpu, old | value & writable);
    Ok(())
}

/// RFLAGS after a 16-bit POPF or IRET of `value` in virtual-8086 mode with IOPL below 3: VME only.
pub(super) fn virtual_popf(cpu: &Cpu, value: u64, size: usize) -> Result<u64, Exception> {
    let old = cpu.state.rflags;
    let pending = old & rflags::VIP != 0 && value & rflags::IF != 0;
    if size != 2 || interrupts(cpu) != Interrupts::Virtual || pending || value & rflags::TF != 0 {
        return Err(Exception::gp0());
    }
    let writable = 0xffff & !(rflags::IF | rflags::IOPL);
    let vif = if value & rflags::IF != 0 { rflags::VIF } else { 0 };
    Ok(old & !(writable | rflags::VIF | rflags::RF) | value & writable | vif)
}

/// RFLAGS after an IRET of `size` bytes that runs at `cpl` in protected or long mode popped `value`.
pub(super) fn iret_image(cpu: &Cpu, value: u64, size: usize, cpl: u8) -> u64 {
    let mut writable = rflags::STATUS | rflags::TF | rflags::DF | rflags::NT;
    if size != 2 {
        writable |= rflags::RF | rflags::AC | rflags::ID;
    }
    if cpl <= iopl(cpu) {
        writable |= rflags::IF;
    }
    if cpl == 0 {
        writable |= rflags::IOPL;
        if size != 2 {
            writable |= rflags::VIF | rflags::VIP;
        }
    }
    cpu.state.rflags & !writable | value & writable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;

    const GP: Result<(), Exception> = Err(Exception::gp0());

    #[test]
    fn cli_and_sti_need_iopl() {
        let mut b = Bed::protected().user(USER_CODE32);
        assert_eq!(cli(&mut b.cpu), GP);
        assert_eq!(sti(&mut b.cpu), GP);
        b.cpu.state.rflags |= rflags::IOPL;
        sti(&mut b.cpu).unwrap();
        assert_eq!((b.cpu.state.rflags & rflags::IF, b.cpu.state.shadow), (rflags::IF, shadow::STI));
        b.cpu.state.shadow = 0;
        sti(&mut b.cpu).unwrap();
        assert_eq!(b.cpu.state.shadow, 0);
        cli(&mut b.cpu).unwrap();
        assert_eq!(b.cpu.state.rflags & rflags::IF, 0);
    }

    #[test]
    fn protected_mode_virtual_interrupts() {
        let mut b = Bed::protected().user(USER_CODE32);
        b.cpu.state.cr4 |= cr4::PVI;
        sti(&mut b.cpu).unwrap();
        assert_eq!(b.cpu.state.rflags & (rflags::IF | rflags::VIF), rflags::VIF);
        cli(&mut b.cpu).unwrap();
        assert_eq!(b.cpu.state.rflags & rflags::VIF, 0);
        b.cpu.state.rflags |= rflags::VIP;
        assert_eq!(sti(&mut b.cpu), GP);
    }

    #[test]
    fn popf_by_privilege() {
        let mut b = Bed::protected();
        popf(&mut b.cpu, u64::MAX, 4).unwrap();
        let all = rflags::ALL & !(rflags::RF | rflags::VM | rflags::VIF | rflags::VIP) | 2;
        assert_eq!(b.cpu.state.rflags, all);
        let mut b = Bed::protected().user(USER_CODE32);
        popf(&mut b.cpu, u64::MAX, 2).unwrap();
        assert_eq!(b.cpu.state.rflags, (all & 0xffff) & !(rflags::IOPL | rflags::IF));
        assert_eq!(pushf(&b.cpu, 4).unwrap() & (rflags::RF | rflags::VM), 0);
    }

    #[test]
    fn virtual_8086_pushf_and_popf() {
        let mut b = Bed::v86(0);
        assert_eq!(pushf(&b.cpu, 2), Err(Exception::gp0()));
        assert_eq!(popf(&mut b.cpu, 0, 2), GP);
        b.cpu.state.cr4 |= cr4::VME;
        popf(&mut b.cpu, rflags::IF | rflags::CF, 2).unwrap();
        assert_eq!(b.cpu.state.rflags, 2 | rflags::CF | rflags::VIF | rflags::VM);
        assert_eq!(pushf(&b.cpu, 2), Ok(2 | rflags::CF | rflags::IF | rflags::IOPL));
        assert_eq!(pushf(&b.cpu, 4), Err(Exception::gp0()));
        assert_eq!(popf(&mut b.cpu, rflags::TF, 2), GP);
        let mut b = Bed::v86(3);
        popf(&mut b.cpu, rflags::IF, 2).unwrap();
        assert_eq!(b.cpu.state.rflags, 2 | rflags::IF | rflags::IOPL | rflags::VM);
    }
}
