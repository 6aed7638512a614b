//! What a device asks of the machine as a whole.

use std::fmt::Debug;

/// A request to the run loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// The guest has switched itself off (ACPI S5).
    PowerOff,
    /// The guest has asked for a reset (i8042, port 92h, ACPI reset register, triple fault).
    Reset,
    /// The guest has ended the run through `isa-debug-exit`, with this value.
    DebugExit(u32),
    /// The guest reports that it has panicked; it goes on running.
    GuestPanic,
}

/// Takes [`PowerEvent`]s. Called by a vCPU with no device lock held; must return, so that the vCPU can leave the
/// instruction before it is stopped.
pub trait PowerSink: Send + Sync + Debug {
    /// Takes note of `event`.
    fn power_event(&self, event: PowerEvent);
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::lock::lock;
    use std::sync::{Arc, Mutex};

    /// Keeps the events.
    #[derive(Debug, Default)]
    pub(crate) struct Events(Mutex<Vec<PowerEvent>>);

    impl Events {
        pub(crate) fn new() -> Arc<Self> {
            Arc::default()
        }
        pub(crate) fn taken(&self) -> Vec<PowerEvent> {
            std::mem::take(&mut lock(&self.0))
        }
    }

    impl PowerSink for Events {
        fn power_event(&self, event: PowerEvent) {
            lock(&self.0).push(event);
        }
    }
}
