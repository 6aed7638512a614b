//! How a machine ended, in plain words and as an exit status.

use std::fmt;

/// Why the run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest powered itself off.
    PowerOff,
    /// The guest reset itself and resets end the run.
    Reset,
    /// The guest wrote this value to `isa-debug-exit`.
    DebugExit(u32),
    /// A triple fault; the text tells where.
    TripleFault(String),
    /// The guest told pvpanic that it panicked.
    GuestPanic,
    /// The time limit ran out.
    TimeLimit,
    /// The user ended it (Ctrl-A x, or a signal).
    User,
    /// A processor's thread died of a bug; its panic goes on once the others have stopped.
    Failure,
    /// Lockstep found the engines apart; the text tells how.
    Difference(String),
}

impl Ending {
    /// The process's exit status. All but `DebugExit` are even, and `DebugExit(v)` is the odd `2v + 1` modulo 256 as
    /// QEMU has it, so no two can be mistaken. Status 2 is left for errors of use.
    pub fn status(&self) -> u8 {
        match self {
            Ending::PowerOff | Ending::User => 0,
            Ending::Reset => 10,
            Ending::TripleFault(_) => 12,
            Ending::GuestPanic => 14,
            Ending::Difference(_) => 16,
            Ending::Failure => 18,
            Ending::TimeLimit => 124,
            Ending::DebugExit(v) => (v << 1 | 1) as u8,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::PowerOff => write!(f, "the guest powered off"),
            Ending::Reset => write!(f, "the guest asked for a reset, and resets end the run"),
            Ending::DebugExit(v) => {
                write!(f, "the guest ended the run through isa-debug-exit with value {v:#x}")
            }
            Ending::TripleFault(at) => write!(f, "triple fault {at}"),
            Ending::GuestPanic => write!(f, "the guest panicked"),
            Ending::TimeLimit => write!(f, "the time limit ran out"),
            Ending::User => write!(f, "ended from the keyboard"),
            Ending::Failure => write!(f, "a bug in calque ended a virtual processor"),
            Ending::Difference(report) => write!(f, "the engines disagree\n{report}"),
        }
    }
}
