//! The table of all instructions in `docs/instructions.md`: for every form that the decoder knows, what becomes of it.
//!
//! Nothing here is a list by hand. A form is encoded with registers and with memory in every width of code that has it;
//! it is *lifted* if the front end makes IR of one of the encodings (*not on Arm* if the emitter for 64-bit Arm refuses
//! some of that), *interpreted* if the interpreter has a handler
//! for it, and *not offered* if `Features::max` lacks one of the features that the decoder says it needs.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::features::Features;
use emu_core::ir::{BlockKey, Op};
use emu_core::mem::PhysMem;
use emu_core::state::Mode;
use frontend_x86::{Lifted, lift_bytes};
use iced_x86::{Code, CpuidFeature, Encoder, Instruction, OpCodeOperandKind as K, OpKind, Register};
use interp::decode::executed;

/// What becomes of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is translated, in some of its forms at least.
    Lifted,
    /// The interpreter does it.
    Interpreted,
    /// The bytes are WAIT and this form, one after the other.
    AfterWait(Code),
    /// No model has these features, or the decoder takes it for an older processor's or another maker's.
    NotOffered(Vec<CpuidFeature>),
    /// It is offered and nobody executes it: a bug.
    Missing,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// The form.
    pub code: Code,
    /// What becomes of it.
    pub fate: Fate,
    /// The emitter for 64-bit Arm takes all of it that is lifted.
    pub arm: bool,
}

/// The modes to try, by width of code.
fn mode(bits: u32) -> Mode {
    Mode(match bits {
        64 => Mode::CODE64 | Mode::STACK32 | Mode::PROT | Mode::LMA | Mode::FLAT | Mode::IOPL_OK,
        32 => Mode::CODE32 | Mode::STACK32 | Mode::PROT | Mode::FLAT | Mode::IOPL_OK,
        _ => Mode::PROT | Mode::IOPL_OK,
    })
}

/// The decoder's forms, in its order, with what becomes of each.
pub fn rows() -> Vec<Row> {
    let mem = PhysMem::new(1 << 20).expect("guest memory");
    let cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    let forms = Code::values().filter(|c| c.op_code().is_instruction() && *c != Code::INVALID);
    let row = |code| {
        let fate = fate(code, &cpu);
        // What is not offered need not be what our encoder knows.
        let arm = fate == Fate::Lifted && arm(code);
        Row { code, fate, arm }
    };
    forms.map(row).collect()
}

fn fate(code: Code, cpu: &Cpu) -> Fate {
    let f = Features::max();
    let lacking: Vec<_> =
        code.cpuid_features().iter().copied().filter(|&x| !interp::features::has(&f, x)).collect();
    if !interp::features::code_offered(&f, code) {
        return Fate::NotOffered(lacking);
    }
    let (mut lifted, mut interpreted, mut encodings) = (false, false, 0);
    for bits in [64, 32, 16] {
        for bytes in encode(code, bits) {
            encodings += 1;
            lifted |= lifts(&bytes, bits);
            interpreted |= executed(&bytes, mode(bits), cpu) == Some(code);
        }
    }
    match (lifted, interpreted) {
        // Both, or a translated block could not be left in its middle.
        (true, true) => Fate::Lifted,
        (false, true) => Fate::Interpreted,
        _ if after_wait(code).is_some() => after_wait(code).map_or(Fate::Missing, Fate::AfterWait),
        // The decoder itself refuses it unless it is told that the processor is of another make.
        _ if encodings != 0 && never_decoded(code) => Fate::NotOffered(code.cpuid_features().to_vec()),
        _ => Fate::Missing,
    }
}

/// The form behind WAIT, where assemblers take both for one instruction.
fn after_wait(code: Code) -> Option<Code> {
    let bytes = encode(code, 32).pop().filter(|b| b[0] == 0x9b)?;
    let i = iced_x86::Decoder::new(32, &bytes[1..], iced_x86::DecoderOptions::NONE).decode();
    (i.len() == bytes.len() - 1).then(|| i.code())
}

/// Whether none of the encodings of `code` is decoded as `code` with the options calque decodes with.
fn never_decoded(code: Code) -> bool {
    [64, 32, 16].into_iter().all(|bits| {
        encode(code, bits).iter().all(|bytes| {
            let mut decoder = iced_x86::Decoder::new(bits, bytes, iced_x86::DecoderOptions::NONE);
            decoder.decode().code() != code
        })
    })
}

fn arm(code: Code) -> bool {
    [64, 32, 16].into_iter().all(|bits| {
        encode(code, bits).iter().all(|bytes| match lift(bytes, bits) {
            Lifted::Block(b) => backend_jit::aarch64::emits(&b.insts, 0),
            Lifted::Interpret { .. } => true,
        })
    })
}

fn lift(bytes: &[u8], bits: u32) -> Lifted {
    let key = BlockKey { phys: PhysAddr(0x1000), rip: 0x1000, mode: mode(bits) };
    lift_bytes(key, bytes, Features::max(), 1)
}

fn lifts(bytes: &[u8], bits: u32) -> bool {
    match lift(bytes, bits) {
        Lifted::Block(b) => b.insts.iter().any(|i| i.op == Op::Guest),
        Lifted::Interpret { .. } => false,
    }
}

/// Where the encodings stand, and where their branches lead.
const HERE: u64 = 0x1000;

/// Encodings of `code`: with registers and with memory, where it has the choice.
pub fn encode(code: Code, bits: u32) -> Vec<Vec<u8>> {
    let info = code.op_code();
    let there = match bits {
        16 => info.mode16(),
        32 => info.mode32(),
        _ => info.mode64(),
    };
    if !there {
        return Vec::new();
    }
    [false, true].into_iter().filter_map(|memory| encode_one(code, bits, memory)).collect()
}

fn encode_one(code: Code, bits: u32, memory: bool) -> Option<Vec<u8>> {
    let info = code.op_code();
    let mut ins = Instruction::default();
    ins.set_code(code);
    let base = match bits {
        64 => Register::RBX,
        32 => Register::EBX,
        _ => Register::BX,
    };
    let mut immediates = 0;
    for i in 0..info.op_count() {
        let kind = info.op_kind(i);
        if let Some(r) = register(kind, i, memory) {
            ins.set_op_kind(i, OpKind::Register);
            ins.set_op_register(i, r);
            continue;
        }
        match kind {
            K::mem | K::mem_mib | K::mem_mpx | K::sibmem => at(&mut ins, i, base),
            K::mem_offs => {
                ins.set_op_kind(i, OpKind::Memory);
                ins.set_memory_displ_size(bits / 8);
                ins.set_memory_displacement64(0x100);
            }
            K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y => {
                at(&mut ins, i, if bits == 16 { Register::EBX } else { base });
                let x = matches!(kind, K::mem_vsib32x | K::mem_vsib64x);
                ins.set_memory_index(if x { Register::XMM5 } else { Register::YMM5 });
                ins.set_memory_index_scale(1);
            }
            K::imm8 | K::imm4_m2z => {
                let second = immediates > 0;
                ins.set_op_kind(i, if second { OpKind::Immediate8_2nd } else { OpKind::Immediate8 });
                immediates += 1;
            }
            K::imm8_const_1 => {
                ins.set_op_kind(i, OpKind::Immediate8);
                ins.set_immediate8(1);
            }
            K::imm8sex16 => ins.set_op_kind(i, OpKind::Immediate8to16),
            K::imm8sex32 => ins.set_op_kind(i, OpKind::Immediate8to32),
            K::imm8sex64 => ins.set_op_kind(i, OpKind::Immediate8to64),
            K::imm16 => {
                ins.set_op_kind(i, OpKind::Immediate16);
                immediates += 1;
            }
            K::imm32 => ins.set_op_kind(i, OpKind::Immediate32),
            K::imm32sex64 => ins.set_op_kind(i, OpKind::Immediate32to64),
            K::imm64 => ins.set_op_kind(i, OpKind::Immediate64),
            K::farbr2_2 => ins.set_op_kind(i, OpKind::FarBranch16),
            K::farbr4_2 => ins.set_op_kind(i, OpKind::FarBranch32),
            K::br16_1 | K::br16_2 | K::xbegin_2 | K::brdisp_2 => {
                ins.set_op_kind(i, OpKind::NearBranch16);
                ins.set_near_branch16(HERE as u16);
            }
            K::br32_1 | K::br32_4 | K::xbegin_4 | K::brdisp_4 if bits != 64 => {
                ins.set_op_kind(i, OpKind::NearBranch32);
                ins.set_near_branch32(HERE as u32);
            }
            K::br64_1 | K::br64_4 | K::xbegin_4 | K::br32_1 | K::br32_4 => {
                ins.set_op_kind(i, OpKind::NearBranch64);
                ins.set_near_branch64(HERE);
            }
            K::seg_rSI => ins
                .set_op_kind(i, pick(bits, OpKind::MemorySegSI, OpKind::MemorySegESI, OpKind::MemorySegRSI)),
            K::es_rDI => {
                ins.set_op_kind(i, pick(bits, OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI))
            }
            K::seg_rDI => ins
                .set_op_kind(i, pick(bits, OpKind::MemorySegDI, OpKind::MemorySegEDI, OpKind::MemorySegRDI)),
            K::seg_rBX_al => {
                at(&mut ins, i, base);
                ins.set_memory_index(Register::AL);
            }
            // Of an operand that may be memory, `register` had the register.
            _ if memory => at(&mut ins, i, base),
            _ => return None,
        }
    }
    let mut encoder = Encoder::new(bits);
    encoder.encode(&ins, HERE).ok()?;
    Some(encoder.take_buffer())
}

fn pick<T>(bits: u32, narrow: T, medium: T, wide: T) -> T {
    match bits {
        16 => narrow,
        32 => medium,
        _ => wide,
    }
}

fn at(ins: &mut Instruction, i: u32, base: Register) {
    ins.set_op_kind(i, OpKind::Memory);
    ins.set_memory_base(base);
}

/// The register for an operand of kind `kind`, number `i`; None if it is no register, or is to be memory.
fn register(kind: K, i: u32, memory: bool) -> Option<Register> {
    use Register as R;
    let n = i + 1;
    let general = |first: R| Some(first + n);
    match kind {
        K::r8_or_mem if !memory => general(R::AL),
        K::r16_or_mem if !memory => general(R::AX),
        K::r32_or_mem | K::r32_or_mem_mpx if !memory => general(R::EAX),
        K::r64_or_mem | K::r64_or_mem_mpx if !memory => general(R::RAX),
        K::mm_or_mem if !memory => general(R::MM0),
        K::xmm_or_mem if !memory => general(R::XMM0),
        K::ymm_or_mem if !memory => general(R::YMM0),
        K::bnd_or_mem_mpx if !memory => Some(R::BND1),
        K::r8_reg | K::r8_opcode => general(R::AL),
        K::r16_reg | K::r16_reg_mem | K::r16_rm | K::r16_opcode => general(R::AX),
        K::r32_reg | K::r32_reg_mem | K::r32_rm | K::r32_opcode | K::r32_vvvv => general(R::EAX),
        K::r64_reg | K::r64_reg_mem | K::r64_rm | K::r64_opcode | K::r64_vvvv => general(R::RAX),
        K::seg_reg => Some(R::DS),
        K::mm_reg | K::mm_rm => general(R::MM0),
        K::xmm_reg | K::xmm_rm | K::xmm_vvvv | K::xmm_is4 => general(R::XMM0),
        K::ymm_reg | K::ymm_rm | K::ymm_vvvv | K::ymm_is4 => general(R::YMM0),
        K::cr_reg => Some(R::CR0),
        K::dr_reg => Some(R::DR0),
        K::tr_reg => Some(R::TR4),
        K::bnd_reg => Some(R::BND0),
        K::es => Some(R::ES),
        K::cs => Some(R::CS),
        K::ss => Some(R::SS),
        K::ds => Some(R::DS),
        K::fs => Some(R::FS),
        K::gs => Some(R::GS),
        K::al => Some(R::AL),
        K::cl => Some(R::CL),
        K::ax => Some(R::AX),
        K::dx => Some(R::DX),
        K::eax => Some(R::EAX),
        K::rax => Some(R::RAX),
        K::st0 => Some(R::ST0),
        K::sti_opcode => Some(R::ST1),
        _ => None,
    }
}

/// Features in one string.
pub fn names(features: &[CpuidFeature]) -> String {
    let names: Vec<_> = features.iter().map(|f| format!("{f:?}")).collect();
    names.join(", ")
}
