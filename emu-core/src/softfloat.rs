//! softfloat.
