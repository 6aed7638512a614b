//! Condition codes of Jcc, CMOVcc and SETcc.

use crate::operand::NotLifted;
use emu_core::ir::Cc;
use iced_x86::{ConditionCode, Instruction};

/// The condition that the instruction tests.
pub(crate) fn of(i: &Instruction) -> Result<Cc, NotLifted> {
    Ok(match i.condition_code() {
        ConditionCode::None => return Err(NotLifted),
        ConditionCode::o => Cc::O,
        ConditionCode::no => Cc::NO,
        ConditionCode::b => Cc::B,
        ConditionCode::ae => Cc::AE,
        ConditionCode::e => Cc::E,
        ConditionCode::ne => Cc::NE,
        ConditionCode::be => Cc::BE,
        ConditionCode::a => Cc::A,
        ConditionCode::s => Cc::S,
        ConditionCode::ns => Cc::NS,
        ConditionCode::p => Cc::P,
        ConditionCode::np => Cc::NP,
        ConditionCode::l => Cc::L,
        ConditionCode::ge => Cc::GE,
        ConditionCode::le => Cc::LE,
        ConditionCode::g => Cc::G,
    })
}
