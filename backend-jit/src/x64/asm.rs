//! The assembler: a byte buffer with labels that `dynasm!` writes into, and an encoder for instructions whose
//! width, opcode and operands are known only at run time.

use crate::labels::{Labels, Split};
use dynasmrt::components::PatchLoc;
use dynasmrt::x64::X64Relocation;
use dynasmrt::{AssemblyOffset, DynamicLabel, DynasmApi, DynasmLabelApi};
use emu_core::ir::Type;

/// A host register by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reg(pub u8);

pub const RAX: Reg = Reg(0);
pub const RCX: Reg = Reg(1);
pub const RDX: Reg = Reg(2);
pub const RSP: Reg = Reg(4);
/// Points at the processor's state: see `layout`.
pub const RBP: Reg = Reg(5);

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mem {
    pub base: Reg,
    pub index: Option<Reg>,
    pub scale: u8,
    pub disp: i32,
}

/// A place in the processor's state.
pub const fn state(disp: i32) -> Mem {
    Mem { base: RBP, index: None, scale: 0, disp }
}

/// A direct branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Branch {
    Jmp,
    Jcc(u8),
    Call,
}

/// A register or memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rm {
    R(Reg),
    M(Mem),
}

/// The two-operand arithmetic group, numbered as its opcodes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
}

/// The shift group, numbered as its opcodes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar = 7,
}

/// An opcode: mandatory prefix (0 or 66, F2, F3), map (0: none, 1: 0F, 2: 0F38, 3: 0F3A) and byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opc(pub u8, pub u8, pub u8);

/// The buffer.
#[derive(Debug, Default)]
pub struct Asm {
    pub buf: Vec<u8>,
    labels: Labels<X64Relocation>,
    /// Arena offset at which the buffer will lie.
    pub base: usize,
    /// Ends of displacements to places outside the block.
    pub outside: Vec<usize>,
    /// Ends of displacements between what is out of line and the rest.
    pub across: Vec<usize>,
    /// Offset in the buffer of what is out of line.
    cold: Option<usize>,
}

impl Extend<u8> for Asm {
    #[inline]
    fn extend<T: IntoIterator<Item = u8>>(&mut self, iter: T) {
        self.buf.extend(iter);
    }
}

impl<'a> Extend<&'a u8> for Asm {
    #[inline]
    fn extend<T: IntoIterator<Item = &'a u8>>(&mut self, iter: T) {
        self.buf.extend(iter);
    }
}

impl DynasmApi for Asm {
    #[inline]
    fn offset(&self) -> AssemblyOffset {
        AssemblyOffset(self.buf.len())
    }
    #[inline]
    fn push(&mut self, byte: u8) {
        self.buf.push(byte);
    }
    fn align(&mut self, alignment: usize, with: u8) {
        while !self.buf.len().is_multiple_of(alignment) {
            self.buf.push(with);
        }
    }
}

/// Only dynamic labels are used; the named kinds of `dynasm!` are refused.
impl DynasmLabelApi for Asm {
    type Relocation = X64Relocation;

    fn local_label(&mut self, name: &'static str) {
        unreachable!("named label {name}");
    }
    fn global_label(&mut self, name: &'static str) {
        unreachable!("named label {name}");
    }
    fn dynamic_label(&mut self, id: DynamicLabel) {
        self.labels.bind(id, self.buf.len());
    }
    fn forward_relocation(&mut self, name: &'static str, _: isize, _: u8, _: u8, _: X64Relocation) {
        unreachable!("named label {name}");
    }
    fn backward_relocation(&mut self, name: &'static str, _: isize, _: u8, _: u8, _: X64Relocation) {
        unreachable!("named label {name}");
    }
    fn global_relocation(&mut self, name: &'static str, _: isize, _: u8, _: u8, _: X64Relocation) {
        unreachable!("named label {name}");
    }
    fn dynamic_relocation(
        &mut self,
        id: DynamicLabel,
        target_offset: isize,
        field_offset: u8,
        ref_offset: u8,
        kind: X64Relocation,
    ) {
        let at = self.offset();
        self.labels.refer(PatchLoc::new(at, target_offset, field_offset, ref_offset, kind), id);
    }
    fn bare_relocation(&mut self, target: usize, _: u8, _: u8, _: X64Relocation) {
        unreachable!("bare relocation to {target:#x}");
    }
}

impl Asm {
    /// Starts over, for code that will lie at arena offset `base`.
    pub fn reset(&mut self, base: usize) {
        self.buf.clear();
        self.labels.clear();
        self.base = base;
        self.outside.clear();
        self.across.clear();
        self.cold = None;
    }

    /// What follows is out of line.
    pub fn go_cold(&mut self) {
        self.cold = Some(self.buf.len());
    }

    /// Bytes of the buffer that are not out of line.
    pub fn hot(&self) -> usize {
        self.cold.unwrap_or(self.buf.len())
    }

    pub fn label(&mut self) -> DynamicLabel {
        self.labels.make()
    }

    pub fn bind(&mut self, l: DynamicLabel) {
        self.dynamic_label(l);
    }

    /// Resolves the labels, with what is out of line at arena offset `cold`. False if one is missing, which is a bug.
    pub fn finish(&mut self, cold: usize) -> bool {
        let at = self.hot();
        let gap = cold.wrapping_sub(self.base + at);
        for &end in self.outside.iter().filter(|&&end| end > at) {
            let d: &mut [u8; 4] = (&mut self.buf[end - 4..end]).try_into().expect("4 bytes");
            *d = u32::from_le_bytes(*d).wrapping_sub(gap as u32).to_le_bytes();
        }
        let across = &mut self.across;
        self.labels.finish(&mut self.buf, Split { at, gap }, |end| across.push(end))
    }

    /// Mandatory prefix, REX, opcode, ModRM, SIB and displacement. `byte`: 8-bit registers are named, so that SPL to
    /// DIL need a REX prefix: bit 0 for `reg`, bit 1 for `rm`.
    #[inline]
    pub fn op(&mut self, wide: bool, opc: Opc, reg: u8, rm: Rm, byte: u8) {
        if opc.0 != 0 {
            self.buf.push(opc.0);
        }
        let (b, x, low_byte) = match rm {
            Rm::R(r) => (r.0 >> 3, 0, byte & 2 != 0 && r.0 >= 4),
            Rm::M(m) => (m.base.0 >> 3, m.index.map_or(0, |i| i.0 >> 3), false),
        };
        let rex = u8::from(wide) << 3 | (reg >> 3) << 2 | x << 1 | b;
        if rex != 0 || low_byte || byte & 1 != 0 && reg >= 4 {
            self.buf.push(0x40 | rex);
        }
        match opc.1 {
            0 => {}
            1 => self.buf.push(0x0f),
            2 => self.buf.extend_from_slice(&[0x0f, 0x38]),
            _ => self.buf.extend_from_slice(&[0x0f, 0x3a]),
        }
        self.buf.push(opc.2);
        self.modrm(reg, rm);
    }

    #[inline]
    pub fn modrm(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        let m = match rm {
            Rm::R(r) => return self.buf.push(0xc0 | reg | r.0 & 7),
            Rm::M(m) => m,
        };
        let base = m.base.0 & 7;
        let mode = if m.disp == 0 && base != 5 {
            0
        } else if i8::try_from(m.disp).is_ok() {
            0x40
        } else {
            0x80
        };
        match m.index {
            None if base != 4 => self.buf.push(mode | reg | base),
            None => self.buf.extend_from_slice(&[mode | reg | 4, 0x24]),
            Some(i) => self.buf.extend_from_slice(&[mode | reg | 4, m.scale << 6 | (i.0 & 7) << 3 | base]),
        }
        match mode {
            0 => {}
            0x40 => self.buf.push(m.disp as u8),
            _ => self.buf.extend_from_slice(&m.disp.to_le_bytes()),
        }
    }

    /// An instruction whose opcode `op` is the 8-bit form and `op + 1` the others.
    #[inline]
    pub fn sized(&mut self, ty: Type, map: u8, op: u8, reg: u8, rm: Rm, byte: u8) {
        match ty {
            Type::I8 | Type::Bool => self.op(false, Opc(0, map, op), reg, rm, byte),
            Type::I16 => self.op(false, Opc(0x66, map, op + 1), reg, rm, 0),
            Type::I64 => self.op(true, Opc(0, map, op + 1), reg, rm, 0),
            _ => self.op(false, Opc(0, map, op + 1), reg, rm, 0),
        }
    }

    /// An instruction that has no 8-bit form.
    #[inline]
    pub fn word(&mut self, ty: Type, prefix: u8, map: u8, op: u8, reg: Reg, rm: Rm) {
        if ty == Type::I16 {
            self.buf.push(0x66);
        }
        self.op(ty == Type::I64, Opc(prefix, map, op), reg.0, rm, 0);
    }

    /// `d = d op s`.
    #[inline]
    pub fn alu(&mut self, ty: Type, op: Alu, d: Reg, s: Rm) {
        match s {
            Rm::R(r) => self.sized(ty, 0, (op as u8) << 3, r.0, Rm::R(d), 3),
            Rm::M(_) => self.sized(ty, 0, (op as u8) << 3 | 2, d.0, s, 1),
        }
    }

    /// `d = d op s` with a register source.
    #[inline]
    pub fn alu_to(&mut self, ty: Type, op: Alu, d: Rm, s: Reg) {
        self.sized(ty, 0, (op as u8) << 3, s.0, d, 3);
    }

    /// `d = d op imm`; `imm` fits 32 bits, sign-extended (or is taken modulo the width).
    #[inline]
    pub fn alu_imm(&mut self, ty: Type, op: Alu, d: Rm, imm: i32) {
        match ty {
            Type::I8 | Type::Bool => {
                self.op(false, Opc(0, 0, 0x80), op as u8, d, 2);
                self.buf.push(imm as u8);
            }
            _ => {
                let imm = if ty == Type::I16 { i32::from(imm as i16) } else { imm };
                let (pre, wide) = (if ty == Type::I16 { 0x66 } else { 0 }, ty == Type::I64);
                if let Ok(small) = i8::try_from(imm) {
                    self.op(wide, Opc(pre, 0, 0x83), op as u8, d, 0);
                    self.buf.push(small as u8);
                } else {
                    self.op(wide, Opc(pre, 0, 0x81), op as u8, d, 0);
                    self.imm(ty, imm);
                }
            }
        }
    }

    #[inline]
    fn imm(&mut self, ty: Type, imm: i32) {
        match ty {
            Type::I8 | Type::Bool => self.buf.push(imm as u8),
            Type::I16 => self.buf.extend_from_slice(&(imm as i16).to_le_bytes()),
            _ => self.buf.extend_from_slice(&imm.to_le_bytes()),
        }
    }

    #[inline]
    pub fn test(&mut self, ty: Type, a: Rm, b: Reg) {
        self.sized(ty, 0, 0x84, b.0, a, 3);
    }

    #[inline]
    pub fn test_imm(&mut self, ty: Type, a: Rm, imm: i32) {
        self.sized(ty, 0, 0xf6, 0, a, 2);
        self.imm(ty, imm);
    }

    /// Moves between registers: 32 bits wide unless `ty` is I64, which clears the upper half.
    #[inline]
    pub fn mov(&mut self, ty: Type, d: Reg, s: Reg) {
        self.op(ty == Type::I64, Opc(0, 0, 0x8b), d.0, Rm::R(s), 0);
    }

    /// Moves the low part, keeping the rest of `d`.
    #[inline]
    pub fn mov_part(&mut self, ty: Type, d: Reg, s: Reg) {
        self.sized(ty, 0, 0x88, s.0, Rm::R(d), 3);
    }

    /// Loads `ty` from memory, zero-extended to 64 bits.
    #[inline]
    pub fn load(&mut self, ty: Type, d: Reg, m: Mem) {
        match ty {
            Type::I8 | Type::Bool => self.op(false, Opc(0, 1, 0xb6), d.0, Rm::M(m), 0),
            Type::I16 => self.op(false, Opc(0, 1, 0xb7), d.0, Rm::M(m), 0),
            _ => self.op(ty == Type::I64, Opc(0, 0, 0x8b), d.0, Rm::M(m), 0),
        }
    }

    #[inline]
    pub fn store(&mut self, ty: Type, m: Mem, s: Reg) {
        self.sized(ty, 0, 0x88, s.0, Rm::M(m), 1);
    }

    #[inline]
    pub fn store_imm(&mut self, ty: Type, m: Mem, imm: i32) {
        self.sized(ty, 0, 0xc6, 0, Rm::M(m), 0);
        self.imm(ty, imm);
    }

    /// Loads a constant, without touching flags.
    #[inline]
    pub fn mov_imm(&mut self, d: Reg, v: u64) {
        if let Ok(low) = u32::try_from(v) {
            if d.0 >= 8 {
                self.buf.push(0x41);
            }
            self.buf.push(0xb8 | d.0 & 7);
            self.buf.extend_from_slice(&low.to_le_bytes());
        } else if v as i64 == i64::from(v as i32) {
            self.op(true, Opc(0, 0, 0xc7), 0, Rm::R(d), 0);
            self.buf.extend_from_slice(&(v as i32).to_le_bytes());
        } else {
            self.buf.extend_from_slice(&[0x48 | d.0 >> 3, 0xb8 | d.0 & 7]);
            self.buf.extend_from_slice(&v.to_le_bytes());
        }
    }

    /// Zero-extends from `from` to 64 bits.
    #[inline]
    pub fn zext(&mut self, from: Type, d: Reg, s: Rm) {
        match from {
            Type::I8 | Type::Bool => self.op(false, Opc(0, 1, 0xb6), d.0, s, 2),
            Type::I16 => self.op(false, Opc(0, 1, 0xb7), d.0, s, 0),
            _ => self.op(from == Type::I64, Opc(0, 0, 0x8b), d.0, s, 0),
        }
    }

    /// Sign-extends from `from` to `to` (32 bits for anything narrower than I64).
    #[inline]
    pub fn sext(&mut self, from: Type, to: Type, d: Reg, s: Rm) {
        let wide = to == Type::I64;
        match from {
            Type::I8 | Type::Bool => self.op(wide, Opc(0, 1, 0xbe), d.0, s, 2),
            Type::I16 => self.op(wide, Opc(0, 1, 0xbf), d.0, s, 0),
            _ if wide && from == Type::I32 => self.op(true, Opc(0, 0, 0x63), d.0, s, 0),
            _ => self.op(wide, Opc(0, 0, 0x8b), d.0, s, 0),
        }
    }

    #[inline]
    pub fn lea(&mut self, ty: Type, d: Reg, m: Mem) {
        self.op(ty == Type::I64, Opc(0, 0, 0x8d), d.0, Rm::M(m), 0);
    }

    #[inline]
    pub fn shift_imm(&mut self, ty: Type, op: Shift, d: Rm, n: u8) {
        if n == 1 {
            self.sized(ty, 0, 0xd0, op as u8, d, 2);
        } else {
            self.sized(ty, 0, 0xc0, op as u8, d, 2);
            self.buf.push(n);
        }
    }

    /// The lower 32 bits of `s` rotated right, without touching flags (BMI2).
    #[inline]
    pub fn rorx(&mut self, d: Reg, s: Reg, n: u8) {
        let vex = |reg: Reg, bit: u8| if reg.0 < 8 { bit } else { 0 };
        let first = vex(d, 0x80) | 0x40 | vex(s, 0x20) | 3;
        self.buf.extend_from_slice(&[0xc4, first, 0x7b, 0xf0, 0xc0 | (d.0 & 7) << 3 | s.0 & 7, n]);
    }

    /// MULX: `high` and `low` are the halves of RDX times `s`, in 32 or 64 bits.
    #[inline]
    pub fn mulx(&mut self, ty: Type, high: Reg, low: Reg, s: Reg) {
        let vex = |reg: Reg, bit: u8| if reg.0 < 8 { bit } else { 0 };
        let first = vex(high, 0x80) | 0x40 | vex(s, 0x20) | 2;
        let second = u8::from(ty == Type::I64) << 7 | (!low.0 & 15) << 3 | 3;
        self.buf.extend_from_slice(&[0xc4, first, second, 0xf6, 0xc0 | (high.0 & 7) << 3 | s.0 & 7]);
    }

    #[inline]
    pub fn shift_cl(&mut self, ty: Type, op: Shift, d: Rm) {
        self.sized(ty, 0, 0xd2, op as u8, d, 2);
    }

    /// NOT (2), NEG (3), MUL (4), IMUL (5), DIV (6), IDIV (7).
    #[inline]
    pub fn unary(&mut self, ty: Type, n: u8, d: Rm) {
        self.sized(ty, 0, 0xf6, n, d, 2);
    }

    #[inline]
    pub fn imul(&mut self, ty: Type, d: Reg, s: Rm) {
        self.word(ty, 0, 1, 0xaf, d, s);
    }

    /// Tests bit `n` of a 16-bit word in memory into CF, leaving ZF.
    #[inline]
    pub fn bt_mem16(&mut self, m: Mem, n: u8) {
        self.op(false, Opc(0x66, 1, 0xba), 4, Rm::M(m), 0);
        self.buf.push(n);
    }

    #[inline]
    pub fn setcc(&mut self, cc: u8, d: Rm) {
        self.op(false, Opc(0, 1, 0x90 | cc), 0, d, 2);
    }

    #[inline]
    pub fn cmov(&mut self, ty: Type, cc: u8, d: Reg, s: Rm) {
        self.op(ty == Type::I64, Opc(0, 1, 0x40 | cc), d.0, s, 0);
    }

    #[inline]
    pub fn jcc(&mut self, cc: u8, l: DynamicLabel) {
        self.buf.extend_from_slice(&[0x0f, 0x80 | cc, 0, 0, 0, 0]);
        self.dynamic_reloc(l, 0, 4, 0, (4,));
    }

    #[inline]
    pub fn jmp(&mut self, l: DynamicLabel) {
        self.buf.extend_from_slice(&[0xe9, 0, 0, 0, 0]);
        self.dynamic_reloc(l, 0, 4, 0, (4,));
    }

    /// A short forward jump on `cc`; give the answer to [`Asm::here8`].
    #[inline]
    pub fn jcc8(&mut self, cc: u8) -> usize {
        self.buf.extend_from_slice(&[0x70 | cc, 0]);
        self.buf.len()
    }

    /// Lands a short jump here.
    #[inline]
    pub fn here8(&mut self, from: usize) {
        let d = self.buf.len() - from;
        assert!(d < 128, "short jump over {d} bytes");
        self.buf[from - 1] = d as u8;
    }

    /// Calls code at arena offset `target`.
    #[inline]
    pub fn call_abs(&mut self, target: usize) {
        self.buf.push(0xe8);
        self.rel(target);
    }

    /// Jumps to arena offset `target`.
    #[inline]
    pub fn jmp_abs(&mut self, target: usize) {
        self.buf.push(0xe9);
        self.rel(target);
    }

    fn rel(&mut self, target: usize) {
        let next = self.base + self.buf.len() + 4;
        let d = (target as i64 - next as i64) as i32;
        self.buf.extend_from_slice(&d.to_le_bytes());
        self.outside.push(self.buf.len());
    }

    /// A branch whose displacement is aligned to 4 bytes and can be patched: returns its offset in the buffer. It first
    /// goes to `to`.
    pub fn patchable(&mut self, how: Branch, to: DynamicLabel) -> usize {
        let opcode = if matches!(how, Branch::Jcc(_)) { 2 } else { 1 };
        let pad = (4 - (self.buf.len() + opcode) % 4) % 4;
        self.nop(pad);
        match how {
            Branch::Jcc(cc) => self.jcc(cc, to),
            Branch::Jmp => self.jmp(to),
            Branch::Call => {
                self.buf.extend_from_slice(&[0xe8, 0, 0, 0, 0]);
                self.dynamic_reloc(to, 0, 4, 0, (4,));
            }
        }
        self.buf.len() - 4
    }

    /// `lea d, [arena offset]`.
    pub fn lea_abs(&mut self, d: Reg, target: usize) {
        debug_assert!(d.0 < 8);
        self.buf.extend_from_slice(&[0x48, 0x8d, 0x05 | d.0 << 3]);
        self.rel(target);
    }

    /// `jmp [m]`.
    pub fn jmp_mem(&mut self, m: Mem) {
        self.op(false, Opc(0, 0, 0xff), 4, Rm::M(m), 0);
    }

    /// Pads so that what follows `ahead` bytes from here is aligned to 4 bytes.
    pub fn align_for(&mut self, ahead: usize) {
        let pad = (4 - (self.buf.len() + ahead) % 4) % 4;
        self.nop(pad);
    }

    /// `n` (0 to 3) bytes that do nothing.
    fn nop(&mut self, n: usize) {
        const NOPS: [&[u8]; 4] = [&[], &[0x90], &[0x66, 0x90], &[0x0f, 0x1f, 0x00]];
        self.buf.extend_from_slice(NOPS[n]);
    }
}
