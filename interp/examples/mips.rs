//! How many million guest instructions a second the interpreter executes, on three small 64-bit programs.
//!
//! `cargo run --release -p interp --example mips`
#![allow(clippy::print_stdout, reason = "it reports on the terminal")]

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::engine::Engine;
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::{SegReg, gpr};
use iced_x86::code_asm::{
    CodeAssembler, byte_ptr, dword_ptr, eax, ecx, edx, qword_ptr, r8, r9, r10, rax, rbp, rbx, rcx, rdi, rdx,
    rsi, rsp,
};
use std::time::Instant;

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const PML4: u64 = 0x1000;

type Built = Result<Vec<u8>, iced_x86::IcedError>;

/// Registers only: add, test, branch.
fn sum() -> Built {
    let mut a = CodeAssembler::new(64)?;
    let mut top = a.create_label();
    a.set_label(&mut top)?;
    a.add(rax, rcx)?;
    a.xor(rdx, rax)?;
    a.shr(rdx, 3)?;
    a.lea(rbx, qword_ptr(rax + rcx * 4 + 7))?;
    a.dec(rcx)?;
    a.jne(top)?;
    a.jmp(top)?;
    a.assemble(CODE)
}

/// Loads, stores, read-modify-writes, compares.
fn memory() -> Built {
    let mut a = CodeAssembler::new(64)?;
    let (mut top, mut skip) = (a.create_label(), a.create_label());
    a.set_label(&mut top)?;
    a.mov(eax, dword_ptr(rsi + rcx * 4))?;
    a.add(eax, 5)?;
    a.mov(dword_ptr(rsi + rcx * 4), eax)?;
    a.add(qword_ptr(rdi + 8), rcx)?;
    a.movzx(edx, byte_ptr(rsi + rcx))?;
    a.cmp(edx, 64)?;
    a.jb(skip)?;
    a.inc(r8)?;
    a.set_label(&mut skip)?;
    a.inc(ecx)?;
    a.and(ecx, 0xfff)?;
    a.test(rcx, rcx)?;
    a.jne(top)?;
    a.jmp(top)?;
    a.assemble(CODE)
}

/// What a compiler makes of small functions: frames, pushes, calls, returns.
fn calls() -> Built {
    let mut a = CodeAssembler::new(64)?;
    let (mut top, mut f) = (a.create_label(), a.create_label());
    a.set_label(&mut top)?;
    a.mov(rdi, rcx)?;
    a.call(f)?;
    a.add(r9, rax)?;
    a.inc(rcx)?;
    a.jmp(top)?;
    a.set_label(&mut f)?;
    a.push(rbp)?;
    a.mov(rbp, rsp)?;
    a.push(rbx)?;
    a.mov(rbx, rdi)?;
    a.mov(qword_ptr(rbp - 16), rbx)?;
    a.lea(rax, qword_ptr(rbx + rbx * 2))?;
    a.test(rax, rax)?;
    a.cmovs(rax, r10)?;
    a.pop(rbx)?;
    a.pop(rbp)?;
    a.ret()?;
    a.assemble(CODE)
}

/// A processor in 64-bit code with the first GiB mapped one to one.
fn machine(code: &[u8]) -> CpuBox {
    let mem = PhysMem::new(64 << 20).expect("guest memory");
    for (at, entry) in [(PML4, 0x2003u64), (0x2000, 0x83)] {
        assert!(mem.write(PhysAddr(at), &entry.to_le_bytes()));
    }
    assert!(mem.write(PhysAddr(CODE), code));
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    let s = &mut cpu.state;
    s.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | cr0::WP;
    s.cr4 = cr4::PAE | cr4::PGE;
    s.efer = efer::LME | efer::LMA;
    s.seg = [SegReg { sel: 0x10, attr: 0xc093, limit: u32::MAX, base: 0 }; 6];
    s.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
    s.rip = CODE;
    s.gpr[gpr::RSP] = DATA + 0x10_0000;
    s.gpr[gpr::RSI] = DATA;
    s.gpr[gpr::RDI] = DATA + 0x8000;
    cpu.load_cr3(PML4);
    cpu.mode_changed();
    cpu
}

fn main() -> Result<(), iced_x86::IcedError> {
    let millions: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(300);
    for (name, code) in [("sum", sum()?), ("memory", memory()?), ("calls", calls()?)] {
        let mut cpu = machine(&code);
        let mut engine = interp::Interp::new();
        let start = Instant::now();
        let exit = engine.run(&mut cpu, millions * 1_000_000);
        let took = start.elapsed().as_secs_f64();
        println!("{name:8} {:6.1} MIPS ({exit:?})", cpu.state.icount as f64 / took / 1e6);
    }
    Ok(())
}
