//! Valgrind's instruction tests in the Debian guest and on the host: every line that they print is the same.
//! `testsuite/scripts/valgrind.sh` builds them and runs this.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use testsuite::debian::{self, Flavour};
use testsuite::files::Scratch;
use testsuite::program::{self, tool};
use testsuite::session::Session;
use testsuite::shell::Shell;

/// Programs whose output may differ, and why.
const EXCEPT: &[(&str, &str)] = &[
    (
        "amd64-avx_estimate_insn",
        "prints RCPPS and RSQRTPS, for which the manual gives a bound and not a value",
    ),
    ("amd64-allexec", "prints its own path"),
    ("x86-allexec", "prints its own path"),
    ("amd64-bmi", "prints BEXTR's AF, which is undefined"),
    ("amd64-lzcnt64", "prints LZCNT's OF, SF, AF and PF, which are undefined"),
    ("x86-lzcnt32", "prints LZCNT's OF, SF, AF and PF, which are undefined"),
    ("amd64-shrld", "prints 16-bit SHLD and SHRD by more than 16, of which everything is undefined"),
    (
        "x86-insn_basic",
        "crashes everywhere: gcc 12 gives its asm statements an operand in a register that they change",
    ),
    (
        "x86-yield",
        "a race of two threads, of which one pauses: who wins is up to the scheduler and the processor",
    ),
    ("amd64-rdrand", "random numbers"),
    ("amd64-rdseed", "random numbers"),
];

/// Seconds that a program may take, here or there: patience, not a bar on speed.
const PATIENCE: u64 = 1200;

fn programs(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the programs that valgrind.sh has built");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|n| EXCEPT.iter().all(|e| e.0 != n));
    names.sort();
    assert!(names.len() > 50, "only {} programs: {names:?}", names.len());
    names
}

/// What a program prints on the host, with its status.
fn on_the_host(program: &Path) -> Vec<u8> {
    let script = format!("timeout {PATIENCE} \"$0\" </dev/null 2>&1; echo status $?");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).stdin(Stdio::null());
    command.output().expect("a shell").stdout
}

/// The first line in which two outputs differ.
fn difference(host: &[u8], guest: &[u8]) -> Option<String> {
    let (a, b) = (String::from_utf8_lossy(host), String::from_utf8_lossy(guest));
    // What shells say of signals; the status says it too.
    let said = |l: &&str| !matches!(*l, "Aborted" | "Segmentation fault" | "Illegal instruction");
    let (mut x, mut y) = (a.lines().filter(said), b.lines().filter(said));
    for n in 1.. {
        match (x.next(), y.next()) {
            (None, None) => break,
            (p, q) if p != q => {
                return Some(format!("line {n}: host {:?}, guest {:?}", p.unwrap_or("-"), q.unwrap_or("-")));
            }
            _ => {}
        }
    }
    None
}

fn agree(engine: &str) {
    let Some(folder) = std::env::var_os("CALQUE_VALGRIND").map(PathBuf::from) else {
        eprintln!("skipped: testsuite/scripts/valgrind.sh makes what this needs");
        return;
    };
    let Some(guest) = debian::guest(Flavour::Cloud) else { return };
    let names = programs(&folder);
    let scratch = Scratch::new();
    let image = scratch.sparse("tests.img", 256 << 20);
    tool(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&folder).arg(&image));

    let mut command = program::calque();
    // QEMU's `max` of that spelling has no ADX.
    command.args(["qemu", "--engine", engine, "-cpu", "max,+adx"]);
    command.args("-m 1024 -smp 1 -nodefaults -display none -serial stdio -no-reboot".split(' '));
    command
        .arg("-kernel")
        .arg(&guest.kernel)
        .arg("-initrd")
        .arg(&guest.initrd)
        .arg("-append")
        .arg(&guest.append);
    command.arg("-drive").arg(format!("file={},if=virtio,format=raw", image.display()));
    let mut shell = Shell::boot(Session::terminal(command), Duration::from_secs(300));
    shell.session.set_timeout(Duration::from_secs(PATIENCE));
    shell.ok("mkdir -p /mnt && mount /dev/vda /mnt && mkdir /mnt/out");
    for name in &names {
        shell.ok(&format!("(/mnt/{name} </dev/null 2>&1; echo status $?) >/mnt/out/{name}"));
    }
    shell.ok("sync; umount /mnt");
    assert_eq!(shell.power_off().status, Some(0));

    let mut different = Vec::new();
    for name in &names {
        let file = format!("cat /out/{name}");
        let ours = tool(Command::new("debugfs").arg("-R").arg(file).arg(&image)).stdout;
        let host = on_the_host(&folder.join(name));
        if let Some(line) = difference(&host, &ours) {
            different.push(format!("{name}: {line}"));
        }
    }
    eprintln!("{} programs print the same, {} are left out", names.len() - different.len(), EXCEPT.len());
    assert!(different.is_empty(), "{} of {} differ:\n{}", different.len(), names.len(), different.join("\n"));
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/valgrind.sh"]
fn jit() {
    agree("jit");
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/valgrind.sh"]
fn interp() {
    agree("interp");
}
