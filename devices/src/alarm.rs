//! One timer of a device, moved in the event queue only when it must be.
//!
//! The owner states when it next has something to do. As long as the queue will wake it no later than that, nothing
//! is done: an early wake-up finds nothing due and states the time again. A guest that moves its deadline all the
//! time, as a tickless kernel does, costs a comparison then and no entry in the queue.
//!
//! Invariant: every method is called under the owner's lock, and every expiry calls [`Alarm::fired`] first and
//! [`Alarm::set`] afterwards.

use emu_core::clock::{Expire, TimerId, Timers};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The shortest period of a periodic timer in nanoseconds of machine time; shorter ones coalesce.
pub const MIN_PERIOD_NS: u64 = 20_000;

const NEVER: u64 = u64::MAX;

/// The one timer of a device.
#[derive(Debug)]
pub(crate) struct Alarm {
    timers: Arc<Timers>,
    id: TimerId,
    armed: AtomicU64,
}

impl Alarm {
    /// Registers a timer that calls `target`.
    pub(crate) fn new(timers: &Arc<Timers>, target: Weak<dyn Expire>) -> Self {
        Self { timers: timers.clone(), id: timers.register(target), armed: AtomicU64::new(NEVER) }
    }

    /// Machine time in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.timers.clock().now()
    }

    /// States when the owner next has something to do.
    pub(crate) fn set(&self, due: Option<u64>) {
        if let Some(due) = due
            && due < self.armed.load(Ordering::Relaxed)
        {
            self.armed.store(due, Ordering::Relaxed);
            self.timers.arm(self.id, due);
        }
    }

    /// The queue has called the owner: nothing is armed any more.
    pub(crate) fn fired(&self) {
        self.armed.store(NEVER, Ordering::Relaxed);
    }
}

/// The first multiple of `period` after `now`, counted from `start`, but not before the shortest period allows.
pub(crate) fn next_period(start: u64, period: u64, now: u64) -> u64 {
    let period = period.max(1);
    let periods = (now.saturating_sub(start) / period).saturating_add(1);
    let due = start.saturating_add(periods.saturating_mul(period));
    if period < MIN_PERIOD_NS { due.max(now.saturating_add(MIN_PERIOD_NS)) } else { due }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);
    impl Expire for Count {
        fn expire(&self, _now: u64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_later_deadline_leaves_the_queue_alone() {
        let timers = Timers::new(emu_core::clock::Clock::virtual_clock());
        let count = Arc::new(Count::default());
        let weak: Weak<dyn Expire> = Arc::downgrade(&(count.clone() as Arc<dyn Expire>));
        let alarm = Alarm::new(&timers, weak);
        alarm.set(Some(100));
        alarm.set(Some(200));
        alarm.set(None);
        assert_eq!(timers.next_due(), Some(100));
        alarm.set(Some(50));
        assert_eq!(timers.next_due(), Some(50));
        timers.clock().advance_to(60);
        assert_eq!(timers.run_due(), 1);
        alarm.fired();
        alarm.set(Some(200));
        assert_eq!(timers.next_due(), Some(200));
    }

    #[test]
    fn short_periods_coalesce() {
        assert_eq!(next_period(0, 1_000_000, 0), 1_000_000);
        assert_eq!(next_period(0, 1_000_000, 2_500_000), 3_000_000);
        assert_eq!(next_period(0, 1, 5), 5 + MIN_PERIOD_NS);
        assert_eq!(next_period(0, 0, u64::MAX), u64::MAX);
    }
}
