//! A 16550A serial port: eight ports (COM1: 3F8h, IRQ 4; COM2: 2F8h, IRQ 3). See [`chip`] for the registers.
//!
//! The vCPU never waits: output goes straight to a [`ByteSink`]. Input comes from a console thread, which offers
//! bytes with [`Uart::receive`] and waits in [`Uart::wait_for_room`] when the FIFO is full.

mod chip;

pub use chip::UartState;

use crate::lock::lock;
use crate::sink::ByteSink;
use emu_core::bus::{Irq, PortDevice};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A serial port on the board.
#[derive(Debug)]
pub struct Uart {
    state: Mutex<UartState>,
    room: Condvar,
    irq: Irq,
    sink: Arc<dyn ByteSink>,
}

impl Uart {
    /// A port that sends to `sink` and interrupts through `irq`.
    pub fn new(irq: Irq, sink: Arc<dyn ByteSink>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), room: Condvar::new(), irq, sink })
    }

    /// Offers input; returns how many of `bytes` were taken.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let mut state = lock(&self.state);
        let count = state.receive(bytes);
        self.irq.set_level(state.interrupt_level());
        count
    }

    /// A break condition on the input line. Lost if the FIFO is full.
    pub fn receive_break(&self) {
        let mut state = lock(&self.state);
        state.receive_break();
        self.irq.set_level(state.interrupt_level());
    }

    /// Waits until input can be taken, at most for `timeout`. Whether it can.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.room.wait_timeout_while(state, timeout, |s| s.room() == 0);
        let (state, _) = waited.unwrap_or_else(|e| e.into_inner());
        state.room() > 0
    }

    /// The state after power-on.
    pub fn reset(&self) {
        self.restore(UartState::default());
    }

    /// A copy of the state.
    pub fn save(&self) -> UartState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: UartState) {
        self.change(|s| *s = state);
    }

    fn change<R>(&self, f: impl FnOnce(&mut UartState) -> R) -> R {
        let mut state = lock(&self.state);
        let full = state.room() == 0;
        let result = f(&mut state);
        self.irq.set_level(state.interrupt_level());
        if full && state.room() > 0 {
            self.room.notify_all();
        }
        result
    }
}

impl PortDevice for Uart {
    fn port_read(&self, offset: u16, _size: u8) -> u32 {
        self.change(|s| s.read(offset)).into()
    }

    fn port_write(&self, offset: u16, _size: u8, value: u32) {
        self.change(|s| {
            if let Some(byte) = s.write(offset, value as u8) {
                // With the lock held, so that the bytes of two vCPUs keep their order.
                self.sink.write(&[byte]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use crate::sink::testing::Collect;

    fn board() -> (Arc<Uart>, Arc<Probe>, Arc<Collect>) {
        let (irq, sink) = (Probe::new(), Collect::new());
        (Uart::new(irq.clone(), sink.clone()), irq, sink)
    }

    fn read(uart: &Uart, register: u16) -> u32 {
        uart.port_read(register, 1)
    }

    fn write(uart: &Uart, register: u16, value: u32) {
        uart.port_write(register, 1, value);
    }

    #[test]
    fn linux_autoconfig_finds_a_16550a() {
        let (uart, ..) = board();
        // drivers/tty/serial/8250: IER has four bits, the scratch register holds, loopback mirrors the MCR, the FIFO
        // shows in the IIR.
        write(&uart, 1, 0);
        assert_eq!(read(&uart, 1), 0);
        write(&uart, 1, 0xf);
        assert_eq!(read(&uart, 1), 0xf);
        write(&uart, 1, 0);
        write(&uart, 7, 0xa5);
        assert_eq!(read(&uart, 7), 0xa5);
        write(&uart, 4, 0x1a);
        assert_eq!(read(&uart, 6) & 0xf0, 0x90);
        write(&uart, 4, 0);
        write(&uart, 2, 1);
        assert_eq!(read(&uart, 2) >> 6, 3);
        write(&uart, 2, 0);
        assert_eq!(read(&uart, 2), 1);
        write(&uart, 3, 0x83);
        write(&uart, 0, 1);
        write(&uart, 1, 2);
        assert_eq!((read(&uart, 0), read(&uart, 1)), (1, 2));
        write(&uart, 3, 3);
        assert_eq!(read(&uart, 1), 0, "IER, not the divisor");
    }

    #[test]
    fn thre_is_raised_by_writing_and_by_enabling() {
        let (uart, irq, sink) = board();
        write(&uart, 0, b'a'.into());
        assert!(!irq.level());
        write(&uart, 1, 2);
        assert!(irq.level());
        assert_eq!(read(&uart, 2), 2);
        assert!(!irq.level(), "reading the IIR clears it");
        assert_eq!(read(&uart, 2), 1);
        // The driver's test for a lost THRE interrupt.
        write(&uart, 1, 0);
        write(&uart, 1, 2);
        assert_eq!(read(&uart, 2), 2);
        write(&uart, 0, b'b'.into());
        assert!(irq.level());
        assert_eq!(read(&uart, 5), 0x60);
        assert_eq!(sink.taken(), b"ab");
    }

    #[test]
    fn input_waits_for_room() {
        let (uart, irq, _) = board();
        write(&uart, 2, 0x81);
        write(&uart, 1, 1);
        assert_eq!(uart.receive(b"abc"), 3);
        assert!(irq.level());
        assert_eq!(read(&uart, 2), 0xcc, "below the trigger level: time-out");
        assert_eq!(uart.receive(&[0; 20]), 13);
        assert_eq!(read(&uart, 2), 0xc4);
        assert!(!uart.wait_for_room(Duration::ZERO));
        assert_eq!(read(&uart, 0), u32::from(b'a'));
        assert!(uart.wait_for_room(Duration::ZERO));
        for _ in 0..15 {
            read(&uart, 0);
        }
        assert!(!irq.level());
        assert_eq!(read(&uart, 5) & 1, 0);
    }

    #[test]
    fn loopback_overruns() {
        let (uart, _, sink) = board();
        write(&uart, 4, 0x10);
        write(&uart, 0, 1);
        write(&uart, 0, 2);
        assert_eq!(uart.receive(b"x"), 0);
        assert_eq!(read(&uart, 5), 0x63);
        assert_eq!(read(&uart, 5), 0x61);
        assert_eq!(read(&uart, 0), 1);
        assert!(sink.taken().is_empty());
    }

    #[test]
    fn breaks_are_reported_first() {
        let (uart, irq, _) = board();
        write(&uart, 1, 5);
        uart.receive_break();
        assert!(irq.level());
        assert_eq!(read(&uart, 2), 6);
        assert_eq!(read(&uart, 5) & 0x11, 0x11);
        assert_eq!(read(&uart, 2), 4);
    }

    #[test]
    fn a_waiting_console_is_woken() {
        let (uart, ..) = board();
        uart.receive(b"a");
        let waiter = std::thread::spawn({
            let uart = uart.clone();
            move || uart.wait_for_room(Duration::from_secs(10))
        });
        read(&uart, 0);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn every_access_is_harmless() {
        let (uart, ..) = board();
        for value in 0..256 {
            for register in 0..9 {
                write(&uart, register, value);
                read(&uart, register);
            }
            uart.receive(&[1; 40]);
        }
        uart.restore(serde_json::from_str(&serde_json::to_string(&uart.save()).unwrap()).unwrap());
    }
}
