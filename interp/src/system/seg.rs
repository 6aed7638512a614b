//! Descriptors, segment loads and the segmentation check (SDM vol. 3A, chapters 3 and 5).

use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::segment::attr;
use emu_core::state::{Mode, Seg, SegReg};

/// MOV, POP or LxS of ES, SS, DS, FS or GS. After a load of SS the caller sets the interrupt shadow.
///
/// # Errors
/// #GP, #NP or #SS with the selector; faults of the descriptor table's pages.
pub fn load(cpu: &mut Cpu, seg: Seg, sel: u16) -> Result<(), Exception> {
    if !cpu.state.mode.contains(Mode::PROT) {
        cpu.state.seg[seg as usize] = legacy(cpu, seg, sel);
        cpu.mode_changed();
        return Ok(());
    }
    let cpl = cpu.state.cpl();
    let reg = if sel & !3 == 0 {
        if seg != Seg::SS {
            SegReg::null(sel)
        } else if cpu.state.is_long64() && cpl < 3 && rpl(sel) == cpl {
            null_ss(sel, cpl)
        } else {
            return Err(Exception::gp0());
        }
    } else {
        let d = fetch(cpu, sel)?.ok_or(fault(Vector::GP, sel))?;
        let data = d.is_data();
        if seg == Seg::SS {
            if rpl(sel) != cpl || !d.is_writable_data() || d.dpl() != cpl {
                return Err(fault(Vector::GP, sel));
            }
            d.check_present(Vector::SS)?;
        } else {
            let readable = data || d.is_code() && d.reg.attr & attr::RW != 0;
            let strict = data || !d.is_conforming();
            if !readable || strict && rpl(sel).max(cpl) > d.dpl() {
                return Err(fault(Vector::GP, sel));
            }
            d.check_present(Vector::NP)?;
        }
        d.accessed(cpu)?
    };
    cpu.state.seg[seg as usize] = reg;
    if !matches!(seg, Seg::FS | Seg::GS) {
        cpu.mode_changed();
    }
    Ok(())
}

/// The linear address of `size` bytes at `offset` in `seg`, after all segment checks. In 64-bit code only FS and GS
/// have a base and nothing is checked: whether the address is canonical is found out by the access itself.
///
/// # Errors
/// #GP(0), or #SS(0) for the stack segment.
#[inline]
pub fn linear(cpu: &Cpu, seg: Seg, offset: u64, size: u64, write: bool) -> Result<u64, Exception> {
    let reg = &cpu.state.seg[seg as usize];
    if cpu.state.is_long64() {
        return Ok(if matches!(seg, Seg::FS | Seg::GS) { reg.base.wrapping_add(offset) } else { offset });
    }
    let type_ok = if cpu.state.mode.contains(Mode::PROT) {
        let code = reg.attr & attr::CODE != 0;
        reg.present()
            && if write { !code && reg.attr & attr::RW != 0 } else { !code || reg.attr & attr::RW != 0 }
    } else {
        true
    };
    if type_ok && within(reg, offset, size) {
        Ok(reg.base.wrapping_add(offset) & 0xffff_ffff)
    } else if seg == Seg::SS {
        Err(Exception::ss0())
    } else {
        Err(Exception::gp0())
    }
}

/// The linear address of the code byte at `rip`, after the limit check of CS.
///
/// # Errors
/// #GP(0).
#[inline]
pub fn code(cpu: &Cpu, rip: u64) -> Result<u64, Exception> {
    if cpu.state.is_long64() {
        return Ok(rip);
    }
    let cs = &cpu.state.seg[Seg::CS as usize];
    if rip > cs.limit.into() {
        return Err(Exception::gp0());
    }
    Ok(cs.base.wrapping_add(rip) & 0xffff_ffff)
}

/// Whether `size` bytes at `offset` lie within the limit, expand-down segments included. A 4 GiB segment wraps.
pub(super) fn within(reg: &SegReg, offset: u64, size: u64) -> bool {
    let last = offset.wrapping_add(size - 1);
    if reg.attr & (attr::CODE | attr::EC) == attr::EC {
        let top = if reg.attr & attr::DB != 0 { 0xffff_ffff } else { 0xffff };
        offset > reg.limit.into() && last <= top && last >= offset
    } else {
        reg.limit == u32::MAX || last <= reg.limit.into() && last >= offset
    }
}

/// The requested privilege level of a selector.
pub(super) const fn rpl(sel: u16) -> u8 {
    (sel & 3) as u8
}

/// An exception whose error code is a selector (its RPL bits give way to IDT and EXT, here clear).
pub(super) const fn fault(vector: Vector, sel: u16) -> Exception {
    Exception::with_error(vector, (sel & !3) as u32)
}

/// The null SS of 64-bit code below CPL 3: unusable, but its DPL carries the CPL.
pub(super) const fn null_ss(sel: u16, cpl: u8) -> SegReg {
    SegReg { sel, attr: (cpl as u16) << attr::DPL_SHIFT, limit: 0, base: 0 }
}

/// What a load gives in real and virtual-8086 mode. Real mode keeps the limit and the D bit ("unreal" mode).
pub(super) fn legacy(cpu: &Cpu, seg: Seg, sel: u16) -> SegReg {
    if cpu.state.v86() {
        return v86(sel);
    }
    let old = &cpu.state.seg[seg as usize];
    let kind = if seg == Seg::CS { 0x9b } else { 0x93 };
    let keep = attr::AVL | attr::DB | attr::G;
    SegReg { sel, attr: old.attr & keep | kind, limit: old.limit, base: u64::from(sel) << 4 }
}

/// A segment of virtual-8086 mode.
pub(super) const fn v86(sel: u16) -> SegReg {
    SegReg { sel, attr: 0xf3, limit: 0xffff, base: (sel as u64) << 4 }
}

/// A descriptor that has been read from the GDT or LDT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desc {
    /// The selector it was read for.
    pub sel: u16,
    /// Its eight bytes.
    pub raw: u64,
    /// Linear address of them.
    pub lin: u64,
    /// The same, decoded.
    pub reg: SegReg,
}

/// Reads the descriptor of a non-null selector; None if it lies outside its table.
pub(super) fn fetch(cpu: &mut Cpu, sel: u16) -> Result<Option<Desc>, Exception> {
    Ok(match locate(cpu, sel, 8) {
        Some(lin) => {
            let raw = read(cpu, lin, 8)?;
            Some(Desc { sel, raw, lin, reg: SegReg::from_descriptor(sel, raw) })
        }
        None => None,
    })
}

/// Reads the upper half of the 16-byte system descriptor `d` of long mode: bits 63-32 of its base or offset, and
/// the type bits that must be zero. None if it lies outside the table.
pub(super) fn fetch_high(cpu: &mut Cpu, d: &Desc) -> Result<Option<u64>, Exception> {
    match locate(cpu, d.sel, 16) {
        Some(lin) => read(cpu, lin.wrapping_add(8), 8).map(Some),
        None => Ok(None),
    }
}

fn locate(cpu: &Cpu, sel: u16, size: u64) -> Option<u64> {
    let s = &cpu.state;
    let (base, limit) = if sel & 4 == 0 {
        (s.gdtr.base, u64::from(s.gdtr.limit))
    } else if s.ldtr.present() {
        (s.ldtr.base, u64::from(s.ldtr.limit))
    } else {
        return None;
    };
    let at = u64::from(sel & !7);
    (at + size - 1 <= limit).then(|| base.wrapping_add(at))
}

/// An implicit supervisor read of up to 8 bytes.
pub(super) fn read(cpu: &mut Cpu, lin: u64, size: usize) -> Result<u64, Exception> {
    cpu.load_slow(lin, size, Priv::System, false)
}

impl Desc {
    pub fn dpl(&self) -> u8 {
        self.reg.dpl()
    }

    /// The type of a system descriptor; None for code and data.
    pub fn system_type(&self) -> Option<u8> {
        (self.reg.attr & attr::S == 0).then_some((self.reg.attr & 0xf) as u8)
    }

    pub fn is_code(&self) -> bool {
        self.reg.attr & (attr::S | attr::CODE) == attr::S | attr::CODE
    }

    pub fn is_data(&self) -> bool {
        self.reg.attr & (attr::S | attr::CODE) == attr::S
    }

    pub fn is_writable_data(&self) -> bool {
        self.is_data() && self.reg.attr & attr::RW != 0
    }

    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.reg.attr & attr::EC != 0
    }

    /// 64-bit code (L). Only meaningful in long mode.
    pub fn is_long(&self) -> bool {
        self.reg.attr & attr::L != 0
    }

    /// `vector` with the selector, unless the descriptor is present.
    pub fn check_present(&self, vector: Vector) -> Result<(), Exception> {
        if self.reg.present() { Ok(()) } else { Err(fault(vector, self.sel)) }
    }

    /// Sets the accessed bit in the table and gives the register to load.
    pub fn accessed(&self, cpu: &mut Cpu) -> Result<SegReg, Exception> {
        if self.reg.attr & attr::A == 0 {
            self.set_type_bits(cpu, attr::A, 0)?;
        }
        Ok(SegReg { attr: self.reg.attr | attr::A, ..self.reg })
    }

    /// Rewrites the type byte in the table: sets and clears bits of it as it stands there now.
    pub fn set_type_bits(&self, cpu: &mut Cpu, set: u16, clear: u16) -> Result<(), Exception> {
        let at = self.lin.wrapping_add(5);
        let byte = read(cpu, at, 1)?;
        let new = (byte | u64::from(set)) & !u64::from(clear);
        cpu.store_slow(at, 1, new, Priv::System, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;

    fn err(vector: Vector, sel: u16) -> Result<(), Exception> {
        Err(fault(vector, sel))
    }

    #[test]
    fn loads_are_checked() {
        let mut b = Bed::protected();
        crate::system::desc::lldt(&mut b.cpu, 0).unwrap();
        load(&mut b.cpu, Seg::DS, 0).unwrap();
        assert_eq!(linear(&b.cpu, Seg::DS, 0, 1, false), Err(Exception::gp0()));
        assert_eq!(load(&mut b.cpu, Seg::SS, 0), Err(Exception::gp0()));
        assert_eq!(load(&mut b.cpu, Seg::DS, ABSENT_DATA), err(Vector::NP, ABSENT_DATA));
        assert_eq!(load(&mut b.cpu, Seg::SS, ABSENT_DATA), err(Vector::SS, ABSENT_DATA));
        assert_eq!(load(&mut b.cpu, Seg::SS, READ_ONLY), err(Vector::GP, READ_ONLY));
        assert_eq!(load(&mut b.cpu, Seg::SS, USER_DATA), err(Vector::GP, USER_DATA));
        assert_eq!(load(&mut b.cpu, Seg::DS, TSS_SEL), err(Vector::GP, TSS_SEL));
        assert_eq!(load(&mut b.cpu, Seg::DS, GDT_LIMIT + 1), err(Vector::GP, GDT_LIMIT + 1));
        assert_eq!(load(&mut b.cpu, Seg::DS, DATA | 4), err(Vector::GP, DATA | 4));
        load(&mut b.cpu, Seg::ES, CODE32).unwrap();
        assert_eq!(linear(&b.cpu, Seg::ES, 0, 1, true), Err(Exception::gp0()));

        let mut b = Bed::protected().user(USER_CODE32);
        assert_eq!(load(&mut b.cpu, Seg::DS, DATA), err(Vector::GP, DATA));
        load(&mut b.cpu, Seg::DS, CONFORMING).unwrap();
    }

    #[test]
    fn loads_set_the_accessed_bit() {
        let mut b = Bed::protected();
        b.describe(READ_ONLY, 0x00cf_9000_0000_ffff);
        load(&mut b.cpu, Seg::FS, READ_ONLY).unwrap();
        assert_eq!(b.peek(GDT + u64::from(READ_ONLY) + 5, 1), 0x91);
        assert_eq!(b.cpu.state.seg[Seg::FS as usize].attr, 0xc091);
    }

    #[test]
    fn null_stack_in_long_mode() {
        let mut b = Bed::long();
        load(&mut b.cpu, Seg::SS, 0).unwrap();
        assert_eq!(b.cpu.state.cpl(), 0);
        assert_eq!(load(&mut b.cpu, Seg::SS, 3), Err(Exception::gp0()));
        let mut b = b.user(USER_CODE64);
        assert_eq!(load(&mut b.cpu, Seg::SS, 3), Err(Exception::gp0()));
    }

    #[test]
    fn limits() {
        let mut b = Bed::protected();
        load(&mut b.cpu, Seg::DS, DATA16).unwrap();
        assert_eq!(linear(&b.cpu, Seg::DS, 0xfffc, 4, true), Ok(0xfffc));
        assert_eq!(linear(&b.cpu, Seg::DS, 0xfffd, 4, true), Err(Exception::gp0()));
        load(&mut b.cpu, Seg::DS, EXPAND_DOWN).unwrap();
        assert_eq!(linear(&b.cpu, Seg::DS, 0xfff, 1, true), Err(Exception::gp0()));
        assert_eq!(linear(&b.cpu, Seg::DS, 0x1000, 1, true), Ok(0x1000));
        assert_eq!(linear(&b.cpu, Seg::DS, 0xffff, 2, true), Err(Exception::gp0()));
        load(&mut b.cpu, Seg::SS, DATA16).unwrap();
        assert_eq!(linear(&b.cpu, Seg::SS, 0xffff, 2, true), Err(Exception::ss0()));

        let mut b = Bed::real();
        load(&mut b.cpu, Seg::ES, 0xffff).unwrap();
        assert_eq!(linear(&b.cpu, Seg::ES, 0x10, 2, true), Ok(0x10_0000));
        assert_eq!(linear(&b.cpu, Seg::ES, 0xffff, 2, true), Err(Exception::gp0()));
        assert_eq!(linear(&b.cpu, Seg::CS, 4, 2, true), Ok(4));
    }

    #[test]
    fn unreal_mode_keeps_the_limit() {
        let mut b = Bed::protected();
        load(&mut b.cpu, Seg::FS, DATA).unwrap();
        b.cpu.state.cr0 &= !1;
        b.cpu.mode_changed();
        load(&mut b.cpu, Seg::FS, 0x10).unwrap();
        assert_eq!(linear(&b.cpu, Seg::FS, 0x20_0000, 4, true), Ok(0x20_0100));
    }

    #[test]
    fn ldt_descriptors() {
        let mut b = Bed::protected();
        b.poke(0x5008, 8, 0x00cf_9312_3400_ffff);
        crate::system::desc::lldt(&mut b.cpu, LDT_SEL).unwrap();
        load(&mut b.cpu, Seg::GS, 0xc).unwrap();
        assert_eq!(linear(&b.cpu, Seg::GS, 1, 1, false), Ok(0x12_3401));
        assert_eq!(load(&mut b.cpu, Seg::GS, 0x14), err(Vector::GP, 0x14));
    }
}
