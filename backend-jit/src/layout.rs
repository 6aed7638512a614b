//! How translated code uses [`CpuState::scratch`] and addresses the processor.
//!
//! Host-neutral: every back-end keeps the same slots, so that [`crate::helpers`] serves them all.
//!
//! Invariant: translated code holds `&cpu.state + BIAS` in its state register, so that the general registers that no host register
//! of an x86 has, the counters and the first twenty scratch slots are within a one-byte displacement.

use core::mem::offset_of;
use emu_core::signals::{MARK_BEFORE, WORD_BEFORE};
use emu_core::state::CpuState;

/// What the state register is ahead of the state's address.
pub const BIAS: i32 = 208;

/// Host address of the current mode's doors: see [`crate::jumps`].
pub const DOORS: usize = 0;
/// The guest's status flags in canonical form while translated code runs: see [`crate::exit`].
pub const FLAGS: usize = 2;
/// Page-aligned linear address of the page that the stack is in: see `x64/window.rs`.
pub const STACK_TAG: usize = 3;
/// Host address minus linear address in that page, modulo 2^64.
pub const STACK_ADDEND: usize = 4;
/// On hosts that put flags on record, two slots: see `aarch64/record.rs`. The stack's page is not kept there.
pub const RECORD: usize = STACK_TAG;
/// So many bytes from that page's start on, accesses may begin; 0: there is no such page.
pub const STACK_LIMIT: usize = 6;
/// What of the guest's state the host's own units hold: byte 0 the x87's, byte 1 the vector registers' (see
/// [`LIVE_X87`]).
pub const LIVE: usize = 7;
/// Arguments of a helper: three slots.
pub const ARG: usize = 54;
/// First word of an exception: vector, and error code in the high half.
pub const EXC: usize = 57;
/// Second word of an exception: CR2.
pub const EXC_ADDR: usize = 58;
/// Saves the accumulator where no other place is free.
pub const SAVE0: usize = 11;
/// The site of the last x87 instruction, plus one, in blocks that have ended: see `x64/x87.rs`.
pub const X87_SITE: usize = 59;
/// Result or bounce buffer of a slow access: four slots, aligned to 32 bytes.
pub const RESULT: usize = 50;
/// The guest's MXCSR while a helper runs.
pub const MX_GUEST: usize = 60;
/// The MXCSR that Rust code runs under.
pub const MX_HOST: usize = 61;
/// Status of the last helper, then the exit code.
pub const STATUS: usize = 62;
/// Linear address of a read-modify-write that a helper will finish.
pub const RMW: usize = 49;
/// The host's stack pointer at entry.
pub const HOST_SP: usize = 63;
/// First slot for spilled values.
pub const SPILL: usize = 12;
/// On 64-bit Arm, the tag and the addend of the page that the stack is in, which has the first two of them: see
/// `aarch64/window.rs`.
pub const WINDOW: usize = SPILL;
/// Number of slots for spilled values.
pub const SPILLS: usize = RMW - SPILL;
/// An image of the x87 in the form of FNSAVE: 108 bytes.
pub const X87_IMAGE: usize = 64;
/// The third operand of [`crate::helpers::Helper::Fp`], 16 bytes, on hosts that have no x87 to make an image of.
pub const FP_THIRD: usize = X87_IMAGE;
/// The slots for addends that accesses share: see [`crate::hold`]. Taken in this order, so the first are those within reach of
/// a displacement of one byte.
pub const HOLDS: [usize; 8] = [1, 5, 8, 9, 10, 80, 81, 82];
/// Saves the temporaries around a helper: three slots.
pub const SAVE: usize = 83;
/// Host address of the newest predicted return of the current mode.
pub const RETURNS: usize = 86;
/// The number of the side-table entry of the slow path in hand.
pub const SITE: usize = 87;
/// What a slot for an addend has while there is none in it: see [`crate::hold::no_addend`].
pub const NO_ADDEND: usize = 88;

/// `icount` at which translated code has to return.
pub const BUDGET: usize = NO_ADDEND + 1;
/// Host address of the code arena's executable view.
pub const CODE_BASE: usize = NO_ADDEND + 2;
/// Host stack pointer with no call predicted: see `x64/calls.rs`.
pub const CALL_BASE: usize = NO_ADDEND + 3;
/// On hosts that have no frames of calls on their stack: a tag of a translation that no address has, see
/// `aarch64/near.rs`.
pub const NO_TAG: usize = CALL_BASE;
/// Address of the [`crate::jumps::Switch`] of the code that runs.
pub const SWITCH: usize = NO_ADDEND + 4;
/// Host address of what stands where there is no door.
pub const NO_DOOR: usize = NO_ADDEND + 5;
/// Host address of the first byte of guest RAM, where a block reads its own code.
pub const RAM: usize = NO_ADDEND + 6;
/// The host's flags around an access that may call a helper: see `x64/adx.rs`.
pub const KEPT_FLAGS: usize = NO_ADDEND + 7;

/// Of the first argument of [`crate::helpers::Helper::X87`]: the result is flags.
pub const X87_FLAGS: u64 = 1 << 33;

/// Byte of [`LIVE`]: the host's x87 is the guest's.
pub const LIVE_X87: i32 = 0;
/// Byte of [`LIVE`]: so are the vector registers.
pub const LIVE_VEC: i32 = 1;

/// Displacement of the word of request bits: see [`emu_core::signals`].
pub const WORD: i32 = -(WORD_BEFORE as i32) - BIAS;
/// Displacement of what is `u64::MAX` while something is requested, and else the host stack pointer below which no further
/// guest call is predicted, on hosts that take theirs for it: see `x64/calls.rs`.
pub const MARK: i32 = -(MARK_BEFORE as i32) - BIAS;

/// Displacement of scratch slot `n` from the state register.
pub const fn slot(n: usize) -> i32 {
    offset_of!(CpuState, scratch) as i32 + 8 * n as i32 - BIAS
}

/// Displacement of general register `n`.
pub const fn gpr(n: usize) -> i32 {
    offset_of!(CpuState, gpr) as i32 + 8 * n as i32 - BIAS
}

/// Displacement of vector register `n`.
pub const fn vec(n: usize) -> i32 {
    offset_of!(CpuState, vec) as i32 + 64 * n as i32 - BIAS
}

/// Displacement of the byte at `offset` in the state.
pub const fn field(offset: usize) -> i32 {
    offset as i32 - BIAS
}

/// Emitted code reads vectors from the buffer with instructions that demand alignment.
const _: () = assert!((slot(RESULT) + BIAS) % 32 == 0 && (slot(FP_THIRD) + BIAS) % 16 == 0);
