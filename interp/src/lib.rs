//! calque: interp.
