//! The arithmetic of the status flags, and what calque makes of those the manual leaves undefined.
//!
//! Undefined flags have one definition each, shared with the translator:
//!
//! | Instructions | Definition |
//! |---|---|
//! | AND, OR, XOR, TEST | AF = 0 |
//! | MUL, IMUL | CF = OF = overflow; SF, ZF, PF from the low half of the result; AF = 0 |
//! | DIV, IDIV | all unchanged |
//! | SHL, SHR, SAR, count not 0 | AF = 0; OF for any count: SHL msb(result) ^ CF; SHR the top two bits of the result differ; SAR 0 |
//! | ROL, RCL, count not 0 | OF = msb(result) ^ CF for any count |
//! | ROR, RCR, count not 0 | OF = the top two bits of the result differ, for any count |
//! | SHLD, SHRD, count not 0 | AF = 0; OF = msb(result) ^ msb(original), for any count |
//! | 16-bit SHLD, SHRD, count above 16 | the 48-bit value dst:src:dst (SHLD) or dst:src:dst from the right (SHRD) is shifted |
//! | BSF, BSR | ZF as defined; others unchanged; destination unchanged for source 0 |
//! | BT, BTS, BTR, BTC | CF as defined; others unchanged |
//! | LZCNT, TZCNT | CF, ZF as defined; others unchanged |
//! | AAA, AAS | OF = 0; SF, ZF, PF from AL |
//! | DAA, DAS | OF = 0 |
//! | AAM, AAD | CF = OF = AF = 0 |
//!
//! Shift counts are masked to 5 bits (6 for 64-bit operands) first; a masked count of 0 changes no flag. Values are
//! carried in `u64`, zero-extended from the operand's width.

use crate::operand::Width;
use emu_core::state::CpuState;
use emu_core::state::bits::rflags::{AF, CF, OF, PF, SF, STATUS, ZF};

/// PF of every byte.
static PARITY: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = if (i as u8).count_ones().is_multiple_of(2) { PF as u8 } else { 0 };
        i += 1;
    }
    table
};

/// PF of a result.
#[inline(always)]
pub fn parity(result: u64) -> u64 {
    PARITY[(result & 0xff) as usize].into()
}

/// SF, ZF and PF of a result.
#[inline(always)]
pub fn szp<W: Width>(result: u64) -> u64 {
    (result >> (W::BITS - 1) & 1) << 7 | u64::from(result & W::MASK == 0) << 6 | parity(result)
}

/// The most significant bit of a value, as 0 or 1.
#[inline(always)]
pub fn msb<W: Width>(value: u64) -> u64 {
    value >> (W::BITS - 1) & 1
}

/// `a + b + carry` and all six flags.
#[inline(always)]
pub fn add<W: Width>(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let r = a.wrapping_add(b).wrapping_add(carry) & W::MASK;
    let carries = a & b | (a | b) & !r;
    let over = (a ^ r) & (b ^ r);
    (r, msb::<W>(carries) | (a ^ b ^ r) & AF | msb::<W>(over) << 11 | szp::<W>(r))
}

/// `a - b - borrow` and all six flags.
#[inline(always)]
pub fn sub<W: Width>(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let r = a.wrapping_sub(b).wrapping_sub(borrow) & W::MASK;
    let borrows = !a & b | (!a | b) & r;
    let over = (a ^ b) & (a ^ r);
    (r, msb::<W>(borrows) | (a ^ b ^ r) & AF | msb::<W>(over) << 11 | szp::<W>(r))
}

/// Replaces all six status flags.
#[inline(always)]
pub fn set(s: &mut CpuState, flags: u64) {
    s.rflags = s.rflags & !STATUS | flags;
}

/// Replaces the flags in `mask`.
#[inline(always)]
pub fn set_some(s: &mut CpuState, mask: u64, flags: u64) {
    s.rflags = s.rflags & !mask | flags & mask;
}

/// `bit` if `on`.
#[inline(always)]
pub const fn when(on: bool, bit: u64) -> u64 {
    if on { bit } else { 0 }
}

/// Whether condition `cc` (the low four bits of Jcc, SETcc and CMOVcc opcodes) holds.
#[inline(always)]
pub fn condition(rflags: u64, cc: u8) -> bool {
    let less = (rflags >> 7 ^ rflags >> 11) & 1 != 0;
    let holds = match cc >> 1 & 7 {
        0 => rflags & OF != 0,
        1 => rflags & CF != 0,
        2 => rflags & ZF != 0,
        3 => rflags & (CF | ZF) != 0,
        4 => rflags & SF != 0,
        5 => rflags & PF != 0,
        6 => less,
        _ => less || rflags & ZF != 0,
    };
    holds != (cc & 1 != 0)
}
