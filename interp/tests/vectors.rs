//! 49,220 real-mode instructions as an 80286 executed them (`shared/vectors/README.md`).
//!
//! The vectors lie beside the main checkout, or where `CALQUE_VECTORS` says; without them the test says so and
//! passes.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::engine::Engine;
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::state::{Activity, CpuState, SegReg};
use flate2::read::GzDecoder;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Mnemonic, Register};
use interp::{Interp, StepResult};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

const RAM: u64 = 0x11_0000;

/// How a 286 differs from every later processor, by what the vector looks like.
fn known_difference(v: &Value) -> Option<&'static str> {
    let hex = v["bytes"].as_str().unwrap_or_default();
    let bytes: Vec<u8> =
        (0..hex.len() / 2).filter_map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()).collect();
    let ins = Decoder::new(16, &bytes, DecoderOptions::NONE).decode();
    let loose = Decoder::new(16, &bytes, DecoderOptions::NO_INVALID_CHECK).decode();
    if ins.is_invalid() && loose.has_lock_prefix() {
        return Some("LOCK is allowed with every instruction");
    }
    if loose.mnemonic() == Mnemonic::INVALID {
        return None;
    }
    if loose.cpuid_features().contains(&CpuidFeature::FPU) {
        return Some("there is no coprocessor");
    }
    if v["op"] == "F6.7" && v["idx"] == 4297 {
        return Some("IDIV of 25529 by -71 gives -128 rather than #DE");
    }
    match v["exception"]["number"].as_u64() {
        Some(6) if loose.op_count() > 1 && loose.op1_register().is_segment_register() => {
            Some("there is no FS and GS")
        }
        Some(6) if loose.op0_register().is_segment_register() => Some("there is no FS and GS"),
        Some(13) if loose.len() > 10 => Some("instructions have at most 10 bytes"),
        Some(13) if loose.is_string_instruction() => Some("string instructions that fault have moved on"),
        Some(13) if loose.memory_segment() == Register::SS || loose.stack_pointer_increment() != 0 => {
            Some("an overrun of the stack segment is vector 13, not 12")
        }
        Some(13) if loose.mnemonic() == Mnemonic::Leave => {
            Some("an overrun of the stack segment is vector 13, not 12")
        }
        Some(0) if loose.mnemonic() == Mnemonic::Aam => Some("AAM 0 sets SF, ZF and PF before it faults"),
        _ => None,
    }
}

struct Bench {
    cpu: CpuBox,
    interp: Interp,
}

impl Bench {
    fn new() -> Self {
        let mem = PhysMem::new(RAM).expect("guest memory");
        Self { cpu: Cpu::new(Wiring::bare(mem), Features::max(), 0), interp: Interp::new() }
    }

    fn poke(&mut self, cells: &Value, value: impl Fn(u64) -> u64) {
        for c in cells.as_array().into_iter().flatten() {
            let addr = c[0].as_u64().expect("address");
            self.cpu.phys_write(PhysAddr(addr), 1, value(c[1].as_u64().expect("byte")));
        }
        let hits = std::mem::take(&mut self.cpu.code_hits);
        self.interp.invalidate(&hits);
    }

    /// Runs one vector and gives what differs, if anything.
    fn run(&mut self, v: &Value, mask: u64) -> Result<(), String> {
        self.cpu.state = fresh(&self.cpu.state);
        set_registers(&mut self.cpu.state, &v["in"]["regs"]);
        self.cpu.mode_changed();
        self.poke(&v["in"]["ram"], |b| b);
        let mut steps = 0;
        while self.cpu.state.activity != Activity::Halted {
            steps += 1;
            if self.interp.step(&mut self.cpu) == StepResult::Shutdown || steps > 500 {
                return Err("never reaches HLT".into());
            }
            let hits = std::mem::take(&mut self.cpu.code_hits);
            self.interp.invalidate(&hits);
        }
        let result = self.compare(v, mask);
        self.poke(&v["in"]["ram"], |_| 0);
        self.poke(&v["out"]["ram"], |_| 0);
        result
    }

    fn compare(&mut self, v: &Value, mask: u64) -> Result<(), String> {
        let mask = mask & 0x0fff;
        for (name, &want) in expected(v).iter() {
            let got = register(&self.cpu.state, name);
            let m = if name == "flags" { mask } else { 0xffff };
            if got & m != want & m {
                return Err(format!("{name}: {got:#06x}, not {want:#06x}"));
            }
        }
        // The collection's own `flag_address` is off by one where SP is odd.
        let s = &self.cpu.state;
        let flags_at =
            v["exception"].is_object().then(|| s.seg[2].base + (s.gpr[4].wrapping_add(4) & 0xffff));
        for c in v["out"]["ram"].as_array().into_iter().flatten() {
            let (addr, want) = (c[0].as_u64().unwrap_or(0), c[1].as_u64().unwrap_or(0));
            let got = self.cpu.phys_read(PhysAddr(addr), 1);
            let m = match flags_at {
                Some(f) if addr == f => mask & 0xff,
                Some(f) if addr == f + 1 => mask >> 8,
                _ => 0xff,
            };
            if got & m != want & m {
                return Err(format!("byte at {addr:#x}: {got:#04x}, not {want:#04x}"));
            }
        }
        Ok(())
    }
}

/// The reset state with the pointers of `old`.
fn fresh(old: &CpuState) -> CpuState {
    let mut s = *CpuState::reset();
    s.tlb = old.tlb;
    s
}

const GENERAL: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const SEGMENTS: [&str; 4] = ["es", "cs", "ss", "ds"];

fn set_registers(s: &mut CpuState, regs: &Value) {
    let get = |name: &str| regs[name].as_u64().expect("register");
    for (i, name) in GENERAL.iter().enumerate() {
        s.gpr[i] = get(name);
    }
    for (i, name) in SEGMENTS.iter().enumerate() {
        let sel = get(name) as u16;
        s.seg[i] = SegReg { sel, attr: 0x93, limit: 0xffff, base: u64::from(sel) << 4 };
    }
    s.rip = get("ip");
    // Bits 12-15 do not exist in a 286's real mode; TF is never set in the vectors.
    s.rflags = get("flags") & 0x0fd5 | 2;
}

fn register(s: &CpuState, name: &str) -> u64 {
    if let Some(i) = GENERAL.iter().position(|n| *n == name) {
        return s.gpr[i] & 0xffff;
    }
    if let Some(i) = SEGMENTS.iter().position(|n| *n == name) {
        return s.seg[i].sel.into();
    }
    if name == "ip" { s.rip } else { s.rflags }
}

/// All registers after the instruction: those of before, replaced by what changed.
fn expected(v: &Value) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for side in ["in", "out"] {
        for (k, x) in v[side]["regs"].as_object().into_iter().flatten() {
            all.insert(k.clone(), x.as_u64().unwrap_or(0));
        }
    }
    all
}

fn folder() -> PathBuf {
    std::env::var_os("CALQUE_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from)
}

#[test]
fn real_mode_80286() {
    let dir = folder();
    let Ok(file) = File::open(dir.join("real-mode-80286.jsonl.gz")) else {
        eprintln!("skipped: no vectors in {}", dir.display());
        return;
    };
    let masks = File::open(dir.join("real-mode-80286-flags.json")).expect("flag masks");
    let masks: Value = serde_json::from_reader(masks).expect("flag masks are JSON");
    let mut bench = Bench::new();
    let (mut total, mut skipped) = (0u32, 0u32);
    let mut failures: BTreeMap<String, (u32, String)> = BTreeMap::new();
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let v: Value = serde_json::from_str(&line.expect("a line")).expect("a vector is JSON");
        let op = v["op"].as_str().expect("opcode").to_owned();
        total += 1;
        if known_difference(&v).is_some() {
            skipped += 1;
            continue;
        }
        if let Err(why) = bench.run(&v, masks[&op].as_u64().unwrap_or(0xffff)) {
            if std::env::var("CALQUE_VECTOR_OP").is_ok_and(|o| o == op) {
                eprintln!("{op} {} [{}] {}: {why}", v["asm"], v["idx"], v["bytes"]);
            }
            bench = Bench::new();
            failures.entry(op).or_insert_with(|| (0, format!("{} [{}]: {why}", v["asm"], v["idx"]))).0 += 1;
        }
    }
    let bad: u32 = failures.values().map(|f| f.0).sum();
    eprintln!("{total} vectors, {skipped} skipped, {bad} wrong");
    for (op, (n, first)) in &failures {
        eprintln!("{op}: {n} wrong, first {first}");
    }
    assert!(failures.is_empty(), "{bad} vectors differ");
}
