//! Addresses of 32 bits, which are sums modulo 2^32 and zero-extended.
//!
//! Where a zero-extension is an address and nothing else, it becomes a `Lea` of 64 bits of a value of 32 bits, which is the sum
//! modulo 2^32: so it is given by parts, as other sums are (see [`crate::addresses`]). Of a register whose upper half is
//! known to be zero nothing is left to do, and the stack pointer moves once for several pushes (see `stretch`).

use crate::addresses::takes_parts;
use emu_core::ir::{Inst, Op, Type, Value};

/// Displacements up to here are taken from a sum: with another's they stay within 32 bits.
const MOST: u64 = 1 << 29;

/// Turns the zero-extensions of `insts` that are addresses alone into such sums.
pub fn find(insts: &mut [Inst]) {
    if !insts.iter().any(|i| i.op == Op::ZExt && i.ty == Type::I64) {
        return;
    }
    // By value: how often it is used, and whether always as an address.
    let mut uses = vec![(0u32, true); insts.len()];
    for i in insts.iter() {
        for (k, v) in i.args.iter().enumerate().filter(|(_, v)| v.is_some()) {
            let (n, address) = &mut uses[v.index()];
            (*n, *address) = (*n + 1, *address && k == 0 && takes_parts(i));
        }
    }
    for n in 0..insts.len() {
        let i = insts[n];
        let from = i.args[0];
        let extends = i.op == Op::ZExt && i.ty == Type::I64 && insts[from.index()].ty == Type::I32;
        if !extends || uses[n].0 == 0 || !uses[n].1 || insts[from.index()].op == Op::Const {
            continue;
        }
        let sum = insts[from.index()];
        // A sum that is for this alone is this one's.
        let by_one = sum.op == Op::Lea && sum.args[0].is_some() && !sum.args[1].is_some();
        let imm = i64::from(sum.imm as i32);
        let own = by_one && uses[from.index()].0 == 1 && imm.unsigned_abs() < MOST;
        let (base, imm) = if own { (sum.args[0], imm) } else { (from, 0) };
        insts[n] = Inst { op: Op::Lea, ty: Type::I64, aux: 0, args: [base, Value::NONE, Value::NONE], imm };
    }
}
