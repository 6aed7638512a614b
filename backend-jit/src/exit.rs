//! Why translated code came back, and the canonical form of the guest's status flags.
//!
//! While translated code runs, the six flags are a 16-bit word in scratch slot `FLAGS`: bit 0 is OF, bits 15-8 are
//! SF, ZF, AF, PF and CF in their places of RFLAGS' low byte (as LAHF gives them; the other bits of it are
//! unspecified). [`to_word`] and [`from_word`] convert.

use emu_core::state::bits::rflags;

/// Why [`crate::Jit::run`] returned. The processor's state is exact in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunExit {
    /// The block at the current RIP is needed and translated code does not know it.
    NeedBlock,
    /// The instruction at RIP has to be interpreted.
    Interpret,
    /// The instruction at RIP raised the exception that [`crate::fault`] gives.
    Fault,
    /// A request bit of [`emu_core::signals::Signals`] is set.
    Signal,
    /// A store fell on decoded bytes; see [`emu_core::cpu::Cpu::code_hits`].
    CodeHit,
    /// The budget given with [`crate::Jit::set_budget`] is used up.
    Budget,
}

/// The low byte of the word that translated code returns; the number of an exit or site is in the high half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A direct jump; the high half is the exit's number, which tells RIP.
    Direct = 1,
    /// An indirect jump; RIP is in the state.
    Indirect = 2,
    /// The instruction of the site must be interpreted.
    Interpret = 3,
    /// The instruction of the site raised the exception in scratch.
    Fault = 4,
    /// A helper has panicked.
    Panic = 5,
}

impl Kind {
    /// From the low byte of an exit word.
    pub fn from_word(word: u64) -> Option<Self> {
        Some(match word as u8 {
            1 => Self::Direct,
            2 => Self::Indirect,
            3 => Self::Interpret,
            4 => Self::Fault,
            5 => Self::Panic,
            _ => return None,
        })
    }
}

/// Canonical word of the status flags in `flags`.
pub fn to_word(flags: u64) -> u64 {
    (flags & 0xff) << 8 | u64::from(flags & rflags::OF != 0)
}

/// The status flags of a canonical word, in RFLAGS positions.
pub fn from_word(word: u64) -> u64 {
    let low = rflags::CF | rflags::PF | rflags::AF | rflags::ZF | rflags::SF;
    word >> 8 & low | (word & 1) << 11
}

/// The status flags that translated code has left in the scratch slots.
pub fn status_flags(scratch: &[u64]) -> u64 {
    from_word(scratch[crate::layout::FLAGS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_convert_both_ways() {
        for bits in 0..64u64 {
            let f = [0, 2, 4, 6, 7, 11].iter().enumerate().fold(0, |f, (i, &b)| f | (bits >> i & 1) << b);
            assert_eq!(from_word(to_word(f)), f);
        }
    }
}
