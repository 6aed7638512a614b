//! The keyboard controller with its keyboard and mouse, ports 60h and 64h, IRQ 1 and 12 (IBM PS/2 technical
//! reference, "Keyboard and auxiliary device controller"; Intel UPI-42).
//!
//! The controller answers at once, so the input buffer is always empty. A byte that is read makes room for the next,
//! which raises the interrupt line again: every byte is an edge of its own.

mod keyboard;
mod mouse;

use crate::lock::lock;
use crate::port92::A20Gate;
use crate::power::{PowerEvent, PowerSink};
use emu_core::bus::{Irq, PortDevice};
use keyboard::{Keyboard, translate};
use mouse::Mouse;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Status register bits.
const OUTPUT_FULL: u8 = 1;
const SYSTEM: u8 = 4;
const LAST_WAS_COMMAND: u8 = 8;
const NOT_LOCKED: u8 = 0x10;
const FROM_MOUSE: u8 = 0x20;

/// Configuration byte bits.
const KEYBOARD_INTERRUPT: u8 = 1;
const MOUSE_INTERRUPT: u8 = 2;
const KEYBOARD_OFF: u8 = 0x10;
const MOUSE_OFF: u8 = 0x20;
const TRANSLATE: u8 = 0x40;

/// Output port bits.
const NO_RESET: u8 = 1;
const A20: u8 = 2;

/// Replies of the controller itself that may wait.
const REPLIES: usize = 4;

/// The state of the controller and what is plugged into it.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct I8042State {
    ram: Vec<u8>,
    status: u8,
    output: u8,
    output_port: u8,
    /// A controller command that waits for its parameter.
    command: Option<u8>,
    /// Bytes of the controller's own, with whether they count as the mouse's.
    replies: VecDeque<(u8, bool)>,
    breaking: bool,
    keyboard: Keyboard,
    mouse: Mouse,
}

/// What a write asks of the rest of the machine.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effects {
    a20: Option<bool>,
    reset: bool,
}

impl Default for I8042State {
    fn default() -> Self {
        let mut ram = vec![0; 32];
        ram[0] = KEYBOARD_INTERRUPT | MOUSE_INTERRUPT | SYSTEM | TRANSLATE;
        Self {
            ram,
            status: NOT_LOCKED | SYSTEM,
            output: 0,
            output_port: 0xcc | NO_RESET | A20,
            command: None,
            replies: VecDeque::new(),
            breaking: false,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
        }
    }
}

impl I8042State {
    fn config(&self) -> u8 {
        self.ram.first().copied().unwrap_or(0)
    }

    fn has(&self, bit: u8) -> bool {
        self.config() & bit != 0
    }

    fn set_config(&mut self, bits: u8, value: bool) {
        if let Some(config) = self.ram.first_mut() {
            *config = if value { *config | bits } else { *config & !bits };
        }
    }

    /// Levels of IRQ 1 and IRQ 12.
    fn lines(&self) -> (bool, bool) {
        let full = self.status & OUTPUT_FULL != 0;
        let mouse = self.status & FROM_MOUSE != 0;
        (full && !mouse && self.has(KEYBOARD_INTERRUPT), full && mouse && self.has(MOUSE_INTERRUPT))
    }

    fn reply(&mut self, byte: u8, from_mouse: bool) {
        if self.replies.len() < REPLIES {
            self.replies.push_back((byte, from_mouse));
        }
    }

    /// Moves the next byte into the output buffer if that is empty.
    fn refill(&mut self) {
        if self.status & OUTPUT_FULL != 0 {
            return;
        }
        let (byte, from_mouse) = if let Some(reply) = self.replies.pop_front() {
            reply
        } else if let Some(byte) = self.next_of_keyboard() {
            (byte, false)
        } else if let Some(byte) = self.next_of_mouse() {
            (byte, true)
        } else {
            return;
        };
        self.output = byte;
        self.status = (self.status & !FROM_MOUSE) | OUTPUT_FULL | if from_mouse { FROM_MOUSE } else { 0 };
    }

    fn next_of_keyboard(&mut self) -> Option<u8> {
        if self.has(KEYBOARD_OFF) {
            return None;
        }
        loop {
            let byte = self.keyboard.send()?;
            if !self.has(TRANSLATE) {
                return Some(byte);
            }
            if let Some(byte) = translate(byte, &mut self.breaking) {
                return Some(byte);
            }
        }
    }

    fn next_of_mouse(&mut self) -> Option<u8> {
        if self.has(MOUSE_OFF) { None } else { self.mouse.send() }
    }

    fn read_data(&mut self) -> u8 {
        self.status &= !(OUTPUT_FULL | FROM_MOUSE);
        self.output
    }

    fn write_data(&mut self, value: u8, effects: &mut Effects) {
        self.status &= !LAST_WAS_COMMAND;
        match self.command.take() {
            Some(command @ 0x60..=0x7f) => {
                if let Some(byte) = self.ram.get_mut(usize::from(command & 0x1f)) {
                    *byte = value;
                }
                if command == 0x60 {
                    self.status = self.status & !SYSTEM | value & SYSTEM;
                }
            }
            Some(0xd1) => self.write_output_port(value, effects),
            Some(0xd2) => self.reply(value, false),
            Some(0xd3) => self.reply(value, true),
            Some(_) => {
                // Writing to a device enables its clock.
                self.set_config(MOUSE_OFF, false);
                self.mouse.write(value);
            }
            None => {
                self.set_config(KEYBOARD_OFF, false);
                self.keyboard.write(value);
            }
        }
    }

    fn write_output_port(&mut self, value: u8, effects: &mut Effects) {
        self.output_port = value;
        effects.a20 = Some(value & A20 != 0);
        effects.reset = value & NO_RESET == 0;
    }

    fn write_command(&mut self, value: u8, a20: bool, effects: &mut Effects) {
        self.status |= LAST_WAS_COMMAND;
        self.command = None;
        match value {
            0x20..=0x3f => self.reply(self.ram.get(usize::from(value & 0x1f)).copied().unwrap_or(0), false),
            0x60..=0x7f | 0xd1..=0xd4 => self.command = Some(value),
            // No password.
            0xa4 => self.reply(0xf1, false),
            0xa7 => self.set_config(MOUSE_OFF, true),
            0xa8 => self.set_config(MOUSE_OFF, false),
            // Interface tests: no error.
            0xa9 | 0xab => self.reply(0, false),
            0xaa => {
                self.status |= SYSTEM;
                self.reply(0x55, false);
            }
            0xad => self.set_config(KEYBOARD_OFF, true),
            0xae => self.set_config(KEYBOARD_OFF, false),
            // Input port: keyboard not locked, nothing else.
            0xc0 => self.reply(0x80, false),
            0xd0 => {
                let (irq1, irq12) = self.lines();
                let pins = u8::from(a20) << 1 | u8::from(irq1) << 4 | u8::from(irq12) << 5;
                self.reply(self.output_port & !(A20 | 0x30) | pins, false);
            }
            0xdd => effects.a20 = Some(false),
            0xdf => effects.a20 = Some(true),
            // Test inputs: both clocks low.
            0xe0 => self.reply(0, false),
            // Pulse the output bits whose mask bits are clear; bit 0 resets.
            0xf0..=0xff => effects.reset = value & 1 == 0,
            _ => {}
        }
    }
}

/// The controller on the board.
#[derive(Debug)]
pub struct I8042 {
    state: Mutex<I8042State>,
    irq1: Irq,
    irq12: Irq,
    a20: Arc<A20Gate>,
    power: Arc<dyn PowerSink>,
}

impl I8042 {
    /// A controller with a keyboard on `irq1` and a mouse on `irq12`. The device answers ports 60h (offset 0) and
    /// 64h (offset 4): attach it as five ports from 60h beneath port 61h, or with [`I8042::port64`].
    pub fn new(irq1: Irq, irq12: Irq, a20: Arc<A20Gate>, power: Arc<dyn PowerSink>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), irq1, irq12, a20, power })
    }

    /// The command and status port, one port at 64h.
    pub fn port64(self: &Arc<Self>) -> Arc<dyn PortDevice> {
        Arc::new(Port64(self.clone()))
    }

    /// A key goes down or up. `code` is its set 1 make code, `extended` whether E0h precedes it. False if the guest
    /// has not read the keys before it: try again later.
    pub fn key(&self, code: u8, extended: bool, down: bool) -> bool {
        self.change(|s| s.keyboard.key(code, extended, down))
    }

    /// The mouse moves (right, up, wheel towards the user) with these buttons down: bit 0 left, 1 right, 2 middle.
    pub fn mouse(&self, dx: i32, dy: i32, dz: i32, buttons: u8) {
        self.change(|s| s.mouse.event(dx, dy, dz, buttons));
    }

    /// The keyboard's lights: bit 0 scroll lock, 1 num lock, 2 caps lock.
    pub fn leds(&self) -> u8 {
        lock(&self.state).keyboard.leds()
    }

    /// The state after power-on.
    pub fn reset(&self) {
        self.restore(I8042State::default());
    }

    /// A copy of the state.
    pub fn save(&self) -> I8042State {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: I8042State) {
        self.change(|s| *s = state);
    }

    fn drive(&self, state: &I8042State) {
        let (irq1, irq12) = state.lines();
        self.irq1.set_level(irq1);
        self.irq12.set_level(irq12);
    }

    /// Changes the state, then lets the next byte into the output buffer.
    fn change<R>(&self, f: impl FnOnce(&mut I8042State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        // Between a read and the next byte the lines are low, so that each byte is an edge.
        self.drive(&state);
        state.refill();
        self.drive(&state);
        result
    }

    fn write(&self, command: bool, value: u8) {
        let mut effects = Effects::default();
        self.change(|s| {
            if command {
                s.write_command(value, self.a20.is_enabled(), &mut effects);
            } else {
                s.write_data(value, &mut effects);
            }
        });
        if let Some(a20) = effects.a20 {
            self.a20.set(a20);
        }
        if effects.reset {
            self.power.power_event(PowerEvent::Reset);
        }
    }
}

impl PortDevice for I8042 {
    fn port_read(&self, offset: u16, _size: u8) -> u32 {
        match offset {
            0 => self.change(I8042State::read_data).into(),
            4 => lock(&self.state).status.into(),
            _ => 0xff,
        }
    }

    fn port_write(&self, offset: u16, _size: u8, value: u32) {
        match offset {
            0 => self.write(false, value as u8),
            4 => self.write(true, value as u8),
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Port64(Arc<I8042>);

impl PortDevice for Port64 {
    fn port_read(&self, _offset: u16, size: u8) -> u32 {
        self.0.port_read(4, size)
    }
    fn port_write(&self, _offset: u16, size: u8, value: u32) {
        self.0.port_write(4, size, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;
    use crate::power::testing::Events;

    struct Board {
        kbc: Arc<I8042>,
        irq1: Arc<Probe>,
        irq12: Arc<Probe>,
        a20: Arc<A20Gate>,
        events: Arc<Events>,
    }

    impl Board {
        fn new() -> Self {
            let (irq1, irq12, events) = (Probe::new(), Probe::new(), Events::new());
            let a20 = A20Gate::new(Probe::new());
            let kbc = I8042::new(irq1.clone(), irq12.clone(), a20.clone(), events.clone());
            Self { kbc, irq1, irq12, a20, events }
        }
        fn command(&self, value: u32) {
            self.kbc.port_write(4, 1, value);
        }
        fn data(&self, value: u32) {
            self.kbc.port_write(0, 1, value);
        }
        fn status(&self) -> u32 {
            self.kbc.port64().port_read(0, 1)
        }
        fn read(&self) -> Vec<u32> {
            let mut bytes = Vec::new();
            while self.status() & 1 != 0 {
                bytes.push(self.kbc.port_read(0, 1));
            }
            bytes
        }
    }

    #[test]
    fn self_test_and_interface_tests() {
        let b = Board::new();
        for (command, reply) in [(0xaa, 0x55), (0xab, 0), (0xa9, 0), (0xc0, 0x80), (0x20, 0x47), (0xa4, 0xf1)]
        {
            b.command(command);
            assert_eq!(b.read(), [reply], "{command:x}");
        }
    }

    #[test]
    fn linux_probes_the_mouse_port() {
        let b = Board::new();
        // i8042_check_aux: loop a byte, then see that disabling and enabling show in the configuration byte.
        b.command(0xd3);
        b.data(0x5a);
        assert_eq!(b.status() & 0x21, 0x21);
        assert!(b.irq12.level());
        assert_eq!(b.read(), [0x5a]);
        for (command, bit) in [(0xa7, 0x20), (0xa8, 0)] {
            b.command(command);
            b.command(0x20);
            assert_eq!(b.read()[0] & 0x20, bit);
        }
    }

    #[test]
    fn every_key_byte_is_an_edge() {
        let b = Board::new();
        assert!(b.kbc.key(0x1e, false, true) && b.kbc.key(0x1e, false, false));
        assert_eq!(b.irq1.edges(), 1);
        assert_eq!(b.read(), [0x1e, 0x9e]);
        assert_eq!(b.irq1.edges(), 2);
        assert!(!b.irq1.level());
        b.command(0x60);
        b.data(0x04);
        assert!(b.kbc.key(0x1e, false, false));
        assert!(!b.irq1.level(), "disabled in the configuration byte");
        assert_eq!(b.read(), [0xf0, 0x1c], "and not translated");
    }

    #[test]
    fn a_disabled_keyboard_holds_its_bytes() {
        let b = Board::new();
        b.command(0xad);
        b.kbc.key(0x1e, false, true);
        assert!(b.read().is_empty());
        b.command(0xae);
        assert_eq!(b.read(), [0x1e]);
    }

    #[test]
    fn devices_answer_through_the_controller() {
        let b = Board::new();
        b.data(0xff);
        assert_eq!(b.read(), [0xfa, 0xaa]);
        b.data(0xf2);
        assert_eq!(b.read(), [0xfa, 0xab, 0x41], "translated, as Linux expects");
        b.command(0xd4);
        b.data(0xff);
        assert_eq!(b.read(), [0xfa, 0xaa, 0]);
        b.command(0xd4);
        b.data(0xf4);
        b.read();
        b.kbc.mouse(1, 2, 0, 0);
        assert_eq!(b.read(), [8, 1, 2]);
    }

    #[test]
    fn a20_and_reset() {
        let b = Board::new();
        b.command(0xd1);
        b.data(0xdd);
        assert!(!b.a20.is_enabled());
        b.command(0xd0);
        assert_eq!(b.read()[0] & 3, 1);
        b.command(0xdf);
        assert!(b.a20.is_enabled());
        assert_eq!(b.events.taken(), []);
        b.command(0xfe);
        b.command(0xff);
        b.command(0xd1);
        b.data(0x02);
        assert_eq!(b.events.taken(), [PowerEvent::Reset; 2]);
    }

    #[test]
    fn every_write_is_harmless() {
        let b = Board::new();
        for command in 0..256 {
            for value in 0..256 {
                b.command(command);
                b.data(value);
                b.kbc.key(value as u8, command & 1 != 0, value & 1 != 0);
                b.kbc.mouse(i32::MIN, i32::MAX, 1, 255);
            }
        }
        assert!(b.read().len() < 200);
        b.kbc.restore(serde_json::from_str(&serde_json::to_string(&b.kbc.save()).unwrap()).unwrap());
    }
}
