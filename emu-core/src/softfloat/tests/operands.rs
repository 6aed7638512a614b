//! Operands that look for trouble: boundaries, neighbours, sparse and dense significands, every odd encoding.

use super::super::F80;

/// SplitMix64: small, seeded, and good enough.
pub struct Random(pub u64);

impl Random {
    /// A generator of its own for each name.
    pub fn named(name: &str) -> Random {
        Random(name.bytes().fold(7, |seed, b| seed.wrapping_mul(131).wrapping_add(u64::from(b))))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One of `from` to `to`, both included.
    pub fn range(&mut self, from: i32, to: i32) -> i32 {
        from + self.below((to - from + 1) as u64) as i32
    }

    /// A control word with random rounding, precision and, one time in four, some exceptions unmasked.
    pub fn control_word(&mut self) -> u16 {
        let precision = [0, 2, 3][self.below(3) as usize] << 8;
        let rounding = (self.below(4) as u16) << 10;
        let masks = if self.below(4) == 0 { self.next() as u16 & 0x3f } else { 0x3f };
        0x40 | precision | rounding | masks
    }

    /// A significand with the integer bit set: dense, sparse, or at a rounding boundary of some width.
    pub fn significand(&mut self) -> u64 {
        let r = self.next();
        let v = match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => r & self.next() & self.next(),
            3 => r | self.next() | self.next(),
            4 => u64::MAX << (r & 63),
            5 => {
                let tie = 1 << [39, 10, 0, 40, 11, 1][self.below(6) as usize];
                (r & !(tie * 2 - 1) | tie).wrapping_add(self.below(3)).wrapping_sub(1)
            }
            _ => r,
        };
        v | 1 << 63
    }

    /// A biased exponent, often at the edge of the 80-, 64- or 32-bit range or near one.
    fn exponent(&mut self) -> u16 {
        let near = self.range(-70, 70);
        let v = match self.below(10) {
            0 => self.range(0, 3),
            1 => self.range(0x7ffc, 0x7fff),
            2 => 0x3fff + near,
            3 => 0x3fff + near / 16,
            4 => 0x3fff + self.range(60, 66),
            5 => [0x3f80, 0x407f, 0x3c00, 0x43ff][self.below(4) as usize] + near / 2,
            6 => near.abs(),
            7 => 0x7fff - near.abs(),
            8 => 0x1fff + near,
            _ => self.range(0, 0x7fff),
        };
        v as u16
    }

    /// Any encoding at all.
    pub fn f80(&mut self) -> F80 {
        let sign = (self.next() as u16) & 0x8000;
        match self.below(16) {
            0 => F80 { mant: self.next(), se: sign | self.exponent() },
            1 => F80 { mant: 1 << 63, se: sign | 0x7fff },
            2 => F80 { mant: 0, se: sign },
            3 => F80 { mant: self.significand() >> self.below(64), se: sign },
            4 => F80 { mant: self.significand() & !(self.below(2) << 62), se: sign | 0x7fff },
            _ => F80 { mant: self.significand(), se: sign | self.exponent() },
        }
    }

    /// A second operand, often close to the first so that sums cancel and quotients round hard.
    pub fn partner(&mut self, a: F80) -> F80 {
        match self.below(4) {
            0 => {
                let distance = self.range(-70, 70) >> self.below(7);
                let exponent = (i32::from(a.exponent()) + distance).clamp(0, 0x7fff) as u16;
                let sign = (self.next() as u16) & 0x8000;
                let mant = if self.below(3) == 0 {
                    a.mant ^ (1 << self.below(63)) ^ self.below(2)
                } else {
                    self.significand()
                };
                F80 { mant, se: sign | exponent }
            }
            _ => self.f80(),
        }
    }
}
