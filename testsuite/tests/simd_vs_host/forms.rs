//! The instructions to try, and their encodings.

use crate::case::Random;
use iced_x86::{
    Code, CpuidFeature as F, Decoder, DecoderOptions, Encoder, EncodingKind, Instruction, Mnemonic,
    OpCodeOperandKind as K, OpKind, Register, RflagsBits,
};

/// Whether `code` is a vector instruction of 64-bit code, or one of BMI, LZCNT and ADX, with or without VEX.
pub fn wanted(code: Code) -> bool {
    let features = code.cpuid_features();
    let simd = features.iter().all(|f| {
        matches!(
            f,
            F::MMX
                | F::SSE
                | F::SSE2
                | F::SSE3
                | F::SSSE3
                | F::SSE4_1
                | F::SSE4_2
                | F::SSE4A
                | F::AES
                | F::PCLMULQDQ
                | F::AVX
                | F::AVX2
                | F::FMA
                | F::F16C
                | F::BMI1
                | F::BMI2
                | F::LZCNT
                | F::ADX
                | F::SHA
                | F::VAES
                | F::VPCLMULQDQ
        )
    });
    let fence = matches!(code.mnemonic(), Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence);
    let prefetch = format!("{:?}", code.mnemonic()).starts_with("Prefetch");
    matches!(code.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
        && code.op_code().mode64()
        && simd
        && !features.is_empty()
        && !fence
        && !prefetch
        && code != Code::Pause
}

/// Whether this host has `code`.
pub fn offered(code: Code) -> bool {
    code.cpuid_features().iter().all(|f| match f {
        F::SSE3 => is_x86_feature_detected!("sse3"),
        F::SSSE3 => is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        F::AES => is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => is_x86_feature_detected!("pclmulqdq"),
        F::SSE4A => is_x86_feature_detected!("sse4a"),
        F::AVX => is_x86_feature_detected!("avx"),
        F::AVX2 => is_x86_feature_detected!("avx2"),
        F::FMA => is_x86_feature_detected!("fma"),
        F::F16C => is_x86_feature_detected!("f16c"),
        F::BMI1 => is_x86_feature_detected!("bmi1"),
        F::BMI2 => is_x86_feature_detected!("bmi2"),
        F::LZCNT => is_x86_feature_detected!("lzcnt"),
        F::ADX => is_x86_feature_detected!("adx"),
        F::SHA => is_x86_feature_detected!("sha"),
        F::VAES => is_x86_feature_detected!("vaes"),
        F::VPCLMULQDQ => is_x86_feature_detected!("vpclmulqdq"),
        _ => true,
    })
}

/// The forms of `code`: with a register, with memory, or both.
pub fn variants(code: Code) -> Vec<bool> {
    let kinds = || (0..code.op_code().op_count()).map(|i| code.op_code().op_kind(i));
    let choice = |k| {
        matches!(
            k,
            K::r8_or_mem
                | K::r16_or_mem
                | K::r32_or_mem
                | K::r64_or_mem
                | K::mm_or_mem
                | K::xmm_or_mem
                | K::ymm_or_mem
        )
    };
    if kinds().any(choice) { vec![false, true] } else { vec![false] }
}

/// Whether `code` is one of the gathers.
pub fn gather(code: Code) -> bool {
    let kinds = |i| code.op_code().op_kind(i);
    code.op_code().op_count() > 1
        && matches!(kinds(1), K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y)
}

/// Of a gather, the number of the register of indices, and their size in bits.
pub fn indices(code: Code, bytes: &[u8]) -> Option<(usize, usize)> {
    if !gather(code) {
        return None;
    }
    let ins = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    let narrow = matches!(code.op_code().op_kind(1), K::mem_vsib32x | K::mem_vsib32y);
    Some((ins.memory_index().number(), if narrow { 32 } else { 64 }))
}

/// The flags that the manual leaves undefined.
pub fn undefined_flags(bytes: &[u8]) -> u64 {
    let ins = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    let bits = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 4),
        (RflagsBits::AF, 0x10),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::SF, 0x80),
        (RflagsBits::OF, 0x800),
    ];
    let undefined = |bit: u32| ins.rflags_undefined() & bit != 0;
    bits.iter().filter(|b| undefined(b.0)).fold(0, |mask, b| mask | b.1)
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
            K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r64_or_mem
            | K::mm_or_mem
            | K::xmm_or_mem
            | K::ymm_or_mem
                if memory =>
            {
                at_rdi(&mut ins, i);
                continue;
            }
            K::imm8 if (0..i).any(|j| ins.op_kind(j) == OpKind::Immediate8) => {
                ins.set_op_kind(i, OpKind::Immediate8_2nd);
                ins.set_immediate8_2nd(random.next() as u8);
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
            // No two of a gather's three registers may be the same.
            K::xmm_reg if gather(code) => Register::XMM0 + random.below(5) as u32,
            K::ymm_reg if gather(code) => Register::YMM0 + random.below(5) as u32,
            K::xmm_vvvv if gather(code) => Register::XMM5 + random.below(5) as u32,
            K::ymm_vvvv if gather(code) => Register::YMM5 + random.below(5) as u32,
            k @ (K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y) => {
                at_rdi(&mut ins, i);
                let x = matches!(k, K::mem_vsib32x | K::mem_vsib64x);
                let first = if x { Register::XMM10 } else { Register::YMM10 };
                ins.set_memory_index(first + random.below(6) as u32);
                ins.set_memory_index_scale(1 << random.below(4));
                continue;
            }
            K::xmm_reg | K::xmm_rm | K::xmm_or_mem | K::xmm_vvvv | K::xmm_is4 => xmm,
            K::ymm_reg | K::ymm_rm | K::ymm_or_mem | K::ymm_vvvv | K::ymm_is4 => {
                Register::YMM0 + random.below(16) as u32
            }
            K::r16_reg => [Register::AX, Register::CX, Register::R8W][random.below(3) as usize],
            K::mm_reg | K::mm_rm | K::mm_or_mem => mm,
            K::r32_reg | K::r32_rm | K::r32_or_mem | K::r32_vvvv => r32,
            K::r8_or_mem => [Register::AL, Register::CL, Register::DL][random.below(3) as usize],
            K::r16_or_mem => [Register::AX, Register::CX, Register::R8W][random.below(3) as usize],
            K::r64_reg | K::r64_rm | K::r64_or_mem | K::r64_vvvv => r64,
            kind => panic!("{code:?} has an operand {kind:?}"),
        };
        ins.set_op_kind(i, OpKind::Register);
        ins.set_op_register(i, register);
    }
    let mut encoder = Encoder::new(64);
    encoder.encode(&ins, 0).unwrap_or_else(|e| panic!("{code:?}: {e}"));
    encoder.take_buffer()
}
