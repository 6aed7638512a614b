//! A program with a console: text is expected from it and typed into it.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, tcgetattr};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Bytes that a thread collects.
#[derive(Debug, Default)]
struct Collected {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Collected {
    fn from(mut source: impl Read + Send + 'static) -> Arc<Self> {
        let collected = Arc::new(Self::default());
        let sink = collected.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal's end shows as an error (EIO) once the program has closed the other one.
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                sink.state.lock().expect("no panic").0.extend_from_slice(&buffer[..n]);
                sink.changed.notify_all();
            }
            sink.state.lock().expect("no panic").1 = true;
            sink.changed.notify_all();
        });
        collected
    }

    /// Waits until `found` answers, the source has ended (then asks a last time) or `until` has passed.
    fn wait<T>(&self, until: Instant, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let mut state = self.state.lock().expect("no panic");
        loop {
            if let Some(answer) = found(&state.0) {
                return Some(answer);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).expect("no panic").0;
        }
    }

    /// All bytes up to the end of the source.
    fn to_end(&self, until: Instant) -> Vec<u8> {
        let mut state = self.state.lock().expect("no panic");
        while !state.1 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).expect("no panic").0;
        }
        state.0.clone()
    }
}

/// How a program ended.
pub struct Outcome {
    /// Its exit status; None if a signal killed it.
    pub status: Option<i32>,
    /// What it wrote to its standard output, or to the terminal.
    pub output: String,
    /// What it wrote to its standard error.
    pub errors: String,
    /// The settings it left its terminal with.
    pub terminal: Option<Termios>,
}

/// For people who read why a test failed: as text, the output's end only.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        let lines: Vec<_> = self.output.lines().collect();
        writeln!(f, "status {:?}", self.status)?;
        let hidden = lines.len().saturating_sub(SHOWN);
        if hidden > 0 {
            writeln!(f, "({hidden} lines before)")?;
        }
        lines[hidden..].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "--- errors\n{}\n---", self.errors)
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: Option<File>,
    output: Arc<Collected>,
    errors: Arc<Collected>,
    /// How much of the output has been expected already.
    seen: usize,
    timeout: Duration,
    terminal: Option<(File, Termios)>,
}

impl Session {
    /// Starts `command` with pipes for its input and output.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn pipes(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let input = child.stdin.take().map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
        let output = Collected::from(child.stdout.take().expect("piped"));
        Self::new(child, input, output, None)
    }

    /// Starts `command` with a terminal for its input and output; its standard error stays a pipe.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn terminal(mut command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("a terminal").into_string().expect("a path");
        let theirs = OpenOptions::new().read(true).write(true).open(name).expect("a terminal");
        // Before anybody can have changed them.
        let before = tcgetattr(&theirs).expect("a terminal's settings");
        let copy = |file: &File| file.try_clone().expect("a copy");
        command.stdin(copy(&theirs)).stdout(copy(&theirs)).stderr(Stdio::piped());
        let child = spawn(&mut command);
        // The command keeps its copies open, and with them the terminal.
        drop(command);
        let ours = File::from(ours);
        Self::new(child, Some(copy(&ours)), Collected::from(ours), Some((theirs, before)))
    }

    fn new(
        mut child: Child,
        input: Option<File>,
        output: Arc<Collected>,
        terminal: Option<(File, Termios)>,
    ) -> Self {
        let errors = Collected::from(child.stderr.take().expect("piped"));
        Self { child, input, output, errors, seen: 0, timeout: Duration::from_secs(60), terminal }
    }

    /// How long [`Self::expect`] waits from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Waits until `text` appears in what has not been expected yet; returns what came before it.
    ///
    /// # Panics
    /// When it does not come in time: the message has all the output.
    pub fn expect(&mut self, text: &str) -> String {
        let from = self.seen;
        let wanted = text.as_bytes();
        let find = |bytes: &[u8]| bytes[from..].windows(wanted.len()).position(|w| w == wanted);
        let started = Instant::now();
        let at = self.output.wait(started + self.timeout, find).unwrap_or_else(|| {
            panic!("no {text:?} after {:.1} s\n{}", started.elapsed().as_secs_f64(), self.transcript())
        });
        self.seen = from + at + wanted.len();
        let state = self.output.state.lock().expect("no panic");
        String::from_utf8_lossy(&state.0[from..from + at]).into_owned()
    }

    /// Waits until `text` appears on standard error.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn expect_error(&mut self, text: &str) {
        let wanted = text.as_bytes();
        let find = |bytes: &[u8]| bytes.windows(wanted.len()).any(|w| w == wanted).then_some(());
        let found = self.errors.wait(Instant::now() + self.timeout, find);
        assert!(found.is_some(), "no {text:?} on standard error\n{}", self.transcript());
    }

    /// Types `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        // A program that has ended meanwhile is found out by what is expected next.
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes);
        }
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.send(format!("{text}\n").as_bytes());
    }

    /// The program's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The settings of the terminal it runs on.
    pub fn terminal_settings(&self) -> Option<Termios> {
        tcgetattr(&self.terminal.as_ref()?.0).ok()
    }

    /// The settings of the terminal it was started on, as they were before that.
    pub fn settings_before(&self) -> Option<&Termios> {
        Some(&self.terminal.as_ref()?.1)
    }

    /// Kills it as `kill -9` does.
    pub fn kill(mut self) -> Outcome {
        let _ = self.child.kill();
        self.finish()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn finish(mut self) -> Outcome {
        let until = Instant::now() + self.timeout;
        let status: ExitStatus = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if Instant::now() > until => panic!("it does not end\n{}", self.transcript()),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let terminal = self.terminal_settings();
        // Our own end of the terminal would keep it from ending; what is written stays readable.
        self.terminal = None;
        let soon = Instant::now() + Duration::from_secs(10);
        let text = |collected: &Collected| String::from_utf8_lossy(&collected.to_end(soon)).into_owned();
        Outcome { status: status.code(), output: text(&self.output), errors: text(&self.errors), terminal }
    }

    /// All that was written so far, to be read by people.
    pub fn transcript(&self) -> String {
        let text = |c: &Collected| String::from_utf8_lossy(&c.state.lock().expect("no panic").0).into_owned();
        format!("--- output\n{}\n--- errors\n{}\n---", text(&self.output), text(&self.errors))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
