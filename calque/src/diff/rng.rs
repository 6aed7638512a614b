//! Seeded random numbers, with a liking for the values at which things go wrong.

/// A generator (xorshift64*). The same seed gives the same cases for ever.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// Bit patterns of single precision that arithmetic treats specially.
const SINGLES: [u32; 24] = [
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0000,
    0x7f80_0001,
    0xffbf_ffff,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x4f00_0000,
    0xcf00_0000,
    0x4eff_ffff,
    0x5f00_0000,
    0x3f00_0000,
    0x4b00_0001,
    0x7fd5_5555,
    0x3f7f_ffff,
];

/// The same for double precision.
const DOUBLES: [u64; 20] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0001,
    0x7ff0_0000_0000_0001,
    0xfff7_ffff_ffff_ffff,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x41df_ffff_ffe0_0000,
    0xc1e0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x3810_0000_0000_0000,
    0x47ef_ffff_f000_0000,
];

impl Rng {
    /// From a seed; neighbouring seeds give unrelated numbers.
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ z >> 31) | 1)
    }

    /// 64 random bits.
    #[allow(clippy::should_implement_trait, reason = "no iterator: it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 32) as usize) % n.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number that finds carries.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0 | 1 => self.next(),
            2 => self.next() >> 20 & 0xff,
            3 => 1u64.rotate_left(self.next() as u32),
            4 => u64::MAX << (self.next() >> 30 & 63),
            5 => u64::MAX >> (self.next() >> 30 & 63),
            6 => self.next() >> 32,
            _ => self.pick(&[0, 1, 2, 0x7f, 0x80, 0xff, 0x8000, 0xffff, 0x8000_0000, 0x7fff_ffff, u64::MAX]),
        }
    }

    fn single(&mut self) -> u32 {
        match self.below(4) {
            0 => (self.next() >> 32) as u32,
            1 => (self.below(2000) as f32 / 8.0 - 125.0).to_bits(),
            _ => self.pick(&SINGLES),
        }
    }

    fn double(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => (self.below(2000) as f64 / 8.0 - 125.0).to_bits(),
            _ => self.pick(&DOUBLES),
        }
    }

    /// Eight bytes that suit integers or floating point.
    pub fn lane(&mut self) -> u64 {
        match self.below(3) {
            0 => self.number(),
            1 => u64::from(self.single()) << 32 | u64::from(self.single()),
            _ => self.double(),
        }
    }
}
