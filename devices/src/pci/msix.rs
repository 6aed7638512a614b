//! MSI-X (PCI 3.0, section 6.8.2): the capability, and the vector table and pending bits in a BAR.

use super::config::ConfigSpace;
use serde::{Deserialize, Serialize};

const ID: u8 = 0x11;
const CONTROL: u8 = 2;
const ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;
const ENTRY_SIZE: u64 = 16;
/// Bit 0 of the vector control word of an entry.
const MASKED: u32 = 1;

/// The vector table and the pending bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsixState {
    /// Message address (low, high), data and vector control of each vector.
    pub table: Vec<[u32; 4]>,
    /// One bit a vector: an event that happened while masked.
    pub pending: Vec<u64>,
}

/// MSI-X of one function. The table is at the start of its BAR, the pending bits at the middle.
#[derive(Clone, Debug)]
pub struct Msix {
    offset: u8,
    bar: u8,
    pba: u64,
    state: MsixState,
}

impl Msix {
    /// Size of the BAR that [`Msix::add`] expects, for `vectors` vectors: at least a page, half of it the table.
    pub fn bar_size(vectors: u16) -> u64 {
        (u64::from(vectors) * ENTRY_SIZE * 2).next_power_of_two().max(4096)
    }

    /// Adds the capability for 1 to 2048 vectors. BAR number `bar` must be a memory BAR of [`Msix::bar_size`] bytes.
    ///
    /// # Panics
    /// If the number of vectors or the BAR is wrong.
    pub fn add(config: &mut ConfigSpace, bar: u8, vectors: u16) -> Self {
        assert!((1..=2048).contains(&vectors), "{vectors} MSI-X vectors");
        assert_eq!(config.bar(bar).map(|b| b.size), Some(Self::bar_size(vectors)), "BAR {bar} for MSI-X");
        let pba = Self::bar_size(vectors) / 2;
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&u32::from(bar).to_le_bytes());
        body[6..].copy_from_slice(&(pba as u32 | u32::from(bar)).to_le_bytes());
        let mask = ((ENABLE | FUNCTION_MASK) as u32).to_le_bytes();
        let offset = config.add_capability(ID, &body, &mask[..2]);
        let mut msix = Self {
            offset,
            bar,
            pba,
            state: MsixState {
                table: vec![[0; 4]; vectors.into()],
                pending: vec![0; usize::from(vectors).div_ceil(64)],
            },
        };
        msix.reset();
        msix
    }

    /// The BAR that holds the table.
    pub fn bar(&self) -> u8 {
        self.bar
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        self.state.table.len() as u16
    }

    /// Whether software has chosen MSI-X.
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.word(self.offset + CONTROL) & ENABLE != 0
    }

    fn masked(&self, config: &ConfigSpace, entry: &[u32; 4]) -> bool {
        config.word(self.offset + CONTROL) & FUNCTION_MASK != 0 || entry[3] & MASKED != 0
    }

    /// The message to send for `vector` now; a masked vector becomes pending instead. Unknown vectors do nothing.
    pub fn notify(&mut self, config: &ConfigSpace, vector: u16) -> Option<(u64, u32)> {
        let entry = *self.state.table.get(usize::from(vector))?;
        if !self.enabled(config) {
            return None;
        }
        let (word, bit) = (usize::from(vector / 64), 1 << (vector % 64));
        if self.masked(config, &entry) {
            self.state.pending[word] |= bit;
            return None;
        }
        self.state.pending[word] &= !bit;
        Some((u64::from(entry[1]) << 32 | u64::from(entry[0]), entry[2]))
    }

    /// The lowest pending vector that is no longer masked; [`Msix::notify`] clears its bit.
    pub fn next_unmasked(&self, config: &ConfigSpace) -> Option<u16> {
        if !self.enabled(config) {
            return None;
        }
        self.state.pending.iter().enumerate().find_map(|(word, &bits)| {
            let ready = (0..64).find(|&bit| {
                let entry = self.state.table.get(word * 64 + bit);
                bits >> bit & 1 != 0 && entry.is_some_and(|e| !self.masked(config, e))
            })?;
            Some((word * 64 + ready) as u16)
        })
    }

    /// Reads the table or the pending bits; reserved space reads as zero.
    pub fn read(&self, offset: u64, size: u8) -> u64 {
        let dword = |at: u64| -> u64 {
            let value = if at < self.pba {
                let entry = self.state.table.get((at / ENTRY_SIZE) as usize);
                entry.map_or(0, |e| e[(at % ENTRY_SIZE / 4) as usize])
            } else {
                let at = at - self.pba;
                let bits = self.state.pending.get((at / 8) as usize).copied().unwrap_or(0);
                (bits >> (8 * (at & 4))) as u32
            };
            value.into()
        };
        if size == 8 {
            return dword(offset & !7) | dword(offset & !7 | 4) << 32;
        }
        let value = dword(offset & !3) >> (8 * (offset & 3));
        value & (u64::from(u32::MAX) >> (32 - 8 * u32::from(size.clamp(1, 4))))
    }

    /// Writes the table. Only aligned double and quad words count; the pending bits are read-only.
    pub fn write(&mut self, offset: u64, size: u8, value: u64) {
        match size {
            4 if offset & 3 == 0 => self.write_dword(offset, value as u32),
            8 if offset & 7 == 0 => {
                self.write_dword(offset, value as u32);
                self.write_dword(offset + 4, (value >> 32) as u32);
            }
            _ => {}
        }
    }

    fn write_dword(&mut self, offset: u64, value: u32) {
        if let Some(entry) = self.state.table.get_mut((offset / ENTRY_SIZE) as usize) {
            let field = (offset % ENTRY_SIZE / 4) as usize;
            entry[field] = value & [!0b11, !0, !0, MASKED][field];
        }
    }

    /// All vectors masked, nothing pending.
    pub fn reset(&mut self) {
        self.state.table.fill([0, 0, 0, MASKED]);
        self.state.pending.fill(0);
    }

    /// The state for a snapshot.
    pub fn save(&self) -> MsixState {
        self.state.clone()
    }

    /// Takes a snapshot's state; entries beyond this function's vectors are dropped.
    pub fn restore(&mut self, state: &MsixState) {
        self.reset();
        for (vector, entry) in state.table.iter().enumerate() {
            for (field, &value) in entry.iter().enumerate() {
                self.write_dword(vector as u64 * ENTRY_SIZE + field as u64 * 4, value);
            }
        }
        for (vector, bits) in self.state.pending.iter_mut().zip(&state.pending) {
            *vector = *bits;
        }
    }
}
