//! I/O permission and port access (SDM vol. 1, chapter 19).

use super::seg;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::state::Mode;

/// Whether IN or OUT of `size` bytes at `port` is allowed: by IOPL, or by the bitmap in the TSS.
///
/// # Errors
/// #GP(0); page faults of the TSS.
pub fn check(cpu: &mut Cpu, port: u16, size: usize) -> Result<(), Exception> {
    if cpu.state.mode.contains(Mode::IOPL_OK) {
        return Ok(());
    }
    let tr = cpu.state.tr;
    let limit = u64::from(tr.limit);
    if !tr.present() || tr.attr & 8 == 0 || limit < 0x67 {
        return Err(Exception::gp0());
    }
    let map = seg::read(cpu, tr.base.wrapping_add(0x66), 2)?;
    let at = map + u64::from(port >> 3);
    // Two bytes are read always, which is why the bitmap must end in a byte of ones.
    if at + 1 > limit {
        return Err(Exception::gp0());
    }
    let bits = seg::read(cpu, tr.base.wrapping_add(at), 2)?;
    if bits >> (port & 7) & ((1 << size) - 1) != 0 {
        return Err(Exception::gp0());
    }
    Ok(())
}

/// IN of 1, 2 or 4 bytes, with the permission check. The result is zero-extended.
///
/// # Errors
/// As for [`check`].
pub fn port_in(cpu: &mut Cpu, port: u16, size: usize) -> Result<u32, Exception> {
    check(cpu, port, size)?;
    Ok(cpu.bus.port_read(port, size as u8) & (u32::MAX >> (32 - 8 * size)))
}

/// OUT of 1, 2 or 4 bytes, with the permission check.
///
/// # Errors
/// As for [`check`].
pub fn port_out(cpu: &mut Cpu, port: u16, size: usize, value: u32) -> Result<(), Exception> {
    check(cpu, port, size)?;
    cpu.bus.port_write(port, size as u8, value & (u32::MAX >> (32 - 8 * size)));
    Ok(())
}
