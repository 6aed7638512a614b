//! The instructions to try, and their encodings.

use crate::case::Random;
use iced_x86::{
    Code, CpuidFeature as F, Encoder, EncodingKind, Instruction, Mnemonic, OpCodeOperandKind as K, OpKind,
    Register,
};

/// Whether `code` is an MMX or SSE instruction of 64-bit code that this host has.
pub fn wanted(code: Code) -> bool {
    let features = code.cpuid_features();
    let simd = features.iter().all(|f| {
        matches!(
            f,
            F::MMX | F::SSE | F::SSE2 | F::SSE3 | F::SSSE3 | F::SSE4_1 | F::SSE4_2 | F::AES | F::PCLMULQDQ
        )
    });
    let fence = matches!(code.mnemonic(), Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence);
    let prefetch = format!("{:?}", code.mnemonic()).starts_with("Prefetch");
    code.encoding() == EncodingKind::Legacy
        && code.op_code().mode64()
        && simd
        && !features.is_empty()
        && !fence
        && !prefetch
        && code != Code::Pause
        && offered(features)
}

fn offered(features: &[F]) -> bool {
    features.iter().all(|f| match f {
        F::SSE3 => is_x86_feature_detected!("sse3"),
        F::SSSE3 => is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        F::AES => is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => is_x86_feature_detected!("pclmulqdq"),
        _ => true,
    })
}

/// The forms of `code`: with a register, with memory, or both.
pub fn variants(code: Code) -> Vec<bool> {
    let kinds = || (0..code.op_code().op_count()).map(|i| code.op_code().op_kind(i));
    let choice = |k| {
        matches!(
            k,
            K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem | K::mm_or_mem | K::xmm_or_mem
        )
    };
    if kinds().any(choice) { vec![false, true] } else { vec![false] }
}

/// One encoding with random registers and immediate; the memory operand is at RDI.
pub fn encode(code: Code, memory: bool, random: &mut Random) -> Vec<u8> {
    let mut ins = Instruction::default();
    ins.set_code(code);
    let at_rdi = |ins: &mut Instruction, i| {
        ins.set_op_kind(i, OpKind::Memory);
        ins.set_memory_base(Register::RDI);
    };
    for i in 0..code.op_code().op_count() {
        let xmm = Register::XMM0 + random.below(16) as u32;
        let mm = Register::MM0 + random.below(8) as u32;
        let r32 = [Register::EAX, Register::ECX, Register::EDX, Register::R8D][random.below(4) as usize];
        let r64 = r32.full_register();
        let register = match code.op_code().op_kind(i) {
            K::mem => {
                at_rdi(&mut ins, i);
                continue;
            }
            K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem | K::mm_or_mem | K::xmm_or_mem
                if memory =>
            {
                at_rdi(&mut ins, i);
                continue;
            }
            K::imm8 => {
                ins.set_op_kind(i, OpKind::Immediate8);
                ins.set_immediate8(random.next() as u8);
                continue;
            }
            K::seg_rDI => {
                ins.set_op_kind(i, OpKind::MemorySegRDI);
                continue;
            }
            K::xmm_reg | K::xmm_rm | K::xmm_or_mem => xmm,
            K::mm_reg | K::mm_rm | K::mm_or_mem => mm,
            K::r32_reg | K::r32_rm | K::r32_or_mem => r32,
            K::r8_or_mem => [Register::AL, Register::CL, Register::DL][random.below(3) as usize],
            K::r16_or_mem => [Register::AX, Register::CX, Register::R8W][random.below(3) as usize],
            K::r64_reg | K::r64_rm | K::r64_or_mem => r64,
            kind => panic!("{code:?} has an operand {kind:?}"),
        };
        ins.set_op_kind(i, OpKind::Register);
        ins.set_op_register(i, register);
    }
    let mut encoder = Encoder::new(64);
    encoder.encode(&ins, 0).unwrap_or_else(|e| panic!("{code:?}: {e}"));
    encoder.take_buffer()
}
