//! What can go wrong while a guest is prepared; each variant is one line that says how to mend it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A guest could not be prepared.
#[derive(Debug, Error)]
pub enum GuestError {
    /// No folder to keep guests in.
    #[error("no place to keep guests: set XDG_CACHE_HOME or HOME to a folder that can be written")]
    NoCacheFolder,
    /// A tool of Debian's package system is not on this machine.
    #[error(
        "`{tool}` is not on this machine: the Debian guest is made from Debian's packages, so prepare it on a \
         Debian machine, or bring your own with --kernel and --initrd"
    )]
    MissingTool {
        /// The program that was not found.
        tool: String,
    },
    /// apt knows no such package, even after asking the mirrors again.
    #[error(
        "apt knows no package `{package}` for amd64 ({reason}): check the network and that apt has a Debian source \
         (on an Arm host also `dpkg --add-architecture amd64`), or use --kernel and --initrd"
    )]
    UnknownPackage {
        /// The package asked for.
        package: String,
        /// What apt said, or what is known of the cause.
        reason: String,
    },
    /// The package could not be fetched.
    #[error(
        "cannot download Debian's `{package}` ({reason}): check the network and apt's sources, or use --kernel \
         and --initrd"
    )]
    Download {
        /// The package asked for.
        package: String,
        /// What apt said.
        reason: String,
    },
    /// A tool ran and failed.
    #[error("`{tool}` failed ({reason}); use --kernel and --initrd to boot without preparing a guest")]
    ToolFailed {
        /// The program.
        tool: String,
        /// Its last line of complaint.
        reason: String,
    },
    /// A package does not hold what it should.
    #[error(
        "Debian's `{package}` holds no {what}: its layout is not known to this calque; use --kernel and --initrd"
    )]
    UnexpectedPackage {
        /// The package.
        package: String,
        /// The missing part.
        what: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl GuestError {
    /// Shorthand for `map_err` after a file system call.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
