//! Dead flags: a `SetFlags` that is replaced before anyone looks goes, one that only faults and side exits may see
//! becomes lazy (its `aux`, see [`crate::ir::Op::SetFlags`]), and every `FlagsOf` is narrowed to the flags that someone reads.
//!
//! One walk from the end: the readers of a value come after it, so the flags that are wanted of it are known when it
//! is reached. A faulting op observes the state as of the start of its guest instruction, which by the invariants of
//! [`crate::ir`] is the state at the op itself.

use super::Scratch;
use crate::ir::block::{Block, Inst, Value};
use crate::ir::ops::{Cc, Class, Op, Type};
use crate::state::bits::rflags;

const ALL: u16 = rflags::STATUS as u16;
const CF: u16 = rflags::CF as u16;
const ZF: u16 = rflags::ZF as u16;
const OF: u16 = rflags::OF as u16;

/// Who will look at the guest's flags before they are replaced, by bit.
mod seen {
    /// A fault, if one happens.
    pub const FAULT: u32 = 1;
    /// A side exit, if it is taken.
    pub const EXIT: u32 = 2;
    /// Someone, whatever happens.
    pub const ALWAYS: u32 = 4;
}

pub(super) fn run(block: &mut Block, s: &mut Scratch) {
    let n = block.insts.len();
    // Flags wanted of each value; for an arithmetic op, of its flags.
    s.reset_marks(n);
    let mut seen = seen::ALWAYS;
    for at in (0..n).rev() {
        let wanted = s.marks[at];
        let i = block.insts[at];
        let mut want = |v: Value, flags: u16| {
            if v.is_some() {
                s.marks[v.index()] |= flags;
            }
        };
        match i.op {
            Op::SetFlags => {
                if seen == 0 {
                    block.insts[at] = nothing();
                } else {
                    want(i.args[0], ALL);
                    block.insts[at].aux = if seen & seen::ALWAYS != 0 { 0 } else { seen };
                }
                seen = 0;
            }
            Op::GetFlags if wanted != 0 => seen |= seen::ALWAYS,
            Op::TestCc => want(i.args[0], Cc::ALL[i.imm as usize].reads() as u16),
            Op::PackFlags => want(i.args[0], ALL),
            Op::FlagsOf => {
                block.insts[at].imm = i64::from(wanted);
                want(i.args[0], wanted);
            }
            Op::MergeFlags => {
                let mask = i.imm as u16;
                want(i.args[0], wanted & mask);
                want(i.args[1], wanted & !mask);
                // One side alone is wanted: name it twice, and later passes take it for the whole.
                if wanted & mask == 0 {
                    block.insts[at].args[0] = i.args[1];
                } else if wanted & !mask == 0 {
                    block.insts[at].args[1] = i.args[0];
                }
            }
            Op::SelectFlags => {
                want(i.args[1], wanted);
                want(i.args[2], wanted);
            }
            Op::Adc | Op::Sbb => want(i.args[2], CF),
            // Emitted code leaves before the first one of a block if the guest has unmasked an exception.
            Op::X87 => seen |= seen::FAULT,
            op if takes_flags(op) => {
                let (slot, through, needed) = passed_on(block, &i, wanted);
                want(i.args[slot], through);
                if !needed {
                    block.insts[at].args[slot] = Value::NONE;
                }
            }
            op => match op.class() {
                Class::Faulting | Class::FaultingWrite => seen |= seen::FAULT,
                Class::SideExit => seen |= seen::EXIT,
                Class::Terminator => seen |= seen::ALWAYS,
                _ => {}
            },
        }
    }
}

/// An instruction without effect, for dead-code elimination to take away.
fn nothing() -> Inst {
    Inst { op: Op::Const, ty: Type::I8, aux: 0, args: [Value::NONE; 3], imm: 0 }
}

/// Whether its last argument is flags that it passes on.
fn takes_flags(op: Op) -> bool {
    use Op::*;
    matches!(op, Shl | Shr | Sar | Rol | Ror | Rcl | Rcr | BitTest | Clz | Ctz | Adcx | Adox)
}

/// For an op that passes flags on, when `wanted` of its own are: (which argument they are, which of them are wanted,
/// whether the argument must stay).
fn passed_on(b: &Block, i: &Inst, wanted: u16) -> (usize, u16, bool) {
    let counted = || {
        let mask = if i.ty == Type::I64 { 63 } else { 31 };
        b.as_const(i.args[1]).is_some_and(|n| n & mask != 0)
    };
    match i.op {
        Op::Shl | Op::Shr | Op::Sar => {
            let through = if counted() { 0 } else { wanted };
            (2, through, through != 0)
        }
        Op::Rol | Op::Ror if counted() => (2, wanted & !(CF | OF), wanted != 0),
        Op::Rol | Op::Ror => (2, wanted, wanted != 0),
        Op::BitTest => (2, wanted & !CF, wanted != 0),
        Op::Clz | Op::Ctz => (1, wanted & !(CF | ZF), wanted != 0),
        Op::Adox => (2, wanted | OF, true),
        // ADCX and through-carry rotates compute with CF.
        _ => (2, wanted | CF, true),
    }
}
