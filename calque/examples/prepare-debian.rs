//! Prepares the Debian guest and prints where it is: `cargo run -p calque --example prepare-debian [cloud|generic]`.
#![allow(clippy::print_stdout, reason = "printing the paths is what this program is for")]

use std::process::ExitCode;

use calque::guests::Cache;
use calque::guests::debian::{Flavour, prepare};

fn main() -> ExitCode {
    let flavour = match std::env::args().nth(1).as_deref() {
        None | Some("cloud") => Flavour::Cloud,
        Some("generic") => Flavour::Generic,
        Some(other) => {
            eprintln!("prepare-debian: no flavour `{other}`: say `cloud` or `generic`");
            return ExitCode::from(2);
        }
    };
    let progress = |text: &str| eprintln!("{text}...");
    match Cache::of_user().and_then(|cache| prepare(flavour, &cache, &progress)) {
        Ok(guest) => {
            println!(
                "kernel {}\ninitrd {}\nappend {}",
                guest.kernel.display(),
                guest.initrd.display(),
                guest.append
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("prepare-debian: {error}");
            ExitCode::from(1)
        }
    }
}
