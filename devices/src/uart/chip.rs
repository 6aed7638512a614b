//! The registers of a 16550A (National Semiconductor PC16550D, June 1995). No lock, no line, no sink.
//!
//! A byte written is on its way at once, so the transmitter is always empty; THRE is nevertheless an event that is
//! raised and cleared as section 8.6 of the datasheet says. The receive time-out interrupt does not wait for four
//! character times, so no timer is needed.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Depth of the receive FIFO.
const FIFO: usize = 16;

const IER_RECEIVED: u8 = 1;
const IER_EMPTY: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;
const LCR_DLAB: u8 = 0x80;
const MCR_LOOP: u8 = 0x10;
const LSR_DATA: u8 = 1;
const LSR_OVERRUN: u8 = 2;
const LSR_BREAK: u8 = 0x10;
const LSR_EMPTY: u8 = 0x60;
const FCR_ENABLE: u8 = 1;
/// CTS, DSR and DCD of a terminal that is always there.
const MODEM_INPUTS: u8 = 0xb0;

/// The state of a UART.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct UartState {
    ier: u8,
    lcr: u8,
    mcr: u8,
    /// Overrun and break; the other bits of the LSR follow from the rest.
    line_errors: u8,
    /// Change bits of the MSR.
    modem_changes: u8,
    scratch: u8,
    divisor: u16,
    fcr: u8,
    /// The transmitter has become empty and nobody has been told yet.
    empty_event: bool,
    received: VecDeque<u8>,
}

impl Default for UartState {
    fn default() -> Self {
        Self {
            ier: 0,
            lcr: 3,
            mcr: 0,
            line_errors: 0,
            modem_changes: 0,
            scratch: 0,
            // 9600 baud.
            divisor: 12,
            fcr: 0,
            empty_event: false,
            received: VecDeque::new(),
        }
    }
}

impl UartState {
    fn fifo_enabled(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    fn trigger_level(&self) -> usize {
        if self.fifo_enabled() { [1, 4, 8, 14][usize::from(self.fcr >> 6)] } else { 1 }
    }

    fn loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    /// How many bytes may be received now.
    pub(super) fn room(&self) -> usize {
        if self.loopback() {
            // The serial input is disconnected: it waits.
            return 0;
        }
        let depth = if self.fifo_enabled() { FIFO } else { 1 };
        depth.saturating_sub(self.received.len())
    }

    /// Takes as many of `bytes` as there is room for, and says how many.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.received.extend(&bytes[..count]);
        count
    }

    /// A break condition on the input: a zero byte with the break bit.
    pub(super) fn receive_break(&mut self) {
        if self.room() > 0 {
            self.received.push_back(0);
            self.line_errors |= LSR_BREAK;
        }
    }

    /// Interrupt identification in order of priority (table 5); None if no interrupt is pending.
    fn interrupt(&self) -> Option<u8> {
        let enabled = |bit| self.ier & bit != 0;
        if enabled(IER_LINE) && self.line_errors != 0 {
            Some(6)
        } else if enabled(IER_RECEIVED) && self.received.len() >= self.trigger_level() {
            Some(4)
        } else if enabled(IER_RECEIVED) && !self.received.is_empty() {
            Some(0xc)
        } else if enabled(IER_EMPTY) && self.empty_event {
            Some(2)
        } else if enabled(IER_MODEM) && self.modem_changes != 0 {
            Some(0)
        } else {
            None
        }
    }

    /// Level of INTR. It is not gated by OUT2: small kernels that never set OUT2 expect interrupts too.
    pub(super) fn interrupt_level(&self) -> bool {
        self.interrupt().is_some()
    }

    fn modem_inputs(&self) -> u8 {
        if !self.loopback() {
            return MODEM_INPUTS;
        }
        // DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
        let mcr = self.mcr;
        (mcr & 1) << 5 | (mcr & 2) << 3 | (mcr & 4) << 4 | (mcr & 8) << 4
    }

    /// Reads register 0 to 7.
    pub(super) fn read(&mut self, register: u16) -> u8 {
        match register & 7 {
            0 if self.lcr & LCR_DLAB != 0 => self.divisor as u8,
            1 if self.lcr & LCR_DLAB != 0 => (self.divisor >> 8) as u8,
            0 => self.received.pop_front().unwrap_or(0),
            1 => self.ier,
            2 => {
                let fifo = if self.fifo_enabled() { 0xc0 } else { 0 };
                let id = self.interrupt();
                if id == Some(2) {
                    self.empty_event = false;
                }
                fifo | id.unwrap_or(1)
            }
            3 => self.lcr,
            4 => self.mcr,
            5 => {
                let data = if self.received.is_empty() { 0 } else { LSR_DATA };
                LSR_EMPTY | data | std::mem::take(&mut self.line_errors)
            }
            6 => self.modem_inputs() | std::mem::take(&mut self.modem_changes),
            _ => self.scratch,
        }
    }

    /// Writes register 0 to 7. Returns the byte to transmit, if that is what it was.
    pub(super) fn write(&mut self, register: u16, value: u8) -> Option<u8> {
        match register & 7 {
            0 if self.lcr & LCR_DLAB != 0 => self.divisor = self.divisor & 0xff00 | u16::from(value),
            1 if self.lcr & LCR_DLAB != 0 => self.divisor = self.divisor & 0xff | u16::from(value) << 8,
            0 => return self.transmit(value),
            1 => {
                let old = std::mem::replace(&mut self.ier, value & 0xf);
                if !old & value & IER_EMPTY != 0 {
                    // Enabling the interrupt while the transmitter is empty raises it (8.6).
                    self.empty_event = true;
                }
            }
            2 => self.write_fcr(value),
            3 => self.lcr = value,
            4 => {
                let before = self.modem_inputs();
                self.mcr = value & 0x1f;
                let (after, changed) = (self.modem_inputs(), before ^ self.modem_inputs());
                // RI (bit 6) counts only when it goes away.
                self.modem_changes |= (changed & 0xb0 | changed & before & !after & 0x40) >> 4;
            }
            5 | 6 => {}
            _ => self.scratch = value,
        }
        None
    }

    fn transmit(&mut self, value: u8) -> Option<u8> {
        self.empty_event = true;
        if !self.loopback() {
            return Some(value);
        }
        let depth = if self.fifo_enabled() { FIFO } else { 1 };
        if self.received.len() < depth {
            self.received.push_back(value);
        } else {
            self.line_errors |= LSR_OVERRUN;
        }
        None
    }

    fn write_fcr(&mut self, value: u8) {
        // A change of the enable bit clears both FIFOs; the other bits count only with it set.
        if (self.fcr ^ value) & FCR_ENABLE != 0 || value & 2 != 0 {
            self.received.clear();
        }
        self.fcr = if value & FCR_ENABLE != 0 { value & 0xc9 } else { 0 };
    }
}
