//! MXCSR in, exception flags out (SDM vol. 1, 10.2.3, 11.5.2 and 11.5.3), and the NaN rules (4.8.3.5, table 4-7).

use super::super::ctx::{Flags, Rounding};
use super::format::Format;

/// The modes one instruction runs under and the exceptions it has raised so far.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// RC, or what the instruction has instead.
    pub rounding: Rounding,
    /// Denormal operands count as zeros.
    pub daz: bool,
    /// Tiny results become zeros while UE is masked.
    pub ftz: bool,
    /// The exceptions whose mask bit is set.
    pub masked: Flags,
    /// What the operations since construction, or since [`Env::settle`], raised.
    pub flags: Flags,
    /// What the operations before that raised.
    settled: Flags,
    /// To nearest, and an inexact result shows nowhere else: ordinary results may come from the host.
    pub(super) quick: bool,
}

/// The exceptions found before an operation is done; an unmasked one hides the others (11.5.3).
const BEFORE: Flags = Flags(0x7);

impl Env {
    /// The modes of an MXCSR value.
    #[inline]
    pub const fn from_mxcsr(mxcsr: u32) -> Self {
        let rounding = match mxcsr >> 13 & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        };
        let pe = Flags::PE.0 as u32;
        Self {
            rounding,
            daz: mxcsr & 1 << 6 != 0,
            ftz: mxcsr & 1 << 15 != 0,
            masked: Flags((mxcsr >> 7) as u16 & Flags::EXCEPTIONS.0),
            flags: Flags::NONE,
            settled: Flags::NONE,
            quick: mxcsr & pe != 0 && mxcsr & pe << 7 != 0 && mxcsr >> 13 & 3 == 0,
        }
    }

    /// The flags to merge into MXCSR: `Ok` if all are masked; `Err` if the instruction must write nothing else and
    /// raise #XM (or #UD).
    ///
    /// # Errors
    /// The flags, if one of them is unmasked.
    #[inline]
    pub fn outcome(&self) -> Result<Flags, Flags> {
        let all = self.settled | self.reported();
        if (all & !self.masked).0 == 0 { Ok(all) } else { Err(all) }
    }

    /// Ends one of several steps of an instruction whose exceptions are determined separately (DPPS).
    pub fn settle(&mut self) {
        self.settled |= self.reported();
        self.flags = Flags::NONE;
    }

    /// [`Env::flags`] without those that an unmasked one hides.
    #[inline]
    fn reported(&self) -> Flags {
        if (self.flags & !self.masked).intersects(BEFORE) { self.flags & BEFORE } else { self.flags }
    }

    /// `v`, or under DAZ a zero of its sign if it is denormal.
    #[inline(always)]
    pub(super) fn operand<F: Format>(&self, v: u64) -> u64 {
        if self.daz && F::is_denormal(v) { v & F::SIGN } else { v }
    }

    /// Raises DE if an operand is denormal (after [`Env::operand`]).
    #[inline(always)]
    pub(super) fn denormal<F: Format>(&mut self, operands: &[u64]) {
        if operands.iter().any(|&v| F::is_denormal(v)) {
            self.flags |= Flags::DE;
        }
    }

    /// The result if an operand is a NaN: the first of them, made quiet. Raises IE for a signalling one.
    #[inline(always)]
    pub(super) fn nan<F: Format>(&mut self, operands: &[u64]) -> Option<u64> {
        let first = operands.iter().copied().find(|&v| F::is_nan(v))?;
        if operands.iter().any(|&v| F::is_signalling(v)) {
            self.flags |= Flags::IE;
        }
        Some(first | F::QUIET)
    }

    /// Raises IE and gives what the masked response delivers.
    pub(super) fn invalid<F: Format>(&mut self) -> u64 {
        self.flags |= Flags::IE;
        F::INDEFINITE
    }
}
