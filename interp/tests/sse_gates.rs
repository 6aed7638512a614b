//! When MMX and SSE instructions may run, in 16-, 32- and 64-bit code, and what they leave alone.

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::fault::{Exception, Vector};
use emu_core::features::{Features, leaf1_ecx};
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::segment::attr;
use emu_core::state::{Mode, Seg, gpr};
use interp::decode::decode;

/// A processor in 16-, 32- or 64-bit code with SSE enabled.
fn cpu(bits: u32) -> CpuBox {
    let mem = PhysMem::new(1 << 20).expect("guest memory");
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    cpu.phys_write(PhysAddr(0x1000), 8, 0x2007);
    cpu.phys_write(PhysAddr(0x2000), 8, 0x87);
    let s = &mut cpu.state;
    let (old0, old4, old_efer) = (s.cr0, s.cr4, s.efer);
    s.cr0 = cr0::NE | cr0::MP | cr0::ET;
    s.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
    if bits > 16 {
        s.cr0 |= cr0::PE;
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

fn execute(cpu: &mut Cpu, bytes: &[u8]) -> Result<(), Exception> {
    let decoded = decode(bytes, cpu.state.rip, cpu.state.mode, cpu).expect("complete");
    (decoded.op.run)(cpu, &decoded.op)
}

fn vector(cpu: &mut Cpu, bytes: &[u8]) -> Option<Vector> {
    cpu.state.update_mode();
    execute(cpu, bytes).err().map(|e| e.vector)
}

const PADDB_MM: &[u8] = &[0x0f, 0xfc, 0xc1];
const PADDB_XMM: &[u8] = &[0x66, 0x0f, 0xfc, 0xc1];
const ADDPS: &[u8] = &[0x0f, 0x58, 0xc1];
const CVTPI2PS: &[u8] = &[0x0f, 0x2a, 0xc1];
const EMMS: &[u8] = &[0x0f, 0x77];
const STMXCSR: &[u8] = &[0x0f, 0xae, 0x1e, 0x00, 0x10];

#[test]
fn disabled_units() {
    for bits in [16, 32, 64] {
        let check = |set0: u64, clear4: u64, sse: Option<Vector>, mmx: Option<Vector>| {
            let mut cpu = cpu(bits);
            cpu.state.cr0 |= set0;
            cpu.state.cr4 &= !clear4;
            for bytes in [PADDB_XMM, ADDPS, CVTPI2PS] {
                assert_eq!(vector(&mut cpu, bytes), sse, "{bits} {bytes:x?} {set0:#x} {clear4:#x}");
            }
            for bytes in [PADDB_MM, EMMS] {
                assert_eq!(vector(&mut cpu, bytes), mmx, "{bits} {bytes:x?} {set0:#x} {clear4:#x}");
            }
        };
        check(0, 0, None, None);
        check(cr0::TS, 0, Some(Vector::NM), Some(Vector::NM));
        check(cr0::EM, 0, Some(Vector::UD), Some(Vector::UD));
        check(cr0::EM | cr0::TS, 0, Some(Vector::UD), Some(Vector::UD));
        check(0, cr4::OSFXSR, Some(Vector::UD), None);
        check(cr0::TS, cr4::OSFXSR, Some(Vector::UD), Some(Vector::NM));
    }
    let mut cpu = cpu(16);
    cpu.state.cr0 |= cr0::TS;
    assert_eq!(vector(&mut cpu, STMXCSR), Some(Vector::NM));
}

#[test]
fn features_that_cpuid_lacks() {
    let mut cpu = cpu(32);
    let pshufb = &[0x66, 0x0f, 0x38, 0x00, 0xc1];
    assert_eq!(vector(&mut cpu, pshufb), None);
    cpu.features.leaf1_ecx &= !leaf1_ecx::SSSE3;
    assert_eq!(vector(&mut cpu, pshufb), Some(Vector::UD));
    assert_eq!(vector(&mut cpu, &[0x0f, 0x38, 0x00, 0xc1]), Some(Vector::UD), "the MMX form too");
}

/// An unmasked exception leaves its flag and nothing else; without OSXMMEXCPT it is #UD.
#[test]
fn unmasked() {
    for (handled, expected) in [(true, Vector::XM), (false, Vector::UD)] {
        let mut cpu = cpu(64);
        if !handled {
            cpu.state.cr4 &= !cr4::OSXMMEXCPT;
        }
        let one = u128::from(1f32.to_bits());
        cpu.state.vec[0].set_xmm(one << 96 | one);
        cpu.state.vec[1].set_xmm(0);
        cpu.state.mxcsr = 0x1f80 & !(1 << 9);
        // DIVPS: 1 / 0 in lanes 0 and 3 raises ZE, 0 / 0 in the others IE.
        assert_eq!(vector(&mut cpu, &[0x0f, 0x5e, 0xc1]), Some(expected));
        assert_eq!(cpu.state.vec[0].xmm(), one << 96 | one);
        assert_eq!(cpu.state.mxcsr, 0x1f80 & !(1 << 9) | 5);
        assert!(cpu.state.mode.contains(Mode::FP_UNMASKED));
    }
}

/// In 16-bit code an operand lies where its segment says, and must be aligned there.
#[test]
fn segments() {
    let mut cpu = cpu(16);
    cpu.state.seg[Seg::DS as usize].base = 0x3008;
    cpu.phys_write(PhysAddr(0x3010), 8, 0x1122_3344_5566_7788);
    cpu.phys_write(PhysAddr(0x3018), 8, 0x99aa_bbcc_ddee_ff00);
    let movaps = |disp: u8| [0x0f, 0x28, 0x16, disp, 0x00];
    assert_eq!(vector(&mut cpu, &movaps(8)), None);
    assert_eq!(cpu.state.vec[2].xmm(), 0x99aa_bbcc_ddee_ff00_1122_3344_5566_7788);
    assert_eq!(vector(&mut cpu, &movaps(0)), Some(Vector::GP));
    // The last byte would be at offset 0x10000.
    assert_eq!(vector(&mut cpu, &[0x0f, 0x10, 0x16, 0xf1, 0xff]), Some(Vector::GP));
}

/// MASKMOVDQU checks byte by byte, so bytes that are not chosen cannot fault.
#[test]
fn masked_stores() {
    let mut cpu = cpu(32);
    cpu.state.seg[Seg::DS as usize].limit = 0x5007;
    cpu.state.gpr[gpr::RDI] = 0x5000;
    cpu.state.vec[0].set_xmm(u128::MAX);
    let maskmovdqu = &[0x66, 0x0f, 0xf7, 0xc1];
    cpu.state.vec[1].set_xmm(0x0080_0000_8000_0080);
    assert_eq!(vector(&mut cpu, maskmovdqu), None);
    assert_eq!(cpu.phys_read(PhysAddr(0x5000), 8), 0x00ff_0000_ff00_00ff);
    cpu.state.vec[1].set_xmm(0x80 << 64 | 0x8000);
    assert_eq!(vector(&mut cpu, maskmovdqu), Some(Vector::GP));
    assert_eq!(cpu.phys_read(PhysAddr(0x5000), 8), 0x00ff_0000_ff00_00ff, "nothing is stored then");
}

#[test]
fn mxcsr() {
    let mut cpu = cpu(32);
    let ldmxcsr = &[0x0f, 0xae, 0x15, 0x00, 0x30, 0x00, 0x00];
    cpu.phys_write(PhysAddr(0x3000), 4, 0x1_0000);
    assert_eq!(vector(&mut cpu, ldmxcsr), Some(Vector::GP));
    assert_eq!(cpu.state.mxcsr, 0x1f80);
    cpu.phys_write(PhysAddr(0x3000), 4, 0xffc0);
    assert_eq!(execute(&mut cpu, ldmxcsr), Ok(()));
    assert_eq!(cpu.state.mxcsr, 0xffc0);
    cpu.phys_write(PhysAddr(0x3000), 4, 0);
    assert_eq!(execute(&mut cpu, ldmxcsr), Ok(()));
    assert!(cpu.state.mode.contains(Mode::FP_UNMASKED), "the mode follows");
}
