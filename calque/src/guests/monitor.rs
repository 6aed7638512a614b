//! The built-in guest.

/// Its image.
pub const IMAGE: &[u8] = &[];
