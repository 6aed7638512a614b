//! FBLD and FBSTP: 18-digit packed decimal.
//!
//! Intel SDM vol. 1, 4.7 and table 4-4: nine bytes of two digits each, lowest first, then a byte whose top bit
//! is the sign.

use super::ctx::Ctx;
use super::f80::F80;

/// The largest magnitude 18 digits hold.
const LIMIT: u64 = 999_999_999_999_999_999;

/// The packed-decimal indefinite of a masked invalid store.
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

impl F80 {
    /// FBLD: exact. Nibbles above nine, which the manual leaves undefined, count for their value.
    pub fn from_bcd(bytes: [u8; 10]) -> F80 {
        let digit_pairs = bytes[..9].iter().rev();
        let magnitude =
            digit_pairs.fold(0i64, |sum, pair| sum * 100 + i64::from(pair >> 4) * 10 + i64::from(pair & 15));
        let value = F80::from(magnitude);
        if bytes[9] & 0x80 != 0 { value.chs() } else { value }
    }
}

impl Ctx {
    /// FBSTP: rounds to an integer; what 18 digits cannot hold raises IE and gives the indefinite encoding.
    pub fn to_bcd(&mut self, a: F80) -> [u8; 10] {
        let Some(mut rest) = self.magnitude(a, LIMIT, self.rounding) else {
            return INDEFINITE;
        };
        let mut bytes = [0; 10];
        for byte in &mut bytes[..9] {
            let pair = (rest % 100) as u8;
            *byte = ((pair / 10) << 4) | (pair % 10);
            rest /= 100;
        }
        bytes[9] = if a.is_negative() { 0x80 } else { 0 };
        bytes
    }
}
