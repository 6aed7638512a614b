//! Vector instructions that several files emit, on 128 bits and without their registers (Arm ARM, C7.2).

pub const AND: u32 = 0x4e20_1c00;
pub const BIC: u32 = 0x4e60_1c00;
pub const ORR: u32 = 0x4ea0_1c00;
pub const EOR: u32 = 0x6e20_1c00;
/// Bytes of one register, and of two that follow each other.
pub const TBL: u32 = 0x4e00_0000;
pub const TBL2: u32 = 0x4e00_2000;
/// The low or the high quadword twice.
pub const DUP_LOW: u32 = 0x4e08_0400;
pub const DUP_HIGH: u32 = 0x4e18_0400;
pub const AESE: u32 = 0x4e28_4800;
