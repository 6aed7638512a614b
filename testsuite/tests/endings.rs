//! Every way a run can end: its exit status and its words, on every engine.

use rustix::termios::LocalModes;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use testsuite::engine;
use testsuite::files::Scratch;
use testsuite::guests::{self, Guest, ResetBy};
use testsuite::program::calque;
use testsuite::session::Session;

/// A small machine for `guest`.
fn machine(scratch: &Scratch, engine: &str, guest: Guest) -> Command {
    let image = scratch.file("guest.bin", &guest.flat());
    let mut command = calque();
    command.args(["run", "--load-address", guests::ADDRESS_TEXT, "-m", "16", "--engine", engine]).arg(image);
    command
}

/// Runs `guest` to its end with `more` arguments.
fn run(engine: &str, guest: Guest, more: &[&str]) -> Output {
    let scratch = Scratch::new();
    let mut command = machine(&scratch, engine, guest);
    if !more.contains(&"--time-limit") {
        command.args(["--time-limit", "60"]);
    }
    command.args(more).stdin(std::process::Stdio::null()).output().expect("calque runs")
}

/// Its status, and the last line of standard error with all of `words`.
fn ends(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("calque: "), "{said}");
    for word in words {
        assert!(last.contains(word), "it should say {word:?}: {last}");
    }
}

#[test]
fn power_off() {
    for engine in engine::available(&engine::ALL) {
        ends(&run(engine, guests::power_off(), &[]), 0, &["powered off"]);
    }
}

#[test]
fn a_reset_that_ends_the_run() {
    for engine in engine::available(&engine::ALL) {
        for by in [ResetBy::Keyboard, ResetBy::Port92, ResetBy::Acpi] {
            let output = run(engine, guests::reset(by), &["--no-reboot"]);
            ends(&output, 10, &["reset"]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{by:?}");
        }
    }
}

#[test]
fn a_reset_starts_again() {
    for engine in engine::available(&engine::ALL) {
        for by in [ResetBy::Keyboard, ResetBy::Port92, ResetBy::Acpi] {
            let scratch = Scratch::new();
            let mut session = Session::pipes(machine(&scratch, engine, guests::reset(by)));
            for _ in 0..5 {
                session.expect("hello\n");
            }
            session.kill();
        }
    }
}

#[test]
fn debug_exit() {
    for engine in engine::available(&engine::ALL) {
        for value in [0, 1, 0x10, 0x7f, 0x80, 0xffff_ffff] {
            let output = run(engine, guests::debug_exit(0xf4, value), &["--debug-exit", "0xf4"]);
            ends(&output, (value << 1 | 1) as i32 & 0xff, &["isa-debug-exit", &format!("{value:#x}")]);
        }
        let output = run(engine, guests::debug_exit(0x501, 3), &["--debug-exit"]);
        ends(&output, 7, &["0x3"]);
    }
}

#[test]
fn debug_exit_as_qemu_spells_it() {
    let scratch = Scratch::new();
    let kernel = scratch.file("kernel", &guests::debug_exit(0xf4, 0x21).multiboot());
    for engine in engine::available(&engine::ALL) {
        let mut command = calque();
        command.args(["qemu", "--engine", engine, "-display", "none", "-serial", "none", "-kernel"]);
        command.arg(&kernel).args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        ends(&command.args(["--time-limit", "60"]).output().expect("calque runs"), 0x43, &["0x21"]);
    }
}

#[test]
fn triple_fault() {
    for engine in engine::available(&engine::ALL) {
        let output = run(engine, guests::undefined_without_idt(), &[]);
        // push 0; push 0; lidt [esp]
        ends(&output, 12, &["triple fault", "#UD", "0x100008", "protected mode", "0f 0b"]);
        let output = run(engine, guests::page_fault_without_idt(), &[]);
        ends(&output, 12, &["triple fault", "#PF", "CR2=0x1000", "CR3=0x200000", "paging on"]);
    }
}

#[test]
fn guest_panic() {
    for engine in engine::available(&engine::ALL) {
        ends(&run(engine, guests::panic(), &[]), 14, &["panicked"]);
    }
}

#[test]
fn time_limit() {
    for engine in engine::available(&engine::ALL) {
        for guest in [guests::spin(), guests::halted()] {
            let started = Instant::now();
            let output = run(engine, guest, &["--time-limit", "1"]);
            ends(&output, 124, &["time limit"]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n");
            let took = started.elapsed();
            assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");
        }
    }
}

#[test]
fn keys_reach_the_guest_through_a_pipe() {
    for engine in engine::available(&engine::ALL) {
        let scratch = Scratch::new();
        let mut session = Session::pipes(machine(&scratch, engine, guests::echo()));
        session.expect("ready\n");
        // Ctrl-A and Ctrl-C are bytes like any other.
        session.send(b"HAL\x01\x03");
        session.expect("IBM\x02\x04");
        // More than the serial port's FIFO takes at once.
        session.send("a".repeat(500).as_bytes());
        session.expect(&"b".repeat(500));
        session.send(b"\x04");
        assert_eq!(session.finish().status, Some(0));
    }
}

#[test]
fn keys_at_a_terminal() {
    for engine in engine::available(&engine::ALL) {
        let scratch = Scratch::new();
        let mut session = Session::terminal(machine(&scratch, engine, guests::echo()));
        let before = session.settings_before().expect("a terminal").local_modes;
        session.expect("ready\n");
        // Raw: Ctrl-C is the guest's, and nothing echoes.
        session.send(b"HAL\x03");
        session.expect("IBM\x04");
        session.send(b"\x01h");
        session.expect("end calque");
        session.send(b"\x01c");
        session.expect("translation cache misses");
        // Ctrl-A twice sends one.
        session.send(b"\x01\x01");
        session.expect("\x02");
        session.send(b"\x01x");
        let outcome = session.finish();
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        assert!(outcome.errors.contains("ended from the keyboard"), "{outcome:?}");
        assert_eq!(outcome.terminal.expect("a terminal").local_modes, before, "given back as it was");
    }
}

#[test]
fn a_terminal_is_given_back_whatever_happens() {
    for engine in engine::available(&engine::ALL) {
        let scratch = Scratch::new();
        for (guest, status) in [(guests::undefined_without_idt(), 12), (guests::power_off(), 0)] {
            let session = Session::terminal(machine(&scratch, engine, guest));
            let outcome = session.finish();
            assert_eq!(outcome.status, Some(status), "{outcome:?}");
            let modes = outcome.terminal.expect("a terminal").local_modes;
            assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON));
        }
    }
}
