//! The formats, and taking their encodings apart (SDM vol. 1, 4.2.2 and tables 4-2, 4-3; 14.4.1 for halves).

/// An IEEE interchange format of up to 64 bits.
pub trait Format: Copy + std::fmt::Debug + 'static {
    /// Width in bits.
    const BITS: u32;
    /// Bits of the fraction field.
    const FRACTION: u32;
    /// Sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);
    /// Everything but the sign.
    const MAGNITUDE: u64 = Self::SIGN - 1;
    /// Exponent field of infinities and NaNs, right-aligned.
    const SPECIAL: u64 = (1 << (Self::BITS - 1 - Self::FRACTION)) - 1;
    /// Exponent bias.
    const BIAS: i32 = (Self::SPECIAL >> 1) as i32;
    /// Plus infinity.
    const INFINITY: u64 = Self::SPECIAL << Self::FRACTION;
    /// The bit that makes a NaN quiet.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// The "QNaN real indefinite": what a masked invalid operation delivers.
    const INDEFINITE: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;

    /// The exponent field.
    #[inline(always)]
    fn exponent(v: u64) -> u64 {
        v >> Self::FRACTION & Self::SPECIAL
    }

    /// Whether `v` is a zero of either sign.
    #[inline(always)]
    fn is_zero(v: u64) -> bool {
        v & Self::MAGNITUDE == 0
    }

    /// Whether `v` is a NaN.
    #[inline(always)]
    fn is_nan(v: u64) -> bool {
        v & Self::MAGNITUDE > Self::INFINITY
    }

    /// Whether `v` is a signalling NaN.
    #[inline(always)]
    fn is_signalling(v: u64) -> bool {
        Self::is_nan(v) && v & Self::QUIET == 0
    }

    /// Whether `v` is denormal.
    #[inline(always)]
    fn is_denormal(v: u64) -> bool {
        (v & Self::MAGNITUDE).wrapping_sub(1) < (1 << Self::FRACTION) - 1
    }

    /// Whether `v` is negative (sign bit set).
    #[inline(always)]
    fn is_negative(v: u64) -> bool {
        v & Self::SIGN != 0
    }

    /// A normal number or zero.
    #[inline(always)]
    fn is_plain(v: u64) -> bool {
        Self::exponent(v).wrapping_sub(1) < Self::SPECIAL - 1 || Self::is_zero(v)
    }

    /// A normal number that is not the result of rounding up from a tiny one.
    #[inline(always)]
    fn is_roomy(v: u64) -> bool {
        Self::exponent(v).wrapping_sub(2) < Self::SPECIAL - 2
    }

    /// The sign bit for `negative`.
    #[inline(always)]
    fn sign(negative: bool) -> u64 {
        if negative { Self::SIGN } else { 0 }
    }
}

/// A format that SSE computes in.
pub trait Arithmetic: Format {
    /// The host's sum.
    fn host_add(a: u64, b: u64) -> u64;
    /// The host's difference.
    fn host_sub(a: u64, b: u64) -> u64;
    /// The host's product.
    fn host_mul(a: u64, b: u64) -> u64;
    /// The host's quotient.
    fn host_div(a: u64, b: u64) -> u64;
    /// The host's square root.
    fn host_sqrt(a: u64) -> u64;
}

macro_rules! format {
    ($name:ident, $float:ty, $int:ty, $fraction:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Format for $name {
            const BITS: u32 = <$int>::BITS;
            const FRACTION: u32 = $fraction;
        }

        impl Arithmetic for $name {
            #[inline(always)]
            fn host_add(a: u64, b: u64) -> u64 {
                (<$float>::from_bits(a as $int) + <$float>::from_bits(b as $int)).to_bits().into()
            }
            #[inline(always)]
            fn host_sub(a: u64, b: u64) -> u64 {
                (<$float>::from_bits(a as $int) - <$float>::from_bits(b as $int)).to_bits().into()
            }
            #[inline(always)]
            fn host_mul(a: u64, b: u64) -> u64 {
                (<$float>::from_bits(a as $int) * <$float>::from_bits(b as $int)).to_bits().into()
            }
            #[inline(always)]
            fn host_div(a: u64, b: u64) -> u64 {
                (<$float>::from_bits(a as $int) / <$float>::from_bits(b as $int)).to_bits().into()
            }
            #[inline(always)]
            fn host_sqrt(a: u64) -> u64 {
                <$float>::from_bits(a as $int).sqrt().to_bits().into()
            }
        }
    };
}

format!(Single, f32, u32, 23, "binary32, single precision.");
format!(Double, f64, u64, 52, "binary64, double precision.");

/// binary16, half precision: a format of memory alone (F16C).
#[derive(Clone, Copy, Debug)]
pub struct Half;
impl Format for Half {
    const BITS: u32 = 16;
    const FRACTION: u32 = 10;
}

/// A finite value that is not zero: `sig * 2^(exp - 63)`, with the top bit of `sig` set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub negative: bool,
    pub exp: i32,
    pub sig: u64,
}

impl Number {
    /// Takes a finite, non-zero encoding apart.
    pub(super) fn unpack<F: Format>(v: u64) -> Self {
        let exponent = F::exponent(v) as i32;
        let fraction = v & ((1 << F::FRACTION) - 1);
        let negative = F::is_negative(v);
        if exponent == 0 {
            let shift = fraction.leading_zeros();
            // A denormal's lowest bit weighs 2^(1 - BIAS - FRACTION).
            let exp = 63 - shift as i32 + 1 - F::BIAS - F::FRACTION as i32;
            Self { negative, exp, sig: fraction << (shift & 63) }
        } else {
            let sig = (fraction | 1 << F::FRACTION) << (63 - F::FRACTION);
            Self { negative, exp: exponent - F::BIAS, sig }
        }
    }
}
