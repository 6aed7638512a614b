//! The pair of 8259A interrupt controllers with the ELCR of the PCI chipsets (Intel 231468-003; PIIX3 datasheet 4.9).
//!
//! The master sits at ports 20h-21h, the slave at A0h-A1h behind input 2 of the master, the edge/level registers at
//! 4D0h-4D1h. A request on an edge-triggered input is latched until it is acknowledged.

use crate::lock::lock;
use emu_core::bus::{Irq, IrqLine, PortDevice};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

/// An interrupt controller outside the APICs that supplies a vector when an ExtINT is acknowledged.
pub trait ExtInt: Send + Sync + Debug {
    /// The two INTA cycles: the vector of the highest request, or the spurious vector.
    fn acknowledge(&self) -> u8;
}

/// The input of the master that the slave is wired to.
const CASCADE: u8 = 2;

/// Which initialisation command word a write to the odd port is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Init {
    /// Initialised: the odd port is the mask.
    #[default]
    Done,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct PicChip {
    /// Interrupt request register.
    irr: u8,
    /// In-service register.
    isr: u8,
    /// Mask.
    imr: u8,
    /// Levels of the inputs.
    lines: u8,
    /// Inputs that are level-triggered.
    elcr: u8,
    /// Upper five bits of the vectors.
    base: u8,
    /// The input of lowest priority.
    lowest: u8,
    init: Init,
    single: bool,
    needs_icw4: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    special_fully_nested: bool,
    read_isr: bool,
    poll: bool,
    slave: bool,
}

impl PicChip {
    fn new(slave: bool) -> Self {
        Self { lowest: 7, slave, ..Self::default() }
    }

    fn set_line(&mut self, input: u8, level: bool) {
        let mask = 1 << input;
        let was = self.lines & mask != 0;
        if level {
            self.lines |= mask;
        } else {
            self.lines &= !mask;
        }
        if self.elcr & mask != 0 {
            self.irr = (self.irr & !mask) | (self.lines & mask);
        } else if level && !was {
            self.irr |= mask;
        }
    }

    /// The highest-priority input of `set`, as (rank, input); rank 0 is the highest.
    fn highest(&self, set: u8) -> Option<(u8, u8)> {
        (0..8u8)
            .map(|rank| (rank, self.lowest.wrapping_add(1 + rank) & 7))
            .find(|&(_, input)| set >> input & 1 != 0)
    }

    /// The input that requests service now, by priority against those in service (fully nested mode).
    fn request(&self) -> Option<u8> {
        let (rank, input) = self.highest(self.irr & !self.imr)?;
        let mut serving = self.isr;
        if self.special_mask {
            serving &= !self.imr;
        }
        if self.special_fully_nested && !self.slave {
            // A second request of the slave passes while a first is in service.
            serving &= !(1 << CASCADE);
        }
        match self.highest(serving) {
            Some((limit, _)) if rank >= limit => None,
            _ => Some(input),
        }
    }

    /// INTA for `input`.
    fn acknowledge(&mut self, input: u8) {
        let mask = 1 << input;
        if self.auto_eoi {
            if self.rotate_on_auto_eoi {
                self.lowest = input;
            }
        } else {
            self.isr |= mask;
        }
        if self.elcr & mask == 0 {
            self.irr &= !mask;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            // ICW1 resets the edge latches, the mask and the modes.
            let (lines, elcr, slave) = (self.lines, self.elcr, self.slave);
            *self = Self { lines, elcr, base: self.base, ..Self::new(slave) };
            self.irr = lines & elcr;
            self.init = Init::Icw2;
            self.single = value & 2 != 0;
            self.needs_icw4 = value & 1 != 0;
        } else if value & 8 != 0 {
            self.poll = value & 4 != 0;
            if value & 2 != 0 {
                self.read_isr = value & 1 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.write_ocw2(value >> 5, value & 7);
        }
    }

    fn write_ocw2(&mut self, command: u8, level: u8) {
        match command {
            0 => self.rotate_on_auto_eoi = false,
            4 => self.rotate_on_auto_eoi = true,
            1 | 5 => {
                let serving = if self.special_mask { self.isr & !self.imr } else { self.isr };
                if let Some((_, input)) = self.highest(serving) {
                    self.isr &= !(1 << input);
                    if command == 5 {
                        self.lowest = input;
                    }
                }
            }
            3 => self.isr &= !(1 << level),
            7 => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            6 => self.lowest = level,
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        match self.init {
            Init::Done => self.imr = value,
            Init::Icw2 => {
                self.base = value & 0xf8;
                self.init = match (self.single, self.needs_icw4) {
                    (false, _) => Init::Icw3,
                    (true, true) => Init::Icw4,
                    (true, false) => Init::Done,
                };
            }
            // The cascade is wired, so its description is not needed.
            Init::Icw3 => self.init = if self.needs_icw4 { Init::Icw4 } else { Init::Done },
            Init::Icw4 => {
                self.special_fully_nested = value & 0x10 != 0;
                self.auto_eoi = value & 2 != 0;
                self.init = Init::Done;
            }
        }
    }
}

/// The state of both chips.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct PicState {
    master: PicChip,
    slave: PicChip,
}

impl Default for PicState {
    fn default() -> Self {
        Self { master: PicChip::new(false), slave: PicChip::new(true) }
    }
}

impl PicState {
    /// The state after power-on, with the inputs as they are.
    fn reset(&mut self) {
        for chip in [&mut self.master, &mut self.slave] {
            *chip = PicChip { lines: chip.lines, ..PicChip::new(chip.slave) };
        }
    }

    fn cascade(&mut self) {
        let level = self.slave.request().is_some();
        // The slave's INT behaves as a level: a further request must reach the master without an edge of its own.
        self.master.lines &= !(1 << CASCADE);
        self.master.irr &= !(1 << CASCADE);
        if level {
            self.master.lines |= 1 << CASCADE;
            self.master.irr |= 1 << CASCADE;
        }
    }

    /// Level of the INTR output.
    pub fn output(&self) -> bool {
        self.master.request().is_some()
    }

    /// Drives input 0 to 15.
    pub fn set_line(&mut self, input: u8, level: bool) {
        match input {
            CASCADE => return,
            0..8 => self.master.set_line(input, level),
            8..16 => self.slave.set_line(input - 8, level),
            _ => return,
        }
        self.cascade();
    }

    /// Interrupt acknowledge: the vector of the highest request, or input 7's if it has gone.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(input) = self.master.request() else { return self.master.base | 7 };
        self.master.acknowledge(input);
        if input != CASCADE {
            return self.master.base | input;
        }
        let vector = match self.slave.request() {
            Some(input) => {
                self.slave.acknowledge(input);
                self.slave.base | input
            }
            None => self.slave.base | 7,
        };
        self.cascade();
        vector
    }

    fn chip(&mut self, slave: bool) -> &mut PicChip {
        if slave { &mut self.slave } else { &mut self.master }
    }

    fn read(&mut self, slave: bool, offset: u16) -> u8 {
        let chip = self.chip(slave);
        if std::mem::take(&mut chip.poll) {
            // The poll command: the next read is the acknowledge.
            let Some(input) = chip.request() else { return 0 };
            chip.acknowledge(input);
            self.cascade();
            return 0x80 | input;
        }
        match offset {
            0 if chip.read_isr => chip.isr,
            0 => chip.irr,
            _ => chip.imr,
        }
    }

    fn write(&mut self, slave: bool, offset: u16, value: u8) {
        let chip = self.chip(slave);
        if offset == 0 {
            chip.write_command(value)
        } else {
            chip.write_data(value)
        }
        self.cascade();
    }

    fn write_elcr(&mut self, slave: bool, value: u8) {
        // Inputs 0, 1, 2, 8 and 13 are always edge-triggered.
        let chip = self.chip(slave);
        chip.elcr = value & if slave { 0xde } else { 0xf8 };
        chip.irr = (chip.irr & !chip.elcr) | (chip.lines & chip.elcr);
        self.cascade();
    }
}

/// The pair of controllers on the board.
#[derive(Debug)]
pub struct Pic {
    state: Mutex<PicState>,
    intr: Irq,
}

/// A range of ports of the [`Pic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicPorts {
    /// 20h-21h.
    Master,
    /// A0h-A1h.
    Slave,
    /// 4D0h-4D1h.
    Elcr,
}

impl Pic {
    /// A pair whose INTR output drives `intr`.
    pub fn new(intr: Irq) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), intr })
    }

    /// The device behind a range of ports, two ports each.
    pub fn ports(self: &Arc<Self>, ports: PicPorts) -> Arc<dyn PortDevice> {
        Arc::new(PicPortRange { pic: self.clone(), ports })
    }

    /// Input 0 to 15.
    pub fn line(self: &Arc<Self>, input: u8) -> Irq {
        Arc::new(PicLine { pic: self.clone(), input })
    }

    /// The state after power-on.
    pub fn reset(&self) {
        self.change(PicState::reset);
    }

    /// A copy of the state.
    pub fn save(&self) -> PicState {
        lock(&self.state).clone()
    }

    /// Replaces the state.
    pub fn restore(&self, state: PicState) {
        self.change(|s| *s = state);
    }

    fn change<R>(&self, f: impl FnOnce(&mut PicState) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        // Under the lock, so that two changes cannot drive the line in the wrong order.
        self.intr.set_level(state.output());
        result
    }
}

impl ExtInt for Pic {
    fn acknowledge(&self) -> u8 {
        // INT drops during INTA, so that a further request is an edge to an edge-triggered input.
        self.intr.set_level(false);
        self.change(PicState::acknowledge)
    }
}

#[derive(Debug)]
struct PicLine {
    pic: Arc<Pic>,
    input: u8,
}

impl IrqLine for PicLine {
    fn set_level(&self, level: bool) {
        self.pic.change(|s| s.set_line(self.input, level));
    }
}

#[derive(Debug)]
struct PicPortRange {
    pic: Arc<Pic>,
    ports: PicPorts,
}

impl PortDevice for PicPortRange {
    fn port_read(&self, offset: u16, size: u8) -> u32 {
        let byte = |offset: u16| match self.ports {
            PicPorts::Elcr => lock(&self.pic.state).chip(offset != 0).elcr,
            ports => self.pic.change(|s| s.read(ports == PicPorts::Slave, offset)),
        };
        let low = u32::from(byte(offset));
        if size > 1 && offset == 0 { low | u32::from(byte(1)) << 8 } else { low }
    }

    fn port_write(&self, offset: u16, size: u8, value: u32) {
        let byte = |offset: u16, value: u8| match self.ports {
            PicPorts::Elcr => self.pic.change(|s| s.write_elcr(offset != 0, value)),
            ports => self.pic.change(|s| s.write(ports == PicPorts::Slave, offset, value)),
        };
        byte(offset, value as u8);
        if size > 1 && offset == 0 {
            byte(1, (value >> 8) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irq::testing::Probe;

    fn board() -> (Arc<Pic>, Arc<Probe>, [Arc<dyn PortDevice>; 3]) {
        let probe = Probe::new();
        let pic = Pic::new(probe.clone());
        let ports = [PicPorts::Master, PicPorts::Slave, PicPorts::Elcr].map(|p| pic.ports(p));
        for (chip, base) in [(0, 0x30), (1, 0x38)] {
            for (port, value) in [(0, 0x11), (1, base), (1, 4), (1, 1), (1, 0)] {
                ports[chip].port_write(port, 1, value);
            }
        }
        (pic, probe, ports)
    }

    #[test]
    fn an_edge_is_latched_until_acknowledged() {
        let (pic, intr, ports) = board();
        pic.line(4).pulse();
        assert!(intr.level());
        assert_eq!(ports[0].port_read(0, 1), 0x10);
        assert_eq!(pic.acknowledge(), 0x34);
        assert!(!intr.level());
        ports[0].port_write(0, 1, 0x0b);
        assert_eq!(ports[0].port_read(0, 1), 0x10, "OCW3 selects the ISR");
        ports[0].port_write(0, 1, 0x20);
        assert_eq!(ports[0].port_read(0, 1), 0);
    }

    #[test]
    fn priorities_nest() {
        let (pic, intr, ports) = board();
        pic.line(4).pulse();
        assert_eq!(pic.acknowledge(), 0x34);
        pic.line(5).pulse();
        assert!(!intr.level(), "lower priority waits");
        pic.line(1).pulse();
        assert_eq!(pic.acknowledge(), 0x31);
        ports[0].port_write(0, 1, 0x20);
        assert!(!intr.level());
        ports[0].port_write(0, 1, 0x64);
        assert_eq!(pic.acknowledge(), 0x35, "after the specific EOI of 4");
    }

    #[test]
    fn the_slave_goes_through_input_2() {
        let (pic, intr, ports) = board();
        pic.line(12).pulse();
        pic.line(8).pulse();
        assert_eq!(pic.acknowledge(), 0x38);
        assert!(!intr.level());
        ports[1].port_write(0, 1, 0x20);
        assert!(!intr.level(), "input 2 of the master is still in service");
        ports[0].port_write(0, 1, 0x20);
        assert_eq!(pic.acknowledge(), 0x3c);
    }

    #[test]
    fn level_inputs_follow_the_line() {
        let (pic, intr, ports) = board();
        ports[2].port_write(0, 2, 0xffff);
        assert_eq!(ports[2].port_read(0, 2), 0xdef8);
        let line = pic.line(9);
        line.set_level(true);
        assert_eq!(pic.acknowledge(), 0x39);
        ports[1].port_write(0, 1, 0x20);
        ports[0].port_write(0, 1, 0x20);
        assert!(intr.level(), "still high: requests again");
        line.set_level(false);
        assert!(!intr.level());
        assert_eq!(pic.acknowledge(), 0x37, "spurious");
    }

    #[test]
    fn the_mask_hides_and_icw1_clears() {
        let (pic, intr, ports) = board();
        ports[0].port_write(1, 1, 0xff);
        pic.line(0).pulse();
        assert!(!intr.level());
        ports[0].port_write(1, 1, 0xfe);
        assert!(intr.level());
        assert_eq!(ports[0].port_read(1, 1), 0xfe);
        ports[0].port_write(0, 1, 0x11);
        assert!(!intr.level());
    }

    #[test]
    fn automatic_eoi_and_poll() {
        let (pic, _, ports) = board();
        for (port, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 3), (1, 0)] {
            ports[0].port_write(port, 1, value);
        }
        pic.line(3).pulse();
        assert_eq!(pic.acknowledge(), 0x23);
        ports[0].port_write(0, 1, 0x0b);
        assert_eq!(ports[0].port_read(0, 1), 0);
        pic.line(6).pulse();
        ports[0].port_write(0, 1, 0x0c);
        assert_eq!(ports[0].port_read(0, 1), 0x86);
    }

    #[test]
    fn rotation_makes_the_served_input_lowest() {
        let (pic, _, ports) = board();
        pic.line(1).pulse();
        assert_eq!(pic.acknowledge(), 0x31);
        ports[0].port_write(0, 1, 0xa0);
        pic.line(1).pulse();
        pic.line(5).pulse();
        assert_eq!(pic.acknowledge(), 0x35);
    }

    #[test]
    fn the_state_serialises() {
        let (pic, _, _) = board();
        pic.line(4).pulse();
        let text = serde_json::to_string(&pic.save()).unwrap();
        let intr = Probe::new();
        let other = Pic::new(intr.clone());
        other.restore(serde_json::from_str(&text).unwrap());
        assert!(intr.level());
        assert_eq!(other.acknowledge(), 0x34);
    }
}
