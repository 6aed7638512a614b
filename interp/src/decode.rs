//! From bytes to [`Op`]s: everything that can be known about an instruction before it runs is worked out here, once.
//!
//! iced-x86 knows the encodings; what is left is the 15-byte limit (#GP), features the processor lacks (#UD), and
//! turning operands into the fields that [`crate::operand`] reads.

use crate::exec;
use crate::features;
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::features::Features;
use emu_core::state::{Mode, Seg};
use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, EncodingKind, FlowControl, Instruction, Mnemonic, OpKind,
    Register,
};

/// Executes one operation. While it runs, `rip` is the next instruction's address.
pub type Handler = fn(&mut Cpu, &Op) -> Result<(), Exception>;

/// How the memory operand's linear address is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// The offset is the linear address.
    Flat,
    /// A segment's base, limit or type counts, or alignment is checked.
    Segment,
    /// Relative to the next instruction.
    Rip,
    /// A 64-bit offset in [`Op::imm`] (MOV moffs).
    Direct,
}

/// One decoded instruction.
#[derive(Debug)]
pub struct Op {
    /// What executes it.
    pub run: Handler,
    /// The whole instruction, for handlers that look at more than the fields below (see [`Chosen::whole`]).
    pub ins: Option<Box<Instruction>>,
    /// Immediate; displacement of a relative branch; `selector << 32 | offset` of a far pointer; for ENTER,
    /// `nesting << 32 | size`; for [`Class::Direct`] the offset.
    pub imm: u64,
    /// Displacement of the memory operand.
    pub disp: i32,
    /// Offset of the next instruction from the block's first byte.
    pub end: u16,
    /// Length in bytes.
    pub len: u8,
    /// Number of the register that is operand 0.
    pub dst: u8,
    /// Number of the register that is operand 1.
    pub src: u8,
    /// Base register of the memory operand.
    pub base: u8,
    /// All ones if there is a base register.
    pub base_mask: i8,
    /// Index register of the memory operand.
    pub index: u8,
    /// 1, 2, 4 or 8, or 0 without an index register.
    pub scale: u8,
    /// 64 minus the address size in bits.
    pub addr_shift: u8,
    /// How the linear address is made.
    pub class: Class,
    /// Segment of the memory operand.
    pub seg: u8,
}

impl Op {
    /// Whether the memory operand is in the stack segment: non-canonical addresses raise #SS there.
    #[inline(always)]
    pub fn stack(&self) -> bool {
        self.seg == Seg::SS as u8
    }

    /// The address-size mask of the operand.
    #[inline(always)]
    pub fn addr_mask(&self) -> u64 {
        u64::MAX >> (self.addr_shift & 63)
    }
}

/// What an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There is none.
    None,
    /// A register.
    Reg,
    /// Memory addressed by ModRM or moffs.
    Mem,
    /// An immediate.
    Imm,
    /// Anything else: branch targets, string memory.
    Other,
}

/// The encoding of a vector instruction, as far as it decides what happens to registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Without VEX: SSE, MMX and everything else.
    Legacy,
    /// VEX; no operand is longer than 128 bits.
    Vex128,
    /// VEX with 256-bit operands.
    Vex256,
}

impl Encoding {
    fn of(ins: &Instruction) -> Self {
        let wide = |i| match ins.op_kind(i) {
            OpKind::Register => ins.op_register(i).is_ymm(),
            _ => false,
        };
        match ins.encoding() {
            EncodingKind::VEX if (0..ins.op_count()).any(wide) || ins.memory_size().size() == 32 => {
                Self::Vex256
            }
            EncodingKind::VEX => Self::Vex128,
            _ => Self::Legacy,
        }
    }
}

/// What the instruction groups choose a handler by.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The instruction.
    pub ins: &'a Instruction,
    /// Its bytes.
    pub code: &'a [u8],
    /// The mode it is decoded in.
    pub mode: Mode,
    /// What its first three operands are.
    pub kinds: [Kind; 3],
    /// Size of operand 0 in bytes (0 if it has none).
    pub bytes: usize,
    /// How it is encoded.
    pub encoding: Encoding,
}

impl Shape<'_> {
    /// Its mnemonic.
    pub fn mnemonic(&self) -> Mnemonic {
        self.ins.mnemonic()
    }

    /// Size in bytes of operand `i`.
    pub fn size(&self, i: u32) -> usize {
        match self.ins.op_kind(i) {
            OpKind::Register => self.ins.op_register(i).size(),
            _ => self.ins.memory_size().size(),
        }
    }

    /// Whether the last of its operands but immediates is memory: operand 1, or with VEX operand 2.
    pub fn from_memory(&self) -> bool {
        self.kinds[1] == Kind::Mem || self.kinds[2] == Kind::Mem
    }

    /// Whether operand 0 is memory under LOCK.
    pub fn locked(&self) -> bool {
        self.ins.has_lock_prefix() && self.kinds[0] == Kind::Mem
    }
}

/// A handler with what it needs of the decoder.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// The handler.
    pub run: Handler,
    /// It reads [`Op::ins`].
    pub whole: bool,
    /// It sets `rip` to the instruction's own address before it may fault, so that the fault is delivered where it
    /// left `rip` (far transfers, which may switch tasks). Such instructions end the block.
    pub owns_rip: bool,
}

impl From<Handler> for Chosen {
    fn from(run: Handler) -> Self {
        Self { run, whole: false, owns_rip: false }
    }
}

/// One instruction out of the decoder.
#[derive(Debug)]
pub struct Decoded {
    /// The operation; [`Op::end`] is not set yet.
    pub op: Op,
    /// No instruction may follow it in a block.
    pub ends: bool,
    /// See [`Chosen::owns_rip`].
    pub owns_rip: bool,
}

/// How the decoder has to see things.
fn options(f: &Features) -> u32 {
    let mut options = DecoderOptions::NONE;
    if !features::bmi1(f) {
        options |= DecoderOptions::NO_MPFX_0FBC;
    }
    if !features::lzcnt(f) {
        options |= DecoderOptions::NO_MPFX_0FBD;
    }
    options
}

/// The form of the instruction at the start of `bytes` if it is offered and there is a handler for it; None where it
/// is #UD. For those who ask what the interpreter can do.
pub fn executed(bytes: &[u8], mode: Mode, cpu: &Cpu) -> Option<Code> {
    let ins = Decoder::with_ip(mode.code_bits(), bytes, 0, options(&cpu.features)).decode();
    if ins.is_invalid() || !features::offered(&cpu.features, &ins) {
        return None;
    }
    let (mut op, kinds) = lower(&ins, mode);
    choose(&ins, &bytes[..ins.len()], mode, kinds, &mut op).map(|_| ins.code())
}

fn choose(ins: &Instruction, code: &[u8], mode: Mode, kinds: [Kind; 3], op: &mut Op) -> Option<Chosen> {
    let bytes = match kinds[0] {
        Kind::Reg => ins.op0_register().size(),
        _ => ins.memory_size().size(),
    };
    exec::choose(&Shape { ins, code, mode, kinds, bytes, encoding: Encoding::of(ins) }, op)
}

/// Decodes the instruction at the start of `bytes`. None: it goes on beyond them.
pub fn decode(bytes: &[u8], rip: u64, mode: Mode, cpu: &Cpu) -> Option<Decoded> {
    let mut decoder = Decoder::with_ip(mode.code_bits(), bytes, rip, options(&cpu.features));
    let ins = decoder.decode();
    let len = decoder.position().max(1) as u8;
    if ins.is_invalid() {
        if len == 15 && goes_on(bytes, mode, cpu) {
            return Some(raiser(Vector::GP, len));
        }
        return (decoder.last_error() != DecoderError::NoMoreBytes).then(|| raiser(Vector::UD, len));
    }
    if !features::offered(&cpu.features, &ins) {
        return Some(raiser(Vector::UD, len));
    }
    let (mut op, kinds) = lower(&ins, mode);
    let Some(chosen) = choose(&ins, &bytes[..ins.len()], mode, kinds, &mut op) else {
        tracing::debug!(instruction = ?ins.code(), rip, "not implemented");
        return Some(raiser(Vector::UD, len));
    };
    op.run = chosen.run;
    if chosen.whole {
        op.ins = Some(Box::new(ins));
    }
    let ends = chosen.owns_rip || ins.flow_control() != FlowControl::Next || exec::ends_block(&ins);
    Some(Decoded { op, ends, owns_rip: chosen.owns_rip })
}

/// Whether an instruction that the decoder calls invalid after 15 bytes is longer than that, which is #GP(0) rather than #UD.
/// iced reports both alike. So it gets the instruction again without a prefix that does not decide its length: what
/// is too long then lacks bytes. Whatever comes to 15 bytes has such a prefix.
fn goes_on(bytes: &[u8], mode: Mode, cpu: &Cpu) -> bool {
    let Some(bytes) = bytes.get(..15) else { return false };
    let long = mode.contains(Mode::CODE64);
    let rex = |b: u8| long && b & 0xf0 == 0x40;
    let prefix = |b: u8| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3) || rex(b);
    let count = bytes.iter().take_while(|&&b| prefix(b)).count();
    let idle = |n: usize| {
        let later = &bytes[n + 1..count];
        match bytes[n] {
            0x66 | 0x67 => later.contains(&bytes[n]),
            0xf2 | 0xf3 => later.iter().any(|b| matches!(b, 0xf2 | 0xf3)),
            // REX counts right before the opcode, and means nothing to one in VEX form.
            b if rex(b) => !later.is_empty() || matches!(bytes.get(count), Some(0xc4 | 0xc5 | 0x62 | 0x8f)),
            _ => true,
        }
    };
    let Some(n) = (0..count).find(|&n| idle(n)) else { return true };
    let mut shorter = [0; 14];
    shorter[..n].copy_from_slice(&bytes[..n]);
    shorter[n..].copy_from_slice(&bytes[n + 1..]);
    let mut decoder = Decoder::with_ip(mode.code_bits(), &shorter, 0, options(&cpu.features));
    decoder.decode().is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes
}

/// An operation that only raises an exception.
fn raiser(vector: Vector, len: u8) -> Decoded {
    let (op, _) = lower(&Instruction::default(), Mode::default());
    Decoded { op: Op { run: raise(vector), len, ..op }, ends: true, owns_rip: false }
}

/// An operation that raises `vector` without error code: #NM and #UD of disabled units.
pub fn raise(vector: Vector) -> Handler {
    match vector {
        Vector::NM => |_, _| Err(Exception::new(Vector::NM)),
        Vector::GP => |_, _| Err(Exception::gp0()),
        _ => |_, _| Err(Exception::ud()),
    }
}

/// The number of a register as [`crate::operand`] wants it.
pub fn number(r: Register) -> u8 {
    if r.is_gpr8() {
        let high = matches!(r, Register::AH | Register::CH | Register::DH | Register::BH);
        r.full_register().number() as u8 * 2 + u8::from(high)
    } else {
        r.number() as u8
    }
}

/// The number of a segment register; DS if it is none.
fn segment_number(r: Register) -> u8 {
    match r {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    }
}

/// Fills in the operand fields.
fn lower(ins: &Instruction, mode: Mode) -> (Op, [Kind; 3]) {
    let mut op = Op {
        run: raise(Vector::UD),
        ins: None,
        imm: 0,
        disp: 0,
        end: 0,
        len: ins.len() as u8,
        dst: 0,
        src: 0,
        base: 0,
        base_mask: 0,
        index: 0,
        scale: 0,
        addr_shift: 0,
        class: Class::Flat,
        seg: Seg::DS as u8,
    };
    let mut kinds = [Kind::None; 3];
    let mut immediates = 0;
    for i in 0..ins.op_count() {
        let kind = match ins.op_kind(i) {
            OpKind::Register => {
                match i {
                    0 => op.dst = number(ins.op_register(i)),
                    1 => op.src = number(ins.op_register(i)),
                    _ => {}
                }
                Kind::Reg
            }
            OpKind::Memory => {
                memory(ins, mode, &mut op);
                Kind::Mem
            }
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                op.imm = ins.near_branch_target().wrapping_sub(ins.next_ip());
                Kind::Other
            }
            OpKind::FarBranch16 => {
                op.imm = u64::from(ins.far_branch16()) | u64::from(ins.far_branch_selector()) << 32;
                Kind::Other
            }
            OpKind::FarBranch32 => {
                op.imm = u64::from(ins.far_branch32()) | u64::from(ins.far_branch_selector()) << 32;
                Kind::Other
            }
            k @ (OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI) => {
                string(ins, mode, k, &mut op);
                Kind::Other
            }
            k @ (OpKind::MemorySegDI | OpKind::MemorySegEDI | OpKind::MemorySegRDI) => {
                string(ins, mode, k, &mut op);
                Kind::Other
            }
            k @ (OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI) => {
                op.addr_shift = string_shift(k);
                Kind::Other
            }
            _ => {
                op.imm |= ins.immediate(i) << (32 * immediates);
                immediates += 1;
                Kind::Imm
            }
        };
        if let Some(k) = kinds.get_mut(i as usize) {
            *k = kind;
        }
    }
    (op, kinds)
}

fn string_shift(kind: OpKind) -> u8 {
    match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 48,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 32,
        _ => 0,
    }
}

fn string(ins: &Instruction, mode: Mode, kind: OpKind, op: &mut Op) {
    op.addr_shift = string_shift(kind);
    op.seg = operand_segment(ins, mode);
    if !flat(mode, op.seg) {
        op.class = Class::Segment;
    }
}

/// The segment of the memory operand. 64-bit code ignores prefixes other than FS and GS, so that there the base register
/// decides between #SS and #GP for an address that is not canonical (SDM vol. 1, 3.3.7.1).
fn operand_segment(ins: &Instruction, mode: Mode) -> u8 {
    let seg = segment_number(ins.memory_segment());
    if !mode.contains(Mode::CODE64) || seg >= Seg::FS as u8 {
        return seg;
    }
    let stack = matches!(ins.memory_base(), Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    if stack { Seg::SS as u8 } else { Seg::DS as u8 }
}

/// Whether offsets in segment `seg` are linear addresses that need no check.
fn flat(mode: Mode, seg: u8) -> bool {
    if mode.contains(Mode::ALIGN) {
        return false;
    }
    let fs_gs = seg >= Seg::FS as u8;
    if mode.contains(Mode::CODE64) {
        !fs_gs
    } else {
        mode.contains(Mode::FLAT) && !fs_gs && seg != Seg::CS as u8
    }
}

fn memory(ins: &Instruction, mode: Mode, op: &mut Op) {
    op.seg = operand_segment(ins, mode);
    op.class = if flat(mode, op.seg) { Class::Flat } else { Class::Segment };
    let displacement = ins.memory_displacement64();
    op.disp = displacement as i32;
    if ins.is_ip_rel_memory_operand() {
        op.class = Class::Rip;
        op.disp = displacement.wrapping_sub(ins.next_ip()) as i32;
        op.addr_shift = if ins.memory_base() == Register::EIP { 32 } else { 0 };
        return;
    }
    let (base, index) = (ins.memory_base(), ins.memory_index());
    let bytes = if base != Register::None {
        base.size()
    } else if index.is_gpr() && index != Register::AL {
        index.size()
    } else {
        ins.memory_displ_size() as usize
    };
    op.addr_shift = match bytes {
        2 => 48,
        4 => 32,
        _ => 0,
    };
    if base != Register::None {
        op.base = base.number() as u8;
        op.base_mask = -1;
    }
    // XLAT's index is AL, which its handler adds.
    if index.is_gpr() && index != Register::AL {
        op.index = index.number() as u8;
        op.scale = ins.memory_index_scale() as u8;
    }
    if base == Register::None
        && index == Register::None
        && op.disp as i64 as u64 != displacement
        && bytes == 8
    {
        op.class = Class::Direct;
        op.imm = displacement;
    }
}
