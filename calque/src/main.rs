//! The `calque` command.

use calque::cli::{self, Request, Usage};
use calque::machine;
use std::io::Write;
use std::process::ExitCode;

/// Errors of use, and whatever keeps a machine from starting.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match arguments().and_then(cli::parse) {
        Ok(Request::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Help(text)) => {
            print(&text);
            ExitCode::from(USAGE)
        }
        Ok(Request::Do(job)) => match (job.0)() {
            Ok(status) => ExitCode::from(status),
            Err(e) => refuse(&format!("{e:#}")),
        },
        Ok(Request::Run(machine, line)) => match machine::run(&machine, &line) {
            Ok(ending) => ExitCode::from(ending.status()),
            Err(e) => refuse(&format!("{e:#}")),
        },
        Err(Usage(line)) => refuse(&line),
    }
}

/// The command line as text.
fn arguments() -> Result<Vec<String>, Usage> {
    let text = |arg: std::ffi::OsString| {
        arg.into_string().map_err(|arg| Usage(format!("the argument '{}' is not UTF-8", arg.display())))
    };
    std::env::args_os().map(text).collect()
}

/// Tells what is wrong, in one line whatever is in it: file names may hold anything.
fn refuse(text: &str) -> ExitCode {
    let line: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    // Not `eprintln`, which panics when nobody listens.
    let _ = writeln!(std::io::stderr(), "calque: {line}");
    ExitCode::from(USAGE)
}

/// Prints to standard output; a closed pipe is nobody's fault.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
