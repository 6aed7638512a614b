//! `calque run-case`: cases as JSON lines in, results as JSON lines out. The format is in `docs/run-case.md` and, for
//! machines, in `docs/run-case.schema.json`.
//!
//! A line that is not a case gives an error line in its place, which names the line and the field; the others run all
//! the same. Every case is independent of those before it: the processors are reused, their state is not.

mod case;
mod field;
mod output;
mod strict;

use crate::embed::{CpuMode, End, Kind, Reg, Stop, Vm, VmConfig, VmError};
pub use case::Case;
use emu_core::features::Features;
pub use field::FieldError;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Guest memory of a case, page tables included.
pub const MEMORY: u64 = 16 << 20;

/// The longest line that is read.
const LONGEST: usize = 64 << 20;

/// Processors that are kept for the next case of their kind.
const KEPT: usize = 16;

/// Reused processors, one for each engine and CPU model, the one used last at the end.
#[derive(Debug, Default)]
pub struct Runner {
    vms: Vec<(Kind, Features, Vm)>,
    io: Arc<Mutex<Vec<Value>>>,
}

impl Runner {
    /// Runs the case in one line of text and gives the line to answer with, and whether it is a result and not an
    /// error. `number` counts lines from 1.
    pub fn line(&mut self, text: &str, number: u64) -> (String, bool) {
        let (value, twice) = match strict::parse(text) {
            Ok(parsed) => parsed,
            Err(e) => return (no_case(number, &format!("not JSON: {e}")), false),
        };
        let once = twice.map_or(Ok(()), |field| Err(FieldError::new(field, "is there twice")));
        match once.and_then(|()| Case::parse(&value)).and_then(|case| self.run(&case)) {
            Ok(result) => (result, true),
            Err(e) => {
                let id = value.get("id").cloned().unwrap_or(Value::Null);
                let answer = json!({ "id": id, "line": number, "field": e.field, "error": e.to_string() });
                (answer.to_string(), false)
            }
        }
    }

    fn vm(&mut self, kind: Kind, features: Features) -> Result<&mut Vm, VmError> {
        let found = self.vms.iter().position(|(k, f, _)| (*k, *f) == (kind, features));
        let entry = match found {
            Some(n) => self.vms.remove(n),
            None => (kind, features, self.new_vm(kind, features)?),
        };
        if self.vms.len() == KEPT {
            self.vms.remove(0);
        }
        self.vms.push(entry);
        let last = self.vms.len() - 1;
        Ok(&mut self.vms[last].2)
    }

    fn new_vm(&self, kind: Kind, features: Features) -> Result<Vm, VmError> {
        let config = VmConfig { memory: MEMORY, features, ..VmConfig::new(CpuMode::Real16) }.engine(kind);
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
        Ok(vm)
    }

    /// Runs a case and gives its result as a line.
    ///
    /// # Errors
    /// The field that cannot be.
    pub fn run(&mut self, case: &Case) -> Result<String, FieldError> {
        let io = self.io.clone();
        let vm = self.vm(case.engine, case.cpu).map_err(|e| FieldError::new("engine", e.to_string()))?;
        io.lock().unwrap_or_else(PoisonError::into_inner).clear();
        case.load(vm)?;
        let mut run = vm.run(Stop { rip: case.stop_rip, max_insns: case.max_insns });
        if !case.stop_hlt && run.end == End::Halted {
            // Nothing will ever wake it.
            run.end = End::Limit;
        }
        let io = std::mem::take(&mut *io.lock().unwrap_or_else(PoisonError::into_inner));
        output::result(case, vm, &run, io)
    }
}

/// The answer to a line in which no field can be told.
fn no_case(number: u64, error: &str) -> String {
    json!({ "id": null, "line": number, "field": "", "error": error }).to_string()
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

/// Runs every case of `input`. Gives how many lines were results and how many were errors. Whoever waits for an answer
/// before asking again gets it: `output` is flushed before waiting for input.
///
/// # Errors
/// When input cannot be read or output not written.
pub fn run(input: &mut dyn Read, output: &mut dyn Write) -> std::io::Result<(u64, u64)> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut runner = Runner::default();
    let (mut good, mut bad, mut number) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        if !input.buffer().contains(&b'\n') {
            output.flush()?;
        }
        let Some(whole) = read_line(&mut input, &mut line)? else { break };
        number += 1;
        let (answer, ok) = match std::str::from_utf8(&line) {
            _ if !whole => (no_case(number, "the line is longer than 64 MiB"), false),
            Err(e) => (no_case(number, &format!("not UTF-8 from column {} on", e.valid_up_to() + 1)), false),
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
