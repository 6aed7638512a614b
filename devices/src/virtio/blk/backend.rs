//! What a disk's bytes come from.

use std::fmt::Debug;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes of a disk. Offsets and lengths are within [`BlockBackend::len`]; devices check before they call.
///
/// Shared by the device's worker and its owner, so all methods take `&self`.
pub trait BlockBackend: Send + Sync + Debug {
    /// Size in bytes. What does not fill a sector at the end cannot be reached.
    fn len(&self) -> u64;
    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Fills `buf` from `offset`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes `buf` at `offset`. May stay in a cache until [`BlockBackend::flush`].
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// Returns when everything written before is on stable storage.
    fn flush(&self) -> io::Result<()>;
    /// The bytes are no longer needed; what they read as afterwards is open.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;
    /// The bytes read as zero afterwards. `may_unmap`: their storage may be given up.
    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()>;
}

/// A disk in host memory, for tests and scratch disks.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    bytes: Mutex<Vec<u8>>,
    read_only: bool,
}

impl MemoryBackend {
    /// A disk that holds `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), read_only: false }
    }

    /// A disk that holds `bytes` and refuses writes.
    pub fn new_read_only(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), read_only: true }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of all bytes.
    pub fn contents(&self) -> Vec<u8> {
        self.lock().clone()
    }

    fn with<T>(&self, offset: u64, len: u64, f: impl FnOnce(&mut [u8]) -> T) -> io::Result<T> {
        let mut bytes = self.lock();
        let end = offset.checked_add(len).filter(|&end| end <= bytes.len() as u64);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(f(&mut bytes[offset as usize..end as usize]))
    }

    fn change(&self, offset: u64, len: u64, f: impl FnOnce(&mut [u8])) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { self.with(offset, len, f) }
    }
}

impl BlockBackend for MemoryBackend {
    fn len(&self) -> u64 {
        self.lock().len() as u64
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with(offset, buf.len() as u64, |bytes| buf.copy_from_slice(bytes))
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.change(offset, buf.len() as u64, |bytes| bytes.copy_from_slice(buf))
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(offset, len, |_| ())
    }
    fn write_zeroes(&self, offset: u64, len: u64, _may_unmap: bool) -> io::Result<()> {
        self.change(offset, len, |bytes| bytes.fill(0))
    }
}
