//! One function's header as the bus and the function share it: configuration space, command gating, INTx, MSI, MSI-X.

use super::config::{BarKind, ConfigSpace, command, reg};
use super::intx::PirqPin;
use super::msi::MsiCapability;
use super::msix::{Msix, MsixState};
use emu_core::bus::MsiSink;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A BAR that is decoded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarWindow {
    /// BAR number, 0 to 5.
    pub bar: u8,
    /// Ports if true, memory otherwise.
    pub io: bool,
    /// The addresses it answers.
    pub range: Range<u64>,
}

/// State of a header for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderState {
    /// Configuration bytes. Only what software can write is taken back.
    pub config: Vec<u8>,
    /// Pending bits of MSI.
    pub msi_pending: u32,
    /// MSI-X table and pending bits.
    pub msix: Option<MsixState>,
    /// Whether the function asserts its interrupt pin (before masking).
    pub intx: bool,
}

#[derive(Debug)]
struct Inner {
    config: ConfigSpace,
    msi: Option<MsiCapability>,
    msix: Option<Msix>,
    /// What the function wants of its pin; whether the wire sees it is up to the command register and MSI.
    intx: bool,
    pin: Option<PirqPin>,
    sink: Option<Arc<dyn MsiSink>>,
}

/// The header of one function. Shared by reference: the function keeps it in an `Arc` if its workers interrupt.
#[derive(Debug)]
pub struct PciHeader {
    inner: Mutex<Inner>,
    /// Copy of the command register, for checks on every doorbell.
    command: AtomicU16,
}

impl PciHeader {
    /// A header without MSI and MSI-X.
    pub fn new(config: ConfigSpace) -> Self {
        Self::with_interrupts(config, None, None)
    }

    /// A header with the message capabilities that were added to `config`.
    pub fn with_interrupts(config: ConfigSpace, msi: Option<MsiCapability>, msix: Option<Msix>) -> Self {
        let inner = Inner { config, msi, msix, intx: false, pin: None, sink: None };
        Self { inner: Mutex::new(inner), command: AtomicU16::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wires the function up; [`PciBus::attach`](super::PciBus::attach) does this.
    pub fn connect(&self, pin: Option<PirqPin>, sink: Arc<dyn MsiSink>) {
        let mut inner = self.lock();
        inner.pin = pin;
        inner.sink = Some(sink);
        self.settle(&mut inner);
    }

    /// The interrupt pin, 1 to 4, or 0 for none.
    pub fn interrupt_pin(&self) -> u8 {
        self.read(reg::INTERRUPT_PIN.into(), 1) as u8
    }

    /// Marks the device as multi-function, for function 0 of such a device.
    pub fn set_multi_function(&self) {
        self.lock().config.set_multi_function();
    }

    /// Reads 1 to 4 configuration bytes.
    pub fn read(&self, offset: u16, size: u8) -> u32 {
        self.lock().config.read(offset, size)
    }

    /// Writes 1 to 4 configuration bytes, and acts on what that enables or masks.
    pub fn write(&self, offset: u16, size: u8, value: u32) {
        let mut inner = self.lock();
        inner.config.write(offset, size, value);
        self.settle(&mut inner);
    }

    /// Changes configuration bytes as the function itself does, past the write mask.
    pub fn set_config_dword(&self, offset: u8, value: u32) {
        self.lock().config.set_dword(offset, value);
    }

    /// Whether the function may reach memory and send messages (command register, bus master enable).
    pub fn bus_master(&self) -> bool {
        self.command.load(Ordering::Acquire) & command::MASTER != 0
    }

    /// A BAR's kind and size, if the function has it.
    pub fn bar(&self, index: u8) -> Option<super::Bar> {
        self.lock().config.bar(index)
    }

    /// The BARs decoded now. A BAR at 0, past 64 KiB of ports, past 4 GiB for 32 bits, or wrapping around is not: all
    /// of these are seen while software sizes BARs.
    pub fn windows(&self) -> Vec<BarWindow> {
        let inner = self.lock();
        let enabled = inner.config.word(reg::COMMAND);
        (0..6)
            .filter_map(|index| {
                let bar = inner.config.bar(index)?;
                let start = inner.config.bar_address(index);
                let io = bar.kind == BarKind::Io;
                let limit = match bar.kind {
                    BarKind::Io => 1 << 16,
                    BarKind::Mem32 => (1 << 32) - 1,
                    BarKind::Mem64 => 1 << 52,
                };
                let end = start.checked_add(bar.size)?;
                let gate = if io { command::IO } else { command::MEMORY };
                (enabled & gate != 0 && start != 0 && end <= limit).then_some(BarWindow {
                    bar: index,
                    io,
                    range: start..end,
                })
            })
            .collect()
    }

    /// Asserts or releases the function's interrupt pin.
    pub fn set_intx(&self, level: bool) {
        let mut inner = self.lock();
        inner.intx = level;
        self.settle(&mut inner);
    }

    /// Signals MSI vector `vector`.
    pub fn notify_msi(&self, vector: u8) {
        let mut inner = self.lock();
        let Inner { config, msi, .. } = &mut *inner;
        let message = msi.as_ref().and_then(|msi| msi.notify(config, vector));
        self.send(&inner, message);
    }

    /// Signals MSI-X vector `vector`; a vector the function does not have (0xffff) does nothing.
    pub fn notify_msix(&self, vector: u16) {
        let mut inner = self.lock();
        let Inner { config, msix, .. } = &mut *inner;
        let message = msix.as_mut().and_then(|msix| msix.notify(config, vector));
        self.send(&inner, message);
    }

    /// Whether MSI is enabled.
    pub fn msi_enabled(&self) -> bool {
        let inner = self.lock();
        inner.msi.is_some_and(|msi| msi.enabled(&inner.config))
    }

    /// Whether MSI-X is enabled.
    pub fn msix_enabled(&self) -> bool {
        let inner = self.lock();
        inner.msix.as_ref().is_some_and(|msix| msix.enabled(&inner.config))
    }

    /// Number of MSI-X vectors.
    pub fn msix_vectors(&self) -> u16 {
        self.lock().msix.as_ref().map_or(0, Msix::vectors)
    }

    /// Reads the MSI-X BAR.
    pub fn msix_read(&self, offset: u64, size: u8) -> u64 {
        self.lock().msix.as_ref().map_or(0, |msix| msix.read(offset, size))
    }

    /// Writes the MSI-X BAR, and sends what that unmasks.
    pub fn msix_write(&self, offset: u64, size: u8, value: u64) {
        let mut inner = self.lock();
        if let Some(msix) = &mut inner.msix {
            msix.write(offset, size, value);
        }
        self.settle(&mut inner);
    }

    /// A message is a memory write, so it needs bus mastering; without it the message is lost.
    fn send(&self, inner: &Inner, message: Option<(u64, u32)>) {
        if let (Some((address, data)), Some(sink), true) = (message, &inner.sink, self.bus_master()) {
            sink.send_msi(address, data);
        }
    }

    /// Brings all that depends on configuration up to date: the command copy, the pin, vectors no longer masked.
    fn settle(&self, inner: &mut Inner) {
        let enabled = inner.config.word(reg::COMMAND);
        self.command.store(enabled, Ordering::Release);
        let messages = inner.msi.is_some_and(|msi| msi.enabled(&inner.config))
            || inner.msix.as_ref().is_some_and(|msix| msix.enabled(&inner.config));
        let level = inner.intx && !messages && enabled & command::INTX_DISABLE == 0;
        let intx = inner.intx;
        inner.config.set_interrupt_status(intx);
        if let Some(pin) = &mut inner.pin {
            pin.set_level(level);
        }
        while let Some(vector) = inner.msi.and_then(|msi| msi.take_unmasked(&mut inner.config)) {
            let message = inner.msi.and_then(|msi| msi.notify(&mut inner.config, vector));
            self.send(inner, message);
        }
        while let Some(vector) = inner.msix.as_ref().and_then(|msix| msix.next_unmasked(&inner.config)) {
            let Inner { config, msix, .. } = &mut *inner;
            let message = msix.as_mut().and_then(|msix| msix.notify(config, vector));
            self.send(inner, message);
        }
    }

    /// Power-on state: nothing decoded, no interrupts.
    pub fn reset(&self) {
        let mut inner = self.lock();
        inner.config.reset();
        if let Some(msix) = &mut inner.msix {
            msix.reset();
        }
        inner.intx = false;
        self.settle(&mut inner);
    }

    /// The state for a snapshot.
    pub fn save(&self) -> HeaderState {
        let inner = self.lock();
        HeaderState {
            config: inner.config.bytes().to_vec(),
            msi_pending: inner.msi.map_or(0, |msi| msi.pending(&inner.config)),
            msix: inner.msix.as_ref().map(Msix::save),
            intx: inner.intx,
        }
    }

    /// Takes a snapshot's state. The caller rebuilds the bus's decode map
    /// ([`PciBus::restore`](super::PciBus::restore) does both).
    pub fn restore(&self, state: &HeaderState) {
        let mut inner = self.lock();
        let Inner { config, msi, msix, .. } = &mut *inner;
        config.restore(&state.config);
        if let Some(msi) = msi {
            msi.set_pending(config, state.msi_pending);
        }
        if let (Some(msix), Some(saved)) = (msix, &state.msix) {
            msix.restore(saved);
        }
        inner.intx = state.intx;
        self.settle(&mut inner);
    }
}
