//! A virtio device as a PCI function (virtio 1.2, section 4.1).
//!
//! BAR 1 (memory, 32 bits) holds the MSI-X table. BAR 4 (memory, 64 bits) holds the structures, a page each:
//!
//! | offset | structure |
//! |---|---|
//! | 0x0000 | common configuration |
//! | 0x1000 | ISR status |
//! | 0x2000 | device-specific configuration |
//! | 0x3000 | doorbells, 4 bytes for each queue |

use super::VirtioDevice;
use super::registers;
use super::transport::{Transport, TransportState};
use crate::pci::{Bar, BarKind, ConfigSpace, Ids, Msix, PciFunction, PciHeader};
use emu_core::bus::Dma;
use std::sync::Arc;

/// Vendor of all virtio functions.
const VENDOR: u16 = 0x1af4;
/// Device ID of virtio device type 0 (4.1.2.1).
const DEVICE_BASE: u16 = 0x1040;

const MSIX_BAR: u8 = 1;
const BAR: u8 = 4;
const PAGE: u64 = 0x1000;
const COMMON: u64 = 0;
const ISR: u64 = 1;
const DEVICE: u64 = 2;
const NOTIFY: u64 = 3;
/// Bytes from one queue's doorbell to the next.
const NOTIFY_MULTIPLIER: u32 = 4;

/// Vendor-specific capability.
const CAPABILITY: u8 = 0x09;
/// Values of `cfg_type` (4.1.4).
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// The PCI function in front of a virtio device.
#[derive(Debug)]
pub struct VirtioPci {
    header: Arc<PciHeader>,
    transport: Arc<Transport>,
    device: Arc<dyn VirtioDevice>,
    /// Offset of the capability that reaches BARs through configuration space.
    window: u8,
}

/// Body of a virtio capability after its first two bytes.
fn capability(kind: u8, page: u64, length: u64) -> [u8; 14] {
    let mut body = [0; 14];
    body[0] = 16;
    body[1] = kind;
    body[2] = BAR;
    body[6..10].copy_from_slice(&((page * PAGE) as u32).to_le_bytes());
    body[10..].copy_from_slice(&(length as u32).to_le_bytes());
    body
}

impl VirtioPci {
    /// Puts `device` behind PCI. Its rings are reached through `dma`.
    pub fn new(device: Arc<dyn VirtioDevice>, dma: Arc<dyn Dma>) -> Arc<Self> {
        let kind = device.kind();
        let id = DEVICE_BASE + kind.id;
        let queues = device.queue_sizes().len() as u16;
        let mut config = ConfigSpace::new(&Ids {
            vendor: VENDOR,
            device: id,
            revision: 1,
            class: kind.class,
            subsystem_vendor: VENDOR,
            subsystem: id,
        });
        config.set_interrupt_pin(1);
        config.add_bar(MSIX_BAR, Bar { kind: BarKind::Mem32, size: Msix::bar_size(queues + 1) });
        config.add_bar(BAR, Bar { kind: BarKind::Mem64, size: 4 * PAGE });
        let msix = Msix::add(&mut config, MSIX_BAR, queues + 1);
        config.add_capability(CAPABILITY, &capability(COMMON_CFG, COMMON, registers::SIZE), &[]);
        config.add_capability(CAPABILITY, &capability(ISR_CFG, ISR, 1), &[]);
        if device.config_len() != 0 {
            let length = u64::from(device.config_len()).next_multiple_of(4);
            config.add_capability(CAPABILITY, &capability(DEVICE_CFG, DEVICE, length), &[]);
        }
        let length = u64::from(queues) * u64::from(NOTIFY_MULTIPLIER);
        let mut notify = [0; 18];
        notify[..14].copy_from_slice(&capability(NOTIFY_CFG, NOTIFY, length));
        notify[0] = 20;
        notify[14..].copy_from_slice(&NOTIFY_MULTIPLIER.to_le_bytes());
        config.add_capability(CAPABILITY, &notify, &[]);
        let mut window = [0; 18];
        window[..2].copy_from_slice(&[20, PCI_CFG]);
        let mut mask = [0; 18];
        mask[2] = 0xff; // bar
        mask[6..14].fill(0xff); // offset, length
        let window = config.add_capability(CAPABILITY, &window, &mask);

        let header = Arc::new(PciHeader::with_interrupts(config, None, Some(msix)));
        let transport = Transport::new(Arc::clone(&header), dma, &device);
        device.attach(Arc::clone(&transport));
        Arc::new(Self { header, transport, device, window })
    }

    /// The device's registers and queues.
    pub fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    /// Stops the device between requests, for [`VirtioPci::save`] and [`VirtioPci::restore`].
    pub fn pause(&self) {
        self.transport.pause();
    }

    /// Lets the device go on.
    pub fn resume(&self) {
        self.transport.resume();
    }

    /// The transport's state, while paused. The header is saved with its bus, the device type by its owner.
    pub fn save(&self) -> TransportState {
        self.transport.save()
    }

    /// Takes a snapshot's state, while paused.
    pub fn restore(&self, state: &TransportState) {
        self.transport.restore(state);
    }

    /// The access that the PCI configuration access capability describes now (4.1.4.9), if it is a proper one.
    fn windowed(&self) -> Option<(u8, u64, u8)> {
        let at = u16::from(self.window);
        let bar = self.header.read(at + 4, 1) as u8;
        let offset = u64::from(self.header.read(at + 8, 4));
        let length = self.header.read(at + 12, 4);
        let size = self.header.bar(bar)?.size;
        let proper = matches!(length, 1 | 2 | 4) && offset % u64::from(length) == 0;
        (proper && offset + u64::from(length) <= size).then_some((bar, offset, length as u8))
    }

    /// Whether an access reaches `pci_cfg_data`.
    fn is_window_data(&self, offset: u16, size: u8) -> bool {
        let data = u16::from(self.window) + 16;
        offset < data + 4 && offset + u16::from(size) > data
    }

    fn device_config_read(&self, offset: u64, size: u8) -> u64 {
        let length = u64::from(self.device.config_len());
        let mut bytes = [0; 8];
        if offset < length {
            let count = (length - offset).min(size.into()) as usize;
            self.device.config_read(offset as u32, &mut bytes[..count]);
        }
        u64::from_le_bytes(bytes)
    }

    fn device_config_write(&self, offset: u64, size: u8, value: u64) {
        if offset + u64::from(size) <= self.device.config_len().into() {
            let features = self.transport.control().features;
            self.device.config_write(offset as u32, &value.to_le_bytes()[..size.into()], features);
        }
    }
}

impl PciFunction for VirtioPci {
    fn header(&self) -> &PciHeader {
        &self.header
    }

    fn config_read(&self, offset: u16, size: u8) -> u32 {
        if self.is_window_data(offset, size)
            && let Some((bar, at, length)) = self.windowed()
        {
            let data = self.bar_read(bar, at, length) as u32;
            self.header.set_config_dword(self.window + 16, data);
        }
        self.header.read(offset, size)
    }

    fn config_write(&self, offset: u16, size: u8, value: u32) {
        let mastering = self.header.bus_master();
        self.header.write(offset, size, value);
        if offset == u16::from(self.window) + 16
            && let Some((bar, at, length)) = self.windowed()
        {
            self.bar_write(bar, at, length, value.into());
        }
        if !mastering && self.header.bus_master() {
            self.transport.kick_all();
        }
    }

    fn bar_read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        match (bar, offset / PAGE) {
            (MSIX_BAR, _) => self.header.msix_read(offset, size),
            (BAR, COMMON) => self.transport.common_read(offset, size),
            (BAR, ISR) if offset.is_multiple_of(PAGE) => self.transport.take_isr().into(),
            (BAR, DEVICE) => self.device_config_read(offset % PAGE, size),
            _ => 0,
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        match (bar, offset / PAGE) {
            (MSIX_BAR, _) => self.header.msix_write(offset, size, value),
            (BAR, COMMON) => self.transport.common_write(offset, size, value),
            (BAR, DEVICE) => self.device_config_write(offset % PAGE, size, value),
            (BAR, NOTIFY) => {
                let queue = offset % PAGE / u64::from(NOTIFY_MULTIPLIER);
                self.transport.doorbell(queue as u16);
            }
            _ => {}
        }
    }

    fn reset(&self) {
        self.transport.reset_and_wait();
    }
}
