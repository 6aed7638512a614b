//! calque: testsuite.

#![forbid(unsafe_code)]

pub mod oracle;
