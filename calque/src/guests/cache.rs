//! The folder where prepared guests live: found, locked, and filled atomically.
//!
//! Invariant: an entry (a sub-folder) that exists under its final name is complete. It is built under a
//! temporary name and renamed. Builders of one kind of guest take a lock file, so that two calques started
//! together prepare once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::{GuestError, Progress};

/// A folder of prepared guests.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache: `$XDG_CACHE_HOME/calque`, else `$HOME/.cache/calque`.
    pub fn of_user() -> Result<Self, GuestError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Ok(Self { root: base.ok_or(GuestError::NoCacheFolder)?.join("calque") })
    }

    /// A cache at a folder of the caller's choice; it is created when first written to.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits for the lock called `name` and holds it until the returned value is dropped.
    pub fn lock(&self, name: &str, progress: &dyn Progress) -> Result<Lock, GuestError> {
        fs::create_dir_all(&self.root).map_err(GuestError::io("create the folder", &self.root))?;
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(GuestError::io("create", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.message("waiting for another calque that prepares the same guest");
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|e| GuestError::io("lock", &path)(io::Error::from(e)))?;
        }
        Ok(Lock { _file: file })
    }

    /// A new empty folder inside the cache that disappears when dropped, for work in progress.
    pub fn scratch(&self) -> Result<Scratch, GuestError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!(".work-{}-{n}", process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(GuestError::io("remove", &path))?;
        }
        fs::create_dir_all(&path).map_err(GuestError::io("create the folder", &path))?;
        Ok(Scratch { path })
    }
}

/// Holds a cache lock; the system gives it up with the file, also when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A temporary folder inside the cache.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the sub-folder `part` to `entry`, which thereby appears whole or not at all. An entry that is
    /// already there was made by somebody else from the same recipe and is kept.
    pub fn publish(&self, part: &str, entry: &Path) -> Result<(), GuestError> {
        let from = self.path.join(part);
        match fs::rename(&from, entry) {
            Err(_) if entry.is_dir() => Ok(()),
            other => other.map_err(GuestError::io("create", entry)),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on the removal: a folder left behind only costs space.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes `bytes` to `path` whole or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), GuestError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, bytes).map_err(GuestError::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(GuestError::io("write", path))
}
