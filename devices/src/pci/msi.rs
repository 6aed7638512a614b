//! The MSI capability (PCI 3.0, section 6.8.1): 64-bit address, per-vector masking.

use super::config::ConfigSpace;

const ID: u8 = 0x05;
const CONTROL: u8 = 2;
const ADDRESS: u8 = 4;
const DATA: u8 = 0xc;
const MASK: u8 = 0x10;
const PENDING: u8 = 0x14;
const ENABLE: u16 = 1;
/// Message control: 64-bit address and per-vector masking.
const FIXED: u16 = 1 << 7 | 1 << 8;

/// Where a function's MSI capability is; its state lives in the configuration bytes.
#[derive(Clone, Copy, Debug)]
pub struct MsiCapability {
    offset: u8,
    vectors: u8,
}

impl MsiCapability {
    /// Adds the capability with 1, 2, 4, 8, 16 or 32 vectors.
    ///
    /// # Panics
    /// If the number of vectors is another one.
    pub fn add(config: &mut ConfigSpace, vectors: u8) -> Self {
        assert!(vectors.is_power_of_two() && vectors <= 32, "{vectors} MSI vectors");
        let control = FIXED | (vectors.trailing_zeros() as u16) << 1;
        let mut body = [0; 0x16];
        let mut mask = [0; 0x16];
        body[..2].copy_from_slice(&control.to_le_bytes());
        mask[0] = 0x71;
        mask[2..6].copy_from_slice(&0xffff_fffc_u32.to_le_bytes());
        mask[6..10].fill(0xff);
        mask[10..12].fill(0xff);
        let used = u32::MAX >> (32 - u32::from(vectors));
        mask[14..18].copy_from_slice(&used.to_le_bytes());
        Self { offset: config.add_capability(ID, &body, &mask), vectors }
    }

    /// Whether software has chosen MSI.
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.word(self.offset + CONTROL) & ENABLE != 0
    }

    /// The message to send for `vector` now; a masked vector becomes pending instead.
    pub fn notify(&self, config: &mut ConfigSpace, vector: u8) -> Option<(u64, u32)> {
        if !self.enabled(config) {
            return None;
        }
        let granted = 1u8 << (config.word(self.offset + CONTROL) >> 4 & 7).min(5);
        let vector = vector % granted.min(self.vectors);
        let bit = 1u32 << vector;
        if config.dword(self.offset + MASK) & bit != 0 {
            let pending = config.dword(self.offset + PENDING) | bit;
            config.set_dword(self.offset + PENDING, pending);
            return None;
        }
        let address = u64::from(config.dword(self.offset + ADDRESS + 4)) << 32
            | u64::from(config.dword(self.offset + ADDRESS));
        let data = config.word(self.offset + DATA) & !u16::from(granted - 1) | u16::from(vector);
        Some((address, data.into()))
    }

    /// Takes the lowest pending vector that is no longer masked.
    pub fn take_unmasked(&self, config: &mut ConfigSpace) -> Option<u8> {
        let pending = config.dword(self.offset + PENDING);
        let ready = pending & !config.dword(self.offset + MASK);
        if ready == 0 || !self.enabled(config) {
            return None;
        }
        let vector = ready.trailing_zeros();
        config.set_dword(self.offset + PENDING, pending & !(1 << vector));
        Some(vector as u8)
    }

    /// The pending bits, which a snapshot keeps apart because software cannot write them.
    pub fn pending(&self, config: &ConfigSpace) -> u32 {
        config.dword(self.offset + PENDING)
    }

    /// Restores the pending bits.
    pub fn set_pending(&self, config: &mut ConfigSpace, pending: u32) {
        config.set_dword(self.offset + PENDING, pending & u32::MAX >> (32 - u32::from(self.vectors)));
    }
}
