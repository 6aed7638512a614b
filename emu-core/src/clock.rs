//! Machine time and the queue of timer events.
//!
//! Devices never read host time: they ask a [`Clock`] for nanoseconds since power-on and arm timers in a
//! [`Timers`] queue. The clock is real (follows the host) or virtual (advanced by the run loop, from the number of
//! instructions executed), so the same machine can be run deterministically.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// Frequency of the guest's TSC in Hz: one tick is one nanosecond, so that no conversion ever rounds.
pub const TSC_HZ: u64 = 1_000_000_000;

/// Machine time.
#[derive(Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Real(Instant),
    Virtual(AtomicU64),
}

impl Clock {
    /// A clock that follows the host's monotonic clock from now on.
    pub fn real() -> Arc<Self> {
        Arc::new(Self { source: Source::Real(Instant::now()) })
    }

    /// A clock that stands until [`Clock::advance_to`] moves it.
    pub fn virtual_clock() -> Arc<Self> {
        Arc::new(Self { source: Source::Virtual(AtomicU64::new(0)) })
    }

    /// Whether time is counted in instructions rather than taken from the host.
    pub fn is_virtual(&self) -> bool {
        matches!(self.source, Source::Virtual(_))
    }

    /// Nanoseconds since power-on. Never goes back.
    pub fn now(&self) -> u64 {
        match &self.source {
            Source::Real(start) => start.elapsed().as_nanos() as u64,
            Source::Virtual(ns) => ns.load(Ordering::Relaxed),
        }
    }

    /// Moves a virtual clock forward to `ns`; a real clock is left alone.
    pub fn advance_to(&self, ns: u64) {
        if let Source::Virtual(now) = &self.source {
            now.fetch_max(ns, Ordering::Relaxed);
        }
    }
}

/// What a timer calls when it is due.
pub trait Expire: Send + Sync + Debug {
    /// Called once per arming, at or after the armed time, with no lock of the queue held. `now` in nanoseconds.
    fn expire(&self, now: u64);
}

/// Names one registered timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(usize);

#[derive(Debug)]
struct Slot {
    target: Weak<dyn Expire>,
    /// The armed time, or None.
    due: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Slot>,
    /// May hold stale entries: an entry counts only if its slot is armed for exactly that time.
    heap: BinaryHeap<Reverse<(u64, TimerId)>>,
    stop: bool,
}

/// The event queue: one-shot timers by absolute machine time.
#[derive(Debug)]
pub struct Timers {
    clock: Arc<Clock>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Timers {
    /// An empty queue on `clock`.
    pub fn new(clock: Arc<Clock>) -> Arc<Self> {
        Arc::new(Self { clock, inner: Mutex::default(), changed: Condvar::new() })
    }

    /// The clock the times refer to.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a timer, disarmed. The queue does not keep its target alive.
    pub fn register(&self, target: Weak<dyn Expire>) -> TimerId {
        let mut inner = self.lock();
        inner.slots.push(Slot { target, due: None });
        TimerId(inner.slots.len() - 1)
    }

    /// Arms `id` for the absolute time `at` in nanoseconds, replacing what was armed before.
    pub fn arm(&self, id: TimerId, at: u64) {
        let mut inner = self.lock();
        inner.slots[id.0].due = Some(at);
        inner.heap.push(Reverse((at, id)));
        self.changed.notify_all();
    }

    /// Disarms `id`.
    pub fn disarm(&self, id: TimerId) {
        self.lock().slots[id.0].due = None;
    }

    /// The earliest armed time.
    pub fn next_due(&self) -> Option<u64> {
        Self::earliest(&mut self.lock())
    }

    fn earliest(inner: &mut Inner) -> Option<u64> {
        while let Some(&Reverse((at, id))) = inner.heap.peek() {
            if inner.slots[id.0].due == Some(at) {
                return Some(at);
            }
            inner.heap.pop();
        }
        None
    }

    /// Runs every timer that is due at the clock's time, in order of time, and returns how many.
    pub fn run_due(&self) -> usize {
        let mut count = 0;
        loop {
            let now = self.clock.now();
            let target = {
                let mut inner = self.lock();
                match Self::earliest(&mut inner) {
                    Some(at) if at <= now => {
                        let Some(Reverse((_, id))) = inner.heap.pop() else { return count };
                        inner.slots[id.0].due = None;
                        inner.slots[id.0].target.upgrade()
                    }
                    _ => return count,
                }
            };
            count += 1;
            if let Some(target) = target {
                target.expire(now);
            }
        }
    }

    /// Serves a real clock on the calling thread until [`Timers::stop`]: sleeps to the next event, runs it.
    pub fn serve(&self) {
        loop {
            self.run_due();
            let mut inner = self.lock();
            if inner.stop {
                return;
            }
            let now = self.clock.now();
            match Self::earliest(&mut inner) {
                Some(at) if at <= now => {}
                Some(at) => {
                    drop(self.changed.wait_timeout(inner, Duration::from_nanos(at - now)));
                }
                None => drop(self.changed.wait(inner)),
            }
        }
    }

    /// Makes [`Timers::serve`] return.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}
