//! What an instruction finds, and what it leaves.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// A generator of its own for each name.
    pub fn named(name: &str) -> Self {
        Self(name.bytes().fold(7, |seed, b| seed.wrapping_mul(131).wrapping_add(u64::from(b))))
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

    /// A floating-point encoding with `exponent` and `fraction` bits that looks for trouble.
    fn float(&mut self, exponent: u32, fraction: u32) -> u64 {
        let top = (1 << exponent) - 1;
        let bias = top / 2;
        let e = match self.below(12) {
            0 | 1 => 0,
            2 => top,
            3 => self.below(4),
            4 => top - self.below(4),
            5 | 6 => bias - 2 + self.below(5),
            7 => bias + self.below(70),
            8 => bias / 2 - 3 + self.below(6),
            9 => bias + bias / 2 - 3 + self.below(6),
            _ => self.below(top + 1),
        };
        let r = self.next();
        let f = match self.below(7) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (r % u64::from(fraction)),
            3 => r & self.next() & self.next(),
            4 => (r & !0x3fff_ffff | 0x1fff_ffff).wrapping_add(self.below(3)),
            _ => r,
        };
        self.below(2) << (exponent + fraction) | e << fraction | f & ((1 << fraction) - 1)
    }

    /// Eight bytes in one of several tastes.
    fn quadword(&mut self, taste: u64) -> u64 {
        match taste {
            0 => self.next(),
            1 => self.float(8, 23) | self.float(8, 23) << 32,
            2 => self.float(11, 52),
            // Small bytes: text with terminators, small counts.
            3 => self.next() & 0x0303_0303_0303_0303,
            4 => self.next() & 0x0003_0003_0003_0003,
            5 => self.next() >> self.below(64),
            6 => (0..4).fold(0, |v, i| v | [0, 0x7fff, 0x8000, 0xffff][self.below(4) as usize] << (16 * i)),
            _ => (0..8).fold(0, |v, i| v | [0, 0x7f, 0x80, 0xff][self.below(4) as usize] << (8 * i)),
        }
    }
}

/// Bytes around the memory operand.
pub const MEMORY: usize = 96;

/// All that an instruction may read or change. General registers: RAX, RCX, RDX, R8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub xmm: [u128; 16],
    /// Bits 128 to 255 of the vector registers.
    pub high: [u128; 16],
    /// Registers of the x87 by physical number: significand, sign and exponent.
    pub st: [(u64, u16); 8],
    pub fcw: u16,
    pub fsw: u16,
    pub ftw: u8,
    pub mxcsr: u32,
    pub gpr: [u64; 4],
    /// The six status flags.
    pub flags: u64,
    /// The memory operand is at `offset` in it.
    pub memory: [u8; MEMORY],
    pub offset: usize,
    /// The vector of the fault, if there was one.
    pub fault: Option<u8>,
}

impl Case {
    pub fn new(r: &mut Random) -> Self {
        let taste = r.below(8);
        let mut xmm = [0; 16];
        for v in &mut xmm {
            *v = u128::from(r.quadword(taste)) | u128::from(r.quadword(taste)) << 64;
        }
        // Some registers nearly equal others.
        if r.below(2) == 0 {
            for i in 1..16 {
                xmm[i] = if r.below(3) == 0 { xmm[0] ^ 1 << r.below(128) } else { xmm[i] };
            }
        }
        let mut high = [0; 16];
        for v in &mut high {
            if r.below(4) != 0 {
                *v = u128::from(r.quadword(taste)) | u128::from(r.quadword(taste)) << 64;
            }
        }
        let mut memory = [0; MEMORY];
        for chunk in memory.chunks_exact_mut(8) {
            chunk.copy_from_slice(&r.quadword(taste).to_le_bytes());
        }
        let masks = if r.below(4) == 0 { (r.next() as u32 & 0x3f) << 7 } else { 0x1f80 };
        let sticky = [0, 0x20, r.next() as u32 & 0x3f][r.below(3) as usize];
        let zeros = if r.below(3) == 0 { r.next() as u32 & 0x8040 } else { 0 };
        // A pending x87 exception: IE, unmasked, and the summary.
        let pending = r.below(20) == 0;
        let gpr = |r: &mut Random| match r.below(3) {
            0 => (r.below(41) as i64 - 20) as u64,
            1 => r.next() >> r.below(64),
            _ => r.quadword(taste),
        };
        let offset = if r.below(8) == 0 { r.below(64) as usize } else { 32 };
        Self {
            xmm,
            high,
            st: std::array::from_fn(|_| (r.quadword(taste), r.next() as u16)),
            fcw: if pending { 0x37e } else { 0x37f },
            fsw: (r.below(8) as u16) << 11 | if pending { 0x8081 } else { 0 },
            ftw: r.next() as u8,
            mxcsr: masks | sticky | zeros | (r.below(4) as u32) << 13,
            gpr: [gpr(r), gpr(r), gpr(r), gpr(r)],
            flags: r.next() & 0x8d5,
            memory,
            offset,
            fault: None,
        }
    }

    /// Makes vector register `n` a vector of indices of `bits` bits that keep 8-byte operands, scaled by 8, in memory.
    pub fn indices(&mut self, n: usize, bits: usize, r: &mut Random) {
        let mask = u128::MAX >> (128 - bits);
        let mut vector = || {
            (0..128 / bits).fold(0, |v, i| {
                let index = (r.below(8) as i128 - 4) as u128 & mask;
                v | index << (bits * i)
            })
        };
        (self.xmm[n], self.high[n]) = (vector(), vector());
        self.offset = 32;
    }

    /// Where `self` (the host's) and `ours` differ.
    pub fn difference(&self, ours: &Self) -> String {
        let mut out = Vec::new();
        macro_rules! field {
            ($($name:ident)*) => {$(
                if self.$name != ours.$name {
                    out.push(format!(
                        "{}: host {:x?}\n    ours {:x?}",
                        stringify!($name), self.$name, ours.$name
                    ));
                }
            )*};
        }
        field!(st fcw fsw ftw mxcsr gpr flags memory fault);
        for i in 0..16 {
            if self.xmm[i] != ours.xmm[i] {
                out.push(format!("xmm{i}: host {:032x} ours {:032x}", self.xmm[i], ours.xmm[i]));
            }
            if self.high[i] != ours.high[i] {
                out.push(format!(
                    "ymm{i}: host {:032x} ours {:032x} (upper half)",
                    self.high[i], ours.high[i]
                ));
            }
        }
        out.join("\n  ")
    }
}
