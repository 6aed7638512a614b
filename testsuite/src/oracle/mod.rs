//! The differential oracle: random machine code on every engine, from the same state, compared in everything.
//!
//! A [`Case`] is code with the state it starts from; the [`Generator`] makes them, by number; a [`World`] runs them on
//! the interpreter, the IR evaluator before and after the passes, and as host code; [`shrink`] and [`report`] deal with
//! what differs. Every case ends at a HLT: behind the code, or in a handler.

pub mod case;
pub mod generate;
pub mod leg;
pub mod rng;
pub mod scene;
pub mod world;

pub use case::Case;
pub use generate::Generator;
pub use leg::{Ended, Kind, Leg, LegError};
pub use rng::Rng;
pub use world::{Outcome, Tally, World, report, shrink};
