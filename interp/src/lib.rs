//! The reference interpreter: what every instruction means, written from the processor manuals.
//!
//! [`decode`] turns guest bytes into blocks of compact operations, [`block`] keeps the blocks, [`run`] executes them
//! and delivers what happens in between. [`exec`] holds the instructions, one file per group; [`operand`] is how they
//! reach registers and memory; [`flags`] is the arithmetic of the status flags. [`system`] is the single home of far
//! transfers, exceptions and interrupts, CPUID, control and model-specific registers.
//!
//! Invariant: an instruction that returns `Err` has changed no guest state (REP strings have completed whole
//! iterations). Invariant: no guest bytes are decoded from RAM before `Cpu::mark_code` has covered them.
#![forbid(unsafe_code)]

pub mod block;
pub mod decode;
pub mod exec;
pub mod features;
pub mod flags;
pub mod operand;
pub mod run;
mod step;
pub mod system;

pub use run::{Interp, StepResult};
