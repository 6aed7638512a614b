//! calque: backend-jit.
