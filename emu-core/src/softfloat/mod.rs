//! The x87's arithmetic on 80-bit extended reals, in plain integers.
//!
//! A result here is the processor's result bit for bit, with the same exception flags and the same C1, on every
//! host: nothing depends on the host's floating point. It follows the Intel SDM, volume 1, chapters 4.8
//! (formats, NaN rules), 4.9 (exceptions and their order) and 8 (x87), and volume 2 for the operand tables of
//! single instructions. Where the manual leaves a choice, the choice is the one that both the manual's text and
//! measured silicon allow; the places say so.
//!
//! One instruction makes one [`Ctx`] from the control word, calls one operation and then reads [`Ctx::flags`],
//! whose bits sit where the status word has them:
//!
//! ```
//! use emu_core::softfloat::{Ctx, F80, Flags};
//! let mut ctx = Ctx::from_control_word(0x037f);
//! let third = ctx.div(F80::ONE, 3i32);
//! assert_eq!((third.se, third.mant), (0x3ffd, 0xaaaa_aaaa_aaaa_aaab));
//! assert_eq!(ctx.flags, Flags::PE | Flags::C1);
//! assert!(ctx.writes_register());
//! ```
//!
//! Invariants:
//! - **No input panics.** Every bit pattern is an operand; encodings the 80387 dropped raise IE.
//! - **Flags only accumulate within one `Ctx`**, in the manual's order of priority: once an unmasked
//!   pre-computation exception (IE, DE, ZE) is raised, nothing of lower priority is.
//! - **A finite value in flight is normalised**: the top bit of `mant` is set in `operand::Parts` and `wide::Wide`.

#![cfg_attr(not(test), forbid(unsafe_code))]

mod add;
mod bcd;
mod compare;
mod constants;
mod ctx;
mod f80;
pub mod ieee;
mod integer;
mod muldiv;
mod nan;
mod narrow;
mod operand;
mod remainder;
mod round;
mod scale;
mod sqrt;
mod transcendental;
mod wide;

#[cfg(test)]
mod tests;

pub use compare::Relation;
pub use constants::Constant;
pub use ctx::{Ctx, Flags, Precision, Rounding};
pub use f80::{Class, F80};
pub use operand::Operand;
