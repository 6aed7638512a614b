//! The registers of the HPET and what its comparators do (IA-PC HPET specification 1.0a, section 2.3).
//!
//! The main counter is computed from machine time. A comparator knows the time of its next match, found when it or
//! the counter was last written.

use crate::alarm::MIN_PERIOD_NS;
use serde::{Deserialize, Serialize};

/// Number of comparators.
pub(super) const TIMERS: usize = 3;
/// Period of the main counter in nanoseconds.
const TICK_NS: u64 = 10;
/// Revision 1, three timers, 64 bits, legacy replacement, vendor 8086h, period in femtoseconds.
const CAPABILITIES: u64 = (TICK_NS * 1_000_000) << 32 | 0x8086 << 16 | 0xa201 | (TIMERS as u64 - 1) << 8;
/// I/O APIC inputs a timer may be routed to: 16 to 23, 2 and 8.
const ROUTES: u64 = 0x00ff_0104;

const ENABLE: u64 = 1;
const LEGACY: u64 = 2;

const T_LEVEL: u64 = 1 << 1;
const T_ENABLE: u64 = 1 << 2;
const T_PERIODIC: u64 = 1 << 3;
const T_SET_VALUE: u64 = 1 << 6;
const T_32BIT: u64 = 1 << 8;
const T_FSB: u64 = 1 << 14;
const T_WRITABLE: u64 = 0x7f4e;
/// Periodic, 64 bits wide, FSB delivery.
const T_CAPABILITIES: u64 = ROUTES << 32 | 1 << 15 | 1 << 5 | 1 << 4;

/// Where a comparator's interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// IRQ 0 in place of the PIT (timer 0), IRQ 8 in place of the RTC (timer 1).
    Legacy(usize),
    /// An input of the I/O APIC.
    Pin(usize),
    /// A message: address and data.
    Fsb(u64, u32),
}

/// One comparator.
#[derive(Serialize, Deserialize, Clone, Debug)]
struct Comparator {
    config: u64,
    value: u64,
    period: u64,
    fsb: u64,
    /// Machine time of the next match, while the counter runs.
    next: Option<u64>,
}

impl Default for Comparator {
    fn default() -> Self {
        // All ones, so that nothing matches before it is set up.
        Self { config: 0, value: u64::MAX, period: 0, fsb: 0, next: None }
    }
}

impl Comparator {
    fn mask(&self) -> u64 {
        if self.config & T_32BIT != 0 { 0xffff_ffff } else { u64::MAX }
    }

    fn is_periodic(&self) -> bool {
        self.config & T_PERIODIC != 0
    }
}

/// The state of the HPET.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct HpetState {
    config: u64,
    /// Interrupt status of level-triggered timers.
    status: u64,
    /// The main counter at machine time `since`.
    counter: u64,
    since: u64,
    timers: [Comparator; TIMERS],
}

impl HpetState {
    fn running(&self) -> bool {
        self.config & ENABLE != 0
    }

    /// Whether timers 0 and 1 replace the PIT and the RTC.
    pub(super) fn is_legacy(&self) -> bool {
        self.config & LEGACY != 0
    }

    fn counter(&self, now: u64) -> u64 {
        let ticks = if self.running() { now.saturating_sub(self.since) / TICK_NS } else { 0 };
        self.counter.wrapping_add(ticks)
    }

    /// Finds the next match of a comparator.
    fn schedule(&mut self, index: usize, now: u64) {
        let counter = self.counter(now);
        let running = self.running();
        let phase = now.saturating_sub(self.since) % TICK_NS;
        let timer = &mut self.timers[index];
        let ticks = timer.value.wrapping_sub(counter) & timer.mask();
        timer.next = running.then(|| now.saturating_sub(phase).saturating_add(ticks.saturating_mul(TICK_NS)));
    }

    fn schedule_all(&mut self, now: u64) {
        (0..TIMERS).for_each(|index| self.schedule(index, now));
    }

    /// The route of a timer whose interrupt is enabled.
    pub(super) fn route(&self, index: usize) -> Option<Route> {
        let timer = &self.timers[index];
        if timer.config & T_ENABLE == 0 || !self.running() {
            return None;
        }
        if self.is_legacy() && index < 2 {
            return Some(Route::Legacy(index));
        }
        if timer.config & T_FSB != 0 {
            return Some(Route::Fsb(timer.fsb >> 32, timer.fsb as u32));
        }
        Some(Route::Pin((timer.config >> 9 & 31) as usize))
    }

    /// Whether a timer holds its line: level-triggered with its status bit set.
    pub(super) fn is_holding(&self, index: usize) -> bool {
        self.timers[index].config & T_LEVEL != 0 && self.status >> index & 1 != 0
    }

    /// Whether a timer has matched by `now`; moves it on. Several periods that have passed are one match.
    pub(super) fn take_match(&mut self, index: usize, now: u64) -> bool {
        let counter = self.counter(now);
        let timer = &mut self.timers[index];
        let Some(at) = timer.next.filter(|&at| at <= now) else { return false };
        if timer.is_periodic() && timer.period & timer.mask() != 0 {
            let period = timer.period & timer.mask();
            let behind = counter.wrapping_sub(timer.value) & timer.mask();
            let periods = (behind / period).wrapping_add(1);
            timer.value = timer.value.wrapping_add(periods.wrapping_mul(period)) & timer.mask();
            let ticks = timer.value.wrapping_sub(counter) & timer.mask();
            let next = now.saturating_add(ticks.saturating_mul(TICK_NS));
            let clamped = period.saturating_mul(TICK_NS) < MIN_PERIOD_NS;
            timer.next = Some(if clamped { next.max(now.saturating_add(MIN_PERIOD_NS)) } else { next });
        } else if timer.mask() != u64::MAX {
            // A 32-bit comparator matches again each time the low half wraps.
            let turn = (1u64 << 32) * TICK_NS;
            timer.next = Some(at.saturating_add((now - at) / turn * turn).saturating_add(turn));
        } else {
            timer.next = None;
        }
        if timer.config & T_LEVEL != 0 {
            self.status |= 1 << index;
        }
        true
    }

    /// When a timer whose interrupt is enabled matches next.
    pub(super) fn due(&self) -> Option<u64> {
        (0..TIMERS).filter(|&index| self.route(index).is_some()).filter_map(|i| self.timers[i].next).min()
    }

    /// Reads the aligned 64-bit register that holds `offset`.
    pub(super) fn read(&self, offset: u64, now: u64) -> u64 {
        match offset & 0x3f8 {
            0x00 => CAPABILITIES,
            0x10 => self.config,
            0x20 => self.status,
            0xf0 => self.counter(now),
            offset @ 0x100..0x160 => {
                let timer = &self.timers[((offset - 0x100) >> 5) as usize];
                match offset & 0x1f {
                    0x00 => timer.config | T_CAPABILITIES,
                    0x08 => timer.value,
                    0x10 => timer.fsb,
                    _ => 0,
                }
            }
            _ => 0,
        }
    }

    /// Writes the bits `mask` of the aligned 64-bit register that holds `offset`.
    pub(super) fn write(&mut self, offset: u64, value: u64, mask: u64, now: u64) {
        let merge = |old: u64| (old & !mask) | (value & mask);
        match offset & 0x3f8 {
            0x10 => {
                let counter = self.counter(now);
                self.config = merge(self.config) & (ENABLE | LEGACY);
                self.counter = counter;
                self.since = now;
                self.schedule_all(now);
            }
            0x20 => self.status &= !(value & mask),
            0xf0 => {
                // The counter may be written only while it stands; the specification leaves the rest undefined.
                self.counter = merge(self.counter(now));
                self.since = now;
                self.schedule_all(now);
            }
            offset @ 0x100..0x160 => {
                let index = ((offset - 0x100) >> 5) as usize;
                let timer = &mut self.timers[index];
                match offset & 0x1f {
                    0x00 => {
                        timer.config = merge(timer.config) & T_WRITABLE;
                        timer.value &= timer.mask();
                        if timer.config & T_LEVEL == 0 {
                            self.status &= !(1 << index);
                        }
                    }
                    0x08 => {
                        let set_value = timer.config & T_SET_VALUE != 0;
                        if !timer.is_periodic() || set_value {
                            timer.value = merge(timer.value) & timer.mask();
                        }
                        if timer.is_periodic() {
                            timer.period = merge(timer.period) & timer.mask();
                        }
                        if mask as u32 != 0 {
                            timer.config &= !T_SET_VALUE;
                        }
                    }
                    0x10 => timer.fsb = merge(timer.fsb),
                    _ => {}
                }
                if offset & 0x1f < 0x10 {
                    self.schedule(index, now);
                }
            }
            _ => {}
        }
    }
}
