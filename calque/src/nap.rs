//! How a halted processor waits: it looks for requests for a moment before it sleeps, if that has paid of late.
//!
//! Waking a sleeping thread takes the host tens of microseconds; two processes that hand work to each other across
//! virtual processors wait that long each time. So, as hypervisors do, a processor whose halts have been short polls
//! through them. One that idles does not poll: a long halt ends that at once. Nor does any where the host has fewer
//! processors than the guest, since there the poll would keep from work who is waited for.

use emu_core::signals::Signals;
use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// The longest poll.
const MOST: Duration = Duration::from_micros(120);
/// The first after a halt that would have been worth one.
const LEAST: Duration = Duration::from_micros(15);
/// Looks between two looks at the clock.
const LOOKS: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Nap {
    /// How long the next poll is at most.
    window: Duration,
    /// It may be more than nothing.
    polls: bool,
}

impl Nap {
    /// For one of `cpus` virtual processors, on a host with `host` processors.
    pub fn new(cpus: usize, host: usize) -> Self {
        Self { window: Duration::ZERO, polls: cpus > 1 && cpus <= host }
    }

    /// Returns once there is a request.
    pub fn wait(&mut self, signals: &Signals) {
        if !self.polls {
            return signals.wait(None);
        }
        let start = Instant::now();
        while start.elapsed() < self.window {
            for _ in 0..LOOKS {
                if signals.peek() != 0 {
                    return;
                }
                spin_loop();
            }
        }
        signals.wait(None);
        self.learn(start.elapsed());
    }

    /// What a halt of this length that the poll did not see the end of says about the next.
    fn learn(&mut self, halted: Duration) {
        self.window = if halted > 2 * MOST { Duration::ZERO } else { (2 * self.window).clamp(LEAST, MOST) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::signals::request;
    use std::sync::Arc;

    #[test]
    fn short_halts_make_polls_and_a_long_one_ends_them() {
        let mut nap = Nap::new(2, 2);
        assert_eq!(nap.window, Duration::ZERO);
        for _ in 0..10 {
            nap.learn(Duration::from_micros(50));
            assert!((LEAST..=MOST).contains(&nap.window));
        }
        assert_eq!(nap.window, MOST);
        nap.learn(Duration::from_millis(4));
        assert_eq!(nap.window, Duration::ZERO);
    }

    #[test]
    fn a_request_ends_the_wait_whether_polled_or_slept_through() {
        for (cpus, host) in [(1, 2), (2, 2), (4, 2)] {
            let signals = Arc::new(Signals::default());
            let mut nap = Nap::new(cpus, host);
            nap.window = if nap.polls { MOST } else { Duration::ZERO };
            let other = signals.clone();
            let raiser = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2));
                other.raise(request::INTR);
            });
            nap.wait(&signals);
            assert_eq!(signals.take(request::INTR), request::INTR);
            raiser.join().unwrap();
            // One that is there already is no reason to wait.
            signals.raise(request::NMI);
            nap.wait(&signals);
        }
    }
}
