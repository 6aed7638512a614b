//! LOCK where there is nobody to lock out.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::ir::{Block, Op, eval};
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::{SegReg, gpr};
use frontend_x86::{Lifted, Lifter};

const CODE: u64 = 0x1000;
const DATA: u64 = 0x8000;

/// A processor in 64-bit code at privilege level `cpl`, before `code`.
fn machine(code: &[u8], cpl: u16) -> CpuBox {
    let mut cpu = Cpu::new(Wiring::bare(PhysMem::new(1 << 20).unwrap()), Features::max(), 0);
    let level = cpl << 5;
    cpu.state.seg = [SegReg { sel: 16 | cpl, attr: 0xc093 | level, limit: u32::MAX, base: 0 }; 6];
    cpu.state.seg[1] = SegReg { sel: 8 | cpl, attr: 0xa09b | level, limit: u32::MAX, base: 0 };
    cpu.state.cr0 |= cr0::PE;
    cpu.state.cr4 |= cr4::OSFXSR;
    cpu.state.efer = efer::LMA | efer::LME;
    for r in 0..16 {
        cpu.state.gpr[r] = 0x1_0001 * (r as u64 + 3);
    }
    cpu.state.gpr[gpr::RBX] = DATA;
    cpu.state.gpr[gpr::RSP] = DATA + 0x100;
    cpu.state.rip = CODE;
    cpu.mode_changed();
    assert!(
        cpu.mem.write(PhysAddr(CODE), code) && cpu.mem.write(PhysAddr(CODE + code.len() as u64), &[0xf4])
    );
    cpu
}

fn block(code: &[u8], cpl: u16, elide: bool) -> (Block, CpuBox) {
    let mut cpu = machine(code, cpl);
    let mut lifter = Lifter::new(1);
    lifter.elide_locks(elide);
    match lifter.lift(&mut cpu) {
        Ok(Lifted::Block(block)) => (block, cpu),
        other => panic!("{code:x?}: {other:?}"),
    }
}

fn atomic(block: &Block) -> bool {
    block.insts.iter().any(|i| {
        use Op::{AtomicAdd, AtomicAnd, AtomicCas, AtomicOr, AtomicXchg, AtomicXor};
        matches!(i.op, AtomicAdd | AtomicAnd | AtomicOr | AtomicXor | AtomicXchg | AtomicCas)
    })
}

/// What a block does to the registers, the flags and the quadword at [`DATA`].
fn outcome((block, mut cpu): (Block, CpuBox)) -> impl PartialEq + std::fmt::Debug {
    let end = eval(&block, &mut cpu);
    let mut data = [0; 8];
    assert!(cpu.mem.read(PhysAddr(DATA), &mut data));
    (format!("{end:?}"), cpu.state.gpr, cpu.state.rflags, data)
}

const LOCKED: &[&[u8]] = &[
    b"\xf0\x01\x0b",         // lock add [rbx], ecx
    b"\xf0\x48\xff\x0b",     // lock dec qword [rbx]
    b"\xf0\x66\xf7\x13",     // lock not word [rbx]
    b"\xf0\x48\x0f\xc1\x0b", // lock xadd [rbx], rcx
    b"\xf0\x0f\xb1\x0b",     // lock cmpxchg [rbx], ecx
    b"\xf0\x0f\xab\x0b",     // lock bts [rbx], ecx
    b"\x87\x0b",             // xchg [rbx], ecx
    b"\xf0\x83\x0b\x01",     // lock or dword [rbx], 1
];

#[test]
fn the_only_vcpu_needs_none_in_user_mode() {
    for code in LOCKED {
        assert!(!atomic(&block(code, 3, true).0), "{code:x?}");
        for (cpl, elide) in [(3, false), (0, true)] {
            assert!(atomic(&block(code, cpl, elide).0), "{code:x?}");
        }
        assert_eq!(outcome(block(code, 3, true)), outcome(block(code, 3, false)), "{code:x?}");
    }
}

#[test]
fn a_barrier_stays_one() {
    for code in [b"\xf0\x83\x0c\x24\x00", b"\xf0\x83\x04\x24\x00"] {
        assert!(atomic(&block(code, 3, true).0), "{code:x?}");
    }
}

#[test]
fn pairs_are_exchanged_if_they_are_what_is_expected() {
    const ZF: u64 = 1 << 6;
    for (code, size) in [(&b"\x0f\xc7\x0b"[..], 4), (b"\x48\x0f\xc7\x0b", 8)] {
        for same in [true, false] {
            let (block, mut cpu) = block(code, 3, false);
            let (low, high) = (0x1122_3344u64, 0x5566_7788u64);
            let held = low << 32 | 5;
            (cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]) = (held, high);
            (cpu.state.gpr[gpr::RBX], cpu.state.gpr[gpr::RCX]) = (DATA, 77);
            cpu.state.rflags |= 0x8d5;
            let memory = [held, if same { high } else { high + 1 }];
            let bytes = |v: u64| v.to_le_bytes()[..size].to_vec();
            let pair = |v: [u64; 2]| [bytes(v[0]), bytes(v[1])].concat();
            assert!(cpu.mem.write(PhysAddr(DATA), &pair(memory)));
            eval(&block, &mut cpu);
            let mut after = vec![0; 2 * size];
            assert!(cpu.mem.read(PhysAddr(DATA), &mut after));
            let flags = cpu.state.rflags & 0x8d5;
            if same {
                assert_eq!((after, flags), (pair([DATA, 77]), 0x8d5));
                assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]), (held, high));
            } else {
                assert_eq!((after, flags), (pair(memory), 0x8d5 & !ZF));
                // The narrow form clears the upper half only now.
                let low = if size == 4 { held & 0xffff_ffff } else { held };
                assert_eq!((cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RDX]), (low, high + 1));
            }
        }
    }
}
