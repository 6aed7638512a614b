//! The board: every port, every interrupt and every address of the machine, on one page.
//!
//! | ports | device | interrupt |
//! |---|---|---|
//! | 20-21, a0-a1, 4d0-4d1 | 8259 pair | |
//! | 40-43, 61 | 8254 | 0 (I/O APIC pin 2) |
//! | 60, 64 | i8042 | 1, 12 |
//! | 70-71 | RTC | 8 |
//! | 92 | A20 and reset | |
//! | b2-b3 | SMI command | |
//! | e9, 402 | debug consoles | |
//! | 3f8-3ff | 16550 | 4 |
//! | 505 | pvpanic | |
//! | 501 (or as asked) | isa-debug-exit | |
//! | 600-63f | ACPI power management | 9 |
//! | ca0-caf | calque's counters | |
//! | cf8-cff | PCI configuration | |
//!
//! | physical | device |
//! |---|---|
//! | b000_0000-b00f_ffff | PCI configuration (ECAM), bus 0 |
//! | c000_0000-febf_ffff | PCI memory below 4 GiB |
//! | fec0_0000 | I/O APIC |
//! | fed0_0000 | HPET |
//! | fee0_0000 | local APIC (each processor answers its own) |
//! | 80_0000_0000-ff_ffff_ffff | PCI memory above RAM |

pub mod bus;
pub mod counters;
pub mod tables;

use crate::backends::disk::RawDisk;
use crate::backends::entropy::HostEntropy;
use crate::config::Machine;
use crate::control::Control;
use anyhow::{Context, Result};
use bus::BoardBus;
use counters::{Counters, CountersPort};
use devices::acpi_pm::AcpiPm;
use devices::debug_ports::{DebugConsole, DebugExit};
use devices::hpet::{Hpet, HpetLines};
use devices::i8042::I8042;
use devices::ioapic::IoApic;
use devices::irq::FanOut;
use devices::lapic::{ApicBus, Lapic};
use devices::pci::{ConfigPorts, DevFn, Ecam, HostBridge, LpcBridge, PciBus, PirqRouter, Windows};
use devices::pic::{Pic, PicPorts};
use devices::pit::Pit;
use devices::port92::{A20Gate, Port92};
use devices::power::PowerSink;
use devices::pvpanic::PvPanic;
use devices::rtc::Rtc;
use devices::sink::ByteSink;
use devices::uart::Uart;
use devices::virtio::{Blk, Console, ConsoleSink, Execution, Rng, VirtioDevice, VirtioPci};
use emu_core::bus::{Irq, IrqLine};
use emu_core::clock::Timers;
use emu_core::mem::PhysMem;
use emu_core::signals::Signals;
use std::sync::Arc;

/// Base of the PCI configuration window.
pub const ECAM_BASE: u64 = 0xb000_0000;
/// PCI memory below 4 GiB.
pub const MMIO32: std::ops::Range<u64> = 0xc000_0000..0xfec0_0000;
/// PCI memory above RAM.
pub const MMIO64: std::ops::Range<u64> = 0x80_0000_0000..0x100_0000_0000;
/// I/O APIC.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// HPET.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// ACPI power management ports.
pub const PM_BASE: u16 = 0x600;
/// Ports from `PM_BASE` on.
const PM_PORTS: u16 = 0x40;

/// What the run loop needs of a built board.
#[derive(Debug)]
pub struct Board {
    /// Ports and MMIO.
    pub bus: Arc<BoardBus>,
    /// The processors' local APICs, in order.
    pub lapics: Vec<Arc<Lapic>>,
    /// The first serial port.
    pub uart: Arc<Uart>,
    /// The virtio console, if there is one.
    pub console: Option<Arc<Console>>,
    /// The counters that the guest can read.
    pub counters: Arc<Counters>,
    /// PCI, for the tables.
    pub pci: Arc<PciBus>,
    /// Keeps alive what only timers refer to.
    _timed: (Arc<Pit>, Arc<Rtc>, Arc<Hpet>, Arc<AcpiPm>),
}

/// What the board is built from.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The machine asked for.
    pub machine: &'a Machine,
    /// Guest memory.
    pub mem: &'a Arc<PhysMem>,
    /// Machine time.
    pub timers: &'a Arc<Timers>,
    /// The processors' requests, the bootstrap processor's first.
    pub signals: &'a [Arc<Signals>],
    /// Who hears of power-off and reset.
    pub control: &'a Arc<Control>,
    /// Where the serial port sends.
    pub serial: Arc<dyn ByteSink>,
    /// Where the virtio console sends.
    pub hvc: Option<Arc<dyn ByteSink>>,
    /// Where the debug consoles send.
    pub debugcon: Option<Arc<dyn ByteSink>>,
    /// Seconds since 1970 at power-on.
    pub wall: i64,
}

/// The A20 gate as a line.
#[derive(Debug)]
struct A20Line(Arc<PhysMem>);

impl IrqLine for A20Line {
    fn set_level(&self, level: bool) {
        self.0.set_a20(level);
    }
}

/// Builds the board.
///
/// # Errors
/// When a disk or the host's randomness cannot be opened.
pub fn build(parts: Parts<'_>) -> Result<Board> {
    let Parts { machine, mem, timers, signals, control, .. } = parts;
    let power: Arc<dyn PowerSink> = control.clone();

    // Interrupt controllers. The 8259's INTR goes to LINT0, ISA interrupts to both controllers.
    let apics = ApicBus::new();
    let lapics: Vec<_> = (0u32..)
        .zip(signals)
        .map(|(id, signals)| Lapic::new(id, id == 0, &apics, timers, signals.clone()))
        .collect();
    let pic = Pic::new(FanOut::new(lapics.iter().map(Lapic::lint0).collect()));
    for lapic in &lapics {
        lapic.connect_ext_int(pic.clone());
    }
    let ioapic = IoApic::new(ioapic_id(signals.len()), &apics);
    let isa = |n: u8| -> Irq {
        let pin = if n == 0 { 2 } else { n };
        FanOut::new(vec![pic.line(n), ioapic.line(pin)])
    };

    // PCI.
    let gsi = std::array::from_fn(|i| ioapic.line(16 + i as u8));
    let router = PirqRouter::new(gsi, std::array::from_fn(|n| pic.line(n as u8)), [10, 10, 11, 11]);
    let pci = PciBus::new(router.clone(), apics.clone());
    pci.attach(DevFn::new(0, 0), Arc::new(HostBridge::new(Some((ECAM_BASE, 64)))))?;
    pci.attach(DevFn::new(31, 0), Arc::new(LpcBridge::new(router, None)))?;
    let mut virtio = virtio_devices(machine)?;
    let console = parts.hvc.map(|sink| Console::new(Arc::new(Hvc(sink)), execution(machine)));
    if let Some(console) = &console {
        virtio.push(console.clone());
    }
    for (i, device) in virtio.into_iter().enumerate() {
        let slot = u8::try_from(i + 1).ok().filter(|s| *s < 31).context("too many disks: at most 28")?;
        pci.attach(DevFn::new(slot, 0), VirtioPci::new(device, mem.clone()))?;
    }
    pci.assign_resources(&Windows { io: 0xc000..0xfff0, mem32: MMIO32, mem64: MMIO64 })?;

    // Chips.
    let hpet = Hpet::new(
        timers,
        HpetLines {
            legacy: [isa(0), isa(8)],
            pins: (0..24).map(|pin| ioapic.line(pin)).collect(),
            msi: apics.clone(),
        },
    );
    let pit = Pit::new(timers, hpet.pit_input());
    let rtc = Rtc::new(timers, hpet.rtc_input(), parts.wall);
    let below: u64 = mem.ranges()[0].1;
    rtc.set_memory_size(below, mem.size() - below);
    let pm = AcpiPm::new(timers, isa(9), power.clone(), true);
    let gate = A20Gate::new(Arc::new(A20Line(mem.clone())));
    let i8042 = I8042::new(isa(1), isa(12), gate.clone(), power.clone());
    let port92 = Port92::new(gate, power.clone());
    let uart = Uart::new(isa(4), parts.serial);
    let counters = Arc::new(Counters::new(signals.len()));

    let mut bus = BoardBus::new(pci.clone());
    bus.add_ports(0x20, 2, pic.ports(PicPorts::Master));
    bus.add_ports(0xa0, 2, pic.ports(PicPorts::Slave));
    bus.add_ports(0x4d0, 2, pic.ports(PicPorts::Elcr));
    bus.add_ports(0x40, 4, pit.clone());
    bus.add_ports(0x61, 1, pit.port61());
    bus.add_ports(0x60, 1, i8042.clone());
    bus.add_ports(0x64, 1, i8042.port64());
    bus.add_ports(0x70, 2, rtc.clone());
    bus.add_ports(0x92, 1, port92);
    bus.add_ports(0xb2, 2, pm.smi_command());
    bus.add_ports(0x3f8, 8, uart.clone());
    bus.add_ports(0x505, 1, PvPanic::new(power.clone()));
    bus.add_ports(PM_BASE, PM_PORTS, pm.clone());
    bus.add_ports(0xca0, 16, Arc::new(CountersPort::new(counters.clone())));
    bus.add_ports(0xcf8, 8, Arc::new(ConfigPorts::new(pci.clone(), None)));
    if let Some(sink) = parts.debugcon {
        let console = DebugConsole::new(sink);
        bus.add_ports(0xe9, 1, console.clone());
        bus.add_ports(0x402, 1, console);
    }
    if let Some(port) = machine.debug_exit {
        bus.add_ports(port, 4, DebugExit::new(power));
    }
    bus.add_mmio(ECAM_BASE, Ecam::BUS_SIZE, Arc::new(Ecam::new(pci.clone())));
    bus.add_mmio(IOAPIC_BASE, 0x1000, ioapic);
    bus.add_mmio(HPET_BASE, 0x400, hpet.clone());

    Ok(Board { bus: Arc::new(bus), lapics, uart, console, counters, pci, _timed: (pit, rtc, hpet, pm) })
}

/// ID of the I/O APIC, after those of the processors.
pub fn ioapic_id(vcpus: usize) -> u8 {
    u8::try_from(vcpus).unwrap_or(0)
}

/// A byte sink as a virtio console's: it takes everything.
#[derive(Debug)]
struct Hvc(Arc<dyn ByteSink>);

impl ConsoleSink for Hvc {
    fn write(&self, bytes: &[u8]) -> usize {
        self.0.write(bytes);
        bytes.len()
    }
}

/// Where virtio devices work: under a virtual clock in the processor's own thread, so that runs repeat.
fn execution(machine: &Machine) -> Execution {
    match machine.clock {
        crate::config::ClockKind::Real => Execution::Thread,
        crate::config::ClockKind::Virtual => Execution::Inline,
    }
}

fn virtio_devices(machine: &Machine) -> Result<Vec<Arc<dyn VirtioDevice>>> {
    let mut list: Vec<Arc<dyn VirtioDevice>> = Vec::new();
    let execution = execution(machine);
    let entropy = HostEntropy::open().context("the host's randomness (/dev/urandom)")?;
    list.push(Rng::new(Arc::new(entropy), execution));
    for (i, disk) in machine.disks.iter().enumerate() {
        let backend = RawDisk::open(disk)?;
        list.push(Blk::new(Arc::new(backend), &format!("calque{i}"), execution));
    }
    Ok(list)
}
