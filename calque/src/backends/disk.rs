//! Raw image files behind virtio disks.
//!
//! Invariant: `flush` returns only when the host has said that the bytes are on stable storage (fsync), so nothing
//! that a guest has flushed is lost when calque or the host dies.

use crate::config::Disk;
use devices::virtio::BlockBackend;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::PathBuf;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum DiskError {
    #[error(
        "disk image '{0}' does not exist: create it with 'truncate -s 10G {0}' or 'qemu-img create -f raw {0} 10G'"
    )]
    Missing(PathBuf),
    #[error("disk image '{0}' is a directory")]
    Directory(PathBuf),
    #[error(
        "disk image '{0}' is read-only for you: add ',ro' to let the guest only read it, or make it writable"
    )]
    ReadOnly(PathBuf),
    #[error("disk image '{0}' is in use by another calque: end that one first, or give both ',ro'")]
    InUse(PathBuf),
    #[error(
        "disk image '{0}' is a {1} image, and only raw images are supported: convert it with 'qemu-img convert -O raw'"
    )]
    NotRaw(PathBuf, &'static str),
    #[error("disk image '{0}' has {1} bytes, which is not a positive multiple of 512")]
    BadSize(PathBuf, u64),
    #[error("disk image '{0}': {1}")]
    Io(PathBuf, io::Error),
}

/// An opened raw image.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    len: u64,
    read_only: bool,
}

impl RawDisk {
    /// Opens and locks an image.
    ///
    /// # Errors
    /// [`DiskError`], one line each.
    pub fn open(disk: &Disk) -> Result<Self, DiskError> {
        let path = || disk.path.clone();
        let meta = std::fs::metadata(&disk.path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => DiskError::Missing(path()),
            _ => DiskError::Io(path(), e),
        })?;
        if meta.is_dir() {
            return Err(DiskError::Directory(path()));
        }
        // Root may open a file for writing that its mode bits protect; respect the bits all the same.
        if !disk.read_only && meta.permissions().readonly() {
            return Err(DiskError::ReadOnly(path()));
        }
        let file =
            OpenOptions::new().read(true).write(!disk.read_only).open(&disk.path).map_err(|e| {
                match e.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                        if !disk.read_only =>
                    {
                        DiskError::ReadOnly(path())
                    }
                    _ => DiskError::Io(path(), e),
                }
            })?;
        let how = if disk.read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        flock(&file, how).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => DiskError::InUse(path()),
            e => DiskError::Io(path(), e.into()),
        })?;
        let mut len = meta.len();
        if meta.file_type().is_block_device() {
            use std::io::Seek;
            len = (&file).seek(io::SeekFrom::End(0)).map_err(|e| DiskError::Io(path(), e))?;
        }
        let mut magic = [0; 8];
        let got = file.read_at(&mut magic, 0).map_err(|e| DiskError::Io(path(), e))?;
        for (sign, name) in [
            (&b"QFI\xfb"[..], "qcow2"),
            (b"KDMV", "VMDK"),
            (b"vhdxfile", "VHDX"),
            (b"conectix", "VHD"),
            (b"<<< ", "VDI"),
        ] {
            if magic[..got].starts_with(sign) {
                return Err(DiskError::NotRaw(path(), name));
            }
        }
        if len == 0 || len % 512 != 0 {
            return Err(DiskError::BadSize(path(), len));
        }
        Ok(Self { file, len, read_only: disk.read_only })
    }
}

impl BlockBackend for RawDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // A discard is a hint: a host that cannot punch holes just keeps the bytes.
        holes::zero(&self.file, offset, len, true).map(drop)
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        if holes::zero(&self.file, offset, len, may_unmap)? {
            return Ok(());
        }
        let zeroes = vec![0; (1 << 20).min(len as usize)];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(zeroes.len() as u64);
            self.file.write_all_at(&zeroes[..n as usize], offset + done)?;
            done += n;
        }
        Ok(())
    }
}

/// Zeroing ranges without writing them.
#[cfg(target_os = "linux")]
mod holes {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    use std::fs::File;
    use std::io;

    /// Makes a range read as zero, giving up its storage if `unmap`. False if the file system cannot.
    pub fn zero(file: &File, offset: u64, len: u64, unmap: bool) -> io::Result<bool> {
        let how = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(file, how | FallocateFlags::KEEP_SIZE, offset, len) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

/// Zeroing ranges without writing them: not on this host.
#[cfg(not(target_os = "linux"))]
mod holes {
    use std::fs::File;
    use std::io;

    /// Makes a range read as zero. Always false: it has to be written.
    pub fn zero(_: &File, _: u64, _: u64, _: bool) -> io::Result<bool> {
        Ok(false)
    }
}
