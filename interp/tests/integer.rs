//! Integer instructions where neither the 286 vectors nor the host comparison reaches: wide divisions, memory bit
//! strings, frames, atomics, and the forms of 64-bit code.

mod machine;

use emu_core::features::Features;
use emu_core::state::bits::rflags::{AC, CF, OF, ZF};
use emu_core::state::bits::{cr0, cr4};
use emu_core::state::gpr::{RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
use emu_core::state::{Mode, SegReg};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use machine::{ABSENT, CODE, DATA, Machine, STACK};

fn asm(bits: u32, build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(bits).expect("assembler");
    build(&mut a).expect("instructions");
    a.hlt().expect("HLT");
    a.assemble(CODE).expect("assembly")
}

fn long(build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Machine {
    Machine::long(&asm(64, build))
}

#[test]
fn wide_divisions() {
    let mut m = long(|a| a.div(rcx));
    m.set(RDX, 5).set(RAX, 7).set(RCX, 9).run();
    assert_eq!((m.reg(RAX), m.reg(RDX)), (((5u128 << 64 | 7) / 9) as u64, ((5u128 << 64 | 7) % 9) as u64));
    let mut m = long(|a| a.div(rcx));
    m.set(RDX, 9).set(RCX, 9);
    assert_eq!(m.fault(), 0);
    let mut m = long(|a| a.idiv(rcx));
    m.set(RDX, u64::MAX).set(RAX, 0x8000_0000_0000_0000).set(RCX, u64::MAX);
    assert_eq!(m.fault(), 0);
    let mut m = long(|a| a.idiv(rcx));
    m.set(RDX, u64::MAX).set(RAX, (-100i64) as u64).set(RCX, 7).run();
    assert_eq!((m.reg(RAX) as i64, m.reg(RDX) as i64), (-14, -2));
    let mut m = long(|a| a.idiv(ecx));
    m.set(RDX, 0).set(RAX, 0x8000_0000).set(RCX, 0xffff_ffff).run();
    assert_eq!((m.reg(RAX), m.reg(RDX)), (0x8000_0000, 0));
}

#[test]
fn bit_strings_reach_beyond_their_operand() {
    let mut m = long(|a| {
        a.bts(qword_ptr(rdi), rcx)?;
        a.lock().btc(dword_ptr(rdi), edx)
    });
    m.set(RDI, DATA + 64).set(RCX, (-65i64) as u64).set(RDX, 100).run();
    assert_eq!(m.peek(DATA + 64 - 16, 8), 1 << 63);
    assert_eq!(m.peek(DATA + 64 + 12, 4), 1 << 4);
    // An immediate stays within.
    let mut m = long(|a| a.bts(dword_ptr(rdi), 33));
    m.set(RDI, DATA).run();
    assert_eq!(m.peek(DATA, 8), 2);
}

#[test]
fn compare_and_exchange() {
    let mut m = long(|a| {
        a.lock().cmpxchg8b(qword_ptr(rdi))?;
        a.lock().cmpxchg16b(xmmword_ptr(rsi))
    });
    m.poke(DATA, 8, 0x2_0000_0001).poke(DATA + 16, 8, 1).poke(DATA + 24, 8, 3);
    m.set(RDI, DATA).set(RSI, DATA + 16).set(RDX, 2).set(RAX, 1).set(RCX, 7).set(RBX, 8).run();
    assert_eq!(m.peek(DATA, 8), 0x7_0000_0008);
    assert_eq!((m.reg(RAX), m.reg(RDX)), (1, 3));
    assert_eq!(m.cpu.state.rflags & ZF, 0);
    let mut m = long(|a| a.cmpxchg16b(xmmword_ptr(rsi)));
    m.set(RSI, DATA + 8);
    assert_eq!(m.fault(), 13);
    let mut m = long(|a| {
        a.lock().xadd(dword_ptr(rdi), eax)?;
        a.xchg(qword_ptr(rdi), rcx)
    });
    m.poke(DATA, 8, 10).set(RDI, DATA).set(RAX, 5).set(RCX, 99).run();
    assert_eq!((m.reg(RAX), m.reg(RCX), m.peek(DATA, 8)), (10, 15, 99));
}

#[test]
fn locked_operands_across_cache_lines_and_pages() {
    let mut m = long(|a| {
        a.lock().add(qword_ptr(rdi), rax)?;
        a.lock().dec(dword_ptr(rsi))
    });
    m.poke(DATA + 0xffc, 8, u64::MAX).set(RDI, DATA + 0xffc).set(RAX, 2).set(RSI, DATA + 61).run();
    assert_eq!(m.peek(DATA + 0xffc, 8), 1);
    assert_eq!(m.peek(DATA + 61, 4), 0xffff_ffff);
}

#[test]
fn stack_pointer_corner_cases() {
    let mut m = long(|a| {
        a.push(rsp)?;
        a.pop(rax)?;
        a.push(rcx)?;
        a.push(rdx)?;
        // The address is computed after the increment.
        a.pop(qword_ptr(rsp))?;
        a.pop(rbx)?;
        a.push(5)?;
        a.pop(rsp)
    });
    m.set(RCX, 1).set(RDX, 2).run();
    assert_eq!((m.reg(RAX), m.reg(RBX), m.reg(RSP)), (STACK, 2, 5));
    // A store that faults leaves RSP.
    let mut m = long(|a| a.pop(qword_ptr(rdi)));
    m.set(RDI, ABSENT);
    assert_eq!(m.fault(), 14);
    assert_eq!(m.peek(m.reg(RSP) + 32, 8), STACK);
}

#[test]
fn frames() {
    let mut m = long(|a| {
        a.enter(0x20, 3)?;
        a.mov(rax, rbp)?;
        a.mov(rcx, rsp)?;
        a.leave()
    });
    m.set(RBP, DATA + 0x100).poke(DATA + 0xf8, 8, 11).poke(DATA + 0xf0, 8, 22).run();
    assert_eq!((m.reg(RAX), m.reg(RCX)), (STACK - 8, STACK - 32 - 0x20));
    assert_eq!((m.peek(STACK - 16, 8), m.peek(STACK - 24, 8), m.peek(STACK - 32, 8)), (11, 22, STACK - 8));
    assert_eq!((m.reg(RBP), m.reg(RSP)), (DATA + 0x100, STACK));
}

#[test]
fn sixteen_bit_double_shifts_beyond_sixteen() {
    let mut m = long(|a| a.shld(ax, dx, 20));
    m.set(RAX, 0x1234).set(RDX, 0x5678).run();
    // 1234:5678:1234 << 20
    assert_eq!(m.reg(RAX), 0x6781);
    let mut m = long(|a| a.shrd(ax, dx, 20));
    m.set(RAX, 0x1234).set(RDX, 0x5678).run();
    assert_eq!(m.reg(RAX), 0x4567);
}

#[test]
fn addressing_forms() {
    let mut m = long(|a| {
        let mut here = a.create_label();
        a.lea(rax, qword_ptr(here))?;
        a.set_label(&mut here)?;
        a.mov(rbx, qword_ptr(DATA).fs())?;
        a.mov(ecx, dword_ptr(edi + esi * 4))?;
        a.xlatb()
    });
    m.cpu.state.seg[4].base = 0x100;
    m.poke(DATA + 0x100, 8, 77).poke(DATA + 8, 4, 88);
    m.set(RDI, DATA | 0xff << 32).set(RSI, 2);
    m.set(RBX, 0).run();
    assert_eq!((m.reg(RBX), m.reg(RCX)), (77, 88));
    assert_eq!(m.reg(RAX) & !0xff, (CODE + 7) & !0xff);
    // A 64-bit absolute address.
    let mut m = Machine::long(&[0x48, 0xa1, 0, 0, 2, 0, 0, 0, 0, 0, 0xf4]);
    m.poke(DATA, 8, 0x1122_3344_5566_7788).run();
    assert_eq!(m.reg(RAX), 0x1122_3344_5566_7788);
}

#[test]
fn movbe_crc_random_and_features() {
    let mut m = long(|a| {
        a.movbe(eax, dword_ptr(rdi))?;
        a.movbe(qword_ptr(rdi + 8), rcx)?;
        a.rdrand(rdx)
    });
    m.poke(DATA, 4, 0x1122_3344).set(RDI, DATA).set(RCX, 1).run();
    assert_eq!((m.reg(RAX), m.peek(DATA + 8, 8)), (0x4433_2211, 1 << 56));
    assert!(m.cpu.state.rflags & CF != 0 && m.reg(RDX) != 0);
    // Where BMI1 and LZCNT are not offered, F3 is ignored; where they are, zero has 32 zeros.
    let code = [0xf3, 0x0f, 0xbc, 0xc1, 0xf3, 0x0f, 0xbd, 0xd1, 0xf4];
    let mut m = Machine::long(&code);
    m.set(RCX, 0).run();
    assert_eq!((m.reg(RAX), m.reg(RDX)), (32, 32));
    let mut m = Machine::long(&code);
    m.cpu.features = Features::DEFAULT;
    m.set(RAX, 5).set(RDX, 6).set(RCX, 0).run();
    assert_eq!((m.reg(RAX), m.reg(RDX)), (5, 6));
    let mut adcx = Machine::long(&[0x66, 0x0f, 0x38, 0xf6, 0xc1]);
    adcx.cpu.features = Features::DEFAULT;
    assert_eq!(adcx.fault(), 6);
    // RDSSPQ without shadow stacks is a NOP.
    let mut m = Machine::long(&[0xf3, 0x48, 0x0f, 0x1e, 0xc8, 0xf4]);
    m.set(RAX, 9).run();
    assert_eq!(m.reg(RAX), 9);
}

#[test]
fn loops_and_counters() {
    let mut m = Machine::long(&asm(64, |a| {
        let (mut top, mut end) = (a.create_label(), a.create_label());
        a.jrcxz(end)?;
        a.set_label(&mut top)?;
        a.inc(rax)?;
        a.loop_(top)?;
        a.set_label(&mut end)?;
        a.nop()
    }));
    m.set(RCX, 5).run();
    assert_eq!((m.reg(RAX), m.reg(RCX)), (5, 0));
}

#[test]
fn bound_and_into_in_32_bit_code() {
    let code = asm(32, |a| a.bound(eax, qword_ptr(edi)));
    let mut m = Machine::prot(&code);
    m.poke(DATA, 4, (-5i32) as u32 as u64).poke(DATA + 4, 4, 5).set(RDI, DATA).set(RAX, 5).run();
    let mut m = Machine::prot(&code);
    m.poke(DATA + 4, 4, 5).set(RDI, DATA).set(RAX, 6);
    assert_eq!(m.fault(), 5);
    let mut m = Machine::prot(&asm(32, |a| a.into()));
    m.cpu.state.rflags |= OF;
    assert_eq!(m.fault(), 4);
}

#[test]
fn segments_that_are_not_flat() {
    // DS with a base and a small limit, SS expand-down.
    let code = asm(32, |a| {
        a.mov(eax, dword_ptr(4))?;
        a.mov(ecx, dword_ptr(0xffd))
    });
    let mut m = Machine::prot(&code);
    m.cpu.state.seg[3] = SegReg { sel: 0x10, attr: 0x4093, limit: 0xfff, base: DATA };
    m.cpu.mode_changed();
    assert!(!m.cpu.state.mode.contains(Mode::FLAT));
    m.poke(DATA + 4, 4, 321);
    assert_eq!(m.fault(), 13);
    assert_eq!((m.reg(RAX), m.reg(RCX)), (321, 0));
    let mut m = Machine::prot(&asm(32, |a| a.push(eax)));
    m.cpu.state.seg[2] = SegReg { sel: 0x10, attr: 0x4097, limit: 0x6fff, base: 0 };
    m.cpu.state.seg[3].limit = 0xffff;
    m.cpu.mode_changed();
    m.set(RSP, 0x8000).run();
    assert_eq!(m.reg(RSP), 0x7ffc);
    // A write through CS.
    let mut m = Machine::prot(&asm(32, |a| a.mov(dword_ptr(DATA).cs(), eax)));
    assert_eq!(m.fault(), 13);
}

#[test]
fn code_beyond_its_limit() {
    let mut m = Machine::prot(&[0x90, 0x90, 0x90, 0xf4]);
    m.cpu.state.seg[1].limit = CODE as u32 + 1;
    m.cpu.mode_changed();
    assert_eq!(m.fault(), 13);
    assert_eq!(m.peek(m.reg(RSP) + 4, 4), CODE + 2);
}

#[test]
fn alignment_checks_apply_to_user_code_only() {
    let mut m = long(|a| a.mov(eax, dword_ptr(rdi)));
    m.cpu.state.cr0 |= cr0::AM;
    m.cpu.state.rflags |= AC;
    m.cpu.mode_changed();
    m.set(RDI, DATA + 1).run();
}

#[test]
fn segment_bases_need_cr4() {
    assert_eq!(long(|a| a.wrfsbase(rax)).fault(), 6);
    let mut m = long(|a| {
        a.wrgsbase(rax)?;
        a.rdgsbase(rcx)
    });
    m.cpu.state.cr4 |= cr4::FSGSBASE;
    m.set(RAX, 0x1234_5678_9abc).run();
    assert_eq!(m.reg(RCX), 0x1234_5678_9abc);
}
