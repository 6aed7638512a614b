//! Reads the text that [`super::print`] writes.

use super::block::{Block, BlockKey, Inst, Value};
use super::encoded::ENCODED;
use super::ops::{Op, Type};
use super::print::is_vector;
use super::vecop::VecOp;
use crate::addr::PhysAddr;
use crate::state::Mode;
use std::str::FromStr;

/// Why text is not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

impl FromStr for Block {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut block = None;
        for (n, line) in text.lines().enumerate() {
            let fail = |why| ParseError { line: n + 1, why };
            let line = line.split(';').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match &mut block {
                None => block = Some(header(line).map_err(fail)?),
                Some(b) => {
                    let i = inst(line, b.insts.len()).map_err(fail)?;
                    b.insts.push(i);
                }
            }
        }
        block.ok_or(ParseError { line: 1, why: "no block".into() })
    }
}

fn number(s: &str) -> Result<i64, String> {
    let (neg, digits) = s.strip_prefix('-').map_or((false, s), |d| (true, d));
    let v = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let v = v.map_err(|e| format!("{s}: {e}"))? as i64;
    Ok(if neg { v.wrapping_neg() } else { v })
}

fn header(line: &str) -> Result<Block, String> {
    let mut words = line.split_whitespace();
    if words.next() != Some("block") {
        return Err("expected a block".into());
    }
    let mut b = Block::new(BlockKey { phys: PhysAddr(0), rip: 0, mode: Mode(0) });
    for w in words {
        let (name, value) = w.split_once('=').ok_or_else(|| format!("expected name=value, not {w}"))?;
        let v = number(value)?;
        match name {
            "phys" => b.key.phys = PhysAddr(v as u64),
            "rip" => b.key.rip = v as u64,
            "mode" => b.key.mode = Mode(v as u32),
            "len" => b.guest_len = v as u32,
            "chunks" => b.chunks = v as u64,
            "insns" => b.guest_insns = v as u32,
            "ram" => b.ram = usize::try_from(v).ok(),
            "next" => b.next_page = Some(PhysAddr(v as u64)),
            _ => return Err(format!("unknown {name}")),
        }
    }
    Ok(b)
}

fn inst(line: &str, at: usize) -> Result<Inst, String> {
    let body = match line.split_once(" = ") {
        Some((v, body)) => {
            if value(v)?.index() != at {
                return Err(format!("{v} is not the next value, v{at}"));
            }
            body
        }
        None => line,
    };
    let mut words = body.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
    let head = words.next().ok_or("no op")?;
    let (name, rest) = head.split_once('.').ok_or_else(|| format!("{head} has no type"))?;
    let (ty, vector) = rest.split_once(':').map_or((rest, None), |(t, v)| (t, Some(v)));
    let op = Op::ALL.iter().copied().find(|o| o.name() == name).ok_or_else(|| format!("no op {name}"))?;
    let mut i = Inst { op, ty: type_named(ty)?, aux: 0, args: [Value::NONE; 3], imm: 0 };
    if let Some(v) = vector {
        let found = VecOp::ALL.iter().find(|o| o.name() == v);
        i.aux = *found.ok_or_else(|| format!("no vector operation {v}"))? as u32;
    }
    if vector.is_some() && !is_vector(op) {
        return Err(format!("{name} and vector operations do not go together"));
    }
    let mut count = 0;
    for w in words {
        if let Some(v) = w.strip_prefix("imm=") {
            i.imm = number(v)?;
        } else if let Some(v) = w.strip_prefix("aux=") {
            i.aux = number(v)? as u32;
        } else {
            let slot = i.args.get_mut(count).ok_or("too many arguments")?;
            *slot = if w == "-" { Value::NONE } else { value(w)? };
            count += 1;
        }
    }
    if is_vector(op) && vector.is_none() && i.aux & ENCODED == 0 {
        return Err(format!("{name} needs a vector operation"));
    }
    Ok(i)
}

fn value(s: &str) -> Result<Value, String> {
    let n = s.strip_prefix('v').ok_or_else(|| format!("expected a value, not {s}"))?;
    n.parse().map(Value).map_err(|e| format!("{s}: {e}"))
}

fn type_named(s: &str) -> Result<Type, String> {
    use Type::*;
    [Void, Bool, I8, I16, I32, I64, Flags, V128, V256]
        .into_iter()
        .find(|t| t.name() == s)
        .ok_or_else(|| format!("no type {s}"))
}
