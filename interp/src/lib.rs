//! calque: interp.
#![forbid(unsafe_code)]

pub mod system;
