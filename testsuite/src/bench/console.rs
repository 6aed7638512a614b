//! Lines from a program's console, each with the time it arrived.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A line without its end, and when its last byte was read.
#[derive(Debug)]
pub struct Line {
    /// The text.
    pub text: String,
    /// On the host's monotonic clock.
    pub at: Instant,
}

/// Why there is no line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Time is up.
    #[error("nothing was heard in time")]
    Timeout,
    /// The program has ended.
    #[error("it ended")]
    Ended,
}

/// A running program behind a terminal of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Console {
    child: Child,
    input: File,
    lines: Receiver<Line>,
    /// What was heard last, for people who read why something failed.
    last: Vec<String>,
}

impl Console {
    /// Starts `command`; its standard error goes to the file `errors`. What begins with `prompt` counts as a line as soon as
    /// it is there, since nothing ends a prompt.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, errors: File, prompt: Option<&'static str>) -> io::Result<Self> {
        // A terminal and no pipes: calque's Ctrl-A escapes need one.
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?.into_string().map_err(io::Error::other)?;
        let theirs = OpenOptions::new().read(true).write(true).open(name)?;
        let mut settings = rustix::termios::tcgetattr(&theirs)?;
        settings.make_raw();
        rustix::termios::tcsetattr(&theirs, rustix::termios::OptionalActions::Now, &settings)?;
        command.stdin(theirs.try_clone()?).stdout(theirs).stderr(Stdio::from(errors));
        let child = command.spawn()?;
        // The command keeps its copies of the terminal open.
        drop(command);
        let ours = File::from(ours);
        let mut source = ours.try_clone()?;
        let (sink, lines) = channel();
        std::thread::spawn(move || {
            let (mut buffer, mut line) = ([0; 4096], Vec::new());
            // The terminal's end shows as an error (EIO) once the program has closed it.
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                let at = Instant::now();
                for &byte in &buffer[..n] {
                    match byte {
                        b'\n' => {
                            let text = String::from_utf8_lossy(&line).into_owned();
                            line.clear();
                            if sink.send(Line { text, at }).is_err() {
                                return;
                            }
                        }
                        b'\r' => {}
                        _ => line.push(byte),
                    }
                }
                if prompt.is_some_and(|prompt| line.starts_with(prompt.as_bytes())) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    if sink.send(Line { text, at }).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { child, input: ours, lines, last: Vec::new() })
    }

    /// The next line.
    ///
    /// # Errors
    /// When none comes before `until`, or the program has ended.
    pub fn line(&mut self, until: Instant) -> Result<Line, Silence> {
        let left = until.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).map_err(|e| match e {
            RecvTimeoutError::Timeout => Silence::Timeout,
            RecvTimeoutError::Disconnected => Silence::Ended,
        })?;
        if self.last.len() == 15 {
            self.last.remove(0);
        }
        self.last.push(line.text.clone());
        Ok(line)
    }

    /// The lines heard last.
    pub fn last(&self) -> String {
        self.last.join("\n")
    }

    /// Types `bytes`. A program that has ended is found out by the next [`Self::line`].
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.input.write_all(bytes);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it `time` to end by itself.
    pub fn wait(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
