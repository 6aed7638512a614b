//! Integer arithmetic, comparisons and shifts of MMX, SSE and AVX (SDM vol. 2, PADD* to PXOR).
//!
//! First the meanings, under the manual's names, as functions of plain vectors. Those that work lane by lane serve
//! MMX and SSE alike; those that know how long the vector is take its length in bytes.

use super::lanes::{Lane, build, map1, map2};
use super::simd::{
    Aligned, Bytes, HalfVector, Immediate, binary, binary_mm, by_count, by_immediate, by_source,
    by_source_128, by_source_mm, unary,
};
use crate::decode::{Handler, Kind, Shape};
use iced_x86::Mnemonic;

macro_rules! lanewise {
    ($($name:ident: $lane:ty, $f:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of the manual.")]
        #[inline]
        pub fn $name(a: u128, b: u128) -> u128 {
            map2::<$lane>(a, b, $f)
        }
    )*};
}

macro_rules! ones {
    ($int:ty, $f:expr) => {
        |a, b| {
            let f: fn(&$int, &$int) -> bool = $f;
            if f(&a, &b) { !0 } else { 0 }
        }
    };
}

macro_rules! sign {
    () => {
        |a, b| match b.signum() {
            1 => a,
            0 => 0,
            _ => a.wrapping_neg(),
        }
    };
}

lanewise! {
    paddb: u8, u8::wrapping_add;
    paddw: u16, u16::wrapping_add;
    paddd: u32, u32::wrapping_add;
    paddq: u64, u64::wrapping_add;
    psubb: u8, u8::wrapping_sub;
    psubw: u16, u16::wrapping_sub;
    psubd: u32, u32::wrapping_sub;
    psubq: u64, u64::wrapping_sub;
    paddsb: i8, i8::saturating_add;
    paddsw: i16, i16::saturating_add;
    paddusb: u8, u8::saturating_add;
    paddusw: u16, u16::saturating_add;
    psubsb: i8, i8::saturating_sub;
    psubsw: i16, i16::saturating_sub;
    psubusb: u8, u8::saturating_sub;
    psubusw: u16, u16::saturating_sub;
    pmullw: u16, u16::wrapping_mul;
    pmulld: u32, u32::wrapping_mul;
    pmulhw: i16, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16;
    pmulhuw: u16, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    pmulhrsw: i16, |a, b| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16;
    pmuludq: u64, |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff);
    pmuldq: i64, |a, b| i64::from(a as i32) * i64::from(b as i32);
    pavgb: u8, |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    pavgw: u16, |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    pminub: u8, u8::min;
    pmaxub: u8, u8::max;
    pminsw: i16, i16::min;
    pmaxsw: i16, i16::max;
    pminsb: i8, i8::min;
    pmaxsb: i8, i8::max;
    pminuw: u16, u16::min;
    pmaxuw: u16, u16::max;
    pminsd: i32, i32::min;
    pmaxsd: i32, i32::max;
    pminud: u32, u32::min;
    pmaxud: u32, u32::max;
    pcmpeqb: u8, ones!(u8, u8::eq);
    pcmpeqw: u16, ones!(u16, u16::eq);
    pcmpeqd: u32, ones!(u32, u32::eq);
    pcmpeqq: u64, ones!(u64, u64::eq);
    pcmpgtb: i8, ones!(i8, i8::gt);
    pcmpgtw: i16, ones!(i16, i16::gt);
    pcmpgtd: i32, ones!(i32, i32::gt);
    pcmpgtq: i64, ones!(i64, i64::gt);
    psignb: i8, sign!();
    psignw: i16, sign!();
    psignd: i32, sign!();
}

/// `pmaddwd` of the manual.
#[inline]
pub fn pmaddwd(a: u128, b: u128) -> u128 {
    let product = |i| i32::from(i16::get(a, i)) * i32::from(i16::get(b, i));
    build::<i32>(4, |i| product(2 * i).wrapping_add(product(2 * i + 1)))
}

/// `pmaddubsw` of the manual: unsigned `a` by signed `b`.
#[inline]
pub fn pmaddubsw(a: u128, b: u128) -> u128 {
    let product = |i| i32::from(u8::get(a, i)) * i32::from(i8::get(b, i));
    build::<i16>(8, |i| clamp(product(2 * i) + product(2 * i + 1)))
}

/// `psadbw` of the manual.
#[inline]
pub fn psadbw(a: u128, b: u128) -> u128 {
    let difference = |i| u64::from(u8::get(a, i).abs_diff(u8::get(b, i)));
    build::<u64>(2, |i| (8 * i..8 * i + 8).map(difference).sum())
}

/// A 32-bit value saturated to 16 bits.
#[inline(always)]
pub fn clamp(v: i32) -> i16 {
    v.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// `f` of neighbours: those of `a` in the lower half of the result, those of `b` in the upper.
#[inline(always)]
fn neighbours<T: Lane>(a: u128, b: u128, bytes: usize, f: impl Fn(T, T) -> T) -> u128 {
    let half = bytes / T::BYTES / 2;
    build(2 * half, |i| {
        let (v, at) = if i < half { (a, 2 * i) } else { (b, 2 * (i - half)) };
        f(T::get(v, at), T::get(v, at + 1))
    })
}

macro_rules! horizontal {
    ($($name:ident: $lane:ty, $f:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of the manual.")]
        #[inline]
        pub fn $name(a: u128, b: u128, bytes: usize) -> u128 {
            neighbours::<$lane>(a, b, bytes, $f)
        }
    )*};
}

horizontal! {
    phaddw: i16, i16::wrapping_add;
    phaddd: i32, i32::wrapping_add;
    phaddsw: i16, i16::saturating_add;
    phsubw: i16, i16::wrapping_sub;
    phsubd: i32, i32::wrapping_sub;
    phsubsw: i16, i16::saturating_sub;
}

macro_rules! shifts {
    ($($name:ident: $lane:ty, |$v:ident, $n:ident| $f:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of the manual: the count is the low quadword of `count`.")]
        #[inline]
        pub fn $name(a: u128, count: u128) -> u128 {
            let $n = (count as u64).min(<$lane>::BITS.into()) as u32;
            map1::<$lane>(a, |$v| $f)
        }
    )*};
}

shifts! {
    psllw: u16, |v, n| v.checked_shl(n).unwrap_or(0);
    pslld: u32, |v, n| v.checked_shl(n).unwrap_or(0);
    psllq: u64, |v, n| v.checked_shl(n).unwrap_or(0);
    psrlw: u16, |v, n| v.checked_shr(n).unwrap_or(0);
    psrld: u32, |v, n| v.checked_shr(n).unwrap_or(0);
    psrlq: u64, |v, n| v.checked_shr(n).unwrap_or(0);
    psraw: i16, |v, n| v >> n.min(15);
    psrad: i32, |v, n| v >> n.min(31);
}

/// `pslldq` of the manual.
#[inline]
pub fn pslldq(a: u128, count: u128) -> u128 {
    if count > 15 { 0 } else { a << (8 * count) }
}

/// `psrldq` of the manual.
#[inline]
pub fn psrldq(a: u128, count: u128) -> u128 {
    if count > 15 { 0 } else { a >> (8 * count) }
}

/// `phminposuw` of the manual: the smallest word, and where it is.
pub fn phminposuw(v: u128) -> u128 {
    let (at, least) = (0..8).map(|i| (i, u16::get(v, i))).min_by_key(|&(_, word)| word).unwrap_or((0, 0));
    u128::from(least) | (at as u128) << 16
}

/// `mpsadbw` of the manual.
pub fn mpsadbw(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    let difference = |i, j| u16::from(u8::get(a, x + i + j).abs_diff(u8::get(b, y + j)));
    build::<u16>(8, |i| (0..4).map(|j| difference(i, j)).sum())
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    let mmx = s.ins.op0_register().is_mm();
    macro_rules! both {
        ($f:expr) => {
            if mmx { by_source_mm!(s, Bytes<8>, binary_mm, $f) } else { by_source!(s, Aligned, binary, $f) }
        };
    }
    macro_rules! sized {
        ($f:ident) => {
            if mmx {
                by_source_mm!(s, Bytes<8>, binary_mm, |a, b| $f(a, b, 8))
            } else {
                by_source!(s, Aligned, binary, |a, b| $f(a, b, 16))
            }
        };
    }
    macro_rules! shift {
        ($f:ident) => {
            match s.kinds[1] {
                Kind::Imm if mmx => |cpu, op| binary_mm::<Immediate>(cpu, op, $f),
                _ if mmx => by_source_mm!(s, Bytes<8>, binary_mm, $f),
                _ if s.kinds[1] == Kind::Imm || s.kinds[2] == Kind::Imm => by_immediate!(s, by_count, $f),
                _ => by_source!(s, HalfVector, by_count, $f),
            }
        };
    }
    Some(match s.mnemonic() {
        M::Paddb | M::Vpaddb => both!(paddb),
        M::Paddw | M::Vpaddw => both!(paddw),
        M::Paddd | M::Vpaddd => both!(paddd),
        M::Paddq | M::Vpaddq => both!(paddq),
        M::Psubb | M::Vpsubb => both!(psubb),
        M::Psubw | M::Vpsubw => both!(psubw),
        M::Psubd | M::Vpsubd => both!(psubd),
        M::Psubq | M::Vpsubq => both!(psubq),
        M::Paddsb | M::Vpaddsb => both!(paddsb),
        M::Paddsw | M::Vpaddsw => both!(paddsw),
        M::Paddusb | M::Vpaddusb => both!(paddusb),
        M::Paddusw | M::Vpaddusw => both!(paddusw),
        M::Psubsb | M::Vpsubsb => both!(psubsb),
        M::Psubsw | M::Vpsubsw => both!(psubsw),
        M::Psubusb | M::Vpsubusb => both!(psubusb),
        M::Psubusw | M::Vpsubusw => both!(psubusw),
        M::Pmullw | M::Vpmullw => both!(pmullw),
        M::Pmulld | M::Vpmulld => both!(pmulld),
        M::Pmulhw | M::Vpmulhw => both!(pmulhw),
        M::Pmulhuw | M::Vpmulhuw => both!(pmulhuw),
        M::Pmulhrsw | M::Vpmulhrsw => both!(pmulhrsw),
        M::Pmuludq | M::Vpmuludq => both!(pmuludq),
        M::Pmuldq | M::Vpmuldq => both!(pmuldq),
        M::Pmaddwd | M::Vpmaddwd => both!(pmaddwd),
        M::Pmaddubsw | M::Vpmaddubsw => both!(pmaddubsw),
        M::Psadbw | M::Vpsadbw => both!(psadbw),
        M::Pavgb | M::Vpavgb => both!(pavgb),
        M::Pavgw | M::Vpavgw => both!(pavgw),
        M::Pminub | M::Vpminub => both!(pminub),
        M::Pmaxub | M::Vpmaxub => both!(pmaxub),
        M::Pminsw | M::Vpminsw => both!(pminsw),
        M::Pmaxsw | M::Vpmaxsw => both!(pmaxsw),
        M::Pminsb | M::Vpminsb => both!(pminsb),
        M::Pmaxsb | M::Vpmaxsb => both!(pmaxsb),
        M::Pminuw | M::Vpminuw => both!(pminuw),
        M::Pmaxuw | M::Vpmaxuw => both!(pmaxuw),
        M::Pminsd | M::Vpminsd => both!(pminsd),
        M::Pmaxsd | M::Vpmaxsd => both!(pmaxsd),
        M::Pminud | M::Vpminud => both!(pminud),
        M::Pmaxud | M::Vpmaxud => both!(pmaxud),
        M::Pcmpeqb | M::Vpcmpeqb => both!(pcmpeqb),
        M::Pcmpeqw | M::Vpcmpeqw => both!(pcmpeqw),
        M::Pcmpeqd | M::Vpcmpeqd => both!(pcmpeqd),
        M::Pcmpeqq | M::Vpcmpeqq => both!(pcmpeqq),
        M::Pcmpgtb | M::Vpcmpgtb => both!(pcmpgtb),
        M::Pcmpgtw | M::Vpcmpgtw => both!(pcmpgtw),
        M::Pcmpgtd | M::Vpcmpgtd => both!(pcmpgtd),
        M::Pcmpgtq | M::Vpcmpgtq => both!(pcmpgtq),
        M::Psignb | M::Vpsignb => both!(psignb),
        M::Psignw | M::Vpsignw => both!(psignw),
        M::Psignd | M::Vpsignd => both!(psignd),
        M::Pabsb | M::Vpabsb => both!(|_, b| map1::<i8>(b, i8::wrapping_abs)),
        M::Pabsw | M::Vpabsw => both!(|_, b| map1::<i16>(b, i16::wrapping_abs)),
        M::Pabsd | M::Vpabsd => both!(|_, b| map1::<i32>(b, i32::wrapping_abs)),
        M::Pand | M::Andps | M::Andpd | M::Vpand | M::Vandps | M::Vandpd => both!(|a, b| a & b),
        M::Pandn | M::Andnps | M::Andnpd | M::Vpandn | M::Vandnps | M::Vandnpd => both!(|a, b| !a & b),
        M::Por | M::Orps | M::Orpd | M::Vpor | M::Vorps | M::Vorpd => both!(|a, b| a | b),
        M::Pxor | M::Xorps | M::Xorpd | M::Vpxor | M::Vxorps | M::Vxorpd => both!(|a, b| a ^ b),
        M::Psllw | M::Vpsllw => shift!(psllw),
        M::Pslld | M::Vpslld => shift!(pslld),
        M::Psllq | M::Vpsllq => shift!(psllq),
        M::Psrlw | M::Vpsrlw => shift!(psrlw),
        M::Psrld | M::Vpsrld => shift!(psrld),
        M::Psrlq | M::Vpsrlq => shift!(psrlq),
        M::Psraw | M::Vpsraw => shift!(psraw),
        M::Psrad | M::Vpsrad => shift!(psrad),
        M::Pslldq | M::Vpslldq => by_immediate!(s, by_count, pslldq),
        M::Psrldq | M::Vpsrldq => by_immediate!(s, by_count, psrldq),
        M::Phaddw | M::Vphaddw => sized!(phaddw),
        M::Phaddd | M::Vphaddd => sized!(phaddd),
        M::Phaddsw | M::Vphaddsw => sized!(phaddsw),
        M::Phsubw | M::Vphsubw => sized!(phsubw),
        M::Phsubd | M::Vphsubd => sized!(phsubd),
        M::Phsubsw | M::Vphsubsw => sized!(phsubsw),
        M::Phminposuw | M::Vphminposuw => by_source_128!(s, Aligned, unary, phminposuw),
        _ => return None,
    })
}
