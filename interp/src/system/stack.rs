//! Stack frames built and read by far transfers and event delivery.
//!
//! Invariant: [`Frame::commit`] has checked every byte of the frame before it writes the first one.

use super::seg;
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::segment::attr;
use emu_core::state::{Seg, SegReg, gpr};

/// The largest frame: a call gate's return address, old stack and 31 parameters, or an interrupt out of
/// virtual-8086 mode.
const MAX: usize = 36;

/// Values to be pushed, all of one size, onto a stack that need not be the current one.
#[derive(Debug)]
pub(super) struct Frame {
    seg: SegReg,
    sp: u64,
    /// The bits of the stack pointer in use; all of them means a 64-bit stack without limit.
    mask: u64,
    size: usize,
    privilege: Priv,
    /// Error code of #SS when the frame does not fit.
    error: u32,
    values: [u64; MAX],
    len: usize,
}

/// The bits of the stack pointer that a stack segment uses outside 64-bit code.
pub(super) fn mask(seg: &SegReg) -> u64 {
    if seg.attr & attr::DB != 0 { 0xffff_ffff } else { 0xffff }
}

/// The bits of RSP in use now.
pub(super) fn current_mask(cpu: &Cpu) -> u64 {
    if cpu.state.is_long64() { u64::MAX } else { mask(&cpu.state.seg[Seg::SS as usize]) }
}

/// RSP after the stack pointer became `sp` under `mask`: 16-bit stacks keep the upper bits of `old`.
pub(super) fn merge(old: u64, sp: u64, mask: u64) -> u64 {
    if mask == 0xffff { old & !mask | sp & mask } else { sp & mask }
}

impl Frame {
    /// A frame on the current stack.
    pub fn current(cpu: &Cpu, size: usize) -> Self {
        let seg = cpu.state.seg[Seg::SS as usize];
        Self::with(seg, cpu.state.gpr[gpr::RSP], current_mask(cpu), size, Priv::Current, 0)
    }

    /// A frame on the stack of an inner privilege level, with a segment.
    pub fn inner(seg: SegReg, sp: u64, size: usize) -> Self {
        Self::with(seg, sp, mask(&seg), size, Priv::System, (seg.sel & !3).into())
    }

    /// A frame on a 64-bit stack.
    pub fn long(sp: u64, privilege: Priv) -> Self {
        Self::with(SegReg::null(0), sp, u64::MAX, 8, privilege, 0)
    }

    fn with(seg: SegReg, sp: u64, mask: u64, size: usize, privilege: Priv, error: u32) -> Self {
        Self { seg, sp, mask, size, privilege, error, values: [0; MAX], len: 0 }
    }

    pub fn push(&mut self, value: u64) {
        self.values[self.len] = value;
        self.len += 1;
    }

    /// Writes the frame and gives the new RSP, with the bits that a 16-bit stack does not use taken from the
    /// stack pointer the frame began with.
    pub fn commit(self, cpu: &mut Cpu) -> Result<u64, Exception> {
        let wide = self.mask == u64::MAX;
        let step = self.size as u64;
        let mut at = [0; MAX];
        let mut sp = self.sp;
        for lin in &mut at[..self.len] {
            sp = sp.wrapping_sub(step) & self.mask;
            *lin = sp;
            if !wide {
                if !seg::within(&self.seg, sp, step) {
                    return Err(Exception::with_error(Vector::SS, self.error));
                }
                *lin = self.seg.base.wrapping_add(sp) & 0xffff_ffff;
            }
        }
        // One probe for each page, in the order of the pushes, so that CR2 names the push that failed.
        let mut probed = None;
        for &lin in &at[..self.len] {
            let (first, last) = (lin >> 12, lin.wrapping_add(step - 1) >> 12);
            if probed != Some(first) || first != last {
                cpu.probe_write(lin, self.size, self.privilege, true)?;
                probed = Some(first);
            }
        }
        for (&lin, &value) in at[..self.len].iter().zip(&self.values) {
            let value = value & (u64::MAX >> (64 - 8 * step));
            match (self.size, self.privilege) {
                (8, Priv::Current) => cpu.store::<8>(lin, value, true)?,
                _ => cpu.store_slow(lin, self.size, value, self.privilege, true)?,
            }
        }
        Ok(merge(self.sp, sp, self.mask))
    }
}

/// Values read off the current stack, without moving RSP until the transfer is certain.
#[derive(Debug)]
pub(super) struct Pops {
    sp: u64,
    mask: u64,
    size: usize,
}

impl Pops {
    pub fn new(cpu: &Cpu, size: usize) -> Self {
        Self { sp: cpu.state.gpr[gpr::RSP], mask: current_mask(cpu), size }
    }

    /// The next value, zero-extended.
    pub fn pop(&mut self, cpu: &mut Cpu) -> Result<u64, Exception> {
        let offset = self.sp & self.mask;
        let lin = seg::linear(cpu, Seg::SS, offset, self.size as u64, false)?;
        let value = match self.size {
            8 => cpu.load::<8>(lin, true)?,
            _ => cpu.load_slow(lin, self.size, Priv::Current, true)?,
        };
        self.skip(self.size as u64);
        Ok(value)
    }

    /// Passes over `bytes`.
    pub fn skip(&mut self, bytes: u64) {
        self.sp = merge(self.sp, self.sp.wrapping_add(bytes), self.mask);
    }

    /// RSP after what has been popped.
    pub fn rsp(&self) -> u64 {
        self.sp
    }
}

/// SS and ESP for privilege level `dpl` out of the current 16- or 32-bit TSS, checked (SDM vol. 3A, 5.8.5).
pub(super) fn from_tss(cpu: &mut Cpu, dpl: u8) -> Result<(SegReg, u64), Exception> {
    let tr = cpu.state.tr;
    let wide = tr.attr & 8 != 0;
    let (at, sp_size) = if wide { (4 + 8 * u64::from(dpl), 4) } else { (2 + 4 * u64::from(dpl), 2) };
    if at + sp_size as u64 + 1 > tr.limit.into() {
        return Err(seg::fault(Vector::TS, tr.sel));
    }
    let sp = seg::read(cpu, tr.base.wrapping_add(at), sp_size)?;
    let sel = seg::read(cpu, tr.base.wrapping_add(at + sp_size as u64), 2)? as u16;
    if sel & !3 == 0 {
        return Err(Exception::new(Vector::TS));
    }
    let bad = seg::fault(Vector::TS, sel);
    let d = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if seg::rpl(sel) != dpl || d.dpl() != dpl || !d.is_writable_data() {
        return Err(bad);
    }
    d.check_present(Vector::SS)?;
    Ok((d.accessed(cpu)?, sp))
}

/// The stack pointer at byte `offset` of the 64-bit TSS: RSP0-RSP2 or an IST entry (SDM vol. 3A, 7.7).
pub(super) fn from_tss64(cpu: &mut Cpu, offset: u64) -> Result<u64, Exception> {
    let tr = cpu.state.tr;
    if offset + 7 > tr.limit.into() {
        return Err(seg::fault(Vector::TS, tr.sel));
    }
    seg::read(cpu, tr.base.wrapping_add(offset), 8)
}
