//! FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2 and FLDZ.
//!
//! Intel SDM vol. 1, 8.3.8 and vol. 2: the constants are held to more than 64 bits and rounded by RC on every
//! load, without PE, C1 or regard for PC.

use super::ctx::Rounding;
use super::f80::F80;

/// The constants the x87 can load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// FLD1.
    One,
    /// FLDL2T: log2(10).
    Log2Of10,
    /// FLDL2E: log2(e).
    Log2OfE,
    /// FLDPI.
    Pi,
    /// FLDLG2: log10(2).
    Log10Of2,
    /// FLDLN2: ln(2).
    LnOf2,
    /// FLDZ.
    Zero,
}

impl Constant {
    /// The value under a rounding mode. All are positive, so down is toward zero.
    pub fn load(self, rounding: Rounding) -> F80 {
        // Exponent, the first 64 bits, and whether what follows is more than half of the last one.
        let (se, mant, above_half) = match self {
            Constant::One => return F80::ONE,
            Constant::Zero => return F80::ZERO,
            Constant::Log2Of10 => (0x4000, 0xd49a_784b_cd1b_8afe, false),
            Constant::Log2OfE => (0x3fff, 0xb8aa_3b29_5c17_f0bb, true),
            Constant::Pi => (0x4000, 0xc90f_daa2_2168_c234, true),
            Constant::Log10Of2 => (0x3ffd, 0x9a20_9a84_fbcf_f798, true),
            Constant::LnOf2 => (0x3ffe, 0xb172_17f7_d1cf_79ab, true),
        };
        let up = match rounding {
            Rounding::Nearest => above_half,
            Rounding::Up => true,
            Rounding::Down | Rounding::Zero => false,
        };
        F80 { mant: mant + u64::from(up), se }
    }
}
