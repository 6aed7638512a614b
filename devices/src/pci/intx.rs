//! INTx: four shared level-triggered wires PIRQA to PIRQD, and where they lead.
//!
//! As on ICH9 (datasheet, 13.1.9 "PIRQ[n]_ROUT"), every wire drives an I/O APIC input of its own and, if the LPC
//! bridge's route register says so, an ISA interrupt of the 8259s as well. Wires are shared, so a level is the OR of
//! all functions on it. Devices are swizzled: pin INTA# of device d is wire d mod 4, INTB# the next one.
//! [`PciBus::prt`](super::PciBus::prt) gives the same facts for ACPI's _PRT.

use emu_core::bus::Irq;
use std::sync::{Arc, Mutex, MutexGuard};

/// Route register: not routed to the 8259s.
const UNROUTED: u8 = 0x80;
/// ISA interrupts that a route register can name.
const ROUTABLE: u16 = 0b1101_1110_1111_1000;

#[derive(Debug)]
struct State {
    /// Functions asserting each wire.
    asserted: [u16; 4],
    route: [u8; 4],
    /// Levels last driven on ISA interrupts.
    isa_levels: u16,
}

/// The four wires.
#[derive(Debug)]
pub struct PirqRouter {
    gsi: [Irq; 4],
    isa: [Irq; 16],
    initial: [u8; 4],
    state: Mutex<State>,
}

impl PirqRouter {
    /// `gsi`: what PIRQA to PIRQD drive at the I/O APIC (inputs 16 to 19 on a Q35). `isa`: the 8259 inputs, driven only
    /// for wires that are routed there. `routes`: the route registers as firmware leaves them: an ISA interrupt, or
    /// 0x80 for none.
    pub fn new(gsi: [Irq; 4], isa: [Irq; 16], routes: [u8; 4]) -> Arc<Self> {
        let state = State { asserted: [0; 4], route: routes, isa_levels: 0 };
        Arc::new(Self { gsi, isa, initial: routes, state: Mutex::new(state) })
    }

    /// The wire (0 to 3) of interrupt pin 1 to 4 of a device.
    pub fn wire(device: u8, pin: u8) -> usize {
        usize::from(device.wrapping_add(pin).wrapping_sub(1) & 3)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The route register of a wire.
    pub fn route(&self, wire: usize) -> u8 {
        self.lock().route[wire & 3]
    }

    /// Writes the route register of a wire.
    pub fn set_route(&self, wire: usize, value: u8) {
        let mut state = self.lock();
        state.route[wire & 3] = value & (UNROUTED | 0x0f);
        self.drive_isa(&mut state);
    }

    /// The ISA interrupt a wire is routed to.
    pub fn isa_irq(&self, wire: usize) -> Option<u8> {
        Self::routed(self.route(wire))
    }

    fn routed(route: u8) -> Option<u8> {
        (route & UNROUTED == 0 && ROUTABLE >> (route & 0xf) & 1 != 0).then_some(route & 0xf)
    }

    /// Route registers as at power-on (as firmware leaves them).
    pub fn reset(&self) {
        let mut state = self.lock();
        state.route = self.initial;
        self.drive_isa(&mut state);
    }

    /// Counts one function more or less on a wire. Lines are driven with the lock held, so levels never cross over.
    fn change(&self, wire: usize, assert: bool) {
        let mut state = self.lock();
        let count = &mut state.asserted[wire];
        *count = if assert { count.saturating_add(1) } else { count.saturating_sub(1) };
        self.gsi[wire].set_level(*count != 0);
        self.drive_isa(&mut state);
    }

    fn drive_isa(&self, state: &mut State) {
        let mut levels = 0u16;
        for (&count, &route) in state.asserted.iter().zip(&state.route) {
            if let (1.., Some(irq)) = (count, Self::routed(route)) {
                levels |= 1 << irq;
            }
        }
        for (irq, line) in self.isa.iter().enumerate() {
            if (levels ^ state.isa_levels) >> irq & 1 != 0 {
                line.set_level(levels >> irq & 1 != 0);
            }
        }
        state.isa_levels = levels;
    }
}

/// The interrupt pin of one function, soldered to a wire.
#[derive(Debug)]
pub struct PirqPin {
    router: Arc<PirqRouter>,
    wire: usize,
    level: bool,
}

impl PirqPin {
    /// The pin of a function that has interrupt pin `pin` (1 to 4), not asserted.
    pub fn new(router: Arc<PirqRouter>, device: u8, pin: u8) -> Self {
        Self { router, wire: PirqRouter::wire(device, pin), level: false }
    }

    /// Drives the pin.
    pub fn set_level(&mut self, level: bool) {
        if self.level != level {
            self.level = level;
            self.router.change(self.wire, level);
        }
    }
}
