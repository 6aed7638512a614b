//! Random cases: instructions of every form that the decoder knows, and states in which they matter.

use super::case::Case;
use super::rng::Rng;
use super::scene::{CODE, DATA, DATA_LEN, SCENES, STACK, STACK_LEN, Scene};
use emu_core::addr::PhysAddr;
use emu_core::features::Features;
use emu_core::ir::{BlockKey, Op};
use emu_core::state::{Mode, Seg};
use frontend_x86::{Lifted, lift_bytes};
use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Instruction, OpCodeOperandKind as K, OpKind, Register,
};

/// One generated instruction.
struct Made {
    bytes: Vec<u8>,
    /// Bytes of branch displacement at its end.
    branch: usize,
}

/// Generates cases for one seed.
#[derive(Debug)]
pub struct Generator {
    /// Forms by width of code (16, 32, 64): all that the processor offers, and those that are translated.
    pools: [Pools; 3],
}

#[derive(Debug, Default)]
struct Pools {
    all: Vec<Code>,
    lifted: Vec<Code>,
}

fn width_index(bits: u32) -> usize {
    bits as usize / 32
}

/// Whether the processor has the instruction.
fn offered(code: Code) -> bool {
    let mut i = Instruction::default();
    i.set_code(code);
    interp::features::offered(&Features::DEFAULT, &i)
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

impl Generator {
    /// Finds out which forms there are.
    pub fn new() -> Self {
        let mut pools: [Pools; 3] = Default::default();
        let mut rng = Rng::new(1);
        for code in Code::values() {
            let info = code.op_code();
            if !info.is_instruction() || !offered(code) {
                continue;
            }
            for (i, bits) in [16, 32, 64].into_iter().enumerate() {
                let there = match bits {
                    16 => info.mode16(),
                    32 => info.mode32(),
                    _ => info.mode64(),
                };
                if !there {
                    continue;
                }
                // The first scene of this width.
                let Some(scene) = SCENES.iter().find(|s| s.bits == bits) else { continue };
                let made: Vec<_> = (0..6).filter_map(|_| instruction(&mut rng, code, scene)).collect();
                if made.is_empty() {
                    continue;
                }
                pools[i].all.push(code);
                if made.iter().any(|m| lifts(&m.bytes, bits)) {
                    pools[i].lifted.push(code);
                }
            }
        }
        Self { pools }
    }

    /// How many forms there are for code of this width: offered, and of those translated.
    pub fn forms(&self, bits: u32) -> (usize, usize) {
        let p = &self.pools[width_index(bits)];
        (p.all.len(), p.lifted.len())
    }

    /// Case number `n` of the campaign with this seed: the same for ever.
    pub fn case(&self, seed: u64, n: u64) -> Case {
        let rng = &mut Rng::new(seed.wrapping_mul(0x0123_4567_89ab_cdef) ^ n.wrapping_mul(0x9e37_79b9));
        // Cases of one scene come together: changing it costs more than a case.
        let turn = &mut Rng::new(seed ^ (n / 64) << 8);
        let number = turn.below(SCENES.len());
        let layout = if turn.one_in(3) { 0 } else { turn.next() as u32 };
        let scene = &SCENES[number];
        let mut case = Case { scene: number, layout, cold: rng.one_in(8), ..Case::empty() };
        let single = rng.one_in(3);
        let count = if single { 1 } else { 2 + rng.below(11) };
        case.at = match rng.below(8) {
            0 => 0x1000 - 1 - rng.below(20) as u64,
            1 => 0,
            _ => rng.below(0xf00) as u64,
        };
        let pools = &self.pools[width_index(scene.bits)];
        let mut made = Vec::new();
        while made.len() < count {
            let pool = if single || rng.one_in(6) { &pools.all } else { &pools.lifted };
            let Some(mut m) = instruction(rng, rng.clone().pick(pool), scene) else {
                rng.next();
                continue;
            };
            rng.next();
            mutate(rng, &mut m, scene.bits);
            made.push(m);
        }
        let starts = link(rng, &mut made, scene.bits);
        case.code = made.into_iter().map(|m| m.bytes).collect();
        state(rng, &mut case, scene, &starts);
        case
    }
}

/// Whether the front end translates the instruction.
fn lifts(bytes: &[u8], bits: u32) -> bool {
    let mode = match bits {
        64 => Mode::CODE64 | Mode::STACK32 | Mode::PROT | Mode::LMA | Mode::FLAT,
        32 => Mode::CODE32 | Mode::STACK32 | Mode::PROT | Mode::FLAT,
        _ => 0,
    };
    let key = BlockKey { phys: PhysAddr(CODE), rip: 0x100, mode: Mode(mode) };
    match lift_bytes(key, bytes, Features::DEFAULT, 1) {
        Lifted::Block(b) => b.insts.iter().any(|i| i.op == Op::Guest),
        Lifted::Interpret { .. } => false,
    }
}

/// Prefixes that do nothing, and bytes that are wrong.
fn mutate(rng: &mut Rng, m: &mut Made, bits: u32) {
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
fn link(rng: &mut Rng, made: &mut [Made], bits: u32) -> Vec<i64> {
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

/// An address of interest in `len` bytes from `base` on.
fn place(rng: &mut Rng, base: u64, len: u64) -> u64 {
    let page = base + (rng.below((len >> 12) as usize) as u64) * 0x1000;
    page + match rng.below(8) {
        0 | 1 => 0x1000 - 1 - rng.below(40) as u64,
        2 => 0,
        3 => rng.below(0x1000) as u64,
        4 => rng.below(0x100) as u64 * 16 + 8,
        _ => rng.below(0x100) as u64 * 16,
    }
}

fn state(rng: &mut Rng, case: &mut Case, scene: &Scene, starts: &[i64]) {
    use emu_core::state::bits::rflags as f;
    let ds = scene.base(Seg::DS);
    let ss = scene.base(Seg::SS);
    for r in &mut case.gpr {
        *r = rng.number();
    }
    let start = case.at + CODE - if scene.bits == 64 { 0 } else { scene.base(Seg::CS) };
    for n in [3, 5, 6, 7, 8, 13] {
        let mut at = place(rng, DATA, DATA_LEN).wrapping_sub(ds);
        match rng.below(40) {
            0 => at = rng.number(),
            1 if scene.bits == 64 => at |= 0xffff_8000_0000_0000,
            2 => at = 0u64.wrapping_sub(rng.below(20) as u64),
            3 if scene.bits == 64 => at = (1u64 << 47).wrapping_sub(rng.below(20) as u64),
            // The code itself.
            4 | 5 => at = CODE.wrapping_sub(ds).wrapping_add(case.at + rng.below(40) as u64),
            _ => {}
        }
        if scene.bits != 64 {
            at = at & 0xffff_ffff | if rng.one_in(4) { rng.next() << 32 } else { 0 };
        }
        if scene.bits == 16 && rng.one_in(3) {
            at |= rng.next() & 0xffff_0000;
        }
        case.gpr[n] = at;
    }
    let stack = STACK + 0x1000 + (rng.below(0x100) as u64) * 8 - 0x400;
    case.gpr[4] = match rng.below(12) {
        0 => place(rng, STACK, STACK_LEN),
        1 => place(rng, DATA, DATA_LEN),
        2 => stack + rng.below(8) as u64,
        _ => stack,
    }
    .wrapping_sub(ss);
    if rng.one_in(2) {
        case.gpr[5] = case.gpr[4].wrapping_add(rng.below(64) as u64 * 4);
    }
    if !rng.one_in(3) {
        case.gpr[1] = rng.below(20) as u64;
    }
    if rng.one_in(2) {
        case.gpr[9] = rng.below(64) as u64;
    }
    let label = |rng: &mut Rng| start.wrapping_add(starts[rng.below(starts.len())] as u64);
    if rng.one_in(3) {
        let n = rng.pick(&[0, 2, 10, 14]);
        case.gpr[n] = label(rng);
    }
    case.rflags = f::FIXED1 | rng.next() & f::STATUS;
    for (bit, n) in [(f::DF, 4), (f::IF, 2), (f::AC, 12), (f::IOPL, 4), (f::NT, 24), (f::TF, 40), (f::ID, 4)]
    {
        if rng.one_in(n) {
            case.rflags |= bit;
        }
    }
    for x in case.xmm.as_flattened_mut() {
        *x = rng.lane();
    }
    if rng.one_in(3) {
        let (a, b) = (rng.below(16), rng.below(16));
        case.xmm[a] = case.xmm[b];
    }
    if rng.one_in(4) {
        case.xmm[rng.below(16)] = [rng.below(80) as u64, 0];
    }
    case.mxcsr = 0x1f80 | rng.next() as u32 & 0x603f;
    if rng.one_in(4) {
        case.mxcsr |= rng.next() as u32 & 0x8040;
    }
    if rng.one_in(8) {
        case.mxcsr &= !(rng.next() as u32 & 0x1f80);
    }
    for st in &mut case.st {
        let se = match rng.below(3) {
            0 => 0x3fff + rng.below(70) as u16,
            1 => rng.pick(&[0, 1, 0x7fff, 0x7ffe, 0x3fff]),
            _ => rng.next() as u16,
        };
        *st = (rng.lane() | if rng.one_in(8) { 0 } else { 1 << 63 }, se | (rng.next() as u16 & 0x8000));
    }
    case.fpu[0] = 0x37f & !(rng.next() as u16 & 0x300) | rng.next() as u16 & 0xf00;
    if rng.one_in(3) {
        case.fpu[1] = rng.next() as u16 & 0x7f00;
        case.fpu[2] = rng.next() as u16 & 0xff;
    }
    patches(rng, case, ss, label);
}

fn patches(rng: &mut Rng, case: &mut Case, ss: u64, label: impl Fn(&mut Rng) -> u64) {
    // Return addresses, of one width or another.
    if rng.one_in(2) {
        let at = case.gpr[4].wrapping_add(ss);
        if (STACK..STACK + STACK_LEN - 64).contains(&at) {
            let width = rng.pick(&[2usize, 4, 8]);
            let words = (0..6).flat_map(|_| {
                let v = if rng.one_in(2) { label(rng) } else { rng.number() };
                v.to_le_bytes().into_iter().take(width)
            });
            let bytes = words.collect();
            case.patches.push((at, bytes));
        }
    }
    let at = place(rng, DATA, DATA_LEN).min(DATA + DATA_LEN - 32);
    let bytes = (0..4).flat_map(|_| rng.lane().to_le_bytes()).collect();
    case.patches.push((at, bytes));
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
fn instruction(rng: &mut Rng, code: Code, scene: &Scene) -> Option<Made> {
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
            K::r8_or_mem | K::r16_or_mem | K::r32_or_mem | K::r64_or_mem | K::mm_or_mem | K::xmm_or_mem
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
                let second = (0..n).any(|m| i.op_kind(m) == OpKind::Immediate16);
                let v = if second { rng.below(4) as u8 } else { rng.number() as u8 };
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

fn selector(rng: &mut Rng) -> u16 {
    (rng.below(25) as u16) << 3 | rng.pick(&[0, 3])
}

/// Whether the case holds a repeated string instruction, after which the engines count instructions differently.
pub fn repeats(case: &Case) -> bool {
    let bits = SCENES[case.scene].bits;
    let code = case.bytes();
    code.iter().any(|b| matches!(b, 0xf2 | 0xf3)) && {
        // Any such bytes may be reached by a jump into the middle.
        let string = |b: &u8| matches!(b, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf);
        bits != 0 && code.iter().any(string)
    }
}

/// The instructions of a case, for coverage.
pub fn forms(case: &Case) -> impl Iterator<Item = Code> {
    let bits = SCENES[case.scene].bits;
    case.code.iter().filter_map(move |c| {
        let i = Decoder::new(bits, c, DecoderOptions::NONE).decode();
        (!i.is_invalid()).then(|| i.code())
    })
}
