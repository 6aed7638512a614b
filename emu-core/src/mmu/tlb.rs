//! The inline translation cache that translated code and the interpreter probe before anything else.
//!
//! A set is direct-mapped by linear page number. A hit for an access of `size` bytes at `a` is
//! `a - entry.tag <= 4096 - size` (unsigned), which also sends every page-crossing access to the slow path; the
//! host address is then `a + entry.addend`. An empty entry carries a tag whose page falls to another index, so that
//! no address can hit it.

use crate::addr::{PAGE_MASK, PAGE_SHIFT};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

/// log2 of the number of entries per kind of access.
pub const TLB_BITS: u32 = 13;
/// Number of entries per kind of access.
pub const TLB_ENTRIES: usize = 1 << TLB_BITS;
/// Number of entries for fetching. More than of the others: translated code finds them at constant places, so it costs nothing,
/// and large programs have more pages of code than that (cc1 5,600, node 10,000).
pub const EXEC_ENTRIES: usize = 1 << 14;

/// What has been filled since a set was empty, in 64 parts each, so that emptying one that has hardly been used costs little.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Used {
    /// Of the entries for reading and writing.
    pub data: u64,
    /// Of those for fetching.
    pub exec: u64,
}

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
    pub exec: [ExecEntry; EXEC_ENTRIES],
}

/// Index of the entry for a linear address.
#[inline(always)]
pub const fn index(lin: u64) -> usize {
    (lin >> PAGE_SHIFT) as usize & (TLB_ENTRIES - 1)
}

/// Index of the entry for fetching at a linear address.
#[inline(always)]
pub const fn exec_index(lin: u64) -> usize {
    (lin >> PAGE_SHIFT) as usize & (EXEC_ENTRIES - 1)
}

/// The part of `all` entries that the one at `index` is in, as a bit.
const fn part(index: usize, all: usize) -> u64 {
    1 << (index / (all / 64))
}

fn entries_of(parts: u64, all: usize) -> impl Iterator<Item = usize> {
    let each = all / 64;
    bits(parts).flat_map(move |p| p * each..(p + 1) * each)
}

impl Used {
    /// The entries at `index` for reading and writing.
    #[inline(always)]
    pub const fn data_at(index: usize) -> Self {
        Self { data: part(index, TLB_ENTRIES), exec: 0 }
    }

    /// The entry at `index` for fetching.
    #[inline(always)]
    pub const fn exec_at(index: usize) -> Self {
        Self { data: 0, exec: part(index, EXEC_ENTRIES) }
    }

    /// Both.
    #[inline(always)]
    pub const fn with(self, other: Self) -> Self {
        Self { data: self.data | other.data, exec: self.exec | other.exec }
    }

    /// Whether nothing has been filled.
    pub const fn is_empty(self) -> bool {
        self.data | self.exec == 0
    }

    /// The indices for reading and writing.
    pub fn data(self) -> impl Iterator<Item = usize> {
        entries_of(self.data, TLB_ENTRIES)
    }

    /// The indices for fetching.
    pub fn exec(self) -> impl Iterator<Item = usize> {
        entries_of(self.exec, EXEC_ENTRIES)
    }
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
        for i in [0, TLB_ENTRIES - 1] {
            set.flush(Used::data_at(i).with(Used::exec_at(i)));
        }
        set
    }

    /// Empties the parts in `used`.
    pub(super) fn flush(&mut self, used: Used) {
        for i in used.data() {
            self.read[i].tag = empty_tag(i);
            self.write[i].tag = empty_tag(i);
        }
        for i in used.exec() {
            self.exec[i].tag = empty_tag(i);
            self.exec[i].id = 0;
        }
    }

    /// Forgets every write entry of the parts in `used` that leads to the page at host address `host`.
    pub(super) fn forget_host(&mut self, used: Used, host: u64) {
        for i in used.data() {
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
        let exec = &mut self.exec[exec_index(lin)];
        if exec.tag == page {
            exec.tag = empty_tag(exec_index(lin));
            exec.id = 0;
        }
    }
}
