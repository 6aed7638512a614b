//! A guest that waits at its prompt leaves the host alone.

use std::time::{Duration, Instant};
use testsuite::debian::{self, Flavour};
use testsuite::engine;
use testsuite::session::Session;
use testsuite::shell::Shell;

/// Processor time of a process so far, in all its threads.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
    // Behind the name, which may hold anything, the 12th and 13th fields are user and system time in ticks.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&n| fields[n].parse::<u64>().expect("a number")).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory of a process in MiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

fn idle_on(engine: &'static str) {
    const WATCHED: Duration = Duration::from_secs(8);
    let (Some(guest), false) = (debian::guest(Flavour::Cloud), engine::available(&[engine]).is_empty())
    else {
        return;
    };
    let session = Session::terminal(debian::calque(engine, &guest, ""));
    let mut shell = Shell::boot(session, Duration::from_secs(180));
    // Let the kernel finish what it does after a boot.
    std::thread::sleep(Duration::from_secs(3));
    let pid = shell.session.pid();
    let (before, started) = (processor_time(pid), Instant::now());
    std::thread::sleep(WATCHED);
    let used = (processor_time(pid) - before).as_secs_f64() / started.elapsed().as_secs_f64();
    eprintln!("{engine}: {:.1}% of a core, {} MiB resident", used * 100.0, resident(pid));
    assert!(used < 0.03, "{engine}: an idle guest uses {:.1}% of a core", used * 100.0);
    // The guest's memory that was touched is what the guest says is in use, page cache included.
    let meminfo = shell.ok("cat /proc/meminfo");
    let kib = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).expect("a line of meminfo");
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let touched = (1 << 20) - kib("MemFree");
    let limit = (touched >> 10) + 200;
    assert!(resident(pid) <= limit, "{engine}: {} MiB resident, at most {limit} expected", resident(pid));
    assert_eq!(shell.power_off().status, Some(0));
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn idle_interp() {
    idle_on("interp");
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn idle_jit() {
    idle_on("jit");
}
