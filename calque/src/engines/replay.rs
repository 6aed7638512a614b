//! A bus that performs each device access once and lets a second run of the same instructions see the same.
//!
//! What the first run wrote to memory is undone before the second: a device that works on a thread of its own and is
//! told to look at memory in between would see the old bytes. So writes wait until memory is as it stays, or until
//! the first run reads from a device, whose answer may depend on them.

use emu_core::addr::PhysAddr;
use emu_core::bus::{CpuInterrupts, SystemBus};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// One device access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// What was accessed: "mmio", "port" or "apic".
    pub space: &'static str,
    /// A write.
    pub write: bool,
    /// Address, port or offset.
    pub addr: u64,
    /// Size in bytes.
    pub size: u8,
    /// The value read or written.
    pub value: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Recording (first run) or replaying (second).
    replaying: bool,
    log: VecDeque<Access>,
    /// All accesses of the first run.
    first: Vec<Access>,
    /// Accesses already performed that a repeated first run is given instead of the devices.
    performed: VecDeque<Access>,
    /// The last accesses of the log, all of them writes, which their devices have not been given yet.
    waiting: Vec<Access>,
    difference: Option<(Option<Access>, Access)>,
}

/// The log shared by the bus and the interrupt side.
#[derive(Debug, Default)]
pub struct Log(Mutex<State>);

impl Log {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts a first run.
    pub fn record(&self) {
        let mut s = self.state();
        let performed = std::mem::take(&mut s.performed);
        *s = State { performed, ..State::default() };
    }

    /// Starts the second run.
    pub fn replay(&self) {
        let mut s = self.state();
        s.first = s.log.iter().copied().collect();
        s.replaying = true;
    }

    /// The next first runs are to go through the same instructions as the last one did: they get its values.
    pub fn rewind(&self) {
        let mut s = self.state();
        let waiting = std::mem::take(&mut s.waiting).len();
        let performed = s.first.len() - waiting;
        s.first.truncate(performed);
        s.performed = std::mem::take(&mut s.first).into();
    }

    /// Ends the second run: how it differed from the first, if it did.
    pub fn finish(&self) -> Option<String> {
        let mut s = self.state();
        s.replaying = false;
        if let Some((first, second)) = s.difference.take() {
            return Some(format!("device access: translated {first:x?}, interpreted {second:x?}"));
        }
        let left = s.log.pop_front();
        s.log.clear();
        left.map(|a| format!("device access: translated {a:x?}, interpreted none"))
    }

    /// Whether devices have not been given all that was written.
    pub fn waits(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Gives devices what was written: memory is as it stays.
    pub fn settle(&self, bus: &dyn SystemBus) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for a in waiting {
            match a.space {
                "port" => bus.port_write(a.addr as u16, a.size, a.value as u32),
                _ => bus.mmio_write(PhysAddr(a.addr), a.size, a.value),
            }
        }
    }

    /// A write in a first run waits to be performed; in a second one it is checked against the log.
    fn write(&self, access: Access) {
        let mut waits = false;
        self.pass(access, || {
            waits = true;
            0
        });
        if waits {
            self.state().waiting.push(access);
        }
    }

    /// Performs `real` in a first run; in a second one checks against the log and returns the logged value.
    fn pass(&self, access: Access, real: impl FnOnce() -> u64) -> u64 {
        if self.state().replaying {
            let mut s = self.state();
            let first = s.log.pop_front();
            let same = first.is_some_and(|f| {
                let value = if access.write { access.value } else { f.value };
                f == Access { value, ..access }
            });
            if !same && s.difference.is_none() {
                s.difference = Some((first, access));
            }
            return first.map_or(u64::MAX, |f| f.value);
        }
        let before = {
            let mut s = self.state();
            let known = s.performed.front().copied();
            let same = known.filter(|k| Access { value: k.value, ..access } == *k);
            match same {
                Some(_) => s.performed.pop_front(),
                None => {
                    s.performed.clear();
                    None
                }
            }
        };
        let value = before.map_or_else(real, |a| a.value);
        let value = if access.write { access.value } else { value };
        self.state().log.push_back(Access { value, ..access });
        value
    }
}

/// The board's bus behind a [`Log`].
#[derive(Debug)]
pub struct ReplayBus {
    /// The real one.
    pub real: Arc<dyn SystemBus>,
    /// The log.
    pub log: Arc<Log>,
}

impl SystemBus for ReplayBus {
    fn port_read(&self, port: u16, size: u8) -> u32 {
        let access = Access { space: "port", write: false, addr: port.into(), size, value: 0 };
        self.log.pass(access, || {
            self.log.settle(&*self.real);
            self.real.port_read(port, size).into()
        }) as u32
    }

    fn port_write(&self, port: u16, size: u8, value: u32) {
        let access = Access { space: "port", write: true, addr: port.into(), size, value: value.into() };
        self.log.write(access);
    }

    fn mmio_read(&self, addr: PhysAddr, size: u8) -> u64 {
        let access = Access { space: "mmio", write: false, addr: addr.0, size, value: 0 };
        self.log.pass(access, || {
            self.log.settle(&*self.real);
            self.real.mmio_read(addr, size)
        })
    }

    fn mmio_write(&self, addr: PhysAddr, size: u8, value: u64) {
        let masked = value & (u64::MAX >> (64 - 8 * u32::from(size)));
        let access = Access { space: "mmio", write: true, addr: addr.0, size, value: masked };
        self.log.write(access);
    }
}

/// The processor's interrupt side, with its memory-mapped registers behind a [`Log`]. Everything else is reached
/// only by instructions that both engines leave to the interpreter.
#[derive(Debug)]
pub struct ReplayInterrupts {
    /// The real one.
    pub real: Arc<dyn CpuInterrupts>,
    /// The log.
    pub log: Arc<Log>,
}

impl CpuInterrupts for ReplayInterrupts {
    fn has_interrupt(&self) -> bool {
        self.real.has_interrupt()
    }
    fn acknowledge(&self) -> Option<u8> {
        self.real.acknowledge()
    }
    fn cr8(&self) -> u8 {
        self.real.cr8()
    }
    fn set_cr8(&self, value: u8) {
        self.real.set_cr8(value);
    }
    fn apic_base(&self) -> u64 {
        self.real.apic_base()
    }
    fn set_apic_base(&self, value: u64) -> bool {
        self.real.set_apic_base(value)
    }
    fn x2apic_read(&self, msr: u32) -> Option<u64> {
        self.real.x2apic_read(msr)
    }
    fn x2apic_write(&self, msr: u32, value: u64) -> bool {
        self.real.x2apic_write(msr, value)
    }
    fn tsc_deadline(&self) -> u64 {
        self.real.tsc_deadline()
    }
    fn set_tsc_deadline(&self, tsc: u64) {
        self.real.set_tsc_deadline(tsc);
    }
    fn apic_mmio_read(&self, offset: u64) -> u32 {
        let access = Access { space: "apic", write: false, addr: offset, size: 4, value: 0 };
        self.log.pass(access, || self.real.apic_mmio_read(offset).into()) as u32
    }
    fn apic_mmio_write(&self, offset: u64, value: u32) {
        let access = Access { space: "apic", write: true, addr: offset, size: 4, value: value.into() };
        self.log.pass(access, || {
            self.real.apic_mmio_write(offset, value);
            0
        });
    }
}
