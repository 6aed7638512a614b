//! The tables that firmware would have left in memory: ACPI and MP.

use super::{ECAM_BASE, MMIO32, MMIO64, ioapic_id};
use anyhow::{Result, ensure};
use devices::acpi_tables::{self, AcpiConfig, Ecam, PciRoute};
use devices::mptable::{self, MpConfig};
use devices::pci::PciBus;
use emu_core::addr::PhysAddr;
use emu_core::features::Features;
use emu_core::mem::PhysMem;

/// Where the ACPI tables go; the RSDP is the first of them.
pub const ACPI_BASE: u32 = 0xe_0000;
/// Bytes for the ACPI tables.
pub const ACPI_SIZE: usize = 0x1_0000;
/// Where the MP tables go.
const MP_BASE: u32 = 0xf_0000;

/// Writes the tables into guest memory.
///
/// # Errors
/// When they do not fit, or memory ends below 1 MiB.
pub fn install(mem: &PhysMem, pci: &PciBus, features: &Features, vcpus: u32) -> Result<()> {
    let prt = pci.prt();
    let config = AcpiConfig {
        apic_ids: (0..vcpus).collect(),
        ioapic_id: ioapic_id(vcpus as usize),
        hpet: true,
        i8042: true,
        vga: false,
        serial: vec![(0x3f8, 4)],
        fw_cfg: None,
        pvpanic: Some(0x505),
        ecam: Some(Ecam { base: ECAM_BASE, last_bus: 0 }),
        mmio32: (MMIO32.start as u32, (MMIO32.end - 1) as u32),
        mmio64: Some((MMIO64.start, MMIO64.end - 1)),
        routes: prt
            .iter()
            .map(|r| PciRoute {
                device: r.device,
                pin: r.pin,
                gsi: 16 + r.wire,
                pic_irq: pci.router().isa_irq(r.wire.into()),
            })
            .collect(),
    };
    let block = acpi_tables::build(&config, ACPI_BASE, ACPI_SIZE)?;
    let mp = MpConfig {
        apic_ids: (0..vcpus).collect(),
        ioapic_id: ioapic_id(vcpus as usize),
        cpuid: (features.signature(), features.leaf1_edx),
        routes: prt.iter().map(|r| (r.device, r.pin, 16 + r.wire)).collect(),
    };
    let fits = mem.write(PhysAddr(block.base.into()), &block.bytes)
        && mem.write(PhysAddr(MP_BASE.into()), &mptable::build(&mp, MP_BASE));
    ensure!(fits, "the machine needs at least 1 MiB of memory for its tables");
    Ok(())
}
