//! What is known about the places where translated code may leave: numbers in code, facts here.

use crate::ring::Ring;
use emu_core::ir::{Inst, Op, Type, Value};
use emu_core::state::bits::rflags::{AF, CF, OF, PF, SF, ZF};

/// A place in a block that may leave for a fault or the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// RIP of the guest instruction.
    pub rip: u64,
    /// Instructions counted at block entry that have not completed here.
    pub undo: u32,
    /// How to make the status flags, if they are not in their word.
    pub flags: Option<Recipe>,
    /// The x87 instruction before it in its block.
    pub x87: Option<Last>,
}

/// Where the pointers of the x87 are, of which translated code keeps only the operand's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// FIP.
    pub rip: u64,
    /// FOP.
    pub fop: u16,
    /// In 64-bit code, in which no selectors are kept.
    pub long: bool,
    /// The segment of the block's last operand in memory, if it has had one.
    pub seg: Option<u8>,
}

/// An operand of a [`Recipe`]: something that is exact whenever a site leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A guest register.
    Gpr(u8),
    /// A constant.
    Const(u64),
    /// A scratch slot of the state.
    Slot(u8),
}

/// The status flags of an operation, made only when translated code leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// `Add`, `Sub`, `And` for every logical operation; `Mul`, and `MulHiU` and `MulHiS` for a product with both halves.
    pub op: Op,
    /// Its width.
    pub ty: Type,
    /// The result of `Add` and `And`; the first operand, or with `by_result` the result, of `Sub`; the first operand of
    /// `Mul`, the lower half of a product.
    pub x: Place,
    /// The second operand, which `And` does not use; the upper half of a product.
    pub y: Place,
    /// `Sub`: x is the result.
    pub by_result: bool,
}

impl Recipe {
    /// What stands for the flags value `f` of `insts`, if `place` knows where the values are that it is made of.
    pub fn of(insts: &[Inst], f: Value, place: impl Fn(Value) -> Option<Place>) -> Option<Self> {
        let flags = &insts[f.index()];
        if flags.op != Op::FlagsOf {
            return None;
        }
        let v = flags.args[0];
        let Inst { op, ty, args, .. } = insts[v.index()];
        let recipe = |op, x, y, by_result| Some(Self { op, ty, x, y, by_result });
        match op {
            Op::And | Op::Or | Op::Xor => {
                match place(v).or_else(|| result_of_logic(insts, &insts[v.index()])) {
                    Some(x) => recipe(Op::And, x, x, false),
                    // A test of a register with itself.
                    None if args[0] == args[1] && op != Op::Xor => {
                        let x = place(args[0])?;
                        recipe(Op::And, x, x, false)
                    }
                    None => None,
                }
            }
            Op::Add => {
                let r = place(v)?;
                let y = place(args[1]).or_else(|| place(args[0]))?;
                recipe(Op::Add, r, y, false)
            }
            Op::Sub => {
                let y = place(args[1])?;
                match place(args[0]) {
                    Some(x) => recipe(Op::Sub, x, y, false),
                    None => recipe(Op::Sub, place(v)?, y, true),
                }
            }
            _ => None,
        }
    }

    /// The flags, given the guest's registers and the scratch slots.
    pub fn flags(&self, gpr: &[u64; 16], scratch: &[u64]) -> u64 {
        let get = |p: Place| {
            self.ty.truncate(match p {
                Place::Gpr(g) => gpr[g as usize & 15],
                Place::Const(c) => c,
                Place::Slot(s) => scratch.get(s as usize).copied().unwrap_or(0),
            })
        };
        let (x, b) = (get(self.x), get(self.y));
        let top = |v: u64| v >> (self.ty.bits() - 1) & 1 != 0;
        let bit = |on: bool, flag: u64| if on { flag } else { 0 };
        let szp =
            |r: u64| bit(top(r), SF) | bit(r == 0, ZF) | bit((r as u8).count_ones().is_multiple_of(2), PF);
        match self.op {
            Op::Add => {
                let (r, a) = (x, self.ty.truncate(x.wrapping_sub(b)));
                bit(r < b, CF) | (a ^ b ^ r) & AF | bit(top(!(a ^ b) & (a ^ r)), OF) | szp(r)
            }
            Op::Sub => {
                let a = if self.by_result { self.ty.truncate(x.wrapping_add(b)) } else { x };
                let r = self.ty.truncate(a.wrapping_sub(b));
                bit(a < b, CF) | (a ^ b ^ r) & AF | bit(top((a ^ b) & (a ^ r)), OF) | szp(r)
            }
            Op::Mul => {
                let (a, b) = (i128::from(self.ty.signed(x)), i128::from(self.ty.signed(b)));
                let low = self.ty.truncate((a * b) as u64);
                bit(a * b != i128::from(self.ty.signed(low)), CF | OF) | szp(low)
            }
            Op::MulHiU => bit(b != 0, CF | OF) | szp(x),
            Op::MulHiS => bit(self.ty.signed(b) != self.ty.signed(x) >> 63, CF | OF) | szp(x),
            _ => szp(x),
        }
    }
}

/// What AND, OR or XOR give where that is the same each time.
fn result_of_logic(insts: &[Inst], inst: &Inst) -> Option<Place> {
    let known = |v: Value| {
        let c = insts.get(v.index())?;
        (c.op == Op::Const).then_some(inst.ty.truncate(c.imm as u64))
    };
    let [a, b, _] = inst.args;
    let c = match inst.op {
        Op::Xor if a == b => 0,
        Op::Xor => known(a)? ^ known(b)?,
        Op::And => known(a)? & known(b)?,
        Op::Or => known(a)? | known(b)?,
        _ => return None,
    };
    Some(Place::Const(c))
}

/// What is seldom known of a site, or seldom another than of the site before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    flags: Option<Recipe>,
    x87: Option<Last>,
}

/// A site in 16 bytes: with its rest it would be 72, and there are five for each block.
#[derive(Clone, Copy, Debug)]
struct Packed {
    rip: u64,
    /// `undo`, and [`HAS_REST`].
    undo: u32,
    /// Number of its rest, or of the next one that a site has.
    rest: u32,
}

/// Set where a site has a rest.
const HAS_REST: u32 = 1 << 31;

/// The sites of every block in the cache. Blocks own consecutive runs.
#[derive(Debug, Default)]
pub struct SideTable {
    sites: Ring<Packed>,
    rests: Ring<Rest>,
}

impl SideTable {
    /// Number of the next site.
    pub fn next(&self) -> u32 {
        self.sites.next()
    }

    /// Adds the sites of a finished block.
    pub fn extend(&mut self, sites: &[Site]) {
        // Of this block: other ones may go before it does.
        let mut last = None;
        for site in sites {
            let rest = Rest { flags: site.flags, x87: site.x87 };
            let has = rest.flags.is_some() || rest.x87.is_some();
            if has && last != Some(rest) {
                self.rests.push(rest);
                last = Some(rest);
            }
            let (undo, next) = (site.undo & !HAS_REST, self.rests.next());
            self.sites.push(match has {
                true => Packed { rip: site.rip, undo: undo | HAS_REST, rest: next - 1 },
                false => Packed { rip: site.rip, undo, rest: next },
            });
        }
    }

    /// The site with number `n`.
    pub fn get(&self, n: u32) -> Option<Site> {
        let Packed { rip, undo, rest } = *self.sites.get(n)?;
        let site = Site { rip, undo: undo & !HAS_REST, flags: None, x87: None };
        if undo & HAS_REST == 0 {
            return Some(site);
        }
        let Rest { flags, x87 } = *self.rests.get(rest)?;
        Some(Site { flags, x87, ..site })
    }

    /// Drops the sites whose numbers are below `n`.
    pub fn drop_before(&mut self, n: u32) {
        let rest = self.sites.get(n).map_or(self.rests.next(), |s| s.rest);
        self.sites.drop_before(n);
        self.rests.drop_before(rest);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.sites.clear();
        self.rests.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_what_they_were_when_older_ones_have_gone() {
        let recipe =
            |g| Recipe { op: Op::Add, ty: Type::I32, x: Place::Gpr(g), y: Place::Const(1), by_result: false };
        let site = |rip, flags| Site { rip, undo: rip as u32, flags, x87: None };
        let blocks = [
            vec![site(1, Some(recipe(1))), site(2, Some(recipe(1))), site(3, None), site(4, Some(recipe(1)))],
            vec![],
            vec![site(5, Some(recipe(1))), site(6, Some(recipe(2)))],
            vec![site(7, None), site(8, Some(Recipe { by_result: true, ..recipe(2) }))],
        ];
        let all: Vec<Site> = blocks.concat();
        let mut table = SideTable::default();
        let ends = blocks.each_ref().map(|b| {
            table.extend(b);
            table.next()
        });
        for end in [0].into_iter().chain(ends) {
            table.drop_before(end);
            for (n, site) in (0..).zip(&all) {
                assert_eq!(table.get(n), (n >= end).then_some(*site), "{n} behind {end}");
            }
        }
        assert_eq!((table.get(8), table.rests.first(), table.rests.next()), (None, 4, 4));
        table.extend(&all[..1]);
        assert_eq!(table.get(8), Some(all[0]));
    }

    /// The flags of IMUL and MUL by the manual, as text: CF and OF tell whether the upper half says anything.
    fn by_the_manual(ty: Type, signed: bool, a: u64, b: u64) -> u64 {
        let bits = ty.bits();
        let wide = if signed {
            (i128::from(ty.signed(a)) * i128::from(ty.signed(b))) as u128
        } else {
            u128::from(ty.truncate(a)) * u128::from(ty.truncate(b))
        };
        let low = ty.truncate(wide as u64);
        let fits = if signed { wide as i128 == i128::from(ty.signed(low)) } else { wide >> bits == 0 };
        let mut flags = if fits { 0 } else { CF | OF };
        flags |= if low == 0 { ZF } else { 0 };
        flags |= if low >> (bits - 1) != 0 { SF } else { 0 };
        flags | if (low as u8).count_ones().is_multiple_of(2) { PF } else { 0 }
    }

    #[test]
    fn flags_of_products_from_their_operands_or_their_halves() {
        let values = [
            0,
            1,
            2,
            3,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 63,
        ];
        let values = values.into_iter().flat_map(|v: u64| [v, !v]);
        for (a, b) in values.clone().flat_map(|a| values.clone().map(move |b| (a, b))) {
            for ty in [Type::I16, Type::I32, Type::I64] {
                let mut scratch = vec![0; 64];
                let recipe = |op| Recipe { op, ty, x: Place::Slot(30), y: Place::Slot(31), by_result: false };
                (scratch[30], scratch[31]) = (a, b);
                let operands = recipe(Op::Mul).flags(&[0; 16], &scratch);
                assert_eq!(operands, by_the_manual(ty, true, a, b), "{ty:?} {a:#x} {b:#x}");
                for (op, signed) in [(Op::MulHiU, false), (Op::MulHiS, true)] {
                    let wide = if signed {
                        (i128::from(ty.signed(a)) * i128::from(ty.signed(b))) as u128
                    } else {
                        u128::from(ty.truncate(a)) * u128::from(ty.truncate(b))
                    };
                    (scratch[30], scratch[31]) = (wide as u64, (wide >> ty.bits()) as u64);
                    let halves = recipe(op).flags(&[0; 16], &scratch);
                    assert_eq!(halves, by_the_manual(ty, signed, a, b), "{op:?} {ty:?} {a:#x} {b:#x}");
                }
            }
        }
    }
}
