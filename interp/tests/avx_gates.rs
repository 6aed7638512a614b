//! When VEX instructions may run, which encodings of them exist, and what they leave alone.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::fault::{Exception, Vector};
use emu_core::features::{Features, leaf1_ecx};
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer, rflags, xcr0};
use emu_core::state::segment::attr;
use emu_core::state::{Seg, gpr};
use interp::decode::decode;

/// A processor in 16-bit protected, 32- or 64-bit code with AVX enabled. Of the first 4 MiB, the page at 0x5000 is not
/// there in 64-bit code.
fn cpu(bits: u32) -> CpuBox {
    let mem = PhysMem::new(4 << 20).expect("guest memory");
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    for (at, entry) in [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x10_0007)] {
        cpu.phys_write(PhysAddr(at), 8, entry);
    }
    for page in 0..512u64 {
        let present = if page == 5 { 0 } else { 7 };
        cpu.phys_write(PhysAddr(0x10_0000 + 8 * page), 8, page << 12 | present);
    }
    let s = &mut cpu.state;
    let (old0, old4, old_efer) = (s.cr0, s.cr4, s.efer);
    s.cr0 = cr0::PE | cr0::NE | cr0::MP | cr0::ET;
    s.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
    s.xcr0 = 7;
    if bits > 16 {
        s.seg[Seg::CS as usize].attr |= attr::DB;
    }
    if bits == 64 {
        s.cr0 |= cr0::PG;
        s.cr4 |= cr4::PAE;
        s.cr3 = 0x1000;
        s.efer = efer::LME | efer::LMA;
        s.seg[Seg::CS as usize].attr = s.seg[Seg::CS as usize].attr & !attr::DB | attr::L;
    }
    cpu.paging_changed(old0, old4, old_efer);
    assert_eq!(cpu.state.mode.code_bits(), bits);
    cpu
}

/// The exception that the instruction raises.
fn exception(cpu: &mut Cpu, bytes: &[u8]) -> Option<Exception> {
    cpu.state.update_mode();
    let decoded = decode(bytes, cpu.state.rip, cpu.state.mode, cpu).expect("complete");
    (decoded.op.run)(cpu, &decoded.op).err()
}

fn vector(cpu: &mut Cpu, bytes: &[u8]) -> Option<Vector> {
    exception(cpu, bytes).map(|e| e.vector)
}

/// The address of the page fault that the instruction raises.
fn page_fault(cpu: &mut Cpu, bytes: &[u8]) -> Option<u64> {
    exception(cpu, bytes).filter(|e| e.vector == Vector::PF).map(|e| e.cr2)
}

/// VADDPS ymm0, ymm1, ymm2.
const VADDPS: &[u8] = &[0xc5, 0xf4, 0x58, 0xc2];
/// VPADDB xmm0, xmm1, xmm2.
const VPADDB: &[u8] = &[0xc5, 0xf1, 0xfc, 0xc2];
/// VFMADD213PS ymm0, ymm1, ymm2.
const VFMADD: &[u8] = &[0xc4, 0xe2, 0x75, 0xa8, 0xc2];
const VZEROUPPER: &[u8] = &[0xc5, 0xf8, 0x77];
/// ANDN eax, ecx, edx.
const ANDN: &[u8] = &[0xc4, 0xe2, 0x70, 0xf2, 0xc2];
const UD: Option<Vector> = Some(Vector::UD);

#[test]
fn disabled_units() {
    for bits in [16, 32, 64] {
        let check = |what: &str, change: fn(&mut Cpu), expected: Option<Vector>, andn: Option<Vector>| {
            let mut cpu = cpu(bits);
            change(&mut cpu);
            for bytes in [VADDPS, VPADDB, VFMADD, VZEROUPPER] {
                assert_eq!(vector(&mut cpu, bytes), expected, "{bits} {bytes:x?} {what}");
            }
            assert_eq!(vector(&mut cpu, ANDN), andn, "{bits} {what}");
        };
        check("all is well", |_| {}, None, None);
        check("TS", |c| c.state.cr0 |= cr0::TS, Some(Vector::NM), None);
        check(
            "EM and no OSFXSR, which are not asked",
            |c| {
                c.state.cr0 |= cr0::EM;
                c.state.cr4 &= !cr4::OSFXSR;
            },
            None,
            None,
        );
        check("no OSXSAVE", |c| c.state.cr4 &= !cr4::OSXSAVE, UD, None);
        check("no AVX state", |c| c.state.xcr0 = xcr0::X87 | xcr0::SSE, UD, None);
        check("no SSE state", |c| c.state.xcr0 = xcr0::X87, UD, None);
        check(
            "TS and no OSXSAVE",
            |c| {
                c.state.cr0 |= cr0::TS;
                c.state.cr4 &= !cr4::OSXSAVE;
            },
            UD,
            None,
        );
    }
    // Real and virtual-8086 mode do not know VEX: C4 and C5 with a register are #UD, with memory they are LES and LDS.
    for v86 in [false, true] {
        let mut cpu = cpu(16);
        if v86 {
            cpu.state.rflags |= rflags::VM;
        } else {
            cpu.state.cr0 &= !cr0::PE;
        }
        for bytes in [VADDPS, VPADDB, VFMADD, VZEROUPPER, ANDN] {
            assert_eq!(vector(&mut cpu, bytes), UD, "{bytes:x?}");
        }
        let lds = &[0xc5, 0x06, 0x00, 0x10];
        if !v86 {
            assert_eq!(vector(&mut cpu, lds), None);
        }
    }
}

#[test]
fn features_decide() {
    for bits in [32, 64] {
        let mut cpu = cpu(bits);
        cpu.features.leaf1_ecx &= !leaf1_ecx::FMA;
        assert_eq!(vector(&mut cpu, VFMADD), UD);
        assert_eq!(vector(&mut cpu, VADDPS), None);
        cpu.features.leaf1_ecx &= !leaf1_ecx::AVX;
        assert_eq!(vector(&mut cpu, VADDPS), UD);
        cpu.features.leaf7_ebx = 0;
        assert_eq!(vector(&mut cpu, ANDN), UD);
    }
}

/// Encodings that do not exist (SDM vol. 2A, 2.3.5 and the tables of exception classes).
#[test]
fn encodings_that_are_undefined() {
    let bad: &[(&str, &[u8])] = &[
        ("66 before VEX", &[0x66, 0xc5, 0xf4, 0x58, 0xc2]),
        ("F2 before VEX", &[0xf2, 0xc5, 0xf4, 0x58, 0xc2]),
        ("F3 before VEX", &[0xf3, 0xc5, 0xf4, 0x58, 0xc2]),
        ("LOCK before VEX", &[0xf0, 0xc5, 0xf4, 0x58, 0x02]),
        ("REX before VEX", &[0x48, 0xc5, 0xf4, 0x58, 0xc2]),
        ("vvvv of VSQRTPS", &[0xc5, 0xf4, 0x51, 0xc2]),
        ("vvvv of VPABSB", &[0xc4, 0xe2, 0x71, 0x1c, 0xc2]),
        ("vvvv of VMOVAPS", &[0xc5, 0xf0, 0x28, 0xc2]),
        ("VEX.L of VPHMINPOSUW", &[0xc4, 0xe2, 0x7d, 0x41, 0xc2]),
        ("VEX.L of VMOVQ", &[0xc5, 0xfd, 0xd6, 0xc2]),
        ("VEX.L0 of VPERMD", &[0xc4, 0xe2, 0x71, 0x36, 0xc2]),
        ("VEX.W1 of VPERMD", &[0xc4, 0xe2, 0xf5, 0x36, 0xc2]),
        ("VEX.L0 of VPERM2F128", &[0xc4, 0xe3, 0x71, 0x06, 0xc2, 0x00]),
        ("VEX.W1 of VPSRAVD", &[0xc4, 0xe2, 0xf5, 0x46, 0xc2]),
        ("VEX.L of ANDN", &[0xc4, 0xe2, 0x74, 0xf2, 0xc2]),
        ("VEX.L of VLDMXCSR", &[0xc5, 0xfc, 0xae, 0x10]),
        ("a gather of two equal registers", &[0xc4, 0xe2, 0x71, 0x92, 0x04, 0x00]),
        ("a gather from a register", &[0xc4, 0xe2, 0x71, 0x92, 0xc2]),
        ("VEX.mmmmm 0", &[0xc4, 0xe0, 0x74, 0x58, 0xc2]),
        ("VEX.mmmmm 4", &[0xc4, 0xe4, 0x74, 0x58, 0xc2]),
    ];
    for (what, bytes) in bad {
        let mut cpu = cpu(64);
        cpu.state.gpr[gpr::RAX] = 0x8000;
        assert_eq!(vector(&mut cpu, bytes), UD, "{what}");
    }
    // W is ignored here, and L by scalars.
    let good: &[&[u8]] =
        &[&[0xc4, 0xe1, 0xf4, 0x58, 0xc2], &[0xc4, 0xe1, 0xf2, 0x58, 0xc2], &[0xc5, 0xf6, 0x58, 0xc2]];
    for bytes in good {
        assert_eq!(vector(&mut cpu(64), bytes), None, "{bytes:x?}");
    }
}

/// Only the moves that say so demand alignment, and to the operand's whole length.
#[test]
fn alignment() {
    let mut cpu = cpu(64);
    cpu.state.gpr[gpr::RAX] = 0x8001;
    assert_eq!(vector(&mut cpu, &[0xc5, 0xf4, 0x58, 0x00]), None, "VADDPS ymm");
    assert_eq!(vector(&mut cpu, &[0xc5, 0xfc, 0x10, 0x00]), None, "VMOVUPS ymm");
    cpu.state.gpr[gpr::RAX] = 0x8010;
    assert_eq!(vector(&mut cpu, &[0xc5, 0xf8, 0x28, 0x00]), None, "VMOVAPS xmm");
    for (what, bytes) in [
        ("VMOVAPS ymm", [0xc5, 0xfc, 0x28, 0x00]),
        ("VMOVAPS to memory", [0xc5, 0xfc, 0x29, 0x00]),
        ("VMOVDQA ymm", [0xc5, 0xfd, 0x6f, 0x00]),
        ("VMOVNTDQ ymm", [0xc5, 0xfd, 0xe7, 0x00]),
    ] {
        assert_eq!(vector(&mut cpu, &bytes), Some(Vector::GP), "{what}");
    }
}

/// A store over the border of a page that is not there stores nothing.
#[test]
fn stores_are_whole() {
    let mut cpu = cpu(64);
    cpu.state.vec[0].0 = [u64::MAX; 8];
    cpu.state.gpr[gpr::RAX] = 0x4ff0;
    assert_eq!(vector(&mut cpu, &[0xc5, 0xfc, 0x11, 0x00]), Some(Vector::PF));
    assert_eq!(cpu.phys_read(PhysAddr(0x4ff0), 8), 0);
    // VMASKMOVPS [rax], ymm1, ymm0 with the four lanes of the page that is there.
    cpu.state.vec[1].0 = [u64::MAX, u64::MAX, 0, 0, 0, 0, 0, 0];
    assert_eq!(vector(&mut cpu, &[0xc4, 0xe2, 0x75, 0x2e, 0x00]), None);
    assert_eq!(cpu.phys_read(PhysAddr(0x4ff8), 8), u64::MAX);
    cpu.phys_write(PhysAddr(0x4ff8), 8, 7);
    cpu.state.vec[1].0[2] = 1 << 31;
    assert_eq!(page_fault(&mut cpu, &[0xc4, 0xe2, 0x75, 0x2e, 0x00]), Some(0x5000));
    assert_eq!(cpu.phys_read(PhysAddr(0x4ff8), 8), 7);
    // And the load of what is there.
    cpu.state.vec[1].0[2] = 0;
    assert_eq!(vector(&mut cpu, &[0xc4, 0xe2, 0x75, 0x2c, 0x10]), None);
    assert_eq!(cpu.state.vec[2].0, [u64::MAX, 7, 0, 0, 0, 0, 0, 0]);
}

/// A gather that faults has done the lanes before, and says so in its mask.
#[test]
fn gathers_make_progress() {
    let mut cpu = cpu(64);
    cpu.phys_write(PhysAddr(0x4000), 4, 0x1111_1111);
    cpu.phys_write(PhysAddr(0x6000), 4, 0x3333_3333);
    cpu.state.gpr[gpr::RAX] = 0x4000;
    // VPGATHERDD ymm0, [rax + ymm1], ymm2: lanes at 0x4000, (masked off), 0x5000, 0x6000.
    let gather = &[0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x08];
    cpu.state.vec[0].0 = [0xaaaa_aaaa_aaaa_aaaa; 8];
    cpu.state.vec[1].0 = [0xdead_beef << 32, 0x2000_0000_1000, 0, 0, 0, 0, 0, 0];
    cpu.state.vec[2].0 = [1 << 31, 1 << 63 | 1 << 31, 0, 0, 5, 5, 5, 5];
    assert_eq!(page_fault(&mut cpu, gather), Some(0x5000));
    assert_eq!(cpu.state.vec[0].0[..2], [0xaaaa_aaaa_1111_1111, 0xaaaa_aaaa_aaaa_aaaa]);
    assert_eq!(cpu.state.vec[2].0, [0, u64::MAX, 0, 0, 0, 0, 0, 0]);
    // The page comes, and the instruction goes on where it was: lane 0 is not read again.
    cpu.phys_write(PhysAddr(0x10_0028), 8, 0x5007);
    cpu.phys_write(PhysAddr(0x5000), 4, 0x2222_2222);
    cpu.phys_write(PhysAddr(0x4000), 4, 0);
    assert_eq!(vector(&mut cpu, gather), None);
    assert_eq!(cpu.state.vec[0].0[..2], [0xaaaa_aaaa_1111_1111, 0x3333_3333_2222_2222]);
    assert_eq!(cpu.state.vec[2].0, [0; 8]);
}

/// VZEROUPPER and the destinations of VEX instructions clear everything beyond their length; in 32-bit code the
/// registers that it cannot reach stay.
#[test]
fn upper_parts() {
    let mut cpu = cpu(64);
    for v in &mut cpu.state.vec {
        v.0 = [9; 8];
    }
    assert_eq!(vector(&mut cpu, VPADDB), None);
    assert_eq!(cpu.state.vec[0].0[2..], [0; 6]);
    assert_eq!(vector(&mut cpu, VZEROUPPER), None);
    assert!(cpu.state.vec[1..16].iter().all(|v| v.0 == [9, 9, 0, 0, 0, 0, 0, 0]));
    let mut cpu = self::cpu(32);
    for v in &mut cpu.state.vec {
        v.0 = [9; 8];
    }
    assert_eq!(vector(&mut cpu, &[0xc5, 0xfc, 0x77]), None, "VZEROALL");
    assert!(cpu.state.vec[..8].iter().all(|v| v.0 == [0; 8]));
    assert!(cpu.state.vec[8..16].iter().all(|v| v.0 == [9; 8]));
}

/// An unmasked exception in the upper half stops the whole.
#[test]
fn unmasked() {
    for (handled, expected) in [(true, Vector::XM), (false, Vector::UD)] {
        let mut cpu = cpu(64);
        if !handled {
            cpu.state.cr4 &= !cr4::OSXMMEXCPT;
        }
        let one = u64::from(1f32.to_bits());
        cpu.state.vec[0].0 = [7; 8];
        cpu.state.vec[1].0 = [one | one << 32; 8];
        cpu.state.vec[2].0 = [one | one << 32, one | one << 32, one | one << 32, one, 0, 0, 0, 0];
        cpu.state.mxcsr = 0x1f80 & !(1 << 9);
        // VDIVPS ymm0, ymm1, ymm2: only lane 7 divides by zero.
        assert_eq!(vector(&mut cpu, &[0xc5, 0xf4, 0x5e, 0xc2]), Some(expected));
        assert_eq!(cpu.state.vec[0].0, [7; 8]);
        assert_eq!(cpu.state.mxcsr, 0x1f80 & !(1 << 9) | 4);
    }
}
