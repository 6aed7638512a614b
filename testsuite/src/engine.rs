//! The engines a test runs on.

use crate::files::Scratch;
use crate::guests;
use crate::program::calque;

/// All of `--engine`.
pub const ALL: [&str; 3] = ["interp", "jit", "lockstep"];

/// The engines of `wanted` that this host has. One that calque says is not available is left out with a printed
/// reason, unless `CALQUE_ENGINES` (a list separated by commas) names it: then it has to be there.
///
/// # Panics
/// When an engine that has to be there is not.
pub fn available(wanted: &[&'static str]) -> Vec<&'static str> {
    let required = std::env::var("CALQUE_ENGINES").unwrap_or_default();
    let required: Vec<_> = required.split(',').collect();
    let scratch = Scratch::new();
    let guest = scratch.file("off.bin", &guests::power_off().flat());
    let there = |engine: &&&str| {
        let mut command = calque();
        command.args(["run", "--load-address", guests::ADDRESS_TEXT, "--engine", engine, "-m", "16"]);
        command.args(["--serial", "null", "--time-limit", "60"]).arg(&guest);
        let output = command.output().expect("calque runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let absent = output.status.code() == Some(2) && said.contains("not possible on this host");
        assert!(!absent || !required.contains(*engine), "{engine} has to be available: {said}");
        if absent {
            eprintln!("skipped on {engine}: {}", said.trim());
        }
        !absent
    };
    wanted.iter().filter(there).copied().collect()
}
