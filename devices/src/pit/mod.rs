//! The 8254 interval timer (ports 40h-43h) and system control port B (61h) (Intel 231244-006; ISA system
//! architecture). Counter 0 drives IRQ 0, counter 2 the speaker; counter 1 refreshed memory and leads nowhere.

mod channel;

use crate::alarm::{Alarm, MIN_PERIOD_NS};
use crate::lock::lock;
use channel::Channel;
use emu_core::bus::{Irq, PortDevice};
use emu_core::clock::{Expire, Timers};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, Weak};

/// The clock of the counters in Hz.
pub const PIT_HZ: u64 = 1_193_182;
const NS_PER_SECOND: u128 = 1_000_000_000;

fn ticks(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(PIT_HZ) / NS_PER_SECOND) as u64
}

fn nanoseconds(ticks: u64) -> u64 {
    let ns = (u128::from(ticks) * NS_PER_SECOND).div_ceil(u128::from(PIT_HZ));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// The state of the timer.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct PitState {
    channels: [Channel; 3],
    /// The tick up to which rises of OUT 0 have been signalled.
    signalled: u64,
    /// Bits 0 to 3 of port 61h as written.
    port61: u8,
}

impl Default for PitState {
    fn default() -> Self {
        // The gates of counters 0 and 1 are tied high; that of counter 2 is bit 0 of port 61h.
        let channels = [Channel::new(true), Channel::new(true), Channel::new(false)];
        Self { channels, signalled: 0, port61: 0 }
    }
}

impl PitState {
    fn write_control(&mut self, value: u8, tick: u64) {
        if value >> 6 == 3 {
            // Read-back: bits are active low.
            for (index, channel) in self.channels.iter_mut().enumerate() {
                if value >> (index + 1) & 1 != 0 {
                    if value & 0x20 == 0 {
                        channel.latch_count(tick);
                    }
                    if value & 0x10 == 0 {
                        channel.latch_status(tick);
                    }
                }
            }
            return;
        }
        let channel = &mut self.channels[usize::from(value >> 6)];
        if value & 0x30 == 0 { channel.latch_count(tick) } else { channel.control(value) }
    }

    fn read_port61(&mut self, now: u64) -> u8 {
        let tick = ticks(now);
        self.channels[2].sync(tick);
        // Bit 4 follows the memory refresh request: it changes every 15.085 microseconds.
        let refresh = ((now / 15_085) & 1) as u8;
        self.port61 | refresh << 4 | u8::from(self.channels[2].output(tick)) << 5
    }

    fn write_port61(&mut self, value: u8, tick: u64) {
        self.port61 = value & 0xf;
        self.channels[2].set_gate(value & 1 != 0, tick);
    }

    /// Whether OUT 0 has risen since the last call.
    fn take_rise(&mut self, tick: u64) -> bool {
        let risen = self.channels[0].next_rise(self.signalled).is_some_and(|at| at <= tick);
        self.channels[0].sync(tick);
        self.signalled = tick;
        risen
    }

    /// When OUT 0 rises next, in nanoseconds; short periods coalesce.
    fn due(&self, now: u64) -> Option<u64> {
        let at = nanoseconds(self.channels[0].next_rise(ticks(now))?);
        match self.channels[0].period() {
            Some(period) if nanoseconds(period) < MIN_PERIOD_NS => Some(at.max(now + MIN_PERIOD_NS)),
            _ => Some(at),
        }
    }
}

/// The timer on the board.
#[derive(Debug)]
pub struct Pit {
    state: Mutex<PitState>,
    irq0: Irq,
    alarm: Alarm,
}

impl Pit {
    /// A timer whose counter 0 drives `irq0`. The device itself answers ports 40h-43h.
    pub fn new(timers: &Arc<Timers>, irq0: Irq) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            state: Mutex::default(),
            irq0,
            alarm: Alarm::new(timers, this.clone()),
        })
    }

    /// System control port B, one port at 61h.
    pub fn port61(self: &Arc<Self>) -> Arc<dyn PortDevice> {
        Arc::new(Port61(self.clone()))
    }

    /// The state after power-on.
    pub fn reset(&self) {
        self.restore(PitState::default());
    }

    /// A copy of the state.
    pub fn save(&self) -> PitState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: PitState) {
        let mut held = lock(&self.state);
        *held = state;
        let now = self.alarm.now();
        self.irq0.set_level(held.channels[0].output(ticks(now)));
        self.alarm.set(held.due(now));
    }

    /// Signals a rise of OUT 0 that is due and arms the next.
    fn catch_up(&self, state: &mut PitState, now: u64) {
        if state.take_rise(ticks(now)) {
            self.irq0.set_level(false);
            self.irq0.set_level(true);
        }
    }
}

impl Expire for Pit {
    fn expire(&self, _now: u64) {
        let mut state = lock(&self.state);
        self.alarm.fired();
        let now = self.alarm.now();
        self.catch_up(&mut state, now);
        self.alarm.set(state.due(now));
    }
}

impl PortDevice for Pit {
    fn port_read(&self, offset: u16, _size: u8) -> u32 {
        let mut state = lock(&self.state);
        let now = self.alarm.now();
        let tick = ticks(now);
        self.catch_up(&mut state, now);
        match state.channels.get_mut(usize::from(offset)) {
            Some(channel) => channel.read(tick).into(),
            None => 0xff,
        }
    }

    fn port_write(&self, offset: u16, _size: u8, value: u32) {
        let mut state = lock(&self.state);
        let now = self.alarm.now();
        let tick = ticks(now);
        self.catch_up(&mut state, now);
        match offset {
            0..3 => state.channels[usize::from(offset)].write(value as u8, tick),
            3 => state.write_control(value as u8, tick),
            _ => return,
        }
        self.irq0.set_level(state.channels[0].output(tick));
        self.alarm.set(state.due(now));
    }
}

#[derive(Debug)]
struct Port61(Arc<Pit>);

impl PortDevice for Port61 {
    fn port_read(&self, _offset: u16, _size: u8) -> u32 {
        lock(&self.0.state).read_port61(self.0.alarm.now()).into()
    }

    fn port_write(&self, _offset: u16, _size: u8, value: u32) {
        let tick = ticks(self.0.alarm.now());
        lock(&self.0.state).write_port61(value as u8, tick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use emu_core::clock::Clock;

    fn board() -> (Arc<Timers>, Arc<Pit>, Arc<Probe>) {
        let timers = Timers::new(Clock::virtual_clock());
        let probe = Probe::new();
        let pit = Pit::new(&timers, probe.clone());
        (timers, pit, probe)
    }

    fn run_to(timers: &Timers, end: u64) -> usize {
        let mut fired = 0;
        while let Some(due) = timers.next_due().filter(|&due| due <= end) {
            timers.clock().advance_to(due);
            fired += timers.run_due();
        }
        timers.clock().advance_to(end);
        fired
    }

    #[test]
    fn periodic_mode_ticks_at_the_programmed_rate() {
        let (timers, pit, irq) = board();
        // HZ=100 as Linux programs it: 11932.
        for (port, value) in [(3, 0x34), (0, 0x9c), (0, 0x2e)] {
            pit.port_write(port, 1, value);
        }
        let before = irq.edges();
        run_to(&timers, 1_000_000_000);
        let ticks = irq.edges() - before;
        assert!((99..=100).contains(&ticks), "{ticks}");
    }

    #[test]
    fn a_tiny_reload_is_bounded() {
        let (timers, pit, irq) = board();
        for (port, value) in [(3, 0x14), (0, 1)] {
            pit.port_write(port, 1, value);
        }
        let fired = run_to(&timers, 1_000_000);
        assert!(fired <= 51, "{fired}");
        assert!(irq.edges() >= 40);
    }

    #[test]
    fn one_shot_mode_4_fires_once_per_count() {
        let (timers, pit, irq) = board();
        pit.port_write(3, 1, 0x38);
        let before = irq.edges();
        for _ in 0..2 {
            pit.port_write(0, 1, 0xe8);
            pit.port_write(0, 1, 3);
            let now = timers.clock().now();
            run_to(&timers, now + 10_000_000);
        }
        assert_eq!(irq.edges() - before, 2);
    }

    #[test]
    fn channel_2_is_gated_and_read_through_port_61() {
        let (timers, pit, _) = board();
        let port61 = pit.port61();
        // The way Linux calibrates the TSC: mode 0, 50 ms, poll bit 5.
        port61.port_write(0, 1, 1);
        for (port, value) in [(3, 0xb0), (2, 0x0b), (2, 0xe9)] {
            pit.port_write(port, 1, value);
        }
        assert_eq!(port61.port_read(0, 1) & 0x21, 1);
        timers.clock().advance_to(49_900_000);
        assert_eq!(port61.port_read(0, 1) & 0x20, 0);
        timers.clock().advance_to(50_100_000);
        assert_eq!(port61.port_read(0, 1) & 0x20, 0x20);
    }

    #[test]
    fn hostile_writes_never_panic() {
        let (timers, pit, _) = board();
        for value in 0..=255u32 {
            pit.port_write(3, 1, value);
            for port in 0..5 {
                pit.port_write(port, 4, value);
                pit.port_read(port, 4);
            }
            pit.port61().port_write(0, 1, value);
            let now = timers.clock().now();
            run_to(&timers, now + 100_000);
        }
        run_to(&timers, 1 << 40);
        pit.restore(serde_json::from_str(&serde_json::to_string(&pit.save()).unwrap()).unwrap());
    }
}
