//! Descriptor-table registers and the instructions that ask about descriptors (SDM vol. 2; vol. 3A, 5.10).

use super::cr::{check_base, check_umip, protected_only, set_zf};
use super::{cpl0, seg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::state::segment::attr;
use emu_core::state::{DescTable, SegReg};

/// LGDT of an operand that has been read (check [`super::cpl0`] before reading it). A 16-bit operand has its base
/// cut to 24 bits by the caller.
///
/// # Errors
/// #GP(0).
pub fn lgdt(cpu: &mut Cpu, base: u64, limit: u16) -> Result<(), Exception> {
    cpl0(cpu)?;
    check_base(cpu, base)?;
    cpu.state.gdtr = DescTable { base, limit };
    Ok(())
}

/// LIDT, as [`lgdt`].
///
/// # Errors
/// #GP(0).
pub fn lidt(cpu: &mut Cpu, base: u64, limit: u16) -> Result<(), Exception> {
    cpl0(cpu)?;
    check_base(cpu, base)?;
    cpu.state.idtr = DescTable { base, limit };
    Ok(())
}

/// SGDT: what to store.
///
/// # Errors
/// #GP(0) under UMIP.
pub fn sgdt(cpu: &Cpu) -> Result<DescTable, Exception> {
    check_umip(cpu)?;
    Ok(cpu.state.gdtr)
}

/// SIDT: what to store.
///
/// # Errors
/// #GP(0) under UMIP.
pub fn sidt(cpu: &Cpu) -> Result<DescTable, Exception> {
    check_umip(cpu)?;
    Ok(cpu.state.idtr)
}

/// SLDT: what to store.
///
/// # Errors
/// #UD outside protected mode, #GP(0) under UMIP.
pub fn sldt(cpu: &Cpu) -> Result<u16, Exception> {
    protected_only(cpu)?;
    check_umip(cpu)?;
    Ok(cpu.state.ldtr.sel)
}

/// STR: what to store.
///
/// # Errors
/// #UD outside protected mode, #GP(0) under UMIP.
pub fn str(cpu: &Cpu) -> Result<u16, Exception> {
    protected_only(cpu)?;
    check_umip(cpu)?;
    Ok(cpu.state.tr.sel)
}

/// LLDT.
///
/// # Errors
/// #UD, #GP(0), #GP and #NP with the selector, page faults.
pub fn lldt(cpu: &mut Cpu, sel: u16) -> Result<(), Exception> {
    protected_only(cpu)?;
    cpl0(cpu)?;
    if sel & !3 == 0 {
        cpu.state.ldtr = SegReg::null(sel);
        return Ok(());
    }
    let d = system_segment(cpu, sel, &[2])?;
    cpu.state.ldtr = with_high_base(cpu, &d)?;
    Ok(())
}

/// LTR: marks the TSS busy.
///
/// # Errors
/// #UD, #GP(0), #GP and #NP with the selector, page faults.
pub fn ltr(cpu: &mut Cpu, sel: u16) -> Result<(), Exception> {
    protected_only(cpu)?;
    cpl0(cpu)?;
    if sel & !3 == 0 {
        return Err(Exception::gp0());
    }
    let d = system_segment(cpu, sel, if cpu.state.long_mode() { &[9] } else { &[1, 9] })?;
    let mut reg = with_high_base(cpu, &d)?;
    d.set_type_bits(cpu, 2, 0)?;
    reg.attr |= 2;
    cpu.state.tr = reg;
    Ok(())
}

/// A present system segment in the GDT of one of the `types`.
fn system_segment(cpu: &mut Cpu, sel: u16, types: &[u8]) -> Result<seg::Desc, Exception> {
    let bad = seg::fault(Vector::GP, sel);
    if sel & 4 != 0 {
        return Err(bad);
    }
    let d = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if !d.system_type().is_some_and(|t| types.contains(&t)) {
        return Err(bad);
    }
    d.check_present(Vector::NP)?;
    Ok(d)
}

/// LDT and TSS descriptors are 16 bytes long in long mode.
fn with_high_base(cpu: &mut Cpu, d: &seg::Desc) -> Result<SegReg, Exception> {
    if !cpu.state.long_mode() {
        return Ok(d.reg);
    }
    let bad = seg::fault(Vector::GP, d.sel);
    let high = seg::fetch_high(cpu, d)?.ok_or(bad)?;
    let base = d.reg.base | high << 32;
    if high >> 40 & 0x1f != 0 || check_base(cpu, base).is_err() {
        return Err(bad);
    }
    Ok(SegReg { base, ..d.reg })
}

/// VERR: ZF tells whether the segment can be read at this privilege.
///
/// # Errors
/// #UD outside protected mode; page faults.
pub fn verr(cpu: &mut Cpu, sel: u16) -> Result<(), Exception> {
    verify(cpu, sel, |d| d.is_data() || d.is_code() && d.reg.attr & attr::RW != 0)
}

/// VERW: ZF tells whether the segment can be written at this privilege.
///
/// # Errors
/// #UD outside protected mode; page faults.
pub fn verw(cpu: &mut Cpu, sel: u16) -> Result<(), Exception> {
    verify(cpu, sel, seg::Desc::is_writable_data)
}

fn verify(cpu: &mut Cpu, sel: u16, ok: impl Fn(&seg::Desc) -> bool) -> Result<(), Exception> {
    let d = visible(cpu, sel)?;
    set_zf(cpu, d.is_some_and(|d| ok(&d)));
    Ok(())
}

/// The descriptor of `sel`, if it exists and this privilege may know of it.
fn visible(cpu: &mut Cpu, sel: u16) -> Result<Option<seg::Desc>, Exception> {
    protected_only(cpu)?;
    if sel & !3 == 0 {
        return Ok(None);
    }
    let level = cpu.state.cpl().max(seg::rpl(sel));
    Ok(seg::fetch(cpu, sel)?.filter(|d| d.is_conforming() || d.dpl() >= level))
}

/// LAR: sets ZF and gives the value to store, if any: the access rights, to be cut to the operand size.
///
/// # Errors
/// #UD outside protected mode; page faults.
pub fn lar(cpu: &mut Cpu, sel: u16) -> Result<Option<u32>, Exception> {
    let known: &[u8] = if cpu.state.long_mode() { &[2, 9, 11, 12] } else { &[1, 2, 3, 4, 5, 9, 11, 12] };
    let d = visible(cpu, sel)?.filter(|d| d.system_type().is_none_or(|t| known.contains(&t)));
    set_zf(cpu, d.is_some());
    Ok(d.map(|d| (d.raw >> 32) as u32 & 0x00ff_ff00))
}

/// LSL: sets ZF and gives the value to store, if any: the limit in bytes.
///
/// # Errors
/// #UD outside protected mode; page faults.
pub fn lsl(cpu: &mut Cpu, sel: u16) -> Result<Option<u32>, Exception> {
    let known: &[u8] = if cpu.state.long_mode() { &[2, 9, 11] } else { &[1, 2, 3, 9, 11] };
    let d = visible(cpu, sel)?.filter(|d| d.system_type().is_none_or(|t| known.contains(&t)));
    set_zf(cpu, d.is_some());
    Ok(d.map(|d| d.reg.limit))
}

/// ARPL: the new destination, if it changes. The caller stores it, then sets ZF to `is_some()`.
///
/// # Errors
/// #UD outside protected mode.
pub fn arpl(cpu: &Cpu, dst: u16, src: u16) -> Result<Option<u16>, Exception> {
    protected_only(cpu)?;
    Ok((dst & 3 < src & 3).then_some(dst & !3 | src & 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;
    use emu_core::state::bits::{cr4, rflags};

    fn zf(b: &Bed) -> bool {
        b.cpu.state.rflags & rflags::ZF != 0
    }

    #[test]
    fn task_register() {
        let mut b = Bed::long();
        b.describe(GATE, 0x0000_8900_3000_0067);
        b.describe(GATE + 8, 0xffff_8000);
        ltr(&mut b.cpu, GATE).unwrap();
        assert_eq!((b.cpu.state.tr.base, b.cpu.state.tr.attr), (0xffff_8000_0000_3000, 0x8b));
        let e = Exception::with_error(Vector::GP, GATE.into());
        assert_eq!(ltr(&mut b.cpu, GATE), Err(e));
        assert_eq!(ltr(&mut b.cpu, 0), Err(Exception::gp0()));
        assert_eq!(ltr(&mut b.cpu, DATA), Err(Exception::with_error(Vector::GP, DATA.into())));
        assert_eq!(str(&b.cpu), Ok(GATE));
        let mut b = Bed::real();
        assert_eq!(ltr(&mut b.cpu, GATE), Err(Exception::ud()));
    }

    #[test]
    fn table_registers() {
        let mut b = Bed::long();
        assert_eq!(lgdt(&mut b.cpu, 1 << 60, 0), Err(Exception::gp0()));
        lidt(&mut b.cpu, 0xffff_8000_0000_0000, 0xfff).unwrap();
        assert_eq!(sidt(&b.cpu).unwrap().base, 0xffff_8000_0000_0000);
        let mut b = b.user(USER_CODE64);
        assert_eq!(lgdt(&mut b.cpu, 0, 0), Err(Exception::gp0()));
        sgdt(&b.cpu).unwrap();
        b.cpu.state.cr4 |= cr4::UMIP;
        assert_eq!(sgdt(&b.cpu), Err(Exception::gp0()));
        assert_eq!(sldt(&b.cpu), Err(Exception::gp0()));
    }

    #[test]
    fn questions_about_descriptors() {
        let mut b = Bed::protected().user(USER_CODE32);
        let cases = [
            (USER_DATA, true, true),
            (USER_CODE32, true, false),
            (CONFORMING, true, false),
            (DATA, false, false),
        ];
        for (sel, readable, writable) in cases {
            verr(&mut b.cpu, sel).unwrap();
            assert_eq!(zf(&b), readable);
            verw(&mut b.cpu, sel).unwrap();
            assert_eq!(zf(&b), writable);
        }
        assert_eq!(lsl(&mut b.cpu, USER_DATA), Ok(Some(u32::MAX)));
        assert!(zf(&b));
        assert_eq!(lar(&mut b.cpu, USER_DATA), Ok(Some(0x00cf_f300)));
        assert_eq!(lar(&mut b.cpu, 0), Ok(None));
        assert!(!zf(&b));
        let mut b = Bed::protected();
        b.describe(GATE, 0x0000_8c00_0000_0000);
        assert_eq!(lar(&mut b.cpu, GATE), Ok(Some(0x8c00)));
        assert_eq!(lsl(&mut b.cpu, GATE), Ok(None));
        assert_eq!(arpl(&b.cpu, 0x10, 3), Ok(Some(0x13)));
        assert_eq!(arpl(&b.cpu, 0x13, 1), Ok(None));
    }
}
