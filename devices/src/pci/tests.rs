//! The bus as Linux and hostile software use it.

use super::testing::{Bench, Probe};
use super::*;
use emu_core::bus::{MmioDevice, PortDevice};
use std::sync::Arc;

const PROBE: DevFn = DevFn::new(3, 0);
const WINDOWS: Windows =
    Windows { io: 0xc000..0xd000, mem32: 0xc000_0000..0xd000_0000, mem64: 0x10_0000_0000..0x20_0000_0000 };

fn bench() -> (Bench, Arc<Probe>) {
    let bench = Bench::new();
    let probe = Probe::new();
    bench.bus.attach(PROBE, probe.clone()).unwrap();
    (bench, probe)
}

/// `__pci_read_base` of Linux: decode off, all ones, read, restore.
fn size_bar(bus: &PciBus, register: u16) -> u32 {
    let command = bus.config_read(0, PROBE, 4, 2);
    bus.config_write(0, PROBE, 4, 2, command & !3);
    let old = bus.config_read(0, PROBE, register, 4);
    bus.config_write(0, PROBE, register, 4, !0);
    let mask = bus.config_read(0, PROBE, register, 4);
    bus.config_write(0, PROBE, register, 4, old);
    assert_eq!(bus.config_read(0, PROBE, register, 4), old);
    bus.config_write(0, PROBE, 4, 2, command);
    mask
}

#[test]
fn linux_sizes_bars() {
    let (bench, _) = bench();
    bench.bus.assign_resources(&WINDOWS).unwrap();
    assert_eq!(size_bar(&bench.bus, 0x10), 0xffff_ffe1);
    assert_eq!(size_bar(&bench.bus, 0x14), 0xffff_f000);
    assert_eq!(size_bar(&bench.bus, 0x18), 0x0000_000c);
    assert_eq!(size_bar(&bench.bus, 0x1c), 0xffff_fffe);
    assert_eq!(size_bar(&bench.bus, 0x20), 0xffff_c00c);
    assert_eq!(size_bar(&bench.bus, 0x24), 0xffff_ffff);
    assert_eq!(size_bar(&bench.bus, 0x30), 0, "no expansion ROM");
}

#[test]
fn assigned_bars_decode_and_move() {
    let (bench, probe) = bench();
    assert_eq!(bench.bus.try_mmio_read(0xc000_0000, 4), None);
    bench.bus.assign_resources(&WINDOWS).unwrap();
    assert!(bench.bus.try_port_write(0xc004, 2, 0xbeef));
    assert_eq!(*probe.last.lock().unwrap(), (0, 4, 2, 0xbeef));
    assert!(bench.bus.try_mmio_write(0x10_0000_0010, 8, 77));
    assert_eq!(*probe.last.lock().unwrap(), (2, 0x10, 8, 77));
    assert!(bench.bus.try_mmio_write(0x12_0000_3ffc, 4, 78));
    assert_eq!(*probe.last.lock().unwrap(), (4, 0x3ffc, 4, 78));
    assert_eq!(bench.bus.try_mmio_read(0x12_0000_3ffc, 8), None, "runs over the end");
    assert_eq!(bench.bus.try_port_read(0xc01e, 4), None);

    bench.bus.config_write(0, PROBE, 0x24, 4, 0x55);
    assert_eq!(bench.bus.try_mmio_read(0x12_0000_3ffc, 4), None);
    assert_eq!(bench.bus.try_mmio_read(0x55_0000_3ffc, 4), Some(78));
    bench.bus.config_write(0, PROBE, 4, 2, u32::from(command::IO));
    assert_eq!(bench.bus.try_mmio_read(0x55_0000_3ffc, 4), None, "memory decode is off");
    assert!(bench.bus.try_port_write(0xc000, 1, 0));
    let line = bench.bus.config_read(0, PROBE, 0x3c, 2);
    assert_eq!(line, 0x1ff, "device 3 is on PIRQD, which is not routed");
}

#[test]
fn windows_that_are_too_small_are_an_error() {
    let (bench, _) = bench();
    let windows = Windows { mem64: 0x10_0000_0000..0x11_0000_0000, ..WINDOWS };
    let error = AssignError { at: PROBE, bar: 2, size: 1 << 33 };
    assert_eq!(bench.bus.assign_resources(&windows), Err(error));
}

#[test]
fn ports_and_memory_window_agree() {
    let (bench, _) = bench();
    bench.bus.attach(DevFn::new(0, 0), Arc::new(HostBridge::new(Some((0xb000_0000, 256))))).unwrap();
    let lpc = LpcBridge::new(Arc::clone(bench.bus.router()), Some(0x600));
    bench.bus.attach(DevFn::new(31, 0), Arc::new(lpc)).unwrap();
    bench.bus.assign_resources(&WINDOWS).unwrap();
    let ports = ConfigPorts::new(Arc::clone(&bench.bus), None);
    let ecam = Ecam::new(Arc::clone(&bench.bus));
    for at in (0..=255).map(DevFn) {
        for register in 0..256u32 {
            ports.port_write(0, 4, 1 << 31 | u32::from(at.0) << 8 | register & 0xfc);
            for size in [1, 2, 4] {
                if register as u8 & (size - 1) == 0 {
                    let port = ports.port_read(4 + (register & 3) as u16, size);
                    let memory = ecam.mmio_read(u64::from(at.0) << 12 | u64::from(register), size);
                    assert_eq!(u64::from(port), memory, "{at:?} {register:#x}");
                }
            }
        }
    }
    assert_eq!(ecam.mmio_read(0, 8), 0x29c0_8086);
    assert_eq!(ecam.mmio_read(0xf_8008, 4), 0x0601_0002);
    assert_eq!(ecam.mmio_read(0x60, 8), 0xb000_0001);
    assert_eq!(ecam.mmio_read(0xf_8060, 4), 0x800b_0a0a);
    assert_eq!(ecam.mmio_read(0x3100, 4), 0xffff_ffff, "no extended space");
    assert_eq!(ecam.mmio_read(1 << 20, 4), 0xffff_ffff, "no bus 1");
    ports.port_write(0, 4, 0);
    assert_eq!(ports.port_read(4, 4), 0xffff_ffff, "latch disabled");
}

#[test]
fn capabilities_form_a_list() {
    let (bench, _) = bench();
    let read = |at, size| bench.bus.config_read(0, PROBE, at, size);
    assert_eq!(read(6, 2) & 0x10, 0x10);
    let mut at = read(0x34, 1) as u16;
    let mut found = Vec::new();
    while at != 0 {
        found.push(read(at, 1));
        at = read(at + 1, 1) as u16;
    }
    assert_eq!(found, [5, 0x11]);
}

#[test]
fn intx_is_shared_gated_and_routed() {
    let (bench, probe) = bench();
    let second = Probe::new();
    bench.bus.attach(DevFn::new(7, 1), second.clone()).unwrap();
    probe.header.set_intx(true);
    second.header.set_intx(true);
    assert!(bench.gsi[3].level());
    bench.bus.router().set_route(3, 11);
    assert!(bench.isa[11].level());
    probe.header.set_intx(false);
    assert!(bench.gsi[3].level() && bench.isa[11].level(), "the other function still asserts");
    bench.bus.config_write(0, DevFn::new(7, 1), 4, 2, command::INTX_DISABLE.into());
    assert!(!bench.gsi[3].level() && !bench.isa[11].level());
    assert_eq!(bench.bus.config_read(0, DevFn::new(7, 1), 6, 2) & 8, 8, "status shows it all the same");
    bench.bus.config_write(0, DevFn::new(7, 1), 4, 2, 0);
    assert!(bench.gsi[3].level());
    bench.bus.router().set_route(3, 0x80);
    assert!(!bench.isa[11].level());
    bench.bus.reset();
    assert!(!bench.gsi[3].level());
}

#[test]
fn msix_masks_and_keeps_pending() {
    let (bench, probe) = bench();
    let header = &probe.header;
    let cap = 0x40 + 0x18;
    assert_eq!(header.read(cap, 1), 0x11);
    assert_eq!(header.read(cap + 2, 2), 69);
    header.write(4, 2, u32::from(command::MASTER | command::MEMORY));
    header.notify_msix(65);
    assert_eq!(header.msix_read(0x800 + 8, 8), 0, "disabled: nothing pends");
    header.write(cap + 2, 2, 0xc000);
    header.msix_write(65 * 16, 8, 0xfee0_1000);
    header.msix_write(65 * 16 + 8, 4, 0x41);
    header.msix_write(65 * 16 + 12, 4, 0);
    header.notify_msix(65);
    header.notify_msix(65);
    assert_eq!(header.msix_read(0x800 + 8, 8), 2);
    assert_eq!(bench.messages.take(), []);
    header.msix_write(0x800 + 8, 8, 0);
    header.write(cap + 2, 2, 0x8000);
    assert_eq!(bench.messages.take(), [(0xfee0_1000, 0x41)], "once, when the function mask goes");
    assert_eq!(header.msix_read(0x800 + 8, 8), 0);
    header.msix_write(65 * 16 + 12, 4, 1);
    header.notify_msix(65);
    assert_eq!(bench.messages.take(), []);
    header.msix_write(65 * 16 + 12, 4, 0);
    assert_eq!(bench.messages.take().len(), 1, "once, when the vector's mask goes");
    header.notify_msix(0xffff);
    header.notify_msix(70);
    header.write(4, 2, 0);
    header.notify_msix(65);
    assert_eq!(bench.messages.take(), [], "no bus mastering, no messages");
    header.set_intx(true);
    assert!(!bench.gsi[3].level(), "MSI-X silences the pin");
}

#[test]
fn msi_masks_and_keeps_pending() {
    let (bench, probe) = bench();
    let header = &probe.header;
    assert_eq!(header.read(0x42, 2), 0x0184);
    header.write(4, 2, u32::from(command::MASTER));
    header.write(0x44, 4, 0xfee0_0000);
    header.write(0x4c, 4, 0x53);
    header.write(0x42, 2, 0x21);
    header.notify_msi(2);
    assert_eq!(bench.messages.take(), [(0xfee0_0000, 0x52)]);
    header.write(0x50, 4, 0xffff_ffff);
    assert_eq!(header.read(0x50, 4), 0xf);
    header.notify_msi(1);
    assert_eq!(header.read(0x54, 4), 2);
    header.write(0x50, 4, 0);
    assert_eq!(bench.messages.take(), [(0xfee0_0000, 0x51)]);
    assert_eq!(header.read(0x54, 4), 0);
}

#[test]
fn snapshots_carry_headers_but_forge_nothing() {
    let (bench, probe) = bench();
    bench.bus.assign_resources(&WINDOWS).unwrap();
    probe.header.set_intx(true);
    let mut saved = bench.bus.save();
    let (other, copy) = self::bench();
    other.bus.restore(&saved);
    assert_eq!(other.bus.save(), saved);
    assert!(other.gsi[3].level());
    assert!(other.bus.try_mmio_write(0x10_0000_0010, 8, 77));
    assert_eq!(copy.last.lock().unwrap().0, 2);
    saved.headers.get_mut(&PROBE.0).unwrap().config = vec![0xff; 300];
    other.bus.restore(&saved);
    assert_eq!(other.bus.config_read(0, PROBE, 0, 4), 0x5678_1234);
    assert_eq!(other.bus.config_read(0, PROBE, 0x14, 4), 0xffff_f000);
}

#[test]
fn random_configuration_writes_are_harmless() {
    let (bench, probe) = bench();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..300_000 {
        let r = random();
        let size = 1 << (r >> 8 & 3).min(2);
        bench.bus.config_write(0, PROBE, (r & 0xff) as u16, size as u8, random() as u32);
        match r >> 16 & 7 {
            0 => probe.header.set_intx(r >> 20 & 1 != 0),
            1 => probe.header.notify_msix((r >> 20) as u16),
            2 => probe.header.notify_msi((r >> 20) as u8),
            3 => probe.header.msix_write(r >> 20 & 0xfff, 4, random()),
            4 => drop(bench.bus.try_mmio_read(random(), 8)),
            _ => {}
        }
        if r >> 32 & 0xff == 0 {
            let windows = probe.header.windows();
            for w in windows.iter().filter(|w| !w.io) {
                let first = windows.iter().filter(|o| !o.io).all(|o| o.range.start >= w.range.start);
                if first {
                    assert!(bench.bus.try_mmio_read(w.range.start, 1).is_some());
                }
            }
        }
    }
    assert_eq!(bench.bus.config_read(0, PROBE, 0, 4), 0x5678_1234);
    assert_eq!(bench.bus.config_read(0, PROBE, 8, 4), 0xff00_0009);
}
