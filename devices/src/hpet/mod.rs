//! The high precision event timer at FED0_0000h, 1 KiB (IA-PC HPET specification 1.0a).
//!
//! With legacy replacement on, timer 0 takes the place of the PIT on IRQ 0 and timer 1 that of the RTC on IRQ 8. So
//! the PIT and the RTC are wired to [`Hpet::pit_input`] and [`Hpet::rtc_input`], gates that lead to those lines
//! while replacement is off.

mod state;

pub use state::HpetState;

use crate::alarm::Alarm;
use crate::lock::lock;
use emu_core::bus::{Irq, IrqLine, MmioDevice, MsiSink};
use emu_core::clock::{Expire, Timers};
use state::{Route, TIMERS};
use std::sync::{Arc, Mutex, Weak};

/// Where the registers are in guest-physical memory.
pub const HPET_BASE: u64 = 0xfed0_0000;
/// Size of the register block in bytes.
pub const HPET_SIZE: u64 = 0x400;

/// The lines a [`Hpet`] drives.
#[derive(Debug)]
pub struct HpetLines {
    /// IRQ 0 and IRQ 8 of the board.
    pub legacy: [Irq; 2],
    /// Inputs of the I/O APIC by number; timers routed past the end interrupt nobody.
    pub pins: Vec<Irq>,
    /// Where FSB interrupts go.
    pub msi: Arc<dyn MsiSink>,
}

#[derive(Debug, Default)]
struct Inner {
    state: HpetState,
    /// Levels of the PIT's and the RTC's outputs.
    inputs: [bool; 2],
    /// The pin each timer holds high.
    held: [Option<Route>; TIMERS],
}

/// The HPET on the board.
#[derive(Debug)]
pub struct Hpet {
    inner: Mutex<Inner>,
    lines: HpetLines,
    alarm: Alarm,
}

impl Hpet {
    /// A HPET that drives `lines`.
    pub fn new(timers: &Arc<Timers>, lines: HpetLines) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            inner: Mutex::default(),
            lines,
            alarm: Alarm::new(timers, this.clone()),
        })
    }

    /// The input for the output of the PIT's counter 0.
    pub fn pit_input(self: &Arc<Self>) -> Irq {
        Arc::new(LegacyInput { hpet: self.clone(), index: 0 })
    }

    /// The input for the RTC's interrupt.
    pub fn rtc_input(self: &Arc<Self>) -> Irq {
        Arc::new(LegacyInput { hpet: self.clone(), index: 1 })
    }

    /// The state after power-on.
    pub fn reset(&self) {
        self.restore(HpetState::default());
    }

    /// A copy of the state.
    pub fn save(&self) -> HpetState {
        lock(&self.inner).state.clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: HpetState) {
        self.change(|s, _| *s = state);
    }

    fn line(&self, route: Route) -> Option<&Irq> {
        match route {
            Route::Legacy(index) => self.lines.legacy.get(index),
            Route::Pin(pin) => self.lines.pins.get(pin),
            Route::Fsb(..) => None,
        }
    }

    /// Signals what has matched by `now`.
    fn catch_up(&self, inner: &mut Inner, now: u64) {
        for index in 0..TIMERS {
            if !inner.state.take_match(index, now) {
                continue;
            }
            let Some(route) = inner.state.route(index) else { continue };
            if let Route::Fsb(address, data) = route {
                self.lines.msi.send_msi(address, data);
            } else if !inner.state.is_holding(index)
                && let Some(line) = self.line(route)
            {
                line.pulse();
            }
        }
    }

    /// Drives the lines that level-triggered timers hold.
    fn drive(&self, inner: &mut Inner) {
        for index in 0..TIMERS {
            let wanted = inner.state.route(index).filter(|_| inner.state.is_holding(index));
            let held = std::mem::replace(&mut inner.held[index], wanted);
            if held == wanted {
                continue;
            }
            for (route, level) in [(held, false), (wanted, true)] {
                if let Some(line) = route.and_then(|route| self.line(route)) {
                    line.set_level(level);
                }
            }
        }
    }

    fn change(&self, f: impl FnOnce(&mut HpetState, u64)) {
        let mut inner = lock(&self.inner);
        let now = self.alarm.now();
        self.catch_up(&mut inner, now);
        let legacy = inner.state.is_legacy();
        f(&mut inner.state, now);
        if inner.state.is_legacy() != legacy {
            // The lines pass from the chips to the timers, or back.
            for (line, level) in self.lines.legacy.iter().zip(inner.inputs) {
                line.set_level(legacy && level);
            }
        }
        self.catch_up(&mut inner, now);
        self.drive(&mut inner);
        self.alarm.set(inner.state.due());
    }
}

impl Expire for Hpet {
    fn expire(&self, _now: u64) {
        let mut inner = lock(&self.inner);
        self.alarm.fired();
        let now = self.alarm.now();
        self.catch_up(&mut inner, now);
        self.drive(&mut inner);
        self.alarm.set(inner.state.due());
    }
}

impl MmioDevice for Hpet {
    fn mmio_read(&self, offset: u64, _size: u8) -> u64 {
        // Nothing is signalled here: the counter is read all the time, and what is due is the timer's business. But
        // the comparators and the status must show it.
        let mut inner = lock(&self.inner);
        let now = self.alarm.now();
        if offset & 0x3f8 != 0xf0 {
            self.catch_up(&mut inner, now);
            self.drive(&mut inner);
            self.alarm.set(inner.state.due());
        }
        inner.state.read(offset, now) >> (8 * (offset & 7))
    }

    fn mmio_write(&self, offset: u64, size: u8, value: u64) {
        let shift = 8 * (offset & 7);
        let mask = if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
        self.change(|s, now| s.write(offset, value << shift, mask << shift, now));
    }
}

#[derive(Debug)]
struct LegacyInput {
    hpet: Arc<Hpet>,
    index: usize,
}

impl IrqLine for LegacyInput {
    fn set_level(&self, level: bool) {
        let mut inner = lock(&self.hpet.inner);
        inner.inputs[self.index] = level;
        if !inner.state.is_legacy() {
            self.hpet.lines.legacy[self.index].set_level(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use emu_core::clock::Clock;

    #[derive(Debug, Default)]
    struct Msis(Mutex<Vec<(u64, u32)>>);
    impl MsiSink for Msis {
        fn send_msi(&self, address: u64, data: u32) {
            lock(&self.0).push((address, data));
        }
    }

    struct Board {
        timers: Arc<Timers>,
        hpet: Arc<Hpet>,
        legacy: [Arc<Probe>; 2],
        pins: Vec<Arc<Probe>>,
        msis: Arc<Msis>,
    }

    impl Board {
        fn new() -> Self {
            let timers = Timers::new(Clock::virtual_clock());
            let legacy = [Probe::new(), Probe::new()];
            let pins: Vec<_> = (0..24).map(|_| Probe::new()).collect();
            let msis = Arc::new(Msis::default());
            let lines = HpetLines {
                legacy: [legacy[0].clone(), legacy[1].clone()],
                pins: pins.iter().map(|p| p.clone() as Irq).collect(),
                msi: msis.clone(),
            };
            Self { hpet: Hpet::new(&timers, lines), timers, legacy, pins, msis }
        }
        fn write(&self, offset: u64, value: u64) {
            self.hpet.mmio_write(offset, 4, value);
        }
        fn write64(&self, offset: u64, value: u64) {
            self.hpet.mmio_write(offset, 8, value);
        }
        fn run_to(&self, end: u64) -> usize {
            let mut fired = 0;
            while let Some(due) = self.timers.next_due().filter(|&due| due <= end) {
                self.timers.clock().advance_to(due);
                fired += self.timers.run_due();
            }
            self.timers.clock().advance_to(end);
            fired
        }
    }

    #[test]
    fn capabilities_and_counter() {
        let b = Board::new();
        assert_eq!(b.hpet.mmio_read(0, 8), 0x0098_9680_8086_a201);
        assert_eq!(b.hpet.mmio_read(4, 4), 10_000_000, "femtoseconds");
        b.run_to(1000);
        assert_eq!(b.hpet.mmio_read(0xf0, 8), 0);
        b.write(0x10, 1);
        b.run_to(2000);
        assert_eq!(b.hpet.mmio_read(0xf0, 8), 100);
        b.write(0x10, 0);
        b.run_to(3000);
        assert_eq!(b.hpet.mmio_read(0xf0, 4), 100);
    }

    #[test]
    fn linux_sets_up_timer_0_in_legacy_mode() {
        let b = Board::new();
        // hpet_clkevt_set_state_periodic: first the comparator with SETVAL, then the period.
        b.write(0x10, 3);
        b.write(0x100, 0x14c);
        b.write(0x108, 100_000);
        b.write(0x108, 100_000);
        b.run_to(10_500_000);
        assert_eq!(b.legacy[0].edges(), 10);
        b.write(0x100, 0x104);
        b.write(0x108, 2_000_000);
        b.run_to(30_000_000);
        assert_eq!(b.legacy[0].edges(), 11, "one-shot");
    }

    #[test]
    fn replacement_disconnects_the_pit() {
        let b = Board::new();
        let pit = b.hpet.pit_input();
        pit.set_level(true);
        assert!(b.legacy[0].level());
        b.write(0x10, 2);
        assert!(!b.legacy[0].level());
        pit.pulse();
        assert_eq!(b.legacy[0].edges(), 1);
        pit.set_level(true);
        b.write(0x10, 0);
    }

    #[test]
    fn a_level_timer_holds_its_pin_until_acknowledged() {
        let b = Board::new();
        b.write(0x140, 20 << 9 | 6);
        b.write64(0x148, 100);
        b.write(0x10, 1);
        b.run_to(1500);
        assert!(b.pins[20].level());
        assert_eq!(b.hpet.mmio_read(0x20, 4), 4);
        b.write(0x20, 4);
        assert!(!b.pins[20].level());
    }

    #[test]
    fn fsb_interrupts() {
        let b = Board::new();
        b.hpet.mmio_write(0x130, 8, 0xfee0_0000_0000_0051);
        b.write(0x120, 0x4004);
        b.write64(0x128, 10);
        b.write(0x10, 1);
        b.run_to(1000);
        assert_eq!(*lock(&b.msis.0), [(0xfee0_0000, 0x51)]);
    }

    #[test]
    fn tiny_periods_are_bounded() {
        let b = Board::new();
        b.write(0x100, 0x4c);
        b.write64(0x108, 1);
        b.write(0x10, 3);
        let fired = b.run_to(1_000_000);
        assert!((40..=51).contains(&fired), "{fired}");
    }

    #[test]
    fn every_access_is_harmless() {
        let b = Board::new();
        for value in [u64::MAX, 0, 1, 0x4e, 0x14e, 3] {
            for offset in (0..0x400).rev() {
                b.hpet.mmio_write(offset, [1, 4, 8][(offset % 3) as usize], value);
                b.hpet.mmio_read(offset, 8);
            }
            b.timers.clock().advance_to(b.timers.clock().now() + (1 << 40));
            b.timers.run_due();
        }
        b.hpet.restore(serde_json::from_str(&serde_json::to_string(&b.hpet.save()).unwrap()).unwrap());
    }
}
