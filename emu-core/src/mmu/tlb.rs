//! The inline translation cache that translated code and the interpreter probe before anything else.
//!
//! A set is direct-mapped by linear page number. A hit for an access of `size` bytes at `a` is
//! `a - entry.tag <= 4096 - size` (unsigned), which also sends every page-crossing access to the slow path; the
//! host address is then `a + entry.addend`. An empty entry carries a tag whose page falls to another index, so that
//! no address can hit it.

use crate::addr::{PAGE_MASK, PAGE_SHIFT};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

/// log2 of the number of entries per kind of access.
pub const TLB_BITS: u32 = 12;
/// Number of entries per kind of access.
pub const TLB_ENTRIES: usize = 1 << TLB_BITS;
/// Entries in a group, see [`group`].
const GROUP: usize = TLB_ENTRIES / 64;

/// One entry: 16 bytes, as translated code reads it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TlbEntry {
    /// Page-aligned linear address.
    pub tag: u64,
    /// Host address minus linear address, modulo 2^64.
    pub addend: u64,
}

/// One entry for instruction fetch.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExecEntry {
    /// Page-aligned linear address.
    pub tag: u64,
    /// Host address minus linear address, modulo 2^64.
    pub addend: u64,
    /// Guest-physical address of the page.
    pub gpa: u64,
    /// Number of the pair of pages (see `execid`), which names no other pair; 0: the entry is empty.
    pub id: u64,
}

/// The cache for one address space at one privilege.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct TlbSet {
    /// Entries that allow reading.
    pub read: [TlbEntry; TLB_ENTRIES],
    /// Entries that allow writing: never a page with code, page tables or dirty tracking.
    pub write: [TlbEntry; TLB_ENTRIES],
    /// Entries that allow fetching.
    pub exec: [ExecEntry; TLB_ENTRIES],
}

/// Index of the entry for a linear address.
#[inline(always)]
pub const fn index(lin: u64) -> usize {
    (lin >> PAGE_SHIFT) as usize & (TLB_ENTRIES - 1)
}

/// The bit of the group of 64 groups that the entry at `index` belongs to: what has been filled is noted by group, so that
/// emptying a set that has hardly been used costs little.
#[inline(always)]
pub(super) const fn group(index: usize) -> u64 {
    1 << (index / GROUP)
}

/// The indices of the entries of `groups`.
pub(super) fn entries(groups: u64) -> impl Iterator<Item = usize> {
    bits(groups).flat_map(|g| g * GROUP..(g + 1) * GROUP)
}

/// The numbers of the bits that are set.
pub(super) fn bits(mut of: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let n = (of != 0).then(|| of.trailing_zeros() as usize)?;
        of &= of - 1;
        Some(n)
    })
}

/// The tag of an empty entry at `index`. For the last it is not 0, of which the exclusive or with an address in the topmost
/// page would wrap when translated code adds the size of an access (`aarch64/share.rs`).
pub(super) const fn empty_tag(index: usize) -> u64 {
    if index == 0 || index == TLB_ENTRIES - 1 { 1 << PAGE_SHIFT } else { 0 }
}

impl TlbEntry {
    /// Host address for an access of `size` bytes at `lin`, if this entry covers it.
    #[inline(always)]
    pub fn hit(&self, lin: u64, size: u64) -> Option<*mut u8> {
        (lin.wrapping_sub(self.tag) <= PAGE_MASK + 1 - size).then(|| lin.wrapping_add(self.addend) as *mut u8)
    }
}

impl TlbSet {
    /// An empty set.
    pub fn new() -> Box<Self> {
        let layout = Layout::new::<Self>();
        // Of an alignment that the allocator has anyway, so that fresh pages need no filling.
        // SAFETY: the layout is not of size 0, and a set is made of integers, for which all zeroes are values.
        let mut set = unsafe {
            let set = alloc_zeroed(layout).cast::<Self>();
            if set.is_null() {
                handle_alloc_error(layout);
            }
            Box::from_raw(set)
        };
        // But for the first and the last, entries of zeroes are empty: the host need not give memory for what is not used.
        set.flush(group(0) | group(TLB_ENTRIES - 1));
        set
    }

    /// Empties the groups in `groups`.
    pub fn flush(&mut self, groups: u64) {
        for i in entries(groups) {
            self.read[i].tag = empty_tag(i);
            self.write[i].tag = empty_tag(i);
            self.exec[i].tag = empty_tag(i);
            self.exec[i].id = 0;
        }
    }

    /// Forgets every write entry of `groups` that leads to the page at host address `host`.
    pub(super) fn forget_host(&mut self, groups: u64, host: u64) {
        for i in entries(groups) {
            let e = &mut self.write[i];
            if e.tag.wrapping_add(e.addend) == host {
                e.tag = empty_tag(i);
            }
        }
    }

    /// Forgets the page that holds `lin`.
    pub fn forget(&mut self, lin: u64) {
        let (i, page) = (index(lin), lin & !PAGE_MASK);
        let empty = empty_tag(i);
        for tag in [&mut self.read[i].tag, &mut self.write[i].tag] {
            if *tag == page {
                *tag = empty;
            }
        }
        if self.exec[i].tag == page {
            self.exec[i].tag = empty;
            self.exec[i].id = 0;
        }
    }
}
