//! State forwarding: a read of guest state becomes the value last written or read there.
//!
//! Writes stay: faults and exits observe them. Nothing but the ops that name state, `Fp` (MXCSR) `RepString` and
//! `RepSkip` (RCX, RSI, RDI) changes it within a block.

use super::Scratch;
use crate::ir::block::{Block, Inst, Value};
use crate::ir::ops::{Op, StateField, Type};
use crate::state::gpr;

/// What is known of a general register.
#[derive(Clone, Copy)]
struct Known {
    /// Its low bits.
    v: Value,
    ty: Type,
    /// The bits above a 32-bit value are zero.
    zero_above: bool,
}

struct Forward {
    regs: [Option<Known>; 16],
    high: [Value; 4],
    flags: Value,
    vec: [Value; 32],
    fields: [Value; StateField::ALL.len()],
}

pub(super) fn run(block: &mut Block, s: &mut Scratch) {
    s.reset_subst(block.insts.len());
    let mut f = Forward {
        regs: [None; 16],
        high: [Value::NONE; 4],
        flags: Value::NONE,
        vec: [Value::NONE; 32],
        fields: [Value::NONE; StateField::ALL.len()],
    };
    let mut renamed = false;
    for (at, i) in block.insts.iter_mut().enumerate() {
        if renamed {
            s.rename(i);
        }
        let me = Value(at as u32);
        let new = f.inst(i, me);
        if new != me {
            s.subst[at] = new;
            renamed = true;
        }
    }
}

/// `slot` if it is known; else it becomes `me`.
fn read(slot: &mut Value, me: Value) -> Value {
    if !slot.is_some() {
        *slot = me;
    }
    *slot
}

impl Forward {
    /// Updates what is known, and gives the value that `i`, named `me`, stands for.
    #[inline]
    fn inst(&mut self, i: &mut Inst, me: Value) -> Value {
        let n = i.imm as usize;
        match i.op {
            Op::GetReg => return self.get_reg(i, me),
            Op::SetReg => {
                if i.ty.bits() >= 16 && n < 4 {
                    self.high[n] = Value::NONE;
                }
                self.regs[n] = Some(Known { v: i.args[0], ty: i.ty, zero_above: i.ty == Type::I32 });
            }
            Op::GetRegHi => return read(&mut self.high[n], me),
            Op::SetRegHi => {
                self.high[n] = i.args[0];
                if self.regs[n].is_some_and(|k| k.ty != Type::I8) {
                    self.regs[n] = None;
                }
            }
            Op::GetFlags => return read(&mut self.flags, me),
            Op::SetFlags => self.flags = i.args[0],
            Op::GetVec if i.ty == Type::V128 => return read(&mut self.vec[n], me),
            Op::SetVec | Op::SetVecZero => {
                self.vec[n] = if i.ty == Type::V128 { i.args[0] } else { Value::NONE };
            }
            Op::GetState => return read(&mut self.fields[n], me),
            Op::SetState => self.fields[n] = i.args[0],
            Op::Fp => self.fields[StateField::Mxcsr as usize] = Value::NONE,
            Op::System => self.fields = [Value::NONE; StateField::ALL.len()],
            Op::RepString | Op::RepSkip => {
                for r in [gpr::RCX, gpr::RSI, gpr::RDI] {
                    self.regs[r] = None;
                }
                self.high[gpr::RCX] = Value::NONE;
            }
            _ => {}
        }
        me
    }

    fn get_reg(&mut self, i: &mut Inst, me: Value) -> Value {
        let slot = &mut self.regs[i.imm as usize];
        if let Some(k) = *slot {
            if k.ty == i.ty {
                return k.v;
            }
            let wider = i.ty.bits() > k.ty.bits();
            if !wider || k.zero_above {
                let op = if wider { Op::ZExt } else { Op::Trunc };
                *i = Inst { op, ty: i.ty, aux: 0, args: [k.v, Value::NONE, Value::NONE], imm: 0 };
                if !wider {
                    return me;
                }
            }
        }
        *slot = Some(Known { v: me, ty: i.ty, zero_above: false });
        me
    }
}
