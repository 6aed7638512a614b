//! The Debian guest's shell, over a serial console.

use crate::session::{Outcome, Session};
use std::time::Duration;

/// The end of the prompt.
pub const PROMPT: &str = "root@calque:";

/// A shell at its prompt.
#[derive(Debug)]
pub struct Shell {
    /// The emulator.
    pub session: Session,
}

impl Shell {
    /// Waits for the first prompt of a guest that has just been started, `patience` at the most.
    pub fn boot(mut session: Session, patience: Duration) -> Self {
        session.set_timeout(patience);
        session.expect(PROMPT);
        session.expect("# ");
        // Patience, not a bar on speed: the interpreter on a busy host is slow.
        session.set_timeout(Duration::from_secs(240));
        Self { session }
    }

    /// Runs a command; returns its output, with plain line ends, and its status.
    pub fn run(&mut self, command: &str) -> (String, i32) {
        // What is typed is echoed. The quotes tell the echo from what `echo` prints.
        self.session.line(&format!("echo @''begin; {command}; echo @''end $?"));
        self.session.expect("@begin\r\n");
        let output = self.session.expect("@end ");
        let status = self.session.expect("\r\n").trim().parse().expect("a status");
        self.prompt();
        (output.replace("\r\n", "\n"), status)
    }

    /// Runs a command that has to succeed.
    ///
    /// # Panics
    /// When its status is not 0.
    pub fn ok(&mut self, command: &str) -> String {
        let (output, status) = self.run(command);
        assert_eq!(status, 0, "'{command}' in the guest said: {output}");
        output
    }

    /// Waits for the next prompt.
    pub fn prompt(&mut self) {
        self.session.expect(PROMPT);
        self.session.expect("# ");
    }

    /// Powers the guest off and waits for the emulator's end.
    pub fn power_off(mut self) -> Outcome {
        self.session.line("poweroff");
        self.session.finish()
    }
}
