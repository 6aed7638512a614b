//! How [`super::Op::X87`] and [`super::Op::X87Mem`] name an instruction: by its opcode, as the manual's tables of escape
//! opcodes do (SDM vol. 2, A.5).
//!
//! Bits 10-0 are the instruction's own FOP (SDM vol. 1, 8.1.9): the low three bits of the escape byte, then the ModRM
//! byte. For memory operands the mod and r/m fields only count as what FOP becomes.

/// The bits that are FOP.
pub const FOP: u32 = 0x7ff;
/// The instruction moves FIP and FOP, and FDP if it has a memory operand: all but the control instructions.
pub const POINTERS: u32 = 1 << 16;
/// FWAIT, which has no escape opcode.
pub const WAIT: u32 = 1 << 17;

/// The escape byte.
pub const fn escape(aux: u32) -> u8 {
    0xd8 | (aux >> 8 & 7) as u8
}

/// The ModRM byte.
pub const fn modrm(aux: u32) -> u8 {
    aux as u8
}

/// Its reg field, which chooses among operations on memory.
pub const fn digit(aux: u32) -> u8 {
    modrm(aux) >> 3 & 7
}

/// Whether it has a memory operand.
pub const fn memory(aux: u32) -> bool {
    modrm(aux) < 0xc0 && aux & WAIT == 0
}

/// What an operation on memory does with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads so many bytes.
    Read(u32),
    /// Writes so many bytes.
    Write(u32),
    /// Is not an operation of this kind: environments, whole states, and undefined opcodes.
    Other,
}

/// The access of an operation on memory.
pub const fn access(aux: u32) -> Access {
    use Access::*;
    match (escape(aux), digit(aux)) {
        (0xd8 | 0xda, _) | (0xd9 | 0xdb, 0) => Read(4),
        (0xdc, _) | (0xdd, 0) | (0xdf, 5) => Read(8),
        (0xde, _) | (0xdf, 0) | (0xd9, 5) => Read(2),
        (0xdb, 5) | (0xdf, 4) => Read(10),
        (0xd9, 2 | 3) | (0xdb, 1..=3) => Write(4),
        (0xdd, 1..=3) | (0xdf, 7) => Write(8),
        (0xdf, 1..=3) | (0xd9 | 0xdd, 7) => Write(2),
        (0xdb, 7) | (0xdf, 6) => Write(10),
        _ => Other,
    }
}

/// FLDCW.
pub const fn loads_control(aux: u32) -> bool {
    memory(aux) && escape(aux) == 0xd9 && digit(aux) == 5
}
