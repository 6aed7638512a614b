//! The 49,220 real-mode instructions that were recorded on an 80286, on every engine.
//!
//! The vectors lie beside the checkout, in `../shared/vectors` (or `CALQUE_VECTORS`); where they do not, the test says
//! that it was skipped. `table.rs` lists what is different on later processors, with the manual's reason; each line of
//! it must be needed.

mod table;

use calque::embed::{CpuMode, End, Kind, Reg, Seg, Segment, Stop, Vm, VmConfig};
use emu_core::ir::PassSet;
use flate2::read::GzDecoder;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
pub struct Vector {
    pub op: String,
    idx: u32,
    asm: String,
    pub bytes: String,
    #[serde(rename = "in")]
    pub before: State,
    pub out: State,
    pub exception: Option<Taken>,
}

#[derive(Debug, Deserialize)]
pub struct State {
    pub regs: HashMap<String, u64>,
    pub ram: Vec<(u64, u8)>,
}

#[derive(Debug, Deserialize)]
pub struct Taken {
    pub number: u8,
    /// Where FLAGS were pushed.
    flag_address: u64,
}

impl Vector {
    /// A register as it was before.
    pub fn reg(&self, name: &str) -> u64 {
        self.before.regs[name]
    }

    /// The instruction with its HLT.
    pub fn code(&self) -> Vec<u8> {
        (0..self.bytes.len() / 2)
            .map(|i| u8::from_str_radix(&self.bytes[2 * i..2 * i + 2], 16).expect("hexadecimal"))
            .collect()
    }
}

const GPR: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const SEG: [(&str, Seg); 4] = [("es", Seg::ES), ("cs", Seg::CS), ("ss", Seg::SS), ("ds", Seg::DS)];

/// What differs, empty if nothing does.
fn run(vm: &mut Vm, v: &Vector, mask: u64) -> Vec<String> {
    vm.reset(CpuMode::Real16, 0).expect("real mode has level 0");
    vm.deliver_exceptions(true);
    for (n, name) in GPR.iter().enumerate() {
        vm.set(Reg::gpr(n as u8), v.reg(name)).expect("16 bits");
    }
    vm.set(Reg::Rip, v.reg("ip")).expect("16 bits");
    vm.set(Reg::Rflags, v.reg("flags") & 0xfd7 | 2).expect("16 bits");
    for (name, seg) in SEG {
        let sel = v.reg(name) as u16;
        let value = Segment { base: u64::from(sel) << 4, sel, ..vm.segment(seg) };
        vm.set_segment(seg, value).expect("a paragraph");
    }
    for &(at, byte) in &v.before.ram {
        vm.write(at, &[byte]).expect("RAM");
    }
    // Of a repeated string instruction translated code may count every element.
    let elements = if table::repeated(v) { v.reg("cx") } else { 0 };
    let end = vm.run(Stop { rip: None, max_insns: 50 + elements });
    let mut list = Vec::new();
    if end.end != End::Halted {
        list.push(format!("ends by {:?}", end.end));
    }
    let want = |name: &str| v.out.regs.get(name).copied().unwrap_or_else(|| v.reg(name));
    let mut check = |name: &str, got: u64, want: u64| {
        if got != want {
            list.push(format!("{name}: recorded {want:#x}, here {got:#x}"));
        }
    };
    for (n, name) in GPR.iter().enumerate() {
        check(name, vm.get(Reg::gpr(n as u8)), want(name));
    }
    // Recorded in 16 bits; a HLT in the last byte of a segment leaves 10000h here.
    check("ip", vm.get(Reg::Rip) & 0xffff, want("ip"));
    let flags = mask & 0xfd7;
    check("flags", vm.get(Reg::Rflags) & flags, want("flags") & flags);
    for (name, seg) in SEG {
        check(name, vm.segment(seg).sel.into(), want(name));
    }
    for &(at, byte) in &v.out.ram {
        let mut got = [0];
        vm.read(at, &mut got).expect("RAM");
        let mask = match &v.exception {
            Some(e) if e.flag_address == at => flags as u8,
            Some(e) if e.flag_address + 1 == at => (flags >> 8) as u8,
            _ => 0xff,
        };
        check(&format!("memory at {at:#x}"), u64::from(got[0] & mask), u64::from(byte & mask));
    }
    list
}

fn folder() -> Option<PathBuf> {
    let path = match std::env::var_os("CALQUE_VECTORS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
    };
    path.join("real-mode-80286.jsonl.gz").exists().then_some(path)
}

fn engine(kind: Kind) {
    let Some(folder) = folder() else {
        eprintln!("skipped: there is no ../shared/vectors beside the checkout");
        return;
    };
    let masks = File::open(folder.join("real-mode-80286-flags.json")).expect("the masks of flags");
    let masks: HashMap<String, u64> = serde_json::from_reader(masks).expect("masks of flags");
    let file = File::open(folder.join("real-mode-80286.jsonl.gz")).expect("the vectors");
    let mut vm = match Vm::new(VmConfig::new(CpuMode::Real16).engine(kind)) {
        Ok(vm) => vm,
        Err(e) => {
            eprintln!("skipped: {e}");
            return;
        }
    };
    let (mut count, mut failed) = (0, BTreeMap::<String, Vec<String>>::new());
    let mut covered = vec![0u32; table::DIFFERENCES.len()];
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let v: Vector = serde_json::from_str(&line.expect("a line")).expect("a vector");
        let mask = masks.get(&v.op).copied().unwrap_or(0xffff);
        count += 1;
        let wrong = run(&mut vm, &v, mask);
        if let Some(n) = table::DIFFERENCES.iter().position(|d| (d.covers)(&v)) {
            covered[n] += u32::from(!wrong.is_empty());
        } else if !wrong.is_empty() {
            let text = format!("{} {} {} ({}): {}", v.op, v.idx, v.asm, v.bytes, wrong.join("; "));
            failed.entry(v.op.clone()).or_default().push(text);
        }
    }
    eprintln!("{count} vectors on {}", kind.name());
    for (d, n) in table::DIFFERENCES.iter().zip(&covered) {
        eprintln!("{n} differ as they must: {}", d.why);
        assert!(*n > 0, "nothing differs for this reason any more: {}", d.why);
    }
    let total: usize = failed.values().map(Vec::len).sum();
    let shown: Vec<String> = failed.values().map(|f| format!("{} of {}", f.len(), f[0])).collect();
    assert!(failed.is_empty(), "{total} of {count} vectors differ:\n{}", shown.join("\n"));
    assert_eq!(count, 49_220, "vectors are missing");
    let (translated, interpreted) = vm.counts();
    assert!(kind == Kind::Interp || translated > interpreted / 2, "{translated} to {interpreted}");
}

#[test]
fn interpreter_does_what_the_80286_did() {
    engine(Kind::Interp);
}

#[test]
fn evaluator_does_what_the_80286_did() {
    engine(Kind::Optimized(PassSet::ALL.0));
}

#[test]
fn host_code_does_what_the_80286_did() {
    engine(Kind::Jit);
}
