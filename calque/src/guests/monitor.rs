//! The built-in guest: a small 64-bit monitor with a prompt, assembled by this crate's build script.
//!
//! Its source, meant to be read, is in `calque/monitor/`.

/// Its image: a multiboot kernel with its own load addresses.
pub const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/monitor.bin"));

#[cfg(test)]
mod tests {
    use super::IMAGE;
    use crate::load::{Format, detect};

    #[test]
    fn the_image_is_a_multiboot_kernel() {
        let detected = detect(IMAGE, None).unwrap();
        assert_eq!(detected.format, Format::Multiboot, "{}", detected.description);
    }
}
