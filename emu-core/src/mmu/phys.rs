//! Guest-physical accesses of a vCPU: RAM, ROM, its own APIC page, and the board's MMIO.

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::cpu::{CodeHit, Cpu};
use crate::mem::{Frame, after_load, before_store, page};
use crate::mmu::JournalEntry;
use crate::pages::{bytes_of, chunks_of};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An unaligned value in guest RAM.
#[repr(C, packed)]
struct Loose<T>(T);

/// Reads `size` (1-8) bytes of guest RAM or ROM at `host`.
///
/// # Safety
/// `host .. host + size` must lie in one page that `PhysMem::frame` gave out.
#[inline(always)]
pub(super) unsafe fn ram_read(host: *const u8, size: usize) -> u64 {
    // SAFETY: the caller's; `Loose` has alignment 1.
    let value = unsafe {
        match size {
            1 => host.read_volatile().into(),
            2 => host.cast::<Loose<u16>>().read_volatile().0.into(),
            4 => host.cast::<Loose<u32>>().read_volatile().0.into(),
            8 => host.cast::<Loose<u64>>().read_volatile().0,
            n => (0..n).fold(0, |v, i| v | u64::from(host.add(i).read_volatile()) << (8 * i)),
        }
    };
    after_load();
    value
}

/// Writes the low `size` (1-8) bytes of `value` to guest RAM at `host`.
///
/// # Safety
/// As for [`ram_read`], and the page must be RAM.
#[inline(always)]
pub(super) unsafe fn ram_write(host: *mut u8, size: usize, value: u64) {
    before_store();
    // SAFETY: the caller's; `Loose` has alignment 1.
    unsafe {
        match size {
            1 => host.write_volatile(value as u8),
            2 => host.cast::<Loose<u16>>().write_volatile(Loose(value as u16)),
            4 => host.cast::<Loose<u32>>().write_volatile(Loose(value as u32)),
            8 => host.cast::<Loose<u64>>().write_volatile(Loose(value)),
            n => (0..n).for_each(|i| host.add(i).write_volatile((value >> (8 * i)) as u8)),
        }
    }
}

impl Cpu {
    /// Reads `size` (1-8) bytes at `addr`; they may cross a page only outside RAM's edges. Unclaimed bytes are ones.
    pub fn phys_read(&mut self, addr: PhysAddr, size: usize) -> u64 {
        let at = addr.offset() as usize;
        if at + size > PAGE_SIZE as usize {
            return (0..size).fold(0, |v, i| v | self.phys_read(addr.wrapping_add(i as u64), 1) << (8 * i));
        }
        match self.mem.frame(addr) {
            // SAFETY: the access stays within the page.
            Frame::Ram(p, _) => unsafe { ram_read(p.add(at), size) },
            // SAFETY: as above.
            Frame::Rom(p) => unsafe { ram_read(p.add(at), size) },
            Frame::Mmio => self.mmio_read(addr, size),
        }
    }

    /// Writes the low `size` (1-8) bytes of `value` at `addr`, telling whoever derived something from the old bytes.
    pub fn phys_write(&mut self, addr: PhysAddr, size: usize, value: u64) {
        let at = addr.offset() as usize;
        if at + size > PAGE_SIZE as usize {
            for i in 0..size {
                self.phys_write(addr.wrapping_add(i as u64), 1, value >> (8 * i) & 0xff);
            }
            return;
        }
        match self.mem.frame(addr) {
            Frame::Ram(p, index) => {
                // SAFETY: the access stays within the page.
                let host = unsafe { p.add(at) };
                if let Some(journal) = &mut self.mmu.journal {
                    // SAFETY: as above.
                    let old = unsafe { ram_read(host, size) };
                    journal.entries.push(JournalEntry { addr, old, new: value, len: size as u8 });
                }
                // SAFETY: as above.
                let store = || unsafe { ram_write(host, size, value) };
                if self.mem.single() {
                    store();
                    self.written(addr, size, index);
                } else {
                    self.store_shared(addr, size, index, store);
                }
            }
            Frame::Rom(_) => {}
            Frame::Mmio => self.mmio_write(addr, size, value),
        }
    }

    /// After a store of `size` bytes at `addr` into RAM page `index`, where this is the only vCPU: dirty logging and
    /// derived state.
    pub fn written(&mut self, addr: PhysAddr, size: usize, index: usize) {
        let attrs = self.mem.attrs(index).fetch_or(page::DIRTY, Ordering::Relaxed);
        if attrs & page::CODE != 0 {
            let hit = self.decoded_chunks(addr, size, index);
            if hit != 0 {
                self.code_hits.push(CodeHit::of_store(addr, size, index, hit));
            }
        }
        if attrs & page::TABLE != 0 {
            self.table_written(addr, size);
        }
    }

    /// The marked 64-byte chunks that a store of `size` bytes at `addr`, within RAM page `index`, hits: none, if it is known that
    /// nobody has decoded the bytes that it writes.
    pub fn decoded_chunks(&self, addr: PhysAddr, size: usize, index: usize) -> u64 {
        let hit = self.mem.code_chunks(index).load(Ordering::Relaxed) & chunks_of(addr, size);
        let undecoded = self.mem.single()
            && hit.is_power_of_two()
            && self.undecoded.has(index, hit.trailing_zeros(), bytes_of(addr, size));
        if undecoded { 0 } else { hit }
    }

    /// Sets `bits` in a paging-structure entry that held `old`, atomically; leaves it alone and says false if it has
    /// changed. Not journalled: accessed and dirty bits may be set early, and shadow entries rely on their staying set.
    pub(super) fn phys_set_bits(&mut self, addr: PhysAddr, bits: u64, old: u64, wide: bool) -> bool {
        let Frame::Ram(p, index) = self.mem.frame(addr) else {
            return true;
        };
        // SAFETY: entries are naturally aligned and within the page of RAM that `frame` gave out.
        let set = unsafe {
            let host = p.add(addr.offset() as usize);
            let order = Ordering::AcqRel;
            if wide {
                let cell = AtomicU64::from_ptr(host.cast());
                cell.compare_exchange(old, old | bits, order, Ordering::Relaxed).is_ok()
            } else {
                let cell = AtomicU32::from_ptr(host.cast());
                cell.compare_exchange(old as u32, (old | bits) as u32, order, Ordering::Relaxed).is_ok()
            }
        };
        self.mem.pages().note_dirty(index);
        set
    }

    fn apic_offset(&self, addr: PhysAddr) -> Option<u64> {
        if addr.0 >> 28 != 0xf {
            return None;
        }
        let base = self.irq.apic_base();
        // Enabled (bit 11) and not in x2APIC mode (bit 10): SDM vol. 3A, 11.4.3.
        (base & 0xc00 == 0x800 && addr.page_base().0 == base & !0xfff).then_some(addr.offset())
    }

    fn mmio_read(&mut self, addr: PhysAddr, size: usize) -> u64 {
        if let Some(offset) = self.apic_offset(addr) {
            let word = self.irq.apic_mmio_read(offset & !3) >> (8 * (offset & 3));
            return word.into();
        }
        split(addr, size).fold(0, |v, (a, n, shift)| v | self.bus.mmio_read(a, n) << shift)
    }

    fn mmio_write(&mut self, addr: PhysAddr, size: usize, value: u64) {
        if let Some(offset) = self.apic_offset(addr) {
            // Only aligned 32-bit stores are defined; others act on the register they fall in.
            self.irq.apic_mmio_write(offset & !3, value as u32);
            return;
        }
        for (a, n, shift) in split(addr, size) {
            self.bus.mmio_write(a, n, value >> shift);
        }
    }
}

/// Cuts an access into naturally aligned powers of two: (address, size, shift within the value).
fn split(addr: PhysAddr, size: usize) -> impl Iterator<Item = (PhysAddr, u8, u32)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= size {
            return None;
        }
        let a = addr.wrapping_add(done as u64);
        let mut n = 8usize;
        while n > size - done || !a.0.is_multiple_of(n as u64) {
            n /= 2;
        }
        let item = (a, n as u8, 8 * done as u32);
        done += n;
        Some(item)
    })
}
