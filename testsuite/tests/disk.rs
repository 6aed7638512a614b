//! A virtio disk with ext4 on it: what the guest has synced survives `kill -9` of calque.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testsuite::debian::{self, Flavour};
use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::program::{has_tool, tool};
use testsuite::session::Session;
use testsuite::shell::Shell;

/// A file's bytes as `debugfs` finds them in an image, without mounting it.
fn file_in(image: &Path, name: &str) -> Vec<u8> {
    tool(Command::new("debugfs").arg("-R").arg(format!("cat {name}")).arg(image)).stdout
}

fn start(engine: &str, guest: &calque::guests::debian::Prepared, image: &Path, more: &str) -> Shell {
    let mut command = debian::calque(engine, guest, "");
    debian::disk(&mut command, image, more);
    Shell::boot(Session::terminal(command), Duration::from_secs(180))
}

fn survives(engine: &'static str, flavour: Flavour) {
    if !has_tool("mke2fs") || !has_tool("debugfs") {
        assert!(std::env::var_os("CALQUE_DEBIAN").is_none(), "e2fsprogs has to be installed");
        eprintln!("skipped: the test needs mke2fs, e2fsck and debugfs (e2fsprogs)");
        return;
    }
    let (Some(guest), false) = (debian::guest(flavour), engine::available(&[engine]).is_empty()) else {
        return;
    };
    let scratch = Scratch::new();
    let image = scratch.sparse("disk.img", 96 << 20);
    tool(Command::new("mke2fs").args(["-q", "-t", "ext4", "-L", "kept"]).arg(&image));

    let mut shell = start(engine, &guest, &image, "");
    shell.ok("mkdir -p /mnt && mount /dev/vda /mnt");
    assert!(shell.ok("grep vda /proc/partitions").contains("98304 vda"));
    shell.ok(
        "seq 200000 > /mnt/numbers; mkdir /mnt/many; for n in $(seq 300); do echo $n > /mnt/many/$n; done",
    );
    shell.ok("dd if=/dev/urandom of=/mnt/noise bs=64k count=160 2>/dev/null; sync");
    let sums = shell.ok("cd /mnt; md5sum numbers noise; cd");
    // Written but not synced: this may be lost, and the file system has to be sound all the same.
    shell
        .session
        .line("dd if=/dev/zero of=/mnt/unsynced bs=64k count=200 2>/dev/null; rm -r /mnt/many; echo @''gone");
    shell.session.expect("@gone");
    shell.session.kill();

    // The journal is replayed, which is no damage; a second look finds nothing to do at all.
    let replay = Command::new("e2fsck").arg("-p").arg(&image).env("PATH", path()).output().expect("e2fsck");
    assert!(matches!(replay.status.code(), Some(0 | 1)), "{replay:?}");
    tool(Command::new("e2fsck").args(["-f", "-n"]).arg(&image));
    let numbers: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(file_in(&image, "/numbers") == numbers.as_bytes());
    for name in ["numbers", "noise"] {
        let path = scratch.file(name, &file_in(&image, &format!("/{name}")));
        let sum = String::from_utf8_lossy(&tool(Command::new("md5sum").arg(path)).stdout).into_owned();
        let sum = sum.split_whitespace().next().unwrap_or_default();
        assert!(sums.contains(sum), "{name} has {sum}, the guest said {sums}");
    }

    // Read-only: the guest reads, cannot write, and the image stays as it is.
    let before = std::fs::read(&image).expect("the image");
    let mut shell = start(engine, &guest, &image, ",readonly=on");
    shell.ok("mkdir -p /mnt && mount -o ro /dev/vda /mnt");
    assert_eq!(shell.ok("cd /mnt; md5sum numbers noise; cd"), sums);
    assert_ne!(shell.run("dd if=/dev/zero of=/dev/vda count=1").1, 0);
    assert_eq!(shell.power_off().status, Some(0));
    assert!(std::fs::read(&image).expect("the image") == before, "a read-only image was written to");
}

fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn synced_files_survive_a_kill_jit() {
    survives("jit", Flavour::Generic);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn synced_files_survive_a_kill_interp() {
    survives("interp", Flavour::Cloud);
}
