//! The local APIC as its processor, the bus and the pins see it.

use super::*;
use crate::lock::lock;
use crate::pic::{Pic, PicPorts};
use emu_core::bus::MsiSink;
use emu_core::clock::Clock;

#[derive(Debug, Default)]
struct Eois(Mutex<Vec<u8>>);
impl EoiSink for Eois {
    fn end_of_interrupt(&self, vector: u8) {
        lock(&self.0).push(vector);
    }
}

struct Board {
    timers: Arc<Timers>,
    bus: Arc<ApicBus>,
    cpus: Vec<Arc<Lapic>>,
    signals: Vec<Arc<Signals>>,
}

fn board(count: u32) -> Board {
    let timers = Timers::new(Clock::virtual_clock());
    let bus = ApicBus::new();
    let signals: Vec<_> = (0..count).map(|_| Arc::new(Signals::default())).collect();
    let cpus: Vec<_> = signals
        .iter()
        .zip(0..)
        .map(|(s, id)| {
            let lapic = Lapic::new(id, id == 0, &bus, &timers, s.clone());
            lapic.apic_mmio_write(0xf0, 0x1ff);
            lapic
        })
        .collect();
    Board { timers, bus, cpus, signals }
}

fn to_x2apic(lapic: &Lapic) {
    assert!(lapic.set_apic_base(lapic.apic_base() | 0xc00));
}

#[test]
fn an_interrupt_goes_through_irr_isr_and_eoi() {
    let b = board(1);
    let cpu = &b.cpus[0];
    b.bus.send_msi(0xfee0_0000, 0x51);
    assert!(cpu.has_interrupt());
    assert_eq!(b.signals[0].take(request::INTR), request::INTR);
    assert_eq!(cpu.apic_mmio_read(0x220), 1 << 17, "IRR");
    assert_eq!(cpu.acknowledge(), Some(0x51));
    assert_eq!(cpu.apic_mmio_read(0x220), 0);
    assert_eq!(cpu.apic_mmio_read(0x120), 1 << 17, "ISR");
    assert_eq!(cpu.apic_mmio_read(0xa0), 0x50, "PPR");
    b.bus.send_msi(0xfee0_0000, 0x52);
    assert!(!cpu.has_interrupt(), "same priority class");
    b.bus.send_msi(0xfee0_0000, 0x61);
    assert_eq!(cpu.acknowledge(), Some(0x61));
    cpu.apic_mmio_write(0xb0, 0);
    assert!(!cpu.has_interrupt());
    cpu.apic_mmio_write(0xb0, 0);
    assert_eq!(cpu.acknowledge(), Some(0x52));
}

#[test]
fn the_task_priority_holds_interrupts_back() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.set_cr8(5);
    assert_eq!(cpu.apic_mmio_read(0x80), 0x50);
    b.bus.send_msi(0xfee0_0000, 0x5f);
    assert!(!cpu.has_interrupt());
    assert_eq!(cpu.acknowledge(), None);
    b.signals[0].take(request::INTR);
    cpu.set_cr8(4);
    assert!(cpu.has_interrupt());
    assert_eq!(b.signals[0].peek(), request::INTR);
}

#[test]
fn a_level_eoi_is_broadcast_unless_suppressed() {
    let b = board(1);
    let eois = Arc::new(Eois::default());
    let weak: Weak<dyn EoiSink> = Arc::downgrade(&(eois.clone() as Arc<dyn EoiSink>));
    b.bus.add_eoi_sink(weak);
    let cpu = &b.cpus[0];
    for (data, svr, expected) in
        [(0x8051, 0x1ff, &[0x51u8] as &[u8]), (0x52, 0x1ff, &[]), (0x8053, 0x11ff, &[])]
    {
        cpu.apic_mmio_write(0xf0, svr);
        b.bus.send_msi(0xfee0_0000, data);
        assert_eq!(cpu.acknowledge(), Some(data as u8));
        cpu.apic_mmio_write(0xb0, 0);
        assert_eq!(std::mem::take(&mut *lock(&eois.0)), expected);
    }
}

#[test]
fn ipis_find_their_destinations() {
    let b = board(4);
    let got = |cpu: &Lapic| std::iter::from_fn(|| cpu.acknowledge()).collect::<Vec<_>>();
    let send = |destination: u32, low: u32| {
        b.cpus[0].apic_mmio_write(0x310, destination << 24);
        b.cpus[0].apic_mmio_write(0x300, low);
        b.cpus
            .iter()
            .map(|cpu| {
                let taken = got(cpu);
                taken.iter().for_each(|_| cpu.apic_mmio_write(0xb0, 0));
                !taken.is_empty()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(send(2, 0x4040), [false, false, true, false], "physical");
    assert_eq!(send(0xff, 0x4040), [true; 4], "physical broadcast");
    assert_eq!(send(0, 0x4_4040), [true, false, false, false], "self");
    assert_eq!(send(0, 0x8_4040), [true; 4], "all");
    assert_eq!(send(0, 0xc_4040), [false, true, true, true], "all but self");
    for (cpu, id) in b.cpus.iter().zip(0..) {
        cpu.apic_mmio_write(0xd0, 1 << (24 + id));
    }
    assert_eq!(send(0b1010, 0x4840), [false, true, false, true], "flat");
    for (cpu, id) in b.cpus.iter().zip(0..) {
        cpu.apic_mmio_write(0xe0, 0);
        cpu.apic_mmio_write(0xd0, ((id / 2) << 28) | (1 << (24 + id % 2)));
    }
    assert_eq!(send(0x12, 0x4840), [false, false, false, true], "cluster");
    assert_eq!(send(0xf1, 0x4840), [true, false, true, false], "every cluster");
}

#[test]
fn lowest_priority_picks_one() {
    let b = board(3);
    b.cpus[0].set_cr8(6);
    b.cpus[1].set_cr8(2);
    b.cpus[2].set_cr8(3);
    b.cpus.iter().for_each(|cpu| cpu.apic_mmio_write(0xd0, 0x0100_0000));
    b.bus.send_msi(0xfee0_100c, 0x180);
    assert_eq!(b.cpus.iter().map(|c| c.has_interrupt()).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn init_and_start_up_reach_the_processor() {
    let b = board(2);
    b.cpus[0].apic_mmio_write(0x310, 1 << 24);
    b.cpus[0].apic_mmio_write(0x300, 0xc500);
    assert_eq!(b.signals[1].take(u32::MAX), request::INIT);
    assert_eq!(b.cpus[1].apic_mmio_read(0xf0), 0xff, "the APIC is reset");
    b.cpus[0].apic_mmio_write(0x300, 0x8500);
    assert_eq!(b.signals[1].peek(), 0, "level de-assert does nothing");
    b.cpus[0].apic_mmio_write(0x300, 0x4699);
    assert_eq!(b.signals[1].take(u32::MAX), request::SIPI);
    assert_eq!(b.signals[1].sipi_vector(), 0x99);
    b.cpus[0].apic_mmio_write(0x300, 0x4400);
    assert_eq!(b.signals[1].take(u32::MAX), request::NMI);
}

#[test]
fn x2apic_registers_and_transitions() {
    let b = board(2);
    let cpu = &b.cpus[1];
    assert_eq!(cpu.x2apic_read(0x802), None, "#GP in xAPIC mode");
    assert!(!cpu.set_apic_base(0xfee0_0400), "EXTD without EN");
    assert!(!cpu.set_apic_base(0xfee0_0801), "reserved bit");
    to_x2apic(cpu);
    assert!(!cpu.set_apic_base(0xfee0_0800), "back to xAPIC");
    assert_eq!(cpu.x2apic_read(0x802), Some(1));
    assert_eq!(cpu.x2apic_read(0x80d), Some(2), "logical ID");
    assert_eq!(cpu.x2apic_read(0x80e), None, "no DFR");
    assert_eq!(cpu.apic_mmio_read(0x20), u32::MAX);
    assert!(!cpu.x2apic_write(0x80b, 1) && cpu.x2apic_write(0x80b, 0), "EOI");
    assert!(!cpu.x2apic_write(0x803, 0), "read-only");
    assert!(!cpu.x2apic_write(0x831, 0), "no second half of the ICR");
    assert!(cpu.x2apic_write(0x83f, 0x77));
    assert_eq!(cpu.acknowledge(), Some(0x77));
    assert!(cpu.x2apic_write(0x80b, 0));
    to_x2apic(&b.cpus[0]);
    assert!(cpu.x2apic_write(0x830, 0x1_0001_0000_0841));
    assert_eq!(b.cpus[0].acknowledge(), None, "another cluster");
    assert!(cpu.x2apic_write(0x830, 0x1_0000_0841));
    assert_eq!(b.cpus[0].acknowledge(), Some(0x41));
    assert_eq!(cpu.x2apic_read(0x830), Some(0x1_0000_0841));
    assert!(cpu.set_apic_base(0xfee0_0000) && cpu.set_apic_base(0xfee0_0800));
    assert_eq!(cpu.apic_mmio_read(0x20), 1 << 24);
    for msr in 0..0x1000 {
        cpu.x2apic_read(msr);
        b.cpus[0].x2apic_write(msr, u64::MAX);
    }
}

#[test]
fn lint0_takes_the_8259() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.init();
    let pic = Pic::new(cpu.lint0());
    cpu.connect_ext_int(pic.clone());
    let master = pic.ports(PicPorts::Master);
    for (port, value) in [(0, 0x11), (1, 0x30), (1, 4), (1, 1), (1, 0)] {
        master.port_write(port, 1, value);
    }
    pic.line(0).pulse();
    assert!(cpu.has_interrupt(), "virtual wire from power-on, even software-disabled");
    assert_eq!(cpu.acknowledge(), Some(0x30));
    assert!(!cpu.has_interrupt());
    master.port_write(0, 1, 0x20);
    cpu.apic_mmio_write(0xf0, 0x1ff);
    cpu.apic_mmio_write(0x350, 0x1_0700);
    pic.line(0).pulse();
    assert!(!cpu.has_interrupt(), "masked");
    assert!(cpu.set_apic_base(0xfee0_0000));
    assert!(cpu.has_interrupt(), "a disabled APIC leaves LINT0 as INTR");
}

#[test]
fn lint1_is_nmi_when_set_so() {
    let b = board(1);
    let nmi = b.cpus[0].lint1();
    nmi.pulse();
    assert_eq!(b.signals[0].peek(), 0);
    b.cpus[0].apic_mmio_write(0x360, 0x400);
    nmi.pulse();
    assert_eq!(b.signals[0].peek(), request::NMI);
}

#[test]
fn the_timer_interrupts() {
    let b = board(1);
    let cpu = &b.cpus[0];
    let run = |ns: u64| {
        b.timers.clock().advance_to(b.timers.clock().now() + ns);
        b.timers.run_due()
    };
    cpu.apic_mmio_write(0x3e0, 0xb);
    cpu.apic_mmio_write(0x320, 0x2_00ec);
    cpu.apic_mmio_write(0x380, 1_000_000);
    run(400_000);
    assert_eq!(cpu.apic_mmio_read(0x390), 600_000);
    assert!(!cpu.has_interrupt());
    for _ in 0..3 {
        run(1_000_000);
        assert_eq!(cpu.acknowledge(), Some(0xec));
        cpu.apic_mmio_write(0xb0, 0);
    }
    // One nanosecond: bounded.
    cpu.apic_mmio_write(0x380, 1);
    let mut fired = 0;
    for _ in 0..1000 {
        fired += run(1_000);
    }
    assert!((40..=60).contains(&fired), "{fired}");
    cpu.acknowledge();
    cpu.apic_mmio_write(0xb0, 0);
    // Masked: counts, does not interrupt.
    cpu.apic_mmio_write(0x320, 0x1_00ec);
    cpu.apic_mmio_write(0x380, 1000);
    run(5000);
    cpu.apic_mmio_write(0x320, 0x00ec);
    run(5000);
    assert!(!cpu.has_interrupt());
    assert_eq!(cpu.apic_mmio_read(0x390), 0);
}

#[test]
fn the_tsc_deadline_interrupts() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.set_tsc_offset(5_000_000);
    cpu.apic_mmio_write(0x320, 0x4_00ec);
    cpu.set_tsc_deadline(5_100_000);
    assert_eq!(cpu.tsc_deadline(), 5_100_000);
    assert_eq!(b.timers.next_due(), Some(100_000));
    cpu.set_tsc_offset(5_050_000);
    b.timers.clock().advance_to(50_000);
    b.timers.run_due();
    assert_eq!(cpu.tsc_deadline(), 0);
    assert_eq!(cpu.acknowledge(), Some(0xec));
    cpu.apic_mmio_write(0xb0, 0);
    cpu.set_tsc_deadline(1);
    assert!(cpu.has_interrupt(), "the past fires at once");
}

#[test]
fn errors_are_latched_by_a_write() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.apic_mmio_write(0x370, 0xfe);
    cpu.apic_mmio_write(0x300, 5);
    assert_eq!(cpu.acknowledge(), Some(0xfe));
    assert_eq!(cpu.apic_mmio_read(0x280), 0);
    cpu.apic_mmio_write(0x280, 0);
    assert_eq!(cpu.apic_mmio_read(0x280), 0x20);
    b.bus.send_msi(0xfee0_0000, 5);
    cpu.apic_mmio_read(0x3f0);
    cpu.apic_mmio_write(0x280, 0);
    assert_eq!(cpu.apic_mmio_read(0x280), 0xc0);
}

#[test]
fn software_disable_masks_and_ignores() {
    let b = board(1);
    let cpu = &b.cpus[0];
    cpu.apic_mmio_write(0x320, 0xec);
    cpu.apic_mmio_write(0xf0, 0xff);
    assert_eq!(cpu.apic_mmio_read(0x320), 0x1_00ec);
    b.bus.send_msi(0xfee0_0000, 0x51);
    cpu.apic_mmio_write(0xf0, 0x1ff);
    assert!(!cpu.has_interrupt());
}

#[test]
fn any_access_is_harmless_and_the_state_serialises() {
    let b = board(2);
    for value in [0, 1, 0x10, 0xff, 0x2_00ff, 0x4_0010, u32::MAX] {
        for offset in (0..0x1000).step_by(4) {
            b.cpus[0].apic_mmio_write(offset, value);
            b.cpus[0].apic_mmio_read(offset);
        }
        b.bus.send_msi(0xfee0_0000 | u64::from(value) & 0xfffff, value);
        b.cpus[0].set_tsc_deadline(u64::MAX);
        b.timers.clock().advance_to(b.timers.clock().now() + (1 << 33));
        b.timers.run_due();
        while b.cpus[0].acknowledge().is_some() {}
    }
    b.cpus[0].power_on(true);
    assert_eq!(b.cpus[0].apic_mmio_read(0xf0), 0xff);
    let text = serde_json::to_string(&b.cpus[0].save()).unwrap();
    b.cpus[1].restore(serde_json::from_str(&text).unwrap());
}
