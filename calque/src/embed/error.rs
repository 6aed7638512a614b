//! What can be wrong with the use of the library.

use super::space::Perms;

/// Misuse, or a host that does not give what is needed. Guest faults are not errors: they are an [`super::End`].
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The host gives no guest memory.
    #[error(transparent)]
    Memory(#[from] emu_core::mem::MemError),
    /// The host has no back-end, or no memory for code.
    #[error(transparent)]
    Jit(#[from] backend_jit::JitError),
    /// A mode that the processor has not got.
    #[error("the processor has no long mode, which {0} needs")]
    NoLongMode(&'static str),
    /// Not a whole number of pages, or none.
    #[error("address {addr:#x} and length {len:#x} must be multiples of 4096, and the length not 0")]
    Unaligned {
        /// As given.
        addr: u64,
        /// As given.
        len: u64,
    },
    /// Addresses that do not exist in this mode.
    #[error("{len:#x} bytes at {addr:#x} are not within the addresses of this mode")]
    OutOfRange {
        /// As given.
        addr: u64,
        /// As given.
        len: u64,
    },
    /// Nothing is mapped there.
    #[error("{addr:#x} is not mapped")]
    NotMapped {
        /// The first address that is not.
        addr: u64,
    },
    /// Guest memory, page tables included, is used up.
    #[error("the guest memory of {0:#x} bytes is used up")]
    Full(u64),
    /// Rights that the mode cannot enforce.
    #[error("without paging memory is always readable, writable and executable, not {0}")]
    NoRights(Perms),
    /// A register value that the processor cannot hold.
    #[error("{name} cannot be {value:#x}: {why}")]
    BadValue {
        /// The register.
        name: String,
        /// As given.
        value: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A name or number that no register has.
    #[error("there is no register '{0}'")]
    NoRegister(String),
}
