//! Resets, snapshots and garbage while requests are under way.

use super::*;
use crate::pci::PciFunction;
use crate::virtio::testing::Random;
use std::sync::atomic::AtomicBool;

/// A disk whose reads wait to be let go.
#[derive(Debug, Default)]
struct Gate {
    entered: AtomicBool,
    open: AtomicBool,
}

impl BlockBackend for Gate {
    fn len(&self) -> u64 {
        1 << 30
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.entered.store(true, Ordering::SeqCst);
        Driver::wait("gate", || self.open.load(Ordering::SeqCst));
        buf.fill(0xcc);
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reset_waits_for_the_request_under_way() {
    let gate = Arc::new(Gate::default());
    let mut d = Driver::new(Blk::new(gate.clone(), "", Execution::Thread));
    d.start(!0);
    let chunk = 256 << 10;
    d.chain(Driver::base(0), 0, &[(DATA, 16, false), (DATA + 16, chunk * 3, true), (DATA, 1, true)]);
    d.publish(0, 0);
    d.ring(0);
    Driver::wait("request", || gate.entered.load(Ordering::SeqCst));
    d.set_status(0);
    assert_eq!(d.status(), 0xf, "not yet");
    d.set_status(1);
    d.write(8, 4, 0);
    assert_eq!((d.status(), d.read(8, 4)), (0xf, 1), "nothing is taken before that");
    gate.open.store(true, Ordering::SeqCst);
    Driver::wait("reset", || d.status() == 0);
    assert_eq!(d.ram.get::<1>(DATA + 16), [0xcc]);
    assert_eq!(d.ram.get::<1>(DATA + 16 + u64::from(chunk)), [0], "the request was cut short");
    assert_eq!(d.used_index(0), 0);
}

#[test]
fn a_snapshot_moves_to_another_machine() {
    let mut d = rng(Execution::Thread);
    d.start(!0);
    d.submit(0, &[(DATA, 8, true)]);
    d.function.pause();
    d.chain(Driver::base(0), 0, &[(DATA, 8, true)]);
    d.publish(0, 0);
    d.ring(0);
    let text = serde_json::to_string(&(d.function.save(), d.bus.save())).unwrap();
    let (transport, bus) = serde_json::from_str(&text).unwrap();
    let other = rng(Execution::Thread);
    other.ram.put(0x1000, &d.ram.get::<0x4000>(0x1000));
    other.function.pause();
    other.bus.restore(&bus);
    other.function.restore(&transport);
    assert_eq!(other.function.save(), transport);
    assert!(other.wire.level(), "with the interrupt that was pending");
    other.function.resume();
    Driver::wait("request", || other.used_index(0) == 2);
}

/// Devices with worker threads under a driver that writes anything anywhere: they may stop, and must start again.
#[test]
fn garbage_only_stops_the_device() {
    let screen = Arc::new(Screen { room: AtomicUsize::new(usize::MAX / 2), ..Screen::default() });
    let disk: Arc<MemoryBackend> = Arc::new(MemoryBackend::new(vec![0; 1 << 16]));
    let console = Console::new(screen, Execution::Thread);
    console.push_input(&[b'k'; 5000]);
    let devices: [Arc<dyn VirtioDevice>; 4] = [
        Blk::new(disk.clone(), "hostile", Execution::Thread),
        Blk::new(disk, "hostile", Execution::Inline),
        console,
        Rng::new(Arc::new(Counter::default()), Execution::Thread),
    ];
    for (seed, device) in devices.into_iter().enumerate() {
        let deterministic = seed == 1;
        let mut random = Random(seed as u64 + 99);
        let mut d = Driver::new(device);
        d.start(!0);
        let mut stops = 0;
        for step in 0..60_000u64 {
            mischief(&mut d, &mut random);
            if step % 64 == 63 {
                if random.below(2) == 0 {
                    // Sometimes the worker gets its turn, sometimes the reset overtakes it.
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
                stops += u32::from(d.status() & status::NEEDS_RESET != 0);
                d.function.config_write(4, 2, 6);
                d.size = 16;
                d.start(if random.below(2) == 0 { !0 } else { feature::VERSION_1 });
            }
        }
        assert!(stops > 50 || !deterministic, "the garbage is good enough: {stops}");
        d.bus.reset();
        assert_eq!(d.status(), 0);
    }
}

/// One step of a driver that means no good.
fn mischief(d: &mut Driver, random: &mut Random) {
    let queue = random.below(d.read(0x12, 2)) as u16;
    let slots = u64::from(d.size);
    match random.below(16) {
        0..=5 => {
            let near = random.below(8) != 0;
            let address = if near { random.below(1 << 20) } else { random.next() };
            let kinds = if random.below(4) == 0 { 8 } else { 4 };
            let flags = random.below(kinds) as u16;
            let len = if near { random.below(0x800) as u32 } else { random.next() as u32 };
            let (index, next) = (random.below(slots) as u16, random.below(slots) as u16);
            d.descriptor(Driver::base(queue), index, address, len, flags, next);
        }
        6..=8 => {
            let head = random.below(slots) as u16;
            d.publish(queue, head);
            d.ring(queue);
        }
        9 => d.write(0x3000 + random.below(64), 4, random.next()),
        10 => d.write(random.below(0x40) & !1, 2, random.next()),
        11 => d.write(random.below(0x3000), 1 << random.below(4), random.next()),
        12 => drop(d.read(random.below(0x4000 - 8), 1 << random.below(4))),
        13 => d.function.config_write(random.below(256) as u16, 4, random.next() as u32),
        14 => d.ram.put(Driver::base(queue) + random.below(0x3800), &random.next().to_le_bytes()),
        _ => d.function.bar_write(1, random.below(0x1000) & !7, 8, random.next()),
    }
}
