//! Where bytes a device sends out go.

use std::fmt::Debug;

/// Takes the output of a serial port or debug console. Never blocks for long: it is called by a vCPU, with the lock
/// of the device held, and must not call the device back.
pub trait ByteSink: Send + Sync + Debug {
    /// Takes all of `bytes`.
    fn write(&self, bytes: &[u8]);
}

/// Drops everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct NullSink;
impl ByteSink for NullSink {
    fn write(&self, _bytes: &[u8]) {}
}

#[cfg(test)]
pub(crate) mod testing {
    use super::ByteSink;
    use crate::lock::lock;
    use std::sync::{Arc, Mutex};

    /// Keeps everything.
    #[derive(Debug, Default)]
    pub(crate) struct Collect(Mutex<Vec<u8>>);

    impl Collect {
        pub(crate) fn new() -> Arc<Self> {
            Arc::default()
        }
        pub(crate) fn taken(&self) -> Vec<u8> {
            std::mem::take(&mut lock(&self.0))
        }
    }

    impl ByteSink for Collect {
        fn write(&self, bytes: &[u8]) {
            lock(&self.0).extend_from_slice(bytes);
        }
    }
}
