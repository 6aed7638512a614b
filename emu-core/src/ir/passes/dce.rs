//! Dead code: values that nobody uses and writes of registers that are replaced before anyone looks. What remains is
//! renumbered.

use super::Scratch;
use crate::ir::block::{Block, Value};
use crate::ir::ops::{Class, Op, Type};

/// The instruction stays.
const LIVE: u16 = 1;

/// Registers that a later op replaces before anyone reads them: by bit.
#[derive(Default)]
struct Replaced {
    regs: u16,
    vecs: u32,
}

pub(super) fn run(block: &mut Block, s: &mut Scratch) {
    mark(block, s);
    compact(block, s);
}

fn mark(block: &Block, s: &mut Scratch) {
    s.reset_marks(block.insts.len());
    let mut r = Replaced::default();
    for (at, i) in block.insts.iter().enumerate().rev() {
        let stays = match i.op.class() {
            Class::Pure | Class::ReadState => s.marks[at] == LIVE,
            _ => true,
        };
        if !stays {
            continue;
        }
        let reg = i.imm as u32 & 31;
        match i.op {
            Op::GetReg | Op::GetRegHi => r.regs &= !(1 << reg),
            Op::GetVec => r.vecs &= !(1 << reg),
            Op::SetReg | Op::SetRegHi => {
                if r.regs >> reg & 1 != 0 {
                    continue;
                }
                if matches!(i.ty, Type::I32 | Type::I64) {
                    r.regs |= 1 << reg;
                }
            }
            // The upper half of a 256-bit write may outlive a later one of 128 bits.
            Op::SetVec if i.ty == Type::V128 => {
                if r.vecs >> reg & 1 != 0 {
                    continue;
                }
                r.vecs |= 1 << reg;
            }
            _ => {
                // Emitted code leaves before a block's first x87 op if the guest has unmasked an exception.
                let observes = i.op == Op::X87
                    || matches!(
                        i.op.class(),
                        Class::Faulting | Class::FaultingWrite | Class::SideExit | Class::Terminator
                    );
                if observes {
                    r = Replaced::default();
                }
            }
        }
        s.marks[at] = LIVE;
        for a in i.used() {
            s.marks[a.index()] = LIVE;
        }
    }
}

fn compact(block: &mut Block, s: &mut Scratch) {
    s.reset_subst(block.insts.len());
    let mut to = 0;
    for at in 0..block.insts.len() {
        if s.marks[at] != LIVE {
            continue;
        }
        let mut i = block.insts[at];
        for a in &mut i.args {
            if a.is_some() {
                *a = s.subst[a.index()];
            }
        }
        if i.op == Op::MergeFlags && i.args[0] == i.args[1] {
            s.subst[at] = i.args[0];
            continue;
        }
        s.subst[at] = Value(to as u32);
        block.insts[to] = i;
        to += 1;
    }
    block.insts.truncate(to);
}
