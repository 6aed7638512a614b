//! Real programs in a Debian guest and on the host: what they print, and how they end, is the same.
//! `testsuite/scripts/programs.sh` makes the guest and runs this. The jobs are in `testsuite/programs/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use testsuite::debian::{self, Flavour};
use testsuite::files::Scratch;
use testsuite::program::tool;
use testsuite::session::Session;

/// The jobs and what they are made of.
const JOBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// Lines that may differ: job, how they begin, why.
const EXCEPT: &[(&str, &str, &str)] = &[];

/// Seconds that a job may take: patience, not a bar on speed.
const PATIENCE: u64 = 3 * 3600;

/// The folder of `make-programs.sh`.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CALQUE_PROGRAMS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: testsuite/scripts/programs.sh makes what this needs");
    }
    folder
}

/// The names of the jobs: those that `CALQUE_JOBS` names, or all.
fn jobs() -> Vec<String> {
    let entries = std::fs::read_dir(JOBS).expect("the jobs");
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut all: Vec<_> =
        names.filter_map(|n| n.strip_suffix(".sh").map(String::from)).filter(|n| n != "agent").collect();
    all.sort();
    let wanted = std::env::var("CALQUE_JOBS").unwrap_or_default();
    for name in wanted.split_whitespace() {
        assert!(all.iter().any(|job| job == name), "no job '{name}': {}", all.join(" "));
    }
    all.retain(|job| wanted.is_empty() || wanted.split_whitespace().any(|name| name == job));
    all
}

/// A folder that becomes /jobs, there or here.
fn work(place: &Path, jobs: &[String]) {
    std::fs::create_dir(place).expect("a folder");
    tool(Command::new("cp").arg("-r").arg(JOBS).arg(place));
    std::fs::write(place.join("list"), jobs.join("\n") + "\n").expect("a file");
}

/// Follows the agent from job to job; the flags that its processor has.
fn follow(session: &mut Session, who: &str, jobs: &[String]) -> BTreeSet<String> {
    session.expect("@@flags ");
    let flags = session.expect("\n").split_whitespace().map(String::from).collect();
    for job in jobs {
        session.expect(&format!("@@job {job}"));
        let started = Instant::now();
        session.expect("@@done");
        eprintln!("{who}: {job}, {:.1} s", started.elapsed().as_secs_f64());
    }
    session.expect("@@end");
    flags
}

/// The jobs in the tree on this very processor. Returns the folder with what they print.
fn bare(folder: &Path, scratch: &Scratch, jobs: &[String]) -> (PathBuf, BTreeSet<String>) {
    let place = scratch.path("bare");
    work(&place, jobs);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]).arg(
        "mount --bind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\" && mount --bind \"$1\" \"$0/jobs\" && \
         exec chroot \"$0\" /jobs/programs/agent.sh bare",
    );
    command.arg(folder.join("tree")).arg(&place).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut session = Session::pipes(command);
    session.set_timeout(Duration::from_secs(PATIENCE));
    let flags = follow(&mut session, "bare", jobs);
    let outcome = session.finish();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    (place.join("out"), flags)
}

/// The jobs in the guest.
fn guest(
    engine: &str,
    folder: &Path,
    scratch: &Scratch,
    jobs: &[String],
) -> Option<(PathBuf, BTreeSet<String>)> {
    let guest = debian::guest(Flavour::Cloud)?;
    let place = scratch.path("guest");
    work(&place, jobs);
    let image = scratch.sparse("work.img", 256 << 20);
    tool(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&place).arg(&image));

    let mut command = debian::calque_with_all(engine, &guest, "root=/dev/vda ro init=/start", 3072);
    debian::disk(&mut command, &folder.join("programs.img"), ",readonly=on");
    debian::disk(&mut command, &image, "");
    let mut session = Session::terminal(command);
    session.set_timeout(Duration::from_secs(PATIENCE));
    let flags = follow(&mut session, engine, jobs);
    session.kill();
    let out = scratch.path("guest-out");
    std::fs::create_dir(&out).expect("a folder");
    tool(Command::new("debugfs").arg("-R").arg(format!("rdump /out {}", out.display())).arg(&image));
    Some((out.join("out"), flags))
}

/// The lines of a job that count.
fn lines(out: &Path, job: &str) -> Vec<String> {
    let text = std::fs::read(out.join(job)).unwrap_or_else(|e| panic!("{job} has printed nothing: {e}"));
    let excepted = |line: &str| EXCEPT.iter().any(|(of, begin, _)| *of == job && line.starts_with(begin));
    String::from_utf8_lossy(&text).lines().filter(|line| !excepted(line)).map(String::from).collect()
}

fn agree(engine: &str) {
    let Some(folder) = folder() else { return };
    let jobs = jobs();
    let scratch = Scratch::new();
    let Some((there, theirs)) = guest(engine, &folder, &scratch, &jobs) else { return };
    let (here, ours) = bare(&folder, &scratch, &jobs);
    let only =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join(" ");
    eprintln!("only the host has: {}", only(&ours, &theirs));
    eprintln!("only the guest has: {}", only(&theirs, &ours));

    let mut different = Vec::new();
    for job in &jobs {
        let (host, guest) = (lines(&here, job), lines(&there, job));
        // A job that stops early would agree with itself.
        assert!(
            host.last().is_some_and(|line| line == "status 0"),
            "{job} fails on the host: {:?}",
            host.last()
        );
        let differ = host.iter().zip(&guest).enumerate().filter(|(_, (a, b))| a != b);
        let first: Vec<_> = differ
            .take(20)
            .map(|(n, (a, b))| format!("{job}, line {}: host {a:?}, guest {b:?}", n + 1))
            .collect();
        eprintln!("{job}: {} lines, {} differ", host.len(), if first.is_empty() { "none" } else { "some" });
        different.extend(first);
        if host.len() != guest.len() {
            different.push(format!("{job}: {} lines on the host, {} in the guest", host.len(), guest.len()));
        }
    }
    assert!(different.is_empty(), "\n{}", different.join("\n"));
}

#[test]
#[ignore = "needs a guest and minutes: testsuite/scripts/programs.sh"]
fn jit() {
    agree("jit");
}

#[test]
#[ignore = "needs a guest and hours: testsuite/scripts/programs.sh interp"]
fn interp() {
    agree("interp");
}
