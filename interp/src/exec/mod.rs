//! The instructions, one file per group.
//!
//! A group exports `choose`, which looks at a [`Shape`] and names the handler, or None for instructions that are not
//! the group's. [`choose`] here is the one place where groups are registered. A handler for `add` of any width and
//! any operands is one generic function (`alu::binary`); [`by_width!`] picks the instance.

pub mod aes;
pub mod alu;
pub mod avx;
pub mod avx_gather;
pub mod bits;
pub mod bmi;
pub mod branch;
pub mod cacheline;
pub mod f16c;
pub mod fma;
pub mod fxsave;
pub mod lanes;
pub mod mov;
pub mod muldiv;
pub mod save_area;
pub mod sha;
pub mod shift;
pub mod simd;
pub mod sse;
pub mod sse4a;
pub mod sse_cvt;
pub mod sse_fp;
pub mod sse_int;
pub mod sse_mov;
pub mod sse_shuffle;
pub mod sse_str;
pub mod stack;
pub mod string;
pub mod system;
pub mod x87;
pub mod xsave;

use crate::decode::{Chosen, Op, Shape};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// An instance of a function generic over [`crate::operand::Width`] as its last parameter, by size in bytes.
macro_rules! by_width {
    ($bytes:expr, $f:ident $(< $($g:ty),+ >)?) => {
        match $bytes {
            1 => $f::<$($($g,)+)? $crate::operand::W8> as $crate::decode::Handler,
            2 => $f::<$($($g,)+)? $crate::operand::W16>,
            4 => $f::<$($($g,)+)? $crate::operand::W32>,
            _ => $f::<$($($g,)+)? $crate::operand::W64>,
        }
    };
}
pub(crate) use by_width;

/// The handler of an instruction, or None if there is none (#UD).
pub fn choose(s: &Shape, op: &mut Op) -> Option<Chosen> {
    let simple = alu::choose(s)
        .or_else(|| mov::choose(s, op))
        .or_else(|| branch::choose(s))
        .or_else(|| stack::choose(s))
        .or_else(|| shift::choose(s))
        .or_else(|| muldiv::choose(s))
        .or_else(|| bits::choose(s))
        .or_else(|| string::choose(s))
        .or_else(|| sse::choose(s, op))
        .or_else(|| avx::choose(s, op))
        .or_else(|| bmi::choose(s, op))
        .or_else(|| cacheline::choose(s, op))
        .or_else(|| x87::choose(s, op))
        .or_else(|| fxsave::choose(s))
        .or_else(|| xsave::choose(s));
    if let Some(run) = simple {
        return Some(run.into());
    }
    system::choose(s)
}

/// Whether a block must end after `ins`, other than because of control flow: it may change the mode, the mapping of
/// code, the interrupt shadow, or repeat itself.
pub fn ends_block(ins: &Instruction) -> bool {
    use Mnemonic::*;
    if ins.is_string_instruction() && (ins.has_rep_prefix() || ins.has_repne_prefix()) {
        return true;
    }
    match ins.mnemonic() {
        Sti | Popf | Popfd | Popfq | Hlt | Mwait | Lmsw | Clts | Wrmsr | Invlpg | Invpcid | Xsetbv | Rsm
        | Lds | Les | Lfs | Lgs | Lss | In | Out | Insb | Insw | Insd | Outsb | Outsw | Outsd | Ldmxcsr
        | Vldmxcsr | Fxrstor | Fxrstor64 | Xrstor | Xrstor64 | Xrstors | Xrstors64 => true,
        // A segment, control or debug register.
        Mov | Pop => {
            ins.op_count() > 0
                && ins.op0_kind() == OpKind::Register
                && !ins.op0_register().is_gpr()
                && ins.op0_register() != Register::None
        }
        _ => false,
    }
}
