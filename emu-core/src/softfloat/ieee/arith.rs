//! Addition, multiplication, fused multiply-add, division and square root.

use super::super::ctx::{Flags, Rounding};
use super::env::Env;
use super::format::{Arithmetic, Format, Number};
use super::round::{shift_right_128, top_half};

/// A finite value in flight: `sig * 2^(exp - 126)`, bit 126 or 127 of `sig` set, lowest bit sticky.
#[derive(Clone, Copy)]
struct Wide {
    negative: bool,
    exp: i32,
    sig: u128,
}

/// Which parts of a fused multiply-add are negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// The product.
    pub product: bool,
    /// The addend.
    pub addend: bool,
}

impl From<Number> for Wide {
    fn from(n: Number) -> Self {
        Self { negative: n.negative, exp: n.exp, sig: u128::from(n.sig) << 63 }
    }
}

impl Env {
    /// `a + b`: ADDPS, ADDPD and their kin.
    #[inline]
    pub fn add<F: Arithmetic>(&mut self, a: u64, b: u64) -> u64 {
        if self.quick && F::is_plain(a) && F::is_plain(b) {
            let r = F::host_add(a, b);
            if F::is_plain(r) {
                return r;
            }
        }
        self.add_exact::<F>(a, b, 0)
    }

    /// `a - b`. A NaN keeps its sign.
    #[inline]
    pub fn sub<F: Arithmetic>(&mut self, a: u64, b: u64) -> u64 {
        if self.quick && F::is_plain(a) && F::is_plain(b) {
            let r = F::host_sub(a, b);
            if F::is_plain(r) {
                return r;
            }
        }
        self.add_exact::<F>(a, b, F::SIGN)
    }

    #[inline(never)]
    fn add_exact<F: Format>(&mut self, a: u64, b: u64, flip: u64) -> u64 {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if let Some(nan) = self.nan::<F>(&[a, b]) {
            return nan;
        }
        let b = b ^ flip;
        match (a & F::MAGNITUDE == F::INFINITY, b & F::MAGNITUDE == F::INFINITY) {
            (true, true) if a != b => return self.invalid::<F>(),
            (true, _) => {
                self.denormal::<F>(&[b]);
                return a;
            }
            (_, true) => {
                self.denormal::<F>(&[a]);
                return b;
            }
            _ => {}
        }
        self.denormal::<F>(&[a, b]);
        match (F::is_zero(a), F::is_zero(b)) {
            (true, true) if a == b => a,
            (true, true) => self.zero_sum::<F>(),
            (true, _) => self.finish::<F>(Number::unpack::<F>(b).into()),
            (_, true) => self.finish::<F>(Number::unpack::<F>(a).into()),
            _ => self.sum::<F>(Number::unpack::<F>(a).into(), Number::unpack::<F>(b).into()),
        }
    }

    /// The zero that exact cancellation leaves.
    fn zero_sum<F: Format>(&self) -> u64 {
        F::sign(self.rounding == Rounding::Down)
    }

    /// Of values with at most 107 significant bits at the top of `sig`, so that what an alignment pushes out lies
    /// below every bit that one step of cancellation can bring up.
    fn sum<F: Format>(&mut self, a: Wide, b: Wide) -> u64 {
        // Bit 127 stays free for the carry.
        let level = |w: Wide| {
            if w.sig >> 127 == 0 { w } else { Wide { exp: w.exp + 1, sig: shift_right_128(w.sig, 1), ..w } }
        };
        let (a, b) = (level(a), level(b));
        let (x, y) = if a.exp >= b.exp { (a, b) } else { (b, a) };
        let small = shift_right_128(y.sig, (x.exp - y.exp) as u32);
        if x.negative == y.negative {
            return self.finish::<F>(Wide { sig: x.sig + small, ..x });
        }
        let (negative, sig) = match x.sig.cmp(&small) {
            std::cmp::Ordering::Equal => return self.zero_sum::<F>(),
            std::cmp::Ordering::Greater => (x.negative, x.sig - small),
            std::cmp::Ordering::Less => (y.negative, small - x.sig),
        };
        self.finish::<F>(Wide { negative, exp: x.exp, sig })
    }

    /// Normalises and rounds.
    fn finish<F: Format>(&mut self, w: Wide) -> u64 {
        let shift = w.sig.leading_zeros();
        self.round::<F>(w.negative, w.exp + 1 - shift as i32, top_half(w.sig << shift))
    }

    /// `a * b`.
    #[inline]
    pub fn mul<F: Arithmetic>(&mut self, a: u64, b: u64) -> u64 {
        if self.quick && F::is_plain(a) && F::is_plain(b) {
            let r = F::host_mul(a, b);
            if F::is_roomy(r) || F::is_zero(a) || F::is_zero(b) {
                return r;
            }
        }
        self.mul_exact::<F>(a, b)
    }

    #[inline(never)]
    fn mul_exact<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if let Some(nan) = self.nan::<F>(&[a, b]) {
            return nan;
        }
        match self.product::<F>(a, b) {
            Ok(w) => {
                self.denormal::<F>(&[a, b]);
                self.finish::<F>(w)
            }
            Err(None) => self.invalid::<F>(),
            Err(Some(v)) => {
                self.denormal::<F>(&[a, b]);
                v
            }
        }
    }

    /// The exact product of operands that are no NaNs; `Err` if it is zero, infinite or (None) invalid.
    fn product<F: Format>(&self, a: u64, b: u64) -> Result<Wide, Option<u64>> {
        let sign = (a ^ b) & F::SIGN;
        let infinite = a & F::MAGNITUDE == F::INFINITY || b & F::MAGNITUDE == F::INFINITY;
        let zero = F::is_zero(a) || F::is_zero(b);
        match (infinite, zero) {
            (true, true) => return Err(None),
            (true, _) => return Err(Some(sign | F::INFINITY)),
            (_, true) => return Err(Some(sign)),
            _ => {}
        }
        let (x, y) = (Number::unpack::<F>(a), Number::unpack::<F>(b));
        let sig = u128::from(x.sig) * u128::from(y.sig);
        Ok(Wide { negative: sign != 0, exp: x.exp + y.exp, sig })
    }

    /// `a * b + c` with one rounding. NaNs are preferred in the order a, b, c; a QNaN in `c` hides an invalid
    /// product.
    pub fn mul_add<F: Format>(&mut self, a: u64, b: u64, c: u64) -> u64 {
        self.fused::<F>(a, b, c, Signs { product: false, addend: false })
    }

    /// [`Env::mul_add`] with product or addend negated. A NaN keeps its sign.
    pub fn fused<F: Format>(&mut self, a: u64, b: u64, c: u64, signs: Signs) -> u64 {
        let (a, b, c) = (self.operand::<F>(a), self.operand::<F>(b), self.operand::<F>(c));
        if let Some(nan) = self.nan::<F>(&[a, b, c]) {
            return nan;
        }
        let (a, c) = (a ^ F::sign(signs.product), c ^ F::sign(signs.addend));
        let product = self.product::<F>(a, b);
        let infinite = c & F::MAGNITUDE == F::INFINITY;
        match product {
            Err(None) => self.invalid::<F>(),
            Err(Some(p)) if p & F::MAGNITUDE == F::INFINITY => {
                if infinite && p != c {
                    return self.invalid::<F>();
                }
                self.denormal::<F>(&[a, b, c]);
                p
            }
            _ if infinite => {
                self.denormal::<F>(&[a, b, c]);
                c
            }
            Err(Some(p)) => {
                self.denormal::<F>(&[a, b, c]);
                match F::is_zero(c) {
                    true if p == c => p,
                    true => self.zero_sum::<F>(),
                    false => self.finish::<F>(Number::unpack::<F>(c).into()),
                }
            }
            Ok(w) => {
                self.denormal::<F>(&[a, b, c]);
                if F::is_zero(c) {
                    self.finish::<F>(w)
                } else {
                    self.sum::<F>(w, Number::unpack::<F>(c).into())
                }
            }
        }
    }

    /// `a / b`.
    #[inline]
    pub fn div<F: Arithmetic>(&mut self, a: u64, b: u64) -> u64 {
        if self.quick && F::is_plain(a) && F::is_plain(b) && !F::is_zero(b) {
            let r = F::host_div(a, b);
            if F::is_roomy(r) || F::is_zero(a) {
                return r;
            }
        }
        self.div_exact::<F>(a, b)
    }

    #[inline(never)]
    fn div_exact<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if let Some(nan) = self.nan::<F>(&[a, b]) {
            return nan;
        }
        let sign = (a ^ b) & F::SIGN;
        match (a & F::MAGNITUDE == F::INFINITY, b & F::MAGNITUDE == F::INFINITY) {
            (true, true) => return self.invalid::<F>(),
            (true, _) => {
                self.denormal::<F>(&[b]);
                return sign | F::INFINITY;
            }
            (_, true) => {
                self.denormal::<F>(&[a]);
                return sign;
            }
            _ => {}
        }
        match (F::is_zero(a), F::is_zero(b)) {
            (true, true) => return self.invalid::<F>(),
            // ZE comes before DE (measured; 4.9.2 lists them so), and there is no division left to raise DE.
            (_, true) => {
                self.flags |= Flags::ZE;
                return sign | F::INFINITY;
            }
            (true, _) => {
                self.denormal::<F>(&[b]);
                return sign;
            }
            _ => {}
        }
        self.denormal::<F>(&[a, b]);
        let (x, y) = (Number::unpack::<F>(a), Number::unpack::<F>(b));
        // The quotient has 64 or 65 bits; the remainder becomes the sticky bit, far below it.
        let dividend = u128::from(x.sig) << 64;
        let quotient = dividend / u128::from(y.sig);
        let sticky = u128::from(dividend % u128::from(y.sig) != 0);
        let sig = quotient << 62 | sticky;
        self.finish::<F>(Wide { negative: sign != 0, exp: x.exp - y.exp, sig })
    }

    /// The square root.
    #[inline]
    pub fn sqrt<F: Arithmetic>(&mut self, v: u64) -> u64 {
        if self.quick && F::is_plain(v) && !F::is_negative(v) {
            return F::host_sqrt(v);
        }
        self.sqrt_exact::<F>(v)
    }

    #[inline(never)]
    fn sqrt_exact<F: Format>(&mut self, v: u64) -> u64 {
        let v = self.operand::<F>(v);
        if let Some(nan) = self.nan::<F>(&[v]) {
            return nan;
        }
        if F::is_zero(v) {
            return v;
        }
        if F::is_negative(v) {
            return self.invalid::<F>();
        }
        if v == F::INFINITY {
            return v;
        }
        self.denormal::<F>(&[v]);
        let n = Number::unpack::<F>(v);
        // An even exponent below the radicand, so that its root has exactly 64 bits.
        let radicand = u128::from(n.sig) << if n.exp & 1 == 0 { 63 } else { 64 };
        let root = radicand.isqrt();
        let sticky = u64::from(root * root != radicand);
        self.round::<F>(false, n.exp >> 1, root as u64 | sticky)
    }
}
