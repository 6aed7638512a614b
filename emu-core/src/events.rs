//! What happens to a processor, for those who watch it: `--log int,paging`.
//!
//! Whoever does one of these things calls [`crate::cpu::Cpu::tell`]. Nothing is told while nobody listens, and a
//! listener sees the state but changes nothing.

use crate::fault::Exception;
use crate::state::CpuState;
use std::fmt::Debug;

/// Where an interrupt came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The local APIC or the 8259.
    External,
    /// The NMI line.
    Nmi,
    /// INT n, INT1, INT3 or INTO.
    Software,
}

/// Something that is about to happen; the state is that before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An exception goes through the IDT. For #PF, [`Exception::cr2`] is the address.
    Exception(Exception),
    /// An interrupt goes through the IDT.
    Interrupt {
        /// Its vector.
        vector: u8,
        /// Where it comes from.
        origin: Origin,
    },
    /// CR3 is loaded with this value.
    LoadCr3(u64),
    /// The translation of this linear address is dropped.
    Invlpg(u64),
    /// Every cached translation is dropped.
    Flush,
}

impl Event {
    /// Whether it concerns address translation.
    pub const fn is_paging(&self) -> bool {
        match self {
            Self::Exception(e) => matches!(e.vector, crate::fault::Vector::PF),
            Self::Interrupt { .. } => false,
            Self::LoadCr3(_) | Self::Invlpg(_) | Self::Flush => true,
        }
    }
}

/// Who is told.
pub trait Listener: Send + Sync + Debug {
    /// `event` is about to happen to processor `index`, which is in `state`.
    fn event(&self, index: u32, state: &CpuState, event: &Event);
}
