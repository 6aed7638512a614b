//! Control registers, XCR0 and debug registers (SDM vol. 3A, 2.5; vol. 3B, 17.2).

use super::deliver::{self, interrupts_enabled};
use super::task::pae_paging;
use super::{canonical, cpl0};
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::features::{leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx};
use emu_core::mmu::walk::PHYS_BITS;
use emu_core::state::bits::{cr0, cr4, efer, rflags, xcr0};
use emu_core::state::segment::attr;
use emu_core::state::{Mode, Seg};

const CR0_ALL: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

/// MOV from CR0, CR2, CR3, CR4 or CR8.
///
/// # Errors
/// #UD for other numbers, #GP(0) above CPL 0.
pub fn read(cpu: &mut Cpu, n: u8) -> Result<u64, Exception> {
    check_number(cpu, n)?;
    cpl0(cpu)?;
    Ok(match n {
        0 => cpu.state.cr0,
        2 => cpu.state.cr2,
        3 => cpu.state.cr3,
        4 => cpu.state.cr4,
        _ => cpu.irq.cr8().into(),
    })
}

/// MOV to CR0, CR2, CR3, CR4 or CR8; 32-bit code passes the value zero-extended.
///
/// # Errors
/// #UD for other numbers, #GP(0) above CPL 0 and for values that are not allowed.
pub fn write(cpu: &mut Cpu, n: u8, value: u64) -> Result<(), Exception> {
    check_number(cpu, n)?;
    cpl0(cpu)?;
    match n {
        0 => write_cr0(cpu, value),
        2 => {
            cpu.state.cr2 = value;
            Ok(())
        }
        3 => write_cr3(cpu, value),
        4 => write_cr4(cpu, value),
        _ => write_cr8(cpu, value),
    }
}

fn check_number(cpu: &Cpu, n: u8) -> Result<(), Exception> {
    let known = matches!(n, 0 | 2 | 3 | 4) || n == 8 && cpu.state.is_long64();
    if known { Ok(()) } else { Err(Exception::ud()) }
}

pub(super) fn write_cr0(cpu: &mut Cpu, value: u64) -> Result<(), Exception> {
    if value >> 32 != 0
        || value & cr0::PG != 0 && value & cr0::PE == 0
        || value & cr0::NW != 0 && value & cr0::CD == 0
    {
        return Err(Exception::gp0());
    }
    let new = value & CR0_ALL | cr0::ET;
    let (old0, old4, old_efer) = (cpu.state.cr0, cpu.state.cr4, cpu.state.efer);
    let mut new_efer = old_efer;
    if (old0 ^ new) & cr0::PG != 0 {
        if new & cr0::PG != 0 {
            if old_efer & efer::LME != 0 {
                let tss16 = cpu.state.tr.attr & 0xf == 3 || cpu.state.tr.attr & 0xf == 1;
                let long_cs = cpu.state.seg[Seg::CS as usize].attr & attr::L != 0;
                if old4 & cr4::PAE == 0 || long_cs || tss16 {
                    return Err(Exception::gp0());
                }
                new_efer |= efer::LMA;
            }
        } else {
            if cpu.state.is_long64() || old4 & cr4::PCIDE != 0 {
                return Err(Exception::gp0());
            }
            new_efer &= !efer::LMA;
        }
    }
    let pdpte_bits = cr0::PG | cr0::CD | cr0::NW;
    if (old0 ^ new) & pdpte_bits != 0 && pae_paging(new, old4, new_efer & efer::LMA != 0) {
        check_table(cpu, cpu.state.cr3)?;
    }
    cpu.state.cr0 = new;
    cpu.state.efer = new_efer;
    cpu.paging_changed(old0, old4, old_efer);
    Ok(())
}

fn write_cr3(cpu: &mut Cpu, value: u64) -> Result<(), Exception> {
    let mut reserved = 0;
    if cpu.state.long_mode() {
        reserved = !((1 << PHYS_BITS) - 1);
        if cpu.state.cr4 & cr4::PCIDE != 0 {
            reserved &= !(1 << 63);
        }
    }
    if value & reserved != 0 {
        return Err(Exception::gp0());
    }
    check_pdptes(cpu, value, cpu.state.cr4)?;
    cpu.load_cr3(value);
    Ok(())
}

/// #GP(0) if PAE paging is in use and the four PDPTEs at `cr3` set reserved bits (SDM vol. 3A, 4.4.1).
pub(super) fn check_pdptes(cpu: &mut Cpu, cr3: u64, cr4v: u64) -> Result<(), Exception> {
    if pae_paging(cpu.state.cr0, cr4v, cpu.state.long_mode()) {
        check_table(cpu, cr3)?;
    }
    Ok(())
}

fn check_table(cpu: &mut Cpu, cr3: u64) -> Result<(), Exception> {
    let reserved = !((1 << PHYS_BITS) - 1) | 0x1e6;
    for i in 0..4 {
        let entry = cpu.phys_read(PhysAddr((cr3 & 0xffff_ffe0) + 8 * i), 8);
        if entry & 1 != 0 && entry & reserved != 0 {
            return Err(Exception::gp0());
        }
    }
    Ok(())
}

/// The bits of CR4 that the offered features allow.
pub fn cr4_allowed(cpu: &Cpu) -> u64 {
    let f = &cpu.features;
    let mut all = 0;
    let mut add = |on: bool, bit: u64| all |= if on { bit } else { 0 };
    let d = f.leaf1_edx;
    add(d & leaf1_edx::VME != 0, cr4::VME | cr4::PVI);
    add(d & leaf1_edx::TSC != 0, cr4::TSD);
    add(d & leaf1_edx::DE != 0, cr4::DE);
    add(d & leaf1_edx::PSE != 0, cr4::PSE);
    add(d & leaf1_edx::PAE != 0, cr4::PAE);
    add(d & leaf1_edx::MCE != 0, cr4::MCE);
    add(d & leaf1_edx::PGE != 0, cr4::PGE);
    // Whoever has RDPMC.
    add(d & (leaf1_edx::CMOV | leaf1_edx::MMX) != 0, cr4::PCE);
    add(d & leaf1_edx::FXSR != 0, cr4::OSFXSR);
    add(d & leaf1_edx::SSE != 0, cr4::OSXMMEXCPT);
    add(f.leaf1_ecx & leaf1_ecx::PCID != 0, cr4::PCIDE);
    add(f.leaf1_ecx & leaf1_ecx::XSAVE != 0, cr4::OSXSAVE);
    add(f.leaf7_ebx & leaf7_ebx::FSGSBASE != 0, cr4::FSGSBASE);
    add(f.leaf7_ebx & leaf7_ebx::SMEP != 0, cr4::SMEP);
    add(f.leaf7_ebx & leaf7_ebx::SMAP != 0, cr4::SMAP);
    add(f.leaf7_ecx & leaf7_ecx::UMIP != 0, cr4::UMIP);
    add(f.leaf7_ecx & leaf7_ecx::PKU != 0, cr4::PKE);
    add(f.leaf7_ecx & leaf7_ecx::LA57 != 0, cr4::LA57);
    all
}

fn write_cr4(cpu: &mut Cpu, value: u64) -> Result<(), Exception> {
    let s = &cpu.state;
    let (old0, old, old_efer) = (s.cr0, s.cr4, s.efer);
    let lma = s.long_mode();
    let bad_long = lma && (value & cr4::PAE == 0 || (value ^ old) & cr4::LA57 != 0);
    let sets_pcide = value & !old & cr4::PCIDE != 0;
    if value & !cr4_allowed(cpu) != 0 || bad_long || sets_pcide && (!lma || s.cr3 & 0xfff != 0) {
        return Err(Exception::gp0());
    }
    let reload = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP;
    if (old ^ value) & reload != 0 && pae_paging(old0, value, lma) {
        check_table(cpu, cpu.state.cr3)?;
    }
    cpu.state.cr4 = value;
    cpu.paging_changed(old0, old, old_efer);
    Ok(())
}

fn write_cr8(cpu: &mut Cpu, value: u64) -> Result<(), Exception> {
    if value > 15 {
        return Err(Exception::gp0());
    }
    cpu.irq.set_cr8(value as u8);
    interrupts_enabled(cpu);
    Ok(())
}

/// Whether CR0, CR4 and EFER could hold these values together.
pub(super) fn consistent(cpu: &Cpu, cr0v: u64, cr4v: u64, eferv: u64) -> bool {
    let paging = cr0v & cr0::PG != 0;
    let lma = eferv & efer::LMA != 0;
    cr0v & !CR0_ALL == 0
        && cr4v & !cr4_allowed(cpu) == 0
        && eferv & !super::msr::efer_allowed(&cpu.features) == 0
        && (!paging || cr0v & cr0::PE != 0)
        && lma == (paging && eferv & efer::LME != 0)
        && (!lma || cr4v & cr4::PAE != 0)
}

/// The bits of XCR0 that the offered features allow.
pub fn xcr0_allowed(cpu: &Cpu) -> u64 {
    let f = &cpu.features;
    let mut all = xcr0::X87 | xcr0::SSE;
    if f.leaf1_ecx & leaf1_ecx::AVX != 0 {
        all |= xcr0::AVX;
    }
    if f.leaf7_ecx & leaf7_ecx::PKU != 0 {
        all |= xcr0::PKRU;
    }
    all
}

/// XSETBV of XCR0, after its privilege check.
pub(super) fn write_xcr0(cpu: &mut Cpu, value: u64) -> Result<(), Exception> {
    let avx_without_sse = value & (xcr0::AVX | xcr0::SSE) == xcr0::AVX;
    if value & !xcr0_allowed(cpu) != 0 || value & xcr0::X87 == 0 || avx_without_sse {
        return Err(Exception::gp0());
    }
    cpu.state.xcr0 = value;
    cpu.mode_changed();
    Ok(())
}

/// DR4 and DR5 are DR6 and DR7 unless CR4.DE is set. General detect (DR7.GD) makes any access a #DB.
fn check_dr(cpu: &Cpu, n: u8) -> Result<usize, Exception> {
    let n = match n {
        4 | 5 if cpu.state.cr4 & cr4::DE != 0 => return Err(Exception::ud()),
        4 | 5 => n + 2,
        0..=7 => n,
        _ => return Err(Exception::ud()),
    };
    cpl0(cpu)?;
    if cpu.state.dr[7] & 1 << 13 != 0 {
        return Err(deliver::debug(1 << 13, true));
    }
    Ok(n.into())
}

/// MOV from DRn.
///
/// # Errors
/// #UD, #GP(0), #DB.
pub fn read_dr(cpu: &mut Cpu, n: u8) -> Result<u64, Exception> {
    let n = check_dr(cpu, n)?;
    Ok(cpu.state.dr[n])
}

/// MOV to DRn.
///
/// # Errors
/// #UD, #GP(0) (also for set upper halves of DR6 and DR7), #DB.
pub fn write_dr(cpu: &mut Cpu, n: u8, value: u64) -> Result<(), Exception> {
    let n = check_dr(cpu, n)?;
    if n >= 6 && value >> 32 != 0 {
        return Err(Exception::gp0());
    }
    cpu.state.dr[n] = match n {
        6 => value & 0xe00f | 0xffff_0ff0,
        7 => value & 0xffff_23ff | 0x400,
        _ => value,
    };
    cpu.mode_changed();
    Ok(())
}

/// Whether `addr` may be loaded into a base register: canonical, in long mode.
pub(super) fn check_base(cpu: &Cpu, addr: u64) -> Result<(), Exception> {
    if canonical(cpu, addr) { Ok(()) } else { Err(Exception::gp0()) }
}

/// LMSW: the low four bits of CR0; PE can be set and not cleared.
pub(super) fn lmsw(cpu: &mut Cpu, value: u16) -> Result<(), Exception> {
    cpl0(cpu)?;
    let bits = cr0::PE | cr0::MP | cr0::EM | cr0::TS;
    let pe = cpu.state.cr0 & cr0::PE;
    write_cr0(cpu, cpu.state.cr0 & !bits | u64::from(value) & bits | pe)
}

/// SGDT, SIDT, SLDT, SMSW and STR under UMIP: #GP(0) above CPL 0.
pub(super) fn check_umip(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.cr4 & cr4::UMIP != 0 { cpl0(cpu) } else { Ok(()) }
}

/// #UD outside protected mode: LLDT, LTR, SLDT, STR, VERR, VERW, LAR, LSL, ARPL.
pub(super) fn protected_only(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.mode.contains(Mode::PROT) { Ok(()) } else { Err(Exception::ud()) }
}

/// Sets or clears ZF.
pub(super) fn set_zf(cpu: &mut Cpu, on: bool) {
    if on {
        cpu.state.rflags |= rflags::ZF;
    } else {
        cpu.state.rflags &= !rflags::ZF;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;
    use emu_core::features::Features;

    const GP: Result<(), Exception> = Err(Exception::gp0());

    #[test]
    fn into_long_mode_and_out_again() {
        let mut b = Bed::long();
        let tables = b.cpu.state.cr3;
        assert_eq!(write(&mut b.cpu, 0, cr0::PE), GP);
        b.enter(CODE32, DATA);
        write(&mut b.cpu, 0, cr0::PE).unwrap();
        assert!(!b.cpu.state.long_mode());
        write(&mut b.cpu, 4, 0).unwrap();
        assert_eq!(write(&mut b.cpu, 0, cr0::PE | cr0::PG), GP);
        write(&mut b.cpu, 4, cr4::PAE).unwrap();
        write(&mut b.cpu, 3, tables).unwrap();
        write(&mut b.cpu, 0, cr0::PE | cr0::PG).unwrap();
        assert_ne!(b.cpu.state.efer & efer::LMA, 0);
        assert_eq!(read(&mut b.cpu, 0), Ok(cr0::PE | cr0::PG | cr0::ET));
        assert_eq!(write(&mut b.cpu, 4, 0), GP);
        assert_eq!(write(&mut b.cpu, 4, cr4::PAE | cr4::LA57), GP);
    }

    #[test]
    fn refused_values() {
        let mut b = Bed::long();
        b.cpu.features = Features::parse("max,-pku").unwrap();
        let s = &b.cpu.state;
        let (good0, good4) = (s.cr0, s.cr4);
        for value in [good0 & !cr0::PE, good0 & !cr0::CD | cr0::NW, good0 | 1 << 32] {
            assert_eq!(write(&mut b.cpu, 0, value), GP);
        }
        assert_eq!(write(&mut b.cpu, 4, good4 | 1 << 23), GP);
        assert_eq!(write(&mut b.cpu, 4, good4 | cr4::PKE), GP);
        assert_eq!(write(&mut b.cpu, 3, 1 << 63), GP);
        assert_eq!(write(&mut b.cpu, 3, 1 << 40), GP);
        b.cpu.state.cr3 |= 8;
        assert_eq!(write(&mut b.cpu, 4, good4 | cr4::PCIDE), GP);
        b.cpu.state.cr3 &= !0xfff;
        write(&mut b.cpu, 4, good4 | cr4::PCIDE).unwrap();
        write(&mut b.cpu, 3, 0x1_0003 | 1 << 63).unwrap();
        assert_eq!(b.cpu.state.cr3, 0x1_0003);
        assert_eq!(write(&mut b.cpu, 8, 16), GP);
        assert_eq!(write(&mut b.cpu, 1, 0), Err(Exception::ud()));
        let mut b = b.user(USER_CODE64);
        assert_eq!(read(&mut b.cpu, 0), Err(Exception::gp0()));
        assert_eq!(write(&mut b.cpu, 7, 0), Err(Exception::ud()));
    }

    #[test]
    fn pae_page_directory_pointers_are_checked() {
        let mut b = Bed::protected();
        b.poke(0x6000, 8, 0x1_2001);
        b.poke(0x6008, 8, 0x1_2003);
        write(&mut b.cpu, 4, cr4::PAE).unwrap();
        write(&mut b.cpu, 3, 0x6000).unwrap();
        assert_eq!(write(&mut b.cpu, 0, cr0::PE | cr0::PG), GP);
        b.poke(0x6008, 8, 0);
        write(&mut b.cpu, 0, cr0::PE | cr0::PG).unwrap();
        b.poke(0x6008, 8, 1 << 41 | 1);
        assert_eq!(write(&mut b.cpu, 3, 0x6000), GP);
    }

    /// A bit of a feature that the model lacks is reserved.
    #[test]
    fn models_reserve_bits() {
        let bits = [
            ("pentium3", cr4::OSXSAVE | cr4::SMEP | cr4::PCIDE, cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT),
            ("pentium", cr4::PAE | cr4::PGE | cr4::OSFXSR | cr4::OSXMMEXCPT, cr4::DE | cr4::TSD | cr4::MCE),
            ("486", cr4::DE | cr4::TSD | cr4::MCE | cr4::PCE, cr4::VME | cr4::PVI | cr4::PSE),
            ("x86-64-v2", cr4::OSXSAVE | cr4::FSGSBASE | cr4::PKE, cr4::SMEP | cr4::PGE | cr4::UMIP),
        ];
        for (model, reserved, allowed) in bits {
            let mut b = Bed::protected();
            b.cpu.features = Features::parse(model).unwrap();
            for bit in (0..32).map(|i| 1 << i).filter(|bit| (reserved | allowed) & bit != 0) {
                let expected = if allowed & bit != 0 { Ok(()) } else { GP };
                assert_eq!(write(&mut b.cpu, 4, bit), expected, "{model} {bit:#x}");
            }
        }
    }

    #[test]
    fn machine_status_word() {
        let mut b = Bed::protected();
        lmsw(&mut b.cpu, 0).unwrap();
        assert_ne!(b.cpu.state.cr0 & cr0::PE, 0);
        lmsw(&mut b.cpu, 0xfff0 | cr0::TS as u16).unwrap();
        assert_eq!(b.cpu.state.cr0 & 0xff, cr0::PE | cr0::TS | cr0::ET);
        assert!(b.cpu.state.mode.contains(Mode::NO_FPU));
    }

    #[test]
    fn debug_registers() {
        let mut b = Bed::long();
        write_dr(&mut b.cpu, 0, 0x1234).unwrap();
        assert_eq!(read_dr(&mut b.cpu, 0), Ok(0x1234));
        write_dr(&mut b.cpu, 5, 1).unwrap();
        assert_eq!(read_dr(&mut b.cpu, 7), Ok(0x401));
        assert!(b.cpu.state.mode.contains(Mode::STEP));
        assert_eq!(write_dr(&mut b.cpu, 7, 1 << 32), GP);
        b.cpu.state.cr4 |= cr4::DE;
        assert_eq!(read_dr(&mut b.cpu, 4), Err(Exception::ud()));
        write_dr(&mut b.cpu, 7, 1 << 13).unwrap();
        assert_eq!(read_dr(&mut b.cpu, 0), Err(deliver::debug(1 << 13, true)));
    }

    #[test]
    fn extended_control_register() {
        let mut b = Bed::long();
        b.cpu.features = Features::parse("max,-avx").unwrap();
        write_xcr0(&mut b.cpu, 3).unwrap();
        for value in [0, 2, 7] {
            assert_eq!(write_xcr0(&mut b.cpu, value), GP);
        }
        b.cpu.features.leaf1_ecx |= leaf1_ecx::AVX;
        assert_eq!(write_xcr0(&mut b.cpu, 5), GP);
        write_xcr0(&mut b.cpu, 7).unwrap();
    }
}
