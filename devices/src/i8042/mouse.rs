//! The PS/2 mouse with a wheel (IBM PS/2 technical reference, "Mouse"; Microsoft's IntelliMouse extension).

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Packets are held back while this many bytes wait.
const PACKET_BYTES: usize = 12;
const QUEUE: usize = 32;
const ACK: u8 = 0xfa;

/// The state of the mouse.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Mouse {
    pub(super) queue: VecDeque<u8>,
    reporting: bool,
    remote: bool,
    wrap: bool,
    scaling: bool,
    resolution: u8,
    rate: u8,
    /// The last three rates: 200, 100, 80 turns on the wheel.
    rates: [u8; 3],
    wheel: bool,
    command: Option<u8>,
    buttons: u8,
    /// Buttons as last reported.
    reported: u8,
    dx: i32,
    dy: i32,
    dz: i32,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            reporting: false,
            remote: false,
            wrap: false,
            scaling: false,
            resolution: 2,
            rate: 100,
            rates: [0; 3],
            wheel: false,
            command: None,
            buttons: 0,
            reported: 0,
            dx: 0,
            dy: 0,
            dz: 0,
        }
    }
}

impl Mouse {
    fn reply(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
        while self.queue.len() > QUEUE {
            self.queue.pop_front();
        }
    }

    /// The mouse moves by `dx` to the right, `dy` up and `dz` wheel steps towards the user; `buttons` has bit 0 left,
    /// 1 right, 2 middle.
    pub(super) fn event(&mut self, dx: i32, dy: i32, dz: i32, buttons: u8) {
        let add = |sum: i32, step: i32| sum.saturating_add(step).clamp(-4096, 4096);
        (self.dx, self.dy, self.dz) = (add(self.dx, dx), add(self.dy, dy), add(self.dz, dz));
        self.buttons = buttons & 7;
        if self.reporting && !self.remote {
            self.report();
        }
    }

    fn moved(&self) -> bool {
        (self.dx, self.dy, self.dz) != (0, 0, 0) || self.buttons != self.reported
    }

    /// Sends packets for what has happened, as far as there is room.
    fn report(&mut self) {
        while self.moved() && self.queue.len() < PACKET_BYTES {
            self.packet();
        }
    }

    fn packet(&mut self) {
        let step = |sum: &mut i32, low: i32, high: i32| {
            let step = (*sum).clamp(low, high);
            *sum -= step;
            step
        };
        let (dx, dy) = (step(&mut self.dx, -255, 255), step(&mut self.dy, -255, 255));
        let signs = u8::from(dx < 0) << 4 | u8::from(dy < 0) << 5;
        self.queue.extend([8 | self.buttons & 7 | signs, dx as u8, dy as u8]);
        let dz = step(&mut self.dz, -8, 7);
        if self.wheel {
            self.queue.push_back(dz as u8);
        }
        self.reported = self.buttons;
    }

    /// The next byte for the controller.
    pub(super) fn send(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front();
        if self.queue.is_empty() && self.reporting && !self.remote {
            self.report();
        }
        byte
    }

    /// A byte from the host.
    pub(super) fn write(&mut self, value: u8) {
        if self.wrap && !matches!(value, 0xec | 0xff) {
            return self.reply(&[value]);
        }
        match self.command.take() {
            Some(0xf3) => {
                self.rate = value;
                self.rates = [self.rates[1], self.rates[2], value];
                self.wheel |= self.rates == [200, 100, 80];
                return self.reply(&[ACK]);
            }
            Some(_) => {
                self.resolution = value & 3;
                return self.reply(&[ACK]);
            }
            None => {}
        }
        // Any command but "resend" throws away what is unread.
        self.queue.clear();
        match value {
            0xe6 | 0xe7 => self.scaling = value == 0xe7,
            0xe8 | 0xf3 => self.command = Some(value),
            0xe9 => {
                // Left, middle, right from bit 2 down.
                let buttons = (self.buttons & 1) << 2 | (self.buttons & 4) >> 1 | (self.buttons & 2) >> 1;
                let modes =
                    u8::from(self.remote) << 6 | u8::from(self.reporting) << 5 | u8::from(self.scaling) << 4;
                return self.reply(&[ACK, modes | buttons, self.resolution, self.rate]);
            }
            0xea => self.remote = false,
            0xeb => {
                self.reply(&[ACK]);
                return self.packet();
            }
            0xec => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => return self.reply(&[ACK, if self.wheel { 3 } else { 0 }]),
            0xf4 | 0xf5 => self.reporting = value == 0xf4,
            0xf6 => *self = Self { wheel: self.wheel, buttons: self.buttons, ..Self::default() },
            0xff => {
                *self = Self::default();
                return self.reply(&[ACK, 0xaa, 0]);
            }
            _ => return self.reply(&[0xfe]),
        }
        self.reply(&[ACK]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(mouse: &mut Mouse) -> Vec<u8> {
        std::iter::from_fn(|| mouse.send()).collect()
    }

    fn tell(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|&byte| {
                mouse.write(byte);
                sent(mouse)
            })
            .collect()
    }

    #[test]
    fn reset_and_identity() {
        let mut mouse = Mouse::default();
        assert_eq!(tell(&mut mouse, &[0xff]), [ACK, 0xaa, 0]);
        assert_eq!(tell(&mut mouse, &[0xf2]), [ACK, 0]);
        tell(&mut mouse, &[0xf3, 200, 0xf3, 100, 0xf3, 80]);
        assert_eq!(tell(&mut mouse, &[0xf2]), [ACK, 3], "the wheel is on");
        mouse.event(0, 0, 0, 1);
        assert_eq!(tell(&mut mouse, &[0xe9]), [ACK, 4, 2, 80]);
    }

    #[test]
    fn packets() {
        let mut mouse = Mouse::default();
        mouse.event(1, 1, 0, 0);
        assert!(sent(&mut mouse).is_empty(), "not reporting");
        assert_eq!(tell(&mut mouse, &[0xf6, 0xf4]), [ACK, ACK]);
        mouse.event(-2, 3, 0, 1);
        assert_eq!(sent(&mut mouse), [0x19, 0xfe, 3]);
        mouse.event(300, 0, 0, 1);
        assert_eq!(sent(&mut mouse), [9, 255, 0, 9, 45, 0], "in two packets");
        (0..1000).for_each(|_| mouse.event(i32::MAX, i32::MIN, i32::MAX, 2));
        assert!(mouse.queue.len() < PACKET_BYTES + 4);
    }
}
