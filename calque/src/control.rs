//! What stops the machine from outside its processors, and how they learn of it.

use crate::ending::Ending;
use devices::power::{PowerEvent, PowerSink};
use emu_core::signals::{Signals, request};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The end of the run, once somebody has decided it, and requests to the run loop.
#[derive(Debug, Default)]
pub struct Control {
    ending: Mutex<Option<Ending>>,
    status: AtomicBool,
    signals: Mutex<Vec<Arc<Signals>>>,
}

impl Control {
    /// Names the processors to stop; they replace those of a machine that was reset.
    pub fn attach(&self, signals: Vec<Arc<Signals>>) {
        *self.signals.lock().unwrap_or_else(|e| e.into_inner()) = signals;
        if self.ended() {
            self.stop();
        }
    }

    /// Makes every processor leave its run loop.
    pub fn stop(&self) {
        for s in &*self.signals.lock().unwrap_or_else(|e| e.into_inner()) {
            s.raise(request::STOP);
        }
    }

    /// Ends the run; the first to do so decides how.
    pub fn end(&self, ending: Ending) {
        self.ending.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(ending);
        self.stop();
    }

    /// Asks the run loop to show where it is.
    pub fn ask_status(&self) {
        self.status.store(true, Ordering::Release);
        self.stop();
    }

    /// Whether the status was asked for since the last call.
    pub fn take_status(&self) -> bool {
        self.status.swap(false, Ordering::AcqRel)
    }

    /// Whether an end has been decided.
    pub fn ended(&self) -> bool {
        self.ending.lock().unwrap_or_else(|e| e.into_inner()).is_some()
    }

    /// The decided end, taken.
    pub fn take_ending(&self) -> Option<Ending> {
        self.ending.lock().unwrap_or_else(|e| e.into_inner()).take()
    }
}

impl PowerSink for Control {
    fn power_event(&self, event: PowerEvent) {
        self.end(match event {
            PowerEvent::PowerOff => Ending::PowerOff,
            PowerEvent::Reset => Ending::Reset,
            PowerEvent::DebugExit(v) => Ending::DebugExit(v),
            PowerEvent::GuestPanic => Ending::GuestPanic,
        });
    }
}
