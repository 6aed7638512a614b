//! Translated code against the IR evaluator, by hand-made and random blocks.

mod avx;
mod chain;
mod float;
mod forms;
#[path = "../../../emu-core/tests/ir/gen.rs"]
mod r#gen;
mod golden;
mod jumps;
mod random;
mod strings;
mod vectors;
mod x87;

use emu_core::cpu::Cpu;
use emu_core::ir::End;

/// Host code as text, one instruction a line.
/// Has the processor run a program, not the system: at CPL 3.
pub fn to_user(cpu: &mut emu_core::cpu::Cpu) {
    let dpl = 3 << emu_core::state::segment::attr::DPL_SHIFT;
    cpu.state.seg[1].attr |= dpl;
    cpu.state.seg[2].attr |= dpl;
    cpu.mode_changed();
}

/// A block's host code, with what is out of line behind the rest.
pub fn joined(jit: &backend_jit::Jit, id: backend_jit::BlockId) -> Vec<u8> {
    jit.host_code(id).into_iter().flat_map(|(_, code)| code).collect()
}

pub fn disassemble(code: &[u8]) -> String {
    if cfg!(target_arch = "aarch64") {
        // For `aarch64-linux-gnu-objdump -D -b binary -m aarch64`, after `xxd -r -p`.
        return code
            .chunks(4)
            .map(|w| w.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n")
            .collect();
    }
    use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
    let mut f = NasmFormatter::new();
    let mut text = String::new();
    for i in Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter() {
        f.format(&i, &mut text);
        text.push('\n');
    }
    text
}

/// Whether the evaluator and translated code ended alike.
pub fn agree(want: End, got: backend_jit::RunExit, cpu: &Cpu) -> bool {
    use backend_jit::RunExit;
    match (want, got) {
        (End::Goto(_), RunExit::NeedBlock) | (End::Interpret, RunExit::Interpret) => true,
        (End::Fault(a), RunExit::Fault) => a == backend_jit::fault(cpu),
        _ => false,
    }
}
