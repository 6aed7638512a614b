//! Wiring of interrupt lines: one output to many inputs, many outputs to one input.

use crate::lock::lock;
use emu_core::bus::{Irq, IrqLine};
use std::sync::{Arc, Mutex};

/// An output that leads to several inputs, such as an ISA interrupt to the 8259 and to the I/O APIC.
#[derive(Debug)]
pub struct FanOut(Vec<Irq>);

impl FanOut {
    /// A line that drives all of `inputs`.
    pub fn new(inputs: Vec<Irq>) -> Arc<Self> {
        Arc::new(Self(inputs))
    }
}

impl IrqLine for FanOut {
    fn set_level(&self, level: bool) {
        for input in &self.0 {
            input.set_level(level);
        }
    }
}

/// A wired OR: the output is high while any of its inputs is.
#[derive(Debug)]
pub struct WiredOr {
    output: Irq,
    high: Mutex<Inputs>,
}

#[derive(Debug, Default)]
struct Inputs {
    levels: Vec<bool>,
    high: usize,
}

impl WiredOr {
    /// A wired OR in front of `output`.
    pub fn new(output: Irq) -> Arc<Self> {
        Arc::new(Self { output, high: Mutex::default() })
    }

    /// One more input, low.
    pub fn input(self: &Arc<Self>) -> Irq {
        let mut inputs = lock(&self.high);
        inputs.levels.push(false);
        Arc::new(WiredOrInput { or: self.clone(), index: inputs.levels.len() - 1 })
    }
}

#[derive(Debug)]
struct WiredOrInput {
    or: Arc<WiredOr>,
    index: usize,
}

impl IrqLine for WiredOrInput {
    fn set_level(&self, level: bool) {
        let mut inputs = lock(&self.or.high);
        if std::mem::replace(&mut inputs.levels[self.index], level) == level {
            return;
        }
        let before = inputs.high != 0;
        if level {
            inputs.high += 1;
        } else {
            inputs.high -= 1;
        }
        if (inputs.high != 0) != before {
            self.or.output.set_level(level);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A line that remembers its level and counts rising edges.
    #[derive(Debug, Default)]
    pub(crate) struct Probe {
        level: AtomicBool,
        edges: AtomicUsize,
    }

    impl Probe {
        pub(crate) fn new() -> Arc<Self> {
            Arc::default()
        }
        pub(crate) fn level(&self) -> bool {
            self.level.load(Ordering::Relaxed)
        }
        pub(crate) fn edges(&self) -> usize {
            self.edges.load(Ordering::Relaxed)
        }
    }

    impl IrqLine for Probe {
        fn set_level(&self, level: bool) {
            if !self.level.swap(level, Ordering::Relaxed) && level {
                self.edges.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Probe;
    use super::*;

    #[test]
    fn a_wired_or_is_high_while_any_input_is() {
        let probe = Probe::new();
        let or = WiredOr::new(probe.clone());
        let (a, b) = (or.input(), or.input());
        a.set_level(true);
        b.set_level(true);
        a.set_level(false);
        assert!(probe.level());
        b.set_level(false);
        b.set_level(false);
        assert!(!probe.level());
        assert_eq!(probe.edges(), 1);
    }

    #[test]
    fn a_fan_out_drives_all() {
        let (a, b) = (Probe::new(), Probe::new());
        FanOut::new(vec![a.clone(), b.clone()]).pulse();
        assert_eq!((a.edges(), b.edges()), (1, 1));
    }
}
