//! The PS/2 keyboard: commands and scan codes (IBM PS/2 technical reference, "Keyboards (101- and 102-key)").
//!
//! The keyboard speaks scan code set 2 (or 1 if told to); the controller translates set 2 to set 1. Keys are named
//! by their set 1 codes, since that is what hosts and VNC clients give.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Keys are dropped when this many bytes wait; replies always fit above it.
const KEY_BYTES: usize = 16;
/// Bound of the queue: keys plus the longest reply. A guest that floods commands loses the oldest replies.
const QUEUE: usize = 32;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// Set 2 to set 1, by set 2 code: the table in the controller's ROM.
#[rustfmt::skip]
const SET2_TO_SET1: [u8; 0x85] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
];

/// What the controller makes of a byte of the keyboard, `None` if it is the break prefix and waits for the next.
pub(super) fn translate(byte: u8, breaking: &mut bool) -> Option<u8> {
    if byte == 0xf0 {
        *breaking = true;
        return None;
    }
    let code = SET2_TO_SET1.get(usize::from(byte)).copied().unwrap_or(byte);
    Some(if std::mem::take(breaking) { code | 0x80 } else { code })
}

/// The set 2 code of a set 1 make code.
fn to_set2(code: u8) -> Option<u8> {
    // F7 and SysRq have two codes; the table is searched from its end so that the real ones are found.
    SET2_TO_SET1.iter().rposition(|&c| c == code).map(|set2| set2 as u8).filter(|_| code < 0x80)
}

/// The state of the keyboard.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Keyboard {
    pub(super) queue: VecDeque<u8>,
    scanning: bool,
    set: u8,
    leds: u8,
    /// A command that waits for its parameter.
    command: Option<u8>,
    last_sent: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self { queue: VecDeque::new(), scanning: true, set: 2, leds: 0, command: None, last_sent: 0 }
    }
}

impl Keyboard {
    fn reply(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
        while self.queue.len() > QUEUE {
            self.queue.pop_front();
        }
    }

    /// Lights: bit 0 scroll lock, 1 num lock, 2 caps lock.
    pub(super) fn leds(&self) -> u8 {
        self.leds
    }

    fn defaults(&mut self) {
        self.scanning = true;
        self.set = 2;
        self.command = None;
    }

    /// A key goes down or up. Whether there was room for it.
    pub(super) fn key(&mut self, code: u8, extended: bool, down: bool) -> bool {
        if !self.scanning {
            return true;
        }
        let mut bytes = Vec::with_capacity(3);
        if extended {
            bytes.push(0xe0);
        }
        if self.set == 1 {
            bytes.push(code & 0x7f | if down { 0 } else { 0x80 });
        } else {
            let Some(code) = to_set2(code & 0x7f) else { return true };
            if !down {
                bytes.push(0xf0);
            }
            bytes.push(code);
        }
        if self.queue.len() + bytes.len() > KEY_BYTES {
            return false;
        }
        self.queue.extend(bytes);
        true
    }

    /// The next byte for the controller.
    pub(super) fn send(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        if byte != RESEND {
            self.last_sent = byte;
        }
        Some(byte)
    }

    /// A byte from the host.
    pub(super) fn write(&mut self, value: u8) {
        if let Some(command) = self.command.take()
            && value < 0xed
        {
            match (command, value) {
                (0xed, leds) => self.leds = leds & 7,
                (0xf0, 0) => return self.reply(&[ACK, self.set]),
                (0xf0, set @ 1..=2) => self.set = set,
                (0xf0, _) => return self.reply(&[RESEND]),
                // Typematic rate: the host's keys repeat by themselves.
                _ => {}
            }
            return self.reply(&[ACK]);
        }
        match value {
            0xed | 0xf0 | 0xf3 => {
                self.command = Some(value);
                self.reply(&[ACK]);
            }
            0xee => self.reply(&[0xee]),
            0xf2 => self.reply(&[ACK, 0xab, 0x83]),
            0xf4 => {
                self.scanning = true;
                self.queue.clear();
                self.reply(&[ACK]);
            }
            0xf5 | 0xf6 => {
                self.defaults();
                self.scanning = value == 0xf6;
                self.queue.clear();
                self.reply(&[ACK]);
            }
            // Key types of set 3, which has no effect in sets 1 and 2.
            0xf7..=0xfa => self.reply(&[ACK]),
            0xfe => self.reply(&[self.last_sent]),
            0xff => {
                *self = Self::default();
                self.reply(&[ACK, 0xaa]);
            }
            _ => self.reply(&[RESEND]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.send()).collect()
    }

    #[test]
    fn every_key_survives_translation() {
        let keys = (1..=0x53).chain([0x56, 0x57, 0x58, 0x5b, 0x5c, 0x5d]).filter(|k| *k != 0x54);
        for code in keys {
            let mut keyboard = Keyboard::default();
            assert!(keyboard.key(code, false, true) && keyboard.key(code, false, false));
            let mut breaking = false;
            let set1: Vec<u8> =
                sent(&mut keyboard).into_iter().filter_map(|b| translate(b, &mut breaking)).collect();
            assert_eq!(set1, [code, code | 0x80]);
        }
    }

    #[test]
    fn set_2_of_known_keys() {
        let mut keyboard = Keyboard::default();
        keyboard.key(0x1e, false, true);
        keyboard.key(0x48, true, false);
        keyboard.key(0x41, false, true);
        assert_eq!(sent(&mut keyboard), [0x1c, 0xe0, 0xf0, 0x75, 0x83], "A, cursor up, F7");
    }

    #[test]
    fn commands() {
        let mut keyboard = Keyboard::default();
        for (write, reply) in [
            (&[0xff][..], &[ACK, 0xaa][..]),
            (&[0xf2], &[ACK, 0xab, 0x83]),
            (&[0xed, 5], &[ACK, ACK]),
            (&[0xee], &[0xee]),
            (&[0xf0, 0], &[ACK, ACK, 2]),
            (&[0xf0, 3], &[ACK, RESEND]),
            (&[0xf3, 0x20], &[ACK, ACK]),
            (&[0x12], &[RESEND]),
        ] {
            write.iter().for_each(|&byte| keyboard.write(byte));
            assert_eq!(sent(&mut keyboard), reply, "{write:x?}");
        }
        assert_eq!(keyboard.leds(), 5);
        keyboard.write(0xf5);
        sent(&mut keyboard);
        keyboard.key(0x1e, false, true);
        assert!(sent(&mut keyboard).is_empty(), "scanning is off");
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut keyboard = Keyboard::default();
        let taken = (0..100).filter(|_| keyboard.key(0x1e, false, true)).count();
        assert_eq!(taken, KEY_BYTES);
        (0..100).for_each(|_| keyboard.write(0xf2));
        assert!(keyboard.queue.len() <= QUEUE);
    }
}
