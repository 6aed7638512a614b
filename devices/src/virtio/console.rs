//! The console device (virtio 1.2, section 5.3), with one port.
//!
//! Both directions push back. Input beyond [`Console::INPUT_LIMIT`] is refused until the guest has read some; output
//! that the sink does not take stays in the guest's buffer, which is returned only when all of it is taken.

use super::{DeviceKind, Execution, Session, Stopped, Transport, VirtioDevice, Worker};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const CHUNK: usize = 4096;

/// Feature bits (5.3.3).
mod bit {
    pub const SIZE: u64 = 1 << 0;
    pub const EMERG_WRITE: u64 = 1 << 2;
}

/// Offset of the emergency write register (5.3.4).
const EMERG_WR: u32 = 8;

/// Takes the guest's output. Must neither block for long nor call the device back.
pub trait ConsoleSink: Send + Sync + Debug {
    /// Takes some of `bytes` from the front and returns how many. A sink that takes fewer calls for
    /// [`Console::sink_ready`] when it has room again.
    fn write(&self, bytes: &[u8]) -> usize;
    /// Input was read by the guest: `room` more bytes can be pushed now.
    fn input_room(&self, room: usize) {
        let _ = room;
    }
}

/// State for a snapshot, beside the transport's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleState {
    /// Input the guest has not read.
    pub input: Vec<u8>,
    /// Bytes of the guest's next output buffer that the sink has already.
    pub sent: u64,
    /// Columns of the terminal.
    pub columns: u16,
    /// Rows of the terminal.
    pub rows: u16,
}

#[derive(Debug)]
struct Core {
    sink: Arc<dyn ConsoleSink>,
    /// Locked while the receive queue is served, so that input keeps its order.
    input: Mutex<VecDeque<u8>>,
    /// Locked while the transmit queue is served.
    output: Mutex<()>,
    sent: AtomicU64,
    /// Columns below rows.
    size: AtomicU32,
    transport: OnceLock<Arc<Transport>>,
}

impl Core {
    fn enter(&self, queue: u16) -> Option<Session<'_>> {
        self.transport.get()?.enter(queue)
    }

    fn input(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, queues: u64) -> bool {
        let mut more = false;
        if queues >> RECEIVE & 1 != 0 {
            let room = {
                let mut input = self.input();
                let before = input.len();
                if let Some(session) = self.enter(RECEIVE) {
                    more = Self::receive(&session, &mut input).unwrap_or(false);
                }
                (input.len() < before).then(|| Console::INPUT_LIMIT - input.len())
            };
            if let Some(room) = room {
                self.sink.input_room(room);
            }
        }
        if queues >> TRANSMIT & 1 != 0 {
            let _order = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            more |= self.enter(TRANSMIT).is_some_and(|session| self.transmit(&session).unwrap_or(false));
        }
        more
    }

    /// Fills the driver's buffers with input. Doorbells are wanted only while input waits for buffers.
    fn receive(session: &Session<'_>, input: &mut VecDeque<u8>) -> Result<bool, Stopped> {
        session.suppress()?;
        for _ in 0..Session::BATCH {
            if input.is_empty() {
                break;
            }
            let Some(chain) = session.pop()? else {
                session.signal()?;
                if session.rearm()? {
                    return Ok(false);
                }
                session.suppress()?;
                continue;
            };
            let len = (input.len() as u64).min(chain.writable_len()) as usize;
            let bytes = &input.make_contiguous()[..len];
            session.write(&chain, 0, bytes)?;
            input.drain(..len);
            session.push(&chain, len as u32)?;
        }
        session.signal()?;
        if !input.is_empty() {
            session.rearm()?;
        }
        Ok(!input.is_empty())
    }

    /// Hands the driver's buffers to the sink until it takes no more.
    fn transmit(&self, session: &Session<'_>) -> Result<bool, Stopped> {
        session.suppress()?;
        let mut buffer = [0; CHUNK];
        for _ in 0..Session::BATCH {
            let Some(chain) = session.pop()? else {
                session.signal()?;
                if session.rearm()? {
                    return Ok(false);
                }
                session.suppress()?;
                continue;
            };
            let mut sent = self.sent.load(Ordering::Relaxed);
            while sent < chain.readable_len() {
                session.go_on()?;
                let len = (chain.readable_len() - sent).min(CHUNK as u64) as usize;
                session.read(&chain, sent, &mut buffer[..len])?;
                let taken = self.sink.write(&buffer[..len]).min(len);
                sent += taken as u64;
                if taken < len {
                    self.sent.store(sent, Ordering::Relaxed);
                    session.unpop(chain);
                    session.signal()?;
                    return Ok(false);
                }
            }
            self.sent.store(0, Ordering::Relaxed);
            session.push(&chain, 0)?;
        }
        session.signal()?;
        session.rearm()?;
        Ok(true)
    }
}

/// A console.
#[derive(Debug)]
pub struct Console {
    core: Arc<Core>,
    worker: Worker,
}

impl Console {
    /// Most bytes of input that wait for the guest.
    pub const INPUT_LIMIT: usize = 64 << 10;

    /// A console of 80 by 25 characters whose output goes to `sink`.
    pub fn new(sink: Arc<dyn ConsoleSink>, execution: Execution) -> Arc<Self> {
        let core = Arc::new(Core {
            sink,
            input: Mutex::default(),
            output: Mutex::default(),
            sent: AtomicU64::new(0),
            size: AtomicU32::new(25 << 16 | 80),
            transport: OnceLock::new(),
        });
        let served = Arc::clone(&core);
        let worker = Worker::new("virtio-console", execution, move |queues| served.serve(queues));
        Arc::new(Self { core, worker })
    }

    /// Types `bytes`; returns how many fit, from the front.
    pub fn push_input(&self, bytes: &[u8]) -> usize {
        let taken = {
            let mut input = self.core.input();
            let taken = bytes.len().min(Self::INPUT_LIMIT - input.len());
            input.extend(&bytes[..taken]);
            taken
        };
        self.worker.kick(RECEIVE);
        taken
    }

    /// The sink has room again.
    pub fn sink_ready(&self) {
        self.worker.kick(TRANSMIT);
    }

    /// Tells the guest the size of the terminal.
    pub fn set_size(&self, columns: u16, rows: u16) {
        self.core.size.store(u32::from(rows) << 16 | u32::from(columns), Ordering::Relaxed);
        if let Some(transport) = self.core.transport.get() {
            transport.config_changed();
        }
    }

    /// The state for a snapshot. The transport must be paused.
    pub fn save(&self) -> ConsoleState {
        let size = self.core.size.load(Ordering::Relaxed);
        ConsoleState {
            input: self.core.input().iter().copied().collect(),
            sent: self.core.sent.load(Ordering::Relaxed),
            columns: size as u16,
            rows: (size >> 16) as u16,
        }
    }

    /// Takes a snapshot's state; input beyond the limit is cut off.
    pub fn restore(&self, state: &ConsoleState) {
        let len = state.input.len().min(Self::INPUT_LIMIT);
        *self.core.input() = state.input[..len].iter().copied().collect();
        self.core.sent.store(state.sent, Ordering::Relaxed);
        self.core.size.store(u32::from(state.rows) << 16 | u32::from(state.columns), Ordering::Relaxed);
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: 3, class: 0x07_8000 }
    }

    fn features(&self) -> u64 {
        bit::SIZE | bit::EMERG_WRITE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[128, 128]
    }

    fn config_len(&self) -> u32 {
        12
    }

    fn config_read(&self, offset: u32, buf: &mut [u8]) {
        let mut config = [0; 12];
        config[..4].copy_from_slice(&self.core.size.load(Ordering::Relaxed).to_le_bytes());
        config[4..8].copy_from_slice(&1u32.to_le_bytes()); // max_nr_ports
        buf.copy_from_slice(&config[offset as usize..][..buf.len()]);
    }

    fn config_write(&self, offset: u32, data: &[u8], _features: u64) {
        // Allowed at any time, even before negotiation (5.3.4.1). There is nobody to retry for if the sink is full.
        if let (EMERG_WR, [byte, ..]) = (offset, data) {
            self.core.sink.write(&[*byte]);
        }
    }

    fn attach(&self, transport: Arc<Transport>) {
        let attached = self.core.transport.set(transport).is_ok();
        debug_assert!(attached, "a device has one transport");
    }

    fn notify(&self, queue: u16) {
        self.worker.kick(queue);
    }

    /// Input typed before the driver came up is kept for it.
    fn reset(&self) {
        self.core.sent.store(0, Ordering::Relaxed);
    }
}
