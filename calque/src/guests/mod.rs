//! Guests calque can prepare by itself, so that a first run needs no image of the user's own.
//!
//! Everything is made once and kept in a [`Cache`]; what is in the cache is complete, because it is written
//! beside its final place and renamed into it.

pub mod cache;
pub mod cpio;
pub mod debian;
mod error;
pub mod monitor;

pub use cache::Cache;
pub use error::GuestError;

/// Listens to what a long preparation is doing, so that a user can see something moving.
pub trait Progress {
    /// Told at the start of each step, in a few plain words without a final full stop.
    fn message(&self, text: &str);
}

impl<F: Fn(&str)> Progress for F {
    fn message(&self, text: &str) {
        self(text);
    }
}

/// A [`Progress`] that nobody listens to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn message(&self, _text: &str) {}
}
