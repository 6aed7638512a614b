//! The host's side of devices: files behind disks, the terminal behind the serial line, the host's randomness.

pub mod console;
pub mod disk;
pub mod entropy;
pub mod sink;
