//! Why an image was refused. Each variant prints as one line for the user.

use thiserror::Error;

use super::memory::OutsideMemory;

/// An image that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The path leads nowhere.
    #[error("no such file: {name}")]
    NoSuchFile {
        /// The path.
        name: String,
    },
    /// The path is a folder.
    #[error("{name} is a directory, not an image")]
    Directory {
        /// The path.
        name: String,
    },
    /// The file has no bytes.
    #[error("{name} is empty")]
    EmptyFile {
        /// The path.
        name: String,
    },
    /// The system or good sense forbids reading it.
    #[error("cannot read {name}: {reason}")]
    Unreadable {
        /// The path.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The file alone is more than the machine has.
    #[error("{name} has {size} bytes and the machine {memory}: give it more with -m")]
    LargerThanMemory {
        /// The path.
        name: String,
        /// The file's length.
        size: u64,
        /// The machine's memory.
        memory: u64,
    },
    /// There are no bytes to look at.
    #[error("the image is empty")]
    Empty,
    /// Recognised, but not something a machine starts from.
    #[error("the image is {what}; {advice}")]
    NotAKernel {
        /// What it is.
        what: String,
        /// What the user can do.
        advice: &'static str,
    },
    /// Not recognised at all.
    #[error(
        "the image is no bzImage, ELF or multiboot kernel that calque knows; give the load address if it is a \
         flat binary"
    )]
    Unknown,
    /// The file ends before its own headers say.
    #[error("the {what} is truncated: {has} bytes where at least {needs} are needed")]
    Truncated {
        /// The kind of image.
        what: &'static str,
        /// The file's length.
        has: u64,
        /// The length its headers promise.
        needs: u64,
    },
    /// A header that contradicts itself or the protocol's rules.
    #[error("the {what} is damaged: {reason}")]
    Damaged {
        /// The kind of image.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A sound image that wants what calque does not have.
    #[error("the {what} is not supported: {reason}")]
    Unsupported {
        /// The kind of image.
        what: &'static str,
        /// What it wants.
        reason: String,
    },
    /// Something with a fixed address does not fall into free RAM.
    #[error("{what} at {start:#x}..{end:#x} does not fall into free memory{hint}")]
    NoMemoryThere {
        /// What was to be placed.
        what: String,
        /// Its first address.
        start: u64,
        /// The address after its last.
        end: u64,
        /// Whether more memory would help.
        hint: &'static str,
    },
    /// Something that can be anywhere fits nowhere.
    #[error("{what} of {size} bytes does not fit into the machine's memory: give it more with -m")]
    TooLarge {
        /// What was to be placed.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// The kernel says how much it takes.
    #[error("the command line is {length} bytes long; this kernel takes at most {most}")]
    CommandLineTooLong {
        /// Its length in bytes.
        length: usize,
        /// The kernel's limit.
        most: usize,
    },
    /// A byte that would end the command line early.
    #[error("the command line holds a zero byte")]
    CommandLineZero,
    /// Linux takes one initramfs, a plain program none.
    #[error("a {what} takes at most {most} module or initramfs, not {given}")]
    TooManyModules {
        /// The kind of image.
        what: &'static str,
        /// How many it takes.
        most: usize,
        /// How many were given.
        given: usize,
    },
    /// Guest memory refused a write: its size and the memory map disagree.
    #[error(transparent)]
    Memory(#[from] OutsideMemory),
}

/// Text from an image, made safe to print on a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { b as char } else { '?' }).collect()
}
