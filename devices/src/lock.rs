//! Locking without poisoning: a device stays usable after some other thread has panicked.

use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`, whether or not a former holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
