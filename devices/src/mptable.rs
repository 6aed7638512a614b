//! The MP tables (Intel MultiProcessor Specification 1.4, chapter 4), for kernels that do not read ACPI.

/// Where the tables go by custom: the last KiB of base memory, which the floating pointer may begin.
pub const MPTABLE_BASE: u32 = 0x9_fc00;

const LAPIC_BASE: u32 = 0xfee0_0000;
const IOAPIC_BASE: u32 = crate::ioapic::IOAPIC_BASE as u32;
/// APIC version of the 82489DX's successors.
const APIC_VERSION: u8 = 0x14;
const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;

/// A PCI interrupt pin: device, pin (0 is INTA#) and I/O APIC input.
pub type MpRoute = (u8, u8, u8);

/// What the tables describe.
#[derive(Clone, Debug)]
pub struct MpConfig {
    /// APIC IDs of the processors, the bootstrap processor's first. IDs past 254 cannot be described and are left
    /// out.
    pub apic_ids: Vec<u32>,
    /// APIC ID of the I/O APIC.
    pub ioapic_id: u8,
    /// CPUID leaf 1 EAX and EDX.
    pub cpuid: (u32, u32),
    /// Interrupt pins of the devices on PCI bus 0.
    pub routes: Vec<MpRoute>,
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// Builds the floating pointer, which comes first, and the configuration table for guest-physical address `base` (a
/// multiple of 16).
pub fn build(config: &MpConfig, base: u32) -> Vec<u8> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for (index, &id) in config.apic_ids.iter().enumerate().filter(|&(_, &id)| id < 0xff) {
        // Usable; the first is the bootstrap processor.
        let flags = if index == 0 { 3 } else { 1 };
        let mut entry = vec![0, id as u8, APIC_VERSION, flags];
        entry.extend(config.cpuid.0.to_le_bytes());
        entry.extend(config.cpuid.1.to_le_bytes());
        entry.extend([0; 8]);
        entries.push(entry);
    }
    for (bus, name) in [(PCI_BUS, b"PCI   "), (ISA_BUS, b"ISA   ")] {
        entries.push([&[1, bus][..], name].concat());
    }
    entries.push([&[2, config.ioapic_id, 0x20, 1][..], &IOAPIC_BASE.to_le_bytes()].concat());
    // Interrupts (type 3): kind, polarity and trigger, bus, source, I/O APIC, input. Zero is "as the bus has it".
    let mut interrupt = |flags: u8, bus: u8, source: u8, pin: u8| {
        entries.push(vec![3, 0, flags, 0, bus, source, config.ioapic_id, pin]);
    };
    for isa in (0..16).filter(|&irq| irq != 2) {
        // The PIT is on pin 2; the SCI is a level, active high.
        let pin = if isa == 0 { 2 } else { isa };
        interrupt(if isa == 9 { 0xd } else { 0 }, ISA_BUS, isa, pin);
    }
    for &(device, pin, input) in &config.routes {
        interrupt(0, PCI_BUS, device << 2 | pin & 3, input);
    }
    // Local interrupts (type 4): the 8259 on LINT0 and NMI on LINT1 of every processor.
    entries.push(vec![4, 3, 0, 0, ISA_BUS, 0, 0xff, 0]);
    entries.push(vec![4, 1, 0, 0, ISA_BUS, 0, 0xff, 1]);

    let body = entries.concat();
    let mut table = Vec::new();
    table.extend(b"PCMP");
    table.extend(((44 + body.len()) as u16).to_le_bytes());
    table.extend([4, 0]);
    table.extend(b"CALQUE  ");
    table.extend(b"CALQUEPC    ");
    table.extend([0; 6]);
    table.extend((entries.len() as u16).to_le_bytes());
    table.extend(LAPIC_BASE.to_le_bytes());
    table.extend([0; 4]);
    table.extend(body);
    table[7] = checksum(&table);

    let mut bytes = Vec::new();
    bytes.extend(b"_MP_");
    bytes.extend((base + 16).to_le_bytes());
    // One paragraph long, version 1.4; virtual-wire mode, no default configuration.
    bytes.extend([1, 4, 0, 0, 0, 0, 0, 0]);
    bytes[10] = checksum(&bytes);
    bytes.extend(table);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_check() {
        let config = MpConfig {
            apic_ids: vec![0, 1, 300],
            ioapic_id: 2,
            cpuid: (0x306a9, 0x78b_fbff),
            routes: vec![(3, 0, 19), (31, 3, 22)],
        };
        let bytes = build(&config, MPTABLE_BASE);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(&bytes[..4], b"_MP_");
        assert_eq!(sum(&bytes[..16]), 0);
        let table = &bytes[16..];
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        assert_eq!(sum(table), 0);
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()), MPTABLE_BASE + 16);
        // Walk the entries: processors take 20 bytes, the others 8.
        let (mut at, mut count) = (44, 0);
        while at < table.len() {
            at += if table[at] == 0 { 20 } else { 8 };
            count += 1;
        }
        assert_eq!(at, table.len());
        assert_eq!(count, u16::from_le_bytes([table[34], table[35]]));
        assert_eq!(count, 2 + 2 + 1 + 15 + 2 + 2);
        assert!(bytes.len() <= 0x400);
    }
}
