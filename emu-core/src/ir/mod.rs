//! The intermediate representation: what a guest block means, independent of guest encoding and host.
//!
//! A [`Block`] is one straight list of instructions in SSA form: an instruction's value is named by its index
//! ([`Value`]), arguments come earlier in the list, and the only control flow is side exits ([`Op::ExitIf`]) and one
//! terminator at the end. Guest state is read and written through explicit ops, so passes see every observer.
//!
//! Invariants (held by `verify`):
//! - every argument is defined earlier and has the type that the op's table row demands;
//! - exactly one terminator, the last instruction;
//! - the first instruction is [`Op::Guest`], which marks where each guest instruction starts: a fault restarts the
//!   guest instruction of the nearest marker before it, with the guest state as the ops before that marker left it;
//! - between a marker and the last faulting op after it (before the next marker) no op writes guest state, so that
//!   every fault is restartable. A write that must come earlier is a bug of the lifter.

pub mod block;
pub mod encoded;
pub mod eval;
mod eval_coded;
pub mod eval_fp;
mod eval_int;
mod eval_vec;
pub mod eval_x87;
pub mod ops;
pub mod parse;
pub mod passes;
pub mod print;
pub mod vecop;
pub mod verify;
pub mod x87;

pub use block::{Block, BlockKey, Inst, Value};
pub use eval::{End, eval};
pub use ops::{
    ArgRule, BrKind, Cc, Class, Op, RepKind, StateField, SystemKind, TransferKind, Type, mem_flags,
};
pub use parse::ParseError;
pub use passes::{Optimizer, PassSet};
pub use vecop::VecOp;
pub use verify::{VerifyError, verify};
