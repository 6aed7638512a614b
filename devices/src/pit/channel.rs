//! One counter of the 8254, as a function of the time in ticks of its clock.
//!
//! Nothing counts: a counter is the tick at which it was loaded and what it was loaded with, and every output is
//! computed from the present tick (Intel 231244-006, "Mode definitions"). Counts load at the write, not one tick
//! later.

use serde::{Deserialize, Serialize};

/// Which half of the 16-bit count a byte access takes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Access {
    Low,
    High,
    #[default]
    Both,
}

/// One counter.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Channel {
    /// 0 to 5.
    mode: u8,
    access: Access,
    bcd: bool,
    gate: bool,
    /// What is counted, 1 to 10000h; None until a count is written.
    count: Option<u32>,
    /// The tick at which counting began; None in modes 1 and 5 until the gate triggers.
    start: Option<u64>,
    /// Ticks counted when the gate stopped the counter.
    held: Option<u64>,
    /// A count written to a running periodic counter, and the tick it takes effect.
    next: Option<(u32, u64)>,
    low_written: Option<u8>,
    read_high: bool,
    latch: Option<u16>,
    status_latch: Option<u8>,
}

impl Channel {
    /// A counter without a count.
    pub fn new(gate: bool) -> Self {
        Self {
            mode: 0,
            access: Access::Both,
            bcd: false,
            gate,
            count: None,
            start: None,
            held: None,
            next: None,
            low_written: None,
            read_high: false,
            latch: None,
            status_latch: None,
        }
    }

    fn periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    fn triggered(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// Puts a pending count into effect.
    pub fn sync(&mut self, tick: u64) {
        if let Some((count, at)) = self.next
            && tick >= at
        {
            self.count = Some(count);
            self.start = Some(at);
            self.next = None;
        }
    }

    /// The count in effect and the ticks since it was loaded, if the counter has been started.
    fn progress(&self, tick: u64) -> Option<(u64, u64)> {
        let count = u64::from(self.count?.max(1));
        let done = match self.held {
            Some(done) => done,
            None => tick.saturating_sub(self.start?),
        };
        Some((count, done))
    }

    /// Level of OUT.
    pub fn output(&self, tick: u64) -> bool {
        let Some((count, done)) = self.progress(tick) else { return self.mode != 0 };
        match self.mode {
            0 | 1 => done >= count,
            2 => !self.gate || done % count != count - 1 || count == 1,
            3 => !self.gate || done % count < count.div_ceil(2),
            _ => done != count,
        }
    }

    /// The first tick after `tick` at which OUT rises, unless something is written before.
    pub fn next_rise(&self, tick: u64) -> Option<u64> {
        let (count, done) = self.progress(tick)?;
        if self.held.is_some() || (self.periodic() && !self.gate) {
            return None;
        }
        let start = self.start?;
        match self.mode {
            0 | 1 => (done < count).then(|| start.saturating_add(count)),
            2 | 3 => Some(start.saturating_add((done / count + 1).saturating_mul(count))),
            _ => (done <= count).then(|| start.saturating_add(count + 1)),
        }
    }

    /// The period in ticks if OUT goes on rising by itself.
    pub fn period(&self) -> Option<u64> {
        self.count.filter(|_| self.periodic()).map(u64::from)
    }

    /// The counting element as it is read.
    fn counter(&self, tick: u64) -> u16 {
        let modulus = u64::from(self.modulus());
        let value = match self.progress(tick) {
            None => u64::from(self.count.unwrap_or(0)) % modulus,
            Some((count, done)) => match self.mode {
                2 => count - done % count,
                // Counts down by two, in both halves of the square wave.
                3 => (count - (done % count.div_ceil(2)) * 2 % count) & !1,
                _ => (count % modulus + modulus - done % modulus) % modulus,
            },
        };
        let value = (value % modulus) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    /// Level of GATE changes.
    pub fn set_gate(&mut self, gate: bool, tick: u64) {
        self.sync(tick);
        if std::mem::replace(&mut self.gate, gate) == gate {
            return;
        }
        match (self.mode, gate) {
            (0 | 4, false) => self.held = self.progress(tick).map(|(_, done)| done),
            (0 | 4, true) => {
                if let Some(done) = self.held.take() {
                    self.start = Some(tick.saturating_sub(done));
                }
            }
            (_, true) if self.count.is_some() => {
                self.start = Some(tick);
                self.held = None;
            }
            (2 | 3, false) => self.held = self.progress(tick).map(|(_, done)| done),
            _ => {}
        }
    }

    /// A control word for this counter (RW bits not zero).
    pub fn control(&mut self, value: u8) {
        let mode = value >> 1 & 7;
        *self = Self {
            mode: if mode > 5 { mode & 3 } else { mode },
            access: match value >> 4 & 3 {
                1 => Access::Low,
                2 => Access::High,
                _ => Access::Both,
            },
            bcd: value & 1 != 0,
            ..Self::new(self.gate)
        };
    }

    /// The counter latch command.
    pub fn latch_count(&mut self, tick: u64) {
        self.sync(tick);
        if self.latch.is_none() {
            self.latch = Some(self.counter(tick));
        }
    }

    /// The read-back command's status latch.
    pub fn latch_status(&mut self, tick: u64) {
        self.sync(tick);
        if self.status_latch.is_none() {
            let access = match self.access {
                Access::Low => 1,
                Access::High => 2,
                Access::Both => 3,
            };
            self.status_latch = Some(
                u8::from(self.output(tick)) << 7
                    | u8::from(self.count.is_none()) << 6
                    | access << 4
                    | self.mode << 1
                    | u8::from(self.bcd),
            );
        }
    }

    /// A read of the counter's port.
    pub fn read(&mut self, tick: u64) -> u8 {
        self.sync(tick);
        if let Some(status) = self.status_latch.take() {
            return status;
        }
        let value = self.latch.unwrap_or_else(|| self.counter(tick));
        let (high, last) = match self.access {
            Access::Low => (false, true),
            Access::High => (true, true),
            Access::Both => {
                self.read_high = !self.read_high;
                (!self.read_high, !self.read_high)
            }
        };
        if last {
            self.latch = None;
        }
        if high { (value >> 8) as u8 } else { value as u8 }
    }

    /// A write of the counter's port.
    pub fn write(&mut self, value: u8, tick: u64) {
        self.sync(tick);
        let raw = match self.access {
            Access::Low => u16::from(value),
            Access::High => u16::from(value) << 8,
            Access::Both => match self.low_written.take() {
                None => {
                    self.low_written = Some(value);
                    if self.mode == 0 {
                        // The first byte stops the count in mode 0.
                        self.count = None;
                    }
                    return;
                }
                Some(low) => u16::from_le_bytes([low, value]),
            },
        };
        let raw = if self.bcd { from_bcd(raw) } else { u32::from(raw) };
        let count = if raw == 0 { self.modulus() } else { raw };
        if self.periodic()
            && self.held.is_none()
            && let Some((old, done)) = self.progress(tick)
        {
            // A running periodic counter finishes its period first.
            self.next = Some((count, tick.saturating_add(old - done % old)));
            return;
        }
        let first = self.count.is_none();
        self.count = Some(count);
        if self.triggered() {
            return;
        }
        if self.held.is_some() || !self.gate {
            self.held = Some(0);
        }
        if first || !self.periodic() {
            self.start = Some(tick);
        }
    }
}

fn to_bcd(value: u16) -> u16 {
    [1, 10, 100, 1000].iter().rev().fold(0, |bcd, digit| bcd << 4 | (value / digit % 10))
}

fn from_bcd(value: u16) -> u32 {
    [12, 8, 4, 0].iter().fold(0, |sum, shift| sum * 10 + u32::from(value >> shift & 15)) % 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(control: u8, count: u16) -> Channel {
        let mut channel = Channel::new(true);
        channel.control(control);
        channel.write(count as u8, 0);
        channel.write((count >> 8) as u8, 0);
        channel
    }

    fn read16(channel: &mut Channel, tick: u64) -> u16 {
        u16::from_le_bytes([channel.read(tick), channel.read(tick)])
    }

    #[test]
    fn mode_0_rises_once_at_terminal_count() {
        let mut c = channel(0x30, 100);
        assert!(!c.output(99));
        assert!(c.output(100));
        assert_eq!(c.next_rise(0), Some(100));
        assert_eq!(c.next_rise(100), None);
        assert_eq!(read16(&mut c, 40), 60);
        assert_eq!(read16(&mut c, 101), 0xffff, "goes on counting");
    }

    #[test]
    fn mode_2_reloads() {
        let mut c = channel(0x34, 10);
        assert!(c.output(8) && !c.output(9) && c.output(10));
        assert_eq!(c.next_rise(10), Some(20));
        assert_eq!(read16(&mut c, 0), 10);
        assert_eq!(read16(&mut c, 19), 1);
    }

    #[test]
    fn mode_3_is_a_square_wave() {
        let mut c = channel(0x36, 10);
        assert!(c.output(4) && !c.output(5) && !c.output(9) && c.output(10));
        assert_eq!(read16(&mut c, 1), 8);
        assert_eq!(read16(&mut c, 6), 8);
        let odd = channel(0x36, 3);
        assert!(odd.output(1) && !odd.output(2));
    }

    #[test]
    fn mode_4_strobes_low_for_one_tick() {
        let c = channel(0x38, 5);
        assert!(c.output(4) && !c.output(5) && c.output(6));
        assert_eq!(c.next_rise(0), Some(6));
        assert_eq!(c.next_rise(6), None);
    }

    #[test]
    fn the_gate_triggers_modes_1_and_5() {
        for (control, low_at) in [(0x32, 3), (0x3a, 5)] {
            let mut c = channel(control, 5);
            assert!(c.output(50));
            c.set_gate(false, 50);
            c.set_gate(true, 100);
            assert!(!c.output(100 + low_at));
            assert!(c.output(106));
        }
    }

    #[test]
    fn the_gate_stops_mode_0() {
        let mut c = channel(0x30, 100);
        c.set_gate(false, 40);
        assert_eq!(c.next_rise(50), None);
        assert_eq!(read16(&mut c, 1000), 60);
        c.set_gate(true, 1000);
        assert_eq!(c.next_rise(1000), Some(1060));
    }

    #[test]
    fn a_count_written_with_the_gate_low_waits() {
        let mut c = Channel::new(false);
        c.control(0xb0);
        c.write(50, 0);
        c.write(0, 0);
        assert!(!c.output(1000));
        c.set_gate(true, 1000);
        assert!(!c.output(1049));
        assert!(c.output(1050));
    }

    #[test]
    fn latch_holds_both_bytes() {
        let mut c = channel(0x34, 0x1000);
        c.latch_count(1);
        c.latch_count(0x500);
        assert_eq!(read16(&mut c, 0x600), 0xfff);
        assert_eq!(read16(&mut c, 0x600), 0xa00);
    }

    #[test]
    fn status_reports_mode_and_output() {
        let mut c = channel(0x36, 10);
        c.latch_status(6);
        assert_eq!(c.read(6), 0x36);
        c.control(0x36);
        c.latch_status(6);
        assert_eq!(c.read(6), 0xf6, "null count, OUT high");
    }

    #[test]
    fn zero_means_the_full_modulus_and_bcd_counts_in_tens() {
        assert_eq!(channel(0x30, 0).next_rise(0), Some(0x1_0000));
        let mut c = channel(0x31, 0x0100);
        assert_eq!(c.next_rise(0), Some(100));
        assert_eq!(read16(&mut c, 1), 0x99);
        assert_eq!(channel(0x31, 0).next_rise(0), Some(10_000));
    }

    #[test]
    fn a_new_count_takes_effect_at_the_end_of_the_period() {
        let mut c = channel(0x34, 100);
        c.write(10, 30);
        c.write(0, 30);
        assert_eq!(c.next_rise(30), Some(100));
        c.sync(100);
        assert_eq!(c.next_rise(100), Some(110));
    }
}
