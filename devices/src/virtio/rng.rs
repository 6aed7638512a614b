//! The entropy device (virtio 1.2, section 5.4).

use super::{DeviceKind, Execution, Transport, VirtioDevice, Worker};
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

/// Most bytes given to one request; the driver asks again for more.
const MAX_REQUEST: usize = 4096;

/// Where random bytes come from.
pub trait EntropySource: Send + Sync + Debug {
    /// Fills `buf` with random bytes.
    fn fill(&self, buf: &mut [u8]);
}

#[derive(Debug)]
struct Core {
    source: Arc<dyn EntropySource>,
    transport: OnceLock<Arc<Transport>>,
}

impl Core {
    fn serve(&self) -> bool {
        let Some(session) = self.transport.get().and_then(|transport| transport.enter(0)) else {
            return false;
        };
        let mut buffer = [0; MAX_REQUEST];
        let served = session.serve(|session, chain| {
            let len = chain.writable_len().min(MAX_REQUEST as u64) as usize;
            self.source.fill(&mut buffer[..len]);
            session.write(chain, 0, &buffer[..len])?;
            Ok(len as u32)
        });
        served.unwrap_or(false)
    }
}

/// A source of entropy. It has no configuration and no state.
#[derive(Debug)]
pub struct Rng {
    core: Arc<Core>,
    worker: Worker,
}

impl Rng {
    /// A device that gives out what `source` yields.
    pub fn new(source: Arc<dyn EntropySource>, execution: Execution) -> Arc<Self> {
        let core = Arc::new(Core { source, transport: OnceLock::new() });
        let served = Arc::clone(&core);
        let worker = Worker::new("virtio-rng", execution, move |_| served.serve());
        Arc::new(Self { core, worker })
    }
}

impl VirtioDevice for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: 4, class: 0x00_ff00 }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[8]
    }

    fn attach(&self, transport: Arc<Transport>) {
        let attached = self.core.transport.set(transport).is_ok();
        debug_assert!(attached, "a device has one transport");
    }

    fn notify(&self, queue: u16) {
        self.worker.kick(queue);
    }

    fn reset(&self) {}
}
