//! Lifted code, evaluated, against the host's own processor: the register and `[rbx]` forms of every instruction that
//! the lifter knows, with random registers, flags and memory.
//!
//! The forms are found by trying all opcodes: whatever lifts to a block without the stack and control flow is run
//! natively from a stub that loads and stores registers around it. Flags that the manual leaves undefined are not
//! compared; what calque makes of them is tested where it is defined.

#![cfg(all(target_arch = "x86_64", unix))]

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::features::{Features, leaf7_ebx};
use emu_core::ir::encoded::ENCODED;
use emu_core::ir::{Block, BlockKey, End, Op, Optimizer, PassSet, StateField, eval};
use emu_core::mem::PhysMem;
use emu_core::state::Mode;
use emu_core::state::bits::rflags;
use frontend_x86::{Lifted, lift_bytes};
use iced_x86::{Decoder, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeMap;

/// What a stub loads and stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
struct Regs {
    gpr: [u64; 16],
    xmm: [u128; 16],
    flags: u64,
    /// What RBX points into the middle of, if the instruction has a memory operand.
    mem: Mem,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
struct Mem([u8; 1024]);

/// Where [`Mem`] lies in the guest.
const GUEST_MEM: u64 = 0x1000;

const XMM_AT: i32 = 128;
const FLAGS_AT: i32 = 384;
/// The register that holds the address of [`Regs`]; like RSP, the tested instructions may not use it.
const BASE: u8 = 15;

struct Case {
    bytes: Vec<u8>,
    insn: Instruction,
    block: Block,
    optimized: Block,
    /// It has a memory operand at RBX.
    memory: bool,
    /// Offset of its stub.
    stub: usize,
}

fn features() -> Features {
    let mut f = Features::DEFAULT;
    f.leaf7_ebx |= leaf7_ebx::BMI1;
    f.ext1_ecx |= 1 << 5;
    f
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn number(&mut self) -> u64 {
        match self.next() >> 40 & 7 {
            0 | 1 => self.next(),
            2 => self.next() & 0xff,
            3 => 1u64.rotate_left(self.next() as u32),
            4 => u64::MAX << (self.next() & 63),
            5 => u64::MAX >> (self.next() & 63),
            6 => u64::from(self.next() as u32),
            _ => [0, 1, 0x80, 0x8000, 0x8000_0000, u64::MAX][(self.next() % 6) as usize],
        }
    }

    fn regs(&mut self) -> Regs {
        let mut r =
            Regs { gpr: [0; 16], xmm: [0; 16], flags: 2 | self.next() & rflags::STATUS, mem: Mem([0; 1024]) };
        for chunk in r.mem.0.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes());
        }
        r.gpr.fill_with(|| self.number());
        r.xmm.fill_with(|| u128::from(self.number()) << 64 | u128::from(self.number()));
        // Vector shift counts that matter, and lanes that are equal.
        if self.next() & 3 == 0 {
            r.xmm[(self.next() & 15) as usize] = u128::from(self.next() & 0x3f);
            r.xmm[(self.next() & 15) as usize] = r.xmm[0];
        }
        r
    }
}

/// A load or store of a 64-bit register at `[r15 + at]`.
fn gpr_at(code: &mut Vec<u8>, opcode: u8, reg: u8, at: i32) {
    code.extend([0x49 | (reg >> 3) << 2, opcode, 0x87 | (reg & 7) << 3]);
    code.extend(at.to_le_bytes());
}

/// MOVUPS of an XMM register at `[r15 + at]`.
fn xmm_at(code: &mut Vec<u8>, opcode: u8, reg: u8, at: i32) {
    code.extend([0x41 | (reg >> 3) << 2, 0x0f, opcode, 0x87 | (reg & 7) << 3]);
    code.extend(at.to_le_bytes());
}

fn usable() -> impl Iterator<Item = u8> {
    (0..16u8).filter(|&r| r != 4 && r != BASE)
}

/// `extern "sysv64" fn(*mut Regs)` around the instruction.
fn stub(code: &mut Vec<u8>, insn: &[u8]) {
    // push rbx, rbp, r12, r13, r14, r15; mov r15, rdi
    code.extend([0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x49, 0x89, 0xff]);
    for r in 0..16 {
        xmm_at(code, 0x10, r, XMM_AT + 16 * i32::from(r));
    }
    // push qword [r15 + FLAGS_AT]; popfq
    code.extend([0x41, 0xff, 0xb7]);
    code.extend(FLAGS_AT.to_le_bytes());
    code.push(0x9d);
    for r in usable() {
        gpr_at(code, 0x8b, r, 8 * i32::from(r));
    }
    code.extend(insn);
    for r in usable() {
        gpr_at(code, 0x89, r, 8 * i32::from(r));
    }
    // pushfq; pop qword [r15 + FLAGS_AT]; cld
    code.extend([0x9c, 0x41, 0x8f, 0x87]);
    code.extend(FLAGS_AT.to_le_bytes());
    code.push(0xfc);
    for r in 0..16 {
        xmm_at(code, 0x11, r, XMM_AT + 16 * i32::from(r));
    }
    // pop r15, r14, r13, r12, rbp, rbx; ret
    code.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
}

/// The bytes as a case, if it is one instruction that touches nothing but registers the stub handles.
fn case(bytes: &[u8]) -> Option<Case> {
    let insn = Decoder::new(64, bytes, 0).decode();
    // Whether reserved no-ops exist as register forms is up to the vendor.
    if insn.is_invalid() || insn.mnemonic() == Mnemonic::Reservednop {
        return None;
    }
    let mut memory = false;
    for n in 0..insn.op_count() {
        match insn.op_kind(n) {
            OpKind::Register => {
                let r = insn.op_register(n);
                let full = r.full_register();
                if full == Register::RSP || full == Register::R15 || r.is_segment_register() {
                    return None;
                }
            }
            OpKind::Memory if insn.mnemonic() == Mnemonic::Lea => {
                let uses = |r: Register| matches!(r.full_register(), Register::RSP | Register::R15);
                if uses(insn.memory_base()) || uses(insn.memory_index()) || insn.is_ip_rel_memory_operand() {
                    return None;
                }
            }
            OpKind::Memory => {
                let plain = insn.memory_base() == Register::RBX
                    && insn.memory_index() == Register::None
                    && insn.memory_displacement64() == 0
                    && !matches!(insn.segment_prefix(), Register::FS | Register::GS);
                memory = true;
                if !plain {
                    return None;
                }
            }
            _ => {}
        }
    }
    let rbx = |n| insn.op_kind(n) == OpKind::Register && insn.op_register(n).full_register() == Register::RBX;
    if memory && (0..insn.op_count()).any(rbx) {
        return None;
    }
    let bytes = &bytes[..insn.len()];
    let mode = Mode(Mode::CODE64 | Mode::STACK32 | Mode::PROT | Mode::LMA | Mode::FLAT);
    let key = BlockKey { phys: PhysAddr(0), rip: 0, mode };
    let Lifted::Block(block) = lift_bytes(key, bytes, features(), 1) else { return None };
    let plain = block.insts.iter().all(|i| {
        let stack = matches!(i.op, Op::GetReg | Op::SetReg) && i.imm == 4;
        let outside = i.op == Op::GetState && i.imm != StateField::RflagsSystem as i64;
        let flow = matches!(i.op, Op::ExitIf | Op::Branch | Op::GotoReg | Op::RepString);
        let string = i.op.can_fault()
            && !memory
            && !matches!(i.op, Op::DivU | Op::DivS | Op::RemU | Op::RemS | Op::Fence);
        // What the evaluator does not know: `simd_vs_host` and `x87_vs_host` have it.
        let unknown = matches!(i.op, Op::Fp | Op::X87 | Op::X87Mem)
            || matches!(i.op, Op::Vec1 | Op::Vec2 | Op::Vec3) && i.aux & ENCODED != 0;
        // For supervisors, or of another clock: there is no host to ask.
        let system = matches!(i.op, Op::System | Op::ReadTsc | Op::Transfer | Op::InterpretIf);
        !stack && !outside && !flow && !string && !unknown && !system
    });
    if !plain || block.insts.last()?.imm != insn.len() as i64 {
        return None;
    }
    let mut optimized = block.clone();
    Optimizer::new(PassSet::ALL).run(&mut optimized);
    Some(Case { bytes: bytes.to_vec(), insn, block, optimized, memory, stub: 0 })
}

/// Every opcode of the four maps under every prefix that selects another instruction.
fn cases(rng: &mut Rng) -> Vec<Case> {
    let mut out = Vec::new();
    let mut seen = BTreeMap::<_, u32>::new();
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    for map in maps {
        for prefix in [None, Some(0x66), Some(0xf2), Some(0xf3)] {
            for opcode in 0..=255u8 {
                for reg in 0..20u8 {
                    for rex in [None, Some(0x40), Some(0x48), Some(0x40 | rng.next() as u8 & 0xf)] {
                        let lock = (reg >= 16).then_some(0xf0);
                        let mut b: Vec<u8> = lock.into_iter().chain(prefix).chain(rex).collect();
                        b.extend(map);
                        let modrm = if reg >= 12 {
                            // [rbx]
                            rng.next() as u8 & 0x38 | 3
                        } else if opcode == 0x8d && map.is_empty() {
                            // LEA: any address.
                            rng.next() as u8 & 0xc7 | (reg & 7) << 3
                        } else {
                            0xc0 | (reg & 7) << 3 | rng.next() as u8 & 7
                        };
                        b.extend([opcode, modrm]);
                        b.extend(rng.next().to_le_bytes());
                        let Some(c) = case(&b) else { continue };
                        let n = seen.entry((c.insn.code(), c.memory, c.insn.has_lock_prefix())).or_default();
                        *n += 1;
                        if *n <= if c.memory { 24 } else { 16 } {
                            out.push(c);
                        }
                    }
                }
            }
        }
    }
    out
}

/// Flags that the instruction leaves undefined for these inputs.
fn undefined(insn: &Instruction, before: &Regs) -> u64 {
    use Mnemonic as M;
    let bits = insn.rflags_undefined();
    let mut mask = 0;
    let table = [
        (iced_x86::RflagsBits::OF, rflags::OF),
        (iced_x86::RflagsBits::SF, rflags::SF),
        (iced_x86::RflagsBits::ZF, rflags::ZF),
        (iced_x86::RflagsBits::AF, rflags::AF),
        (iced_x86::RflagsBits::CF, rflags::CF),
        (iced_x86::RflagsBits::PF, rflags::PF),
    ];
    for (bit, flag) in table {
        if bits & bit != 0 {
            mask |= flag;
        }
    }
    let m = insn.mnemonic();
    let last = insn.op_count().saturating_sub(1);
    let shifts = [M::Shl, M::Sal, M::Shr, M::Sar, M::Rol, M::Ror, M::Rcl, M::Rcr, M::Shld, M::Shrd];
    if shifts.contains(&m) {
        let width = 8 * match insn.op_kind(0) {
            OpKind::Register => insn.op_register(0).size() as u64,
            _ => insn.memory_size().size() as u64,
        };
        let n = match insn.op_kind(last) {
            OpKind::Register => before.gpr[1],
            _ => insn.immediate(last),
        } & if width == 64 { 63 } else { 31 };
        let through = matches!(m, M::Rol | M::Ror | M::Rcl | M::Rcr);
        mask = match n {
            0 => 0,
            1 if through => 0,
            1 => rflags::AF,
            _ if through => rflags::OF,
            n if n >= width && m != M::Sar => rflags::AF | rflags::OF | rflags::CF,
            _ => rflags::AF | rflags::OF,
        };
    }
    mask
}

fn run(block: &Block, cpu: &mut Cpu, r: &Regs) -> Option<Regs> {
    cpu.state.gpr = r.gpr;
    cpu.state.rflags = r.flags;
    cpu.state.rip = 0;
    assert!(cpu.mem.write(PhysAddr(GUEST_MEM), &r.mem.0));
    for (v, x) in cpu.state.vec.iter_mut().zip(r.xmm) {
        v.set_xmm(x);
    }
    match eval(block, cpu) {
        End::Goto(_) => {}
        End::Fault(_) => return None,
        end => panic!("{end:?}"),
    }
    let mut out = Regs { gpr: cpu.state.gpr, xmm: [0; 16], flags: cpu.state.rflags, mem: Mem([0; 1024]) };
    assert!(cpu.mem.read(PhysAddr(GUEST_MEM), &mut out.mem.0));
    for (x, v) in out.xmm.iter_mut().zip(&cpu.state.vec) {
        *x = v.xmm();
    }
    Some(out)
}

#[test]
fn forms_do_what_the_host_does() {
    let mut rng = Rng(0x1234_5678_9abc_def1);
    let mut cases = cases(&mut rng);
    let mut code = Vec::new();
    for c in &mut cases {
        c.stub = code.len();
        stub(&mut code, &c.bytes);
    }
    let mut map = memmap2::MmapMut::map_anon(code.len()).unwrap();
    map.copy_from_slice(&code);
    let map = map.make_exec().unwrap();
    let mut cpu = Cpu::new(Wiring::bare(PhysMem::new(0x2000).unwrap()), Features::DEFAULT, 0);
    let mut forms = BTreeMap::new();
    let mut failures = Vec::new();
    for c in &cases {
        let mut failed = false;
        for _ in 0..if c.memory { 20 } else { 80 } {
            let mut before = rng.regs();
            if c.memory {
                before.gpr[3] = GUEST_MEM + 512;
                if matches!(c.insn.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
                    && c.insn.op_kind(1) == OpKind::Register
                {
                    // Bit offsets that stay within the memory.
                    let r = c.insn.op_register(1).full_register() as usize - Register::RAX as usize;
                    before.gpr[r] = ((before.gpr[r] as i64) << 52 >> 52) as u64;
                }
            }
            let Some(got) = run(&c.block, &mut cpu, &before) else { continue };
            let same = run(&c.optimized, &mut cpu, &before) == Some(got);
            let mut host = before;
            if c.memory {
                host.gpr[3] = host.mem.0.as_ptr() as u64 + 512;
            }
            // SAFETY: the stub at this offset is complete code of this signature that keeps the calling convention
            // and touches nothing but `host`; its instruction has only register operands other than RSP and R15
            // and at most one in memory within `host.mem`, does not branch, and its block did not fault, so it does not either.
            unsafe {
                let f: extern "sysv64" fn(*mut Regs) = std::mem::transmute(map.as_ptr().add(c.stub));
                f(&raw mut host);
            }
            if c.memory {
                host.gpr[3] = before.gpr[3];
            }
            let shown = (rflags::STATUS | rflags::DF) & !undefined(&c.insn, &before);
            let ok =
                same && got.gpr == host.gpr && got.xmm == host.xmm && (got.flags ^ host.flags) & shown == 0;
            *forms.entry((c.insn.code(), c.memory, c.insn.has_lock_prefix())).or_insert(0u32) += 1;
            if !ok && !failed {
                failed = true;
                failures.push((c.insn.code(), format!(
                    "{:?} {:x?} passes agree: {same}\nbefore {before:x?}\ngot    {got:x?}\nhost   {host:x?}\n{}",
                    c.insn.code(),
                    c.bytes,
                    c.block
                )));
            }
        }
    }
    let codes: std::collections::BTreeSet<_> = failures.iter().map(|f| f.0).collect();
    assert!(failures.is_empty(), "{} forms fail: {codes:?}\n{}", codes.len(), failures[0].1);
    assert!(forms.len() > 1000, "only {} forms were found", forms.len());
}
