//! Values as sums, so that addresses at a constant distance are seen to be such. Host-neutral.

use crate::addresses::is_narrow;
use emu_core::ir::{Inst, Op, Type, Value};

/// Most terms of a sum.
const TERMS: usize = 2;

/// A value as up to two values, each shifted left, and a constant. Unused terms are NONE's; terms are in order.
///
/// A *narrow* one is 32 bits wide or the zero-extension of that. Addresses a constant apart are then so modulo 2^32, which
/// is the same within a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    terms: [(u32, u8); TERMS],
    narrow: bool,
    /// The constant.
    pub disp: i64,
}

const NO_TERM: (u32, u8) = (Value::NONE.0, 0);
/// The block's RIP.
const PC: u32 = Value::NONE.0 - 1;

impl Form {
    /// The value `v` itself.
    fn of(v: u32, narrow: bool) -> Self {
        Self { terms: [(v, 0), NO_TERM], narrow, disp: 0 }
    }

    /// A constant.
    pub fn constant(disp: i64, narrow: bool) -> Self {
        Self { terms: [NO_TERM; TERMS], narrow, disp: 0 }.plus(disp)
    }

    fn plus(self, d: i64) -> Self {
        let disp = self.disp.wrapping_add(d);
        Self { disp: if self.narrow { i64::from(disp as i32) } else { disp }, ..self }
    }

    /// Without its constant.
    pub fn root(self) -> Self {
        Self { disp: 0, ..self }
    }

    fn shl(self, n: u8) -> Option<Self> {
        let mut terms = self.terms;
        for t in terms.iter_mut().filter(|t| **t != NO_TERM) {
            t.1 = t.1.checked_add(n).filter(|&s| s < 32)?;
        }
        Some(Self { terms, disp: 0, ..self }.plus(self.disp.wrapping_shl(n.into())))
    }

    fn add(self, other: Self) -> Option<Self> {
        let mut all = self.terms.into_iter().chain(other.terms).filter(|t| *t != NO_TERM);
        let mut terms = [0; TERMS].map(|_| all.next().unwrap_or(NO_TERM));
        if all.next().is_some() {
            return None;
        }
        terms.sort_unstable();
        Some(Self { terms, ..self }.plus(other.disp))
    }
}

/// The forms of a block's values, reusing memory.
#[derive(Debug, Default)]
pub struct Forms(Vec<Form>);

impl Forms {
    /// Finds the forms of `insts`.
    pub fn run(&mut self, insts: &[Inst]) {
        self.0.clear();
        for (at, i) in insts.iter().enumerate() {
            let form = if matches!(i.ty, Type::I32 | Type::I64) { self.sum(insts, i) } else { None };
            self.0.push(form.unwrap_or(Form::of(at as u32, i.ty == Type::I32)));
        }
    }

    /// The form of `v`.
    pub fn of(&self, v: Value) -> Form {
        self.0[v.index()]
    }

    /// The form of `v` as part of a sum that is narrow or is not.
    fn part(&self, v: Value, narrow: bool) -> Form {
        let form = self.of(v);
        if form.narrow == narrow { form } else { Form::of(v.0, narrow) }
    }

    fn sum(&self, insts: &[Inst], i: &Inst) -> Option<Form> {
        let constant = |v: Value| Some(insts[v.index()]).filter(|i| i.op == Op::Const).map(|i| i.imm);
        let narrow = i.ty == Type::I32 || is_narrow(insts, i);
        let [a, b, _] = i.args;
        match i.op {
            Op::Pc => Some(Form::of(PC, narrow).plus(i.imm)),
            Op::Const => Some(Form::constant(i.imm, narrow)),
            Op::Add => self.part(a, narrow).add(self.part(b, narrow)),
            Op::Sub => Some(self.part(a, narrow).plus(constant(b)?.wrapping_neg())),
            Op::Shl => self.part(a, narrow).shl(constant(b)? as u8 & if narrow { 31 } else { 63 }),
            Op::ZExt if !narrow => Some(self.of(a)).filter(|f| f.narrow && insts[a.index()].ty == Type::I32),
            Op::Lea => {
                let part = |v: Value| {
                    if v.is_some() { self.part(v, narrow) } else { Form::constant(0, narrow) }
                };
                Some(part(a).add(part(b).shl(i.aux as u8)?)?.plus(i.imm))
            }
            _ => None,
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
    fn sums_are_the_same_in_whatever_order_they_are_made() {
        let mut b = Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) });
        let (x, y) = (b.get_reg(Type::I64, 3), b.get_reg(Type::I64, 1));
        let lea = |b: &mut Block, base, index, scale, imm| {
            b.push(Inst { op: Op::Lea, ty: Type::I64, aux: scale, args: [base, index, Value::NONE], imm })
        };
        let scaled = lea(&mut b, Value::NONE, y, 2, 8);
        let p = lea(&mut b, x, scaled, 0, -4);
        let q = lea(&mut b, x, y, 2, 100);
        let two = b.iconst(Type::I8, 2);
        let shifted = b.op(Op::Shl, Type::I64, &[y, two]);
        let r = b.op(Op::Add, Type::I64, &[shifted, x]);
        let three = lea(&mut b, p, y, 0, 0);
        let mut f = Forms::default();
        f.run(&b.insts);
        assert_eq!([p, q, r].map(|v| f.of(v).disp), [4, 100, 0]);
        assert!(f.of(p).root() == f.of(q).root() && f.of(p).root() == f.of(r));
        assert_eq!(f.of(three), Form::of(three.0, false));
    }

    #[test]
    fn narrow_addresses_are_sums_modulo_2_to_the_32() {
        let mut b = Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) });
        let x = b.get_reg(Type::I32, 3);
        let lea = |b: &mut Block, ty, base, imm| {
            b.push(Inst { op: Op::Lea, ty, aux: 0, args: [base, Value::NONE, Value::NONE], imm })
        };
        let (p, q) = (lea(&mut b, Type::I32, x, 0xffff_fffc), lea(&mut b, Type::I32, x, 4));
        let (p, q) = (b.op(Op::ZExt, Type::I64, &[p]), b.op(Op::ZExt, Type::I64, &[q]));
        // What is added to a zero-extension does not wrap with it.
        let r = lea(&mut b, Type::I64, p, 8);
        let mut f = Forms::default();
        f.run(&b.insts);
        assert_eq!([p, q].map(|v| f.of(v).disp), [-4, 4]);
        assert!(f.of(p).root() == f.of(q).root() && f.of(p).root() != f.of(r).root());
    }
}
