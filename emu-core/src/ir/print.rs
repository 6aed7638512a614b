//! IR as text, for logs and tests. [`super::parse`] reads it back.
//!
//! One line per instruction: `v7 = add.i64 v5, v6`, with `imm=` and `aux=` where they are not zero, vector operations
//! as `vec2.v128:paddb v1, v2`, and what a number names as a comment behind `;`.

use super::block::{Block, Inst};
use super::ops::{Cc, Op, StateField, Type};
use super::vecop::VecOp;
use std::fmt;

impl Type {
    /// Its name in IR text.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Void => "void",
            Type::Bool => "bool",
            Type::I8 => "i8",
            Type::I16 => "i16",
            Type::I32 => "i32",
            Type::I64 => "i64",
            Type::Flags => "flags",
            Type::V128 => "v128",
            Type::V256 => "v256",
        }
    }
}

/// Whether `aux` is a vector operation's number.
pub(super) const fn is_vector(op: Op) -> bool {
    matches!(op, Op::Vec1 | Op::Vec2 | Op::Vec3 | Op::Fp)
}

const REGS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = &self.key;
        write!(f, "block phys={:#x} rip={:#x} mode={:#x}", k.phys.0, k.rip, k.mode.0)?;
        write!(f, " len={} insns={}", self.guest_len, self.guest_insns)?;
        if self.chunks != 0 {
            write!(f, " chunks={:#x}", self.chunks)?;
        }
        if let Some(p) = self.next_page {
            write!(f, " next={:#x}", p.0)?;
        }
        if let Some(page) = self.ram {
            write!(f, " ram={page:#x}")?;
        }
        writeln!(f)?;
        for (n, i) in self.insts.iter().enumerate() {
            print_inst(f, n, i, k.rip)?;
        }
        Ok(())
    }
}

fn print_inst(f: &mut fmt::Formatter<'_>, n: usize, i: &Inst, rip: u64) -> fmt::Result {
    match i.op {
        Op::Guest => {}
        _ if i.result() == Type::Void => write!(f, "  ")?,
        _ => write!(f, "  v{n} = ")?,
    }
    write!(f, "{}.{}", i.op.name(), i.ty.name())?;
    let vector = if is_vector(i.op) { VecOp::from_number(i.aux) } else { None };
    if let Some(v) = vector {
        write!(f, ":{}", v.name())?;
    }
    let count = i.args.iter().rposition(|a| a.is_some()).map_or(0, |p| p + 1);
    for (k, a) in i.args[..count].iter().enumerate() {
        write!(f, "{}", if k == 0 { " " } else { ", " })?;
        if a.is_some() {
            write!(f, "v{}", a.0)?;
        } else {
            write!(f, "-")?;
        }
    }
    if i.imm != 0 {
        write!(f, " imm={:#x}", i.imm)?;
    }
    if i.aux != 0 && vector.is_none() {
        write!(f, " aux={:#x}", i.aux)?;
    }
    let target = rip.wrapping_add(i.imm as u64);
    match i.op {
        Op::GetReg | Op::SetReg | Op::GetRegHi | Op::SetRegHi => {
            if let Some(name) = usize::try_from(i.imm).ok().and_then(|n| REGS.get(n)) {
                write!(f, " ; {name}")?;
            }
        }
        Op::GetState | Op::SetState => {
            if let Some(field) = StateField::from_number(i.imm) {
                write!(f, " ; {field:?}")?;
            }
        }
        Op::TestCc => {
            if let Some(cc) = usize::try_from(i.imm).ok().and_then(|n| Cc::ALL.get(n)) {
                write!(f, " ; {cc:?}")?;
            }
        }
        Op::ExitIf if i.args[1].is_some() => {}
        Op::Guest | Op::Pc | Op::Goto | Op::ExitIf | Op::Interpret => write!(f, " ; {target:#x}")?,
        Op::Branch => {
            let other = rip.wrapping_add(i64::from(i.aux as i32) as u64);
            write!(f, " ; {target:#x} else {other:#x}")?;
        }
        _ => {}
    }
    writeln!(f)
}
