//! The I/O APIC (82093AA datasheet 290566; version 20h with the EOI register, ICH9 datasheet 13.5), at FEC0_0000h.
//!
//! A pin's level means "asserted": the polarity bit of a redirection entry is kept but has no effect, as the boards
//! this stands for invert active-low lines in front of it.
//!
//! Messages are sent with the lock held (I/O APIC → local APIC); EOIs arrive with no local APIC's lock held.

use crate::lapic::{ApicBus, Delivery, Destination, EoiSink, Message};
use crate::lock::lock;
use emu_core::bus::{Irq, IrqLine, MmioDevice};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, Weak};

/// Number of inputs.
pub const PINS: usize = 24;
/// Where the registers are in guest-physical memory; 4 KiB are claimed.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const LOGICAL: u64 = 1 << 11;
/// What a guest may write of an entry: not the delivery status, the remote IRR, or the reserved bits.
const WRITABLE: u64 = 0xff00_0000_0001_afff;
/// Version 20h, highest entry 23.
const VERSION: u32 = 0x0017_0020;

/// The state of the I/O APIC.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct IoApicState {
    id: u8,
    select: u8,
    entries: [u64; PINS],
    /// Levels of the pins.
    lines: u32,
}

impl IoApicState {
    fn new(id: u8) -> Self {
        Self { id, select: 0, entries: [MASKED; PINS], lines: 0 }
    }

    /// Sends what `pin` requests: its edge, or its level unless that is being handled.
    fn service(&mut self, pin: usize, send: &impl Fn(Message) -> bool) {
        let entry = self.entries[pin];
        let level = entry & LEVEL != 0;
        if entry & MASKED != 0 || (level && entry & REMOTE_IRR != 0) {
            return;
        }
        let Some(delivery) = Delivery::of_bits(entry as u32) else { return };
        let destination = Destination::of_field((entry >> 56) as u8, entry & LOGICAL != 0);
        // Only fixed interrupts have an EOI that could clear the remote IRR.
        let level = level && matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        if send(Message { destination, delivery, vector: entry as u8, level }) && level {
            self.entries[pin] |= REMOTE_IRR;
        }
    }

    fn service_level(&mut self, pin: usize, send: &impl Fn(Message) -> bool) {
        if self.entries[pin] & LEVEL != 0 && self.lines >> pin & 1 != 0 {
            self.service(pin, send);
        }
    }

    fn set_line(&mut self, pin: usize, level: bool, send: &impl Fn(Message) -> bool) {
        let mask = 1 << pin;
        let was = self.lines & mask != 0;
        if level {
            self.lines |= mask;
        } else {
            self.lines &= !mask;
        }
        // An edge on a masked pin is lost.
        if level && !was {
            self.service(pin, send);
        }
    }

    fn end_of_interrupt(&mut self, vector: u8, send: &impl Fn(Message) -> bool) {
        for pin in 0..PINS {
            let entry = &mut self.entries[pin];
            if *entry & REMOTE_IRR != 0 && *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
                self.service_level(pin, send);
            }
        }
    }

    fn read(&self) -> u32 {
        match self.select {
            0 | 2 => u32::from(self.id) << 24,
            1 => VERSION,
            index => match self.entries.get(usize::from(index.wrapping_sub(0x10) >> 1)) {
                Some(entry) if index >= 0x10 => (entry >> (32 * (index & 1))) as u32,
                _ => 0,
            },
        }
    }

    fn write(&mut self, value: u32, send: &impl Fn(Message) -> bool) {
        match self.select {
            0 => self.id = (value >> 24) as u8 & 0xf,
            index @ 0x10.. => {
                let pin = usize::from((index - 0x10) >> 1);
                let Some(entry) = self.entries.get_mut(pin) else { return };
                let half = 0xffff_ffff << (32 * (index & 1));
                let mask = WRITABLE & half;
                *entry = (*entry & !mask) | (u64::from(value) << (32 * (index & 1)) & mask);
                if *entry & LEVEL == 0 {
                    // Kernels for chips without the EOI register clear the remote IRR by a turn as an edge.
                    *entry &= !REMOTE_IRR;
                }
                self.service_level(pin, send);
            }
            _ => {}
        }
    }
}

/// The I/O APIC on the board.
#[derive(Debug)]
pub struct IoApic {
    state: Mutex<IoApicState>,
    bus: Arc<ApicBus>,
}

impl IoApic {
    /// An I/O APIC with the given APIC ID (0 to 15) that sends to `bus`.
    pub fn new(id: u8, bus: &Arc<ApicBus>) -> Arc<Self> {
        let ioapic = Arc::new(Self { state: Mutex::new(IoApicState::new(id & 0xf)), bus: bus.clone() });
        let weak: Weak<Self> = Arc::downgrade(&ioapic);
        bus.add_eoi_sink(weak);
        ioapic
    }

    /// Input `pin`; a pin that does not exist leads nowhere.
    pub fn line(self: &Arc<Self>, pin: u8) -> Irq {
        if usize::from(pin) >= PINS {
            return Arc::new(emu_core::bus::NoIrq);
        }
        Arc::new(Pin { ioapic: self.clone(), pin: pin.into() })
    }

    /// The state after power-on, with the pins as they are.
    pub fn reset(&self) {
        let mut state = lock(&self.state);
        *state = IoApicState { lines: state.lines, ..IoApicState::new(state.id) };
    }

    /// A copy of the state.
    pub fn save(&self) -> IoApicState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: IoApicState) {
        *lock(&self.state) = state;
    }

    fn send(&self) -> impl Fn(Message) -> bool + '_ {
        |message| self.bus.send(message)
    }
}

impl EoiSink for IoApic {
    fn end_of_interrupt(&self, vector: u8) {
        lock(&self.state).end_of_interrupt(vector, &self.send());
    }
}

impl MmioDevice for IoApic {
    fn mmio_read(&self, offset: u64, _size: u8) -> u64 {
        let state = lock(&self.state);
        match offset & 0xfff {
            0 => state.select.into(),
            0x10 => state.read().into(),
            _ => 0,
        }
    }

    fn mmio_write(&self, offset: u64, _size: u8, value: u64) {
        let mut state = lock(&self.state);
        match offset & 0xfff {
            0 => state.select = value as u8,
            0x10 => state.write(value as u32, &self.send()),
            0x40 => state.end_of_interrupt(value as u8, &self.send()),
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Pin {
    ioapic: Arc<IoApic>,
    pin: usize,
}

impl IrqLine for Pin {
    fn set_level(&self, level: bool) {
        lock(&self.ioapic.state).set_line(self.pin, level, &self.ioapic.send());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lapic::Lapic;
    use emu_core::bus::CpuInterrupts;
    use emu_core::clock::{Clock, Timers};

    fn board() -> (Arc<Lapic>, Arc<IoApic>) {
        let bus = ApicBus::new();
        let timers = Timers::new(Clock::virtual_clock());
        let lapic = Lapic::new(0, true, &bus, &timers, Arc::default());
        lapic.apic_mmio_write(0xf0, 0x1ff);
        (lapic, IoApic::new(1, &bus))
    }

    fn write(ioapic: &IoApic, index: u64, value: u64) {
        ioapic.mmio_write(0, 4, index);
        ioapic.mmio_write(0x10, 4, value);
    }

    fn read(ioapic: &IoApic, index: u64) -> u64 {
        ioapic.mmio_write(0, 4, index);
        ioapic.mmio_read(0x10, 4)
    }

    #[test]
    fn identity() {
        let (_, ioapic) = board();
        assert_eq!(read(&ioapic, 0), 0x0100_0000);
        assert_eq!(read(&ioapic, 1), 0x0017_0020);
        assert_eq!(read(&ioapic, 0x10), 0x1_0000, "masked at reset");
        assert_eq!(read(&ioapic, 0x40), 0, "past the last entry");
        for index in 0..=255 {
            write(&ioapic, index, u64::MAX);
            read(&ioapic, index);
        }
    }

    #[test]
    fn an_edge_is_sent_once() {
        let (lapic, ioapic) = board();
        let line = ioapic.line(2);
        line.pulse();
        write(&ioapic, 0x14, 0x30);
        assert!(!lapic.has_interrupt(), "an edge on a masked pin is lost");
        line.set_level(true);
        line.set_level(true);
        assert_eq!(lapic.acknowledge(), Some(0x30));
        lapic.apic_mmio_write(0xb0, 0);
        assert!(!lapic.has_interrupt());
    }

    #[test]
    fn a_level_repeats_until_the_device_lets_go() {
        let (lapic, ioapic) = board();
        write(&ioapic, 0x30, 0xa041);
        let line = ioapic.line(16);
        line.set_level(true);
        assert_eq!(read(&ioapic, 0x30), 0xe041, "remote IRR");
        assert_eq!(lapic.acknowledge(), Some(0x41));
        lapic.apic_mmio_write(0xb0, 0);
        assert_eq!(lapic.acknowledge(), Some(0x41), "still asserted");
        line.set_level(false);
        lapic.apic_mmio_write(0xb0, 0);
        assert!(!lapic.has_interrupt());
        assert_eq!(read(&ioapic, 0x30), 0xa041);
    }

    #[test]
    fn a_level_pin_delivers_when_unmasked() {
        let (lapic, ioapic) = board();
        ioapic.line(9).set_level(true);
        write(&ioapic, 0x22, 0x1_8039);
        assert!(!lapic.has_interrupt());
        write(&ioapic, 0x22, 0x8039);
        assert_eq!(lapic.acknowledge(), Some(0x39));
    }

    #[test]
    fn the_eoi_register_clears_remote_irr() {
        let (lapic, ioapic) = board();
        write(&ioapic, 0x30, 0x8041);
        let line = ioapic.line(16);
        line.set_level(true);
        line.set_level(false);
        lapic.acknowledge();
        ioapic.mmio_write(0x40, 4, 0x41);
        assert_eq!(read(&ioapic, 0x30), 0x8041);
        line.set_level(true);
        write(&ioapic, 0x30, 0x1_0041);
        assert_eq!(read(&ioapic, 0x30), 0x1_0041, "edge mode clears it too");
    }
}
