//! Requests as drivers lay them out, and what must fail.

use super::*;
use crate::virtio::feature;
use crate::virtio::testing::{Driver, Random};
use std::io;
use std::sync::atomic::AtomicUsize;

const HEADER: u64 = 0x2_0000;
const STATUS: u64 = 0x2_0100;
const DATA: u64 = 0x3_0000;

fn disk(sectors: usize) -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::new((0..sectors * 512).map(|i| (i / 512 + i % 251) as u8).collect()))
}

fn driver(backend: Arc<dyn BlockBackend>, execution: Execution) -> Driver {
    let mut driver = Driver::new(Blk::new(backend, "calque-disk-0001", execution));
    driver.start(!0);
    driver
}

/// Status byte and used length of a request.
fn run(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32, bool)]) -> (u8, u32) {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    driver.ram.put(HEADER, &header);
    driver.ram.put(STATUS, &[0xee]);
    let mut parts = vec![(HEADER, 16, false)];
    parts.extend(data);
    parts.push((STATUS, 1, true));
    let used = driver.submit(0, &parts);
    (driver.ram.get::<1>(STATUS)[0], used)
}

#[test]
fn reads_and_writes_in_any_pieces() {
    for execution in [Execution::Thread, Execution::Inline] {
        let backend = disk(64);
        let mut d = driver(backend.clone(), execution);
        let parts = [(DATA, 100, true), (DATA + 0x1000, 900, true), (DATA + 0x2000, 24, true)];
        assert_eq!(run(&mut d, 0, 3, &parts), (0, 1025));
        let disk = backend.contents();
        assert_eq!(d.ram.get::<100>(DATA), disk[3 * 512..][..100]);
        assert_eq!(d.ram.get::<900>(DATA + 0x1000), disk[3 * 512 + 100..][..900]);
        assert_eq!(d.ram.get::<24>(DATA + 0x2000), disk[3 * 512 + 1000..][..24]);

        d.ram.put(DATA, &[0x5a; 1024]);
        assert_eq!(run(&mut d, 1, 62, &[(DATA, 1, false), (DATA, 1023, false)]), (0, 1));
        assert_eq!(backend.contents()[62 * 512..], [0x5a; 1024]);
        assert_eq!(run(&mut d, 4, 0, &[]), (0, 1));
        assert_eq!(run(&mut d, 8, 0, &[(DATA, 20, true)]), (0, 21));
        assert_eq!(&d.ram.get::<20>(DATA), b"calque-disk-0001\0\0\0\0");
    }
}

#[test]
fn a_header_split_over_descriptors_and_a_status_in_the_data() {
    let backend = disk(8);
    let mut d = driver(backend.clone(), Execution::Inline);
    d.ram.put(HEADER, &[0; 16]);
    d.ram.put(DATA, &[0xee; 513]);
    let parts = [(HEADER, 3, false), (HEADER + 3, 13, false), (DATA, 513, true)];
    assert_eq!(d.submit(0, &parts), 513);
    assert_eq!(d.ram.get::<512>(DATA), backend.contents()[..512]);
    assert_eq!(d.ram.get::<1>(DATA + 512), [0]);
}

#[test]
fn what_does_not_fit_the_disk_is_an_error() {
    let mut d = driver(disk(8), Execution::Inline);
    let (ok, io, unsupported) = (0, 1, 2);
    assert_eq!(run(&mut d, 0, 7, &[(DATA, 512, true)]).0, ok);
    assert_eq!(run(&mut d, 0, 8, &[(DATA, 512, true)]), (io, 0));
    assert_eq!(run(&mut d, 0, 7, &[(DATA, 1024, true)]).0, io);
    assert_eq!(run(&mut d, 0, u64::MAX, &[(DATA, 512, true)]).0, io);
    assert_eq!(run(&mut d, 0, 1 << 55, &[(DATA, 512, true)]).0, io);
    assert_eq!(run(&mut d, 0, 0, &[(DATA, 511, true)]).0, io);
    assert_eq!(run(&mut d, 1, 8, &[(DATA, 512, false)]), (io, 1));
    assert_eq!(run(&mut d, 77, 0, &[]).0, unsupported);
    assert_eq!(d.submit(0, &[(HEADER, 16, false)]), 0, "no room for a status");
    assert_eq!(d.submit(0, &[(STATUS, 1, true)]), 1, "no header");
    assert_eq!(d.ram.get::<1>(STATUS), [io]);
    assert_eq!(d.status(), 0xf);
}

#[test]
fn discards_and_zeroes() {
    let backend = disk(32);
    let mut d = driver(backend.clone(), Execution::Inline);
    let range = |sector: u64, sectors: u32, flags: u32| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&sector.to_le_bytes());
        bytes[8..12].copy_from_slice(&sectors.to_le_bytes());
        bytes[12..].copy_from_slice(&flags.to_le_bytes());
        bytes
    };
    d.ram.put(DATA, &range(4, 2, 1));
    d.ram.put(DATA + 16, &range(10, 1, 0));
    assert_eq!(run(&mut d, 13, 0, &[(DATA, 32, false)]).0, 0);
    let contents = backend.contents();
    assert!(contents[4 * 512..6 * 512].iter().chain(&contents[10 * 512..11 * 512]).all(|&b| b == 0));
    assert_ne!(contents[6 * 512..7 * 512], [0; 512]);
    assert_eq!(run(&mut d, 11, 0, &[(DATA, 32, false)]).0, 2, "discard has no flags");
    d.ram.put(DATA, &range(4, 2, 0));
    assert_eq!(run(&mut d, 11, 0, &[(DATA, 32, false)]).0, 0);
    d.ram.put(DATA + 16, &range(31, 2, 0));
    assert_eq!(run(&mut d, 13, 0, &[(DATA, 32, false)]).0, 1);
    assert_eq!(run(&mut d, 13, 0, &[(DATA, 17, false)]).0, 1);
    assert_eq!(run(&mut d, 13, 0, &[]).0, 1);
    assert_ne!(backend.contents()[31 * 512..], [0; 512]);
}

#[test]
fn a_read_only_disk_says_so_and_refuses() {
    let mut d = driver(Arc::new(MemoryBackend::new_read_only(vec![7; 4096])), Execution::Inline);
    d.write(0, 4, 0);
    assert_eq!(d.read(4, 4) & bit::RO, bit::RO);
    assert_eq!(d.read(4, 4) & (bit::DISCARD | bit::WRITE_ZEROES), 0);
    assert_eq!(run(&mut d, 1, 0, &[(DATA, 512, false)]).0, 1);
    assert_eq!(run(&mut d, 13, 0, &[(DATA, 16, false)]).0, 2);
    assert_eq!(run(&mut d, 0, 0, &[(DATA, 512, true)]).0, 0);
}

/// Counts flushes; fails what it is told to.
#[derive(Debug, Default)]
struct Picky {
    flushes: AtomicUsize,
    broken: AtomicBool,
}

impl Picky {
    fn result(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(io::Error::other("broken")) } else { Ok(()) }
    }
}

impl BlockBackend for Picky {
    fn len(&self) -> u64 {
        1 << 20
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        self.result()
    }
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        self.result()
    }
    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.result()
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.result()
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        self.result()
    }
}

#[test]
fn flushes_when_the_cache_mode_says_so() {
    let backend = Arc::new(Picky::default());
    let flushes = || backend.flushes.load(Ordering::SeqCst);
    let mut d = driver(backend.clone(), Execution::Thread);
    assert_eq!(run(&mut d, 1, 0, &[(DATA, 512, false)]).0, 0);
    assert_eq!(flushes(), 0, "write back");
    assert_eq!(run(&mut d, 4, 0, &[]).0, 0);
    assert_eq!(flushes(), 1);
    d.write(0x2000 + u64::from(WRITEBACK), 1, 0);
    assert_eq!(d.read(0x2000 + u64::from(WRITEBACK), 1), 0);
    assert_eq!(run(&mut d, 1, 0, &[(DATA, 512, false)]).0, 0);
    assert_eq!(flushes(), 2, "write through by choice");
    d.start(feature::VERSION_1);
    assert_eq!(d.read(0x2000 + u64::from(WRITEBACK), 1), 1, "reset");
    assert_eq!(run(&mut d, 1, 0, &[(DATA, 512, false)]).0, 0);
    assert_eq!(flushes(), 3, "write through for a driver that cannot flush");
    backend.broken.store(true, Ordering::SeqCst);
    for (kind, writable) in [(0, true), (1, false), (4, false)] {
        assert_eq!(run(&mut d, kind, 0, &[(DATA, 512, writable)]).0, 1);
    }
}

#[test]
fn data_outside_ram_stops_the_device_until_reset() {
    let mut d = driver(disk(8), Execution::Inline);
    d.ram.put(HEADER, &[0; 16]);
    d.chain(Driver::base(0), 0, &[(HEADER, 16, false), (1 << 40, 512, true), (STATUS, 1, true)]);
    d.publish(0, 0);
    d.ring(0);
    assert_eq!(d.status(), 0x4f);
    assert_eq!(d.used_index(0), 0);
    assert!(d.wire.level(), "told by a configuration interrupt");
    assert_eq!(d.read(0x1000, 1), 2);
    d.start(!0);
    assert_eq!(run(&mut d, 0, 7, &[(DATA, 512, true)]).0, 0);
}

#[test]
fn a_busy_ring_completes_everything_once() {
    let backend = disk(2048);
    let mut d = driver(backend.clone(), Execution::Thread);
    let mut random = Random(11);
    let mut header = [0; 16];
    let mut done = 0u16;
    for _ in 0..200 {
        let burst = 1 + random.below(5) as u16;
        for i in 0..burst {
            let sector = random.below(2047);
            header[8..].copy_from_slice(&sector.to_le_bytes());
            let at = HEADER + 0x1000 * u64::from(i);
            d.ram.put(at, &header);
            let data = DATA + 0x1000 * u64::from(i);
            d.chain(Driver::base(0), i * 3, &[(at, 16, false), (data, 512, true), (at + 16, 1, true)]);
            d.publish(0, i * 3);
            d.ring(0);
        }
        done = done.wrapping_add(burst);
        Driver::wait("burst", || d.used_index(0) == done);
        for i in 0..burst {
            let at = HEADER + 0x1000 * u64::from(i);
            let sector = u64::from_le_bytes(d.ram.get(at + 8)) as usize;
            assert_eq!(
                d.ram.get::<512>(DATA + 0x1000 * u64::from(i)),
                backend.contents()[sector * 512..][..512]
            );
        }
    }
}
