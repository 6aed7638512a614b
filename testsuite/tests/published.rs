//! Instruction tests that others have published, in the Debian guest and on the host: every line that they print is the same.
//! `testsuite/scripts/published.sh` builds them and runs this.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use testsuite::debian::{self, Flavour};
use testsuite::files::Scratch;
use testsuite::program::tool;
use testsuite::session::Session;
use testsuite::shell::Shell;

/// Programs whose output may differ, and why.
const EXCEPT: &[(&str, &str, &str)] = &[
    (
        "valgrind",
        "amd64-avx_estimate_insn",
        "prints RCPPS and RSQRTPS, for which the manual gives a bound and not a value",
    ),
    ("valgrind", "amd64-allexec", "prints its own path"),
    ("valgrind", "x86-allexec", "prints its own path"),
    ("valgrind", "amd64-bmi", "prints BEXTR's AF, which is undefined"),
    ("valgrind", "amd64-lzcnt64", "prints LZCNT's OF, SF, AF and PF, which are undefined"),
    ("valgrind", "x86-lzcnt32", "prints LZCNT's OF, SF, AF and PF, which are undefined"),
    (
        "valgrind",
        "amd64-shrld",
        "prints 16-bit SHLD and SHRD by more than 16, of which everything is undefined",
    ),
    (
        "valgrind",
        "x86-insn_basic",
        "crashes everywhere: gcc 12 gives its asm statements an operand in a register that they change",
    ),
    (
        "valgrind",
        "x86-yield",
        "a race of two threads, of which one pauses: who wins is up to the scheduler and the processor",
    ),
    (
        "gcc",
        "i386-ssp-default-32",
        "runs for ever where gcc does not protect stacks unasked, as Debian's does not",
    ),
    ("valgrind", "amd64-rdrand", "random numbers"),
    ("valgrind", "amd64-rdseed", "random numbers"),
];

/// Lines that may differ in a program that prints others too.
struct Lines {
    suite: &'static str,
    program: &'static str,
    /// Whether a line is one, given with the last that had a capital letter: a mnemonic.
    excused: fn(heading: &str, line: &str) -> bool,
}

/// 16-bit SHLD and SHRD by more than 16, of which everything is undefined; RCPPS and RSQRTPS, for which the manual gives a bound
/// and not a value.
const LINES: &[Lines] = &[
    Lines { suite: "qemu", program: "amd64-test-x86_64", excused: long_word_shift },
    Lines { suite: "qemu", program: "x86-test-i386", excused: long_word_shift },
    Lines { suite: "qemu", program: "amd64-test-avx", excused: estimate },
];

/// `shldw A=.. B=.. C=COUNT R=..` with a count of 17 to 31.
fn long_word_shift(_: &str, line: &str) -> bool {
    let count =
        line.split_once(" C=").and_then(|(_, rest)| u64::from_str_radix(rest.split(' ').next()?, 16).ok());
    (line.starts_with("shldw ") || line.starts_with("shrdw ")) && count.is_some_and(|n| n & 31 > 16)
}

/// The lines below `NUMBER RCPPS xmm10,xmm11` and the like.
fn estimate(heading: &str, _: &str) -> bool {
    ["RCPPS", "RCPSS", "RSQRTPS", "RSQRTSS"].iter().any(|name| heading.contains(name))
}

/// Seconds that a program may take, here or there: patience, not a bar on speed.
const PATIENCE: u64 = 1200;

/// Seconds that all programs of a suite may take in the guest.
const PATIENCE_FOR_ALL: u64 = 4 * 3600;

/// What runs all programs in the guest: /mnt is the disk with them. Some are linked with the host's own libc, which lies in
/// lib. busybox's `timeout` leaves a process that looks once a second whether it is still wanted.
fn run() -> String {
    format!(
        "mkdir -p /mnt && mount /dev/vda /mnt && mkdir /mnt/out && cd /mnt && \
         {{ [ ! -d lib ] || cp -r lib/. /; }} && for p in $(cat list); do \
         (timeout {PATIENCE} ./$p </dev/null 2>&1; echo status $?) >out/$p; done; cd /; sleep 3; sync; umount /mnt"
    )
}

fn programs(folder: &Path, suite: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the programs that published.sh has built");
    let files = entries.map(|e| e.expect("an entry")).filter(|e| e.file_type().expect("a type").is_file());
    let mut names: Vec<String> = files.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|n| EXCEPT.iter().all(|e| (e.0, e.1) != (suite, n)));
    names.sort();
    // Fewer are a sign that building went wrong.
    let least = if suite == "valgrind" { 50 } else { 40 };
    assert!(names.len() > least, "only {} programs: {names:?}", names.len());
    names
}

/// What a program prints on the host, with its status. What it leaves behind (a profile, a core) goes to `folder`.
fn on_the_host(program: &Path, folder: &Path) -> Vec<u8> {
    let script = format!("timeout {PATIENCE} \"$0\" </dev/null 2>&1; echo status $?");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).stdin(Stdio::null()).current_dir(folder);
    command.output().expect("a shell").stdout
}

/// The first line in which two outputs differ, and how many do.
fn difference(suite: &str, name: &str, host: &[u8], guest: &[u8]) -> Option<String> {
    let (a, b) = (String::from_utf8_lossy(host), String::from_utf8_lossy(guest));
    // What shells say of signals; the status says it too.
    let said = |l: &&str| !matches!(*l, "Aborted" | "Segmentation fault" | "Illegal instruction");
    let (mut x, mut y) = (a.lines().filter(said), b.lines().filter(said));
    let known: Vec<_> = LINES.iter().filter(|l| (l.suite, l.program) == (suite, name)).collect();
    let (mut heading, mut first, mut count) = ("", None, 0);
    for n in 1.. {
        let (p, q) = (x.next(), y.next());
        if p.is_none() && q.is_none() {
            break;
        }
        let line = p.unwrap_or("-");
        if line.contains(|c: char| c.is_ascii_uppercase()) {
            heading = line;
        }
        if p != q && !known.iter().any(|l| (l.excused)(heading, line)) {
            count += 1;
            let words = || format!("line {n}: host {line:?}, guest {:?}", q.unwrap_or("-"));
            first.get_or_insert_with(words);
        }
    }
    first.map(|line| format!("{line} ({count} lines differ)"))
}

fn agree(suite: &str, engine: &str) {
    let Some(folder) = std::env::var_os("CALQUE_PUBLISHED").map(|f| PathBuf::from(f).join(suite)) else {
        eprintln!("skipped: testsuite/scripts/published.sh makes what this needs");
        return;
    };
    // The cloud kernel has no 16-bit segments for user code (CONFIG_X86_16BIT), which QEMU's test-i386 makes.
    let Some(guest) = debian::guest(Flavour::Generic) else { return };
    let names = programs(&folder, suite);
    let scratch = Scratch::new();
    let image = scratch.sparse("tests.img", 512 << 20);
    let list = scratch.file("list", names.join("\n").as_bytes());
    tool(Command::new("mke2fs").args(["-q", "-t", "ext4", "-N", "20000", "-d"]).arg(&folder).arg(&image));
    tool(Command::new("debugfs").args(["-w", "-R", &format!("write {} list", list.display())]).arg(&image));

    let mut command = debian::calque_with_all(engine, &guest, "", 1024);
    debian::disk(&mut command, &image, "");
    let mut shell = Shell::boot(Session::terminal(command), Duration::from_secs(300));
    shell.session.set_timeout(Duration::from_secs(PATIENCE_FOR_ALL));
    shell.ok(&run());
    assert_eq!(shell.power_off().status, Some(0));

    let out = scratch.path("guest");
    let left = scratch.path("left");
    std::fs::create_dir(&left).expect("a folder");
    std::fs::create_dir(&out).expect("a folder");
    tool(Command::new("debugfs").arg("-R").arg(format!("rdump /out {}", out.display())).arg(&image));
    let (mut different, mut skipped, mut failed) = (Vec::new(), 0, 0);
    for name in &names {
        let ours = std::fs::read(out.join("out").join(name)).unwrap_or_default();
        let host = on_the_host(&folder.join(name), &left);
        match difference(suite, name, &host, &ours) {
            Some(line) => different.push(format!("{name}: {line}")),
            None if host.starts_with(b"SKIPPED\n") => skipped += 1,
            None if !host.ends_with(b"status 0\n") => failed += 1,
            None => {}
        }
    }
    let left_out = EXCEPT.iter().filter(|e| e.0 == suite).count();
    eprintln!(
        "{suite}, {engine}: {} programs print the same, of which {skipped} say that they were skipped and {failed} fail, there \
         and here; {left_out} are left out",
        names.len() - different.len()
    );
    assert!(different.is_empty(), "{} of {} differ:\n{}", different.len(), names.len(), different.join("\n"));
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/published.sh"]
fn valgrind_jit() {
    agree("valgrind", "jit");
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/published.sh"]
fn valgrind_interp() {
    agree("valgrind", "interp");
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/published.sh"]
fn qemu_jit() {
    agree("qemu", "jit");
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/published.sh"]
fn qemu_interp() {
    agree("qemu", "interp");
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/published.sh"]
fn gcc_jit() {
    agree("gcc", "jit");
}

#[test]
#[ignore = "needs programs and a guest: testsuite/scripts/published.sh"]
fn gcc_interp() {
    agree("gcc", "interp");
}
