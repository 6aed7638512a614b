//! PCI bus 0: which function sits where, and which of them decodes an address now.

use super::header::HeaderState;
use super::intx::{PirqPin, PirqRouter};
use super::{DevFn, PciFunction};
use emu_core::bus::MsiSink;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Why a function cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The place is taken.
    #[error("PCI function {0:?} is taken")]
    Occupied(DevFn),
}

/// One line of ACPI's _PRT (ACPI 6.5, section 6.2.13), as the wiring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrtEntry {
    /// Device number.
    pub device: u8,
    /// Pin as _PRT counts: 0 for INTA#.
    pub pin: u8,
    /// Which of the four wires (0 for PIRQA).
    pub wire: u8,
}

/// State of the bus and all headers on it, for a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusState {
    /// The address latch at port 0xCF8.
    pub address: u32,
    /// Headers by device and function.
    pub headers: BTreeMap<u8, HeaderState>,
    /// Route registers of the four interrupt wires.
    pub routes: [u8; 4],
}

#[derive(Debug)]
struct Entry {
    start: u64,
    end: u64,
    bar: u8,
    function: Arc<dyn PciFunction>,
}

/// Decoded BARs, sorted by address and free of overlaps.
#[derive(Debug, Default)]
struct DecodeMap {
    memory: Vec<Entry>,
    ports: Vec<Entry>,
}

/// Where an access goes.
struct Hit {
    function: Arc<dyn PciFunction>,
    bar: u8,
    offset: u64,
}

impl DecodeMap {
    fn find(entries: &[Entry], address: u64, size: u8) -> Option<Hit> {
        let entry = &entries[..entries.partition_point(|e| e.start <= address)].last()?;
        let end = address.checked_add(size.into())?;
        (end <= entry.end).then(|| Hit {
            function: Arc::clone(&entry.function),
            bar: entry.bar,
            offset: address - entry.start,
        })
    }
}

/// The bus.
#[derive(Debug)]
pub struct PciBus {
    router: Arc<PirqRouter>,
    msi: Arc<dyn MsiSink>,
    functions: RwLock<BTreeMap<DevFn, Arc<dyn PciFunction>>>,
    map: RwLock<DecodeMap>,
    /// Held over configuration writes, so that the map is rebuilt in the order BARs change.
    writes: Mutex<()>,
    /// The latch at port 0xCF8.
    pub(super) address: AtomicU32,
}

impl PciBus {
    /// An empty bus whose functions interrupt through `router` and `msi`.
    pub fn new(router: Arc<PirqRouter>, msi: Arc<dyn MsiSink>) -> Arc<Self> {
        Arc::new(Self {
            router,
            msi,
            functions: RwLock::default(),
            map: RwLock::default(),
            writes: Mutex::default(),
            address: AtomicU32::new(0),
        })
    }

    /// The interrupt wires.
    pub fn router(&self) -> &Arc<PirqRouter> {
        &self.router
    }

    /// Plugs a function in and wires its interrupts.
    pub fn attach(&self, at: DevFn, function: Arc<dyn PciFunction>) -> Result<(), AttachError> {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        if functions.contains_key(&at) {
            return Err(AttachError::Occupied(at));
        }
        let pin = function.header().interrupt_pin();
        let pin = (pin != 0).then(|| PirqPin::new(Arc::clone(&self.router), at.device(), pin));
        function.header().connect(pin, Arc::clone(&self.msi));
        functions.insert(at, function);
        let others = functions.keys().any(|f| f.device() == at.device() && f.function() != 0);
        if let (true, Some(first)) = (others, functions.get(&DevFn::new(at.device(), 0))) {
            first.header().set_multi_function();
        }
        drop(functions);
        self.remap();
        Ok(())
    }

    /// The function at `at`.
    pub fn function(&self, at: DevFn) -> Option<Arc<dyn PciFunction>> {
        self.functions.read().unwrap_or_else(PoisonError::into_inner).get(&at).cloned()
    }

    /// All functions in order.
    pub fn functions(&self) -> Vec<(DevFn, Arc<dyn PciFunction>)> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.iter().map(|(&at, function)| (at, Arc::clone(function))).collect()
    }

    /// The interrupt wiring of every device that has a pin.
    pub fn prt(&self) -> Vec<PrtEntry> {
        let mut devices: Vec<u8> = self.functions().iter().map(|(at, _)| at.device()).collect();
        devices.dedup();
        let pins = |device| (0..4).map(move |pin| (device, pin));
        devices
            .into_iter()
            .flat_map(pins)
            .map(|(device, pin)| PrtEntry { device, pin, wire: PirqRouter::wire(device, pin + 1) as u8 })
            .collect()
    }

    /// Reads configuration space. Absent functions read as all ones, as a master abort does.
    pub fn config_read(&self, bus: u8, at: DevFn, offset: u16, size: u8) -> u32 {
        let function = if bus == 0 { self.function(at) } else { None };
        function.map_or(u32::MAX, |f| f.config_read(offset, size))
            & u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
    }

    /// Writes configuration space, and follows BARs that move, appear or vanish.
    pub fn config_write(&self, bus: u8, at: DevFn, offset: u16, size: u8, value: u32) {
        let function = if bus == 0 { self.function(at) } else { None };
        let Some(function) = function else { return };
        let _ordered = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = function.header().windows();
        function.config_write(offset, size, value);
        if function.header().windows() != before {
            self.remap();
        }
    }

    /// Rebuilds the decode map from all headers. Of overlapping BARs the one that starts lower answers.
    fn remap(&self) {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        *map = DecodeMap::default();
        for function in functions.values() {
            for window in function.header().windows() {
                let list = if window.io { &mut map.ports } else { &mut map.memory };
                let function = Arc::clone(function);
                list.push(Entry {
                    start: window.range.start,
                    end: window.range.end,
                    bar: window.bar,
                    function,
                });
            }
        }
        let DecodeMap { memory, ports } = &mut *map;
        for list in [memory, ports] {
            list.sort_by_key(|e| e.start);
            let mut end = 0;
            list.retain(|e| {
                let free = e.start >= end;
                end = if free { e.end } else { end };
                free
            });
        }
    }

    fn memory(&self, address: u64, size: u8) -> Option<Hit> {
        DecodeMap::find(&self.map.read().unwrap_or_else(PoisonError::into_inner).memory, address, size)
    }

    fn port(&self, port: u16, size: u8) -> Option<Hit> {
        DecodeMap::find(&self.map.read().unwrap_or_else(PoisonError::into_inner).ports, port.into(), size)
    }

    /// Reads memory if a BAR decodes all `size` (1, 2, 4, 8) bytes at `address`.
    pub fn try_mmio_read(&self, address: u64, size: u8) -> Option<u64> {
        self.memory(address, size).map(|hit| hit.function.bar_read(hit.bar, hit.offset, size))
    }

    /// Writes memory if a BAR decodes it; false if none does.
    pub fn try_mmio_write(&self, address: u64, size: u8, value: u64) -> bool {
        let hit = self.memory(address, size);
        hit.map(|hit| hit.function.bar_write(hit.bar, hit.offset, size, value)).is_some()
    }

    /// Reads ports if a BAR decodes all `size` (1, 2, 4) of them at `port`.
    pub fn try_port_read(&self, port: u16, size: u8) -> Option<u32> {
        self.port(port, size).map(|hit| hit.function.bar_read(hit.bar, hit.offset, size) as u32)
    }

    /// Writes ports if a BAR decodes them; false if none does.
    pub fn try_port_write(&self, port: u16, size: u8, value: u32) -> bool {
        let hit = self.port(port, size);
        hit.map(|hit| hit.function.bar_write(hit.bar, hit.offset, size, value.into())).is_some()
    }

    /// Power-on reset of the bus and every function. Call [`PciBus::assign_resources`] afterwards as firmware would.
    pub fn reset(&self) {
        self.address.store(0, Ordering::Relaxed);
        self.router.reset();
        for (_, function) in self.functions() {
            function.reset();
            function.header().reset();
        }
        self.remap();
    }

    /// The state for a snapshot: all headers. What lies behind the BARs is saved by the functions' owners.
    pub fn save(&self) -> BusState {
        BusState {
            address: self.address.load(Ordering::Relaxed),
            headers: self.functions().iter().map(|(at, f)| (at.0, f.header().save())).collect(),
            routes: std::array::from_fn(|wire| self.router.route(wire)),
        }
    }

    /// Takes a snapshot's state. Functions it does not mention are reset; those that are absent here are ignored.
    pub fn restore(&self, state: &BusState) {
        self.address.store(state.address, Ordering::Relaxed);
        for (wire, &route) in state.routes.iter().enumerate() {
            self.router.set_route(wire, route);
        }
        for (at, function) in self.functions() {
            match state.headers.get(&at.0) {
                Some(saved) => function.header().restore(saved),
                None => function.header().reset(),
            }
        }
        self.remap();
    }
}
