//! Newtypes for the address spaces of the machine, so that one is never passed for another.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// log2 of the size of a small guest page, in bytes. x86 fixes it at 4 KiB whatever the host's page size is.
pub const PAGE_SHIFT: u32 = 12;
/// Size of a small guest page in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Mask of the offset within a small guest page.
pub const PAGE_MASK: u64 = PAGE_SIZE - 1;

/// A fast hash for keys of a few words of addresses.
#[derive(Debug, Default)]
pub struct AddrHasher(u64);

impl Hasher for AddrHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(b.into()));
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(v.into());
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
}

/// A map whose keys are made of addresses.
pub type AddrMap<K, V> = HashMap<K, V, BuildHasherDefault<AddrHasher>>;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The page number: the address without its lowest 12 bits, shifted down.
            #[inline(always)]
            pub const fn page(self) -> u64 {
                self.0 >> PAGE_SHIFT
            }

            /// The first address of the page that holds this one.
            #[inline(always)]
            pub const fn page_base(self) -> Self {
                Self(self.0 & !PAGE_MASK)
            }

            /// Offset in bytes within the page.
            #[inline(always)]
            pub const fn offset(self) -> u64 {
                self.0 & PAGE_MASK
            }

            /// This address plus `bytes`, wrapping at 2^64.
            #[inline(always)]
            pub const fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A linear address: after segmentation, before paging (Intel SDM vol. 3A, 3.1). 64 bits wide.
    LinAddr
}
address! {
    /// A guest-physical address, at most 52 bits wide.
    PhysAddr
}

/// Whether a linear address is canonical with `bits` implemented bits (48, or 57 under LA57).
#[inline(always)]
pub const fn is_canonical(lin: u64, bits: u32) -> bool {
    let shift = 64 - bits;
    (((lin << shift) as i64) >> shift) as u64 == lin
}
