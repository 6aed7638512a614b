//! The host's randomness, for virtio-rng.

use devices::virtio::EntropySource;
use std::fs::File;
use std::io::{self, Read};

/// Bytes from the host's generator.
#[derive(Debug)]
pub struct HostEntropy(File);

impl HostEntropy {
    /// Opens the host's generator.
    ///
    /// # Errors
    /// When the host has none.
    pub fn open() -> io::Result<Self> {
        File::open("/dev/urandom").map(Self)
    }
}

impl EntropySource for HostEntropy {
    fn fill(&self, buf: &mut [u8]) {
        if (&self.0).read_exact(buf).is_err() {
            // Never seen to happen; a guest must not take old memory for randomness.
            buf.fill(0);
        }
    }
}
