//! The x87 (SDM vol. 1, chapter 8; vol. 2 for single instructions).
//!
//! What the instructions compute is in `emu_core::softfloat`; here is what surrounds it: the register stack and its
//! faults ([`stack`]), where operands come from ([`source`]), and then the groups [`arith`], [`unary`],
//! [`compare`], [`transfer`], [`control`] and [`env`](mod@env).
//!
//! The course of an arithmetic instruction:
//! 1. With CR0.TS or CR0.EM set it is #NM from the start: `Mode::NO_FPU` is part of the block key.
//! 2. A pending unmasked exception is #MF. That is so without CR0.NE too: the way of a PC without NE, FERR# to
//!    IRQ 13 and IGNNE# back, is not modelled.
//! 3. Memory operands are read, so that nothing has changed if that faults.
//! 4. The pointers to instruction and operand move, also if the instruction then raises an unmasked exception.
//! 5. Stack faults, then the arithmetic. Its flags go to the status word, and the result, a push or a pop
//!    happen unless an unmasked exception forbids it.
//!
//! The pointers: FIP and FDP are offsets, FOP is always kept (the "FOP compatibility mode" of IA32_MISC_ENABLE), FCS
//! and FDS hold the selectors outside 64-bit code and 0 in 64-bit code.
//!
//! Registers are physical in `FpuState::st`, so MMX, which shares them, sees the significands in place. Tags are
//! kept as empty or not; the full tag word is made from the contents when it is asked for.

pub mod arith;
pub mod compare;
pub mod control;
pub mod env;
pub mod source;
pub mod stack;
pub mod transfer;
pub mod unary;

use crate::decode::{Handler, Op, Shape, raise};
use emu_core::fault::Vector;
use emu_core::state::Mode;

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    let run = arith::choose(s)
        .or_else(|| transfer::choose(s))
        .or_else(|| compare::choose(s))
        .or_else(|| unary::choose(s))
        .or_else(|| control::choose(s))
        .or_else(|| env::choose(s))?;
    op.imm = opcode(s.code).into();
    Some(if s.mode.contains(Mode::NO_FPU) { raise(Vector::NM) } else { run })
}

/// The eleven bits of FOP: the low three of the escape byte, then the byte after it. No prefix looks like an escape
/// byte (D8 to DF).
fn opcode(code: &[u8]) -> u16 {
    let mut after_prefixes = code.iter().skip_while(|&&b| b & 0xf8 != 0xd8);
    let mut next = || after_prefixes.next().copied().map_or(0, u16::from);
    (next() & 7) << 8 | next()
}
