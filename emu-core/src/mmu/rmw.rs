//! Read-modify-write and 16-byte accesses.
//!
//! A read-modify-write demands write permission before it reads (SDM vol. 3A, 4.7: the fault of an RMW has W set),
//! so it probes the write entries only. Locked ones are host atomics where the operand is naturally aligned RAM. With
//! one vCPU everything else is a plain read and write; with several, operands that are not aligned are updated while
//! the others stand aside ([`crate::crew::Crew::alone`]).

use super::phys::{ram_read, ram_write};
use super::{Access, Priv, tlb};
use crate::cpu::Cpu;
use crate::fault::Exception;
use crate::mem::Frame;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Replaces the value at `host` by `f` of it, atomically, and gives the old one.
///
/// # Safety
/// `host` must name `SIZE` bytes of guest RAM, aligned to `SIZE`.
#[inline(always)]
unsafe fn exchange<const SIZE: usize>(host: *mut u8, f: impl Fn(u64) -> u64) -> u64 {
    macro_rules! exchange {
        ($cell:ty, $int:ty) => {{
            // SAFETY: the caller's.
            let cell = unsafe { <$cell>::from_ptr(host.cast()) };
            let mut old = cell.load(Ordering::Relaxed);
            while let Err(now) =
                cell.compare_exchange_weak(old, f(old.into()) as $int, Ordering::SeqCst, Ordering::Relaxed)
            {
                old = now;
            }
            u64::from(old)
        }};
    }
    match SIZE {
        1 => exchange!(AtomicU8, u8),
        2 => exchange!(AtomicU16, u16),
        4 => exchange!(AtomicU32, u32),
        _ => exchange!(AtomicU64, u64),
    }
}

/// Replaces the 16 bytes at `host` by `new` if they are `want`, atomically, and gives the old ones.
///
/// # Safety
/// `host` must name 16 aligned bytes of guest RAM, and the host must have CMPXCHG16B.
#[cfg(target_arch = "x86_64")]
unsafe fn exchange_128(host: *mut u8, want: u128, new: u128) -> u128 {
    let (mut low, mut high) = (want as u64, (want >> 64) as u64);
    // SAFETY: the caller's; RBX, which may not be an operand, is put back.
    unsafe {
        std::arch::asm!(
            "xchg {new}, rbx",
            "lock cmpxchg16b [{host}]",
            "mov rbx, {new}",
            new = inout(reg) new as u64 => _,
            host = in(reg) host,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack),
        );
    }
    u128::from(low) | u128::from(high) << 64
}

impl Cpu {
    /// Replaces the `SIZE` bytes at `lin` by `f` of them and gives the old value.
    ///
    /// # Errors
    /// As for [`Cpu::store`]; nothing has been read or written then.
    #[inline(always)]
    pub fn modify<const SIZE: usize>(
        &mut self,
        lin: u64,
        stack: bool,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, Exception> {
        // SAFETY: `tlb` points at one of this vCPU's own sets (`select_tlb`).
        let entry = unsafe { &(*self.state.tlb).write[tlb::index(lin)] };
        if let Some(host) = entry.hit(lin, SIZE as u64) {
            // SAFETY: a write hit names host memory of a RAM page that covers the whole access.
            unsafe {
                let old = ram_read(host, SIZE);
                ram_write(host, SIZE, f(old));
                return Ok(old);
            }
        }
        self.probe_write(lin, SIZE, Priv::Current, stack)?;
        let old = self.load_slow(lin, SIZE, Priv::Current, stack)?;
        self.store_slow(lin, SIZE, f(old), Priv::Current, stack)?;
        Ok(old)
    }

    /// [`Cpu::modify`] as one atomic step, for LOCK.
    ///
    /// # Errors
    /// As for [`Cpu::modify`].
    #[inline]
    pub fn modify_locked<const SIZE: usize>(
        &mut self,
        lin: u64,
        stack: bool,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, Exception> {
        // SAFETY: as in `modify`.
        let entry = unsafe { &(*self.state.tlb).write[tlb::index(lin)] };
        match entry.hit(lin, SIZE as u64) {
            // SAFETY: a write hit names RAM that covers the access, and pages are aligned, so `host` is aligned as
            // `lin` is.
            Some(host) if lin.is_multiple_of(SIZE as u64) => Ok(unsafe { exchange::<SIZE>(host, f) }),
            _ => self.modify_locked_slow::<SIZE>(lin, stack, f),
        }
    }

    /// [`Cpu::modify_locked`] without the probe. Operands that no host instruction serves are updated while every
    /// other vCPU stands aside.
    #[inline(never)]
    fn modify_locked_slow<const SIZE: usize>(
        &mut self,
        lin: u64,
        stack: bool,
        f: impl Fn(u64) -> u64,
    ) -> Result<u64, Exception> {
        if self.mem.single() {
            return self.modify::<SIZE>(lin, stack, f);
        }
        if !lin.is_multiple_of(SIZE as u64) {
            self.probe_write(lin, SIZE, Priv::Current, stack)?;
            return self.exclusively(|cpu| cpu.modify::<SIZE>(lin, stack, f));
        }
        let t = self.translate(lin, Access::Write, Priv::Current, stack)?;
        let Frame::Ram(p, index) = t.frame else { return self.modify::<SIZE>(lin, stack, f) };
        let mut old = 0;
        self.store_shared(t.gpa, SIZE, index, || {
            // SAFETY: an aligned access stays within the page that `translate` gave.
            old = unsafe { exchange::<SIZE>(p.add(t.gpa.offset() as usize), f) };
        });
        Ok(old)
    }

    /// Compares the 16 aligned bytes at `lin` with `want` and replaces them by `new` if they are equal, as one atomic
    /// step; gives the old value.
    ///
    /// # Errors
    /// As for [`Cpu::store`].
    pub fn compare_exchange_128(
        &mut self,
        lin: u64,
        want: u128,
        new: u128,
        stack: bool,
    ) -> Result<u128, Exception> {
        let t = self.translate(lin, Access::Write, Priv::Current, stack)?;
        #[cfg(target_arch = "x86_64")]
        if !self.mem.single()
            && let Frame::Ram(p, index) = t.frame
            && std::arch::is_x86_feature_detected!("cmpxchg16b")
        {
            let mut old = 0;
            self.store_shared(t.gpa, 16, index, || {
                // SAFETY: 16 aligned bytes stay within the page that `translate` gave, and the host has the
                // instruction.
                old = unsafe { exchange_128(p.add(t.gpa.offset() as usize), want, new) };
            });
            return Ok(old);
        }
        let _ = t;
        self.exclusively(|cpu| {
            let old = cpu.load_128(lin, stack)?;
            cpu.store_128(lin, if old == want { new } else { old }, stack)?;
            Ok(old)
        })
    }

    /// Reads 16 bytes; alignment is the caller's business.
    ///
    /// # Errors
    /// As for [`Cpu::load`].
    #[inline]
    pub fn load_128(&mut self, lin: u64, stack: bool) -> Result<u128, Exception> {
        // SAFETY: as in `modify`.
        let entry = unsafe { &(*self.state.tlb).read[tlb::index(lin)] };
        let (low, high) = match entry.hit(lin, 16) {
            // SAFETY: a hit names host memory of a guest page that covers the whole access.
            Some(host) => unsafe { (ram_read(host, 8), ram_read(host.add(8), 8)) },
            None => {
                self.within_half(lin, 16, stack)?;
                let low = self.load::<8>(lin, stack)?;
                (low, self.load::<8>(self.advance(lin, 8), stack)?)
            }
        };
        Ok(u128::from(low) | u128::from(high) << 64)
    }

    /// Writes 16 bytes, all or none; alignment is the caller's business.
    ///
    /// # Errors
    /// As for [`Cpu::store`].
    #[inline]
    pub fn store_128(&mut self, lin: u64, value: u128, stack: bool) -> Result<(), Exception> {
        let (low, high) = (value as u64, (value >> 64) as u64);
        // SAFETY: as in `modify`.
        let entry = unsafe { &(*self.state.tlb).write[tlb::index(lin)] };
        if let Some(host) = entry.hit(lin, 16) {
            // SAFETY: a write hit names host memory of a RAM page that covers the whole access.
            unsafe {
                ram_write(host, 8, low);
                ram_write(host.add(8), 8, high);
            }
            return Ok(());
        }
        self.probe_write(lin, 16, Priv::Current, stack)?;
        self.store::<8>(lin, low, stack)?;
        self.store::<8>(self.advance(lin, 8), high, stack)
    }

    /// `lin + n`, wrapping at 4 GiB outside long mode.
    #[inline]
    pub fn advance(&self, lin: u64, n: u64) -> u64 {
        let sum = lin.wrapping_add(n);
        if self.state.long_mode() { sum } else { sum & 0xffff_ffff }
    }
}
