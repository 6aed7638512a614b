//! REP MOVS and STOS in flat code, on pages that the translation cache has, against the evaluator: any count and
//! direction, at and over the ends of pages, from places that overlap.

use crate::r#gen::Rng;
use crate::random::check_from;
use backend_jit::{Jit, JitConfig};
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::ir::{Block, BlockKey, Op, RepKind, Type, verify};
use emu_core::state::Mode;
use emu_core::state::bits::rflags;
use emu_core::state::gpr::{RCX, RDI, RSI};

/// 64-bit code of user programs.
const USER: Mode = Mode(Mode::CODE64 | Mode::LMA | Mode::PROT | Mode::FLAT | Mode::CPL);

/// The same in 32 bits.
const USER32: Mode = Mode(Mode::CODE32 | Mode::LMA | Mode::PROT | Mode::FLAT | Mode::CPL);

fn block(mode: Mode, kind: RepKind, size: u32, bits: u32) -> Block {
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode });
    b.op_imm(Op::Guest, Type::Void, &[], 0, 2);
    (b.guest_insns, b.guest_len) = (1, 2);
    let zero = b.iconst(Type::I64, 0);
    // What the index was lives on.
    let old = b.get_reg(Type::I64, RDI);
    let aux = kind as u32 | size << 8 | bits << 16;
    let done = b.op_imm(Op::RepString, Type::Bool, &[zero, zero], 0, aux);
    b.set_reg(Type::I64, 3, old);
    b.op_imm(Op::Branch, Type::Void, &[done], 2, 0);
    verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
    b
}

#[test]
fn runs_at_once() {
    for baseline in [false, true] {
        let mut jit = Jit::new(JitConfig { single_block: true, baseline, ..JitConfig::default() }).unwrap();
        for seed in 1..=1500 {
            let mut r = Rng(seed);
            let kind = if seed % 2 == 0 { RepKind::Movs } else { RepKind::Stos };
            let size = 1u32 << (seed / 2 % 4);
            let bits = if seed / 8 % 4 == 0 { 32 } else { 64 };
            let mut number = |below: u64| r.next() % below;
            let mode = if bits == 32 && number(2) == 0 { USER32 } else { USER };
            let count = if number(4) == 0 { number(5000) } else { number(20) };
            let above = if bits == 32 { number(1 << 20) << 32 } else { 0 };
            let source = number(0x3f00) + 0x1000;
            let target = match number(4) {
                0 => source.wrapping_add(number(64)).wrapping_sub(32),
                1 => 0x2000 - u64::from(size) * number(50),
                2 => 0x1000 - number(20),
                _ => number(0x3f00) + 0x1000,
            };
            let absent = number(256) & number(256);
            let down = if number(8) == 0 { rflags::DF } else { 0 };
            let prepare = |cpu: &mut Cpu| {
                for page in (0..8).filter(|page| absent >> page & 1 == 0) {
                    cpu.store::<1>(page << 12, page, false).unwrap();
                    cpu.load::<1>(page << 12, false).unwrap();
                }
                (cpu.state.gpr[RCX], cpu.state.gpr[RSI], cpu.state.gpr[RDI]) =
                    (count | above, source, target);
                cpu.state.rflags |= down;
            };
            let b = block(mode, kind, size, bits);
            assert!(check_from(&mut jit, &b, seed, prepare).unwrap_or_else(|e| panic!("{e}")));
        }
    }
}
