//! Vector operations that are named by their x86 encoding (`emu_core::ir::encoded`): those of 128 bits that the host has
//! something for.

use super::Codegen;
use super::asm::{Cond, Logic, Reg, ZR};
use super::fp_coded::Float;
use super::vals::{S0, S1};
use super::vecregs::{V0, V1};
use super::words::{AESE, AND, BIC, DUP_HIGH, EOR};
use emu_core::ir::encoded::{Encoded, Needs, Shape};
use emu_core::ir::{Inst, Value};

/// What an encoding means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coded {
    /// Computes under MXCSR.
    Float(Float),
    /// PTEST.
    Test,
    /// BLENDPS and BLENDPD: bytes of a lane.
    Blend(u32),
    /// INSERTPS.
    Insert,
    /// AESENC and AESENCLAST.
    Encrypt(bool),
    /// AESDEC and AESDECLAST.
    Decrypt(bool),
    /// AESIMC.
    InverseMix,
    /// PCLMULQDQ.
    Carryless,
    /// AESKEYGENASSIST.
    KeyAssist,
    /// Of a and b: ZF if the first has no bit, CF if the second has none. No encoding of x86: see [`Coded::ZEROS`].
    Zeros,
    /// VPSLLVD and its kin: log2 of the bytes of a lane, whether to the left, whether signed.
    ShiftLanes(u32, bool, bool),
    /// VPERMILPS by a vector.
    PermuteSingles,
    /// VPERMILPD by a vector.
    PermuteDoubles,
    /// A half of VPERMD and VPERMPS: by the indices a, of the halves b and c.
    Doublewords,
    /// MPSADBW.
    Differences,
    /// PHMINPOSUW.
    Least,
}

impl Coded {
    /// The name of [`Coded::Zeros`], in a map that x86 has not got.
    pub const ZEROS: Encoded = Encoded {
        prefix: 0,
        map: 0,
        opcode: 0x17,
        w: false,
        l: false,
        digit: 0,
        imm: false,
        shape: Shape::Flags,
        needs: Needs::Avx,
    };

    /// What `aux` names, if the emitter knows it and this host has it.
    pub fn from_aux(aux: u32) -> Option<Self> {
        use Coded::*;
        let e = Encoded::from_aux(aux).filter(|e| !e.l)?;
        if let Some(f) = self::Float::from_encoding(e) {
            return Some(Float(f));
        }
        let coded = match (e.prefix, e.map, e.opcode) {
            (0, 0, 0x17) => Zeros,
            (0x66, 2, 0x17) => Test,
            (0x66, 2, 0x45) => ShiftLanes(2 + u32::from(e.w), false, false),
            (0x66, 2, 0x46) => ShiftLanes(2, false, true),
            (0x66, 2, 0x47) => ShiftLanes(2 + u32::from(e.w), true, false),
            (0x66, 2, 0x0c) => PermuteSingles,
            (0x66, 2, 0x0d) => PermuteDoubles,
            (0x66, 2, 0x16 | 0x36) => Doublewords,
            (0x66, 2, 0x41) => Least,
            (0x66, 3, 0x42) => Differences,
            (0x66, 3, 0x0c) => Blend(4),
            (0x66, 3, 0x0d) => Blend(8),
            (0x66, 3, 0x21) => Insert,
            (0x66, 2, 0xdb) => InverseMix,
            (0x66, 2, op @ (0xdc | 0xdd)) => Encrypt(op == 0xdd),
            (0x66, 2, op @ (0xde | 0xdf)) => Decrypt(op == 0xdf),
            (0x66, 3, 0x44) => Carryless,
            (0x66, 3, 0xdf) => KeyAssist,
            _ => return None,
        };
        let crypto = matches!(coded, InverseMix | Encrypt(_) | Decrypt(_) | Carryless | KeyAssist);
        (!crypto || has_crypto()).then_some(coded)
    }

    /// Whether it computes under MXCSR.
    pub const fn is_float(self) -> bool {
        matches!(self, Coded::Float(_))
    }
}

const AESD: u32 = 0x4e28_5800;
const AESMC: u32 = 0x4e28_6800;
const AESIMC: u32 = 0x4e28_7800;
const PMULL: u32 = 0x0ee0_e000;
/// The high quadword into both.
/// The greatest of four doublewords.
const UMAXV: u32 = 0x6eb0_a800;

impl Codegen {
    /// Vec1, Vec2 and Vec3 by encoding.
    pub fn coded(&mut self, me: Value, inst: &Inst, op: Coded) {
        let a = self.vreg(inst.args[0]);
        let b = if inst.args[1].is_some() { self.vreg(inst.args[1]) } else { a };
        let c = if inst.args[2].is_some() { self.vreg(inst.args[2]) } else { a };
        match op {
            Coded::Test => {
                self.save_flags();
                self.v3(AND, V0, a, b);
                self.v3(BIC, V1, b, a);
                return self.flags_of_zeros(me, V0, V1);
            }
            Coded::Zeros => {
                self.save_flags();
                return self.flags_of_zeros(me, a, b);
            }
            _ => {}
        }
        let to = self.vdest(me, &[]);
        let d = to.reg;
        let imm = inst.imm as u32;
        match op {
            Coded::Blend(bytes) => {
                let other = |i: u32| imm >> (i / bytes) & 1;
                self.table(d, a, b, std::array::from_fn(|i| i as u8 + 16 * other(i as u32) as u8));
            }
            Coded::Insert => {
                let (from, to) = (imm >> 6 & 3, imm >> 4 & 3);
                self.table(
                    d,
                    a,
                    b,
                    std::array::from_fn(|i| match i as u32 / 4 {
                        // An index out of range gives zero.
                        n if imm >> n & 1 != 0 => 0xff,
                        n if n == to => 16 + 4 * from as u8 + i as u8 % 4,
                        _ => i as u8,
                    }),
                );
            }
            Coded::Encrypt(last) => self.round_of_aes(d, a, b, AESE, (!last).then_some(AESMC)),
            Coded::Decrypt(last) => self.round_of_aes(d, a, b, AESD, (!last).then_some(AESIMC)),
            Coded::InverseMix => self.v2(AESIMC, d, a),
            Coded::Carryless => {
                let mut half = |v: Reg, high: bool, t: Reg| {
                    if high {
                        self.v2(DUP_HIGH, t, v);
                    }
                    if high { t } else { v }
                };
                let (x, y) = (half(a, imm & 1 != 0, V0), half(b, imm & 16 != 0, V1));
                self.v3(PMULL, d, x, y);
            }
            Coded::KeyAssist => self.key_assist(d, a, imm),
            Coded::ShiftLanes(log, left, signed) => self.shift_lanes(log, left, signed, d, a, b),
            Coded::PermuteSingles => self.permute_doublewords(d, (a, None), b, 3),
            Coded::PermuteDoubles => self.permute_doubles(d, a, b),
            Coded::Doublewords => self.permute_doublewords(d, (b, Some(c)), a, 7),
            Coded::Differences => self.differences(d, a, b, imm),
            Coded::Least => self.least(d, a),
            Coded::Float(_) | Coded::Test | Coded::Zeros => self.frame.fail("no vector operation"),
        }
        self.vfinish(me, to);
    }

    /// The host adds the round's key first, so it gets none; the guest's comes last.
    fn round_of_aes(&mut self, d: Reg, a: Reg, key: Reg, op: u32, mix: Option<u32>) {
        let t = if d == key { V1 } else { d };
        self.asm.vzero(V0);
        self.vmov(t, a);
        self.v2(op, t, V0);
        if let Some(mix) = mix {
            self.v2(mix, t, t);
        }
        self.v3(EOR, d, t, key);
    }

    /// ZF if `zf` is zero, CF if `cf` is.
    fn flags_of_zeros(&mut self, me: Value, zf: Reg, cf: Reg) {
        let d = if self.worded[me.index()] { self.word_dest(me) } else { S0 };
        for (to, v) in [(V0, zf), (V1, cf)] {
            self.v2(UMAXV, to, v);
        }
        for (v, r, c) in [(V0, S0, Cond::Eq), (V1, S1, Cond::Ne)] {
            // To a general register.
            self.v2(0x1e26_0000, r, v);
            self.asm.arith(false, true, true, ZR, r, ZR, 0);
            self.asm.cset(r, c);
        }
        self.asm.lsl_imm(false, S0, S0, 30);
        self.asm.logic(Logic::Orr, false, S0, S0, S1, 29);
        // A low byte of odd parity.
        self.asm.logic_imm(Logic::Orr, false, d, S0, 1);
        self.asm.msr_nzcv(d);
        self.native = Some((me, super::flags::Carry::Inverted));
        if d != S0 {
            self.set_word(me, d);
        }
    }
}

#[cfg(target_arch = "aarch64")]
fn has_crypto() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(target_arch = "aarch64"))]
const fn has_crypto() -> bool {
    true
}
