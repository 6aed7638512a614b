//! A case's final state as 64 bits, so that what a processor made of it can be held against interpreters of other hosts.
//!
//! It is taken of just what [`host::compare`] compares, twice over: from what the processor left, and from what the
//! interpreter did. Where the comparison finds no difference, the two are equal.

use super::case::Case;
use super::host::{self, quad, word};
use super::leg::Ran;
use super::native::Seen;
use super::scene::Scene;

/// Puts words into 64 bits; the same on every host for ever, since files hold what comes out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Each step is invertible in what was there before and in `word`, so that one changed word is always seen.
    pub(super) fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 ^= self.0 >> 32;
    }

    /// Their number, then each eight with zeros behind the last.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(eight));
        }
    }

    pub(super) const fn value(self) -> u64 {
        self.0
    }
}

/// What is the same for both of a case: how wide, and the flags that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    wide: bool,
    /// Bits 128 to 255 of the vector registers count.
    upper: bool,
    flags: u64,
}

impl Terms {
    /// `undefined`: flags that nobody defined, of which processors may make what they like.
    pub(super) fn new(scene: &Scene, ran: &Ran, undefined: u64) -> Self {
        Self { wide: scene.bits == 64, upper: ran.state.xcr0 & 4 != 0, flags: host::FLAGS & !undefined }
    }

    /// How it ended, registers and flags, which both have in the same form.
    fn start(self, fault: [u64; 3], gpr: &[u64; 16], rip: u64, rflags: u64) -> Hash {
        let mut h = Hash::new();
        let [vector, error, cr2] = fault;
        h.word(vector);
        if vector == 14 {
            h.word(error | u64::from(host::hidden(cr2)));
            h.word(cr2);
        } else {
            h.word(error);
        }
        let (count, mask) = if self.wide { (16, u64::MAX) } else { (8, 0xffff_ffff) };
        for value in &gpr[..count] {
            h.word(value & mask);
        }
        h.word(rip);
        h.word(rflags & self.flags);
        h
    }

    /// What the processor left.
    pub(super) fn of_processor(self, seen: &Seen) -> u64 {
        let vector = u64::from(seen.vector);
        let mut h = self.start([vector, seen.error.into(), seen.cr2], &seen.gpr, seen.rip, seen.rflags);
        let f = &seen.fxsave[..];
        for value in [word(f, 0), word(f, 2), f[4].into(), word(f, 24)] {
            h.word(value.into());
        }
        for at in (32..160).step_by(16) {
            h.word(quad(f, at));
            h.word(word(f, at + 8).into());
        }
        for (n, upper) in seen.upper.iter().enumerate() {
            h.word(quad(f, 160 + 16 * n));
            h.word(quad(f, 168 + 16 * n));
            if self.upper {
                h.word(upper[0]);
                h.word(upper[1]);
            }
        }
        for (at, value) in &seen.changes {
            h.word(*at);
            h.word(*value);
        }
        h.value()
    }

    /// What the interpreter left.
    pub(super) fn of_interpreter(self, case: &Case, base: &[u8], ran: &Ran) -> u64 {
        let s = &ran.state;
        let fault = match &ran.caught {
            Some(c) => [c.vector.into(), c.error.unwrap_or(0).into(), c.cr2],
            None => [u64::MAX, 0, 0],
        };
        let mut h = self.start(fault, &s.gpr, s.rip, s.rflags);
        for value in [u64::from(s.fpu.fcw), s.fpu.fsw.into(), s.fpu.ftw.into(), s.mxcsr.into()] {
            h.word(value);
        }
        let top = usize::from(s.fpu.fsw >> 11 & 7);
        for n in 0..8 {
            let r = s.fpu.st[(top + n) & 7];
            h.word(r.mant);
            h.word(r.se.into());
        }
        for v in &s.vec[..16] {
            let count = if self.upper { 4 } else { 2 };
            for value in &v.0[..count] {
                h.word(*value);
            }
        }
        let left = host::left_behind(case, base, ran, std::iter::empty());
        for eight in left.iter().filter(|e| e.ours != e.untouched) {
            h.word(eight.at);
            h.word(eight.ours);
        }
        h.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_the_order_count() {
        let of = |words: &[u64]| {
            let mut h = Hash::new();
            words.iter().for_each(|w| h.word(*w));
            h.value()
        };
        let base = [1u64, 2, 3, 0, 0xffff_ffff_ffff_ffff];
        let mut all =
            vec![of(&base), of(&[2, 1, 3, 0, u64::MAX]), of(&base[..4]), of(&[0, 1, 2, 3, 0, u64::MAX])];
        for n in 0..base.len() {
            for bit in 0..64 {
                let mut changed = base;
                changed[n] ^= 1 << bit;
                all.push(of(&changed));
            }
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let mut h = Hash::new();
        h.bytes(b"calque diff");
        assert_eq!(h.value(), 0x2718_21f5_1896_c6b6, "files hold what comes out, so it may never change");
    }
}
