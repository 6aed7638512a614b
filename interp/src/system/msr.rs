//! RDMSR and WRMSR (SDM vol. 4).
//!
//! A register that is not here raises #GP(0), which every guest is prepared for; it is logged at debug level.

use super::deliver::interrupts_enabled;
use super::{canonical, cpl0, kvmclock, mtrr};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::features::{Features, ext1_edx, leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx};
use emu_core::state::Seg;
use emu_core::state::bits::{cr0, efer};

/// IA32_ARCH_CAPABILITIES: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO,
/// SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO: nothing here speculates.
pub const ARCH_CAPABILITIES: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;

/// Machine-check banks; nothing is ever reported in them.
const MC_BANKS: u32 = 4;
const MC_FIRST: u32 = 0x400;
const MC_LAST: u32 = MC_FIRST + 4 * MC_BANKS - 1;

/// CPUID.7.0:EDX of IA32_SPEC_CTRL and IA32_PRED_CMD, of IA32_FLUSH_CMD, of IA32_ARCH_CAPABILITIES and of SSBD.
const SPEC_CTRL: u32 = 1 << 26;
const FLUSH_L1D: u32 = 1 << 28;
const HAS_ARCH_CAPABILITIES: u32 = 1 << 29;
const SSBD: u32 = 1 << 31;

/// RDMSR with its privilege check.
///
/// # Errors
/// #GP(0).
pub fn rdmsr(cpu: &mut Cpu, ecx: u32) -> Result<u64, Exception> {
    cpl0(cpu)?;
    read(cpu, ecx).ok_or_else(|| {
        tracing::debug!("RDMSR of unknown {ecx:#x} at {:#x}", cpu.state.rip);
        Exception::gp0()
    })
}

/// WRMSR with its privilege check.
///
/// # Errors
/// #GP(0), also for values that are not allowed.
pub fn wrmsr(cpu: &mut Cpu, ecx: u32, value: u64) -> Result<(), Exception> {
    cpl0(cpu)?;
    write(cpu, ecx, value).ok_or_else(|| {
        tracing::debug!("WRMSR of {value:#x} to {ecx:#x} refused at {:#x}", cpu.state.rip);
        Exception::gp0()
    })
}

/// Whether the feature that an MSR belongs to is offered.
fn exists(f: &Features, index: u32) -> bool {
    let (d, x) = (f.leaf1_edx, f.ext1_edx);
    match index {
        0x10 => d & leaf1_edx::TSC != 0,
        0x1b => d & leaf1_edx::APIC != 0,
        0x800..=0x8ff => f.leaf1_ecx & leaf1_ecx::X2APIC != 0,
        0x174..=0x176 => d & leaf1_edx::SEP != 0,
        0x277 => d & leaf1_edx::PAT != 0,
        0xfe | 0x200..=0x2ff => d & leaf1_edx::MTRR != 0,
        0x179 | 0x17a | MC_FIRST..=MC_LAST => d & leaf1_edx::MCA != 0,
        0x11 | 0x12 | 0x4b56_4d00..=0x4b56_4dff => f.leaf1_ecx & leaf1_ecx::HYPERVISOR != 0,
        0xc000_0080 => efer_allowed(f) & !efer::LMA != 0,
        0xc000_0081..=0xc000_0084 => x & ext1_edx::SYSCALL != 0,
        0xc000_0100..=0xc000_0102 => f.long_mode(),
        0xc000_0103 => x & ext1_edx::RDTSCP != 0 || f.leaf7_ecx & leaf7_ecx::RDPID != 0,
        _ => true,
    }
}

/// The bits of IA32_EFER that there are.
pub(super) fn efer_allowed(f: &Features) -> u64 {
    let mut known = efer::LMA;
    let mut add = |bit: u32, flag: u64| known |= if f.ext1_edx & bit != 0 { flag } else { 0 };
    add(ext1_edx::SYSCALL, efer::SCE);
    add(ext1_edx::NX, efer::NXE);
    add(ext1_edx::LM, efer::LME);
    known
}

/// The value of an MSR, without privilege check; None where RDMSR raises #GP(0).
pub fn read(cpu: &mut Cpu, index: u32) -> Option<u64> {
    if !exists(&cpu.features, index) {
        return None;
    }
    let s = &cpu.state;
    let f = &cpu.features;
    Some(match index {
        0x10 => cpu.tsc(),
        0x1b => cpu.irq.apic_base(),
        // IA32_PLATFORM_ID, EBL_CR_POWERON, MISC_FEATURES_ENABLES, IA32_PERF_STATUS, MCG_STATUS, LBRs.
        0x17 | 0x2a | 0x140 | 0x198 | 0x17a | 0x1db..=0x1de => 0,
        // IA32_FEATURE_CONTROL: locked, nothing enabled.
        0x3a => 1,
        0x3b if f.leaf7_ebx & leaf7_ebx::TSC_ADJUST != 0 => s.msr.tsc_adjust,
        0x48 if f.leaf7_edx & SPEC_CTRL != 0 => s.msr.spec_ctrl,
        // IA32_BIOS_SIGN_ID: microcode revision 1.
        0x8b => 1 << 32,
        // PLATFORM_INFO: ratio 10 to a bus of 100 MHz; no CPUID faulting.
        0xce => 10 << 8,
        0x10a if f.leaf7_edx & HAS_ARCH_CAPABILITIES != 0 => ARCH_CAPABILITIES,
        0x11 | 0x4b56_4d00 => s.msr.kvm_wall_clock,
        0x12 | 0x4b56_4d01 => s.msr.kvm_system_time,
        0x4b56_4d05 => s.msr.kvm_poll_control,
        0x174 => s.msr.sysenter_cs,
        0x175 => s.msr.sysenter_esp,
        0x176 => s.msr.sysenter_eip,
        0x179 => MC_BANKS.into(),
        0x1a0 => s.msr.misc_enable,
        0x1d9 => s.msr.debugctl,
        0x277 => s.msr.pat,
        0xfe | 0x200..=0x2ff => return mtrr::read(cpu, index),
        // IA32_MCi_CTL reads as all enabled; status, address and misc as empty.
        MC_FIRST..=MC_LAST => {
            if index & 3 == 0 {
                u64::MAX
            } else {
                0
            }
        }
        0x6e0 if f.leaf1_ecx & leaf1_ecx::TSC_DEADLINE != 0 => cpu.irq.tsc_deadline(),
        0x800..=0x8ff => return cpu.irq.x2apic_read(index),
        0xda0 if f.xsave_eax & 8 != 0 => s.msr.xss,
        0xc000_0080 => s.efer,
        0xc000_0081 => s.msr.star,
        0xc000_0082 => s.msr.lstar,
        0xc000_0083 => s.msr.cstar,
        0xc000_0084 => s.msr.fmask,
        0xc000_0100 => s.seg[Seg::FS as usize].base,
        0xc000_0101 => s.seg[Seg::GS as usize].base,
        0xc000_0102 => s.msr.kernel_gs_base,
        0xc000_0103 => s.msr.tsc_aux,
        _ => return None,
    })
}

/// Writes an MSR, without privilege check; None, with nothing changed, where WRMSR raises #GP(0).
pub fn write(cpu: &mut Cpu, index: u32, value: u64) -> Option<()> {
    let f = cpu.features;
    if !exists(&f, index) {
        return None;
    }
    let canonical_value = canonical(cpu, value);
    let m = &mut cpu.state.msr;
    match index {
        0x10 => move_tsc(cpu, value.wrapping_sub(cpu.tsc())),
        0x1b => {
            allow(cpu.irq.set_apic_base(value))?;
            interrupts_enabled(cpu);
        }
        // Microcode update and signature: accepted, nothing to do.
        0x79 | 0x8b => {}
        0x3b if f.leaf7_ebx & leaf7_ebx::TSC_ADJUST != 0 => {
            let delta = value.wrapping_sub(m.tsc_adjust);
            move_tsc(cpu, delta);
        }
        0x48 if f.leaf7_edx & SPEC_CTRL != 0 => {
            // IBRS and STIBP always, SSBD where it is offered.
            let known = 3 | if f.leaf7_edx & SSBD != 0 { 4 } else { 0 };
            allow(value & !known == 0)?;
            m.spec_ctrl = value;
        }
        // IA32_PRED_CMD and IA32_FLUSH_CMD: write-only commands without effect here.
        0x49 if f.leaf7_edx & SPEC_CTRL != 0 => allow(value & !1 == 0)?,
        0x10b if f.leaf7_edx & FLUSH_L1D != 0 => allow(value & !1 == 0)?,
        0x140 | 0x198 => allow(value == 0)?,
        0x11 | 0x4b56_4d00 => kvmclock::write_wall_clock(cpu, value),
        0x12 | 0x4b56_4d01 => kvmclock::write_system_time(cpu, value),
        0x4b56_4d05 => {
            allow(value & !1 == 0)?;
            m.kvm_poll_control = value;
        }
        0x174 => m.sysenter_cs = value & 0xffff_ffff,
        0x175 => {
            allow(canonical_value)?;
            m.sysenter_esp = value;
        }
        0x176 => {
            allow(canonical_value)?;
            m.sysenter_eip = value;
        }
        // IA32_MCG_STATUS: nothing to clear.
        0x17a => {}
        0x1a0 => m.misc_enable = value,
        0x1d9 => {
            // LBR and the freeze and trace enables are kept without effect; BTF makes single steps branch steps.
            allow(value & !0xdfc3 == 0)?;
            m.debugctl = value;
        }
        0x277 => {
            allow(value.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4..=7)))?;
            m.pat = value;
        }
        0x200..=0x2ff => return mtrr::write(cpu, index, value),
        MC_FIRST..=MC_LAST => allow(index & 3 == 0 || value == 0)?,
        0x6e0 if f.leaf1_ecx & leaf1_ecx::TSC_DEADLINE != 0 => cpu.irq.set_tsc_deadline(value),
        0x800..=0x8ff => {
            allow(cpu.irq.x2apic_write(index, value))?;
            interrupts_enabled(cpu);
        }
        // IA32_XSS: no supervisor component is offered.
        0xda0 if f.xsave_eax & 8 != 0 => allow(value == 0)?,
        0xc000_0080 => return write_efer(cpu, value),
        0xc000_0081 => m.star = value,
        0xc000_0082 => {
            allow(canonical_value)?;
            m.lstar = value;
        }
        0xc000_0083 => {
            allow(canonical_value)?;
            m.cstar = value;
        }
        0xc000_0084 => {
            allow(value >> 32 == 0)?;
            m.fmask = value;
        }
        0xc000_0100 | 0xc000_0101 => {
            allow(canonical_value)?;
            let seg = if index & 1 == 0 { Seg::FS } else { Seg::GS };
            cpu.state.seg[seg as usize].base = value;
        }
        0xc000_0102 => {
            allow(canonical_value)?;
            m.kernel_gs_base = value;
        }
        0xc000_0103 => {
            allow(value >> 32 == 0)?;
            m.tsc_aux = value;
        }
        _ => return None,
    }
    Some(())
}

fn allow(ok: bool) -> Option<()> {
    ok.then_some(())
}

/// Adds `delta` to the TSC, which shows in IA32_TSC_ADJUST (SDM vol. 3B, 17.17.3) and in the guest's kvmclock.
fn move_tsc(cpu: &mut Cpu, delta: u64) {
    let m = &mut cpu.state.msr;
    m.tsc_offset = m.tsc_offset.wrapping_add(delta);
    m.tsc_adjust = m.tsc_adjust.wrapping_add(delta);
    kvmclock::refresh(cpu);
}

/// IA32_EFER (SDM vol. 3A, 2.2.1): LMA is read-only, LME only changes while paging is off.
fn write_efer(cpu: &mut Cpu, value: u64) -> Option<()> {
    let known = efer_allowed(&cpu.features);
    let s = &cpu.state;
    let (old0, old4, old) = (s.cr0, s.cr4, s.efer);
    allow(value & !known == 0)?;
    allow((value ^ old) & efer::LME == 0 || old0 & cr0::PG == 0)?;
    cpu.state.efer = value & !efer::LMA | old & efer::LMA;
    cpu.paging_changed(old0, old4, old);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;

    const GP: Result<(), Exception> = Err(Exception::gp0());

    #[test]
    fn only_at_cpl_0() {
        let mut b = Bed::long().user(USER_CODE64);
        assert_eq!(rdmsr(&mut b.cpu, 0x10), Err(Exception::gp0()));
        assert_eq!(wrmsr(&mut b.cpu, 0x10, 0), GP);
    }

    #[test]
    fn models_have_the_registers_of_their_features() {
        let there = |model: &str, index: u32| {
            let mut b = Bed::protected();
            b.cpu.features = Features::parse(model).unwrap();
            rdmsr(&mut b.cpu, index).is_ok()
        };
        assert!(there("pentium", 0x10) && !there("pentium", 0x277) && !there("pentium", 0xc000_0080));
        assert!(there("pentium3", 0x174) && there("pentium3", 0x277) && !there("pentium3", 0xc000_0080));
        assert!(there("x86-64-v1", 0xc000_0080) && there("x86-64-v1", 0x4b56_4d01));
        assert!(!there("x86-64-v1,-hypervisor", 0x4b56_4d01));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut b = Bed::long();
        let plain = [
            0x48,
            0x174,
            0x175,
            0x176,
            0x1a0,
            0x200,
            0x20f,
            0x250,
            0x259,
            0x26f,
            0x2ff,
            0x277,
            0xc000_0081,
            0xc000_0082,
            0xc000_0083,
            0xc000_0084,
            0xc000_0100,
            0xc000_0101,
            0xc000_0102,
            0xc000_0103,
        ];
        for index in plain {
            let value = if matches!(index, 0x20f) { 0x800 } else { 1 };
            wrmsr(&mut b.cpu, index, value).unwrap();
            assert_eq!(rdmsr(&mut b.cpu, index), Ok(value), "{index:#x}");
        }
    }

    #[test]
    fn refused_values_and_registers() {
        let mut b = Bed::long();
        let bad = [
            (0x48, 8),
            (0x49, 2),
            (0x175, 1 << 63),
            (0x277, 2),
            (0x200, 2),
            (0x201, 1 << 50),
            (0x2ff, 1 << 12),
            (0x250, 0x0707),
            (0x10a, 0),
            (0xfe, 0),
            (0xda0, 1 << 8),
            (0x802, 0),
            (0xc000_0080, 1 << 1),
            (0xc000_0080, 0),
            (0xc000_0082, 1 << 47),
            (0xc000_0084, 1 << 32),
            (0xc000_0103, 1 << 32),
            (0xdead, 0),
        ];
        for (index, value) in bad {
            assert_eq!(wrmsr(&mut b.cpu, index, value), GP, "{index:#x}");
        }
        for index in [0x49, 0x802, 0xc1, 0x186, 0x480, 0x606, 0x1000, 0xdead] {
            assert_eq!(rdmsr(&mut b.cpu, index), Err(Exception::gp0()), "{index:#x}");
        }
    }

    #[test]
    fn the_tsc_and_its_adjustment_move_together() {
        let mut b = Bed::long();
        b.cpu.clock.advance_to(1000);
        wrmsr(&mut b.cpu, 0x10, 5000).unwrap();
        assert_eq!(rdmsr(&mut b.cpu, 0x10), Ok(5000));
        assert_eq!(rdmsr(&mut b.cpu, 0x3b), Ok(4000));
        wrmsr(&mut b.cpu, 0x3b, 0).unwrap();
        assert_eq!(rdmsr(&mut b.cpu, 0x10), Ok(1000));
    }

    #[test]
    fn efer_keeps_lma_and_drops_stale_translations() {
        let mut b = Bed::long();
        wrmsr(&mut b.cpu, 0xc000_0080, efer::LME | efer::NXE).unwrap();
        assert_eq!(b.cpu.state.efer, efer::LME | efer::LMA | efer::NXE);
    }

    #[test]
    fn kvmclock_pages() {
        let mut b = Bed::long();
        b.cpu.boot_wall_ns = 1_700_000_000_000_000_123;
        b.cpu.clock.advance_to(777);
        wrmsr(&mut b.cpu, 0x10, 1000).unwrap();
        wrmsr(&mut b.cpu, 0x4b56_4d01, 0x6000 | 1).unwrap();
        assert_eq!(b.peek(0x6000, 4), 2);
        let (tsc, ns) = (b.peek(0x6008, 8), b.peek(0x6010, 8));
        assert_eq!((tsc, ns), (1000, 777));
        let (mul, shift) = (b.peek(0x6018, 4), b.peek(0x601c, 1));
        let later = 5_000_000_000u64;
        let scaled = (u128::from(later) << shift) * u128::from(mul);
        assert_eq!(scaled >> 32, u128::from(later));
        assert_eq!(b.peek(0x601d, 1), 1);
        wrmsr(&mut b.cpu, 0x10, 0).unwrap();
        assert_eq!((b.peek(0x6000, 4), b.peek(0x6008, 8)), (4, 0));

        wrmsr(&mut b.cpu, 0x4b56_4d00, 0x6100).unwrap();
        assert_eq!((b.peek(0x6104, 4), b.peek(0x6108, 4)), (1_700_000_000, 123));
        wrmsr(&mut b.cpu, 0x4b56_4d00, u64::MAX).unwrap();
    }
}
