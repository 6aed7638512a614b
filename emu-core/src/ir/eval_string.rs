//! The string ops.

use super::{Eval, Stop, set_reg};
use crate::addr::PAGE_MASK;
use crate::ir::block::Inst;
use crate::ir::ops::{RepKind, Type};
use crate::mem::Frame;
use crate::mmu::{Access, Priv};
use crate::state::bits::rflags;
use crate::state::{Mode, gpr};

impl Eval<'_> {
    pub(super) fn rep_string(&mut self, i: &Inst, source: u64, dest: u64) -> Result<u64, Stop> {
        let ty = Type::int(i.aux >> 8 & 0xff);
        let addr = Type::int((i.aux >> 16 & 0xff) / 8);
        let step = u64::from(ty.bytes());
        let step = if self.cpu.state.rflags & rflags::DF != 0 { step.wrapping_neg() } else { step };
        loop {
            let reg = |e: &Self, r: usize| addr.truncate(e.cpu.state.gpr[r]);
            let left = reg(self, gpr::RCX);
            if left == 0 {
                return Ok(1);
            }
            if !self.cpu.code_hits.is_empty() {
                return Ok(0);
            }
            let (si, di) = (reg(self, gpr::RSI), reg(self, gpr::RDI));
            let movs = i.aux & 0xff == RepKind::Movs as u32;
            let v = if movs {
                self.load(ty, source.wrapping_add(si), false)?[0]
            } else {
                self.cpu.state.gpr[gpr::RAX]
            };
            self.store(ty, dest.wrapping_add(di), [v, 0, 0, 0], false)?;
            let g = &mut self.cpu.state.gpr;
            if movs {
                set_reg(&mut g[gpr::RSI], addr, si.wrapping_add(step));
            }
            set_reg(&mut g[gpr::RDI], addr, di.wrapping_add(step));
            set_reg(&mut g[gpr::RCX], addr, left - 1);
        }
    }

    pub(super) fn rep_skip(&mut self, i: &Inst, source: u64, dest: u64) -> Result<(), Stop> {
        let ty = Type::int(i.aux >> 8 & 0xff);
        let addr = Type::int((i.aux >> 16 & 0xff) / 8);
        let (size, cmps) = (u64::from(ty.bytes()), i.aux & 0xff == RepKind::Cmps as u32);
        let down = self.cpu.state.rflags & rflags::DF != 0;
        let step = |v: u64| addr.truncate(if down { v.wrapping_sub(size) } else { v.wrapping_add(size) });
        let wide = self.cpu.state.mode.contains(Mode::CODE64);
        let linear =
            |base: u64, index: u64| base.wrapping_add(index) & if wide { u64::MAX } else { 0xffff_ffff };
        let reg = |e: &Self, r: usize| addr.truncate(e.cpu.state.gpr[r]);
        let (mut si, mut di, mut left) = (reg(self, gpr::RSI), reg(self, gpr::RDI), reg(self, gpr::RCX));
        let sides = [(source, si, cmps), (dest, di, true)];
        let pages = sides.map(|(base, index, _)| linear(base, index) & !PAGE_MASK);
        // RDI's first, as the elements themselves: a page behind one that faults is not marked as accessed.
        for (page, _) in pages.into_iter().zip(sides).rev().filter(|(_, side)| side.2) {
            match self.cpu.translate(page, Access::Read, Priv::Current, false) {
                Ok(t) if !matches!(t.frame, Frame::Mmio) => {}
                _ => return Ok(()),
            }
        }
        // The element at an index is wholly in its page, and the index has not wrapped since the one before.
        let inside = |base: u64, index: u64, page: u64| {
            let last = linear(base, index.wrapping_add(size - 1));
            linear(base, index) & !PAGE_MASK == page && last & !PAGE_MASK == page
        };
        let mut passed = None;
        while left != 0 {
            let fits = inside(dest, di, pages[1]) && (!cmps || inside(source, si, pages[0]));
            let wraps = |index: u64, first: u64| if down { index > first } else { index < first };
            if !fits || wraps(di, sides[1].1) || cmps && wraps(si, sides[0].1) {
                break;
            }
            // What was looked at before is passed over, now that this is the last.
            passed = Some((si, di, left));
            let b = self.load(ty, linear(dest, di), false)?[0];
            let a = match cmps {
                true => self.load(ty, linear(source, si), false)?[0],
                false => ty.truncate(self.cpu.state.gpr[gpr::RAX]),
            };
            if (a == b) == (i.aux >> 24 & 1 != 0) {
                break;
            }
            (di, left) = (step(di), left - 1);
            si = if cmps { step(si) } else { si };
        }
        if let Some((si, di, left)) = passed.filter(|p| p.2 != reg(self, gpr::RCX)) {
            let g = &mut self.cpu.state.gpr;
            if cmps {
                set_reg(&mut g[gpr::RSI], addr, si);
            }
            set_reg(&mut g[gpr::RDI], addr, di);
            set_reg(&mut g[gpr::RCX], addr, left);
        }
        Ok(())
    }
}
