//! The interpreter's integer instructions against the host processor, on x86-64 hosts.
//!
//! Each instruction runs on both with the same registers and flags: operand 0 in rAX, operand 1 in rDX, count in CL,
//! so both execute the same bytes. Flags that the manual leaves undefined are masked out.
#![cfg(target_arch = "x86_64")]

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::state::SegReg;
use emu_core::state::bits::rflags::{AF, CF, OF, PF, SF, STATUS, ZF};
use emu_core::state::bits::{cr0, cr4, efer};
use interp::Interp;
use std::arch::asm;

/// RAX, RDX, RCX and the status flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Regs {
    rax: u64,
    rdx: u64,
    rcx: u64,
    flags: u64,
}

struct Case {
    name: &'static str,
    host: fn(&mut Regs),
    /// The same instruction's bytes.
    bytes: fn() -> &'static [u8],
    /// Flags that are undefined, given the masked shift count.
    undefined: fn(u64) -> u64,
}

/// The instruction between two labels is both executed here and read as bytes.
macro_rules! case {
    ($text:literal, $undefined:expr) => {{
        fn host(r: &mut Regs) {
            // SAFETY: the instruction works on the registers named, which are all declared; the stack is balanced.
            unsafe {
                asm!(
                    "push {f}", "popfq", $text, "pushfq", "pop {f}",
                    f = inout(reg) r.flags,
                    inout("rax") r.rax, inout("rdx") r.rdx, inout("rcx") r.rcx,
                );
            }
            r.flags &= STATUS;
        }
        fn bytes() -> &'static [u8] {
            let (from, to): (*const u8, *const u8);
            // SAFETY: only addresses are taken; the instruction is jumped over.
            unsafe {
                asm!(
                    "lea {from}, [rip + 2f]", "lea {to}, [rip + 3f]", "jmp 3f", "2:", $text, "3:",
                    from = out(reg) from, to = out(reg) to,
                );
                std::slice::from_raw_parts(from, to.offset_from(from) as usize)
            }
        }
        Case { name: $text, host, bytes, undefined: $undefined }
    }};
}

const NONE: fn(u64) -> u64 = |_| 0;
const LOGIC: fn(u64) -> u64 = |_| AF;
const MUL: fn(u64) -> u64 = |_| SF | ZF | AF | PF;
const SHIFT: fn(u64) -> u64 = |n| match n {
    0 => 0,
    1 => AF,
    _ => AF | OF,
};
/// CF is undefined too once the count reaches the operand's size.
const NARROW_SHIFT: fn(u64) -> u64 = |n| match n {
    0 => 0,
    1 => AF,
    2..=7 => AF | OF,
    _ => AF | OF | CF,
};
const ROTATE: fn(u64) -> u64 = |n| if n > 1 { OF } else { 0 };
const SCAN: fn(u64) -> u64 = |_| CF | OF | SF | AF | PF;
const BIT: fn(u64) -> u64 = |_| OF | SF | AF | PF;

fn cases() -> Vec<Case> {
    let mut v = Vec::new();
    macro_rules! all {
        ($undefined:expr; $($text:literal)*) => { $(v.push(case!($text, $undefined));)* };
    }
    all!(NONE; "add al, dl" "add ax, dx" "add eax, edx" "add rax, rdx" "add ah, dl" "add al, dh");
    all!(NONE; "adc al, dl" "adc ax, dx" "adc eax, edx" "adc rax, rdx");
    all!(NONE; "sub al, dl" "sub ax, dx" "sub eax, edx" "sub rax, rdx");
    all!(NONE; "sbb al, dl" "sbb ax, dx" "sbb eax, edx" "sbb rax, rdx");
    all!(NONE; "cmp al, dl" "cmp ax, dx" "cmp eax, edx" "cmp rax, rdx");
    all!(LOGIC; "and al, dl" "and ax, dx" "and eax, edx" "and rax, rdx");
    all!(LOGIC; "or al, dl" "or ax, dx" "or eax, edx" "or rax, rdx");
    all!(LOGIC; "xor al, dl" "xor ax, dx" "xor eax, edx" "xor rax, rdx");
    all!(LOGIC; "test al, dl" "test rax, rdx");
    all!(NONE; "inc al" "inc ax" "inc eax" "inc rax" "dec ah" "dec ax" "dec eax" "dec rax");
    all!(NONE; "neg al" "neg ax" "neg eax" "neg rax" "not al" "not eax" "not rax");
    all!(NONE; "xadd al, dl" "xadd eax, edx" "xadd rdx, rdx");
    all!(NONE; "cmpxchg dl, cl" "cmpxchg dx, cx" "cmpxchg edx, ecx" "cmpxchg rdx, rcx" "cmpxchg eax, ecx");
    all!(NARROW_SHIFT; "shl al, cl" "shr al, cl" "shl ax, cl" "shr ax, cl");
    all!(SHIFT; "sar al, cl" "sar ax, cl" "shl eax, cl" "shr eax, cl" "sar eax, cl" "shl rax, cl" "shr rax, cl" "sar rax, cl");
    all!(|_| AF; "shl eax, 1" "shr ax, 1" "sar rax, 1");
    all!(ROTATE; "rol al, cl" "ror al, cl" "rol ax, cl" "ror ax, cl" "rol eax, cl" "ror eax, cl" "rol rax, cl" "ror rax, cl");
    all!(ROTATE; "rcl al, cl" "rcr al, cl" "rcl ax, cl" "rcr ax, cl" "rcl eax, cl" "rcr eax, cl" "rcl rax, cl" "rcr rax, cl");
    all!(NONE; "rol eax, 1" "ror ax, 1" "rcl al, 1" "rcr rax, 1");
    all!(SHIFT; "shld eax, edx, cl" "shrd eax, edx, cl" "shld rax, rdx, cl" "shrd rax, rdx, cl");
    all!(|_| AF | OF; "shld ax, dx, 5" "shrd ax, dx, 7");
    all!(MUL; "mul cl" "mul cx" "mul ecx" "mul rcx" "imul cl" "imul cx" "imul ecx" "imul rcx");
    all!(MUL; "imul ax, dx" "imul eax, edx" "imul rax, rdx" "imul eax, edx, -77" "imul rax, rdx, 12345");
    all!(SCAN; "bsf ax, dx" "bsf eax, edx" "bsf rax, rdx" "bsr ax, dx" "bsr eax, edx" "bsr rax, rdx");
    all!(BIT; "bt ax, cx" "bt eax, ecx" "bts rax, rcx" "btr eax, ecx" "btc ax, cx" "btc rax, 33" "bt eax, 7");
    all!(NONE; "popcnt eax, edx" "popcnt rax, rdx" "popcnt ax, dx");
    all!(NONE; "crc32 eax, dl" "crc32 eax, dx" "crc32 eax, edx" "crc32 rax, rdx");
    all!(NONE; "movzx eax, dl" "movzx ax, dh" "movsx rax, dx" "movsx ax, dl" "movsxd rax, edx" "movzx eax, dx");
    all!(NONE; "cmovl eax, edx" "cmovbe rax, rdx" "cmovp ax, dx" "cmovno eax, edx" "setg al" "setnb dh" "setle ah");
    all!(NONE; "bswap eax" "bswap rdx" "xchg al, ah" "xchg eax, edx" "xchg rax, rcx");
    all!(NONE; "cbw" "cwde" "cdqe" "cwd" "cdq" "cqo" "lahf" "sahf" "clc" "stc" "cmc");
    all!(NONE; "lea eax, [rdx + rcx*4 + 17]" "lea rax, [edx + ecx*8 - 3]" "lea ax, [rdx + rcx]");
    v
}

/// A processor that executes what is put at [`CODE`].
struct Guest {
    cpu: CpuBox,
    interp: Interp,
}

const CODE: u64 = 0x10_0000;

impl Guest {
    fn new() -> Self {
        let mem = PhysMem::new(4 << 20).expect("guest memory");
        for (at, entry) in [(0x1000, 0x2003u64), (0x2000, 0x83)] {
            assert!(mem.write(PhysAddr(at), &entry.to_le_bytes()));
        }
        let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
        let s = &mut cpu.state;
        s.cr0 = cr0::PE | cr0::PG | cr0::ET;
        s.cr4 = cr4::PAE;
        s.efer = efer::LME | efer::LMA;
        s.seg = [SegReg { sel: 0x10, attr: 0xc093, limit: u32::MAX, base: 0 }; 6];
        s.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
        cpu.load_cr3(0x1000);
        cpu.mode_changed();
        Self { cpu, interp: Interp::new() }
    }

    fn run(&mut self, r: &mut Regs, len: u64) {
        let s = &mut self.cpu.state;
        (s.gpr[0], s.gpr[2], s.gpr[1], s.rip) = (r.rax, r.rdx, r.rcx, CODE);
        s.rflags = r.flags | 2;
        self.interp.step(&mut self.cpu);
        let s = &self.cpu.state;
        assert_eq!(s.rip, CODE + len, "faulted");
        *r = Regs { rax: s.gpr[0], rdx: s.gpr[2], rcx: s.gpr[1], flags: s.rflags & STATUS };
    }
}

/// Numbers that find carries: random, and near the powers of two.
fn number(seed: &mut u64) -> u64 {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    let (v, shape) = (next(), next());
    match shape & 7 {
        0 => 0,
        1 => u64::MAX << (v & 63),
        2 => 1 << (v & 63),
        3 => (1u64 << (v & 63)).wrapping_sub(1),
        4 => v & 0xff,
        _ => v,
    }
}

#[test]
fn integer_instructions_match_the_host() {
    let mut seed = 0x1234_5678_9abc_def1;
    let mut wrong = Vec::new();
    for case in cases() {
        let mut guest = Guest::new();
        let bytes = (case.bytes)();
        assert!(guest.cpu.mem.write(PhysAddr(CODE), bytes));
        for _ in 0..3000 {
            let before = Regs {
                rax: number(&mut seed),
                rdx: number(&mut seed),
                rcx: number(&mut seed),
                flags: number(&mut seed) & STATUS,
            };
            let (mut host, mut ours) = (before, before);
            (case.host)(&mut host);
            guest.run(&mut ours, bytes.len() as u64);
            let wide =
                case.name.contains('r') && case.name.split_once(' ').is_some_and(|(_, o)| o.starts_with('r'));
            let count = before.rcx & if wide { 63 } else { 31 };
            let mask = !(case.undefined)(count);
            host.flags &= mask;
            ours.flags &= mask;
            if host != ours {
                wrong.push(format!("{}: {before:x?}\n  host {host:x?}\n  ours {ours:x?}", case.name));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
