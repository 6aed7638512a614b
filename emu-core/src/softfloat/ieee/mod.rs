//! SSE's arithmetic on binary32 and binary64, under MXCSR, in plain integers.
//!
//! A result here is the processor's result bit for bit, with the same exception flags, in every rounding mode and
//! with DAZ and FTZ in any combination. Intel SDM, volume 1, chapters 4.8 and 4.9 (formats, NaN rules, exceptions),
//! 10.2.3 (MXCSR) and 11.5 (SIMD exceptions).
//!
//! One instruction makes one [`Env`] from MXCSR, calls one operation for each element and then reads
//! [`Env::outcome`]. Values travel as bits in a `u64`, the format is a type parameter:
//!
//! ```
//! use emu_core::softfloat::ieee::{Double, Env};
//! use emu_core::softfloat::Flags;
//! let mut env = Env::from_mxcsr(0x1f80);
//! let third = env.div::<Double>(1f64.to_bits(), 3f64.to_bits());
//! assert_eq!(f64::from_bits(third), 1.0 / 3.0);
//! assert_eq!(env.outcome(), Ok(Flags::PE));
//! ```
//!
//! Invariants:
//! - **No input panics.** Every bit pattern is an operand.
//! - **Nothing depends on the host's floating point** but one short cut: to nearest, when PE is masked and already
//!   set, a host sum, product, quotient or root of ordinary numbers that is an ordinary number is the result, and
//!   there is no flag left to raise. IEEE 754 and Rust fix that result on every host.

mod approx;
mod arith;
mod compare;
mod convert;
mod env;
mod format;
mod round;

pub use approx::{reciprocal, reciprocal_root};
pub use arith::Signs;
pub use env::Env;
pub use format::{Arithmetic, Double, Format, Half, Single};
