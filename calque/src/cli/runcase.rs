//! `calque run-case`.

use super::Job;
use crate::runcase;
use anyhow::{Context, Result};
use std::io::{BufReader, BufWriter, Write};
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
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut bad = 0;
    let mut one = |input: &mut dyn std::io::BufRead, name: &str| -> Result<()> {
        bad += runcase::run(input, &mut out).with_context(|| name.to_owned())?.1;
        Ok(())
    };
    if files.is_empty() {
        one(&mut std::io::stdin().lock(), "standard input")?;
    }
    for path in files {
        let name = path.display().to_string();
        let file = std::fs::File::open(path).with_context(|| name.clone())?;
        one(&mut BufReader::with_capacity(1 << 16, file), &name)?;
    }
    out.flush()?;
    Ok(u8::from(bad != 0))
}
