//! States and operands that look for trouble.

use super::host::MEMORY;
use super::{Insn, State};
use emu_core::softfloat::{Ctx, F80};
use emu_core::state::bits::rflags::STATUS;

/// SplitMix64: small, seeded, and good enough.
pub struct Random(u64);

impl Random {
    /// A generator of its own for each name.
    pub fn named(name: &str) -> Random {
        Random(name.bytes().fold(7, |seed, b| seed.wrapping_mul(131).wrapping_add(u64::from(b))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn control_word(&mut self) -> u16 {
        let masks = match self.below(3) {
            0 => self.next() as u16 & 0x3f,
            _ => 0x3f,
        };
        0x40 | self.next() as u16 & 0x1f00 | masks
    }

    fn significand(&mut self) -> u64 {
        let r = self.next();
        let v = match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => r & self.next() & self.next(),
            3 => r | self.next() | self.next(),
            4 => u64::MAX << (r & 63),
            5 => [1 << 39, 1 << 10, 1, 1 << 40, 1 << 11][self.below(5) as usize],
            _ => r,
        };
        v | 1 << 63
    }

    /// A biased exponent, often at the edge of the 80-, 64- or 32-bit range or near one.
    fn exponent(&mut self) -> u16 {
        let near = self.below(141) as i32 - 70;
        let v = match self.below(8) {
            0 => self.below(4) as i32,
            1 => 0x7ffc + self.below(4) as i32,
            2 => 0x3fff + near,
            3 => 0x3fff + near / 16,
            4 => 0x3fff + 60 + self.below(7) as i32,
            5 => [0x3f80, 0x407f, 0x3c00, 0x43ff][self.below(4) as usize] + near / 2,
            6 => 0x3fff + 14 + self.below(20) as i32,
            _ => self.below(0x8000) as i32,
        };
        v as u16
    }

    /// Any encoding at all.
    fn f80(&mut self) -> F80 {
        let sign = self.next() as u16 & 0x8000;
        match self.below(16) {
            0 => F80 { mant: self.next(), se: sign | self.exponent() },
            1 => F80 { mant: 1 << 63, se: sign | 0x7fff },
            2 => F80 { mant: 0, se: sign },
            3 => F80 { mant: self.significand() >> self.below(64), se: sign },
            4 => F80 { mant: self.significand() & !(self.below(2) << 62), se: sign | 0x7fff },
            _ => F80 { mant: self.significand(), se: sign | self.exponent() },
        }
    }

    /// What is interesting for the type that `ins` reads.
    fn memory(&mut self, ins: &Insn) -> [u8; MEMORY] {
        let mut m: [u8; MEMORY] = std::array::from_fn(|_| self.next() as u8);
        let real = self.f80();
        let small = self.next() >> self.below(64);
        match (ins.escape(), ins.digit()) {
            (0xd9, 5) | (0xd9 | 0xdd, 4) => {
                let word = self.control_word() | self.next() as u16 & 0xe080;
                m[..2].copy_from_slice(&word.to_le_bytes());
            }
            (0xd8 | 0xd9, _) => m[..4].copy_from_slice(&Ctx::default().to_f32(real).to_le_bytes()),
            (0xdc | 0xdd, _) => m[..8].copy_from_slice(&Ctx::default().to_f64(real).to_le_bytes()),
            (0xdb, 5) => m[..10].copy_from_slice(&real.to_bytes()),
            (0xdf, 4) => {
                for b in &mut m[..9] {
                    *b = (self.below(10) << 4 | self.below(10)) as u8;
                }
            }
            _ if self.below(2) == 0 => m[..8].copy_from_slice(&small.to_le_bytes()),
            _ => {}
        }
        m
    }

    /// A state without a pending unmasked exception.
    pub fn state(&mut self, ins: &Insn) -> State {
        let fcw = self.control_word();
        let exceptions = self.next() as u16 & fcw & 0x3f;
        let fsw = self.next() as u16 & 0x7f40 | exceptions;
        let ftw = match self.below(3) {
            0 => 0xff,
            1 => self.next() as u8,
            // Full but for what a push takes.
            _ => !(1u8 << (((fsw >> 11) + 7) & 7)),
        };
        State {
            fcw,
            fsw,
            ftw,
            fop: self.next() as u16 & 0x7ff,
            fip: self.next() >> 17,
            fdp: self.next() >> 17,
            st: std::array::from_fn(|_| self.f80()),
            flags: self.next() & STATUS,
            ax: self.next(),
            memory: self.memory(ins),
        }
    }
}
