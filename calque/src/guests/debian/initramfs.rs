//! Puts busybox, the chosen modules and our `/init` into one compressed archive.

use std::collections::BTreeSet;
use std::io::Write;

use flate2::{Compression, GzBuilder};

use super::modules::Modules;
use crate::guests::cpio::Archive;

/// The first program of the guest.
pub const INIT: &str = include_str!("init.sh");

/// What a shell at the prompt starts with.
pub const PROFILE: &str = include_str!("profile.sh");

const FOLDERS: &[&str] =
    &["bin", "dev", "etc", "lib", "lib/modules", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"];
const LINKS: &[(&str, &str)] = &[
    ("sbin", "bin"),
    ("usr/bin", "../bin"),
    ("usr/sbin", "../bin"),
    ("usr/lib", "../lib"),
    ("var/run", "../run"),
];

/// Builds the gzip'd archive. `release` is the kernel's `uname -r`, which names the module folder.
pub fn build(busybox: &[u8], release: &str, modules: &Modules) -> Vec<u8> {
    let mut archive = Archive::new();
    FOLDERS.iter().for_each(|name| archive.directory(name, 0o755));
    LINKS.iter().for_each(|(name, target)| archive.symlink(name, target));
    // The kernel opens it for /init's first words, before any file system is mounted.
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("etc/profile", 0o644, PROFILE.as_bytes());
    archive.file(
        "etc/passwd",
        0o644,
        b"root::0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/:/bin/false\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
    archive.file("etc/hostname", 0o644, b"calque\n");
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost calque\n::1 localhost\n");
    // What `mount` tries when it is told no type: asking for a type makes the kernel load its module.
    archive.file("etc/filesystems", 0o644, b"ext4\n");
    archive.file("bin/busybox", 0o755, busybox);
    for name in applets(busybox).iter().filter(|name| **name != "busybox") {
        archive.symlink(&format!("bin/{name}"), "busybox");
    }
    add_modules(&mut archive, release, modules);
    compress(&archive.finish())
}

fn add_modules(archive: &mut Archive, release: &str, modules: &Modules) {
    let base = format!("lib/modules/{release}");
    archive.directory(&base, 0o755);
    let mut known = BTreeSet::new();
    for module in modules.iter() {
        for (end, _) in module.path.match_indices('/') {
            if known.insert(&module.path[..end]) {
                archive.directory(&format!("{base}/{}", &module.path[..end]), 0o755);
            }
        }
        archive.file(&format!("{base}/{}", module.path), 0o644, &module.bytes);
    }
    archive.file(&format!("{base}/modules.dep"), 0o644, modules.dependencies().as_bytes());
    archive.file(&format!("{base}/modules.alias"), 0o644, modules.aliases().as_bytes());
    archive.file(&format!("{base}/modules.softdep"), 0o644, modules.soft_dependencies().as_bytes());
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    // A fixed time stamp keeps the result the same for the same content.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

/// The names busybox answers to, read from its own sorted table, because the host may not be able to run it.
fn applets(busybox: &[u8]) -> Vec<&str> {
    const START: &[u8] = b"\0[\0[[\0";
    let Some(start) = busybox.windows(START.len()).position(|window| window == START) else {
        return Vec::new();
    };
    busybox[start + 1..]
        .split(|byte| *byte == 0)
        .map_while(|name| std::str::from_utf8(name).ok().filter(|name| is_applet(name)))
        .collect()
}

fn is_applet(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.[".contains(c);
    !name.is_empty() && name.len() < 32 && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_are_read_up_to_the_end_of_the_table() {
        assert_eq!(applets(b"junk\0[\0[[\0ash\0cat\0\0more\0"), ["[", "[[", "ash", "cat"]);
        assert!(applets(b"no table here").is_empty());
    }

    #[test]
    fn an_archive_without_modules_still_has_its_indexes() {
        let packed = build(b"\0[\0[[\0sh\0\0", "6.1", &Modules::default());
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut plain).unwrap();
        for name in ["init\0", "bin/sh\0", "bin/[[\0", "lib/modules/6.1/modules.dep\0", "dev/console\0"] {
            assert!(plain.windows(name.len()).any(|window| window == name.as_bytes()), "{name:?} missing");
        }
    }
}
