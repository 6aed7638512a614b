//! Small programs, lifted from memory, optimised and evaluated block by block until HLT.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::fault::{Exception, Vector};
use emu_core::features::Features;
use emu_core::ir::{BlockKey, End, Op, Optimizer, PassSet, eval};
use emu_core::mem::{PhysMem, page};
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::{Mode, SegReg, gpr};
use frontend_x86::{Guide, Leap, Lifted, Lifter, Mnemonic, Path, Recorder};
use iced_x86::code_asm::*;
use std::sync::atomic::Ordering;

const CODE: u64 = 0x2000;

fn machine() -> CpuBox {
    let mem = PhysMem::new(64 << 10).unwrap();
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    cpu.state.rip = CODE;
    cpu
}

/// 64-bit code without paging.
fn long(code: &[u8]) -> CpuBox {
    let mut cpu = machine();
    cpu.state.cr0 |= cr0::PE;
    cpu.state.cr4 |= cr4::OSFXSR;
    cpu.state.efer = efer::LMA | efer::LME;
    cpu.state.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
    cpu.state.gpr[gpr::RSP] = 0x8000;
    cpu.mode_changed();
    assert!(cpu.mem.write(PhysAddr(CODE), code));
    cpu
}

/// 32-bit flat code.
fn flat(code: &[u8]) -> CpuBox {
    let mut cpu = long(code);
    cpu.state.efer = 0;
    for s in &mut cpu.state.seg {
        *s = SegReg { sel: 16, attr: 0xc093, limit: u32::MAX, base: 0 };
    }
    cpu.state.seg[1] = SegReg { sel: 8, attr: 0xc09b, limit: u32::MAX, base: 0 };
    cpu.mode_changed();
    assert!(cpu.state.mode.contains(Mode::FLAT | Mode::CODE32 | Mode::STACK32));
    cpu
}

/// Real-address mode with all bases 0.
fn real(code: &[u8]) -> CpuBox {
    let mut cpu = machine();
    for s in &mut cpu.state.seg {
        s.base = 0;
    }
    cpu.state.gpr[gpr::RSP] = 0x8000;
    cpu.mode_changed();
    assert!(cpu.mem.write(PhysAddr(CODE), code));
    cpu
}

/// Runs until HLT or a fault.
fn run(cpu: &mut Cpu) -> Result<(), Exception> {
    run_along(cpu, 8, None).map(|_| ())
}

/// Like `run`, in blocks of at most `most` instructions led by `guide`; the number of blocks that ran.
fn run_along(cpu: &mut Cpu, most: u32, guide: Option<Guide>) -> Result<u32, Exception> {
    let mut lifter = Lifter::new(most);
    let mut optimizer = Optimizer::new(PassSet::ALL);
    for n in 0..100_000 {
        let mut block = match lifter.lift_along(cpu, guide, None)? {
            Lifted::Block(b) => b,
            Lifted::Interpret { mnemonic: Mnemonic::Hlt } => return Ok(n),
            Lifted::Interpret { mnemonic } => panic!("{mnemonic:?} at {:x}", cpu.state.rip),
        };
        optimizer.run(&mut block);
        match eval(&block, cpu) {
            End::Goto(_) | End::Interpret => {}
            End::Fault(e) => return Err(e),
            End::Unsupported(op) => panic!("{op:?}"),
        }
    }
    panic!("no end: {:x}", cpu.state.rip)
}

fn peek(cpu: &Cpu, at: u64) -> u64 {
    let mut b = [0; 8];
    assert!(cpu.mem.read(PhysAddr(at), &mut b));
    u64::from_le_bytes(b)
}

fn asm(bits: u32, f: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(bits).unwrap();
    f(&mut a).unwrap();
    a.hlt().unwrap();
    a.assemble(CODE).unwrap()
}

#[test]
fn recursion() {
    let code = asm(64, |a| {
        let (mut fact, mut base, mut done) = (a.create_label(), a.create_label(), a.create_label());
        a.mov(edi, 10)?;
        a.call(fact)?;
        a.jmp(done)?;
        a.set_label(&mut fact)?;
        a.cmp(edi, 1)?;
        a.jle(base)?;
        a.push(rdi)?;
        a.dec(edi)?;
        a.call(fact)?;
        a.pop(rdi)?;
        a.imul_2(eax, edi)?;
        a.ret()?;
        a.set_label(&mut base)?;
        a.mov(eax, 1)?;
        a.ret()?;
        a.set_label(&mut done)?;
        a.nop()
    });
    let mut cpu = long(&code);
    run(&mut cpu).unwrap();
    assert_eq!(cpu.state.gpr[gpr::RAX], 3_628_800);
    assert_eq!(cpu.state.gpr[gpr::RSP], 0x8000);
    assert_eq!(cpu.state.icount, 3 + 9 * 8 + 4 + 1);
}

#[test]
fn strings() {
    let code = asm(64, |a| {
        // Fill, copy backwards, look for the end.
        a.mov(edi, 0x4000)?;
        a.mov(ecx, 100)?;
        a.mov(eax, 0x41)?;
        a.rep().stosb()?;
        a.mov(byte_ptr(0x4064), 0)?;
        a.std()?;
        a.mov(esi, 0x4064)?;
        a.mov(edi, 0x5064)?;
        a.mov(ecx, 101)?;
        a.rep().movsb()?;
        a.cld()?;
        a.mov(edi, 0x5000)?;
        a.xor(eax, eax)?;
        a.or(rcx, -1)?;
        a.repne().scasb()?;
        a.mov(r8, rcx)?;
        a.mov(esi, 0x4000)?;
        a.mov(edi, 0x5000)?;
        a.mov(byte_ptr(0x5010), 0x42)?;
        a.mov(ecx, 50)?;
        a.repe().cmpsb()?;
        a.mov(r9, rcx)?;
        a.setb(r10b)?;
        a.xor(ecx, ecx)?;
        a.stc()?;
        a.repe().cmpsb()?;
        a.setb(r11b)?;
        a.mov(esi, 0x4000)?;
        a.lodsd()
    });
    let mut cpu = long(&code);
    run(&mut cpu).unwrap();
    let g = &cpu.state.gpr;
    assert_eq!(!g[8] - 1, 100);
    assert_eq!((g[9], g[10], g[11]), (50 - 17, 1, 1));
    assert_eq!((g[gpr::RAX], g[gpr::RSI]), (0x4141_4141, 0x4004));
    assert_eq!(peek(&cpu, 0x5000), 0x4141_4141_4141_4141);
}

#[test]
fn pops_into_memory_and_flags() {
    let code = asm(64, |a| {
        a.push(0x1234)?;
        // The address sees the popped stack pointer.
        a.pop(qword_ptr(rsp + 8))?;
        a.mov(al, 0xff)?;
        a.add(al, 1)?;
        a.pushfq()?;
        a.pop(rbx)?;
        a.push(rsp)?;
        a.pop(rcx)?;
        a.push(rcx)?;
        a.pop(rsp)?;
        a.mov(ebp, 0x7000)?;
        a.mov(qword_ptr(rbp), 0x55)?;
        a.leave()?;
        a.lahf()?;
        a.xor(rdx, rdx)?;
        a.sahf()?;
        a.setc(dl)
    });
    let mut cpu = long(&code);
    run(&mut cpu).unwrap();
    let g = &cpu.state.gpr;
    assert_eq!(peek(&cpu, 0x8008), 0x1234);
    assert_eq!(g[gpr::RBX], 0x57);
    assert_eq!(g[gpr::RCX], 0x8000);
    assert_eq!((g[gpr::RSP], g[gpr::RBP]), (0x7008, 0x55));
    assert_eq!((g[gpr::RAX] >> 8 & 0xff, g[gpr::RDX]), (0x57, 1));
}

/// The base of GS may be whatever is canonical, which CR4.LA57 decides; the rest is the interpreter's, which has the fault.
#[test]
fn bases_are_canonical() {
    let code = asm(64, |a| {
        a.wrgsbase(rax)?;
        a.rdgsbase(rbx)
    });
    let (low, high) = (0x0000_7fff_ffff_f000u64, 0xffff_8000_0000_0000u64);
    let (lower, higher) = (0x00ff_ffff_ffff_f000u64, 0xff00_0000_0000_0000u64);
    for (la57, base, fine) in [
        (false, low, true),
        (false, high, true),
        (false, lower, false),
        (false, higher, false),
        (false, high - 1, false),
        (true, low, true),
        (true, lower, true),
        (true, higher, true),
        (true, higher - 1, false),
        (true, lower + 0x1000, false),
    ] {
        let mut cpu = long(&code);
        cpu.state.cr4 |= cr4::FSGSBASE | if la57 { cr4::LA57 } else { 0 };
        cpu.mode_changed();
        cpu.state.gpr[gpr::RAX] = base;
        cpu.state.gpr[gpr::RBX] = 0;
        let Lifted::Block(mut block) = Lifter::new(8).lift_along(&mut cpu, None, None).unwrap() else {
            panic!("not lifted")
        };
        Optimizer::new(PassSet::ALL).run(&mut block);
        eval(&block, &mut cpu);
        assert_eq!(cpu.state.rip == CODE, !fine, "{base:#x} {la57}");
        let done = if fine { (base, base) } else { (0, 0) };
        assert_eq!((cpu.state.seg[5].base, cpu.state.gpr[gpr::RBX]), done, "{base:#x} {la57}");
    }
}

#[test]
fn faults_leave_the_instruction_undone() {
    let code = asm(64, |a| {
        a.mov(eax, 5)?;
        a.sub(eax, 6)?;
        a.mov(rbx, 1u64 << 60)?;
        a.push(qword_ptr(rbx))?;
        a.inc(eax)
    });
    let mut cpu = long(&code);
    assert_eq!(run(&mut cpu).unwrap_err().vector, Vector::GP);
    assert_eq!(cpu.state.rip, CODE + 5 + 5 + 10);
    assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RSP]), (0xffff_ffff, 0x8000));
    assert_eq!(cpu.state.rflags & 1, 1);
    assert_eq!(cpu.state.icount, 3);
    let code = asm(64, |a| {
        a.xor(ecx, ecx)?;
        a.div(ecx)
    });
    assert_eq!(run(&mut long(&code)).unwrap_err().vector, Vector::DE);
    let code = asm(64, |a| a.movaps(xmm1, xmmword_ptr(0x4008)));
    assert_eq!(run(&mut long(&code)).unwrap_err().vector, Vector::GP);
}

#[test]
fn flat_32_bit_code() {
    let code = asm(32, |a| {
        let (mut next, mut again) = (a.create_label(), a.create_label());
        a.call(next)?;
        a.set_label(&mut next)?;
        a.pop(esi)?;
        a.mov(ecx, 5)?;
        a.xor(eax, eax)?;
        a.set_label(&mut again)?;
        a.add(eax, ecx)?;
        a.loop_(again)?;
        // Addresses wrap at 4 GiB.
        a.mov(ebx, -4)?;
        a.mov(dword_ptr(ebx + 0x4004), eax)?;
        a.mov(dword_ptr(ebx + ebx * 2 + 0x400c + 4), eax)?;
        a.push(-1)?;
        a.pop(edx)
    });
    let mut cpu = flat(&code);
    run(&mut cpu).unwrap();
    let g = &cpu.state.gpr;
    assert_eq!((g[gpr::RAX], g[gpr::RSI], g[gpr::RDX]), (15, CODE + 5, 0xffff_ffff));
    assert_eq!(peek(&cpu, 0x4000), 15 | 15 << 32);
    // GS has its own base and limit even where the rest is flat.
    let code = asm(32, |a| {
        a.mov(eax, dword_ptr(0x10).gs())?;
        a.mov(ecx, dword_ptr(0x100).gs())
    });
    let mut cpu = flat(&code);
    cpu.state.seg[5] = SegReg { sel: 24, attr: 0x4093, limit: 0xff, base: 0x4000 };
    assert!(cpu.mem.write(PhysAddr(0x4010), &[7, 0, 0, 0]));
    assert_eq!(run(&mut cpu).unwrap_err(), Exception::gp0());
    assert_eq!(cpu.state.gpr[gpr::RAX], 7);
}

#[test]
fn real_mode_code() {
    let code = asm(16, |a| {
        let mut next = a.create_label();
        a.mov(ax, 0x1234)?;
        a.mov(bx, 0xfff0)?;
        a.mov(si, 0x4010)?;
        a.mov(word_ptr(bx + si), ax)?;
        a.call(next)?;
        a.set_label(&mut next)?;
        a.pop(dx)?;
        a.push(eax)?;
        a.mov(cx, word_ptr(bp + 0x7ffc))?;
        a.mov(bx, word_ptr(0x4000).es())?;
        a.mov(di, -1)?;
        a.mov(word_ptr(di), ax)
    });
    let mut cpu = real(&code);
    cpu.state.seg[0].base = 0x10;
    assert!(cpu.mem.write(PhysAddr(0x4010), &[0x78, 0x56]));
    // The last store reaches beyond the segment's limit.
    assert_eq!(run(&mut cpu).unwrap_err(), Exception::gp0());
    let g = &cpu.state.gpr;
    assert_eq!(peek(&cpu, 0x4000) as u16, 0x1234);
    assert_eq!((g[gpr::RCX], g[gpr::RSP]), (0x1234, 0x7ffc));
    assert_eq!((g[gpr::RDX] & 0xffff, g[gpr::RBX]), (CODE + 14, 0x5678));
}

#[test]
fn code_is_marked_and_may_straddle_a_page() {
    let mut cpu = long(&[]);
    let at = 0x2ffd;
    // mov eax, 0x11223344; hlt
    assert!(cpu.mem.write(PhysAddr(at), &[0xb8, 0x44, 0x33, 0x22, 0x11, 0xf4]));
    assert!(cpu.mem.write(PhysAddr(at - 1), &[0x90]));
    cpu.state.rip = at - 1;
    let mut lifter = Lifter::new(64);
    let Ok(Lifted::Block(b)) = lifter.lift(&mut cpu) else { panic!() };
    assert_eq!((b.guest_insns, b.guest_len, b.next_page), (1, 1, None));
    cpu.state.rip = at;
    let Ok(Lifted::Block(b)) = lifter.lift(&mut cpu) else { panic!() };
    assert_eq!((b.guest_insns, b.guest_len, b.next_page), (1, 5, Some(PhysAddr(0x3000))));
    for (page, chunks) in [(2, 1 << 63), (3, 1)] {
        assert_eq!(cpu.mem.attrs(page).load(Ordering::Relaxed) & page::CODE, page::CODE);
        assert_eq!(cpu.mem.code_chunks(page).load(Ordering::Relaxed), chunks);
    }
    run(&mut cpu).unwrap();
    assert_eq!(cpu.state.gpr[gpr::RAX], 0x1122_3344);
    // Neither memory-mapped devices nor single steps are translated.
    cpu.state.rip = 0xfee0_0000;
    assert_eq!(lifter.lift(&mut cpu), Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID }));
    cpu.state.rip = at;
    cpu.state.rflags |= 1 << 8;
    cpu.mode_changed();
    assert_eq!(lifter.lift(&mut cpu), Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID }));
}

/// Two nested loops with a branch inside and a jump backwards, plus a way out that is rarely taken.
fn loops() -> Vec<u8> {
    asm(64, |a| {
        let (mut outer, mut inner, mut odd, mut on, mut rare, mut back) = (
            a.create_label(),
            a.create_label(),
            a.create_label(),
            a.create_label(),
            a.create_label(),
            a.create_label(),
        );
        a.mov(esi, 37)?;
        a.xor(eax, eax)?;
        a.set_label(&mut outer)?;
        a.mov(ecx, 11)?;
        a.set_label(&mut inner)?;
        a.test(ecx, 1)?;
        a.jne(odd)?;
        a.add(eax, ecx)?;
        a.jmp(on)?;
        a.set_label(&mut odd)?;
        a.adc(eax, 5)?;
        a.set_label(&mut on)?;
        a.cmp(eax, 1000)?;
        a.ja(rare)?;
        a.set_label(&mut back)?;
        a.mov(dword_ptr(0x4000), eax)?;
        a.dec(ecx)?;
        a.jne(inner)?;
        a.rcl(edx, 1)?;
        a.sub(esi, 1)?;
        a.jns(outer)?;
        a.hlt()?;
        a.set_label(&mut rare)?;
        a.sbb(eax, 999)?;
        a.jmp(back)
    })
}

#[test]
fn traces_do_what_blocks_do() {
    let code = loops();
    let mut plain = long(&code);
    let blocks = run_along(&mut plain, 64, None).unwrap();
    // By the layout of the code, along taken branches, and along a heat that differs from place to place.
    let cold = |_: &BlockKey| 0;
    let mixed = |k: &BlockKey| (k.rip as u32).wrapping_mul(0x9e37_79b9) >> 28;
    let guides: [Guide; 2] = [&cold, &mixed];
    for guide in guides {
        for most in [2, 7, 24, 64] {
            let mut cpu = long(&code);
            let traces = run_along(&mut cpu, most, Some(guide)).unwrap();
            assert_eq!(cpu.state.gpr, plain.state.gpr);
            assert_eq!(cpu.state.rflags, plain.state.rflags);
            assert_eq!(cpu.state.icount, plain.state.icount);
            assert_eq!(peek(&cpu, 0x4000), peek(&plain, 0x4000));
            assert!(most < 64 || traces < blocks, "{traces} traces for {blocks} blocks");
        }
    }
}

#[test]
fn traces_stay_in_their_page_and_name_their_bytes() {
    // A jump forward over two chunks, and one out of the page.
    let code = asm(64, |a| {
        let mut far = a.create_label();
        a.jmp(far)?;
        for _ in 0..150 {
            a.nop()?;
        }
        a.set_label(&mut far)?;
        a.mov(eax, 1)?;
        a.jmp(0x3000)
    });
    let mut cpu = long(&code);
    let Ok(Lifted::Block(b)) = Lifter::new(64).lift_along(&mut cpu, Some(&|_| 1), None) else { panic!() };
    assert_eq!(b.guest_insns, 3);
    let at = b.insts.iter().rev().find(|i| i.op == Op::Guest).unwrap();
    let chunk = (CODE as i64 + at.imm) as u64 % 4096 / 64;
    assert_eq!(b.chunks, 1 << chunk);
    assert_eq!(b.insts.last().unwrap().imm, 0x3000 - CODE as i64);
    assert_eq!(b.to_string().parse::<emu_core::ir::Block>().unwrap(), b);
    let marked = cpu.mem.code_chunks(2).load(Ordering::Relaxed);
    assert_eq!(marked & b.chunks, b.chunks);
}

/// A loop of handlers that each jump to the next by a table at 0x4000: RSI goes along a program at 0x4100 whose last handler
/// begins anew, RCX times.
fn threaded(bits: u32) -> (Vec<u8>, Vec<u64>) {
    let mut handlers = Vec::new();
    let code = asm(bits, |a| {
        let next = |a: &mut CodeAssembler| {
            a.movzx(ebx, byte_ptr(esi))?;
            a.inc(esi)?;
            if bits == 64 {
                a.mov(rbx, qword_ptr(rbx * 8 + 0x4000))?;
                a.jmp(rbx)
            } else {
                a.mov(ebx, dword_ptr(ebx * 8 + 0x4000))?;
                a.jmp(ebx)
            }
        };
        next(a)?;
        let mut at = [a.create_label(), a.create_label(), a.create_label()];
        a.set_label(&mut at[0])?;
        a.lea(eax, ptr(eax + eax * 2 + 7))?;
        next(a)?;
        a.set_label(&mut at[1])?;
        a.rol(eax, 5)?;
        a.adc(edx, eax)?;
        next(a)?;
        let mut on = a.create_label();
        a.set_label(&mut at[2])?;
        a.mov(esi, 0x4100)?;
        a.dec(ecx)?;
        a.jne(on)?;
        a.hlt()?;
        a.set_label(&mut on)?;
        next(a)?;
        handlers = at.to_vec();
        Ok(())
    });
    // Handlers begin behind the jumps.
    let jump: &[u8] = &[0xff, 0xe3];
    let ends: Vec<u64> =
        (0..code.len() as u64).filter(|&n| code[n as usize..].starts_with(jump)).map(|n| n + 2).collect();
    (code, ends[..3].iter().map(|n| CODE + n).collect())
}

#[test]
fn a_trace_along_a_recorded_path_goes_past_computed_jumps() {
    for bits in [32, 64] {
        let (code, handlers) = threaded(bits);
        let program = [0u8, 1, 0, 0, 1, 2];
        let start = |rounds: u64, program: &[u8]| {
            let mut cpu = if bits == 64 { long(&code) } else { flat(&code) };
            for (n, at) in handlers.iter().enumerate() {
                assert!(cpu.mem.write(PhysAddr(0x4000 + 8 * n as u64), &at.to_le_bytes()));
            }
            assert!(cpu.mem.write(PhysAddr(0x4100), program));
            (cpu.state.gpr[gpr::RSI], cpu.state.gpr[gpr::RCX]) = (0x4100, rounds);
            cpu
        };
        let mut plain = start(50, &program);
        // The steps from the first handler on, block by block.
        let mut lifter = Lifter::new(64);
        let mut recorder: Option<Recorder> = None;
        while let Lifted::Block(block) = lifter.lift(&mut plain).unwrap() {
            let from = plain.state.icount;
            assert!(matches!(eval(&block, &mut plain), End::Goto(_)));
            let behind = block.key.rip + u64::from(block.guest_len);
            let leap = Leap { behind, next: plain.state.rip };
            match &mut recorder {
                Some(r) => {
                    let more = r.note(leap, (plain.state.icount - from) as u32);
                    if !more {
                        break;
                    }
                }
                None if plain.state.rip == handlers[0] => {
                    let key =
                        BlockKey { phys: PhysAddr(handlers[0]), rip: handlers[0], mode: plain.state.mode };
                    recorder = Some(Recorder::new(key));
                }
                None => {}
            }
        }
        let path = recorder.unwrap().path();
        // Each handler, and one more step for the branch.
        assert!(path.closes && path.leaps.len() == 7, "{path:?}");
        for other in [&program[..], &[0, 1, 0, 1, 2, 2], &[0, 2], &[1, 1, 2]] {
            let mut want = start(50, other);
            run(&mut want).unwrap();
            let mut cpu = start(50, other);
            let blocks = along(&mut cpu, handlers[0], &path);
            assert_eq!(cpu.state.gpr, want.state.gpr);
            assert_eq!((cpu.state.rflags, cpu.state.icount), (want.state.rflags, want.state.icount));
            assert!(other != program || blocks < 60, "{blocks} blocks");
        }
    }
}

/// Runs until HLT with a trace along `path` at `at` and blocks elsewhere: how many have been entered.
fn along(cpu: &mut Cpu, at: u64, path: &Path) -> u32 {
    let mut lifter = Lifter::new(64);
    let mut optimizer = Optimizer::new(PassSet::ALL);
    for n in 0.. {
        let path = (cpu.state.rip == at).then_some(path);
        let Lifted::Block(mut block) = lifter.lift_along(cpu, None, path).unwrap() else { return n };
        optimizer.run(&mut block);
        assert_eq!(block.to_string().parse::<emu_core::ir::Block>().unwrap(), block);
        assert!(matches!(eval(&block, cpu), End::Goto(_) | End::Interpret));
    }
    unreachable!()
}
