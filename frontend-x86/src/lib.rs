//! calque: frontend-x86.
