//! What Intel's and AMD's processors take the same bytes for.

use super::leg::Step;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction};

/// The instruction as AMD's processors decode it.
pub(super) fn as_amd(s: &Step) -> Instruction {
    Decoder::with_ip(s.bits, &s.bytes, s.rip, DecoderOptions::AMD).decode()
}

/// Whether it is VPEXTRD or VPINSRD in spite of VEX.W.
pub(super) fn takes_w_as_ignored(s: &Step, i: &Instruction) -> bool {
    let element = matches!(i.code(), Code::VEX_Vpextrd_rm32_xmm_imm8 | Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8);
    element && vex_w(s).is_some_and(|(_, set)| set)
}

/// Where VEX.W is, the uppermost bit of a byte, and whether it is set.
fn vex_w(s: &Step) -> Option<(usize, bool)> {
    let at = s.bytes.iter().position(|b| *b == 0xc4)? + 2;
    s.bytes.get(at).map(|b| (at, b & 0x80 != 0))
}

/// Whether it would be VPERMQ or VPERMPD if VEX.W were set.
pub(super) fn permutes_with_w(s: &Step) -> bool {
    let Some((w, false)) = vex_w(s) else { return false };
    let mut bytes = s.bytes;
    bytes[w] |= 0x80;
    let i = Decoder::with_ip(s.bits, &bytes, s.rip, DecoderOptions::NONE).decode();
    matches!(i.code(), Code::VEX_Vpermq_ymm_ymmm256_imm8 | Code::VEX_Vpermpd_ymm_ymmm256_imm8)
}

/// A near branch that AMD's processors take with 16 bits.
pub(super) fn narrow_branch(s: &Step) -> bool {
    let intel = Decoder::with_ip(64, &s.bytes, s.rip, DecoderOptions::NONE).decode();
    let amd = as_amd(s);
    intel.code() != amd.code() && amd.flow_control() != FlowControl::Next
}

/// Whether a byte before the opcode is a prefix, REX among them.
fn is_prefix(b: u8) -> bool {
    matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Whether it has a repeat prefix, which the decoder tells of string instructions alone.
pub(super) fn repeats(s: &Step) -> bool {
    s.bytes.iter().take_while(|b| is_prefix(**b)).any(|b| matches!(b, 0xf2 | 0xf3))
}

/// Whether its opcode is that of VMCALL or VMMCALL, with prefixes that make an undefined one of it. Processors may take it for
/// the call all the same, and the hypervisor that the host runs under answers.
pub(super) fn calls_hypervisor(s: &Step) -> bool {
    let prefix = |b: &&u8| is_prefix(**b) && **b != 0xf0;
    let at = s.bytes.iter().take_while(prefix).count();
    matches!(s.bytes.get(at..at + 3), Some([0x0f, 0x01, 0xc1 | 0xd9]))
}
