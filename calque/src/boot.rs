//! From an image file to a processor standing at its first instruction.

use crate::board::{ECAM_BASE, tables};
use crate::config::Machine;
use crate::load::{self, Boot, Flat, Module};
use crate::load::{Entry, GuestMemory, MemoryRange, Mode, OutsideMemory, RangeKind, pc_memory_map};
use anyhow::{Context, Result};
use devices::pci::Ecam;
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::{DescTable, Seg, SegReg, gpr};

/// Guest RAM as the loaders see it.
struct Ram<'a>(&'a PhysMem);

impl GuestMemory for Ram<'_> {
    fn ram_size(&self) -> u64 {
        self.0.ranges()[0].1
    }

    fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), OutsideMemory> {
        if self.0.write(PhysAddr(gpa), bytes) {
            Ok(())
        } else {
            Err(OutsideMemory { gpa, size: bytes.len() as u64 })
        }
    }
}

/// An image read from disk, ready to be loaded as often as the machine is reset.
#[derive(Debug)]
pub struct Image {
    name: String,
    bytes: Vec<u8>,
    initrd: Option<(String, Vec<u8>)>,
    detected: load::Detected,
}

impl Image {
    /// Reads and recognises what `machine` boots.
    ///
    /// # Errors
    /// One line for each thing that can be wrong with the files.
    pub fn open(machine: &Machine) -> Result<Self> {
        let boot = &machine.boot;
        let (name, bytes) = match boot.builtin {
            Some(bytes) => ("monitor".to_owned(), bytes.to_vec()),
            None => (boot.kernel.display().to_string(), load::read(&boot.kernel, machine.memory)?),
        };
        let detected =
            load::detect(&bytes, boot.load_address.map(Flat::at)).with_context(|| format!("'{name}'"))?;
        let initrd = match &boot.initrd {
            Some(path) => Some((path.display().to_string(), load::read(path, machine.memory)?)),
            None => None,
        };
        Ok(Self { name, bytes, initrd, detected })
    }

    /// What was found, in one line.
    pub fn description(&self) -> String {
        format!("{}: {}", self.name, self.detected.description)
    }

    /// Loads the image into fresh memory.
    ///
    /// # Errors
    /// When something does not fit.
    pub fn load(&self, machine: &Machine, mem: &PhysMem) -> Result<Entry> {
        let ranges = mem.ranges();
        let above = ranges.get(1).map_or(0, |r| r.1);
        let mut map = pc_memory_map(ranges[0].1, above);
        map.push(MemoryRange::new(tables::ACPI_BASE.into(), tables::ACPI_SIZE as u64, RangeKind::Reserved));
        map.push(MemoryRange::new(ECAM_BASE, Ecam::BUS_SIZE, RangeKind::Reserved));
        map.sort_by_key(|r| r.base);
        let modules: Vec<_> =
            self.initrd.iter().map(|(name, bytes)| Module { bytes, command_line: name }).collect();
        let boot = Boot {
            name: &self.name,
            command_line: &machine.boot.append,
            modules: &modules,
            memory_map: &map,
            rsdp: Some(tables::ACPI_BASE.into()),
        };
        load::load(self.detected.format, &self.bytes, &boot, &mut Ram(mem))
            .with_context(|| format!("'{}'", self.name))
    }
}

/// Puts a processor that has just been reset where `entry` says.
pub fn enter(cpu: &mut Cpu, entry: &Entry) {
    let s = &mut cpu.state;
    let old = (s.cr0, s.cr4, s.efer);
    s.rflags = 2;
    s.gpr = [0; 16];
    if let Some(gdt) = &entry.gdt {
        s.gdtr = DescTable { base: gdt.base, limit: gdt.limit };
        let (code, data) = (gdt.entries[2], gdt.entries[3]);
        s.seg = [SegReg::from_descriptor(0x18, data); 6];
        s.seg[Seg::CS as usize] = SegReg::from_descriptor(0x10, code);
        s.idtr = DescTable { base: 0, limit: 0 };
    }
    match entry.mode {
        Mode::Long64 { cr3, rip, rsi, rsp } => {
            s.cr0 = cr0::PE | cr0::ET | cr0::PG;
            s.cr4 = cr4::PAE;
            s.efer = efer::LME | efer::LMA;
            s.cr3 = cr3;
            s.rip = rip;
            s.gpr[gpr::RSI] = rsi;
            s.gpr[gpr::RSP] = rsp;
        }
        Mode::Prot32 { eip, eax, ebx, esi, esp } => {
            s.cr0 = cr0::PE | cr0::ET;
            s.rip = eip.into();
            s.gpr[gpr::RAX] = eax.into();
            s.gpr[gpr::RBX] = ebx.into();
            s.gpr[gpr::RSI] = esi.into();
            s.gpr[gpr::RSP] = esp.into();
        }
        Mode::Real16 { cs, ip } => {
            for seg in &mut s.seg {
                *seg = SegReg { sel: 0, attr: 0x93, limit: 0xffff, base: 0 };
            }
            s.seg[Seg::CS as usize] = SegReg { sel: cs, attr: 0x9b, limit: 0xffff, base: u64::from(cs) << 4 };
            s.rip = ip.into();
            s.idtr = DescTable { base: 0, limit: 0x3ff };
        }
    }
    cpu.paging_changed(old.0, old.1, old.2);
    let cr3 = cpu.state.cr3;
    cpu.load_cr3(cr3);
}
