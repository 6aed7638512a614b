//! ACPI power management: fixed events, SLP_EN, the PM timer, sixteen general-purpose events, the SMI command port
//! and the reset register (ACPI 6.4, section 4.8).
//!
//! The block is [`PM_SIZE`] ports wide, by custom at 600h so that PM1_CNT is at 604h, where small kernels expect it.

use crate::alarm::Alarm;
use crate::lock::lock;
use crate::power::{PowerEvent, PowerSink};
use emu_core::bus::{Irq, PortDevice};
use emu_core::clock::{Expire, Timers};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, Weak};

/// First port of the block on this board.
pub const PM_BASE: u16 = 0x600;
/// Number of ports of the block.
pub const PM_SIZE: u16 = 0x40;
/// The SMI command port.
pub const SMI_CMD_PORT: u16 = 0xb2;
/// What to write to the SMI command port to turn ACPI mode on.
pub const ACPI_ENABLE: u8 = 0xf1;
/// What to write to turn it off.
pub const ACPI_DISABLE: u8 = 0xf0;
/// The SLP_TYP of S5 in PM1_CNT, which goes into `_S5`.
pub const SLP_TYP_S5: u8 = 0;
/// What to write to the reset register.
pub const RESET_VALUE: u8 = 1;
/// Frequency of the PM timer in Hz.
pub const PM_TIMER_HZ: u64 = 3_579_545;

/// Offsets of the registers in the block.
pub mod offset {
    /// PM1a_EVT: status, then enable, two bytes each.
    pub const EVENT: u16 = 0x00;
    /// PM1a_CNT, two bytes.
    pub const CONTROL: u16 = 0x04;
    /// PM_TMR, four bytes.
    pub const TIMER: u16 = 0x08;
    /// The reset register, one byte.
    pub const RESET: u16 = 0x0c;
    /// GPE0: status, then enable, two bytes each.
    pub const GPE0: u16 = 0x20;
}

const STS_TIMER: u16 = 1;
const STS_POWER_BUTTON: u16 = 1 << 8;
/// Timer, bus master, global, power button, sleep button, RTC, wake.
const STS_WRITABLE: u16 = 0x8731;
const EN_WRITABLE: u16 = 0x0721;
const CNT_SCI_EN: u16 = 1;
const CNT_SLP_EN: u16 = 1 << 13;
/// The timer is 24 bits wide and reports each change of its highest bit.
const TIMER_MASK: u64 = 0xff_ffff;
const TIMER_HALF: u64 = 0x80_0000;

fn ticks(now: u64) -> u64 {
    (u128::from(now) * u128::from(PM_TIMER_HZ) / 1_000_000_000) as u64
}

/// The state of the power management block.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct AcpiPmState {
    status: u16,
    enable: u16,
    control: u16,
    gpe_status: u16,
    gpe_enable: u16,
    /// The timer has been watched up to this half-turn.
    halves: u64,
}

impl AcpiPmState {
    fn sync(&mut self, now: u64) {
        let halves = ticks(now) / TIMER_HALF;
        if halves > self.halves {
            self.halves = halves;
            self.status |= STS_TIMER;
        }
    }

    /// Level of the SCI: only in ACPI mode.
    fn sci(&self) -> bool {
        let pending = self.status & self.enable != 0 || self.gpe_status & self.gpe_enable != 0;
        self.control & CNT_SCI_EN != 0 && pending
    }

    /// When the timer changes its highest bit, if anybody wants to know.
    fn due(&self) -> Option<u64> {
        if self.enable & STS_TIMER == 0 || self.status & STS_TIMER != 0 {
            return None;
        }
        let tick = u128::from(self.halves + 1) * u128::from(TIMER_HALF);
        u64::try_from((tick * 1_000_000_000).div_ceil(u128::from(PM_TIMER_HZ))).ok()
    }

    /// The 16-bit register at an even offset.
    fn read(&self, at: u16, now: u64) -> u16 {
        let timer = (ticks(now) & TIMER_MASK) as u32;
        match at {
            0x00 => self.status,
            0x02 => self.enable,
            0x04 => self.control,
            0x08 => timer as u16,
            0x0a => (timer >> 16) as u16,
            0x20 => self.gpe_status,
            0x22 => self.gpe_enable,
            _ => 0,
        }
    }

    /// Writes the bits `mask` of the register at an even offset. Returns what the machine must do.
    fn write(&mut self, at: u16, value: u16, mask: u16) -> Option<PowerEvent> {
        let merge = |old: u16| (old & !mask) | (value & mask);
        match at {
            0x00 => self.status &= !(value & mask & STS_WRITABLE),
            0x02 => self.enable = merge(self.enable) & EN_WRITABLE,
            0x04 => {
                let written = merge(self.control);
                // SCI_EN belongs to the firmware's side; SLP_EN reads as zero.
                self.control = (written & !(CNT_SLP_EN | CNT_SCI_EN)) | (self.control & CNT_SCI_EN);
                let sleep_type = (written >> 10 & 7) as u8;
                if value & mask & CNT_SLP_EN != 0 && matches!(sleep_type, SLP_TYP_S5 | 5) {
                    // 5 is what other emulators call S5 and small kernels write.
                    return Some(PowerEvent::PowerOff);
                }
            }
            0x0c if value & mask & 0xff == u16::from(RESET_VALUE) => return Some(PowerEvent::Reset),
            0x20 => self.gpe_status &= !(value & mask),
            0x22 => self.gpe_enable = merge(self.gpe_enable),
            _ => {}
        }
        None
    }
}

/// The power management block on the board.
#[derive(Debug)]
pub struct AcpiPm {
    state: Mutex<AcpiPmState>,
    sci: Irq,
    power: Arc<dyn PowerSink>,
    alarm: Alarm,
}

impl AcpiPm {
    /// A block that interrupts through `sci` (level; IRQ 9) and reports to `power`. `acpi_mode` says whether SCI_EN
    /// is set from the start, as on a machine whose tables name no SMI command port.
    pub fn new(timers: &Arc<Timers>, sci: Irq, power: Arc<dyn PowerSink>, acpi_mode: bool) -> Arc<Self> {
        let control = if acpi_mode { CNT_SCI_EN } else { 0 };
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            state: Mutex::new(AcpiPmState { control, ..AcpiPmState::default() }),
            sci,
            power,
            alarm: Alarm::new(timers, this.clone()),
        })
    }

    /// The SMI command and status ports, two ports at B2h.
    pub fn smi_command(self: &Arc<Self>) -> Arc<dyn PortDevice> {
        Arc::new(SmiCommand { pm: self.clone(), bytes: Mutex::default() })
    }

    /// Presses the power button: an orderly shutdown, if the guest listens.
    pub fn press_power_button(&self) {
        self.change(|s| s.status |= STS_POWER_BUTTON);
    }

    /// Raises general-purpose event 0 to 15.
    pub fn raise_gpe(&self, event: u8) {
        self.change(|s| s.gpe_status |= 1 << (event & 15));
    }

    /// The state after power-on; `acpi_mode` as for [`AcpiPm::new`].
    pub fn reset(&self, acpi_mode: bool) {
        self.change(|s| {
            let control = if acpi_mode { CNT_SCI_EN } else { 0 };
            *s = AcpiPmState { control, halves: s.halves, ..AcpiPmState::default() };
        });
    }

    /// A copy of the state.
    pub fn save(&self) -> AcpiPmState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: AcpiPmState) {
        self.change(|s| *s = state);
    }

    fn change<R>(&self, f: impl FnOnce(&mut AcpiPmState) -> R) -> R {
        let mut state = lock(&self.state);
        self.finish(&mut state, f)
    }

    fn finish<R>(&self, state: &mut AcpiPmState, f: impl FnOnce(&mut AcpiPmState) -> R) -> R {
        state.sync(self.alarm.now());
        let result = f(state);
        self.sci.set_level(state.sci());
        self.alarm.set(state.due());
        result
    }
}

impl Expire for AcpiPm {
    fn expire(&self, _now: u64) {
        let mut state = lock(&self.state);
        self.alarm.fired();
        self.finish(&mut state, |_| ());
    }
}

impl PortDevice for AcpiPm {
    fn port_read(&self, offset: u16, size: u8) -> u32 {
        let now = self.alarm.now();
        let mut state = lock(&self.state);
        if offset < offset::CONTROL {
            self.finish(&mut state, |_| ());
        }
        let at = offset & !1;
        let word = |half: u16| u64::from(state.read(at.wrapping_add(2 * half), now)) << (16 * half);
        let bits = (word(0) | word(1) | word(2)) >> (8 * (offset & 1));
        (bits & ((1 << (8 * size)) - 1)) as u32
    }

    fn port_write(&self, offset: u16, size: u8, value: u32) {
        let mask = if size >= 4 { 0xffff_ffff } else { (1u64 << (8 * size)) - 1 };
        let shift = 8 * (offset & 1);
        let (value, mask) = (u64::from(value) << shift, mask << shift);
        let mut event = None;
        self.change(|s| {
            for half in 0..3 {
                let (value, mask) = ((value >> (16 * half)) as u16, (mask >> (16 * half)) as u16);
                if mask != 0 {
                    event = event.or(s.write((offset & !1).wrapping_add(2 * half), value, mask));
                }
            }
        });
        if let Some(event) = event {
            self.power.power_event(event);
        }
    }
}

#[derive(Debug)]
struct SmiCommand {
    pm: Arc<AcpiPm>,
    /// Both ports read back what was written, as the chipset's do.
    bytes: Mutex<[u8; 2]>,
}

impl PortDevice for SmiCommand {
    fn port_read(&self, offset: u16, _size: u8) -> u32 {
        lock(&self.bytes)[usize::from(offset & 1)].into()
    }

    fn port_write(&self, offset: u16, _size: u8, value: u32) {
        let value = value as u8;
        lock(&self.bytes)[usize::from(offset & 1)] = value;
        if offset == 0 {
            // What an SMM handler would do for the two commands the FADT names.
            self.pm.change(|s| match value {
                ACPI_ENABLE => s.control |= CNT_SCI_EN,
                ACPI_DISABLE => s.control &= !CNT_SCI_EN,
                _ => {}
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use crate::power::testing::Events;
    use emu_core::clock::Clock;

    fn board() -> (Arc<Timers>, Arc<AcpiPm>, Arc<Probe>, Arc<Events>) {
        let timers = Timers::new(Clock::virtual_clock());
        let (sci, events) = (Probe::new(), Events::new());
        (timers.clone(), AcpiPm::new(&timers, sci.clone(), events.clone(), false), sci, events)
    }

    #[test]
    fn power_off_and_reset() {
        let (_, pm, _, events) = board();
        pm.port_write(4, 2, 1 << 10 | 0x2000);
        assert!(events.taken().is_empty(), "S1 is not offered");
        pm.port_write(4, 2, 0x2000);
        pm.port_write(5, 1, 0x34);
        pm.port_write(0xc, 1, 1);
        assert_eq!(events.taken(), [PowerEvent::PowerOff, PowerEvent::PowerOff, PowerEvent::Reset]);
        assert_eq!(pm.port_read(4, 2) & 0x2000, 0);
    }

    #[test]
    fn acpi_mode_is_turned_on_by_the_smi_port() {
        let (_, pm, sci, _) = board();
        pm.port_write(2, 2, 0x100);
        pm.press_power_button();
        assert!(!sci.level());
        pm.smi_command().port_write(0, 1, ACPI_ENABLE.into());
        assert_eq!(pm.port_read(4, 2) & 1, 1);
        assert!(sci.level());
        pm.port_write(4, 2, 0);
        assert_eq!(pm.port_read(4, 2) & 1, 1, "not by the guest itself");
        pm.port_write(0, 2, 0x100);
        assert!(!sci.level());
        assert_eq!(pm.port_read(0, 4), 0x0100_0000);
    }

    #[test]
    fn the_timer_counts_and_reports_its_turns() {
        let (timers, pm, sci, _) = board();
        pm.smi_command().port_write(0, 1, ACPI_ENABLE.into());
        timers.clock().advance_to(1_000_000_000);
        assert_eq!(pm.port_read(8, 4), 3_579_545);
        pm.port_write(2, 2, 1);
        let due = timers.next_due().unwrap();
        assert_eq!(due / 1_000_000, 2343);
        timers.clock().advance_to(due);
        timers.run_due();
        assert!(sci.level());
        assert_eq!(pm.port_read(8, 4), 0x80_0000);
        pm.port_write(0, 2, 1);
        assert!(!sci.level());
        assert!(timers.next_due().unwrap() > due);
    }

    #[test]
    fn general_purpose_events() {
        let (_, pm, sci, _) = board();
        pm.smi_command().port_write(0, 1, ACPI_ENABLE.into());
        pm.raise_gpe(3);
        assert!(!sci.level());
        pm.port_write(0x22, 1, 8);
        assert!(sci.level());
        assert_eq!(pm.port_read(0x20, 1), 8);
        pm.port_write(0x20, 1, 8);
        assert!(!sci.level());
    }

    #[test]
    fn every_access_is_harmless() {
        let (_, pm, ..) = board();
        for offset in 0..=0x40 {
            for size in [1, 2, 4] {
                pm.port_write(offset, size, u32::MAX);
                pm.port_read(offset, size);
            }
        }
        pm.port_write(u16::MAX, 4, 0);
        pm.port_read(u16::MAX, 4);
        pm.restore(serde_json::from_str(&serde_json::to_string(&pm.save()).unwrap()).unwrap());
    }
}
