//! Floating point of SSE, exact to the bit, by the host's own.
//!
//! While the guest's vector registers are in the host's (`vecregs::LIVE`), FPCR has the guest's rounding mode and FZ, whatever the guest's DAZ and FTZ are: under it the host raises a flag of its own for everything
//! that the two architectures do not do alike. An operation is the host's instruction and a look at FPSR:
//!
//! - IXC alone is PE, and stays in FPSR until somebody wants MXCSR;
//! - IDC says that an operand was denormal (DE, DAZ), UFC that the result was tiny before rounding (UE, FTZ; the guest
//!   looks after rounding), IOC that a NaN was signalling or new (which NaN comes out, and with what sign) or that an
//!   integer does not hold the result; QC that a narrowed one does not. Then, and at DZC and OFC, [`crate::helpers::Helper::Fp`] does
//!   the operation over, in integers, and what the host raised is forgotten.
//!
//! Quiet NaNs alone raise nothing and come out as the guest has it: the first operand's.

use super::Codegen;
use super::asm::{Logic, Reg, ZR};
use super::coded::Coded;
use super::mem::{FpTo, Stub, StubKind};
use super::run::Form;
use super::vals::{S0, S1, STATE, slot};
use super::vecregs::{V0, V1};
use super::words::{AND, ORR};
use crate::helpers::fp_order;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Cc, Inst, Op, Type, Value, VecOp};

/// The bits of FPSR that have an operation done over, repeated as a logical immediate has to: all but IXC.
const ODD: u64 = 0xefef_efef;
/// Bit of IXC in FPSR.
const IXC: u8 = 4;
/// Bit of PE in MXCSR.
const PE: u8 = 5;
/// FPCR.FZ.
const FZ: u64 = 1 << 24;

/// Bit 22: doubles.
pub const fn double(d: bool) -> u32 {
    (d as u32) << 22
}

/// Whether the emitter knows an operation.
pub fn known(inst: &Inst) -> bool {
    VecOp::from_number(inst.aux).is_some_and(|op| op as u32 >= VecOp::Addss as u32)
        || Coded::from_aux(inst.aux).is_some_and(Coded::is_float)
}

/// Whether an operation may raise something odd.
pub fn is_checked(inst: &Inst) -> bool {
    use VecOp::*;
    !matches!(VecOp::from_number(inst.aux), Some(Cvtsi2ss | Cvtsi2sd | Cvtdq2ps | Cvtdq2pd))
}

/// Whether an operation is on low lanes, and leaves the others as they are in its first operand.
pub fn one_lane(inst: &Inst) -> bool {
    use VecOp::*;
    match VecOp::from_number(inst.aux) {
        Some(Cvtsi2ss | Cvtsi2sd | Cvtss2sd | Cvtsd2ss) => true,
        Some(op) => (op as u32) < Cvtsi2ss as u32 && !form(op).1,
        None => matches!(Coded::from_aux(inst.aux), Some(Coded::Float(op)) if op.one_lane()),
    }
}

/// The low lane of one vector into another.
pub const fn ins_low(wide: bool) -> u32 {
    if wide { 0x6e08_0400 } else { 0x6e04_0400 }
}

/// Whether an operation keeps what FPSR was before it.
pub fn may_raise_more(inst: &Inst) -> bool {
    use VecOp::*;
    inst.args[2].is_some() || matches!(VecOp::from_number(inst.aux), Some(Cvtps2dq | Cvtpd2dq | Cvttpd2dq))
}

/// Operations that are one instruction: as a scalar, and on all lanes.
const fn arithmetic(op: VecOp) -> Option<(u32, u32)> {
    use VecOp::*;
    Some(match op {
        Addss | Addsd | Addps | Addpd => (0x1e20_2800, 0x4e20_d400),
        Subss | Subsd | Subps | Subpd => (0x1e20_3800, 0x4ea0_d400),
        Mulss | Mulsd | Mulps | Mulpd => (0x1e20_0800, 0x6e20_dc00),
        Divss | Divsd | Divps | Divpd => (0x1e20_1800, 0x6e20_fc00),
        Sqrtss | Sqrtsd | Sqrtps | Sqrtpd => (0x1e21_c000, 0x6ea1_f800),
        _ => return None,
    })
}

/// Comparisons that give masks, as scalars; on all lanes bit 28 is clear and bit 30 set.
const FCMEQ: u32 = 0x5e20_e400;
pub const FCMGE: u32 = 0x7e20_e400;
const FCMGT: u32 = 0x7ea0_e400;
const NOT: u32 = 0x6e20_5800;

pub const fn lanes(scalar: u32, all: bool) -> u32 {
    if all { scalar & !(1 << 28) | 1 << 30 } else { scalar }
}

/// (on doubles, on all lanes), of operations that come in four forms.
fn form(op: VecOp) -> (bool, bool) {
    let name = op.name();
    (name.ends_with('d'), name.as_bytes()[name.len() - 2] == b'p')
}

/// An operation that is checked behind its instructions.
#[derive(Debug)]
pub struct Checked {
    pub resume: DynamicLabel,
    a: Reg,
    b: Reg,
    third: Option<Reg>,
    order: u64,
    /// FPSR before it is in [`S1`]: what it raises may be more than is right.
    restore: bool,
}

impl Codegen {
    /// Goes on as `to` if the operation raised nothing odd, else by the helper; in the quick form of a run behind its last
    /// operation alone.
    pub fn check(&mut self, c: &Checked, to: FpTo) {
        let careful = self.way_to_careful();
        if careful.is_some() && !self.looks_here() {
            return;
        }
        debug_assert!(self.nan_waits.is_none());
        self.asm.mrs_fpsr(S0);
        self.asm.logic_imm(Logic::And, false, S0, S0, ODD);
        if let Some(careful) = careful {
            return self.asm.cbz(true, false, S0, careful);
        }
        let label = self.asm.label();
        self.asm.cbz(true, false, S0, label);
        let site = self.site();
        let kind = StubKind::Fp { order: c.order, a: c.a, b: c.b, third: c.third, to, restore: c.restore };
        self.stubs.push(Stub { label, resume: c.resume, site, kind });
    }

    fn third(&mut self, inst: &Inst) -> Option<Reg> {
        inst.args[2].is_some().then(|| self.vlow(inst.args[2], false))
    }

    /// The operation in hand on `a`, `b` and a third operand, which may always raise more than is right.
    pub fn checked(&mut self, inst: &Inst, a: Reg, b: Reg, more: bool) -> Checked {
        let third = self.third(inst);
        let restore = more || third.is_some();
        if restore && self.form != Form::Quick {
            self.asm.mrs_fpsr(S1);
        }
        Checked { resume: self.asm.label(), a, b, third, order: fp_order(inst), restore }
    }

    /// Fp.
    pub fn float(&mut self, me: Value, inst: &Inst) {
        use VecOp::*;
        self.vec_enter();
        let Some(op) = VecOp::from_number(inst.aux) else {
            return match Coded::from_aux(inst.aux) {
                Some(Coded::Float(op)) => self.float_coded(me, inst, op),
                _ => self.frame.fail("no such floating-point operation"),
            };
        };
        match op {
            Cvtsi2ss | Cvtsi2sd => self.int_to_float(me, inst, op == Cvtsi2sd),
            Cvtss2si | Cvtsd2si | Cvttss2si | Cvttsd2si => self.float_to_int(me, inst, op),
            Comiss | Comisd | Ucomiss | Ucomisd => self.compare_flags(me, inst, op),
            Cvtdq2ps | Cvtdq2pd => {
                let b = self.vreg(inst.args[1]);
                let to = self.vdest(me, &[]);
                let d = to.reg;
                if op == Cvtdq2ps {
                    self.v2(0x4e21_d800, d, b);
                } else {
                    self.v2(0x0f20_a400, d, b);
                    self.v2(0x4e61_d800, d, d);
                }
                self.vfinish(me, to);
            }
            Cvtps2pd | Cvtpd2ps | Cvtps2dq | Cvttps2dq | Cvtpd2dq | Cvttpd2dq => {
                let b = self.vreg(inst.args[1]);
                let more = matches!(op, Cvtps2dq | Cvtpd2dq | Cvttpd2dq);
                self.packed(me, inst, b, b, more, |g, d| g.convert(op, d, b));
            }
            Cvtss2sd | Cvtsd2ss => self.scalar(me, inst, (op == Cvtss2sd, true), |g, d, _, b| {
                g.v2(if op == Cvtss2sd { 0x1e22_c000 } else { 0x1e62_4000 }, d, b);
            }),
            _ => self.four_forms(me, inst, op),
        }
    }

    fn four_forms(&mut self, me: Value, inst: &Inst, op: VecOp) {
        let (wide, all) = form(op);
        let emit = |g: &mut Self, d: Reg, a: Reg, b: Reg| match arithmetic(op) {
            Some((one, each)) => {
                let word = if all { each } else { one } | double(wide);
                if op as u32 >= VecOp::Sqrtss as u32 { g.v2(word, d, b) } else { g.v3(word, d, a, b) }
            }
            None => g.choose(op, inst.imm, lanes(double(wide), all), [d, a, b], all),
        };
        if !all {
            return self.scalar(me, inst, (wide, arithmetic(op).is_some()), emit);
        }
        let (a, b) = (self.vreg(inst.args[0]), self.vreg(inst.args[1]));
        self.packed(me, inst, a, b, false, |g, d| emit(g, d, a, b));
    }

    /// An operation on all lanes of `a` and `b`, which `emit` leaves in a register that it may not give before it has
    /// read them. `more`: it may raise more than is right.
    pub fn packed(
        &mut self,
        me: Value,
        inst: &Inst,
        a: Reg,
        b: Reg,
        more: bool,
        emit: impl FnOnce(&mut Self, Reg),
    ) {
        let to = self.vdest(me, &[]);
        // The operands are wanted if it has to be done over here.
        let operands = [Some(a), Some(b), self.third(inst)];
        let over = operands.contains(&Some(to.reg)) && self.form != Form::Quick;
        let d = if over { V0 } else { to.reg };
        let c = self.checked(inst, a, b, more);
        emit(self, d);
        self.check(&c, FpTo::Vec(to.reg));
        self.vmov(to.reg, d);
        self.asm.bind(c.resume);
        self.vfinish(me, to);
    }

    /// Minimum, maximum and comparisons into masks.
    fn choose(&mut self, op: VecOp, imm: i64, size: u32, [d, a, b]: [Reg; 3], all: bool) {
        use VecOp::*;
        let size = size & double(true);
        let mut mask = |word: u32, d: Reg, n: Reg, m: Reg| {
            self.v3(lanes(word, all) | size, d, n, m);
        };
        match op {
            Minss | Minsd | Minps | Minpd => {
                mask(FCMGT, V0, b, a);
                self.choose_bits(d, a, b);
            }
            Maxss | Maxsd | Maxps | Maxpd => {
                mask(FCMGT, V0, a, b);
                self.choose_bits(d, a, b);
            }
            _ => self.predicate(imm as u8, size, [d, a, b], all),
        }
    }

    /// A comparison into masks by one of VCMPPS's predicates. One that a quiet NaN is no reason for IE with may be put by
    /// an instruction that raises IOC for it, but not the other way round.
    fn predicate(&mut self, imm: u8, size: u32, [d, a, b]: [Reg; 3], all: bool) {
        let mut mask = |word: u32, d: Reg, n: Reg, m: Reg| self.v3(lanes(word, all) | size, d, n, m);
        let signal = matches!(imm & 3, 1 | 2) != (imm & 16 != 0);
        if signal && matches!(imm & 15, 0 | 3 | 4 | 7 | 11 | 15) {
            mask(FCMGE, V1, a, b);
        }
        match imm & 15 {
            0 | 4 => mask(FCMEQ, d, a, b),
            1 | 5 => mask(FCMGT, d, b, a),
            2 | 6 => mask(FCMGE, d, b, a),
            3 | 7 => {
                // Neither is a NaN.
                mask(FCMEQ, V1, b, b);
                mask(FCMEQ, d, a, a);
                self.v3(AND, d, d, V1);
            }
            8 | 12 => {
                mask(FCMGT, V0, a, b);
                mask(FCMGT, V1, b, a);
                self.v3(ORR, d, V0, V1);
            }
            9 | 13 => mask(FCMGE, d, a, b),
            10 | 14 => mask(FCMGT, d, a, b),
            _ => {
                mask(FCMEQ, V1, a, b);
                self.asm.vzero(d);
            }
        }
        // NEQ, NLT, NLE and UNORD; EQ_UQ, NGE, NGT and TRUE.
        if matches!(imm & 15, 3..=6 | 8..=10 | 15) {
            self.v2(NOT, d, d);
        }
    }

    fn convert(&mut self, op: VecOp, d: Reg, b: Reg) {
        use VecOp::*;
        match op {
            Cvtps2pd => self.v2(0x0e61_7800, d, b),
            Cvtpd2ps => self.v2(0x0e61_6800, d, b),
            Cvttps2dq => self.v2(0x4ea1_b800, d, b),
            Cvtps2dq => {
                self.v2(0x6e21_9800, d, b);
                self.v2(0x4ea1_b800, d, d);
            }
            _ => {
                let from = if op == Cvtpd2dq {
                    self.v2(0x6e61_9800, d, b);
                    d
                } else {
                    b
                };
                self.v2(0x4ee1_b800, d, from);
                self.v2(0x0ea1_4800, d, d);
            }
        }
    }

    /// An operation on the low lanes, made by `emit` in a register that is neither operand; the other lanes are those of
    /// a. `clears`: it makes zeros of them.
    pub fn scalar(
        &mut self,
        me: Value,
        inst: &Inst,
        (wide, clears): (bool, bool),
        emit: impl FnOnce(&mut Self, Reg, Reg, Reg),
    ) {
        // What is converted is of the other width.
        let converts = matches!(VecOp::from_number(inst.aux), Some(VecOp::Cvtss2sd | VecOp::Cvtsd2ss));
        let (mut a, b) = (self.vlow(inst.args[0], wide), self.vlow(inst.args[1], wide != converts));
        let (low, width) = (self.low_bits(inst.args[0]), if wide { 64 } else { 32 });
        if clears && low <= width {
            self.packed(me, inst, a, b, false, |g, d| emit(g, d, a, b));
        } else {
            let rest = self.rest_for(inst.args[0], wide);
            if rest.is_none() {
                a = self.vreg(inst.args[0]);
            }
            let to = self.vdest_over(me, inst.args[0], &[]);
            let c = self.checked(inst, a, b, false);
            emit(self, if rest.is_some() { to.reg } else { V0 }, a, b);
            self.check(&c, FpTo::Vec(to.reg));
            if rest.is_none() {
                self.low_lane(wide, to.reg, inst.args[0], a);
            }
            self.asm.bind(c.resume);
            self.vfinish(me, to);
            self.val[me.index()].rest = rest;
            self.tops.take_over(me, inst.args[0], wide);
        }
        self.val[me.index()].low = low.max(width);
    }

    /// `d` becomes `a`, which is in register `r`, with its low lane from [`V0`].
    fn low_lane(&mut self, wide: bool, d: Reg, a: Value, r: Reg) {
        if !self.same_rest(d, a, wide) {
            self.vmov(d, r);
        }
        self.v2(ins_low(wide), d, V0);
    }

    fn int_to_float(&mut self, me: Value, inst: &Inst, wide: bool) {
        let from = u32::from(self.insts[inst.args[1].index()].ty == Type::I64) << 31;
        let word = 0x1e22_0000 | from | double(wide);
        let i = self.reg(inst.args[1]);
        let (low, width) = (self.low_bits(inst.args[0]), if wide { 64 } else { 32 });
        let to = if low <= width {
            let to = self.vdest(me, &[]);
            self.v2(word, to.reg, i);
            to
        } else {
            let rest = self.rest_for(inst.args[0], wide);
            let a = if rest.is_some() { self.vlow(inst.args[0], false) } else { self.vreg(inst.args[0]) };
            let to = self.vdest_over(me, inst.args[0], &[]);
            if rest.is_some() {
                self.v2(word, to.reg, i);
            } else {
                self.v2(word, V0, i);
                self.low_lane(wide, to.reg, inst.args[0], a);
            }
            self.val[me.index()].rest = rest;
            self.tops.take_over(me, inst.args[0], wide);
            to
        };
        self.vfinish(me, to);
        self.val[me.index()].low = low.max(width);
    }

    fn float_to_int(&mut self, me: Value, inst: &Inst, op: VecOp) {
        use VecOp::*;
        let is_wide = matches!(op, Cvtsd2si | Cvttsd2si);
        let wide = double(is_wide);
        let rounds = matches!(op, Cvtss2si | Cvtsd2si);
        let b = self.vlow(inst.args[1], is_wide);
        let d = self.dest(me);
        let c = self.checked(inst, b, b, rounds);
        let from = if rounds {
            self.v2(0x1e27_4000 | wide, V0, b);
            V0
        } else {
            b
        };
        // A run must not change a guest register before it is checked.
        let to = if self.form == Form::Quick { S1 } else { d.reg };
        self.v2(0x1e38_0000 | wide | u32::from(inst.ty == Type::I64) << 31, to, from);
        self.check(&c, FpTo::Int(d.reg));
        if to != d.reg {
            self.asm.mov(true, d.reg, to);
        }
        self.asm.bind(c.resume);
        self.finish(me, d, true);
    }

    /// COMISS and its kin. No NaN comes through, so N or Z or neither is set, and C unless it is N.
    fn compare_flags(&mut self, me: Value, inst: &Inst, op: VecOp) {
        let is_wide = matches!(op, VecOp::Comisd | VecOp::Ucomisd);
        let wide = double(is_wide);
        let (a, b) = (self.vlow(inst.args[0], is_wide), self.vlow(inst.args[1], is_wide));
        // Conditions that do not look at N and V can be had from the host's flags.
        let plain = self.insts[self.at + 1..].iter().all(|i| {
            i.op != Op::TestCc
                || i.args[0] != me
                || matches!(Cc::ALL[i.imm as usize & 15] as u8 >> 1, 1..=3 | 5)
        });
        self.save_flags();
        let word = if self.worded[me.index()] || !plain { Some(self.word_dest(me)) } else { None };
        let c = self.checked(inst, a, b, false);
        self.v3(0x1e20_2010 | wide, 0, a, b);
        self.check(&c, FpTo::Flags(word));
        if let Some(d) = word {
            // Z and C, and a low byte of odd parity.
            self.asm.mrs_nzcv(d);
            self.asm.logic_imm(Logic::And, false, d, d, 3 << 29);
            self.asm.logic_imm(Logic::Orr, false, d, d, 1);
        }
        self.asm.bind(c.resume);
        if plain {
            self.native = Some((me, super::flags::Carry::Inverted));
        }
        if let Some(d) = word {
            self.set_word(me, d);
        }
    }

    /// The guest's MXCSR into `d`, which is in the state but for flags that came since.
    pub fn read_mxcsr(&mut self, d: Reg, at: usize) {
        self.vec_enter();
        self.asm.mrs_fpsr(S0);
        self.asm.ubfx(false, S0, S0, IXC, 1);
        self.asm.ldr(Type::I32, S1, STATE, slot(layout::MX_GUEST));
        self.asm.logic_imm(Logic::And, false, S1, S1, 0x3f);
        self.asm.logic(Logic::Orr, false, S0, S1, S0, PE);
        self.asm.ldr(Type::I32, S1, STATE, at);
        self.asm.logic(Logic::Orr, false, d, S0, S1, 0);
    }

    /// Gives the host the guest's modes. Changes [`S0`] and [`S1`].
    pub fn fp_begin(&mut self) {
        self.asm.ldr(Type::I32, S0, STATE, slot(layout::MX_GUEST));
        // 0 nearest, 1 down, 2 up, 3 to zero; here up is 1 and down 2.
        self.asm.ubfx(false, S1, S0, 13, 1);
        self.asm.ubfx(false, S0, S0, 14, 1);
        self.asm.logic(Logic::Orr, false, S0, S0, S1, 1);
        self.asm.lsl_imm(false, S0, S0, 22);
        self.asm.logic_imm(Logic::Orr, false, S0, S0, FZ);
        self.asm.msr_fpcr(S0);
        self.asm.msr_fpsr(ZR);
    }

    /// Notes flags and gives the host the modes of Rust code. Changes [`S0`] and [`S1`].
    pub fn fp_end(&mut self) {
        self.asm.mrs_fpsr(S0);
        self.asm.ubfx(false, S0, S0, IXC, 1);
        self.asm.ldr(Type::I32, S1, STATE, slot(layout::MX_GUEST));
        self.asm.logic(Logic::Orr, false, S1, S1, S0, PE);
        self.asm.str(Type::I32, S1, STATE, slot(layout::MX_GUEST));
        self.asm.msr_fpcr(ZR);
    }

    /// The helper's result, in place; the way on is open behind it.
    pub fn fp_result(&mut self, to: FpTo) {
        let at = slot(layout::RESULT);
        match to {
            FpTo::Vec(d) => self.asm.ldr_q(d, STATE, at),
            FpTo::Int(d) => self.asm.ldr(Type::I64, d, STATE, at),
            FpTo::Flags(word) => {
                let d = word.unwrap_or(S0);
                self.asm.ldr(Type::I64, d, STATE, at);
                self.asm.msr_nzcv(d);
            }
        }
    }
}
