//! One device's status, features, queues and interrupts, shared by the vCPUs that write its registers and the worker
//! that serves its queues.
//!
//! Lock order: control, then a queue or the ISR byte, then the PCI header. Sessions hold none of them while they work.

use super::device::{VirtioDevice, feature, status};
use super::queue::{NO_VECTOR, Queue, QueueState, RingError};
use super::session::Session;
use crate::pci::PciHeader;
use emu_core::bus::Dma;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// ISR status: a queue has used buffers (virtio 1.2, section 4.1.4.5).
const ISR_QUEUE: u8 = 1;
/// ISR status: the configuration has changed, or the device needs a reset.
const ISR_CONFIG: u8 = 2;
/// [`Transport::stopping`]: the driver wants a reset.
const RESETTING: u8 = 1;
/// [`Transport::stopping`]: the machine is paused.
const PAUSED: u8 = 2;

/// Registers of the common configuration that are not per queue; a snapshot has them as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Control {
    pub status: u8,
    /// What the driver has written, half by half; the negotiated features once FEATURES_OK is set.
    pub features: u64,
    pub device_feature_select: u32,
    pub driver_feature_select: u32,
    pub queue_select: u16,
    pub config_vector: u16,
    pub generation: u8,
    /// Sessions open now. Always 0 in a snapshot.
    #[serde(skip)]
    sessions: u32,
}

impl Control {
    fn new() -> Self {
        Self {
            status: 0,
            features: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            queue_select: 0,
            config_vector: NO_VECTOR,
            generation: 0,
            sessions: 0,
        }
    }

    fn is_live(&self) -> bool {
        self.status & (status::DRIVER_OK | status::NEEDS_RESET | status::FAILED) == status::DRIVER_OK
    }
}

/// State of a transport for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    control: Control,
    isr: u8,
    queues: Vec<QueueState>,
}

/// One device's side of the registers.
#[derive(Debug)]
pub struct Transport {
    header: Arc<PciHeader>,
    dma: Arc<dyn Dma>,
    device: Weak<dyn VirtioDevice>,
    offered: u64,
    control: Mutex<Control>,
    /// Signalled when the last session leaves and when a reset is complete.
    idle: Condvar,
    /// Reasons not to work. Changed only with `control` locked; read without, between requests.
    stopping: AtomicU8,
    queues: Vec<Mutex<Queue>>,
    isr: Mutex<u8>,
}

impl Transport {
    /// A transport for `device`, reset.
    pub(super) fn new(
        header: Arc<PciHeader>,
        dma: Arc<dyn Dma>,
        device: &Arc<dyn VirtioDevice>,
    ) -> Arc<Self> {
        Arc::new(Self {
            header,
            dma,
            device: Arc::downgrade(device),
            offered: device.features() | feature::TRANSPORT,
            control: Mutex::new(Control::new()),
            idle: Condvar::new(),
            stopping: AtomicU8::new(0),
            queues: device.queue_sizes().iter().map(|&max| Mutex::new(Queue::new(max))).collect(),
            isr: Mutex::new(0),
        })
    }

    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue, which must exist.
    pub(super) fn queue(&self, index: u16) -> MutexGuard<'_, Queue> {
        self.queues[usize::from(index)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of queues.
    pub fn queue_count(&self) -> u16 {
        self.queues.len() as u16
    }

    pub(super) fn dma(&self) -> &dyn Dma {
        &*self.dma
    }

    /// The PCI header through which the device interrupts.
    pub fn header(&self) -> &Arc<PciHeader> {
        &self.header
    }

    /// The features on offer.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    pub(super) fn is_resetting(&self) -> bool {
        self.stopping.load(Ordering::Acquire) & RESETTING != 0
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) != 0
    }

    /// Opens a session on a queue, if it may be worked on now: it is enabled, the driver is ready, bus mastering is
    /// on, and nobody resets or pauses the device. Otherwise a doorbell will come when it may.
    pub fn enter(&self, queue: u16) -> Option<Session<'_>> {
        let mut control = self.control();
        let may = control.is_live() && !self.is_stopping() && self.header.bus_master();
        if !may || queue >= self.queue_count() || !self.queue(queue).ready() {
            return None;
        }
        control.sessions += 1;
        Some(Session::new(self, queue, control.features))
    }

    /// Closes a session.
    pub(super) fn leave(&self) {
        let mut control = self.control();
        control.sessions -= 1;
        if control.sessions == 0 {
            if self.is_resetting() {
                self.complete_reset(&mut control);
            }
            self.idle.notify_all();
        }
    }

    /// The driver writes the status register (virtio 1.2, sections 2.1 and 3.1.1). Until a reset has taken effect the
    /// register shows the old value.
    pub(super) fn set_status(&self, value: u8) {
        let mut control = self.control();
        if value == 0 {
            self.begin_reset(&mut control);
            return;
        }
        if self.is_resetting() {
            return;
        }
        let was_live = control.is_live();
        let mut new = control.status | value & !status::NEEDS_RESET;
        let accepted = control.features & !self.offered == 0 && control.features & feature::VERSION_1 != 0;
        if new & status::FEATURES_OK != 0 && !accepted {
            new &= !status::FEATURES_OK;
        }
        if new & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        control.status = new;
        let live = control.is_live();
        drop(control);
        if live && !was_live {
            self.kick_all();
        }
    }

    /// The driver writes half of its features. They are fixed once accepted.
    pub(super) fn set_features(&self, value: u32) {
        let mut control = self.control();
        if control.status & status::FEATURES_OK == 0 && !self.is_resetting() {
            match control.driver_feature_select {
                0 => control.features = control.features & !0xffff_ffff | u64::from(value),
                1 => control.features = control.features & 0xffff_ffff | u64::from(value) << 32,
                _ => {}
            }
        }
    }

    fn begin_reset(&self, control: &mut Control) {
        self.stopping.fetch_or(RESETTING, Ordering::AcqRel);
        if control.sessions == 0 {
            self.complete_reset(control);
        }
    }

    /// With no session open: forgets everything the driver has said.
    fn complete_reset(&self, control: &mut Control) {
        *control = Control { generation: control.generation, ..Control::new() };
        for queue in &self.queues {
            queue.lock().unwrap_or_else(PoisonError::into_inner).reset();
        }
        self.take_isr();
        if let Some(device) = self.device.upgrade() {
            device.reset();
        }
        self.stopping.fetch_and(!RESETTING, Ordering::AcqRel);
        self.idle.notify_all();
    }

    /// Resets the device and waits until that is done, at most for the request under way.
    pub fn reset_and_wait(&self) {
        let mut control = self.control();
        self.begin_reset(&mut control);
        while self.is_resetting() {
            control = self.idle.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stops work on all queues and waits until the requests under way are complete, for a snapshot.
    pub fn pause(&self) {
        let mut control = self.control();
        self.stopping.fetch_or(PAUSED, Ordering::AcqRel);
        while control.sessions != 0 {
            control = self.idle.wait(control).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes work up again.
    pub fn resume(&self) {
        let control = self.control();
        self.stopping.fetch_and(!PAUSED, Ordering::AcqRel);
        drop(control);
        self.kick_all();
    }

    /// A doorbell. Before DRIVER_OK it means nothing (3.1.1).
    pub(super) fn doorbell(&self, queue: u16) {
        if queue >= self.queue_count() || !self.control().is_live() {
            return;
        }
        if let Some(device) = self.device.upgrade() {
            device.notify(queue);
        }
    }

    /// Rings for every queue: buffers may wait there whose doorbell meant nothing when it was rung.
    pub(super) fn kick_all(&self) {
        for queue in 0..self.queue_count() {
            self.doorbell(queue);
        }
    }

    /// The device's configuration has changed: tells the driver.
    pub fn config_changed(&self) {
        let mut control = self.control();
        control.generation = control.generation.wrapping_add(1);
        if control.status & status::DRIVER_OK != 0 {
            self.interrupt(control.config_vector, ISR_CONFIG);
        }
    }

    /// The driver has broken the rules of a ring: the device stands still from now on (2.1.2).
    pub(super) fn fail(&self, queue: u16, error: &RingError) {
        let mut control = self.control();
        if self.is_resetting() || control.status & status::NEEDS_RESET != 0 {
            return;
        }
        tracing::warn!(queue, %error, "virtio device needs reset");
        control.status |= status::NEEDS_RESET;
        if control.status & status::DRIVER_OK != 0 {
            self.interrupt(control.config_vector, ISR_CONFIG);
        }
    }

    pub(super) fn interrupt_queue(&self, vector: u16) {
        self.interrupt(vector, ISR_QUEUE);
    }

    /// A message if MSI-X is on, the pin and the ISR byte otherwise (4.1.5.3).
    fn interrupt(&self, vector: u16, cause: u8) {
        if self.header.msix_enabled() {
            self.header.notify_msix(vector);
        } else {
            let mut isr = self.isr.lock().unwrap_or_else(PoisonError::into_inner);
            *isr |= cause;
            self.header.set_intx(true);
        }
    }

    /// Reading the ISR byte clears it and releases the pin (4.1.4.5).
    pub(super) fn take_isr(&self) -> u8 {
        let mut isr = self.isr.lock().unwrap_or_else(PoisonError::into_inner);
        self.header.set_intx(false);
        std::mem::take(&mut *isr)
    }

    /// The state for a snapshot. The transport must be paused.
    pub fn save(&self) -> TransportState {
        TransportState {
            control: self.control().clone(),
            isr: *self.isr.lock().unwrap_or_else(PoisonError::into_inner),
            queues: (0..self.queue_count()).map(|index| self.queue(index).state().clone()).collect(),
        }
    }

    /// Takes a snapshot's state. The transport must be paused; the PCI header is restored with its bus.
    pub fn restore(&self, state: &TransportState) {
        let mut control = self.control();
        *control = Control { sessions: control.sessions, ..state.control.clone() };
        if control.features & !self.offered != 0 {
            control.status |= status::NEEDS_RESET;
        }
        *self.isr.lock().unwrap_or_else(PoisonError::into_inner) = state.isr;
        for (index, saved) in (0..self.queue_count()).zip(&state.queues) {
            self.queue(index).restore(saved);
        }
    }
}
