//! `calque run-case`: cases as JSON lines in, results as JSON lines out. The format is in `docs/run-case.md` and, for
//! machines, in `docs/run-case.schema.json`.
//!
//! A line that is not a case gives an error line in its place, which names the line and the field; the others run all
//! the same. Every case is independent of those before it: the processors are reused, their state is not.

mod case;
mod field;
mod output;

use crate::embed::{CpuMode, End, Kind, Reg, Stop, Vm, VmConfig, VmError};
pub use case::Case;
pub use field::FieldError;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Guest memory of a case, page tables included.
pub const MEMORY: u64 = 16 << 20;

/// The longest line that is read.
const LONGEST: usize = 64 << 20;

/// Reused processors, one for each engine.
#[derive(Debug, Default)]
pub struct Runner {
    vms: Vec<(Kind, Vm)>,
    io: Arc<Mutex<Vec<Value>>>,
}

impl Runner {
    /// Runs the case in one line of text and gives the line to answer with, and whether it is a result and not an
    /// error. `number` counts lines from 1.
    pub fn line(&mut self, text: &str, number: u64) -> (String, bool) {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(e) => {
                let error = format!("not JSON: {e}");
                return (json!({ "id": null, "line": number, "error": error }).to_string(), false);
            }
        };
        match Case::parse(&value).and_then(|case| self.run(&case)) {
            Ok(result) => (result, true),
            Err(e) => {
                let id = value.get("id").cloned().unwrap_or(Value::Null);
                let answer = json!({ "id": id, "line": number, "field": e.field, "error": e.to_string() });
                (answer.to_string(), false)
            }
        }
    }

    fn vm(&mut self, kind: Kind) -> Result<usize, VmError> {
        if let Some(n) = self.vms.iter().position(|(k, _)| *k == kind) {
            return Ok(n);
        }
        let config = VmConfig { memory: MEMORY, ..VmConfig::new(CpuMode::Real16) }.engine(kind);
        let mut vm = Vm::new(config)?;
        let io = self.io.clone();
        vm.on_io(move |a| {
            let mut list = io.lock().unwrap_or_else(PoisonError::into_inner);
            // A case that does nothing else must not fill the host's memory.
            if list.len() < 65_536 {
                let dir = if a.write { "out" } else { "in" };
                list.push(json!([dir, a.port, a.size, a.value]));
            }
            a.value
        });
        self.vms.push((kind, vm));
        Ok(self.vms.len() - 1)
    }

    /// Runs a case and gives its result as a line.
    ///
    /// # Errors
    /// The field that cannot be.
    pub fn run(&mut self, case: &Case) -> Result<String, FieldError> {
        let at = self.vm(case.engine).map_err(|e| FieldError::new("engine", e.to_string()))?;
        self.io.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let vm = &mut self.vms[at].1;
        case.load(vm)?;
        let mut run = vm.run(Stop { rip: case.stop_rip, max_insns: case.max_insns });
        if !case.stop_hlt && run.end == End::Halted {
            // Nothing will ever wake it.
            run.end = End::Limit;
        }
        let io = std::mem::take(&mut *self.io.lock().unwrap_or_else(PoisonError::into_inner));
        output::result(case, vm, &run, io)
    }
}

/// Reads a line of at most [`LONGEST`] bytes; None at the end. An overlong line is read to its end and given cut.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    line.clear();
    let mut whole = true;
    loop {
        let part = input.fill_buf()?;
        if part.is_empty() {
            return Ok((!line.is_empty()).then_some(whole));
        }
        let end = part.iter().position(|b| *b == b'\n');
        let n = end.unwrap_or(part.len());
        if line.len() + n <= LONGEST {
            line.extend_from_slice(&part[..n]);
        } else {
            whole = false;
        }
        input.consume(end.map_or(n, |e| e + 1));
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

/// Runs every case of `input`. Gives how many lines were results and how many were errors.
///
/// # Errors
/// When input cannot be read or output not written.
pub fn run(input: &mut dyn BufRead, output: &mut dyn Write) -> std::io::Result<(u64, u64)> {
    let mut runner = Runner::default();
    let (mut good, mut bad, mut number) = (0, 0, 0);
    let mut line = Vec::new();
    while let Some(whole) = read_line(input, &mut line)? {
        number += 1;
        let (answer, ok) = match std::str::from_utf8(&line) {
            _ if !whole => (
                json!({ "id": null, "line": number, "error": "the line is longer than 64 MiB" }).to_string(),
                false,
            ),
            Err(_) => (json!({ "id": null, "line": number, "error": "not UTF-8" }).to_string(), false),
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => runner.line(text, number),
        };
        good += u64::from(ok);
        bad += u64::from(!ok);
        writeln!(output, "{answer}")?;
    }
    output.flush()?;
    Ok((good, bad))
}

/// The register that holds RIP's name in results; used by the output and kept here so that both agree.
const GENERAL: [Reg; 18] = {
    let mut list = [Reg::Rip; 18];
    let mut n = 0;
    while n < 16 {
        list[n] = Reg::gpr(n as u8);
        n += 1;
    }
    list[17] = Reg::Rflags;
    list
};
