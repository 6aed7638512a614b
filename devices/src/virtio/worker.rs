//! Where a device serves its queues: on a thread of its own, woken by doorbells, any number of which make one wake-up.

use crossbeam::channel::{Sender, TryRecvError, TrySendError, bounded};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// On which thread queues are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Execution {
    /// On a thread of the device's own: the vCPU that rings goes on at once.
    #[default]
    Thread,
    /// Inside the doorbell, on the vCPU's thread: deterministic, for virtual time with one processor. A doorbell then
    /// serves at most [`Session::BATCH`](super::Session::BATCH) requests.
    Inline,
}

/// Serves the queues in a bit mask. True if work is left.
type Serve = dyn Fn(u64) -> bool + Send + Sync;

/// Runs a device's service routine.
pub struct Worker {
    /// Queues rung since the routine last ran.
    rung: Arc<AtomicU64>,
    serve: Arc<Serve>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("thread", &self.thread.is_some()).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker whose thread, if any, is called `name`. If the host has no thread to give, serves inline.
    pub fn new(
        name: &str,
        execution: Execution,
        serve: impl Fn(u64) -> bool + Send + Sync + 'static,
    ) -> Self {
        let rung = Arc::new(AtomicU64::new(0));
        let serve: Arc<Serve> = Arc::new(serve);
        let thread = (execution == Execution::Thread).then(|| Self::spawn(name, &rung, &serve)).flatten();
        Self { rung, serve, thread }
    }

    fn spawn(name: &str, rung: &Arc<AtomicU64>, serve: &Arc<Serve>) -> Option<(Sender<()>, JoinHandle<()>)> {
        let (sender, receiver) = bounded(1);
        let (rung, serve) = (Arc::clone(rung), Arc::clone(serve));
        let run = move || {
            while receiver.recv().is_ok() {
                let queues = rung.swap(0, Ordering::AcqRel);
                while serve(queues) {
                    if matches!(receiver.try_recv(), Err(TryRecvError::Disconnected)) {
                        return;
                    }
                }
            }
        };
        match thread::Builder::new().name(name.into()).spawn(run) {
            Ok(handle) => Some((sender, handle)),
            Err(error) => {
                tracing::warn!(%error, name, "no thread for the device; it runs on the processor's");
                None
            }
        }
    }

    /// Rings for queue number `queue` (below 64).
    pub fn kick(&self, queue: u16) {
        self.rung.fetch_or(1 << (queue & 63), Ordering::AcqRel);
        match &self.thread {
            // A full channel means that a wake-up is under way which will see the bit set above.
            Some((sender, _)) => match sender.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            },
            None => {
                let queues = self.rung.swap(0, Ordering::AcqRel);
                (self.serve)(queues);
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some((sender, handle)) = self.thread.take() {
            drop(sender);
            // The last reference to a device may be the one its own worker holds while it completes a reset.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                tracing::error!("a device worker panicked");
            }
        }
    }
}
