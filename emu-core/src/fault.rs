//! Guest faults as values (Intel SDM vol. 3A, chapter 6).

/// An exception vector, 0 to 31.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Vector {
    DE = 0,
    DB = 1,
    NMI = 2,
    BP = 3,
    OF = 4,
    BR = 5,
    UD = 6,
    NM = 7,
    DF = 8,
    TS = 10,
    NP = 11,
    SS = 12,
    GP = 13,
    PF = 14,
    MF = 16,
    AC = 17,
    MC = 18,
    XM = 19,
    CP = 21,
}

impl Vector {
    /// Whether delivery pushes an error code (SDM vol. 3A, table 6-1).
    pub const fn has_error_code(self) -> bool {
        use Vector::*;
        matches!(self, DF | TS | NP | SS | GP | PF | AC | CP)
    }
}

/// A fault or trap raised by the guest: what `interp` needs to deliver it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Which exception.
    pub vector: Vector,
    /// Error code, zero for vectors that push none.
    pub error: u32,
    /// Faulting linear address, loaded into CR2 when the vector is #PF.
    pub cr2: u64,
}

impl Exception {
    /// An exception without error code (or with error code 0).
    pub const fn new(vector: Vector) -> Self {
        Self { vector, error: 0, cr2: 0 }
    }

    /// An exception with an error code, usually a selector with its EXT/IDT/TI bits.
    pub const fn with_error(vector: Vector, error: u32) -> Self {
        Self { vector, error, cr2: 0 }
    }

    /// #GP(0).
    pub const fn gp0() -> Self {
        Self::new(Vector::GP)
    }

    /// #SS(0).
    pub const fn ss0() -> Self {
        Self::new(Vector::SS)
    }

    /// #UD.
    pub const fn ud() -> Self {
        Self::new(Vector::UD)
    }

    /// A page fault at `lin` with the given error code bits (see [`pf`]).
    pub const fn page_fault(lin: u64, error: u32) -> Self {
        Self { vector: Vector::PF, error, cr2: lin }
    }
}

/// Page-fault error code bits (SDM vol. 3A, 4.7).
pub mod pf {
    /// The page was present: a protection violation.
    pub const P: u32 = 1 << 0;
    /// The access was a write.
    pub const W: u32 = 1 << 1;
    /// The access was a user-mode access.
    pub const U: u32 = 1 << 2;
    /// A reserved bit was set in a paging-structure entry.
    pub const RSVD: u32 = 1 << 3;
    /// The access was an instruction fetch (reported with NXE or SMEP only).
    pub const I: u32 = 1 << 4;
    /// The access violated a protection key.
    pub const PK: u32 = 1 << 5;
}
