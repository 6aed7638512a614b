//! 80-bit extended-precision arithmetic.

use serde::{Deserialize, Serialize};

/// An 80-bit extended-precision number as x87 registers hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(C)]
pub struct F80 {
    /// The 64-bit significand with its explicit integer bit.
    pub mant: u64,
    /// Sign (bit 15) and biased exponent (bits 14-0).
    pub se: u16,
}
