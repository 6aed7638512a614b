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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;
    use emu_core::state::bits::rflags;

    #[test]
    fn iopl_or_the_bitmap() {
        let mut b = Bed::protected();
        assert_eq!(port_in(&mut b.cpu, 0x60, 1), Ok(0xff));
        let mut b = b.user(USER_CODE32);
        assert_eq!(check(&mut b.cpu, 0x60, 1), Err(Exception::gp0()));
        b.poke(TSS + 0x66, 2, 0x68);
        for i in 0..0x98 {
            b.poke(TSS + 0x68 + i, 1, 0xff);
        }
        b.poke(TSS + 0x68 + 0xc, 1, 0xfe);
        b.poke(TSS + 0x68 + 0xf, 1, 0x7f);
        b.poke(TSS + 0x68 + 0x10, 1, 0xfe);
        check(&mut b.cpu, 0x60, 1).unwrap();
        assert_eq!(check(&mut b.cpu, 0x60, 2), Err(Exception::gp0()));
        // Two ports whose bits lie in two bytes.
        check(&mut b.cpu, 0x7f, 2).unwrap();
        // The last byte of the bitmap has no successor.
        assert_eq!(check(&mut b.cpu, 0x97 << 3, 1), Err(Exception::gp0()));
        b.cpu.state.rflags |= rflags::IOPL;
        b.cpu.mode_changed();
        port_out(&mut b.cpu, 0x80, 4, 0).unwrap();
    }

    #[test]
    fn virtual_8086_code_always_asks_the_bitmap() {
        let mut b = Bed::v86(3);
        assert_eq!(check(&mut b.cpu, 0x60, 1), Err(Exception::gp0()));
    }
}
