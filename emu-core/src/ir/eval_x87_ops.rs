//! The evaluator's x87: operands and pointers; what instructions do is in [`crate::ir::eval_x87`].

use super::{Eval, Stop};
use crate::ir::block::Inst;
use crate::ir::eval_x87;
use crate::ir::ops::{Type, mem_flags};
use crate::ir::x87::{self, Access};
use crate::state::{Mode, Seg};

impl Eval<'_> {
    /// FIP, FOP and the selectors point at the instruction in hand, FDP at its operand in memory.
    fn pointers(&mut self, aux: u32, operand: Option<(u64, usize)>) {
        if aux & x87::POINTERS == 0 {
            return;
        }
        let long = self.block.key.mode.contains(Mode::CODE64);
        let rip = self.rip(self.marker);
        let s = &mut self.cpu.state;
        let selector = |n: usize| if long { 0 } else { s.seg[n].sel };
        let fcs = selector(Seg::CS as usize);
        if let Some((offset, seg)) = operand {
            (s.fpu.fdp, s.fpu.fds) = (offset, selector(seg));
        }
        s.fpu.fip = if long { rip } else { rip & 0xffff_ffff };
        (s.fpu.fcs, s.fpu.fop) = (fcs, (aux & x87::FOP) as u16);
    }

    pub(super) fn x87(&mut self, i: &Inst, holds: u64) -> Result<u64, Stop> {
        if !eval_x87::masked(&self.cpu.state.fpu) {
            return Err(Stop::Code);
        }
        let v = eval_x87::registers(&mut self.cpu.state.fpu, i.aux, holds != 0);
        self.pointers(i.aux, None);
        Ok(v)
    }

    pub(super) fn x87_mem(&mut self, i: &Inst, lin: u64, offset: u64) -> Result<(), Stop> {
        let aux = i.aux;
        if !eval_x87::masked(&self.cpu.state.fpu) {
            return Err(Stop::Code);
        }
        let stack = i.imm as u32 & mem_flags::STACK != 0;
        let rest = self.cpu.advance(lin, 8);
        match x87::access(aux) {
            Access::Read(10) => {
                self.cpu.within_half(lin, 10, stack)?;
                let low = self.load(Type::I64, lin, stack)?[0];
                let high = self.load(Type::I16, rest, stack)?[0];
                eval_x87::load(&mut self.cpu.state.fpu, aux, low, high);
            }
            Access::Read(n) => {
                let low = self.load(Type::int(n), lin, stack)?[0];
                if x87::loads_control(aux) && eval_x87::unmasks(low) {
                    return Err(Stop::Code);
                }
                eval_x87::load(&mut self.cpu.state.fpu, aux, low, 0);
            }
            Access::Write(n) => {
                self.check_write(lin, n as usize, stack)?;
                let (low, high) = eval_x87::store(&mut self.cpu.state.fpu, aux);
                self.put(Type::int(n.min(8)), lin, [Type::int(n.min(8)).truncate(low), 0, 0, 0], stack)?;
                if n == 10 {
                    self.put(Type::I16, rest, [high.into(), 0, 0, 0], stack)?;
                }
            }
            Access::Other => {}
        }
        self.pointers(aux, Some((offset, (i.imm >> mem_flags::SEG_SHIFT & 7) as usize % 6)));
        Ok(())
    }
}
