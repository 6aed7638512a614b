//! Where RDRAND and RDSEED take their bits from: the host, or a seed, so that a run can be repeated.

use std::fs::File;
use std::io::Read;

/// A source of random bits, one per processor.
#[derive(Debug, Default)]
pub enum Entropy {
    /// The host's generator.
    #[default]
    Host,
    /// SplitMix64 from a seed: for runs that must repeat. Not for secrets.
    Seeded(u64),
}

impl Entropy {
    /// 64 random bits; None while the host has none to give.
    pub fn draw(&mut self) -> Option<u64> {
        match self {
            Self::Host => {
                let mut bytes = [0; 8];
                File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).ok()?;
                Some(u64::from_ne_bytes(bytes))
            }
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                Some(z ^ z >> 31)
            }
        }
    }
}
