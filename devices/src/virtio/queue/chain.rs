//! Descriptor chains (virtio 1.2, sections 2.7.5 and 2.7.5.3), read once and checked while read.

use super::RingError;
use emu_core::addr::PhysAddr;
use emu_core::bus::Dma;

/// Most descriptors in one indirect table. A table in the ring is bounded by the size of the queue.
pub const MAX_CHAIN: u32 = 1024;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: u64 = 16;

/// A piece of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts. Whether it is RAM shows when it is used.
    pub address: PhysAddr,
    /// Its length in bytes, not 0.
    pub len: u32,
}

/// A request: what the device reads, then what it fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    readable_len: u64,
    writable_len: u64,
}

/// A table of descriptors in guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub address: u64,
    pub len: u16,
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn parse(bytes: &[u8; 16]) -> Self {
        let field = |at: usize, len: usize| {
            bytes[at..at + len].iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte))
        };
        Self {
            address: field(0, 8),
            len: field(8, 4) as u32,
            flags: field(12, 2) as u16,
            next: field(14, 2) as u16,
        }
    }
}

impl Chain {
    /// Follows the chain that starts at `head`. Takes at most one step for each descriptor of a table, so loops end.
    pub(super) fn walk(dma: &dyn Dma, table: Table, head: u16, indirect: bool) -> Result<Self, RingError> {
        let mut chain =
            Self { head, readable: Vec::new(), writable: Vec::new(), readable_len: 0, writable_len: 0 };
        let mut index = head;
        for _ in 0..table.len {
            if index >= table.len {
                return Err(RingError::Descriptor(index));
            }
            let address = PhysAddr(table.address + DESCRIPTOR * u64::from(index));
            let mut bytes = [0; 16];
            if !dma.dma_read(address, &mut bytes) {
                return Err(RingError::NotRam(address));
            }
            let descriptor = Descriptor::parse(&bytes);
            if descriptor.flags & INDIRECT != 0 {
                if !indirect || descriptor.flags & NEXT != 0 {
                    return Err(RingError::Indirect(descriptor.len));
                }
                chain.walk_indirect(dma, &descriptor)?;
                return Ok(chain);
            }
            chain.add(&descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
        }
        Err(RingError::Endless)
    }

    /// The table is copied first, so what is checked is what is used.
    fn walk_indirect(&mut self, dma: &dyn Dma, table: &Descriptor) -> Result<(), RingError> {
        let count = table.len / DESCRIPTOR as u32;
        if count == 0 || count > MAX_CHAIN || !table.len.is_multiple_of(DESCRIPTOR as u32) {
            return Err(RingError::Indirect(table.len));
        }
        let mut bytes = vec![0; table.len as usize];
        if !dma.dma_read(PhysAddr(table.address), &mut bytes) {
            return Err(RingError::NotRam(PhysAddr(table.address)));
        }
        let (descriptors, _) = bytes.as_chunks::<16>();
        let mut index = 0u16;
        for _ in 0..count {
            let bytes = descriptors.get(usize::from(index)).ok_or(RingError::Descriptor(index))?;
            let descriptor = Descriptor::parse(bytes);
            if descriptor.flags & INDIRECT != 0 {
                return Err(RingError::Indirect(descriptor.len));
            }
            self.add(&descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(RingError::Endless)
    }

    fn add(&mut self, descriptor: &Descriptor) -> Result<(), RingError> {
        let address = PhysAddr(descriptor.address);
        if descriptor.address.checked_add(descriptor.len.into()).is_none() {
            return Err(RingError::NotRam(address));
        }
        let (list, total) = if descriptor.flags & WRITE != 0 {
            (&mut self.writable, &mut self.writable_len)
        } else if self.writable_len == 0 {
            (&mut self.readable, &mut self.readable_len)
        } else {
            return Err(RingError::Order);
        };
        if descriptor.len != 0 {
            *total += u64::from(descriptor.len);
            list.push(Segment { address, len: descriptor.len });
        }
        if self.readable_len + self.writable_len > 1 << 32 { Err(RingError::Length) } else { Ok(()) }
    }

    /// The descriptor that names the chain in the used ring.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the device may read, in order.
    pub fn readable(&self) -> &[Segment] {
        &self.readable
    }

    /// What the device may write, in order.
    pub fn writable(&self) -> &[Segment] {
        &self.writable
    }

    /// Bytes the device may read.
    pub fn readable_len(&self) -> u64 {
        self.readable_len
    }

    /// Bytes the device may write.
    pub fn writable_len(&self) -> u64 {
        self.writable_len
    }

    /// The parts of `segments` that hold bytes `at..at + len`, each with its place in that range.
    fn parts(
        segments: &[Segment],
        at: u64,
        len: usize,
    ) -> impl Iterator<Item = (PhysAddr, std::ops::Range<usize>)> {
        let end = at.saturating_add(len as u64);
        let mut start = 0u64;
        segments.iter().filter_map(move |segment| {
            let (from, to) = (start, start + u64::from(segment.len));
            start = to;
            let (low, high) = (from.max(at), to.min(end));
            (low < high).then(|| {
                (segment.address.wrapping_add(low - from), (low - at) as usize..(high - at) as usize)
            })
        })
    }

    /// Reads the readable part from byte `at` on. Bytes past its end are left alone; callers check lengths.
    pub fn read(&self, dma: &dyn Dma, at: u64, buf: &mut [u8]) -> Result<(), RingError> {
        for (address, range) in Self::parts(&self.readable, at, buf.len()) {
            if !dma.dma_read(address, &mut buf[range]) {
                return Err(RingError::NotRam(address));
            }
        }
        Ok(())
    }

    /// Writes the writable part from byte `at` on. Bytes past its end are dropped; callers check lengths.
    pub fn write(&self, dma: &dyn Dma, at: u64, buf: &[u8]) -> Result<(), RingError> {
        for (address, range) in Self::parts(&self.writable, at, buf.len()) {
            if !dma.dma_write(address, &buf[range]) {
                return Err(RingError::NotRam(address));
            }
        }
        Ok(())
    }
}
