//! Order of memory between translated code and the threads of devices, on hosts that reorder accesses.
//!
//! The guest expects that others see its stores in program order, and that its loads are done in that order. On a weaker
//! host every access of translated code would need a barrier for it. With one vCPU only devices' threads share memory
//! with it, and they look at it seldom: so they have the vCPU's thread pass a barrier where it matters to them
//! ([`fence_others`]), and its accesses are plain ([`one_sided`]). Wherever the vCPU's thread is then, what precedes that
//! place in program order has been done, and what follows has not been begun.

use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Some vCPU of this process makes plain accesses.
static ONE_SIDED: AtomicBool = AtomicBool::new(false);

/// Whether accesses of a vCPU may go without barriers from now on, because [`fence_others`] reaches it: the host needs
/// barriers, and has a call by which a thread makes all others of its process pass one.
pub fn one_sided() -> bool {
    let can = sys::prepare();
    if can {
        ONE_SIDED.store(true, Ordering::SeqCst);
    }
    can
}

/// A full barrier for this thread and, if vCPUs rely on it, for all others of the process, wherever they are.
pub fn fence_others() {
    fence(Ordering::SeqCst);
    if ONE_SIDED.load(Ordering::SeqCst) {
        sys::everyone();
    }
}

#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
mod sys {
    use rustix::thread::{MembarrierCommand, membarrier};

    pub fn prepare() -> bool {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
            && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }

    pub fn everyone() {
        // It has worked once, and the kernel gives no reason to fail afterwards.
        membarrier(MembarrierCommand::PrivateExpedited).expect("the barrier that has been registered for");
    }
}

#[cfg(not(all(target_os = "linux", not(target_arch = "x86_64"))))]
mod sys {
    pub fn prepare() -> bool {
        false
    }

    pub fn everyone() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Message passing with relaxed accesses on one side only.
    #[test]
    fn a_barrier_on_one_side_orders_both() {
        one_sided();
        let (data, flag, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|s| {
            s.spawn(|| {
                for n in 1..=20_000u64 {
                    data.store(n, Ordering::Relaxed);
                    // On hosts without the call the writer needs a barrier of its own.
                    if !ONE_SIDED.load(Ordering::Relaxed) {
                        fence(Ordering::Release);
                    }
                    std::sync::atomic::compiler_fence(Ordering::SeqCst);
                    flag.store(n, Ordering::Relaxed);
                }
                stop.store(true, Ordering::Release);
            });
            while !stop.load(Ordering::Acquire) {
                let seen = flag.load(Ordering::Relaxed);
                fence_others();
                assert!(data.load(Ordering::Relaxed) >= seen);
            }
        });
    }
}
