//! Vectors as lanes: a vector travels as a `u128` (an MMX register as its low half), lane 0 in the lowest bits.

/// An element of a vector.
pub trait Lane: Copy + 'static {
    /// Its size in bytes.
    const BYTES: usize;

    /// Lane `i` of `v`.
    fn get(v: u128, i: usize) -> Self;

    /// A vector with this as lane `i` and zeros elsewhere.
    fn put(self, i: usize) -> u128;
}

macro_rules! lanes {
    ($($int:ty as $unsigned:ty),*) => {$(
        impl Lane for $int {
            const BYTES: usize = size_of::<$int>();

            #[inline(always)]
            fn get(v: u128, i: usize) -> Self {
                (v >> (8 * Self::BYTES * i)) as Self
            }

            #[inline(always)]
            fn put(self, i: usize) -> u128 {
                u128::from(self as $unsigned) << (8 * Self::BYTES * i)
            }
        }
    )*};
}
lanes!(u8 as u8, i8 as u8, u16 as u16, i16 as u16, u32 as u32, i32 as u32, u64 as u64, i64 as u64);

/// The vector whose lane `i`, of the first `n`, is `f(i)`.
#[inline(always)]
pub fn build<T: Lane>(n: usize, f: impl Fn(usize) -> T) -> u128 {
    let mut r = 0;
    for i in 0..n {
        r |= f(i).put(i);
    }
    r
}

/// `f` of every lane.
#[inline(always)]
pub fn map1<T: Lane>(a: u128, f: impl Fn(T) -> T) -> u128 {
    build(16 / T::BYTES, |i| f(T::get(a, i)))
}

/// `f` of every pair of lanes.
#[inline(always)]
pub fn map2<T: Lane>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    build(16 / T::BYTES, |i| f(T::get(a, i), T::get(b, i)))
}

/// `v` with lane `i` replaced.
#[inline(always)]
pub fn replace<T: Lane>(v: u128, i: usize, lane: T) -> u128 {
    let mask = (u128::MAX >> (128 - 8 * T::BYTES)) << (8 * T::BYTES * i);
    v & !mask | lane.put(i)
}
