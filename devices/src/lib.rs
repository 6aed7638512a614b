//! calque: devices.
