//! The board's address decoding: which device answers a port or a physical address.

use devices::pci::PciBus;
use emu_core::addr::PhysAddr;
use emu_core::bus::{MmioDevice, PortDevice, SystemBus};
use std::sync::Arc;

#[derive(Debug)]
struct Range<D: ?Sized> {
    first: u64,
    len: u64,
    device: Arc<D>,
}

/// Ranges sorted by first address, none overlapping.
#[derive(Debug)]
struct Map<D: ?Sized>(Vec<Range<D>>);

impl<D: ?Sized> Map<D> {
    fn add(&mut self, first: u64, len: u64, device: Arc<D>) {
        let at = self.0.partition_point(|r| r.first < first);
        let free = self.0.get(at).is_none_or(|next| first + len <= next.first)
            && (at == 0 || self.0[at - 1].first + self.0[at - 1].len <= first);
        assert!(free, "two devices at {first:#x}: a bug of the board");
        self.0.insert(at, Range { first, len, device });
    }

    fn find(&self, addr: u64) -> Option<(&D, u64)> {
        let at = self.0.partition_point(|r| r.first <= addr).checked_sub(1)?;
        let r = &self.0[at];
        (addr - r.first < r.len).then(|| (&*r.device, addr - r.first))
    }
}

/// Every fixed port and MMIO range, then PCI's, which move.
#[derive(Debug)]
pub struct BoardBus {
    ports: Map<dyn PortDevice>,
    mmio: Map<dyn MmioDevice>,
    pci: Arc<PciBus>,
}

impl BoardBus {
    /// A bus with PCI and nothing else.
    pub fn new(pci: Arc<PciBus>) -> Self {
        Self { ports: Map(Vec::new()), mmio: Map(Vec::new()), pci }
    }

    /// Attaches `len` ports from `first` on.
    ///
    /// # Panics
    /// When a device is there already: a bug of the board.
    pub fn add_ports(&mut self, first: u16, len: u16, device: Arc<dyn PortDevice>) {
        self.ports.add(first.into(), len.into(), device);
    }

    /// Attaches `len` bytes of physical address space from `first` on.
    ///
    /// # Panics
    /// When a device is there already: a bug of the board.
    pub fn add_mmio(&mut self, first: u64, len: u64, device: Arc<dyn MmioDevice>) {
        self.mmio.add(first, len, device);
    }
}

impl SystemBus for BoardBus {
    fn port_read(&self, port: u16, size: u8) -> u32 {
        match self.ports.find(port.into()) {
            Some((device, offset)) => device.port_read(offset as u16, size),
            None => self.pci.try_port_read(port, size).unwrap_or(u32::MAX >> (32 - 8 * u32::from(size))),
        }
    }

    fn port_write(&self, port: u16, size: u8, value: u32) {
        match self.ports.find(port.into()) {
            Some((device, offset)) => device.port_write(offset as u16, size, value),
            None => {
                self.pci.try_port_write(port, size, value);
            }
        }
    }

    fn mmio_read(&self, addr: PhysAddr, size: u8) -> u64 {
        match self.mmio.find(addr.0) {
            Some((device, offset)) => device.mmio_read(offset, size),
            None => self.pci.try_mmio_read(addr.0, size).unwrap_or(u64::MAX >> (64 - 8 * u32::from(size))),
        }
    }

    fn mmio_write(&self, addr: PhysAddr, size: u8, value: u64) {
        match self.mmio.find(addr.0) {
            Some((device, offset)) => device.mmio_write(offset, size, value),
            None => {
                self.pci.try_mmio_write(addr.0, size, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_any_of_their_addresses() {
        let mut map: Map<u8> = Map(Vec::new());
        map.add(0x60, 1, Arc::new(1));
        map.add(0x64, 4, Arc::new(2));
        map.add(0x20, 2, Arc::new(3));
        let at = |a| map.find(a).map(|(d, o)| (*d, o));
        assert_eq!(at(0x60), Some((1, 0)));
        assert_eq!(at(0x61), None);
        assert_eq!(at(0x67), Some((2, 3)));
        assert_eq!(at(0x68), None);
        assert_eq!(at(0x21), Some((3, 1)));
        assert_eq!(at(0), None);
    }

    #[test]
    #[should_panic(expected = "two devices")]
    fn overlaps_are_bugs() {
        let mut map: Map<u8> = Map(Vec::new());
        map.add(0x60, 4, Arc::new(1));
        map.add(0x63, 1, Arc::new(2));
    }
}
