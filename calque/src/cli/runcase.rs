//! `calque run-case`.

use super::Job;
use crate::runcase;
use anyhow::{Context, Result};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Options of `calque run-case`.
#[derive(Debug, clap::Args)]
pub(super) struct RunCaseArgs {
    /// Files of cases, one a line; standard input if there is none
    files: Vec<PathBuf>,
}

impl RunCaseArgs {
    pub(super) fn into_job(self) -> Job {
        Job(Box::new(move || run(&self.files)))
    }
}

/// 0, or 1 when some line was no case.
fn run(files: &[PathBuf]) -> Result<u8> {
    // All of them before the first case, so that a wrong name costs nothing.
    let mut inputs = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let file = std::fs::File::open(path).with_context(|| name.clone())?;
        inputs.push((name, file));
    }
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut bad = 0;
    let mut one = |input: &mut dyn std::io::Read, name: &str| -> Result<()> {
        bad += runcase::run(input, &mut out).with_context(|| name.to_owned())?.1;
        Ok(())
    };
    if files.is_empty() {
        one(&mut std::io::stdin().lock(), "standard input")?;
    }
    for (name, mut input) in inputs {
        one(&mut input, &name)?;
    }
    out.flush()?;
    Ok(u8::from(bad != 0))
}
