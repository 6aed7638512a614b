//! REP string instructions, as a whole or in part, on the guest's registers in the state.

use super::{Done, Leave, check_write, check_writes};
use crate::layout;
use emu_core::addr::{PAGE_MASK, PAGE_SIZE};
use emu_core::cpu::Cpu;
use emu_core::ir::RepKind;
use emu_core::mmu::bulk::Scan;
use emu_core::mmu::{Access, Priv, tlb};
use emu_core::state::bits::rflags;
use emu_core::state::{Mode, gpr};

/// What the auxiliary of the op says ([`RepKind`]), and DF.
struct Shape {
    kind: u32,
    /// Bytes of an element.
    size: usize,
    /// Bits of an address.
    bits: u32,
    /// The bits of a register that are used.
    mask: u64,
    /// The bits of a linear address.
    wrap: u64,
    /// What is added to an index for each element.
    step: u64,
    /// Elements that differ let it go on.
    differing: bool,
}

impl Shape {
    fn new(cpu: &Cpu) -> Self {
        let aux = cpu.state.scratch[layout::ARG + 2] as u32;
        let size = (aux >> 8 & 0xff) as usize;
        let bits = aux >> 16 & 0xff;
        let down = cpu.state.rflags & rflags::DF != 0;
        Self {
            kind: aux & 0xff,
            size,
            bits,
            mask: u64::MAX >> (64 - bits.clamp(1, 64)),
            wrap: if cpu.state.mode.contains(Mode::CODE64) { u64::MAX } else { 0xffff_ffff },
            step: if down { (size as u64).wrapping_neg() } else { size as u64 },
            differing: aux >> 24 & 1 != 0,
        }
    }

    /// A register after a write of the address's width: a 32-bit one clears the upper half, a 16-bit one keeps the rest.
    fn merge(&self, old: u64, new: u64) -> u64 {
        match self.bits {
            64 => new,
            32 => new & self.mask,
            _ => old & !self.mask | new & self.mask,
        }
    }

    /// Elements from `index` on that come before the index wraps.
    fn before_wrap(&self, index: u64) -> u64 {
        let size = self.size as u64;
        let down = self.step != size;
        if down { index / size + 1 } else { (self.mask - index).saturating_add(1) / size }
    }
}

/// What a REPcc CMPS or SCAS may pass over. Changes nothing else, and never fails.
pub(super) fn do_rep_skip(cpu: &mut Cpu) -> Done {
    let shape = Shape::new(cpu);
    let Shape { size, mask, wrap, step, .. } = shape;
    let (src_base, dst_base) = (cpu.state.scratch[layout::ARG], cpu.state.scratch[layout::ARG + 1]);
    let g = cpu.state.gpr;
    let (di, si) = (g[gpr::RDI] & mask, g[gpr::RSI] & mask);
    let cmps = shape.kind == RepKind::Cmps as u32;
    let mut count = (g[gpr::RCX] & mask).min(shape.before_wrap(di));
    if cmps {
        count = count.min(shape.before_wrap(si));
    }
    let skipped = cpu.skip_run(&Scan {
        at: dst_base.wrapping_add(di) & wrap,
        with: cmps.then_some(src_base.wrapping_add(si) & wrap),
        value: g[gpr::RAX],
        count,
        unit: size,
        equal: !shape.differing,
        down: step != size as u64,
    });
    if skipped != 0 {
        let bytes = step.wrapping_mul(skipped);
        let g = &mut cpu.state.gpr;
        if cmps {
            g[gpr::RSI] = shape.merge(g[gpr::RSI], g[gpr::RSI].wrapping_add(bytes));
        }
        g[gpr::RDI] = shape.merge(g[gpr::RDI], g[gpr::RDI].wrapping_add(bytes));
        g[gpr::RCX] = shape.merge(g[gpr::RCX], g[gpr::RCX].wrapping_sub(skipped));
    }
    Ok(())
}

/// Bytes done before control goes back to translated code, so that signals are seen in time.
const REP_BYTES: u64 = 256 << 10;

/// As much of a REP MOVS or STOS as can be done in one go, upwards and within one page on either side; 0 bytes where
/// it has to go element by element.
fn rep_run(cpu: &mut Cpu, dst: u64, src: Option<u64>, len: usize, size: usize) -> usize {
    let room = PAGE_SIZE - (dst & PAGE_MASK).max(src.unwrap_or(0) & PAGE_MASK);
    let len = len.min(room as usize) / size * size;
    if len < 2 * size || cpu.state.mode.contains(Mode::ALIGN) {
        return 0;
    }
    // The source comes first: where it faults, nothing must have been noted of the destination.
    if let Some(src) = src {
        // SAFETY: `tlb` points at one of this processor's own sets.
        let hit = unsafe { (*cpu.state.tlb).read[tlb::index(src)].hit(src, 1) };
        if hit.is_none() && cpu.translate(src, Access::Read, Priv::Current, false).is_err() {
            return 0;
        }
    }
    // SAFETY: `tlb` points at one of this processor's own sets.
    let hit = unsafe { (*cpu.state.tlb).write[tlb::index(dst)].hit(dst, 1) };
    // The run itself ends before decoded bytes.
    if hit.is_none() && check_write(cpu, dst, size, false).is_err() {
        return 0;
    }
    match src {
        Some(src) => cpu.copy_run(dst, src, len, size, None),
        None => cpu.fill_run(dst, cpu.state.gpr[gpr::RAX], len, size, None),
    }
}

pub(super) fn do_rep_string(cpu: &mut Cpu) -> Done {
    let shape = Shape::new(cpu);
    let Shape { size, mask, wrap, step, .. } = shape;
    let (src_base, dst_base) = (cpu.state.scratch[layout::ARG], cpu.state.scratch[layout::ARG + 1]);
    let movs = shape.kind == RepKind::Movs as u32;
    let merge = |old, new| shape.merge(old, new);
    let mut begun = false;
    let mut left = REP_BYTES;
    while left != 0 {
        let g = cpu.state.gpr;
        let count = g[gpr::RCX] & mask;
        if count == 0 {
            break;
        }
        left = left.saturating_sub(size as u64);
        let dst = dst_base.wrapping_add(g[gpr::RDI] & mask) & wrap;
        if step == size as u64 {
            let src = movs.then(|| src_base.wrapping_add(g[gpr::RSI] & mask) & wrap);
            // Where an index would wrap in the middle, element by element.
            let room = |r: usize| mask - (g[r] & mask);
            let most = count.saturating_mul(step).min(room(gpr::RDI)).min(left);
            let most = if movs { most.min(room(gpr::RSI)) } else { most };
            let done = rep_run(cpu, dst, src, most as usize, size) as u64;
            if done != 0 {
                begun = true;
                left -= done;
                let g = &mut cpu.state.gpr;
                if movs {
                    g[gpr::RSI] = merge(g[gpr::RSI], g[gpr::RSI].wrapping_add(done));
                }
                g[gpr::RDI] = merge(g[gpr::RDI], g[gpr::RDI].wrapping_add(done));
                g[gpr::RCX] = merge(g[gpr::RCX], g[gpr::RCX].wrapping_sub(done / step));
                continue;
            }
        }
        let value = if movs {
            let src = src_base.wrapping_add(g[gpr::RSI] & mask) & wrap;
            cpu.load_slow_or_hit(src, size)?
        } else {
            g[gpr::RAX]
        };
        match cpu.store_checked(dst, size, value) {
            Ok(()) => {}
            Err(Leave::Interpret) if begun => break,
            Err(e) => return Err(e),
        }
        begun = true;
        let g = &mut cpu.state.gpr;
        if movs {
            g[gpr::RSI] = merge(g[gpr::RSI], g[gpr::RSI].wrapping_add(step));
        }
        g[gpr::RDI] = merge(g[gpr::RDI], g[gpr::RDI].wrapping_add(step));
        g[gpr::RCX] = merge(g[gpr::RCX], g[gpr::RCX].wrapping_sub(1));
    }
    cpu.state.scratch[layout::RESULT] = u64::from(cpu.state.gpr[gpr::RCX] & mask == 0);
    Ok(())
}

/// Accesses that look into the translation cache first.
trait Cached {
    fn load_slow_or_hit(&mut self, lin: u64, size: usize) -> Result<u64, Leave>;
    fn store_checked(&mut self, lin: u64, size: usize, value: u64) -> Result<(), Leave>;
}

impl Cached for Cpu {
    fn load_slow_or_hit(&mut self, lin: u64, size: usize) -> Result<u64, Leave> {
        Ok(match size {
            1 => self.load::<1>(lin, false)?,
            2 => self.load::<2>(lin, false)?,
            4 => self.load::<4>(lin, false)?,
            _ => self.load::<8>(lin, false)?,
        })
    }

    fn store_checked(&mut self, lin: u64, size: usize, value: u64) -> Result<(), Leave> {
        // SAFETY: `tlb` points at one of this processor's own sets.
        let hit = unsafe { (*self.state.tlb).write[tlb::index(lin)].hit(lin, size as u64) };
        if hit.is_none() {
            check_writes(self, lin, size, false)?;
        }
        match size {
            1 => self.store::<1>(lin, value, false)?,
            2 => self.store::<2>(lin, value, false)?,
            4 => self.store::<4>(lin, value, false)?,
            _ => self.store::<8>(lin, value, false)?,
        }
        Ok(())
    }
}
