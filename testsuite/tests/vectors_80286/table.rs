//! Where later processors differ from the 80286.

use super::Vector;
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// One difference.
#[derive(Debug)]
pub struct Difference {
    /// Which vectors it is about.
    pub covers: fn(&Vector) -> bool,
    /// The reason, with the manual's words.
    pub why: &'static str,
}

/// The instruction as later processors see it, LOCK taken as it stands.
fn instruction(v: &Vector) -> Instruction {
    Decoder::new(16, &v.code(), DecoderOptions::NO_INVALID_CHECK).decode()
}

/// Length without the closing HLT.
fn length(v: &Vector) -> usize {
    v.code().len() - 1
}

fn took(v: &Vector, vector: u8) -> bool {
    v.exception.as_ref().is_some_and(|e| e.number == vector)
}

/// LOCK where later processors refuse it.
fn lock_refused(v: &Vector) -> bool {
    let code = v.code();
    let prefixes = code.iter().take_while(|b| matches!(b, 0xf0 | 0x26 | 0x2e | 0x36 | 0x3e | 0xf2 | 0xf3));
    let locked = prefixes.clone().any(|b| *b == 0xf0);
    locked && Decoder::new(16, &code, DecoderOptions::NONE).decode().is_invalid()
}

/// A string instruction, without its repeat prefix.
fn string(v: &Vector) -> bool {
    instruction(v).is_string_instruction()
}

/// A string instruction with a repeat prefix.
pub fn repeated(v: &Vector) -> bool {
    let i = instruction(v);
    i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix())
}

/// An access through SS.
fn through_ss(v: &Vector) -> bool {
    let i = instruction(v);
    let memory = (0..i.op_count()).any(|n| i.op_kind(n) == iced_x86::OpKind::Memory);
    i.is_stack_instruction()
        || matches!(i.mnemonic(), iced_x86::Mnemonic::Leave | iced_x86::Mnemonic::Enter)
        || memory && i.memory_segment() == iced_x86::Register::SS
}

/// Whether AX divided by the byte operand of an IDIV is a signed byte.
fn quotient_fits(v: &Vector) -> bool {
    let i = instruction(v);
    let by = if i.op0_kind() == iced_x86::OpKind::Memory {
        let value = |r: iced_x86::Register, _, _| match r {
            iced_x86::Register::None => Some(0),
            r if r.is_segment_register() => Some(v.reg(&format!("{r:?}").to_lowercase()) << 4),
            r => Some(v.reg(&format!("{r:?}").to_lowercase())),
        };
        let at = i.virtual_address(0, 0, value).expect("a plain operand");
        v.before.ram.iter().find(|(a, _)| *a == at).map_or(0, |&(_, b)| b)
    } else {
        let name = format!("{:?}", i.op0_register()).to_lowercase();
        let whole = v.reg(&format!("{}x", &name[..1]));
        (if name.ends_with('h') { whole >> 8 } else { whole }) as u8
    } as i8;
    by != 0 && i8::try_from(i32::from(v.reg("ax") as i16) / i32::from(by)).is_ok()
}

/// Every difference.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        covers: lock_refused,
        why: "SDM vol. 3B, 23.17 (differences from the 286): the LOCK prefix may be used \"only with\" the listed \
              instructions \"when their destination operand is in memory\", others raise #UD; the 286 takes it before any",
    },
    Difference {
        covers: |v| length(v) > 10 && length(v) <= 15,
        why: "SDM vol. 3B, 23.22.2: an instruction may be 15 bytes long, on the 286 10, beyond which it raises #GP",
    },
    Difference {
        covers: |v| took(v, 13) && !string(v) && through_ss(v),
        why: "SDM vol. 3A, 6.15, interrupt 12: an operand of the stack segment beyond its limit raises #SS in every mode; \
              the 286 in real mode raises 13 for every segment",
    },
    Difference {
        covers: |v| took(v, 13) && string(v),
        why: "SDM vol. 3A, 6.5 (faults): the state saved \"is that before\" the instruction; the 286 has moved SI and DI on",
    },
    Difference {
        covers: |v| took(v, 6) && matches!(v.op.as_str(), "8C" | "8E"),
        why: "SDM vol. 3B, 23.18 (new registers of the 386): FS and GS, which the 286 does not know (#UD)",
    },
    Difference {
        covers: |v| took(v, 0) && (v.op.starts_with("F6") || v.op.starts_with("F7") || v.op == "D4"),
        why: "SDM vol. 3A, 6.15, interrupt 0: #DE is a fault, and FLAGS are saved as they were; the 286 has changed those \
              that DIV, IDIV and AAM write",
    },
    Difference {
        covers: |v| v.exception.is_none() && v.op == "F6.7" && !quotient_fits(v),
        why: "SDM vol. 2A, IDIV: a quotient too large for the destination raises #DE; for one operand pair the 286 \
              stored 80h and went on",
    },
];
