//! The ACPI tables of the board (ACPI 6.4, chapter 5), for machines that start without firmware of their own.
//!
//! [`build`] lays everything out in one block that starts with the RSDP, by custom at E0000h, where a scan finds it:
//! RSDP, FACS, DSDT, then the tables that the RSDT and the XSDT list. [`fixed`] holds the tables of fixed layout,
//! [`dsdt`] the one in AML.

mod dsdt;
mod fixed;

use ::acpi_tables::sdt::Sdt;

/// Where the block goes when nothing else decides: the start of the area a scan for the RSDP covers.
pub const TABLES_BASE: u32 = 0xe_0000;

const OEM_ID: [u8; 6] = *b"CALQUE";
const OEM_TABLE: [u8; 8] = *b"CALQUEPC";

/// One interrupt pin of a PCI device on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciRoute {
    /// Device number, 0 to 31.
    pub device: u8,
    /// 0 is INTA#.
    pub pin: u8,
    /// The I/O APIC input it is wired to.
    pub gsi: u8,
    /// The 8259 input it is wired to, for kernels that do not use the I/O APIC.
    pub pic_irq: Option<u8>,
}

/// The memory-mapped configuration space of PCI Express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Address of bus 0.
    pub base: u64,
    /// The last bus.
    pub last_bus: u8,
}

/// What the tables describe.
#[derive(Clone, Debug)]
pub struct AcpiConfig {
    /// APIC IDs of the processors, the bootstrap processor's first.
    pub apic_ids: Vec<u32>,
    /// APIC ID of the I/O APIC.
    pub ioapic_id: u8,
    /// Whether there is a HPET.
    pub hpet: bool,
    /// Whether there is a keyboard controller.
    pub i8042: bool,
    /// Whether there is a VGA at the legacy addresses.
    pub vga: bool,
    /// First ports and IRQs of the serial ports, COM1 first.
    pub serial: Vec<(u16, u8)>,
    /// The port of fw_cfg, if there is one.
    pub fw_cfg: Option<u16>,
    /// The port of pvpanic, if there is one.
    pub pvpanic: Option<u16>,
    /// PCI Express configuration space.
    pub ecam: Option<Ecam>,
    /// The window for 32-bit BARs: first and last address.
    pub mmio32: (u32, u32),
    /// The window for 64-bit BARs: first and last address.
    pub mmio64: Option<(u64, u64)>,
    /// Interrupt routing.
    pub routes: Vec<PciRoute>,
}

/// The tables in one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiBlock {
    /// Guest-physical address of the block and of the RSDP at its start.
    pub base: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The tables do not fit where they were to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ACPI tables take {size} bytes; there is room for {limit}")]
pub struct TooLarge {
    /// What they need.
    pub size: usize,
    /// What there is.
    pub limit: usize,
}

/// An empty table.
fn table(signature: &[u8; 4], revision: u8) -> Sdt {
    Sdt::new(*signature, 36, revision, OEM_ID, OEM_TABLE, 1)
}

/// A block under construction.
struct Layout {
    base: u32,
    bytes: Vec<u8>,
}

impl Layout {
    /// Appends a table on the next boundary of `align` bytes and returns its address.
    fn place(&mut self, table: &[u8], align: usize) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let address = self.base + self.bytes.len() as u32;
        self.bytes.extend_from_slice(table);
        address
    }
}

/// Builds the tables for guest-physical memory at `base` (a multiple of 64), `limit` bytes long.
pub fn build(config: &AcpiConfig, base: u32, limit: usize) -> Result<AcpiBlock, TooLarge> {
    let mut layout = Layout { base, bytes: vec![0; fixed::RSDP_SIZE] };
    let facs = layout.place(&fixed::facs(), 64);
    let dsdt = layout.place(dsdt::dsdt(config).as_slice(), 16);
    let mut tables = vec![fixed::fadt(config, facs, dsdt), fixed::madt(config)];
    if config.hpet {
        tables.push(fixed::hpet());
    }
    if let Some(ecam) = config.ecam {
        tables.push(fixed::mcfg(ecam));
    }
    let addresses: Vec<u32> = tables.iter().map(|table| layout.place(table.as_slice(), 16)).collect();
    let (mut rsdt, mut xsdt) = (table(b"RSDT", 1), table(b"XSDT", 1));
    for &address in &addresses {
        rsdt.append_slice(&address.to_le_bytes());
        xsdt.append_slice(&u64::from(address).to_le_bytes());
    }
    let rsdt = layout.place(rsdt.as_slice(), 16);
    let xsdt = layout.place(xsdt.as_slice(), 16);
    let size = layout.bytes.len();
    if size > limit {
        return Err(TooLarge { size, limit });
    }
    layout.bytes[..fixed::RSDP_SIZE].copy_from_slice(&fixed::rsdp(rsdt, xsdt));
    Ok(AcpiBlock { base, bytes: layout.bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(processors: u32) -> AcpiConfig {
        let routes = (0..32)
            .flat_map(|device| {
                (0..4).map(move |pin| PciRoute {
                    device,
                    pin,
                    gsi: 16 + (device + pin) % 4,
                    pic_irq: Some(11),
                })
            })
            .collect();
        AcpiConfig {
            apic_ids: (0..processors).collect(),
            ioapic_id: 0,
            hpet: true,
            i8042: true,
            vga: true,
            serial: vec![(0x3f8, 4), (0x2f8, 3)],
            fw_cfg: Some(0x510),
            pvpanic: Some(0x505),
            ecam: Some(Ecam { base: 0xb000_0000, last_bus: 255 }),
            mmio32: (0xc000_0000, 0xfebf_ffff),
            mmio64: Some((0x40_0000_0000, 0x7f_ffff_ffff)),
            routes,
        }
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The table at a guest-physical address, with its checksum verified.
    fn table_at(block: &AcpiBlock, address: u64) -> &[u8] {
        let bytes = &block.bytes[address as usize - block.base as usize..];
        let bytes = &bytes[..u32_at(bytes, 4) as usize];
        assert_eq!(sum(bytes), 0, "{:?}", std::str::from_utf8(&bytes[..4]));
        bytes
    }

    #[test]
    fn every_table_is_found_from_the_rsdp() {
        let block = build(&config(4), TABLES_BASE, 0x2_0000).unwrap();
        assert_eq!(&block.bytes[..8], b"RSD PTR ");
        assert_eq!(sum(&block.bytes[..20]), 0);
        assert_eq!(sum(&block.bytes[..36]), 0);
        let xsdt = table_at(&block, u64_at(&block.bytes, 24));
        let rsdt = table_at(&block, u32_at(&block.bytes, 16).into());
        let mut signatures = Vec::new();
        for (index, entry) in xsdt[36..].chunks(8).enumerate() {
            let address = u64::from_le_bytes(entry.try_into().unwrap());
            assert_eq!(u64::from(u32_at(rsdt, 36 + 4 * index)), address);
            signatures.push(std::str::from_utf8(&table_at(&block, address)[..4]).unwrap().to_owned());
        }
        assert_eq!(signatures, ["FACP", "APIC", "HPET", "MCFG"]);
        let fadt = table_at(&block, u64_at(xsdt, 36));
        assert_eq!(fadt.len(), 276);
        assert_eq!(&table_at(&block, u32_at(fadt, 40).into())[..4], b"DSDT");
        let facs = u32_at(fadt, 36);
        assert_eq!(facs % 64, 0);
        assert_eq!(&block.bytes[(facs - block.base) as usize..][..4], b"FACS");
    }

    #[test]
    fn the_madt_names_processors_and_overrides() {
        let block = build(&config(2), TABLES_BASE, 0x2_0000).unwrap();
        let xsdt = table_at(&block, u64_at(&block.bytes, 24));
        let madt = table_at(&block, u64_at(xsdt, 44));
        let mut entries = &madt[44..];
        let mut seen = Vec::new();
        while !entries.is_empty() {
            seen.push(entries[..entries[1].into()].to_vec());
            entries = &entries[entries[1].into()..];
        }
        assert_eq!(seen[1], [0, 8, 1, 1, 1, 0, 0, 0]);
        assert_eq!(seen[2], [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        assert_eq!(seen[3], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0], "IRQ 0 is pin 2");
        assert_eq!(seen[4], [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0], "the SCI is a level");
        assert_eq!(seen[5], [4, 6, 0xff, 0, 0, 1]);
    }

    #[test]
    fn many_processors_use_x2apic_entries_or_do_not_fit() {
        assert!(build(&config(300), TABLES_BASE, 0x2_0000).is_ok());
        let error = build(&config(4096), TABLES_BASE, 0x2_0000).unwrap_err();
        assert!(error.size > error.limit);
    }

    #[test]
    fn a_small_machine_has_small_tables() {
        let small = AcpiConfig {
            hpet: false,
            i8042: false,
            vga: false,
            serial: vec![],
            fw_cfg: None,
            pvpanic: None,
            ecam: None,
            mmio64: None,
            routes: vec![],
            ..config(1)
        };
        assert!(build(&small, TABLES_BASE, 0x1000).is_ok());
    }
}
