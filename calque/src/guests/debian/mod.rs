//! The Debian guest: Debian's own kernel, unmodified, and an initramfs of ours around Debian's busybox.
//!
//! [`prepare`] makes it once from packages by name and afterwards answers from the cache without asking
//! anybody. The cache key holds the packages' versions and a fingerprint of our own part of the recipe, so a
//! newer calque never boots an older one's initramfs.

mod apt;
mod initramfs;
mod modules;

use std::fs;
use std::path::{Path, PathBuf};

use self::apt::{Apt, Package};
use self::modules::Modules;
use super::cache::write_atomically;
use super::{Cache, GuestError, Progress};

const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd.gz";

/// Which of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// `linux-image-cloud-amd64`: for virtual machines, few drivers, boots sooner.
    Cloud,
    /// `linux-image-amd64`: the kernel of an ordinary Debian machine.
    Generic,
}

impl Flavour {
    /// A short name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }

    /// The package that always depends on the newest kernel of this flavour.
    pub fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }
}

/// A guest ready to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// The initramfs, a gzip'd cpio archive.
    pub initrd: PathBuf,
    /// The kernel command line that leads to a prompt on the first serial port.
    pub append: String,
    /// The kernel package and version it was made from.
    pub description: String,
}

/// Finds the guest in the cache or makes it, telling `progress` what is being done.
pub fn prepare(flavour: Flavour, cache: &Cache, progress: &dyn Progress) -> Result<Prepared, GuestError> {
    if let Some(prepared) = cached(flavour, cache) {
        return Ok(prepared);
    }
    let _lock = cache.lock("debian", progress)?;
    // Somebody else may have made it while we waited for the lock.
    if let Some(prepared) = cached(flavour, cache) {
        return Ok(prepared);
    }
    make(flavour, cache, progress)
}

/// Makes the guest from the newest packages even when an older one is in the cache.
pub fn refresh(flavour: Flavour, cache: &Cache, progress: &dyn Progress) -> Result<Prepared, GuestError> {
    let _lock = cache.lock("debian", progress)?;
    make(flavour, cache, progress)
}

/// The guest that was made last, if it is whole.
fn cached(flavour: Flavour, cache: &Cache) -> Option<Prepared> {
    let key = fs::read_to_string(pointer(flavour, cache)).ok()?;
    prepared_at(&cache.root().join("debian").join(key.trim()))
}

fn prepared_at(folder: &Path) -> Option<Prepared> {
    let (kernel, initrd) = (folder.join(KERNEL), folder.join(INITRD));
    let description = fs::read_to_string(folder.join("description")).ok()?.trim().to_owned();
    let whole = kernel.is_file() && initrd.is_file();
    whole.then(|| Prepared { kernel, initrd, append: "console=ttyS0".into(), description })
}

/// The file that names the guest made last with this very recipe.
fn pointer(flavour: Flavour, cache: &Cache) -> PathBuf {
    cache.root().join(format!("debian-{}-{:016x}", flavour.name(), recipe()))
}

fn make(flavour: Flavour, cache: &Cache, progress: &dyn Progress) -> Result<Prepared, GuestError> {
    let mut apt = Apt::new(cache.root().join("apt"));
    progress.message(&format!("asking apt for {}", flavour.package()));
    let (kernel, busybox) = apt.with_fresh_lists(progress, |apt| {
        Ok((apt.dependency(flavour.package(), "linux-image-")?, apt.find("busybox-static")?))
    })?;
    let key = format!("{}_{}_busybox_{}_{:016x}", kernel.name, kernel.version, busybox.version, recipe());
    let key = key.replace(['/', ':', '~'], "-");
    let entry = cache.root().join("debian").join(&key);
    if prepared_at(&entry).is_none() {
        fill(&mut apt, &kernel, &busybox, cache, &entry, progress)?;
    }
    write_atomically(&pointer(flavour, cache), key.as_bytes())?;
    prepared_at(&entry)
        .ok_or_else(|| GuestError::UnexpectedPackage { package: kernel.name, what: "kernel".into() })
}

/// Downloads, unpacks and assembles into the cache entry `entry`.
fn fill(
    apt: &mut Apt,
    kernel: &Package,
    busybox: &Package,
    cache: &Cache,
    entry: &Path,
    progress: &dyn Progress,
) -> Result<(), GuestError> {
    let scratch = cache.scratch()?;
    let work = scratch.path();
    for package in [kernel, busybox] {
        progress.message(&format!("downloading {} {}", package.name, package.version));
        apt.with_fresh_lists(progress, |apt| apt.unpack(package, work, &work.join(&package.name)))?;
    }
    progress.message("building the initramfs");
    let boot = work.join(&kernel.name).join("boot");
    let missing = |package: &Package, what: &str| GuestError::UnexpectedPackage {
        package: package.name.clone(),
        what: what.into(),
    };
    let image = first_named(&boot, "vmlinuz-").ok_or_else(|| missing(kernel, "boot/vmlinuz"))?;
    let release = image.file_name().and_then(|n| n.to_str()).unwrap_or_default().replacen("vmlinuz-", "", 1);
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|place| work.join(&kernel.name).join(place).join(&release))
        .into_iter()
        .find(|folder| folder.is_dir())
        .ok_or_else(|| missing(kernel, "lib/modules"))?;
    let modules = Modules::choose(&modules)?;
    let program = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .find_map(|place| fs::read(work.join(&busybox.name).join(place)).ok())
        .ok_or_else(|| missing(busybox, "bin/busybox"))?;

    let ready = work.join("ready");
    fs::create_dir_all(&ready).map_err(GuestError::io("create the folder", &ready))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = ready.join(name);
        fs::write(&path, bytes).map_err(GuestError::io("write", &path))
    };
    write(INITRD, &initramfs::build(&program, &release, &modules))?;
    write("description", format!("{} {}", kernel.name, kernel.version).as_bytes())?;
    write(KERNEL, &fs::read(&image).map_err(GuestError::io("read", &image))?)?;
    let folder = entry.parent().unwrap_or(cache.root());
    fs::create_dir_all(folder).map_err(GuestError::io("create the folder", folder))?;
    scratch.publish("ready", entry)
}

fn first_named(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(named)
}

/// A fingerprint (64-bit FNV-1a) of everything of ours that goes into the initramfs.
fn recipe() -> u64 {
    /// To be raised when the code that builds the archive changes what it builds.
    const EDITION: &str = "2";
    let parts = [EDITION, initramfs::INIT, initramfs::PROFILE, modules::WANTED];
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::Silent;

    #[test]
    fn what_is_in_the_cache_is_answered_without_apt() {
        let root = std::env::temp_dir().join(format!("calque-cache-{}", std::process::id()));
        let cache = Cache::at(&root);
        assert!(cached(Flavour::Cloud, &cache).is_none());
        let entry = root.join("debian/k_1");
        fs::create_dir_all(&entry).unwrap();
        for (name, text) in [(KERNEL, "k"), (INITRD, "i"), ("description", "linux-image-k 1\n")] {
            fs::write(entry.join(name), text).unwrap();
        }
        write_atomically(&pointer(Flavour::Cloud, &cache), b"k_1").unwrap();
        let prepared = prepare(Flavour::Cloud, &cache, &Silent).unwrap();
        assert_eq!(prepared.description, "linux-image-k 1");
        assert!(cached(Flavour::Generic, &cache).is_none());
        fs::remove_file(entry.join(INITRD)).unwrap();
        assert!(cached(Flavour::Cloud, &cache).is_none(), "an incomplete entry is not used");
        fs::remove_dir_all(&root).unwrap();
    }
}
