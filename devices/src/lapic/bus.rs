//! The bus between the APICs: who a message is for (SDM vol. 3A, 11.6.2 and 11.11).

use super::Lapic;
use emu_core::bus::MsiSink;
use std::fmt::Debug;
use std::sync::{Arc, RwLock, Weak};

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The APIC of this ID; all ones is everyone.
    Physical(u32),
    /// The APICs whose logical ID this set names.
    Logical(u32),
    /// Everyone.
    All,
    /// The APIC of this initial ID (the "self" shorthand).
    Only(u32),
    /// Everyone else (the "all excluding self" shorthand).
    AllBut(u32),
}

impl Destination {
    /// A physical destination of eight bits, where FFh is everyone.
    pub fn physical8(id: u8) -> Self {
        Self::Physical(if id == 0xff { u32::MAX } else { id.into() })
    }

    /// The destination field and mode of an MSI or of an I/O APIC's redirection entry.
    pub fn of_field(field: u8, logical: bool) -> Self {
        if logical { Self::Logical(field.into()) } else { Self::physical8(field) }
    }
}

/// What a message does at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Requests its vector at every destination.
    Fixed,
    /// Requests its vector at the destination of lowest priority.
    LowestPriority,
    /// System-management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up IPI.
    StartUp,
    /// An interrupt whose vector the 8259 supplies.
    ExtInt,
}

impl Delivery {
    /// Decodes bits 10:8 of an ICR, LVT entry, redirection entry or MSI data; None if reserved.
    pub fn of_bits(word: u32) -> Option<Self> {
        Some(match word >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => return None,
        })
    }
}

/// An interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub destination: Destination,
    /// What it does.
    pub delivery: Delivery,
    /// The vector.
    pub vector: u8,
    /// Level-triggered: its EOI is broadcast to the I/O APICs.
    pub level: bool,
}

/// An I/O APIC as the bus sees it.
pub trait EoiSink: Send + Sync + Debug {
    /// A processor has handled the level-triggered `vector`. Called with no APIC lock held.
    fn end_of_interrupt(&self, vector: u8);
}

/// The bus. Holds its members weakly: they hold the bus.
#[derive(Debug, Default)]
pub struct ApicBus {
    lapics: RwLock<Vec<Weak<Lapic>>>,
    ioapics: RwLock<Vec<Weak<dyn EoiSink>>>,
}

impl ApicBus {
    /// An empty bus. Local APICs join when they are made, I/O APICs by [`ApicBus::add_eoi_sink`].
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn add_lapic(&self, lapic: Weak<Lapic>) {
        self.lapics.write().unwrap_or_else(|e| e.into_inner()).push(lapic);
    }

    /// Adds one that hears of every broadcast EOI.
    pub fn add_eoi_sink(&self, sink: Weak<dyn EoiSink>) {
        self.ioapics.write().unwrap_or_else(|e| e.into_inner()).push(sink);
    }

    /// Delivers a message; false if it was for nobody. The sender must not hold the lock of a local APIC.
    pub fn send(&self, message: Message) -> bool {
        let lapics = self.lapics.read().unwrap_or_else(|e| e.into_inner());
        let matching = || lapics.iter().filter_map(Weak::upgrade).filter(|l| l.matches(message.destination));
        if message.delivery == Delivery::LowestPriority {
            // min_by_key keeps the first of equals, so the choice does not depend on anything but state.
            let best = matching().filter(|l| l.accepts_fixed()).min_by_key(|l| l.arbitration_priority());
            return best.inspect(|l| l.deliver(&message)).is_some();
        }
        let mut heard = false;
        for lapic in matching() {
            lapic.deliver(&message);
            heard = true;
        }
        heard
    }

    pub(super) fn broadcast_eoi(&self, vector: u8) {
        for sink in self.ioapics.read().unwrap_or_else(|e| e.into_inner()).iter().filter_map(Weak::upgrade) {
            sink.end_of_interrupt(vector);
        }
    }
}

impl MsiSink for ApicBus {
    fn send_msi(&self, address: u64, data: u32) {
        // Only the interrupt window (FEEx_xxxxh) reaches the bus.
        if address >> 20 != 0xfee {
            return;
        }
        let Some(mut delivery) = Delivery::of_bits(data) else { return };
        let redirect = address & 8 != 0;
        if redirect && delivery == Delivery::Fixed {
            // The redirection hint asks for one of the destinations.
            delivery = Delivery::LowestPriority;
        }
        let destination = Destination::of_field((address >> 12) as u8, address & 4 != 0);
        let level = data & 0x8000 != 0;
        self.send(Message { destination, delivery, vector: data as u8, level });
    }
}
