//! Hands out guest memory so that nothing overlaps: fixed addresses first, then whatever is free.
//!
//! Invariant: a byte given out once is never given out again, and is RAM below [`GuestMemory::ram_size`] that
//! is not in the first page (interrupt vectors and BIOS data).

use super::memory::{GuestMemory, MemoryRange, RangeKind};
use super::{Boot, LoadError};

/// The first page is never given out of its own accord.
const FLOOR: u64 = 0x1000;

/// Free memory.
#[derive(Debug)]
pub(super) struct Room {
    /// Free stretches as (start, end), rising, apart.
    free: Vec<(u64, u64)>,
    top: u64,
}

impl Room {
    /// All the RAM that a loader may use.
    pub(super) fn new(boot: &Boot<'_>, memory: &dyn GuestMemory) -> Self {
        let top = memory.ram_size().min(1 << 32);
        let ram = |range: &&MemoryRange| range.kind == RangeKind::Ram;
        let mut room = Self { free: Vec::new(), top };
        for range in boot.memory_map.iter().filter(ram) {
            let (start, end) = (range.base, range.end().min(top));
            if start < end {
                room.free.push((start, end));
            }
        }
        room.free.sort_unstable();
        // Overlapping entries in a map count once, and what anybody reserves is not free.
        for i in 1..room.free.len() {
            room.free[i].0 = room.free[i].0.max(room.free[i - 1].1);
            room.free[i].1 = room.free[i].1.max(room.free[i].0);
        }
        for range in boot.memory_map.iter().filter(|range| range.kind != RangeKind::Ram) {
            room.remove(range.base, range.end());
        }
        room
    }

    /// Takes exactly `size` bytes at `start` for `what`.
    pub(super) fn claim(&mut self, what: &str, start: u64, size: u64) -> Result<(), LoadError> {
        let end = start.checked_add(size);
        let fits = |end: u64| size == 0 || self.free.iter().any(|&(from, to)| from <= start && end <= to);
        match end {
            Some(end) if fits(end) => {
                self.remove(start, end);
                Ok(())
            }
            _ => {
                let end = end.unwrap_or(u64::MAX);
                let hint = if end > self.top { ": give the machine more with -m" } else { "" };
                Err(LoadError::NoMemoryThere { what: what.to_owned(), start, end, hint })
            }
        }
    }

    /// Takes `size` bytes at the lowest free multiple of `align` (a power of two).
    pub(super) fn low(&mut self, what: &'static str, size: u64, align: u64) -> Result<u64, LoadError> {
        let place = |&(from, to): &(u64, u64)| {
            let start = from.max(FLOOR).next_multiple_of(align);
            (start.checked_add(size)? <= to).then_some(start)
        };
        let start = self.free.iter().find_map(place).ok_or(LoadError::TooLarge { what, size })?;
        self.remove(start, start + size);
        Ok(start)
    }

    /// Takes `size` bytes at the highest free multiple of `align` that end at or below `limit`.
    pub(super) fn high(
        &mut self,
        what: &'static str,
        size: u64,
        align: u64,
        limit: u64,
    ) -> Result<u64, LoadError> {
        let place = |&(from, to): &(u64, u64)| {
            let start = to.min(limit).checked_sub(size)? & !(align - 1);
            (start >= from.max(FLOOR)).then_some(start)
        };
        let start = self.free.iter().rev().find_map(place).ok_or(LoadError::TooLarge { what, size })?;
        self.remove(start, start + size);
        Ok(start)
    }

    /// The end of the RAM that starts at 1 MiB: what firmware calls extended memory.
    pub(super) fn top(&self) -> u64 {
        self.top
    }

    fn remove(&mut self, start: u64, end: u64) {
        let cut = |&(from, to): &(u64, u64)| [(from, to.min(start)), (from.max(end), to)];
        self.free = self.free.iter().flat_map(cut).filter(|(from, to)| from < to).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ram, boot};
    use super::*;

    #[test]
    fn what_is_taken_is_not_given_again() {
        let (ram, map) = (Ram::new(0x40_0000), super::super::pc_memory_map(0x40_0000, 0));
        let mut room = Room::new(&boot(&map), &ram);
        room.claim("kernel", 0x10_0000, 0x10_0000).unwrap();
        assert_eq!(room.low("a", 0x1800, 0x1000).unwrap(), 0x1000);
        assert_eq!(room.low("b", 0x1000, 0x1000).unwrap(), 0x3000);
        assert_eq!(room.low("c", 0x10_0000, 0x1000).unwrap(), 0x20_0000);
        assert_eq!(room.high("d", 0x8001, 0x1000, u64::MAX).unwrap(), 0x3f_7000);
        assert_eq!(room.high("e", 0x1000, 0x1000, 0x9_0fff).unwrap(), 0x8_f000);
        assert!(room.claim("again", 0x1f_ffff, 1).is_err());
        assert!(room.claim("device memory", 0xa_0000, 1).is_err());
        assert!(room.claim("overflow", u64::MAX - 1, 16).is_err());
        assert!(room.low("too much", 0x40_0000, 1).is_err());
        assert!(room.high("too much", u64::MAX, 1, u64::MAX).is_err());
    }

    #[test]
    fn reservations_win_over_ram() {
        let map = [
            MemoryRange::new(0, 0x10_0000, RangeKind::Ram),
            MemoryRange::new(0x8000, 0x10_0000, RangeKind::Ram),
            MemoryRange::new(0x2000, 0xf_0000, RangeKind::Acpi),
        ];
        let mut room = Room::new(&boot(&map), &Ram::new(0x20_0000));
        assert_eq!(room.low("a", 0x1000, 0x1000).unwrap(), 0x1000);
        assert_eq!(room.low("b", 0x1000, 0x1000).unwrap(), 0xf_2000);
    }
}
