//! calque: testsuite.
