//! Where a device's output bytes go: the terminal, a file, or nowhere.
//!
//! Writing happens on a thread of its own, so that a slow terminal holds up the guest only when it is far behind.

use crate::config::Chardev;
use crossbeam::channel::{Receiver, Sender, bounded};
use devices::sink::{ByteSink, NullSink};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Chunks in flight before the guest has to wait.
const DEPTH: usize = 4096;

enum Chunk {
    Bytes(Vec<u8>),
    Flush(Sender<()>),
}

/// A sink in front of a writer thread.
#[derive(Debug)]
pub struct Threaded {
    queue: Mutex<Option<Sender<Chunk>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Threaded {
    fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let (queue, chunks) = bounded(DEPTH);
        let thread =
            std::thread::Builder::new().name("output".into()).spawn(move || write_all(out, &chunks))?;
        Ok(Arc::new(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) }))
    }

    /// Waits until everything written so far is out.
    pub fn flush(&self) {
        let (done, wait) = bounded(1);
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(|e| e.into_inner())
            && queue.send(Chunk::Flush(done)).is_ok()
        {
            let _ = wait.recv();
        }
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take() {
            let _ = thread.join();
        }
    }
}

impl ByteSink for Threaded {
    fn write(&self, bytes: &[u8]) {
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(|e| e.into_inner()) {
            let _ = queue.send(Chunk::Bytes(bytes.to_vec()));
        }
    }
}

/// Writes chunks until the last sender is gone, flushing whenever none waits. Errors lose output, not the guest.
fn write_all(mut out: impl Write, chunks: &Receiver<Chunk>) {
    while let Ok(first) = chunks.recv() {
        let mut next = Some(first);
        let mut waiting = Vec::new();
        while let Some(chunk) = next {
            match chunk {
                Chunk::Bytes(bytes) => {
                    let _ = out.write_all(&bytes);
                }
                Chunk::Flush(done) => waiting.push(done),
            }
            next = chunks.try_recv().ok();
        }
        let _ = out.flush();
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Opens what a command line named. Standard output is shared: ask for it once and pass it as `stdio`.
///
/// # Errors
/// One line that names the file.
pub fn open(dev: &Chardev, stdio: &Arc<Threaded>) -> Result<Arc<dyn ByteSink>, String> {
    match dev {
        Chardev::Stdio => Ok(stdio.clone()),
        Chardev::Null => Ok(Arc::new(NullSink)),
        Chardev::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let sink = file.and_then(|f| Threaded::start(io::BufWriter::new(f)));
            Ok(sink.map_err(|e| format!("cannot write to '{}': {e}", path.display()))?)
        }
    }
}

/// The sink of standard output.
///
/// # Errors
/// When the host gives no thread.
pub fn stdout() -> io::Result<Arc<Threaded>> {
    Threaded::start(io::BufWriter::new(io::stdout()))
}
