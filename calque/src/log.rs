//! What `--log` can show, and where it goes.

use emu_core::events::{Event, Listener, Origin};
use emu_core::state::CpuState;
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

    /// Whether exceptions, interrupts or changes of translation are wanted, which a processor tells its listener.
    pub fn listens(&self) -> bool {
        self.wants(Topic::Int) || self.wants(Topic::Paging)
    }

    /// Writes one entry. A full disk or closed pipe loses it.
    pub fn write(&self, text: &str) {
        let _ = match &self.file {
            Some(file) => file.lock().unwrap_or_else(|e| e.into_inner()).write_all(text.as_bytes()),
            None => std::io::stderr().write_all(text.replace('\n', "\r\n").as_bytes()),
        };
    }
}

impl Listener for Log {
    fn event(&self, index: u32, state: &CpuState, event: &Event) {
        if self.wants(Topic::Int) && !matches!(event, Event::LoadCr3(_) | Event::Invlpg(_) | Event::Flush)
            || self.wants(Topic::Paging) && event.is_paging()
        {
            self.write(&line(index, state, event));
        }
    }
}

/// One line: processor, instructions so far, place, and what happens.
fn line(index: u32, s: &CpuState, event: &Event) -> String {
    let what = match event {
        Event::Exception(e) => {
            let mut text = format!("#{:?}", e.vector);
            if e.vector.has_error_code() {
                text += &format!(" error={:#x}", e.error);
            }
            if event.is_paging() {
                text += &format!(" address={:#x}", e.cr2);
            }
            text
        }
        Event::Interrupt { vector, origin: Origin::External } => format!("interrupt {vector:#04x}"),
        Event::Interrupt { origin: Origin::Nmi, .. } => "NMI".into(),
        Event::Interrupt { vector, origin: Origin::Software } => format!("INT {vector:#04x}"),
        Event::LoadCr3(value) => format!("CR3={value:#x}, was {:#x}", s.cr3),
        Event::Invlpg(lin) => format!("INVLPG {lin:#x}"),
        Event::Flush => "all translations dropped".into(),
    };
    format!("cpu{index} {:>12} {:04x}:{:#x} CPL {}: {what}\n", s.icount, s.seg[1].sel, s.rip, s.cpl())
}

#[cfg(test)]
mod tests {
    use super::*;
    use emu_core::fault::{Exception, Vector};

    fn logged(topics: Vec<Topic>, events: &[Event]) -> String {
        let folder = std::env::temp_dir().join(format!("calque-log-{}-{}", std::process::id(), topics.len()));
        let log = Log::new(topics, Some(&folder)).expect("a temporary file");
        let mut state = CpuState::reset();
        state.icount = 7;
        for event in events {
            log.event(0, &state, event);
        }
        let text = std::fs::read_to_string(&folder).expect("what was written");
        std::fs::remove_file(folder).expect("removed");
        text
    }

    #[test]
    fn each_topic_has_its_events() {
        let mut fault = Exception::with_error(Vector::PF, 2);
        fault.cr2 = 0x1234;
        let events = [
            Event::Exception(fault),
            Event::Interrupt { vector: 0x30, origin: Origin::External },
            Event::LoadCr3(0x5000),
        ];
        let paging = logged(vec![Topic::Paging], &events);
        let lines: Vec<_> = paging.lines().collect();
        assert_eq!(lines.len(), 2, "{paging}");
        assert!(lines[0].ends_with("f000:0xfff0 CPL 0: #PF error=0x2 address=0x1234"), "{paging}");
        assert!(lines[1].ends_with("CR3=0x5000, was 0x0"), "{paging}");
        let both = logged(vec![Topic::Int, Topic::Paging], &events);
        assert_eq!(both.lines().count(), 3, "{both}");
        assert!(both.contains("interrupt 0x30"), "{both}");
    }
}
