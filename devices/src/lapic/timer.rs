//! The timer of the local APIC (SDM vol. 3A, 11.5.4): one-shot, periodic and TSC-deadline.
//!
//! The timer is the machine time at which it next reaches zero; the current count is computed from that.

use crate::alarm::next_period;
use serde::{Deserialize, Serialize};

/// The clock of the timer before the divider, in Hz: one tick is one nanosecond.
pub const APIC_TIMER_HZ: u64 = 1_000_000_000;

/// How the timer runs: bits 18:17 of its LVT entry.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Counts down once.
    #[default]
    OneShot,
    /// Reloads.
    Periodic,
    /// Fires when the TSC reaches a value.
    TscDeadline,
}

impl Mode {
    /// Decodes the LVT entry; the reserved encoding behaves as one-shot.
    pub fn of_lvt(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::OneShot,
        }
    }
}

/// The state of the timer.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Timer {
    mode: Mode,
    initial: u32,
    divide: u32,
    deadline: u64,
    /// When the count reaches zero, in nanoseconds.
    next: Option<u64>,
}

impl Timer {
    fn divisor(&self) -> u64 {
        // Bits 3, 1 and 0 select 2, 4, ... 128, 1.
        let code = (self.divide & 3) | (self.divide >> 1 & 4);
        1 << ((code + 1) & 7)
    }

    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    /// The initial-count register.
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// The divide-configuration register.
    pub fn divide(&self) -> u32 {
        self.divide
    }

    /// IA32_TSC_DEADLINE.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// When the timer fires, in nanoseconds.
    pub fn due(&self) -> Option<u64> {
        self.next
    }

    /// The current-count register.
    pub fn current(&self, now: u64) -> u32 {
        if self.mode == Mode::TscDeadline {
            return 0;
        }
        let left = self.next.map_or(0, |next| next.saturating_sub(now).div_ceil(self.divisor()));
        left.min(self.initial.into()) as u32
    }

    /// A write of the initial count starts the timer; zero stops it.
    pub fn set_initial(&mut self, value: u32, now: u64) {
        if self.mode == Mode::TscDeadline {
            return;
        }
        self.initial = value;
        self.next = (value != 0).then(|| now.saturating_add(self.period()));
    }

    /// A write of the divider: the current count goes on at the new rate.
    pub fn set_divide(&mut self, value: u32, now: u64) {
        let left = u64::from(self.current(now));
        self.divide = value & 0xb;
        if self.mode != Mode::TscDeadline && self.next.is_some() {
            self.next = Some(now.saturating_add(left * self.divisor()));
        }
    }

    /// A change of mode. Into or out of TSC-deadline mode disarms the timer.
    pub fn set_mode(&mut self, mode: Mode) {
        let old = std::mem::replace(&mut self.mode, mode);
        if old != mode && (old == Mode::TscDeadline || mode == Mode::TscDeadline) {
            self.next = None;
            self.deadline = 0;
        }
    }

    /// A write of IA32_TSC_DEADLINE; ignored in the other modes. `tsc` is the TSC at `now`.
    pub fn set_deadline(&mut self, deadline: u64, tsc: u64, now: u64) {
        if self.mode == Mode::TscDeadline {
            self.deadline = deadline;
            self.next = (deadline != 0).then(|| now.saturating_add(deadline.saturating_sub(tsc)));
        }
    }

    /// Whether the timer has fired by `now`; reloads or stops it.
    pub fn take_expiry(&mut self, now: u64) -> bool {
        let Some(next) = self.next.filter(|&next| next <= now) else { return false };
        self.next = match self.mode {
            Mode::Periodic if self.initial != 0 => Some(next_period(next, self.period(), now)),
            _ => None,
        };
        self.deadline = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::MIN_PERIOD_NS;

    #[test]
    fn divisors() {
        for (code, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
            let timer = Timer { divide: code, ..Timer::default() };
            assert_eq!(timer.divisor(), divisor, "{code}");
        }
    }

    #[test]
    fn one_shot_counts_to_zero() {
        let mut t = Timer::default();
        t.set_divide(3, 0);
        t.set_initial(1000, 100);
        assert_eq!(t.current(100 + 160), 990);
        assert!(!t.take_expiry(16_099));
        assert!(t.take_expiry(16_100));
        assert_eq!((t.current(20_000), t.due()), (0, None));
    }

    #[test]
    fn periodic_reloads_and_is_bounded() {
        let mut t = Timer::default();
        t.set_mode(Mode::Periodic);
        t.set_divide(11, 0);
        t.set_initial(100_000, 0);
        assert!(t.take_expiry(250_000));
        assert_eq!(t.due(), Some(300_000));
        assert_eq!(t.current(260_000), 40_000);
        t.set_initial(1, 0);
        assert!(t.take_expiry(10));
        assert_eq!(t.due(), Some(10 + MIN_PERIOD_NS));
        assert!(t.current(10) <= 1);
    }

    #[test]
    fn the_deadline_clears_when_it_fires() {
        let mut t = Timer::default();
        t.set_deadline(500, 0, 0);
        assert_eq!(t.deadline(), 0, "ignored in one-shot mode");
        t.set_mode(Mode::TscDeadline);
        t.set_deadline(1500, 1000, 10);
        assert_eq!(t.due(), Some(510));
        assert!(t.take_expiry(510));
        assert_eq!(t.deadline(), 0);
        t.set_deadline(5, 1000, 10);
        assert!(t.take_expiry(10), "a deadline in the past fires at once");
        t.set_deadline(u64::MAX, 0, u64::MAX - 1);
        t.set_mode(Mode::OneShot);
        assert_eq!(t.due(), None);
    }
}
