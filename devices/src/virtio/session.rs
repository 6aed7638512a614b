//! The right to work on one queue, for as long as it is held.

use super::queue::{Chain, Queue, RingError, RingFeatures};
use super::transport::Transport;
use emu_core::bus::Dma;

/// Work must stop: the ring is broken, or the driver is resetting the device. Nothing is left to do but return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the virtio device was stopped")]
pub struct Stopped;

/// An open session. Resets and pauses wait for it, so it is not held while there is nothing to do.
#[derive(Debug)]
pub struct Session<'a> {
    transport: &'a Transport,
    queue: u16,
    features: u64,
}

impl<'a> Session<'a> {
    /// Most requests [`Session::serve`] serves before it lets go of the session.
    pub const BATCH: usize = 1024;
    /// Completions that may wait for one interrupt while more requests are there.
    const COALESCED: u32 = 8;

    /// For [`Transport::enter`], which has counted the session.
    pub(super) fn new(transport: &'a Transport, queue: u16, features: u64) -> Self {
        Self { transport, queue, features }
    }

    /// The negotiated features.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Does one thing with the queue. The queue is unlocked again before an error is acted upon: that locks the
    /// transport's control, which comes before queues.
    fn with<T>(
        &self,
        act: impl FnOnce(&mut Queue, &dyn Dma, RingFeatures) -> Result<T, RingError>,
    ) -> Result<T, Stopped> {
        let result = {
            let mut queue = self.transport.queue(self.queue);
            act(&mut queue, self.transport.dma(), RingFeatures::from_bits(self.features))
        };
        self.check(result)
    }

    /// Turns a broken rule into `DEVICE_NEEDS_RESET`.
    fn check<T>(&self, result: Result<T, RingError>) -> Result<T, Stopped> {
        result.map_err(|error| {
            self.transport.fail(self.queue, &error);
            Stopped
        })
    }

    /// Fails if the driver is resetting the device. To be called between the chunks of a long request.
    pub fn go_on(&self) -> Result<(), Stopped> {
        if self.transport.is_resetting() { Err(Stopped) } else { Ok(()) }
    }

    /// Takes the next chain. None if there is none, or the session must end.
    pub fn pop(&self) -> Result<Option<Chain>, Stopped> {
        if self.transport.is_stopping() {
            return Ok(None);
        }
        self.with(Queue::pop)
    }

    /// Gives back the chain popped last.
    pub fn unpop(&self, chain: Chain) {
        drop(chain);
        self.transport.queue(self.queue).unpop();
    }

    /// Returns a chain, `written` bytes of whose writable part are filled, without an interrupt yet.
    pub fn push(&self, chain: &Chain, written: u32) -> Result<(), Stopped> {
        self.with(|queue, dma, _| queue.push(dma, chain.head(), written))
    }

    /// Interrupts the driver for what was pushed, if it wants that.
    pub fn signal(&self) -> Result<(), Stopped> {
        let wanted = self.with(|queue, dma, ring| {
            let vector = queue.state().vector;
            Ok(queue.take_signal(dma, ring)?.then_some(vector))
        })?;
        if let Some(vector) = wanted {
            self.transport.interrupt_queue(vector);
        }
        Ok(())
    }

    /// Asks for no doorbells while this session looks at the queue anyway.
    pub fn suppress(&self) -> Result<(), Stopped> {
        self.with(Queue::suppress)
    }

    /// Asks for a doorbell at the next buffer. True if the session can end; false if a buffer is there already and must
    /// be served without a doorbell.
    pub fn rearm(&self) -> Result<bool, Stopped> {
        let empty = self.with(Queue::rearm)?;
        Ok(empty || self.transport.is_stopping())
    }

    /// Reads a chain's readable part.
    pub fn read(&self, chain: &Chain, at: u64, buf: &mut [u8]) -> Result<(), Stopped> {
        self.check(chain.read(self.transport.dma(), at, buf))
    }

    /// Writes a chain's writable part.
    pub fn write(&self, chain: &Chain, at: u64, buf: &[u8]) -> Result<(), Stopped> {
        self.check(chain.write(self.transport.dma(), at, buf))
    }

    /// Serves requests until none is left: `request` returns how many bytes it has written. Interrupts are sent once
    /// for a few completions; a request that will take long calls [`Session::signal`] first. True if the session has
    /// done its share and should be opened anew for the rest.
    pub fn serve(
        &self,
        mut request: impl FnMut(&Self, &Chain) -> Result<u32, Stopped>,
    ) -> Result<bool, Stopped> {
        self.suppress()?;
        let mut unsignalled = 0;
        for _ in 0..Self::BATCH {
            if let Some(chain) = self.pop()? {
                let written = request(self, &chain)?;
                self.push(&chain, written)?;
                unsignalled += 1;
                if unsignalled == Self::COALESCED {
                    unsignalled = 0;
                    self.signal()?;
                }
                continue;
            }
            self.signal()?;
            unsignalled = 0;
            if self.rearm()? {
                return Ok(false);
            }
            self.suppress()?;
        }
        self.signal()?;
        self.rearm()?;
        Ok(true)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.transport.leave();
    }
}
