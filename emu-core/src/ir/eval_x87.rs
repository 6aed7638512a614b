//! What [`super::Op::X87`] and [`super::Op::X87Mem`] do, by the pages of the manual (SDM vol. 2) that their opcodes
//! name, on [`FpuState`] in the arithmetic of [`crate::softfloat`]. For the evaluator, and for translated code of hosts
//! that have no x87.
//!
//! Every exception is masked: who calls this has seen to that with [`masked`]. So results are always written and the stack
//! always moves; a stack fault works on the real indefinite (SDM vol. 1, 8.5.1).

use super::x87::{WAIT, digit, escape, modrm};
use crate::softfloat::{Constant, Ctx, F80, Flags, Operand, Relation};
use crate::state::FpuState;

/// The status word's SF: the invalid operation was a fault of the stack.
const SF: Flags = Flags(1 << 6);

/// Whether every exception is masked.
pub fn masked(f: &FpuState) -> bool {
    f.fcw & 0x3f == 0x3f
}

/// Whether FLDCW of `word` unmasks an exception.
pub fn unmasks(word: u64) -> bool {
    word & 0x3f != 0x3f
}

/// The stack: `i` counts from its top.
struct Stack<'a>(&'a mut FpuState);

impl Stack<'_> {
    fn number(&self, i: u8) -> usize {
        (usize::from(self.0.fsw >> 11) + usize::from(i)) & 7
    }

    fn get(&self, i: u8) -> Option<F80> {
        let n = self.number(i);
        (self.0.ftw >> n & 1 == 1).then(|| self.0.st[n])
    }

    fn set(&mut self, i: u8, v: F80) {
        let n = self.number(i);
        self.0.st[n] = v;
        self.0.ftw |= 1 << n;
    }

    fn empty(&mut self, i: u8) {
        self.0.ftw &= !(1 << self.number(i));
    }

    /// Moves the top up by `n` places.
    fn turn(&mut self, n: u16) {
        let top = ((self.0.fsw >> 11) + n) & 7;
        self.0.fsw = self.0.fsw & !(7 << 11) | top << 11;
    }

    fn pop(&mut self, times: u8) {
        for _ in 0..times {
            self.empty(0);
            self.turn(1);
        }
    }

    fn push(&mut self, v: F80) {
        self.turn(7);
        self.set(0, v);
    }

    fn ctx(&self) -> Ctx {
        Ctx::from_control_word(self.0.fcw)
    }

    /// Exceptions stick, C1 is what it is now.
    fn flags(&mut self, f: Flags) {
        self.0.fsw = self.0.fsw & !Flags::C1.bits() | f.bits();
    }

    fn conditions(&mut self, f: Flags) {
        self.0.fsw = self.0.fsw & !Flags::CONDITIONS.bits() | f.bits();
    }

    fn underflow(&mut self) {
        self.flags(Flags::IE | SF);
    }

    /// Pushes `v`, or the indefinite over what is there.
    fn push_checked(&mut self, v: impl FnOnce(&mut Ctx) -> F80) {
        if self.get(7).is_some() {
            self.flags(Flags::IE | SF | Flags::C1);
            return self.push(F80::INDEFINITE);
        }
        let mut c = self.ctx();
        let v = v(&mut c);
        self.flags(c.flags);
        self.push(v);
    }

    /// ST(0) becomes `f` of itself.
    fn unary(&mut self, f: impl FnOnce(&mut Ctx, F80) -> F80) {
        let Some(v) = self.get(0) else {
            self.underflow();
            return self.set(0, F80::INDEFINITE);
        };
        let mut c = self.ctx();
        let v = f(&mut c, v);
        self.flags(c.flags);
        self.set(0, v);
    }

    /// The arithmetic operation `digit` (0 sum, 1 product, 4 and 5 difference, 6 and 7 quotient) of ST(0) and `b`, into
    /// ST(to).
    fn arithmetic(&mut self, digit: u8, to: u8, b: Option<Operand>) {
        let (Some(a), Some(b)) = (self.get(0), b) else {
            self.underflow();
            return self.set(to, F80::INDEFINITE);
        };
        let mut c = self.ctx();
        let v = match digit {
            0 => c.add(a, b),
            1 => c.mul(a, b),
            4 => c.sub(a, b),
            5 => c.sub(b, a),
            6 => c.div(a, b),
            _ => c.div(b, a),
        };
        self.flags(c.flags);
        self.set(to, v);
    }

    fn relation(&mut self, b: Option<Operand>, quiet: bool) -> Relation {
        let (Some(a), Some(b)) = (self.get(0), b) else {
            self.underflow();
            return Relation::Unordered;
        };
        let mut c = self.ctx();
        let r = if quiet { c.compare_quiet(a, b) } else { c.compare(a, b) };
        self.flags(c.flags);
        r
    }

    fn compare(&mut self, b: Option<Operand>, quiet: bool, pops: u8) {
        let r = self.relation(b, quiet);
        self.conditions(r.conditions());
        self.pop(pops);
    }

    /// An operation of the group of FADD with operand `b`, which may be a comparison.
    fn group(&mut self, digit: u8, b: Option<Operand>) {
        match digit {
            2 | 3 => self.compare(b, false, digit - 2),
            _ => self.arithmetic(digit, 0, b),
        }
    }

    fn operand(&self, i: u8) -> Option<Operand> {
        self.get(i).map(Operand::from)
    }

    fn exchange(&mut self, i: u8) {
        let (a, b) = (self.get(0), self.get(i));
        if a.is_some() && b.is_some() {
            self.flags(Flags::NONE);
        } else {
            self.underflow();
        }
        self.set(i, a.unwrap_or(F80::INDEFINITE));
        self.set(0, b.unwrap_or(F80::INDEFINITE));
    }

    /// FST to a register.
    fn copy(&mut self, i: u8) {
        match self.get(0) {
            Some(v) => {
                self.flags(Flags::NONE);
                self.set(i, v);
            }
            None => {
                self.underflow();
                self.set(i, F80::INDEFINITE);
            }
        }
    }

    /// FPREM and FPREM1. Where there is no quotient, C0 and C3 stay.
    fn remainder(&mut self, nearest: bool) {
        self.0.fsw &= !Flags::C2.bits();
        let (Some(a), Some(b)) = (self.get(0), self.get(1)) else {
            self.underflow();
            return self.set(0, F80::INDEFINITE);
        };
        let mut c = self.ctx();
        let v = if nearest { c.rem_nearest(a, b) } else { c.rem(a, b) };
        if v.is_nan() {
            self.flags(c.flags);
        } else {
            self.conditions(c.flags);
        }
        self.set(0, v);
    }

    fn extract(&mut self) {
        let fault = if self.get(0).is_none() {
            SF | Flags::IE
        } else if self.get(7).is_some() {
            SF | Flags::IE | Flags::C1
        } else {
            Flags::NONE
        };
        let mut c = self.ctx();
        let (exponent, significand) = match self.get(0) {
            Some(v) if fault == Flags::NONE => c.extract(v),
            _ => (F80::INDEFINITE, F80::INDEFINITE),
        };
        self.flags(if fault == Flags::NONE { c.flags } else { fault });
        self.set(0, exponent);
        self.push(significand);
    }

    fn constant(&mut self, n: u8) {
        use Constant::*;
        let which = [One, Log2Of10, Log2OfE, Pi, Log10Of2, LnOf2, Zero][usize::from(n).min(6)];
        self.push_checked(|c| which.load(c.rounding));
    }

    /// Escape D9.
    fn single(&mut self, modrm: u8) {
        let i = modrm & 7;
        match modrm {
            0xc0..=0xc7 => match self.get(i) {
                Some(v) => self.push_checked(|_| v),
                None => {
                    self.underflow();
                    self.push(F80::INDEFINITE);
                }
            },
            0xc8..=0xcf => self.exchange(i),
            0xe0 => self.unary(|_, v| v.chs()),
            0xe1 => self.unary(|_, v| v.abs()),
            0xe4 => self.compare(Some(F80::ZERO.into()), false, 0),
            0xe5 => {
                let n = self.number(0);
                let class = match self.get(0) {
                    Some(v) => v.examine(),
                    None => Flags::C3 | Flags::C0 | self.0.st[n].examine() & Flags::C1,
                };
                self.conditions(class);
            }
            0xe8..=0xee => self.constant(i),
            0xf4 => self.extract(),
            0xf5 | 0xf8 => self.remainder(modrm == 0xf5),
            0xf6 | 0xf7 => {
                self.flags(Flags::NONE);
                self.turn(if modrm == 0xf7 { 1 } else { 7 });
            }
            0xfa => self.unary(|c, v| c.sqrt(v)),
            0xfc => self.unary(|c, v| c.round_to_integer(v)),
            0xfd => match self.get(1) {
                Some(by) if self.get(0).is_some() => self.unary(|c, v| c.scale(v, by)),
                _ => {
                    self.underflow();
                    self.set(0, F80::INDEFINITE);
                }
            },
            // FNOP.
            _ => {}
        }
    }

    /// FCMOVcc. C1 stays unless a register is empty.
    fn move_if(&mut self, i: u8, holds: bool) {
        match (self.get(0), self.get(i)) {
            (Some(_), Some(v)) if holds => self.set(0, v),
            (Some(_), Some(_)) => {}
            _ => {
                self.underflow();
                self.set(0, F80::INDEFINITE);
            }
        }
    }

    fn free(&mut self, i: u8) {
        self.flags(Flags::NONE);
        self.empty(i);
    }
}

/// Executes an instruction between registers. `holds`: FCMOVcc's condition. Gives FNSTSW's word, or the status flags of
/// FCOMI and its kin in RFLAGS' places.
pub fn registers(f: &mut FpuState, aux: u32, holds: bool) -> u64 {
    let (escape, modrm) = (escape(aux), modrm(aux));
    let (i, digit) = (modrm & 7, modrm >> 3 & 7);
    let mut s = Stack(f);
    match (escape, modrm) {
        _ if aux & WAIT != 0 => {}
        (0xd8, _) => {
            let b = s.operand(i);
            s.group(digit, b);
        }
        (0xd9, _) => s.single(modrm),
        (0xda, 0xe9) => {
            let b = s.operand(1);
            s.compare(b, true, 2);
        }
        (0xda | 0xdb, 0xc0..=0xdf) => s.move_if(i, holds),
        (0xdb, 0xe2) => s.0.fsw &= 0x7f00,
        (0xdb | 0xdf, 0xe8..=0xf7) => {
            let b = s.operand(i);
            let r = s.relation(b, modrm < 0xf0);
            s.pop(u8::from(escape == 0xdf));
            return r.eflags().into();
        }
        (0xdd, 0xc0..=0xc7) => s.free(i),
        (0xdd, 0xd0..=0xdf) => {
            s.copy(i);
            s.pop(u8::from(modrm >= 0xd8));
        }
        (0xdd, 0xe0..=0xef) => {
            let b = s.operand(i);
            s.compare(b, true, u8::from(modrm >= 0xe8));
        }
        (0xde, 0xd9) => {
            let b = s.operand(1);
            s.compare(b, false, 2);
        }
        (0xdc | 0xde, _) => {
            let b = s.operand(i);
            s.arithmetic(digit, i, b);
            s.pop(u8::from(escape == 0xde));
        }
        (0xdf, 0xe0) => return s.0.fsw.into(),
        _ => {}
    }
    0
}

/// Executes an instruction that reads memory, which holds `low` and, of ten bytes, `high`. FLDCW must not unmask an
/// exception.
pub fn load(f: &mut FpuState, aux: u32, low: u64, high: u64) {
    let digit = digit(aux);
    let mut s = Stack(f);
    let short = || Operand::from(low as i16);
    let int = || Operand::from(low as i32);
    let ten = || {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&(high as u16).to_le_bytes());
        bytes
    };
    match (escape(aux), digit) {
        (0xd8, _) => s.group(digit, Some(Operand::f32(low as u32))),
        (0xdc, _) => s.group(digit, Some(Operand::f64(low))),
        (0xda, _) => s.group(digit, Some(int())),
        (0xde, _) => s.group(digit, Some(short())),
        (0xd9, 5) => {
            // Bit 6 is always set, bits 7 and 13 to 15 never.
            s.0.fcw = low as u16 & 0x1f3f | 0x40;
            s.0.fsw &= 0x7f7f;
        }
        (0xd9, _) => s.push_checked(|c| c.load(Operand::f32(low as u32))),
        (0xdd, _) => s.push_checked(|c| c.load(Operand::f64(low))),
        (0xdb, 0) => s.push_checked(|_| int().value()),
        (0xdb, _) => s.push_checked(|_| F80::from_bytes(ten())),
        (_, 0) => s.push_checked(|_| short().value()),
        (_, 4) => s.push_checked(|_| F80::from_bcd(ten())),
        _ => s.push_checked(|_| F80::from(low as i64)),
    }
}

/// What an instruction that writes memory writes: eight bytes, and two more of ten. The state after that, which begins to
/// be once the store has happened, is left in `f`.
pub fn store(f: &mut FpuState, aux: u32) -> (u64, u16) {
    let digit = digit(aux);
    match (escape(aux), digit) {
        (0xd9, 7) => return (f.fcw.into(), 0),
        (0xdd, 7) => return (f.fsw.into(), 0),
        _ => {}
    }
    let mut s = Stack(f);
    let mut c = s.ctx();
    let top = s.get(0);
    let v = top.unwrap_or(F80::INDEFINITE);
    let (low, high) = match (escape(aux), digit) {
        (0xd9, _) => (c.to_f32(v).into(), 0),
        (0xdd, 1) => (c.truncate_to_i64(v) as u64, 0),
        (0xdd, _) => (c.to_f64(v), 0),
        (0xdb, 1) => (c.truncate_to_i32(v) as u64, 0),
        (0xdb, 7) => (v.mant, v.se),
        (0xdb, _) => (c.to_i32(v) as u64, 0),
        (_, 1) => (c.truncate_to_i16(v) as u64, 0),
        (_, 6) => {
            let b = F80::from_bytes(c.to_bcd(v));
            (b.mant, b.se)
        }
        (_, 7) => (c.to_i64(v) as u64, 0),
        _ => (c.to_i16(v) as u64, 0),
    };
    if top.is_some() {
        s.flags(c.flags);
    } else {
        s.underflow();
    }
    // FIST and FST alone keep what they store.
    s.pop(u8::from(digit != 2));
    (low, high)
}
