//! The x87 (SDM vol. 1, chapter 8; vol. 2 for single instructions).

pub mod control;

use crate::decode::{Handler, Op, Shape, raise};
use emu_core::fault::Vector;
use emu_core::state::Mode;

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    let run = control::choose(s)?;
    let _ = op;
    Some(if s.mode.contains(Mode::NO_FPU) { raise(Vector::NM) } else { run })
}
