//! The other side of the ring: guest memory and a driver that does what Linux's does, or worse.

use super::*;
use crate::pci::PciFunction;
use crate::pci::testing::{Bench, Messages, Wire};
use crate::pci::{DevFn, PciBus};
use emu_core::addr::PhysAddr;
use emu_core::bus::Dma;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Guest RAM from address 0 on.
#[derive(Debug)]
pub(crate) struct Ram(Mutex<Vec<u8>>);

impl Ram {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![0; len])))
    }
    fn with<T>(&self, at: u64, len: usize, f: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let mut ram = self.0.lock().unwrap();
        let end = at.checked_add(len as u64).filter(|&end| end <= ram.len() as u64)?;
        Some(f(&mut ram[at as usize..end as usize]))
    }
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        assert!(self.dma_write(PhysAddr(at), bytes));
    }
    pub(crate) fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        assert!(self.dma_read(PhysAddr(at), &mut bytes));
        bytes
    }
    pub(crate) fn u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.get(at))
    }
}

impl Dma for Ram {
    fn dma_read(&self, addr: PhysAddr, buf: &mut [u8]) -> bool {
        self.with(addr.0, buf.len(), |bytes| buf.copy_from_slice(bytes)).is_some()
    }
    fn dma_write(&self, addr: PhysAddr, buf: &[u8]) -> bool {
        self.with(addr.0, buf.len(), |bytes| bytes.copy_from_slice(buf)).is_some()
    }
}

/// xorshift: tests are the same on every run.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Bytes of a queue's parts in [`Driver`]'s layout: table, available ring, used ring.
const QUEUE_BASE: u64 = 0x1000;
const QUEUE_STRIDE: u64 = 0x4000;
pub(crate) const AVAIL: u64 = 0x2000;
pub(crate) const USED: u64 = 0x3000;

/// A driver of one device.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) function: Arc<VirtioPci>,
    pub(crate) ram: Arc<Ram>,
    pub(crate) size: u16,
    pub(crate) bus: Arc<PciBus>,
    pub(crate) messages: Arc<Messages>,
    pub(crate) wire: Arc<Wire>,
    next: Vec<u16>,
}

const BAR: u8 = 4;

impl Driver {
    /// Plugs the device into slot 0 of a bus with bus mastering on.
    pub(crate) fn new(device: Arc<dyn VirtioDevice>) -> Self {
        let bench = Bench::new();
        let ram = Ram::new(1 << 20);
        let queues = device.queue_sizes().len();
        let function = VirtioPci::new(device, ram.clone());
        bench.bus.attach(DevFn::new(0, 0), function.clone()).unwrap();
        function.config_write(4, 2, 6);
        let wire = Arc::clone(&bench.gsi[0]);
        Self {
            function,
            ram,
            size: 16,
            bus: bench.bus,
            messages: bench.messages,
            wire,
            next: vec![0; queues],
        }
    }

    pub(crate) fn read(&self, offset: u64, size: u8) -> u64 {
        self.function.bar_read(BAR, offset, size)
    }
    pub(crate) fn write(&self, offset: u64, size: u8, value: u64) {
        self.function.bar_write(BAR, offset, size, value);
    }
    pub(crate) fn status(&self) -> u8 {
        self.read(0x14, 1) as u8
    }
    pub(crate) fn set_status(&self, status: u8) {
        self.write(0x14, 1, status.into());
    }
    pub(crate) fn base(queue: u16) -> u64 {
        QUEUE_BASE + QUEUE_STRIDE * u64::from(queue)
    }

    pub(crate) fn wait(what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(20), "timeout: {what}");
            std::thread::yield_now();
        }
    }

    /// Everything up to and with DRIVER_OK; the offered features within `wanted` are taken.
    pub(crate) fn start(&mut self, wanted: u64) -> u64 {
        self.set_status(0);
        Self::wait("reset", || self.status() == 0);
        self.set_status(status::ACKNOWLEDGE | status::DRIVER);
        let mut features = 0;
        for half in 0..2 {
            self.write(0, 4, half);
            features |= self.read(4, 4) << (32 * half);
        }
        features &= wanted | feature::VERSION_1;
        for half in 0..2 {
            self.write(8, 4, half);
            self.write(0xc, 4, features >> (32 * half));
        }
        self.set_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        assert_ne!(self.status() & status::FEATURES_OK, 0);
        let queues = self.read(0x12, 2) as u16;
        for queue in 0..queues {
            self.set_up(queue);
        }
        self.set_status(0xf);
        features
    }

    pub(crate) fn set_up(&mut self, queue: u16) {
        let base = Self::base(queue);
        self.ram.put(base, &[0; QUEUE_STRIDE as usize]);
        self.write(0x16, 2, queue.into());
        self.size = self.size.min(self.read(0x18, 2) as u16);
        self.write(0x18, 2, self.size.into());
        for (register, address) in [(0x20, base), (0x28, base + AVAIL), (0x30, base + USED)] {
            self.write(register, 4, address);
            self.write(register + 4, 4, 0);
        }
        self.write(0x1c, 2, 1);
        assert_eq!(self.read(0x1c, 2), 1);
        self.next[usize::from(queue)] = 0;
    }

    pub(crate) fn descriptor(&self, table: u64, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.ram.put(table + 16 * u64::from(index), &bytes);
    }

    /// Writes a chain of (address, length, writable) into a table, starting at descriptor `head`.
    pub(crate) fn chain(&self, table: u64, head: u16, parts: &[(u64, u32, bool)]) {
        for (i, &(address, len, writable)) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let index = head + i as u16;
            let flags = u16::from(!last) | u16::from(writable) << 1;
            self.descriptor(table, index, address, len, flags, index + 1);
        }
    }

    /// Makes `head` available without ringing.
    pub(crate) fn publish(&mut self, queue: u16, head: u16) {
        let base = Self::base(queue);
        let next = &mut self.next[usize::from(queue)];
        self.ram.put(base + AVAIL + 4 + 2 * u64::from(*next % self.size), &head.to_le_bytes());
        *next = next.wrapping_add(1);
        self.ram.put(base + AVAIL + 2, &next.to_le_bytes());
    }

    pub(crate) fn ring(&self, queue: u16) {
        self.write(0x3000 + 4 * u64::from(queue), 2, queue.into());
    }

    pub(crate) fn used_index(&self, queue: u16) -> u16 {
        self.ram.u16(Self::base(queue) + USED + 2)
    }

    /// The last used element: head and length.
    pub(crate) fn last_used(&self, queue: u16) -> (u32, u32) {
        let slot = u64::from(self.used_index(queue).wrapping_sub(1) % self.size);
        let at = Self::base(queue) + USED + 4 + 8 * slot;
        (u32::from_le_bytes(self.ram.get(at)), u32::from_le_bytes(self.ram.get(at + 4)))
    }

    /// Sends one chain at descriptor 0 and waits for it; returns the used length.
    pub(crate) fn submit(&mut self, queue: u16, parts: &[(u64, u32, bool)]) -> u32 {
        self.chain(Self::base(queue), 0, parts);
        self.publish(queue, 0);
        self.ring(queue);
        let want = self.next[usize::from(queue)];
        Self::wait("request", || self.used_index(queue) == want);
        self.last_used(queue).1
    }
}
