//! How each vector operation is encoded: opcode tables, and VEX or legacy forms by what the host has.

use super::Codegen;
use super::asm::{Mem, Opc, Reg, Rm};
use emu_core::ir::encoded::{Encoded, Needs, Shape};
use emu_core::ir::{Inst, Op, Value, VecOp};

/// The shape of an operation's operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// d = a op b.
    Two,
    /// d = op a.
    One,
    /// d = the d that a is, op b and c.
    Fused,
    /// d = a, b and a mask c in the immediate.
    Blend,
    /// d = a op immediate, with the opcode's extension.
    Group(u8),
    /// d, in r/m, = op a.
    Store,
    /// An integer register = op a.
    ToInt,
    /// Flags of comparing a with b.
    Compare,
    /// What the instruction leaves in ECX of a and b.
    Index,
    /// d = a with its low lane converted from integer b.
    FromInt,
}

/// The opcode in the third map, with prefix 66.
const PCMPISTRI: u8 = 0x63;

/// How one operation is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coding {
    /// Opcode with prefix and map.
    pub opc: Opc,
    /// REX.W or VEX.W.
    pub w: bool,
    /// VEX.L.
    pub l: bool,
    /// Has an immediate byte.
    pub imm: bool,
    /// The form with memory means something else.
    pub reg_only: bool,
    /// Operands.
    pub form: Form,
    /// What the host must have; None for those that need SSE2, or SSE4.1 beyond the first opcode map.
    pub needs: Option<Needs>,
    /// The operand of `One` and `ToInt` is the second argument.
    pub second: bool,
}

impl Coding {
    /// The plain case.
    pub const fn of(opc: Opc, form: Form) -> Self {
        Self { opc, w: false, l: false, imm: false, reg_only: false, form, needs: None, second: false }
    }

    /// Whether it is PCMPISTRI, which changes flags and ECX.
    pub fn is_string_index(&self) -> bool {
        self.opc.1 == 3 && self.opc.2 == PCMPISTRI
    }

    /// The operands in the order of [`Form`].
    pub fn args(&self, inst: &Inst) -> [Value; 3] {
        let [a, b, c] = inst.args;
        if self.second && b.is_some() && matches!(self.form, Form::One | Form::ToInt) {
            [b, Value::NONE, Value::NONE]
        } else {
            [a, b, c]
        }
    }
}

/// The encoding of a vector operation, with 256-bit operands if `wide`; None for those that `sse` writes out.
pub fn coding(inst: &Inst, wide: bool) -> Option<Coding> {
    if let Some(e) = Encoded::from_aux(inst.aux) {
        let form = match e.shape {
            Shape::Rm => Form::One,
            Shape::VRm => Form::Two,
            Shape::DVRm => Form::Fused,
            Shape::VRmI => Form::Blend,
            Shape::Group => Form::Group(e.digit),
            Shape::Store => Form::Store,
            Shape::ToInt => Form::ToInt,
            Shape::Flags => Form::Compare,
            Shape::Index => Form::Index,
        };
        let base = Coding::of(Opc(e.prefix, e.map, e.opcode), form);
        let reg_only = match (e.map, e.opcode) {
            // MOVHLPS, MOVLHPS.
            (1, 0x12 | 0x16) => e.prefix == 0,
            // MOVMSKPx, PMOVMSKB; INSERTPS; PCMPISTRI, beside which ECX can be part of no address.
            (1, 0x50 | 0xd7) | (3, 0x21 | PCMPISTRI) => true,
            _ => false,
        };
        return Some(Coding { w: e.w, l: e.l, imm: e.imm, reg_only, needs: Some(e.needs), ..base });
    }
    let op = VecOp::from_number(inst.aux)?;
    if op == VecOp::Pblendvb {
        return Some(Coding { l: wide, ..Coding::of(Opc(0x66, 3, 0x4c), Form::Blend) });
    }
    if inst.op == Op::Vec1
        && let Some((opc, digit)) = shift_imm(op)
    {
        return Some(Coding { l: wide, ..Coding::of(opc, Form::Group(digit)) });
    }
    let fp = inst.op == Op::Fp;
    let (opc, shape) = if fp { float(op) } else { integer(op) }?;
    let (form, imm) = match shape {
        Table::Two => (Form::Two, false),
        Table::TwoImm => (Form::Two, true),
        Table::One => (Form::One, false),
        Table::OneImm => (Form::One, true),
        Table::ShiftImm(digit) => (Form::Group(digit), false),
        Table::ToInt => (Form::ToInt, false),
        Table::Compare => (Form::Compare, false),
        Table::FromInt => (Form::FromInt, false),
    };
    let reg_only = matches!(op, VecOp::Movsd | VecOp::Movss)
        || matches!(op, VecOp::Pmovmskb | VecOp::Movmskps | VecOp::Movmskpd);
    Some(Coding { l: wide, imm, reg_only, second: fp, ..Coding::of(opc, form) })
}

/// The shape as the tables give it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Table {
    Two,
    TwoImm,
    One,
    OneImm,
    ShiftImm(u8),
    ToInt,
    Compare,
    FromInt,
}

const fn p66(op: u8) -> Opc {
    Opc(0x66, 1, op)
}

const fn p38(op: u8) -> Opc {
    Opc(0x66, 2, op)
}

/// Encoding of an integer or shuffle operation; None for those that `sse` writes out.
fn integer(op: VecOp) -> Option<(Opc, Table)> {
    use Table::*;
    use VecOp::*;
    let e = match op {
        Pand => (p66(0xdb), Two),
        Pandn => (p66(0xdf), Two),
        Por => (p66(0xeb), Two),
        Pxor => (p66(0xef), Two),
        Paddb => (p66(0xfc), Two),
        Paddw => (p66(0xfd), Two),
        Paddd => (p66(0xfe), Two),
        Paddq => (p66(0xd4), Two),
        Psubb => (p66(0xf8), Two),
        Psubw => (p66(0xf9), Two),
        Psubd => (p66(0xfa), Two),
        Psubq => (p66(0xfb), Two),
        Paddsb => (p66(0xec), Two),
        Paddsw => (p66(0xed), Two),
        Paddusb => (p66(0xdc), Two),
        Paddusw => (p66(0xdd), Two),
        Psubsb => (p66(0xe8), Two),
        Psubsw => (p66(0xe9), Two),
        Psubusb => (p66(0xd8), Two),
        Psubusw => (p66(0xd9), Two),
        Pmullw => (p66(0xd5), Two),
        Pmulhw => (p66(0xe5), Two),
        Pmulhuw => (p66(0xe4), Two),
        Pmuludq => (p66(0xf4), Two),
        Pmaddwd => (p66(0xf5), Two),
        Psadbw => (p66(0xf6), Two),
        Pavgb => (p66(0xe0), Two),
        Pavgw => (p66(0xe3), Two),
        Pminub => (p66(0xda), Two),
        Pmaxub => (p66(0xde), Two),
        Pminsw => (p66(0xea), Two),
        Pmaxsw => (p66(0xee), Two),
        Pminsb => (p38(0x38), Two),
        Pmaxsb => (p38(0x3c), Two),
        Pminuw => (p38(0x3a), Two),
        Pmaxuw => (p38(0x3e), Two),
        Pminsd => (p38(0x39), Two),
        Pmaxsd => (p38(0x3d), Two),
        Pminud => (p38(0x3b), Two),
        Pmaxud => (p38(0x3f), Two),
        Pmulld => (p38(0x40), Two),
        Pmuldq => (p38(0x28), Two),
        Pmulhrsw => (p38(0x0b), Two),
        Pmaddubsw => (p38(0x04), Two),
        Phaddw => (p38(0x01), Two),
        Phaddd => (p38(0x02), Two),
        Phaddsw => (p38(0x03), Two),
        Phsubw => (p38(0x05), Two),
        Phsubd => (p38(0x06), Two),
        Phsubsw => (p38(0x07), Two),
        Psignb => (p38(0x08), Two),
        Psignw => (p38(0x09), Two),
        Psignd => (p38(0x0a), Two),
        Pabsb => (p38(0x1c), One),
        Pabsw => (p38(0x1d), One),
        Pabsd => (p38(0x1e), One),
        Pcmpeqb => (p66(0x74), Two),
        Pcmpeqw => (p66(0x75), Two),
        Pcmpeqd => (p66(0x76), Two),
        Pcmpeqq => (p38(0x29), Two),
        Pcmpgtb => (p66(0x64), Two),
        Pcmpgtw => (p66(0x65), Two),
        Pcmpgtd => (p66(0x66), Two),
        Pcmpgtq => (p38(0x37), Two),
        Psllw => (p66(0xf1), Two),
        Pslld => (p66(0xf2), Two),
        Psllq => (p66(0xf3), Two),
        Psrlw => (p66(0xd1), Two),
        Psrld => (p66(0xd2), Two),
        Psrlq => (p66(0xd3), Two),
        Psraw => (p66(0xe1), Two),
        Psrad => (p66(0xe2), Two),
        Pslldq => (p66(0x73), ShiftImm(7)),
        Psrldq => (p66(0x73), ShiftImm(3)),
        Pshufd => (p66(0x70), OneImm),
        Pshuflw => (Opc(0xf2, 1, 0x70), OneImm),
        Pshufhw => (Opc(0xf3, 1, 0x70), OneImm),
        Pshufb => (p38(0x00), Two),
        Shufps => (Opc(0, 1, 0xc6), TwoImm),
        Shufpd => (p66(0xc6), TwoImm),
        Palignr => (Opc(0x66, 3, 0x0f), TwoImm),
        Punpcklbw => (p66(0x60), Two),
        Punpcklwd => (p66(0x61), Two),
        Punpckldq => (p66(0x62), Two),
        Punpcklqdq => (p66(0x6c), Two),
        Punpckhbw => (p66(0x68), Two),
        Punpckhwd => (p66(0x69), Two),
        Punpckhdq => (p66(0x6a), Two),
        Punpckhqdq => (p66(0x6d), Two),
        Packsswb => (p66(0x63), Two),
        Packssdw => (p66(0x6b), Two),
        Packuswb => (p66(0x67), Two),
        Packusdw => (p38(0x2b), Two),
        Pblendw => (Opc(0x66, 3, 0x0e), TwoImm),
        Pmovsxbw => (p38(0x20), One),
        Pmovsxbd => (p38(0x21), One),
        Pmovsxbq => (p38(0x22), One),
        Pmovsxwd => (p38(0x23), One),
        Pmovsxwq => (p38(0x24), One),
        Pmovsxdq => (p38(0x25), One),
        Pmovzxbw => (p38(0x30), One),
        Pmovzxbd => (p38(0x31), One),
        Pmovzxbq => (p38(0x32), One),
        Pmovzxwd => (p38(0x33), One),
        Pmovzxwq => (p38(0x34), One),
        Pmovzxdq => (p38(0x35), One),
        Pmovmskb => (p66(0xd7), ToInt),
        Movmskps => (Opc(0, 1, 0x50), ToInt),
        Movmskpd => (p66(0x50), ToInt),
        Movsd => (Opc(0xf2, 1, 0x10), Two),
        Movss => (Opc(0xf3, 1, 0x10), Two),
        ZeroHigh => (Opc(0xf3, 1, 0x7e), One),
        _ => return None,
    };
    Some(e)
}

/// The shift of `op` by an immediate.
fn shift_imm(op: VecOp) -> Option<(Opc, u8)> {
    use VecOp::*;
    Some(match op {
        Psllw => (p66(0x71), 6),
        Pslld => (p66(0x72), 6),
        Psllq => (p66(0x73), 6),
        Psrlw => (p66(0x71), 2),
        Psrld => (p66(0x72), 2),
        Psrlq => (p66(0x73), 2),
        Psraw => (p66(0x71), 4),
        Psrad => (p66(0x72), 4),
        _ => return None,
    })
}

/// Encoding of a floating-point operation.
fn float(op: VecOp) -> Option<(Opc, Table)> {
    use Table::*;
    use VecOp::*;
    const fn ss(op: u8) -> Opc {
        Opc(0xf3, 1, op)
    }
    const fn sd(op: u8) -> Opc {
        Opc(0xf2, 1, op)
    }
    const fn ps(op: u8) -> Opc {
        Opc(0, 1, op)
    }
    Some(match op {
        Addss => (ss(0x58), Two),
        Addsd => (sd(0x58), Two),
        Addps => (ps(0x58), Two),
        Addpd => (p66(0x58), Two),
        Subss => (ss(0x5c), Two),
        Subsd => (sd(0x5c), Two),
        Subps => (ps(0x5c), Two),
        Subpd => (p66(0x5c), Two),
        Mulss => (ss(0x59), Two),
        Mulsd => (sd(0x59), Two),
        Mulps => (ps(0x59), Two),
        Mulpd => (p66(0x59), Two),
        Divss => (ss(0x5e), Two),
        Divsd => (sd(0x5e), Two),
        Divps => (ps(0x5e), Two),
        Divpd => (p66(0x5e), Two),
        Minss => (ss(0x5d), Two),
        Minsd => (sd(0x5d), Two),
        Minps => (ps(0x5d), Two),
        Minpd => (p66(0x5d), Two),
        Maxss => (ss(0x5f), Two),
        Maxsd => (sd(0x5f), Two),
        Maxps => (ps(0x5f), Two),
        Maxpd => (p66(0x5f), Two),
        Sqrtss => (ss(0x51), Two),
        Sqrtsd => (sd(0x51), Two),
        Sqrtps => (ps(0x51), One),
        Sqrtpd => (p66(0x51), One),
        Cmpss => (ss(0xc2), TwoImm),
        Cmpsd => (sd(0xc2), TwoImm),
        Cmpps => (ps(0xc2), TwoImm),
        Cmppd => (p66(0xc2), TwoImm),
        Comiss => (ps(0x2f), Compare),
        Comisd => (p66(0x2f), Compare),
        Ucomiss => (ps(0x2e), Compare),
        Ucomisd => (p66(0x2e), Compare),
        Cvtss2sd => (ss(0x5a), Two),
        Cvtsd2ss => (sd(0x5a), Two),
        Cvtps2pd => (ps(0x5a), One),
        Cvtpd2ps => (p66(0x5a), One),
        Cvtdq2ps => (ps(0x5b), One),
        Cvtdq2pd => (ss(0xe6), One),
        Cvtps2dq => (p66(0x5b), One),
        Cvttps2dq => (ss(0x5b), One),
        Cvtpd2dq => (sd(0xe6), One),
        Cvttpd2dq => (p66(0xe6), One),
        Cvtsi2ss => (ss(0x2a), Table::FromInt),
        Cvtsi2sd => (sd(0x2a), Table::FromInt),
        Cvtss2si => (ss(0x2d), ToInt),
        Cvtsd2si => (sd(0x2d), ToInt),
        Cvttss2si => (ss(0x2c), ToInt),
        Cvttsd2si => (sd(0x2c), ToInt),
        _ => return None,
    })
}

impl Codegen {
    /// A VEX form: `reg` and `other` are the fields of these names.
    pub fn vex(&mut self, w: bool, l: bool, opc: Opc, reg: u8, other: u8, rm: Rm) {
        let pp = match opc.0 {
            0x66 => 1,
            0xf3 => 2,
            0xf2 => 3,
            _ => 0,
        };
        let (b, x) = match rm {
            Rm::R(r) => (r.0 >> 3, 0),
            Rm::M(m) => (m.base.0 >> 3, m.index.map_or(0, |i| i.0 >> 3)),
        };
        let tail = (!other & 15) << 3 | u8::from(l) << 2 | pp;
        let r = (reg >> 3 ^ 1) << 7;
        if opc.1 == 1 && !w && b == 0 && x == 0 {
            self.asm.buf.extend_from_slice(&[0xc5, r | tail]);
        } else {
            let second = r | (x ^ 1) << 6 | (b ^ 1) << 5 | opc.1;
            self.asm.buf.extend_from_slice(&[0xc4, second, u8::from(w) << 7 | tail]);
        }
        self.asm.buf.push(opc.2);
        self.asm.modrm(reg, rm);
    }

    /// `d = op rm`, one source, in whichever form; clears the upper half of a vector `d` where the host has AVX.
    pub fn vec_one(&mut self, wide: bool, opc: Opc, d: u8, rm: Rm) {
        if self.host.avx {
            self.vex(wide, false, opc, d, 0, rm);
        } else {
            self.asm.op(wide, opc, d, rm, 0);
        }
    }

    /// Copies a vector register.
    pub fn vec_copy(&mut self, wide: bool, d: u8, s: u8) {
        if self.host.avx {
            self.vex(false, wide, Opc(0, 1, 0x28), d, 0, Rm::R(Reg(s)));
        } else {
            self.legacy_copy(d, s);
        }
    }

    /// Copies the low half and keeps the upper.
    pub fn legacy_copy(&mut self, d: u8, s: u8) {
        self.asm.op(false, Opc(0, 1, 0x28), d, Rm::R(Reg(s)), 0);
    }

    /// Loads or stores 16 or 32 bytes.
    pub fn vec_mem(&mut self, wide: bool, store: bool, x: u8, m: Mem) {
        let opc = Opc(0, 1, if store { 0x11 } else { 0x10 });
        if self.host.avx {
            self.vex(false, wide, opc, x, 0, Rm::M(m));
        } else {
            self.asm.op(false, opc, x, Rm::M(m), 0);
        }
    }
}
