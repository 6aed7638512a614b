//! The run loop: blocks, self-modifying code, faults in the middle of things, shadows and single steps.

mod machine;

use emu_core::engine::{Engine, Exit};
use emu_core::features::Features;
use emu_core::signals::request;
use emu_core::state::bits::{cr4, debugctl, rflags};
use emu_core::state::gpr::{RAX, RBX, RCX, RDI, RDX, RSI, RSP};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use interp::StepResult;
use machine::{ABSENT, CODE, DATA, Machine, READ_ONLY, STACK};

fn asm(bits: u32, build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(bits).expect("assembler");
    build(&mut a).expect("instructions");
    a.assemble(CODE).expect("assembly")
}

#[test]
fn counts_instructions_exactly() {
    let code = asm(64, |a| {
        let mut top = a.create_label();
        a.mov(ecx, 1000)?;
        a.set_label(&mut top)?;
        a.add(rax, rcx)?;
        a.dec(ecx)?;
        a.jne(top)?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.run();
    assert_eq!(m.reg(RAX), 500_500);
    assert_eq!(m.cpu.state.icount, 1 + 3000 + 1);
}

#[test]
fn a_block_that_rewrites_its_own_next_instruction() {
    // mov byte [next + 1], 2; next: mov al, 1 — runs the new bytes, every time round.
    let code = asm(64, |a| {
        let (mut top, mut next) = (a.create_label(), a.create_label());
        a.mov(ecx, 3)?;
        a.set_label(&mut top)?;
        a.lea(rdi, byte_ptr(next))?;
        a.inc(byte_ptr(rdi + 1))?;
        a.set_label(&mut next)?;
        a.mov(al, 10)?;
        a.movzx(eax, al)?;
        a.add(ebx, eax)?;
        a.dec(ecx)?;
        a.jne(top)?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.run();
    assert_eq!(m.reg(RBX), 11 + 12 + 13);
}

#[test]
fn code_written_from_elsewhere_and_by_dma() {
    let code = asm(64, |a| {
        let (mut top, mut f) = (a.create_label(), a.create_label());
        a.lea(rdi, byte_ptr(f))?;
        a.mov(ecx, 3)?;
        a.set_label(&mut top)?;
        a.call(f)?;
        a.add(ebx, eax)?;
        a.inc(byte_ptr(rdi + 1))?;
        a.dec(ecx)?;
        a.jne(top)?;
        a.hlt()?;
        a.nops_with_size(64)?;
        a.set_label(&mut f)?;
        a.mov(eax, 5)?;
        a.ret()
    });
    let mut m = Machine::long(&code);
    m.run();
    assert_eq!(m.reg(RBX), 5 + 6 + 7);
    // Again, after a device has changed the constant.
    let f = m.reg(RDI);
    use emu_core::bus::Dma;
    assert!(m.cpu.mem.dma_write(emu_core::addr::PhysAddr(f + 1), &[100]));
    m.cpu.state.rip = CODE;
    m.cpu.state.activity = emu_core::state::Activity::Active;
    m.set(RBX, 0).run();
    assert_eq!(m.reg(RBX), 100 + 101 + 102);
}

#[test]
fn marks_are_let_go_when_the_code_is_gone() {
    let mut m = Machine::long(&[0x90, 0xf4]);
    m.run();
    m.poke(CODE, 1, 0x40);
    m.cpu.state.rip = machine::HANDLERS;
    m.cpu.state.activity = emu_core::state::Activity::Active;
    m.run();
    let emu_core::mem::Frame::Ram(_, index) = m.cpu.mem.frame(emu_core::addr::PhysAddr(CODE)) else {
        panic!("code is in RAM")
    };
    assert_eq!(m.cpu.mem.code_chunks(index).load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn an_instruction_across_pages() {
    // mov eax, 0x12345678 with its last two bytes on the next page; then that page changes.
    let mut m = Machine::long(&[0xf4]);
    let at = CODE + 0x1000 - 3;
    for (i, b) in [0xb8u8, 0x78, 0x56, 0x34, 0x12, 0xf4].iter().enumerate() {
        m.poke(at + i as u64, 1, (*b).into());
    }
    m.cpu.state.rip = at;
    m.run();
    assert_eq!(m.reg(RAX), 0x1234_5678);
    m.poke(CODE + 0x1001, 1, 0x99);
    m.cpu.state.rip = at;
    m.cpu.state.activity = emu_core::state::Activity::Active;
    m.run();
    assert_eq!(m.reg(RAX), 0x9934_5678);
}

#[test]
fn a_fetch_fault_belongs_to_the_instruction_that_needs_the_page() {
    let mut m = Machine::long(&[0xf4]);
    let at = ABSENT - 2;
    // nop, then the first byte of a longer one.
    m.poke(at, 2, 0xb890);
    m.cpu.state.rip = at;
    // The page before is read-only, which does not matter to fetching.
    assert_eq!(m.fault(), 14);
    assert_eq!(m.cpu.state.cr2, ABSENT);
    assert_eq!(m.peek(m.reg(RSP) + 8, 8), at + 1);
}

#[test]
fn a_read_modify_write_faults_as_a_write_and_changes_nothing() {
    let code = asm(64, |a| {
        a.stc()?;
        a.add(dword_ptr(rdi), eax)?;
        a.hlt()
    });
    for (at, error) in [(READ_ONLY, 3), (ABSENT, 2)] {
        let mut m = Machine::long(&code);
        m.set(RDI, at);
        assert_eq!(m.fault(), 14);
        assert_eq!(m.peek(m.reg(RSP), 8), error, "error code");
        assert_eq!(m.cpu.state.cr2, at);
        let flags = m.peek(m.reg(RSP) + 24, 8);
        assert!(flags & rflags::CF != 0);
        assert_eq!(m.peek(m.reg(RSP) + 8, 8), CODE + 1);
    }
}

#[test]
fn rep_movs_stops_exactly_at_the_faulting_element() {
    let code = asm(64, |a| {
        a.rep().movsd()?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    for i in 0..0x800 {
        m.poke(DATA + 4 * i, 4, i * 3);
    }
    m.set(RSI, DATA).set(RDI, READ_ONLY - 0x1000).set(RCX, 0x800);
    assert_eq!(m.fault(), 14);
    assert_eq!((m.reg(RCX), m.reg(RSI), m.reg(RDI)), (0x400, DATA + 0x1000, READ_ONLY));
    assert_eq!(m.peek(READ_ONLY - 4, 4), 0x3ff * 3);
}

#[test]
fn overlapping_rep_movs_propagates() {
    let code = asm(64, |a| {
        a.rep().movsb()?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.poke(DATA, 1, 0x5a).set(RSI, DATA).set(RDI, DATA + 1).set(RCX, 5000);
    m.run();
    assert_eq!(m.peek(DATA + 4993, 8), 0x5a5a_5a5a_5a5a_5a5a);
    assert_eq!(m.peek(DATA + 5001, 1), 0);
}

#[test]
fn rep_scas_and_cmps_stop_at_the_condition() {
    let code = asm(64, |a| {
        a.repne().scasb()?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.poke(DATA + 100, 1, 7).set(RAX, 7).set(RDI, DATA).set(RCX, 1000);
    m.run();
    assert_eq!((m.reg(RDI), m.reg(RCX)), (DATA + 101, 899));
    assert!(m.cpu.state.rflags & rflags::ZF != 0);
}

#[test]
fn sti_holds_interrupts_for_one_instruction() {
    let mut m = Machine::long(&[0xfb, 0x90, 0x90, 0xf4]);
    assert_eq!(m.interp.step(&mut m.cpu), StepResult::Done);
    assert_eq!(m.cpu.state.shadow, emu_core::state::bits::shadow::STI);
    assert_eq!(m.interp.run_block(&mut m.cpu), StepResult::Done);
    assert_eq!((m.cpu.state.rip, m.cpu.state.shadow), (CODE + 2, 0));
}

#[test]
fn tf_traps_after_each_instruction() {
    let mut m = Machine::long(&[0x90, 0xff, 0xc0, 0xf4]);
    m.cpu.state.rflags |= rflags::TF;
    m.cpu.mode_changed();
    assert_eq!(m.fault(), 1);
    assert_eq!(m.peek(m.reg(RSP), 8), CODE + 1);
    assert!(m.cpu.state.dr[6] & 1 << 14 != 0);
    assert!(m.peek(m.reg(RSP) + 16, 8) & rflags::TF != 0);
}

/// A load of SS holds back its own trap; the next instruction's comes (SDM vol. 3A, 6.8.3).
#[test]
fn tf_traps_behind_the_instruction_after_a_load_of_ss() {
    // MOV SS, AX; NOP; NOP; HLT
    let mut m = Machine::long(&[0x8e, 0xd0, 0x90, 0x90, 0xf4]);
    m.set(RAX, 0);
    m.cpu.state.rflags |= rflags::TF;
    m.cpu.mode_changed();
    assert_eq!(m.fault(), 1);
    assert_eq!((m.peek(m.reg(RSP), 8), m.cpu.state.dr[6] >> 14 & 1), (CODE + 3, 1));
}

#[test]
fn instruction_and_data_breakpoints() {
    let code = asm(64, |a| {
        a.nop()?;
        a.mov(qword_ptr(rdi), rax)?;
        a.nop()?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.cpu.state.dr[0] = CODE + 1;
    m.cpu.state.dr[7] |= 2;
    m.cpu.mode_changed();
    assert_eq!(m.fault(), 1);
    assert_eq!((m.peek(m.reg(RSP), 8), m.cpu.state.dr[6] & 15), (CODE + 1, 1));
    assert!(m.peek(m.reg(RSP) + 16, 8) & rflags::RF != 0);

    let mut m = Machine::long(&code);
    m.set(RDI, DATA);
    m.cpu.state.dr[1] = DATA + 4;
    m.cpu.state.dr[7] |= 8 | 0b1101 << 20;
    m.cpu.mode_changed();
    assert_eq!(m.fault(), 1);
    assert_eq!((m.peek(m.reg(RSP), 8), m.cpu.state.dr[6] & 15), (CODE + 4, 2));
}

#[test]
fn limits_of_encodings() {
    // 15 bytes run, 16 do not.
    let mut long = vec![0x66; 14];
    long.extend([0x90, 0xf4]);
    Machine::long(&long).run();
    long.insert(0, 0x66);
    assert_eq!(Machine::long(&long).fault(), 13);
    // LOCK with a register destination, and with an instruction that does not allow it.
    assert_eq!(Machine::long(&[0xf0, 0x01, 0xc0]).fault(), 6);
    assert_eq!(Machine::long(&[0xf0, 0x90]).fault(), 6);
    // AVX without CR4.OSXSAVE.
    assert_eq!(Machine::long(&[0xc5, 0xf8, 0x77]).fault(), 6);
}

#[test]
fn noncanonical_addresses() {
    let code = asm(64, |a| {
        a.mov(rax, qword_ptr(rbx))?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.set(RBX, 0x8000_0000_0000);
    assert_eq!(m.fault(), 13);
    let code = asm(64, |a| a.jmp(rbx));
    let mut m = Machine::long(&code);
    m.set(RBX, 0x8000_0000_0000);
    assert_eq!(m.fault(), 13);
    assert_eq!(m.peek(m.reg(RSP) + 8, 8), CODE);
    let code = asm(64, |a| a.mov(rax, qword_ptr(rbp + 8)));
    let mut m = Machine::long(&code);
    m.set(emu_core::state::gpr::RBP, 0x8000_0000_0000);
    assert_eq!(m.fault(), 12);
}

#[test]
fn budget_and_signals_stop_the_loop() {
    let mut m = Machine::long(&[0xeb, 0xfe]);
    assert_eq!(m.interp.run(&mut m.cpu, 1000), Exit::Budget);
    assert_eq!(m.cpu.state.icount, 1000);
    m.cpu.signals.raise(request::STOP);
    assert_eq!(m.interp.run(&mut m.cpu, 1000), Exit::Signal);
    assert_eq!(m.cpu.state.icount, 1000);
}

#[test]
fn sixteen_and_thirty_two_bit_code() {
    let code = asm(32, |a| {
        a.mov(eax, 0x1_2345)?;
        a.push(eax)?;
        a.mov(ebx, esp)?;
        a.pop(ecx)?;
        a.pushad()?;
        a.popad()?;
        a.mov(dx, cx)?;
        a.hlt()
    });
    let mut m = Machine::prot(&code);
    m.run();
    assert_eq!((m.reg(RCX), m.reg(RBX), m.reg(RDX), m.reg(RSP)), (0x1_2345, STACK - 4, 0x2345, STACK));
    let code = asm(16, |a| {
        a.mov(ax, 0x1234)?;
        a.push(ax)?;
        a.pop(cx)?;
        a.mov(word_ptr(0x9000), cx)?;
        a.mov(ebx, 0xdead_beefu32)?;
        a.mov(dl, byte_ptr(0x9001))?;
        a.mov(byte_ptr(0xffff), al)?;
        a.mov(word_ptr(0xffff), ax)?;
        a.hlt()
    });
    let mut m = Machine::real(&code);
    assert_eq!(m.fault(), 13);
    assert_eq!((m.reg(RCX), m.reg(RBX), m.reg(RDX)), (0x1234, 0xdead_beef, 0x12));
    assert_eq!(m.peek(0xffff, 1), 0x34);
}

/// Breakpoints on ports need CR4.DE, trap after the instruction, and cover as many ports as they are long.
#[test]
fn port_breakpoints() {
    let code = asm(64, |a| {
        a.nop()?;
        a.out(0x42u32, al)?;
        a.hlt()
    });
    for (de, at, trapped) in
        [(true, 0x42, true), (true, 0x40, true), (true, 0x44, false), (false, 0x42, false)]
    {
        let mut m = Machine::long(&code);
        if de {
            m.cpu.state.cr4 |= cr4::DE;
        }
        m.cpu.state.dr[2] = at;
        // Four ports, R/W field 2.
        m.cpu.state.dr[7] |= 1 << 4 | 0b1110 << 24;
        m.cpu.mode_changed();
        if trapped {
            assert_eq!(m.fault(), 1);
            assert_eq!((m.peek(m.reg(RSP), 8), m.cpu.state.dr[6] & 15), (CODE + 3, 4));
        } else {
            m.run();
            assert_eq!(m.cpu.state.rip, CODE + 4, "{at:#x}");
        }
    }
}

/// Under DEBUGCTL.BTF single steps are taken branches, and the #DB clears it.
#[test]
fn branch_steps() {
    let code = asm(64, |a| {
        let mut there = a.create_label();
        a.nop()?;
        a.test(rax, rax)?;
        a.jne(there)?;
        a.jmp(there)?;
        a.nop()?;
        a.set_label(&mut there)?;
        a.nop()?;
        a.hlt()
    });
    for value in [0, 1] {
        let mut m = Machine::long(&code);
        m.set(RAX, value);
        m.cpu.state.rflags |= rflags::TF;
        m.cpu.state.msr.debugctl = debugctl::BTF;
        m.cpu.mode_changed();
        assert_eq!(m.fault(), 1);
        // Taken or not, the first JNE falls through to a JMP to the same place.
        let there = CODE + code.len() as u64 - 2;
        assert_eq!((m.peek(m.reg(RSP), 8), m.cpu.state.dr[6] >> 14 & 1), (there, 1));
        assert_eq!(m.cpu.state.msr.debugctl, 0);
    }
}

/// CLZERO clears the line that rAX points into; on a page that cannot be written it clears nothing.
#[test]
fn clzero() {
    let code = [0x0f, 0x01, 0xfc, 0xf4];
    let mut m = Machine::long(&code);
    for i in 0..24 {
        m.poke(DATA + 8 * i, 8, u64::MAX);
    }
    m.set(RAX, DATA + 100).run();
    let left: Vec<_> = (0..24).map(|i| m.peek(DATA + 8 * i, 8) != 0).collect();
    let expected: Vec<_> = (0..24).map(|i| !(8..16).contains(&i)).collect();
    assert_eq!(left, expected);
    let mut m = Machine::long(&code);
    m.set(RAX, READ_ONLY);
    assert_eq!(m.fault(), 14);
    let mut m = Machine::long(&code);
    m.cpu.features = Features::parse("max,-clzero").expect("a model");
    m.set(RAX, DATA);
    assert_eq!(m.fault(), 6);
}

/// REP STOS and MOVS over code that has run: in another page in one go, in their own page with what comes behind them.
#[test]
fn rep_over_code_that_has_run() {
    // mov eax, imm32; ret; two nops: one word.
    let function = |n: u64| 0x9090_c300_0000_00b8 | n << 8;
    let code = asm(64, |a| {
        let mut around = a.create_label();
        a.xor(ebx, ebx)?;
        a.mov(rsi, function(1))?;
        a.set_label(&mut around)?;
        a.mov(rax, rsi)?;
        a.mov(edi, DATA as u32)?;
        a.mov(ecx, 512)?;
        a.rep().stosq()?;
        for at in [0, 8, 2048, 4088] {
            a.mov(edx, DATA as u32 + at)?;
            a.call(rdx)?;
            a.add(ebx, eax)?;
        }
        a.add(rsi, 0x100)?;
        a.mov(rax, function(4))?;
        a.cmp(rsi, rax)?;
        a.jne(around)?;
        // The same with one page copied over another.
        a.mov(esi, DATA as u32)?;
        a.mov(rax, function(9))?;
        a.mov(edi, DATA as u32 + 0x1000)?;
        a.mov(ecx, 512)?;
        a.rep().stosq()?;
        a.mov(edx, DATA as u32 + 0x1000 + 4088)?;
        a.call(rdx)?;
        a.add(ebx, eax)?;
        a.mov(edi, DATA as u32 + 0x1000)?;
        a.mov(ecx, 512)?;
        a.rep().movsq()?;
        a.call(rdx)?;
        a.add(ebx, eax)?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.run();
    assert_eq!(m.reg(RBX), 4 * (1 + 2 + 3) + 9 + 3);
    // Its own page: the elements after the one that replaces the instruction are not stored.
    let code = asm(64, |a| {
        a.mov(eax, 0xf4f4_f4f4u32)?; // hlt
        a.mov(edi, CODE as u32)?;
        a.mov(ecx, 64)?;
        a.rep().stosd()?;
        a.mov(ebx, 1)?;
        a.hlt()
    });
    let mut m = Machine::long(&code);
    m.run();
    assert_eq!(m.reg(RBX), 0);
    assert_eq!(m.reg(RCX), 60);
}
