//! The DSDT: processors, the PCI root bridge with its windows and interrupt routing, the devices of the ISA bus, and
//! S5 (ACPI 6.4, chapters 6, 7 and 20). The power button is a fixed event and needs no device.

use super::{AcpiConfig, Ecam, PciRoute, table};
use crate::acpi_pm::{PM_BASE, PM_SIZE, SLP_TYP_S5, SMI_CMD_PORT};
use crate::hpet::{HPET_BASE, HPET_SIZE};
use ::acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Arg, Device, EISAName, IO, If, Memory32Fixed, Method, Name, Package,
    PackageBuilder, Path, ResourceTemplate, Return, Scope, Store, ZERO,
};
use ::acpi_tables::sdt::Sdt;
use ::acpi_tables::{Aml, AmlSink};

/// An ISA interrupt: rising edge, exclusive (6.4.2.1).
struct IrqNoFlags(u8);

impl Aml for IrqNoFlags {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x22);
        sink.word(1 << (self.0 & 15));
    }
}

/// Already encoded.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

type Resources = Vec<Box<dyn Aml>>;

fn io(base: u16, length: u8) -> Box<dyn Aml> {
    Box::new(IO::new(base, base, 1, length))
}

fn irq(number: u8) -> Box<dyn Aml> {
    Box::new(IrqNoFlags(number))
}

fn crs(resources: &Resources) -> Name {
    let resources = resources.iter().map(|r| &**r).collect();
    Name::new("_CRS".into(), &ResourceTemplate::new(resources))
}

/// A device with an identifier and fixed resources.
fn device(name: &str, hid: &dyn Aml, uid: u32, resources: &Resources) -> Raw {
    let hid = Name::new("_HID".into(), hid);
    let uid = Name::new("_UID".into(), &uid);
    // Present, enabled, shown, working.
    let sta = Name::new("_STA".into(), &0xfu8);
    let crs = crs(resources);
    let mut bytes = Vec::new();
    Device::new(name.into(), vec![&hid, &uid, &sta, &crs]).to_aml_bytes(&mut bytes);
    Raw(bytes)
}

fn pnp(name: &str, id: &str, uid: u32, resources: Resources) -> Raw {
    device(name, &EISAName::new(id), uid, &resources)
}

/// Everything on the ISA bus and the board that has a Plug and Play identifier.
fn board_devices(config: &AcpiConfig) -> Vec<Raw> {
    let mut devices = Vec::new();
    for (index, &(port, number)) in (1u32..=4).zip(&config.serial) {
        devices.push(pnp(&format!("COM{index}"), "PNP0501", index, vec![io(port, 8), irq(number)]));
    }
    devices.push(pnp("RTC_", "PNP0B00", 0, vec![io(0x70, 2), irq(8)]));
    devices.push(pnp("TMR_", "PNP0100", 0, vec![io(0x40, 4)]));
    devices.push(pnp("SPKR", "PNP0800", 0, vec![io(0x61, 1)]));
    if config.i8042 {
        devices.push(pnp("KBD_", "PNP0303", 0, vec![io(0x60, 1), io(0x64, 1), irq(1)]));
        devices.push(pnp("MOU_", "PNP0F13", 0, vec![irq(12)]));
    }
    if config.hpet {
        let memory = Memory32Fixed::new(false, HPET_BASE as u32, HPET_SIZE as u32);
        devices.push(pnp("HPET", "PNP0103", 0, vec![Box::new(memory)]));
    }
    if let Some(port) = config.fw_cfg {
        devices.push(device("FWCF", &"QEMU0002", 0, &vec![io(port, 12)]));
    }
    if let Some(port) = config.pvpanic {
        devices.push(device("PEVT", &"QEMU0001", 0, &vec![io(port, 1)]));
    }
    // What the board itself takes: the PM block, the SMI port, port 92h, the edge/level registers, the ECAM.
    let mut taken = vec![io(PM_BASE, PM_SIZE as u8), io(SMI_CMD_PORT, 2), io(0x92, 1), io(0x4d0, 2)];
    if let Some(Ecam { base, last_bus }) = config.ecam
        && let (Ok(base), Ok(size)) = (u32::try_from(base), u32::try_from((u64::from(last_bus) + 1) << 20))
    {
        taken.push(Box::new(Memory32Fixed::new(true, base, size)));
    }
    devices.push(pnp("MBRD", "PNP0C02", 0, taken));
    devices
}

/// One of the two routing tables: what `target` says of each route, without the source device.
fn routing(routes: &[PciRoute], target: impl Fn(&PciRoute) -> Option<u8>) -> PackageBuilder {
    let mut package = PackageBuilder::new();
    // A package holds at most 255 elements: 63 devices of four pins, more than a bus has.
    for route in routes.iter().take(255) {
        if let Some(number) = target(route) {
            let address = u32::from(route.device) << 16 | 0xffff;
            package.add_element(&Package::new(vec![&address, &route.pin, &ZERO, &number]));
        }
    }
    package
}

/// The root bridge.
fn pci_root(config: &AcpiConfig) -> Raw {
    use AddressSpaceCacheable::NotCacheable;
    let last_bus = config.ecam.map_or(0xff, |ecam| ecam.last_bus);
    let mut windows: Resources = vec![
        Box::new(AddressSpace::<u16>::new_bus_number(0, last_bus.into())),
        io(0xcf8, 8),
        Box::new(AddressSpace::<u16>::new_io(0, 0xcf7, None)),
        Box::new(AddressSpace::<u16>::new_io(0xd00, 0xffff, None)),
        Box::new(AddressSpace::<u32>::new_memory(
            NotCacheable,
            true,
            config.mmio32.0,
            config.mmio32.1.max(config.mmio32.0),
            None,
        )),
    ];
    if config.vga {
        let vga = AddressSpace::<u32>::new_memory(NotCacheable, true, 0xa_0000, 0xb_ffff, None);
        windows.push(Box::new(vga));
    }
    if let Some((first, last)) = config.mmio64 {
        let window = AddressSpace::<u64>::new_memory(NotCacheable, true, first, last.max(first), None);
        windows.push(Box::new(window));
    }
    let names = [
        Name::new("_HID".into(), &EISAName::new("PNP0A08")),
        Name::new("_CID".into(), &EISAName::new("PNP0A03")),
        Name::new("_BBN".into(), &ZERO),
        Name::new("_UID".into(), &ZERO),
        crs(&windows),
        Name::new("PRTP".into(), &routing(&config.routes, |r| r.pic_irq)),
        Name::new("PRTA".into(), &routing(&config.routes, |r| Some(r.gsi))),
    ];
    let (flag, apic, pic) = (Path::new("\\PICF"), Path::new("PRTA"), Path::new("PRTP"));
    let (apic, pic) = (Return::new(&apic), Return::new(&pic));
    let choice = If::new(&flag, vec![&apic]);
    let prt = Method::new("_PRT".into(), 0, false, vec![&choice, &pic]);
    let mut children: Vec<&dyn Aml> = names.iter().map(|name| name as &dyn Aml).collect();
    children.push(&prt);
    let mut bytes = Vec::new();
    Device::new("PCI0".into(), children).to_aml_bytes(&mut bytes);
    Raw(bytes)
}

fn processors(config: &AcpiConfig) -> Vec<Raw> {
    let one = |uid: u32| {
        let hid = Name::new("_HID".into(), &"ACPI0007");
        let uid_name = Name::new("_UID".into(), &uid);
        let mut bytes = Vec::new();
        // Names have four characters, so processors past FFFh go without an object; the MADT has them all.
        Device::new(format!("C{uid:03X}").as_str().into(), vec![&hid, &uid_name]).to_aml_bytes(&mut bytes);
        Raw(bytes)
    };
    (0u32..0x1000).zip(&config.apic_ids).map(|(uid, _)| one(uid)).collect()
}

/// The DSDT.
pub(super) fn dsdt(config: &AcpiConfig) -> Sdt {
    // Whether the interrupt model is the I/O APIC, which the system tells through _PIC.
    let flag = Name::new("PICF".into(), &ZERO);
    let flag_path = Path::new("PICF");
    let store = Store::new(&flag_path, &Arg(0));
    let pic = Method::new("_PIC".into(), 1, false, vec![&store]);
    let s5 = Name::new("_S5_".into(), &Package::new(vec![&SLP_TYP_S5, &SLP_TYP_S5, &ZERO, &ZERO]));

    let mut devices = vec![pci_root(config)];
    devices.extend(board_devices(config));
    devices.extend(processors(config));
    let scope = Scope::new("\\_SB_".into(), devices.iter().map(|d| d as &dyn Aml).collect());

    let mut body = Vec::new();
    for object in [&flag as &dyn Aml, &pic, &s5, &scope] {
        object.to_aml_bytes(&mut body);
    }
    let mut dsdt = table(b"DSDT", 2);
    dsdt.append_slice(&body);
    dsdt
}
