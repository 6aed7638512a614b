//! FST to single and double precision memory.
//!
//! Intel SDM vol. 2, FST: IE for signalling NaNs and unsupported encodings, OE, UE, PE; never DE.

use super::ctx::Ctx;
use super::f80::F80;
use super::operand::{Kind, Operand};
use super::round::{Format, Rounded};
use super::wide::Wide;

const SINGLE: Format = Format { width: 24, bias: 127, top: 0xfe, register: false };
const DOUBLE: Format = Format { width: 53, bias: 1023, top: 0x7fe, register: false };

impl Ctx {
    /// FST m32fp. Check [`Ctx::writes_memory`] before writing.
    pub fn to_f32(&mut self, a: F80) -> u32 {
        let (negative, r) = self.narrow(a, SINGLE);
        u32::from(negative) << 31 | u32::from(r.exponent) << 23 | (r.mant >> 40) as u32 & 0x7f_ffff
    }

    /// FST m64fp. Check [`Ctx::writes_memory`] before writing.
    pub fn to_f64(&mut self, a: F80) -> u64 {
        let (negative, r) = self.narrow(a, DOUBLE);
        u64::from(negative) << 63 | u64::from(r.exponent) << 52 | r.mant >> 11 & ((1 << 52) - 1)
    }

    fn narrow(&mut self, a: F80, format: Format) -> (bool, Rounded) {
        let special = format.top as u16 + 1;
        let p = match self.examine1(Operand::from(a)) {
            Ok(p) => p,
            Err(nan) => return (nan.is_negative(), Rounded { exponent: special, mant: nan.mant }),
        };
        let r = match p.kind {
            Kind::Zero => Rounded { exponent: 0, mant: 0 },
            Kind::Infinity => Rounded { exponent: special, mant: a.mant },
            _ => self.round_to(Wide::from_parts(&p), format),
        };
        (p.negative, r)
    }
}
