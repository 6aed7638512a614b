//! AVX as operations on 128 bits: what is named by its encoding gets the name of the operation that the legacy encoding
//! has, and what has 256 bits becomes two halves. Done before a block is looked at otherwise.
//!
//! The upper half of vector register n is register n + [`HIGH`] of the list that comes out; it lives in the state. Within a
//! block it is read at most once, and before it is set: behind that it is taken to be what has been read or set. In that
//! list a `Store` of 256 bits alone is as wide: its halves are b and c, since nothing may fault between them.

use super::coded::Coded;
use emu_core::ir::encoded::{Encoded, Needs, Shape};
use emu_core::ir::{Inst, Op, Type, Value, VecOp};

/// What is added to the number of a vector register to name its upper half.
pub const HIGH: i64 = 32;

/// Of a `Load`: as much follows, and where its end is not canonical that comes before any fault of this half.
pub const FIRST_HALF: u32 = 1 << 31;

const V: Type = Type::V128;

/// Whether `i` has to be put otherwise for the emitter.
pub fn concerns(i: &Inst) -> bool {
    let coded = |aux: u32| VecOp::from_number(aux).is_none() && Coded::from_aux(aux).is_none();
    match i.op {
        Op::ZeroUpper | Op::SetVecZero => true,
        Op::Vec1 | Op::Vec2 | Op::Vec3 | Op::Fp => i.ty == Type::V256 || coded(i.aux),
        _ => i.ty == Type::V256,
    }
}

/// The list that a block's becomes.
#[derive(Debug, Default)]
pub struct Halves {
    /// The ops.
    pub out: Vec<Inst>,
    /// By value of the old list: its low half, or it, and its high half.
    map: Vec<[Value; 2]>,
    /// Registers whose upper halves are known to be zero.
    zeroed: u32,
    /// What the upper halves of registers are, as far as it is known.
    upper: [Option<Value>; 16],
}

impl Halves {
    /// Takes over `insts`, of which those before `from` stay as they are. False: something is not known.
    pub fn run(&mut self, insts: &[Inst], from: usize) -> bool {
        self.out.clear();
        self.map.clear();
        self.zeroed = 0;
        self.upper = [None; 16];
        for (n, i) in insts.iter().enumerate() {
            if n < from {
                self.out.push(*i);
                self.map.push([Value(n as u32), Value::NONE]);
                continue;
            }
            let Some(new) = self.one(insts, i) else { return false };
            self.map.push(new);
        }
        true
    }

    fn push(&mut self, op: Op, ty: Type, args: &[Value], imm: i64, aux: u32) -> Value {
        let mut all = [Value::NONE; 3];
        all[..args.len()].copy_from_slice(args);
        self.out.push(Inst { op, ty, aux, args: all, imm });
        Value(self.out.len() as u32 - 1)
    }

    fn vec2(&mut self, op: VecOp, a: Value, b: Value, imm: i64) -> Value {
        self.push(Op::Vec2, V, &[a, b], imm, op as u32)
    }

    fn vec1(&mut self, op: VecOp, a: Value, imm: i64) -> Value {
        self.push(Op::Vec1, V, &[a], imm, op as u32)
    }

    fn half(&self, v: Value, high: usize) -> Value {
        if v.is_some() { self.map[v.index()][high] } else { v }
    }

    fn zero(&mut self) -> Value {
        let any = self.push(Op::GetVec, V, &[], 0, 0);
        self.vec2(VecOp::Pxor, any, any, 0)
    }

    /// Clears the upper half of register `n`.
    fn clear(&mut self, n: i64, zero: &mut Option<Value>) {
        if self.zeroed >> n & 1 != 0 {
            return;
        }
        self.zeroed |= 1 << n;
        let z = match *zero {
            Some(z) => z,
            None => self.zero(),
        };
        *zero = Some(z);
        self.upper[n as usize & 15] = Some(z);
        self.push(Op::SetVec, V, &[z], n + HIGH, 0);
    }

    /// What op `i` becomes: its value's halves. None: it is not known.
    fn one(&mut self, insts: &[Inst], i: &Inst) -> Option<[Value; 2]> {
        let ty = |v: Value| insts[v.index()].ty;
        let wide = i.ty == Type::V256;
        let low = i.args.map(|v| self.half(v, 0));
        let single = |v: Value| [v, Value::NONE];
        Some(match i.op {
            Op::GetVec if wide => {
                let lo = self.push(Op::GetVec, V, &[], i.imm, 0);
                let n = i.imm as usize & 15;
                let hi = match self.upper[n] {
                    Some(hi) => hi,
                    None => self.push(Op::GetVec, V, &[], i.imm + HIGH, 0),
                };
                self.upper[n] = Some(hi);
                [lo, hi]
            }
            Op::SetVec | Op::SetVecZero if wide => {
                let hi = self.half(i.args[0], 1);
                self.push(Op::SetVec, V, &[low[0]], i.imm, 0);
                self.zeroed &= !(1 << i.imm);
                self.upper[i.imm as usize & 15] = Some(hi).filter(|v| v.is_some());
                single(self.push(Op::SetVec, V, &[hi], i.imm + HIGH, 0))
            }
            Op::SetVecZero => {
                let set = self.push(Op::SetVec, V, &[low[0]], i.imm, 0);
                self.clear(i.imm, &mut None);
                single(set)
            }
            Op::ZeroUpper => {
                let mut zero = None;
                for n in 0..i.imm.clamp(0, 16) {
                    self.clear(n, &mut zero);
                }
                single(Value::NONE)
            }
            Op::Load if wide => {
                let def = self.out[low[0].index()];
                let lo = self.push(Op::Load, V, &[low[0]], i.imm, i.aux | FIRST_HALF);
                let next = match def.op {
                    // The linear address was checked for all of it, and may wrap.
                    Op::SegAddr => {
                        let short = self.push(Op::Trunc, Type::I32, &[low[0]], 0, 0);
                        let sum = self.push(Op::Lea, Type::I32, &[short], 16, 0);
                        self.push(Op::ZExt, Type::I64, &[sum], 0, 0)
                    }
                    Op::ZExt
                        if ty(i.args[0]) == Type::I64 && self.out[def.args[0].index()].ty == Type::I32 =>
                    {
                        let sum = self.push(Op::Lea, Type::I32, &[def.args[0]], 16, 0);
                        self.push(Op::ZExt, Type::I64, &[sum], 0, 0)
                    }
                    _ => self.push(Op::Lea, Type::I64, &[low[0]], 16, 0),
                };
                [lo, self.push(Op::Load, V, &[next], i.imm, i.aux)]
            }
            Op::Store if wide => {
                let hi = self.half(i.args[1], 1);
                single(self.push(Op::Store, Type::V256, &[low[0], low[1], hi], i.imm, i.aux))
            }
            Op::Vec1 | Op::Vec2 | Op::Vec3 | Op::Fp => {
                let any_wide = i.args.iter().any(|&v| v.is_some() && ty(v) == Type::V256);
                match Encoded::from_aux(i.aux) {
                    Some(e) => return self.encoded(i, e, wide || any_wide),
                    None if wide => {
                        let hi =
                            i.args.map(|v| self.half(v, usize::from(v.is_some() && ty(v) == Type::V256)));
                        let mut half = |args: [Value; 3]| {
                            self.out.push(Inst { ty: V, args, ..*i });
                            Value(self.out.len() as u32 - 1)
                        };
                        [half(low), half(hi)]
                    }
                    None => single(self.copy(i, low)),
                }
            }
            _ if wide => return None,
            _ => single(self.copy(i, low)),
        })
    }

    fn copy(&mut self, i: &Inst, args: [Value; 3]) -> Value {
        self.out.push(Inst { args, ..*i });
        Value(self.out.len() as u32 - 1)
    }

    /// An operation by encoding, on 256 bits if `wide`.
    fn encoded(&mut self, i: &Inst, e: Encoded, wide: bool) -> Option<[Value; 2]> {
        let low = i.args.map(|v| self.half(v, 0));
        // What has 128 bits (a count, a source that is widened) has no other half.
        let high = i.args.map(|v| self.half(v, 1));
        let either = |n: usize| if high[n].is_some() { high[n] } else { low[n] };
        let single = |v: Value| Some([v, Value::NONE]);
        if let Some(pair) = self.across(i, e, low, high, wide) {
            return pair;
        }
        let narrow = Encoded { l: false, ..e };
        if Coded::from_aux(narrow.aux()).is_some() {
            // Immediates that name a bit for each lane go on in the other half, and so do MPSADBW's.
            let lanes = match (e.map, e.opcode) {
                (3, 0x0c) => 4,
                (3, 0x0d) => 2,
                (3, 0x42) => 3,
                _ => 0,
            };
            let mut half = |args: [Value; 3], imm: i64| {
                self.out.push(Inst {
                    ty: if i.ty == Type::V256 { V } else { i.ty },
                    args,
                    aux: narrow.aux(),
                    imm,
                    ..*i
                });
                Value(self.out.len() as u32 - 1)
            };
            let lo = half(low, i.imm);
            if !wide {
                return single(lo);
            }
            return Some([lo, half([either(0), either(1), either(2)], i.imm >> lanes)]);
        }
        let op = name(e)?;
        let fp = op as u32 >= VecOp::Addss as u32;
        if fp != (i.op == Op::Fp) {
            return None;
        }
        // The other half of SHUFPD's lanes has bits of its own.
        let step = if op == VecOp::Shufpd { 2 } else { 0 };
        let mut half = |a: Value, b: Value, imm: i64| {
            let ty = if i.ty == Type::V256 { V } else { i.ty };
            // Those on one operand have it as b, and as a.
            let args = if fp && !b.is_some() { [a, a] } else { [a, b] };
            let op_kind = match (fp, args[1].is_some()) {
                (true, _) => Op::Fp,
                (_, true) => Op::Vec2,
                _ => Op::Vec1,
            };
            self.push(op_kind, ty, &args, imm, op as u32)
        };
        if !wide {
            return single(half(low[0], low[1], i.imm));
        }
        if i.ty != Type::V256 || !high[0].is_some() {
            return None;
        }
        let lo = half(low[0], low[1], i.imm);
        Some([lo, half(high[0], either(1), i.imm >> step)])
    }

    /// Operations that are no matter of each half for itself. Some(None): not known.
    fn across(
        &mut self,
        i: &Inst,
        e: Encoded,
        low: [Value; 3],
        high: [Value; 3],
        wide: bool,
    ) -> Option<Option<[Value; 2]>> {
        use VecOp::*;
        let imm = i.imm;
        let single = |v: Value| Some(Some([v, Value::NONE]));
        let pair = |lo: Value, hi: Value| Some(Some([lo, hi]));
        let both = |v: Value| if wide { Some(Some([v, v])) } else { Some(Some([v, Value::NONE])) };
        match (e.prefix, e.map, e.opcode) {
            // VINSERTF128, VEXTRACTF128, VPERM2F128.
            (0x66, 3, 0x18 | 0x38) => {
                let old = if high[0].is_some() { high[0] } else { low[0] };
                if imm & 1 != 0 { pair(low[0], low[1]) } else { pair(low[1], old) }
            }
            (0x66, 3, 0x19 | 0x39) => single(if imm & 1 != 0 { high[0] } else { low[0] }),
            (0x66, 3, 0x06 | 0x46) => {
                let mut pick = |n: i64| match n & 15 {
                    n if n & 8 != 0 => self.zero(),
                    n => [low[0], high[0], low[1], high[1]][n as usize & 3],
                };
                let lo = pick(imm);
                pair(lo, pick(imm >> 4))
            }
            // VPERMQ and VPERMPD.
            (0x66, 3, 0x00 | 0x01) => {
                let half = |n: i64| if n & 2 != 0 { high[0] } else { low[0] };
                let mut two = |n: i64| self.vec2(Shufpd, half(n), half(n >> 2), n & 1 | (n >> 2 & 1) << 1);
                let lo = two(imm);
                pair(lo, two(imm >> 4))
            }
            // VPBLENDD.
            (0x66, 3, 0x02) => {
                let (opcode, shape, needs) = (0x0c, Shape::VRm, Needs::Avx);
                let blend = Encoded { opcode, shape, needs, l: false, w: false, ..e }.aux();
                let lo = self.push(Op::Vec2, V, &low[..2], imm & 15, blend);
                if !wide {
                    return single(lo);
                }
                pair(lo, self.push(Op::Vec2, V, &high[..2], imm >> 4 & 15, blend))
            }
            // VPERMILPS and VPERMILPD by an immediate.
            (0x66, 3, 0x04) => {
                let lo = self.vec1(Pshufd, low[0], imm);
                if wide { pair(lo, self.vec1(Pshufd, high[0], imm)) } else { single(lo) }
            }
            (0x66, 3, 0x05) => {
                let lo = self.vec2(Shufpd, low[0], low[0], imm & 3);
                if wide { pair(lo, self.vec2(Shufpd, high[0], high[0], imm >> 2 & 3)) } else { single(lo) }
            }
            // Blends by the signs of lanes, of doublewords and quadwords by way of those of bytes.
            (0x66, 3, op @ 0x4a..=0x4c) => {
                let mut blend = |a: Value, b: Value, c: Value| {
                    let by = match op {
                        0x4c => c,
                        0x4a => self.vec1(Psrad, c, 31),
                        _ => {
                            let c = self.vec1(Pshufd, c, 0xf5);
                            self.vec1(Psrad, c, 31)
                        }
                    };
                    self.push(Op::Vec3, V, &[a, b, by], 0, Pblendvb as u32)
                };
                let lo = blend(low[0], low[1], low[2]);
                if wide { pair(lo, blend(high[0], high[1], high[2])) } else { single(lo) }
            }
            // PTEST and its kin, which are of all bits of both halves, or of their lanes' signs.
            (0x66, 2, op @ (0x0e | 0x0f | 0x17)) if wide || op != 0x17 => {
                let both = self.vec2(Pand, low[0], low[1], 0);
                let other = self.vec2(Pandn, low[0], low[1], 0);
                let mut bits = [both, other];
                if wide {
                    let both = self.vec2(Pand, high[0], high[1], 0);
                    let other = self.vec2(Pandn, high[0], high[1], 0);
                    bits = [self.vec2(Por, bits[0], both, 0), self.vec2(Por, bits[1], other, 0)];
                }
                if op == 0x0f {
                    bits = bits.map(|v| self.vec1(Pshufd, v, 0xf5));
                }
                if op != 0x17 {
                    bits = bits.map(|v| self.vec1(Psrad, v, 31));
                }
                single(self.push(Op::Vec2, Type::Flags, &bits, 0, Coded::ZEROS.aux()))
            }
            // VPERMPS and VPERMD.
            (0x66, 2, 0x16 | 0x36) => {
                let narrow = Encoded { l: false, ..e }.aux();
                let mut half = |index: Value| self.push(Op::Vec3, V, &[index, low[1], high[1]], 0, narrow);
                let lo = half(low[0]);
                pair(lo, half(high[0]))
            }
            // VCVTPH2PS and VCVTPS2PH, which change the width.
            (0x66, 2, 0x13) if wide => {
                let narrow = Encoded { l: false, ..e }.aux();
                let lo = self.push(Op::Fp, V, &[low[0]], 0, narrow);
                let rest = self.vec1(Psrldq, low[0], 8);
                pair(lo, self.push(Op::Fp, V, &[rest], 0, narrow))
            }
            (0x66, 3, 0x1d) if wide => {
                let narrow = Encoded { l: false, ..e }.aux();
                let lo = self.push(Op::Fp, V, &[low[0]], imm, narrow);
                let hi = self.push(Op::Fp, V, &[high[0]], imm, narrow);
                single(self.vec2(Punpcklqdq, lo, hi, 0))
            }
            // Broadcasts of doublewords, quadwords, bytes and words.
            (0x66, 2, 0x18 | 0x58) => both(self.vec1(Pshufd, low[0], 0)),
            (0x66, 2, 0x19 | 0x59) => both(self.vec1(Pshufd, low[0], 0x44)),
            (0x66, 2, 0x78) => {
                let zero = self.vec2(Pxor, low[0], low[0], 0);
                both(self.vec2(Pshufb, low[0], zero, 0))
            }
            (0x66, 2, 0x79) => {
                let v = self.vec1(Pshuflw, low[0], 0);
                both(self.vec1(Pshufd, v, 0))
            }
            // Widening moves: the other half is of the source's upper part.
            (0x66, 2, op @ (0x20..=0x25 | 0x30..=0x35)) => {
                let name = name(e)?;
                let lo = self.vec1(name, low[0], 0);
                if !wide {
                    return single(lo);
                }
                let by = [8, 4, 2, 8, 4, 8][(op & 7) as usize];
                let rest = self.vec1(Psrldq, low[0], by);
                pair(lo, self.vec1(name, rest, 0))
            }
            // MOVSLDUP, MOVDDUP, MOVSHDUP.
            (prefix @ (0xf2 | 0xf3), 1, op @ (0x12 | 0x16)) if e.shape == Shape::Rm => {
                let control = match (prefix, op) {
                    (0xf2, _) => 0x44,
                    (_, 0x12) => 0xa0,
                    _ => 0xf5,
                };
                let lo = self.vec1(Pshufd, low[0], control);
                if wide { pair(lo, self.vec1(Pshufd, high[0], control)) } else { single(lo) }
            }
            // MOVHLPS and MOVLHPS.
            (0, 1, 0x12) if e.shape == Shape::VRm => single(self.vec2(Punpckhqdq, low[1], low[0], 0)),
            (0, 1, 0x16) if e.shape == Shape::VRm => single(self.vec2(Punpcklqdq, low[0], low[1], 0)),
            // Sign masks.
            (0x66, 1, 0xd7) | (0 | 0x66, 1, 0x50) if wide => {
                let name = name(e)?;
                let by = match name {
                    Pmovmskb => 16,
                    Movmskps => 4,
                    _ => 2,
                };
                let lo = self.push(Op::Vec1, Type::I32, &[low[0]], 0, name as u32);
                let hi = self.push(Op::Vec1, Type::I32, &[high[0]], 0, name as u32);
                let by = self.push(Op::Const, Type::I8, &[], by, 0);
                let hi = self.push(Op::Shl, Type::I32, &[hi, by], 0, 0);
                let mask = self.push(Op::Or, Type::I32, &[lo, hi], 0, 0);
                single(if i.ty == Type::I64 { self.push(Op::ZExt, Type::I64, &[mask], 0, 0) } else { mask })
            }
            (0x66, 1, 0xd7) | (0 | 0x66, 1, 0x50) => {
                let mask = self.push(Op::Vec1, Type::I32, &[low[0]], 0, name(e)? as u32);
                single(if i.ty == Type::I64 { self.push(Op::ZExt, Type::I64, &[mask], 0, 0) } else { mask })
            }
            // Conversions that change the width.
            (0, 1, 0x5a) | (0xf3, 1, 0xe6) if wide => {
                let name = name(e)?;
                let lo = self.push(Op::Fp, V, &[low[0], low[0]], 0, name as u32);
                let rest = self.vec1(Psrldq, low[0], 8);
                pair(lo, self.push(Op::Fp, V, &[rest, rest], 0, name as u32))
            }
            (0x66, 1, 0x5a) | (0x66 | 0xf2, 1, 0xe6) if wide => {
                let name = name(e)?;
                let lo = self.push(Op::Fp, V, &[low[0], low[0]], 0, name as u32);
                let hi = self.push(Op::Fp, V, &[high[0], high[0]], 0, name as u32);
                single(self.vec2(Punpcklqdq, lo, hi, 0))
            }
            _ => None,
        }
    }
}

/// The operation that the legacy form of an encoding is.
fn name(e: Encoded) -> Option<VecOp> {
    use VecOp::*;
    let by_prefix = |ops: [VecOp; 4]| match e.prefix {
        0 => ops[0],
        0x66 => ops[1],
        0xf3 => ops[2],
        _ => ops[3],
    };
    let packed = |ps: VecOp, pd: VecOp| match e.prefix {
        0 => Some(ps),
        0x66 => Some(pd),
        _ => None,
    };
    if e.shape == Shape::Group {
        return Some(match (e.opcode, e.digit) {
            (0x71, 2) => Psrlw,
            (0x71, 4) => Psraw,
            (0x71, 6) => Psllw,
            (0x72, 2) => Psrld,
            (0x72, 4) => Psrad,
            (0x72, 6) => Pslld,
            (0x73, 2) => Psrlq,
            (0x73, 3) => Psrldq,
            (0x73, 6) => Psllq,
            (0x73, 7) => Pslldq,
            _ => return None,
        });
    }
    if e.map == 1 {
        return Some(match e.opcode {
            0x14 => return packed(Punpckldq, Punpcklqdq),
            0x15 => return packed(Punpckhdq, Punpckhqdq),
            0x2c => by_prefix([Pand, Pand, Cvttss2si, Cvttsd2si]),
            0x2d => by_prefix([Pand, Pand, Cvtss2si, Cvtsd2si]),
            0x2e => return packed(Ucomiss, Ucomisd),
            0x2f => return packed(Comiss, Comisd),
            0x50 => return packed(Movmskps, Movmskpd),
            0x51 => by_prefix([Sqrtps, Sqrtpd, Sqrtss, Sqrtsd]),
            0x54 => return packed(Pand, Pand),
            0x55 => return packed(Pandn, Pandn),
            0x56 => return packed(Por, Por),
            0x57 => return packed(Pxor, Pxor),
            0x58 => by_prefix([Addps, Addpd, Addss, Addsd]),
            0x59 => by_prefix([Mulps, Mulpd, Mulss, Mulsd]),
            0x5a => by_prefix([Cvtps2pd, Cvtpd2ps, Cvtss2sd, Cvtsd2ss]),
            0x5b if e.prefix != 0xf2 => by_prefix([Cvtdq2ps, Cvtps2dq, Cvttps2dq, Cvttps2dq]),
            0x5c => by_prefix([Subps, Subpd, Subss, Subsd]),
            0x5d => by_prefix([Minps, Minpd, Minss, Minsd]),
            0x5e => by_prefix([Divps, Divpd, Divss, Divsd]),
            0x5f => by_prefix([Maxps, Maxpd, Maxss, Maxsd]),
            0x70 if e.prefix != 0 => by_prefix([Pshufd, Pshufd, Pshufhw, Pshuflw]),
            0xc2 => by_prefix([Cmpps, Cmppd, Cmpss, Cmpsd]),
            0xc6 => return packed(Shufps, Shufpd),
            0xe6 if e.prefix != 0 => by_prefix([Cvtdq2pd, Cvttpd2dq, Cvtdq2pd, Cvtpd2dq]),
            op if e.prefix == 0x66 => return integer(op),
            _ => return None,
        });
    }
    if e.prefix != 0x66 {
        return None;
    }
    Some(match (e.map, e.opcode) {
        (2, 0x00) => Pshufb,
        (2, 0x01) => Phaddw,
        (2, 0x02) => Phaddd,
        (2, 0x03) => Phaddsw,
        (2, 0x04) => Pmaddubsw,
        (2, 0x05) => Phsubw,
        (2, 0x06) => Phsubd,
        (2, 0x07) => Phsubsw,
        (2, 0x08) => Psignb,
        (2, 0x09) => Psignw,
        (2, 0x0a) => Psignd,
        (2, 0x0b) => Pmulhrsw,
        (2, 0x1c) => Pabsb,
        (2, 0x1d) => Pabsw,
        (2, 0x1e) => Pabsd,
        (2, 0x20) => Pmovsxbw,
        (2, 0x21) => Pmovsxbd,
        (2, 0x22) => Pmovsxbq,
        (2, 0x23) => Pmovsxwd,
        (2, 0x24) => Pmovsxwq,
        (2, 0x25) => Pmovsxdq,
        (2, 0x28) => Pmuldq,
        (2, 0x29) => Pcmpeqq,
        (2, 0x2b) => Packusdw,
        (2, 0x30) => Pmovzxbw,
        (2, 0x31) => Pmovzxbd,
        (2, 0x32) => Pmovzxbq,
        (2, 0x33) => Pmovzxwd,
        (2, 0x34) => Pmovzxwq,
        (2, 0x35) => Pmovzxdq,
        (2, 0x37) => Pcmpgtq,
        (2, 0x38) => Pminsb,
        (2, 0x39) => Pminsd,
        (2, 0x3a) => Pminuw,
        (2, 0x3b) => Pminud,
        (2, 0x3c) => Pmaxsb,
        (2, 0x3d) => Pmaxsd,
        (2, 0x3e) => Pmaxuw,
        (2, 0x3f) => Pmaxud,
        (2, 0x40) => Pmulld,
        (3, 0x0e) => Pblendw,
        (3, 0x0f) => Palignr,
        _ => return None,
    })
}

/// Operations on integers of map 1 with prefix 66.
const fn integer(opcode: u8) -> Option<VecOp> {
    use VecOp::*;
    Some(match opcode {
        0x60 => Punpcklbw,
        0x61 => Punpcklwd,
        0x62 => Punpckldq,
        0x63 => Packsswb,
        0x64 => Pcmpgtb,
        0x65 => Pcmpgtw,
        0x66 => Pcmpgtd,
        0x67 => Packuswb,
        0x68 => Punpckhbw,
        0x69 => Punpckhwd,
        0x6a => Punpckhdq,
        0x6b => Packssdw,
        0x6c => Punpcklqdq,
        0x6d => Punpckhqdq,
        0x74 => Pcmpeqb,
        0x75 => Pcmpeqw,
        0x76 => Pcmpeqd,
        0xd1 => Psrlw,
        0xd2 => Psrld,
        0xd3 => Psrlq,
        0xd4 => Paddq,
        0xd5 => Pmullw,
        0xd7 => Pmovmskb,
        0xd8 => Psubusb,
        0xd9 => Psubusw,
        0xda => Pminub,
        0xdb => Pand,
        0xdc => Paddusb,
        0xdd => Paddusw,
        0xde => Pmaxub,
        0xdf => Pandn,
        0xe0 => Pavgb,
        0xe1 => Psraw,
        0xe2 => Psrad,
        0xe3 => Pavgw,
        0xe4 => Pmulhuw,
        0xe5 => Pmulhw,
        0xe8 => Psubsb,
        0xe9 => Psubsw,
        0xea => Pminsw,
        0xeb => Por,
        0xec => Paddsb,
        0xed => Paddsw,
        0xee => Pmaxsw,
        0xef => Pxor,
        0xf1 => Psllw,
        0xf2 => Pslld,
        0xf3 => Psllq,
        0xf4 => Pmuludq,
        0xf5 => Pmaddwd,
        0xf6 => Psadbw,
        0xf8 => Psubb,
        0xf9 => Psubw,
        0xfa => Psubd,
        0xfb => Psubq,
        0xfc => Paddb,
        0xfd => Paddw,
        0xfe => Paddd,
        _ => return None,
    })
}
