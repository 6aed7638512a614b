//! Vector operations on integers, by the host's vector unit. Those that are named by their x86 encoding are in
//! `coded`.

use super::asm::{Cond, Logic, Reg, ZR};
use super::coded::Coded;
use super::vals::{S0, S1};
use super::vecregs::{PAIR, V0, V1, V2, upper};
use super::words::{AND, BIC, DUP_HIGH, DUP_LOW, EOR, ORR, TBL, TBL2};
use super::{Codegen, Loc};
use emu_core::ir::encoded::ENCODED;
use emu_core::ir::{Inst, Op, Type, Value, VecOp};

/// Three registers of one arrangement, 128 bits.
const fn three(u: u32, size: u32, op: u32) -> u32 {
    0x4e20_0400 | u << 29 | size << 22 | op << 11
}

/// Three registers, of which the first has lanes twice as wide.
const fn longer(high: u32, u: u32, size: u32, op: u32) -> u32 {
    0x0e20_0000 | high << 30 | u << 29 | size << 22 | op << 12
}

/// Two registers.
const fn two(high: u32, u: u32, size: u32, op: u32) -> u32 {
    0x0e20_0800 | high << 30 | u << 29 | size << 22 | op << 12
}

const fn permute(size: u32, op: u32) -> u32 {
    0x4e00_0800 | size << 22 | op << 12
}

const ADDP: u32 = 0x17;
const BSL: u32 = 0x6e60_1c00;
const BIT: u32 = 0x6ea0_1c00;
const BIF: u32 = 0x6ee0_1c00;

/// Operations that are one instruction on a and b.
const fn single(op: VecOp) -> Option<u32> {
    use VecOp::*;
    Some(match op {
        Pand => AND,
        Por => ORR,
        Pxor => EOR,
        Paddb => three(0, 0, 16),
        Paddw => three(0, 1, 16),
        Paddd => three(0, 2, 16),
        Paddq => three(0, 3, 16),
        Psubb => three(1, 0, 16),
        Psubw => three(1, 1, 16),
        Psubd => three(1, 2, 16),
        Psubq => three(1, 3, 16),
        Paddsb => three(0, 0, 1),
        Paddsw => three(0, 1, 1),
        Paddusb => three(1, 0, 1),
        Paddusw => three(1, 1, 1),
        Psubsb => three(0, 0, 5),
        Psubsw => three(0, 1, 5),
        Psubusb => three(1, 0, 5),
        Psubusw => three(1, 1, 5),
        Pmullw => three(0, 1, 19),
        Pmulld => three(0, 2, 19),
        Pavgb => three(1, 0, 2),
        Pavgw => three(1, 1, 2),
        Pmaxsb => three(0, 0, 12),
        Pmaxsw => three(0, 1, 12),
        Pmaxsd => three(0, 2, 12),
        Pmaxub => three(1, 0, 12),
        Pmaxuw => three(1, 1, 12),
        Pmaxud => three(1, 2, 12),
        Pminsb => three(0, 0, 13),
        Pminsw => three(0, 1, 13),
        Pminsd => three(0, 2, 13),
        Pminub => three(1, 0, 13),
        Pminuw => three(1, 1, 13),
        Pminud => three(1, 2, 13),
        Pcmpeqb => three(1, 0, 17),
        Pcmpeqw => three(1, 1, 17),
        Pcmpeqd => three(1, 2, 17),
        Pcmpeqq => three(1, 3, 17),
        Pcmpgtb => three(0, 0, 6),
        Pcmpgtw => three(0, 1, 6),
        Pcmpgtd => three(0, 2, 6),
        Pcmpgtq => three(0, 3, 6),
        Phaddw => three(0, 1, ADDP),
        Phaddd => three(0, 2, ADDP),
        Punpcklbw => permute(0, 3),
        Punpcklwd => permute(1, 3),
        Punpckldq => permute(2, 3),
        Punpcklqdq => permute(3, 3),
        Punpckhbw => permute(0, 7),
        Punpckhwd => permute(1, 7),
        Punpckhdq => permute(2, 7),
        Punpckhqdq => permute(3, 7),
        _ => return None,
    })
}

/// Shifts: log2 of the bytes of a lane, and whether they go left and are signed.
const fn shift_of(op: VecOp) -> Option<(u32, bool, bool)> {
    use VecOp::*;
    Some(match op {
        Psllw => (1, true, false),
        Pslld => (2, true, false),
        Psllq => (3, true, false),
        Psrlw => (1, false, false),
        Psrld => (2, false, false),
        Psrlq => (3, false, false),
        Psraw => (1, false, true),
        Psrad => (2, false, true),
        _ => return None,
    })
}

/// Whether the host's form of an operation that gives a vector changes NZCV.
pub fn changes_flags(op: VecOp, inst: &Inst) -> bool {
    shift_of(op).is_some() && inst.op != Op::Vec1
}

/// Widening moves: from and to, as log2 of the bytes of a lane, and whether signed.
const fn widening(op: VecOp) -> Option<(u32, u32, bool)> {
    use VecOp::*;
    Some(match op {
        Pmovsxbw => (0, 1, true),
        Pmovsxbd => (0, 2, true),
        Pmovsxbq => (0, 3, true),
        Pmovsxwd => (1, 2, true),
        Pmovsxwq => (1, 3, true),
        Pmovsxdq => (2, 3, true),
        Pmovzxbw => (0, 1, false),
        Pmovzxbd => (0, 2, false),
        Pmovzxbq => (0, 3, false),
        Pmovzxwd => (1, 2, false),
        Pmovzxwq => (1, 3, false),
        Pmovzxdq => (2, 3, false),
        _ => return None,
    })
}

/// Whether the emitter knows a vector operation.
pub fn known(aux: u32) -> bool {
    use VecOp::*;
    let Some(op) = VecOp::from_number(aux).filter(|_| aux & ENCODED == 0) else { return false };
    single(op).is_some()
        || shift_of(op).is_some()
        || widening(op).is_some()
        || matches!(
            op,
            Pandn
                | Pmulhw
                | Pmulhuw
                | Pmuludq
                | Pmuldq
                | Pmaddwd
                | Psadbw
                | Pabsb
                | Pabsw
                | Pabsd
                | Packsswb
                | Packssdw
                | Packuswb
                | Packusdw
                | Pslldq
                | Psrldq
                | Pshufd
                | Pshuflw
                | Pshufhw
                | Pshufb
                | Shufps
                | Shufpd
                | Palignr
                | Pblendw
                | Pblendvb
                | Movsd
                | Movss
                | ZeroHigh
                | FromInt
                | Lane
                | SetLane
                | Pmovmskb
                | Movmskps
                | Movmskpd
                | Pmulhrsw
                | Pmaddubsw
                | Phaddsw
                | Phsubw
                | Phsubd
                | Phsubsw
                | Psignb
                | Psignw
                | Psignd
        )
}

impl Codegen {
    pub fn v3(&mut self, op: u32, d: Reg, n: Reg, m: Reg) {
        self.asm.raw(op | u32::from(m) << 16 | u32::from(n) << 5 | u32::from(d));
    }

    pub fn v2(&mut self, op: u32, d: Reg, n: Reg) {
        self.v3(op, d, n, 0);
    }

    pub fn vmov(&mut self, d: Reg, n: Reg) {
        if d != n {
            self.v3(ORR, d, n, n);
        }
    }

    /// Bytes of `high:low` from `at` (1 to 15) on.
    fn ext(&mut self, d: Reg, low: Reg, high: Reg, at: u32) {
        self.v3(0x6e00_0000 | at << 11, d, low, high);
    }

    /// Shifts the lanes of `n` by a constant other than 0 and below their width; signed ones to the right.
    fn shift_const(&mut self, log: u32, left: bool, signed: bool, d: Reg, n: Reg, by: u32) {
        let bits = 8 << log;
        let op = match (left, signed) {
            (true, _) => 0x4f00_5400 | (bits + by) << 16,
            (false, true) => 0x4f00_0400 | (2 * bits - by) << 16,
            (false, false) => 0x6f00_0400 | (2 * bits - by) << 16,
        };
        self.v2(op, d, n);
    }

    /// Whether the value `v` only goes to upper halves of guest registers.
    fn only_uppers(&self, v: Value) -> bool {
        let goes = |i: &Inst| i.op == Op::SetVec && upper(i.imm).is_some();
        self.insts[v.index() + 1..].iter().all(|i| goes(i) || i.used().all(|a| a != v))
    }

    /// Vec1, Vec2 and Vec3.
    pub fn vector(&mut self, me: Value, inst: &Inst) {
        self.vec_enter();
        let Some(op) = VecOp::from_number(inst.aux) else {
            return match Coded::from_aux(inst.aux) {
                Some(c) => self.coded(me, inst, c),
                None => self.frame.fail("no such vector operation"),
            };
        };
        match op {
            VecOp::FromInt => return self.int_to_vector(me, inst),
            VecOp::Lane => return self.lane(me, inst),
            VecOp::Movsd | VecOp::Movss if inst.args[0] == inst.args[1] => {
                if let Some(rest) = self.rest_for(inst.args[0], op == VecOp::Movsd) {
                    let a = self.vlow(inst.args[0], op == VecOp::Movsd);
                    let to = self.vdest_over(me, inst.args[0], &[]);
                    self.vmov(to.reg, a);
                    self.vfinish(me, to);
                    self.val[me.index()].rest = Some(rest);
                    return self.tops.take_over(me, inst.args[0], op == VecOp::Movsd);
                }
            }
            VecOp::Pmovmskb | VecOp::Movmskps | VecOp::Movmskpd => return self.sign_mask(me, inst, op),
            VecOp::Pxor | VecOp::Psubd | VecOp::Psubq | VecOp::Pandn if inst.args[0] == inst.args[1] => {
                if op != VecOp::Pandn && self.only_uppers(me) {
                    self.val[me.index()].loc = Loc::ZeroV;
                    return;
                }
                let to = self.vdest(me, &[]);
                self.asm.vzero(to.reg);
                self.vfinish(me, to);
                self.val[me.index()].low = 0;
                return;
            }
            _ => {}
        }
        let a = self.vreg(inst.args[0]);
        let vector = |c: &Self, v: Value| v.is_some() && c.insts[v.index()].ty == Type::V128;
        let b = if vector(self, inst.args[1]) { self.vreg(inst.args[1]) } else { a };
        let c = if vector(self, inst.args[2]) { self.vreg(inst.args[2]) } else { a };
        // Every sequence below writes d when it has read all else, but for copies of a.
        let to = self.vdest(me, &[]);
        let d = to.reg;
        if let Some(word) = single(op) {
            self.v3(word, d, a, b);
        } else if matches!(op, VecOp::Pshufd | VecOp::Shufps)
            && a == b
            && self.shuffle_doublewords(d, a, inst.imm as u32)
        {
        } else if op == VecOp::Shufpd {
            self.shuffle_quadwords(d, a, b, inst.imm as u32);
        } else if let Some((log, left, signed)) = shift_of(op) {
            if inst.op == Op::Vec1 {
                self.shift_imm(log, left, signed, d, a, inst.imm as u64);
            } else {
                self.shift_by_vector(log, left, signed, d, a, b);
            }
        } else if let Some((from, to, signed)) = widening(op) {
            let mut n = a;
            for log in from..to {
                let word = if signed { 0x0f00_a400 } else { 0x2f00_a400 };
                self.v2(word | (8 << log) << 16, d, n);
                n = d;
            }
        } else if let Some(table) = shuffle(op, inst.imm as u32) {
            self.table(d, a, b, table);
        } else {
            self.several(op, inst, d, a, b, c);
        }
        self.vfinish(me, to);
        match op {
            VecOp::ZeroHigh => self.val[me.index()].low = 64,
            VecOp::Movsd | VecOp::Movss => self.tops.take_over(me, inst.args[0], op == VecOp::Movsd),
            _ => {}
        }
    }

    /// PSHUFD by one or a few instructions; false if a table does it better.
    fn shuffle_doublewords(&mut self, d: Reg, a: Reg, control: u32) -> bool {
        let lane = |n: u32| control >> (2 * n) & 3;
        let dup = |n: u32| 0x4e04_0400 | n << 19;
        match control & 0xff {
            0xe4 => self.vmov(d, a),
            0x39 => self.ext(d, a, a, 4),
            0x4e => self.ext(d, a, a, 8),
            0x93 => self.ext(d, a, a, 12),
            0x44 => self.v2(DUP_LOW, d, a),
            0xee => self.v2(DUP_HIGH, d, a),
            0xb1 => self.v2(two(1, 0, 2, 0), d, a),
            0xa0 => self.v3(permute(2, 2), d, a, a),
            0xf5 => self.v3(permute(2, 6), d, a, a),
            0x88 => self.v3(permute(2, 1), d, a, a),
            0xdd => self.v3(permute(2, 5), d, a, a),
            0x50 => self.v3(permute(2, 3), d, a, a),
            0xfa => self.v3(permute(2, 7), d, a, a),
            _ if (1..4).all(|n| lane(n) == lane(0)) => self.v2(dup(lane(0)), d, a),
            _ => return false,
        }
        true
    }

    /// SHUFPD.
    fn shuffle_quadwords(&mut self, d: Reg, a: Reg, b: Reg, control: u32) {
        match control & 3 {
            0 => self.v3(permute(3, 3), d, a, b),
            1 => self.ext(d, a, b, 8),
            3 => self.v3(permute(3, 7), d, a, b),
            // The low half of a into b's, or the high half of b into a's.
            _ if d == b => self.v2(0x6e08_0400, d, a),
            _ => {
                self.vmov(d, a);
                self.v2(0x6e18_4400, d, b);
            }
        }
    }

    fn several(&mut self, op: VecOp, inst: &Inst, d: Reg, a: Reg, b: Reg, c: Reg) {
        use VecOp::*;
        let by = inst.imm as u32 & 0xff;
        match op {
            Pandn => self.v3(BIC, d, b, a),
            Pmulhw | Pmulhuw => {
                let u = u32::from(op == Pmulhuw);
                self.v3(longer(0, u, 1, 12), V0, a, b);
                self.v3(longer(1, u, 1, 12), V1, a, b);
                self.v3(permute(1, 5), d, V0, V1);
            }
            Pmuludq | Pmuldq => {
                self.v3(permute(2, 1), V0, a, a);
                self.v3(permute(2, 1), V1, b, b);
                self.v3(longer(0, u32::from(op == Pmuludq), 2, 12), d, V0, V1);
            }
            Pmaddwd => {
                self.v3(longer(0, 0, 1, 12), V0, a, b);
                self.v3(longer(1, 0, 1, 12), V1, a, b);
                self.v3(three(0, 2, ADDP), d, V0, V1);
            }
            Pmulhrsw => {
                self.v3(longer(0, 0, 1, 12), V0, a, b);
                self.v3(longer(1, 0, 1, 12), V1, a, b);
                // Narrowed by 15 bits, rounded.
                self.v2(0x0f11_8c00, d, V0);
                self.v2(0x4f11_8c00, d, V1);
            }
            Pmaddubsw => {
                for (high, product) in [(0, V0), (1 << 30, V2)] {
                    self.v2(0x2f08_a400 | high, product, a);
                    self.v2(0x0f08_a400 | high, V1, b);
                    self.v3(three(0, 1, 19), product, product, V1);
                }
                self.pairs(1, V0, V2, three(0, 1, 1), d);
            }
            Phaddsw => self.pairs(1, a, b, three(0, 1, 1), d),
            Phsubw => self.pairs(1, a, b, three(1, 1, 16), d),
            Phsubd => self.pairs(2, a, b, three(1, 2, 16), d),
            Phsubsw => self.pairs(1, a, b, three(0, 1, 5), d),
            Psignb | Psignw | Psignd => {
                let size = op as u32 - Psignb as u32;
                self.v2(two(1, 0, size, 10), V0, b);
                self.v2(two(1, 1, size, 11), V1, a);
                self.v3(BSL, V0, V1, a);
                self.v2(two(1, 0, size, 9), V1, b);
                self.v3(BIC, d, V0, V1);
            }
            Psadbw => {
                self.v3(three(1, 0, 14), V0, a, b);
                self.v2(two(1, 1, 0, 2), V0, V0);
                self.v2(two(1, 1, 1, 2), V0, V0);
                self.v2(two(1, 1, 2, 2), d, V0);
            }
            Pabsb | Pabsw | Pabsd => self.v2(two(1, 0, op as u32 - Pabsb as u32, 11), d, a),
            Packsswb | Packssdw | Packuswb | Packusdw => {
                let size = u32::from(matches!(op, Packssdw | Packusdw));
                let (u, code) = if matches!(op, Packsswb | Packssdw) { (0, 20) } else { (1, 18) };
                let t = if d == b { V0 } else { d };
                self.v2(two(0, u, size, code), t, a);
                self.v2(two(1, u, size, code), t, b);
                self.vmov(d, t);
            }
            Pslldq | Psrldq if by == 0 => self.vmov(d, a),
            Pslldq | Psrldq if by > 15 => self.asm.vzero(d),
            Pslldq => {
                self.asm.vzero(V0);
                self.ext(d, V0, a, 16 - by);
            }
            Psrldq => {
                self.asm.vzero(V0);
                self.ext(d, a, V0, by);
            }
            Palignr => match by {
                0 => self.vmov(d, b),
                1..=15 => self.ext(d, b, a, by),
                16 => self.vmov(d, a),
                17..=31 => {
                    self.asm.vzero(V0);
                    self.ext(d, a, V0, by - 16);
                }
                _ => self.asm.vzero(d),
            },
            Pshufb => {
                // Bits 6-4 of an index do not count; bit 7 gives zero, as an index out of range does.
                self.vconst(V0, 0x8f8f_8f8f_8f8f_8f8f, 0x8f8f_8f8f_8f8f_8f8f);
                self.v3(AND, V0, V0, b);
                self.v3(TBL, d, a, V0);
            }
            Pblendvb => {
                self.shift_const(0, false, true, V0, c, 7);
                self.choose_bits(d, b, a);
            }
            // The high half into b's.
            Movsd | Movss if a == b => self.vmov(d, a),
            Movsd if d == b => self.v2(0x6e18_4400, d, a),
            Movsd | Movss => {
                let t = if d == b { V0 } else { d };
                self.vmov(t, a);
                self.v2(if op == Movsd { 0x6e08_0400 } else { 0x6e04_0400 }, t, b);
                self.vmov(d, t);
            }
            ZeroHigh => self.v3(0x0ea0_1c00, d, a, a),
            SetLane => {
                let ty = self.insts[inst.args[1].index()].ty;
                let i = self.reg(inst.args[1]);
                self.vmov(d, a);
                self.v2(0x4e00_1c00 | lane_index(ty, inst.imm as u32) << 16, d, i);
            }
            _ => self.frame.unsupported("a vector operation"),
        }
    }

    /// `d` becomes `x` where the mask in [`V0`] is set and `y` where it is not. Changes [`V0`].
    pub fn choose_bits(&mut self, d: Reg, x: Reg, y: Reg) {
        match d {
            _ if d == x => self.v3(BIF, d, y, V0),
            _ if d == y => self.v3(BIT, d, x, V0),
            _ => {
                self.v3(BSL, V0, x, y);
                self.vmov(d, V0);
            }
        }
    }

    /// `op` on the even and the odd lanes of `a`, then `b`.
    fn pairs(&mut self, size: u32, a: Reg, b: Reg, op: u32, d: Reg) {
        self.v3(permute(size, 1), V1, a, b);
        self.v3(permute(size, 5), V0, a, b);
        self.v3(op, d, V1, V0);
    }

    fn shift_imm(&mut self, log: u32, left: bool, signed: bool, d: Reg, a: Reg, by: u64) {
        let bits = 8u64 << log;
        match by {
            0 => self.vmov(d, a),
            _ if signed => self.shift_const(log, left, signed, d, a, by.min(bits - 1) as u32),
            _ if by >= bits => self.asm.vzero(d),
            _ => self.shift_const(log, left, signed, d, a, by as u32),
        }
    }

    /// By the low quadword of `b`, whatever it is.
    fn shift_by_vector(&mut self, log: u32, left: bool, signed: bool, d: Reg, a: Reg, b: Reg) {
        let bits = 8u64 << log;
        self.save_flags();
        self.v2(0x9e66_0000, S0, b);
        self.asm.mov_imm(S1, bits);
        self.asm.arith(true, true, true, ZR, S0, S1, 0);
        self.asm.csel(true, S0, S0, S1, Cond::Cc);
        if !left {
            self.asm.arith(true, true, false, S0, ZR, S0, 0);
        }
        // dup, then a shift to the left by signed counts.
        self.v2(0x4e00_0c00 | (1 << log) << 16, V0, S0);
        self.v3(three(u32::from(!signed), log, 8), d, a, V0);
    }

    /// Bytes of `b:a` by a table; an index of 16 and more is of b.
    pub fn table(&mut self, d: Reg, a: Reg, b: Reg, table: [u8; 16]) {
        let half = |t: &[u8]| t.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
        self.vconst(V2, half(&table[..8]), half(&table[8..]));
        if table.iter().all(|&i| i < 16) {
            return self.v3(TBL, d, a, V2);
        }
        self.vmov(PAIR, a);
        self.vmov(PAIR + 1, b);
        self.v3(TBL2, d, PAIR, V2);
    }

    fn int_to_vector(&mut self, me: Value, inst: &Inst) {
        let v = inst.args[0];
        let ty = self.insts[v.index()].ty;
        match self.val[v.index()].loc {
            // A load has put it into a vector register for this.
            Loc::Vec(r) => {
                self.val[v.index()].loc = Loc::None;
                self.set_vec_temp(me, r);
            }
            Loc::GuestV(r) => {
                self.unhold(v);
                self.val[v.index()].loc = Loc::None;
                self.held[r as usize].push(me);
                self.tops.guest[r as usize] = Some(me);
                self.val[me.index()].loc = Loc::GuestV(r);
            }
            _ => {
                let r = self.reg(v);
                let d = self.vdest(me, &[]);
                self.vec_from_int(d.reg, ty, r);
                self.vfinish(me, d);
            }
        }
        self.val[me.index()].low = ty.bits() as u8;
    }

    fn lane(&mut self, me: Value, inst: &Inst) {
        if self.lane_for_store(me, inst) {
            return;
        }
        let a = self.vreg(inst.args[0]);
        let d = self.dest(me);
        let wide = u32::from(inst.ty == Type::I64) << 30;
        self.v2(0x0e00_3c00 | wide | lane_index(inst.ty, inst.imm as u32) << 16, d.reg, a);
        self.finish(me, d, true);
    }

    fn sign_mask(&mut self, me: Value, inst: &Inst, op: VecOp) {
        let a = self.vreg(inst.args[0]);
        let d = self.dest(me);
        match op {
            VecOp::Pmovmskb => {
                // A bit of its own for each byte, then sums of neighbours.
                self.shift_const(0, false, true, V0, a, 7);
                self.vconst(V1, 0x8040_2010_0804_0201, 0x8040_2010_0804_0201);
                self.v3(AND, V0, V0, V1);
                for _ in 0..3 {
                    self.v3(three(0, 0, ADDP), V0, V0, V0);
                }
                self.v2(0x0e00_3c00 | lane_index(Type::I16, 0) << 16, d.reg, V0);
            }
            VecOp::Movmskps => {
                self.shift_const(2, false, false, V0, a, 31);
                self.v2(two(0, 0, 1, 18), V0, V0);
                self.v2(0x9e66_0000, S0, V0);
                self.asm.logic_lsr(Logic::Orr, true, S0, S0, S0, 15);
                self.asm.logic_lsr(Logic::Orr, true, S0, S0, S0, 30);
                self.asm.logic_imm(Logic::And, false, d.reg, S0, 15);
            }
            _ => {
                self.v2(0x4e00_3c00 | lane_index(Type::I64, 1) << 16, S0, a);
                self.v2(0x9e66_0000, S1, a);
                self.asm.lsr_imm(true, S1, S1, 63);
                self.asm.lsr_imm(true, S0, S0, 63);
                self.asm.logic(Logic::Orr, true, d.reg, S1, S0, 1);
            }
        }
        self.finish(me, d, true);
    }
}

/// How instructions name lane `n` of integers of type `ty`.
fn lane_index(ty: Type, n: u32) -> u32 {
    let log = super::asm::size(ty);
    (n << (log + 1) | 1 << log) & 31
}

/// Which byte goes where; 16 and more are of b.
fn shuffle(op: VecOp, control: u32) -> Option<[u8; 16]> {
    use VecOp::*;
    let field = |width: u32, n: u32| control >> (width * n) & ((1 << width) - 1);
    // By lane of `bytes`: the number of the lane, b's behind a's.
    let lanes = |bytes: u32, f: &dyn Fn(u32) -> u32| {
        std::array::from_fn(|i| (f(i as u32 / bytes) * bytes + i as u32 % bytes) as u8)
    };
    Some(match op {
        Pshufd => lanes(4, &|n| field(2, n)),
        Pshuflw => lanes(2, &|n| if n < 4 { field(2, n) } else { n }),
        Pshufhw => lanes(2, &|n| if n < 4 { n } else { 4 + field(2, n - 4) }),
        Shufps => lanes(4, &|n| field(2, n) + if n < 2 { 0 } else { 4 }),
        Pblendw => lanes(2, &|n| n + 8 * field(1, n)),
        _ => return None,
    })
}
