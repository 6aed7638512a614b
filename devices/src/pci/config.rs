//! The 256 bytes of configuration space with a type 0 header (PCI 3.0, section 6.1), as bytes and a write mask.
//!
//! BAR sizing (section 6.2.5.1) needs no code of its own: the mask of a BAR clears the bits below its size, so writing
//! all ones reads back as the size.

/// Size of conventional configuration space in bytes.
pub const CONFIG_SIZE: usize = 256;

/// Offsets of header registers (PCI 3.0, figure 6-1).
pub mod reg {
    /// Vendor ID, 16 bits; the device ID follows.
    pub const VENDOR: u8 = 0x00;
    /// Command register, 16 bits.
    pub const COMMAND: u8 = 0x04;
    /// Status register, 16 bits.
    pub const STATUS: u8 = 0x06;
    /// Revision, with the class code above it.
    pub const REVISION: u8 = 0x08;
    /// Cache line size.
    pub const CACHE_LINE: u8 = 0x0c;
    /// Header type; bit 7 marks a multi-function device.
    pub const HEADER_TYPE: u8 = 0x0e;
    /// The first of six base address registers.
    pub const BAR0: u8 = 0x10;
    /// Subsystem vendor ID; the subsystem ID follows.
    pub const SUBSYSTEM: u8 = 0x2c;
    /// Offset of the first capability.
    pub const CAPABILITIES: u8 = 0x34;
    /// Interrupt line: written by firmware, read by drivers, without effect.
    pub const INTERRUPT_LINE: u8 = 0x3c;
    /// Interrupt pin: 0 for none, 1 to 4 for INTA# to INTD#.
    pub const INTERRUPT_PIN: u8 = 0x3d;
}

/// Bits of the command register (PCI 3.0, section 6.2.2).
pub mod command {
    /// Decode I/O BARs.
    pub const IO: u16 = 1 << 0;
    /// Decode memory BARs.
    pub const MEMORY: u16 = 1 << 1;
    /// Allow DMA and messages.
    pub const MASTER: u16 = 1 << 2;
    /// Keep INTx silent.
    pub const INTX_DISABLE: u16 = 1 << 10;
    /// The bits software may change: those above, parity and SERR enable, which have no effect.
    pub const WRITABLE: u16 = IO | MEMORY | MASTER | 1 << 6 | 1 << 8 | INTX_DISABLE;
}

/// Status register: an INTx interrupt is asserted inside the function.
const STATUS_INTERRUPT: u8 = 1 << 3;
/// Status register: the capabilities pointer is valid.
const STATUS_CAPABILITIES: u8 = 1 << 4;

/// What identifies a function.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Base class, subclass and programming interface, as in 0x010000.
    pub class: u32,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
}

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Mem32,
    /// Memory anywhere, marked prefetchable; takes this BAR and the next.
    Mem64,
}

/// One base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What it decodes.
    pub kind: BarKind,
    /// Bytes, a power of two: at least 4 for ports, 16 for memory.
    pub size: u64,
}

/// Configuration bytes, what of them may be written, and the BARs.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; CONFIG_SIZE],
    writable: [u8; CONFIG_SIZE],
    initial: [u8; CONFIG_SIZE],
    bars: [Option<Bar>; 6],
    last_capability: u8,
    free: u8,
}

impl ConfigSpace {
    /// A type 0 header without BARs, capabilities or interrupt pin.
    pub fn new(ids: &Ids) -> Self {
        let mut space = Self {
            bytes: [0; CONFIG_SIZE],
            writable: [0; CONFIG_SIZE],
            initial: [0; CONFIG_SIZE],
            bars: [None; 6],
            last_capability: reg::CAPABILITIES,
            free: 0x40,
        };
        space.define(reg::VENDOR, &ids.vendor.to_le_bytes(), &[]);
        space.define(reg::VENDOR + 2, &ids.device.to_le_bytes(), &[]);
        space.define(reg::REVISION, &(ids.class << 8 | u32::from(ids.revision)).to_le_bytes(), &[]);
        space.define(reg::SUBSYSTEM, &ids.subsystem_vendor.to_le_bytes(), &[]);
        space.define(reg::SUBSYSTEM + 2, &ids.subsystem.to_le_bytes(), &[]);
        space.define(reg::COMMAND, &[0, 0], &command::WRITABLE.to_le_bytes());
        space.define(reg::CACHE_LINE, &[0, 0], &[0xff, 0xff]);
        space.define(reg::INTERRUPT_LINE, &[0xff], &[0xff]);
        space
    }

    /// Sets the power-on value of bytes and which of their bits software may change (bytes past `mask`: none).
    /// For the constructors of functions.
    pub fn define(&mut self, offset: u8, value: &[u8], mask: &[u8]) {
        for (i, &byte) in value.iter().enumerate() {
            let at = usize::from(offset) + i;
            self.bytes[at] = byte;
            self.initial[at] = byte;
            self.writable[at] = mask.get(i).copied().unwrap_or(0);
        }
    }

    /// Adds BAR number `index`.
    ///
    /// # Panics
    /// If the size is not a power of two of the least size for its kind, or the BAR (or its upper half) is taken.
    pub fn add_bar(&mut self, index: u8, bar: Bar) {
        let at = usize::from(index);
        let (flags, least) = match bar.kind {
            BarKind::Io => (0b1, 4),
            BarKind::Mem32 => (0b0, 16),
            BarKind::Mem64 => (0b1100, 16),
        };
        assert!(bar.size.is_power_of_two() && bar.size >= least, "size of BAR {index}: {:#x}", bar.size);
        assert!(bar.size <= 1 << 31 || bar.kind == BarKind::Mem64, "size of BAR {index}: {:#x}", bar.size);
        let taken = self.bars[at].is_some() || at > 0 && self.is_upper_half(at);
        assert!(!taken && (bar.kind != BarKind::Mem64 || at < 5), "BAR {index} is taken");
        self.bars[at] = Some(bar);
        let mask = !(bar.size - 1);
        let offset = reg::BAR0 + 4 * index;
        self.define(offset, &u32::to_le_bytes(flags), &(mask as u32).to_le_bytes());
        if bar.kind == BarKind::Mem64 {
            assert!(self.bars[at + 1].is_none(), "BAR {} is taken", index + 1);
            self.define(offset + 4, &[0; 4], &((mask >> 32) as u32).to_le_bytes());
        }
    }

    fn is_upper_half(&self, index: usize) -> bool {
        matches!(self.bars[index - 1], Some(Bar { kind: BarKind::Mem64, .. }))
    }

    /// Appends a capability (section 6.7): `body` follows the ID and the pointer to the next. Returns its offset.
    ///
    /// # Panics
    /// If configuration space is full.
    pub fn add_capability(&mut self, id: u8, body: &[u8], mask: &[u8]) -> u8 {
        let offset = self.free;
        let end = usize::from(offset) + 2 + body.len();
        assert!(end <= CONFIG_SIZE - 4, "no room for capability {id:#x}");
        self.define(offset, &[id, 0], &[]);
        self.define(offset + 2, body, mask);
        let link = self.last_capability + u8::from(self.last_capability != reg::CAPABILITIES);
        self.define(link, &[offset], &[]);
        self.last_capability = offset;
        self.free = end.next_multiple_of(4) as u8;
        let status = self.bytes[usize::from(reg::STATUS)] | STATUS_CAPABILITIES;
        self.define(reg::STATUS, &[status], &[]);
        offset
    }

    /// Gives the function an interrupt pin (1 to 4).
    pub fn set_interrupt_pin(&mut self, pin: u8) {
        self.define(reg::INTERRUPT_PIN, &[pin], &[]);
    }

    /// Marks the device as having several functions.
    pub fn set_multi_function(&mut self) {
        self.define(reg::HEADER_TYPE, &[0x80], &[]);
    }

    /// BAR number `index`, if there is one.
    pub fn bar(&self, index: u8) -> Option<Bar> {
        self.bars.get(usize::from(index)).copied().flatten()
    }

    /// The address in BAR number `index`, whether decoded or not.
    pub fn bar_address(&self, index: u8) -> u64 {
        let offset = reg::BAR0 + 4 * index;
        match self.bar(index).map(|b| b.kind) {
            None => 0,
            Some(BarKind::Io) => u64::from(self.dword(offset) & !0b11),
            Some(BarKind::Mem32) => u64::from(self.dword(offset) & !0b1111),
            Some(BarKind::Mem64) => {
                u64::from(self.dword(offset) & !0b1111) | u64::from(self.dword(offset + 4)) << 32
            }
        }
    }

    /// Reads 1 to 4 bytes; what lies past the end reads as all ones.
    pub fn read(&self, offset: u16, size: u8) -> u32 {
        (0..size.min(4)).rev().fold(0, |value, i| {
            let byte = self.bytes.get(usize::from(offset) + usize::from(i)).copied().unwrap_or(0xff);
            value << 8 | u32::from(byte)
        })
    }

    /// Writes 1 to 4 bytes as software does: through the write mask.
    pub fn write(&mut self, offset: u16, size: u8, value: u32) {
        for i in 0..size.min(4) {
            let at = usize::from(offset) + usize::from(i);
            if at < CONFIG_SIZE {
                let mask = self.writable[at];
                self.bytes[at] = self.bytes[at] & !mask | (value >> (8 * i)) as u8 & mask;
            }
        }
    }

    /// Reads an aligned double word.
    pub fn dword(&self, offset: u8) -> u32 {
        self.read(offset.into(), 4)
    }

    /// Reads a word.
    pub fn word(&self, offset: u8) -> u16 {
        self.read(offset.into(), 2) as u16
    }

    /// Changes a double word as the function itself does, past the write mask.
    pub fn set_dword(&mut self, offset: u8, value: u32) {
        self.bytes[usize::from(offset)..][..4].copy_from_slice(&value.to_le_bytes());
    }

    /// Shows or hides the interrupt status bit.
    pub fn set_interrupt_status(&mut self, pending: bool) {
        let status = &mut self.bytes[usize::from(reg::STATUS)];
        *status = *status & !STATUS_INTERRUPT | if pending { STATUS_INTERRUPT } else { 0 };
    }

    /// All bytes, for a snapshot.
    pub fn bytes(&self) -> &[u8; CONFIG_SIZE] {
        &self.bytes
    }

    /// Takes the writable bits of `bytes` and power-on values elsewhere, so that no snapshot can forge a header.
    pub fn restore(&mut self, bytes: &[u8]) {
        self.reset();
        for (at, &byte) in bytes.iter().enumerate().take(CONFIG_SIZE) {
            self.bytes[at] = self.initial[at] & !self.writable[at] | byte & self.writable[at];
        }
    }

    /// Back to power-on values.
    pub fn reset(&mut self) {
        self.bytes = self.initial;
    }
}
