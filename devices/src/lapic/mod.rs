//! The local APIC, xAPIC and x2APIC (SDM vol. 3A, chapter 11), and the bus that joins them.
//!
//! [`state`] is the register file, [`timer`] the timer, [`bus`] the routing; this file is the wrapper that locks,
//! keeps what the vCPU polls in an atomic word, and performs outside the lock what goes elsewhere.
//!
//! Invariant: every change of the state ends in [`Lapic::publish`] before the lock is released, so `pending` never
//! lags behind the state by more than the change in progress.

pub mod bus;
mod state;
#[cfg(test)]
mod tests;
mod timer;

pub use bus::{ApicBus, Delivery, Destination, EoiSink, Message};
pub use state::LapicState;
pub use timer::APIC_TIMER_HZ;

use crate::alarm::Alarm;
use crate::lock::lock;
use crate::pic::ExtInt;
use emu_core::bus::{CpuInterrupts, Irq, IrqLine};
use emu_core::clock::{Expire, Timers};
use emu_core::signals::{Signals, request};
use state::{CpuEvent, Effect, Pending, reg};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// The local APIC of one processor.
#[derive(Debug)]
pub struct Lapic {
    state: Mutex<LapicState>,
    /// Zero, or what may be delivered: 100h plus the vector, or 200h for ExtINT.
    pending: AtomicU32,
    /// IA32_APIC_BASE, for those who only want to know where the page is.
    base: AtomicU64,
    bus: Arc<ApicBus>,
    signals: Arc<Signals>,
    ext_int: OnceLock<Arc<dyn ExtInt>>,
    alarm: Alarm,
}

impl Lapic {
    /// The APIC with the ID `id`, which tells its processor through `signals`. The bootstrap processor's starts with
    /// LINT0 as ExtINT, as firmware leaves it.
    pub fn new(
        id: u32,
        bsp: bool,
        bus: &Arc<ApicBus>,
        timers: &Arc<Timers>,
        signals: Arc<Signals>,
    ) -> Arc<Self> {
        let state = LapicState::new(id, bsp);
        let lapic = Arc::new_cyclic(|this: &Weak<Self>| Self {
            base: AtomicU64::new(state.apic_base()),
            state: Mutex::new(state),
            pending: AtomicU32::new(0),
            bus: bus.clone(),
            signals,
            ext_int: OnceLock::new(),
            alarm: Alarm::new(timers, this.clone()),
        });
        bus.add_lapic(Arc::downgrade(&lapic));
        lapic
    }

    /// Names the controller that supplies the vector of an ExtINT. Only the first call counts.
    pub fn connect_ext_int(&self, controller: Arc<dyn ExtInt>) {
        let _ = self.ext_int.set(controller);
    }

    /// LINT0, where the 8259's INTR goes.
    pub fn lint0(self: &Arc<Self>) -> Irq {
        Arc::new(Lint { lapic: self.clone(), pin: 0 })
    }

    /// LINT1, where NMI goes.
    pub fn lint1(self: &Arc<Self>) -> Irq {
        Arc::new(Lint { lapic: self.clone(), pin: 1 })
    }

    /// Tells the APIC that the TSC reads machine time in nanoseconds plus `offset` (wrapping).
    pub fn set_tsc_offset(&self, offset: u64) {
        self.with_timer(|state, now| {
            state.tsc_offset = offset;
            let deadline = state.timer.deadline();
            state.timer.set_deadline(deadline, now.wrapping_add(offset), now);
        });
    }

    /// INIT of this processor by other means than an IPI. Resets the APIC; the caller resets the processor.
    pub fn init(&self) {
        self.with_timer(|state, _| state.reset());
    }

    /// The state after power-on, with the pins and the TSC offset as they are.
    pub fn power_on(&self, bsp: bool) {
        self.with_timer(|s, _| s.power_on(bsp));
    }

    /// A copy of the state.
    pub fn save(&self) -> LapicState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: LapicState) {
        self.with_timer(|s, _| *s = state);
    }

    /// Makes a change visible to the processor. Called with the lock held.
    fn publish(&self, state: &LapicState) {
        let word = match state.pending() {
            None => 0,
            Some(Pending::Vector(vector)) => 0x100 | u32::from(vector),
            Some(Pending::ExtInt) => 0x200,
        };
        self.base.store(state.apic_base(), Ordering::Release);
        self.pending.store(word, Ordering::Release);
        if word != 0 {
            self.signals.raise(request::INTR);
        }
    }

    /// Changes what does not concern the timer.
    fn change<R>(&self, f: impl FnOnce(&mut LapicState) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        self.publish(&state);
        result
    }

    /// Changes what may concern the timer: it is brought up to date before and armed after.
    fn with_timer<R>(&self, f: impl FnOnce(&mut LapicState, u64) -> R) -> R {
        self.change(|state| {
            let now = self.alarm.now();
            let fire = |state: &mut LapicState| {
                if state.timer.take_expiry(now) {
                    state.timer_fired();
                }
            };
            fire(state);
            let result = f(state, now);
            fire(state);
            self.alarm.set(state.timer_due());
            result
        })
    }

    fn tell_cpu(&self, event: Option<CpuEvent>) {
        match event {
            None => {}
            Some(CpuEvent::Smi) => self.signals.raise(request::SMI),
            Some(CpuEvent::Nmi) => self.signals.raise(request::NMI),
            Some(CpuEvent::Init) => {
                // A start-up IPI from before it no longer counts.
                self.signals.take(request::SIPI);
                self.signals.raise(request::INIT);
            }
            Some(CpuEvent::Sipi(vector)) => self.signals.raise_sipi(vector),
        }
    }

    fn perform(&self, effect: Option<Effect>) {
        match effect {
            None => {}
            Some(Effect::Eoi(vector)) => self.bus.broadcast_eoi(vector),
            Some(Effect::Ipi(message)) => {
                self.bus.send(message);
            }
        }
    }

    fn matches(&self, destination: Destination) -> bool {
        lock(&self.state).matches(destination)
    }

    fn accepts_fixed(&self) -> bool {
        lock(&self.state).accepts_fixed()
    }

    fn arbitration_priority(&self) -> u8 {
        lock(&self.state).arbitration_priority()
    }

    fn deliver(&self, message: &Message) {
        let event = self.change(|s| s.deliver(message.delivery, message.vector, message.level));
        self.tell_cpu(event);
    }

    fn read_register(&self, number: u32) -> Option<u32> {
        match number {
            reg::CURRENT_COUNT => self.with_timer(|s, now| s.read(number, || now)),
            _ => self.change(|s| s.read(number, || 0)),
        }
    }

    /// Err means that there is no such register.
    fn write_register(&self, number: u32, value: u32) -> Result<(), ()> {
        let effect = match number {
            // Clearing the software enable masks the timer.
            reg::SVR | reg::LVT_TIMER | reg::INITIAL_COUNT | reg::DIVIDE => {
                self.with_timer(|s, now| s.write(number, value, || now))
            }
            _ => self.change(|s| s.write(number, value, || 0)),
        }?;
        self.perform(effect);
        Ok(())
    }

    /// The mode the page at the APIC base is in: it decodes only as an xAPIC.
    fn is_xapic(&self) -> bool {
        self.base.load(Ordering::Acquire) & (state::base::ENABLE | state::base::EXTD) == state::base::ENABLE
    }

    fn is_x2apic(&self) -> bool {
        self.base.load(Ordering::Acquire) & state::base::EXTD != 0
    }
}

impl Expire for Lapic {
    fn expire(&self, _now: u64) {
        let mut state = lock(&self.state);
        self.alarm.fired();
        if state.timer.take_expiry(self.alarm.now()) {
            state.timer_fired();
        }
        self.alarm.set(state.timer_due());
        self.publish(&state);
    }
}

impl CpuInterrupts for Lapic {
    fn has_interrupt(&self) -> bool {
        self.pending.load(Ordering::Acquire) != 0
    }

    fn acknowledge(&self) -> Option<u8> {
        if !self.has_interrupt() {
            return None;
        }
        match self.change(LapicState::acknowledge)? {
            Pending::Vector(vector) => Some(vector),
            // With the lock released: the 8259 lowers INTR, which comes back in through LINT0.
            Pending::ExtInt => self.ext_int.get().map(|controller| controller.acknowledge()),
        }
    }

    fn cr8(&self) -> u8 {
        lock(&self.state).tpr() >> 4
    }

    fn set_cr8(&self, value: u8) {
        self.change(|s| s.set_tpr(value << 4));
    }

    fn apic_base(&self) -> u64 {
        self.base.load(Ordering::Acquire)
    }

    fn set_apic_base(&self, value: u64) -> bool {
        self.with_timer(|s, _| s.set_apic_base(value))
    }

    fn x2apic_read(&self, msr: u32) -> Option<u64> {
        if !self.is_x2apic() {
            return None;
        }
        match msr.checked_sub(0x800)? {
            reg::ICR_LOW => Some(lock(&self.state).icr()),
            number if number > 0xff => None,
            number => self.read_register(number).map(u64::from),
        }
    }

    fn x2apic_write(&self, msr: u32, value: u64) -> bool {
        let Some(number) = msr.checked_sub(0x800) else { return false };
        if !self.is_x2apic() {
            return false;
        }
        if number == reg::ICR_LOW {
            let effect = self.change(|s| s.write_icr(value));
            self.perform(effect);
            return true;
        }
        // Reserved bits must be zero (11.12.1.2).
        let writable = match number {
            reg::TPR | reg::SELF_IPI => 0xff,
            reg::EOI | reg::ESR => 0,
            _ => 0xffff_ffff,
        };
        value & !writable == 0 && number <= 0xff && self.write_register(number, value as u32).is_ok()
    }

    fn tsc_deadline(&self) -> u64 {
        self.with_timer(|s, _| s.timer.deadline())
    }

    fn set_tsc_deadline(&self, tsc: u64) {
        self.with_timer(|s, now| {
            let present = now.wrapping_add(s.tsc_offset);
            s.timer.set_deadline(tsc, present, now);
        });
    }

    fn apic_mmio_read(&self, offset: u64) -> u32 {
        if !self.is_xapic() {
            return u32::MAX;
        }
        // Registers are 32 bits wide on 128-bit boundaries; the rest of each is reserved.
        if offset & 0xf > 3 {
            return 0;
        }
        self.read_register((offset >> 4 & 0xff) as u32).unwrap_or(0) >> (8 * (offset & 3))
    }

    fn apic_mmio_write(&self, offset: u64, value: u32) {
        if self.is_xapic() && offset & 0xf == 0 {
            // An illegal register has been noted in the ESR.
            let _ = self.write_register((offset >> 4 & 0xff) as u32, value);
        }
    }
}

#[derive(Debug)]
struct Lint {
    lapic: Arc<Lapic>,
    pin: usize,
}

impl IrqLine for Lint {
    fn set_level(&self, level: bool) {
        let event = self.lapic.change(|s| s.set_lint(self.pin, level));
        self.lapic.tell_cpu(event);
    }
}
