//! Debian's kernels, unmodified, to a prompt and back on every engine. `testsuite/scripts/guests.sh` runs these.

use calque::guests::debian::Prepared;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};
use testsuite::debian::{self, Flavour};
use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::program::tool;
use testsuite::session::Session;
use testsuite::shell::Shell;

/// The longest that a boot may take, on a machine that has other things to do.
fn patience(engine: &str) -> Duration {
    Duration::from_secs(if engine == "lockstep" { 1200 } else { 180 })
}

/// Boots to the prompt at a terminal, tries what people do there, and powers off.
fn to_a_prompt(engine: &'static str, flavour: Flavour) {
    let (Some(guest), false) = (debian::guest(flavour), engine::available(&[engine]).is_empty()) else {
        return;
    };
    let started = Instant::now();
    let session = Session::terminal(debian::calque(engine, &guest, ""));
    let mut shell = Shell::boot(session, patience(engine));
    eprintln!("{engine}, {}: {:.1} s to the prompt", flavour.name(), started.elapsed().as_secs_f64());
    commands(&mut shell, &guest);
    interrupt(&mut shell);
    job_control(&mut shell);
    let outcome = shell.power_off();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.errors.ends_with("calque: the guest powered off\n"), "{outcome:?}");
}

fn commands(shell: &mut Shell, guest: &Prepared) {
    let uname = shell.ok("uname -a");
    assert!(uname.starts_with("Linux calque 6.1.") && uname.contains("x86_64"), "{uname}");
    let release = uname.split_whitespace().nth(2).expect("a release");
    assert!(guest.description.contains(release), "{release} is not {}", guest.description);
    let cpuinfo = shell.ok("cat /proc/cpuinfo");
    for word in ["processor\t: 0", "flags\t\t: ", "sse4_2", "popcnt", "pcid"] {
        assert!(cpuinfo.contains(word), "no {word:?} in {cpuinfo}");
    }
    assert!(!shell.ok("dmesg | tail").is_empty());
    assert_eq!(shell.ok("seq 1000 | sort -rn | head -n 2 | tr '\\n' ' '"), "1000 999 ");
    assert_eq!(shell.ok("yes calque | head -c 700000 | md5sum"), "925330d5c7b8cbd2f8b40410bd7d2a92  -\n");
    assert_eq!(shell.ok("echo $((6 * 7)); awk 'BEGIN { print 10 / 4 * 1.5 }'"), "42\n3.75\n");
    assert_eq!(shell.run("false").1, 1);
    // A process that dies of a fault does so alone.
    assert_eq!(shell.run("sh -c 'kill -SEGV $$'").1, 128 + 11);
    // A second seen by the guest is one: within a fifth, for the host may be busy.
    let started = Instant::now();
    let text = shell.ok("read a b </proc/uptime; sleep 2; read c d </proc/uptime; echo $a $c");
    let took = started.elapsed().as_secs_f64();
    let times: Vec<f64> = text.split_whitespace().map(|t| t.parse().expect("a time")).collect();
    let guest = times[1] - times[0];
    assert!(guest >= 1.9 && guest <= took + 0.1, "{guest} s in the guest, {took} s outside");
}

/// Ctrl-C ends what runs in the foreground, and the shell goes on.
fn interrupt(shell: &mut Shell) {
    for command in ["sleep 100", "cat", "while :; do :; done"] {
        shell.session.line(&format!("echo @''go; {command}"));
        shell.session.expect("@go");
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        shell.session.send(b"\x03");
        shell.session.expect("^C");
        shell.prompt();
        assert!(started.elapsed() < Duration::from_secs(20), "Ctrl-C took {:?}", started.elapsed());
    }
    assert_eq!(shell.ok("echo still here"), "still here\n");
}

fn job_control(shell: &mut Shell) {
    shell.session.line("sleep 100 &");
    shell.prompt();
    let jobs = shell.ok("jobs");
    assert!(jobs.contains("Running") && jobs.contains("sleep 100"), "{jobs}");
    // Into the foreground, stop it, send it on in the background, and end it.
    shell.session.line("fg");
    shell.session.expect("sleep 100\r\n");
    std::thread::sleep(Duration::from_millis(300));
    shell.session.send(b"\x1a");
    shell.session.expect("Stopped");
    shell.prompt();
    assert!(shell.ok("jobs").contains("Stopped"));
    shell.session.line("bg");
    shell.prompt();
    assert!(shell.ok("jobs").contains("Running"));
    shell.session.line("kill %1");
    shell.prompt();
    shell.session.line("wait");
    shell.prompt();
    assert_eq!(shell.ok("jobs"), "");
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn cloud_interp() {
    to_a_prompt("interp", Flavour::Cloud);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn cloud_jit() {
    to_a_prompt("jit", Flavour::Cloud);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn generic_interp() {
    to_a_prompt("interp", Flavour::Generic);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn generic_jit() {
    to_a_prompt("jit", Flavour::Generic);
}

/// Boots with `command` to be run instead of a shell, to the end; returns the command's output.
fn batch(mut command: Command, patience: Duration) -> (Option<i32>, String) {
    command.stdin(std::process::Stdio::null());
    let mut session = Session::pipes(command);
    session.set_timeout(patience);
    let outcome = session.finish();
    assert!(outcome.output.contains("calque.run: status 0"), "{outcome:?}");
    (outcome.status, outcome.output.replace("\r\n", "\n"))
}

/// What the two engines do is compared block by block over the whole boot, and while a disk is read, whose device works on a
/// thread of its own.
#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn cloud_lockstep() {
    let (Some(guest), false) = (debian::guest(Flavour::Cloud), engine::available(&["lockstep"]).is_empty())
    else {
        return;
    };
    let scratch = Scratch::new();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let image = scratch.file("disk.img", &bytes[..1 << 20]);
    let sum = String::from_utf8(tool(Command::new("md5sum").arg(&image)).stdout).expect("text");
    let sum = sum.split_whitespace().next().expect("a sum");
    let mut command = debian::calque("lockstep", &guest, "calque.run=md5sum%20/dev/vda");
    debian::disk(&mut command, &image, "");
    let (status, output) = batch(command, patience("lockstep"));
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains(&format!("{sum}  /dev/vda")), "{sum}: {output}");
}

/// A boot's code does not fit four MiB; its oldest parts go, and what is still needed of them comes back.
#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn cloud_jit_with_little_room_for_code() {
    let (Some(guest), false) = (debian::guest(Flavour::Cloud), engine::available(&["jit"]).is_empty()) else {
        return;
    };
    let mut command = debian::calque("jit", &guest, "calque.run=uname");
    command.args(["--code-cache", "4M", "--stats"]).stdin(std::process::Stdio::null());
    let mut session = Session::pipes(command);
    session.set_timeout(patience("jit"));
    let outcome = session.finish();
    assert!(outcome.status == Some(0) && outcome.output.contains("calque.run: status 0"), "{outcome:?}");
    let count = |name: &str| -> u64 {
        let line = outcome.errors.lines().find(|l| l.trim_end().ends_with(name));
        let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name}: {outcome:?}"))
    };
    assert!(count("code cache evictions") > 4, "{}", outcome.errors);
    assert_eq!(count("code cache flushes"), 0);
    assert!(count("code cache bytes in use") <= 4 << 20);
}

/// Messages of the kernel that calque's log may have and QEMU's has not, with the reason.
const ALLOWED: &[(&str, &str)] = &[
    ("Unable to calibrate against PIT", "a busy host made a measurement fail; QEMU has it in some runs too"),
    ("APIC calibration not consistent with PM-Timer", "the same"),
];

/// The kernel's messages of level warning and worse, each as a pattern (no times and numbers) with its text.
fn warnings(log: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in log.lines() {
        let Some((level, text)) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
            continue;
        };
        let Ok(level) = level.parse::<u32>() else { continue };
        if level & 7 <= 4 {
            let text = text.trim_start_matches(|c| c != ']').trim_start_matches(']').trim();
            found.insert(pattern(text), text.to_owned());
        }
    }
    found
}

/// `text` with every word that has a digit in it (a number, an address, a device) made the same.
fn pattern(text: &str) -> String {
    let word =
        |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".into() } else { word.to_owned() };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// The kernel complains of nothing that it does not complain of under QEMU.
fn no_new_warnings(engine: &'static str, flavour: Flavour) {
    const DMESG: &str = "calque.run=dmesg%20-r";
    let (Some(guest), false) = (debian::guest(flavour), engine::available(&[engine]).is_empty()) else {
        return;
    };
    let Some(qemu) = debian::qemu(&guest, DMESG) else { return };
    let known = warnings(&batch(qemu, Duration::from_secs(180)).1);
    let (status, log) = batch(debian::calque(engine, &guest, DMESG), patience(engine));
    assert_eq!(status, Some(0), "{log}");
    assert!(log.lines().any(|line| line.starts_with("<6>[")), "no messages: {log}");
    let allowed = |text: &str| ALLOWED.iter().any(|(part, _)| text.contains(part));
    let new: Vec<_> = warnings(&log)
        .into_iter()
        .filter(|(pattern, text)| !known.contains_key(pattern) && !allowed(text))
        .map(|(_, text)| text)
        .collect();
    assert!(new.is_empty(), "{engine}, {}: QEMU's log has no {new:#?}", flavour.name());
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn cloud_has_no_new_warnings_interp() {
    no_new_warnings("interp", Flavour::Cloud);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn cloud_has_no_new_warnings_jit() {
    no_new_warnings("jit", Flavour::Cloud);
}

#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn generic_has_no_new_warnings_jit() {
    no_new_warnings("jit", Flavour::Generic);
}

/// `calque run debian` is all that has to be typed.
#[test]
#[ignore = "boots Debian: testsuite/scripts/guests.sh"]
fn one_command_leads_to_a_prompt() {
    if debian::guest(Flavour::Cloud).is_none() || engine::available(&["jit"]).is_empty() {
        return;
    }
    let mut command = testsuite::program::calque();
    command.args(["run", "debian"]);
    let mut shell = Shell::boot(Session::terminal(command), patience("jit"));
    shell.ok("test -e /proc/cpuinfo");
    // A guest that reboots is there again.
    shell.session.line("reboot");
    shell.session.set_timeout(patience("jit"));
    shell.prompt();
    shell.session.send(b"\x01x");
    let outcome = shell.session.finish();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
}

#[test]
fn patterns_keep_words_and_drop_numbers() {
    let found = warnings(
        "<4>[    0.123456] pci 0000:00:1f.0: BAR 7 failed\n<30>[1.0] systemd: hello\n<6>[1.0] fine\nx",
    );
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("pci # BAR # failed".to_owned(), "pci 0000:00:1f.0: BAR 7 failed".to_owned())]
    );
}
