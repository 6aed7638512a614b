//! How other threads reach a vCPU: one word of request bits, and a parking place for HLT.
//!
//! Invariants: whoever sets a bit has made the state behind it visible first (release), and the vCPU clears a bit
//! before it looks at that state (acquire), so a request is never lost. A bit is set before the mark is raised, and
//! who lowers the mark looks at the bits afterwards.

use crate::cpu_box::Room;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// The request bits of [`Signals`].
pub mod request {
    /// The interrupt controller may have a vector to deliver. Level: the vCPU re-tests it itself.
    pub const INTR: u32 = 1 << 0;
    /// Non-maskable interrupt.
    pub const NMI: u32 = 1 << 1;
    /// System-management interrupt.
    pub const SMI: u32 = 1 << 2;
    /// INIT from an IPI or the keyboard controller.
    pub const INIT: u32 = 1 << 3;
    /// Start-up IPI; the vector is in [`super::Signals::sipi_vector`].
    pub const SIPI: u32 = 1 << 4;
    /// A message waits in the vCPU's mailbox (from other vCPUs or DMA), or the vCPU has to stand aside: see
    /// [`crate::crew`].
    pub const MAIL: u32 = 1 << 5;
    /// The run loop must return to its caller: power-off, reset, debugger, time limit.
    pub const STOP: u32 = 1 << 6;
    /// A timer of the virtual clock is due.
    pub const TIMER: u32 = 1 << 7;
    /// The engine is to note where the guest is, for a profile; engines without one never get it.
    pub const SAMPLE: u32 = 1 << 8;
}

/// The requests to one vCPU. Shared by reference count. The vCPU itself lies behind them, so that translated code, which has
/// its address, reaches what it polls at a fixed distance: see [`WORD_BEFORE`] and [`MARK_BEFORE`].
#[derive(Debug, Default)]
#[repr(C)]
pub struct Signals {
    sipi: AtomicU32,
    /// It sleeps, or is about to: who sets a bit has to wake it.
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
    /// Anything that translated code likes while nothing is requested, and what a request makes of it from then on.
    mark: AtomicU64,
    /// Non-zero means: leave translated code at the next block boundary.
    word: AtomicU32,
    pub(crate) room: Room,
}

/// Bytes from the word of request bits, 32 bits wide, to the vCPU.
pub const WORD_BEFORE: usize = offset_of!(Signals, room) - offset_of!(Signals, word);
/// Bytes to it from a 64-bit word that a request changes, and translated code lowers again: see [`Signals::lower_mark`].
pub const MARK_BEFORE: usize = offset_of!(Signals, room) - offset_of!(Signals, mark);
/// Where translated code takes the mark for the address of a table: so many tables' bytes, a power of two, begin with the one
/// that leads out, and a request makes it the address of that.
pub const MARK_REGION: u64 = 1 << 24;

/// What a request makes of a mark: on x86 hosts, where it is a height of the stack, the greatest, and elsewhere the start of
/// its region.
const fn raised(mark: u64) -> u64 {
    if cfg!(target_arch = "x86_64") { u64::MAX } else { mark & !(MARK_REGION - 1) }
}

impl Signals {
    /// Sets request bits and wakes the vCPU if it sleeps.
    pub fn raise(&self, bits: u32) {
        // In one order with the two in `wait`: either this sees that it sleeps, or that sees the bit.
        let old = self.word.fetch_or(bits, Ordering::SeqCst);
        self.raise_mark();
        if old & bits != bits && self.asleep.load(Ordering::SeqCst) {
            let _held = self.lock.lock().unwrap_or_else(|e| e.into_inner());
            self.wake.notify_all();
        }
    }

    /// Sets request bits without waking the vCPU if it sleeps: for what it looks at anyway before it goes on.
    pub fn raise_quietly(&self, bits: u32) {
        self.word.fetch_or(bits, Ordering::SeqCst);
        self.raise_mark();
    }

    fn raise_mark(&self) {
        if cfg!(target_arch = "x86_64") {
            self.mark.store(raised(0), Ordering::Release);
        } else {
            // Whatever is there is of whoever is to see it.
            self.mark.fetch_and(raised(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Makes the mark `mark`, or what a request makes of that if there is one.
    pub fn lower_mark(&self, mark: u64) {
        // In one order with `raise`: either this sees the bit, or that comes after it.
        self.mark.store(mark, Ordering::SeqCst);
        if self.word.load(Ordering::SeqCst) != 0 {
            self.mark.store(raised(mark), Ordering::SeqCst);
        }
    }

    /// Start-up IPI with its vector.
    pub fn raise_sipi(&self, vector: u8) {
        self.sipi.store(vector.into(), Ordering::Relaxed);
        self.raise(request::SIPI);
    }

    /// The vector of the last start-up IPI.
    pub fn sipi_vector(&self) -> u8 {
        self.sipi.load(Ordering::Relaxed) as u8
    }

    /// Clears and returns those of `bits` that are set.
    pub fn take(&self, bits: u32) -> u32 {
        self.word.fetch_and(!bits, Ordering::AcqRel) & bits
    }

    /// The bits set now.
    #[inline]
    pub fn peek(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Sleeps until a bit is set, or `timeout` has passed (None: for ever).
    pub fn wait(&self, timeout: Option<Duration>) {
        let mut held = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        let start = std::time::Instant::now();
        self.asleep.store(true, Ordering::SeqCst);
        while self.word.load(Ordering::SeqCst) == 0 {
            held = match timeout {
                None => self.wake.wait(held).unwrap_or_else(|e| e.into_inner()),
                Some(limit) => {
                    let Some(left) = limit.checked_sub(start.elapsed()).filter(|d| !d.is_zero()) else {
                        return;
                    };
                    self.wake.wait_timeout(held, left).unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
