//! The built-in guest: what its commands show is right on every engine, and in QEMU, which knows nothing of calque.

use std::process::{Command, Stdio};
use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::program::{calque, has_tool};
use testsuite::session::Session;

const PROMPT: &str = "calque> ";
const QEMU: &str = "qemu-system-x86_64";

/// calque with the monitor, on an engine.
fn monitor(engine: &str) -> Command {
    let mut command = calque();
    command.args(["run", "monitor", "-m", "32", "--time-limit", "300", "--engine", engine]);
    command
}

/// Waits for the first prompt.
fn boot(command: Command) -> Session {
    let mut session = Session::pipes(command);
    let banner = session.expect(PROMPT);
    assert!(banner.contains(" MiB of memory") && banner.contains("'help'"), "{banner}");
    session
}

/// Runs a command and returns what it printed, with plain line ends and without the echo.
fn ask(session: &mut Session, line: &str) -> String {
    session.send(format!("{line}\r").as_bytes());
    let said = session.expect(PROMPT).replace("\r\n", "\n");
    let answer = said.strip_prefix(&format!("{line}\n")).map(str::to_owned);
    answer.unwrap_or_else(|| panic!("the echo of {line:?}: {said:?}"))
}

/// Asserts that all of `parts` are there, in this order.
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} (in this order) in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

/// What holds on every machine.
fn demonstrations(s: &mut Session) {
    in_order(&ask(s, "user"), &["from ring 3, by SYSCALL: CS=0x23, RSP=0x40005000", "by INT 80h"]);

    // Twice: the second time the page must have gone again, from the TLB too.
    for _ in 0..2 {
        in_order(
            &ask(s, "fault"),
            &[
                "CR2=0x40008008\n   error code 0x4 [U]: a read by the user, of a page that is not present",
                "The kernel maps a zeroed page",
                "It read 0x0",
                "CR2=0x40008008\n   error code 0x7 [P W U]: a write by the user, which the page forbids",
                "It wrote, and reads back 0x1234",
                "CR2=0x104000\n   error code 0x5 [P U]: a read by the user, which the page forbids",
                "The kernel refuses",
                "CR2=0x40008008\n   error code 0x15 [P U I]: an instruction fetch by the user",
                "The kernel refuses",
            ],
        );
    }
    in_order(
        &ask(s, "trap"),
        &[
            "#BP breakpoint in ring 3\n",
            "#DE divide error in ring 3\n",
            "RAX=000000000000002a",
            "#UD invalid opcode in ring 3\n",
            "RAX=0x2 RFLAGS=0x346 [PF ZF TF IF]\n",
            "RAX=0x7 RFLAGS=0x302 [TF IF]\n",
            "RAX=0x31 RFLAGS=0x302 [TF IF]\n",
            "#GP general protection in ring 3, error code 0x0\n",
            "after: RFLAGS=0x202",
            "silently ignored",
        ],
    );
    in_order(&ask(s, "smc"), &["20000 times: every result right; ", " ms."]);

    in_order(
        &ask(s, "mem 0x40008008"),
        &[
            "PML4[0] at 0x110000: 0x111027 [P W U A]",
            "PDPT[1] at 0x111008: 0x114027 [P W U A]",
            "PD[0] at 0x114000: 0x115027 [P W U A]",
            "PT[8] at 0x115040: 0x8000000000117067 [P W U A D NX]",
            "-> physical 0x117008, in a 4 KiB page",
            "00 00 00 00 00 00 00 00 34 12 00 00 00 00 00 00",
        ],
    );
    let large = ask(s, "mem 3ABCDE");
    in_order(&large, &["PD[1] at 0x112008: ", "[P W", "PS NX]", "-> physical 0x3abcde, in a 2 MiB page"]);
    assert!(!large.contains(" PT["), "the walk ends at the 2 MiB page: {large}");
    in_order(&ask(s, "mem 0"), &["PT[0] at 0x113000: 0x0 []", "not present: an access to 0x0"]);
    in_order(&ask(s, "mem 0x8000000000000000"), &["not canonical"]);
    in_order(&ask(s, "mem 0xffffffffffffffff"), &["PML4[511]", "not present"]);
    for wrong in ["mem x", "mem 0x", "mem 12 3", "mem 10000000000000000", "mem 12g"] {
        in_order(&ask(s, wrong), &["That is not an address"]);
    }
    in_order(&ask(s, "mem"), &["Give an address"]);

    let registers = ask(s, "regs");
    in_order(
        &registers,
        &["[PE MP ET NE WP PG]", "0x110000", "[PAE]", "[SCE LME LMA NXE]", "CS     0x8, SS 0x10"],
    );
    in_order(&registers, &["GDTR   0x101000, limit 0x37", "IDTR   0x101060, limit 0x80f"]);

    in_order(&ask(s, "uptime"), &["up ", " timer interrupts)"]);
    in_order(&ask(s, "help"), &["fault", "trap", "smc", "bench", "mem", "regs", "counters", "reboot", "off"]);
    in_order(&ask(s, "frobnicate now"), &["no command 'frobnicate now'", "'help'"]);
    in_order(&ask(s, "offal"), &["no command"]);
    in_order(&ask(s, "off now"), &["takes nothing"]);
    in_order(&ask(s, "exit"), &["'off'"]);
    assert_eq!(ask(s, "   "), "");
}

/// Runs for half a second of the guest's time.
fn bench(s: &mut Session) {
    in_order(&ask(s, "bench"), &[" iterations in ", "every result right."]);
}

/// Powers off and checks how the program ends.
fn off(mut session: Session) {
    session.send(b"off\r");
    let outcome = session.finish();
    assert_eq!(outcome.status, Some(0), "{}\n{}", outcome.output, outcome.errors);
    in_order(&outcome.output, &["Powering off."]);
}

fn in_calque(engine: &'static str) {
    for engine in engine::available(&[engine]) {
        let mut s = boot(monitor(engine));
        demonstrations(&mut s);
        // In lockstep time is counted in instructions, and half a second is too many of them.
        if engine != "lockstep" {
            bench(&mut s);
        }
        in_order(&ask(&mut s, "regs"), &["brand calque", "hypervisor KVMKVMKVM"]);
        let counters = ask(&mut s, "counters");
        in_order(&counters, &["instructions executed:", "blocks translated:", "page table walks:"]);
        assert_eq!(counters.lines().count(), 6, "{counters}");
        let executed = counters.split_whitespace().find_map(|word| word.parse::<u64>().ok());
        assert!(executed.is_some_and(|n| n > 100_000), "{counters}");
        off(s);
    }
}

#[test]
fn interpreted() {
    in_calque("interp");
}

#[test]
fn translated() {
    in_calque("jit");
}

#[test]
fn in_lockstep() {
    in_calque("lockstep");
}

#[test]
fn in_qemu() {
    if !has_tool(QEMU) {
        eprintln!("skipped: no {QEMU}");
        return;
    }
    let scratch = Scratch::new();
    let image = scratch.file("monitor.bin", ::calque::guests::monitor::IMAGE);
    let mut command = Command::new(QEMU);
    command.args([
        "-cpu",
        "max",
        "-m",
        "32",
        "-nodefaults",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
    ]);
    command.arg("-kernel").arg(image);
    let mut s = boot(command);
    demonstrations(&mut s);
    bench(&mut s);
    in_order(&ask(&mut s, "counters"), &["not running under calque"]);
    off(s);
}

#[test]
fn lines_are_edited() {
    let mut s = boot(monitor("interp"));
    // Backspace (both kinds, and more of them than there are characters), Ctrl-U, an arrow key.
    for typed in ["xx\x08\x08\x08uptine\x7f\x7fme", "off\x15uptime", "upti\x1b[Ame"] {
        s.send(format!("{typed}\r").as_bytes());
        in_order(&s.expect(PROMPT), &["timer interrupts)"]);
    }
    s.send(b"off\x03");
    in_order(&s.expect(PROMPT), &["off^C\r\n"]);
    // A line that is too long rings the bell and stays as it is.
    s.send(&[b'a'; 200]);
    s.send(b"\r");
    let said = s.expect(PROMPT);
    in_order(&said, &[&"a".repeat(119), "\x07", &format!("no command '{}'", "a".repeat(119))]);
    assert!(!said.contains(&"a".repeat(120)), "{said:?}");
    off(s);
}

#[test]
fn all_typed_at_once() {
    // Nothing is lost even if everything is there before the guest has booted.
    let mut s = Session::pipes(monitor("interp"));
    s.send(b"mem 0x104000\nuser\nuptime\noff\n");
    let outcome = s.finish();
    assert_eq!(outcome.status, Some(0), "{}", outcome.errors);
    in_order(
        &outcome.output,
        &["-> physical 0x104000", "Hello from ring 3", "timer interrupts)", "Powering off"],
    );
}

#[test]
fn alone_on_a_terminal() {
    let mut s = Session::terminal(calque());
    s.expect_error("built-in monitor");
    s.expect(PROMPT);
    s.send(b"user\r");
    in_order(&s.expect(PROMPT), &["Hello from ring 3"]);
    off(s);
}

#[test]
fn without_a_terminal_there_is_help() {
    let output = calque().stdin(Stdio::null()).output().expect("calque runs");
    assert_eq!(output.status.code(), Some(2));
    in_order(&String::from_utf8_lossy(&output.stdout), &["Usage:", "run"]);
}

#[test]
fn crashes_when_told_to() {
    let mut s = boot(monitor("interp"));
    let ask_first = "Type 'yes' to go on: ";
    s.send(b"crash\r");
    s.expect(ask_first);
    s.send(b"no\r");
    in_order(&s.expect(PROMPT), &["Not crashed."]);
    s.send(b"crash\r");
    s.expect(ask_first);
    s.send(b"yes\r");
    let outcome = s.finish();
    assert_eq!(outcome.status, Some(12), "{}", outcome.errors);
    in_order(&outcome.errors, &["triple fault", "64-bit mode, CPL 0"]);
}

#[test]
fn reboots() {
    let mut s = boot(monitor("interp"));
    s.send(b"reboot\r");
    in_order(&s.expect(PROMPT), &["Resetting.", "built-in guest"]);
    off(s);

    let mut command = monitor("interp");
    command.arg("--no-reboot");
    let mut s = boot(command);
    s.send(b"reboot\r");
    let outcome = s.finish();
    assert_eq!(outcome.status, Some(10), "{}", outcome.errors);
}
