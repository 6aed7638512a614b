//! What `--log` can show, and where it goes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// A topic of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Topic {
    /// Guest code of each block when it is translated.
    Guest,
    /// IR of each block, before and after the passes.
    Ir,
    /// Host code of each block.
    Host,
    /// Exceptions and interrupts as they are delivered.
    Int,
    /// CR3 loads, flushes and page faults.
    Paging,
}

/// The sink of log lines.
#[derive(Debug)]
pub struct Log {
    topics: Vec<Topic>,
    file: Option<Mutex<File>>,
}

impl Log {
    /// A log of `topics`, to `path` or to standard error.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn new(topics: Vec<Topic>, path: Option<&Path>) -> std::io::Result<Self> {
        let file = path.map(File::create).transpose()?.map(Mutex::new);
        Ok(Self { topics, file })
    }

    /// Whether lines on `topic` are wanted.
    #[inline]
    pub fn wants(&self, topic: Topic) -> bool {
        !self.topics.is_empty() && self.topics.contains(&topic)
    }

    /// Writes one entry. A full disk or closed pipe loses it.
    pub fn write(&self, text: &str) {
        let _ = match &self.file {
            Some(file) => file.lock().unwrap_or_else(|e| e.into_inner()).write_all(text.as_bytes()),
            None => std::io::stderr().write_all(text.replace('\n', "\r\n").as_bytes()),
        };
    }
}
