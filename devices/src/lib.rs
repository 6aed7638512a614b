//! calque: devices.
#![forbid(unsafe_code)]

pub mod pci;
pub mod virtio;
