//! Bodies of the fuzz targets in `testsuite/fuzz`: hostile bytes as guest code in every mode, and as input of
//! `run-case`. A panic, an abort or a hang is a bug; so is an access outside guest memory, which a sanitizer sees.

use calque::embed::{CpuMode, Kind, Perms, Reg, Stop, Vm, VmConfig};
use calque::runcase::Runner;
use emu_core::ir::PassSet;

const CODE: u64 = 0x1000;
const DATA: u64 = 0x8000;

/// Decodes, lifts and runs `data` as code: two bytes choose mode, level and engine, 32 give registers.
pub fn code(data: &[u8]) {
    let Some((head, code)) = data.split_at_checked(34) else { return };
    let mode = CpuMode::ALL[usize::from(head[0]) % CpuMode::ALL.len()];
    let cpl = if mode.has_cpl(head[0] >> 6) { head[0] >> 6 } else { mode.default_cpl() };
    let engines = [Kind::Interp, Kind::Eval, Kind::Optimized(PassSet::ALL.0), Kind::Jit];
    let config = VmConfig { cpl, ..VmConfig::new(mode) }.engine(engines[usize::from(head[1]) % 4]);
    // Not every host has a translator.
    let Ok(mut vm) = Vm::new(config) else { return };
    if mode != CpuMode::Real16 {
        vm.map(CODE, 0x2000, Perms::RWX).expect("pages of its own");
        vm.map(DATA, 0x2000, Perms::RW).expect("pages of its own");
    }
    let len = code.len().min(0x1f00);
    vm.write(CODE, &code[..len]).expect("mapped");
    for (n, pair) in head[2..].chunks_exact(2).enumerate() {
        // Small numbers, and addresses in and around the data.
        let value = u64::from(u16::from_le_bytes([pair[0], pair[1]]));
        let value = if pair[1] & 0x80 != 0 { DATA + (value & 0x2fff) } else { value };
        vm.set(Reg::gpr(n as u8), value).expect("any value");
    }
    vm.set(Reg::Rip, CODE).expect("an address");
    vm.deliver_exceptions(head[1] & 0x80 != 0);
    vm.run(Stop { rip: None, max_insns: 500 });
}

/// `data` as lines for `run-case`: every line gets one line back.
pub fn run_case(data: &[u8]) {
    let mut out = Vec::new();
    let (good, bad) = calque::runcase::run(&mut &data[..], &mut out).expect("memory can be written");
    let lines = out.iter().filter(|b| **b == b'\n').count() as u64;
    assert_eq!(lines, good + bad);
    let mut runner = Runner::default();
    if let Ok(text) = std::str::from_utf8(data) {
        let (answer, _) = runner.line(text, 1);
        assert!(serde_json::from_str::<serde_json::Value>(&answer).is_ok(), "{answer}");
    }
}
