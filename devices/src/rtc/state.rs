//! The registers of the MC146818 and the moments at which its interrupt flags are set.
//!
//! Nothing ticks: the time of day is the machine clock plus an offset, and the flags are brought up to date at each
//! access and at each expiry by looking at what lies between then and now.

use super::calendar::{Moment, decode, decode_hour, encode, encode_hour};
use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000_000;
/// How long before an update UIP is set: 244 microseconds.
const UPDATE_WARNING: u64 = 244_141;
/// Don't-care codes of the alarm registers are C0h to FFh.
const ANY: u8 = 0xc0;

pub(super) const REG_A: u8 = 0x0a;
pub(super) const REG_B: u8 = 0x0b;
pub(super) const REG_C: u8 = 0x0c;
pub(super) const REG_D: u8 = 0x0d;
/// The century, where the FADT says it is.
pub(super) const CENTURY: u8 = 0x32;

const B_SET: u8 = 0x80;
const B_BINARY: u8 = 4;
const B_24H: u8 = 2;
/// Interrupt enables in B and flags in C: periodic, alarm, update.
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE: u8 = 0x10;
const IRQF: u8 = 0x80;

/// The state of the RTC.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct RtcState {
    pub(super) index: u8,
    /// The 128 bytes. The time registers are current only while the clock is stopped.
    cmos: Vec<u8>,
    /// Seconds since 1970 at machine time `origin`.
    base: i64,
    origin: u64,
    /// Flags are up to date to this machine time.
    seen: u64,
}

impl RtcState {
    pub(super) fn new(unix_seconds: i64) -> Self {
        let mut cmos = vec![0; 128];
        cmos[usize::from(REG_A)] = 0x26;
        cmos[usize::from(REG_B)] = B_24H;
        cmos[usize::from(REG_D)] = 0x80;
        Self { index: 0, cmos, base: unix_seconds, origin: 0, seen: 0 }
    }

    /// The RESET pin clears the interrupt enables and flags.
    pub(super) fn reset(&mut self) {
        self.put(REG_B, self.at(REG_B) & !(PERIODIC | ALARM | UPDATE));
        self.put(REG_C, 0);
        self.index = 0;
    }

    fn at(&self, index: u8) -> u8 {
        self.cmos.get(usize::from(index & 0x7f)).copied().unwrap_or(0)
    }

    pub(super) fn put(&mut self, index: u8, value: u8) {
        if let Some(byte) = self.cmos.get_mut(usize::from(index & 0x7f)) {
            *byte = value;
        }
    }

    fn b(&self, bit: u8) -> bool {
        self.at(REG_B) & bit != 0
    }

    /// Whether the divider runs and SET does not stop the updates.
    fn running(&self) -> bool {
        !self.b(B_SET) && self.at(REG_A) >> 4 & 7 == 2
    }

    /// Whole seconds and the rest in nanoseconds since the epoch of the clock.
    fn elapsed(&self, now: u64) -> (u64, u64) {
        let ns = now.saturating_sub(self.origin);
        (ns / SECOND, ns % SECOND)
    }

    fn unix(&self, now: u64) -> i64 {
        self.base.saturating_add_unsigned(self.elapsed(now).0)
    }

    fn time_register(&self, index: u8, moment: Moment) -> u8 {
        let (binary, hours24) = (self.b(B_BINARY), self.b(B_24H));
        match index {
            0 => encode(moment.second, binary),
            2 => encode(moment.minute, binary),
            4 => encode_hour(moment.hour, binary, hours24),
            6 => encode(moment.weekday, binary),
            7 => encode(moment.day, binary),
            8 => encode(moment.month, binary),
            9 => encode((moment.year % 100) as u8, binary),
            // The century is BCD whatever the data mode says.
            _ => encode((moment.year / 100) as u8, false),
        }
    }

    /// Stores the time of day in the registers, where a guest that sets the clock edits it.
    fn store_time(&mut self, now: u64) {
        let moment = Moment::from_unix(self.unix(now));
        for index in [0, 2, 4, 6, 7, 8, 9, CENTURY] {
            self.put(index, self.time_register(index, moment));
        }
    }

    /// Makes the registers the time of day. The first update comes half a second later (MC146818A, "divider").
    fn load_time(&mut self, now: u64, keep_fraction: bool) {
        let (binary, hours24) = (self.b(B_BINARY), self.b(B_24H));
        let number = |index| decode(self.at(index), binary);
        let year = u16::from(decode(self.at(CENTURY), false)) * 100 + u16::from(number(9));
        let moment = Moment {
            second: number(0),
            minute: number(2),
            hour: decode_hour(self.at(4), binary, hours24),
            weekday: 1,
            day: number(7),
            month: number(8),
            year,
        };
        self.base = moment.to_unix();
        let fraction = if keep_fraction { self.elapsed(now).1 } else { SECOND / 2 };
        // Before machine time has reached the fraction, the clock simply starts at zero.
        self.origin = now.saturating_sub(fraction);
        self.seen = now;
    }

    /// Nanoseconds of `periods` of the periodic interrupt, or None if it is off.
    fn periodic_rate(&self) -> Option<u64> {
        match self.at(REG_A) & 15 {
            0 => None,
            // 1 and 2 are 256 and 128 Hz, the same as 8 and 9.
            rate @ 1..=2 => Some(u64::from(rate) + 6),
            rate => Some(u64::from(rate) - 1),
        }
    }

    /// How many periodic edges there have been since power-on: the divider runs at 32768 Hz.
    fn periodic_edges(&self, now: u64, shift: u64) -> u64 {
        (u128::from(now) * 32_768 / u128::from(SECOND)) as u64 >> shift
    }

    fn next_periodic(&self, now: u64) -> Option<u64> {
        let shift = self.periodic_rate()?;
        let edge = u128::from(self.periodic_edges(now, shift) + 1) << shift;
        u64::try_from((edge * u128::from(SECOND)).div_ceil(32_768)).ok()
    }

    fn next_update(&self, now: u64) -> Option<u64> {
        self.running().then(|| now.saturating_add(SECOND - self.elapsed(now).1))
    }

    /// Seconds after the one at `now` until the alarm registers match: at most a day; None if they never do.
    fn seconds_to_alarm(&self, now: u64) -> Option<u64> {
        let (binary, hours24) = (self.b(B_BINARY), self.b(B_24H));
        let field = |index: u8| Some(self.at(index)).filter(|&value| value < ANY);
        let second = field(1).map(|v| i64::from(decode(v, binary)));
        let minute = field(3).map(|v| i64::from(decode(v, binary)));
        let hour =
            Some(self.at(5)).filter(|v| v & ANY != ANY).map(|v| decode_hour(v, binary, hours24).into());
        let first = self.unix(now).saturating_add(1).rem_euclid(86_400);
        let mut at = first;
        // Skips to the next hour, minute or second that can match: 24 + 60 + 60 steps, and as many past midnight.
        while at < first + 86_400 {
            let (h, m, s) = (at / 3600 % 24, at / 60 % 60, at % 60);
            if hour.is_some_and(|hour: i64| hour != h) {
                at = (at / 3600 + 1) * 3600;
            } else if minute.is_some_and(|minute| minute != m) {
                at = (at / 60 + 1) * 60;
            } else if second.is_some_and(|second| second != s) {
                at += 1;
            } else {
                return Some((at - first) as u64 + 1);
            }
        }
        None
    }

    fn next_alarm(&self, now: u64) -> Option<u64> {
        let update = self.next_update(now)?;
        Some(update.saturating_add((self.seconds_to_alarm(now)? - 1).saturating_mul(SECOND)))
    }

    /// Sets the flags for everything between the last call and `now`. Returns the level of the interrupt line.
    pub(super) fn sync(&mut self, now: u64) -> bool {
        let mut flags = self.at(REG_C);
        let passed = |at: Option<u64>| at.is_some_and(|at| at <= now);
        let seen = self.seen;
        for (flag, at) in [
            (PERIODIC, self.next_periodic(seen)),
            (ALARM, self.next_alarm(seen)),
            (UPDATE, self.next_update(seen)),
        ] {
            if passed(at) {
                flags |= flag;
            }
        }
        self.seen = self.seen.max(now);
        flags &= PERIODIC | ALARM | UPDATE;
        if flags & self.at(REG_B) != 0 {
            flags |= IRQF;
        }
        self.put(REG_C, flags);
        flags & IRQF != 0
    }

    /// When the interrupt line rises next: never while it is high, since it falls only when C is read.
    pub(super) fn due(&self, now: u64) -> Option<u64> {
        if self.at(REG_C) & IRQF != 0 {
            return None;
        }
        let enabled = |bit: u8, at: Option<u64>| at.filter(|_| self.b(bit));
        [
            enabled(PERIODIC, self.next_periodic(now)),
            enabled(ALARM, self.next_alarm(now)),
            enabled(UPDATE, self.next_update(now)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Reads the selected byte. Reading C clears it.
    pub(super) fn read(&mut self, now: u64) -> u8 {
        let index = self.index & 0x7f;
        match index {
            0 | 2 | 4 | 6..=9 | CENTURY if self.running() => {
                self.time_register(index, Moment::from_unix(self.unix(now)))
            }
            REG_A => {
                let updating = self.running() && self.elapsed(now).1 >= SECOND - UPDATE_WARNING;
                self.at(REG_A) | u8::from(updating) << 7
            }
            REG_C => {
                let flags = self.at(REG_C);
                self.put(REG_C, 0);
                flags
            }
            _ => self.at(index),
        }
    }

    /// Writes the selected byte.
    pub(super) fn write(&mut self, value: u8, now: u64) {
        let index = self.index & 0x7f;
        match index {
            0 | 2 | 4 | 6..=9 | CENTURY => {
                if self.running() {
                    self.store_time(now);
                    self.put(index, value);
                    self.load_time(now, true);
                } else {
                    self.put(index, value);
                }
            }
            REG_A => self.change_control(REG_A, value & 0x7f, now),
            REG_B => self.change_control(REG_B, value, now),
            REG_C | REG_D => {}
            _ => self.put(index, value),
        }
    }

    /// Changes A or B, which may stop the clock, or start it from what the registers hold.
    fn change_control(&mut self, register: u8, value: u8, now: u64) {
        let was_running = self.running();
        if was_running {
            // In the old data mode, so that a guest that changes the mode finds what it would on the chip.
            self.store_time(now);
        }
        let old_b = self.at(REG_B);
        // SET clears the update-interrupt enable.
        let value = if register == REG_B && value & B_SET != 0 { value & !UPDATE } else { value };
        self.put(register, value);
        if !was_running && self.running() {
            self.load_time(now, false);
        } else if was_running
            && register == REG_B
            && (old_b ^ value) & (B_BINARY | B_24H) != 0
            && self.running()
        {
            // The time goes on; only its encoding changes.
            self.store_time(now);
        }
    }
}
