//! Registers, negotiation and interrupts, as Linux drives them.

use super::*;
use crate::pci::{DevFn, PciFunction};
use crate::virtio::testing::AVAIL;

#[test]
fn functions_look_as_the_specification_says() {
    let console = Console::new(Arc::new(Screen::default()), Execution::Inline);
    let disk = Blk::new(Arc::new(MemoryBackend::new(vec![0; 1 << 20])), "x", Execution::Inline);
    let devices: [(Arc<dyn VirtioDevice>, u16, u32); 3] = [
        (disk, 0x1042, 0x0100_0001),
        (console, 0x1043, 0x0780_0001),
        (Rng::new(Arc::new(Counter::default()), Execution::Inline), 0x1044, 0x00ff_0001),
    ];
    for (device, id, class) in devices {
        let config_len = device.config_len();
        let d = Driver::new(device);
        let read = |at, size| d.bus.config_read(0, DevFn::new(0, 0), at, size);
        assert_eq!(read(0, 4), u32::from(id) << 16 | 0x1af4);
        assert_eq!(read(8, 4), class);
        assert_eq!(read(0x2c, 4), u32::from(id) << 16 | 0x1af4);
        assert_eq!(read(0x3d, 1), 1);
        let mut kinds = Vec::new();
        let mut at = read(0x34, 1) as u16;
        while at != 0 {
            if read(at, 1) == 9 {
                let (kind, bar, offset, length) =
                    (read(at + 3, 1), read(at + 4, 1), read(at + 8, 4), read(at + 12, 4));
                kinds.push(kind);
                assert!(kind == 5 || bar == 4 && length != 0 && offset + length <= 0x4000);
                assert_eq!(read(at + 2, 1), if matches!(kind, 2 | 5) { 20 } else { 16 });
            }
            at = read(at + 1, 1) as u16;
        }
        kinds.sort();
        assert_eq!(kinds, if config_len == 0 { vec![1, 2, 3, 5] } else { vec![1, 2, 3, 4, 5] });
    }
}

#[test]
fn features_are_negotiated_by_the_book() {
    let d = rng(Execution::Inline);
    let offer = |half| {
        d.write(0, 4, half);
        d.read(4, 4)
    };
    assert_eq!((offer(0), offer(1), offer(2)), (feature::TRANSPORT & 0xffff_ffff, 1, 0));
    d.set_status(3);
    d.set_status(0xb);
    assert_eq!(d.status(), 3, "without VERSION_1");
    d.write(8, 4, 1);
    d.write(0xc, 4, 3);
    d.set_status(0xb);
    assert_eq!(d.status(), 3, "bit 33 was not offered");
    d.set_status(7);
    assert_eq!(d.status(), 3, "no DRIVER_OK before FEATURES_OK");
    d.write(0xc, 4, 1);
    d.set_status(0xb);
    assert_eq!(d.status(), 0xb);
    d.write(0xc, 4, 3);
    assert_eq!(d.read(0xc, 4), 1, "fixed now");
    d.set_status(0x4b);
    assert_eq!(d.status(), 0xb, "the driver cannot ask itself to reset");
    d.set_status(0);
    assert_eq!((d.status(), d.read(0xc, 4)), (0, 0));
}

#[test]
fn registers_of_queues() {
    let d = rng(Execution::Inline);
    assert_eq!(d.read(0x12, 2), 1);
    assert_eq!(d.read(0x18, 2), 8);
    assert_eq!(d.read(0x1a, 2), 0xffff);
    d.write(0x1a, 2, 1);
    assert_eq!(d.read(0x1a, 2), 1);
    d.write(0x1a, 2, 2);
    assert_eq!(d.read(0x1a, 2), 0xffff, "two vectors only");
    d.write(0x10, 2, 0);
    assert_eq!(d.read(0x10, 4), 0x0001_0000);
    d.write(0x20, 8, 0x1_2345_6780);
    assert_eq!((d.read(0x20, 4), d.read(0x24, 4)), (0x2345_6780, 1));
    d.write(0x16, 2, 1);
    assert_eq!((d.read(0x18, 2), d.read(0x1c, 2)), (0, 0), "no such queue");
    d.write(0x1c, 2, 1);
}

#[test]
fn entropy_is_bounded_and_interrupts_come() {
    for execution in [Execution::Inline, Execution::Thread] {
        let mut d = rng(execution);
        d.start(!0);
        assert_eq!(d.submit(0, &[(DATA, 10, true), (DATA + 10, 30, true)]), 40);
        assert_eq!(d.ram.get::<40>(DATA), std::array::from_fn(|i| i as u8));
        Driver::wait("pin", || d.wire.level());
        assert_eq!(d.read(0x1000, 1), 1);
        assert_eq!(d.read(0x1000, 1), 0);
        assert!(!d.wire.level(), "reading the ISR byte releases the pin");
        assert_eq!(d.submit(0, &[(DATA, 0x8_0000, true)]), 4096);
        assert_eq!(d.submit(0, &[(DATA, 0x8_0000, false)]), 0);
    }
}

#[test]
fn messages_go_to_the_queues_vector() {
    let mut d = rng(Execution::Inline);
    let cap = d.bus.config_read(0, DevFn::new(0, 0), 0x34, 1) as u16;
    d.function.config_write(cap + 2, 2, 0x8000);
    d.function.bar_write(1, 16, 8, 0xfee0_0000);
    d.function.bar_write(1, 24, 8, 0x51);
    d.start(feature::VERSION_1);
    d.write(0x16, 2, 0);
    d.write(0x1a, 2, 1);
    d.submit(0, &[(DATA, 8, true)]);
    assert_eq!(d.messages.take(), [(0xfee0_0000, 0x51)]);
    assert!(!d.wire.level());
    d.ram.put(Driver::base(0) + AVAIL, &[1, 0]);
    d.submit(0, &[(DATA, 8, true)]);
    assert_eq!(d.messages.take(), [], "the driver wants none");
}

#[test]
fn nothing_moves_without_bus_mastering_or_driver_ok() {
    let mut d = rng(Execution::Inline);
    d.start(!0);
    d.function.config_write(4, 2, 2);
    d.chain(Driver::base(0), 0, &[(DATA, 8, true)]);
    d.publish(0, 0);
    d.ring(0);
    assert_eq!(d.used_index(0), 0);
    d.bus.config_write(0, DevFn::new(0, 0), 4, 2, 6);
    assert_eq!(d.used_index(0), 1, "taken up again with bus mastering");
    d.set_status(0x80);
    d.publish(0, 0);
    d.ring(0);
    assert_eq!(d.used_index(0), 1, "the driver has given up");
}

#[test]
fn configuration_space_reaches_the_registers() {
    let d = rng(Execution::Inline);
    let mut at = d.function.config_read(0x34, 1) as u16;
    while d.function.config_read(at, 1) != 9 || d.function.config_read(at + 3, 1) != 5 {
        at = d.function.config_read(at + 1, 1) as u16;
    }
    let access = |bar: u32, offset: u32, length: u32| {
        d.function.config_write(at + 4, 1, bar);
        d.function.config_write(at + 8, 4, offset);
        d.function.config_write(at + 12, 4, length);
    };
    access(4, 0x14, 1);
    d.function.config_write(at + 16, 1, 3);
    assert_eq!(d.status(), 3);
    assert_eq!(d.function.config_read(at + 16, 4), 3);
    access(4, 0x12, 2);
    assert_eq!(d.function.config_read(at + 16, 2), 1);
    for (bar, offset, length) in [(4, 0x4000, 4), (4, 0x3ffe, 4), (9, 0, 4), (2, 0, 4), (4, 0, 3), (4, 1, 4)]
    {
        access(bar, offset, length);
        d.function.config_write(at + 16, 4, 0xffff_ffff);
        d.function.config_read(at + 16, 4);
    }
    assert_eq!(d.status(), 3);
}
