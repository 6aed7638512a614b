//! One virtual processor: its architectural state together with everything it reaches.

use crate::addr::PhysAddr;
use crate::bus::{CpuInterrupts, EmptyBus, NoInterrupts, SystemBus};
use crate::clock::Clock;
use crate::cpu_box::CpuBox;
use crate::crew::Mailbox;
use crate::entropy::Entropy;
use crate::events::{Event, Listener};
use crate::fault::Exception;
use crate::features::Features;
use crate::mem::PhysMem;
use crate::mmu::Mmu;
use crate::pages::bytes_of;
use crate::signals::Signals;
use crate::state::CpuState;
use crate::undecoded::Undecoded;
use std::sync::Arc;

/// A store that fell on bytes that have been decoded: blocks that overlap must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeHit {
    /// Guest-physical page.
    pub page: PhysAddr,
    /// The page's index in the attribute tables of [`PhysMem`].
    pub index: usize,
    /// The 64-byte chunks of it that were hit and had been decoded.
    pub chunks: u64,
    /// Where that is a single chunk: which bytes of it were stored, by bit. All, if that is not known.
    pub bytes: u64,
}

impl CodeHit {
    /// A store of `size` bytes at `addr`, which is in RAM page `index`, that hit decoded `chunks` of the page.
    pub fn of_store(addr: PhysAddr, size: usize, index: usize, chunks: u64) -> Self {
        Self { page: addr.page_base(), index, chunks, bytes: bytes_of(addr, size) }
    }

    /// Anything may have been stored in `chunks` of the page at `page`, which is RAM page `index`.
    pub fn whole(page: PhysAddr, index: usize, chunks: u64) -> Self {
        Self { page, index, chunks, bytes: !0 }
    }
}

/// A virtual processor. `state` comes first, so that its address is the processor's address: translated code holds
/// one pointer for both. Only [`Cpu::new`] makes one, since it has to lie behind its requests.
#[derive(Debug)]
#[non_exhaustive]
#[repr(C)]
pub struct Cpu {
    /// Architectural state.
    pub state: CpuState,
    /// Translation caches.
    pub mmu: Mmu,
    /// Guest-physical memory.
    pub mem: Arc<PhysMem>,
    /// Ports and MMIO.
    pub bus: Arc<dyn SystemBus>,
    /// Local APIC and the 8259's wire.
    pub irq: Arc<dyn CpuInterrupts>,
    /// Requests from other threads.
    pub signals: Arc<Signals>,
    /// Messages from other threads.
    pub mailbox: Arc<Mailbox>,
    /// Machine time.
    pub clock: Arc<Clock>,
    /// What CPUID offers; anything else raises #UD.
    pub features: Features,
    /// Number of this processor, from 0; also its APIC ID.
    pub index: u32,
    /// Stores to decoded bytes that the engine has not dealt with yet. An engine that finds it non-empty after an
    /// instruction ends the block there and drops the overlapping blocks before it runs another.
    pub code_hits: Vec<CodeHit>,
    /// Bytes beside decoded ones, to which stores are no hits.
    pub undecoded: Undecoded,
    /// What RDRAND and RDSEED read. Seeded under a virtual clock, so that the run repeats.
    pub entropy: Entropy,
    /// Real time at power-on, in nanoseconds since 1970: what kvmclock's wall clock tells the guest.
    pub boot_wall_ns: u64,
    /// Counters of sharing memory with other vCPUs, for `--stats`.
    pub sharing: Sharing,
    /// The exception whose delivery ended in a triple fault, once there has been one: for telling the user.
    pub fatal: Option<Exception>,
    /// Exceptions and interrupts are not delivered but left in [`Cpu::caught`]: for those who embed a processor.
    pub catch: bool,
    /// What was to be delivered, while [`Cpu::catch`] is set.
    pub caught: Option<Caught>,
    /// Who is told of exceptions, interrupts and changes of translation.
    pub listener: Option<Arc<dyn Listener>>,
}

/// An exception or interrupt that was kept from its delivery. The state is that before it: RIP at the instruction
/// that faulted, or behind the one that trapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caught {
    /// Its vector.
    pub vector: u8,
    /// The error code that delivery would push.
    pub error: Option<u32>,
    /// The address of a page fault.
    pub cr2: u64,
    /// It is INT n, INT3, INT1 or INTO, and not an exception.
    pub software: bool,
    /// RIP of the instruction.
    pub start: u64,
    /// The exception as it was raised (for a #DB with its DR6 bits); for software interrupts without meaning.
    pub raised: Exception,
}

/// See [`Cpu::sharing`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Sharing {
    /// Messages applied.
    pub news: u64,
    /// Times that others had to give up write entries.
    pub revocations: u64,
    /// Instructions executed while the others stood aside.
    pub alone: u64,
    /// PAUSE instructions.
    pub pauses: u64,
}

/// What a [`Cpu`] is connected to.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// Guest-physical memory.
    pub mem: Arc<PhysMem>,
    /// Ports and MMIO.
    pub bus: Arc<dyn SystemBus>,
    /// Local APIC.
    pub irq: Arc<dyn CpuInterrupts>,
    /// Requests from other threads.
    pub signals: Arc<Signals>,
    /// Messages from other threads.
    pub mailbox: Arc<Mailbox>,
    /// Machine time.
    pub clock: Arc<Clock>,
}

impl Wiring {
    /// Memory and nothing else, under a virtual clock: for bare-CPU tests.
    pub fn bare(mem: Arc<PhysMem>) -> Self {
        let signals = Arc::new(Signals::default());
        let mailbox = mem.connect(std::slice::from_ref(&signals)).remove(0);
        Self {
            mem,
            bus: Arc::new(EmptyBus),
            irq: Arc::new(NoInterrupts::default()),
            signals,
            mailbox,
            clock: Clock::virtual_clock(),
        }
    }
}

impl Cpu {
    /// A processor in its reset state.
    ///
    /// # Panics
    /// If the wiring's signals are another processor's.
    #[allow(clippy::new_ret_no_self, reason = "it lies behind its requests")]
    pub fn new(wiring: Wiring, features: Features, index: u32) -> CpuBox {
        let entropy = if wiring.clock.is_virtual() { Entropy::Seeded(index.into()) } else { Entropy::Host };
        let mut cpu = CpuBox::new(Self {
            state: *CpuState::reset(),
            mmu: Mmu::default(),
            mem: wiring.mem,
            bus: wiring.bus,
            irq: wiring.irq,
            signals: wiring.signals,
            mailbox: wiring.mailbox,
            clock: wiring.clock,
            features,
            index,
            code_hits: Vec::new(),
            undecoded: Undecoded::default(),
            entropy,
            boot_wall_ns: 0,
            sharing: Sharing::default(),
            fatal: None,
            catch: false,
            caught: None,
            listener: None,
        });
        cpu.state.gpr[crate::state::gpr::RDX] = cpu.features.signature().into();
        cpu.mode_changed();
        cpu
    }

    /// PAUSE: the guest waits for another vCPU, which may need this host processor to get on.
    pub fn pause(&mut self) {
        /// PAUSEs between two offers of the host processor.
        const PATIENCE: u64 = 16;
        if self.mem.single() {
            return;
        }
        self.sharing.pauses += 1;
        if self.clock.is_virtual() {
            // They take turns on this thread: the turn is over.
            self.signals.raise_quietly(crate::signals::request::TIMER);
        } else if self.sharing.pauses.is_multiple_of(PATIENCE) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }

    /// How many vCPUs the machine has.
    pub fn vcpus(&self) -> u32 {
        self.mem.crew().map_or(1, |c| c.members().len() as u32)
    }

    /// Tells the listener, if there is one.
    #[inline]
    pub fn tell(&self, event: Event) {
        if let Some(listener) = &self.listener {
            listener.event(self.index, &self.state, &event);
        }
    }

    /// The time-stamp counter, in ticks of [`crate::clock::TSC_HZ`].
    pub fn tsc(&self) -> u64 {
        self.clock.now().wrapping_add(self.state.msr.tsc_offset)
    }
}
