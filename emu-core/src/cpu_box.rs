//! Where a processor lies: behind the requests to it, in one piece of memory that both own.
//!
//! Translated code polls for requests in every loop. With the request word at a fixed distance from the processor's state,
//! of which it has the address anyway, that is one comparison with memory.
//!
//! Invariant: a room is taken by at most one [`CpuBox`], which alone touches what is in it.

use crate::cpu::Cpu;
use crate::signals::Signals;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Room for a processor.
pub(crate) struct Room {
    cpu: UnsafeCell<MaybeUninit<Cpu>>,
    taken: AtomicBool,
}

// SAFETY: a shared room gives no way to what is in it but for `CpuBox`, of which there is one at a time, and which other
// threads can only get whole, since `Cpu` is `Send`.
unsafe impl Sync for Room {}
// SAFETY: what it may hold is `Send`.
unsafe impl Send for Room {}

impl Default for Room {
    fn default() -> Self {
        Self { cpu: UnsafeCell::new(MaybeUninit::uninit()), taken: AtomicBool::new(false) }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// A processor, with the requests to it in the same memory: see [`crate::signals`].
pub struct CpuBox(Arc<Signals>);

impl CpuBox {
    /// Puts `cpu` behind its requests.
    ///
    /// # Panics
    /// If the requests have a processor already.
    pub(crate) fn new(cpu: Cpu) -> Self {
        let signals = cpu.signals.clone();
        let room = &signals.room;
        assert!(!room.taken.swap(true, Ordering::Acquire), "one Signals, two processors");
        // SAFETY: the room was free, and is this box's from here on.
        unsafe { (*room.cpu.get()).write(cpu) };
        Self(signals)
    }
}

impl Deref for CpuBox {
    type Target = Cpu;

    fn deref(&self) -> &Cpu {
        // SAFETY: `new` has written it, and nobody but this box touches it.
        unsafe { (*self.0.room.cpu.get()).assume_init_ref() }
    }
}

impl DerefMut for CpuBox {
    fn deref_mut(&mut self) -> &mut Cpu {
        // SAFETY: as above, and the box is borrowed exclusively.
        unsafe { (*self.0.room.cpu.get()).assume_init_mut() }
    }
}

impl Drop for CpuBox {
    fn drop(&mut self) {
        // SAFETY: `new` has written it, and nobody will look at it again before another `new`.
        unsafe { (*self.0.room.cpu.get()).assume_init_drop() };
        self.0.room.taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for CpuBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Cpu::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Wiring;
    use crate::features::Features;
    use crate::mem::PhysMem;
    use crate::signals::{MARK_BEFORE, MARK_REGION, WORD_BEFORE, request};

    /// What translated code would find at a distance before the processor.
    fn before<T: Copy>(cpu: &CpuBox, bytes: usize) -> T {
        let signals = Arc::as_ptr(&cpu.0);
        let at = (&raw const **cpu).addr() - bytes;
        let offset = at - signals.addr();
        assert!(offset + size_of::<T>() <= size_of::<Signals>());
        // SAFETY: within the memory that the box keeps; no other thread has it here.
        unsafe { signals.wrapping_byte_add(offset).cast::<T>().read() }
    }

    #[test]
    fn requests_stand_before_the_processor() {
        let wiring = Wiring::bare(PhysMem::new(1 << 20).expect("guest memory"));
        let signals = wiring.signals.clone();
        let cpu = Cpu::new(wiring, Features::max(), 0);
        assert_eq!((before::<u32>(&cpu, WORD_BEFORE), before::<u64>(&cpu, MARK_BEFORE)), (0, 0));
        signals.raise_quietly(request::TIMER);
        let raised = if cfg!(target_arch = "x86_64") { u64::MAX } else { 0 };
        assert_eq!(
            (before::<u32>(&cpu, WORD_BEFORE), before::<u64>(&cpu, MARK_BEFORE)),
            (request::TIMER, raised)
        );
        // What is lowered while something is requested is raised at once.
        let mark = 5 * MARK_REGION + 1000;
        let raised = if cfg!(target_arch = "x86_64") { u64::MAX } else { 5 * MARK_REGION };
        signals.lower_mark(mark);
        assert_eq!(before::<u64>(&cpu, MARK_BEFORE), raised);
        assert_eq!(signals.take(request::TIMER), request::TIMER);
        signals.lower_mark(mark);
        assert_eq!(before::<u64>(&cpu, MARK_BEFORE), mark);
        signals.raise_quietly(request::TIMER);
        assert_eq!(before::<u64>(&cpu, MARK_BEFORE), raised);
        drop(cpu);
        // What the processor kept is free: this and its own were the last two.
        assert_eq!(Arc::strong_count(&signals), 1);
    }

    #[test]
    #[should_panic(expected = "two processors")]
    fn requests_are_to_one_processor() {
        let wiring = Wiring::bare(PhysMem::new(1 << 20).expect("guest memory"));
        let _first = Cpu::new(wiring.clone(), Features::max(), 0);
        Cpu::new(wiring, Features::max(), 1);
    }
}
