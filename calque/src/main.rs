//! calque.
fn main() {}
