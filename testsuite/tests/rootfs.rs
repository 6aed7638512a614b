//! A whole Debian 12 with systemd on a virtio disk. `testsuite/scripts/rootfs.sh` makes the disk and runs this; it takes
//! minutes and needs root, so it is not part of what CI runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use testsuite::debian::{self, Flavour};
use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::program::tool;
use testsuite::session::Session;
use testsuite::shell::Shell;

/// What runs inside and outside.
const WORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/rootfs-work.sh");

fn image() -> PathBuf {
    let path =
        std::env::var_os("CALQUE_ROOTFS").expect("CALQUE_ROOTFS names the image: run scripts/rootfs.sh");
    PathBuf::from(path)
}

/// Boots `disk` to systemd's login and logs in.
fn log_in(engine: &str, flavour: Flavour, disk: &Path) -> Shell {
    let guest = debian::guest(flavour).expect("a prepared kernel");
    let mut command = debian::calque(engine, &guest, "root=/dev/vda");
    debian::disk(&mut command, disk, "");
    let started = Instant::now();
    let mut session = Session::terminal(command);
    session.set_timeout(Duration::from_secs(900));
    session.expect("calque login:");
    eprintln!("{engine}, {}: {:.1} s to the login", flavour.name(), started.elapsed().as_secs_f64());
    session.line("root");
    let mut shell = Shell::boot(session, Duration::from_secs(300));
    // The shell here redraws its line for brackets in pastes and colours; plain text is easier to read.
    shell.session.line("bind 'set enable-bracketed-paste off'; stty cols 500");
    shell.prompt();
    shell.session.set_timeout(Duration::from_secs(3600));
    shell
}

fn comparisons(engine: &'static str, flavour: Flavour) {
    if engine::available(&[engine]).is_empty() {
        return;
    }
    let scratch = Scratch::new();
    let disk = scratch.path("root.img");
    tool(Command::new("cp").arg("--sparse=always").arg(image()).arg(&disk));
    tool(Command::new("debugfs").args(["-w", "-R", &format!("write {WORK} /root/work.sh")]).arg(&disk));

    // The same programs on this very processor. Only a library's choice of FMA would round differently.
    let tree = scratch.path("tree");
    std::fs::create_dir(&tree).expect("a folder");
    tool(Command::new("debugfs").args(["-R", &format!("rdump / {}", tree.display())]).arg(&disk));
    // The image has no device nodes: the guest's kernel makes them.
    for (name, minor) in [("null", "3"), ("zero", "5"), ("random", "8"), ("urandom", "9")] {
        let node = tree.join("dev").join(name);
        if !node.exists() {
            tool(Command::new("mknod").args(["-m", "666"]).arg(node).args(["c", "1", minor]));
        }
    }
    let mut host = Command::new("chroot");
    host.arg(&tree)
        .args(["/bin/sh", "/root/work.sh"])
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2");
    let wanted = String::from_utf8(tool(&mut host).stdout).expect("text");
    assert!(wanted.ends_with("== done\n"), "{wanted}");

    let mut shell = log_in(engine, flavour, &disk);
    let state = shell.run("systemctl is-system-running").0;
    assert!(
        state.starts_with("running"),
        "systemd is {state}: {}",
        shell.run("systemctl --failed --no-pager").0
    );
    let started = Instant::now();
    let (got, status) = shell.run("sh /root/work.sh");
    eprintln!("{engine}: {:.1} s for the work", started.elapsed().as_secs_f64());
    for (number, (got, wanted)) in got.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(got, wanted, "line {} of the work's output", number + 1);
    }
    assert_eq!((got.lines().count(), status), (wanted.lines().count(), 0), "{got}");

    // What is synced is kept when calque is killed.
    shell.ok("head -c 20000000 /dev/urandom >/root/noise; cp -r /usr/share/perl /root/copy; sync");
    let sum = shell.ok("md5sum </root/noise");
    shell.session.line("rm -r /root/copy; head -c 9000000 /dev/zero >/root/unsynced; echo @''gone");
    shell.session.expect("@gone");
    shell.session.kill();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let replay = Command::new("e2fsck").arg("-p").arg(&disk).env("PATH", path).output().expect("e2fsck");
    assert!(matches!(replay.status.code(), Some(0 | 1)), "{replay:?}");
    tool(Command::new("e2fsck").args(["-f", "-n"]).arg(&disk));
    let noise = tool(Command::new("debugfs").args(["-R", "cat /root/noise"]).arg(&disk)).stdout;
    let noise = scratch.file("noise", &noise);
    let found = tool(Command::new("md5sum").arg(noise)).stdout;
    assert_eq!(String::from_utf8_lossy(&found).split_whitespace().next(), sum.split_whitespace().next());

    // And it boots again, and powers off in order.
    let mut shell = log_in(engine, flavour, &disk);
    assert_eq!(shell.ok("md5sum </root/noise"), sum);
    shell.session.set_timeout(Duration::from_secs(300));
    let outcome = shell.power_off();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    tool(Command::new("e2fsck").args(["-f", "-n"]).arg(&disk));
}

#[test]
#[ignore = "a whole Debian: testsuite/scripts/rootfs.sh"]
fn cloud_jit() {
    comparisons("jit", Flavour::Cloud);
}

#[test]
#[ignore = "a whole Debian: testsuite/scripts/rootfs.sh"]
fn generic_jit() {
    comparisons("jit", Flavour::Generic);
}

#[test]
#[ignore = "a whole Debian: testsuite/scripts/rootfs.sh"]
fn cloud_interp() {
    comparisons("interp", Flavour::Cloud);
}
