//! Guest-physical memory: RAM, ROM and the attributes of each RAM page.
//!
//! Invariant: no Rust reference into guest RAM ever exists. Every access goes through raw pointers and volatile
//! or atomic operations in this file, in `mmu`, or in translated code, so that several vCPUs, device threads and
//! the guest itself may race on it as on real hardware.
//! Invariant: a page with [`page::CODE`] or [`page::TABLE`] set has no write entry in any translation cache, so
//! every store to it passes the slow path, which invalidates what was derived from the old bytes.

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use crate::bus::Dma;
use crate::crew::{Crew, Mail, Mailbox};
use crate::pages::Pages;
use crate::signals::Signals;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// First address of the hole below 4 GiB that holds PCI, the APICs and firmware; RAM beyond it continues at 4 GiB.
pub const HOLE_START: u64 = 0xb000_0000;
/// Where RAM that does not fit below [`HOLE_START`] continues.
pub const HIGH_START: u64 = 1 << 32;

/// Attribute bits of one RAM page.
pub mod page {
    /// Some of its bytes have been decoded: see [`super::PhysMem::code_chunks`].
    pub const CODE: u8 = 1 << 0;
    /// It holds guest page tables that some vCPU shadows.
    pub const TABLE: u8 = 1 << 1;
    /// Written since the bit was last cleared (dirty logging).
    pub const DIRTY: u8 = 1 << 3;
}

/// Why guest memory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// The size is zero or not a multiple of the page size.
    #[error("guest memory must be a positive multiple of 4 KiB, not {0} bytes")]
    BadSize(u64),
    /// The host would not give it.
    #[error("the host cannot provide {0} MiB of guest memory: {1}")]
    NoMemory(u64, std::io::Error),
}

#[derive(Debug)]
struct Rom {
    base: u64,
    /// Page-aligned copy of the image.
    map: memmap2::MmapRaw,
}

/// What lies behind a guest-physical page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// RAM: host address of the page's first byte, and the page's index in the attribute tables.
    Ram(*mut u8, usize),
    /// ROM: host address of the page's first byte. Writes are dropped.
    Rom(*const u8),
    /// Neither: a device, or nothing.
    Mmio,
}

/// The guest-physical memory of a machine.
#[derive(Debug)]
pub struct PhysMem {
    ram: memmap2::MmapRaw,
    size: u64,
    low: u64,
    roms: OnceLock<Vec<Rom>>,
    pages: Pages,
    /// AND-mask of guest-physical addresses: all ones, or bit 20 clear while the A20 gate is off.
    a20: AtomicU64,
    crew: OnceLock<Crew>,
}

// SAFETY: the maps are plain host memory that lives as long as `self`; every access is volatile or atomic.
unsafe impl Send for PhysMem {}
// SAFETY: as above.
unsafe impl Sync for PhysMem {}

impl PhysMem {
    /// RAM of `size` bytes, all zero, committed by the host only as it is touched.
    ///
    /// # Errors
    /// [`MemError`] if the size is no multiple of 4 KiB or the host refuses.
    pub fn new(size: u64) -> Result<Arc<Self>, MemError> {
        if size == 0 || !size.is_multiple_of(PAGE_SIZE) {
            return Err(MemError::BadSize(size));
        }
        let len = usize::try_from(size).map_err(|_| MemError::BadSize(size))?;
        let ram = memmap2::MmapOptions::new()
            .len(len)
            .no_reserve_swap()
            .map_anon()
            .map_err(|e| MemError::NoMemory(size >> 20, e))?;
        let pages = len >> PAGE_SHIFT;
        Ok(Arc::new(Self {
            ram: ram.into(),
            size,
            low: size.min(HOLE_START),
            roms: OnceLock::new(),
            pages: Pages::new(pages),
            a20: AtomicU64::new(u64::MAX),
            crew: OnceLock::new(),
        }))
    }

    /// Total RAM in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The RAM ranges as (first address, length in bytes), ascending.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let mut v = vec![(0, self.low)];
        if self.size > self.low {
            v.push((HIGH_START, self.size - self.low));
        }
        v
    }

    /// Installs the ROMs, once, before any vCPU runs: (base, bytes), bases page-aligned. ROM hides RAM below it.
    ///
    /// # Errors
    /// When the host gives no memory for the copies.
    ///
    /// # Panics
    /// When called twice or with an unaligned base: both are bugs of the board.
    pub fn set_roms(&self, roms: &[(u64, &[u8])]) -> Result<(), MemError> {
        let mut list = Vec::new();
        for &(base, bytes) in roms {
            assert!(base.is_multiple_of(PAGE_SIZE), "ROM base must be page-aligned");
            let len = bytes.len().next_multiple_of(PAGE_SIZE as usize).max(PAGE_SIZE as usize);
            let mut map =
                memmap2::MmapMut::map_anon(len).map_err(|e| MemError::NoMemory((len >> 20) as u64, e))?;
            map[..bytes.len()].copy_from_slice(bytes);
            list.push(Rom { base, map: map.into() });
        }
        assert!(self.roms.set(list).is_ok(), "ROMs are installed once");
        Ok(())
    }

    /// Asks the host for large pages behind RAM. Guests touch it all over, and misses of the host's own TLB are dear,
    /// above all where the host is a guest itself. A host that has none is no worse for it.
    pub fn prefer_large_pages(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.ram.advise(memmap2::Advice::HugePage);
    }

    /// Registers the vCPUs, once, and returns their mailboxes in order.
    pub fn connect(&self, signals: &[Arc<Signals>]) -> Vec<Arc<Mailbox>> {
        self.crew.get_or_init(|| Crew::new(signals)).members().to_vec()
    }

    /// The vCPUs that share the memory; None until they are connected.
    #[inline]
    pub fn crew(&self) -> Option<&Crew> {
        self.crew.get()
    }

    /// Whether at most one vCPU uses the memory.
    #[inline]
    pub fn single(&self) -> bool {
        self.crew.get().is_none_or(|c| c.members().len() < 2)
    }

    /// The attributes of the RAM pages.
    #[inline(always)]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Opens or closes the A20 gate and makes every vCPU forget its translations.
    pub fn set_a20(&self, on: bool) {
        let mask = if on { u64::MAX } else { !(1 << 20) };
        if self.a20.swap(mask, Ordering::SeqCst) != mask
            && let Some(crew) = self.crew()
        {
            crew.post_all(Mail::FlushAll);
        }
    }

    /// Whether the A20 gate is open.
    pub fn a20(&self) -> bool {
        self.a20.load(Ordering::Relaxed) == u64::MAX
    }

    /// Index in the attribute tables of the RAM page that holds `addr`, which has passed the A20 gate.
    #[inline(always)]
    fn index(&self, addr: u64) -> Option<usize> {
        let offset = if addr < self.low {
            addr
        } else if addr >= HIGH_START && addr - HIGH_START < self.size - self.low {
            addr - HIGH_START + self.low
        } else {
            return None;
        };
        Some((offset >> PAGE_SHIFT) as usize)
    }

    /// What lies at the page of `addr`.
    #[inline]
    pub fn frame(&self, addr: PhysAddr) -> Frame {
        let addr = addr.0 & self.a20.load(Ordering::Relaxed);
        for rom in self.roms.get().into_iter().flatten() {
            if let Some(off) = addr.checked_sub(rom.base) {
                let off = off & !(PAGE_SIZE - 1);
                if off < rom.map.len() as u64 {
                    return Frame::Rom(rom.map.as_ptr().wrapping_add(off as usize));
                }
            }
        }
        match self.index(addr) {
            Some(i) => Frame::Ram(self.ram.as_mut_ptr().wrapping_add(i << PAGE_SHIFT), i),
            None => Frame::Mmio,
        }
    }

    /// Host address of the first byte of RAM page `index` (from [`Frame::Ram`]).
    pub fn host_page(&self, index: usize) -> *mut u8 {
        assert!(index < self.pages.len(), "no such RAM page");
        self.ram.as_mut_ptr().wrapping_add(index << PAGE_SHIFT)
    }

    /// Attribute bits of RAM page `index` (from [`Frame::Ram`]).
    #[inline(always)]
    pub fn attrs(&self, index: usize) -> &AtomicU8 {
        self.pages.attrs(index)
    }

    /// Which 64-byte chunks of RAM page `index` hold decoded code: bit i for bytes 64i to 64i+63.
    #[inline(always)]
    pub fn code_chunks(&self, index: usize) -> &AtomicU64 {
        self.pages.chunks(index)
    }

    /// To be called once everything decoded from `chunks` of RAM page `index` has been dropped: stores to them need
    /// no longer be seen. Does nothing where several vCPUs share the memory: there the store itself has disarmed them.
    pub fn unmark_code(&self, index: usize, chunks: u64) {
        if self.single() {
            self.pages.unmark_code(index, chunks);
        }
    }

    /// Copies from RAM or ROM; false if part of it is neither.
    #[must_use]
    pub fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> bool {
        self.pieces(addr, buf.len(), |_, frame, at, range| {
            let src = match frame {
                Frame::Ram(p, _) => p.cast_const(),
                Frame::Rom(p) => p,
                Frame::Mmio => return false,
            };
            // SAFETY: `frame` gave a whole page, and the piece stays within it.
            unsafe { copy_out(src.add(at), &mut buf[range]) };
            true
        })
    }

    /// Copies into RAM without telling anyone: for loaders, before a vCPU runs. False if part of it is not RAM.
    #[must_use]
    pub fn write(&self, addr: PhysAddr, buf: &[u8]) -> bool {
        self.pieces(addr, buf.len(), |_, frame, at, range| {
            let Frame::Ram(p, i) = frame else { return false };
            // SAFETY: `frame` gave a whole page of RAM, and the piece stays within it.
            unsafe { copy_in(p.add(at), &buf[range]) };
            self.pages.note_dirty(i);
            true
        })
    }

    /// Calls `each(address, frame, offset in page, range of the buffer)` per page until it returns false.
    fn pieces(
        &self,
        addr: PhysAddr,
        len: usize,
        mut each: impl FnMut(PhysAddr, Frame, usize, std::ops::Range<usize>) -> bool,
    ) -> bool {
        if addr.0.checked_add(len as u64).is_none() {
            return false;
        }
        let mut done = 0;
        while done < len {
            let a = addr.wrapping_add(done as u64);
            let at = a.offset() as usize;
            let n = (len - done).min(PAGE_SIZE as usize - at);
            if !each(a, self.frame(a), at, done..done + n) {
                return false;
            }
            done += n;
        }
        true
    }
}

/// Behind a read of guest memory: on hosts that reorder loads, keeps it before whatever comes after it, as the guest
/// expects.
#[inline(always)]
pub(crate) fn after_load() {
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::Acquire);
}

/// Before a write of guest memory: on hosts that reorder stores, keeps it behind whatever came before it.
#[inline(always)]
pub(crate) fn before_store() {
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::Release);
}

/// Copies guest memory out, aligned values of 2, 4 and 8 bytes whole, so that a ring index is never torn.
///
/// # Safety
/// `src .. src + buf.len()` must be guest memory.
unsafe fn copy_out(src: *const u8, buf: &mut [u8]) {
    let mut i = 0;
    if (src as usize).is_multiple_of(8) {
        let mut chunks = buf.chunks_exact_mut(8);
        for chunk in &mut chunks {
            // SAFETY: the chunk lies within the buffer, and so what is read within what the caller vouches for; the
            // pointer is aligned.
            chunk.copy_from_slice(&unsafe { src.add(i).cast::<u64>().read_volatile() }.to_ne_bytes());
            i += 8;
        }
    }
    while i < buf.len() {
        // SAFETY: `piece` keeps within the buffer, and so within what the caller vouches for; the pointer is aligned
        // for what is read.
        unsafe {
            let p = src.add(i);
            let n = piece(p as usize, buf.len() - i);
            match n {
                8 => buf[i..i + 8].copy_from_slice(&p.cast::<u64>().read_volatile().to_ne_bytes()),
                4 => buf[i..i + 4].copy_from_slice(&p.cast::<u32>().read_volatile().to_ne_bytes()),
                2 => buf[i..i + 2].copy_from_slice(&p.cast::<u16>().read_volatile().to_ne_bytes()),
                _ => buf[i] = p.read_volatile(),
            }
            i += n;
        }
    }
    after_load();
}

/// Copies into guest memory, aligned values whole.
///
/// # Safety
/// `dst .. dst + buf.len()` must be guest RAM.
unsafe fn copy_in(dst: *mut u8, buf: &[u8]) {
    before_store();
    let mut i = 0;
    if (dst as usize).is_multiple_of(8) {
        for chunk in buf.chunks_exact(8) {
            let value = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
            // SAFETY: as in `copy_out`.
            unsafe { dst.add(i).cast::<u64>().write_volatile(value) };
            i += 8;
        }
    }
    while i < buf.len() {
        // SAFETY: as in `copy_out`.
        unsafe {
            let p = dst.add(i);
            let n = piece(p as usize, buf.len() - i);
            let bytes = &buf[i..i + n];
            let value = bytes.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
            match n {
                8 => p.cast::<u64>().write_volatile(value.to_le()),
                4 => p.cast::<u32>().write_volatile((value as u32).to_le()),
                2 => p.cast::<u16>().write_volatile((value as u16).to_le()),
                _ => p.write_volatile(value as u8),
            }
            i += n;
        }
    }
}

/// The largest aligned power of two up to 8 at `address` that fits in `left` bytes.
fn piece(address: usize, left: usize) -> usize {
    let mut n = 8;
    while n > 1 && (!address.is_multiple_of(n) || n > left) {
        n /= 2;
    }
    n
}

impl Dma for PhysMem {
    fn dma_read(&self, addr: PhysAddr, buf: &mut [u8]) -> bool {
        self.read(addr, buf)
    }

    fn dma_write(&self, addr: PhysAddr, buf: &[u8]) -> bool {
        if !self.pieces(addr, buf.len(), |_, frame, _, _| matches!(frame, Frame::Ram(..))) {
            return false;
        }
        self.pieces(addr, buf.len(), |a, frame, at, range| {
            let Frame::Ram(p, i) = frame else { return false };
            // SAFETY: `frame` gave a whole page of RAM, and the piece stays within it.
            let copy = || unsafe { copy_in(p.add(at), &buf[range.clone()]) };
            match self.crew() {
                None => copy(),
                Some(crew) => drop(self.pages.store(crew, (a, range.len()), i, None, copy)),
            }
            true
        })
    }
}

/// All-zero atomics that take host memory only as they are used.
pub(crate) fn zeroed<T: Atomic>(len: usize) -> Box<[T]> {
    let words = vec![T::Plain::default(); len].into_boxed_slice();
    // SAFETY: an atomic has the size and representation of its plain type, and `Atomic` vouches for its alignment.
    unsafe { Box::from_raw(Box::into_raw(words) as *mut [T]) }
}

/// Atomics that are laid out like their plain type, alignment included: `AtomicU64` only where that is so.
pub(crate) trait Atomic {
    type Plain: Copy + Default;
}

impl Atomic for AtomicU8 {
    type Plain = u8;
}

impl Atomic for AtomicU64 {
    type Plain = u64;
}

const _: () = assert!(align_of::<AtomicU64>() == align_of::<u64>() && align_of::<AtomicU8>() == 1);
