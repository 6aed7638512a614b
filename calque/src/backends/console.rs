//! The terminal: raw mode while the guest runs, and the Ctrl-A escapes.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::IsTerminal;
use std::sync::Mutex;

/// Keeps the terminal raw; gives it back its settings when dropped or when [`restore`] is called.
#[derive(Debug)]
pub struct RawTerminal(());

static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

impl RawTerminal {
    /// Makes standard input raw if it is a terminal; does nothing otherwise.
    pub fn enter() -> Self {
        let stdin = std::io::stdin();
        if stdin.is_terminal()
            && let Ok(old) = tcgetattr(&stdin)
        {
            let mut raw = old.clone();
            raw.make_raw();
            if tcsetattr(&stdin, OptionalActions::Now, &raw).is_ok() {
                *SAVED.lock().unwrap_or_else(|e| e.into_inner()) = Some(old);
            }
        }
        Self(())
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back the settings it had before [`RawTerminal::enter`].
pub fn restore() {
    if let Some(old) = SAVED.lock().unwrap_or_else(|e| e.into_inner()).take() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &old);
    }
}

/// What a key, or a key after Ctrl-A, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A byte for the guest.
    Byte(u8),
    /// Ctrl-A x: end calque.
    Quit,
    /// Ctrl-A c: show the counters and where the guest is.
    Status,
    /// Ctrl-A h: show the escapes.
    Help,
}

/// Tells guest bytes from escapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Escapes {
    after_ctrl_a: bool,
}

impl Escapes {
    /// What the next byte from the terminal means; None while an escape is incomplete.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        const CTRL_A: u8 = 1;
        if !self.after_ctrl_a {
            self.after_ctrl_a = byte == CTRL_A;
            return (!self.after_ctrl_a).then_some(Key::Byte(byte));
        }
        self.after_ctrl_a = false;
        match byte {
            b'x' => Some(Key::Quit),
            b'c' => Some(Key::Status),
            b'h' | b'?' => Some(Key::Help),
            CTRL_A => Some(Key::Byte(CTRL_A)),
            _ => None,
        }
    }
}

/// Text of Ctrl-A h.
pub const HELP: &str = "\r\nCtrl-A x  end calque\r\nCtrl-A c  show counters and where the guest is\r\n\
Ctrl-A h  this help\r\nCtrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

/// Reads standard input on the calling thread until it ends or `sink` returns false.
pub fn pump_stdin(mut sink: impl FnMut(Key) -> bool) {
    let stdin = std::io::stdin();
    let escapes_on = stdin.is_terminal();
    let mut escapes = Escapes::default();
    let mut buf = [0; 256];
    loop {
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        // Past the buffer of `Stdin`: what it holds, `poll` does not see.
        let n = match rustix::io::read(&stdin, &mut buf) {
            Ok(0) => return,
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(_) => return,
        };
        for &b in &buf[..n] {
            let key = if escapes_on { escapes.feed(b) } else { Some(Key::Byte(b)) };
            if let Some(key) = key
                && !sink(key)
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_follow_ctrl_a() {
        let mut e = Escapes::default();
        let keys: Vec<_> = b"a\x01x\x01\x01b\x01z\x01c\x01h".iter().filter_map(|&b| e.feed(b)).collect();
        assert_eq!(keys, [Key::Byte(b'a'), Key::Quit, Key::Byte(1), Key::Byte(b'b'), Key::Status, Key::Help]);
    }
}
