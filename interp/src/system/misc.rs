//! The remaining system instructions.

use super::deliver::{Kind, event_through_vector_table, interrupt};
use super::{canonical, cpl0, cr, seg, smm};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::features::{ext1_edx, leaf1_ecx, leaf7_ebx, leaf7_ecx, xsave_eax};
use emu_core::state::bits::{cr0, cr4, rflags};
use emu_core::state::{Activity, Seg, gpr};
use std::mem::swap;

/// HLT. The caller moves RIP on; the processor then waits in `deliver::service`.
///
/// # Errors
/// #GP(0).
pub fn hlt(cpu: &mut Cpu) -> Result<(), Exception> {
    cpl0(cpu)?;
    cpu.state.activity = Activity::Halted;
    Ok(())
}

/// INVLPG of a linear address; one that is not canonical does nothing.
///
/// # Errors
/// #GP(0).
pub fn invlpg(cpu: &mut Cpu, lin: u64) -> Result<(), Exception> {
    cpl0(cpu)?;
    if canonical(cpu, lin) {
        cpu.invlpg(lin);
    }
    Ok(())
}

/// INVPCID; `desc` is the 16-byte memory operand (check [`super::cpl0`] before reading it).
///
/// # Errors
/// #UD where it is not offered, #GP(0) for bad operands.
pub fn invpcid(cpu: &mut Cpu, kind: u64, desc: u128) -> Result<(), Exception> {
    if cpu.features.leaf7_ebx & leaf7_ebx::INVPCID == 0 {
        return Err(Exception::ud());
    }
    cpl0(cpu)?;
    let (low, lin) = (desc as u64, (desc >> 64) as u64);
    let pcid = (low & 0xfff) as u16;
    let no_pcids = cpu.state.cr4 & cr4::PCIDE == 0;
    let bad =
        kind > 3 || low >> 12 != 0 || kind == 0 && !canonical(cpu, lin) || kind <= 1 && no_pcids && pcid != 0;
    if bad {
        return Err(Exception::gp0());
    }
    cpu.invpcid(kind, pcid, lin);
    Ok(())
}

/// INVD, WBINVD, WBNOINVD: there is no cache to write back.
///
/// # Errors
/// #GP(0).
pub fn wbinvd(cpu: &mut Cpu) -> Result<(), Exception> {
    cpl0(cpu)
}

/// CLTS.
///
/// # Errors
/// #GP(0).
pub fn clts(cpu: &mut Cpu) -> Result<(), Exception> {
    cpl0(cpu)?;
    cpu.state.cr0 &= !cr0::TS;
    cpu.mode_changed();
    Ok(())
}

/// LMSW.
///
/// # Errors
/// #GP(0).
pub fn lmsw(cpu: &mut Cpu, value: u16) -> Result<(), Exception> {
    cr::lmsw(cpu, value)
}

/// SMSW: the value to store (CR0; memory and 16-bit operands take the low word).
///
/// # Errors
/// #GP(0) under UMIP.
pub fn smsw(cpu: &Cpu) -> Result<u64, Exception> {
    cr::check_umip(cpu)?;
    Ok(cpu.state.cr0)
}

/// SWAPGS.
///
/// # Errors
/// #UD outside 64-bit code, #GP(0).
pub fn swapgs(cpu: &mut Cpu) -> Result<(), Exception> {
    if !cpu.state.is_long64() {
        return Err(Exception::ud());
    }
    cpl0(cpu)?;
    let s = &mut cpu.state;
    swap(&mut s.seg[Seg::GS as usize].base, &mut s.msr.kernel_gs_base);
    Ok(())
}

/// Puts `value` into EDX:EAX, clearing the upper halves.
pub(super) fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.state.gpr[gpr::RAX] = value & 0xffff_ffff;
    cpu.state.gpr[gpr::RDX] = value >> 32;
}

fn check_tsd(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & cr4::TSD != 0 { cpl0(cpu) } else { Ok(()) }
}

/// RDTSC: sets EDX:EAX.
///
/// # Errors
/// #GP(0) under CR4.TSD.
pub fn rdtsc(cpu: &mut Cpu) -> Result<(), Exception> {
    check_tsd(cpu)?;
    let tsc = cpu.tsc();
    set_edx_eax(cpu, tsc);
    Ok(())
}

/// RDTSCP: sets EDX:EAX and ECX.
///
/// # Errors
/// #UD where it is not offered, #GP(0) under CR4.TSD.
pub fn rdtscp(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.features.ext1_edx & ext1_edx::RDTSCP == 0 {
        return Err(Exception::ud());
    }
    rdtsc(cpu)?;
    cpu.state.gpr[gpr::RCX] = cpu.state.msr.tsc_aux & 0xffff_ffff;
    Ok(())
}

/// RDPMC. CPUID offers no counter, so every index is out of range.
///
/// # Errors
/// #GP(0).
pub fn rdpmc(_cpu: &mut Cpu) -> Result<(), Exception> {
    Err(Exception::gp0())
}

/// RDPID: the value to store.
///
/// # Errors
/// #UD where it is not offered.
pub fn rdpid(cpu: &Cpu) -> Result<u64, Exception> {
    if cpu.features.leaf7_ecx & leaf7_ecx::RDPID == 0 {
        return Err(Exception::ud());
    }
    Ok(cpu.state.msr.tsc_aux)
}

fn check_monitor(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.features.leaf1_ecx & leaf1_ecx::MONITOR == 0 || cpu.state.cpl() != 0 {
        return Err(Exception::ud());
    }
    if cpu.state.gpr[gpr::RCX] as u32 > 1 {
        return Err(Exception::gp0());
    }
    Ok(())
}

/// MONITOR. Nothing is armed, since [`mwait`] does not wait.
///
/// # Errors
/// #UD where it is not offered and above CPL 0, #GP(0) for unknown extensions.
pub fn monitor(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.gpr[gpr::RCX] as u32 != 0 {
        check_monitor(cpu)?;
        return Err(Exception::gp0());
    }
    check_monitor(cpu)
}

/// MWAIT: goes on at once, which the manual allows at any time.
///
/// # Errors
/// As for [`monitor`].
pub fn mwait(cpu: &mut Cpu) -> Result<(), Exception> {
    check_monitor(cpu)
}

/// XGETBV: sets EDX:EAX. Index 1 (XINUSE) counts every enabled component as in use.
///
/// # Errors
/// #UD without CR4.OSXSAVE, #GP(0) for other indices.
pub fn xgetbv(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & cr4::OSXSAVE == 0 {
        return Err(Exception::ud());
    }
    match cpu.state.gpr[gpr::RCX] as u32 {
        0 => {}
        1 if cpu.features.xsave_eax & xsave_eax::XGETBV1 != 0 => {}
        _ => return Err(Exception::gp0()),
    }
    let value = cpu.state.xcr0;
    set_edx_eax(cpu, value);
    Ok(())
}

/// XSETBV of EDX:EAX.
///
/// # Errors
/// #UD without CR4.OSXSAVE, #GP(0).
pub fn xsetbv(cpu: &mut Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & cr4::OSXSAVE == 0 {
        return Err(Exception::ud());
    }
    cpl0(cpu)?;
    if cpu.state.gpr[gpr::RCX] as u32 != 0 {
        return Err(Exception::gp0());
    }
    let value = cpu.state.gpr[gpr::RAX] & 0xffff_ffff | cpu.state.gpr[gpr::RDX] << 32;
    cr::write_xcr0(cpu, value)
}

/// INT n, with the redirection of virtual-8086 mode (SDM vol. 3B, table 20-2).
///
/// # Errors
/// The faults of delivery; #GP(0) where a virtual-8086 monitor has to step in.
pub fn int_n(cpu: &mut Cpu, vector: u8, next_rip: u64) -> Result<(), Exception> {
    if cpu.state.v86() {
        if cpu.state.cr4 & cr4::VME != 0 && !redirected(cpu, vector)? {
            return event_through_vector_table(cpu, vector, next_rip);
        }
        if cpu.state.rflags & rflags::IOPL != rflags::IOPL {
            return Err(Exception::gp0());
        }
    }
    interrupt(cpu, vector, Kind::Software { next_rip })
}

/// Whether the software-interrupt bitmap of the TSS sends `vector` to the protected-mode handler.
fn redirected(cpu: &mut Cpu, vector: u8) -> Result<bool, Exception> {
    let tr = cpu.state.tr;
    if !tr.present() || tr.attr & 8 == 0 || tr.limit < 0x67 {
        return Err(Exception::gp0());
    }
    // The 32 bytes end where the I/O bitmap begins.
    let map = seg::read(cpu, tr.base.wrapping_add(0x66), 2)?;
    let at = (map + u64::from(vector >> 3)).wrapping_sub(32);
    if map < 32 || at > tr.limit.into() {
        return Err(Exception::gp0());
    }
    let byte = seg::read(cpu, tr.base.wrapping_add(at), 1)?;
    Ok(byte >> (vector & 7) & 1 != 0)
}

/// INT3.
///
/// # Errors
/// The faults of delivery.
pub fn int3(cpu: &mut Cpu, next_rip: u64) -> Result<(), Exception> {
    interrupt(cpu, Vector::BP as u8, Kind::Int3 { next_rip })
}

/// INT1 (ICEBP).
///
/// # Errors
/// The faults of delivery.
pub fn int1(cpu: &mut Cpu, next_rip: u64) -> Result<(), Exception> {
    interrupt(cpu, Vector::DB as u8, Kind::Int1 { next_rip })
}

/// INTO: traps if OF is set; otherwise the caller goes on at `next_rip` (false).
///
/// # Errors
/// #UD in 64-bit code; the faults of delivery.
pub fn into(cpu: &mut Cpu, next_rip: u64) -> Result<bool, Exception> {
    if cpu.state.is_long64() {
        return Err(Exception::ud());
    }
    if cpu.state.rflags & rflags::OF == 0 {
        return Ok(false);
    }
    interrupt(cpu, Vector::OF as u8, Kind::Into { next_rip })?;
    Ok(true)
}

/// RSM.
///
/// # Errors
/// #UD outside system-management mode.
pub fn rsm(cpu: &mut Cpu) -> Result<(), Exception> {
    smm::leave(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;

    #[test]
    fn privileged_instructions_are_refused_to_users() {
        let mut b = Bed::long().user(USER_CODE64);
        let gp = Err(Exception::gp0());
        for op in [hlt, wbinvd, clts, swapgs, rdpmc] {
            assert_eq!(op(&mut b.cpu), gp);
        }
        assert_eq!(invlpg(&mut b.cpu, 0), gp);
        assert_eq!(lmsw(&mut b.cpu, 0), gp);
        assert_eq!(rsm(&mut b.cpu), Err(Exception::ud()));
        assert_eq!(monitor(&mut b.cpu), Err(Exception::ud()));
        rdtsc(&mut b.cpu).unwrap();
        b.cpu.state.cr4 |= cr4::TSD;
        assert_eq!(rdtscp(&mut b.cpu), gp);
    }

    #[test]
    fn swapgs_swaps_and_needs_64_bit_code() {
        let mut b = Bed::long();
        b.cpu.state.msr.kernel_gs_base = 0x1234;
        swapgs(&mut b.cpu).unwrap();
        assert_eq!(b.cpu.state.seg[Seg::GS as usize].base, 0x1234);
        assert_eq!(b.cpu.state.msr.kernel_gs_base, 0);
        b.enter(CODE32, DATA);
        assert_eq!(swapgs(&mut b.cpu), Err(Exception::ud()));
    }

    #[test]
    fn invpcid_operands() {
        let mut b = Bed::long();
        invpcid(&mut b.cpu, 2, 0).unwrap();
        let bad = [(4, 0), (0, 1), (1, 5), (0, 1u128 << 127), (3, 1 << 12)];
        for (kind, desc) in bad {
            assert_eq!(invpcid(&mut b.cpu, kind, desc), Err(Exception::gp0()), "{kind} {desc:#x}");
        }
        b.cpu.state.cr4 |= cr4::PCIDE;
        invpcid(&mut b.cpu, 1, 5).unwrap();
    }

    #[test]
    fn time_stamp_counter() {
        let mut b = Bed::long();
        b.cpu.clock.advance_to(0x12_3456_7890);
        b.cpu.state.msr.tsc_aux = 7;
        b.cpu.state.gpr[gpr::RAX] = u64::MAX;
        rdtscp(&mut b.cpu).unwrap();
        let g = &b.cpu.state.gpr;
        assert_eq!((g[gpr::RAX], g[gpr::RDX], g[gpr::RCX]), (0x3456_7890, 0x12, 7));
        assert_eq!(rdpid(&b.cpu), Ok(7));
    }

    #[test]
    fn extended_control_registers() {
        let mut b = Bed::long();
        assert_eq!(xgetbv(&mut b.cpu), Err(Exception::ud()));
        b.cpu.state.cr4 |= cr4::OSXSAVE;
        b.cpu.state.gpr[gpr::RAX] = 3;
        b.cpu.state.gpr[gpr::RDX] = 0;
        xsetbv(&mut b.cpu).unwrap();
        b.cpu.state.gpr[gpr::RAX] = 0;
        xgetbv(&mut b.cpu).unwrap();
        assert_eq!(b.cpu.state.gpr[gpr::RAX], 3);
        b.cpu.state.gpr[gpr::RCX] = 2;
        assert_eq!(xgetbv(&mut b.cpu), Err(Exception::gp0()));
        assert_eq!(xsetbv(&mut b.cpu), Err(Exception::gp0()));
    }

    #[test]
    fn into_and_the_one_byte_interrupts() {
        let mut b = Bed::protected().user(USER_CODE32);
        for vector in [1, 3, 4] {
            b.gate32(vector, CODE32, HANDLER, 0x8e | 3 << 5);
        }
        assert_eq!(into(&mut b.cpu, CODE + 1), Ok(false));
        b.cpu.state.rflags |= rflags::OF;
        assert_eq!(into(&mut b.cpu, CODE + 1), Ok(true));
        assert_eq!(b.stack(4, 1), [CODE + 1]);
        // INT3 needs the gate's permission, INT1 does not.
        let mut b = b.user(USER_CODE32);
        b.gate32(3, CODE32, HANDLER, 0x8e);
        b.gate32(1, CODE32, HANDLER, 0x8e);
        let denied = Exception::with_error(Vector::GP, 3 * 8 + 2);
        assert_eq!(int3(&mut b.cpu, CODE + 1), Err(denied));
        int1(&mut b.cpu, CODE + 1).unwrap();
    }
}
