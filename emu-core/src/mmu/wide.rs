//! Sixty-four bytes of guest memory at a time, by the host's vectors where every host of the kind has them.
//!
//! Guest memory may change under our hands, so all accesses are volatile; nothing is asked of alignment.

use super::phys::{ram_read, ram_write};

/// Bytes done at a time.
pub(super) const WIDE: usize = 64;

#[cfg(target_arch = "x86_64")]
mod host {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi64x};

    /// What one access moves.
    pub(super) type Part = __m128i;

    pub(super) fn splat(pattern: u64) -> Part {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { _mm_set1_epi64x(pattern as i64) }
    }

    /// A bit for each byte that is the same in both.
    #[inline(always)]
    pub(super) fn same(a: Part, b: Part) -> u64 {
        // SAFETY: SSE2 is part of the architecture.
        let bits = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) };
        u64::from(bits as u32)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod host {
    /// What one access moves.
    pub(super) type Part = u64;

    pub(super) fn splat(pattern: u64) -> Part {
        pattern
    }

    #[inline(always)]
    pub(super) fn same(a: Part, b: Part) -> u64 {
        super::same8(a, b)
    }
}

use host::Part;
const PART: usize = size_of::<Part>();

/// An unaligned part of guest memory.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Loose(Part);

/// A bit for each byte that is the same in both words.
#[inline(always)]
fn same8(a: u64, b: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let x = a ^ b;
    let equal = !(((x & LOW) + LOW) | x | LOW) >> 7;
    equal.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// # Safety
/// As for [`ram_read`], 64 bytes.
#[inline(always)]
unsafe fn read(host: *const u8) -> [Part; WIDE / PART] {
    // SAFETY: the caller's; `Loose` has alignment 1.
    let parts = std::array::from_fn(|i| unsafe { host.cast::<Loose>().add(i).read_volatile().0 });
    crate::mem::after_load();
    parts
}

/// # Safety
/// As for [`ram_write`], 64 bytes.
#[inline(always)]
unsafe fn write(host: *mut u8, parts: [Part; WIDE / PART]) {
    crate::mem::before_store();
    for (i, part) in parts.into_iter().enumerate() {
        // SAFETY: the caller's; `Loose` has alignment 1.
        unsafe { host.cast::<Loose>().add(i).write_volatile(Loose(part)) };
    }
}

/// Copies `len` bytes upwards. Where the places overlap, the destination comes before the source.
///
/// # Safety
/// Both must lie in one page each, as for [`ram_read`] and [`ram_write`], or be memory of our own.
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        while len - done >= WIDE {
            write(to.add(done), read(from.add(done)));
            done += WIDE;
        }
        while len - done >= 8 {
            ram_write(to.add(done), 8, ram_read(from.add(done), 8));
            done += 8;
        }
        for at in done..len {
            ram_write(to.add(at), 1, ram_read(from.add(at), 1));
        }
    }
}

/// Stores `pattern` again and again, `len` bytes, a multiple of the pattern's period `unit`.
///
/// # Safety
/// The place must lie in one page, as for [`ram_write`].
pub(super) unsafe fn fill(to: *mut u8, pattern: u64, len: usize, unit: usize) {
    let parts = [host::splat(pattern); WIDE / PART];
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        while len - done >= WIDE {
            write(to.add(done), parts);
            done += WIDE;
        }
        while len - done >= 8 {
            ram_write(to.add(done), 8, pattern);
            done += 8;
        }
        while done < len {
            ram_write(to.add(done), unit, pattern);
            done += unit;
        }
    }
}

/// The other side of a comparison.
#[derive(Clone, Copy)]
pub(super) enum Other {
    /// Memory in one page.
    Memory(*const u8),
    /// A value of the element's width, repeated to fill the word.
    Value(u64),
}

impl Other {
    /// # Safety
    /// As for [`ram_read`], for memory.
    #[inline(always)]
    unsafe fn word(self, at: usize, size: usize) -> u64 {
        match self {
            // SAFETY: the caller's.
            Self::Memory(host) => unsafe { ram_read(host.add(at), size) },
            Self::Value(v) => v & (u64::MAX >> (64 - 8 * size)),
        }
    }
}

/// The place of the first element that stops a repetition which goes on while elements are equal (or, if not `equal`,
/// while they differ), in bytes; `len`, a multiple of `unit`, if there is none.
///
/// # Safety
/// `len` bytes of either side must lie in one page, as for [`ram_read`].
pub(super) unsafe fn first_stop(a: *const u8, b: Other, len: usize, unit: usize, equal: bool) -> usize {
    // A bit for the first byte of each element.
    let firsts = match unit {
        1 => u64::MAX,
        2 => 0x5555_5555_5555_5555,
        4 => 0x1111_1111_1111_1111,
        _ => 0x0101_0101_0101_0101,
    };
    // From equal bytes to the elements that stop.
    let stops = |same: u64| {
        let mut whole = same;
        for shift in [1, 2, 4] {
            if unit > shift {
                whole &= whole >> shift;
            }
        }
        (if equal { !whole } else { whole }) & firsts
    };
    let splat = match b {
        Other::Value(v) => [host::splat(v); WIDE / PART],
        Other::Memory(_) => [host::splat(0); WIDE / PART],
    };
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        while len - done >= WIDE {
            let x = read(a.add(done));
            let y = match b {
                Other::Memory(b) => read(b.add(done)),
                Other::Value(_) => splat,
            };
            let same = (0..WIDE / PART).fold(0, |bits, i| bits | host::same(x[i], y[i]) << (PART * i));
            let stop = stops(same);
            if stop != 0 {
                return done + stop.trailing_zeros() as usize;
            }
            done += WIDE;
        }
        while len - done >= 8 {
            let stop = stops(same8(ram_read(a.add(done), 8), b.word(done, 8))) & 0xff;
            if stop != 0 {
                return done + stop.trailing_zeros() as usize;
            }
            done += 8;
        }
        while done < len {
            if (ram_read(a.add(done), unit) == b.word(done, unit)) != equal {
                return done;
            }
            done += unit;
        }
    }
    len
}

/// Like [`first_stop`], but downwards from `a` and `b`, the highest elements: how far below them the first one that stops
/// begins; `len` if there is none.
///
/// # Safety
/// `len - unit` bytes below `a` and `unit` at it, and so for `b`, must lie in one page each, as for [`ram_read`].
pub(super) unsafe fn first_stop_down(a: *const u8, b: Other, len: usize, unit: usize, equal: bool) -> usize {
    let below = |at: usize| match b {
        Other::Memory(b) => Other::Memory(b.wrapping_sub(at)),
        value @ Other::Value(_) => value,
    };
    // SAFETY: the caller's.
    let stops =
        |at: &usize| unsafe { (ram_read(a.wrapping_sub(*at), unit) == below(*at).word(0, unit)) != equal };
    (0..len).step_by(unit).find(stops).unwrap_or(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length, place of the stop, width and direction against the plain definition.
    #[test]
    fn stops_are_found() {
        for unit in [1usize, 2, 4, 8] {
            for equal in [true, false] {
                for count in 0..40 {
                    for stop in 0..=count {
                        let a: Vec<u8> = (0..320).map(|i| (i % 7) as u8).collect();
                        let mut b = a.clone();
                        if !equal {
                            // One byte of each element differs.
                            for e in 0..40 {
                                b[e * unit + e % unit] ^= 0x80;
                            }
                        }
                        if stop < count {
                            let at = stop * unit + stop % unit;
                            b[at] ^= 0x80;
                        }
                        let (len, want) = (count * unit, stop * unit);
                        // SAFETY: both arrays are longer than `len`.
                        let got =
                            unsafe { first_stop(a.as_ptr(), Other::Memory(b.as_ptr()), len, unit, equal) };
                        assert_eq!(got, want, "unit {unit} equal {equal} count {count}");
                    }
                }
            }
        }
    }

    #[test]
    fn values_are_found_either_way() {
        for unit in [1usize, 2, 4, 8] {
            let value = 0x8877_6655_4433_2211u64 & (u64::MAX >> (64 - 8 * unit));
            let word = match unit {
                1 => value * 0x0101_0101_0101_0101,
                2 => value * 0x0001_0001_0001_0001,
                4 => value * 0x0000_0001_0000_0001,
                _ => value,
            };
            for at in 0..30 {
                let mut a = vec![0x55u8; 30 * unit];
                a[at * unit..(at + 1) * unit].copy_from_slice(&value.to_le_bytes()[..unit]);
                let (len, top) = (a.len(), a.len() - unit);
                // SAFETY: within the array.
                let (up, down) = unsafe {
                    let high = a.as_ptr().add(top);
                    (
                        first_stop(a.as_ptr(), Other::Value(word), len, unit, false),
                        first_stop_down(high, Other::Value(word), len, unit, false),
                    )
                };
                assert_eq!((up, down), (at * unit, top - at * unit), "unit {unit}");
            }
        }
    }

    #[test]
    fn copies_and_fills() {
        let from: Vec<u8> = (0..200).collect();
        for len in 0..200 {
            let mut to = vec![0xffu8; 208];
            // SAFETY: both are long enough.
            unsafe { copy(to.as_mut_ptr(), from.as_ptr(), len) };
            assert!(to[..len] == from[..len] && to[len..].iter().all(|b| *b == 0xff));
            // SAFETY: as above.
            unsafe { fill(to.as_mut_ptr(), 0x0202_0202_0202_0202, len, 1) };
            assert!(to[..len].iter().all(|b| *b == 2) && to[len..].iter().all(|b| *b == 0xff));
        }
    }
}
