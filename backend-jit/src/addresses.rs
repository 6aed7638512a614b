//! Which address computations are left to the accesses that use them. Host-neutral.
//!
//! `base + displacement` is part of a host's memory operand, so it needs no instruction and no register of its own.
//! Such a `Lea` is *late*: it emits nothing where it stands; accesses name its base and displacement, and the first
//! other use makes it a value like any other. Its base lives until then.

use crate::regalloc::Analysis;
#[cfg(test)]
use emu_core::ir::Value;
use emu_core::ir::{Inst, Op, Type};

/// Displacements up to here keep every address that a host computes from them within 32 bits.
const MOST: u64 = 1 << 30;

/// Whether `i` is an access, or a check of one, whose address may be given by parts.
pub fn takes_parts(i: &Inst) -> bool {
    matches!(i.op, Op::Load | Op::LoadW | Op::Store | Op::CheckAlign)
}

/// Whether `i` is the sum modulo 2^32 that some hosts make of an address of 32 bits.
pub fn is_narrow(insts: &[Inst], i: &Inst) -> bool {
    i.op == Op::Lea && i.ty == Type::I64 && i.args[0].is_some() && insts[i.args[0].index()].ty == Type::I32
}

/// Marks the late `Lea`s of `insts`, and prolongs the lives of their bases.
pub fn find(insts: &[Inst], an: &mut Analysis) {
    for (n, i) in insts.iter().enumerate() {
        if !an.facts[n].needed {
            continue;
        }
        an.facts[n].late = i.op == Op::Lea
            && matches!(i.ty, Type::I32 | Type::I64)
            && i.args[0].is_some()
            && !i.args[1].is_some()
            && i.imm.unsigned_abs() < MOST
            && insts[i.args[0].index()].op != Op::Const;
        for (k, v) in i.args.into_iter().enumerate().filter(|(_, v)| v.is_some()) {
            // One of 32 bits is only for those that are made of it.
            let takes = if insts[v.index()].ty == Type::I32 {
                an.facts[n].late && is_narrow(insts, i)
            } else {
                takes_parts(i)
            };
            let f = &mut an.facts[v.index()];
            if !f.late || f.made != 0 {
            } else if takes && k == 0 {
                f.parts = true;
            } else {
                f.made = n as u32;
            }
        }
    }
    for (n, i) in insts.iter().enumerate().rev() {
        let f = &mut an.facts[n];
        // Without an access before any other use there is nothing to be late for.
        f.late &= f.parts;
        if f.late {
            let until = if f.made == 0 { f.last } else { f.made };
            let base = &mut an.facts[i.args[0].index()];
            base.last = base.last.max(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::addr::PhysAddr;
    use emu_core::ir::{Block, BlockKey};
    use emu_core::state::Mode;

    #[test]
    fn a_displacement_that_does_not_fit_is_added() {
        for (imm, late) in [(MOST as i64 - 1, true), (MOST as i64, false), (i64::MIN, false)] {
            let mut b = Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) });
            let x = b.get_reg(Type::I64, 3);
            let a =
                b.push(Inst { op: Op::Lea, ty: Type::I64, aux: 0, args: [x, Value::NONE, Value::NONE], imm });
            b.op(Op::Load, Type::I64, &[a]);
            let mut an = Analysis::default();
            an.run(&b.insts);
            find(&b.insts, &mut an);
            assert_eq!(an.facts[a.index()].late, late, "{imm:#x}");
        }
    }

    #[test]
    fn a_push_writes_below_the_stack_pointer_and_then_moves_it() {
        let mut b = Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) });
        let sp = b.get_reg(Type::I64, 4);
        let none = Value::NONE;
        let new = b.push(Inst { op: Op::Lea, ty: Type::I64, aux: 0, args: [sp, none, none], imm: -8 });
        b.op(Op::Store, Type::I64, &[new, sp]);
        b.set_reg(Type::I64, 4, new);
        let set = b.insts.len() as u32 - 1;
        let next = b.push(Inst { op: Op::Lea, ty: Type::I64, aux: 0, args: [new, none, none], imm: -8 });
        b.set_reg(Type::I64, 4, next);
        let mut an = Analysis::default();
        an.run(&b.insts);
        find(&b.insts, &mut an);
        let f = |v: Value| an.facts[v.index()];
        assert!(f(new).late && f(new).made == set && f(sp).last == set);
        // Nothing accesses that one.
        assert!(!f(next).late);
    }
}
