//! Loads from tables at constant addresses whose index is so small that all of the table that it reaches lies in one page, as
//! the table of an interpreter's handlers does, by a byte of the program: they share a look-up though their distance is not
//! known. Host-neutral.

use emu_core::addr::PAGE_SIZE;
use emu_core::ir::{Inst, Op, Type, Value};

/// The bytes that a load of `bytes` from `address` may read, if that is such; `rip` is the block's.
pub fn span(insts: &[Inst], address: Value, bytes: u32, rip: u64) -> Option<(i64, i64)> {
    let lea = &insts[address.index()];
    let [base, index, _] = lea.args;
    if lea.op != Op::Lea || lea.ty != Type::I64 || !index.is_some() {
        return None;
    }
    let base = match base.is_some().then(|| &insts[base.index()]) {
        None => 0,
        Some(i) if i.op == Op::Const => i.imm as u64,
        Some(i) if i.op == Op::Pc => rip.wrapping_add(i.imm as u64),
        Some(_) => return None,
    };
    let from = base.wrapping_add(lea.imm as u64);
    let reach = (most(insts, index)? << lea.aux) + u64::from(bytes);
    // What an access has as its displacement, and one page.
    let fits = from < i32::MAX as u64 && from % PAGE_SIZE + reach <= PAGE_SIZE;
    fits.then(|| (from as i64, (from + reach) as i64))
}

/// The greatest that `v` can be, if that is a byte.
fn most(insts: &[Inst], v: Value) -> Option<u64> {
    let i = &insts[v.index()];
    match i.op {
        Op::ZExt if matches!(insts[i.args[0].index()].ty, Type::I8 | Type::Bool) => Some(255),
        Op::ZExt => most(insts, i.args[0]),
        Op::And => {
            let by = &insts[i.args[1].index()];
            (by.op == Op::Const && (0..=255).contains(&by.imm)).then_some(by.imm as u64)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::addr::PhysAddr;
    use emu_core::ir::{Block, BlockKey};
    use emu_core::state::Mode;

    #[test]
    fn a_table_is_in_one_page_and_its_index_a_byte() {
        let mut b = Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) });
        let p = b.get_reg(Type::I64, 3);
        let byte = b.op(Op::Load, Type::I8, &[p]);
        let word = b.op(Op::ZExt, Type::I32, &[byte]);
        let index = b.op(Op::ZExt, Type::I64, &[word]);
        let mask = b.iconst(Type::I64, 7);
        let masked = b.op(Op::And, Type::I64, &[p, mask]);
        let pc = b.op_imm(Op::Pc, Type::I64, &[], 0x10, 0);
        let mut span_of = |base, index, scale, imm| {
            let args = [base, index, Value::NONE];
            let a = b.push(Inst { op: Op::Lea, ty: Type::I64, aux: scale, args, imm });
            span(&b.insts, a, 8, 0x5000)
        };
        let none = Value::NONE;
        assert_eq!(span_of(none, index, 3, 0x40_0100), Some((0x40_0100, 0x40_0900)));
        assert_eq!(span_of(none, index, 3, 0x40_0800), Some((0x40_0800, 0x40_1000)));
        assert_eq!(span_of(none, index, 3, 0x40_0808), None);
        assert_eq!(span_of(none, masked, 3, 0x40_0fc0), Some((0x40_0fc0, 0x40_1000)));
        assert_eq!(span_of(pc, masked, 0, 8), Some((0x5018, 0x5027)));
        assert_eq!(span_of(none, p, 3, 0x40_0100), None);
        assert_eq!(span_of(p, index, 3, 0x40_0100), None);
        assert_eq!(span_of(none, index, 3, -8), None);
    }
}
