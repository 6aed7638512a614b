//! The command line: `calque run`, `calque qemu` and what a bare `calque` does.

mod diff;
mod qemu;
mod run;
mod runcase;

use crate::config::Machine;
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::Path;

/// A pure-software emulator of a whole x86 PC.
#[derive(Debug, Parser)]
#[command(name = "calque", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot an image, a kernel, or a guest by name: 'debian', 'debian-generic' or 'monitor' (built in)
    Run(Box<run::RunArgs>),
    /// Run cases given as JSON lines, one processor state each, and print their results as JSON lines
    #[command(name = "run-case")]
    RunCase(runcase::RunCaseArgs),
    /// Compare the engines, and the host's processor, on random machine code
    Diff(Box<diff::DiffArgs>),
    /// Understand QEMU's command line (also when called as qemu-system-x86_64)
    #[command(disable_help_flag = true)]
    Qemu {
        /// QEMU's options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run a machine; the text says what was guessed, one line.
    Run(Box<Machine>, String),
    /// Print this and end with status 0.
    Print(String),
    /// Do this, and end with the status it gives.
    Do(Job),
    /// Nothing was asked and nobody is there to see a guest: print this help and end with status 2.
    Help(String),
}

/// Work that is no machine.
pub struct Job(pub Box<dyn FnOnce() -> anyhow::Result<u8>>);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// An error of use: one line, status 2.
#[derive(Debug)]
pub struct Usage(pub String);

/// Reads the command line. `args` includes the program's name.
///
/// # Errors
/// [`Usage`] with one line that says what is wrong and how to mend it.
pub fn parse(args: Vec<String>) -> Result<Request, Usage> {
    let name =
        args.first().map(|a| Path::new(a).file_name().unwrap_or_default().to_string_lossy().into_owned());
    if name.is_some_and(|n| n.starts_with("qemu-system-")) {
        return qemu::parse(&args[1..]);
    }
    if args.get(1).is_some_and(|a| a == "qemu") {
        return qemu::parse(&args[2..]);
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => return Ok(Request::Print(e.render().to_string())),
        Err(e) => return Err(Usage(one_line(&e, args.get(1).map_or("", |a| a)))),
    };
    match cli.command {
        Some(Command::Run(args)) => args.into_request(),
        Some(Command::Diff(args)) => Ok(Request::Do(args.into_job())),
        Some(Command::RunCase(args)) => Ok(Request::Do(args.into_job())),
        Some(Command::Qemu { args }) => qemu::parse(&args),
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => {
            run::builtin(Machine::default())
        }
        None => {
            use clap::CommandFactory;
            Ok(Request::Help(Cli::command().render_help().to_string()))
        }
    }
}

/// clap's message without its several lines of usage, and whose help says more.
fn one_line(e: &clap::Error, command: &str) -> String {
    use clap::CommandFactory;
    let text = e.render().to_string();
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    // Usage comes last, in one line for each form.
    let message: Vec<&str> = lines
        .take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more information"))
        .map(|l| l.trim_start_matches("error: "))
        .collect();
    let known = Cli::command().find_subcommand(command).is_some();
    let help = if known { format!("{command} --help") } else { "--help".to_owned() };
    format!("{} (see 'calque {help}')", message.join("; "))
}
