//! Several virtual processors: small guests on every engine and under both clocks, and Debian's kernel.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use testsuite::debian::{self, Flavour};
use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::guests::{self, Guest, smp};
use testsuite::program::calque;
use testsuite::session::Session;
use testsuite::shell::Shell;

/// Runs `guest` on `vcpus` processors to its end.
fn run(engine: &str, vcpus: u32, guest: Guest, more: &[&str]) -> Output {
    let scratch = Scratch::new();
    let image = scratch.file("guest.bin", &guest.flat());
    let mut command = calque();
    command.args(["run", "--load-address", guests::ADDRESS_TEXT, "-m", "16", "--engine", engine]);
    command.args(["-c", &vcpus.to_string(), "--debug-exit"]).args(more);
    if !more.contains(&"--time-limit") {
        command.args(["--time-limit", "100"]);
    }
    command.arg(image);
    command.stdin(Stdio::null()).output().expect("calque runs")
}

/// The guest's own verdict: the number of the phase that failed, or 0.
fn passes(output: &Output) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

const ENGINES: [&str; 2] = ["interp", "jit"];
const CLOCKS: [&str; 2] = ["real", "virtual"];

#[test]
fn processors_start_and_count_together() {
    for engine in engine::available(&ENGINES) {
        for vcpus in [2, 3, 8] {
            for clock in CLOCKS {
                passes(&run(engine, vcpus, smp::counters(vcpus), &["--clock", clock]));
            }
        }
    }
}

#[test]
fn order_messages_code_and_interrupts() {
    for engine in engine::available(&ENGINES) {
        for clock in CLOCKS {
            passes(&run(engine, 2, smp::litmus(), &["--clock", clock]));
        }
    }
}

#[test]
fn in_turns_the_same_happens_every_time() {
    /// Counters that do not depend on the host's time.
    fn counted(output: &Output) -> String {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let counts = |line: &&str| line.starts_with("  ") && !line.contains("a second");
        said.lines().filter(counts).map(|line| format!("{line}\n")).collect()
    }
    for engine in engine::available(&ENGINES) {
        let once = || counted(&run(engine, 2, smp::litmus(), &["--clock", "virtual", "--stats"]));
        let first = once();
        assert!(first.contains("guest instructions"), "{first}");
        assert_eq!(first, once(), "{engine}");
    }
}

#[test]
fn a_machine_ends_with_all_its_processors() {
    for engine in engine::available(&ENGINES) {
        for (guest, status) in [(guests::power_off(), 0), (guests::undefined_without_idt(), 12)] {
            assert_eq!(run(engine, 4, guest, &[]).status.code(), Some(status));
        }
        let started = Instant::now();
        let output = run(engine, 4, guests::halted(), &["--time-limit", "1"]);
        assert_eq!(output.status.code(), Some(124), "{output:?}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}

/// Boots the cloud kernel to its prompt on `vcpus` processors, and looks whether it likes what it sees.
fn boots(engine: &'static str, vcpus: u32) {
    let (Some(guest), false) = (debian::guest(Flavour::Cloud), engine::available(&[engine]).is_empty())
    else {
        return;
    };
    let mut command = debian::calque(engine, &guest, "");
    command.args(["-smp", &vcpus.to_string()]);
    let started = Instant::now();
    let mut shell = Shell::boot(Session::terminal(command), Duration::from_secs(400));
    eprintln!("{engine}, {vcpus} vCPUs: {:.1} s to the prompt", started.elapsed().as_secs_f64());
    assert_eq!(shell.ok("grep -c ^processor /proc/cpuinfo"), format!("{vcpus}\n"));
    for cpu in 0..vcpus {
        assert_eq!(
            shell.ok(&format!("taskset {:x} awk 'BEGIN {{ print {cpu} * 2 }}'", 1u64 << cpu)),
            format!("{}\n", cpu * 2)
        );
    }
    // Work on all of them at once.
    let text = shell.ok(&format!("for i in $(seq {vcpus}); do (seq 20000 | sort -rn | md5sum) & done; wait"));
    let sums: Vec<_> = text.lines().filter(|l| l.ends_with("  -")).collect();
    assert_eq!(sums.len(), vcpus as usize, "{text}");
    assert!(sums.iter().all(|s| *s == sums[0]), "{text}");
    let log = shell.ok("dmesg");
    for word in [
        "soft lockup",
        "rcu:  INFO",
        "stall",
        "clocksource: timekeeping watchdog",
        "TSC warp",
        "BUG:",
        "WARNING:",
        "inconsistent",
    ] {
        assert!(!log.contains(word), "the kernel says {word:?}:\n{log}");
    }
    assert_eq!(shell.power_off().status, Some(0));
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn two_jit() {
    boots("jit", 2);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn four_jit() {
    boots("jit", 4);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn eight_jit() {
    boots("jit", 8);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn two_interp() {
    boots("interp", 2);
}
