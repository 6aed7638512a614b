//! The differential tester: machine code on every engine, and on the host's processor, from the same state, compared in
//! everything. `docs/diff.md` is for those who use it.
//!
//! A [`Case`] is code with the state it starts from; the [`Generator`] makes them, by number; a [`World`] runs them on
//! the interpreter, the IR evaluator before and after the passes, as host code, and natively in a child process
//! ([`native`], [`runner`]); [`explain`] knows the differences that are nobody's fault, [`shrink`] and [`report`] deal
//! with the others; [`campaign`] runs many and keeps count. Every case ends at a HLT: behind the code, or in a handler.

pub mod campaign;
pub mod case;
pub mod counts;
mod decoding;
pub mod explain;
mod finals;
mod gathers;
pub mod generate;
mod host;
mod intel;
pub mod leg;
pub mod line;
mod makers;
pub mod native;
pub mod reasons;
pub mod recorded;
pub mod rng;
pub mod runner;
pub mod scene;
pub mod world;

pub use crate::engines::driver::{Ended, Kind};
pub use case::Case;
pub use generate::Generator;
pub use leg::{Leg, LegError};
pub use reasons::Reason;
pub use rng::Rng;
pub use world::{LegKind, Outcome, World};
