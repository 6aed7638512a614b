//! The registers of a local APIC and what they mean (SDM vol. 3A, chapter 11). No locks, no time, no routing.

use super::bus::{Delivery, Destination, Message};
use super::timer::{Mode, Timer};
use serde::{Deserialize, Serialize};

/// Register numbers: the xAPIC offset divided by 16, which is also the x2APIC MSR minus 800h.
pub(super) mod reg {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const APR: u32 = 0x09;
    pub const PPR: u32 = 0x0a;
    pub const EOI: u32 = 0x0b;
    pub const RRD: u32 = 0x0c;
    pub const LDR: u32 = 0x0d;
    pub const DFR: u32 = 0x0e;
    pub const SVR: u32 = 0x0f;
    pub const ISR: u32 = 0x10;
    pub const TMR: u32 = 0x18;
    pub const IRR: u32 = 0x20;
    pub const ESR: u32 = 0x28;
    pub const ICR_LOW: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT_TIMER: u32 = 0x32;
    pub const LVT_ERROR: u32 = 0x37;
    pub const INITIAL_COUNT: u32 = 0x38;
    pub const CURRENT_COUNT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF_IPI: u32 = 0x3f;
}

/// IA32_APIC_BASE bits.
pub(super) mod base {
    pub const BSP: u64 = 1 << 8;
    pub const EXTD: u64 = 1 << 10;
    pub const ENABLE: u64 = 1 << 11;
    /// The page number under a 52-bit physical address.
    pub const PAGE: u64 = 0x000f_ffff_ffff_f000;
    pub const DEFAULT: u64 = 0xfee0_0000;
}

/// Version 14h, six LVT entries, suppression of EOI broadcasts supported.
const VERSION: u32 = 0x0105_0014;
const SVR_ENABLE: u32 = 1 << 8;
const SVR_NO_EOI_BROADCAST: u32 = 1 << 12;
const LVT_MASKED: u32 = 1 << 16;
const LVT_LEVEL: u32 = 1 << 15;
/// Writable bits of the LVT entries: timer, thermal, performance, LINT0, LINT1, error.
const LVT_WRITABLE: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_ERROR: usize = 5;

const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// 256 bits, one for each vector.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, value: bool) {
        let mask = 1 << (vector & 31);
        let word = &mut self.0[usize::from(vector >> 5)];
        *word = if value { *word | mask } else { *word & !mask };
    }
    fn get(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
    }
    fn highest(&self) -> Option<u8> {
        let index = self.0.iter().rposition(|&word| word != 0)?;
        Some((index as u32 * 32 + 31 - self.0[index].leading_zeros()) as u8)
    }
}

/// What must happen outside the APIC after an access, with its lock released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send an interprocessor interrupt.
    Ipi(Message),
    /// Tell the I/O APICs that a level-triggered vector has been handled.
    Eoi(u8),
}

/// What an event on a pin or the bus asks of the processor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CpuEvent {
    Smi,
    Nmi,
    Init,
    Sipi(u8),
}

/// The best interrupt to deliver now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    ExtInt,
    Vector(u8),
}

/// The state of one local APIC.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct LapicState {
    /// The initial APIC ID, which is also the x2APIC ID.
    id: u32,
    /// The ID register in xAPIC mode.
    xapic_id: u8,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    esr: u32,
    /// Errors since the last write of the ESR.
    errors: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    icr: u64,
    lvt: [u32; 6],
    /// Levels of LINT0 and LINT1.
    lint: [bool; 2],
    /// An ExtINT message waits.
    ext_int: bool,
    /// The timer.
    pub(super) timer: Timer,
    /// TSC minus machine time.
    pub(super) tsc_offset: u64,
}

impl LapicState {
    /// The state after power-on.
    pub(super) fn new(id: u32, bsp: bool) -> Self {
        let bsp_bit = if bsp { base::BSP } else { 0 };
        let mut state = Self {
            id,
            xapic_id: id as u8,
            base: base::DEFAULT | base::ENABLE | bsp_bit,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            esr: 0,
            errors: 0,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            icr: 0,
            lvt: [0; 6],
            lint: [false; 2],
            ext_int: false,
            timer: Timer::default(),
            tsc_offset: 0,
        };
        state.reset();
        state
    }

    /// The state after power-on, but for the pins and the offset of the TSC.
    pub(super) fn power_on(&mut self, bsp: bool) {
        *self = Self { lint: self.lint, tsc_offset: self.tsc_offset, ..Self::new(self.id, bsp) };
    }

    /// INIT: everything but the ID, the base and the pins (11.4.7.3).
    pub(super) fn reset(&mut self) {
        let mut lvt = [LVT_MASKED; 6];
        if self.base & base::BSP != 0 {
            // What firmware would do: a PC starts in virtual-wire mode, with the 8259 on LINT0.
            lvt[LVT_LINT0] = 0x700;
        }
        *self = Self {
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: 0xff,
            esr: 0,
            errors: 0,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            icr: 0,
            lvt,
            ext_int: false,
            timer: Timer::default(),
            ..*self
        };
    }

    pub(super) fn apic_base(&self) -> u64 {
        self.base
    }

    pub(super) fn is_x2apic(&self) -> bool {
        self.base & base::EXTD != 0
    }

    pub(super) fn is_hardware_enabled(&self) -> bool {
        self.base & base::ENABLE != 0
    }

    fn is_enabled(&self) -> bool {
        self.is_hardware_enabled() && self.svr & SVR_ENABLE != 0
    }

    /// WRMSR of IA32_APIC_BASE; false means #GP (11.12.5, figure 11-27).
    pub(super) fn set_apic_base(&mut self, value: u64) -> bool {
        use base::{BSP, ENABLE, EXTD, PAGE};
        let (old, new) = (self.base & (ENABLE | EXTD), value & (ENABLE | EXTD));
        let legal = value & !(BSP | EXTD | ENABLE | PAGE) == 0
            && new != EXTD
            && !(old == 0 && new == ENABLE | EXTD)
            && !(old == ENABLE | EXTD && new == ENABLE);
        if !legal {
            return false;
        }
        self.base = value;
        if new == 0 && old != 0 {
            self.reset();
        }
        true
    }

    fn apic_id(&self) -> u32 {
        if self.is_x2apic() { self.id } else { self.xapic_id.into() }
    }

    fn logical_id(&self) -> u32 {
        // 11.12.10.2: derived from the x2APIC ID.
        if self.is_x2apic() { (self.id >> 4) << 16 | 1 << (self.id & 15) } else { self.ldr }
    }

    /// Whether a message to `destination` is for this APIC (11.6.2). `source` is the ID of an IPI's sender.
    pub(super) fn matches(&self, destination: Destination) -> bool {
        if !self.is_hardware_enabled() {
            return false;
        }
        match destination {
            Destination::Physical(id) => id == u32::MAX || id == self.apic_id(),
            Destination::Logical(set) if self.is_x2apic() => {
                let own = self.logical_id();
                set == u32::MAX || (set >> 16 == own >> 16 && set & own & 0xffff != 0)
            }
            Destination::Logical(set) => {
                let (set, own) = (set & 0xff, self.ldr >> 24);
                match self.dfr >> 28 {
                    0xf => set & own != 0,
                    0 => (set >> 4 == 0xf || set >> 4 == own >> 4) && set & own & 0xf != 0,
                    _ => false,
                }
            }
            Destination::All => true,
            Destination::Only(id) => id == self.id,
            Destination::AllBut(id) => id != self.id,
        }
    }

    /// What decides a lowest-priority arbitration.
    pub(super) fn arbitration_priority(&self) -> u8 {
        self.ppr()
    }

    /// Whether fixed interrupts are taken at all.
    pub(super) fn accepts_fixed(&self) -> bool {
        self.is_enabled()
    }

    /// Takes a message that matched.
    pub(super) fn deliver(&mut self, delivery: Delivery, vector: u8, level: bool) -> Option<CpuEvent> {
        match delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                if self.is_enabled() {
                    self.request(vector, level);
                }
                None
            }
            Delivery::Smi => Some(CpuEvent::Smi),
            Delivery::Nmi => Some(CpuEvent::Nmi),
            Delivery::Init => {
                self.reset();
                Some(CpuEvent::Init)
            }
            Delivery::StartUp => Some(CpuEvent::Sipi(vector)),
            Delivery::ExtInt => {
                self.ext_int = true;
                None
            }
        }
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            self.error(ESR_RECEIVE_ILLEGAL);
            return;
        }
        self.irr.set(vector, true);
        self.tmr.set(vector, level);
    }

    fn error(&mut self, bit: u32) {
        self.errors |= bit;
        let lvt = self.lvt[LVT_ERROR];
        // An error vector below 16 must not raise an error of its own.
        if lvt & LVT_MASKED == 0 && lvt & 0xf0 != 0 {
            self.irr.set(lvt as u8, true);
            self.tmr.set(lvt as u8, false);
        }
    }

    /// The timer has reached zero.
    pub(super) fn timer_fired(&mut self) {
        let lvt = self.lvt[LVT_TIMER];
        if lvt & LVT_MASKED == 0 && self.is_hardware_enabled() {
            self.request(lvt as u8, false);
        }
    }

    /// When the timer must be woken: not at all while it is masked.
    pub(super) fn timer_due(&self) -> Option<u64> {
        self.timer.due().filter(|_| self.lvt[LVT_TIMER] & LVT_MASKED == 0)
    }

    /// LINT0 or LINT1 changes.
    pub(super) fn set_lint(&mut self, pin: usize, level: bool) -> Option<CpuEvent> {
        let rising = !std::mem::replace(&mut self.lint[pin], level) && level;
        if !self.is_hardware_enabled() {
            // A disabled APIC leaves the pins as INTR and NMI.
            return (pin == 1 && rising).then_some(CpuEvent::Nmi);
        }
        let lvt = self.lvt[LVT_LINT0 + pin];
        if lvt & LVT_MASKED != 0 || !rising {
            return None;
        }
        match Delivery::of_bits(lvt) {
            Some(Delivery::Fixed) => {
                self.request(lvt as u8, lvt & LVT_LEVEL != 0);
                None
            }
            Some(Delivery::Nmi) => Some(CpuEvent::Nmi),
            Some(Delivery::Smi) => Some(CpuEvent::Smi),
            // An ExtINT pin is looked at as a level.
            _ => None,
        }
    }

    fn ext_int_pending(&self) -> bool {
        let pin = |index: usize| {
            let lvt = self.lvt[LVT_LINT0 + index];
            self.lint[index] && lvt & (LVT_MASKED | 0x700) == 0x700
        };
        if self.is_hardware_enabled() { self.ext_int || pin(0) || pin(1) } else { self.lint[0] }
    }

    fn ppr(&self) -> u8 {
        let serving = self.isr.highest().unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= serving { self.tpr } else { serving }
    }

    /// The best interrupt that may be delivered now. ExtINT knows no priority and goes first.
    pub(super) fn pending(&self) -> Option<Pending> {
        if self.ext_int_pending() {
            return Some(Pending::ExtInt);
        }
        if !self.is_enabled() {
            return None;
        }
        let vector = self.irr.highest()?;
        (vector & 0xf0 > self.ppr() & 0xf0).then_some(Pending::Vector(vector))
    }

    /// Takes the best interrupt.
    pub(super) fn acknowledge(&mut self) -> Option<Pending> {
        let pending = self.pending()?;
        match pending {
            Pending::ExtInt => self.ext_int = false,
            Pending::Vector(vector) => {
                self.irr.set(vector, false);
                self.isr.set(vector, true);
            }
        }
        Some(pending)
    }

    fn end_of_interrupt(&mut self) -> Option<Effect> {
        let vector = self.isr.highest()?;
        self.isr.set(vector, false);
        if !self.tmr.get(vector) {
            return None;
        }
        for pin in 0..2 {
            // A level-triggered local pin that is still high requests again.
            let lvt = self.lvt[LVT_LINT0 + pin];
            if self.lint[pin] && lvt & (LVT_MASKED | LVT_LEVEL | 0x7ff) == LVT_LEVEL | u32::from(vector) {
                self.request(vector, true);
            }
        }
        (self.svr & SVR_NO_EOI_BROADCAST == 0).then_some(Effect::Eoi(vector))
    }

    pub(super) fn tpr(&self) -> u8 {
        self.tpr
    }

    pub(super) fn set_tpr(&mut self, value: u8) {
        self.tpr = value;
    }

    /// Reads a register; None if there is none of that number. The timer must be up to date.
    pub(super) fn read(&mut self, number: u32, now: impl FnOnce() -> u64) -> Option<u32> {
        Some(match number {
            reg::ID if self.is_x2apic() => self.id,
            reg::ID => u32::from(self.xapic_id) << 24,
            reg::VERSION => VERSION,
            reg::TPR => self.tpr.into(),
            reg::APR if !self.is_x2apic() => self.ppr().into(),
            reg::PPR => self.ppr().into(),
            reg::EOI | reg::RRD if !self.is_x2apic() => 0,
            reg::LDR => self.logical_id(),
            reg::DFR if !self.is_x2apic() => self.dfr,
            reg::SVR => self.svr,
            reg::ISR..reg::TMR => self.isr.0[(number - reg::ISR) as usize],
            reg::TMR..reg::IRR => self.tmr.0[(number - reg::TMR) as usize],
            reg::IRR..reg::ESR => self.irr.0[(number - reg::IRR) as usize],
            reg::ESR => self.esr,
            reg::ICR_LOW => self.icr as u32,
            reg::ICR_HIGH if !self.is_x2apic() => (self.icr >> 32) as u32,
            reg::LVT_TIMER..=reg::LVT_ERROR => self.lvt[(number - reg::LVT_TIMER) as usize],
            reg::INITIAL_COUNT => self.timer.initial(),
            reg::CURRENT_COUNT => self.timer.current(now()),
            reg::DIVIDE => self.timer.divide(),
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                return None;
            }
        })
    }

    /// The whole interrupt command register, for x2APIC reads.
    pub(super) fn icr(&self) -> u64 {
        self.icr
    }

    /// Writes a register; Err if there is none of that number that can be written. The timer must be up to date.
    pub(super) fn write(
        &mut self,
        number: u32,
        value: u32,
        now: impl FnOnce() -> u64,
    ) -> Result<Option<Effect>, ()> {
        let x2apic = self.is_x2apic();
        match number {
            reg::ID if !x2apic => self.xapic_id = (value >> 24) as u8,
            reg::TPR => self.tpr = value as u8,
            reg::EOI => return Ok(self.end_of_interrupt()),
            reg::LDR if !x2apic => self.ldr = value & 0xff00_0000,
            reg::DFR if !x2apic => self.dfr = value | 0x0fff_ffff,
            reg::SVR => self.write_svr(value),
            reg::ESR => self.esr = std::mem::take(&mut self.errors),
            reg::ICR_LOW if !x2apic => return Ok(self.write_icr(self.icr & !0xffff_ffff | u64::from(value))),
            reg::ICR_HIGH if !x2apic => {
                self.icr = u64::from(value & 0xff00_0000) << 32 | self.icr & 0xffff_ffff
            }
            reg::LVT_TIMER..=reg::LVT_ERROR => self.write_lvt((number - reg::LVT_TIMER) as usize, value),
            reg::INITIAL_COUNT => self.timer.set_initial(value, now()),
            reg::DIVIDE => self.timer.set_divide(value, now()),
            reg::SELF_IPI if x2apic => {
                self.request(value as u8, false);
            }
            // Read-only registers ignore writes in xAPIC mode.
            reg::VERSION | reg::APR | reg::PPR | reg::RRD | reg::CURRENT_COUNT | reg::ISR..reg::ESR
                if !x2apic => {}
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                return Err(());
            }
        }
        Ok(None)
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & 0x11ff;
        if self.svr & SVR_ENABLE == 0 {
            for lvt in &mut self.lvt {
                *lvt |= LVT_MASKED;
            }
        }
    }

    fn write_lvt(&mut self, index: usize, value: u32) {
        let mut value = value & LVT_WRITABLE[index];
        if self.svr & SVR_ENABLE == 0 {
            value |= LVT_MASKED;
        }
        self.lvt[index] = value;
        if index == LVT_TIMER {
            self.timer.set_mode(Mode::of_lvt(value));
        }
    }

    /// A write of the interrupt command register (11.6.1).
    pub(super) fn write_icr(&mut self, value: u64) -> Option<Effect> {
        // Delivery status and the reserved bits read as zero.
        self.icr = value & 0xffff_ffff_000c_cfff;
        let low = value as u32;
        let delivery = Delivery::of_bits(low)?;
        if delivery == Delivery::ExtInt {
            return None;
        }
        let deassert = low & 0x4000 == 0 && low & 0x8000 != 0;
        if delivery == Delivery::Init && deassert {
            // The INIT level de-assert only synchronised arbitration IDs of old.
            return None;
        }
        let vector = low as u8;
        if matches!(delivery, Delivery::Fixed | Delivery::LowestPriority) && vector < 16 {
            self.error(ESR_SEND_ILLEGAL);
            return None;
        }
        let high = (value >> 32) as u32;
        let destination = match (low >> 18 & 3, self.is_x2apic(), low & 0x800 != 0) {
            (1, ..) => Destination::Only(self.id),
            (2, ..) => Destination::All,
            (3, ..) => Destination::AllBut(self.id),
            (_, true, false) => Destination::Physical(high),
            (_, true, true) => Destination::Logical(high),
            (_, false, false) => Destination::physical8((high >> 24) as u8),
            (_, false, true) => Destination::Logical(high >> 24),
        };
        // IPIs are edges, whatever their trigger bit says.
        Some(Effect::Ipi(Message { destination, delivery, vector, level: false }))
    }
}
