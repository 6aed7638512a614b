//! The tables of fixed layout (ACPI 6.4, 5.2; IA-PC HPET 1.0a, 3.2.4; PCI Firmware 3.2, 4.1.2).

use super::{AcpiConfig, Ecam, OEM_ID, table};
use crate::acpi_pm::{ACPI_DISABLE, ACPI_ENABLE, PM_BASE, RESET_VALUE, SMI_CMD_PORT, offset};
use crate::hpet::HPET_BASE;
use crate::ioapic::IOAPIC_BASE;
use ::acpi_tables::sdt::Sdt;

/// Size of the RSDP in bytes.
pub(super) const RSDP_SIZE: usize = 36;
/// The interrupt of the fixed events.
const SCI_IRQ: u8 = 9;
const LAPIC_BASE: u32 = 0xfee0_0000;
/// CMOS index of the century.
const CMOS_CENTURY: u8 = 0x32;

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// The root pointer, revision 2.
pub(super) fn rsdp(rsdt: u32, xsdt: u32) -> [u8; RSDP_SIZE] {
    let mut bytes = [0; RSDP_SIZE];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[9..15].copy_from_slice(&OEM_ID);
    bytes[15] = 2;
    bytes[16..20].copy_from_slice(&rsdt.to_le_bytes());
    bytes[20] = RSDP_SIZE as u8;
    bytes[24..28].copy_from_slice(&xsdt.to_le_bytes());
    bytes[8] = checksum(&bytes[..20]);
    bytes[32] = checksum(&bytes);
    bytes
}

/// The firmware control structure: a global lock and no waking vector.
pub(super) fn facs() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(b"FACS");
    bytes[4] = 64;
    bytes[32] = 2;
    bytes
}

/// A generic address structure in I/O space.
fn io_address(port: u16, bits: u8, access: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&[1, bits, 0, access]);
    bytes[4..6].copy_from_slice(&port.to_le_bytes());
    bytes
}

/// The fixed description table, revision 6.
pub(super) fn fadt(config: &AcpiConfig, facs: u32, dsdt: u32) -> Sdt {
    const SIZE: u32 = 276;
    // WBINVD works, C1 on all processors, no sleep button, the RTC cannot wake, the reset register is there. The
    // power button is a fixed event (its flag is clear), the PM timer is 24 bits wide (likewise).
    const FLAGS: u32 = 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10;
    let mut t = Sdt::new(*b"FACP", SIZE, 6, OEM_ID, super::OEM_TABLE, 1);
    // Legacy devices; a keyboard controller; no VGA.
    let boot = 1 | u16::from(config.i8042) << 1 | u16::from(!config.vga) << 2;
    let port = |at: u16| PM_BASE + at;
    t.write_u32(36, facs);
    t.write_u32(40, dsdt);
    t.write_u16(46, SCI_IRQ.into());
    t.write_u32(48, SMI_CMD_PORT.into());
    t.write_u8(52, ACPI_ENABLE);
    t.write_u8(53, ACPI_DISABLE);
    t.write_u32(56, port(offset::EVENT).into());
    t.write_u32(64, port(offset::CONTROL).into());
    t.write_u32(76, port(offset::TIMER).into());
    t.write_u32(80, port(offset::GPE0).into());
    // Lengths of the event, control, PM2, timer and GPE0 registers.
    t.write_bytes(88, &[4, 2, 0, 4, 4]);
    // C2 and C3 latencies that mean "not there".
    t.write_u16(96, 0xfff);
    t.write_u16(98, 0xfff);
    t.write_u8(108, CMOS_CENTURY);
    t.write_u16(109, boot);
    t.write_u32(112, FLAGS);
    t.write_bytes(116, &io_address(port(offset::RESET), 8, 1));
    t.write_u8(128, RESET_VALUE);
    t.write_u8(131, 4);
    t.write_u64(140, dsdt.into());
    t.write_bytes(148, &io_address(port(offset::EVENT), 32, 2));
    t.write_bytes(172, &io_address(port(offset::CONTROL), 16, 2));
    t.write_bytes(208, &io_address(port(offset::TIMER), 32, 3));
    t.write_bytes(220, &io_address(port(offset::GPE0), 32, 1));
    t
}

/// The interrupt controllers.
pub(super) fn madt(config: &AcpiConfig) -> Sdt {
    let mut body = Vec::new();
    body.extend(LAPIC_BASE.to_le_bytes());
    // There is a pair of 8259s too.
    body.extend(1u32.to_le_bytes());
    let mut x2apic = false;
    for (uid, &id) in (0u32..).zip(&config.apic_ids) {
        match (u8::try_from(uid), u8::try_from(id)) {
            (Ok(uid), Ok(id)) if id != 0xff => body.extend([0, 8, uid, id, 1, 0, 0, 0]),
            _ => {
                x2apic = true;
                body.extend([9, 16, 0, 0]);
                for word in [id, 1, uid] {
                    body.extend(word.to_le_bytes());
                }
            }
        }
    }
    body.extend([1, 12, config.ioapic_id, 0]);
    body.extend((IOAPIC_BASE as u32).to_le_bytes());
    body.extend(0u32.to_le_bytes());
    // The PIT is on pin 2; the SCI is level-triggered, active high.
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([2, 10, 0, SCI_IRQ, SCI_IRQ, 0, 0, 0, 0xd, 0]);
    // NMI is LINT1 of every processor.
    body.extend([4, 6, 0xff, 0, 0, 1]);
    if x2apic {
        body.extend([10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    }
    let mut t = table(b"APIC", 4);
    t.append_slice(&body);
    t
}

/// The HPET.
pub(super) fn hpet() -> Sdt {
    let mut body = Vec::new();
    body.extend(0x8086_a201u32.to_le_bytes());
    // In memory space, 64 bits wide.
    body.extend([0, 64, 0, 0]);
    body.extend(HPET_BASE.to_le_bytes());
    // Number 0; a periodic timer ticks at most every 2000 counts (20 microseconds); no page protection.
    body.push(0);
    body.extend(2000u16.to_le_bytes());
    body.push(0);
    let mut t = table(b"HPET", 1);
    t.append_slice(&body);
    t
}

/// The memory-mapped configuration space.
pub(super) fn mcfg(ecam: Ecam) -> Sdt {
    let mut body = vec![0; 8];
    body.extend(ecam.base.to_le_bytes());
    body.extend([0, 0, 0, ecam.last_bus, 0, 0, 0, 0]);
    let mut t = table(b"MCFG", 1);
    t.append_slice(&body);
    t
}
