//! Folding: constants are computed, conversions of conversions shortened, and flags read where they were made.
//!
//! An instruction that a `FlagsOf` names is never rewritten, since its flags are those of its arguments; only the uses
//! of its value change.

use super::Scratch;
use crate::ir::block::{Block, Inst, Value};
use crate::ir::eval_int::{self, Ints};
use crate::ir::ops::{Cc, Op, Type};
use crate::state::bits::rflags;

/// Named by a `FlagsOf`.
const FLAGGED: u16 = 1;

pub(super) fn run(block: &mut Block, s: &mut Scratch) {
    let n = block.insts.len();
    s.reset_subst(n);
    let mut renamed = false;
    let mut marked = false;
    for at in 0..n {
        if renamed {
            s.rename(&mut block.insts[at]);
        }
        match fold(block, &block.insts[at]) {
            Fold::None => {}
            Fold::Value(v) => {
                s.subst[at] = v;
                renamed = true;
            }
            Fold::Inst(new) => {
                if block.insts[at].op.sets_flags() {
                    if !marked {
                        mark_flagged(block, s);
                        marked = true;
                    }
                    if s.marks[at] == FLAGGED {
                        continue;
                    }
                }
                block.insts[at] = new;
            }
        }
    }
}

fn mark_flagged(block: &Block, s: &mut Scratch) {
    s.reset_marks(block.insts.len());
    for i in &block.insts {
        if i.op == Op::FlagsOf {
            s.marks[i.args[0].index()] = FLAGGED;
        }
    }
}

/// What an instruction is the same as.
enum Fold {
    None,
    /// An earlier value.
    Value(Value),
    /// Another instruction in its place.
    Inst(Inst),
}

fn constant(ty: Type, v: u64) -> Fold {
    let args = [Value::NONE; 3];
    Fold::Inst(Inst { op: Op::Const, ty, aux: 0, args, imm: ty.truncate(v) as i64 })
}

/// `i` with another op and first argument.
fn unary(i: &Inst, op: Op, a: Value) -> Fold {
    Fold::Inst(Inst { op, args: [a, Value::NONE, Value::NONE], imm: 0, aux: 0, ..*i })
}

fn fold(b: &Block, i: &Inst) -> Fold {
    match i.op {
        Op::ZExt | Op::SExt | Op::Trunc => convert(b, i),
        Op::Lea => lea(b, i),
        Op::MergeFlags => merge(b, i),
        Op::TestCc => {
            let f = b.def(i.args[0]);
            if f.op != Op::MergeFlags {
                return Fold::None;
            }
            let reads = i64::from(Cc::ALL[i.imm as usize].reads());
            let of = match (reads & f.imm, reads & !f.imm) {
                (_, 0) => f.args[0],
                (0, _) => f.args[1],
                _ => return Fold::None,
            };
            Fold::Inst(Inst { args: [of, Value::NONE, Value::NONE], ..*i })
        }
        Op::And | Op::Or if i.args[0] == i.args[1] => Fold::Value(i.args[0]),
        Op::Add | Op::Sub | Op::And | Op::Or | Op::Xor | Op::Mul | Op::Shl | Op::Shr | Op::Sar => {
            binary(b, i)
        }
        Op::Not | Op::Neg | Op::Bswap => match b.as_const(i.args[0]) {
            Some(a) => constant(i.ty, eval_int::value(i.op, i.ty, Ints { a, b: 0, flags: 0 })),
            None => Fold::None,
        },
        Op::CmpEq | Op::CmpNe | Op::CmpUlt | Op::CmpUle | Op::CmpSlt | Op::CmpSle => {
            match (b.as_const(i.args[0]), b.as_const(i.args[1])) {
                (Some(x), Some(y)) => {
                    let ty = b.def(i.args[0]).ty;
                    constant(Type::Bool, eval_int::compare(i.op, ty, x, y).into())
                }
                _ => Fold::None,
            }
        }
        Op::Select | Op::SelectFlags => match b.as_const(i.args[0]) {
            Some(c) => Fold::Value(i.args[if c != 0 { 1 } else { 2 }]),
            None if i.args[1] == i.args[2] => Fold::Value(i.args[1]),
            None => Fold::None,
        },
        _ => Fold::None,
    }
}

fn binary(b: &Block, i: &Inst) -> Fold {
    let Some(y) = b.as_const(i.args[1]) else {
        return Fold::None;
    };
    match b.as_const(i.args[0]) {
        Some(x) => constant(i.ty, eval_int::value(i.op, i.ty, Ints { a: x, b: y, flags: 0 })),
        // A count of zero is masked, or comes from a constant that is zero as a whole.
        None if y == 0 && !matches!(i.op, Op::And | Op::Mul) => Fold::Value(i.args[0]),
        None => Fold::None,
    }
}

fn convert(b: &Block, i: &Inst) -> Fold {
    let d = b.def(i.args[0]);
    if let Some(v) = b.as_const(i.args[0]) {
        return constant(i.ty, if i.op == Op::SExt { d.ty.signed(v) as u64 } else { v });
    }
    let inner = d.args[0];
    match (i.op, d.op) {
        (Op::ZExt, Op::ZExt) | (Op::SExt, Op::SExt) | (Op::Trunc, Op::Trunc) => unary(i, i.op, inner),
        (Op::SExt, Op::ZExt) => unary(i, Op::ZExt, inner),
        (Op::Trunc, Op::ZExt | Op::SExt) => {
            let from = b.def(inner).result();
            match from.bits().cmp(&i.ty.bits()) {
                core::cmp::Ordering::Equal => Fold::Value(inner),
                core::cmp::Ordering::Less => unary(i, d.op, inner),
                core::cmp::Ordering::Greater => unary(i, Op::Trunc, inner),
            }
        }
        _ => Fold::None,
    }
}

fn lea(b: &Block, i: &Inst) -> Fold {
    let mut new = *i;
    for n in 0..2 {
        if new.args[n].is_some()
            && let Some(v) = b.as_const(new.args[n])
        {
            let v = if n == 1 { v << i.aux } else { v };
            new.imm = i.ty.signed(i.ty.truncate(new.imm.wrapping_add(v as i64) as u64));
            new.args[n] = Value::NONE;
        }
    }
    if !new.args[1].is_some() {
        new.aux = 0;
    }
    match (new.args[0].is_some(), new.args[1].is_some()) {
        (false, false) => constant(i.ty, new.imm as u64),
        (true, false) if new.imm == 0 => Fold::Value(new.args[0]),
        (false, true) if new.imm == 0 && new.aux == 0 => Fold::Value(new.args[1]),
        _ if new != *i => Fold::Inst(new),
        _ => Fold::None,
    }
}

fn merge(b: &Block, i: &Inst) -> Fold {
    let all = rflags::STATUS as i64;
    if i.imm & all == all || i.args[0] == i.args[1] {
        return Fold::Value(i.args[0]);
    }
    if i.imm & all == 0 {
        return Fold::Value(i.args[1]);
    }
    let kept = b.def(i.args[1]);
    // What the inner one sets is replaced by the outer one.
    if kept.op == Op::MergeFlags && kept.imm & !i.imm == 0 {
        return Fold::Inst(Inst { args: [i.args[0], kept.args[1], Value::NONE], ..*i });
    }
    Fold::None
}
