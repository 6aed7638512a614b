//! calque, the product, as a library: command line, configuration, the board, the run loop, loaders and guests.
#![forbid(unsafe_code)]

pub mod backends;
pub mod board;
pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod diff;
pub mod embed;
pub mod ending;
pub mod engines;
pub mod guests;
pub mod load;
pub mod log;
pub mod machine;
mod nap;
pub mod progress;
pub mod runcase;
pub mod stats;
pub mod symbols;
pub mod vcpu;
