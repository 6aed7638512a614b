//! The processor with its memory.

use super::error::VmError;
use super::hooks::Hooks;
use super::modes::{self, CpuMode};
use super::run::{End, ExceptionInfo};
use super::space::{Perms, Space, Tables};
use crate::engines::driver::{Driver, DriverConfig, Ended, Kind};
use emu_core::addr::{PAGE_SIZE, PhysAddr};
use emu_core::bus::{EmptyBus, SystemBus};
use emu_core::cpu::{Caught, Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::entropy::Entropy;
use emu_core::features::Features;
use emu_core::mem::{Frame, PhysMem, page};
use emu_core::state::{Activity, CpuState};
use interp::system::{cr, deliver};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Settings of a [`Vm`].
#[derive(Clone, Copy, Debug)]
pub struct VmConfig {
    /// The mode it starts in.
    pub mode: CpuMode,
    /// The privilege level it starts at.
    pub cpl: u8,
    /// The engine.
    pub engine: Kind,
    /// Bytes of guest memory, page tables included; the host gives it as it is touched.
    pub memory: u64,
    /// What the processor offers.
    pub features: Features,
}

impl VmConfig {
    /// The interpreter, 2 MiB, every feature, and the privilege level of programs (in real mode 0).
    pub fn new(mode: CpuMode) -> Self {
        Self {
            mode,
            cpl: mode.default_cpl(),
            engine: Kind::Interp,
            memory: 2 << 20,
            features: Features::max(),
        }
    }

    /// The same with another engine.
    #[must_use]
    pub fn engine(self, engine: Kind) -> Self {
        Self { engine, ..self }
    }
}

/// The registers of a processor at some time.
#[derive(Clone, Debug)]
pub struct Context {
    state: Box<CpuState>,
    cr8: u8,
}

/// One processor with its memory and engine. See [`super`].
#[derive(Debug)]
pub struct Vm {
    pub(super) cpu: CpuBox,
    pub(super) driver: Driver,
    space: Space,
    mode: CpuMode,
    cpl: u8,
    pub(super) hooks: Hooks,
    io: Arc<Ports>,
    /// Exceptions go through the guest's IDT.
    pub(super) delivering: bool,
    /// Registers have changed from which modes and translations are derived.
    pub(super) stale: bool,
    /// The next instruction starts a basic block.
    pub(super) block_start: bool,
}

type PortHook = Box<dyn FnMut(super::IoAccess) -> u32 + Send>;

/// The I/O ports: all ones, unless a hook says otherwise.
#[derive(Default)]
pub(super) struct Ports {
    hook: Mutex<Option<PortHook>>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

impl Ports {
    fn call(&self, access: super::IoAccess) -> u32 {
        match &mut *self.hook.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(hook) => hook(access),
            None => access.value,
        }
    }
}

impl SystemBus for Ports {
    fn port_read(&self, port: u16, size: u8) -> u32 {
        let mask = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
        self.call(super::IoAccess { write: false, port, size, value: mask }) & mask
    }
    fn port_write(&self, port: u16, size: u8, value: u32) {
        let mask = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
        self.call(super::IoAccess { write: true, port, size, value: value & mask });
    }
    fn mmio_read(&self, addr: PhysAddr, size: u8) -> u64 {
        EmptyBus.mmio_read(addr, size)
    }
    fn mmio_write(&self, addr: PhysAddr, size: u8, value: u64) {
        EmptyBus.mmio_write(addr, size, value);
    }
}

impl Vm {
    /// A processor in the initial state of its mode, with nothing mapped.
    ///
    /// # Errors
    /// When the host gives no memory, has no back-end, or the mode has no such privilege level.
    pub fn new(config: VmConfig) -> Result<Self, VmError> {
        let mem = PhysMem::new(config.memory)?;
        let io = Arc::new(Ports::default());
        let wiring = Wiring { bus: io.clone(), ..Wiring::bare(mem) };
        let mut vm = Self {
            cpu: Cpu::new(wiring, config.features, 0),
            driver: Driver::new(DriverConfig::exact(config.engine))?,
            space: Space::Physical,
            mode: config.mode,
            cpl: config.cpl,
            hooks: Hooks::default(),
            io,
            delivering: false,
            stale: true,
            block_start: true,
        };
        vm.reset(config.mode, config.cpl)?;
        Ok(vm)
    }

    /// Back to the initial state of a mode: registers, nothing mapped, memory zero. Hooks stay.
    ///
    /// # Errors
    /// [`VmError::BadValue`] when the mode has no such privilege level, [`VmError::NoLongMode`] when the processor lacks it.
    pub fn reset(&mut self, mode: CpuMode, cpl: u8) -> Result<(), VmError> {
        if !mode.has_cpl(cpl) {
            let why = "this mode has no such privilege level";
            return Err(VmError::BadValue { name: "cpl".into(), value: cpl.into(), why });
        }
        if mode.long() && !self.cpu.features.long_mode() {
            return Err(VmError::NoLongMode(mode.name()));
        }
        self.clear_memory();
        (self.mode, self.cpl) = (mode, cpl);
        self.space = match mode {
            CpuMode::Real16 => Space::Physical,
            _ => Space::Tables(Tables::new(mode.long(), cpl == 3)),
        };
        let initial = modes::initial(mode, cpl, mode != CpuMode::Real16);
        self.replace_state(&initial);
        self.cpu.state.xcr0 = cr::xcr0_allowed(&self.cpu) & 7;
        // What the processor has not got is not set either; but the tables that calque keeps may be PAE's.
        self.cpu.state.cr4 &= cr::cr4_allowed(&self.cpu) | emu_core::state::bits::cr4::PAE;
        self.cpu.irq.set_cr8(0);
        self.cpu.entropy = Entropy::Seeded(0);
        self.cpu.caught = None;
        self.cpu.fatal = None;
        self.delivering = false;
        self.block_start = true;
        Ok(())
    }

    /// From now on addresses are physical, all of guest memory is RAM, and CR3 and CR0.PG are the embedder's to set.
    /// What was mapped is gone. Long mode starts with PG set and needs CR3.
    pub fn own_tables(&mut self) {
        self.clear_memory();
        self.space = Space::Physical;
        if !self.mode.long() {
            self.cpu.state.cr0 &= !emu_core::state::bits::cr0::PG;
            self.cpu.state.cr4 &= !emu_core::state::bits::cr4::PAE;
        }
        self.stale = true;
    }

    /// Whether calque keeps the page tables.
    pub fn keeps_tables(&self) -> bool {
        matches!(self.space, Space::Tables(_))
    }

    /// The mode it was last reset to.
    pub fn mode(&self) -> CpuMode {
        self.mode
    }

    fn clear_memory(&mut self) {
        let pages = match &self.space {
            Space::Physical => self.cpu.mem.size() / PAGE_SIZE,
            Space::Tables(t) => t.used(),
        };
        self.driver.forget_pages(&mut self.cpu, 0..pages);
        for n in 0..pages {
            let addr = PhysAddr(n * PAGE_SIZE);
            let Frame::Ram(_, index) = self.cpu.mem.frame(addr) else { continue };
            if self.cpu.mem.attrs(index).load(Ordering::Relaxed) & page::DIRTY != 0 {
                let cleared = self.cpu.mem.write(addr, &[0; PAGE_SIZE as usize]);
                debug_assert!(cleared, "RAM can be written");
                self.cpu.mem.attrs(index).fetch_and(!page::DIRTY, Ordering::Relaxed);
            }
        }
        self.stale = true;
    }

    /// Replaces the registers, but not what belongs to this processor alone.
    fn replace_state(&mut self, state: &CpuState) {
        let old = &self.cpu.state;
        let (tlb, icount) = (old.tlb, old.icount);
        self.cpu.state.clone_from(state);
        let s = &mut self.cpu.state;
        (s.tlb, s.icount) = (tlb, icount);
        self.stale = true;
    }

    /// Derives everything anew from registers that were set.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let cpu = &mut self.cpu;
        if let Space::Tables(t) = &self.space {
            cpu.state.cr3 = t.root;
        }
        cpu.state.update_mode();
        cpu.flush_all();
        cpu.mode_changed();
    }

    /// Maps `len` bytes at `addr` with these rights; pages that are mapped already keep their bytes. Where addresses
    /// are physical there is nothing to map, and only [`Perms::RWX`] is possible.
    ///
    /// # Errors
    /// [`VmError`] for what is not aligned, does not exist, or does not fit.
    pub fn map(&mut self, addr: u64, len: u64, perms: Perms) -> Result<(), VmError> {
        self.stale = true;
        match &mut self.space {
            Space::Tables(t) => t.map(&self.cpu.mem, addr, len, perms),
            Space::Physical if perms != Perms::RWX => Err(VmError::NoRights(perms)),
            Space::Physical => {
                let size = self.cpu.mem.size();
                let fits = addr.checked_add(len).is_some_and(|end| end <= size);
                if fits { Ok(()) } else { Err(VmError::OutOfRange { addr, len }) }
            }
        }
    }

    /// Unmaps pages; their bytes are lost.
    ///
    /// # Errors
    /// As for [`Vm::map`].
    pub fn unmap(&mut self, addr: u64, len: u64) -> Result<(), VmError> {
        self.stale = true;
        if let Space::Tables(t) = &mut self.space {
            let gone = t.unmap(&self.cpu.mem, addr, len)?;
            self.driver.forget_pages(&mut self.cpu, gone.into_iter());
        }
        Ok(())
    }

    /// What is mapped, page by page; nothing where addresses are physical.
    pub fn mapped(&self) -> Vec<(u64, Perms)> {
        match &self.space {
            Space::Tables(t) => t.mapped().collect(),
            Space::Physical => Vec::new(),
        }
    }

    /// Writes memory, whatever the rights of its pages.
    ///
    /// # Errors
    /// [`VmError::NotMapped`] and [`VmError::OutOfRange`]; nothing has been written then.
    pub fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), VmError> {
        let mut pages = Vec::new();
        let mem = self.cpu.mem.clone();
        let mut put = |at: PhysAddr, range: std::ops::Range<usize>| {
            if let Frame::Ram(_, index) = mem.frame(at)
                && mem.attrs(index).load(Ordering::Relaxed) & (page::CODE | page::TABLE) != 0
            {
                pages.push(at.0 >> 12);
            }
            let written = mem.write(at, &bytes[range]);
            debug_assert!(written, "pages are RAM");
        };
        match &self.space {
            Space::Tables(t) => t.pieces(addr, bytes.len(), put)?,
            Space::Physical => {
                self.in_ram(addr, bytes.len())?;
                let mut done = 0;
                while done < bytes.len() {
                    let at = addr + done as u64;
                    let n = (bytes.len() - done).min((PAGE_SIZE - at % PAGE_SIZE) as usize);
                    put(PhysAddr(at), done..done + n);
                    done += n;
                }
            }
        }
        if !pages.is_empty() {
            self.driver.forget_pages(&mut self.cpu, pages.into_iter());
            // It may have been a page table of the guest's own.
            self.stale |= matches!(self.space, Space::Physical);
        }
        Ok(())
    }

    /// Reads memory, whatever the rights of its pages.
    ///
    /// # Errors
    /// As for [`Vm::write`].
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> Result<(), VmError> {
        let mem = &self.cpu.mem;
        match &self.space {
            Space::Tables(t) => t.pieces(addr, bytes.len(), |at, range| {
                let read = mem.read(at, &mut bytes[range]);
                debug_assert!(read, "pages are RAM");
            }),
            Space::Physical => {
                self.in_ram(addr, bytes.len())?;
                let read = mem.read(PhysAddr(addr), bytes);
                debug_assert!(read, "pages are RAM");
                Ok(())
            }
        }
    }

    fn in_ram(&self, addr: u64, len: usize) -> Result<(), VmError> {
        let fits = addr.checked_add(len as u64).is_some_and(|end| end <= self.cpu.mem.size());
        if fits { Ok(()) } else { Err(VmError::OutOfRange { addr, len: len as u64 }) }
    }

    /// Whether exceptions go through the guest's IDT instead of ending the run.
    pub fn deliver_exceptions(&mut self, on: bool) {
        self.delivering = on;
    }

    /// Delivers what was caught: Some when that ends the run.
    pub(super) fn deliver(&mut self, caught: &Caught) -> Option<End> {
        self.cpu.catch = false;
        let ended = if caught.software {
            // Its checks and its return address are the instruction's own.
            self.cpu.state.rip = caught.start;
            self.driver.step(&mut self.cpu)
        } else {
            deliver::exception(&mut self.cpu, caught.raised).is_err().then_some(Ended::Shutdown)
        };
        match ended {
            None => None,
            Some(Ended::Halted) => Some(End::Halted),
            Some(_) => Some(End::Shutdown(self.cpu.fatal.map(|e| ExceptionInfo {
                vector: e.vector as u8,
                error: if e.vector.has_error_code() { e.error } else { 0 },
                cr2: e.cr2,
            }))),
        }
    }

    /// Answers I/O ports: the hook's value is what IN reads. Without one every port reads as ones.
    pub fn on_io(&mut self, hook: impl FnMut(super::IoAccess) -> u32 + Send + 'static) {
        *self.io.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
    }

    /// The registers as they are.
    pub fn save(&self) -> Context {
        Context { state: Box::new(self.cpu.state.clone()), cr8: self.cpu.irq.cr8() }
    }

    /// Brings saved registers back. Memory and mappings are not part of it.
    pub fn restore(&mut self, context: &Context) {
        self.replace_state(&context.state);
        self.cpu.irq.set_cr8(context.cr8);
    }

    /// Instructions completed since the processor was made.
    pub fn insns(&self) -> u64 {
        self.cpu.state.icount
    }

    /// The state of the processor, to be read.
    pub fn state(&self) -> &CpuState {
        &self.cpu.state
    }

    /// Whether it has halted.
    pub fn halted(&self) -> bool {
        self.cpu.state.activity == Activity::Halted
    }

    /// What the engine has done: instructions translated, instructions interpreted.
    pub fn counts(&self) -> (u64, u64) {
        (self.driver.translated, self.driver.interpreted)
    }
}
