//! The `calque` command.

use calque::cli::{self, Request, Usage};
use calque::machine;
use std::io::Write;
use std::process::ExitCode;

/// Errors of use, and whatever keeps a machine from starting.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args().collect()) {
        Ok(Request::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Help(text)) => {
            print(&text);
            ExitCode::from(USAGE)
        }
        Ok(Request::Run(machine, line)) => match machine::run(&machine, &line) {
            Ok(ending) => ExitCode::from(ending.status()),
            Err(e) => {
                eprintln!("calque: {e:#}");
                ExitCode::from(USAGE)
            }
        },
        Err(Usage(line)) => {
            eprintln!("calque: {line}");
            ExitCode::from(USAGE)
        }
    }
}

/// Prints to standard output; a closed pipe is nobody's fault.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
