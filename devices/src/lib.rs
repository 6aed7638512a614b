#![forbid(unsafe_code)]
//! The chips of the emulated PC.
//!
//! Each chip is a plain, serialisable state machine with its tests beside it, plus a thin wrapper (a `Mutex` around
//! the state) that implements the port or MMIO trait and drives interrupt lines and timers. Devices never read host
//! time and never touch host files: time comes from the machine clock, bytes from [`sink::ByteSink`] and its like.
//!
//! **Lock order.** Interrupts flow one way: device → gates ([`irq`], HPET) → PIC and I/O APIC → APIC bus → local APIC
//! → `Signals`. A device may hold its own lock while it drives an [`emu_core::bus::IrqLine`] or arms a timer, since
//! nothing downstream calls back. The flows the other way (EOI broadcast, interrupt acknowledge of the 8259, IPIs,
//! timer expiry, power events) are made only after the caller has released its lock.
//!
//! **Hostile guests.** No register write panics, loops without bound or grows memory; periodic timers never expire
//! more often than every [`MIN_PERIOD_NS`] nanoseconds of machine time: shorter periods lose ticks.

pub mod acpi_pm;
pub mod acpi_tables;
mod alarm;
pub mod debug_ports;
pub mod hpet;
pub mod i8042;
pub mod ioapic;
pub mod irq;
pub mod lapic;
mod lock;
pub mod mptable;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod port92;
pub mod power;
pub mod pvpanic;
pub mod rtc;
pub mod sink;
pub mod uart;
pub mod virtio;

pub use alarm::MIN_PERIOD_NS;
