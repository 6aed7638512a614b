//! Immediates of changing code, lifted as data: the block that was lifted from the old bytes does with new ones in its words
//! what a block lifted from the new bytes does.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{CodeHit, Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::ir::{Block, Op, Optimizer, PassSet, eval};
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::{SegReg, gpr};
use frontend_x86::{Lifted, Lifter};

const CODE: u64 = 0x2000;
/// Size of memory, where most displacements do not lead: then both blocks fault.
const SIZE: u64 = 1 << 20;

/// (bits, bytes, first byte of the part that changes, its size, lifted as data)
type Form = (u32, &'static [u8], usize, usize, bool);

/// Every way in which an immediate or displacement is read. 0xf4 ends each block.
const FORMS: &[Form] = &[
    (64, b"\xb8\x01\x02\x03\x04", 1, 4, true), // mov eax, imm32
    (64, b"\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", 2, 8, true), // mov rax, imm64
    (64, b"\x48\xc7\xc0\x01\x02\x03\x04", 3, 4, true), // mov rax, simm32
    (64, b"\xb1\x07", 1, 1, true),             // mov cl, imm8
    (64, b"\x66\xbb\x07\x08", 2, 2, true),     // mov bx, imm16
    (64, b"\x8d\x87\x01\x02\x03\x04", 2, 4, true), // lea eax, [rdi+disp32]
    (64, b"\x48\x8d\x44\x8f\x10", 4, 1, true), // lea rax, [rdi+rcx*4+disp8]
    (64, b"\x48\x8d\x05\x01\x02\x03\x04", 3, 4, true), // lea rax, [rip+disp32]
    (64, b"\x48\x8d\x04\x8d\x01\x02\x03\x04", 4, 4, true), // lea rax, [rcx*4+disp32]
    (64, b"\x81\xc3\x01\x02\x03\x04", 2, 4, true), // add ebx, imm32
    (64, b"\x48\x83\xeb\x05", 3, 1, true),     // sub rbx, simm8
    (64, b"\x48\x81\xf9\x01\x02\x03\x04", 3, 4, true), // cmp rcx, simm32
    (64, b"\xa9\x01\x02\x03\x04", 1, 4, true), // test eax, imm32
    (64, b"\x80\xf1\x55", 2, 1, true),         // xor cl, imm8
    (64, b"\xf9\x48\x15\x01\x02\x03\x04", 3, 4, true), // stc; adc rax, simm32
    (64, b"\x69\xc1\x01\x02\x03\x04", 2, 4, true), // imul eax, ecx, imm32
    (64, b"\x68\x01\x02\x03\x04", 1, 4, true), // push simm32
    (64, b"\x8b\x43\x10", 2, 1, true),         // mov eax, [rbx+disp8]
    (64, b"\x89\x4b\x10", 2, 1, true),         // mov [rbx+disp8], ecx
    (64, b"\xc7\x03\x01\x02\x03\x04", 2, 4, true), // mov dword [rbx], imm32
    (64, b"\x83\x43\x10\x05", 3, 1, true),     // add dword [rbx+8], simm8
    (64, b"\x83\x43\x10\x05", 2, 1, true),     // add dword [rbx+disp8], 5
    (64, b"\xe9\x01\x02\x03\x00", 1, 4, true), // jmp rel32
    (64, b"\xeb\x10", 1, 1, true),             // jmp rel8
    (64, b"\xe8\x01\x02\x03\x00", 1, 4, true), // call rel32
    (64, b"\x64\x8d\x04\x25\x01\x02\x03\x04", 4, 4, true), // lea eax, [disp32]
    (64, b"\x67\x8d\x47\x10", 3, 1, true),     // lea eax, [edi+disp8]
    (32, b"\xb8\x01\x02\x03\x04", 1, 4, true),
    (32, b"\x8d\x05\x01\x02\x03\x04", 2, 4, true), // lea eax, [disp32]
    (32, b"\xe9\x01\x02\x03\x00", 1, 4, true),
    (32, b"\xe8\x01\x02\x03\x00", 1, 4, true),
    (32, b"\x66\xe9\x01\x02", 2, 2, true), // jmp rel16
    (32, b"\x67\x8d\x47\x10", 3, 1, true), // lea eax, [bx+disp8]
    // Shift counts and bit numbers choose other IR; opcodes other instructions; conditional branches their two ways.
    (64, b"\xc1\xe0\x03", 2, 1, false),
    (64, b"\x0f\xba\xe0\x03", 3, 1, false),
    (64, b"\xb8\x01\x02\x03\x04", 0, 4, false),
    (64, b"\x01\xc8\x29\xc8", 0, 2, false),
    (64, b"\x74\x10", 1, 1, false),
];

fn machine(bits: u32, code: &[u8]) -> CpuBox {
    let mem = PhysMem::new(SIZE).unwrap();
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    let data = SegReg { sel: 16, attr: 0xc093, limit: u32::MAX, base: 0 };
    cpu.state.seg = [data; 6];
    cpu.state.cr0 |= cr0::PE;
    cpu.state.cr4 |= cr4::OSFXSR;
    let attr = if bits == 64 { 0xa09b } else { 0xc09b };
    cpu.state.efer = if bits == 64 { efer::LMA | efer::LME } else { 0 };
    cpu.state.seg[1] = SegReg { sel: 8, attr, limit: u32::MAX, base: 0 };
    for r in 0..16 {
        cpu.state.gpr[r] = 0x1_0001 * (r as u64 + 3);
    }
    cpu.state.gpr[gpr::RBX] = 0x8000;
    cpu.state.gpr[gpr::RSP] = 0x9000;
    cpu.state.rip = CODE;
    cpu.mode_changed();
    assert!(cpu.mem.write(PhysAddr(CODE), code));
    assert!(cpu.mem.write(PhysAddr(CODE + code.len() as u64), &[0xf4]));
    cpu
}

fn lift(cpu: &mut Cpu, lifter: &mut Lifter) -> Block {
    match lifter.lift(cpu) {
        Ok(Lifted::Block(block)) => block,
        other => panic!("{other:?}"),
    }
}

/// What a block does to a processor: registers, flags, RIP and memory.
fn outcome(block: &Block, cpu: &mut Cpu) -> impl PartialEq + std::fmt::Debug {
    let end = eval(block, cpu);
    let mut memory = vec![0; 0x2000];
    assert!(cpu.mem.read(PhysAddr(0x7800), &mut memory));
    let s = &cpu.state;
    (format!("{end:?}"), s.gpr, s.rip, s.rflags, memory)
}

#[test]
fn a_block_with_words_does_what_the_new_bytes_say() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for &(bits, code, at, size, wanted) in FORMS {
        let mut cpu = machine(bits, code);
        let mut lifter = Lifter::new(8);
        lifter.lift_words(true);
        let hit = CodeHit::of_store(PhysAddr(CODE + at as u64), size, 2, 1);
        lifter.note_stores(&[hit, hit]);
        let block = lift(&mut cpu, &mut lifter);
        let words = block.insts.iter().filter(|i| i.op == Op::CodeWord).count();
        assert_eq!(words > 0, wanted, "{code:x?}\n{block}");
        assert!(block.words().all(|w| w == (at as u16, size as u8)), "{code:x?}");
        if !wanted {
            continue;
        }
        let mut passed = block.clone();
        Optimizer::new(PassSet::ALL).run(&mut passed);
        for _ in 0..50 {
            random = random.wrapping_mul(0xd129_42f0_75e6_91b3).wrapping_add(1);
            let mut new = code.to_vec();
            let value = random >> 20;
            new[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            let block_of_new = lift(&mut machine(bits, &new), &mut Lifter::new(8));
            let want = format!("{:?}", outcome(&block_of_new, &mut machine(bits, &new)));
            for block in [&block, &passed] {
                let got = format!("{:?}", outcome(block, &mut machine(bits, &new)));
                assert_eq!(got, want, "{code:x?} with {new:x?}\n{block}");
            }
        }
    }
}

#[test]
fn a_block_with_words_goes_past_no_branch() {
    // jmp +0; mov eax, imm32; jmp +0; nop
    let code = b"\xeb\x00\xb8\x01\x02\x03\x04\xeb\x00\x90";
    let mut cpu = machine(64, code);
    let mut lifter = Lifter::new(8);
    lifter.lift_words(true);
    let hit = CodeHit::of_store(PhysAddr(CODE + 3), 4, 2, 1);
    lifter.note_stores(&[hit, hit]);
    let on = |_: &_| 1;
    let mut lengths = Vec::new();
    for rip in [CODE, CODE + 2] {
        cpu.state.rip = rip;
        let Ok(Lifted::Block(block)) = lifter.lift_along(&mut cpu, Some(&on), None) else {
            panic!("no block")
        };
        lengths.push((block.guest_insns, block.words().count()));
    }
    assert_eq!(lengths, [(1, 0), (2, 1)]);
}
