//! One instruction of a form that the decoder knows, with random operands, and sequences of them.

use super::state::{place, selector};
use crate::diff::rng::Rng;
use crate::diff::scene::{CODE, DATA, DATA_LEN, Scene};
use emu_core::state::Seg;
use iced_x86::{Code, Encoder, Instruction, OpCodeOperandKind as K, OpKind, Register};

/// One generated instruction.
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    /// Bytes of branch displacement at its end.
    pub(super) branch: usize,
}

const POINTERS64: [Register; 8] = [
    Register::RBX,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R13,
    Register::RSP,
    Register::RBX,
];
const POINTERS32: [Register; 7] =
    [Register::EBX, Register::EBP, Register::ESI, Register::EDI, Register::EBX, Register::ESP, Register::ESI];
const PAIRS16: [(Register, Register); 8] = [
    (Register::BX, Register::SI),
    (Register::BX, Register::DI),
    (Register::BP, Register::SI),
    (Register::BP, Register::DI),
    (Register::SI, Register::None),
    (Register::DI, Register::None),
    (Register::BP, Register::None),
    (Register::BX, Register::None),
];

/// A register of `bytes`; rarely one of those that hold addresses.
fn register(rng: &mut Rng, bytes: usize, bits: u32) -> Register {
    let plain: &[u32] = if bits == 64 { &[0, 1, 2, 9, 10, 11, 12, 14, 15] } else { &[0, 1, 2] };
    let n = if rng.one_in(6) { rng.below(if bits == 64 { 16 } else { 8 }) as u32 } else { rng.pick(plain) };
    match bytes {
        1 => {
            let high = bits != 64 || rng.one_in(5);
            if high && n >= 4 || n < 4 && rng.one_in(4) {
                Register::AL + (n & 3) + if rng.one_in(2) { 4 } else { 0 }
            } else {
                // SPL follows BH, R8L follows DIL.
                Register::AL + if n >= 4 { n + 4 } else { n }
            }
        }
        2 => Register::AX + n,
        4 => Register::EAX + n,
        _ => Register::RAX + n,
    }
}

fn memory(rng: &mut Rng, i: &mut Instruction, scene: &Scene) {
    let odd = rng.one_in(10);
    let address = match (scene.bits, odd) {
        (64, false) => 64,
        (64, true) | (32, false) | (16, true) => 32,
        _ => 16,
    };
    i.set_memory_displ_size(0);
    let disp: i64 = match rng.below(8) {
        0..=3 => 0,
        4..=6 => rng.below(128) as i64 - 64,
        _ => rng.number() as i32 as i64 >> rng.below(20),
    };
    if address == 16 {
        let (base, index) = rng.pick(&PAIRS16);
        i.set_memory_base(base);
        i.set_memory_index(index);
        i.set_memory_displacement64(disp as u64 & 0xffff);
        i.set_memory_displ_size(if disp == 0 && base != Register::BP { 0 } else { 2 });
        if base == Register::BP && index == Register::None && disp == 0 {
            i.set_memory_displ_size(1);
        }
        return;
    }
    if address == 64 && rng.one_in(8) {
        i.set_memory_base(Register::RIP);
        i.set_memory_displacement64(place(rng, DATA, DATA_LEN));
        i.set_memory_displ_size(8);
        return;
    }
    let (base, index) = if address == 64 {
        (rng.pick(&POINTERS64), rng.pick(&[Register::RCX, Register::R9, Register::RAX, Register::RBP]))
    } else {
        (rng.pick(&POINTERS32), rng.pick(&[Register::ECX, Register::EDX, Register::EAX, Register::EBP]))
    };
    match rng.below(16) {
        0 => {
            // An absolute address.
            let at = place(rng, DATA, DATA_LEN).wrapping_sub(scene.base(Seg::DS));
            i.set_memory_displacement64(at);
            i.set_memory_displ_size(address / 8);
            return;
        }
        1 => {
            i.set_memory_index(index);
            i.set_memory_index_scale(rng.pick(&[1, 2, 4, 8]));
            let at = place(rng, DATA, DATA_LEN).wrapping_sub(scene.base(Seg::DS));
            i.set_memory_displacement64(at);
            i.set_memory_displ_size(address / 8);
            return;
        }
        2..=4 => {
            i.set_memory_index(index);
            i.set_memory_index_scale(rng.pick(&[1, 2, 4, 8]));
        }
        _ => {}
    }
    i.set_memory_base(base);
    let mask = if address == 64 { u64::MAX } else { 0xffff_ffff };
    i.set_memory_displacement64(disp as u64 & mask);
    i.set_memory_displ_size(if disp == 0 {
        0
    } else if i8::try_from(disp).is_ok() {
        1
    } else {
        address / 8
    });
}

/// An instruction of the given form with random operands, or None if these operands do not go together.
pub(super) fn instruction(rng: &mut Rng, code: Code, scene: &Scene) -> Option<Made> {
    let info = code.op_code();
    let mut i = Instruction::default();
    i.set_code(code);
    let mut branch = 0;
    let bits = scene.bits;
    let pointer = match (bits, rng.one_in(10)) {
        (64, false) => 64,
        (64, true) | (32, false) | (16, true) => 32,
        _ => 16,
    };
    let mut has_memory = false;
    for n in 0..info.op_count() {
        let kind = info.op_kind(n);
        let mut mem = |rng: &mut Rng, i: &mut Instruction| {
            i.set_op_kind(n, OpKind::Memory);
            memory(rng, i, scene);
            has_memory = true;
        };
        let reg = |i: &mut Instruction, r: Register| {
            i.set_op_kind(n, OpKind::Register);
            i.set_op_register(n, r);
        };
        let top = if bits == 64 { 16 } else { 8 };
        match kind {
            K::mem | K::mem_mpx | K::mem_mib => mem(rng, &mut i),
            K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r64_or_mem
            | K::mm_or_mem
            | K::xmm_or_mem
            | K::ymm_or_mem
                if rng.one_in(2) =>
            {
                mem(rng, &mut i);
            }
            K::mem_offs => {
                i.set_op_kind(n, OpKind::Memory);
                i.set_memory_displ_size(pointer / 8);
                let at = place(rng, DATA, DATA_LEN).wrapping_sub(scene.base(Seg::DS));
                i.set_memory_displacement64(at & (u64::MAX >> (64 - pointer)));
            }
            K::r8_or_mem | K::r8_reg | K::r8_opcode => reg(&mut i, register(rng, 1, bits)),
            K::r16_or_mem | K::r16_reg | K::r16_rm | K::r16_opcode => reg(&mut i, register(rng, 2, bits)),
            K::r32_or_mem | K::r32_reg | K::r32_rm | K::r32_opcode | K::r32_vvvv => {
                reg(&mut i, register(rng, 4, bits));
            }
            K::r64_or_mem | K::r64_reg | K::r64_rm | K::r64_opcode | K::r64_vvvv => {
                reg(&mut i, register(rng, 8, bits));
            }
            // An address in a register.
            K::r16_reg_mem => reg(&mut i, Register::BX),
            K::r32_reg_mem => reg(&mut i, Register::EBX),
            K::r64_reg_mem => reg(&mut i, Register::RBX),
            K::seg_reg => reg(&mut i, Register::ES + rng.below(6) as u32),
            K::mm_or_mem | K::mm_reg | K::mm_rm => reg(&mut i, Register::MM0 + rng.below(8) as u32),
            K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv => {
                reg(&mut i, Register::XMM0 + rng.below(top) as u32);
            }
            K::xmm_is4 | K::xmm_is5 => reg(&mut i, Register::XMM0 + rng.below(top) as u32),
            K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv | K::ymm_is4 | K::ymm_is5 => {
                reg(&mut i, Register::YMM0 + rng.below(top) as u32);
            }
            K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y => {
                i.set_op_kind(n, OpKind::Memory);
                let wide = bits == 64;
                i.set_memory_base(if wide { Register::RBX } else { Register::EBX });
                let ymm = matches!(kind, K::mem_vsib32y | K::mem_vsib64y);
                let first = if ymm { Register::YMM0 } else { Register::XMM0 };
                i.set_memory_index(first + rng.below(top) as u32);
                i.set_memory_index_scale(rng.pick(&[1, 2, 4, 8]));
                has_memory = true;
            }
            K::cr_reg => reg(&mut i, Register::CR0 + rng.pick(&[0, 2, 3, 4, 8])),
            K::dr_reg => reg(&mut i, Register::DR0 + rng.below(8) as u32),
            K::es => reg(&mut i, Register::ES),
            K::cs => reg(&mut i, Register::CS),
            K::ss => reg(&mut i, Register::SS),
            K::ds => reg(&mut i, Register::DS),
            K::fs => reg(&mut i, Register::FS),
            K::gs => reg(&mut i, Register::GS),
            K::al => reg(&mut i, Register::AL),
            K::cl => reg(&mut i, Register::CL),
            K::ax => reg(&mut i, Register::AX),
            K::dx => reg(&mut i, Register::DX),
            K::eax => reg(&mut i, Register::EAX),
            K::rax => reg(&mut i, Register::RAX),
            K::st0 => reg(&mut i, Register::ST0),
            K::sti_opcode => reg(&mut i, Register::ST0 + rng.below(8) as u32),
            K::imm8_const_1 => {
                i.set_op_kind(n, OpKind::Immediate8);
                i.set_immediate8(1);
            }
            K::imm8 => {
                let after = |kind| (0..n).any(|m| i.op_kind(m) == kind);
                let enter = after(OpKind::Immediate16);
                let second = enter || after(OpKind::Immediate8);
                let v = if enter { rng.below(4) as u8 } else { rng.number() as u8 };
                i.set_op_kind(n, if second { OpKind::Immediate8_2nd } else { OpKind::Immediate8 });
                if second {
                    i.set_immediate8_2nd(v);
                } else {
                    i.set_immediate8(v);
                }
            }
            K::imm8sex16 => {
                i.set_op_kind(n, OpKind::Immediate8to16);
                i.set_immediate8to16(rng.number() as i8 as i16);
            }
            K::imm8sex32 => {
                i.set_op_kind(n, OpKind::Immediate8to32);
                i.set_immediate8to32(rng.number() as i8 as i32);
            }
            K::imm8sex64 => {
                i.set_op_kind(n, OpKind::Immediate8to64);
                i.set_immediate8to64(rng.number() as i8 as i64);
            }
            K::imm16 => {
                i.set_op_kind(n, OpKind::Immediate16);
                i.set_immediate16(rng.number() as u16);
            }
            K::imm32 => {
                i.set_op_kind(n, OpKind::Immediate32);
                i.set_immediate32(rng.number() as u32);
            }
            K::imm32sex64 => {
                i.set_op_kind(n, OpKind::Immediate32to64);
                i.set_immediate32to64(rng.number() as i32 as i64);
            }
            K::imm64 => {
                i.set_op_kind(n, OpKind::Immediate64);
                i.set_immediate64(rng.number());
            }
            K::seg_rSI => i.set_op_kind(
                n,
                match pointer {
                    64 => OpKind::MemorySegRSI,
                    32 => OpKind::MemorySegESI,
                    _ => OpKind::MemorySegSI,
                },
            ),
            K::seg_rDI => i.set_op_kind(
                n,
                match pointer {
                    64 => OpKind::MemorySegRDI,
                    32 => OpKind::MemorySegEDI,
                    _ => OpKind::MemorySegDI,
                },
            ),
            K::es_rDI => i.set_op_kind(
                n,
                match pointer {
                    64 => OpKind::MemoryESRDI,
                    32 => OpKind::MemoryESEDI,
                    _ => OpKind::MemoryESDI,
                },
            ),
            K::seg_rBX_al => {
                i.set_op_kind(n, OpKind::Memory);
                i.set_memory_base(match pointer {
                    64 => Register::RBX,
                    32 => Register::EBX,
                    _ => Register::BX,
                });
                i.set_memory_index(Register::AL);
            }
            K::br16_1 | K::br32_1 | K::br64_1 | K::br16_2 | K::br32_4 | K::br64_4 => {
                i.set_op_kind(
                    n,
                    match kind {
                        K::br16_1 | K::br16_2 => OpKind::NearBranch16,
                        K::br32_1 | K::br32_4 => OpKind::NearBranch32,
                        _ => OpKind::NearBranch64,
                    },
                );
                i.set_near_branch64(CODE & 0xffff);
                branch = match kind {
                    K::br16_1 | K::br32_1 | K::br64_1 => 1,
                    K::br16_2 => 2,
                    _ => 4,
                };
            }
            K::farbr2_2 => {
                i.set_op_kind(n, OpKind::FarBranch16);
                i.set_far_branch16(rng.number() as u16);
                i.set_far_branch_selector(selector(rng));
            }
            K::farbr4_2 => {
                i.set_op_kind(n, OpKind::FarBranch32);
                i.set_far_branch32(rng.number() as u32 & 0xffff);
                i.set_far_branch_selector(selector(rng));
            }
            _ => return None,
        }
    }
    if rng.one_in(7) {
        let segment = if rng.one_in(2) { Register::FS } else { Register::ES };
        i.set_segment_prefix(segment + rng.below(2) as u32 * if segment == Register::FS { 1 } else { 3 });
    }
    if info.can_use_lock_prefix() && has_memory && rng.one_in(3) {
        i.set_has_lock_prefix(true);
    }
    if info.can_use_rep_prefix() && !rng.one_in(3) {
        i.set_has_rep_prefix(true);
    } else if info.can_use_repne_prefix() && rng.one_in(2) {
        i.set_has_repne_prefix(true);
    }
    let mut encoder = Encoder::try_new(bits).ok()?;
    let at = CODE & 0xffff;
    encoder.encode(&i, if i.is_ip_rel_memory_operand() { CODE } else { at }).ok()?;
    let bytes = encoder.take_buffer();
    (bytes.len() <= 15).then_some(Made { bytes, branch })
}

/// Prefixes that do nothing, and bytes that are wrong.
pub(super) fn mutate(rng: &mut Rng, m: &mut Made, bits: u32) {
    match rng.below(48) {
        0 => m.bytes.insert(0, rng.pick(&[0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0xf0])),
        1 if bits == 64 => {
            m.bytes.insert(0, 0x40 | rng.below(16) as u8);
        }
        2 => {
            let at = rng.below(m.bytes.len());
            m.bytes[at] ^= 1 << rng.below(8);
        }
        3 => {
            m.bytes = (0..1 + rng.below(5)).map(|_| rng.next() as u8).collect();
            m.branch = 0;
        }
        _ => {}
    }
    // What has become of a displacement is not known.
    if m.branch > m.bytes.len() {
        m.branch = 0;
    }
}

/// Gives branches targets within the case; returns where the instructions start, relative to the first, and the end.
pub(super) fn link(rng: &mut Rng, made: &mut [Made], bits: u32) -> Vec<i64> {
    let mut starts = vec![0i64];
    for m in made.iter() {
        starts.push(starts[starts.len() - 1] + m.bytes.len() as i64);
    }
    for (i, m) in made.iter_mut().enumerate() {
        if m.branch == 0 {
            continue;
        }
        let to =
            if rng.one_in(6) { rng.below(starts.len()) } else { i + 1 + rng.below(starts.len() - i - 1) };
        let mut rel = starts[to] - starts[i + 1];
        if m.branch == 1 {
            rel = rel.clamp(-128, 127);
        }
        if rng.one_in(24) {
            rel = rng.number() as i64 >> if bits == 64 { 40 } else { 0 };
        }
        let at = m.bytes.len() - m.branch;
        m.bytes[at..].copy_from_slice(&rel.to_le_bytes()[..m.branch]);
    }
    starts
}
