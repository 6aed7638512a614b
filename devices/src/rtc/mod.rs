//! The real-time clock with its CMOS memory, ports 70h-71h, IRQ 8 (Motorola MC146818A; PIIX3 datasheet 4.8).

mod calendar;
mod state;

pub use state::RtcState;

use crate::alarm::Alarm;
use crate::lock::lock;
use emu_core::bus::{Irq, PortDevice};
use emu_core::clock::{Expire, Timers};
use std::sync::{Arc, Mutex, Weak};

/// The real-time clock on the board.
#[derive(Debug)]
pub struct Rtc {
    state: Mutex<RtcState>,
    irq8: Irq,
    alarm: Alarm,
}

impl Rtc {
    /// A clock that shows `unix_seconds` (seconds since 1970, in the time zone the guest is to see) at machine time
    /// zero, and drives `irq8`. The device answers two ports, 70h-71h.
    pub fn new(timers: &Arc<Timers>, irq8: Irq, unix_seconds: i64) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            state: Mutex::new(RtcState::new(unix_seconds)),
            irq8,
            alarm: Alarm::new(timers, this.clone()),
        })
    }

    /// Sets a byte of the CMOS memory, as the factory or an earlier boot would have. Time and control registers
    /// (below 0Eh, and the century) are left alone.
    pub fn set_cmos(&self, index: u8, value: u8) {
        if index >= 0x0e && index != state::CENTURY {
            lock(&self.state).put(index, value);
        }
    }

    /// Stores the memory size where firmware looks for it: RAM below 4 GiB and above, in bytes.
    pub fn set_memory_size(&self, below_4g: u64, above_4g: u64) {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        let words = [
            (0x15, (below_4g / KIB).min(640)),
            (0x17, (below_4g.saturating_sub(MIB) / KIB).min(0xffff)),
            (0x30, (below_4g.saturating_sub(MIB) / KIB).min(0xffff)),
            (0x34, (below_4g.saturating_sub(16 * MIB) / (64 * KIB)).min(0xffff)),
        ];
        for (index, value) in words {
            self.set_cmos(index, value as u8);
            self.set_cmos(index + 1, (value >> 8) as u8);
        }
        let high = above_4g / (64 * KIB);
        for (index, shift) in [(0x5b, 0), (0x5c, 8), (0x5d, 16)] {
            self.set_cmos(index, (high >> shift) as u8);
        }
    }

    /// The RESET pin: no interrupts. The time and the memory stay.
    pub fn reset(&self) {
        self.with(|s, _| s.reset());
    }

    /// A copy of the state.
    pub fn save(&self) -> RtcState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: RtcState) {
        self.with(|s, _| *s = state);
    }

    /// Brings the flags up to date, changes the state, drives the line and arms the timer.
    fn with<R>(&self, f: impl FnOnce(&mut RtcState, u64) -> R) -> R {
        let mut state = lock(&self.state);
        let now = self.alarm.now();
        state.sync(now);
        let result = f(&mut state, now);
        self.irq8.set_level(state.sync(now));
        self.alarm.set(state.due(now));
        result
    }
}

impl Expire for Rtc {
    fn expire(&self, _now: u64) {
        let mut state = lock(&self.state);
        self.alarm.fired();
        let now = self.alarm.now();
        self.irq8.set_level(state.sync(now));
        self.alarm.set(state.due(now));
    }
}

impl PortDevice for Rtc {
    fn port_read(&self, offset: u16, _size: u8) -> u32 {
        // The index register cannot be read.
        if offset == 0 { 0xff } else { self.with(|s, now| s.read(now)).into() }
    }

    fn port_write(&self, offset: u16, size: u8, value: u32) {
        if offset == 0 {
            lock(&self.state).index = value as u8 & 0x7f;
            if size > 1 {
                self.with(|s, now| s.write((value >> 8) as u8, now));
            }
        } else {
            self.with(|s, now| s.write(value as u8, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use emu_core::clock::Clock;

    const SECOND: u64 = 1_000_000_000;
    /// 2024-02-29 23:58:59.
    const START: i64 = 1_709_251_139;

    struct Board {
        timers: Arc<Timers>,
        rtc: Arc<Rtc>,
        irq: Arc<Probe>,
    }

    impl Board {
        fn new() -> Self {
            let timers = Timers::new(Clock::virtual_clock());
            let irq = Probe::new();
            let rtc = Rtc::new(&timers, irq.clone(), START);
            Self { timers, rtc, irq }
        }
        fn read(&self, index: u32) -> u32 {
            self.rtc.port_write(0, 1, index);
            self.rtc.port_read(1, 1)
        }
        fn write(&self, index: u32, value: u32) {
            self.rtc.port_write(0, 1, index);
            self.rtc.port_write(1, 1, value);
        }
        fn run_to(&self, end: u64) {
            while let Some(due) = self.timers.next_due().filter(|&due| due <= end) {
                self.timers.clock().advance_to(due);
                self.timers.run_due();
            }
            self.timers.clock().advance_to(end);
        }
        fn time(&self) -> [u32; 7] {
            [0x32, 9, 8, 7, 4, 2, 0].map(|index| self.read(index))
        }
    }

    #[test]
    fn shows_the_time_in_bcd() {
        let b = Board::new();
        assert_eq!(b.time(), [0x20, 0x24, 0x02, 0x29, 0x23, 0x58, 0x59]);
        b.run_to(61 * SECOND);
        assert_eq!(b.time(), [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]);
        assert_eq!(b.read(6), 6, "a Friday");
        assert_eq!(b.read(0x0d), 0x80);
    }

    #[test]
    fn shows_the_time_in_binary_and_twelve_hours() {
        let b = Board::new();
        b.write(0x0b, 4);
        assert_eq!(b.time(), [0x20, 24, 2, 29, 0x80 | 11, 58, 59]);
    }

    #[test]
    fn set_stops_the_clock_and_starts_it_anew() {
        let b = Board::new();
        b.write(0x0b, 0x82);
        b.run_to(10 * SECOND);
        assert_eq!(b.read(0), 0x59, "stopped");
        for (index, value) in [(0, 0x30), (2, 0x20), (4, 0x10), (7, 0x05), (8, 0x07), (9, 0x30)] {
            b.write(index, value);
        }
        b.write(0x0b, 2);
        assert_eq!(b.time(), [0x20, 0x30, 0x07, 0x05, 0x10, 0x20, 0x30]);
        b.run_to(10 * SECOND + SECOND / 2);
        assert_eq!(b.read(0), 0x31, "half a second to the first update");
    }

    #[test]
    fn uip_warns_of_the_update() {
        let b = Board::new();
        b.run_to(SECOND / 2);
        assert_eq!(b.read(0x0a), 0x26);
        b.run_to(SECOND - 200_000);
        assert_eq!(b.read(0x0a), 0xa6);
        b.run_to(SECOND);
        assert_eq!(b.read(0x0a), 0x26);
    }

    #[test]
    fn the_periodic_interrupt_waits_for_register_c() {
        let b = Board::new();
        b.write(0x0b, 0x42);
        b.run_to(SECOND);
        assert_eq!(b.irq.edges(), 1, "one until C is read");
        assert_eq!(b.read(0x0c) & 0xc0, 0xc0);
        assert!(!b.irq.level());
        let mut count = 0;
        while b.timers.clock().now() < 2 * SECOND {
            b.run_to(b.timers.clock().now() + 100_000);
            count += u32::from(b.read(0x0c) & 0x80 != 0);
        }
        assert!((1023..=1025).contains(&count), "{count}");
    }

    #[test]
    fn update_and_alarm_interrupts() {
        let b = Board::new();
        b.write(0x0b, 0x12);
        b.run_to(SECOND - 1);
        assert!(!b.irq.level());
        b.run_to(SECOND);
        assert!(b.irq.level());
        assert_eq!(b.read(0x0c), 0xd0, "periodic flag too: it is set without its enable");
        b.write(1, 0x05);
        b.write(3, 0xff);
        b.write(5, 0xff);
        b.write(0x0b, 0x22);
        b.read(0x0c);
        b.run_to(6 * SECOND - 1);
        assert!(!b.irq.level());
        b.run_to(6 * SECOND);
        assert_eq!(b.read(0x0c) & 0xa0, 0xa0);
        b.write(5, 0x10);
        b.write(3, 0x99);
        b.run_to(200_000 * SECOND);
        assert_eq!(b.read(0x0c) & 0x80, 0, "minute 99 never comes");
    }

    #[test]
    fn memory_sizes() {
        let b = Board::new();
        b.rtc.set_memory_size(3 << 30, 1 << 30);
        assert_eq!(b.read(0x34) | b.read(0x35) << 8, (0xc000_0000 - 0x100_0000) / 0x1_0000);
        assert_eq!(b.read(0x5b) | b.read(0x5c) << 8 | b.read(0x5d) << 16, 0x4000);
    }

    #[test]
    fn hostile_values_are_harmless() {
        let b = Board::new();
        for value in [0xff, 0x80, 0x7f, 0, 0x26, 0x72] {
            for index in 0..256 {
                b.write(index, value);
                b.read(index);
            }
            b.run_to(b.timers.clock().now() + (1 << 40));
        }
        let mut state = b.rtc.save();
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        b.rtc.restore(state);
    }
}
