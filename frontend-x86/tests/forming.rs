//! Block forming, and every kind of instruction through the verifier.

use emu_core::addr::PhysAddr;
use emu_core::features::Features;
use emu_core::ir::{BlockKey, Op, verify};
use emu_core::state::Mode;
use frontend_x86::{Lifted, lift_bytes};
use iced_x86::code_asm::*;

fn key(mode: u32) -> BlockKey {
    BlockKey { phys: PhysAddr(0x1000), rip: 0x40_1000, mode: Mode(mode) }
}

const LONG: u32 = Mode::CODE64 | Mode::STACK32 | Mode::PROT | Mode::LMA | Mode::FLAT;

fn lift(a: &mut CodeAssembler) -> emu_core::ir::Block {
    let bytes = a.assemble(0x40_1000).unwrap();
    match lift_bytes(key(LONG), &bytes, Features::max(), 64) {
        Lifted::Block(b) => b,
        Lifted::Interpret { mnemonic } => panic!("not lifted: {mnemonic:?}"),
    }
}

#[test]
fn ends_at_control_flow() {
    let mut a = CodeAssembler::new(64).unwrap();
    a.mov(eax, dword_ptr(rbx + 8)).unwrap();
    a.add(dword_ptr(rbx + rcx * 4 + 8), eax).unwrap();
    a.call(0x40_2000).unwrap();
    a.nop().unwrap();
    let b = lift(&mut a);
    assert_eq!(b.guest_insns, 3);
    assert_eq!(b.insts.last().unwrap().op, Op::Goto);
    assert_eq!(b.insts.last().unwrap().imm, 0x1000);
    assert_eq!(b.to_string().parse::<emu_core::ir::Block>().unwrap(), b);
}

#[test]
fn ends_before_what_is_not_lifted() {
    let mut a = CodeAssembler::new(64).unwrap();
    a.mov(eax, 1).unwrap();
    a.cpuid().unwrap();
    let b = lift(&mut a);
    assert_eq!((b.guest_insns, b.guest_len), (1, 5));
    let last = b.insts.last().unwrap();
    assert_eq!((last.op, last.imm), (Op::Interpret, 5));
    assert_eq!(frontend_x86::mnemonic_name(last.aux), "cpuid");
    assert!(matches!(lift_bytes(key(LONG), &[0x0f, 0xa2], Features::max(), 64), Lifted::Interpret { .. }));
}

#[test]
fn bounded() {
    let Lifted::Block(b) = lift_bytes(key(LONG), &[0x90; 100], Features::max(), 7) else { panic!() };
    assert_eq!((b.guest_insns, b.guest_len), (7, 7));
}

#[test]
fn features_decide() {
    // popcnt eax, ecx
    let code = [0xf3, 0x0f, 0xb8, 0xc1];
    let mut f = Features::max();
    assert!(matches!(lift_bytes(key(LONG), &code, f, 1), Lifted::Block(_)));
    f.leaf1_ecx &= !emu_core::features::leaf1_ecx::POPCNT;
    assert!(matches!(lift_bytes(key(LONG), &code, f, 1), Lifted::Interpret { .. }));
}

/// Random bytes in every mode: never a panic, never a block that the verifier refuses.
#[test]
fn random_bytes() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let modes = [
        LONG,
        LONG | Mode::CPL,
        Mode::CODE32 | Mode::STACK32 | Mode::PROT | Mode::FLAT,
        Mode::CODE32 | Mode::STACK32 | Mode::PROT,
        Mode::CODE32 | Mode::PROT,
        Mode::PROT,
        0,
        Mode::V86 | Mode::CPL,
    ];
    let mut lifted = 0u32;
    for round in 0..60_000 {
        let mut bytes = [0u8; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&next().to_le_bytes());
        }
        if round % 2 == 0 {
            // Likelier to be SSE.
            let prefix = [0x66u8, 0xf2, 0xf3, 0x0f][(next() % 4) as usize];
            bytes[0] = prefix;
            bytes[if prefix == 0x0f { 0 } else { 1 }] = 0x0f;
        }
        let mode = modes[(next() % modes.len() as u64) as usize];
        if let Lifted::Block(b) = lift_bytes(key(mode), &bytes, Features::max(), 16) {
            verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
            assert_eq!(b.to_string().parse::<emu_core::ir::Block>().unwrap(), b);
            lifted += b.guest_insns;
        }
    }
    assert!(lifted > 50_000, "{lifted}");
}
